//! The mean over a plane, planned.

use sepconv_kernels::BLOCK;

use super::layout::PlannedTensor;
use super::stage::Ends;
use crate::{Result, Shape};

/// Global average pooling from tensor to tensor.
#[derive(Debug)]
pub(crate) struct PoolStep {
    pub(crate) ends: Ends,
    pub(crate) shape: Shape,
    /// Parts that the channel blocks of all images are shared out in.
    pub(crate) parts: usize,
}

impl PoolStep {
    /// A step of a pool alone, or an error where its tensors do not fit each other.
    pub(super) fn new(tensors: &[PlannedTensor], ends: Ends, workers: usize) -> Result<PoolStep> {
        let shape = ends.input(tensors)?.shape;
        ends.check(tensors, Shape { h: 1, w: 1, ..shape }, false)?;
        let blocks = shape.n * shape.c.div_ceil(BLOCK);
        Ok(PoolStep { ends, shape, parts: workers.min(blocks) })
    }
}
