//! The shape of a tensor, and the geometry of a window that slides over it.

use core::ops::Range;

use crate::{Error, Result};

/// Batch, rows, columns and channels of an NHWC tensor.
///
/// A batch may be of no images: plans for it are made and run, and write nothing. Without rows, columns or channels there
/// is no image, which is an error.
///
/// ```
/// let shape = sepconv::Shape::new(1, 224, 224, 3);
/// assert_eq!(shape.len().unwrap(), 150_528);
/// ```
#[allow(clippy::exhaustive_structs, reason = "an NHWC tensor has four sides")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images in the batch; 0 is an empty batch.
    pub n: usize,
    /// Rows of an image.
    pub h: usize,
    /// Columns of an image, in pixels.
    pub w: usize,
    /// Channels of a pixel.
    pub c: usize,
}

impl Shape {
    /// A shape of `n` images of `h × w` pixels of `c` channels. Nothing is checked here; [`Shape::len`] does.
    pub const fn new(n: usize, h: usize, w: usize, c: usize) -> Self {
        Shape { n, h, w, c }
    }

    /// Values in a dense tensor of this shape. It is an error where rows, columns or channels are 0, or where the product does
    /// not fit.
    pub fn len(&self) -> Result<usize> {
        self.span(self.c)
    }

    /// Whether the batch is of no images.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Pixels in the batch: `n × h × w`, or `usize::MAX` where that does not fit.
    pub fn pixels(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w)
    }

    /// Values from the first of the first pixel to the last of the last one, where pixels lie `pixel_stride` apart; 0 of no
    /// images.
    pub fn span(&self, pixel_stride: usize) -> Result<usize> {
        if self.h == 0 || self.w == 0 || self.c == 0 {
            return Err(Error::ZeroSize { shape: *self });
        }
        if pixel_stride < self.c {
            return Err(Error::PixelStride { expected: self.c, got: pixel_stride });
        }
        // an empty batch is checked as one image, so that both have the same limits
        let span = self
            .n
            .max(1)
            .checked_mul(self.h)
            .and_then(|v| v.checked_mul(self.w))
            .and_then(|v| (v - 1).checked_mul(pixel_stride))
            .and_then(|v| v.checked_add(self.c))
            // a slice cannot hold more bytes than isize::MAX
            .filter(|&v| v <= isize::MAX as usize / size_of::<f32>());
        let what = if pixel_stride == self.c { "tensor" } else { "by its pixel stride, a tensor" };
        let span = span.ok_or(Error::TooLarge { what, shape: *self })?;
        Ok(if self.is_empty() { 0 } else { span })
    }
}

impl Shape {
    /// The shape of planes whose rows are the columns of these.
    pub(crate) fn swapped(self) -> Shape {
        Shape { h: self.w, w: self.h, ..self }
    }
}

impl core::fmt::Display for Shape {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}×{}×{}×{}", self.n, self.h, self.w, self.c)
    }
}

/// How a plane is padded before a window slides over it. What is added reads as `0.0` and takes part in the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Padding {
    /// Nothing is added: the output shrinks.
    Valid,
    /// TensorFlow's `SAME`: the output has `ceil(input / stride)` rows and columns, and an odd pixel goes to the
    /// bottom and to the right.
    Same,
    /// Rows and columns added at each side, as PyTorch's `padding` does with equal sides.
    Explicit {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns before.
        left: usize,
        /// Columns after.
        right: usize,
    },
}

impl Padding {
    /// The same number of rows and columns at all four sides.
    pub const fn all(pixels: usize) -> Self {
        Padding::Explicit { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }
}

/// The window of a convolution: kernel, stride and dilation of each axis, `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvWindow {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padding: Padding,
}

/// A window laid over a plane of known size: the pixels added before each axis, and the size of what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) before: [usize; 2],
    /// Pixels added after each axis that the window reaches; never more than was asked for.
    pub(crate) after: [usize; 2],
    pub(crate) out: [usize; 2],
}

/// The largest kernel reach, stride and padding: sums of some of them fit any `usize`.
const LIMIT: usize = 1 << 30;

