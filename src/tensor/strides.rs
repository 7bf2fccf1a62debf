//! How the values of a caller's tensor lie: layouts and strides.

use crate::{Error, Result, Shape};

/// The order of the axes of a tensor in memory, which a plan is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Images, rows, pixels, channels: the channels of a pixel lie together. Steps read and write it where it lies.
    #[default]
    Nhwc,
    /// Images, channels, rows, pixels: each channel is a plane. A step transposes what it reads and writes, a few rows at a
    /// time. It also takes views in which neither channels nor pixels lie together, more slowly.
    Nchw,
}

impl Layout {
    /// The layout of a tensor by its strides: [`Layout::Nhwc`] where the channels of a pixel lie together.
    pub fn of(strides: Strides, shape: Shape) -> Layout {
        if strides.are_nhwc(shape) { Layout::Nhwc } else { Layout::Nchw }
    }
}

/// Distances, counted in values, between two values of a tensor that are neighbours along an axis.
///
/// Value `(n, y, x, c)` is at `n × image + y × row + x × pixel + c × channel`. The stride of an axis of length 1 has no meaning.
///
/// ```
/// use sepconv::{Layout, Shape, Strides};
/// let shape = Shape::new(2, 4, 5, 3);
/// assert_eq!(Strides::dense(Layout::Nhwc, shape), Strides { image: 60, row: 15, pixel: 3, channel: 1 });
/// assert_eq!(Strides::dense(Layout::Nchw, shape), Strides { image: 60, row: 5, pixel: 1, channel: 20 });
/// ```
#[allow(clippy::exhaustive_structs, reason = "a tensor has four axes")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strides {
    /// From one image to the next.
    pub image: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel of a row to the next.
    pub pixel: usize,
    /// From one channel of a pixel to the next.
    pub channel: usize,
}

impl core::fmt::Display for Strides {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Strides { image, row, pixel, channel } = self;
        write!(f, "strides of {image} (image), {row} (row), {pixel} (pixel) and {channel} (channel)")
    }
}

impl Strides {
    /// The strides of a tensor without gaps. They saturate where the shape is too large for any memory.
    pub const fn dense(layout: Layout, shape: Shape) -> Strides {
        let Shape { h, w, c, .. } = shape;
        match layout {
            Layout::Nhwc => Strides::with_pixel_stride(shape, c),
            Layout::Nchw => {
                let channel = h.saturating_mul(w);
                Strides { image: channel.saturating_mul(c), row: w, pixel: 1, channel }
            }
        }
    }

    /// The strides of an NHWC tensor whose pixels lie `pixel` values apart.
    pub(crate) const fn with_pixel_stride(shape: Shape, pixel: usize) -> Strides {
        let row = pixel.saturating_mul(shape.w);
        Strides { image: row.saturating_mul(shape.h), row, pixel, channel: 1 }
    }

    /// The strides of the same tensor, its rows taken as columns.
    pub(crate) const fn swapped(self) -> Strides {
        Strides { row: self.pixel, pixel: self.row, ..self }
    }

    /// Axes with their lengths.
    fn axes(&self, shape: Shape) -> [(usize, usize); 4] {
        [(shape.n, self.image), (shape.h, self.row), (shape.w, self.pixel), (shape.c, self.channel)]
    }

    /// Values from the first to the last one, both counted; 0 of a batch of no images, whose other strides must fit one image.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] without rows, columns or channels, [`Error::TooLarge`] where the last value is beyond any memory.
    pub fn span(&self, shape: Shape) -> Result<usize> {
        shape.len()?;
        // an empty batch is checked as one image, so that both have the same limits
        let last =
            self.axes(Shape { n: shape.n.max(1), ..shape }).into_iter().try_fold(0usize, |last, (len, stride)| {
                let along = if len > 1 { (len - 1).checked_mul(stride)? } else { 0 };
                last.checked_add(along)
            });
        // a slice cannot hold more bytes than isize::MAX
        let fits = |&last: &usize| last < isize::MAX as usize / size_of::<f32>();
        let last = last.filter(fits).ok_or(Error::TooLarge { what: "by its strides, a tensor", shape })?;
        Ok(if shape.is_empty() { 0 } else { last + 1 })
    }

    /// An error where two values of a tensor may lie at one place.
    pub(crate) fn check_apart(&self, shape: Shape) -> Result<()> {
        if shape.is_empty() {
            return Ok(());
        }
        let mut axes = self.axes(shape);
        axes.sort_unstable_by_key(|&(_, stride)| stride);
        // values from the first to the last along the axes so far
        let mut span = 1usize;
        for (len, stride) in axes {
            if len > 1 {
                if stride < span {
                    return Err(Error::Overlap { shape, strides: *self });
                }
                span = (len - 1).saturating_mul(stride).saturating_add(span);
            }
        }
        Ok(())
    }

    /// Whether the channels of a pixel lie together.
    pub(crate) fn are_nhwc(&self, shape: Shape) -> bool {
        self.channel == 1 || shape.c == 1
    }
}
