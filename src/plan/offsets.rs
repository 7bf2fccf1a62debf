//! Tables of offsets: where the pixels of a group of rows, or of some whole images, begin.

use sepconv_kernels::BLOCK;

use super::layout::{PlannedTensor, TensorLayout};
use crate::memory::{Carver, product, reserve};
use crate::{Result, Shape};

/// The order of the columns of a row in scratch: those `count` apart lie together.
///
/// ```text
///   columns      0 1 2 3 4 5 6
///   2 phases     0 2 4 6 │ 1 3 5 ·
/// ```
///
/// Taps that are a dilation apart, and pixels that are a stride apart, then follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phases {
    pub(crate) count: usize,
    /// Places for the columns of a phase.
    pub(crate) len: usize,
}

impl Phases {
    /// The columns in their own order.
    pub(super) const ONE: Phases = Phases { count: 1, len: 0 };

    /// Of `columns` columns, in `count` phases.
    pub(super) fn new(columns: usize, count: usize) -> Phases {
        Phases { count, len: columns.div_ceil(count) }
    }

    /// The places that a row takes.
    pub(super) fn columns(&self) -> Result<usize> {
        product(&[self.count, self.len])
    }

    /// The place of a column.
    pub(crate) fn at(&self, column: usize) -> usize {
        column % self.count * self.len + column / self.count
    }
}

/// Where the pixels of some rows begin, row by row, for the pointwise kernel: of one image, or of the images that follow each other.
///
/// The plan writes the table: narrow networks spent up to a thirtieth of a run on these tables. A run rewrites a table that depends
/// on the strides of a caller's tensor, or that is too long to keep.
#[derive(Debug)]
pub(crate) struct PixelTable {
    /// Values from image to image, from row to row and from pixel to pixel of the layout that was planned for.
    pub(crate) steps: [usize; 3],
    images: usize,
    rows: usize,
    pub(crate) width: usize,
    /// Distance between rows of the table in rows of the layout, and between pixels in pixels.
    stride: [usize; 2],
    /// The order of the columns of a row.
    phases: Phases,
    /// Rows after which the first comes again, or `usize::MAX`.
    ring: usize,
    /// Whether the strides of a caller's tensor decide the offsets, so that only a run knows them.
    pub(crate) of_caller: bool,
    pub(crate) offsets: Offsets,
}

#[derive(Debug)]
pub(crate) enum Offsets {
    Planned(Vec<usize>),
    /// A place in a worker's scratch, in bytes.
    AtRun(usize),
}

impl PixelTable {
    /// Of `[images, rows, width]`: so many rows of so many pixels of each image of a tensor, by its stride. The plan keeps at most `most`
    /// offsets.
    pub(super) fn of(
        tensor: &PlannedTensor,
        pixels: [usize; 3],
        stride: [usize; 2],
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        let of_caller = tensor.is_of_caller();
        let most = if of_caller { 0 } else { most };
        let table = PixelTable::within(tensor.layout, pixels, stride, Phases::ONE, most, scratch)?;
        Ok(PixelTable { of_caller, ..table })
    }

    /// Of `rows` rows of `width` pixels of a channel block, one pixel after the other.
    pub(super) fn dense(rows: usize, width: usize, most: usize, scratch: &mut Carver) -> Result<PixelTable> {
        let blocks = TensorLayout::blocked(Shape::new(1, rows, width, BLOCK), [0, 0])?;
        PixelTable::within(blocks, [1, rows, width], [1, 1], Phases::ONE, most, scratch)
    }

    /// As [`PixelTable::of`], of memory whose layout no caller decides, with the columns of a row in `phases`.
    pub(super) fn within(
        layout: TensorLayout,
        pixels: [usize; 3],
        stride: [usize; 2],
        phases: Phases,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, pixels, stride, phases, usize::MAX, most, scratch)
    }

    /// Offsets of a ring of `rows` rows, repeated twice, so that a group may start at any row.
    pub(super) fn of_ring(
        layout: TensorLayout,
        rows: usize,
        width: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, [1, product(&[2, rows])?, width], [1, 1], Phases::ONE, rows, most, scratch)
    }

    fn new(
        layout: TensorLayout,
        [images, rows, width]: [usize; 3],
        stride: [usize; 2],
        phases: Phases,
        ring: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        let len = product(&[images, rows, width])?;
        let steps = PixelTable::steps(&layout);
        let offsets = Offsets::Planned(Vec::new());
        let mut table = PixelTable { steps, images, rows, width, stride, phases, ring, of_caller: false, offsets };
        if len <= most {
            let mut offsets = Vec::new();
            reserve("plan", &mut offsets, len)?;
            table.each(steps, |offset| offsets.push(offset));
            table.offsets = Offsets::Planned(offsets);
        } else {
            table.offsets = Offsets::AtRun(scratch.values::<usize>(len)?);
        }
        Ok(table)
    }

    /// From image to image, from row to row, and from pixel to pixel.
    pub(crate) fn steps(layout: &TensorLayout) -> [usize; 3] {
        [layout.image, layout.row, layout.within.pixel]
    }

    /// All offsets, in their order.
    pub(crate) fn each(&self, [image, row, pixel]: [usize; 3], mut push: impl FnMut(usize)) {
        // the product may overflow only where the axis has one row or column: it is multiplied by 0 then
        let row = self.stride[0].wrapping_mul(row);
        let (step, phases) = (self.stride[1].wrapping_mul(pixel), self.phases);
        for n in 0..self.images {
            for y in 0..self.rows {
                let start = n * image + y % self.ring * row;
                if phases.count == 1 {
                    (0..self.width).for_each(|x| push(start + x * step));
                } else {
                    (0..self.width).for_each(|x| push(start + phases.at(x * self.stride[1]) * pixel));
                }
            }
        }
    }
}
