//! Rows without gaps between pixels, in a worker's scratch: copied from a tensor of any layout, and to one.

use core::ops::Range;

use sepconv_kernels::pack::{dense_row, repeated_row};
use sepconv_kernels::{BLOCK, FromPlanesArgs, Kernels};

use super::bind::BoundTensor;
use crate::plan::{Order, Phases};

/// Columns of a padded row.
pub(super) struct Columns {
    /// The first of them.
    pub(super) first: usize,
    /// Columns of padding before the row.
    pub(super) before: usize,
    /// The order in which they are copied: columns that are so many apart together.
    pub(super) phases: Phases,
}

impl BoundTensor {
    /// Copies columns of the row that begins at `row`, zeros for padding, each channel `multiplier` times.
    ///
    /// # Safety
    /// The tensor has this row; `to` has room for the pixels of all phases.
    pub(super) unsafe fn copy_columns(
        &self,
        kernels: &Kernels,
        row: usize,
        columns: &Columns,
        multiplier: usize,
        to: *mut f32,
    ) {
        let Columns { first, before, phases } = *columns;
        let channels = self.shape.c * multiplier;
        for phase in 0..phases.count {
            let column = first + phase;
            // places of this phase whose columns are in the tensor
            let place = |end: usize| end.saturating_sub(column).div_ceil(phases.count).min(phases.len);
            let (start, end) = (place(before), place(before.saturating_add(self.shape.w)));
            // SAFETY: the caller's, for columns of the tensor and places of the phase.
            unsafe {
                let to = to.add(phase * phases.len * channels);
                to.write_bytes(0, start * channels);
                if start < end {
                    let from = row + (column + start * phases.count - before) * self.layout.within.pixel;
                    self.copy_pixels(kernels, from, phases.count, end - start, multiplier, to.add(start * channels));
                }
                to.add(end * channels).write_bytes(0, (phases.len - end) * channels);
            }
        }
    }

    /// Copies `width` pixels, of which the first is at `from` and each other one `step` pixels behind the one before.
    ///
    /// # Safety
    /// The tensor has these pixels; `to` has room for them.
    pub(super) unsafe fn copy_pixels(
        &self,
        kernels: &Kernels,
        from: usize,
        step: usize,
        width: usize,
        multiplier: usize,
        to: *mut f32,
    ) {
        let channels = self.shape.c * multiplier;
        let mut layout = self.layout.within;
        // the product may overflow only where there is one column: it is multiplied by 0 then
        layout.pixel = layout.pixel.wrapping_mul(step);
        // SAFETY: the caller's.
        unsafe {
            match self.layout.order {
                Order::Planes => (kernels.from_planes)(&FromPlanesArgs {
                    step: layout.pixel,
                    multiplier,
                    out_pixel: channels,
                    whole: false,
                    ..self.planes(from, width, 0..channels, to, BLOCK)
                }),
                Order::Pixels | Order::Blocks if multiplier == 1 => {
                    dense_row(self.ptr.add(from), layout, to, width, channels);
                }
                Order::Pixels | Order::Blocks => {
                    repeated_row(self.ptr.add(from), layout, to, width, self.shape.c, multiplier);
                }
            }
        }
    }

    /// Copies pixels that lie together at `from` to these columns of a row.
    ///
    /// # Safety
    /// The tensor has these columns; `from` is readable in as many pixels.
    pub(super) unsafe fn scatter(&self, from: *const f32, image: usize, row: usize, columns: Range<usize>) {
        let (channels, within) = (self.shape.c, self.layout.within);
        // SAFETY: the caller's.
        unsafe {
            let to = self.ptr.add(self.row(image, row) + columns.start * within.pixel);
            for p in 0..columns.len() {
                for c in 0..channels {
                    let at = c / BLOCK * within.block + p * within.pixel + c % BLOCK * self.layout.channel;
                    to.add(at).write(*from.add(p * channels + c));
                }
            }
        }
    }
}
