//! The memory of runs: a [`Scratch`], or bytes of the caller's.

use core::fmt;

use super::Plan;
use super::team::Crew;
use crate::memory::{self, Aligned, LINE};
use crate::threads::process::ForkLock;
use crate::{Error, Result};

/// The memory of a run: tensors between steps, and what each worker needs for itself. One run at a time has it.
///
/// A scratch serves each plan that needs no more bytes than it has. [`Plan::scratch`] makes one of a plan's size, and
/// [`Scratch::reserve`] makes room for another plan. Its bytes mean nothing between runs.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{GlobalAveragePool, PlanOptions, Scratch, Shape, View, ViewMut};
/// let pool = GlobalAveragePool::new(8)?;
/// let mut scratch = Scratch::new();
/// for side in [1, 3, 2] {
///     let plan = pool.plan(Shape::new(1, side, side, 8), &PlanOptions::new())?;
///     scratch.reserve(&plan)?;
///     let (input, mut output) = (vec![1.0; plan.input_shape().len()?], [0.0; 8]);
///     plan.run(View::new(&input, plan.input_shape())?, ViewMut::new(&mut output, plan.output_shape())?, &mut scratch)?;
///     assert_eq!(output, [1.0; 8]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Scratch {
    /// None before the first reservation.
    memory: Option<Aligned>,
    /// None where all plans so far have one worker.
    crew: Option<Crew>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} bytes)", self.bytes())
    }
}

impl Scratch {
    /// Scratch without memory. [`Scratch::reserve`] makes room for a plan.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Makes room for a plan: for its bytes, and for as many workers as it has. Allocates nothing where there is room.
    ///
    /// # Errors
    /// [`Error::Allocation`]; the scratch is as it was then.
    pub fn reserve(&mut self, plan: &Plan) -> Result<()> {
        let (bytes, workers) = (plan.scratch_bytes(), plan.threads());
        let crew = if workers > self.threads() { Some(Crew::new(workers)?) } else { None };
        if bytes > self.bytes() {
            // The old memory stays until the new one is there, so that an error changes nothing. Both exist for a moment.
            self.memory = Some(memory::zeros("scratch", bytes)?);
        }
        if crew.is_some() {
            self.crew = crew;
        }
        Ok(())
    }

    /// Bytes that it has. A plan runs with it where [`Plan::scratch_bytes`] is no more.
    pub fn bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.len())
    }

    /// The most threads that a run with it takes, the calling one counted. It is that of the plan with the most threads of all that
    /// room was made for.
    pub fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, Crew::workers)
    }

    /// The bytes themselves. They mean nothing between runs, and may be overwritten.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }

    /// The bytes and the crew, for a run.
    pub(super) fn parts(&mut self) -> (&mut [u8], Option<&mut Crew>) {
        (self.memory.as_deref_mut().unwrap_or_default(), self.crew.as_mut())
    }
}

/// The part of `memory` that begins on a cache line and has `needed` bytes or more.
pub(super) fn aligned(memory: &mut [u8], needed: usize) -> Result<&mut [u8]> {
    let skip = memory.as_ptr().align_offset(LINE).min(memory.len());
    let memory = &mut memory[skip..];
    if memory.len() < needed {
        return Err(Error::SmallScratch { expected: needed, got: memory.len() });
    }
    Ok(memory)
}

/// Workers for runs in memory of the caller's: kept by the plan, since jobs of a busy pool may outlive a run.
#[derive(Debug)]
pub(super) struct Crews {
    idle: ForkLock<Vec<Crew>>,
}

impl Crews {
    pub(super) fn new() -> Crews {
        Crews { idle: ForkLock::new(Vec::new()) }
    }

    /// A crew of `workers` that no run has. None where the run takes one thread, as all runs of an inherited plan do.
    pub(super) fn take(&self, threads: usize, workers: usize) -> Result<Option<Crew>> {
        if threads <= 1 || !self.idle.is_of_this_process() {
            return Ok(None);
        }
        let idle = self.idle.lock().and_then(|mut idle| idle.pop());
        idle.map_or_else(|| Crew::new(workers), Ok).map(Some)
    }

    /// Keeps a crew for the next run, where there is memory for that.
    pub(super) fn give_back(&self, crew: Option<Crew>) {
        if let (Some(crew), Some(mut idle)) = (crew, self.idle.lock()) {
            // a later run makes what was not kept
            let _ = memory::push("crews of a plan", &mut idle, crew);
        }
    }
}
