//! A pointwise convolution with weights that nobody packed, on the `gemm` crate.

use crate::options::Threads;
use crate::{Activation, Error, Filter, Result, View, ViewMut};

/// A pointwise convolution whose weights change at each call: nothing is planned or packed beforehand.
///
/// It runs on the `gemm` crate, which has its own order of summation: results are **not** those of
/// [`crate::PointwiseConv2d`] to the bit, and may differ from one machine to another. They stay within `(k + 2) × ε ×
/// Σ|x·w|` of the exact sum. It packs at every call, so weights that stay are better served by a plan.
///
/// `weights` is [`Filter::io`] or [`Filter::oi`]; `input` has its inputs for channels and `output` its outputs. With
/// [`Threads::Pool`] the work is shared by that pool.
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
            expected: "IO or OI",
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
    let m = shape.pixels();
    let out_stride = output.pixel_stride();
    let (in_stride, [w_k, w_n]) = (input.pixel_stride(), weights.strides_io());
    let out = output.data_mut();
    for p in 0..m {
        let pixel = &mut out[p * out_stride..p * out_stride + n];
        match bias {
            Some(bias) => pixel.copy_from_slice(bias),
            None => pixel.fill(0.0),
        }
    }
    let parallelism = match &threads {
        Threads::Serial => gemm::Parallelism::None,
        other => gemm::Parallelism::Rayon(other.count()),
    };
    let (x, w, y) = (input.data().as_ptr(), weights.data().as_ptr(), out.as_mut_ptr());
    // a wrapper, since pointers do not pass to another thread by themselves
    struct Operands(*mut f32, *const f32, *const f32);
    // SAFETY: the pool's thread works on them while the caller, who holds the borrows, waits
    unsafe impl Send for Operands {}
    let operands = Operands(y, x, w);
    let product = move || {
        let Operands(y, x, w) = { operands };
        // SAFETY: the views hold m pixels of k and of n channels at these strides, the filter k × n weights; strides
        // are below isize::MAX since the slices are.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y,
                1,
                out_stride as isize,
                true,
                x,
                1,
                in_stride as isize,
                w,
                w_n as isize,
                w_k as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    };
    match &threads {
        Threads::Pool(pool) => pool.install(product),
        _ => product(),
    }
    let [lo, hi] = activation.bounds();
    for p in 0..m {
        for v in &mut out[p * out_stride..p * out_stride + n] {
            // as the kernels clamp: NaN passes
            if lo > *v {
                *v = lo;
            }
            if hi < *v {
                *v = hi;
            }
        }
    }
    Ok(())
}
