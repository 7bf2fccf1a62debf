//! The runner: a kernel, held to the reference.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sepconv_kernels::Arithmetic;

use super::Case;
use super::bound::{self, Expected, Policies, Why};
use super::problem::Problem;
use crate::Error;
use crate::{Layout, Shape};

/// Where the reference gives NaN, or the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NanPolicy {
    /// NaN is where the reference has it, and nowhere else.
    #[default]
    Same,
    /// Anything is taken where the reference has NaN, or has made something of one: for kernels whose minimum and
    /// maximum return the other operand. NaN where the reference has a number is a difference.
    MayBeLost,
    /// As [`MayBeLost`](Self::MayBeLost), and NaN is taken everywhere.
    Unchecked,
}

/// Where an operand is infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InfPolicy {
    /// Infinities, and what becomes of them, are where the reference has them.
    #[default]
    Same,
    /// Anything is taken of a sum in which an operand is infinite.
    Unchecked,
}

/// Whether padding takes part in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaddingPolicy {
    /// Padding is a zero like any other: times an infinite weight it is NaN.
    #[default]
    Multiplied,
    /// Kernels that leave taps in padding out are taken too: a sum in which padding meets a weight that is infinite or
    /// NaN is not compared.
    Skipped,
}

/// Whether denormals must be computed. Only bounds know of it; equal bits are equal bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denormals {
    /// They are numbers like others.
    #[default]
    Kept,
    /// Operands and results may be flushed to zero.
    MayBeFlushed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Bits(Arithmetic),
    Bounded,
}

/// What a kernel says of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The output was written.
    Computed,
    /// The kernel is not for such a case: another is taken in its place.
    Unsupported,
}

/// What a kernel may return: `()` or a [`Reply`], or a `Result` of either, whose error is a failure.
pub trait IntoReply {
    /// The reply, or what went wrong.
    fn into_reply(self) -> Result<Reply, String>;
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(Reply::Computed)
    }
}

impl IntoReply for Reply {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(self)
    }
}

impl<T: IntoReply, E: fmt::Display> IntoReply for Result<T, E> {
    fn into_reply(self) -> Result<Reply, String> {
        // anyhow's alternate form has the causes in it
        self.map_err(|e| format!("{e:#}"))?.into_reply()
    }
}

/// How a kernel is checked.
///
/// A kernel is a function of a [`Problem`] and of the memory of the output, which holds values that no sum gives; it
/// writes every value of the output, and none between pixels. Where there are several outputs, that memory has all of them
/// ([`Problem::split`]). It may keep scratch from call to call: each case is run
/// twice, the second time with another input ([`runs`](Self::runs)).
///
/// ```
/// use sepconv::testing::*;
///
/// // a mean that forgets to divide
/// let kernel = |problem: &Problem, output: &mut [f32]| {
///     let c = problem.input_shape().c;
///     output.fill(0.0);
///     for (i, v) in problem.input().iter().enumerate() {
///         output[i / (problem.input().len() / output.len() * c) * c + i % c] += v;
///     }
/// };
/// let failure = Check::bounded().try_run(Cases::average_pool(), kernel).unwrap_err();
/// // the smallest case has two pixels, and the line that it prints is Rust
/// println!("{failure}");
/// assert_eq!(failure.case().unwrap().input.pixels(), 2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a check checks nothing until it is run"]
pub struct Check {
    mode: Mode,
    layout: Layout,
    policies: Policies,
    runs: u32,
    cases: Option<u32>,
    seed: Option<u64>,
}

impl Check {
    fn new(mode: Mode) -> Check {
        let policies = Policies {
            nan: NanPolicy::Same,
            inf: InfPolicy::Same,
            padding: PaddingPolicy::Multiplied,
            denormals: Denormals::Kept,
            slack: 1.0,
        };
        Check { mode, layout: Layout::Nhwc, policies, runs: 2, cases: None, seed: None }
    }

    /// Every bit is that of the reference: the order of the contract, each step rounded as `arithmetic` says. One NaN
    /// is as good as another.
    pub fn bits(arithmetic: Arithmetic) -> Check {
        Check::new(Mode::Bits(arithmetic))
    }

    /// Every value is within the error bound that holds for any order of the sum, rounded once a step or twice:
    /// `γₙ Σ|x × w|` of the f64 result, carried through all stages of a block. [`docs::conformance`](crate::docs::conformance#the-bound) has it in full.
    pub fn bounded() -> Check {
        Check::new(Mode::Bounded)
    }

