//! The operators, a file each. An operator validates its description, folds the batch norm, packs its weights, and
//! hands a node to the planner; `plan` decides how a node runs.

mod average_pool;
mod concat;
mod conv2d;
mod dense;
mod depthwise;
mod inverted_residual;
mod join;
#[cfg(feature = "gemm")]
mod one_shot;
mod pack;
mod pointwise;
mod resize;
mod separable;
mod transposed;
mod window_pool;

pub use average_pool::GlobalAveragePool;
pub use concat::Concat;
pub use conv2d::Conv2d;
pub use dense::Dense;
pub use depthwise::DepthwiseConv2d;
pub use inverted_residual::{InvertedResidual, InvertedResidualDesc, Shortcut};
pub use join::{Add, Scale};
#[cfg(feature = "gemm")]
pub use one_shot::pointwise_gemm;
pub use pointwise::PointwiseConv2d;
pub use resize::Resize;
pub use separable::SeparableConv2d;
pub use transposed::TransposedConv2d;
pub use window_pool::{WindowPool, WindowPoolDesc};

use crate::plan::Node;
use crate::{Result, Shape};

/// The shape that a node makes of `input`.
pub(crate) fn output_shape(node: &Node, input: Shape) -> Result<Shape> {
    node.output(&[input])
}

/// What every operator has: its node, the shape it makes, its plan. A method that looks at the shapes of input and output
/// may refuse them.
macro_rules! operator {
    ($operator:ident $(, $check:ident)?) => {
        /// A clone is equal to what it was cloned from. Operators with weights that were made apart are not.
        impl PartialEq for $operator {
            fn eq(&self, other: &$operator) -> bool {
                self.node.is(&other.node)
            }
        }

        impl Eq for $operator {}

        impl $operator {
            pub(crate) fn node(&self) -> &crate::plan::Node {
                &self.node
            }

            /// The shape that it makes of `input`, or why it cannot take it.
            pub fn output_shape(&self, input: crate::Shape) -> crate::Result<crate::Shape> {
                let output = crate::ops::output_shape(&self.node, input)?;
                $(self.$check(input, output)?;)?
                Ok(output)
            }

            /// Plans it for an input shape.
            pub fn plan(&self, input: crate::Shape, options: &crate::PlanOptions) -> crate::Result<crate::Plan> {
                self.output_shape(input)?;
                Ok(crate::Plan::new(&crate::plan::Graph::chain([&self.node])?, &[input], options)?)
            }
        }
    };
}
use operator;
