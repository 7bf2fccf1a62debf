//! Tables of offsets: where the pixels of a group of rows begin.

use super::{Layout, Place, Tensor};
use crate::Result;
use crate::memory::{Carver, product, reserve};

/// Where the pixels of some rows begin, row by row, for the pointwise kernel.
///
/// It is written when a step is planned: narrow networks spent up to a thirtieth of a run on these tables. At each run is
/// written what the pixel stride of a caller's tensor decides, and what is too long for a plan to keep.
#[derive(Debug)]
pub(super) struct PixelTable {
    /// From row to row and from pixel to pixel of the layout that was planned for.
    steps: [usize; 2],
    rows: usize,
    width: usize,
    /// From one of the rows to the next, and from one of the pixels, in those of the layout.
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

    /// Of a ring of `rows` rows, twice: whatever the row of it that comes first, those behind it follow.
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
        // a stride that leaves a tensor is that of a single row or column, and is only ever taken 0 times
        let [row, pixel] = [0, 1].map(|axis| self.stride[axis].wrapping_mul(steps[axis]));
        for y in 0..self.rows {
            let start = y % self.ring * row;
            for x in 0..self.width {
                push(start + x * pixel);
            }
        }
    }

    /// Writes what was not when the step was planned; a caller's tensor lies as it is `bound`.
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
