//! The conformance kit finds planted faults, and nothing where there is none.
//!
//! [`NaiveEngine`] is a copy of the reference in loops of its own, with a switch for each fault.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sepconv::testing::reference::Number as _;
use sepconv::testing::*;
use sepconv::{Plan, View, ViewMut};
use sepconv_test_support::{LEVELS, SCHEDULES, network, threads};

/// What can be wrong with a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Planted {
    /// The window is flipped, as a convolution of signal processing is.
    TapsFlipped,
    /// Columns before rows: right, but for the order of the sum.
    ColumnsFirst,
    PaddingOffByOne,
    /// The odd pixel of SAME goes to the top and to the left.
    OddPixelFirst,
    /// Taps in padding are left out.
    PaddingSkipped,
    StridesSwapped,
    DilationIgnored,
    /// Rust's minimum and maximum.
    ClampEatsNan,
    UpperBoundForgotten,
    ShortcutAfterClamp,
    ShortcutForgotten,
    /// Channels beyond the last whole vector are zero.
    TailDropped,
    /// Sums start from what the last run left.
    StaleScratch,
    EpsilonForgotten,
    /// Weights are folded in f32.
    FoldedInSingle,
    BiasForgotten,
    /// Every image reads the first.
    BatchOffset,
    /// Output `m × channels + c` of input `c`.
    MultiplierTransposed,
    /// Products are rounded.
    RoundedTwice,
    /// Operands of products have 11 bits, as those of TF32.
    ShortOperands,
    DenormalsFlushed,
    /// Pixels of the input are taken to be side by side.
    InputGapIgnored,
    /// A pixel is written as a whole vector.
    OutputGapWritten,
    LastPixelUnwritten,
    /// A mean multiplies by a reciprocal.
    Reciprocal,
    /// Of a sum, the activation is applied to the first operand alone.
    SumBehindActivation,
    SumActivationForgotten,
    /// A sum adds the products of a convolution to the other operand. It is right, but for its bits.
    SumsFused,
    /// A sum with an activation is written over its first operand, which others read later.
    SumInPlace,
    /// The same of an activation by itself.
    ActivationInPlace,
    /// A sum reads another tensor of the same shape.
    ResidualOfAnother,
    ConcatSwapped,
    /// Scales are those of the first image.
    ScaleOfFirstImage,
    /// The first value of a scale is taken for all channels.
    ScaleOfFirstChannel,
    /// The second output is what it was at the first run.
    SecondOutputStale,
    OutputsSwapped,
    /// Padding of a maximum is zero.
    MaximumOfPadding,
    /// A mean over a window always counts padding.
    MeanCountsPadding,
}

/// The naive kernel, and the scratch that it keeps.
#[derive(Default)]
struct NaiveEngine {
    planted: Option<Planted>,
    scratch: Vec<f32>,
    /// What sums of the next convolution begin with.
    start: Option<Vec<f32>>,
    second: Option<(Case, Vec<f32>)>,
}

/// Where a value of a pixel lies; pixels are counted over all images.
fn place(strides: Strides, shape: Shape, pixel: usize, channel: usize) -> usize {
    let (n, y, x) = (pixel / (shape.h * shape.w), pixel / shape.w % shape.h, pixel % shape.w);
    n * strides.image + y * strides.row + x * strides.pixel + channel * strides.channel
}

impl NaiveEngine {
    fn sound() -> NaiveEngine {
        NaiveEngine::default()
    }

    fn with(planted: Planted) -> NaiveEngine {
        NaiveEngine { planted: Some(planted), ..NaiveEngine::default() }
    }

    fn has(&self, fault: Planted) -> bool {
        self.planted == Some(fault)
    }

    fn run(&mut self, problem: &Problem, output: &mut [f32]) {
        let mut tensors = vec![self.gather(problem)];
        let mut shapes = vec![problem.input_shape()];
        for stage in problem.stages() {
            let mut reads = stage.inputs().to_vec();
            if self.has(Planted::ResidualOfAnother) && stage.kind() == StageKind::Add {
                let alike = |&tensor: &usize| !reads.contains(&tensor) && shapes[tensor] == stage.output_shape();
                reads[1] = (0..tensors.len()).find(alike).unwrap_or(reads[1]);
            }
            if self.has(Planted::ConcatSwapped) && stage.kind() == StageKind::Concat {
                reads.reverse();
            }
            let result = match stage.kind() {
                StageKind::AveragePool => self.average(stage, &tensors[reads[0]]),
                StageKind::Standard | StageKind::Depthwise => {
                    let (x, shortcut) = (tensors[reads[0]].clone(), reads.get(1).map(|&tensor| &tensors[tensor][..]));
                    self.convolve(stage, &x, shortcut)
                }
                StageKind::MaxPool | StageKind::MeanPool => self.pool(stage, &tensors[reads[0]]),
                StageKind::Concat => {
                    let parts = reads.iter().map(|&tensor| (&tensors[tensor][..], shapes[tensor].c));
                    concat(stage.output_shape(), &parts.collect::<Vec<_>>())
                }
                StageKind::Add if self.has(Planted::SumsFused) => self.fused(problem, stage, &tensors),
                _ => self.join(stage, &tensors[reads[0]], &tensors[*reads.last().unwrap()]),
            };
            let in_place = match stage.kind() {
                StageKind::Add => self.has(Planted::SumInPlace),
                StageKind::Activate => self.has(Planted::ActivationInPlace),
                _ => false,
            };
            if in_place && reads[0] > 0 {
                tensors[reads[0]].clone_from(&result);
            }
            shapes.push(stage.output_shape());
            tensors.push(result);
        }
        let mut results: Vec<Vec<f32>> =
            problem.outputs().iter().map(|output| tensors[output.tensor].clone()).collect();
        self.spoil_outputs(problem, &mut results);
        for ((of, result), part) in problem.outputs().iter().zip(&results).zip(problem.split(output)) {
            self.scatter(problem.layout(), of, result, part);
        }
    }

    fn spoil_outputs(&mut self, problem: &Problem, results: &mut [Vec<f32>]) {
        if let (true, [first, second]) = (self.has(Planted::OutputsSwapped), &mut *results)
            && first.len() == second.len()
        {
            std::mem::swap(first, second);
        }
        if let (true, [_, second]) = (self.has(Planted::SecondOutputStale), results) {
            match &self.second {
                Some((case, kept)) if case == problem.case() => second.clone_from(kept),
                _ => self.second = Some((problem.case().clone(), second.clone())),
            }
        }
    }

