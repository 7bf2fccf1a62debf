//! What the tests of the library share: cases that proptest generates and prints, the same operators by the reference,
//! and runs on every instruction set, schedule and number of threads.

pub mod asked;
mod cases;
pub mod graphs;
mod limits;
pub mod naive;

use std::sync::{Arc, LazyLock, OnceLock};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sepconv::{
    Arithmetic, Fusion, Isa, Layout, ParallelFor, Plan, PlanOptions, Result, Schedule, Shape, Strides, Threads, View,
    ViewMut,
};
use sepconv_kernels::Kernels;

pub use cases::{ChainCase, chain, input, layers, network, reference, reference_of, runs};
pub use limits::{Limits, limits};
// canaries, random numbers and the demand for an instruction set are those of the kernels' tests
pub use sepconv_kernels_test_support::guard::{self, Guarded, Placement, note};
pub use sepconv_kernels_test_support::isa::{assert_required_isa_ran, isas};
pub use sepconv_kernels_test_support::{CANARY, Rng, ValueKind, is_canary, same_bits};

/// A way of computing that this CPU has, under the cap of `SEPCONV_MAX_ISA`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanLevel {
    /// The instruction set.
    pub isa: Isa,
    /// Whether the common bits are asked for where it has others of its own.
    pub common_bits: bool,
    /// What its results round as.
    pub arithmetic: Arithmetic,
}

impl PlanLevel {
    /// Options for as many workers as there are threads, however many cores the machine has.
    pub fn options(self) -> PlanOptions {
        PlanOptions::new().max_isa(self.isa).common_bits(self.common_bits).max_threads(sepconv::MAX_THREADS)
    }

    /// Whether every step is a call: too slow for large cases.
    pub fn is_emulated(self) -> bool {
        self.common_bits
    }
}

/// Whether plans can have the common bits on an instruction set or below it. Without the cargo feature `common-bits` they
/// can where a multiply-add is fused.
pub fn has_common_bits(isa: Isa) -> bool {
    Kernels::up_to(isa, Arithmetic::Fused).is_some()
}

/// Every instruction set that is compiled in and that this CPU can run, each with its own arithmetic; then scalar once more,
/// with the common bits, if these are compiled in.
///
/// Whoever goes over them fails where an instruction set that `SEPCONV_REQUIRE_ISA` names is none of them.
pub static LEVELS: LazyLock<Vec<PlanLevel>> = LazyLock::new(|| {
    let isas = isas();
    assert_required_isa_ran(&isas);
    let mut levels: Vec<PlanLevel> =
        isas.iter().map(|&isa| PlanLevel { isa, common_bits: false, arithmetic: isa.arithmetic() }).collect();
    if has_common_bits(Isa::Scalar) {
        levels.push(PlanLevel { isa: Isa::Scalar, common_bits: true, arithmetic: Arithmetic::Fused });
    }
    levels
});

/// Fails where an instruction set that `SEPCONV_REQUIRE_ISA` names is none of [`LEVELS`].
pub fn assert_required_levels() {
    assert_required_isa_ran(&LEVELS.iter().map(|level| level.isa).collect::<Vec<_>>());
}

/// The most threads that a test runs a case on.
pub const MOST_THREADS: usize = 8;

/// Pools of 2 to [`MOST_THREADS`] threads, each built when it is first asked for.
static POOLS: [OnceLock<Arc<rayon::ThreadPool>>; MOST_THREADS - 1] = [const { OnceLock::new() }; MOST_THREADS - 1];

/// Serial for 1, a pool of so many threads up to [`MOST_THREADS`], rayon's own for anything else.
pub fn threads(count: usize) -> Threads {
    let build = || Arc::new(rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap());
    match count {
        1 => Threads::Serial,
        2..=MOST_THREADS => Threads::Pool(POOLS[count - 2].get_or_init(build).clone()),
        _ => Threads::Global,
    }
}

/// So many threads in name: the calling one runs all tasks.
#[derive(Debug)]
pub struct OnCaller(pub usize);

impl ParallelFor for OnCaller {
    fn threads(&self) -> usize {
        self.0
    }

    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// Every way to run a block.
pub const SCHEDULES: [Fusion; 4] =
    [Fusion::Auto, Fusion::Never, Fusion::Require(Schedule::RowRing), Fusion::Require(Schedule::ChannelSlabs)];

/// A dense tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseTensor<T = f32> {
    /// Its sides.
    pub shape: Shape,
    /// Its values, in NHWC.
    pub data: Vec<T>,
}

impl DenseTensor<f32> {
    /// Random values of a kind.
    pub fn random(rng: &mut Rng, shape: Shape, values: ValueKind) -> Self {
        DenseTensor { shape, data: rng.values(shape.len().unwrap(), values) }
    }

    /// The tensor as an operator reads it.
    pub fn view(&self) -> View<'_> {
        View::new(&self.data, self.shape).unwrap()
    }
}

