//! Tensors of a plan and the memory of a run become pointers.

use core::ptr::null;

use sepconv_kernels::{BLOCK, CHANNEL_PARAMS, Kernels, Residual, RowPixels, Store};

use crate::Shape;
use crate::plan::{Offsets, PixelTable, Place, PlannedTensor, StageEnd, TensorLayout};

/// Memory and kernels of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) tensors: &'a [PlannedTensor],
    /// The caller's tensors that are read.
    pub(crate) inputs: &'a [(*mut f32, TensorLayout)],
    /// The caller's tensors that are written.
    pub(crate) outputs: &'a [(*mut f32, TensorLayout)],
    pub(crate) arena: *mut u8,
    /// The first column of the section that is computed, in the input and in the output of the step.
    pub(crate) section: [usize; 2],
}

/// A tensor at a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoundTensor {
    pub(super) ptr: *mut f32,
    pub(super) shape: Shape,
    pub(super) layout: TensorLayout,
}

impl BoundTensor {
    /// From the first value to row `y` of image `n`.
    pub(super) fn row(&self, n: usize, y: usize) -> usize {
        self.layout.row_of(n, y)
    }
}

impl Memory<'_> {
    pub(super) fn bind(&self, tensor: usize) -> BoundTensor {
        let planned = &self.tensors[tensor];
        let PlannedTensor { shape, place, section, slice, .. } = *planned;
        let (ptr, layout) = match place {
            Place::Input(at) => self.inputs[at],
            Place::Output(at) => self.outputs[at],
            // SAFETY: lowering gave the tensor a place inside the arena, on a cache line
            Place::Arena(at) => (unsafe { self.arena.add(at) }.cast(), planned.unsliced()),
        };
        let mut bound = BoundTensor { ptr, shape, layout };
        if let Some(slice) = slice {
            bound.layout = slice.layout(layout);
            // SAFETY: the slice begins at a value of the whole tensor
            bound.ptr = unsafe { bound.ptr.add(slice.offset(&layout)) };
        }
        if let Some(section) = section {
            let columns = self.section[section.end] * bound.layout.within.pixel;
            // SAFETY: the section begins at a column of the tensor
            bound.ptr = unsafe { bound.ptr.add(planned.section_origin() + columns) };
        }
        bound
    }
}

/// Where the rows of one image go.
#[derive(Clone, Copy)]
pub(super) struct RowTarget {
    /// The first pixel of a row, in the first of the panels asked for.
    pub(super) ptr: *mut f32,
    /// The row that `ptr` points to.
    pub(super) first: usize,
    /// From one row to the next.
    pub(super) row: usize,
    /// Rows after which the first comes again, or `usize::MAX`.
    pub(super) ring: usize,
    /// From one pixel to the next.
    pub(super) pixel: usize,
    /// From one panel to the next.
    pub(super) block: usize,
    /// Whether there is room for 16 channels in every panel.
    pub(super) whole: bool,
}

impl RowTarget {
    /// The rows of image `n` of a tensor, from channel block `block` on.
    ///
    /// # Safety
    /// The tensor has that image and block.
    pub(super) unsafe fn tensor(out: BoundTensor, n: usize, block: usize) -> RowTarget {
        let TensorLayout { row, within, .. } = out.layout;
        // SAFETY: the caller's.
        let ptr = unsafe { out.ptr.add(out.row(n, 0) + block * within.block) };
        let whole = out.layout.is_whole();
        RowTarget { ptr, first: 0, row, ring: usize::MAX, pixel: within.pixel, block: within.block, whole }
    }

    /// Where a kernel stores the rows from `y` on; `pixels` is a table of the rows behind that one.
    ///
    /// # Safety
    /// Row `y` is there.
    pub(super) unsafe fn store(&self, y: usize, pixels: *const usize) -> Store {
        // SAFETY: the caller's.
        Store { ptr: unsafe { self.ptr.add(self.at(y)) }, pixels, panel: self.block, whole: self.whole }
    }

    /// The same rows as a residual.
    ///
    /// # Safety
    /// As [`RowTarget::store`].
    pub(super) unsafe fn residual(&self, y: usize, pixels: *const usize) -> Residual {
        // SAFETY: the caller's.
        let Store { ptr, pixels, panel, whole } = unsafe { self.store(y, pixels) };
        Residual { ptr, pixels, panel, whole }
    }

    /// The pixels of row `y`, to read.
    ///
    /// # Safety
    /// Row `y` is there.
    pub(super) unsafe fn pixels(&self, y: usize) -> RowPixels<*const f32> {
        // SAFETY: the caller's.
        let RowPixels { ptr, pixel, block, whole } = unsafe { self.pixels_mut(y) };
        RowPixels { ptr: ptr.cast_const(), pixel, block, whole }
    }

    /// The pixels of row `y`, to write.
    ///
    /// # Safety
    /// As [`RowTarget::pixels`].
    pub(super) unsafe fn pixels_mut(&self, y: usize) -> RowPixels<*mut f32> {
        // SAFETY: the caller's.
        RowPixels { ptr: unsafe { self.ptr.add(self.at(y)) }, pixel: self.pixel, block: self.block, whole: self.whole }
    }

    /// The offset of row `y` from `ptr`.
    pub(super) fn at(&self, y: usize) -> usize {
        (y - self.first) % self.ring * self.row
    }
}

impl StageEnd {
    /// The parameters of an activation by channel, from channel block `block` on; else null.
    pub(super) fn params(&self, block: usize) -> *const f32 {
        self.params.as_ref().map_or(null(), |params| params.values.as_ptr::<f32>().wrapping_add(block * CHANNEL_PARAMS))
    }
}

impl PixelTable {
    /// Writes a table that the plan did not keep. `bound` is the layout of the tensor at this run, where there is one: a table of a
    /// caller's tensor follows it.
    ///
    /// # Safety
    /// `scratch` is a worker's, carved as the table was planned.
    pub(super) unsafe fn prepare(&self, bound: Option<&TensorLayout>, scratch: *mut u8) {
        if let Offsets::AtRun(at) = self.offsets {
            // SAFETY: the caller's; `to` runs over the places of all pixels of the table.
            unsafe {
                let mut to = scratch.add(at).cast::<usize>();
                let bound = bound.filter(|_| self.of_caller);
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
    pub(super) unsafe fn row(&self, y: usize, scratch: *const u8) -> *const usize {
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

/// Fills the columns of zeros beside `rows` rows of channel blocks that begin at `first`.
///
/// # Safety
/// `first` is the first value, padding included, of rows laid out as `layout` says for `width` pixels and `blocks`
/// blocks.
pub(super) unsafe fn zero_columns(first: *mut f32, rows: usize, layout: &TensorLayout, width: usize, blocks: usize) {
    let [left, right] = layout.columns;
    for y in 0..rows {
        for b in 0..blocks {
            // SAFETY: the caller's.
            unsafe {
                let row = first.add(y * layout.row + b * layout.within.block);
                zero_pixels(row, left);
                zero_pixels(row.add((left + width) * BLOCK), right);
            }
        }
    }
}

/// Fills `pixels` pixels of a block with zeros.
///
/// # Safety
/// They are writable.
unsafe fn zero_pixels(at: *mut f32, pixels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match pixels {
            0 => {}
            // nearly always; a call for each line took half a percent of MobileNetV1, and two of a narrow one
            1 => at.cast::<[f32; BLOCK]>().write([0.0; BLOCK]),
            _ => at.write_bytes(0, pixels * BLOCK),
        }
    }
}
