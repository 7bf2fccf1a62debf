//! Depthwise-separable convolution: MobileNetV1's block.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A depthwise convolution and a pointwise convolution, each with its own batch norm and activation: `1/N + 1/Dk²` of
/// the work of a standard convolution (arXiv 1704.04861, section 3.1).
///
/// Fused, what lies between the two is a few rows.
#[derive(Clone, Debug)]
pub struct SeparableConv2d {
    node: Node,
}

impl SeparableConv2d {
    /// Checks both descriptions, folds their batch norms and packs their weights.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(depthwise: ConvDesc<'_>, pointwise: ConvDesc<'_>) -> Result<SeparableConv2d> {
        let depthwise = pack::depthwise(&depthwise, "depthwise")?;
        let pointwise = pack::pointwise(&pointwise, "pointwise")?;
        let node = Node::chain(["", "depthwise", "pointwise"], None, Some(depthwise), Some(pointwise))?;
        Ok(SeparableConv2d { node })
    }
}

operator!(SeparableConv2d);
