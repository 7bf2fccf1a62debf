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
//! - a clamp makes no error larger, and its bounds are bounds of the interval too. Another activation makes an error at most as many
//!   times larger as its slope is steep, and adds 4 units in the last place of its own;
//! - of a graph, a sum of two tensors has one rounding, and so has a product, of which an operand's error `e` adds `e × |y|`. Where a tensor
//!   that is added comes from a stage without an activation, its terms count as terms of the sum: an engine that fuses the two may
//!   begin with the other operand and add products to it. A maximum has the largest of all lower ends and the largest of all upper ends.
//!
//! All of it is computed in f64 by the reference's own loops.
//!
//! What has no bound is not compared: a sum whose magnitude is beyond f32 overflows in one order and not in another.

use sepconv_kernels::{Arithmetic, Epilogue};

use super::problem::{Problem, Stage, StageKind, tensor, tensor_mut, values_of};
use super::reference::{self, Number, clamp};
use super::{Denormals, InfPolicy, NanPolicy, PaddingPolicy};
use crate::{Activation, Shape};

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
    /// The sums that they are, where no activation came behind them.
    sums: Option<StageSums>,
}

/// What is taken for each value of each output: dense NHWC.
pub(super) fn expected(problem: &Problem, policies: &Policies) -> Vec<Vec<Expected>> {
    let exact = |&v: &f32| {
        let value = f64::from(v);
        settle(value, 0.0, Activation::Linear, policies)
    };
    let values = problem.values().iter().map(exact).collect();
    let mut known = vec![Known { shape: problem.input_shape(), values, sums: None }];
    for stage in problem.stages() {
        let reads: Vec<&Known> = stage.inputs().iter().map(|&tensor| &known[tensor]).collect();
        let made = through(stage, &reads, policies);
        known.push(made);
    }
    problem.outputs().iter().map(|output| known[output.tensor].values.clone()).collect()
}

/// How much larger an activation makes an error at the most: its steepest slope.
fn steepest(activation: Activation) -> f64 {
    match activation {
        Activation::HardSigmoid => 1.0 / 6.0,
        Activation::Sigmoid => 0.25,
        Activation::Tanh => 1.0,
        Activation::LeakyRelu { slope } => f64::from(slope).abs().max(1.0),
        // at 3
        Activation::HardSwish => 1.5,
        // 1.0998 at 2.4
        Activation::Silu => 1.1,
        // 1.1290 at 1.4
        Activation::Gelu => 1.13,
        Activation::Linear | Activation::Relu | Activation::Relu6 | Activation::Clamp { .. } => 1.0,
    }
}

/// Units in the last place that an activation may be off by itself.
const ACTIVATION_ULPS: f64 = 4.0;

/// What is known of a value behind its activation, given it before that and the bound on its error.
fn settle(value: f64, error: f64, activation: Activation, policies: &Policies) -> Expected {
    let active = value.activate(activation.into(), Arithmetic::Fused);
    if active.is_nan() {
        return match policies.nan {
            NanPolicy::Same => Expected::Nan,
            NanPolicy::MayBeLost | NanPolicy::Unchecked => Expected::Unchecked(Why::Policy),
        };
    }
    if value.is_infinite() {
        if policies.inf == InfPolicy::Unchecked {
            return Expected::Unchecked(Why::Policy);
        }
        return Expected::Within { value: active, lo: active, hi: active };
    }
    let [lo, hi] = match activation.bounds() {
        Some(bounds) => [value - error, value + error].map(|v| clamp(v, bounds.map(f64::from))),
        None => {
            let carried = steepest(activation) * error;
            let least = if policies.flush() { 2.0 * SMALLEST_NORMAL } else { 0.0 };
            let unit = (active.abs() + carried).max(SMALLEST_NORMAL) * f64::from(f32::EPSILON);
            let off = carried + policies.slack * (ACTIVATION_ULPS * unit + least);
            if active.abs() + off >= f64::from(f32::MAX) {
                return Expected::Unchecked(Why::Order);
            }
            [active - off, active + off]
        }
    };
    Expected::Within { value: active, lo, hi }
}

