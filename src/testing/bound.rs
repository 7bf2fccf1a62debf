//! How far from f64 an f32 result may be: one interval for each value of the output.
//!
//! # The bound
//!
//! A sum of `n` products in f32, in whatever order it is added up, with products rounded by themselves or fused into
//! the sum, is off by at most
//!
//! ```text
//!   γₙ Σ|x × w|,    γₙ = n u / (1 − n u),    u = 2⁻²⁴
//! ```
//!
//! (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, SIAM 2002: the inner product is eq.
//! 3.4 and lemma 3.1, any order of summation §4.2. A fused product only leaves roundings out.) Here
//!
//! - `n` is the taps, one for the bias, one for the shortcut, and 8 for a batch norm, which is what folding it or applying it
//!   behind the sum rounds at most; `Σ|x × w|` has the bias's and the shortcut's magnitude in it, and with a batch norm
//!   `(|bias| + |mean|) × |scale| + |beta|`;
//! - every product may lose half of the smallest denormal, 2⁻¹⁵⁰, to underflow (§2.1, the model with underflow). Where
//!   denormals are flushed it is 2⁻¹²⁵, and denormal operands may be lost as a whole;
//! - behind the first convolution inputs come with errors of their own. An error `e` adds `Σ e × |w|`, and `Σ|x × w|` is taken
//!   with `|x| + e`;
//! - a clamp makes no error larger, and its bounds are bounds of the interval too.
//!
//! All of it is computed in f64 by the reference's own loops.
//!
//! What has no bound is not compared: a sum whose magnitude is beyond f32 overflows in one order and not in another.

use sepconv_kernels::Arithmetic;

use super::problem::{Problem, Stage, StageKind, tensor, tensor_mut, values_of};
use super::reference::{self, clamp};
use super::{Denormals, InfPolicy, NanPolicy, PaddingPolicy};
use crate::Shape;

/// 2⁻²⁴: half the distance from 1 to the next f32.
const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;

/// What is taken for one value of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expected {
    /// A number between two others.
    Within {
        value: f64,
        lo: f64,
        hi: f64,
    },
    Nan,
    Unchecked(Why),
}

/// Why a value is not compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Why {
    /// The order of the sum decides whether it overflows, or an underflow whether an infinity was multiplied by zero.
    Order,
    /// A policy of the check.
    Policy,
}

/// What the check says of numbers that are no numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policies {
    pub(super) nan: NanPolicy,
    pub(super) inf: InfPolicy,
    pub(super) padding: PaddingPolicy,
    pub(super) denormals: Denormals,
    pub(super) slack: f64,
}

/// A tensor as far as it is known: dense NHWC.
struct Known {
    shape: Shape,
    values: Vec<Expected>,
}

/// What is taken for each value of the output: dense NHWC.
pub(super) fn expected(problem: &Problem, policies: &Policies) -> Vec<Expected> {
    let exact = |&v: &f32| {
        let value = f64::from(v);
        settle(value, 0.0, [f64::NEG_INFINITY, f64::INFINITY], policies)
    };
    let mut known = vec![Known { shape: problem.input_shape(), values: problem.values().iter().map(exact).collect() }];
    for (at, stage) in problem.stages().iter().enumerate() {
        let shortcut = stage.shortcut_from().map(|from| &known[from]);
        known.push(Known { shape: stage.output_shape(), values: through(stage, &known[at], shortcut, policies) });
    }
    known.pop().map_or(vec![], |known| known.values)
}

/// What is known of a value behind its clamp, given it before the clamp and the bound on its error.
fn settle(value: f64, error: f64, bounds: [f64; 2], policies: &Policies) -> Expected {
    if value.is_nan() {
        return match policies.nan {
            NanPolicy::Same => Expected::Nan,
            NanPolicy::MayBeLost | NanPolicy::Unchecked => Expected::Unchecked(Why::Policy),
        };
    }
    if value.is_infinite() {
        if policies.inf == InfPolicy::Unchecked {
            return Expected::Unchecked(Why::Policy);
        }
        let value = clamp(value, bounds);
        return Expected::Within { value, lo: value, hi: value };
    }
    let [lo, hi] = [value - error, value + error].map(|v| clamp(v, bounds));
    Expected::Within { value: clamp(value, bounds), lo, hi }
}

/// Sums of a stage over tensors in f64, nothing clamped.
struct Loops<'a> {
    stage: &'a Stage,
    input: Shape,
}

impl Loops<'_> {
    fn sum(&self, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
        let output = self.stage.output_shape();
        let mut sums = vec![0.0; values_of(output)];
        let free = [f64::NEG_INFINITY, f64::INFINITY];
        let conv = reference::Conv { window: self.stage.window(), filter: w, bias, clamp: free };
        let (from, to) = (tensor(x, self.input), tensor_mut(&mut sums, output));
        match self.stage.kind() {
            StageKind::AveragePool => reference::average_pool(from, to),
            StageKind::Depthwise => reference::depthwise(&conv, from, to, Arithmetic::Separate),
            StageKind::Standard => reference::conv2d(&conv, from, None, to, Arithmetic::Separate),
        }
        sums
    }

    /// Outputs that some marked input and some marked weight meet in; `None` where nothing is marked.
    fn meet(&self, x: impl Iterator<Item = bool>, w: &[f64]) -> Option<Vec<bool>> {
        let x: Vec<f64> = x.map(|marked| f64::from(u8::from(marked))).collect();
        if x.iter().all(|&v| v == 0.0) || w.iter().all(|&v| v == 0.0) {
            return None;
        }
        Some(self.sum(&x, w, &vec![0.0; self.stage.output_shape().c]).into_iter().map(|v| v > 0.0).collect())
    }
}