    /// The activation of a stage.
    fn activate(&self, v: f32, activation: Activation) -> f32 {
        let Some([lo, hi]) = activation.bounds() else {
            let twice = self.has(Planted::RoundedTwice);
            let arithmetic = if twice { Arithmetic::Separate } else { Arithmetic::Fused };
            return v.activate(activation.into(), arithmetic);
        };
        let hi = if self.has(Planted::UpperBoundForgotten) { f32::INFINITY } else { hi };
        if self.has(Planted::ClampEatsNan) {
            return v.max(lo).min(hi);
        }
        let v = if lo > v { lo } else { v };
        if hi < v { hi } else { v }
    }

    /// A sum, of which one operand may be a convolution without an activation: its products are added to the other.
    fn fused(&mut self, problem: &Problem, stage: &Stage, tensors: &[Vec<f32>]) -> Vec<f32> {
        let &[x, y] = stage.inputs() else { unreachable!() };
        for (conv, other) in [(x, y), (y, x)] {
            let Some(from) = conv.checked_sub(1).map(|at| &problem.stages()[at]) else { continue };
            let linear = from.activation() == Activation::Linear && from.channel_activation().is_none();
            if from.is_convolution() && linear && from.shortcut_from().is_none() {
                self.start = Some(tensors[other].clone());
                let sums = self.convolve(from, &tensors[from.inputs()[0]], None);
                self.start = None;
                return sums.into_iter().map(|v| self.activate(v, stage.activation())).collect();
            }
        }
        self.join(stage, &tensors[x], &tensors[y])
    }

    /// A sum or a product, or an activation by itself.
    fn join(&self, stage: &Stage, x: &[f32], y: &[f32]) -> Vec<f32> {
        let Shape { h, w, c, .. } = stage.output_shape();
        let one = stage.input_shapes().last().is_some_and(|y| y.h * y.w == 1);
        let value = |(at, &x): (usize, &f32)| {
            let (mut image, mut channel) = (at / (h * w * c), at % c);
            if one && self.has(Planted::ScaleOfFirstImage) {
                image = 0;
            }
            if one && self.has(Planted::ScaleOfFirstChannel) {
                channel = 0;
            }
            let y = y[if one { image * c + channel } else { at }];
            match stage.kind() {
                StageKind::Scale => x * y,
                StageKind::Activate => self.activate(x, stage.activation()),
                _ if self.has(Planted::SumBehindActivation) => self.activate(x, stage.activation()) + y,
                _ if self.has(Planted::SumActivationForgotten) => x + y,
                _ => self.activate(x + y, stage.activation()),
            }
        };
        x.iter().enumerate().map(value).collect()
    }