impl ConvWindow {
    /// Pixels from the first tap to the last one, both counted.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// The window over planes whose rows are columns.
    pub(crate) fn swapped(&self) -> ConvWindow {
        let swap = |[rows, columns]: [usize; 2]| [columns, rows];
        ConvWindow {
            kernel: swap(self.kernel),
            stride: swap(self.stride),
            dilation: swap(self.dilation),
            padding: match self.padding {
                Padding::Explicit { top, bottom, left, right } => {
                    Padding::Explicit { top: left, bottom: right, left: top, right: bottom }
                }
                Padding::Valid | Padding::Same => self.padding,
            },
        }
    }

    /// Whether it has one column, and no padding beside it. Over a plane of one column it makes a plane of one column.
    pub(crate) fn is_of_one_column(&self) -> bool {
        let beside = match self.padding {
            Padding::Explicit { left, right, .. } => [left, right],
            // of a window of one pixel, the padding is none
            Padding::Valid | Padding::Same => [0, 0],
        };
        self.kernel[1] == 1 && beside == [0, 0]
    }

    /// The rows of a plane of `height` that output rows read, with `before` rows of padding above it.
    pub(crate) fn rows_needed(&self, rows: &Range<usize>, before: usize, height: usize) -> Range<usize> {
        let start = (rows.start * self.stride[0]).saturating_sub(before).min(height);
        let end = ((rows.end - 1) * self.stride[0] + self.reach(0)).saturating_sub(before).min(height);
        start..end.max(start)
    }

    /// The fewest output columns of a part of a row, if it has `times` the columns that it reads together with the next part.
    pub(crate) fn least_columns(&self, times: usize) -> usize {
        self.reach(1).saturating_sub(self.stride[1]).saturating_mul(times).div_ceil(self.stride[1])
    }

    /// An error of `stage` where a size is zero or the reach does not fit.
    pub(crate) fn check(&self, stage: &'static str) -> Result<()> {
        for axis in 0..2 {
            for (what, value) in
                [("kernel", self.kernel[axis]), ("stride", self.stride[axis]), ("dilation", self.dilation[axis])]
            {
                if value == 0 {
                    return Err(Error::ZeroWindow { stage, what });
                }
            }
            let reach = (self.kernel[axis] - 1).saturating_mul(self.dilation[axis]).saturating_add(1);
            let sides = match self.padding {
                Padding::Explicit { top, bottom, left, right } => top.max(bottom).max(left).max(right),
                Padding::Valid | Padding::Same => 0,
            };
            for (what, got) in [("kernel reach", reach), ("stride", self.stride[axis]), ("padding", sides)] {
                if got > LIMIT {
                    return Err(Error::Window { stage, what, limit: LIMIT, got });
                }
            }
        }
        Ok(())
    }

    /// Lays the window over a plane of `input` rows and columns. [`Error::in_stage`] names the stage of an error.
    pub(crate) fn over(&self, input: [usize; 2]) -> Result<Extent> {
        let mut extent = Extent { before: [0; 2], after: [0; 2], out: [0; 2] };
        for axis in 0..2 {
            let (reach, stride, size) = (self.reach(axis), self.stride[axis], input[axis]);
            let (before, after) = match self.padding {
                Padding::Valid => (0, 0),
                Padding::Same => {
                    let out = size.div_ceil(stride);
                    let total = ((out - 1) * stride + reach).saturating_sub(size);
                    (total / 2, total - total / 2)
                }
                Padding::Explicit { top, bottom, left, right } => [(top, bottom), (left, right)][axis],
            };
            let too_large = Error::Window { stage: "input", what: "plane", limit: LIMIT, got: size };
            let padded = size.checked_add(before + after).ok_or(too_large)?;
            if padded < reach {
                let axis = ["rows", "columns"][axis];
                return Err(Error::InputTooSmall { stage: "input", axis, expected: reach, got: padded });
            }
            let out = (padded - reach) / stride + 1;
            extent.before[axis] = before;
            extent.after[axis] = ((out - 1) * stride + reach).saturating_sub(size + before);
            extent.out[axis] = out;
        }
        Ok(extent)
    }
}
