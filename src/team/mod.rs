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

/// Looks without giving the core away: some ten microseconds, in which most meetings are over.
const BUSY_LOOKS: u32 = 500;

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
        if self.home != threads.home() {
            if !self.team.is_idle() {
                // jobs of the other pool keep the old team
                self.team = team(self.team.workers())?;
            }
            self.home = threads.home();
        }
        let busy = if workers > cores() { 0 } else { BUSY_LOOKS };
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