    /// How the kernel's tensors lie in memory: [`Layout::Nhwc`] unless told.
    pub fn layout(mut self, layout: Layout) -> Check {
        self.layout = layout;
        self
    }

    /// What is taken where NaN comes up: [`NanPolicy::Same`] unless told.
    pub fn nan(mut self, policy: NanPolicy) -> Check {
        self.policies.nan = policy;
        self
    }

    /// What is taken where an infinity comes up: [`InfPolicy::Same`] unless told.
    pub fn inf(mut self, policy: InfPolicy) -> Check {
        self.policies.inf = policy;
        self
    }

    /// Whether padding takes part in sums: [`PaddingPolicy::Multiplied`] unless told.
    pub fn padding(mut self, policy: PaddingPolicy) -> Check {
        self.policies.padding = policy;
        self
    }

    /// Whether denormals may be flushed, for bounds: [`Denormals::Kept`] unless told.
    pub fn denormals(mut self, denormals: Denormals) -> Check {
        self.policies.denormals = denormals;
        self
    }

    /// A factor on the bound, for algorithms that it does not hold for: those of Winograd and of fast Fourier
    /// transforms add and cancel what is no product of the convolution.
    pub fn slack(mut self, factor: f64) -> Check {
        self.policies.slack = factor;
        self
    }

    /// How often each case is run, each time with another input: twice unless told, so that what a kernel keeps from
    /// one run to the next shows.
    pub fn runs(mut self, runs: u32) -> Check {
        self.runs = runs.max(1);
        self
    }

    /// How many cases a run takes: as many as proptest does unless told, which is 256, or `PROPTEST_CASES`.
    pub fn cases(mut self, cases: u32) -> Check {
        self.cases = Some(cases);
        self
    }

    /// From which cases are drawn: another seed at each run unless told.
    pub fn seed(mut self, seed: u64) -> Check {
        self.seed = Some(seed);
        self
    }

