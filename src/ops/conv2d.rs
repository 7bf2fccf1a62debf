//! Standard convolution: what MobileNet begins with, and what separability is measured against.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A standard 2-D convolution, then bias or batch norm, then an activation.
///
/// It runs on the pointwise microkernel, taps as segments of its sum; there is no im2col buffer.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Activation, Conv2d, ConvDesc, Filter, PlanOptions, Shape, View, ViewMut};
/// let weights = [0.01; 3 * 3 * 3 * 32];
/// let stem = Conv2d::new(ConvDesc::new(Filter::hwio(&weights, [3, 3, 3, 32])).stride(2).activation(Activation::Relu6))?;
/// let plan = stem.plan(Shape::new(1, 32, 32, 3), &PlanOptions::new())?;
/// let (input, mut output) = (vec![1.0; 32 * 32 * 3], vec![0.0; 16 * 16 * 32]);
/// let mut scratch = plan.scratch()?;
/// plan.run(
///     View::new(&input, plan.input_shape())?,
///     ViewMut::new(&mut output, plan.output_shape())?,
///     &mut scratch,
/// )?;
/// assert!((output[0] - 0.27).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    node: Node,
}

impl Conv2d {
    /// Checks the description, folds its batch norm and packs its weights. Takes a filter of HWIO, OIHW or OHWI, and groups.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: ConvDesc<'_>) -> Result<Conv2d> {
        if desc.groups != 1 {
            pack::check_groups(&desc, "convolution")?;
            // each group reads one channel
            if desc.filter.inputs() == 1 {
                let filter = desc.filter.depthwise(desc.groups);
                let depthwise = pack::depthwise(&ConvDesc { filter, groups: 1, ..desc }, "convolution")?;
                return Ok(Conv2d { node: Node::chain(["convolution"; 3], None, Some(depthwise), None)? });
            }
            return Ok(Conv2d { node: Node::split(pack::groups(&desc, "convolution")?, None)? });
        }
        let conv = pack::conv(&desc, "convolution")?;
        Ok(Conv2d { node: Node::conv("convolution", conv)? })
    }
}

operator!(Conv2d);
