//! Threads that run the steps of a plan together.
//!
//! A step is cut into pieces when it is planned, and a piece has a home: the worker that runs it in every run. So a worker finds the
//! values that it wrote in one step in its own cache in the next, but for the rows at the border. Where two cores share no cache, a line
//! of the other core takes ten times as long.
//!
//! The calling thread leads, wherever it is: inside a pool, inside another pool, or in none. It offers a job for each follower to the
//! pool, and never joins the pool, so it runs no job of anybody else. `meeting.rs` has the protocol: a run waits for a follower that
//! has begun, and for no other.
//!
//! Jobs outlive the run where the pool is busy. So a job owns the team, which belongs to the scratch, and a scratch has at most one
//! job for each follower in a pool.
//!
//! Pieces that any worker claims, whichever comes first, lost: V2 0.35 96 took 0.177 ms on two threads, hardly less than on one.

mod meeting;
mod sync;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;
use crate::memory::{Arc, collect};
use crate::threads::{Home, ParallelFor, Threads, cores};

use meeting::{Patience, Slot, Team, Work};

/// Polls without giving the core away: some ten microseconds, in which most meetings are over.
const BUSY_POLLS: u32 = 500;

/// The workers of a scratch, beside the calling thread.
#[derive(Debug)]
pub(crate) struct Crew {
    team: Arc<Team>,
    /// The pool that may still hold jobs of the team.
    home: Home,
}

impl Crew {
    /// Workers, the calling thread counted.
    pub(crate) fn new(workers: usize) -> Result<Crew> {
        Ok(Crew { team: team(workers)?, home: Home::default() })
    }

    /// Runs `pieces[step]` pieces of each step, one step after the other; `run(step, piece, worker)` does the work. Workers are numbered
    /// below the number that the crew was made for.
    ///
    /// # Errors
    /// [`crate::Error::Allocation`] where jobs of another pool have not begun, and memory for a team without them runs out. Nothing
    /// was run then.
    pub(crate) fn run(
        &mut self,
        threads: &Threads,
        spins: u32,
        pieces: &[usize],
        run: &(dyn Fn(usize, usize, usize) + Sync),
    ) -> Result<()> {
        let workers = self.team.workers().min(threads.count());
        if workers <= 1 || pieces.is_empty() {
            serial(pieces, run);
            return Ok(());
        }
        if !self.home.is_of(threads) {
            if !self.team.is_idle() {
                // jobs of the other pool keep the old team
                self.team = team(self.team.workers())?;
            }
            self.home = threads.home();
        }
        let busy = if workers > cores() { 0 } else { BUSY_POLLS };
        let patience = Patience { spins, busy };
        let work = Work { pieces, run, workers, patience };
        match threads {
            Threads::Serial => serial(pieces, run),
            Threads::Custom(threads) => custom(&self.team, &**threads, &work),
            #[cfg(feature = "rayon")]
            Threads::Global => pooled(&self.team, &work, |team, worker| {
                rayon::spawn(move || team.follow(worker, patience));
            }),
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) => pooled(&self.team, &work, |team, worker| {
                pool.spawn(move || team.follow(worker, patience));
            }),
        }
        Ok(())
    }
}

fn team(workers: usize) -> Result<Arc<Team>> {
    Arc::try_new("scratch", Team::new(collect("scratch", (0..workers).map(|_| Slot::default()))?))
}

/// All pieces on the calling thread.
pub(crate) fn serial(pieces: &[usize], run: &(dyn Fn(usize, usize, usize) + Sync)) {
    for (step, &count) in pieces.iter().enumerate() {
        for piece in 0..count {
            run(step, piece, 0);
        }
    }
}

/// A run whose followers are jobs of a pool: `spawn(team, worker)` hands one over.
#[cfg(feature = "rayon")]
fn pooled(team: &Arc<Team>, work: &Work<'_>, spawn: impl Fn(Arc<Team>, usize)) {
    let opened = team.open(work, |worker| spawn(Arc::clone(team), worker));
    opened.lead();
    opened.end();
}

/// A run whose workers are tasks of the caller's threads. The first task to begin leads.
fn custom(team: &Team, threads: &dyn ParallelFor, work: &Work<'_>) {
    let opened = team.open(work, |_| {});
    let begun = AtomicUsize::new(0);
    threads.parallel_for(work.workers, &|_| match begun.fetch_add(1, Ordering::Relaxed) {
        0 => opened.lead(),
        worker if worker < work.workers => team.follow(worker, work.patience),
        _ => {}
    });
    if !opened.is_led() {
        // no task was run
        opened.lead();
    }
    opened.forget_queued();
    opened.end();
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Threads that begin their tasks late, or not at all.
    struct Late(usize);

    impl ParallelFor for Late {
        fn threads(&self) -> usize {
            4
        }

        fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                for i in 0..count {
                    scope.spawn(move || {
                        if i % 2 == self.0 % 2 {
                            std::thread::yield_now();
                        }
                        task(i);
                    });
                }
            });
        }
    }

    fn all_threads() -> Vec<Threads> {
        let mut all = vec![Threads::Serial, Threads::Custom(std::sync::Arc::new(Late(0)))];
        #[cfg(feature = "rayon")]
        for threads in [1, 2, 4, 9] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            all.push(Threads::Pool(std::sync::Arc::new(pool)));
        }
        all
    }

    /// Whatever the order in which workers come, sleep and leave: each piece runs once, when all earlier steps are done.
    #[test]
    fn each_piece_runs_once_in_its_step() {
        let pieces = [3, 1, 2, 5, 1, 1, 64];
        for threads in all_threads() {
            let mut crew = Crew::new(4).unwrap();
            for spins in [0, 1, 100, 20_000] {
                for round in 0..100 {
                    let runs = pieces.map(|count| (0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
                    crew.run(&threads, spins, &pieces, &|step, piece, worker| {
                        assert!(worker < 4);
                        let done = |count: &Vec<AtomicUsize>| count.iter().all(|n| n.load(Ordering::Relaxed) == 1);
                        assert!(runs[..step].iter().all(done), "step {step} began before the one before was done");
                        if (step + piece + worker + round) % 7 == 0 {
                            std::thread::yield_now();
                        }
                        runs[step][piece].fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
                    assert!(runs.iter().flatten().all(|n| n.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn a_panic_of_any_worker_reaches_the_caller_and_the_crew_runs_again() {
        for threads in all_threads() {
            let mut crew = Crew::new(4).unwrap();
            for failing in 0..4 {
                for step in 0..3 {
                    let failed = AtomicBool::new(false);
                    let run = |at: usize, _: usize, worker: usize| {
                        if at == step && worker == failing {
                            failed.store(true, Ordering::Relaxed);
                            std::panic::resume_unwind(Box::new("a piece failed"));
                        }
                    };
                    let crew = Mutex::new(&mut crew);
                    let caught = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                        crew.lock().unwrap().run(&threads, 50, &[8, 8, 8], &run).unwrap();
                    }));
                    // the leader runs the pieces of a worker that does not come
                    assert_eq!(caught.is_err(), failed.load(Ordering::Relaxed), "{threads:?}, worker {failing}");
                }
            }
            let count = AtomicUsize::new(0);
            let run = |_: usize, _: usize, _: usize| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            crew.run(&threads, 50, &[8, 8], &run).unwrap();
            assert_eq!(count.into_inner(), 16);
        }
    }
}
