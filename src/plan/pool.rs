//! The mean over a plane, planned.

use sepconv_kernels::BLOCK;

use super::layout::PlannedTensor;
use super::stage::Ends;
use super::staging::Staging;
use crate::memory::Carver;
use crate::{Result, Shape};

/// Global average pooling from tensor to tensor.
#[derive(Debug)]
pub(crate) struct PoolStep {
    pub(crate) ends: Ends,
    pub(crate) shape: Shape,
    /// Parts that the channel blocks of all images are shared out in.
    pub(crate) parts: usize,
    /// Of a block of the input, and of one of the output, where they lie in planes.
    pub(crate) staging: [Option<Staging>; 2],
}

impl PoolStep {
    /// A step of a pool alone, or an error where its tensors do not fit each other.
    pub(super) fn new(tensors: &[PlannedTensor], ends: Ends, workers: usize, scratch: &mut Carver) -> Result<PoolStep> {
        let shape = ends.input(tensors)?.shape;
        ends.check(tensors, Shape { h: 1, w: 1, ..shape }, false)?;
        let blocks = shape.n * shape.c.div_ceil(BLOCK);
        let of_input = Staging::new(&tensors[ends.input], shape.h, 1, scratch)?;
        let of_output = Staging::new(&tensors[ends.output], 1, 1, scratch)?;
        Ok(PoolStep { ends, shape, parts: workers.min(blocks), staging: [of_input, of_output] })
    }
}
