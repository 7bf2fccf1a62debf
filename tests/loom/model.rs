//! Every interleaving of small runs: pieces run once, in their step, by their home or the leader; no worker sleeps for ever; and no
//! follower touches a run that is over.
//!
//! `src/team/meeting.rs` is compiled here against loom's atomics, locks and threads. loom reports a deadlock, a read that races with a
//! write, and a leak of anything that it counts.

#![allow(unreachable_pub, dead_code, reason = "the library uses all of the file that is compiled here")]

mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex};
    pub(super) use loom::thread::yield_now;
}

#[path = "../../src/team/meeting.rs"]
mod meeting;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use meeting::{Patience, Slot, Team, Work};

/// A worker that sleeps at once: each look would only add interleavings.
const ASLEEP: Patience = Patience { spins: 0, busy: 0 };

/// One value for each piece of each step. A piece writes its own value, and reads all of the step before.
struct Tensors {
    steps: Vec<Vec<UnsafeCell<usize>>>,
}

// SAFETY: loom's cells panic where two threads use one without an order between them.
unsafe impl Sync for Tensors {}
// SAFETY: as above.
unsafe impl Send for Tensors {}

impl Tensors {
    fn new(pieces: &[usize]) -> Tensors {
        Tensors { steps: pieces.iter().map(|&count| (0..count).map(|_| UnsafeCell::new(0)).collect()).collect() }
    }

    fn run(&self, step: usize, piece: usize) {
        if step > 0 {
            for cell in &self.steps[step - 1] {
                // SAFETY: loom checks that no thread writes meanwhile.
                assert_eq!(cell.with(|value| unsafe { *value }), 1, "the step before is done once");
            }
        }
        // SAFETY: loom checks that no other thread reads or writes meanwhile.
        self.steps[step][piece].with_mut(|value| unsafe { *value += 1 });
    }

    /// Reads and writes every value, as a caller does who drops or reuses its memory.
    fn take(&self) {
        for cell in self.steps.iter().flatten() {
            // SAFETY: as in `run`.
            let runs = cell.with_mut(|value| unsafe { core::mem::take(&mut *value) });
            assert_eq!(runs, 1, "each piece runs once");
        }
    }
}

/// `runs` runs of one team, one after the other, each by the pool's way: a job for each follower that has none.
fn runs_on_a_pool(workers: usize, pieces: &'static [usize], runs: usize, patience: Patience) {
    let team = Arc::new(Team::new((0..workers).map(|_| Slot::default()).collect()));
    let tensors = Tensors::new(pieces);
    let mut jobs = Vec::new();
    for _ in 0..runs {
        let run = |step: usize, piece: usize, _: usize| tensors.run(step, piece);
        let work = Work { pieces, run: &run, workers, patience };
        let opened = team.open(&work, |worker| {
            let team = Arc::clone(&team);
            jobs.push(thread::spawn(move || team.follow(worker, patience)));
        });
        opened.lead();
        opened.end();
        tensors.take();
    }
    for job in jobs {
        job.join().unwrap();
    }
    assert!(team.is_idle());
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

#[test]
fn one_follower() {
    model(4, || runs_on_a_pool(2, &[2, 1, 2], 1, ASLEEP));
}

#[test]
fn one_follower_that_looks_before_it_sleeps() {
    model(3, || runs_on_a_pool(2, &[2, 2], 1, Patience { spins: 26, busy: 1 }));
}

#[test]
fn two_runs_after_each_other() {
    model(3, || runs_on_a_pool(2, &[2, 2], 2, ASLEEP));
}

#[test]
fn two_followers() {
    model(2, || runs_on_a_pool(3, &[3, 3], 1, ASLEEP));
}

#[test]
fn tasks_of_foreign_threads_in_any_order() {
    model(3, || {
        let team = Arc::new(Team::new((0..2).map(|_| Slot::default()).collect()));
        let tensors = Arc::new(Tensors::new(&[2, 2]));
        // what a scoped thread is elsewhere: the run outlives the tasks
        let run: &'static (dyn Fn(usize, usize, usize) + Sync) = {
            let tensors = Arc::clone(&tensors);
            Box::leak(Box::new(move |step: usize, piece: usize, _: usize| tensors.run(step, piece)))
        };
        let work: &'static Work<'static> =
            Box::leak(Box::new(Work { pieces: &[2, 2], run, workers: 2, patience: ASLEEP }));
        let team: &'static Arc<Team> = Box::leak(Box::new(team));
        let opened: &'static meeting::Opened<'static> = Box::leak(Box::new(team.open(work, |_| {})));
        let leader = thread::spawn(move || opened.lead());
        team.follow(1, ASLEEP);
        leader.join().unwrap();
        opened.forget_queued();
        assert!(team.is_idle());
        tensors.take();
        // SAFETY: all threads have ended, and nothing borrows from these any more.
        unsafe {
            drop(Box::from_raw(core::ptr::from_ref(opened).cast_mut()));
            drop(Box::from_raw(core::ptr::from_ref(work).cast_mut()));
            drop(Box::from_raw(core::ptr::from_ref(run).cast_mut()));
            drop(Box::from_raw(core::ptr::from_ref(team).cast_mut()));
        }
    });
}

#[test]
fn a_follower_that_panics_stops_the_run() {
    model(3, || {
        let team = Arc::new(Team::new((0..2).map(|_| Slot::default()).collect()));
        let run = |step: usize, _: usize, worker: usize| {
            if step == 0 && worker == 1 {
                std::panic::resume_unwind(Box::new("a piece failed"));
            }
        };
        let work = Work { pieces: &[2, 2, 2], run: &run, workers: 2, patience: ASLEEP };
        let mut job = None;
        let opened = team.open(&work, |worker| {
            let team = Arc::clone(&team);
            job = Some(thread::spawn(move || team.follow(worker, ASLEEP)));
        });
        opened.lead();
        // the leader runs the piece itself where the follower does not come
        let _ = catch_unwind(AssertUnwindSafe(|| opened.end()));
        job.unwrap().join().unwrap();
        assert!(team.is_idle());
    });
}
