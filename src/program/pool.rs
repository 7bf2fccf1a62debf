//! The mean over a plane.

use sepconv_kernels::{BLOCK, PoolArgs};

use super::{Ends, Run, Tensor, lanes, share, zero_columns};
use crate::{Result, Shape};

/// Global average pooling from tensor to tensor.
#[derive(Debug)]
pub(crate) struct PoolStep {
    input: usize,
    output: usize,
    shape: Shape,
    parts: usize,
}

impl PoolStep {
    /// A step of a pool alone, or an error where its tensors do not fit each other.
    pub(super) fn new(tensors: &[Tensor], ends: Ends, workers: usize) -> Result<PoolStep> {
        let shape = ends.input(tensors)?.shape;
        ends.check(tensors, Shape { h: 1, w: 1, ..shape }, false)?;
        let blocks = shape.n * shape.c.div_ceil(BLOCK);
        Ok(PoolStep { input: ends.input, output: ends.output, shape, parts: workers.min(blocks) })
    }

    pub(super) fn pieces(&self) -> usize {
        self.parts
    }

    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, run: &Run<'_>, piece: usize) {
        let (x, out) = (run.bind(self.input), run.bind(self.output));
        let Shape { n, h, w, c } = self.shape;
        let blocks = c.div_ceil(BLOCK);
        let mine = share(n * blocks, self.parts, piece);
        let mut at = mine.start;
        while at < mine.end {
            let (image, block) = (at / blocks, at % blocks);
            let end = blocks.min(block + mine.end - at);
            // SAFETY: the caller's; blocks are shared out, so no two pieces write the same value.
            unsafe {
                // who reads the pixel may lay a window over it
                let row = out.ptr.add(out.row(image, 0) - out.layout.origin + block * out.layout.within.block);
                zero_columns(row, usize::from(out.layout.columns != [0, 0]), &out.layout, 1, end - block);
                (run.kernels.average_pool)(&PoolArgs {
                    channels: lanes(&(block..end), c),
                    plane: [h, w],
                    x: x.ptr.add(x.row(image, 0) + block * x.layout.within.block),
                    x_row: x.layout.row,
                    x_block: x.layout.within.block,
                    x_pixel: x.layout.within.pixel,
                    out: out.ptr.add(out.row(image, 0) + block * out.layout.within.block),
                    out_block: out.layout.within.block,
                    divisor: (h * w) as f32,
                });
            }
            at += end - block;
        }
    }
}
