//! Operations without weights, run: `plan/rows.rs` has their groups.

use core::ops::Range;

use sepconv_kernels::{BLOCK, JoinRowArgs, PoolRowArgs, RowPixels};

use super::bind::{BoundTensor, Memory, RowTarget, zero_columns};
use super::staging::Rows;
use crate::Shape;
use crate::plan::{RowsOp, RowsStep, share};

impl RowsStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let out = memory.bind(self.ends.output);
        let height = out.shape.h;
        let lines = share(out.shape.n * height, self.parts, piece);
        let mut line = lines.start;
        while line < lines.end {
            let (image, y) = (line / height, line % height);
            let end = height.min(y + (lines.end - line).min(self.group));
            // SAFETY: the caller's; rows are shared out, so no two pieces write the same value.
            unsafe { self.rows(memory, out, image, y..end, scratch) };
            line += end - y;
        }
    }

    /// Some output rows of an image, at most a group.
    ///
    /// # Safety
    /// As [`RowsStep::run`].
    unsafe fn rows(&self, memory: &Memory<'_>, out: BoundTensor, image: usize, rows: Range<usize>, scratch: *mut u8) {
        let x = memory.bind(self.ends.input);
        let blocks = 0..out.shape.c.div_ceil(BLOCK);
        let [of_input, of_second, of_output] = &self.staging;
        let here = |rows: Range<usize>| Rows { image, rows, blocks: blocks.clone() };
        let read = self.op.rows_read(&rows, x.shape.h, &self.extent);
        // SAFETY: the caller's; stagings hold the rows of a group, and what these read.
        unsafe {
            if out.layout.columns != [0, 0] {
                let first = out.ptr.add(out.row(image, rows.start) - out.layout.origin);
                zero_columns(first, rows.len(), &out.layout, out.shape.w, blocks.len());
            }
            let from = match of_input {
                Some(staging) => staging.load(memory.kernels, x, &here(read.clone()), scratch),
                None => RowTarget::tensor(x, image, 0),
            };
            let second = self.ends.residual.map(|second| {
                let second = memory.bind(second);
                let one = second.shape.h != out.shape.h || second.shape.w != out.shape.w;
                let rows = if one { 0..1 } else { rows.clone() };
                let from = match of_second {
                    Some(staging) => staging.load(memory.kernels, second, &here(rows), scratch),
                    None => RowTarget::tensor(second, image, 0),
                };
                (from, one)
            });
            let to = match of_output {
                Some(staging) => staging.target(&here(rows.clone()), scratch),
                None => RowTarget::tensor(out, image, 0),
            };
            for y in rows.clone() {
                self.row(memory, [x.shape, out.shape], &from, second, &to, y);
            }
            if let Some(staging) = of_output {
                staging.store(memory.kernels, out, &here(rows), scratch);
            }
        }
    }

    /// One output row.
    ///
    /// # Safety
    /// As [`RowsStep::run`].
    unsafe fn row(
        &self,
        memory: &Memory<'_>,
        [input, output]: [Shape; 2],
        from: &RowTarget,
        second: Option<(RowTarget, bool)>,
        to: &RowTarget,
        y: usize,
    ) {
        let (channels, width) = (output.c, output.w);
        // SAFETY: the caller's: rows are those of the step's tensors.
        unsafe {
            let out = to.pixels_mut(y);
            match &self.op {
                RowsOp::Join { join, end, .. } => {
                    // a join has a second operand
                    let Some((second, one)) = second else { return };
                    let x = from.pixels(y);
                    let mut second = second.pixels(if one { 0 } else { y });
                    if one {
                        second.pixel = 0;
                    }
                    (memory.kernels.join_row)(&flat(JoinRowArgs {
                        channels,
                        width,
                        x,
                        y: second,
                        out,
                        join: *join,
                        epilogue: end.epilogue,
                        params: end.params(0),
                    }));
                }
                &RowsOp::Copy { factors: [by, times] } => {
                    copy_row(channels, input.w, from.pixels(y / by), out, times);
                }
                &RowsOp::Pool { window, of } => {
                    let rows = window.rows_needed(&(y..y + 1), self.extent.before[0], input.h);
                    (memory.kernels.pool_row)(&PoolRowArgs {
                        channels,
                        rows: rows.len(),
                        x: from.pixels(rows.start),
                        x_row: from.row,
                        columns: input.w,
                        kernel: window.kernel[1],
                        stride: window.stride[1],
                        before: self.extent.before[1],
                        width,
                        out,
                        of,
                    });
                }
            }
        }
    }
}

/// The same row as one pixel of many channels, where no operand has a gap between pixels and all channels end alike.
fn flat(a: JoinRowArgs) -> JoinRowArgs {
    let ends = [(a.x.pixel, a.x.block), (a.y.pixel, a.y.block), (a.out.pixel, a.out.block)];
    let whole = a.x.whole || a.y.whole || a.out.whole;
    let by_channel = a.epilogue.activation().is_by_channel();
    if whole || by_channel || ends.iter().any(|&(pixel, block)| block != BLOCK || pixel != a.channels) {
        return a;
    }
    JoinRowArgs { channels: a.channels * a.width, width: 1, ..a }
}

/// Copies a row of `width` pixels, each `times` times.
///
/// # Safety
/// `x` is readable in `channels` of `width` pixels, and `out` writable in `times` as many; they do not overlap.
unsafe fn copy_row(channels: usize, width: usize, x: RowPixels<*const f32>, out: RowPixels<*mut f32>, times: usize) {
    for block in 0..channels.div_ceil(BLOCK) {
        let count = if x.whole && out.whole { BLOCK } else { BLOCK.min(channels - block * BLOCK) };
        for p in 0..width {
            // SAFETY: the caller's.
            unsafe {
                let from = x.ptr.add(block * x.block + p * x.pixel);
                for copy in 0..times {
                    let to = out.ptr.add(block * out.block + (p * times + copy) * out.pixel);
                    if count == BLOCK {
                        to.cast::<[f32; BLOCK]>().write_unaligned(from.cast::<[f32; BLOCK]>().read_unaligned());
                    } else {
                        to.copy_from_nonoverlapping(from, count);
                    }
                }
            }
        }
    }
}
