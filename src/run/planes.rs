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

    /// Copies rows of planes, all columns of them, to where pixels lie `out_pixel` apart and rows one after the other.
    ///
    /// # Safety
    /// The tensor has these rows and channels; `out` has room for them, in whole blocks where it is `whole`.
    pub(super) unsafe fn copy_rows(
        &self,
        kernels: &Kernels,
        from: &Rows,
        out: *mut f32,
        [out_pixel, out_block]: [usize; 2],
        whole: bool,
    ) {
        let at_once = self.at_once(from.rows.len());
        for (i, y) in from.rows.clone().step_by(at_once).enumerate() {
            // SAFETY: the caller's.
            unsafe {
                (kernels.from_planes)(&FromPlanesArgs {
                    x: self.ptr.add(self.row(from.image, y)),
                    plane: self.layout.channel,
                    step: self.layout.within.pixel,
                    width: at_once * self.shape.w,
                    channels: channels(&from.blocks, self.shape.c),
                    multiplier: 1,
                    out: out.add(i * self.shape.w * out_pixel),
                    out_pixel,
                    out_block,
                    whole,
                });
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
            x.copy_rows(kernels, rows, to.ptr, [to.pixel, to.block], true);
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
