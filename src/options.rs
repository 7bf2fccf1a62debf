//! What a caller can decide about a plan.

use std::sync::OnceLock;

use crate::plan::cost::Thresholds;
use crate::threads::cores;
use crate::{Error, Isa, Layout, MAX_THREADS, Result, Threads};

/// Whether the stages of a block run as one, the tensor between them never going to memory as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fusion {
    /// The plan decides.
    #[default]
    Auto,
    /// Every stage on its own.
    Never,
    /// By this schedule, or an error where it cannot be had.
    Require(Schedule),
}

/// How a fused block goes over its plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// A ring of a few rows of all channels: for large planes.
    RowRing,
    /// The whole plane, some channels at a time: for small planes.
    ChannelSlabs,
}

/// Polls of a waiting worker before it sleeps, unless [`PlanOptions::spins`] sets another number: some tenths of a millisecond, which
/// is longer than any wait in a network whose workers are all running.
pub(crate) const SPINS: u32 = 20_000;

/// The options of a plan. The default is one thread, the best instruction set, and fusion where it pays.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    pub(crate) threads: Threads,
    pub(crate) max_threads: Option<usize>,
    pub(crate) isa: Option<Isa>,
    pub(crate) fusion: Fusion,
    pub(crate) common_bits: bool,
    /// Of the input and the output.
    pub(crate) layouts: [Layout; 2],
    pub(crate) spins: u32,
    #[cfg(feature = "testing")]
    thresholds: Option<Box<Thresholds>>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            threads: Threads::default(),
            max_threads: None,
            isa: None,
            fusion: Fusion::default(),
            common_bits: false,
            layouts: [Layout::Nhwc; 2],
            spins: SPINS,
            #[cfg(feature = "testing")]
            thresholds: None,
        }
    }
}

impl PlanOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The threads that do the work of a run.
    ///
    /// The plan is for as many workers as `threads` has threads now: see `Threads::Global` where that depends on the caller.
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// The most threads that a run may take, however many the pool has. The default is the number of CPUs that this process may use,
    /// since more workers than that only wait for each other. At most [`MAX_THREADS`] are taken. 0 means 1.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = Some(threads);
        self
    }

    /// Polls of a worker that waits for others between two steps, before it sleeps. A poll takes some 20 ns; the default is 20,000.
    ///
    /// A worker keeps its core for the first 500 polls, or for none where more workers than cores run. Then it offers the core to other
    /// threads at each poll, which counts as 25. Polling answers at once.
    /// Waking a sleeping worker takes tens of microseconds. Fewer polls suit a machine whose cores have other work; 0 suits one that must not
    /// burn any.
    pub fn spins(mut self, spins: u32) -> Self {
        self.spins = spins;
        self
    }

    /// Caps the instruction set, as the environment variable `SEPCONV_MAX_ISA` does. The variable is read once, and an
    /// empty one is no cap. A cap that is not available (see [`Isa::is_available`]) takes the next one down.
    pub fn max_isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Whether blocks are fused.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// The layout of the input and of the output: NHWC unless set. Strides are given by the views of a run.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// use sepconv::{ConvDesc, Filter, Layout, PlanOptions, PointwiseConv2d, Shape, View, ViewMut};
    /// let op = PointwiseConv2d::new(ConvDesc::new(Filter::io(&[1.0, 2.0, 3.0, 4.0], [2, 2])))?;
    /// let plan = op.plan(Shape::new(1, 1, 3, 2), &PlanOptions::new().layout(Layout::Nchw))?;
    /// // two planes of three pixels
    /// let (input, mut output) = ([1.0, 2.0, 3.0, 10.0, 20.0, 30.0], [0.0; 6]);
    /// let (from, to) = (View::nchw(&input, plan.input_shape())?, ViewMut::nchw(&mut output, plan.output_shape())?);
    /// plan.run(from, to, &mut plan.scratch()?)?;
    /// assert_eq!(output, [31.0, 62.0, 93.0, 42.0, 84.0, 126.0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layouts = [layout; 2];
        self
    }

    /// The layout of the input alone, as [`PlanOptions::layout`].
    pub fn input_layout(mut self, layout: Layout) -> Self {
        self.layouts[0] = layout;
        self
    }

    /// The layout of the output alone, as [`PlanOptions::layout`].
    pub fn output_layout(mut self, layout: Layout) -> Self {
        self.layouts[1] = layout;
        self
    }

    /// Asks for the bits of a fused multiply-add also where the CPU, or the cap on it, has none: scalar kernels emulate it, some
    /// fifty times slower. Without the cargo feature `common-bits`, a plan there is [`Error::Isa`].
    pub fn common_bits(mut self, common_bits: bool) -> Self {
        self.common_bits = common_bits;
        self
    }

    /// Workers of a plan with these options.
    pub(crate) fn workers(&self) -> usize {
        self.threads.count().min(self.max_threads.unwrap_or_else(cores)).clamp(1, MAX_THREADS)
    }

    /// Sets the thresholds of the planner, so that tests reach every way of it on small cases. Results have the same bits.
    #[cfg(feature = "testing")]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = Some(Box::new(thresholds));
        self
    }

    /// The thresholds of a plan for an instruction set.
    pub(crate) fn thresholds_for(&self, isa: Isa) -> Thresholds {
        #[cfg(feature = "testing")]
        if let Some(thresholds) = &self.thresholds {
            return **thresholds;
        }
        Thresholds::of(isa)
    }

    /// The instruction set that a plan with these options runs on.
    pub fn isa(&self) -> Result<Isa> {
        let max = max_isa()?;
        Ok(match self.isa {
            Some(cap) if cap.is_at_most(max) => Isa::best_up_to(cap),
            _ => max,
        })
    }
}

/// The best instruction set of this CPU, capped by `SEPCONV_MAX_ISA`, which is read once. An empty variable is as one
/// that is not set.
fn max_isa() -> Result<Isa> {
    static MAX_ISA: OnceLock<Result<Isa>> = OnceLock::new();
    let read = || match std::env::var("SEPCONV_MAX_ISA") {
        Err(std::env::VarError::NotPresent) => Ok(Isa::best()),
        Ok(name) if name.is_empty() => Ok(Isa::best()),
        Ok(name) => name.parse().map(Isa::best_up_to).map_err(|e| Error::Isa(format!("SEPCONV_MAX_ISA={name}: {e}"))),
        Err(e) => Err(Error::Isa(format!("SEPCONV_MAX_ISA: {e}"))),
    };
    MAX_ISA.get_or_init(read).clone()
}
