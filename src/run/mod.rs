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
mod rows;
mod scratch;
mod sections;
mod staging;
pub(crate) mod team;

use core::fmt;

use sepconv_kernels::Kernels;

use crate::memory::{self, Arc, Carver, LINE};
use crate::plan::{Explain, Graph, Lowering, Program, Refused, Step, TensorLayout, lower};
use crate::threads::process;
use crate::{Arithmetic, Error, Isa, Layout, PlanOptions, Result, Shape, Strides, Threads, View, ViewMut};
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
        f.write_str("Plan(")?;
        let Inner { inputs, outputs, workers, .. } = &*self.inner;
        for (shapes, behind) in [(inputs, " → "), (outputs, ", ")] {
            for (i, shape) in shapes.iter().enumerate() {
                write!(f, "{}{shape}", if i > 0 { " and " } else { "" })?;
            }
            f.write_str(behind)?;
        }
        write!(f, "{}, {workers} threads)", self.isa())
    }
}

struct Inner {
    program: Program,
    pieces: Vec<usize>,
    inputs: Vec<Shape>,
    outputs: Vec<Shape>,
    kernels: &'static Kernels,
    threads: Threads,
    workers: usize,
    /// Of the inputs and the outputs.
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
    /// done: they wrote what this one reads (`Drafts::check_order`).
    unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Step::Conv(step) => step.run(memory, piece, scratch),
                Step::Chain(step) => step.run(memory, piece, scratch),
                Step::Sections(step) => step.run(memory, piece, scratch),
                Step::Planes(step) => step.run(memory, piece, scratch),
                Step::Flat(step) => step.run(memory, piece, scratch),
                Step::Pool(step) => step.run(memory, piece, scratch),
                Step::Rows(step) => step.run(memory, piece, scratch),
            }
        }
    }
}

/// A tensor of the caller's at a run.
type CallerTensor = (*mut f32, TensorLayout);

/// The pointers of one run, shared with its workers.
struct Shared<'a>(Memory<'a>);

// SAFETY: workers write disjoint pieces of what the pointers lead to, and a step is only begun when the one before is
// done.
unsafe impl Sync for Shared<'_> {}

impl Plan {
    pub(crate) fn new(graph: &Graph, inputs: &[Shape], options: &PlanOptions) -> Result<Plan, Refused> {
        let isa = options.isa()?;
        let arithmetic = if options.common_bits { Arithmetic::Fused } else { isa.arithmetic() };
        let kernels = Kernels::up_to(isa, arithmetic)
            .ok_or_else(|| Error::Isa(format!("common bits on {isa} need the cargo feature `common-bits`")))?;
        let workers = options.workers();
        let shapes = graph.shapes(inputs)?;
        let outputs = memory::collect("plan", graph.outputs.iter().map(|&value| shapes[value]))?;
        let inputs = memory::collect("plan", inputs.iter().copied())?;
        let is_empty = inputs.iter().any(Shape::is_empty);
        // A batch of no images has nothing to run: the planner, which divides by what it shares out, is not asked.
        let thresholds = options.thresholds_for(kernels.isa());
        let lowering = Lowering { fusion: options.fusion, layouts: options.layouts, workers, kernels, thresholds };
        let program = if is_empty { Program::default() } else { lower(graph, &inputs, &lowering)? };
        let pieces = memory::collect("plan", program.steps.iter().map(Step::pieces))?;
        // a plan of which no step is shared needs no pool
        let workers = workers.min(pieces.iter().copied().max().unwrap_or(1));
        let mut carver = Carver::default();
        carver.bytes(program.arena)?;
        let workers_at = carver.bytes(program.worker.saturating_mul(workers))?;
        let inner = Inner {
            program,
            pieces,
            inputs,
            outputs,
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

    /// The shape that it was planned for: of the first input, where there are several.
    pub fn input_shape(&self) -> Shape {
        self.inner.inputs[0]
    }

    /// The shape of what it computes: of the first output, where there are several.
    pub fn output_shape(&self) -> Shape {
        self.inner.outputs[0]
    }

    /// The shapes that it was planned for, in the order of the network's inputs.
    pub fn input_shapes(&self) -> &[Shape] {
        &self.inner.inputs
    }

    /// The shapes of what it computes, in the order of the network's outputs.
    pub fn output_shapes(&self) -> &[Shape] {
        &self.inner.outputs
    }

    /// The layouts of the inputs and of the outputs that it was planned for.
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
        self.execute(threads, &[input], &mut [output], memory, crew)
    }

    /// Computes all outputs of a network from all of its inputs, each in the order in which the network has them, as [`Plan::run`] does with
    /// one of each. With several of them, a run allocates a few words for each.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// use sepconv::{Activation, Network, PlanOptions, Shape, View, ViewMut};
    /// let mut graph = Network::builder();
    /// let (x, y) = (graph.input(2), graph.input(2));
    /// let sum = graph.add(x, y, Activation::Relu)?;
    /// let twice = graph.add(sum, sum, Activation::Linear)?;
    /// graph.output(sum);
    /// graph.output(twice);
    /// let network = graph.build()?;
    /// let shape = Shape::new(1, 1, 1, 2);
    /// let plan = network.plan_all(&[shape, shape], &PlanOptions::new())?;
    /// let (x, y, mut sum, mut twice) = ([1.0, -5.0], [2.0, 3.0], [0.0; 2], [0.0; 2]);
    /// plan.run_all(
    ///     &[View::new(&x, shape)?, View::new(&y, shape)?],
    ///     &mut [ViewMut::new(&mut sum, shape)?, ViewMut::new(&mut twice, shape)?],
    ///     &mut plan.scratch()?,
    /// )?;
    /// assert_eq!((sum, twice), ([3.0, 0.0], [6.0, 0.0]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::run`], and [`Error::Count`] where there are more or fewer views than inputs or outputs.
    pub fn run_all(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>], scratch: &mut Scratch) -> Result<()> {
        self.run_all_on(&self.inner.threads, inputs, outputs, scratch)
    }

