//! Pointwise convolution: 1×1, the other half of a separable convolution.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A 1×1 convolution of stride 1, then bias or batch norm, then an activation.
///
/// For weights that change at each call, see `pointwise_gemm` (feature `gemm`).
#[derive(Clone, Debug)]
pub struct PointwiseConv2d {
    node: Node,
}

impl PointwiseConv2d {
    /// Checks the description, folds its batch norm and packs its weights. Takes a 1×1 filter.
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: ConvDesc<'_>) -> Result<PointwiseConv2d> {
        let conv = pack::pointwise(&desc, "pointwise")?;
        Ok(PointwiseConv2d { node: Node::conv("pointwise", conv)? })
    }
}

operator!(PointwiseConv2d);
