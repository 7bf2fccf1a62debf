//! A plan: every decision made, ready to run; and how it explains itself.

use core::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use sepconv_kernels::{KernelKind, Kernels};

use crate::memory::{self, Aligned, Arc, Carver, product};
use crate::program::{Lowering, Node, Program, Refused, Run, lower};
use crate::team::{self, Crew};
use crate::threads::process;
use crate::{Arithmetic, Error, Isa, PlanOptions, Result, Shape, Threads, View, ViewMut};

/// An operator or a network, planned for one input shape.
///
/// A plan is cheap to clone, shares its weights, and serves many threads at once, each with a [`Scratch`] of its own.
/// Beside weights it holds tables of offsets: at most five a step, and at most 64 KiB each.
///
/// A plan for a batch of no images has no stages and needs no scratch; a run of it writes nothing.
#[derive(Clone, Debug)]
pub struct Plan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    program: Program,
    pieces: Vec<usize>,
    input: Shape,
    output: Shape,
    kernels: &'static Kernels,
    threads: Threads,
    workers: usize,
    /// The process that made the plan: after `fork` the threads are elsewhere.
    process: u32,
    /// Polls of a waiting worker before it sleeps.
    spins: u32,
    /// Where the scratch of the first worker begins, behind the tensors between steps.
    workers_at: usize,
    /// Values of scratch in all.
    memory: usize,
}

/// The memory of a run: tensors between steps, and what each worker needs for itself. Made by [`Plan::scratch`].
#[derive(Debug)]
pub struct Scratch {
    plan: u64,
    memory: Aligned,
    /// None for a plan of one worker.
    crew: Option<Crew>,
}

impl Scratch {
    /// The memory itself. What it holds between runs means nothing and may be overwritten.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.memory
    }
}

/// The pointers of one run, shared with its workers.
struct Shared<'a>(Run<'a>);

// SAFETY: workers write disjoint pieces of what the pointers lead to, and a step is only begun when the one before is
// done.
unsafe impl Sync for Shared<'_> {}

