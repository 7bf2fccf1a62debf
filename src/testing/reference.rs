//! The naive reference: every operator and both blocks as plain loops, in f32 and in f64.
//!
//! | operator | here |
//! |---|---|
//! | standard convolution | [`conv2d`] |
//! | pointwise convolution, dense layer | [`conv2d`] with [`Window::POINT`] |
//! | depthwise convolution, any multiplier | [`depthwise`] |
//! | global average | [`average_pool`] |
//! | maximum or mean over a window | [`pool`] |
//! | sum or product of two tensors | [`join`] |
//! | depthwise separable block | [`separable`] |
//! | inverted residual block | [`inverted_residual`] |
//! | batch norm | [`fold`], which puts it into filter and bias |
//!
//! The loops of single operators are those of `sepconv_kernels::reference`, and nothing of them is shared with any
//! kernel. They take f32, in either [`Arithmetic`], and f64; the order of every sum is that of the contract: rows,
//! columns and input channels of the window ascending, from the bias on.
//!
//! Sizes are trusted: a slice that is too short panics.
//!
//! ```
//! use sepconv::Arithmetic;
//! use sepconv::testing::reference::{Conv, Epilogue, Tensor, TensorMut, Window, conv2d};
//!
//! let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 1], before: [0, 1] };
//! let conv = Conv { window, filter: &[1.0, 10.0], bias: &[0.5], epilogue: Epilogue::NONE, params: &[] };
//! let mut out = [0.0; 2];
//! conv2d(
//!     &conv,
//!     Tensor { data: &[1.0, 2.0], shape: [1, 1, 2, 1], pixel_stride: 1 },
//!     None,
//!     TensorMut { data: &mut out, shape: [1, 1, 2, 1], pixel_stride: 1 },
//!     Arithmetic::Fused,
//! );
//! assert_eq!(out, [10.5, 21.5]);
//! ```

use sepconv_kernels::Arithmetic;
#[doc(inline)]
pub use sepconv_kernels::reference::{
    Conv, Number, Tensor, TensorMut, Window, average_pool, clamp, conv as conv2d, depthwise, join, pool,
};
#[doc(inline)]
pub use sepconv_kernels::{Epilogue, Join, Nonlinearity, PoolOf};

use crate::BatchNorm;

/// A depthwise separable block: a depthwise convolution, then a 1×1 convolution of what came out, both with their
/// activations.
///
/// `pointwise.window` is [`Window::POINT`], so the plane between the two is that of the output.
pub fn separable<T: Number>(
    depthwise: &Conv<'_, T>,
    pointwise: &Conv<'_, T>,
    input: Tensor<'_, T>,
    output: TensorMut<'_, T>,
    arithmetic: Arithmetic,
) {
    inverted_residual(None, depthwise, pointwise, false, input, output, arithmetic);
}

/// What stands before the depthwise convolution of an inverted residual block.
#[allow(clippy::exhaustive_structs, reason = "a literal, as all arguments of the reference are")]
#[derive(Clone, Copy, Debug)]
pub struct Expansion<'a, T> {
    /// The convolution, most often 1×1.
    pub conv: &'a Conv<'a, T>,
    /// Rows and columns of what it gives.
    pub plane: [usize; 2],
}

/// An inverted residual block: expand, depthwise, project by a 1×1 convolution, each with its activation. With a
/// shortcut the block's input is added to the projection's sum, before its activation; input and output then have one shape.
///
/// The last two have the plane of the output, since a projection keeps it.
pub fn inverted_residual<T: Number>(
    expand: Option<Expansion<'_, T>>,
    depthwise_conv: &Conv<'_, T>,
    project: &Conv<'_, T>,
    shortcut: bool,
    input: Tensor<'_, T>,
    output: TensorMut<'_, T>,
    arithmetic: Arithmetic,
) {
    let [batch, out_h, out_w, _] = output.shape;
    let expanded = expand.map(|Expansion { conv, plane: [h, w] }| {
        let mut expanded = Image::new([batch, h, w, conv.bias.len()]);
        conv2d(conv, input, None, expanded.write(), arithmetic);
        expanded
    });
    let mut filtered = Image::new([batch, out_h, out_w, depthwise_conv.bias.len()]);
    depthwise(depthwise_conv, expanded.as_ref().map_or(input, Image::read), filtered.write(), arithmetic);
    conv2d(project, filtered.read(), shortcut.then_some(input), output, arithmetic);
}

/// What lies between two convolutions.
struct Image<T> {
    data: Vec<T>,
    shape: [usize; 4],
}

impl<T: Number> Image<T> {
    fn new(shape: [usize; 4]) -> Self {
        Image { data: vec![T::ZERO; shape.iter().product()], shape }
    }

    fn read(&self) -> Tensor<'_, T> {
        Tensor { data: &self.data, shape: self.shape, pixel_stride: self.shape[3] }
    }

    fn write(&mut self) -> TensorMut<'_, T> {
        TensorMut { data: &mut self.data, shape: self.shape, pixel_stride: self.shape[3] }
    }
}

/// Filter and bias with a batch norm in them: `w × gamma / √(variance + ε)` and
/// `(b − mean) × gamma / √(variance + ε) + beta`, in f64. The contract rounds each of these once, by `as f32`.
///
/// Output channels come last in `filter`, as in HWIO, and in HWCM of a depthwise convolution; `bias` of none is zero.
pub fn fold(
    filter: &[f32],
    bias: Option<&[f32]>,
    batch_norm: Option<BatchNorm<'_>>,
    outputs: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut filter: Vec<f64> = filter.iter().map(|&w| f64::from(w)).collect();
    let mut bias: Vec<f64> = bias.map_or(vec![0.0; outputs], |bias| bias.iter().map(|&b| f64::from(b)).collect());
    if let Some(BatchNorm { gamma, beta, mean, variance, epsilon }) = batch_norm {
        for o in 0..outputs {
            let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[o]));
            let beta = beta.map_or(0.0, |beta| f64::from(beta[o]));
            let scale = gamma / (f64::from(variance[o]) + epsilon).sqrt();
            for w in filter.iter_mut().skip(o).step_by(outputs) {
                *w *= scale;
            }
            bias[o] = (bias[o] - f64::from(mean[o])) * scale + beta;
        }
    }
    (filter, bias)
}