    /// Runs a kernel on cases of a strategy, such as [`Cases`](super::Cases), and shrinks the first that fails.
    ///
    /// # Panics
    /// With the [`Failure`], where there is one.
    #[track_caller]
    pub fn run<R: IntoReply>(
        &self,
        cases: impl Strategy<Value = Case>,
        kernel: impl FnMut(&Problem, &mut [f32]) -> R,
    ) -> Summary {
        match self.try_run(cases, kernel) {
            Ok(summary) => summary,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// [`run`](Self::run), without the panic.
    ///
    /// # Errors
    /// The smallest case that fails, with what is wrong; or that the kernel took next to none.
    pub fn try_run<R: IntoReply>(
        &self,
        cases: impl Strategy<Value = Case>,
        kernel: impl FnMut(&Problem, &mut [f32]) -> R,
    ) -> Result<Summary, Box<Failure>> {
        let mut config = Config { failure_persistence: None, ..Config::default() };
        config.cases = self.cases.unwrap_or(config.cases);
        config.max_global_rejects = 100 + 20 * config.cases;
        // a seed of a case is as good as another: there is no need to look for the smallest
        config.max_shrink_iters = config.max_shrink_iters.min(20_000);
        let mut runner = match self.seed {
            None => TestRunner::new(config),
            Some(seed) => {
                let bytes: Vec<u8> = (0..4u64).flat_map(|i| seed.wrapping_add(i).to_le_bytes()).collect();
                TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
            }
        };
        let kernel = RefCell::new(kernel);
        let summary = RefCell::new(Summary::default());
        // what failed last is what shrinking has come to
        let last = RefCell::new(None);
        let outcome = runner.run(&cases, |case| {
            let one = self.one(&case, &mut *kernel.borrow_mut());
            match one {
                Ok(Some(of_case)) => summary.borrow_mut().add(&of_case),
                Ok(None) => {
                    summary.borrow_mut().declined += 1;
                    return Err(TestCaseError::reject("the kernel is not for such a case"));
                }
                Err(failure) => {
                    *last.borrow_mut() = Some(failure);
                    return Err(TestCaseError::fail("differs"));
                }
            }
            Ok(())
        });
        let summary = summary.into_inner();
        match outcome {
            Ok(()) => Ok(summary),
            Err(TestError::Fail(reason, case)) => Err(last.into_inner().unwrap_or_else(|| {
                Box::new(Failure {
                    case: Some(case),
                    check: self.clone(),
                    run: 0,
                    fault: Fault::Kernel(reason.to_string()),
                })
            })),
            Err(TestError::Abort(_)) => {
                let fault = Fault::Declined { declined: summary.declined, computed: summary.cases };
                Err(Box::new(Failure { case: None, check: self.clone(), run: 0, fault }))
            }
        }
    }

    /// Runs a kernel on one case: what a failure prints.
    ///
    /// # Panics
    /// With the [`Failure`], where there is one; and where the kernel replies that the case is not for it.
    #[track_caller]
    pub fn case<R: IntoReply>(&self, case: &Case, kernel: impl FnMut(&Problem, &mut [f32]) -> R) -> Summary {
        match self.try_case(case, kernel) {
            Ok(summary) => summary,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// [`case`](Self::case), without the panic.
    ///
    /// # Errors
    /// What is wrong with the kernel's output, or with the case.
    pub fn try_case<R: IntoReply>(
        &self,
        case: &Case,
        mut kernel: impl FnMut(&Problem, &mut [f32]) -> R,
    ) -> Result<Summary, Box<Failure>> {
        self.one(case, &mut kernel)?.ok_or_else(|| {
            let fault = Fault::Declined { declined: 1, computed: 0 };
            Box::new(Failure { case: Some(case.clone()), check: self.clone(), run: 0, fault })
        })
    }

    /// `None` where the kernel is not for such a case.
    fn one<R: IntoReply>(
        &self,
        case: &Case,
        kernel: &mut impl FnMut(&Problem, &mut [f32]) -> R,
    ) -> Result<Option<Summary>, Box<Failure>> {
        let failure =
            |run: u32, fault: Fault| Box::new(Failure { case: Some(case.clone()), check: self.clone(), run, fault });
        let mut summary = Summary { cases: 1, ..Summary::default() };
        let mut problem = Problem::new(case, self.layout).map_err(|e| failure(0, Fault::Case(e)))?;
        for run in 0..self.runs {
            problem.renew(u64::from(run));
            let span = problem.output_span();
            let mut memory = vec![CANARY; span + BEHIND];
            let reply = catch_unwind(AssertUnwindSafe(|| kernel(&problem, &mut memory[..span]).into_reply()));
            match reply {
                Ok(Ok(Reply::Computed)) => {}
                Ok(Ok(Reply::Unsupported)) => return Ok(None),
                Ok(Err(error)) => return Err(failure(run, Fault::Kernel(error))),
                Err(panic) => {
                    let text = panic.downcast_ref::<&str>().map(|s| String::from(*s));
                    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                    let text = format!("it panicked: {}", text.as_deref().unwrap_or("with no message"));
                    return Err(failure(run, Fault::Kernel(text)));
                }
            }
            summary.add(&self.compare(&problem, &memory).map_err(|fault| failure(run, fault))?);
        }
        Ok(Some(summary))
    }

    /// The memory of all outputs against the reference.
    fn compare(&self, problem: &Problem, memory: &[f32]) -> Result<Summary, Fault> {
        let strict = self.policies.nan == NanPolicy::Same
            && self.policies.inf == InfPolicy::Same
            && self.policies.padding == PaddingPolicy::Multiplied;
        let arithmetic = match self.mode {
            Mode::Bits(arithmetic) => arithmetic,
            Mode::Bounded => Arithmetic::Fused,
        };
        let singles = problem.references_f32(arithmetic);
        let bounds = || bound::expected(problem, &self.policies);
        let expected = if strict && self.mode != Mode::Bounded { None } else { Some(bounds()) };

        let mut summary = Summary::default();
        let mut first: Option<(usize, usize, usize)> = None;
        let mut written = vec![false; memory.len()];
        for (number, (output, single)) in problem.outputs().iter().zip(&singles).enumerate() {
            for (at, &single) in single.iter().enumerate() {
                let place = place_of(output.shape, at);
                let index = output.place(place);
                written[index] = true;
                if memory[index].to_bits() == CANARY.to_bits() {
                    return Err(Fault::NotWritten { output: number, at: place });
                }
                summary.values += 1;
                let known = expected.as_ref().map(|expected| expected[number][at]);
                match self.is_same(memory[index], single, known, &mut summary.worst) {
                    None => summary.unchecked += 1,
                    Some(true) => {}
                    Some(false) => match &mut first {
                        None => first = Some((number, at, 1)),
                        Some((of, _, count)) => *count += usize::from(*of == number),
                    },
                }
            }
        }
        // what the kernel had no business to write
        for (index, &v) in memory.iter().enumerate() {
            if !written[index] && v.to_bits() != CANARY.to_bits() {
                let behind = !problem.outputs().iter().any(|output| output.range.contains(&index));
                return Err(Fault::WroteOutside { index, value: v, behind });
            }
        }
        let Some((number, at, count)) = first else { return Ok(summary) };
        let output = &problem.outputs()[number];
        let place = place_of(output.shape, at);
        let interval = match expected.unwrap_or_else(bounds)[number][at] {
            Expected::Within { lo, hi, .. } => Some([lo, hi]),
            Expected::Nan | Expected::Unchecked(Why::Order | Why::Policy) => None,
        };
        Err(Fault::Differs(Difference {
            output: number,
            at: place,
            theirs: memory[output.place(place)],
            single: singles[number][at],
            double: problem.references_f64()[number][at],
            interval,
            count,
            of: singles[number].len(),
        }))
    }

    /// Whether a value is taken; `None` where it is not compared. `worst` becomes the largest part of a bound.
    fn is_same(&self, theirs: f32, single: f32, known: Option<Expected>, worst: &mut f64) -> Option<bool> {
        match (self.mode, known) {
            _ if theirs.is_nan() && self.policies.nan == NanPolicy::Unchecked => None,
            // where a policy leaves values open, an overflow that depends on the order may come of it as well
            (Mode::Bits(_), Some(Expected::Unchecked(_))) => None,
            (Mode::Bits(_), _) if single.is_nan() && self.policies.nan != NanPolicy::Same => None,
            (Mode::Bits(_), _) => Some(theirs.to_bits() == single.to_bits() || (theirs.is_nan() && single.is_nan())),
            (Mode::Bounded, None | Some(Expected::Unchecked(_))) => None,
            (Mode::Bounded, Some(Expected::Nan)) => Some(theirs.is_nan()),
            (Mode::Bounded, Some(Expected::Within { value, lo, hi })) => {
                let got = f64::from(theirs);
                let same = lo <= got && got <= hi;
                if same && lo < hi {
                    let room = if got < value { value - lo } else { hi - value };
                    *worst = worst.max((got - value).abs() / room.max(f64::MIN_POSITIVE));
                }
                Some(same)
            }
        }
    }
}

/// Batch, row, column and channel of a value of a dense NHWC tensor.
fn place_of(shape: Shape, at: usize) -> [usize; 4] {
    let (c, pixel) = (at % shape.c, at / shape.c);
    [pixel / (shape.h * shape.w), pixel / shape.w % shape.h, pixel % shape.w, c]
}

impl fmt::Display for Check {
    /// The Rust that makes it, without what only [`run`](Check::run) uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            Mode::Bits(arithmetic) => write!(f, "Check::bits(Arithmetic::{arithmetic:?})")?,
            Mode::Bounded => f.write_str("Check::bounded()")?,
        }
        let Policies { nan, inf, padding, denormals, slack } = self.policies;
        if self.layout != Layout::Nhwc {
            write!(f, ".layout(Layout::{:?})", self.layout)?;
        }
        if nan != NanPolicy::Same {
            write!(f, ".nan(NanPolicy::{nan:?})")?;
        }
        if inf != InfPolicy::Same {
            write!(f, ".inf(InfPolicy::{inf:?})")?;
        }
        if padding != PaddingPolicy::Multiplied {
            write!(f, ".padding(PaddingPolicy::{padding:?})")?;
        }
        if denormals != Denormals::Kept {
            write!(f, ".denormals(Denormals::{denormals:?})")?;
        }
        if slack != 1.0 {
            write!(f, ".slack({slack:?})")?;
        }
        if self.runs != 2 {
            write!(f, ".runs({})", self.runs)?;
        }
        Ok(())
    }
}

/// What the output holds before a kernel runs: no computation gives it.
const CANARY: f32 = f32::from_bits(0x7fc0_cafe);

/// Values behind the output, which a kernel that has the pointer may reach and must not.
const BEHIND: usize = 64;

/// What a check that found nothing has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Cases that the kernel computed.
    pub cases: u32,
    /// Cases that it declined.
    pub declined: u32,
    /// Values of outputs, over all cases and runs.
    pub values: u64,
    /// Those of them that were not compared: a policy says so, or the order of the sum decides whether it overflows.
    pub unchecked: u64,
    /// The largest error, as a part of the bound: 1 is all of it. Zero in bit mode.
    pub worst: f64,
}

impl Summary {
    fn add(&mut self, other: &Summary) {
        self.cases += other.cases;
        self.declined += other.declined;
        self.values += other.values;
        self.unchecked += other.unchecked;
        self.worst = self.worst.max(other.worst);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { cases, declined, values, unchecked, worst } = self;
        write!(f, "{cases} cases, {declined} declined; {values} values, {unchecked} not compared")?;
        if *worst > 0.0 {
            write!(f, "; largest error {:.1} % of its bound", 100.0 * worst)?;
        }
        Ok(())
    }
}

/// A value that differs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// Which output it is of, from 0.
    pub output: usize,
    /// Batch, row, column and channel.
    pub at: [usize; 4],
    /// What the kernel gave.
    pub theirs: f32,
    /// What the reference gives in f32.
    pub single: f32,
    /// What the reference gives in f64.
    pub double: f64,
    /// From where to where a value is within the bound; none where the reference gives NaN.
    pub interval: Option<[f64; 2]>,
    /// How many values of this output differ.
    pub count: usize,
    /// How many values it has.
    pub of: usize,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// A value is not that of the reference.
    Differs(Difference),
    /// A value of the output was left as it was.
    #[non_exhaustive]
    NotWritten {
        /// Which output it is of, from 0.
        output: usize,
        /// Batch, row, column and channel.
        at: [usize; 4],
    },
    /// Memory between pixels, or behind an output, was written.
    #[non_exhaustive]
    WroteOutside {
        /// Where, from the first value of the first output.
        index: usize,
        /// What it holds now.
        value: f32,
        /// Whether it is behind the last value of an output.
        behind: bool,
    },
    /// The kernel returned an error, or panicked.
    Kernel(String),
    /// There is no such case.
    Case(Error),
    /// The kernel is for next to none of the cases, or not for the one given.
    #[non_exhaustive]
    Declined {
        /// Cases that it declined.
        declined: u32,
        /// Cases that it computed.
        computed: u32,
    },
}

