//! Activations, as plain steps: in f32 by the same steps as any kernel's, in f64 as libm has them.

use crate::{Arithmetic, Nonlinearity};

/// The caller replaces an activation by channel by the activation of one channel (`Nonlinearity::of_channel`).
const BY_CHANNEL: &str = "an activation by channel is that of a channel before it is of a value";

/// An activation in f32.
pub(super) fn of_f32(activation: Nonlinearity, x: f32, arithmetic: Arithmetic) -> f32 {
    let steps = Steps(arithmetic);
    match activation {
        Nonlinearity::Clamp(bounds) => super::clamp(x, bounds),
        Nonlinearity::HardSwish => x * hard_sigmoid(x),
        Nonlinearity::HardSigmoid => hard_sigmoid(x),
        Nonlinearity::Sigmoid => steps.logistic(1.0, [-x.abs(), 0.0], x < 0.0),
        Nonlinearity::Silu => steps.logistic(x, [-x.abs(), 0.0], x < 0.0),
        Nonlinearity::Tanh => steps.tanh(x),
        Nonlinearity::Gelu => {
            let [w, rest] = steps.exponent_of_gelu(super::clamp(x.abs(), [0.0, 16.0]));
            steps.logistic(x, [-w, -rest], x < 0.0)
        }
        Nonlinearity::LeakyRelu(slope) => x * if x < 0.0 { slope } else { 1.0 },
        Nonlinearity::PRelu | Nonlinearity::ClampByChannel => unreachable!("{BY_CHANNEL}"),
    }
}

/// An activation in f64, by forms in which nothing cancels.
pub(super) fn of_f64(activation: Nonlinearity, x: f64) -> f64 {
    let silu = |x: f64, exponent: f64| x / (1.0 + libm::exp(-exponent));
    match activation {
        Nonlinearity::Clamp(bounds) => super::clamp(x, bounds.map(f64::from)),
        Nonlinearity::HardSwish => x * super::clamp(x + 3.0, [0.0, 6.0]) / 6.0,
        Nonlinearity::HardSigmoid => super::clamp(x + 3.0, [0.0, 6.0]) / 6.0,
        Nonlinearity::Sigmoid => silu(1.0, x),
        Nonlinearity::Silu => silu(x, x),
        Nonlinearity::Tanh => libm::tanh(x),
        // (1 + tanh u) / 2 = 1 / (1 + e^−2u)
        Nonlinearity::Gelu => {
            silu(x, 2.0 * core::f64::consts::FRAC_2_SQRT_PI / core::f64::consts::SQRT_2 * (x + 0.044715 * x * x * x))
        }
        Nonlinearity::LeakyRelu(slope) => {
            if x < 0.0 {
                x * f64::from(slope)
            } else {
                x
            }
        }
        Nonlinearity::PRelu | Nonlinearity::ClampByChannel => unreachable!("{BY_CHANNEL}"),
    }
}

fn hard_sigmoid(x: f32) -> f32 {
    super::clamp(x + 3.0, [0.0, 6.0]) * (1.0 / 6.0)
}

/// The steps, rounded as an [`Arithmetic`] rounds them.
#[derive(Clone, Copy)]
struct Steps(Arithmetic);

impl Steps {
    /// `acc + x × w`.
    fn step(self, x: f32, w: f32, acc: f32) -> f32 {
        match self.0 {
            Arithmetic::Fused => super::Number::fused(x, w, acc),
            Arithmetic::Separate => acc + x * w,
        }
    }

    /// A product, and what it was rounded by.
    fn product(self, a: f32, b: f32) -> [f32; 2] {
        let product = a * b;
        if self.0 == Arithmetic::Fused {
            return [product, self.step(a, b, -product)];
        }
        let high = |v: f32| f32::from_bits(v.to_bits() & !0xfff);
        let (a_high, b_high) = (high(a), high(b));
        let (a_low, b_low) = (a - a_high, b - b_high);
        [product, a_high * b_high - product + a_high * b_low + a_low * b_high + a_low * b_low]
    }

    /// `2^(n + scale)` and `e^r − 1` of `z = n ln 2 + r`.
    fn reduce(self, z: [f32; 2], scale: i32) -> [f32; 2] {
        let round = 12_582_912.0 + (127 + scale) as f32;
        let shifted = self.step(z[0], core::f32::consts::LOG2_E, round);
        let n = shifted - round;
        let r = self.step(n, -355.0 / 512.0, z[0]);
        let r = self.step(n, 0.000_212_194_44, r) + z[1];
        let powers = [0.008_363_353, 0.041_666_552, 0.166_665_76, 0.5];
        let q = powers.into_iter().fold(0.001_392_64, |q, c| self.step(r, q, c));
        [f32::from_bits(shifted.to_bits() << 23), self.step(r * r, q, r)]
    }

    /// `x / (1 + e^z)`, times `e^z` where it is `negative`.
    fn logistic(self, x: f32, z: [f32; 2], negative: bool) -> f32 {
        let down = f32::from_bits((127 - 64) << 23);
        let [power, rest] = self.reduce([super::clamp(z[0], [-132.4, 0.0]), z[1]], 64);
        let t = (rest + 1.0) * power;
        let (numerator, scale) = if negative { (x * t, down) } else { (x, 1.0) };
        numerator / self.step(t, down, 1.0) * scale
    }

    fn tanh(self, x: f32) -> f32 {
        let z = super::clamp(-x.abs() * 2.0, [-40.0, 0.0]);
        let [power, rest] = self.reduce([z, 0.0], 0);
        let q = self.step(power, rest, power - 1.0);
        (q / (q + 2.0)).abs().copysign(x)
    }

    /// `2 √(2/π) (x + 0.044715 x³)`, as the sum of two floats.
    fn exponent_of_gelu(self, x: f32) -> [f32; 2] {
        let (linear, cubic) = ([1.595_769_2, -4.534_068e-8], [0.071_354_814, 2.398_832_5e-9]);
        let [square, square_rest] = self.product(x, x);
        let [term, term_rest] = self.product(square, cubic[0]);
        let sum = linear[0] + term;
        let of_term = sum - linear[0];
        let lost = (linear[0] - (sum - of_term)) + (term - of_term);
        let rest = self.step(square_rest, cubic[0], lost + term_rest) + linear[1];
        let rest = self.step(square, cubic[1], rest);
        let [w, w_rest] = self.product(x, sum);
        [w, self.step(x, rest, w_rest)]
    }
}
