//! A plan, ready to run: the program that `plan/` decided on, with the kernels and the threads that execute it.
//!
//! Here slices become pointers. Outside of this folder and of `kernels/`, unsafe code is in the one-shot call on the `gemm` crate, in
//! `memory.rs`, in the views (`tensor/`), and in what C calls (`capi/`). What makes it sound is said once: every offset is computed from the shapes that the
//! plan was made for, [`Plan::run`] checks that slices have those shapes, and that the scratch is as large as the plan asks for.

mod bind;
mod chain;
mod columns;
mod conv;
mod flat;
mod planes;
mod pool;
mod scratch;
mod staging;
pub(crate) mod team;

use core::fmt;

use sepconv_kernels::Kernels;

use crate::memory::{self, Arc, Carver, LINE};
use crate::plan::{Explain, Lowering, Node, Program, Refused, Step, TensorLayout, lower};
use crate::threads::process;
use crate::{Arithmetic, Error, Isa, Layout, PlanOptions, Result, Shape, Threads, View, ViewMut};
use bind::Memory;
pub use scratch::Scratch;
use scratch::{Crews, aligned};
use team::Crew;

/// An operator or a network, planned for one input shape.
///
/// A plan is cheap to clone, shares its weights, and serves many threads at once, each with a [`Scratch`] of its own. A clone is equal to
/// the plan that it was cloned from, and plans made apart are not.
///
/// Beside weights it holds tables of offsets: at most five a step, and at most 64 KiB each. With [`Plan::run_in`] it also keeps what the
/// workers of a run share, for as many runs as were at the same time.
///
/// A plan for a batch of no images has no steps and needs no scratch; a run of it writes nothing.
#[derive(Clone)]
pub struct Plan {
    inner: Arc<Inner>,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Plan) -> bool {
        self.inner.is(&other.inner)
    }
}

impl Eq for Plan {}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { input, output, workers, .. } = *self.inner;
        write!(f, "Plan({input} → {output}, {}, {workers} threads)", self.isa())
    }
}

struct Inner {
    program: Program,
    pieces: Vec<usize>,
    input: Shape,
    output: Shape,
    kernels: &'static Kernels,
    threads: Threads,
    workers: usize,
    /// Of the input and the output.
    layouts: [Layout; 2],
    /// The process that made the plan: after `fork` the threads are elsewhere.
    process: u32,
    /// Polls of a waiting worker before it sleeps.
    spins: u32,
    /// The byte where the scratch of the first worker begins, behind the tensors between steps.
    workers_at: usize,
    /// Bytes of scratch in all.
    memory: usize,
    /// For runs in memory of the caller's.
    crews: Crews,
}

impl Step {
    /// Runs one piece.
    ///
    /// # Safety
    /// `memory` is bound to slices of the shapes that the plan was made for and to an arena of its size; `scratch` is a
    /// worker's own region of the size that lowering found. No other thread runs this piece, and all earlier steps are
    /// done.
    unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Step::Conv(step) => step.run(memory, piece, scratch),
                Step::Chain(step) => step.run(memory, piece, scratch),
                Step::Planes(step) => step.run(memory, piece, scratch),
                Step::Flat(step) => step.run(memory, piece, scratch),
                Step::Pool(step) => step.run(memory, piece, scratch),
            }
        }
    }
}

/// The pointers of one run, shared with its workers.
struct Shared<'a>(Memory<'a>);

// SAFETY: workers write disjoint pieces of what the pointers lead to, and a step is only begun when the one before is
// done.
unsafe impl Sync for Shared<'_> {}

