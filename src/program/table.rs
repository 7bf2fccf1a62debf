//! Tables of offsets: where the pixels of a group of rows begin.

use super::{Layout, Place, Tensor};
use crate::Result;
use crate::memory::{Carver, product, reserve};

/// Where the pixels of some rows begin, row by row, for the pointwise kernel.
///
/// The plan writes the table: narrow networks spent up to a thirtieth of a run on these tables. A run rewrites a table that depends
/// on the pixel stride of a caller's tensor, or that is too long to keep.
#[derive(Debug)]
pub(super) struct PixelTable {
    /// Values from row to row and from pixel to pixel of the layout that was planned for.
    steps: [usize; 2],
    rows: usize,
    width: usize,
    /// Distance between rows of the table in rows of the layout, and between pixels in pixels.
    stride: [usize; 2],
    /// Rows after which the first comes again, or `usize::MAX`.
    ring: usize,
    offsets: Offsets,
}

#[derive(Debug)]
enum Offsets {
    Planned(Vec<usize>),
    /// A place in a worker's scratch.
    AtRun(usize),
}

impl PixelTable {
    /// Of `rows` rows of `width` pixels of a tensor, by its stride. The plan keeps at most `most` offsets.
    pub(super) fn of(
        tensor: &Tensor,
        rows: usize,
        width: usize,
        stride: [usize; 2],
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        let most = if matches!(tensor.place, Place::Arena(_)) { most } else { 0 };
        PixelTable::new(tensor.layout, rows, width, stride, usize::MAX, most, scratch)
    }

    /// The same of memory whose layout no caller decides.
    pub(super) fn within(
        layout: Layout,
        rows: usize,
        width: usize,
        stride: [usize; 2],
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, rows, width, stride, usize::MAX, most, scratch)
    }

    /// Offsets of a ring of `rows` rows, repeated twice, so that a group may start at any row.
    pub(super) fn of_ring(
        layout: Layout,
        rows: usize,
        width: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, product(&[2, rows])?, width, [1, 1], rows, most, scratch)
    }

    fn new(
        layout: Layout,
        rows: usize,
        width: usize,
        stride: [usize; 2],
        ring: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        let len = product(&[rows, width])?;
        let steps = PixelTable::steps(&layout);
        let mut table = PixelTable { steps, rows, width, stride, ring, offsets: Offsets::Planned(Vec::new()) };
        if len <= most {
            let mut offsets = Vec::new();
            reserve("plan", &mut offsets, len)?;
            table.each(steps, |offset| offsets.push(offset));
            table.offsets = Offsets::Planned(offsets);
        } else {
            table.offsets = Offsets::AtRun(scratch.words(len)?);
        }
        Ok(table)
    }

    fn steps(layout: &Layout) -> [usize; 2] {
        [layout.row, layout.within.pixel]
    }

    /// All offsets, in their order.
    fn each(&self, steps: [usize; 2], mut push: impl FnMut(usize)) {
        // the product may overflow only where the axis has one row or column: it is multiplied by 0 then
        let [row, pixel] = [0, 1].map(|axis| self.stride[axis].wrapping_mul(steps[axis]));
        for y in 0..self.rows {
            let start = y % self.ring * row;
            for x in 0..self.width {
                push(start + x * pixel);
            }
        }
    }

    /// Writes a table that the plan did not keep. `bound` is the layout of a caller's tensor.
    ///
    /// # Safety
    /// `scratch` is a worker's, carved as [`PixelTable::new`] was told.
    pub(super) unsafe fn prepare(&self, bound: Option<&Layout>, scratch: *mut f32) {
        if let Offsets::AtRun(at) = self.offsets {
            // SAFETY: the caller's; `to` runs over `rows × width` places.
            unsafe {
                let mut to = scratch.add(at).cast::<usize>();
                self.each(bound.map_or(self.steps, PixelTable::steps), |offset| {
                    to.write(offset);
                    to = to.add(1);
                });
            }
        }
    }

    /// The first offset of row `y`.
    ///
    /// # Safety
    /// As [`PixelTable::prepare`], which was called; `y` is below the number of rows.
    pub(super) unsafe fn row(&self, y: usize, scratch: *const f32) -> *const usize {
        // SAFETY: the caller's.
        unsafe {
            match &self.offsets {
                Offsets::Planned(offsets) => offsets.as_ptr(),
                Offsets::AtRun(at) => scratch.add(*at).cast(),
            }
            .add(y * self.width)
        }
    }
}
