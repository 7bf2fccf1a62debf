//! A pointwise convolution with weights that nobody packed, on the `gemm` crate.

use core::ops::Range;

use sepconv_kernels::simd::PixelOffsets;
use sepconv_kernels::{ActivateArgs, BLOCK, Kernels, Nonlinearity};

use crate::options::SPINS;
use crate::plan::share;
use crate::run::team::{Crew, serial};
use crate::threads::cores;
use crate::{Activation, Error, Filter, Result, Shape, Strides, Threads, View, ViewMut};

/// Multiply-adds from which threads share a product: fewer take some microseconds.
const WORTH_SHARING: usize = 100_000;

/// A pointwise convolution whose weights change at each call: nothing is planned or packed beforehand.
///
/// It runs on the `gemm` crate, which has its own order of summation: results are **not** those of
/// [`crate::PointwiseConv2d`] to the bit, and may differ from one machine to another. They stay within `(k + 2) × ε ×
/// Σ|x·w|` of the exact sum. It packs at every call, so weights that stay are better served by a plan.
///
/// `weights` is [`Filter::io`] or [`Filter::oi`]; `input` has its inputs for channels and `output` its outputs. `threads` share the
/// pixels, or the outputs where there are more of these.
///
/// # Errors
/// As an operator's: wrong lengths and shapes are found before anything is written.
#[allow(clippy::needless_pass_by_value, reason = "a view to write is used up by the run")]
pub fn pointwise_gemm(
    input: View<'_>,
    weights: Filter<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    mut output: ViewMut<'_>,
    threads: Threads,
) -> Result<()> {
    let mut desc = crate::ConvDesc::new(weights).activation(activation);
    if let Some(bias) = bias {
        desc = desc.bias(bias);
    }
    if weights.is_depthwise() || !desc.is_pointwise() {
        return Err(Error::FilterOrder {
            operator: "one-shot pointwise",
            expected: "IO or OI, with a window of 1×1",
            got: weights.order_name(),
        });
    }
    desc.check("one-shot pointwise")?;
    let (k, n) = (weights.inputs(), weights.outputs());
    let shape = input.shape();
    if shape.c != k {
        return Err(Error::Channels { what: "one-shot pointwise", expected: k, got: shape.c });
    }
    let expected = Shape { c: n, ..shape };
    if output.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output", expected, got: output.shape() });
    }
    if shape.is_empty() {
        return Ok(());
    }
    // both tensors fall into runs of pixels, each evenly spaced
    let runs = PixelRuns::of(shape, input.strides()).min(PixelRuns::of(expected, output.strides()));
    let count = runs.count(shape);
    let m = shape.pixels() / count;
    let product = Product {
        k,
        x: input.data().as_ptr(),
        x_strides: runs.strides(shape, input.strides()),
        w: weights.data().as_ptr(),
        w_strides: weights.strides_io(),
        bias,
        y_strides: runs.strides(expected, output.strides()),
        y: output.as_mut_ptr(),
        activation: activation.into(),
    };
    let starts = |run| [runs.start(run, shape, input.strides()), runs.start(run, shape, output.strides())];
    let workers = threads.count().min(cores()).min(m.max(n));
    let worth = shape.pixels().saturating_mul(n).saturating_mul(k) >= WORTH_SHARING;
    let parts = if worth { workers } else { 1 };
    let run = |_: usize, part: usize, _: usize| {
        let product = &product;
        let (pixels, outputs) = if m >= n { (share(m, parts, part), 0..n) } else { (0..m, share(n, parts, part)) };
        for run in 0..count {
            // SAFETY: the views hold `m` pixels of `k` and of `n` channels at these strides in each run, the filter `k × n` weights.
            // Parts share out pixels or outputs, so no two write the same value.
            unsafe { product.run(starts(run), pixels.clone(), outputs.clone()) }
        }
    };
    if parts > 1 {
        return Crew::new(workers)?.run(&threads, workers, SPINS, &[parts], &run);
    }
    serial(&[1], &run);
    Ok(())
}

/// Pixels of a tensor that lie evenly spaced, the longest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PixelRuns {
    Rows,
    Images,
    Batch,
}

impl PixelRuns {
    /// The longest runs of evenly spaced pixels.
    fn of(shape: Shape, strides: Strides) -> PixelRuns {
        let Shape { n, h, w, .. } = shape;
        let even = |runs: PixelRuns| {
            let [pixel, _] = runs.strides(shape, strides);
            let row = pixel.saturating_mul(w);
            (w <= 1 || strides.pixel == pixel)
                && (h <= 1 || strides.row == row)
                && (runs < PixelRuns::Batch || n <= 1 || strides.image == row.saturating_mul(h))
        };
        [PixelRuns::Batch, PixelRuns::Images].into_iter().find(|&runs| even(runs)).unwrap_or(PixelRuns::Rows)
    }

