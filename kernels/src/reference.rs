//! The naive reference: the operators as plain loops, which define every bit of the results.
//!
//! ```text
//!   acc = bias
//!   for each tap, rows, columns and input channels ascending:   acc = acc + x × w     (padding takes part, as x = 0)
//!   out = activation(acc [+ residual]), or clamp(acc) + residual
//! ```
//!
//! The loops are one source for f32 and f64. In f32, [`Arithmetic`] says how a step is rounded, and kernels are held to
//! equal bits; in f64 the same loops tell how far f32 is from the truth. An output pixel is its own accumulator, so
//! that nothing is allocated and a compiler may take several output channels at once, which changes no order of any
//! sum.
//!
//! Nothing here is shared with the kernels, and nothing is fast: sizes are trusted, and a slice that is too short
//! panics.

mod activation;
mod int8;

use core::cmp::Ordering;
use core::ops::{Add, Div, Mul};

use crate::{Arithmetic, Epilogue, Join, Nonlinearity, PoolOf};
pub use int8::{Int8Conv, added, dequantized, int8_conv, int8_depthwise, quantized, requantized};

/// What the reference computes in: f32 or f64.
pub trait Number:
    sealed::SealedNumber + Copy + PartialOrd + Add<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// `0.0`, which padding reads as.
    const ZERO: Self;

    /// `self × w + acc`, rounded once.
    fn fused(self, w: Self, acc: Self) -> Self;

    /// A count of pixels, rounded as it must be.
    fn from_count(count: usize) -> Self;

    /// The same number.
    fn from_f32(v: f32) -> Self;

    /// A function of the value: in f32 by steps that are rounded so, in f64 as exactly as that goes.
    fn activate(self, activation: Nonlinearity, arithmetic: Arithmetic) -> Self;
}

mod sealed {
    #[allow(unnameable_types, reason = "its name is private so that no other crate implements it")]
    pub trait SealedNumber {}
    impl SealedNumber for f32 {}
    impl SealedNumber for f64 {}
}

macro_rules! number {
    ($($t:ident $fma:path, $activate:expr;)*) => {$(
        impl Number for $t {
            const ZERO: $t = 0.0;

            #[inline(always)]
            fn fused(self, w: $t, acc: $t) -> $t {
                // std's is one instruction where the features of the caller have it, which tests of whole networks need
                #[cfg(feature = "std")]
                return self.mul_add(w, acc);
                #[cfg(not(feature = "std"))]
                return $fma(self, w, acc);
            }

            #[inline(always)]
            fn from_count(count: usize) -> $t {
                count as $t
            }

            #[inline(always)]
            fn from_f32(v: f32) -> $t {
                v.into()
            }

            #[inline(always)]
            fn activate(self, activation: Nonlinearity, arithmetic: Arithmetic) -> $t {
                $activate(activation, self, arithmetic)
            }
        }
    )*};
}

number! {
    f32 libm::fmaf, activation::of_f32;
    f64 libm::fma, |activation, x, _| activation::of_f64(activation, x);
}

/// An NHWC tensor to read. Value `(n, y, x, c)` is at `((n × h + y) × w + x) × pixel_stride + c`.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a, T> {
    /// The values, from the first of the first pixel.
    pub data: &'a [T],
    /// Batch, rows, columns and channels.
    pub shape: [usize; 4],
    /// Values from one pixel to the next.
    pub pixel_stride: usize,
}

/// An NHWC tensor to write, laid out as in [`Tensor`]. Values between pixels are left as they are.
#[derive(Debug)]
pub struct TensorMut<'a, T> {
    /// The values, from the first of the first pixel.
    pub data: &'a mut [T],
    /// Batch, rows, columns and channels.
    pub shape: [usize; 4],
    /// Values from one pixel to the next.
    pub pixel_stride: usize,
}

impl<'a, T> Tensor<'a, T> {
    #[inline(always)]
    fn pixel(&self, n: usize, y: usize, x: usize) -> &'a [T] {
        let [_, h, w, c] = self.shape;
        &self.data[((n * h + y) * w + x) * self.pixel_stride..][..c]
    }
}

impl<T> TensorMut<'_, T> {
    #[inline(always)]
    fn pixel(&mut self, n: usize, y: usize, x: usize) -> &mut [T] {
        let [_, h, w, c] = self.shape;
        &mut self.data[((n * h + y) * w + x) * self.pixel_stride..][..c]
    }
}

