//! The threads of a run: whose they are, and how many.

use core::fmt;
#[cfg(feature = "rayon")]
use std::sync::Weak;
use std::sync::{Arc, OnceLock};

/// The threads that do the work of a run, the calling one first. No plan starts a thread of its own. `Global` makes rayon start its
/// global pool, if no part of the program has.
///
/// A run executes nothing but its own work on the calling thread, and waits for no thread that has not begun. Where all threads of a
/// pool are busy, the calling thread does the work alone.
///
/// After `fork`, the child has no thread of its parent's pools. A plan that the child inherits runs on the calling thread, and
/// so does a new plan with `Threads::Global` where the parent made such a plan. Results are the same. The child must not make a plan
/// with a [`Threads::Pool`] that its parent made: rayon cannot tell that the pool's threads are gone. A `sepconv_pool` of the C ABI
/// knows its process, so that a new plan on a parent's pool runs on the calling thread there (`docs/c.md`).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Threads {
    /// The calling thread alone.
    #[default]
    Serial,
    /// The calling thread and the pool that rayon has for it: the pool of the calling thread, or the global one.
    ///
    /// The number of workers is that of the pool in which the plan is made: a plan made inside a pool of one thread is serial wherever it
    /// runs. So make the plan in the pool that will run it, or name that pool by [`Threads::Pool`]. The environment variable
    /// `RAYON_NUM_THREADS` sets the size of the global pool.
    ///
    /// Jobs of a scratch that wait in one pool are not offered to another one: rayon does not say which pool a thread is of. Until they
    /// begin, a run elsewhere by `Global` with that scratch is the calling thread's alone. [`Threads::Pool`] names its pool.
    #[cfg(feature = "rayon")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rayon")))]
    Global,
    /// The calling thread and a pool of the caller's. A thread of no pool works in place of one of the pool's threads.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use sepconv::{GlobalAveragePool, PlanOptions, Shape, Threads, View, ViewMut, rayon};
    ///
    /// let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build()?);
    /// // `max_threads` is for machines of one CPU, where a run takes one thread unless it is set
    /// let options = PlanOptions::new().threads(Threads::Pool(pool)).max_threads(2);
    /// let plan = GlobalAveragePool::new(512)?.plan(Shape::new(1, 32, 32, 512), &options)?;
    /// assert_eq!(plan.threads(), 2);
    /// let (input, mut output) = (vec![1.0; plan.input_shape().len()?], vec![0.0; 512]);
    /// let mut scratch = plan.scratch()?;
    /// // from any thread, of this pool or of none
    /// plan.run(View::new(&input, plan.input_shape())?, ViewMut::new(&mut output, plan.output_shape())?, &mut scratch)?;
    /// assert_eq!(output, [1.0; 512]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "rayon")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rayon")))]
    Pool(Arc<rayon::ThreadPool>),
    /// Threads of any kind: a pool that an engine has already.
    Custom(Arc<dyn ParallelFor>),
}

/// A parallel loop over threads of the caller's, for [`Threads::Custom`].
///
/// ```
/// use std::sync::Arc;
/// use sepconv::{ParallelFor, PlanOptions, Threads};
///
/// struct ScopedThreads(usize);
///
/// impl ParallelFor for ScopedThreads {
///     fn threads(&self) -> usize {
///         self.0
///     }
///
///     fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for i in 1..count {
///                 scope.spawn(move || task(i));
///             }
///             task(0);
///         });
///     }
/// }
///
/// let options = PlanOptions::new().threads(Threads::Custom(Arc::new(ScopedThreads(2))));
/// ```
pub trait ParallelFor: Send + Sync {
    /// Threads that can run tasks at the same time, the calling one counted. 0 means 1.
    fn threads(&self) -> usize;

