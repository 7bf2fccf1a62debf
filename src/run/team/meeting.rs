//! The meeting of a run's workers: how a follower joins a run, and how all workers finish a step together.
//!
//! ```text
//!   leader     opens entries │ own pieces │ closes entries, runs pieces of the absent │ arrives, waits │ opens entries …
//!   worker 1   joined        │ own pieces                                             │ arrives, waits │ own pieces …
//!   worker 2   (its job has not begun)          finds its entry closed, waits                          │ joins
//! ```
//!
//! A worker joins at the start of a step, through the entry of its slot. The leader runs the pieces of every worker that has not
//! joined. So a run waits for a worker that has begun, and for no other.
//!
//! ```text
//!   entry      Idle ──open──▶ Open(s) ◀─next step─ Closed(s)      the leader, at the start and the end of step s
//!              Open(s) ──▶ Joined ──▶ Idle                        the follower, when it joins and when it leaves
//!              Closed(last) ──▶ Queued ──▶ Idle                   the leader ends the run; a late follower leaves
//!              Queued ──open──▶ Open(0)                           the next run takes the job that is still queued
//! ```
//!
//! A follower owns the team together with the scratch. It reads a pointer of the run only while its entry is Joined, and a run ends
//! only when no entry is. A late follower therefore finds Queued, and leaves without reading the run.
//!
//! Each worker writes its progress to a cache line of its own. Waiting spins first, since steps take microseconds. Then it yields the
//! core at each poll, and at last it sleeps. Waking costs a system call only where a worker sleeps.
//!
//! This file names no thread library: `tests/loom` compiles it against loom's atomics and tries every interleaving.

use core::any::Any;
use core::ops::DerefMut;
use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, resume_unwind};

use super::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Condvar, Mutex, Ordering, spin_loop, yield_now};

/// Set in a word while a worker sleeps until the word changes.
const ASLEEP: u32 = 1 << 31;

/// A value that one worker sets and others wait for.
#[derive(Debug, Default)]
struct Word {
    value: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
}

/// How long a worker waits awake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Polls of a word before the worker sleeps. A poll that gives the core away counts as [`POLLS_PER_YIELD`].
    pub(crate) spins: u32,
    /// Polls, of these, without giving the core away.
    pub(crate) busy: u32,
}

/// Polls that take as long as giving the core away and getting it back.
const POLLS_PER_YIELD: u32 = 25;

impl Word {
    fn get(&self) -> u32 {
        self.value.load(Ordering::Acquire) & !ASLEEP
    }