/// A window that slides over a plane; every pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Pixels that it moves at each step.
    pub stride: [usize; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
    /// Pixels of padding above and to the left. Those below and to the right follow from the size of the output.
    pub before: [usize; 2],
}

impl Window {
    /// The window of a 1×1 convolution.
    pub const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0] };

    /// The input pixel that tap `(ky, kx)` of output pixel `(oy, ox)` reads, or `None` in padding.
    #[inline(always)]
    fn tap<'a, T>(
        &self,
        input: &Tensor<'a, T>,
        n: usize,
        [oy, ox]: [usize; 2],
        [ky, kx]: [usize; 2],
    ) -> Option<&'a [T]> {
        let [_, h, w, _] = input.shape;
        let y = (oy * self.stride[0] + ky * self.dilation[0]).checked_sub(self.before[0])?;
        let x = (ox * self.stride[1] + kx * self.dilation[1]).checked_sub(self.before[1])?;
        if y < h && x < w { Some(input.pixel(n, y, x)) } else { None }
    }
}

/// A convolution: what it multiplies by, and what it does to the sum.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a, T> {
    /// The window.
    pub window: Window,
    /// `[rows, columns, inputs, outputs]`; of a depthwise convolution `[rows, columns, channels, multiplier]`.
    pub filter: &'a [T],
    /// One value for each output channel.
    pub bias: &'a [T],
    /// What becomes of a sum: [`Epilogue::NONE`] for nothing.
    pub epilogue: Epilogue,
    /// Of an activation by channel, the parameters of each output channel ([`Nonlinearity::of_channel`]); else empty.
    pub params: &'a [[f32; 2]],
}

/// `min(max(lo, v), hi)`, where a comparison with NaN is false: NaN passes, and so does a −0 that meets a bound of 0.
#[inline(always)]
pub fn clamp<T: PartialOrd>(v: T, [lo, hi]: [T; 2]) -> T {
    let v = if lo > v { lo } else { v };
    if hi < v { hi } else { v }
}

/// What the epilogue makes of the sums of a pixel, and of a residual.
#[inline(always)]
fn finish<T: Number>(
    sums: &mut [T],
    (epilogue, params): (&Epilogue, &[[f32; 2]]),
    residual: Option<&[T]>,
    arithmetic: Arithmetic,
) {
    let add = |sums: &mut [T]| {
        for (sum, &residual) in sums.iter_mut().zip(residual.into_iter().flatten()) {
            *sum = *sum + residual;
        }
    };
    if !epilogue.adds_last() {
        add(sums);
    }
    match epilogue.activation() {
        Nonlinearity::Clamp(bounds) => {
            let bounds = bounds.map(T::from_f32);
            sums.iter_mut().for_each(|sum| *sum = clamp(*sum, bounds));
        }
        activation if activation.is_by_channel() => {
            for (c, sum) in sums.iter_mut().enumerate() {
                *sum = sum.activate(activation.of_channel(params[c]), arithmetic);
            }
        }
        activation => sums.iter_mut().for_each(|sum| *sum = sum.activate(activation, arithmetic)),
    }
    if epilogue.adds_last() {
        add(sums);
    }
}

/// A standard convolution, with an optional tensor of the output's shape that is added before the activation, or behind it.
pub fn conv<T: Number>(
    conv: &Conv<'_, T>,
    input: Tensor<'_, T>,
    residual: Option<Tensor<'_, T>>,
    output: TensorMut<'_, T>,
    arithmetic: Arithmetic,
) {
    enter(StandardNest { conv, input, residual, output }, arithmetic);
}

/// A depthwise convolution: output channel `c × multiplier + m` comes from input channel `c`.
pub fn depthwise<T: Number>(
    conv: &Conv<'_, T>,
    input: Tensor<'_, T>,
    output: TensorMut<'_, T>,
    arithmetic: Arithmetic,
) {
    enter(DepthwiseNest { conv, input, output }, arithmetic);
}

