//! Maxima and means over a window.

use sepconv_kernels::PoolOf;

use crate::ops::operator;
use crate::plan::{Node, RowsOp};
use crate::shape::ConvWindow;
use crate::{Padding, Result};

/// What a window pool takes, and its window.
///
/// The defaults are a stride of one window, and no padding.
#[derive(Clone, Copy, Debug)]
pub struct WindowPoolDesc {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    maximum: bool,
    counts_padding: bool,
}

impl WindowPoolDesc {
    const fn new(kernel: [usize; 2], maximum: bool) -> Self {
        WindowPoolDesc { kernel, stride: kernel, padding: Padding::Valid, maximum, counts_padding: false }
    }

    /// The largest value of each window of `[rows, columns]`. Padding takes no part. NaN is larger than any number.
    pub const fn max(kernel: [usize; 2]) -> Self {
        WindowPoolDesc::new(kernel, true)
    }

    /// The mean of each window of `[rows, columns]`: pixels are added row by row, and their sum is divided by their number.
    pub const fn average(kernel: [usize; 2]) -> Self {
        WindowPoolDesc::new(kernel, false)
    }

    /// Pixels that the window moves at each step, on both axes.
    pub const fn stride(self, stride: usize) -> Self {
        self.strides([stride, stride])
    }

    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub const fn strides(mut self, strides: [usize; 2]) -> Self {
        self.stride = strides;
        self
    }

    /// How the plane is padded. A window has to meet a pixel of the plane.
    pub const fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// A mean is over all pixels of the window, those of padding too, which are 0: PyTorch's `count_include_pad`.
    pub const fn count_padding(mut self) -> Self {
        self.counts_padding = true;
        self
    }
}

/// The maximum or the mean over a window that slides over the plane.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Padding, PlanOptions, Shape, View, ViewMut, WindowPool, WindowPoolDesc};
/// let pool = WindowPool::new(WindowPoolDesc::max([2, 2]))?;
/// let plan = pool.plan(Shape::new(1, 2, 4, 1), &PlanOptions::new())?;
/// let (input, mut output) = ([1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 7.0, 6.0], [0.0; 2]);
/// let (from, to) = (View::new(&input, plan.input_shape())?, ViewMut::new(&mut output, plan.output_shape())?);
/// plan.run(from, to, &mut plan.scratch()?)?;
/// assert_eq!(output, [5.0, 7.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WindowPool {
    node: Node,
}

impl WindowPool {
    /// Checks the description.
    pub fn new(desc: WindowPoolDesc) -> Result<WindowPool> {
        let WindowPoolDesc { kernel, stride, padding, maximum, counts_padding } = desc;
        let window = ConvWindow { kernel, stride, dilation: [1, 1], padding };
        window.check("pool")?;
        let of = match (maximum, counts_padding) {
            (true, _) => PoolOf::Maximum,
            (false, false) => PoolOf::MeanInside,
            // both are at most 2^30
            (false, true) => PoolOf::MeanOfAll { taps: kernel[0].saturating_mul(kernel[1]) },
        };
        Ok(WindowPool { node: Node::Rows(RowsOp::Pool { window, of }) })
    }
}

operator!(WindowPool);