/// The axes of a tensor: images, rows, pixels and channels.
pub const AXES: [usize; 4] = [0, 1, 2, 3];

/// How a tensor lies in its memory: values before the first, the order of the axes, and values between those along each.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Values before the first.
    pub offset: usize,
    /// Axes, from the innermost to the outermost.
    pub order: [usize; 4],
    /// Values beside those of the axis within, for each axis in this order.
    pub gaps: [usize; 4],
}

impl Default for Frame {
    fn default() -> Self {
        Frame { offset: 0, order: Frame::NHWC, gaps: [0; 4] }
    }
}

impl Frame {
    /// Channels innermost.
    pub const NHWC: [usize; 4] = [3, 2, 1, 0];
    /// Each channel a plane.
    pub const NCHW: [usize; 4] = [2, 1, 3, 0];

    /// A dense tensor of a layout.
    pub fn of(layout: Layout) -> Frame {
        let order = if layout == Layout::Nchw { Frame::NCHW } else { Frame::NHWC };
        Frame { order, ..Frame::default() }
    }

    /// The layout that a plan for such a tensor is made for.
    pub fn layout(self) -> Layout {
        if (self.order[0], self.gaps[0]) == (3, 0) { Layout::Nhwc } else { Layout::Nchw }
    }

    /// The strides of a tensor of this shape.
    pub fn strides(self, shape: Shape) -> Strides {
        let sides = [shape.n, shape.h, shape.w, shape.c];
        let mut strides = [0; 4];
        let mut within = 1;
        for (axis, gap) in self.order.into_iter().zip(self.gaps) {
            strides[axis] = within + gap;
            within = strides[axis] * sides[axis];
        }
        let [image, row, pixel, channel] = strides;
        Strides { image, row, pixel, channel }
    }

    /// Values of the memory that ends with the tensor's last.
    fn len(self, shape: Shape) -> usize {
        self.offset + self.strides(shape).span(shape).unwrap()
    }

    /// The place in memory of each value of a dense tensor.
    fn places(self, shape: Shape) -> impl Iterator<Item = usize> {
        let Strides { image, row, pixel, channel } = self.strides(shape);
        let Shape { n, h, w, c } = shape;
        (0..n * h * w * c).map(move |i| {
            let (p, ch) = (i / c, i % c);
            let (y, x) = (p / w, p % w);
            self.offset + y / h * image + y % h * row + x * pixel + ch * channel
        })
    }

    /// A dense tensor laid out so, with zeros between values.
    pub fn write(self, dense: &[f32], shape: Shape) -> Vec<f32> {
        let mut memory = vec![0.0; self.len(shape)];
        self.places(shape).zip(dense).for_each(|(place, &value)| memory[place] = value);
        memory
    }

    /// The dense tensor that lies so.
    pub fn read(self, memory: &[f32], shape: Shape) -> Vec<f32> {
        self.places(shape).map(|place| memory[place]).collect()
    }

    /// The tensor in memory that ends with its last value, canaries between values and a guard page at one end.
    fn lay_out(self, dense: &DenseTensor) -> Guarded {
        let mut memory = Guarded::new(self.len(dense.shape));
        for (place, &value) in self.places(dense.shape).zip(&dense.data) {
            memory.slice_mut()[place] = value;
        }
        memory
    }

    /// The first difference from the tensor, or the first value written that is not of it.
    fn difference(self, memory: &[f32], expected: &DenseTensor) -> Option<String> {
        let Shape { h, w, c, .. } = expected.shape;
        let mut beside = vec![true; memory.len()];
        for (i, place) in self.places(expected.shape).enumerate() {
            beside[place] = false;
            let (got, expected) = (memory[place], expected.data[i]);
            if !same_bits(got, expected) {
                let (p, channel) = (i / c, i % c);
                let (n, y, x) = (p / (h * w), p / w % h, p % w);
                return Some(format!("({n}, {y}, {x}, {channel}): expected {expected:e}, got {got:e}"));
            }
        }
        let written = memory.iter().zip(beside).position(|(&got, beside)| beside && !is_canary(got));
        written.map(|at| format!("wrote {:e} beside the tensor, at {at}", memory[at]))
    }
}

/// Runs `body` on as many cases of a strategy, and prints the smallest that fails. `PROPTEST_CASES` scales the number
/// as it does proptest's own 256: ten times as many for a soak, fewer under emulation.
pub fn for_each_case<S: Strategy>(cases: u32, strategy: &S, body: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let default = Config::default();
    let cases = (u64::from(cases) * u64::from(default.cases)).div_ceil(256) as u32;
    let config = Config { cases, failure_persistence: None, max_global_rejects: 100 + 20 * cases, ..default };
    if let Err(failure) = TestRunner::new(config).run(strategy, body) {
        panic!("{failure}");
    }
}