    /// Calls `task(i)` for each `i` below `count`, and returns when all calls have returned.
    ///
    /// Calls may come in any order, on any threads, side by side or all on the calling thread. A task that is called late, or not at
    /// all, does not hold the others up: they do its work. A task never waits for one that has not begun.
    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// More threads than this never share one run.
pub const MAX_THREADS: usize = 64;

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threads::Serial => f.write_str("Serial"),
            #[cfg(feature = "rayon")]
            Threads::Global => f.write_str("Global"),
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) => write!(f, "Pool({} threads)", pool.current_num_threads()),
            Threads::Custom(threads) => write!(f, "Custom({} threads)", threads.threads()),
        }
    }
}

impl Threads {
    /// Threads that can take part in a run that the calling thread starts.
    pub fn count(&self) -> usize {
        match self {
            Threads::Serial => 1,
            #[cfg(feature = "rayon")]
            Threads::Global if process::global_pool_is_of_the_parent() => 1,
            #[cfg(feature = "rayon")]
            Threads::Global => rayon::current_num_threads(),
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) => pool.current_num_threads(),
            Threads::Custom(threads) => threads.threads(),
        }
        .clamp(1, MAX_THREADS)
    }

    /// The pool that may hold jobs after a run on these threads.
    pub(crate) fn home(&self) -> Home {
        match self {
            Threads::Serial | Threads::Custom(_) => Home::None,
            #[cfg(feature = "rayon")]
            Threads::Global => Home::Global,
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) => Home::Pool(Arc::downgrade(pool)),
        }
    }
}

/// The pool that may hold jobs after a run.
#[derive(Debug, Default)]
pub(crate) enum Home {
    #[default]
    None,
    #[cfg(feature = "rayon")]
    Global,
    /// A pool that may be gone. No other pool is at its address while this is kept.
    #[cfg(feature = "rayon")]
    Pool(Weak<rayon::ThreadPool>),
}

impl Home {
    /// Whether `threads` are of this pool.
    pub(crate) fn is_of(&self, threads: &Threads) -> bool {
        match (self, threads) {
            (Home::None, Threads::Serial | Threads::Custom(_)) => true,
            #[cfg(feature = "rayon")]
            (Home::Global, Threads::Global) => true,
            #[cfg(feature = "rayon")]
            (Home::Pool(home), Threads::Pool(pool)) => core::ptr::eq(home.as_ptr(), Arc::as_ptr(pool)),
            #[cfg(feature = "rayon")]
            _ => false,
        }
    }
}

/// CPUs that this process may use, as of the first call.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The process, which `fork` changes without a notice.
pub(crate) mod process {
    use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

    /// The number of this process.
    pub(crate) fn id() -> u32 {
        // there is no process to ask for, and no fork
        #[cfg(target_family = "wasm")]
        return 1;
        #[cfg(not(target_family = "wasm"))]
        std::process::id()
    }

    /// A mutex that a child of `fork` does not wait for: a thread that the child does not have may hold it for ever.
    #[derive(Debug)]
    pub(crate) struct ForkLock<T> {
        state: Mutex<T>,
        /// The process that made it.
        process: u32,
    }

    impl<T> ForkLock<T> {
        pub(crate) fn new(state: T) -> ForkLock<T> {
            ForkLock { state: Mutex::new(state), process: id() }
        }

        /// Whether this process made it, and no parent did.
        pub(crate) fn is_of_this_process(&self) -> bool {
            self.process == id()
        }

        /// Waits for the lock. None in a child of `fork` where the lock is taken: by a thread of the parent, or by one of the child's own.
        /// No code that may panic may run under the lock.
        pub(crate) fn lock(&self) -> Option<MutexGuard<'_, T>> {
            if self.is_of_this_process() {
                return Some(self.state.lock().unwrap_or_else(PoisonError::into_inner));
            }
            match self.state.try_lock() {
                Ok(state) => Some(state),
                Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    /// Whether a parent of this process used the global pool, whose threads are then not in this process.
    #[cfg(feature = "rayon")]
    pub(crate) fn global_pool_is_of_the_parent() -> bool {
        use core::sync::atomic::{AtomicU32, Ordering};

        /// The process that used the global pool first, or 0.
        static FIRST: AtomicU32 = AtomicU32::new(0);

        let here = id();
        match FIRST.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => false,
            Err(first) => first != here,
        }
    }
}
