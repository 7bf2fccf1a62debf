//! Groups of rows of a caller's planes, to channel blocks in scratch and back.

use core::ops::Range;

use sepconv_kernels::{BLOCK, FromPlanesArgs, Kernels, ToPlanesArgs};

use super::bind::{BoundTensor, RowTarget};
use crate::Shape;
use crate::plan::{Staging, lanes};

/// Some rows of an image, in some blocks of channels.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) image: usize,
    pub(super) rows: Range<usize>,
    pub(super) blocks: Range<usize>,
}

impl BoundTensor {
    /// Rows that one call of a kernel goes over, each of `width` pixels: all, where a row of a plane begins behind the one before.
    fn at_once(&self, rows: usize) -> usize {
        if self.layout.row == self.shape.w * self.layout.within.pixel { rows } else { 1 }
    }

    /// The tensor without its columns from `width` on.
    pub(super) fn of_columns(self, width: usize) -> BoundTensor {
        BoundTensor { shape: Shape { w: width, ..self.shape }, ..self }
    }

    /// What the kernel copies of `width` pixels of planes, the first of them at `from`: each of `channels` once, to whole blocks at `out`
    /// that lie `out_block` apart.
    pub(super) fn planes(
        &self,
        from: usize,
        width: usize,
        channels: Range<usize>,
        out: *mut f32,
        out_block: usize,
    ) -> FromPlanesArgs {
        FromPlanesArgs {
            x: self.ptr.wrapping_add(from),
            plane: self.layout.channel,
            step: self.layout.within.pixel,
            width,
            channels,
            multiplier: 1,
            out,
            out_pixel: BLOCK,
            out_block,
            whole: true,
        }
    }

    /// Copies rows of planes, all columns of them, to whole blocks that lie `out_block` apart, rows one after the other.
    ///
    /// # Safety
    /// The tensor has these rows and channels; `out` has room for them.
    pub(super) unsafe fn copy_rows(&self, kernels: &Kernels, from: &Rows, out: *mut f32, out_block: usize) {
        let at_once = self.at_once(from.rows.len());
        let channels = channels(&from.blocks, self.shape.c);
        for (i, y) in from.rows.clone().step_by(at_once).enumerate() {
            // SAFETY: the caller's.
            unsafe {
                let out = out.add(i * self.shape.w * BLOCK);
                let (first, width) = (self.row(from.image, y), at_once * self.shape.w);
                (kernels.from_planes)(&self.planes(first, width, channels.clone(), out, out_block));
            }
        }
    }
}

/// The channels of some blocks.
fn channels(blocks: &Range<usize>, all: usize) -> Range<usize> {
    let first = blocks.start * BLOCK;
    first..first + lanes(blocks, all)
}

impl Staging {
    /// Where the staging of these rows lies.
    ///
    /// # Safety
    /// `scratch` is a worker's, carved as the staging was planned.
    pub(super) unsafe fn target(&self, rows: &Rows, scratch: *mut u8) -> RowTarget {
        let row = self.width * BLOCK;
        RowTarget {
            // SAFETY: the caller's.
            ptr: unsafe { scratch.add(self.place) }.cast(),
            first: rows.rows.start,
            row,
            ring: usize::MAX,
            pixel: BLOCK,
            block: rows.rows.len() * row,
            whole: true,
        }
    }

    /// Copies rows of planes to the staging.
    ///
    /// # Safety
    /// As [`Staging::target`]; the tensor has these rows.
    pub(super) unsafe fn load(&self, kernels: &Kernels, x: BoundTensor, rows: &Rows, scratch: *mut u8) -> RowTarget {
        // SAFETY: the caller's.
        unsafe {
            let to = self.target(rows, scratch);
            x.copy_rows(kernels, rows, to.ptr, to.block);
            to
        }
    }

    /// Copies rows from the staging to planes.
    ///
    /// # Safety
    /// As [`Staging::target`]; the tensor has these rows.
    pub(super) unsafe fn store(&self, kernels: &Kernels, out: BoundTensor, rows: &Rows, scratch: *mut u8) {
        let at_once = out.at_once(rows.rows.len());
        // SAFETY: the caller's.
        unsafe {
            let from = self.target(rows, scratch);
            let first = rows.blocks.start * out.layout.within.block;
            for y in rows.rows.clone().step_by(at_once) {
                (kernels.to_planes)(&ToPlanesArgs {
                    x: from.ptr.add(from.at(y)),
                    x_block: from.block,
                    width: at_once * self.width,
                    channels: lanes(&rows.blocks, out.shape.c),
                    out: out.ptr.add(out.row(rows.image, y) + first),
                    plane: out.layout.channel,
                    step: out.layout.within.pixel,
                });
            }
        }
    }
}
