//! Plans of several shapes, kept and bounded.

use core::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::memory::push;
use crate::{Layout, Network, Plan, PlanOptions, Result, Scratch, Shape, View, ViewMut};

/// Plans of the networks and shapes that an engine ran last, with scratch for each thread that runs.
///
/// An engine with dynamic shapes calls [`PlanCache::run`] and nothing else. A plan is made for a network, an input shape, and the
/// layouts of the views: it takes 0.05 to 0.15 ms for MobileNetV2. Many threads may share a cache. A run holds its lock only to take
/// and to give back a plan with its scratch.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{GlobalAveragePool, Network, PlanCache, PlanOptions, Shape, View, ViewMut};
/// let network = Network::new(vec![GlobalAveragePool::new(2)?.into()])?;
/// let cache = PlanCache::new(PlanOptions::new(), 8);
/// for side in [1, 2, 3] {
///     let shape = Shape::new(1, side, side, 2);
///     let (input, mut output) = (vec![1.0; shape.len()?], [0.0; 2]);
///     cache.run(&network, View::new(&input, shape)?, ViewMut::new(&mut output, network.output_shape(shape)?)?)?;
///     assert_eq!(output, [1.0; 2]);
/// }
/// assert_eq!(cache.len(), 3);
/// # Ok(())
/// # }
/// ```
pub struct PlanCache {
    options: PlanOptions,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Cached>,
    /// Runs so far: the entry of the least number was used longest ago.
    clock: u64,
}

/// The network, shape and layouts that a plan is made for, beside the options of the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    network: u64,
    input: Shape,
    layouts: [Layout; 2],
}

struct Cached {
    key: Key,
    plan: Plan,
    /// Of threads that do not run now.
    scratch: Vec<Scratch>,
    used: u64,
}

impl PlanCache {
    /// A cache of at most `plans` plans, at least 1. All plans are made by `options`, but for their layouts, which the views of a run
    /// give.
    pub fn new(options: PlanOptions, plans: usize) -> PlanCache {
        PlanCache { options, capacity: plans.max(1), state: Mutex::default() }
    }

    /// Plans that it holds.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether it holds no plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all plans and their scratch. Runs that have begun end as they would.
    pub fn clear(&self) {
        let entries = core::mem::take(&mut self.lock().entries);
        // outside of the lock
        drop(entries);
    }

    /// Computes `output` from `input`. The plan is made where the cache has none: then the plan that was used longest ago may leave.
    ///
    /// # Errors
    /// The errors of [`Network::plan`] and of [`Plan::run`].
    pub fn run(&self, network: &Network, input: View<'_>, output: ViewMut<'_>) -> Result<()> {
        let layouts = [Layout::of(input.strides(), input.shape()), Layout::of(output.strides(), output.shape())];
        let key = Key { network: network.id(), input: input.shape(), layouts };
        let (plan, mut scratch) = match self.take(key) {
            Some((plan, Some(scratch))) => (plan, scratch),
            Some((plan, None)) => {
                let scratch = plan.scratch()?;
                (plan, scratch)
            }
            None => {
                let [from, to] = layouts;
                let plan = network.plan(key.input, &self.options.clone().input_layout(from).output_layout(to))?;
                let scratch = plan.scratch()?;
                (plan, scratch)
            }
        };
        let result = plan.run(input, output, &mut scratch);
        self.give_back(key, plan, scratch);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no code that may panic runs under the lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of a key, with scratch that no thread has.
    fn take(&self, key: Key) -> Option<(Plan, Option<Scratch>)> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let cached = state.entries.iter_mut().find(|cached| cached.key == key)?;
        cached.used = now;
        Some((cached.plan.clone(), cached.scratch.pop()))
    }

    /// Keeps a plan and its scratch, where there is memory for that: the run is over, and its result stands. What the cache has no room
    /// for is dropped outside of the lock.
    fn give_back(&self, key: Key, plan: Plan, scratch: Scratch) {
        let mut evicted = None;
        let mut state = self.lock();
        let clock = state.clock;
        let kept = match state.entries.iter_mut().find(|cached| cached.key == key) {
            Some(cached) if cached.plan == plan => push("plan cache", &mut cached.scratch, scratch),
            // another thread has made a plan of its own meanwhile, which the scratch does not fit
            Some(_) => Ok(()),
            None => {
                let oldest = (0..state.entries.len()).min_by_key(|&at| state.entries[at].used);
                if let Some(at) = oldest.filter(|_| state.entries.len() >= self.capacity) {
                    evicted = Some(state.entries.swap_remove(at));
                }
                let mut free = Vec::new();
                push("plan cache", &mut free, scratch).and_then(|()| {
                    push("plan cache", &mut state.entries, Cached { key, plan, scratch: free, used: clock })
                })
            }
        };
        drop(state);
        drop(evicted);
        // a later run makes what was not kept
        let _ = kept;
    }
}

impl fmt::Debug for PlanCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanCache({} of {} plans)", self.len(), self.capacity)
    }
}