/// Sums of a stage over tensors in f64, without an activation.
struct Loops<'a> {
    stage: &'a Stage,
    input: Shape,
}

impl Loops<'_> {
    fn sum(&self, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
        let output = self.stage.output_shape();
        let mut sums = vec![0.0; values_of(output)];
        let conv =
            reference::Conv { window: self.stage.window(), filter: w, bias, epilogue: Epilogue::NONE, params: &[] };
        let (from, to) = (tensor(x, self.input), tensor_mut(&mut sums, output));
        match self.stage.kind() {
            StageKind::Depthwise => reference::depthwise(&conv, from, to, Arithmetic::Separate),
            StageKind::Standard => reference::conv2d(&conv, from, None, to, Arithmetic::Separate),
            // a mean over the plane or over a window
            _ => return self.stage.reference((w, bias), &[x], Arithmetic::Separate),
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

/// The value of an operand. Zero stands for one that is not known, which [`Operands::unknown`] marks.
fn value_of(known: &Expected) -> f64 {
    match *known {
        Expected::Within { value, .. } => value,
        Expected::Nan => f64::NAN,
        Expected::Unchecked(_) => 0.0,
    }
}

/// The least normal number of f32.
const SMALLEST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

impl Policies {
    /// Whether denormals may be flushed to zero.
    fn flush(&self) -> bool {
        self.denormals == Denormals::MayBeFlushed
    }

    /// What one step loses to underflow: a product and the sum that it comes to may both be flushed.
    fn underflow(&self) -> f64 {
        if self.flush() { 2.0 * SMALLEST_NORMAL } else { 2f64.powi(-150) }
    }

    /// What a value loses where denormals are flushed.
    fn flushed(&self, v: f64) -> f64 {
        if self.flush() && v.abs() < SMALLEST_NORMAL { v.abs() } else { 0.0 }
    }

    /// How far the kernel's operand may be from [`value_of`].
    fn error_of(&self, known: &Expected) -> f64 {
        match *known {
            Expected::Within { value, lo, hi } if value.is_finite() => {
                (hi - value).max(value - lo) + self.flushed(value)
            }
            _ => 0.0,
        }
    }

    /// Whether a policy leaves the results of such a weight open.
    fn leaves_open(&self, v: f64) -> bool {
        (v.is_nan() && self.nan != NanPolicy::Same) || (v.is_infinite() && self.inf == InfPolicy::Unchecked)
    }
}

/// Magnitudes of what a stage adds to a sum, for each output channel.
struct Added {
    /// Of bias and batch norm together.
    folded: Vec<f64>,
    /// Of what is added before the batch norm multiplies.
    unfolded: Vec<f64>,
    /// What the batch norm multiplies by.
    scales: Vec<f64>,
}

impl Added {
    fn new(stage: &Stage) -> Added {
        let outputs = stage.output_shape().c;
        let mut unfolded: Vec<f64> =
            (0..outputs).map(|o| stage.bias().map_or(0.0, |bias| finite(f64::from(bias[o])).abs())).collect();
        let (mut folded, mut scales) = (unfolded.clone(), vec![1.0; outputs]);
        if let Some(norm) = stage.batch_norm() {
            for o in 0..outputs {
                let gamma = norm.gamma.map_or(1.0, |gamma| f64::from(gamma[o]));
                let beta = norm.beta.map_or(0.0, |beta| f64::from(beta[o]));
                scales[o] = (gamma / (f64::from(norm.variance[o]) + norm.epsilon).sqrt()).abs();
                unfolded[o] += f64::from(norm.mean[o]).abs();
                folded[o] = unfolded[o] * scales[o] + beta.abs();
            }
        }
        Added { folded, unfolded, scales }
    }
}

/// What a stage multiplies and adds.
struct Operands<'a> {
    policies: &'a Policies,
    loops: Loops<'a>,
    input: &'a [Expected],
    /// The input, how far each value may be off, and the largest magnitude that it may have.
    x: Vec<f64>,
    x_error: Vec<f64>,
    x_size: Vec<f64>,
    /// Folded weights, and magnitudes of folded and of unfolded ones.
    w: Vec<f64>,
    w_size: Vec<f64>,
    unfolded_size: Vec<f64>,
    bias: Vec<f64>,
    added: Added,
}

/// The sums of a stage before the activation, and what their errors follow from.
#[derive(Clone)]
struct StageSums {
    /// Roundings that a value takes part in.
    terms: usize,
    values: Vec<f64>,
    /// Σ|x × w|.
    sizes: Vec<f64>,
    /// The largest partial sum that there may be, the one before the batch norm among them.
    largest: Vec<f64>,
    /// Errors of operands that came into each sum.
    carried: Vec<f64>,
    /// What underflow takes.
    lost: Vec<f64>,
}

impl StageSums {
    /// The sums that a tensor is; what is no sum counts as one of a single term that nothing rounded.
    fn of(known: &Known, policies: &Policies) -> StageSums {
        if let Some(sums) = &known.sums {
            return sums.clone();
        }
        let values: Vec<f64> = known.values.iter().map(value_of).collect();
        let carried: Vec<f64> = known.values.iter().map(|known| policies.error_of(known)).collect();
        let sizes: Vec<f64> = values.iter().zip(&carried).map(|(&value, error)| finite(value).abs() + error).collect();
        StageSums { terms: 0, lost: vec![0.0; values.len()], largest: sizes.clone(), values, sizes, carried }
    }

    /// Adds other sums, which costs one rounding more.
    fn add(&mut self, other: &StageSums, policies: &Policies) {
        self.terms += other.terms + 1;
        for at in 0..self.values.len() {
            self.values[at] += other.values[at];
            self.sizes[at] += other.sizes[at];
            self.largest[at] = self.sizes[at].max(self.largest[at]).max(other.largest[at]);
            self.carried[at] += other.carried[at];
            self.lost[at] += other.lost[at] + policies.underflow();
        }
    }

    /// The products of two tensors, and which of them are not compared.
    fn products(shape: Shape, [x, y]: [&Known; 2], policies: &Policies) -> (StageSums, Unknown) {
        let len = values_of(shape);
        let mut sums = StageSums {
            terms: 1,
            values: Vec::with_capacity(len),
            sizes: Vec::with_capacity(len),
            largest: vec![],
            carried: Vec::with_capacity(len),
            lost: vec![policies.underflow(); len],
        };
        let mut unknown = Unknown(vec![None; len]);
        let doubtful = |known: &Expected, value: f64| {
            let may_be_zero = matches!(*known, Expected::Within { lo, hi, .. } if lo < hi && lo <= 0.0 && hi >= 0.0);
            may_be_zero || policies.flushed(value) > 0.0
        };
        for at in 0..len {
            // one pixel for each image, or the same place
            let other = if y.shape == shape { at } else { at / (shape.h * shape.w * shape.c) * shape.c + at % shape.c };
            let (x, y) = (&x.values[at], &y.values[other]);
            let ([a, b], [e, f]) = ([x, y].map(value_of), [x, y].map(|known| policies.error_of(known)));
            sums.values.push(a * b);
            sums.sizes.push((finite(a).abs() + e) * (finite(b).abs() + f));
            sums.carried.push(e * (finite(b).abs() + f) + finite(a).abs() * f);
            if (a.is_infinite() && doubtful(y, b)) || (b.is_infinite() && doubtful(x, a)) {
                unknown.0[at] = Some(Why::Order);
            }
            unknown.carry(at, [x, y]);
        }
        sums.largest = sums.sizes.clone();
        (sums, unknown)
    }
}

impl<'a> Operands<'a> {
    fn new(stage: &'a Stage, input: &'a Known, policies: &'a Policies) -> Operands<'a> {
        let x: Vec<f64> = input.values.iter().map(value_of).collect();
        let x_error: Vec<f64> = input.values.iter().map(|known| policies.error_of(known)).collect();
        let x_size = x.iter().zip(&x_error).map(|(&x, e)| finite(x).abs() + e).collect();
        let (w, bias) = stage.folded();
        Operands {
            policies,
            loops: Loops { stage, input: input.shape },
            input: &input.values,
            x,
            x_error,
            x_size,
            w_size: w.iter().map(|&w| finite(w).abs()).collect(),
            unfolded_size: stage.canonical_filter().iter().map(|&w| finite(f64::from(w)).abs()).collect(),
            w,
            bias,
            added: Added::new(stage),
        }
    }

    fn sums(&self) -> StageSums {
        let Operands { loops, policies, x_size, w, w_size, unfolded_size, .. } = self;
        let values = loops.sum(&self.x, w, &self.bias);
        let sizes = loops.sum(x_size, w_size, &self.added.folded);
        let nothing = vec![0.0; self.bias.len()];
        let mut carried = vec![0.0; values.len()];
        let mut carry = |errors: Vec<f64>| carried.iter_mut().zip(errors).for_each(|(all, error)| *all += error);
        if self.x_error.iter().any(|&e| e > 0.0) {
            carry(loops.sum(&self.x_error, w_size, &nothing));
        }
        if policies.flush() {
            let lost = |(&w, &unfolded): (&f64, &f64)| policies.flushed(w).max(policies.flushed(unfolded));
            let lost: Vec<f64> = w.iter().zip(unfolded_size).map(lost).collect();
            if lost.iter().any(|&w| w > 0.0) {
                carry(loops.sum(x_size, &lost, &nothing));
            }
        }
        let mut largest = sizes.clone();
        if loops.stage.batch_norm().is_some() {
            let before = loops.sum(x_size, unfolded_size, &self.added.unfolded);
            largest.iter_mut().zip(&before).for_each(|(largest, before)| *largest = before.max(*largest));
            // a small weight that the batch norm makes smaller may lose bits to underflow
            let tiny = w.iter().any(|&w| w != 0.0 && w.abs() < SMALLEST_NORMAL * 16.0);
            if tiny {
                let lost = vec![4.0 * if policies.flush() { SMALLEST_NORMAL } else { 2f64.powi(-150) }; w.len()];
                carry(loops.sum(x_size, &lost, &nothing));
            }
        }
        if !loops.stage.is_convolution() {
            let [kh, kw] = loops.stage.kernel();
            largest.iter_mut().for_each(|v| *v *= (kh * kw) as f64);
        }
        // an average adds its pixels, then multiplies by a reciprocal or divides
        let terms = loops.stage.taps() + 1 + if loops.stage.batch_norm().is_some() { 8 } else { 0 };
        let scales = &self.added.scales;
        let lost = |at: usize| terms as f64 * policies.underflow() * scales[at % scales.len()].max(1.0);
        let lost = (0..values.len()).map(lost).collect();
        StageSums { terms, values, sizes, largest, carried, lost }
    }

    /// Which outputs an unknown or a doubtful operand comes into, and why they are not compared.
    fn unknown(&self) -> Unknown {
        let mut unknown = Unknown(vec![None; values_of(self.loops.stage.output_shape())]);
        self.mark_unknown_inputs(&mut unknown);
        self.mark_doubtful_products(&mut unknown);
        self.mark_skipped_padding(&mut unknown);
        self.mark_open_channels(&mut unknown);
        unknown
    }

    fn mark_unknown_inputs(&self, unknown: &mut Unknown) {
        // an average has no weights: any will do
        let ones = vec![1.0; self.w.len().max(1)];
        for why in [Why::Order, Why::Policy] {
            let marked = self.input.iter().map(|known| *known == Expected::Unchecked(why));
            unknown.mark(self.loops.meet(marked, &ones), why);
        }
    }

    /// Marks products of an infinity and a factor that may be zero or not, positive or negative.
    fn mark_doubtful_products(&self, unknown: &mut Unknown) {
        let Operands { policies, loops, x, w, .. } = self;
        let doubtful =
            |known: &Expected| matches!(*known, Expected::Within { lo, hi, .. } if lo < hi && lo <= 0.0 && hi >= 0.0);
        let w_odd = self.odd_weights();
        unknown.mark(loops.meet(self.input.iter().map(doubtful), &w_odd), Why::Order);
        let w_doubtful = if loops.stage.batch_norm().is_some() || policies.flush() {
            marks(w, |w| w != 0.0 && w.abs() < SMALLEST_NORMAL)
        } else {
            vec![0.0; w.len()]
        };
        unknown.mark(loops.meet(x.iter().map(|x| !x.is_finite()), &w_doubtful), Why::Order);
        if policies.flush() {
            let lost = x.iter().map(|&x| x != 0.0 && x.abs() < SMALLEST_NORMAL);
            unknown.mark(loops.meet(lost, &w_odd), Why::Order);
        }
    }

    /// Marks outputs of which padding meets a weight that is infinite or NaN, where kernels may skip padding.
    fn mark_skipped_padding(&self, unknown: &mut Unknown) {
        let w_odd = self.odd_weights();
        if self.policies.padding != PaddingPolicy::Skipped || w_odd.iter().all(|&w| w == 0.0) {
            return;
        }
        // weights that are no numbers, as many as there are, against those that meet the plane
        let outputs = self.bias.len();
        let met = self.loops.sum(&vec![1.0; self.x.len()], &w_odd, &vec![0.0; outputs]);
        let inner = w_odd.len() / outputs;
        let all: Vec<f64> = (0..outputs).map(|o| (0..inner).map(|i| w_odd[i * outputs + o]).sum()).collect();
        let marked = met.iter().enumerate().map(|(at, &met)| met < all[at % outputs]).collect();
        unknown.mark(Some(marked), Why::Policy);
    }

    fn mark_open_channels(&self, unknown: &mut Unknown) {
        // a folded weight beyond f32 is infinite where a batch norm is folded, and a number where it comes behind the sum
        let beyond = |v: f64| v.is_finite() && v.abs() >= f64::from(f32::MAX) * (1.0 - 16.0 * UNIT_ROUNDOFF);
        if self.loops.stage.batch_norm().is_some() {
            unknown.mark(self.channels_of(beyond), Why::Order);
        }
        // padding meets a weight or a bias that a policy leaves open, too
        unknown.mark(self.channels_of(|v| self.policies.leaves_open(v)), Why::Policy);
    }

    /// The outputs of all channels of which the bias or a weight is such; `None` where there are none.
    fn channels_of(&self, is_such: impl Fn(f64) -> bool) -> Option<Vec<bool>> {
        let mut channels: Vec<bool> = self.bias.iter().map(|&b| is_such(b)).collect();
        let outputs = channels.len();
        self.w.iter().enumerate().for_each(|(at, &w)| channels[at % outputs] |= is_such(w));
        let sums = values_of(self.loops.stage.output_shape());
        channels.contains(&true).then(|| (0..sums).map(|at| channels[at % outputs]).collect())
    }

    /// Marks of the weights that are infinite or NaN.
    fn odd_weights(&self) -> Vec<f64> {
        marks(&self.w, |w| !w.is_finite())
    }
}

/// Why each output is not compared, if it is not.
struct Unknown(Vec<Option<Why>>);

impl Unknown {
    fn mark(&mut self, marked: Option<Vec<bool>>, why: Why) {
        for (unknown, _) in self.0.iter_mut().zip(marked.into_iter().flatten()).filter(|(_, marked)| *marked) {
            *unknown = Some(why);
        }
    }

    /// What is not compared of operands, of their result.
    fn carry<'k>(&mut self, at: usize, operands: impl IntoIterator<Item = &'k Expected>) {
        for operand in operands {
            if let Expected::Unchecked(why) = *operand {
                self.0[at] = Some(why);
            }
        }
    }
}

/// One stage: what is known of its output, given what is known of its inputs.
fn through(stage: &Stage, reads: &[&Known], policies: &Policies) -> Known {
    let shape = stage.output_shape();
    let of_values = |values| Known { shape, values, sums: None };
    let (mut sums, mut unknown) = match stage.kind() {
        StageKind::Concat => {
            let reads: Vec<&[Expected]> = reads.iter().map(|known| &known.values[..]).collect();
            return of_values(stage.concat(&reads));
        }
        StageKind::Activate => {
            let active = |known: &Expected| match known {
                Expected::Unchecked(_) => *known,
                _ => settle(value_of(known), policies.error_of(known), stage.activation(), policies),
            };
            return of_values(reads[0].values.iter().map(active).collect());
        }
        StageKind::MaxPool => return of_values(maxima(stage, reads[0], policies)),
        StageKind::Scale => StageSums::products(shape, [reads[0], reads[1]], policies),
        StageKind::Add => {
            let mut unknown = Unknown(vec![None; values_of(shape)]);
            reads[0].values.iter().enumerate().for_each(|(at, known)| unknown.carry(at, [known]));
            (StageSums::of(reads[0], policies), unknown)
        }
        StageKind::Standard | StageKind::Depthwise | StageKind::AveragePool | StageKind::MeanPool => {
            let operands = Operands::new(stage, reads[0], policies);
            (operands.sums(), operands.unknown())
        }
    };
    // the second operand of a sum, or the shortcut of a convolution
    if let (true, Some(added)) = (stage.kind() != StageKind::Scale, reads.get(1)) {
        sums.add(&StageSums::of(added, policies), policies);
        added.values.iter().enumerate().for_each(|(at, known)| unknown.carry(at, [known]));
    }

    let n = sums.terms as f64 * UNIT_ROUNDOFF;
    // f64 rounds as well, by 2⁻²⁹ of that
    let gamma = n / (1.0 - n) * (1.0 + 2f64.powi(-28));
    let known = |at: usize| match unknown.0[at] {
        Some(why) => Expected::Unchecked(why),
        None if sums.largest[at] * (1.0 + gamma) >= f64::from(f32::MAX) => Expected::Unchecked(Why::Order),
        None => {
            let error = policies.slack * (gamma * sums.sizes[at] + sums.lost[at]) + sums.carried[at];
            settle(sums.values[at], error, stage.activation_of(at % shape.c), policies)
        }
    };
    let values = (0..sums.values.len()).map(known).collect();
    Known { shape, values, sums: stage.is_linear().then_some(sums) }
}

/// What is known of the largest values of windows.
fn maxima(stage: &Stage, input: &Known, policies: &Policies) -> Vec<Expected> {
    let (from, to) = (input.shape, stage.output_shape());
    let ([kh, kw], [sh, sw], pads) = (stage.kernel(), stage.strides(), stage.pads());
    let largest = |at: usize| {
        let (c, pixel) = (at % to.c, at / to.c);
        let (n, oy, ox) = (pixel / (to.h * to.w), pixel / to.w % to.h, pixel % to.w);
        let within = |first: usize, taps: usize, before: usize, size: usize| {
            first.saturating_sub(before)..(first + taps).saturating_sub(before).min(size)
        };
        let mut all: Option<Expected> = None;
        for y in within(oy * sh, kh, pads.top, from.h) {
            for x in within(ox * sw, kw, pads.left, from.w) {
                let known = input.values[((n * from.h + y) * from.w + x) * from.c + c];
                all = Some(all.map_or(known, |all| larger(all, known)));
            }
        }
        match all {
            Some(known @ Expected::Within { value, .. }) => {
                settle(value, policies.error_of(&known), Activation::Linear, policies)
            }
            Some(known) => known,
            None => Expected::Unchecked(Why::Policy),
        }
    };
    (0..values_of(to)).map(largest).collect()
}

fn larger(a: Expected, b: Expected) -> Expected {
    match (a, b) {
        (unchecked @ Expected::Unchecked(_), _) | (_, unchecked @ Expected::Unchecked(_)) => unchecked,
        (Expected::Nan, _) | (_, Expected::Nan) => Expected::Nan,
        (Expected::Within { value, lo, hi }, Expected::Within { value: v, lo: l, hi: h }) => {
            Expected::Within { value: value.max(v), lo: lo.max(l), hi: hi.max(h) }
        }
    }
}