impl Plan {
    pub(crate) fn new(nodes: &[Node], input: Shape, options: &PlanOptions) -> Result<Plan, Refused> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let isa = options.isa()?;
        let arithmetic = if options.common_bits { Arithmetic::Fused } else { isa.arithmetic() };
        let kernels = Kernels::up_to(isa, arithmetic)
            .ok_or_else(|| Error::Isa(format!("common bits on {isa} need the cargo feature `common-bits`")))?;
        let workers = options.workers();
        let output = nodes.iter().try_fold(input, |shape, node| crate::ops::output_shape(node, shape))?;
        // A batch of no images has nothing to run: the planner, which divides by what it shares out, is not asked.
        let thresholds = options.thresholds_for(kernels.isa());
        let lowering = Lowering { fusion: options.fusion, workers, kernels, thresholds };
        let program = if input.is_empty() { Program::default() } else { lower(nodes, input, &lowering)? };
        let pieces = memory::collect("plan", program.steps.iter().map(crate::program::Step::pieces))?;
        // a plan of which no step is shared needs no pool
        let workers = workers.min(pieces.iter().copied().max().unwrap_or(1));
        let mut carver = Carver::default();
        carver.floats(program.arena)?;
        let workers_at = carver.floats(product(&[program.worker, workers])?)?;
        let inner = Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            program,
            pieces,
            input,
            output,
            kernels,
            threads: options.threads.clone(),
            workers,
            process: process::id(),
            spins: options.spins,
            workers_at,
            memory: carver.len(),
        };
        Ok(Plan { inner: Arc::try_new("plan", inner)? })
    }

    /// The shape that it was planned for.
    pub fn input_shape(&self) -> Shape {
        self.inner.input
    }

    /// The shape of what it computes.
    pub fn output_shape(&self) -> Shape {
        self.inner.output
    }

    /// The instruction set that it runs on.
    pub fn isa(&self) -> Isa {
        self.inner.kernels.isa()
    }

    /// How a step of a sum is rounded: it decides the bits of the result.
    pub fn arithmetic(&self) -> Arithmetic {
        self.inner.kernels.arithmetic()
    }

    /// Multiply-accumulate operations of a run, padding counted.
    pub fn macs(&self) -> u64 {
        self.inner.program.macs
    }

    /// The most threads that a run takes, the calling one counted.
    pub fn threads(&self) -> usize {
        self.inner.workers
    }

    /// Bytes of the tensors between steps and of every worker's scratch.
    ///
    /// It is in proportion to the tensors. Those between steps take no more than all of them at once, in blocks of 16
    /// channels and with the columns of zeros that their readers ask for: no more of these than a tensor has columns,
    /// or 16. A worker's scratch for a stage is at most 64 MiB and 64 times the bytes of the stage's input, output and
    /// weights, and never more than 1 GiB: where fusion would take more, the layer goes without; where a stage alone
    /// would, it is [`Error::Scratch`].
    pub fn scratch_bytes(&self) -> usize {
        self.inner.memory * size_of::<f32>()
    }

    /// Memory for one run at a time; keep it and use it again.
    pub fn scratch(&self) -> Result<Scratch> {
        let workers = self.inner.workers;
        let crew = if workers > 1 { Some(Crew::new(workers)?) } else { None };
        Ok(Scratch { plan: self.inner.id, memory: memory::zeros("scratch", self.inner.memory)?, crew })
    }

    /// Computes `output` from `input` on the threads that the plan was made for.
    ///
    /// Every argument is checked before anything is written. On one thread a run allocates nothing. With a pool of rayon's it hands one
    /// job to the pool for each further worker whose last job has begun, and rayon allocates a few words for each.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where a view is not of the planned shape, [`Error::ForeignScratch`] where another plan made
    /// the scratch. [`Error::Allocation`] where jobs of the scratch still wait in another pool, and memory for new ones runs out.
    pub fn run(&self, input: View<'_>, output: ViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        self.run_on(&self.inner.threads, input, output, scratch)
    }

    /// Computes `output` from `input` on these threads, in place of those that the plan was made for. At most as many as the plan is for
    /// take part: [`Plan::threads`]. Results are the same.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// # use sepconv::{GlobalAveragePool, PlanOptions, Shape, Threads, View, ViewMut};
    /// let plan = GlobalAveragePool::new(8)?.plan(Shape::new(1, 4, 4, 8), &PlanOptions::new())?;
    /// let (input, mut output, mut scratch) = ([1.0; 128], [0.0; 8], plan.scratch()?);
    /// let (input, output_view) =
    ///     (View::new(&input, plan.input_shape())?, ViewMut::new(&mut output, plan.output_shape())?);
    /// plan.run_on(&Threads::Serial, input, output_view, &mut scratch)?;
    /// assert_eq!(output, [1.0; 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::run`].
    #[allow(clippy::needless_pass_by_value, reason = "a view to write is used up by the run")]
    pub fn run_on(
        &self,
        threads: &Threads,
        input: View<'_>,
        mut output: ViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let inner = &*self.inner;
        for (what, expected, got) in [("input", inner.input, input.shape()), ("output", inner.output, output.shape())] {
            if expected != got {
                return Err(Error::ShapeMismatch { what, expected, got });
            }
        }
        if scratch.plan != inner.id {
            return Err(Error::ForeignScratch { expected: inner.id, got: scratch.plan });
        }
        let Program { steps, tensors, worker, .. } = &inner.program;
        let shared = Shared(Run {
            kernels: inner.kernels,
            tensors,
            input: input.data().as_ptr(),
            input_stride: input.pixel_stride(),
            output_stride: output.pixel_stride(),
            output: output.as_mut_ptr(),
            arena: scratch.memory.as_mut_ptr(),
        });
        let run = |step: usize, piece: usize, of: usize| {
            let shared = &shared;
            // SAFETY: the views have the planned shapes, the scratch is this plan's, and worker `of` has its own
            // part of it.
            unsafe { steps[step].run(&shared.0, piece, shared.0.arena.add(inner.workers_at + of * worker)) }
        };
        match &mut scratch.crew {
            Some(crew) if inner.process == process::id() => crew.run(threads, inner.spins, &inner.pieces, &run),
            _ => {
                team::serial(&inner.pieces, &run);
                Ok(())
            }
        }
    }

    /// What was decided, and why.
    pub fn explain(&self) -> Explain {
        Explain {
            isa: self.isa(),
            arithmetic: self.arithmetic(),
            threads: self.inner.workers,
            arena_bytes: self.inner.program.arena * size_of::<f32>(),
            stages: self.inner.program.reports.clone(),
        }
    }
}