    fn pool(&self, stage: &Stage, x: &[f32]) -> Vec<f32> {
        let (input, output, pads) = (stage.input_shape(), stage.output_shape(), stage.pads());
        let ([kh, kw], [sh, sw]) = (stage.kernel(), stage.strides());
        let maximum = stage.kind() == StageKind::MaxPool;
        let value = |at: usize| {
            let (c, pixel) = (at % output.c, at / output.c);
            let (n, oy, ox) = (pixel / (output.h * output.w), pixel / output.w % output.h, pixel % output.w);
            let mut met = Vec::new();
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let (y, x_at) = ((oy * sh + ky).wrapping_sub(pads.top), (ox * sw + kx).wrapping_sub(pads.left));
                if y < input.h && x_at < input.w {
                    met.push(x[((n * input.h + y) * input.w + x_at) * input.c + c]);
                } else if maximum && self.has(Planted::MaximumOfPadding) {
                    met.push(0.0);
                }
            }
            let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
            if maximum {
                return met.into_iter().reduce(larger).unwrap();
            }
            let all = stage.counts_padding() || self.has(Planted::MeanCountsPadding);
            let count = if all { kh * kw } else { met.len() };
            met.into_iter().reduce(|a, b| a + b).unwrap() / count as f32
        };
        (0..output.n * output.h * output.w * output.c).map(value).collect()
    }

    /// The input as dense NHWC.
    fn gather(&self, problem: &Problem) -> Vec<f32> {
        let Shape { n, h, w, c } = problem.input_shape();
        let (x, mut dense) = (problem.input(), Vec::new());
        let ignored = self.has(Planted::InputGapIgnored);
        let strides =
            if ignored { Strides::dense(problem.layout(), problem.input_shape()) } else { problem.input_strides() };
        for pixel in 0..n * h * w {
            for channel in 0..c {
                dense.push(x[place(strides, problem.input_shape(), pixel, channel)]);
            }
        }
        dense
    }

    fn scatter(&self, layout: Layout, of: &ProblemOutput, result: &[f32], output: &mut [f32]) {
        let (Shape { n, h, w, c }, strides) = (of.shape, of.strides);
        for pixel in 0..n * h * w {
            if self.has(Planted::LastPixelUnwritten) && pixel > 0 && pixel == n * h * w - 1 {
                continue;
            }
            for channel in 0..c {
                output[place(strides, of.shape, pixel, channel)] = result[pixel * c + channel];
            }
            // the value behind a pixel, or behind a row of a plane, where a gap is
            let dense = Strides::dense(layout, of.shape);
            if self.has(Planted::OutputGapWritten) && (strides.pixel, strides.row) != (dense.pixel, dense.row) {
                let last = place(strides, of.shape, pixel, c - 1);
                let ends = layout == Layout::Nhwc || (pixel + 1).is_multiple_of(w);
                output.get_mut(last + 1).into_iter().filter(|_| ends).for_each(|v| *v = 0.0);
            }
        }
    }

    fn average(&self, stage: &Stage, x: &[f32]) -> Vec<f32> {
        let Shape { n, h, w, c } = stage.input_shape();
        let pixels = (h * w) as f32;
        let mean = |at: usize| {
            let (image, channel) = (at / c, at % c);
            let plane: Vec<f32> = (0..h * w).map(|p| x[(image * h * w + p) * c + channel]).collect();
            let sum = sum_of(&plane.chunks(256).map(sum_of_leaf).collect::<Vec<_>>());
            if self.has(Planted::Reciprocal) { sum * (1.0 / pixels) } else { sum / pixels }
        };
        (0..n * c).map(mean).collect()
    }

    fn folded(&self, stage: &Stage) -> (Vec<f32>, Vec<f32>) {
        let folded = (stage.folded_filter(FilterOrder::Hwio), stage.folded_bias());
        let Some(norm) = stage.batch_norm() else { return folded };
        let outputs = stage.output_shape().c;
        let epsilon = if self.has(Planted::EpsilonForgotten) { 0.0 } else { norm.epsilon };
        let of = |values: Option<&[f32]>, o: usize, default: f32| values.map_or(default, |values| values[o]);
        let scale = |o: usize| f64::from(of(norm.gamma, o, 1.0)) / (f64::from(norm.variance[o]) + epsilon).sqrt();
        if self.has(Planted::EpsilonForgotten) {
            let filter = stage.filter(FilterOrder::Hwio);
            let filter = filter.iter().enumerate().map(|(at, &w)| (f64::from(w) * scale(at % outputs)) as f32);
            return (filter.collect(), folded.1);
        }
        if self.has(Planted::FoldedInSingle) {
            let filter = stage.filter(FilterOrder::Hwio);
            let filter = filter.iter().enumerate().map(|(at, &w)| w * scale(at % outputs) as f32);
            return (filter.collect(), folded.1);
        }
        folded
    }

    fn convolve(&mut self, stage: &Stage, x: &[f32], shortcut: Option<&[f32]>) -> Vec<f32> {
        let (input, output) = (stage.input_shape(), stage.output_shape());
        let [kh, kw] = stage.kernel();
        let [mut sh, mut sw] = stage.strides();
        let [mut dh, mut dw] = stage.dilations();
        let pads = stage.pads();
        let [mut top, left] = if self.has(Planted::OddPixelFirst) && stage.case().padding == Padding::Same {
            [pads.bottom, pads.right]
        } else {
            [pads.top, pads.left]
        };
        if self.has(Planted::StridesSwapped) {
            (sh, sw) = (sw, sh);
        }
        if self.has(Planted::DilationIgnored) {
            (dh, dw) = (1, 1);
        }
        top += usize::from(self.has(Planted::PaddingOffByOne));
        let (filter, mut bias) = self.folded(stage);
        if self.has(Planted::BiasForgotten) {
            bias.fill(0.0);
        }
        let depthwise = stage.kind() == StageKind::Depthwise;
        let (multiplier, inputs) = (stage.multiplier(), if depthwise { 1 } else { input.c });

        let taps: Vec<[usize; 2]> = if self.has(Planted::ColumnsFirst) {
            (0..kw).flat_map(|kx| (0..kh).map(move |ky| [ky, kx])).collect()
        } else {
            (0..kh).flat_map(|ky| (0..kw).map(move |kx| [ky, kx])).collect()
        };
        let len = output.n * output.h * output.w * output.c;
        let fresh = self.scratch.len() < len;
        self.scratch.resize(len.max(self.scratch.len()), 0.0);
        for at in 0..len {
            let (oc, pixel) = (at % output.c, at / output.c);
            let (n, oy, ox) = (pixel / (output.h * output.w), pixel / output.w % output.h, pixel % output.w);
            let image = if self.has(Planted::BatchOffset) { 0 } else { n };
            let mut acc = if self.has(Planted::StaleScratch) && !fresh { self.scratch[at] } else { bias[oc] };
            if let Some(start) = &self.start {
                acc += start[at];
            }
            for &[ky, kx] in &taps {
                for i in 0..inputs {
                    let ic = match (depthwise, self.has(Planted::MultiplierTransposed)) {
                        (true, false) => oc / multiplier,
                        (true, true) => oc % input.c,
                        _ => i,
                    };
                    let y = (oy * sh + ky * dh).wrapping_sub(top);
                    let x_at = (ox * sw + kx * dw).wrapping_sub(left);
                    let inside = y < input.h && x_at < input.w;
                    if !inside && self.has(Planted::PaddingSkipped) {
                        continue;
                    }
                    let mut v = if inside { x[((image * input.h + y) * input.w + x_at) * input.c + ic] } else { 0.0 };
                    let tap = if self.has(Planted::TapsFlipped) { [kh - 1 - ky, kw - 1 - kx] } else { [ky, kx] };
                    let mut w = filter[((tap[0] * kw + tap[1]) * inputs + i) * output.c + oc];
                    if self.has(Planted::ShortOperands) {
                        [v, w] = [v, w].map(|v| f32::from_bits(v.to_bits() & !0x1fff));
                    }
                    acc = if self.has(Planted::RoundedTwice) { acc + v * w } else { v.mul_add(w, acc) };
                }
            }
            let clamp = |v: f32| self.activate(v, stage.activation_of(oc));
            let added = shortcut.filter(|_| !self.has(Planted::ShortcutForgotten)).map(|shortcut| shortcut[at]);
            let mut v = match added {
                Some(added) if self.has(Planted::ShortcutAfterClamp) => clamp(acc) + added,
                Some(added) => clamp(acc + added),
                None => clamp(acc),
            };
            if self.has(Planted::TailDropped) && output.c > 4 && oc >= output.c / 4 * 4 {
                v = 0.0;
            }
            if self.has(Planted::DenormalsFlushed) && v.is_subnormal() {
                v = 0.0;
            }
            self.scratch[at] = v;
        }
        self.scratch[..len].to_vec()
    }
}

/// The channels of some tensors, each with the number of its channels, one after the other.
fn concat(shape: Shape, parts: &[(&[f32], usize)]) -> Vec<f32> {
    let pixels = 0..shape.n * shape.h * shape.w;
    pixels.flat_map(|pixel| parts.iter().flat_map(move |&(part, c)| part[pixel * c..][..c].iter().copied())).collect()
}

/// Small cases: the engine here is slow, and a fault that needs a large one needs no kit.
fn small(cases: Cases) -> Cases {
    cases.max_macs(40_000).gaps()
}

fn fused() -> Check {
    Check::bits(Arithmetic::Fused)
}