/// The mean of each channel over the whole plane: a sum by a tree, then one division by the number of pixels.
///
/// The pixels, row by row, are parted into leaves of 256, of which the last may have fewer. Pixel `p` of a leaf is added to sum `p % 8`, and
/// these are added up in neighbouring pairs, then pairs of these. So are the leaves, in their order: two sums of as many leaves become
/// one, and what is left at the end is added up from the fewest leaves to the most.
pub fn average_pool<T: Number>(input: Tensor<'_, T>, mut output: TensorMut<'_, T>) {
    let [batch, h, w, channels] = input.shape;
    for n in 0..batch {
        for c in 0..channels {
            // of 2^level leaves, where bit `level` of `leaves` is set
            let (mut sums, mut leaves) = ([T::ZERO; usize::BITS as usize], 0_usize);
            for first in (0..h * w).step_by(LEAF) {
                let of = |p: usize| input.pixel(n, (first + p) / w, (first + p) % w)[c];
                let mut sum = leaf(LEAF.min(h * w - first), of);
                let mut level = 0;
                while leaves >> level & 1 == 1 {
                    sum = sums[level] + sum;
                    level += 1;
                }
                sums[level] = sum;
                leaves += 1;
            }
            let mut kept = (0..sums.len()).filter(|level| leaves >> level & 1 == 1).map(|level| sums[level]);
            let fewest = kept.next().unwrap_or(T::ZERO);
            output.pixel(n, 0, 0)[c] = kept.fold(fewest, |few, many| many + few) / T::from_count(h * w);
        }
    }
}

/// The sum or the product of two tensors, then an activation, with parameters as [`Conv::params`]. `y` has the plane of the output, or one
/// pixel for each image.
pub fn join<T: Number>(
    (join, epilogue, params): (Join, Epilogue, &[[f32; 2]]),
    x: Tensor<'_, T>,
    y: Tensor<'_, T>,
    mut output: TensorMut<'_, T>,
    arithmetic: Arithmetic,
) {
    let [batch, h, w, channels] = output.shape;
    let one = y.shape[1] * y.shape[2] == 1;
    for (n, oy, ox) in places(batch, h, w) {
        let (x, y) = (x.pixel(n, oy, ox), if one { y.pixel(n, 0, 0) } else { y.pixel(n, oy, ox) });
        let to = output.pixel(n, oy, ox);
        for c in 0..channels {
            to[c] = match join {
                Join::Sum => x[c] + y[c],
                Join::Product => x[c] * y[c],
            };
        }
        finish(to, (&epilogue, params), None, arithmetic);
    }
}

/// Of each window, the largest value or the mean. Padding takes no part in a maximum, and adds nothing to a sum.
pub fn pool<T: Number>(of: PoolOf, window: &Window, input: Tensor<'_, T>, mut output: TensorMut<'_, T>) {
    let [batch, h, w, channels] = output.shape;
    let [kh, kw] = window.kernel;
    for (n, oy, ox) in places(batch, h, w) {
        for c in 0..channels {
            let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| [ky, kx]));
            let mut taps = taps.filter_map(|tap| window.tap(&input, n, [oy, ox], tap)).map(|pixel| pixel[c]);
            let first = taps.next().unwrap_or(T::ZERO);
            let (mut inside, mut value) = (1, first);
            for x in taps {
                inside += 1;
                value = match of {
                    PoolOf::Maximum => larger(value, x),
                    PoolOf::MeanInside | PoolOf::MeanOfAll { .. } => value + x,
                };
            }
            output.pixel(n, oy, ox)[c] = match of {
                PoolOf::Maximum => value,
                PoolOf::MeanInside => value / T::from_count(inside),
                PoolOf::MeanOfAll { taps } => value / T::from_count(taps),
            };
        }
    }
}

/// The larger value; NaN where one of them is NaN.
fn larger<T: Number>(v: T, x: T) -> T {
    match v.partial_cmp(&x) {
        Some(Ordering::Greater) => v,
        Some(Ordering::Less | Ordering::Equal) => x,
        // one of them is NaN
        None if v.partial_cmp(&v).is_some() => x,
        None => v,
    }
}

fn places(batch: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).flat_map(move |n| (0..h).flat_map(move |y| (0..w).map(move |x| (n, y, x))))
}

/// Pixels of a leaf, and sums of it.
const LEAF: usize = 256;
const GROUP: usize = 8;

/// The sum of the pixels of a leaf.
fn leaf<T: Number>(pixels: usize, of: impl Fn(usize) -> T) -> T {
    let mut sums = [T::ZERO; GROUP];
    for p in 0..pixels {
        sums[p % GROUP] = if p < GROUP { of(p) } else { sums[p % GROUP] + of(p) };
    }
    let mut left = pixels.min(GROUP);
    while left > 1 {
        for pair in 0..left / 2 {
            sums[pair] = sums[2 * pair] + sums[2 * pair + 1];
        }
        if left % 2 == 1 {
            sums[left / 2] = sums[left - 1];
        }
        left = left.div_ceil(2);
    }
    sums[0]
}