    /// Returns the value when it is `ready`.
    fn wait(&self, patience: Patience, ready: impl Fn(u32) -> bool) -> u32 {
        let mut polls = 0;
        while polls < patience.spins {
            let value = self.get();
            if ready(value) {
                return value;
            }
            if polls < patience.busy {
                spin_loop();
                polls += 1;
            } else {
                yield_now();
                polls = polls.saturating_add(POLLS_PER_YIELD);
            }
        }
        let mut guard = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            let seen = self.value.load(Ordering::Acquire);
            if ready(seen & !ASLEEP) {
                return seen & !ASLEEP;
            }
            // `set` takes the flag away, and then wakes: under the lock, the flag cannot go unseen between here and `wait`
            let flagged = seen | ASLEEP;
            if self.value.compare_exchange(seen, flagged, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                guard = self.changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
    }

    fn set(&self, value: u32) {
        if self.value.swap(value, Ordering::AcqRel) & ASLEEP != 0 {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// Sets `to` where the value is `from`, which no worker sleeps on.
    fn change(&self, from: u32, to: u32) -> bool {
        self.value.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

// The values of an entry.
/// No job for this slot.
const IDLE: u32 = 0;
/// A job that has not begun, and no run.
const QUEUED: u32 = 1;
/// A follower is in the run.
const JOINED: u32 = ASLEEP - 1;

/// The follower may join at the start of this step.
const fn open(step: u32) -> u32 {
    2 * step + 2
}

/// The leader runs the follower's pieces of this step.
const fn closed(step: u32) -> u32 {
    2 * step + 3
}

const fn is_closed(entry: u32) -> bool {
    entry > QUEUED && entry < JOINED && entry % 2 == 1
}

/// The progress of a worker whose run failed: no worker waits for it.
const NEVER: u32 = ASLEEP - 1;

/// A worker's part of the team.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    progress: Progress,
    entry: Entry,
}

/// The words that a worker writes for all others at each step, alone on their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Progress {
    /// Steps that the worker has finished.
    steps: Word,
    /// Of the leader: a bit for each worker that has joined, as of the last step that the leader has finished.
    members: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Entry(Word);

/// The work of one run: `run(step, piece, worker)` for each of `pieces[step]` pieces, step by step.
pub(crate) struct Work<'a> {
    pub(crate) pieces: &'a [usize],
    pub(crate) run: &'a (dyn Fn(usize, usize, usize) + Sync),
    /// Workers of this run, at most as many as the team has slots.
    pub(crate) workers: usize,
    pub(crate) patience: Patience,
}

/// The workers of a scratch. One run at a time has it.
#[derive(Debug)]
pub(crate) struct Team {
    slots: Vec<Slot>,
    /// The [`Work`] of the run, valid while an entry is Joined.
    work: AtomicPtr<()>,
    failure: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The result of a meeting: a worker goes on, or stops since another one failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Go,
    Stop,
}

impl Team {
    /// A team of as many workers as slots, at most 64.
    pub(crate) fn new(slots: Vec<Slot>) -> Team {
        Team { slots, work: AtomicPtr::default(), failure: Mutex::new(None) }
    }

    pub(crate) fn workers(&self) -> usize {
        self.slots.len()
    }

    /// Whether no job for a follower is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots[1..].iter().all(|slot| slot.entry.0.get() == IDLE)
    }

    /// Opens the entries of a run. `offer(worker)` is called for each follower that has no job yet.
    ///
    /// [`Opened::lead`] must be called once, on any thread. The run is over when the result is dropped.
    pub(crate) fn open<'a>(&'a self, work: &'a Work<'a>, mut offer: impl FnMut(usize)) -> Opened<'a> {
        assert!(work.workers <= self.slots.len() && work.workers <= 64);
        let opened = Opened { team: self, work, led: AtomicBool::new(false) };
        self.work.store((&raw const *work).cast_mut().cast(), Ordering::Relaxed);
        // of a run that `Opened::end` did not end, since the threads of the caller failed as well
        *self.failure() = None;
        for slot in &self.slots[..work.workers] {
            // no follower is in: the entries publish this
            slot.progress.steps.value.store(0, Ordering::Relaxed);
        }
        for worker in 1..work.workers {
            let entry = &self.slots[worker].entry.0;
            // a job that is still queued serves this run; a job that leaves meanwhile turns Queued into Idle
            if !entry.change(QUEUED, open(0)) {
                entry.set(open(0));
                // without a job the slot is free again
                if let Err(failure) = catch_unwind(AssertUnwindSafe(|| offer(worker))) {
                    entry.set(IDLE);
                    drop(opened);
                    resume_unwind(failure);
                }
            }
        }
        opened
    }

    /// Runs a follower's part of the run, if there is one, from the step at which it finds its entry open.
    pub(crate) fn follow(&self, worker: usize, patience: Patience) {
        let entry = &self.slots[worker].entry.0;
        let first = loop {
            let state = entry.wait(patience, |entry| !is_closed(entry));
            match state {
                IDLE | JOINED => return,
                QUEUED if entry.change(QUEUED, IDLE) => return,
                QUEUED => {}
                _ if entry.change(state, JOINED) => break (state - open(0)) / 2,
                _ => {}
            }
        };
        // SAFETY: the leader stored it before it opened the entry, and keeps it alive until the entry is Idle again.
        let work = unsafe { &*self.work.load(Ordering::Relaxed).cast::<Work<'_>>() };
        let steps = AssertUnwindSafe(|| {
            let last = work.pieces.len() - 1;
            for (step, &count) in (0u32..).zip(work.pieces).skip(first as usize) {
                for piece in pieces_of(worker, work.workers, count) {
                    (work.run)(step as usize, piece, worker);
                }
                if step as usize == last {
                    // the leader waits for the entry; a worker that is still behind an earlier step may wait for this one
                    self.slots[worker].progress.steps.set(step + 1);
                } else if self.meet(work, worker, step + 1) == Met::Stop {
                    // the failure may be of a step that this worker has not begun, and others wait for the worker behind that step
                    self.slots[worker].progress.steps.set(NEVER);
                    break;
                }
            }
        });
        if let Err(failure) = catch_unwind(steps) {
            self.fail(worker, failure);
        }
        entry.set(IDLE);
    }

    fn failure(&self) -> impl DerefMut<Target = Option<Box<dyn Any + Send>>> + '_ {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps the payload of a panic for the leader's caller, and stops all workers at their next meeting.
    fn fail(&self, worker: usize, failure: Box<dyn Any + Send>) {
        *self.failure() = Some(failure);
        self.slots[worker].progress.steps.set(NEVER);
    }

    /// Says that `worker` has finished so many steps, and returns when all workers that have joined have.
    fn meet(&self, work: &Work<'_>, worker: usize, steps: u32) -> Met {
        self.slots[worker].progress.steps.set(steps);
        let arrived = |other: usize| {
            let progress = &self.slots[other].progress;
            progress.steps.wait(work.patience, |done| done >= steps) != NEVER
        };
        if worker != 0 && !arrived(0) {
            return Met::Stop;
        }
        // The leader may be one step further when a follower reads this. A worker that joined meanwhile is on its way to finish more
        // steps than are waited for.
        let members = self.slots[0].progress.members.load(Ordering::Relaxed);
        for other in (1..work.workers).filter(|&other| other != worker && members >> other & 1 != 0) {
            if !arrived(other) {
                return Met::Stop;
            }
        }
        Met::Go
    }
}

/// The pieces of a step, of which there are `count`, whose home is `worker`.
fn pieces_of(worker: usize, workers: usize, count: usize) -> impl Iterator<Item = usize> {
    (worker..count).step_by(workers)
}

/// A run whose followers may join. Dropping it ends the run: it waits until every follower that joined has left.
pub(crate) struct Opened<'a> {
    team: &'a Team,
    work: &'a Work<'a>,
    led: AtomicBool,
}

