//! The mean over a plane, run.

use sepconv_kernels::{BLOCK, PoolArgs};

use super::bind::{Memory, zero_columns};
use crate::Shape;
use crate::plan::{PoolStep, lanes, share};

impl PoolStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize) {
        let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
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
                (memory.kernels.average_pool)(&PoolArgs {
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
