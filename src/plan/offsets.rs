//! Tables of offsets: where the pixels of a group of rows, or of some whole images, begin.

use sepconv_kernels::BLOCK;

use super::layout::{Place, PlannedTensor, TensorLayout};
use crate::memory::{Carver, product, reserve};
use crate::{Result, Shape};

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
        let of_caller = !matches!(tensor.place, Place::Arena(_));
        let table = PixelTable::within(tensor.layout, pixels, stride, if of_caller { 0 } else { most }, scratch)?;
        Ok(PixelTable { of_caller, ..table })
    }

    /// Of `rows` rows of `width` pixels of a channel block, one pixel after the other.
    pub(super) fn dense(rows: usize, width: usize, most: usize, scratch: &mut Carver) -> Result<PixelTable> {
        let blocks = TensorLayout::blocked(Shape::new(1, rows, width, BLOCK), [0, 0])?;
        PixelTable::within(blocks, [1, rows, width], [1, 1], most, scratch)
    }

    /// The same of memory whose layout no caller decides.
    pub(super) fn within(
        layout: TensorLayout,
        pixels: [usize; 3],
        stride: [usize; 2],
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, pixels, stride, usize::MAX, most, scratch)
    }

    /// Offsets of a ring of `rows` rows, repeated twice, so that a group may start at any row.
    pub(super) fn of_ring(
        layout: TensorLayout,
        rows: usize,
        width: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        PixelTable::new(layout, [1, product(&[2, rows])?, width], [1, 1], rows, most, scratch)
    }

    fn new(
        layout: TensorLayout,
        [images, rows, width]: [usize; 3],
        stride: [usize; 2],
        ring: usize,
        most: usize,
        scratch: &mut Carver,
    ) -> Result<PixelTable> {
        let len = product(&[images, rows, width])?;
        let steps = PixelTable::steps(&layout);
        let offsets = Offsets::Planned(Vec::new());
        let mut table = PixelTable { steps, images, rows, width, stride, ring, of_caller: false, offsets };
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
        let (row, pixel) = (self.stride[0].wrapping_mul(row), self.stride[1].wrapping_mul(pixel));
        for n in 0..self.images {
            for y in 0..self.rows {
                let start = n * image + y % self.ring * row;
                for x in 0..self.width {
                    push(start + x * pixel);
                }
            }
        }
    }
}
