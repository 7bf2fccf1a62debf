//! Tensors of the caller's: descriptions of C become views.

use core::ffi::c_void;
use core::mem::{MaybeUninit, offset_of};
use core::ops::Range;
use core::ptr::{null, null_mut};

use super::describe::read_code;
use super::pointer::{check_slice, slice};
use super::status::{CallFailure, Name, Result, boundary, sepconv_status};
use super::versioned::{self, Versioned};
use crate::{Error, Layout, Shape, Strides, View, ViewMut, memory};

/// The order of the axes of a tensor in memory, the last one fastest. A `sepconv_shape` names the sizes of both.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_layout {
    /// Images, rows, pixels, channels: the channels of a pixel lie together.
    Nhwc = 0,
    /// Images, channels, rows, pixels: each channel is a plane.
    Nchw = 1,
}

/// Distances, counted in values, between two values of a tensor that are neighbours along an axis. Value `(n, y, x, c)` is at
/// `n * image + y * row + x * pixel + c * channel`.
///
/// A stride of 0 stands for no gap: it becomes the stride of the next inner axis times the length of that axis. The stride of the
/// innermost axis becomes 1. The layout says which axis is inside which. Each stride may be 0 or not, whatever the others are:
///
/// - all 0: a dense tensor;
/// - NHWC, `pixel` set: some channels of a tensor of more channels. A row is then `w * pixel`, an image `h * w * pixel`;
/// - NCHW, `row` set: planes with padded rows. A plane is then `h * row`, an image `c * h * row`;
/// - a crop: `row` and `image` of the whole tensor, and in NCHW its `channel`. `data` is the first value of the crop.
///
/// The stride of an axis of length 1 leads nowhere. But a stride of 0 of the axis around it is computed from it. So no stride makes an
/// axis repeat one value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct sepconv_strides {
    /// From one image to the next.
    pub image: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel of a row to the next.
    pub pixel: usize,
    /// From one channel of a pixel to the next.
    pub channel: usize,
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type LayoutCode = i32;

/// A tensor to read. Call `sepconv_input_init` first, which describes a dense NHWC tensor, and set what differs.
///
/// Several values may lie at one place, as those of windows that overlap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_input {
    /// `sizeof(sepconv_input)`, as the init function sets it.
    pub struct_size: usize,
    /// The first value. It may be NULL where a batch has no images and `len` is 0.
    pub data: *const f32,
    /// How many values there are from the first one on: at least up to the last one of the tensor. More are not read.
    pub len: usize,
    /// The order of the axes. Init: `SEPCONV_LAYOUT_NHWC`.
    pub layout: LayoutCode,
    /// The distances between values. Init: 0 for all, a dense tensor.
    pub strides: sepconv_strides,
}

/// A tensor to write. Call `sepconv_output_init` first, which describes a dense NHWC tensor, and set what differs.
///
/// No two values may lie at one place. Values between those of the tensor are left as they are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_output {
    /// `sizeof(sepconv_output)`, as the init function sets it.
    pub struct_size: usize,
    /// The first value. It may be NULL where a batch has no images and `len` is 0.
    pub data: *mut f32,
    /// How many values there are from the first one on: at least up to the last one of the tensor. More are not written.
    pub len: usize,
    /// The order of the axes. Init: `SEPCONV_LAYOUT_NHWC`.
    pub layout: LayoutCode,
    /// The distances between values. Init: 0 for all, a dense tensor.
    pub strides: sepconv_strides,
}

const DENSE: sepconv_strides = sepconv_strides { image: 0, row: 0, pixel: 0, channel: 0 };

// SAFETY: `repr(C)`, the size first; integers and a pointer.
unsafe impl Versioned for sepconv_input {
    const INIT: Self =
        sepconv_input { struct_size: 0, data: null(), len: 0, layout: sepconv_layout::Nhwc as i32, strides: DENSE };
    const LEAST: usize = offset_of!(sepconv_input, strides) + size_of::<sepconv_strides>();
}

// SAFETY: as above.
unsafe impl Versioned for sepconv_output {
    const INIT: Self = sepconv_output {
        struct_size: 0,
        data: null_mut(),
        len: 0,
        layout: sepconv_layout::Nhwc as i32,
        strides: DENSE,
    };
    const LEAST: usize = offset_of!(sepconv_output, strides) + size_of::<sepconv_strides>();
}

/// Describes `len` values from `data` on, a dense NHWC tensor to read; `size` is `sizeof(sepconv_input)`, which tells this library how
/// long the caller's struct is. `data` and `len` are looked at by a run, and not before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_input_init(
    input: *mut sepconv_input,
    size: usize,
    data: *const f32,
    len: usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init_as("input", input, size, sepconv_input { data, len, ..Versioned::INIT }) })
}

