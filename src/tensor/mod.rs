//! Views of the caller's memory as tensors.

mod element;
mod strides;

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;

pub use element::{Element, ElementType};
pub use strides::{Layout, Strides};

use crate::{Error, Result, Shape};

/// A tensor to read, of any [`Strides`].
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Shape, Strides, View};
/// let data = [0.0; 2 * 4 * 8];
/// // NHWC: the first 5 channels of pixels that lie 8 values apart
/// let view = View::with_pixel_stride(&data, Shape::new(1, 2, 4, 5), 8)?;
/// assert_eq!(view.strides(), Strides { image: 64, row: 32, pixel: 8, channel: 1 });
/// // NCHW: eight planes of two rows
/// let view = View::nchw(&data, Shape::new(1, 2, 4, 8))?;
/// // the two pixels in the middle of each row of the planes 2 and 3
/// let crop = view.crop(0..2, 1..3)?.channels(2..4)?;
/// assert_eq!((crop.shape(), crop.strides()), (Shape::new(1, 2, 2, 2), view.strides()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct View<'a, T: Element = f32> {
    data: &'a [T],
    shape: Shape,
    strides: Strides,
}

/// A tensor to write, of any [`Strides`] by which no two values lie at one place. Values between those of the tensor are left
/// as they are.
pub struct ViewMut<'a, T: Element = f32> {
    data: NonNull<T>,
    shape: Shape,
    strides: Strides,
    memory: PhantomData<&'a mut [MaybeUninit<T>]>,
}

// SAFETY: it is a mutable borrow of plain values.
unsafe impl<T: Element> Send for ViewMut<'_, T> {}
// SAFETY: as above; a shared view writes nothing.
unsafe impl<T: Element> Sync for ViewMut<'_, T> {}

/// An error where `len` values are too few for a tensor.
fn check(what: &'static str, len: usize, shape: Shape, strides: Strides) -> Result<()> {
    let expected = strides.span(shape)?;
    if len < expected {
        return Err(Error::Buffer { what, shape, strides, expected, got: len });
    }
    Ok(())
}

/// The strides of NHWC pixels that lie `pixel` values apart.
fn by_pixel_stride(shape: Shape, pixel: usize) -> Result<Strides> {
    // which checks the stride as well
    shape.span(pixel)?;
    Ok(Strides::with_pixel_stride(shape, pixel))
}

/// A part of a tensor: the place of its first value, and its shape.
fn part(shape: Shape, strides: Strides, ranges: &[Range<usize>; 4]) -> Result<(usize, Shape)> {
    let Shape { n, h, w, c } = shape;
    let axes = [("images", n), ("rows", h), ("columns", w), ("channels", c)];
    for ((axis, len), range) in axes.into_iter().zip(ranges) {
        if range.start > range.end || range.end > len {
            return Err(Error::Part { axis, len, start: range.start, end: range.end });
        }
    }
    let [images, rows, columns, channels] = ranges;
    let part = Shape::new(images.len(), rows.len(), columns.len(), channels.len());
    part.len()?;
    if part.is_empty() {
        return Ok((0, part));
    }
    // no product overflows: each is the place of a value of the whole tensor, or of an axis of length 1, at its start
    let first = images.start.wrapping_mul(strides.image)
        + rows.start.wrapping_mul(strides.row)
        + columns.start.wrapping_mul(strides.pixel)
        + channels.start.wrapping_mul(strides.channel);
    Ok((first, part))
}

impl<'a, T: Element> View<'a, T> {
    /// A dense NHWC tensor: pixels lie `shape.c` values apart. A slice that is longer than the tensor is accepted.
    pub fn new(data: &'a [T], shape: Shape) -> Result<Self> {
        Self::with_pixel_stride(data, shape, shape.c)
    }

    /// An NHWC tensor whose pixels lie `pixel_stride ≥ shape.c` values apart.
    pub fn with_pixel_stride(data: &'a [T], shape: Shape, pixel_stride: usize) -> Result<Self> {
        Self::with_strides(data, shape, by_pixel_stride(shape, pixel_stride)?)
    }

    /// A dense NCHW tensor: images of `shape.c` planes. The shape names its sizes as that of any tensor does.
    pub fn nchw(data: &'a [T], shape: Shape) -> Result<Self> {
        Self::with_strides(data, shape, Strides::dense(Layout::Nchw, shape))
    }

    /// A tensor of any strides. Several values may lie at one place, as in a row that is read again and again.
    ///
    /// # Errors
    /// [`Error::Buffer`] where `data` has fewer values than [`Strides::span`] says, and the errors of that.
    pub fn with_strides(data: &'a [T], shape: Shape, strides: Strides) -> Result<Self> {
        check("input", data.len(), shape, strides)?;
        Ok(View { data, shape, strides })
    }