fn finite(v: f64) -> f64 {
    if v.is_finite() { v } else { 0.0 }
}

fn marks(values: &[f64], mark: impl Fn(f64) -> bool) -> Vec<f64> {
    values.iter().map(|&v| f64::from(u8::from(mark(v)))).collect()
}

/// One stage: what is known of its output, given what is known of its input.
fn through(stage: &Stage, input: &Known, shortcut: Option<&Known>, policies: &Policies) -> Vec<Expected> {
    let loops = Loops { stage, input: input.shape };
    let outputs = stage.output_shape().c;
    let flush = policies.denormals == Denormals::MayBeFlushed;
    let denormal = |v: f64| if flush && v.abs() < f64::from(f32::MIN_POSITIVE) { v.abs() } else { 0.0 };

    // what is not known counts as zero here, and marks what it comes into below
    let value_of = |known: &Expected| match *known {
        Expected::Within { value, .. } => value,
        Expected::Nan => f64::NAN,
        Expected::Unchecked(_) => 0.0,
    };
    let error_of = |known: &Expected| match *known {
        Expected::Within { value, lo, hi } if value.is_finite() => (hi - value).max(value - lo) + denormal(value),
        _ => 0.0,
    };
    let x: Vec<f64> = input.values.iter().map(value_of).collect();
    let x_error: Vec<f64> = input.values.iter().map(error_of).collect();
    let x_size: Vec<f64> = x.iter().zip(&x_error).map(|(&x, e)| finite(x).abs() + e).collect();

    let (w, bias) = stage.folded();
    let w_size: Vec<f64> = w.iter().map(|&w| finite(w).abs()).collect();
    let raw: Vec<f64> = stage.canonical_filter().iter().map(|&w| finite(f64::from(w)).abs()).collect();
    let raw_bias = |o: usize| stage.bias().map_or(0.0, |bias| finite(f64::from(bias[o])).abs());
    // magnitudes of what is added to the sum, behind and before the batch norm
    let (mut bias_size, mut raw_bias_size, mut scales) = (vec![0.0; outputs], vec![0.0; outputs], vec![1.0; outputs]);
    for o in 0..outputs {
        raw_bias_size[o] = raw_bias(o);
        bias_size[o] = raw_bias_size[o];
        if let Some(norm) = stage.batch_norm() {
            let gamma = norm.gamma.map_or(1.0, |gamma| f64::from(gamma[o]));
            let beta = norm.beta.map_or(0.0, |beta| f64::from(beta[o]));
            scales[o] = (gamma / (f64::from(norm.variance[o]) + norm.epsilon).sqrt()).abs();
            raw_bias_size[o] += f64::from(norm.mean[o]).abs();
            bias_size[o] = raw_bias_size[o] * scales[o] + beta.abs();
        }
    }

    let mut sums = loops.sum(&x, &w, &bias);
    let mut sizes = loops.sum(&x_size, &w_size, &bias_size);
    let nothing = vec![0.0; outputs];
    let mut carried = vec![0.0; sums.len()];
    let mut carry = |errors: Vec<f64>| carried.iter_mut().zip(errors).for_each(|(all, error)| *all += error);
    if x_error.iter().any(|&e| e > 0.0) {
        carry(loops.sum(&x_error, &w_size, &nothing));
    }
    if flush {
        let lost: Vec<f64> = w.iter().zip(&raw).map(|(&w, &raw)| denormal(w).max(denormal(raw))).collect();
        if lost.iter().any(|&w| w > 0.0) {
            carry(loops.sum(&x_size, &lost, &nothing));
        }
    }
    // the largest partial sum that there may be, the one before the batch norm among them
    let mut largest = sizes.clone();
    if stage.batch_norm().is_some() {
        let before = loops.sum(&x_size, &raw, &raw_bias_size);
        largest.iter_mut().zip(&before).for_each(|(largest, before)| *largest = before.max(*largest));
        // a small weight that the batch norm makes smaller may lose bits to underflow
        let tiny = w.iter().any(|&w| w != 0.0 && w.abs() < f64::from(f32::MIN_POSITIVE) * 16.0);
        if tiny {
            let lost = vec![4.0 * if flush { f64::from(f32::MIN_POSITIVE) } else { 2f64.powi(-150) }; w.len()];
            carry(loops.sum(&x_size, &lost, &nothing));
        }
    }
    if stage.kind() == StageKind::AveragePool {
        let pixels = (input.shape.h * input.shape.w) as f64;
        largest.iter_mut().for_each(|v| *v *= pixels);
    }

    // where an unknown or a doubtful operand comes in
    let mut unknown: Vec<Option<Why>> = vec![None; sums.len()];
    // an average has no weights: any will do
    let ones = vec![1.0; w.len().max(1)];
    let mut spread = |marked: Option<Vec<bool>>, why: Why| {
        for (unknown, _) in unknown.iter_mut().zip(marked.into_iter().flatten()).filter(|(_, marked)| *marked) {
            *unknown = Some(why);
        }
    };
    for why in [Why::Order, Why::Policy] {
        spread(loops.meet(input.values.iter().map(|known| *known == Expected::Unchecked(why)), &ones), why);
    }
    // zero or not, positive or negative: times an infinity it is all the same one thing or another
    let doubtful =
        |known: &Expected| matches!(*known, Expected::Within { lo, hi, .. } if lo < hi && lo <= 0.0 && hi >= 0.0);
    let w_odd = marks(&w, |w| !w.is_finite());
    spread(loops.meet(input.values.iter().map(doubtful), &w_odd), Why::Order);
    let w_doubtful = if stage.batch_norm().is_some() || flush {
        marks(&w, |w| w != 0.0 && w.abs() < f64::from(f32::MIN_POSITIVE))
    } else {
        vec![0.0; w.len()]
    };
    spread(loops.meet(x.iter().map(|x| !x.is_finite()), &w_doubtful), Why::Order);
    if flush {
        let lost = x.iter().map(|&x| x != 0.0 && x.abs() < f64::from(f32::MIN_POSITIVE));
        spread(loops.meet(lost, &w_odd), Why::Order);
    }
    if policies.padding == PaddingPolicy::Skipped && w_odd.iter().any(|&w| w > 0.0) {
        // weights that are no numbers, as many as there are, against those that meet the plane
        let met = loops.sum(&vec![1.0; x.len()], &w_odd, &nothing);
        let inner = w_odd.len() / outputs;
        let all: Vec<f64> = (0..outputs).map(|o| (0..inner).map(|i| w_odd[i * outputs + o]).sum()).collect();
        spread(Some(met.iter().enumerate().map(|(at, &met)| met < all[at % outputs]).collect()), Why::Policy);
    }
    // a folded weight beyond f32 is infinite where a batch norm is folded, and a number where it comes behind the sum
    let beyond = |v: f64| v.is_finite() && v.abs() >= f64::from(f32::MAX) * (1.0 - 16.0 * UNIT_ROUNDOFF);
    if stage.batch_norm().is_some() && w.iter().chain(&bias).any(|&v| beyond(v)) {
        let mut channels: Vec<bool> = bias.iter().map(|&b| beyond(b)).collect();
        w.iter().enumerate().for_each(|(at, &w)| channels[at % outputs] |= beyond(w));
        spread(Some((0..sums.len()).map(|at| channels[at % outputs]).collect()), Why::Order);
    }
    // a weight or a bias that a policy leaves open, leaves its whole channel open: padding meets it too
    let open = |v: f64| {
        (v.is_nan() && policies.nan != NanPolicy::Same) || (v.is_infinite() && policies.inf == InfPolicy::Unchecked)
    };
    let mut channels: Vec<bool> = bias.iter().map(|&b| open(b)).collect();
    w.iter().enumerate().for_each(|(at, &w)| channels[at % outputs] |= open(w));
    spread(Some((0..sums.len()).map(|at| channels[at % outputs]).collect()), Why::Policy);

    if let Some(shortcut) = shortcut {
        for (at, known) in shortcut.values.iter().enumerate() {
            let (value, error) = (value_of(known), error_of(known));
            sums[at] += value;
            sizes[at] += finite(value).abs() + error;
            largest[at] = sizes[at].max(largest[at]);
            carried[at] += error;
            if let Expected::Unchecked(why) = *known {
                unknown[at] = Some(why);
            }
        }
    }

    let norm = stage.batch_norm().is_some();
    // an average adds its pixels, then multiplies by a reciprocal or divides
    let terms = stage.taps() + 1 + usize::from(shortcut.is_some()) + if norm { 8 } else { 0 };
    let n = terms as f64 * UNIT_ROUNDOFF;
    // f64 rounds as well, by 2⁻²⁹ of that
    let gamma = n / (1.0 - n) * (1.0 + 2f64.powi(-28));
    // a product and the sum that it comes to may both be flushed
    let underflow = if flush { 2.0 * f64::from(f32::MIN_POSITIVE) } else { 2f64.powi(-150) };
    let bounds = stage.activation().bounds().map(f64::from);
    (0..sums.len())
        .map(|at| match unknown[at] {
            Some(why) => Expected::Unchecked(why),
            None if largest[at] * (1.0 + gamma) >= f64::from(f32::MAX) => Expected::Unchecked(Why::Order),
            None => {
                let lost = terms as f64 * underflow * scales[at % outputs].max(1.0);
                let error = policies.slack * (gamma * sizes[at] + lost) + carried[at];
                settle(sums[at], error, bounds, policies)
            }
        })
        .collect()
}