/// Where a case's tensors lie, and who runs it.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// How the input lies.
    pub input: Frame,
    /// How the output lies.
    pub output: Frame,
    /// Threads besides the run on one.
    pub threads: usize,
    /// Runs once more on scratch as the first run left it.
    pub again: bool,
    /// What the planner decides by.
    pub limits: Limits,
}

impl Runs {
    /// Dense tensors, one run each, on one thread and on so many, by the library's own thresholds.
    pub fn on(threads: usize) -> Runs {
        Runs { input: Frame::default(), output: Frame::default(), threads, again: false, limits: Limits::Default }
    }
}

/// Runs a case every way there is: every level, each of `fusions`, on one thread and on several. Every result must be
/// equal, bit for bit, to the reference of its arithmetic. Input and output lie beside guard pages, now at one end and
/// now at the other; scratch is NaN and the output canaries before a run, so that a read of what was not written shows. Scratch is
/// now the plan's own, and now memory that ends before a guard page.
pub fn check(
    plan: impl Fn(&PlanOptions) -> Result<Plan>,
    fusions: &[Fusion],
    input: &DenseTensor,
    expected: impl Fn(Arithmetic) -> DenseTensor,
    macs: u64,
    runs: Runs,
) -> Result<(), TestCaseError> {
    let [mut fused, mut separate] = [None, None];
    let strides = runs.input.strides(input.shape);
    let memory = Placement::ALL.map(|placement| placement.with(|| runs.input.lay_out(input)));
    let views =
        [0, 1].map(|i| View::with_strides(&memory[i].slice()[runs.input.offset..], input.shape, strides).unwrap());
    let mut turn = 0;
    for &level in LEVELS.iter().filter(|level| !level.is_emulated() || macs <= EMULATED_MACS) {
        let expected: &DenseTensor = match level.arithmetic {
            Arithmetic::Fused => fused.get_or_insert_with(|| expected(Arithmetic::Fused)),
            Arithmetic::Separate => separate.get_or_insert_with(|| expected(Arithmetic::Separate)),
            other => panic!("no reference of {other:?}"),
        };
        for &fusion in fusions {
            for count in [1, runs.threads] {
                let fail = |e: String| TestCaseError::fail(format!("{level:?}, {fusion:?}, {count} threads: {e}"));
                let mut options = level.options().fusion(fusion).threads(threads(count));
                options = options.input_layout(runs.input.layout()).output_layout(runs.output.layout());
                if count > 2 {
                    // more threads than the cores of a small machine should not wait for each other on them
                    options = options.spins(100);
                }
                if let Some(thresholds) = runs.limits.thresholds(level.isa) {
                    options = options.thresholds(thresholds);
                }
                let plan = match plan(&options) {
                    Err(error) if runs.limits.may_refuse(&error) => continue,
                    plan => plan.map_err(|e| fail(format!("no plan: {e}")))?,
                };
                let (shape, isa) = (plan.output_shape(), plan.isa());
                if (plan.input_shape(), shape) != (input.shape, expected.shape) {
                    return Err(fail(format!("the plan's output is {shape}, expected {}", expected.shape)));
                }
                if (isa, plan.arithmetic()) != (level.isa, level.arithmetic) {
                    return Err(fail(format!("the plan runs on {isa} with {:?}", plan.arithmetic())));
                }
                let mut scratch = plan.scratch().map_err(|e| fail(format!("no scratch: {e}")))?;
                scratch.as_mut_slice().fill(0xFF);
                let mut memory = Placement::End.with(|| Guarded::filled(plan.scratch_bytes(), 0xFFu8));
                for _ in 0..1 + usize::from(runs.again) {
                    // so that neither end goes with one number of threads
                    let end = (turn + turn / 2) % 2;
                    let placement = Placement::ALL[end];
                    let mut out = placement.with(|| Guarded::new(runs.output.len(shape)));
                    let to = &mut out.slice_mut()[runs.output.offset..];
                    let to = ViewMut::with_strides(to, shape, runs.output.strides(shape)).unwrap();
                    note(&format!("{level:?}, {fusion:?}, {count} threads, {placement:?}\n{}", plan.explain()));
                    // neither does the memory
                    let result = match (turn / 2 + usize::from(count > 1)) % 2 {
                        0 => plan.run(views[end], to, &mut scratch),
                        _ => plan.run_in(views[end], to, memory.slice_mut()),
                    };
                    result.map_err(|e| fail(format!("no run: {e}")))?;
                    if let Some(difference) = runs.output.difference(out.slice(), expected) {
                        return Err(fail(format!("{difference}\n{}", plan.explain())));
                    }
                    turn += 1;
                }
            }
        }
    }
    Ok(())
}

/// More than this is too slow where a fused multiply-add is a call.
const EMULATED_MACS: u64 = 200_000;
