//! Threads that run the steps of a plan together, entered once for the whole run.
//!
//! A step is cut into pieces when it is planned, and a piece has a home: the worker that runs it in every run. So what a
//! worker wrote in one step it finds in its own cache in the next, but for the rows at the border; where two cores do not
//! share a cache, a line of the other one takes ten times as long.
//!
//! ```text
//!   leader     opens doors │ own pieces │ shuts doors, pieces of who is not in │ arrives, waits │ opens doors …
//!   worker 1   in          │ own pieces                                        │ arrives, waits │ own pieces …
//!   worker 2   (not begun by the pool)         comes to a door that is shut, waits                │ comes in
//! ```
//!
//! The first worker leads. Who comes while its door is open is in, and runs its own pieces from that step on; the leader
//! runs the pieces of all others. So nobody waits for a thread that has not started: a busy pool, or a call from inside one
//! of the pool's own jobs, costs speed and never a deadlock. From outside of all pools the calling thread is the leader;
//! what it offered the pool, the pool then has to take before the run ends, since only a thread of the pool can take a job
//! back.
//!
//! Between two steps everyone says that it has arrived, on a cache line of its own, and looks at the lines of the others:
//! one line goes each way. Who waits looks again and again at first, since steps take microseconds and a sleep takes
//! tens of them, and sleeps after so many looks as the caller allows: then the core belongs to whoever needs it, the one
//! that is waited for perhaps. Nobody is woken who does not sleep, so a step that ends while all are looking costs no
//! system call.
//!
//! What lost: pieces claimed one by one by whoever came first. On two cores without a common cache V2 0.35 96 took 0.177
//! ms so, hardly less than on one.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rayon::Scope;

use crate::Threads;

/// A number that grows, and that others wait for.
#[derive(Debug, Default)]
struct Word {
    value: AtomicU32,
    /// How many sleep until it changes.
    asleep: AtomicU32,
}

impl Word {
    /// Returns what is there when it is at least `least`: after at most `spins` looks it sleeps.
    fn wait(&self, least: u32, spins: u32) -> u32 {
        for _ in 0..spins {
            let value = self.value.load(Ordering::Acquire);
            if value >= least {
                return value;
            }
            spin_loop();
        }
        // Before the looks at `value`, so that who changes it after one sees that somebody sleeps: both orders are
        // sequentially consistent.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        loop {
            let value = self.value.load(Ordering::SeqCst);
            if value >= least {
                self.asleep.fetch_sub(1, Ordering::Relaxed);
                return value;
            }
            atomic_wait::wait(&self.value, value);
        }
    }

    fn set(&self, value: u32) {
        self.value.store(value, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            atomic_wait::wake_all(&self.value);
        }
    }
}

/// What the workers of a run know of one of them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    arrival: Arrival,
    door: Door,
}

/// What a worker says to all others at each step. Alone on its cache lines, so that saying it disturbs nobody else.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Arrival {
    /// Steps that it is done with.
    steps: Word,
    /// The leader's: a bit for each worker that is in, as of the last step that it is done with.
    members: AtomicU64,
}

/// How a worker comes in, once in a run: [`open`] and [`shut`] by the leader at each step, [`IN`] by the worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Door(Word);

const fn open(step: u32) -> u32 {
    2 * step + 2
}

const fn shut(step: u32) -> u32 {
    2 * step + 3
}

const IN: u32 = u32::MAX - 1;

/// The run is over, or has failed: nobody waits for this worker, and it waits for nobody.
const NEVER: u32 = u32::MAX;

/// Runs `pieces[step]` pieces of each step, one step after the other; `run(step, piece, worker)` does the work.
///
/// `progress` has an entry for each of the workers, of which there are at most 64.
pub(crate) fn run(
    threads: &Threads,
    spins: u32,
    pieces: &[usize],
    progress: &mut [Progress],
    run: &(impl Fn(usize, usize, usize) + Sync),
) {
    let workers = progress.len();
    if workers <= 1 {
        for (step, &count) in pieces.iter().enumerate() {
            for piece in 0..count {
                run(step, piece, 0);
            }
        }
        return;
    }
    progress.fill_with(Progress::default);
    let progress = &*progress;
    let work = |worker| {
        let team = Team { progress, spins, me: worker };
        match worker {
            0 => team.lead(pieces, run),
            _ => team.follow(pieces, run),
        }
    };
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

/// All workers, as one of them sees them. Dropped when it is done with the run, also where a step panics: others must not
/// wait for it for ever.
struct Team<'a> {
    progress: &'a [Progress],
    spins: u32,
    me: usize,
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        self.progress[self.me].arrival.steps.set(NEVER);
        if self.me == 0 {
            for other in &self.progress[1..] {
                other.door.0.set(NEVER);
            }
        }
    }
}

