//! Views of the caller's memory as NHWC tensors.

mod element;

pub use element::{Element, ElementType};

use crate::{Error, Result, Shape};

/// An NHWC tensor to read. Value `(n, y, x, c)` is at `((n × h + y) × w + x) × pixel_stride + c`.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// let data = [0.0; 2 * 2 * 8];
/// // the first 5 channels of pixels that lie 8 values apart
/// let view = sepconv::View::with_pixel_stride(&data, sepconv::Shape::new(1, 2, 2, 5), 8)?;
/// assert_eq!(view.pixel_stride(), 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    shape: Shape,
    pixel_stride: usize,
}

/// An NHWC tensor to write, laid out as in [`View`]. Values between pixels are left as they are.
#[derive(Debug)]
pub struct ViewMut<'a> {
    data: &'a mut [f32],
    shape: Shape,
    pixel_stride: usize,
}

fn check(what: &'static str, len: usize, shape: Shape, pixel_stride: usize) -> Result<()> {
    let expected = shape.span(pixel_stride)?;
    if len < expected {
        return Err(Error::Buffer { what, shape, pixel_stride, expected, got: len });
    }
    Ok(())
}

impl<'a> View<'a> {
    /// A dense tensor: pixels lie `shape.c` values apart.
    pub fn new(data: &'a [f32], shape: Shape) -> Result<Self> {
        Self::with_pixel_stride(data, shape, shape.c)
    }

    /// A tensor whose pixels lie `pixel_stride ≥ shape.c` values apart.
    pub fn with_pixel_stride(data: &'a [f32], shape: Shape, pixel_stride: usize) -> Result<Self> {
        check("input", data.len(), shape, pixel_stride)?;
        Ok(View { data, shape, pixel_stride })
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Values from one pixel to the next.
    pub fn pixel_stride(&self) -> usize {
        self.pixel_stride
    }

    /// The memory behind it.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }
}

impl<'a> ViewMut<'a> {
    /// A dense tensor: pixels lie `shape.c` values apart.
    pub fn new(data: &'a mut [f32], shape: Shape) -> Result<Self> {
        Self::with_pixel_stride(data, shape, shape.c)
    }

    /// A tensor whose pixels lie `pixel_stride ≥ shape.c` values apart.
    pub fn with_pixel_stride(data: &'a mut [f32], shape: Shape, pixel_stride: usize) -> Result<Self> {
        check("output", data.len(), shape, pixel_stride)?;
        Ok(ViewMut { data, shape, pixel_stride })
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Values from one pixel to the next.
    pub fn pixel_stride(&self) -> usize {
        self.pixel_stride
    }

    #[cfg(feature = "gemm")]
    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        self.data
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr()
    }
}
