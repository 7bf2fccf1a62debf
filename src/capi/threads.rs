//! Threads of a run: pools of this library, and loops of the caller's.

use core::ffi::c_void;
use std::sync::Arc;

use super::describe::read_code;
use super::options::sepconv_plan_options;
use super::pointer::{Out, free, shared};
use super::status::{CallFailure, Name, Result, boundary, sepconv_status};
use crate::threads::process;
use crate::{Error, MAX_THREADS, ParallelFor, Threads};

/// The threads that do the work of a run.
///
/// A run executes nothing but its own work on the calling thread, and waits for no thread that has not begun: where all others are busy,
/// the calling thread does the work alone.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_threads {
    /// The calling thread alone.
    Serial = 0,
    /// The calling thread and a pool that all of the process shares, started with a thread for each core by the first plan that
    /// asks for it. The environment variable `RAYON_NUM_THREADS` sets the number of its threads.
    Global = 1,
    /// The calling thread and the `pool` of the options.
    Pool = 2,
    /// The threads behind `parallel_for` of the options.
    Custom = 3,
}

/// A task of a run: call it with the context that came with it, and the index of the call.
pub type sepconv_task = Option<unsafe extern "C" fn(task_context: *mut c_void, index: usize)>;

/// A parallel loop of the caller's: calls `task(task_context, i)` for each `i` below `count`, and returns when all calls have returned.
///
/// Calls may come in any order, on any threads, side by side or all on the calling thread. A task that is called late does not
/// hold the others up: they do its work. No task waits for one that has not begun. The loop must be callable from any thread that
/// calls a run, must not throw, and must not keep `task_context` after it returned.
pub type sepconv_parallel_for =
    Option<unsafe extern "C" fn(context: *mut c_void, count: usize, task: sepconv_task, task_context: *mut c_void)>;

/// A loop of C as the library calls it.
struct Callback {
    parallel_for: unsafe extern "C" fn(*mut c_void, usize, sepconv_task, *mut c_void),
    context: *mut c_void,
    threads: usize,
}

// SAFETY: the caller promised that its loop may be called from any thread, with its context.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl ParallelFor for Callback {
    fn threads(&self) -> usize {
        self.threads
    }

    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        type Task<'a> = &'a (dyn Fn(usize) + Sync);

        unsafe extern "C" fn call(task: *mut c_void, index: usize) {
            // SAFETY: the loop hands on the context that it was called with, and has not returned.
            (unsafe { *task.cast::<Task<'_>>() })(index);
        }

        let mut task: Task<'_> = task;
        // SAFETY: the contract of the loop; the task lives until it returns.
        unsafe { (self.parallel_for)(self.context, count, Some(call), (&raw mut task).cast()) };
    }
}

/// Threads that runs share. Any number of plans may use one, at the same time too.
pub struct sepconv_pool {
    #[cfg(feature = "rayon")]
    pool: Arc<rayon::ThreadPool>,
    /// The process that has the threads.
    process: u32,
}

/// A pool of `threads` threads, 1 to 64. The thread that calls run works too, in place of one of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_pool_new(threads: usize, pool: *mut *mut sepconv_pool) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let out = unsafe { Out::new("pool", pool) }?;
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(CallFailure::Library(Error::Value {
                what: "threads of a pool".into(),
                expected: "1 to 64",
                got: threads.to_string(),
            }));
        }
        out.hand_over("pool", sepconv_pool::start(threads)?)
    })
}

/// Frees a pool: its threads end when the last plan that uses it is freed. NULL is no pool, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_pool_free(pool: *mut sepconv_pool) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(pool) };
        Ok(())
    });
}

impl sepconv_pool {
    #[cfg(feature = "rayon")]
    fn start(threads: usize) -> Result<sepconv_pool> {
        let named = |thread| format!("sepconv-{thread}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(named).build();
        Ok(sepconv_pool { pool: Arc::new(pool.map_err(CallFailure::Threads)?), process: process::id() })
    }

    #[cfg(not(feature = "rayon"))]
    fn start(_: usize) -> Result<sepconv_pool> {
        Err(no_rayon("pool"))
    }

    /// The threads of the pool. A child of `fork` has none of its parent's.
    fn threads(&self) -> Threads {
        if self.process != process::id() {
            return Threads::Serial;
        }
        #[cfg(feature = "rayon")]
        return Threads::Pool(Arc::clone(&self.pool));
        #[cfg(not(feature = "rayon"))]
        Threads::Serial
    }
}

#[cfg(feature = "rayon")]
fn global() -> Result<Threads> {
    Ok(Threads::Global)
}

#[cfg(not(feature = "rayon"))]
fn global() -> Result<Threads> {
    Err(no_rayon("options.threads"))
}

/// The library was built without pools.
#[cfg(not(feature = "rayon"))]
fn no_rayon(what: &str) -> CallFailure {
    CallFailure::Library(Error::Value {
        what: what.into(),
        expected: "serial or custom threads, since this library was built without rayon",
        got: "a pool".into(),
    })
}

/// Reads the threads of options.
///
/// # Safety
/// The contract of all functions.
pub(super) unsafe fn read_threads(options: &sepconv_plan_options) -> Result<Threads> {
    let field = |field| Name::field("options", field);
    let is_pool = options.threads == sepconv_threads::Pool as i32;
    let is_custom = options.threads == sepconv_threads::Custom as i32;
    // a pool or loop without the matching `threads` is probably a mistake
    for (set, used, what, expected) in [
        (!options.pool.is_null(), is_pool, "options.pool", "NULL unless the threads are SEPCONV_THREADS_POOL"),
        (
            options.parallel_for.is_some(),
            is_custom,
            "options.parallel_for",
            "NULL unless the threads are SEPCONV_THREADS_CUSTOM",
        ),
    ] {
        if set && !used {
            let got = "one that would not be used".into();
            return Err(CallFailure::Library(Error::Value { what: what.into(), expected, got }));
        }
    }
    read_code!(field("threads"), options.threads, sepconv_threads {
        Serial => Threads::Serial,
        Global => global()?,
        // SAFETY: the caller's.
        Pool => unsafe { shared::<sepconv_pool>(field("pool"), options.pool) }?.threads(),
        Custom => {
            let parallel_for = options.parallel_for.ok_or(CallFailure::Null(field("parallel_for")))?;
            let threads = options.parallel_threads.max(1);
            Threads::Custom(Arc::new(Callback { parallel_for, context: options.parallel_context, threads }))
        },
    })
}
