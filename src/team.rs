//! Threads that run the steps of a plan together, entered once for the whole run.
//!
//! A step is cut into pieces when it is planned. Here a worker claims pieces of the present step until none is left, waits
//! until all are done, and goes on to the next. A step ends when its pieces are done, not when every worker has come: one that
//! the pool has not started yet is never waited for. So a busy pool, or a call from inside one of the pool's own jobs, costs
//! speed and never a deadlock: in the worst case the first worker does everything.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Threads;

/// The progress of one step. Alone on its cache lines, so that claiming a piece disturbs nobody else.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    claimed: AtomicUsize,
    done: AtomicUsize,
}

/// How often a waiting worker looks before it lets other threads run: then the core is given up at each look, as the one that
/// is waited for may need it.
const SPINS: u32 = 20_000;

/// Marks a piece as done, also where its step panics: others must not wait for it for ever.
struct Done<'a>(&'a Progress);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

/// Runs `pieces[step]` pieces of each step, one step after the other; `run(step, piece, worker)` does the work.
pub(crate) fn run(
    threads: &Threads,
    workers: usize,
    pieces: &[usize],
    progress: &mut [Progress],
    run: &(impl Fn(usize, usize, usize) + Sync),
) {
    if workers == 1 {
        for (step, &count) in pieces.iter().enumerate() {
            for piece in 0..count {
                run(step, piece, 0);
            }
        }
        return;
    }
    for p in progress.iter_mut() {
        *p = Progress::default();
    }
    let progress = &*progress;
    let work = |worker| participate(worker, pieces, progress, run);
    match threads {
        Threads::Pool(pool) => pool.install(|| fan_out(0, workers, &work)),
        Threads::Serial | Threads::Global => fan_out(0, workers, &work),
    }
}

/// Offers the workers `first..end` to the pool and is one of them. `rayon::join` takes back what no thread has begun.
fn fan_out(first: usize, end: usize, work: &(impl Fn(usize) + Sync)) {
    if end - first == 1 {
        return work(first);
    }
    let middle = first + (end - first).div_ceil(2);
    rayon::join(|| fan_out(first, middle, work), || fan_out(middle, end, work));
}

fn participate(worker: usize, pieces: &[usize], progress: &[Progress], run: &(impl Fn(usize, usize, usize) + Sync)) {
    for (step, (&count, progress)) in pieces.iter().zip(progress).enumerate() {
        loop {
            let piece = progress.claimed.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                break;
            }
            let _done = Done(progress);
            run(step, piece, worker);
        }
        let mut spins = 0;
        while progress.done.load(Ordering::Acquire) < count {
            if spins < SPINS {
                spins += 1;
                spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}
