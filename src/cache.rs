//! Plans of several shapes, kept and bounded.

use core::fmt;

use crate::memory::{collect, push};
use crate::threads::process::ForkLock;
use crate::{Layout, Network, Plan, PlanOptions, Result, Scratch, Shape, Threads, View, ViewMut};

/// Plans of the networks and shapes that an engine ran last, with scratch for each thread that runs.
///
/// An engine with dynamic shapes calls [`PlanCache::run`] and nothing else. A plan is made for a network, an input shape, and the
/// layouts of the views: it takes less than a millisecond for MobileNetV2. Many threads may share a cache. A run holds its lock only to take
/// and to give back a plan with its scratch. In a child of `fork`, all plans of a cache of the parent run on the calling thread.
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
    state: ForkLock<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Cached>,
    /// Of threads that do not run now. Each serves any plan, once there is room.
    scratch: Vec<Scratch>,
    /// Runs so far: the entry of the least number was used longest ago.
    clock: u64,
}

/// The network and layouts that a plan is made for, beside the options of the cache and the shapes, which the plan has.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    network: u64,
    layouts: [Layout; 2],
}

struct Cached {
    key: Key,
    plan: Plan,
    used: u64,
}

impl Cached {
    fn is_of(&self, key: Key, inputs: impl Iterator<Item = Shape>) -> bool {
        self.key == key && self.plan.input_shapes().iter().copied().eq(inputs)
    }
}

impl PlanCache {
    /// A cache of at most `plans` plans, at least 1. All plans are made by `options`, but for their layouts, which the views of a run
    /// give. All plans share the scratch: a cache holds as many as runs were at the same time, each as large as the largest plan asked for.
    pub fn new(options: PlanOptions, plans: usize) -> PlanCache {
        PlanCache { options, capacity: plans.max(1), state: ForkLock::new(State::default()) }
    }

    /// Plans that it holds.
    pub fn len(&self) -> usize {
        self.state.lock().map_or(0, |state| state.entries.len())
    }

    /// Whether it holds no plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all scratch that no run has now.
    pub fn scratch_bytes(&self) -> usize {
        self.state.lock().map_or(0, |state| state.scratch.iter().map(Scratch::bytes).sum())
    }

    /// Drops all plans and all scratch. Runs that have begun end as they would, and keep their plan and scratch here.
    pub fn clear(&self) {
        let state = self.state.lock().map(|mut state| core::mem::take(&mut *state));
        // outside of the lock
        drop(state);
    }

    /// Computes `output` from `input`. The plan is made where the cache has none: then the plan that was used longest ago may leave.
    ///
    /// # Errors
    /// The errors of [`Network::plan`] and of [`Plan::run`].
    pub fn run(&self, network: &Network, input: View<'_>, output: ViewMut<'_>) -> Result<()> {
        self.run_all(network, &[input], &mut [output])
    }

    /// As [`PlanCache::run`], of a network of several inputs or outputs. Inputs that are not all NHWC run by a plan for NCHW, which takes
    /// any strides; so do outputs.
    ///
    /// # Errors
    /// The errors of [`Network::plan_all`] and of [`Plan::run_all`].
    pub fn run_all(&self, network: &Network, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let nhwc = |strides, shape| Layout::of(strides, shape) == Layout::Nhwc;
        let all = [
            inputs.iter().all(|view| nhwc(view.strides(), view.shape())),
            outputs.iter().all(|view| nhwc(view.strides(), view.shape())),
        ];
        let layouts = all.map(|all| if all { Layout::Nhwc } else { Layout::Nchw });
        let key = Key { network: network.id(), layouts };
        let (plan, mut scratch) = self.take(key, inputs);
        let plan = match plan {
            Some(plan) => Ok(plan),
            None => self.plan(network, inputs, layouts),
        };
        let (plan, result) = match plan {
            Ok(plan) => {
                let result = scratch.reserve(&plan).and_then(|()| plan.run_all(inputs, outputs, &mut scratch));
                (Some(plan), result)
            }
            Err(error) => (None, Err(error)),
        };
        self.give_back(key, plan, scratch);
        result
    }

    /// A plan by the options of the cache.
    fn plan(&self, network: &Network, inputs: &[View<'_>], [from, to]: [Layout; 2]) -> Result<Plan> {
        let mut options = self.options.clone().input_layout(from).output_layout(to);
        if !self.state.is_of_this_process() {
            // the threads of the options are the parent's
            options = options.threads(Threads::Serial);
        }
        let shapes = collect("plan", inputs.iter().map(View::shape))?;
        network.plan_all(&shapes, &options)
    }

    /// The plan of a key and of these inputs, if it is kept, and scratch that no thread has.
    fn take(&self, key: Key, inputs: &[View<'_>]) -> (Option<Plan>, Scratch) {
        let Some(mut state) = self.state.lock() else { return (None, Scratch::new()) };
        state.clock += 1;
        let now = state.clock;
        let shapes = || inputs.iter().map(View::shape);
        let plan = state.entries.iter_mut().find(|cached| cached.is_of(key, shapes())).map(|cached| {
            cached.used = now;
            cached.plan.clone()
        });
        (plan, state.scratch.pop().unwrap_or_default())
    }

    /// Keeps a plan and scratch, where there is memory for that: the run is over, and its result stands. A plan that leaves, and scratch that
    /// no plan needs, are dropped outside of the lock.
    fn give_back(&self, key: Key, plan: Option<Plan>, scratch: Scratch) {
        let Some(mut state) = self.state.lock() else { return };
        let now = state.clock;
        let (mut evicted, mut unused) = (None, Vec::new());
        // another thread may have made a plan of its own meanwhile
        let is_new = |plan: &Plan| {
            let shapes = || plan.input_shapes().iter().copied();
            !state.entries.iter().any(|cached| cached.is_of(key, shapes()))
        };
        if let Some(plan) = plan.filter(is_new) {
            let oldest = (0..state.entries.len()).min_by_key(|&at| state.entries[at].used);
            if let Some(at) = oldest.filter(|_| state.entries.len() >= self.capacity) {
                evicted = Some(state.entries.swap_remove(at));
            }
            // a later run makes what was not kept
            let _ = push("plan cache", &mut state.entries, Cached { key, plan, used: now });
        }
        let _ = push("plan cache", &mut state.scratch, scratch);
        // scratch that no plan needs any more leaves with the last plan that did
        let most = state.entries.iter().map(|cached| cached.plan.scratch_bytes()).max().unwrap_or(0);
        while let Some(at) = state.scratch.iter().position(|scratch| scratch.bytes() > most) {
            // without memory for it, the scratch is dropped here
            let _ = push("plan cache", &mut unused, state.scratch.swap_remove(at));
        }
        drop(state);
        drop((evicted, unused));
    }
}

impl fmt::Debug for PlanCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanCache({} of {} plans)", self.len(), self.capacity)
    }
}