/// Describes `len` values from `data` on, a dense NHWC tensor to write; `size` is `sizeof(sepconv_output)`, which tells this library
/// how long the caller's struct is. `data` and `len` are looked at by a run, and not before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_output_init(
    output: *mut sepconv_output,
    size: usize,
    data: *mut f32,
    len: usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init_as("output", output, size, sepconv_output { data, len, ..Versioned::INIT }) })
}

/// Reads a layout.
pub(super) fn read_layout(name: Name, code: LayoutCode) -> Result<Layout> {
    read_code!(name, code, sepconv_layout {
        Nhwc => Layout::Nhwc,
        Nchw => Layout::Nchw,
    })
}

impl sepconv_strides {
    /// The strides that are meant: without zeros, but where a length is 0.
    fn resolve(self, layout: Layout, Shape { h, w, c, .. }: Shape) -> Strides {
        // what saturates is refused where the span is computed
        let or = |stride: usize, inner: usize, len: usize| if stride == 0 { inner.saturating_mul(len) } else { stride };
        match layout {
            Layout::Nhwc => {
                let channel = or(self.channel, 1, 1);
                let pixel = or(self.pixel, channel, c);
                let row = or(self.row, pixel, w);
                Strides { image: or(self.image, row, h), row, pixel, channel }
            }
            Layout::Nchw => {
                let pixel = or(self.pixel, 1, 1);
                let row = or(self.row, pixel, w);
                let channel = or(self.channel, row, h);
                Strides { image: or(self.image, channel, c), row, pixel, channel }
            }
        }
    }
}

/// Memory of the caller's, before any reference to it is made.
pub(super) struct Region {
    what: Name,
    /// Addresses. They do not wrap.
    bytes: Range<usize>,
}

impl Region {
    /// `len` bytes from `first` on, which may be NULL if there are none.
    pub(super) fn of_bytes(what: &'static str, first: *const c_void, len: usize) -> Result<Region> {
        if !(first.is_null() && len == 0) {
            check_slice(what, first.cast::<u8>(), len)?;
        }
        Ok(Region { what: what.into(), bytes: first.addr()..first.addr() + len })
    }

    /// An error where both have a byte.
    pub(super) fn check_apart(&self, other: &Region) -> Result<()> {
        let (a, b) = (&self.bytes, &other.bytes);
        if !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end {
            return Err(CallFailure::Overlap { what: self.what, with: other.what });
        }
        Ok(())
    }
}

/// A tensor of the caller's, before any reference to it is made.
pub(super) struct Placed {
    first: *const f32,
    /// From the first to the last value, both counted.
    span: usize,
    shape: Shape,
    strides: Strides,
    region: Region,
}

