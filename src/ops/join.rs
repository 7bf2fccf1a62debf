//! Sums and products of two tensors.

use sepconv_kernels::{Epilogue, Join};

use crate::plan::{Node, RowsOp};
use crate::{Activation, Result};

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
        let epilogue = Epilogue::of(activation.into());
        Ok(Add { node: Node::Rows(RowsOp::Join { join: Join::Sum, epilogue }) })
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
        Scale { node: Node::Rows(RowsOp::Join { join: Join::Product, epilogue: Epilogue::NONE }) }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}
