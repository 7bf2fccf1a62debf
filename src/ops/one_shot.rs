//! A pointwise convolution with weights that nobody packed, on the `gemm` crate.

use core::ops::Range;

use sepconv_kernels::reference;

use crate::options::SPINS;
use crate::plan::share;
use crate::run::team::{Crew, serial};
use crate::threads::cores;
use crate::{Activation, Error, Filter, Result, Threads, View, ViewMut};

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
        return Err(Error::Channels { what: "one-shot pointwise input", expected: k, got: shape.c });
    }
    let expected = crate::Shape { c: n, ..shape };
    if output.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output", expected, got: output.shape() });
    }
    if shape.is_empty() {
        return Ok(());
    }
    let m = shape.pixels();
    // a pixel alone may have any stride, which `gemm` would negate
    let stride = |pixel_stride, channels| if m > 1 { pixel_stride } else { channels };
    let product = Product {
        k,
        x: input.data().as_ptr(),
        x_stride: stride(input.pixel_stride(), k),
        w: weights.data().as_ptr(),
        w_strides: weights.strides_io(),
        bias,
        y_stride: stride(output.pixel_stride(), n),
        y: output.data_mut().as_mut_ptr(),
        clamp: activation.bounds(),
    };
    let workers = threads.count().min(cores()).min(m.max(n));
    let worth = m.saturating_mul(n).saturating_mul(k) >= WORTH_SHARING;
    let parts = if worth { workers } else { 1 };
    let run = |_: usize, part: usize, _: usize| {
        let product = &product;
        let (pixels, outputs) = if m >= n { (share(m, parts, part), 0..n) } else { (0..m, share(n, parts, part)) };
        // SAFETY: the views hold `m` pixels of `k` and of `n` channels at these strides, the filter `k × n` weights. Parts share out
        // pixels or outputs, so no two write the same value.
        unsafe { product.run(pixels, outputs) }
    };
    if parts > 1 {
        return Crew::new(workers)?.run(&threads, SPINS, &[parts], &run);
    }
    serial(&[1], &run);
    Ok(())
}

/// `y = clamp(bias + x × w)` over pixels and outputs.
struct Product<'a> {
    k: usize,
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    /// From one input to the next, and from one output to the next.
    w_strides: [usize; 2],
    bias: Option<&'a [f32]>,
    y: *mut f32,
    y_stride: usize,
    clamp: [f32; 2],
}

// SAFETY: threads write disjoint parts of `y`, and read the rest.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// # Safety
    /// `x` and `w` are readable, and `y` is writable, at these pixels and outputs, and no other thread reads or writes them in `y`.
    unsafe fn run(&self, pixels: Range<usize>, outputs: Range<usize>) {
        let (m, n) = (pixels.len(), outputs.len());
        // SAFETY: the caller's. Strides are at most isize::MAX, since a slice holds as many values or they are of one pixel.
        unsafe {
            let y = self.y.add(pixels.start * self.y_stride + outputs.start);
            let rows = || (0..m).map(|p| core::slice::from_raw_parts_mut(y.add(p * self.y_stride), n));
            for pixel in rows() {
                match self.bias {
                    Some(bias) => pixel.copy_from_slice(&bias[outputs.clone()]),
                    None => pixel.fill(0.0),
                }
            }
            gemm::gemm(
                m,
                n,
                self.k,
                y,
                1,
                self.y_stride as isize,
                true,
                self.x.add(pixels.start * self.x_stride),
                1,
                self.x_stride as isize,
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
            for value in rows().flatten() {
                // as the kernels clamp: NaN passes
                *value = reference::clamp(*value, self.clamp);
            }
        }
    }
}