    /// As [`Plan::run_all`], on these threads: see [`Plan::run_on`].
    ///
    /// # Errors
    /// Those of [`Plan::run_all`].
    pub fn run_all_on(
        &self,
        threads: &Threads,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (memory, crew) = scratch.parts();
        self.execute(threads, inputs, outputs, memory, crew)
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
        self.run_all_on_in(threads, &[input], &mut [output], memory)
    }

    /// As [`Plan::run_all`], in memory of the caller's and on these threads: see [`Plan::run_in`] and [`Plan::run_on`].
    ///
    /// # Errors
    /// Those of [`Plan::run_all`] and of [`Plan::run_in`].
    pub fn run_all_on_in(
        &self,
        threads: &Threads,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        memory: &mut [u8],
    ) -> Result<()> {
        let crews = &self.inner.crews;
        let mut crew = crews.take(self.inner.workers.min(threads.count()), self.inner.workers)?;
        let result = self.execute(threads, inputs, outputs, memory, crew.as_mut());
        crews.give_back(crew);
        result
    }

    /// Checks the arguments of a run, and runs.
    fn execute(
        &self,
        threads: &Threads,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        memory: &mut [u8],
        crew: Option<&mut Crew>,
    ) -> Result<()> {
        let inner = &*self.inner;
        let [input_layout, output_layout] = inner.layouts;
        // one of each is what nearly all networks have: a run of these allocates nothing
        let (mut one_input, mut one_output) = (None, None);
        let (mut many_inputs, mut many_outputs) = (Vec::new(), Vec::new());
        let views = inputs.iter().map(|view| (view.shape(), view.strides(), view.data().as_ptr().cast_mut()));
        let inputs = self.ends("input", &inner.inputs, input_layout, views, &mut one_input, &mut many_inputs)?;
        let views = outputs.iter_mut().map(|view| (view.shape(), view.strides(), view.as_mut_ptr()));
        let outputs = self.ends("output", &inner.outputs, output_layout, views, &mut one_output, &mut many_outputs)?;
        let arena = aligned(memory, inner.memory)?.as_mut_ptr();
        let Program { steps, tensors, worker, .. } = &inner.program;
        let shared = Shared(Memory { kernels: inner.kernels, tensors, inputs, outputs, arena, section: [0, 0] });
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

    /// The pointers and layouts of the views of one kind, which have the shapes and the layout that was planned for: in `one` where there is
    /// one, else in `many`.
    fn ends<'a>(
        &self,
        what: &'static str,
        shapes: &[Shape],
        layout: Layout,
        views: impl ExactSizeIterator<Item = (Shape, Strides, *mut f32)>,
        one: &'a mut Option<CallerTensor>,
        many: &'a mut Vec<CallerTensor>,
    ) -> Result<&'a [CallerTensor]> {
        if views.len() != shapes.len() {
            return Err(Error::Count { what, expected: shapes.len(), got: views.len() });
        }
        for ((got, strides, ptr), &expected) in views.zip(shapes) {
            if expected != got {
                return Err(Error::ShapeMismatch { what, expected, got });
            }
            if layout == Layout::Nhwc && !strides.are_nhwc(expected) {
                return Err(Error::Layout { what, expected: layout, strides });
            }
            let swapped = self.inner.program.swapped;
            let (shape, strides) = if swapped { (got.swapped(), strides.swapped()) } else { (got, strides) };
            let tensor = (ptr, TensorLayout::of_caller(layout, shape, strides));
            if shapes.len() == 1 {
                *one = Some(tensor);
            } else {
                memory::push("views of a run", many, tensor)?;
            }
        }
        Ok(if shapes.len() == 1 { one.as_slice() } else { many })
    }

    /// What was decided, and why.
    pub fn explain(&self) -> Explain {
        Explain {
            isa: self.isa(),
            arithmetic: self.arithmetic(),
            threads: self.inner.workers,
            arena_bytes: self.inner.program.arena,
            arena_least_bytes: self.inner.program.arena_least,
            axes_swapped: self.inner.program.swapped,
            stages: self.inner.program.reports.clone(),
        }
    }
}
