//! Sums and products of two tensors.

use sepconv_kernels::{Epilogue, Join};

use crate::ops::pack;
use crate::plan::{Node, RowsOp, StageEnd};
use crate::{Activation, ChannelActivation, Error, Result};

/// The sum of two tensors, then an activation: a layer of [`GraphBuilder`](crate::GraphBuilder).
///
/// The second tensor has the shape of the first one, or one pixel an image.
#[derive(Clone, Debug)]
pub struct Add {
    node: Node,
}

impl Add {
    /// A sum with an activation.
    pub fn new(activation: Activation) -> Result<Add> {
        activation.check(|| "activation of a sum".into())?;
        Ok(Add::ending(StageEnd::of(Epilogue::of(activation.into())), None))
    }

    /// A sum with an activation that has parameters for each channel. It takes tensors of as many channels.
    pub fn by_channel(activation: ChannelActivation<'_>) -> Result<Add> {
        let channels = activation.channels();
        activation.check("sum", channels)?;
        if channels == 0 {
            let (what, expected) = ("sum activation".into(), "parameters for at least one channel");
            return Err(Error::Value { what, expected, got: "none".into() });
        }
        Ok(Add::ending(pack::end_by_channel(activation, 0..channels, 1, channels)?, Some(channels)))
    }

    fn ending(end: StageEnd, channels: Option<usize>) -> Add {
        Add { node: Node::Rows(RowsOp::Join { join: Join::Sum, end, channels }) }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

/// A tensor times another one, value by value: a layer of [`GraphBuilder`](crate::GraphBuilder).
///
/// The second tensor has the shape of the first one, or one pixel an image: the scale of each channel, as squeeze-and-excite has it.
#[derive(Clone, Debug)]
pub struct Scale {
    node: Node,
}

impl Default for Scale {
    fn default() -> Scale {
        Scale::new()
    }
}

impl Scale {
    /// A product.
    pub fn new() -> Scale {
        Scale {
            node: Node::Rows(RowsOp::Join { join: Join::Product, end: StageEnd::of(Epilogue::NONE), channels: None }),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}