/// Why a kernel did not pass. Printed, it says how to repeat it.
#[derive(Clone, Debug)]
pub struct Failure {
    case: Option<Case>,
    check: Check,
    run: u32,
    fault: Fault,
}

impl Failure {
    /// The smallest case that failed.
    pub fn case(&self) -> Option<&Case> {
        self.case.as_ref()
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The run of the case that failed, from 0: each has an input of its own.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// A line of Rust that repeats it, given `use sepconv::testing::*;` and the kernel by the name of `kernel`.
    pub fn line(&self) -> Option<String> {
        self.case.as_ref().map(|case| format!("{}.case(&{case}, kernel);", self.check))
    }
}

fn bits(v: f32) -> String {
    format!("{v:?} (0x{:08x})", v.to_bits())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Differs(_) => f.write_str("the kernel differs from the reference")?,
            Fault::NotWritten { .. } => f.write_str("the kernel left a value of its output unwritten")?,
            Fault::WroteOutside { behind: true, .. } => f.write_str("the kernel wrote behind its output")?,
            Fault::WroteOutside { .. } => f.write_str("the kernel wrote between the pixels of its output")?,
            Fault::Kernel(error) => write!(f, "the kernel failed: {error}")?,
            Fault::Case(error) => write!(f, "no such case: {error}")?,
            Fault::Declined { declined, computed } => {
                write!(f, "the kernel declined {declined} cases, and computed {computed}")?;
            }
        }
        if let Some(line) = self.line() {
            write!(f, "\n  repeat  {line}")?;
        }
        if self.run > 0 {
            write!(
                f,
                "\n  run     {}, whose input is another than that of run 0: is anything kept between runs?",
                self.run
            )?;
        }
        // which of several
        let of_output = |output: &usize| match &self.case {
            Some(case) if case.outputs.len() > 1 => format!(" of output {output}"),
            _ => String::new(),
        };
        match &self.fault {
            Fault::Differs(Difference { output, at, theirs, single, double, interval, count, of }) => {
                let ([n, y, x, c], output) = (at, of_output(output));
                write!(
                    f,
                    "\n  where   (n, y, x, c) = ({n}, {y}, {x}, {c}){output}, the first of {count} that differ, of {of}"
                )?;
                write!(f, "\n  theirs  {}", bits(*theirs))?;
                write!(f, "\n  f32     {}", bits(*single))?;
                write!(f, "\n  f64     {double:?}")?;
                if let Some([lo, hi]) = interval {
                    write!(f, "\n  bound   {lo:?} to {hi:?}")?;
                }
            }
            Fault::NotWritten { output, at: [n, y, x, c] } => {
                write!(f, "\n  where   (n, y, x, c) = ({n}, {y}, {x}, {c}){}", of_output(output))?;
            }
            Fault::WroteOutside { index, value, .. } => {
                write!(f, "\n  where   value {index} of its memory\n  theirs  {}", bits(*value))?;
            }
            Fault::Kernel(_) | Fault::Case(_) | Fault::Declined { .. } => {}
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
