//! Concatenation of channels.

use crate::plan::Node;

/// The channels of several tensors of one plane, one after the other: a layer of [`GraphBuilder`](crate::GraphBuilder).
///
/// Where it can, the layer that computes such a tensor writes it to its channels of the whole, and nothing is copied.
#[derive(Clone, Debug)]
pub struct Concat {
    node: Node,
}

impl Default for Concat {
    fn default() -> Concat {
        Concat::new()
    }
}

impl Concat {
    /// A concatenation.
    pub fn new() -> Concat {
        Concat { node: Node::Concat }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}