/// Every fault, the check that is to find it, and the cases in which.
fn planted() -> Vec<(Planted, Check, Cases)> {
    use Planted::*;
    let bounded = Check::bounded;
    vec![
        (TapsFlipped, bounded(), Cases::depthwise()),
        (ColumnsFirst, fused(), Cases::conv2d()),
        (PaddingOffByOne, bounded(), Cases::depthwise()),
        (OddPixelFirst, bounded(), Cases::depthwise()),
        (PaddingSkipped, bounded(), Cases::depthwise()),
        (StridesSwapped, bounded(), Cases::conv2d()),
        (DilationIgnored, bounded(), Cases::depthwise()),
        (ClampEatsNan, bounded(), Cases::pointwise()),
        (UpperBoundForgotten, bounded(), Cases::conv2d()),
        (ShortcutAfterClamp, bounded(), Cases::inverted_residual()),
        (ShortcutForgotten, bounded(), Cases::inverted_residual()),
        (TailDropped, bounded(), Cases::pointwise()),
        (StaleScratch, bounded(), Cases::separable()),
        (EpsilonForgotten, bounded(), Cases::depthwise()),
        (FoldedInSingle, fused(), Cases::pointwise()),
        (BiasForgotten, bounded(), Cases::dense()),
        (BatchOffset, bounded(), Cases::conv2d()),
        (MultiplierTransposed, bounded(), Cases::depthwise()),
        (RoundedTwice, fused(), Cases::depthwise()),
        (ShortOperands, bounded(), Cases::pointwise()),
        (DenormalsFlushed, bounded(), Cases::depthwise()),
        (InputGapIgnored, bounded(), Cases::pointwise()),
        (OutputGapWritten, bounded(), Cases::pointwise()),
        (InputGapIgnored, bounded().layout(Layout::Nchw), Cases::depthwise()),
        (OutputGapWritten, bounded().layout(Layout::Nchw), Cases::depthwise()),
        (LastPixelUnwritten, bounded(), Cases::separable()),
        (Reciprocal, fused(), Cases::average_pool()),
        (SumBehindActivation, bounded(), Cases::graphs()),
        (SumActivationForgotten, bounded(), Cases::graphs()),
        (SumInPlace, bounded(), Cases::graphs()),
        (ActivationInPlace, bounded(), Cases::graphs()),
        (ResidualOfAnother, bounded(), Cases::graphs()),
        (ConcatSwapped, bounded(), Cases::graphs().max_nodes(3)),
        (ScaleOfFirstImage, bounded(), Cases::graphs()),
        (ScaleOfFirstChannel, bounded().layout(Layout::Nchw), Cases::graphs()),
        (SecondOutputStale, bounded(), Cases::graphs()),
        (OutputsSwapped, bounded(), Cases::graphs().max_nodes(2)),
        (MaximumOfPadding, bounded(), Cases::graphs()),
        (MeanCountsPadding, bounded(), Cases::graphs()),
        (LastPixelUnwritten, bounded(), Cases::graphs()),
        (Reciprocal, fused(), Cases::graphs()),
    ]
}

fn find(planted: Planted, check: &Check, cases: &Cases, seed: u64) -> Box<Failure> {
    let mut engine = NaiveEngine::with(planted);
    let check = check.clone().cases(256).seed(seed);
    match check.try_run(small(cases.clone()), |problem: &Problem, output: &mut [f32]| engine.run(problem, output)) {
        Ok(summary) => panic!("{planted:?}, seed {seed}: not found in {summary}"),
        Err(failure) => failure,
    }
}

/// The sum of a leaf of up to 256 pixels (docs/numbers.md).
fn sum_of_leaf(pixels: &[f32]) -> f32 {
    let (first, others) = pixels.split_at(pixels.len().min(8));
    let mut sums = first.to_vec();
    for (p, v) in others.iter().enumerate() {
        sums[p % 8] += v;
    }
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|pair| if let [a, b] = pair { a + b } else { pair[0] }).collect();
    }
    sums[0]
}

/// The sum of leaves: of the most that are a power of two, and of the others.
fn sum_of(leaves: &[f32]) -> f32 {
    match leaves {
        [leaf] => *leaf,
        _ if leaves.len().is_power_of_two() => {
            let (a, b) = leaves.split_at(leaves.len() / 2);
            sum_of(a) + sum_of(b)
        }
        _ => {
            let (most, others) = leaves.split_at(1 << leaves.len().ilog2());
            sum_of(most) + sum_of(others)
        }
    }
}

#[test]
fn every_planted_fault_is_found_in_256_cases() {
    // what a seed draws is always the same, so this passes or fails, and never now and then
    for (planted, check, cases) in planted() {
        for seed in 1..=4 {
            let failure = find(planted, &check, &cases, seed);
            let expected = match planted {
                Planted::LastPixelUnwritten => matches!(failure.fault(), Fault::NotWritten { .. }),
                Planted::OutputGapWritten => matches!(failure.fault(), Fault::WroteOutside { behind: false, .. }),
                _ => matches!(failure.fault(), Fault::Differs(_)),
            };
            assert!(expected, "{planted:?}: {failure}");
        }
    }
}

#[test]
fn a_sound_kernel_passes() {
    let kinds = [
        Cases::conv2d(),
        Cases::depthwise(),
        Cases::pointwise(),
        Cases::separable(),
        Cases::inverted_residual(),
        Cases::average_pool(),
        Cases::dense(),
        Cases::chain(),
        Cases::graphs(),
    ];
    let (mut values, mut unchecked) = (0, 0);
    for cases in kinds {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            for check in [fused(), Check::bounded()] {
                let mut engine = NaiveEngine::sound();
                let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
                let summary = check.layout(layout).run(small(cases.clone()), kernel);
                assert_eq!(summary.declined, 0);
                assert!(summary.values > 0, "{summary}");
                values += summary.values;
                unchecked += summary.unchecked;
            }
        }
    }
    // of all of them together: a few cases of one kind may be of infinities
    assert!(unchecked * 2 < values, "{unchecked} of {values} values were not compared");
}

#[test]
fn what_rounds_twice_is_its_own_arithmetic() {
    for cases in [Cases::chain(), Cases::graphs()] {
        let mut engine = NaiveEngine::with(Planted::RoundedTwice);
        let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
        Check::bits(Arithmetic::Separate).run(small(cases), kernel);
    }
}

