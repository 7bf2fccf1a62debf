//! Every interleaving of small runs: pieces run once, in their step, by their home or the leader; no worker sleeps for ever; and no
//! follower touches a run that is over. A panic reaches the caller, and no piece of a later step runs.
//!
//! `src/run/team/meeting.rs` is compiled here against loom's atomics, locks and threads. loom reports a deadlock, a read that races with a
//! write, and a leak of anything that it counts.

#![allow(unreachable_pub, dead_code, reason = "the library uses all of the file that is compiled here")]

mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex};
    pub(super) use loom::thread::yield_now;
}

#[path = "../../src/run/team/meeting.rs"]
mod meeting;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
// of `std`: the counters of a test add no interleavings
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use loom::thread::JoinHandle;
use meeting::{Opened, Patience, Slot, Team, Work};

/// A worker that sleeps at once: each look would only add interleavings.
const ASLEEP: Patience = Patience { spins: 0, busy: 0 };

/// One value for each piece of each step. A piece writes its own value, and reads all of the step before.
struct Tensors {
    steps: Vec<Vec<UnsafeCell<usize>>>,
    workers: usize,
}

// SAFETY: loom's cells panic where two threads use one without an order between them.
unsafe impl Sync for Tensors {}
// SAFETY: as above.
unsafe impl Send for Tensors {}

impl Tensors {
    fn new(pieces: &[usize], workers: usize) -> Tensors {
        let steps = pieces.iter().map(|&count| (0..count).map(|_| UnsafeCell::new(0)).collect()).collect();
        Tensors { steps, workers }
    }

    fn run(&self, step: usize, piece: usize, worker: usize) {
        assert!(worker == piece % self.workers || worker == 0, "worker {worker} is neither the home nor the leader");
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

/// A team in a pool: the jobs of its followers, one after the other.
struct Pool {
    team: Arc<Team>,
    jobs: Vec<JoinHandle<()>>,
    patience: Patience,
    /// The worker whose job the pool does not take.
    refused: Option<usize>,
}

impl Pool {
    fn new(workers: usize, patience: Patience) -> Pool {
        let team = Arc::new(Team::new((0..workers).map(|_| Slot::default()).collect()));
        Pool { team, jobs: Vec::new(), patience, refused: None }
    }

    /// One run, with a job for each follower that has none. `leader` leads it, or does not.
    fn run(
        &mut self,
        pieces: &[usize],
        run: impl Fn(usize, usize, usize) + Sync,
        leader: impl FnOnce(Opened<'_>) -> Result<(), Box<dyn Any + Send>>,
    ) -> Result<(), Box<dyn Any + Send>> {
        let patience = self.patience;
        let work = Work { pieces, run: &run, workers: self.team.workers(), patience };
        leader(self.team.open(&work, |worker| {
            if self.refused == Some(worker) {
                resume_unwind(Box::new("the pool takes no job"));
            }
            let team = Arc::clone(&self.team);
            self.jobs.push(thread::spawn(move || team.follow(worker, patience)));
        }))
    }

    /// A run of which each piece is looked at.
    fn run_tensors(&mut self, pieces: &[usize]) {
        let tensors = Tensors::new(pieces, self.team.workers());
        let result = self.run(pieces, |step, piece, worker| tensors.run(step, piece, worker), lead);
        if let Err(failure) = result {
            resume_unwind(failure);
        }
        tensors.take();
    }

    /// The jobs end, and leave the team idle.
    fn end(self) {
        for job in self.jobs {
            job.join().unwrap();
        }
        assert!(self.team.is_idle());
    }
}

/// Leads a run to its end. A panic of any worker is the result.
fn lead(opened: Opened<'_>) -> Result<(), Box<dyn Any + Send>> {
    opened.lead();
    catch_unwind(AssertUnwindSafe(|| opened.end()))
}

/// `runs` runs of one team, one after the other, each by the pool's way: a job for each follower that has none.
fn runs_on_a_pool(workers: usize, pieces: &[usize], runs: usize, patience: Patience) {
    let mut pool = Pool::new(workers, patience);
    for _ in 0..runs {
        pool.run_tensors(pieces);
    }
    pool.end();
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
        let tensors = Arc::new(Tensors::new(&[2, 2], 2));
        // what a scoped thread is elsewhere: the run outlives the tasks
        let run: &'static (dyn Fn(usize, usize, usize) + Sync) = {
            let tensors = Arc::clone(&tensors);
            Box::leak(Box::new(move |step: usize, piece: usize, worker: usize| tensors.run(step, piece, worker)))
        };
        let work: &'static Work<'static> =
            Box::leak(Box::new(Work { pieces: &[2, 2], run, workers: 2, patience: ASLEEP }));
        let team: &'static Arc<Team> = Box::leak(Box::new(team));
        let opened: &'static Opened<'static> = Box::leak(Box::new(team.open(work, |_| {})));
        let leader = thread::spawn(move || opened.lead());
        team.follow(1, ASLEEP);
        leader.join().unwrap();
        opened.forget_queued();
        assert!(team.is_idle());
        // SAFETY: all threads have ended, and nothing borrows from these any more.
        unsafe {
            // a panic of either worker goes on here
            Box::from_raw(core::ptr::from_ref(opened).cast_mut()).end();
            tensors.take();
            drop(Box::from_raw(core::ptr::from_ref(work).cast_mut()));
            drop(Box::from_raw(core::ptr::from_ref(run).cast_mut()));
            drop(Box::from_raw(core::ptr::from_ref(team).cast_mut()));
        }
    });
}

