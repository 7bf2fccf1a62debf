//! The conformance kit finds planted faults, and nothing where there is none.
//!
//! [`NaiveEngine`] is a copy of the reference in loops of its own, with a switch for each fault.

use sepconv::testing::reference::Number as _;
use sepconv::testing::*;

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
}

/// The naive kernel, and the scratch that it keeps.
#[derive(Default)]
struct NaiveEngine {
    planted: Option<Planted>,
    scratch: Vec<f32>,
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
        for (at, stage) in problem.stages().iter().enumerate() {
            let shortcut = stage.shortcut_from().map(|from| tensors[from].clone());
            let result = match stage.kind() {
                StageKind::AveragePool => self.average(stage, &tensors[at]),
                _ => self.convolve(stage, &tensors[at], shortcut.as_deref()),
            };
            tensors.push(result);
        }
        self.scatter(problem, &tensors[tensors.len() - 1], output);
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

    fn scatter(&self, problem: &Problem, result: &[f32], output: &mut [f32]) {
        let Shape { n, h, w, c } = problem.output_shape();
        for pixel in 0..n * h * w {
            if self.has(Planted::LastPixelUnwritten) && pixel > 0 && pixel == n * h * w - 1 {
                continue;
            }
            let strides = problem.output_strides();
            for channel in 0..c {
                output[place(strides, problem.output_shape(), pixel, channel)] = result[pixel * c + channel];
            }
            // the value behind a pixel, or behind a row of a plane, where a gap is
            let dense = Strides::dense(problem.layout(), problem.output_shape());
            if self.has(Planted::OutputGapWritten) && (strides.pixel, strides.row) != (dense.pixel, dense.row) {
                let last = place(strides, problem.output_shape(), pixel, c - 1);
                let ends = problem.layout() == Layout::Nhwc || (pixel + 1).is_multiple_of(w);
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
            let bounds = stage.activation_of(oc).bounds();
            let [lo, hi] = bounds.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
            let hi = if self.has(Planted::UpperBoundForgotten) { f32::INFINITY } else { hi };
            let clamp = |v: f32| {
                if bounds.is_none() {
                    let twice = self.has(Planted::RoundedTwice);
                    let arithmetic = if twice { Arithmetic::Separate } else { Arithmetic::Fused };
                    return v.activate(stage.activation_of(oc).into(), arithmetic);
                }
                if self.has(Planted::ClampEatsNan) {
                    return v.max(lo).min(hi);
                }
                let v = if lo > v { lo } else { v };
                if hi < v { hi } else { v }
            };
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
    let mut engine = NaiveEngine::with(Planted::RoundedTwice);
    let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
    Check::bits(Arithmetic::Separate).run(small(Cases::chain()), kernel);
}

#[test]
fn what_is_right_but_for_its_bits_is_within_the_bound() {
    for planted in [Planted::ColumnsFirst, Planted::RoundedTwice, Planted::FoldedInSingle, Planted::Reciprocal] {
        let mut engine = NaiveEngine::with(planted);
        let kernel = |problem: &Problem, output: &mut [f32]| engine.run(problem, output);
        let summary = Check::bounded().run(small(Cases::chain()), kernel);
        assert!(summary.worst <= 1.0, "{planted:?}: {summary}");
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
