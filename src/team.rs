//! Threads that run the steps of a plan together, entered once for the whole run.
//!
//! A step is cut into pieces when it is planned. Here a worker claims pieces of the present step until none is left,
//! waits until all are done, and goes on to the next. A step ends when its pieces are done, not when every worker has
//! come: one that the pool has not started yet holds no step up. So a busy pool, or a call from inside one of the
//! pool's own jobs, costs speed and never a deadlock: in the worst case the first worker does everything. From outside
//! of all pools the calling thread is that first worker; what it offered the pool, the pool then has to take before the
//! run ends, since only a thread of the pool can take a job back.
//!
//! Who waits looks again and again at first, since steps take microseconds and a sleep takes tens of them, and sleeps
//! after so many looks as the caller allows: then the core belongs to whoever needs it, the one that is waited for
//! perhaps. Nobody is woken who does not sleep, so a step that ends while all are looking costs no system call.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rayon::Scope;

use crate::Threads;

/// The progress of one step. Alone on its cache lines, so that claiming a piece disturbs nobody else.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    claimed: AtomicUsize,
    done: AtomicU32,
    /// Whether somebody sleeps until all are done.
    asleep: AtomicBool,
}

impl Progress {
    /// Returns when `count` pieces are done: after at most `spins` looks it sleeps.
    fn wait(&self, count: u32, spins: u32) {
        for _ in 0..spins {
            if self.done.load(Ordering::Acquire) >= count {
                return;
            }
            spin_loop();
        }
        loop {
            // Before the look at `done`, so that who ends the last piece after it sees that somebody sleeps: both
            // orders are sequentially consistent.
            self.asleep.store(true, Ordering::SeqCst);
            let done = self.done.load(Ordering::SeqCst);
            if done >= count {
                return;
            }
            atomic_wait::wait(&self.done, done);
        }
    }
}

/// Marks a piece as done, also where its step panics: others must not wait for it for ever.
struct Done<'a>(&'a Progress);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        // Who sleeps is woken at each piece that ends meanwhile, and goes back to sleep until the last: pieces are few.
        self.0.done.fetch_add(1, Ordering::SeqCst);
        if self.0.asleep.load(Ordering::SeqCst) {
            atomic_wait::wake_all(&self.0.done);
        }
    }
}

/// Runs `pieces[step]` pieces of each step, one step after the other; `run(step, piece, worker)` does the work.
pub(crate) fn run(
    threads: &Threads,
    workers: usize,
    spins: u32,
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
    let work = |worker| participate(worker, spins, pieces, progress, run);
    // A thread of no pool works too. It would sleep while the pool works otherwise, and to be woken, it and the first
    // thread of the pool one after the other, takes longer than the steps of a small network.
    let outside = rayon::current_thread_index().is_none();
    match threads {
        Threads::Pool(pool) if outside => pool.in_place_scope(|scope| beside(scope, workers, &work)),
        Threads::Pool(pool) => pool.install(|| fan_out(0, workers, &work)),
        Threads::Serial | Threads::Global if outside => rayon::in_place_scope(|scope| beside(scope, workers, &work)),
        Threads::Serial | Threads::Global => fan_out(0, workers, &work),
    }
}

/// Offers all workers but one to the pool, and is that one.
fn beside<'scope>(scope: &Scope<'scope>, workers: usize, work: &'scope (impl Fn(usize) + Sync)) {
    for worker in 1..workers {
        scope.spawn(move |_| work(worker));
    }
    work(0);
}

/// Offers the workers `first..end` to the pool and is one of them. `rayon::join` takes back what no thread has begun.
fn fan_out(first: usize, end: usize, work: &(impl Fn(usize) + Sync)) {
    if end - first == 1 {
        return work(first);
    }
    let middle = first + (end - first).div_ceil(2);
    rayon::join(|| fan_out(first, middle, work), || fan_out(middle, end, work));
}

fn participate(
    worker: usize,
    spins: u32,
    pieces: &[usize],
    progress: &[Progress],
    run: &(impl Fn(usize, usize, usize) + Sync),
) {
    for (step, (&count, progress)) in pieces.iter().zip(progress).enumerate() {
        loop {
            let piece = progress.claimed.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                break;
            }
            let _done = Done(progress);
            run(step, piece, worker);
        }
        // a plan has at most `MAX_THREADS` pieces an image
        progress.wait(u32::try_from(count).unwrap_or(u32::MAX), spins);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the order in which workers sleep and end, none sleeps on.
    #[test]
    fn who_sleeps_is_woken() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let pool = std::sync::Arc::new(pool);
        let threads = Threads::Pool(std::sync::Arc::clone(&pool));
        let pieces = [3, 1, 2, 5, 1, 1, 64];
        let mut progress: Vec<Progress> = pieces.iter().map(|_| Progress::default()).collect();
        for spins in [0, 1, 100, 20_000] {
            for round in 0..300 {
                let done = AtomicUsize::new(0);
                let mut once = || {
                    run(&threads, 3, spins, &pieces, &mut progress, &|step, piece, worker| {
                        if (step + piece + worker + round) % 7 == 0 {
                            std::thread::yield_now();
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                };
                // the calling thread is a worker, and it is not
                if round % 2 == 0 {
                    once();
                } else {
                    pool.install(once);
                }
                assert_eq!(done.load(Ordering::Relaxed), pieces.iter().sum::<usize>());
            }
        }
    }
}