/// Runs in which a piece of `step` panics where `worker` runs it. No piece of a later step runs then, the caller gets the payload, and
/// `after` further runs of the team are as good as any. Where the follower does not come, the leader runs its piece, and all is well.
fn a_worker_panics(
    preemptions: usize,
    workers: usize,
    pieces: &'static [usize],
    (step, worker): (usize, usize),
    after: usize,
) {
    let outcomes = std::sync::Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = std::sync::Arc::clone(&outcomes);
    model(preemptions, move || {
        let mut pool = Pool::new(workers, ASLEEP);
        let [failed, later] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let run = |at: usize, _: usize, by: usize| {
            if (at, by) == (step, worker) {
                failed.fetch_add(1, Relaxed);
                resume_unwind(Box::new("a piece failed"));
            }
            later.fetch_add(usize::from(at > step), Relaxed);
        };
        let result = pool.run(pieces, run, lead);
        let failed = failed.into_inner();
        match result {
            Ok(()) => assert_eq!(failed, 0, "the caller does not hear of the panic"),
            Err(failure) => {
                assert_eq!(failed, 1, "a run fails without a panic, or goes on behind one");
                assert_eq!(failure.downcast_ref(), Some(&"a piece failed"));
            }
        }
        let all_later: usize = pieces[step + 1..].iter().sum();
        assert_eq!(later.into_inner(), if failed == 0 { all_later } else { 0 }, "pieces of later steps");
        for _ in 0..after {
            pool.run_tensors(pieces);
        }
        pool.end();
        counted[failed].fetch_add(1, Relaxed);
    });
    let [well, failed] = outcomes.each_ref().map(|count| count.load(Relaxed));
    assert!(failed > 0 && (well > 0) == (worker != 0), "{failed} of the interleavings fail, {well} do not");
}

#[test]
fn a_follower_that_panics_stops_the_run() {
    a_worker_panics(3, 2, &[2, 2, 2], (0, 1), 0);
}

#[test]
fn a_follower_that_panics_in_a_later_step_stops_the_run() {
    a_worker_panics(2, 2, &[2, 2, 2], (1, 1), 0);
}

#[test]
fn a_leader_that_panics_stops_the_run() {
    a_worker_panics(3, 2, &[2, 2], (0, 0), 0);
    a_worker_panics(2, 2, &[2, 2, 2], (1, 0), 0);
}

#[test]
fn a_run_after_a_panic_is_whole() {
    for worker in 0..2 {
        a_worker_panics(2, 2, &[2, 2], (0, worker), 1);
    }
}

/// A follower that is a step behind may see the failure of a step that it has not begun. It stops as well, and no worker waits for it.
#[test]
fn a_panic_stops_a_follower_that_is_a_step_behind() {
    a_worker_panics(2, 3, &[0, 3, 1], (1, 2), 0);
}

#[test]
fn a_panic_of_the_first_follower_stops_one_that_is_a_step_behind() {
    a_worker_panics(2, 3, &[0, 3, 1], (1, 1), 0);
}

/// A run that is opened, never led, and dropped: no step but the first begins, and the next run of the team is whole.
fn a_run_is_never_led(preemptions: usize, fails: bool) {
    let begun = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&begun);
    model(preemptions, move || {
        let mut pool = Pool::new(2, ASLEEP);
        let others = AtomicUsize::new(0);
        let run = |step: usize, piece: usize, worker: usize| {
            others.fetch_add(usize::from((step, piece, worker) != (0, 1, 1)), Relaxed);
            counted.fetch_add(1, Relaxed);
            if fails {
                resume_unwind(Box::new("a piece failed"));
            }
        };
        let never_led = |opened: Opened<'_>| {
            assert!(!opened.is_led());
            drop(opened);
            Ok(())
        };
        pool.run(&[2, 2], run, never_led).unwrap();
        assert_eq!(others.into_inner(), 0, "pieces beside the follower's of the first step");
        pool.run_tensors(&[2, 2]);
        pool.end();
    });
    assert!(begun.load(Relaxed) > 0, "no interleaving has a follower in the run");
}

#[test]
fn a_run_that_is_never_led_ends() {
    a_run_is_never_led(3, false);
}

#[test]
fn a_panic_of_a_run_that_is_never_led_is_not_of_the_next() {
    a_run_is_never_led(3, true);
}

#[test]
fn a_job_that_the_pool_refuses_leaves_its_slot_free() {
    for refused in 1..3 {
        model(2, move || {
            let mut pool = Pool::new(3, ASLEEP);
            pool.refused = Some(refused);
            let run =
                AssertUnwindSafe(|| pool.run(&[3, 3], |_, _, _| {}, |_| panic!("a run without its job is opened")));
            let failure = catch_unwind(run).unwrap_err();
            assert_eq!(failure.downcast_ref(), Some(&"the pool takes no job"));
            pool.refused = None;
            pool.run_tensors(&[3, 3]);
            // each slot has had its job
            assert!(pool.jobs.len() >= 2);
            pool.end();
        });
    }
}