impl Plan {
    pub(crate) fn new(nodes: &[Node], input: Shape, options: &PlanOptions) -> Result<Plan, Refused> {
        let isa = options.isa()?;
        let arithmetic = if options.common_bits { Arithmetic::Fused } else { isa.arithmetic() };
        let kernels = Kernels::up_to(isa, arithmetic)
            .ok_or_else(|| Error::Isa(format!("common bits on {isa} need the cargo feature `common-bits`")))?;
        let workers = options.workers();
        let output = nodes.iter().try_fold(input, |shape, node| crate::ops::output_shape(node, shape))?;
        // A batch of no images has nothing to run: the planner, which divides by what it shares out, is not asked.
        let thresholds = options.thresholds_for(kernels.isa());
        let lowering = Lowering { fusion: options.fusion, layouts: options.layouts, workers, kernels, thresholds };
        let program = if input.is_empty() { Program::default() } else { lower(nodes, input, &lowering)? };
        let pieces = memory::collect("plan", program.steps.iter().map(Step::pieces))?;
        // a plan of which no step is shared needs no pool
        let workers = workers.min(pieces.iter().copied().max().unwrap_or(1));
        let mut carver = Carver::default();
        carver.bytes(program.arena)?;
        let workers_at = carver.bytes(program.worker.saturating_mul(workers))?;
        let inner = Inner {
            program,
            pieces,
            input,
            output,
            kernels,
            threads: options.threads.clone(),
            workers,
            layouts: options.layouts,
            process: process::id(),
            spins: options.spins,
            workers_at,
            memory: carver.len(),
            crews: Crews::new(),
        };
        Ok(Plan { inner: Arc::try_new("plan", inner)? })
    }

    /// The alignment, in bytes, of what [`Plan::run_in`] uses of the caller's memory: that of a cache line.
    pub const SCRATCH_ALIGNMENT: usize = LINE;

    /// The shape that it was planned for.
    pub fn input_shape(&self) -> Shape {
        self.inner.input
    }

    /// The shape of what it computes.
    pub fn output_shape(&self) -> Shape {
        self.inner.output
    }