#[test]
fn what_is_right_but_for_its_bits_is_within_the_bound() {
    for planted in [Planted::ColumnsFirst, Planted::RoundedTwice, Planted::FoldedInSingle, Planted::Reciprocal] {
        let mut engine = NaiveEngine::with(planted);
        let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
        let summary = Check::bounded().run(small(Cases::chain()), kernel);
        assert!(summary.worst <= 1.0, "{planted:?}: {summary}");
        let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
        let summary = Check::bounded().run(small(Cases::graphs()), kernel);
        assert!(summary.worst <= 1.0, "{planted:?}: {summary}");
    }
}

/// A kernel that computes sums and products as fusion may: the sum begins with the second operand of what comes behind it.
#[test]
fn what_is_fused_is_within_the_bound() {
    let mut engine = NaiveEngine::with(Planted::SumsFused);
    let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
    let summary = Check::bounded().run(small(Cases::graphs()), kernel);
    assert!(summary.worst > 0.0, "{summary}");
    let failure = find(Planted::SumsFused, &fused(), &Cases::graphs(), 1);
    assert!(matches!(failure.fault(), Fault::Differs(_)), "{failure}");
}

#[test]
fn our_own_engine_passes_on_graphs() {
    let cases = Cases::graphs().max_nodes(5).max_outputs(3).without(&[StageKind::Activate]).gaps();
    let mut turn = 0;
    for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            for check in [Check::bits(level.arithmetic), Check::bounded()] {
                let mut last: Option<(Case, Plan)> = None;
                let kernel = |problem: &Problem, output: &mut [f32]| -> sepconv::Result<()> {
                    if last.as_ref().is_none_or(|(case, _)| case != problem.case()) {
                        turn += 1;
                        let options = level.options().fusion(SCHEDULES[turn % SCHEDULES.len()]);
                        let options = options.threads(threads(1 + turn % 3)).input_layout(layout).output_layout(layout);
                        let plan = network(problem)?.plan_all(&[problem.input_shape()], &options);
                        // no layer of this graph has stages to fuse
                        let plan = match plan {
                            Err(sepconv::Error::Fusion(_)) => network(problem)?
                                .plan_all(&[problem.input_shape()], &options.fusion(sepconv::Fusion::Auto))?,
                            plan => plan?,
                        };
                        last = Some((problem.case().clone(), plan));
                    }
                    let Some((_, plan)) = &last else { unreachable!() };
                    let input = View::with_strides(problem.input(), problem.input_shape(), problem.input_strides())?;
                    let outputs = problem.outputs().iter().zip(problem.split(output));
                    let mut outputs = outputs
                        .map(|(of, part)| ViewMut::with_strides(part, of.shape, of.strides))
                        .collect::<sepconv::Result<Vec<_>>>()?;
                    plan.run_all(&[input], &mut outputs, &mut plan.scratch()?)
                };
                let summary = check.layout(layout).run(cases.clone(), kernel);
                assert_eq!(summary.declined, 0, "{summary}");
            }
        }
    }
}

#[test]
fn a_policy_takes_what_it_says_and_no_more() {
    use Planted::{ClampEatsNan, DenormalsFlushed, PaddingSkipped, TapsFlipped};
    let taken = [
        (ClampEatsNan, Check::bounded().nan(NanPolicy::MayBeLost)),
        (ClampEatsNan, Check::bounded().nan(NanPolicy::Unchecked)),
        (DenormalsFlushed, Check::bounded().denormals(Denormals::MayBeFlushed)),
        (PaddingSkipped, Check::bounded().padding(PaddingPolicy::Skipped)),
        (PaddingSkipped, fused().padding(PaddingPolicy::Skipped)),
        (ClampEatsNan, fused().nan(NanPolicy::MayBeLost)),
    ];
    for (planted, check) in taken {
        // minimum and maximum of Rust and skipped taps may return a zero of the other sign, which is another bit
        let bits = check.to_string().contains("bits");
        let activation = [Activation::Clamp { min: -0.5, max: 0.5 }];
        let values = [Values::Uniform, Values::Nan, Values::Infinite];
        for cases in [Cases::depthwise(), Cases::separable(), Cases::inverted_residual()] {
            let cases = if bits { cases.activations(&activation).values(&values) } else { cases };
            let mut engine = NaiveEngine::with(planted);
            check.run(small(cases), |problem: &Problem, output: &mut [f32]| engine.run(problem, output));
        }
        let failure = find(TapsFlipped, &check, &Cases::separable(), 1);
        assert!(matches!(failure.fault(), Fault::Differs(_)), "{failure}");
    }
    let mut engine = NaiveEngine::with(PaddingSkipped);
    let cases = small(Cases::depthwise()).values(&[Values::Infinite, Values::Uniform]);
    let check = Check::bounded().inf(InfPolicy::Unchecked);
    check.run(cases, |problem: &Problem, output: &mut [f32]| engine.run(problem, output));
}

