//! Depthwise convolution: a filter of its own for each channel.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A depthwise convolution, then bias or batch norm, then an activation.
///
/// 3×3 at stride 1, 2 and 3 has kernels of its own; other kernels, strides, dilations and channel multipliers go through a
/// general one. (MobileNet, arXiv 1704.04861, section 3.1.)
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Activation, ConvDesc, DepthwiseConv2d, Filter, PlanOptions, Shape, View, ViewMut};
/// let weights = [1.0; 3 * 3 * 8];
/// let op = DepthwiseConv2d::new(
///     ConvDesc::new(Filter::depthwise_hwc(&weights, [3, 3, 8])).activation(Activation::Relu6),
/// )?;
/// let plan = op.plan(Shape::new(1, 4, 4, 8), &PlanOptions::new())?;
/// let (input, mut output) = (vec![0.5; 4 * 4 * 8], vec![0.0; 4 * 4 * 8]);
/// let mut scratch = plan.scratch()?;
/// plan.run(
///     View::new(&input, plan.input_shape())?,
///     ViewMut::new(&mut output, plan.output_shape())?,
///     &mut scratch,
/// )?;
/// assert_eq!((output[0], output[8]), (2.0, 3.0)); // 4 taps in the corner, 6 at the edge
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DepthwiseConv2d {
    node: Node,
}

impl DepthwiseConv2d {
    /// Checks the description, folds its batch norm and packs its weights. Takes a depthwise filter.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: ConvDesc<'_>) -> Result<DepthwiseConv2d> {
        let depthwise = pack::depthwise(&desc, "depthwise")?;
        Ok(DepthwiseConv2d { node: Node::chain(["depthwise"; 3], None, Some(depthwise), None)? })
    }
}

operator!(DepthwiseConv2d);
