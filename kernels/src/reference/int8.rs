//! Operators on quantized values, as plain loops.
//!
//! ```text
//!   acc = bias + Σ (x − zero) × w                              exact; padding is the zero point
//!   q   = clamp(rne(f32(acc) × m[c]) + zero_y)
//!   sum = clamp(((ma × (a − zero_a) + mb × (b − zero_b) + 2^(shift − 1)) >> shift) + zero_y)
//! ```

use super::{Tensor, TensorMut, Window, places};
use crate::{QuantizedSum, Requantize};

/// A convolution of quantized values.
#[derive(Clone, Copy, Debug)]
pub struct Int8Conv<'a> {
    /// The window.
    pub window: Window,
    /// `[rows, columns, inputs, outputs]`; of a depthwise convolution `[rows, columns, channels, multiplier]`.
    pub filter: &'a [i8],
    /// One for each output channel.
    pub bias: &'a [i32],
    /// The zero point of the input.
    pub zero: i32,
    /// One for each output channel.
    pub multipliers: &'a [f32],
    /// What becomes of a sum.
    pub requantize: Requantize,
}

/// What an exact sum becomes, with a value of another tensor where one is added.
pub fn requantized(sum: i64, multiplier: f32, requantize: &Requantize, residual: Option<u8>) -> u8 {
    let sum = i32::try_from(sum).expect("sums that fit an i32");
    let [least, most] = requantize.bounds;
    // f64 holds every i32, and adding the zero point to what was rounded
    let rounded = f64::from(libm::rintf(sum as f32 * multiplier)) + f64::from(requantize.zero);
    let value = rounded.clamp(f64::from(least), f64::from(most)) as i32;
    match (residual, &requantize.sum) {
        (Some(residual), Some(sum)) => added(sum, [value - requantize.zero, i32::from(residual) - sum.zeros[0]]),
        _ => value as u8,
    }
}

/// The sum of two values less their zero points.
pub fn added(sum: &QuantizedSum, values: [i32; 2]) -> u8 {
    let [a, b] = [0, 1].map(|i| i64::from(sum.multipliers[i]) * i64::from(values[i]));
    let value = ((a + b + (1 << (sum.shift - 1))) >> sum.shift) + i64::from(sum.zeros[1]);
    value.clamp(i64::from(sum.bounds[0]), i64::from(sum.bounds[1])) as u8
}

/// The quantized value of a real number; of NaN the least one.
pub fn quantized(v: f32, scale: f32, zero: i32) -> u8 {
    let value = libm::rintf(v * (1.0 / scale)) + zero as f32;
    if value.is_nan() { 0 } else { value.clamp(0.0, 255.0) as u8 }
}

/// The real number that a quantized value stands for.
pub fn dequantized(q: u8, scale: f32, zero: i32) -> f32 {
    (i32::from(q) - zero) as f32 * scale
}

/// A standard convolution, with an optional tensor of the output's shape that is added.
pub fn int8_conv(
    conv: &Int8Conv<'_>,
    input: Tensor<'_, u8>,
    residual: Option<Tensor<'_, u8>>,
    output: TensorMut<'_, u8>,
) {
    let (inputs, outputs) = (input.shape[3], output.shape[3]);
    each_sum(conv, input, residual, output, |pixel, tap, o| {
        let product = |c: usize| conv.product(pixel[c], (tap * inputs + c) * outputs + o);
        (0..inputs).map(product).sum()
    });
}

/// A depthwise convolution: output channel `c × multiplier + m` comes from input channel `c`.
pub fn int8_depthwise(conv: &Int8Conv<'_>, input: Tensor<'_, u8>, output: TensorMut<'_, u8>) {
    let outputs = output.shape[3];
    let multiplier = outputs / input.shape[3];
    each_sum(conv, input, None, output, |pixel, tap, o| conv.product(pixel[o / multiplier], tap * outputs + o));
}

impl Int8Conv<'_> {
    /// A value less the zero point, times the weight at a place of the filter.
    fn product(&self, value: u8, at: usize) -> i64 {
        i64::from(i32::from(value) - self.zero) * i64::from(self.filter[at])
    }
}

/// Each output value: the bias, and `of_tap(pixel, tap, output)` of every tap that lies in the plane.
fn each_sum(
    conv: &Int8Conv<'_>,
    input: Tensor<'_, u8>,
    residual: Option<Tensor<'_, u8>>,
    mut output: TensorMut<'_, u8>,
    of_tap: impl Fn(&[u8], usize, usize) -> i64,
) {
    let [batch, h, w, outputs] = output.shape;
    let [kh, kw] = conv.window.kernel;
    for (n, oy, ox) in places(batch, h, w) {
        for o in 0..outputs {
            let mut sum = i64::from(conv.bias[o]);
            for tap in 0..kh * kw {
                if let Some(pixel) = conv.window.tap(&input, n, [oy, ox], [tap / kw, tap % kw]) {
                    sum += of_tap(pixel, tap, o);
                }
            }
            let residual = residual.as_ref().map(|residual| residual.pixel(n, oy, ox)[o]);
            output.pixel(n, oy, ox)[o] = requantized(sum, conv.multipliers[o], &conv.requantize, residual);
        }
    }
}