/// Lines that were printed for planted faults, as text and as code.
type Line = (Planted, &'static str, fn(NaiveEngine));

macro_rules! lines {
    ($kernel:ident => $($planted:ident: $line:expr;)*) => {
        const LINES: &[Line] = &[$((Planted::$planted, stringify!($line), |mut engine: NaiveEngine| {
            let $kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
            $line;
        })),*];
    };
}

include!("conformance/lines.rs");

#[test]
fn a_printed_line_is_rust_that_repeats_the_failure() {
    let printed: Vec<(Planted, Box<Failure>)> =
        planted().iter().map(|(planted, check, cases)| (*planted, find(*planted, check, cases, 1))).collect();
    if std::env::var_os("SEPCONV_BLESS").is_some() {
        let mut file = String::from(
            "// Printed by the test that includes it: SEPCONV_BLESS=1 cargo test --test conformance\nlines! { kernel =>\n",
        );
        for (planted, failure) in &printed {
            file += &format!("    {planted:?}: {}\n", failure.line().unwrap());
        }
        std::fs::write("tests/conformance/lines.rs", file + "}\n").unwrap();
        return;
    }
    let bare = |line: &str| line.trim_end_matches(';').replace(char::is_whitespace, "");
    assert_eq!(printed.len(), LINES.len());
    for ((planted, failure), (of, line, repeat)) in printed.iter().zip(LINES) {
        // what was printed is what was compiled
        let printed = failure.line().unwrap();
        assert_eq!((*planted, bare(&printed)), (*of, bare(line)), "SEPCONV_BLESS=1 prints the lines anew");
        repeat(NaiveEngine::sound());
        let again = std::panic::catch_unwind(|| repeat(NaiveEngine::with(*planted))).unwrap_err();
        let again = again.downcast_ref::<String>().unwrap();
        assert!(again.contains(&printed), "{again}");
    }
}

#[test]
fn a_failure_says_where_and_by_how_much() {
    // a depthwise 1×1 with weights of one number each, and an engine that leaves out the last channels
    let case = Case::new(Shape::new(2, 1, 3, 6)).depthwise(ConvCase::depthwise([1, 1]).bias(true));
    let mut engine = NaiveEngine::with(Planted::TailDropped);
    let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
    let failure = Check::bounded().layout(Layout::Nchw).try_case(&case, kernel).unwrap_err();
    let Fault::Differs(difference) = failure.fault() else { panic!("{failure}") };
    let problem = Problem::new(&case, Layout::Nchw).unwrap();
    let (single, double) = (problem.reference_f32(Arithmetic::Fused), problem.reference_f64());
    assert_eq!((difference.at, difference.theirs, difference.count, difference.of), ([0, 0, 0, 4], 0.0, 12, 36));
    assert_eq!((difference.single, difference.double), (single[4], double[4]));
    let [lo, hi] = difference.interval.unwrap();
    assert!(lo < difference.double && difference.double < hi && hi - lo < 1e-6);
    let text = failure.to_string();
    let line = format!("repeat  Check::bounded().layout(Layout::Nchw).case(&{case}, kernel);");
    for part in
        [line.as_str(), "(n, y, x, c) = (0, 0, 0, 4), the first of 12 that differ, of 36", "theirs  0.0 (0x00000000)"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_no_kernel_or_no_case_is_said() {
    let case = Case::new(Shape::new(1, 2, 2, 1)).depthwise(ConvCase::depthwise([3, 3]).padding(Padding::Valid));
    let nothing = |_: &Problem, _: &mut [f32]| {};
    let failure = Check::bounded().try_case(&case, nothing).unwrap_err();
    assert!(matches!(failure.fault(), Fault::Case(sepconv::Error::InputTooSmall { .. })), "{failure}");
    for (case, error) in [
        (Case::new(Shape::new(1, 2, 2, 1)), "needs an operator"),
        (Case::new(Shape::new(1, 0, 2, 1)).average_pool(), "rows, columns and channels must be at least 1"),
        (Case::new(Shape::new(1, 2, 2, 1)).depthwise(ConvCase::pointwise(2)), "expected a depthwise convolution"),
        (Case::new(Shape::new(1, 2, 2, 1)).dense(ConvCase::standard([3, 3], 2)), "expected a 1×1 convolution"),
        (Case::new(Shape::new(1, 2, 2, 1)).pointwise(ConvCase::pointwise(0)), "must be at least 1"),
        (Case::new(Shape::new(1, 2, 2, 1)).conv2d(ConvCase::standard([1, 1], usize::MAX)), "must be at most"),
    ] {
        let failure = Check::bounded().try_case(&case, nothing).unwrap_err();
        assert!(failure.to_string().contains(error), "{failure}");
    }
    let point = || Case::new(Shape::new(1, 2, 2, 1)).pointwise(ConvCase::pointwise(3));
    for (case, error) in [
        (point().add(&[1, 0], Activation::Linear), "1×2×2×3"),
        (point().add(&[1, 1], Activation::Clamp { min: 1.0, max: 0.0 }), "the lower not above the upper"),
        (point().scale(&[1, 0]), "1×2×2×3"),
        (point().average_pool().concat(&[1, 2]), "1×1×1×3"),
        (point().concat(&[1]), "expected two or more, got 1"),
        (point().node(Op::AveragePool, &[0, 1]), "expected one, got 2"),
        (point().average_pool().reading(3), "tensor 3 is not there yet"),
        (point().average_pool().reading(0), "tensor 1: nothing reads it"),
        (point().outputs(&[0]), "output 0: expected another tensor that a node makes, got 0"),
        (point().outputs(&[1, 1]), "output 1: expected another tensor"),
        (
            point().window_pool(WindowPoolCase::max([1, 2]).padding(Padding::all(1))),
            "fewer pixels than the window has taps",
        ),
    ] {
        let failure = Check::bounded().try_case(&case, nothing).unwrap_err();
        assert!(failure.to_string().contains(error), "{failure}");
    }
    let case = Case::new(Shape::new(1, 2, 2, 1)).average_pool();
    let failure = Check::bounded().try_case(&case, nothing).unwrap_err();
    assert!(matches!(failure.fault(), Fault::NotWritten { at: [0, 0, 0, 0], .. }), "{failure}");
    let failure =
        Check::bounded().try_case(&case, |_: &Problem, _: &mut [f32]| Err::<(), _>("out of luck")).unwrap_err();
    assert!(failure.to_string().contains("the kernel failed: out of luck"), "{failure}");
    let failure =
        Check::bounded().try_case(&case, |_: &Problem, _: &mut [f32]| -> Reply { panic!("no luck") }).unwrap_err();
    assert!(failure.to_string().contains("it panicked: no luck"), "{failure}");
    // a kernel that is for nothing has not passed
    let declined = |_: &Problem, _: &mut [f32]| Reply::Unsupported;
    let failure = Check::bounded().try_run(Cases::depthwise(), declined).unwrap_err();
    assert!(matches!(failure.fault(), Fault::Declined { computed: 0, .. }), "{failure}");
    // one that is for some passes on as many as were asked for
    let mut engine = NaiveEngine::sound();
    let summary = Check::bounded().cases(20).run(small(Cases::depthwise()), |problem: &Problem, output: &mut [f32]| {
        if problem.conv().strides() != [1, 1] {
            return Reply::Unsupported;
        }
        engine.run(problem, output);
        Reply::Computed
    });
    assert!(summary.cases == 20 && summary.declined > 0, "{summary}");
}

#[test]
fn cases_keep_to_their_limits() {
    let cases = Cases::depthwise()
        .max_kernel(4)
        .max_stride(2)
        .max_dilation(2)
        .max_multiplier(2)
        .max_batch(2)
        .max_side(9)
        .max_channels(20)
        .uniform()
        .bias(false)
        .batch_norm(false)
        .activations(&[Activation::Relu])
        .values(Values::FINITE);
    let mut engine = NaiveEngine::sound();
    Check::bounded().run(cases, |problem: &Problem, output: &mut [f32]| {
        let (conv, input) = (problem.conv(), problem.input_shape());
        assert!(conv.kernel().iter().all(|&k| k <= 4) && conv.strides()[0] <= 2 && conv.dilations()[0] <= 2);
        assert_eq!((conv.strides()[0], conv.dilations()[0]), (conv.strides()[1], conv.dilations()[1]));
        let pads = conv.pads();
        assert!([pads.bottom, pads.left, pads.right] == [pads.top; 3], "{pads:?}");
        assert!(conv.multiplier() <= 2 && input.n <= 2 && input.c <= 20 && input.h.max(input.w) <= 9, "{input}");
        assert!(conv.bias().is_none() && conv.batch_norm().is_none() && conv.activation() == Activation::Relu);
        assert!(problem.input().iter().all(|v| v.is_finite()));
        assert!(conv.filter(FilterOrder::Oihw).iter().all(|v| v.is_finite()));
        engine.run(problem, output);
    });
}

#[test]
fn filters_come_in_the_order_that_is_asked_for() {
    // [rows, columns, inputs, outputs] = [1, 2, 2, 3]
    let case = Case::new(Shape::new(1, 3, 3, 2)).conv2d(ConvCase::standard([1, 2], 3));
    let problem = Problem::new(&case, Layout::Nchw).unwrap();
    let conv = problem.conv();
    let [hwio, oihw, ohwi] = [FilterOrder::Hwio, FilterOrder::Oihw, FilterOrder::Ohwi].map(|order| conv.filter(order));
    for (x, i, o) in (0..2).flat_map(|x| (0..2).flat_map(move |i| (0..3).map(move |o| (x, i, o)))) {
        let value = hwio[(x * 2 + i) * 3 + o];
        assert_eq!([oihw[(o * 2 + i) * 2 + x], ohwi[(o * 2 + x) * 2 + i]], [value; 2]);
    }
    // [rows, columns, channels, multiplier] = [2, 1, 2, 2]
    let case = Case::new(Shape::new(1, 3, 3, 2)).depthwise(ConvCase::depthwise([2, 1]).multiplier(2));
    let problem = Problem::new(&case, Layout::Nchw).unwrap();
    let (conv, hwcm) = (problem.conv(), problem.conv().filter(FilterOrder::Hwio));
    assert_eq!((conv.groups(), conv.multiplier(), conv.output_shape().c), (2, 2, 4));
    for (y, c) in (0..2).flat_map(|y| (0..4).map(move |c| (y, c))) {
        for order in [FilterOrder::Oihw, FilterOrder::Ohwi] {
            assert_eq!(conv.filter(order)[c * 2 + y], hwcm[y * 4 + c]);
        }
    }
}

#[test]
fn outputs_are_told_apart() {
    let conv = ConvCase::pointwise(2);
    let case = Case::new(Shape::new(1, 1, 2, 2)).pointwise(conv).pointwise(conv.seed(1)).outputs(&[2, 1]).gaps(0, 1);
    let problem = Problem::new(&case, Layout::Nhwc).unwrap();
    let ranges: Vec<_> = problem.outputs().iter().map(|output| output.range.clone()).collect();
    assert_eq!(ranges, [0..5, 69..74]);
    assert_eq!(problem.outputs().iter().map(|output| output.tensor).collect::<Vec<_>>(), [2, 1]);
    let mut engine = NaiveEngine::sound();
    let mut with = |index: usize, value: f32| {
        Check::bounded().try_case(&case, |problem: &Problem, output: &mut [f32]| {
            engine.run(problem, output);
            output[index] = value;
        })
    };
    let failure = with(70, 9.0).unwrap_err();
    assert!(matches!(failure.fault(), Fault::Differs(Difference { output: 1, at: [0, 0, 0, 1], count: 1, .. })));
    assert!(failure.to_string().contains("(n, y, x, c) = (0, 0, 0, 1) of output 1, the first of 1"), "{failure}");
    for (index, is_behind) in [(5, true), (68, true), (2, false), (71, false)] {
        let failure = with(index, 9.0).unwrap_err();
        assert!(matches!(failure.fault(), Fault::WroteOutside { behind, .. } if *behind == is_behind), "{failure}");
    }
    let half = |problem: &Problem, output: &mut [f32]| {
        NaiveEngine::sound().run(problem, output);
        problem.split(output)[1].copy_from_slice(&[f32::from_bits(0x7fc0_cafe); 5]);
    };
    let failure = Check::bounded().try_case(&case, half).unwrap_err();
    assert!(matches!(failure.fault(), Fault::NotWritten { output: 1, at: [0, 0, 0, 0], .. }), "{failure}");
}

/// Cases of a strategy, always the same.
fn drawn(cases: &Cases, count: usize) -> Vec<Case> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| cases.new_tree(&mut runner).unwrap().current()).collect()
}

/// The name of an activation without its parameters.
fn activation_name(activation: Activation) -> String {
    format!("{activation:?}").split(' ').next().unwrap().into()
}

#[test]
fn every_operator_has_every_activation() {
    let all = [
        "Clamp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Linear",
        "Relu",
        "Relu6",
        "Sigmoid",
        "Silu",
        "Tanh",
    ];
    for cases in [
        Cases::conv2d(),
        Cases::depthwise(),
        Cases::pointwise(),
        Cases::separable(),
        Cases::inverted_residual(),
        Cases::dense(),
        Cases::chain(),
        Cases::graphs(),
    ] {
        // of each operator and each of its convolutions, how often an activation was drawn
        let mut places: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for case in drawn(&cases, 3000) {
            for op in case.ops() {
                let convs = op.convs();
                let mut note = |place: usize, activation: Activation| {
                    let place = format!("{} {place} of {}", op.name(), convs.len());
                    *places.entry(place).or_default().entry(activation_name(activation)).or_default() += 1;
                };
                convs.iter().enumerate().for_each(|(place, conv)| note(place, conv.activation));
                if let Op::Add(activation) | Op::Activate(activation) = op {
                    note(0, *activation);
                }
            }
        }
        for (place, activations) in places {
            assert_eq!(activations.keys().map(String::as_str).collect::<Vec<_>>(), all, "{place}");
        }
    }
}

/// What a graph has in it that fusion may get wrong.
fn patterns(case: &Case) -> Vec<&'static str> {
    let made = |tensor: &usize| tensor.checked_sub(1).map(|at| &case.nodes[at]);
    let conv = |tensor: &usize| made(tensor).and_then(|node| node.op.convs().first().map(|conv| (node, **conv)));
    let mut found = vec![];
    for (at, node) in case.nodes.iter().enumerate() {
        let convs: Vec<_> = node.reads.iter().filter_map(conv).collect();
        match &node.op {
            Op::Add(activation) => {
                let linear = *activation == Activation::Linear;
                let distinct = node.reads[0] != node.reads[1];
                for (from, conv) in convs.iter().filter(|_| distinct) {
                    let block = node.reads.contains(&from.reads[0]);
                    match (linear, conv.activation == Activation::Linear) {
                        (false, true) if block => found.push("conv, shortcut, activation behind the sum"),
                        (true, false) if block => found.push("conv, activation before the sum, shortcut"),
                        _ => {}
                    }
                    if conv_is_second(case, from) && node.reads.contains(&made(&from.reads[0]).unwrap().reads[0]) {
                        found.push("two convolutions and a shortcut around them");
                    }
                }
                if convs.len() == 2 && distinct {
                    found.push("sum of two convolutions");
                }
            }
            Op::Scale => {
                if matches!(made(&node.reads[1]).map(|node| &node.op), Some(Op::AveragePool)) && !convs.is_empty() {
                    found.push("conv, scale by its mean");
                }
                if let Some((from, _)) = conv(&node.reads[1])
                    && matches!(made(&from.reads[0]).map(|node| &node.op), Some(Op::AveragePool))
                {
                    found.push("squeeze-and-excite");
                }
                if convs.len() == 2 && node.reads[0] != node.reads[1] {
                    found.push("product of two convolutions");
                }
            }
            Op::Concat if convs.len() == 2 && node.reads[0] != node.reads[1] => {
                found.push("concat of two convolutions");
            }
            Op::WindowPool(pool) if !convs.is_empty() => {
                found.push(if pool.maximum { "conv, maximum" } else { "conv, mean of a window" });
            }
            Op::AveragePool if !convs.is_empty() => found.push("conv, mean"),
            Op::Activate(_) if !convs.is_empty() => found.push("conv, activation by itself"),
            _ => {}
        }
        let readers = case.nodes.iter().filter(|node| node.reads.contains(&(at + 1))).count();
        if readers > 1 {
            found.push("two readers");
        }
        if readers > 0 && case.outputs.contains(&(at + 1)) {
            found.push("an output that is read");
        }
    }
    if case.outputs.len() > 1 {
        found.push("two outputs");
    }
    found
}