/// What bounds a stage, as predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// Multiply-adds.
    Compute,
    /// Bytes moved.
    Bandwidth,
}

impl Bound {
    /// FLOPs that a core does in the time in which it moves a byte between L2 and L3: about 100 GFLOP/s over 50 GB/s.
    const FLOPS_PER_BYTE: u64 = 2;

    pub(crate) fn predict(macs: u64, bytes: u64) -> Bound {
        if macs.saturating_mul(2) < bytes.saturating_mul(Self::FLOPS_PER_BYTE) {
            Bound::Bandwidth
        } else {
            Bound::Compute
        }
    }
}

/// What a plan decided, stage by stage. It prints as a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explain {
    /// The instruction set.
    pub isa: Isa,
    /// How a step of a sum is rounded.
    pub arithmetic: Arithmetic,
    /// Threads that can take part.
    pub threads: usize,
    /// Bytes of the tensors between stages.
    pub arena_bytes: usize,
    /// The stages, in the order in which they run.
    pub stages: Vec<StageReport>,
}

/// One stage of a plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageReport {
    /// What it is: `pointwise → depthwise → pointwise`.
    pub name: &'static str,
    /// What it reads.
    pub input: Shape,
    /// What it writes.
    pub output: Shape,
    /// The kernels that it runs on, in the order of the data.
    pub kernels: Vec<KernelKind>,
    /// Whether several stages of the description run as this one.
    pub fused: bool,
    /// Why it is fused, or is not.
    pub why: String,
    /// How a depthwise stage goes over its plane.
    pub schedule: Option<String>,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of inputs, outputs and weights.
    pub bytes: u64,
    /// Bytes of scratch that each worker needs for it.
    pub scratch_bytes: usize,
    /// Pieces that it is shared out in.
    pub pieces: usize,
    /// What bounds it, as predicted.
    pub bound: Bound,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({:?} arithmetic), {} thread{}, {} KiB between stages",
            self.isa,
            self.arithmetic,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.arena_bytes.div_ceil(1024)
        )?;
        for (i, s) in self.stages.iter().enumerate() {
            write!(f, "{i:3}  {}  {} → {}  ", s.name, s.input, s.output)?;
            for (k, kernel) in s.kernels.iter().enumerate() {
                write!(f, "{}{}_{}", if k > 0 { " + " } else { "" }, kernel.name(), self.isa)?;
            }
            writeln!(f)?;
            writeln!(
                f,
                "     {}: {}{}",
                if s.fused { "fused" } else { "not fused" },
                s.why,
                s.schedule.as_ref().map_or(String::new(), |s| format!("; {s}"))
            )?;
            writeln!(
                f,
                "     {:.2} MFLOP, {} KiB moved, {} KiB scratch, {} piece{}; bound by {}",
                s.macs as f64 * 2e-6,
                s.bytes.div_ceil(1024),
                s.scratch_bytes.div_ceil(1024),
                s.pieces,
                if s.pieces == 1 { "" } else { "s" },
                match s.bound {
                    Bound::Compute => "compute",
                    Bound::Bandwidth => "bandwidth",
                }
            )?;
        }
        Ok(())
    }
}
