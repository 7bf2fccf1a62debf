//! The dense layer that a network ends in.

use crate::ops::{operator, pack};
use crate::plan::Node;
use crate::{ConvDesc, Result};

/// A dense layer: `N×1×1×C` to `N×1×1×K`. It is a pointwise convolution over planes of any size, so a layer trained on
/// pooled features can also be laid over a plane.
#[derive(Clone, Debug)]
pub struct Dense {
    node: Node,
}

impl Dense {
    /// Checks the description and packs its weights. Takes [`crate::Filter::io`] or [`crate::Filter::oi`].
    #[allow(clippy::needless_pass_by_value, reason = "a description is made to be used up")]
    pub fn new(desc: ConvDesc<'_>) -> Result<Dense> {
        let conv = pack::pointwise(&desc, "dense")?;
        Ok(Dense { node: Node::conv("dense", conv)? })
    }
}

operator!(Dense);