/// Whether a convolution reads what another one makes.
fn conv_is_second(case: &Case, node: &CaseNode) -> bool {
    node.reads[0].checked_sub(1).is_some_and(|at| !case.nodes[at].op.convs().is_empty())
}

#[test]
fn graphs_have_what_fusion_may_get_wrong() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let cases = drawn(&Cases::graphs(), 2560);
    for case in &cases {
        let mut found = patterns(case);
        found.sort_unstable();
        found.dedup();
        found.into_iter().for_each(|pattern| *counts.entry(pattern).or_default() += 1);
        assert!(case.output_shapes().is_ok() && case.macs() <= 1_000_000 && case.nodes.len() <= 4, "{case}");
    }
    assert_eq!(counts.len(), 15, "{counts:?}");
    // some of each in every run of 256
    assert!(counts.values().all(|&count| count >= 40), "{counts:?}");

    let without = [StageKind::Concat, StageKind::MaxPool, StageKind::MeanPool, StageKind::Activate];
    let cases = Cases::graphs().max_nodes(2).max_outputs(1).without(&without).max_kernel(3).uniform();
    for case in drawn(&cases.paddings(&[PaddingKind::Half]).bias(false), 1000) {
        assert!(case.nodes.len() <= 2 && case.outputs.is_empty(), "{case}");
        let problem = Problem::new(&case, Layout::Nhwc).unwrap();
        for stage in problem.stages() {
            assert!(!without.contains(&stage.kind()) && stage.bias().is_none() && stage.kernel()[0] <= 40, "{case}");
            let pads = stage.pads();
            assert_eq!([pads.bottom, pads.left, pads.right], [pads.top; 3], "{case}");
        }
    }
}

