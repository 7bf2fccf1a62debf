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
//! Jobs outlive the run where the pool is busy. So a job owns the team, which belongs to a scratch or to a plan, and a team has at most
//! one job for each follower in a pool.
//!
//! Pieces that any worker claims, whichever comes first, lost: V2 0.35 96 took 0.177 ms on two threads, hardly less than on one.

mod meeting;
mod sync;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;
use crate::memory::{Arc, collect};
use crate::threads::{Home, ParallelFor, Threads, cores, process};

use meeting::{Patience, Slot, Team, Work};

/// Polls without giving the core away: some ten microseconds, in which most meetings are over.
const BUSY_POLLS: u32 = 500;

/// The workers of a scratch, or of a plan for runs in memory of the caller's.
#[derive(Debug)]
pub(crate) struct Crew {
    team: Arc<Team>,
    /// The pool that may still hold jobs of the team.
    home: Home,
    /// The process that made the team: at `fork`, a follower of the parent may hold one of its locks.
    process: u32,
}

impl Crew {
    /// Workers, the calling thread counted.
    pub(crate) fn new(workers: usize) -> Result<Crew> {
        Ok(Crew { team: team(workers)?, home: Home::default(), process: process::id() })
    }

    /// Workers, the calling thread counted.
    pub(crate) fn workers(&self) -> usize {
        self.team.workers()
    }

