//! Transposed convolution whose windows do not overlap.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A transposed convolution whose stride is the size of its kernel: each input pixel makes a window of output pixels of its own, as the necks
/// of detectors enlarge a plane with 2×2 and stride 2.
///
/// Output pixel `(y, x)` is the bias and the sum over the inputs `(y / rows, x / columns)` by the weights of tap
/// `(y % rows, x % columns)`, in the order of input channels.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{ConvDesc, Filter, PlanOptions, Shape, TransposedConv2d, View, ViewMut};
/// let weights = [1.0, 2.0, 3.0, 4.0];
/// let twice = TransposedConv2d::new(ConvDesc::new(Filter::iohw(&weights, [1, 1, 2, 2])).stride(2))?;
/// let plan = twice.plan(Shape::new(1, 1, 2, 1), &PlanOptions::new())?;
/// let (input, mut output) = ([1.0, 10.0], [0.0; 8]);
/// let to = ViewMut::new(&mut output, plan.output_shape())?;
/// plan.run(View::new(&input, plan.input_shape())?, to, &mut plan.scratch()?)?;
/// assert_eq!(output, [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TransposedConv2d {
    node: Node,
}

impl TransposedConv2d {
    /// Checks the description, folds its batch norm and packs its weights. Takes a filter of IOHW, HWOI, or any order of a standard
    /// convolution.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: ConvDesc<'_>) -> Result<TransposedConv2d> {
        let convs = pack::transposed(&desc, "transposed convolution")?;
        Ok(TransposedConv2d { node: Node::split(convs, Some(desc.filter.kernel()))? })
    }
}

operator!(TransposedConv2d);
