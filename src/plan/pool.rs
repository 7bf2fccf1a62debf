//! The mean over a plane, planned.

use sepconv_kernels::{BLOCK, PoolArgs};

use super::cost::Thresholds;
use super::layout::{Order, PlannedTensor};
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
    /// Of a block of the input, where it lies in small planes, and of one of the output.
    pub(crate) staging: [Option<Staging>; 2],
    /// The place of the kernel's scratch in a worker's, in bytes.
    pub(crate) sums: usize,
}

impl PoolStep {
    /// A step of a pool alone, or an error where its tensors do not fit each other.
    pub(super) fn new(
        tensors: &[PlannedTensor],
        ends: Ends,
        workers: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<PoolStep> {
        let shape = ends.input(tensors)?.shape;
        ends.check(tensors, Shape { h: 1, w: 1, ..shape }, None)?;
        let blocks = shape.n * shape.c.div_ceil(BLOCK);
        // a call for each plane takes longer than to transpose a small one, and a large one would take much scratch
        let large = shape.h * shape.w > thresholds.staged_plane;
        let of_input = if large { None } else { Staging::new(&tensors[ends.input], shape.h, 1, scratch)? };
        let staging = [of_input, Staging::new(&tensors[ends.output], 1, 1, scratch)?];
        // a large plane has a call to itself
        let planes = tensors[ends.input].layout.order == Order::Planes;
        let channels = if large && planes { 1 } else { shape.c };
        let sums = scratch.values::<f32>(PoolArgs::scratch_len(channels, shape.h * shape.w))?;
        Ok(PoolStep { ends, shape, parts: workers.min(blocks), staging, sums })
    }
}