    /// Runs `pieces[step]` pieces of each step, one step after the other; `run(step, piece, worker)` does the work. Workers are numbered
    /// below `most`, and below the number that the crew was made for.
    ///
    /// # Errors
    /// [`crate::Error::Allocation`] where jobs of another pool have not begun, and memory for a team without them runs out. Nothing
    /// was run then.
    pub(crate) fn run(
        &mut self,
        threads: &Threads,
        most: usize,
        spins: u32,
        pieces: &[usize],
        run: &(dyn Fn(usize, usize, usize) + Sync),
    ) -> Result<()> {
        let workers = self.team.workers().min(most).min(threads.count());
        if workers <= 1 || pieces.is_empty() {
            serial(pieces, run);
            return Ok(());
        }
        if self.process != process::id() {
            *self = Crew::new(self.team.workers())?;
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
    use std::time::{Duration, Instant};

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
            let workers = threads.count().min(4);
            let mut crew = Crew::new(4).unwrap();
            for spins in [0, 1, 100, 20_000] {
                for round in 0..100 {
                    let runs = pieces.map(|count| (0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
                    crew.run(&threads, 64, spins, &pieces, &|step, piece, worker| {
                        assert!(worker == piece % workers || worker == 0, "piece {piece} by worker {worker}");
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

    /// Holds each worker in its first piece until all workers have begun theirs: so each of them is certain to join.
    struct All {
        workers: usize,
        begun: AtomicUsize,
    }

    impl All {
        fn new(workers: usize) -> All {
            All { workers, begun: AtomicUsize::new(0) }
        }

        fn wait(&self, step: usize, piece: usize, worker: usize) {
            if step > 0 || piece != worker {
                return;
            }
            self.begun.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            while self.begun.load(Ordering::Relaxed) < self.workers {
                assert!(began.elapsed() < Duration::from_secs(30), "a worker does not come");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_panic_of_any_worker_reaches_the_caller_and_the_crew_runs_again() {
        for threads in all_threads() {
            let workers = threads.count().min(4);
            let mut crew = Crew::new(4).unwrap();
            for failing in 0..workers {
                for step in 0..3 {
                    let (all, failed, later) = (All::new(workers), AtomicUsize::new(0), AtomicUsize::new(0));
                    let run = |at: usize, piece: usize, worker: usize| {
                        all.wait(at, piece, worker);
                        if at == step && worker == failing {
                            failed.fetch_add(1, Ordering::Relaxed);
                            std::panic::resume_unwind(Box::new("a piece failed"));
                        }
                        later.fetch_add(usize::from(at > step), Ordering::Relaxed);
                    };
                    let run = core::panic::AssertUnwindSafe(|| crew.run(&threads, 64, 50, &[8, 8, 8], &run).unwrap());
                    let failure = std::panic::catch_unwind(run).expect_err("the caller does not hear of the panic");
                    let case = format!("{threads:?}, worker {failing}, step {step}");
                    assert_eq!(failure.downcast_ref(), Some(&"a piece failed"), "{case}");
                    assert_eq!(failed.into_inner(), 1, "{case}: failures");
                    assert_eq!(later.into_inner(), 0, "{case}: pieces of later steps");
                }
            }
            let count = AtomicUsize::new(0);
            let run = |_: usize, _: usize, _: usize| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            crew.run(&threads, 64, 50, &[8, 8], &run).unwrap();
            assert_eq!(count.into_inner(), 16);
        }
    }

    #[cfg(feature = "rayon")]
    mod pools {
        use std::collections::HashSet;
        use std::thread::ThreadId;

        use super::*;

        fn pool(threads: usize) -> std::sync::Arc<rayon::ThreadPool> {
            std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
        }

        /// The threads of a run, for which every worker comes.
        fn threads_of_a_run(crew: &mut Crew, threads: &Threads) -> HashSet<ThreadId> {
            let (all, ids) = (All::new(crew.team.workers().min(threads.count())), Mutex::new(HashSet::new()));
            let run = |step: usize, piece: usize, worker: usize| {
                all.wait(step, piece, worker);
                if piece == 0 {
                    // a worker more than are waited for would come meanwhile
                    std::thread::sleep(Duration::from_millis(1));
                }
                ids.lock().unwrap().insert(std::thread::current().id());
            };
            crew.run(threads, 64, 50, &[6; 5], &run).unwrap();
            ids.into_inner().unwrap()
        }

        /// A crew is as large as the pool in which its plan was made, and a run takes no more threads than the pool that runs it has.
        #[test]
        fn a_run_takes_no_more_threads_than_its_crew_or_its_pool_has() {
            let caller = std::thread::current().id();
            for size in [1, 2, 3, 9] {
                let pool = pool(size);
                let own: HashSet<_> = pool.broadcast(|_| std::thread::current().id()).into_iter().collect();
                for threads in [Threads::Global, Threads::Pool(pool.clone())] {
                    let ids = pool.install(|| threads_of_a_run(&mut Crew::new(3).unwrap(), &threads));
                    assert!(ids.len() == size.min(3) && ids.is_subset(&own), "inside {threads:?}: {ids:?} of {own:?}");
                }
                let mut ids = threads_of_a_run(&mut Crew::new(3).unwrap(), &Threads::Pool(pool));
                assert!(ids.remove(&caller), "the caller leads");
                assert!(ids.len() == size.min(3) - 1 && ids.is_subset(&own), "{size} threads: {ids:?} of {own:?}");
            }
            let ids = threads_of_a_run(&mut Crew::new(3).unwrap(), &Threads::Global);
            assert!(ids.contains(&caller) && ids.len() == rayon::current_num_threads().min(3), "{ids:?}");
        }

        /// A new pool may lie where one lay that was dropped, and whose threads are still busy.
        #[test]
        fn a_pool_has_jobs_of_its_own_whatever_pool_was_at_its_address() {
            for _ in 0..8 {
                let (gone, gate) = (pool(2), std::sync::Arc::new(Mutex::new(())));
                let closed = gate.lock().unwrap();
                for _ in 0..2 {
                    let gate = gate.clone();
                    gone.spawn(move || drop(gate.lock()));
                }
                let address = std::sync::Arc::as_ptr(&gone);
                let mut crew = Crew::new(2).unwrap();
                crew.run(&Threads::Pool(gone), 64, 50, &[2], &|_, _, _| {}).unwrap();
                assert!(!crew.team.is_idle(), "the job waits behind those that wait at the gate");
                let new = pool(2);
                let at_its_address = std::sync::Arc::as_ptr(&new) == address;
                let ids = threads_of_a_run(&mut crew, &Threads::Pool(new));
                assert_eq!(ids.len(), 2, "at the same address: {at_its_address}");
                drop(closed);
            }
        }
    }
}