impl Team<'_> {
    /// The pieces of a step, of which there are `count`, whose home is `worker`.
    fn pieces_of(&self, worker: usize, count: usize) -> impl Iterator<Item = usize> {
        (worker..count).step_by(self.progress.len())
    }

    fn lead(&self, pieces: &[usize], run: &impl Fn(usize, usize, usize)) {
        let mut members = 1;
        for (step, &count) in (0..).zip(pieces) {
            let out = |members: u64| (1..self.progress.len()).filter(move |worker| members >> worker & 1 == 0);
            for worker in out(members) {
                self.progress[worker].door.0.set(open(step));
            }
            for piece in self.pieces_of(0, count) {
                run(step as usize, piece, 0);
            }
            for worker in out(members) {
                let door = &self.progress[worker].door.0.value;
                // what a worker that is in has written is waited for at its arrival, so that nothing is ordered here
                match door.compare_exchange(open(step), shut(step), Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => self.pieces_of(worker, count).for_each(|piece| run(step as usize, piece, 0)),
                    Err(_) => members |= 1 << worker,
                }
            }
            self.progress[0].arrival.members.store(members, Ordering::Relaxed);
            self.meet(step + 1);
        }
    }

    fn follow(&self, pieces: &[usize], run: &impl Fn(usize, usize, usize)) {
        let door = &self.progress[self.me].door.0;
        let mut least = open(0);
        let first = loop {
            let state = door.wait(least, self.spins);
            match state {
                NEVER => return,
                // acquired by `wait`: the leader opened it when all earlier steps were done
                _ if state.is_multiple_of(2) => {
                    if door.value.compare_exchange(state, IN, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                        break (state - open(0)) / 2;
                    }
                }
                _ => least = state + 1,
            }
        };
        for (step, &count) in (0..).zip(pieces).skip(first as usize) {
            for piece in self.pieces_of(self.me, count) {
                run(step as usize, piece, self.me);
            }
            self.meet(step + 1);
        }
    }

    /// Says that this worker is done with so many steps, and returns when all that are in are.
    fn meet(&self, steps: u32) {
        self.progress[self.me].arrival.steps.set(steps);
        let leader = &self.progress[0].arrival;
        if self.me != 0 {
            leader.steps.wait(steps, self.spins);
        }
        // The leader may be a step further when this is read, if it waited for nobody else: then who has come in
        // meanwhile is on its way to be done with more steps than are waited for.
        let members = leader.members.load(Ordering::Relaxed);
        for (worker, other) in self.progress.iter().enumerate().skip(1) {
            if worker != self.me && members >> worker & 1 != 0 {
                other.arrival.steps.wait(steps, self.spins);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Whatever the order in which workers sleep and end, none sleeps on.
    #[test]
    fn who_sleeps_is_woken() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let pool = std::sync::Arc::new(pool);
        let threads = Threads::Pool(std::sync::Arc::clone(&pool));
        let pieces = [3, 1, 2, 5, 1, 1, 64];
        let mut progress: Vec<Progress> = (0..3).map(|_| Progress::default()).collect();
        for spins in [0, 1, 100, 20_000] {
            for round in 0..300 {
                let done = AtomicUsize::new(0);
                let mut once = || {
                    run(&threads, spins, &pieces, &mut progress, &|step, piece, worker| {
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

    /// Threads that never come, or come when all is over, are not waited for, and each piece is run once, in its step.
    #[test]
    fn who_does_not_come_is_not_missed() {
        let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let threads = Threads::Pool(std::sync::Arc::clone(&pool));
        let pieces = [4, 1, 3, 9];
        let mut progress: Vec<Progress> = (0..4).map(|_| Progress::default()).collect();
        for round in 0..200 {
            let runs = pieces.map(|count| (0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
            let mut once = || {
                run(&threads, 100, &pieces, &mut progress, &|step, piece, worker| {
                    assert!(worker < 4);
                    let done = |count: &Vec<AtomicUsize>| count.iter().all(|runs| runs.load(Ordering::Relaxed) == 1);
                    assert!(runs[..step].iter().all(done), "step {step} began before the one before was done");
                    runs[step][piece].fetch_add(1, Ordering::Relaxed);
                });
            };
            if round % 2 == 0 {
                once();
            } else {
                pool.install(once);
            }
            assert!(runs.iter().flatten().all(|runs| runs.load(Ordering::Relaxed) == 1));
        }
    }
}