    fn count(self, Shape { n, h, .. }: Shape) -> usize {
        match self {
            PixelRuns::Rows => n * h,
            PixelRuns::Images => n,
            PixelRuns::Batch => 1,
        }
    }

    /// From one pixel of a run to the next, and from one channel to the next: 1 where there is no next one, since `gemm` counts with
    /// signed strides.
    fn strides(self, Shape { n, h, w, c }: Shape, strides: Strides) -> [usize; 2] {
        let axes = [(w, strides.pixel), (h, strides.row), (n, strides.image)];
        let axes = &axes[..1 + self as usize];
        let pixel = axes.iter().find(|(len, _)| *len > 1).map_or(1, |&(_, stride)| stride);
        [pixel, if c > 1 { strides.channel } else { 1 }]
    }

    /// The first value of a run.
    fn start(self, run: usize, Shape { h, .. }: Shape, strides: Strides) -> usize {
        // an axis of length 1 has any stride, multiplied by 0
        match self {
            PixelRuns::Rows => (run / h).wrapping_mul(strides.image) + (run % h).wrapping_mul(strides.row),
            PixelRuns::Images | PixelRuns::Batch => run.wrapping_mul(strides.image),
        }
    }
}

/// `y = activation(bias + x × w)` over pixels and outputs.
struct Product<'a> {
    k: usize,
    x: *const f32,
    /// From one pixel to the next, and from one channel to the next.
    x_strides: [usize; 2],
    w: *const f32,
    /// From one input to the next, and from one output to the next.
    w_strides: [usize; 2],
    bias: Option<&'a [f32]>,
    y: *mut f32,
    y_strides: [usize; 2],
    activation: Nonlinearity,
}

// SAFETY: threads write disjoint parts of `y`, and read the rest.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// A run whose first values are at `starts` of `x` and of `y`.
    ///
    /// # Safety
    /// `x` and `w` are readable, and `y` is writable, at these pixels and outputs, and no other thread reads or writes them in `y`.
    unsafe fn run(&self, starts: [usize; 2], pixels: Range<usize>, outputs: Range<usize>) {
        let (m, n) = (pixels.len(), outputs.len());
        let ([x_pixel, x_channel], [y_pixel, y_channel]) = (self.x_strides, self.y_strides);
        // SAFETY: the caller's. Strides are at most isize::MAX, since a slice holds as many values or they are 1.
        unsafe {
            let y = self.y.add(starts[1] + pixels.start * y_pixel + outputs.start * y_channel);
            let at = |p: usize, o: usize| y.add(p * y_pixel + o * y_channel);
            for p in 0..m {
                match self.bias {
                    // the channels of a pixel lie together
                    Some(bias) if y_channel == 1 => {
                        core::ptr::copy_nonoverlapping(bias[outputs.clone()].as_ptr(), at(p, 0), n);
                    }
                    None if y_channel == 1 => at(p, 0).write_bytes(0, n),
                    bias => {
                        for (o, output) in outputs.clone().enumerate() {
                            at(p, o).write(bias.map_or(0.0, |bias| bias[output]));
                        }
                    }
                }
            }
            gemm::gemm(
                m,
                n,
                self.k,
                y,
                y_channel as isize,
                y_pixel as isize,
                true,
                self.x.add(starts[0] + pixels.start * x_pixel),
                x_channel as isize,
                x_pixel as isize,
                self.w.add(outputs.start * self.w_strides[1]),
                self.w_strides[1] as isize,
                self.w_strides[0] as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
            // pixels of all channels, or each channel as a pixel of values that lie together, or apart
            let (calls, call, count, step, channels) = match self.y_strides {
                [_, 1] => (1, 0, m, y_pixel, n),
                [1, _] => (1, 0, n, y_channel, m),
                _ => (n, y_channel, m, y_pixel, 1),
            };
            // scalar kernels are there on every CPU
            let Some(kernels) = Kernels::available().next() else { unreachable!("no kernels") };
            for i in 0..calls {
                (kernels.activate)(&ActivateArgs {
                    ptr: y.add(i * call),
                    count,
                    pixels: PixelOffsets::Every(step),
                    channels,
                    panel: BLOCK,
                    whole: false,
                    activation: self.activation,
                    params: core::ptr::null(),
                });
            }
        }
    }
}
