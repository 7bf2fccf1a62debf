//! The mean over a plane, run.

use core::ops::Range;

use sepconv_kernels::{BLOCK, PoolArgs};

use super::bind::{BoundTensor, Memory, RowTarget, zero_columns};
use super::staging::Rows;
use crate::Shape;
use crate::plan::{Order, PoolStep, lanes, share};

impl PoolStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
        let blocks = self.shape.c.div_ceil(BLOCK);
        let mine = share(self.shape.n * blocks, self.parts, piece);
        // staged planes come a block at a time
        let most = if self.staging.iter().any(Option::is_some) { 1 } else { usize::MAX };
        let mut at = mine.start;
        while at < mine.end {
            let (image, block) = (at / blocks, at % blocks);
            let end = blocks.min(block + (mine.end - at).min(most));
            // SAFETY: the caller's; blocks are shared out, so no two pieces write the same value.
            unsafe { self.blocks(memory, [x, out], image, block..end, scratch) };
            at += end - block;
        }
    }

    /// The means of some blocks of an image.
    ///
    /// # Safety
    /// As [`PoolStep::run`].
    unsafe fn blocks(
        &self,
        memory: &Memory<'_>,
        [x, out]: [BoundTensor; 2],
        image: usize,
        blocks: Range<usize>,
        scratch: *mut u8,
    ) {
        let Shape { h, w, c, .. } = self.shape;
        let [of_input, of_output] = &self.staging;
        let plane = Rows { image, rows: 0..h, blocks: blocks.clone() };
        let pixel = Rows { rows: 0..1, ..plane.clone() };
        // SAFETY: the caller's.
        unsafe {
            // the step that reads the pixel may lay a window over it
            if out.layout.columns != [0, 0] {
                let row = out.ptr.add(out.row(image, 0) - out.layout.origin + blocks.start * out.layout.within.block);
                zero_columns(row, 1, &out.layout, 1, blocks.len());
            }
            let from = match of_input {
                Some(staging) => staging.load(memory.kernels, x, &plane, scratch),
                None => RowTarget::tensor(x, image, blocks.start),
            };
            let to = match of_output {
                Some(staging) => staging.target(&pixel, scratch),
                None => RowTarget::tensor(out, image, blocks.start),
            };
            let all = PoolArgs {
                channels: lanes(&blocks, c),
                plane: [h, w],
                x: from.ptr,
                x_row: from.row,
                x_block: from.block,
                x_pixel: from.pixel,
                out: to.ptr,
                out_block: to.block,
                divisor: (h * w) as f32,
                scratch: scratch.add(self.sums).cast(),
            };
            if x.layout.order == Order::Planes && of_input.is_none() {
                for c in 0..all.channels {
                    let (x, out) = (all.x.add(c * x.layout.channel), all.out.add(c / BLOCK * to.block + c % BLOCK));
                    (memory.kernels.average_pool)(&PoolArgs { channels: 1, x, x_block: BLOCK, out, ..all });
                }
            } else {
                (memory.kernels.average_pool)(&all);
            }
            if let Some(staging) = of_output {
                staging.store(memory.kernels, out, &pixel, scratch);
            }
        }
    }
}