#[test]
fn graphs_keep_their_budget() {
    use sepconv::testing::StageKind::{Add, AveragePool, Depthwise, MaxPool, MeanPool, Scale, Standard};
    let doubling = |nodes| {
        let kinds = [Standard, Depthwise, AveragePool, Add, Scale, MaxPool, MeanPool];
        Cases::graphs().max_nodes(nodes).max_macs(1000).without(&kinds)
    };
    let runner = &mut TestRunner::deterministic();
    for cases in [doubling(64), doubling(300), Cases::graphs().max_nodes(300).max_macs(1000)] {
        for _ in 0..64 {
            let case = cases.new_tree(runner).unwrap().current();
            assert!(case.macs() <= 1000, "{} of {case}", case.macs());
        }
    }
}

#[test]
fn sizes_that_overflow_are_faults_of_the_case() {
    let point = || Case::new(Shape::new(1, 2, 2, 2)).pointwise(ConvCase::pointwise(1));
    let large = 1 << 40;
    for case in [
        Case::new(Shape::new(large, large, large, large)).pointwise(ConvCase::pointwise(1)),
        Case::new(Shape::new(usize::MAX, usize::MAX, usize::MAX, usize::MAX)).average_pool(),
        Case::new(Shape::new(1, 1, 1, usize::MAX / 2 + 1)).concat(&[0, 0]),
        Case::new(Shape::new(1, usize::MAX, 1, 1)).scale(&[0, 0]),
        point().gaps(0, usize::MAX / 4),
        point().gaps(usize::MAX, usize::MAX),
    ] {
        let _ = case.macs();
        let failure = Check::bounded().try_case(&case, |_: &Problem, out: &mut [f32]| out.fill(0.0)).unwrap_err();
        assert!(matches!(failure.fault(), Fault::Case(_)), "{failure}");
    }
}