    /// The layouts of the input and the output that it was planned for.
    pub fn layouts(&self) -> [Layout; 2] {
        self.inner.layouts
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

    /// Bytes of a [`Scratch`]: the arena, which holds the tensors between steps, and every worker's own part.
    ///
    /// It is in proportion to the tensors. The arena takes no more than all tensors between steps at once, in blocks of 16
    /// channels and with the columns of zeros that their readers ask for: no more of these than a tensor has columns,
    /// or 16. A worker's part for a step is at most 64 MiB and 64 times the bytes of the step's input, output and
    /// weights, and never more than 1 GiB: where fusion would take more, the layer goes without; where a step of one stage
    /// would, it is [`Error::Scratch`].
    pub fn scratch_bytes(&self) -> usize {
        self.inner.memory
    }

    /// Memory for one run at a time; keep it and use it again, with this plan or with others that need no more bytes. A run takes at most
    /// [`Scratch::threads`] threads.
    pub fn scratch(&self) -> Result<Scratch> {
        let mut scratch = Scratch::new();
        scratch.reserve(self)?;
        Ok(scratch)
    }

    /// Computes `output` from `input` on the threads that the plan was made for, at most as many as the scratch is for
    /// ([`Scratch::threads`]).
    ///
    /// Every argument is checked before anything is written. On one thread a run allocates nothing. With a pool of rayon's it hands one
    /// job to the pool for each further worker whose last job has begun, and rayon allocates a few words for each.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where a view is not of the planned shape, [`Error::Layout`] where the plan is for NHWC and the
    /// channels of a pixel do not lie together, [`Error::SmallScratch`] where the scratch has fewer bytes than
    /// [`Plan::scratch_bytes`]. [`Error::Allocation`] where jobs of the scratch still wait in another pool, and memory for new ones runs
    /// out.
    pub fn run(&self, input: View<'_>, output: ViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        self.run_on(&self.inner.threads, input, output, scratch)
    }

    /// Computes `output` from `input` on these threads, in place of those that the plan was made for. At most as many as the plan and the
    /// scratch are for take part: [`Plan::threads`], [`Scratch::threads`]. Results are the same.
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
    pub fn run_on(&self, threads: &Threads, input: View<'_>, output: ViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        let (memory, crew) = scratch.parts();
        self.execute(threads, input, output, memory, crew)
    }

    /// Computes `output` from `input` in memory of the caller's, on the threads that the plan was made for.
    ///
    /// The run uses [`Plan::scratch_bytes`] bytes from the first address that is a multiple of [`Plan::SCRATCH_ALIGNMENT`]. Their
    /// values before and after mean nothing. A plan of several threads allocates what its workers share at the first run, and once more for
    /// each run at the same time.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// use sepconv::{GlobalAveragePool, Plan, PlanOptions, Shape, View, ViewMut};
    /// let plan = GlobalAveragePool::new(8)?.plan(Shape::new(1, 4, 4, 8), &PlanOptions::new())?;
    /// let mut memory = vec![0; plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT - 1];
    /// let (input, mut output) = ([1.0; 128], [0.0; 8]);
    /// let to = ViewMut::new(&mut output, plan.output_shape())?;
    /// plan.run_in(View::new(&input, plan.input_shape())?, to, &mut memory)?;
    /// assert_eq!(output, [1.0; 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::run`]. [`Error::SmallScratch`] has the bytes from the first aligned address on. [`Error::Allocation`] where there
    /// is no memory for what workers share.
    pub fn run_in(&self, input: View<'_>, output: ViewMut<'_>, memory: &mut [u8]) -> Result<()> {
        self.run_on_in(&self.inner.threads, input, output, memory)
    }

    /// As [`Plan::run_in`], on these threads: see [`Plan::run_on`].
    ///
    /// # Errors
    /// Those of [`Plan::run_in`].
    pub fn run_on_in(&self, threads: &Threads, input: View<'_>, output: ViewMut<'_>, memory: &mut [u8]) -> Result<()> {
        let crews = &self.inner.crews;
        let mut crew = crews.take(self.inner.workers.min(threads.count()), self.inner.workers)?;
        let result = self.execute(threads, input, output, memory, crew.as_mut());
        crews.give_back(crew);
        result
    }

    /// Checks the arguments of a run, and runs.
    #[allow(clippy::needless_pass_by_value, reason = "a view to write is used up by the run")]
    fn execute(
        &self,
        threads: &Threads,
        input: View<'_>,
        mut output: ViewMut<'_>,
        memory: &mut [u8],
        crew: Option<&mut Crew>,
    ) -> Result<()> {
        let inner = &*self.inner;
        let ends = [
            ("input", inner.input, input.shape(), input.strides()),
            ("output", inner.output, output.shape(), output.strides()),
        ];
        for (what, expected, got, _) in ends {
            if expected != got {
                return Err(Error::ShapeMismatch { what, expected, got });
            }
        }
        for ((what, shape, _, strides), layout) in ends.into_iter().zip(inner.layouts) {
            if layout == Layout::Nhwc && !strides.are_nhwc(shape) {
                return Err(Error::Layout { what, expected: layout, strides });
            }
        }
        let arena = aligned(memory, inner.memory)?.as_mut_ptr();
        let Program { steps, tensors, worker, .. } = &inner.program;
        let [input_layout, output_layout] = [0, 1].map(|end| {
            let (_, shape, _, strides) = ends[end];
            let (shape, strides) =
                if inner.program.swapped { (shape.swapped(), strides.swapped()) } else { (shape, strides) };
            TensorLayout::of_caller(inner.layouts[end], shape, strides)
        });
        let shared = Shared(Memory {
            kernels: inner.kernels,
            tensors,
            input: (input.data().as_ptr(), input_layout),
            output: (output.as_mut_ptr(), output_layout),
            arena,
        });
        let run = |step: usize, piece: usize, of: usize| {
            let shared = &shared;
            // SAFETY: the views have the planned shapes, the scratch is as large as the plan asks for, and worker `of`, one of the
            // plan's, has its own part of it.
            unsafe { steps[step].run(&shared.0, piece, shared.0.arena.add(inner.workers_at + of * worker)) }
        };
        match crew {
            Some(crew) if inner.process == process::id() => {
                crew.run(threads, inner.workers, inner.spins, &inner.pieces, &run)
            }
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
            arena_bytes: self.inner.program.arena,
            axes_swapped: self.inner.program.swapped,
            stages: self.inner.program.reports.clone(),
        }
    }
}