struct StandardNest<'a, T> {
    conv: &'a Conv<'a, T>,
    input: Tensor<'a, T>,
    residual: Option<Tensor<'a, T>>,
    output: TensorMut<'a, T>,
}

impl<T: Number> LoopNest for StandardNest<'_, T> {
    #[inline(always)]
    fn run<S: Rounding>(mut self) {
        let Conv { window, filter, bias, epilogue, params } = *self.conv;
        let [kh, kw] = window.kernel;
        let [batch, out_h, out_w, outputs] = self.output.shape;
        let inputs = self.input.shape[3];
        for n in 0..batch {
            for oy in 0..out_h {
                for ox in 0..out_w {
                    let acc = self.output.pixel(n, oy, ox);
                    acc.copy_from_slice(bias);
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let pixel = window.tap(&self.input, n, [oy, ox], [ky, kx]);
                            for ic in 0..inputs {
                                let x = pixel.map_or(T::ZERO, |pixel| pixel[ic]);
                                let weights = &filter[((ky * kw + kx) * inputs + ic) * outputs..][..outputs];
                                for oc in 0..outputs {
                                    acc[oc] = S::step(acc[oc], x, weights[oc]);
                                }
                            }
                        }
                    }
                    let residual = self.residual.as_ref().map(|residual| residual.pixel(n, oy, ox));
                    finish(acc, (&epilogue, params), residual, S::ARITHMETIC);
                }
            }
        }
    }
}

struct DepthwiseNest<'a, T> {
    conv: &'a Conv<'a, T>,
    input: Tensor<'a, T>,
    output: TensorMut<'a, T>,
}

impl<T: Number> LoopNest for DepthwiseNest<'_, T> {
    #[inline(always)]
    fn run<S: Rounding>(mut self) {
        let Conv { window, filter, bias, epilogue, params } = *self.conv;
        let [kh, kw] = window.kernel;
        let [batch, out_h, out_w, outputs] = self.output.shape;
        let inputs = self.input.shape[3];
        let multiplier = outputs / inputs;
        for n in 0..batch {
            for oy in 0..out_h {
                for ox in 0..out_w {
                    let acc = self.output.pixel(n, oy, ox);
                    acc.copy_from_slice(bias);
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let pixel = window.tap(&self.input, n, [oy, ox], [ky, kx]);
                            let weights = &filter[(ky * kw + kx) * outputs..][..outputs];
                            for c in 0..inputs {
                                let x = pixel.map_or(T::ZERO, |pixel| pixel[c]);
                                for oc in c * multiplier..(c + 1) * multiplier {
                                    acc[oc] = S::step(acc[oc], x, weights[oc]);
                                }
                            }
                        }
                    }
                    finish(acc, (&epilogue, params), None, S::ARITHMETIC);
                }
            }
        }
    }
}

/// One step of a sum: the only place where the two kinds of [`Arithmetic`] differ.
trait Rounding {
    const ARITHMETIC: Arithmetic;

    fn step<T: Number>(acc: T, x: T, w: T) -> T;
}

enum RoundedOnce {}

impl Rounding for RoundedOnce {
    const ARITHMETIC: Arithmetic = Arithmetic::Fused;

    #[inline(always)]
    fn step<T: Number>(acc: T, x: T, w: T) -> T {
        x.fused(w, acc)
    }
}

enum RoundedTwice {}

impl Rounding for RoundedTwice {
    const ARITHMETIC: Arithmetic = Arithmetic::Separate;

    #[inline(always)]
    fn step<T: Number>(acc: T, x: T, w: T) -> T {
        acc + x * w
    }
}

/// Loops over outputs and taps, for either rounding.
trait LoopNest {
    fn run<S: Rounding>(self);
}

fn enter(loops: impl LoopNest, arithmetic: Arithmetic) {
    match arithmetic {
        Arithmetic::Separate => loops.run::<RoundedTwice>(),
        Arithmetic::Fused => {
            // of the CPU: these loops need no kernels
            #[cfg(target_arch = "x86_64")]
            if crate::cpu::has_avx2() {
                // SAFETY: the CPU has AVX2 and FMA.
                return unsafe { with_fma(loops) };
            }
            loops.run::<RoundedOnce>();
        }
    }
}

/// The same loops where a fused multiply-add is an instruction and not a call: its bits are the same, its time is not.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_fma<L: LoopNest>(loops: L) {
    loops.run::<RoundedOnce>();
}