impl Placed {
    /// A tensor called `name`, an input or an output as `what` says.
    fn new(
        (name, what): (Name, &'static str),
        (first, len): (*const f32, usize),
        (layout, strides): (LayoutCode, sepconv_strides),
        shape: Shape,
    ) -> Result<Placed> {
        let strides = strides.resolve(read_layout(name.with("layout"), layout)?, shape);
        // an empty tensor is often nowhere
        if !(shape.is_empty() && first.is_null() && len == 0) {
            check_slice(name.with("data"), first, len)?;
        }
        let span = strides.span(shape)?;
        if len < span {
            return Err(CallFailure::Library(Error::Buffer { what, shape, strides, expected: span, got: len }));
        }
        // it is no longer than what was checked
        let region = Region { what: name, bytes: first.addr()..first.addr() + span * size_of::<f32>() };
        Ok(Placed { first, span, shape, strides, region })
    }

    /// Reads the descriptions of an input and an output of these shapes.
    ///
    /// # Safety
    /// The contract of all functions.
    pub(super) unsafe fn read(
        input: (*const sepconv_input, Shape),
        output: (*const sepconv_output, Shape),
    ) -> Result<[Placed; 2]> {
        // SAFETY: the caller's.
        let placed = unsafe {
            [
                Placed::read_input("input".into(), input.0, input.1)?,
                Placed::read_output("output".into(), output.0, output.1)?,
            ]
        };
        placed[1].region.check_apart(&placed[0].region)?;
        Ok(placed)
    }

    /// # Safety
    /// The contract of all functions.
    unsafe fn read_input(name: Name, input: *const sepconv_input, shape: Shape) -> Result<Placed> {
        // SAFETY: the caller's.
        let from = unsafe { versioned::read(name, input) }?;
        Placed::new((name, "input"), (from.data, from.len), (from.layout, from.strides), shape)
    }

    /// # Safety
    /// The contract of all functions.
    unsafe fn read_output(name: Name, output: *const sepconv_output, shape: Shape) -> Result<Placed> {
        // SAFETY: the caller's.
        let to = unsafe { versioned::read(name, output) }?;
        Placed::new((name, "output"), (to.data, to.len), (to.layout, to.strides), shape)
    }

    /// Reads the descriptions of all inputs and outputs of a run. Each output is apart from all other tensors.
    ///
    /// # Safety
    /// The contract of all functions, for arrays of so many pointers.
    pub(super) unsafe fn read_all(
        (inputs, input_count, input_shapes): (*const *const sepconv_input, usize, &[Shape]),
        (outputs, output_count, output_shapes): (*const *const sepconv_output, usize, &[Shape]),
    ) -> Result<[Vec<Placed>; 2]> {
        for (what, expected, got) in
            [("input", input_shapes.len(), input_count), ("output", output_shapes.len(), output_count)]
        {
            if expected != got {
                return Err(CallFailure::Library(Error::Count { what, expected, got }));
            }
        }
        // SAFETY: the caller's.
        let (inputs, outputs) =
            unsafe { (slice("inputs", inputs, input_count)?, slice("outputs", outputs, output_count)?) };
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (index, (&input, &shape)) in inputs.iter().zip(input_shapes).enumerate() {
            // SAFETY: as above.
            let placed = unsafe { Placed::read_input(Name::element("inputs", index), input, shape) }?;
            memory::push("tensors of a run", &mut from, placed)?;
        }
        for (index, (&output, &shape)) in outputs.iter().zip(output_shapes).enumerate() {
            // SAFETY: as above.
            let placed = unsafe { Placed::read_output(Name::element("outputs", index), output, shape) }?;
            for other in from.iter().chain(&to) {
                placed.region.check_apart(&other.region)?;
            }
            memory::push("tensors of a run", &mut to, placed)?;
        }
        Ok([from, to])
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// # Safety
    /// The contract of all functions, for a tensor of a [`sepconv_input`], for as long as `'a`.
    pub(super) unsafe fn view<'a>(&self) -> Result<View<'a>> {
        // SAFETY: the caller's, for `span` values, which are no more than the caller said to be there.
        let data = if self.span == 0 { &[] } else { unsafe { core::slice::from_raw_parts(self.first, self.span) } };
        Ok(View::with_strides(data, self.shape, self.strides)?)
    }

    /// # Safety
    /// The contract of all functions, for a tensor of a [`sepconv_output`], for as long as `'a`.
    pub(super) unsafe fn view_mut<'a>(&self) -> Result<ViewMut<'a>> {
        let first = self.first.cast_mut().cast::<MaybeUninit<f32>>();
        // SAFETY: as above. The pointer was one to write to, and need not lead to initialised memory.
        let data = if self.span == 0 { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(first, self.span) } };
        Ok(ViewMut::uninit(data, self.shape, self.strides)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_of_zero_follows_from_the_axis_inside() {
        let shape = Shape::new(2, 4, 5, 3);
        let of = |[image, row, pixel, channel]: [usize; 4]| sepconv_strides { image, row, pixel, channel };
        for (layout, given, expected) in [
            (Layout::Nhwc, [0, 0, 8, 0], [160, 40, 8, 1]),
            (Layout::Nhwc, [0, 64, 0, 0], [256, 64, 3, 1]),
            (Layout::Nhwc, [0, 64, 8, 0], [256, 64, 8, 1]),
            (Layout::Nhwc, [0, 0, 0, 2], [120, 30, 6, 2]),
            (Layout::Nhwc, [999, 0, 0, 0], [999, 15, 3, 1]),
            (Layout::Nchw, [0, 8, 0, 0], [96, 8, 1, 32]),
            (Layout::Nchw, [0, 0, 2, 0], [120, 10, 2, 40]),
            (Layout::Nchw, [0, 0, 0, 50], [150, 5, 1, 50]),
            (Layout::Nchw, [999, 7, 0, 50], [999, 7, 1, 50]),
        ] {
            let [image, row, pixel, channel] = expected;
            assert_eq!(
                of(given).resolve(layout, shape),
                Strides { image, row, pixel, channel },
                "{layout:?} {given:?}"
            );
        }
        for layout in [Layout::Nhwc, Layout::Nchw] {
            assert_eq!(DENSE.resolve(layout, shape), Strides::dense(layout, shape));
        }
        // no product wraps
        let far = of([0, 0, usize::MAX / 2, 0]).resolve(Layout::Nhwc, shape);
        assert_eq!((far.row, far.image), (usize::MAX, usize::MAX));
    }

    #[test]
    fn regions_with_no_byte_in_common_are_apart() {
        let region = |bytes: Range<usize>| Region { what: "memory".into(), bytes };
        for (a, b, apart) in [
            (0..4, 4..8, true),
            (0..5, 4..8, false),
            (0..9, 4..5, false),
            (4..4, 0..8, true),
            (0..0, 0..8, true),
            (0..8, 0..8, false),
        ] {
            assert_eq!(region(a.clone()).check_apart(&region(b.clone())).is_ok(), apart, "{a:?} {b:?}");
            assert_eq!(region(b).check_apart(&region(a)).is_ok(), apart);
        }
    }
}