impl Opened<'_> {
    /// Runs the leader's part of every step, and the parts of all that have not joined.
    pub(crate) fn lead(&self) {
        self.led.store(true, Ordering::Relaxed);
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| self.steps())) {
            self.team.fail(0, failure);
        }
        // a late follower leaves from here on
        self.close();
    }

    fn steps(&self) {
        let (team, work) = (self.team, self.work);
        let mut members = 1u64;
        for (step, &count) in (0u32..).zip(work.pieces) {
            let absent = |members: u64| (1..work.workers).filter(move |worker| members >> worker & 1 == 0);
            if step > 0 {
                absent(members).for_each(|worker| team.slots[worker].entry.0.set(open(step)));
            }
            for piece in pieces_of(0, work.workers, count) {
                (work.run)(step as usize, piece, 0);
            }
            for worker in absent(members) {
                if team.slots[worker].entry.0.change(open(step), closed(step)) {
                    pieces_of(worker, work.workers, count).for_each(|piece| (work.run)(step as usize, piece, 0));
                } else {
                    members |= 1 << worker;
                }
            }
            team.slots[0].progress.members.store(members, Ordering::Relaxed);
            // the last step is over when no entry is Joined
            if step as usize + 1 < work.pieces.len() && team.meet(work, 0, step + 1) == Met::Stop {
                team.slots[0].progress.steps.set(NEVER);
                return;
            }
        }
    }

    /// Turns the entries of all that have not joined to Queued.
    fn close(&self) {
        for slot in &self.team.slots[1..self.work.workers] {
            let entry = &slot.entry.0;
            loop {
                let state = entry.get();
                if matches!(state, IDLE | QUEUED | JOINED) {
                    break;
                }
                if is_closed(state) {
                    entry.set(QUEUED);
                    break;
                }
                if entry.change(state, QUEUED) {
                    break;
                }
            }
        }
    }

    /// Whether [`Opened::lead`] was called.
    pub(crate) fn is_led(&self) -> bool {
        self.led.load(Ordering::Relaxed)
    }

    /// Ends the run. A panic of any worker goes on here.
    pub(crate) fn end(self) {
        let team = self.team;
        drop(self);
        let failure = team.failure().take();
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }

    /// Takes back what no job will come for: for threads that keep no job after a run.
    pub(crate) fn forget_queued(&self) {
        for slot in &self.team.slots[1..self.work.workers] {
            slot.entry.0.change(QUEUED, IDLE);
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if !self.led.load(Ordering::Relaxed) {
            // the leader's thread panicked before: no follower may wait for it
            self.team.slots[0].progress.steps.set(NEVER);
        }
        self.close();
        for slot in &self.team.slots[1..self.work.workers] {
            slot.entry.0.wait(self.work.patience, |entry| entry != JOINED);
        }
    }
}
