//! Global average pooling: from a plane to one pixel.

use crate::ops::operator;
use crate::plan::Node;
use crate::{Error, Result};

/// The mean of every channel over the plane: pixels are added by a tree (`docs/numbers.md`), then divided by their
/// number.
#[derive(Clone, Debug)]
pub struct GlobalAveragePool {
    node: Node,
}

impl GlobalAveragePool {
    /// A pool over `channels` channels.
    pub fn new(channels: usize) -> Result<GlobalAveragePool> {
        if channels == 0 {
            return Err(Error::ZeroWindow { stage: "average pool", what: "channels" });
        }
        Ok(GlobalAveragePool { node: Node::Pool { channels } })
    }
}

operator!(GlobalAveragePool);