    fn part(self, ranges: &[Range<usize>; 4]) -> Result<Self> {
        let (first, shape) = part(self.shape, self.strides, ranges)?;
        Ok(View { data: &self.data[first..], shape, ..self })
    }

    /// The memory behind it, from its first value on.
    pub fn data(&self) -> &'a [T] {
        self.data
    }
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// A dense NHWC tensor: pixels lie `shape.c` values apart. A slice that is longer than the tensor is accepted.
    pub fn new(data: &'a mut [T], shape: Shape) -> Result<Self> {
        Self::with_pixel_stride(data, shape, shape.c)
    }

    /// An NHWC tensor whose pixels lie `pixel_stride ≥ shape.c` values apart.
    pub fn with_pixel_stride(data: &'a mut [T], shape: Shape, pixel_stride: usize) -> Result<Self> {
        Self::with_strides(data, shape, by_pixel_stride(shape, pixel_stride)?)
    }

    /// A dense NCHW tensor: images of `shape.c` planes. The shape names its sizes as that of any tensor does.
    pub fn nchw(data: &'a mut [T], shape: Shape) -> Result<Self> {
        Self::with_strides(data, shape, Strides::dense(Layout::Nchw, shape))
    }

    /// A tensor of any strides by which no two values lie at one place.
    ///
    /// # Errors
    /// [`Error::Overlap`] where two values may lie at one place: where, of two axes longer than 1, the stride of the outer one is less
    /// than what the inner one spans. [`Error::Buffer`] where `data` has too few values.
    pub fn with_strides(data: &'a mut [T], shape: Shape, strides: Strides) -> Result<Self> {
        let len = data.len();
        // a view never writes anything but values
        Self::of(NonNull::from(data).cast(), len, shape, strides)
    }

    /// A tensor in memory that need not have been written before. Where a run succeeds, it has written every value of the tensor,
    /// and none beside it.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// use sepconv::{GlobalAveragePool, Layout, PlanOptions, Shape, Strides, View, ViewMut};
    /// let plan = GlobalAveragePool::new(8)?.plan(Shape::new(1, 4, 4, 8), &PlanOptions::new())?;
    /// let shape = plan.output_shape();
    /// let mut output: Vec<f32> = Vec::with_capacity(8);
    /// let view = ViewMut::uninit(output.spare_capacity_mut(), shape, Strides::dense(Layout::Nhwc, shape))?;
    /// plan.run(View::new(&[1.0; 128], plan.input_shape())?, view, &mut plan.scratch()?)?;
    /// // SAFETY: the run has written all values of a dense tensor.
    /// unsafe { output.set_len(8) };
    /// assert_eq!(output, [1.0; 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ViewMut::with_strides`].
    pub fn uninit(data: &'a mut [MaybeUninit<T>], shape: Shape, strides: Strides) -> Result<Self> {
        let len = data.len();
        Self::of(NonNull::from(data).cast(), len, shape, strides)
    }

    fn of(data: NonNull<T>, len: usize, shape: Shape, strides: Strides) -> Result<Self> {
        check("output", len, shape, strides)?;
        strides.check_apart(shape)?;
        Ok(ViewMut { data, shape, strides, memory: PhantomData })
    }

    fn part(self, ranges: &[Range<usize>; 4]) -> Result<Self> {
        let (first, shape) = part(self.shape, self.strides, ranges)?;
        // SAFETY: the first value of a part is one of the tensor's, or the tensor's first where the part has none.
        Ok(ViewMut { data: unsafe { self.data.add(first) }, shape, ..self })
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data.as_ptr()
    }
}

/// What both views have: parts, shape and strides.
macro_rules! view {
    ($view:ident) => {
        impl<T: Element> $view<'_, T> {
            /// These rows and columns of each image.
            pub fn crop(self, rows: Range<usize>, columns: Range<usize>) -> Result<Self> {
                let Shape { n, c, .. } = self.shape;
                self.part(&[0..n, rows, columns, 0..c])
            }

            /// These channels of each pixel.
            pub fn channels(self, channels: Range<usize>) -> Result<Self> {
                let Shape { n, h, w, .. } = self.shape;
                self.part(&[0..n, 0..h, 0..w, channels])
            }

            /// These images of the batch.
            pub fn images(self, images: Range<usize>) -> Result<Self> {
                let Shape { h, w, c, .. } = self.shape;
                self.part(&[images, 0..h, 0..w, 0..c])
            }

            /// The shape.
            pub fn shape(&self) -> Shape {
                self.shape
            }

            /// The distances between its values.
            pub fn strides(&self) -> Strides {
                self.strides
            }

            /// Values from one pixel of a row to the next.
            pub fn pixel_stride(&self) -> usize {
                self.strides.pixel
            }
        }

        impl<T: Element> fmt::Debug for $view<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} of {:?}, {:?})", stringify!($view), self.shape, T::TYPE, self.strides)
            }
        }
    };
}

view!(View);
view!(ViewMut);
