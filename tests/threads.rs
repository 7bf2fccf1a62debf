//! Threads never surprise: a run executes nothing but its own work, and waits for no thread that has not begun.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sepconv::{
    ConvDesc, DepthwiseConv2d, Filter, Layer, Network, ParallelFor, Plan, PlanCache, PlanOptions, PointwiseConv2d,
    Scratch, Shape, Threads, ViewMut,
};
use sepconv_test_support::{CANARY, DenseTensor, Rng, ValueKind};

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// Options for a plan of as many workers as `threads` has threads, however many cores there are.
fn options(threads: Threads) -> PlanOptions {
    PlanOptions::new().threads(threads).max_threads(sepconv::MAX_THREADS)
}

/// A network of several steps, each of them shared by threads.
fn network() -> Network {
    let rng = &mut Rng(1);
    let mut layers: Vec<Layer> = Vec::new();
    for _ in 0..3 {
        let (depthwise, pointwise) = (rng.values(9 * 32, ValueKind::Plain), rng.values(32 * 32, ValueKind::Plain));
        let depthwise = ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, 32]));
        layers.push(DepthwiseConv2d::new(depthwise).unwrap().into());
        layers.push(PointwiseConv2d::new(ConvDesc::new(Filter::io(&pointwise, [32, 32]))).unwrap().into());
    }
    Network::new(layers).unwrap()
}

/// A plan with an input and the output that it has on one thread.
struct Job {
    plan: Plan,
    input: DenseTensor,
    expected: Vec<f32>,
}

impl Job {
    fn new(options: &PlanOptions) -> Job {
        let shape = Shape::new(1, 16, 16, 32);
        let plan = network().plan(shape, options).unwrap();
        let input = DenseTensor::random(&mut Rng(2), shape, ValueKind::Plain);
        let serial = network().plan(shape, &PlanOptions::new()).unwrap();
        let mut expected = vec![CANARY; serial.output_shape().len().unwrap()];
        let to = ViewMut::new(&mut expected, serial.output_shape()).unwrap();
        serial.run(input.view(), to, &mut serial.scratch().unwrap()).unwrap();
        Job { plan, input, expected }
    }

    fn run(&self, scratch: &mut Scratch) {
        self.run_by(|plan, input, to| plan.run(input, to, scratch).unwrap());
    }

    fn run_in(&self, memory: &mut [u8]) {
        self.run_by(|plan, input, to| plan.run_in(input, to, memory).unwrap());
    }

    fn run_on(&self, threads: &Threads, scratch: &mut Scratch) {
        self.run_by(|plan, input, to| plan.run_on(threads, input, to, scratch).unwrap());
    }

    fn run_by(&self, run: impl FnOnce(&Plan, sepconv::View<'_>, ViewMut<'_>)) {
        let mut output = vec![CANARY; self.expected.len()];
        run(&self.plan, self.input.view(), ViewMut::new(&mut output, self.plan.output_shape()).unwrap());
        assert!(output == self.expected, "another result than on one thread");
    }
}

/// Fails where `body` takes longer than a minute: it hangs then.
fn within_a_minute(body: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

#[test]
fn jobs_of_a_pool_may_lock_a_scratch_and_run_a_plan_of_the_same_pool() {
    within_a_minute(|| {
        let pool = pool(4);
        let job = Job::new(&options(Threads::Pool(Arc::clone(&pool))));
        assert_eq!(job.plan.threads(), 4);
        let scratches: Vec<_> = (0..4).map(|_| Mutex::new(job.plan.scratch().unwrap())).collect();
        pool.install(|| {
            (0..2000).into_par_iter().for_each(|_| {
                let mine = &scratches[rayon::current_thread_index().unwrap()];
                job.run(&mut mine.lock().unwrap());
            });
        });
    });
}

#[test]
fn a_run_borrows_no_cell_of_its_thread_twice() {
    thread_local!(static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) });
    within_a_minute(|| {
        let pool = pool(4);
        let job = Job::new(&options(Threads::Pool(Arc::clone(&pool))));
        pool.install(|| {
            (0..2000).into_par_iter().for_each(|_| {
                SCRATCH.with_borrow_mut(|scratch| {
                    job.run(scratch.get_or_insert_with(|| job.plan.scratch().unwrap()));
                });
            });
        });
    });
}

#[test]
fn many_jobs_of_one_pool_run_a_plan_of_another() {
    within_a_minute(|| {
        let (runs_on, called_from) = (pool(2), pool(2));
        let job = Job::new(&options(Threads::Pool(runs_on)));
        let scratches = Mutex::new(Vec::new());
        let deepest = AtomicUsize::new(0);
        thread_local!(static DEPTH: RefCell<usize> = const { RefCell::new(0) });
        called_from.scope(|scope| {
            for _ in 0..10_000 {
                scope.spawn(|_| {
                    let depth = DEPTH.with_borrow_mut(|depth| {
                        *depth += 1;
                        *depth
                    });
                    deepest.fetch_max(depth, Ordering::Relaxed);
                    let scratch = scratches.lock().unwrap().pop();
                    let mut scratch = scratch.unwrap_or_else(|| job.plan.scratch().unwrap());
                    job.run(&mut scratch);
                    scratches.lock().unwrap().push(scratch);
                    DEPTH.with_borrow_mut(|depth| *depth -= 1);
                });
            }
        });
        assert_eq!(deepest.load(Ordering::Relaxed), 1, "jobs that began inside a run");
    });
}

/// A pool whose threads all wait until the gate is opened.
struct Busy {
    pool: Arc<ThreadPool>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Busy {
    fn new(threads: usize) -> Busy {
        let (pool, open) = (pool(threads), Arc::new((Mutex::new(false), Condvar::new())));
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..threads {
            let (open, begun) = (Arc::clone(&open), Arc::clone(&begun));
            pool.spawn(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let opened = open.0.lock().unwrap();
                drop(open.1.wait_while(opened, |opened| !*opened).unwrap());
            });
        }
        while begun.load(Ordering::SeqCst) < threads {
            std::thread::yield_now();
        }
        Busy { pool, open }
    }

    fn free(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

#[test]
fn a_busy_pool_is_not_waited_for() {
    within_a_minute(|| {
        let busy = Busy::new(3);
        let job = Job::new(&options(Threads::Pool(Arc::clone(&busy.pool))));
        let mut scratch = job.plan.scratch().unwrap();
        // the pool's jobs end only when all runs are over
        for _ in 0..100 {
            job.run(&mut scratch);
        }
        // a scratch may be gone before its jobs begin
        let mut other = job.plan.scratch().unwrap();
        job.run(&mut other);
        drop(other);
        busy.free();
        for _ in 0..100 {
            job.run(&mut scratch);
        }
        drop(job);
        drop(scratch);
    });
}

/// Fails where one of several ways costs more than `limits` says, as a multiple of the time of the first way. `run(way)` runs one.
///
/// The ways take turns, and the sums of their times count. The best times say too little: where no other thread comes in time, the calling
/// thread has a run for itself. Other processes may use all cores through an attempt, so there are several. A way that is slow by itself
/// is slow in each of them.
fn assert_costs<const WAYS: usize>(limits: [f64; WAYS], mut run: impl FnMut(usize)) {
    const ATTEMPTS: usize = 8;
    const ROUNDS: usize = 40;
    let mut attempts = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut sums = [Duration::ZERO; WAYS];
        for _ in 0..ROUNDS {
            for (way, sum) in sums.iter_mut().enumerate() {
                let began = Instant::now();
                run(way);
                *sum += began.elapsed();
            }
        }
        let costs = sums.map(|sum| sum.as_secs_f64() / sums[0].as_secs_f64());
        if costs.iter().zip(limits).all(|(&cost, limit)| cost <= limit) {
            return;
        }
        attempts.push(costs);
    }
    panic!("more than {limits:?} in each attempt: {attempts:.1?}");
}

/// The cost of runs beside a busy pool, against runs on one thread: what the caller pays for threads that do not come.
#[test]
fn a_busy_pool_costs_little_more_than_one_thread() {
    within_a_minute(|| {
        let busy = Busy::new(2);
        let ways = [Threads::Serial, Threads::Pool(Arc::clone(&busy.pool))];
        let job = Job::new(&options(ways[1].clone()));
        let mut scratch = job.plan.scratch().unwrap();
        assert_costs([1.0, 3.0], |way| job.run_on(&ways[way], &mut scratch));
        busy.free();
    });
}

#[test]
fn the_global_pool_is_the_pool_that_the_plan_is_made_in() {
    let (one, three) = (pool(1), pool(3));
    let in_one = one.install(|| Job::new(&options(Threads::Global)));
    let in_three = three.install(|| Job::new(&options(Threads::Global)));
    assert_eq!((in_one.plan.threads(), in_three.plan.threads()), (1, 3));
    let mut scratch = in_three.plan.scratch().unwrap();
    // another pool than the plan's may run it; `src/team/mod.rs` counts the threads of such runs
    for pool in [&one, &three] {
        pool.install(|| in_three.run(&mut scratch));
    }
    in_three.run(&mut scratch);
}

#[test]
fn threads_may_change_from_run_to_run() {
    let job = Job::new(&options(Threads::Pool(pool(4))));
    let mut scratch = job.plan.scratch().unwrap();
    let busy = Busy::new(4);
    for threads in [1, 2, 3, 4, 8] {
        let threads = Threads::Pool(pool(threads));
        for _ in 0..20 {
            job.run_on(&threads, &mut scratch);
            job.run(&mut scratch);
            job.run_on(&Threads::Serial, &mut scratch);
            // leaves jobs behind that do not begin
            job.run_on(&Threads::Pool(Arc::clone(&busy.pool)), &mut scratch);
            job.run_on(&Threads::Global, &mut scratch);
        }
    }
    busy.free();
}

/// The jobs of a scratch wait in a pool that its owner drops. A new pool may then lie at the address of the old one.
#[test]
fn a_pool_may_be_dropped_while_jobs_of_a_scratch_wait_in_it() {
    within_a_minute(|| {
        let job = Job::new(&options(Threads::Pool(pool(3))));
        let mut scratch = job.plan.scratch().unwrap();
        let mut gates = Vec::new();
        for turn in 0..10 {
            let Busy { pool: busy, open } = Busy::new(2 + turn % 2);
            job.run_on(&Threads::Pool(busy), &mut scratch);
            gates.push(open);
            let new = Threads::Pool(pool(2 + turn % 2));
            for _ in 0..20 {
                job.run_on(&new, &mut scratch);
            }
            drop(new);
            job.run(&mut scratch);
        }
        // a plan, its pool and its scratch: the jobs that wait are all that is left of them
        let Busy { pool: busy, open } = Busy::new(2);
        let own = Job::new(&options(Threads::Pool(busy)));
        let mut own_scratch = own.plan.scratch().unwrap();
        own.run(&mut own_scratch);
        own.run_on(&Threads::Pool(pool(2)), &mut own_scratch);
        drop((own, own_scratch));
        gates.push(open);
        for open in gates {
            *open.0.lock().unwrap() = true;
            open.1.notify_all();
            // the jobs begin now
            for _ in 0..20 {
                job.run(&mut scratch);
            }
        }
    });
}

/// A loop of the caller's that does with its tasks whatever `order` says.
struct CallersLoop<F: Fn(usize, &(dyn Fn(usize) + Sync)) + Send + Sync>(usize, F);

impl<F: Fn(usize, &(dyn Fn(usize) + Sync)) + Send + Sync> ParallelFor for CallersLoop<F> {
    fn threads(&self) -> usize {
        self.0
    }

    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (self.1)(count, task);
    }
}

fn custom(threads: usize, order: impl Fn(usize, &(dyn Fn(usize) + Sync)) + Send + Sync + 'static) -> Threads {
    Threads::Custom(Arc::new(CallersLoop(threads, order)))
}

#[test]
fn threads_of_the_callers_own_in_any_order() {
    within_a_minute(|| {
        let side_by_side = custom(4, |count, task| {
            std::thread::scope(|scope| {
                for i in 0..count {
                    scope.spawn(move || task(i));
                }
            });
        });
        let all = [
            ("side by side", side_by_side),
            ("on the caller", custom(4, |count, task| (0..count).for_each(task))),
            ("backwards", custom(4, |count, task| (0..count).rev().for_each(task))),
            ("by rayon", custom(4, |count, task| (0..count).into_par_iter().for_each(task))),
            ("the last alone", custom(4, |count, task| task(count - 1))),
            ("none", custom(4, |_, _| ())),
            ("twice", custom(4, |count, task| (0..2 * count).for_each(task))),
            ("beyond the count", custom(4, |_, task| task(usize::MAX))),
            ("no threads", custom(0, |count, task| (0..count).for_each(task))),
            ("more than are taken", custom(usize::MAX, |count, task| (0..count).for_each(task))),
        ];
        let job = Job::new(&options(Threads::Pool(pool(3))));
        let mut kept = job.plan.scratch().unwrap();
        for (name, threads) in all {
            let own = Job::new(&options(threads.clone()));
            let mut scratch = own.plan.scratch().unwrap();
            let runs = std::panic::AssertUnwindSafe(|| {
                for _ in 0..50 {
                    own.run(&mut scratch);
                    job.run_on(&threads, &mut kept);
                    job.run(&mut kept);
                }
            });
            assert!(std::panic::catch_unwind(runs).is_ok(), "tasks {name}");
        }
    });
}

#[test]
fn a_loop_that_panics_leaves_a_scratch_that_runs() {
    let job = Job::new(&options(Threads::Pool(pool(3))));
    let mut scratch = job.plan.scratch().unwrap();
    for after in [0, 1, 3] {
        let failing = custom(3, move |_, task| {
            (0..after).for_each(task);
            panic!("the loop of the caller fails");
        });
        let run = std::panic::AssertUnwindSafe(|| job.run_on(&failing, &mut scratch));
        assert!(std::panic::catch_unwind(run).is_err());
        job.run(&mut scratch);
    }
}

/// Children of `fork` have none of the parent's threads. Each child says by its exit code what it found.
#[cfg(unix)]
mod fork {
    use super::*;

    /// The exit code of a child that runs `body`, or none where it did not end within half a minute.
    fn child(body: impl FnOnce() -> i32) -> Option<i32> {
        // SAFETY: the parent asks only for numbers. POSIX promises the child no more than functions that are safe in a signal handler,
        // and `body` calls others: it allocates, which the C libraries of Linux and macOS allow, and it starts threads. The child has a
        // copy of the parent's memory and one thread, so nothing races. A lock that another thread held at `fork` stays locked in the
        // child: where `body` takes such a lock, the child hangs, the parent ends it, and the test fails.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0, "no child");
            if child == 0 {
                libc::_exit(body());
            }
            for _ in 0..3000 {
                let mut status = 0;
                if libc::waitpid(child, &raw mut status, libc::WNOHANG) == child {
                    return Some(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, core::ptr::null_mut(), 0);
            None
        }
    }

    fn runs(job: &Job, scratch: &mut Scratch) -> i32 {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..20).for_each(|_| job.run(scratch))));
        i32::from(ran.is_err())
    }

    #[test]
    fn a_child_runs_what_it_inherits_and_what_it_makes() {
        let pool = pool(3);
        for threads in [Threads::Global, Threads::Pool(pool)] {
            let job = Job::new(&options(threads.clone()));
            let mut scratch = job.plan.scratch().unwrap();
            job.run(&mut scratch);
            assert_eq!(child(|| runs(&job, &mut scratch)), Some(0), "an inherited plan, {threads:?}");
            let made = || {
                let job = Job::new(&options(threads.clone()));
                let mut scratch = job.plan.scratch().unwrap();
                runs(&job, &mut scratch)
            };
            assert_eq!(child(made), Some(0), "a new plan, {threads:?}");
            let made_with_inherited_scratch = || {
                let job = Job::new(&options(Threads::Pool(super::pool(2))));
                scratch.reserve(&job.plan).unwrap();
                runs(&job, &mut scratch)
            };
            assert_eq!(child(made_with_inherited_scratch), Some(0), "inherited scratch, {threads:?}");
            job.run(&mut scratch);
        }
        let own_pool = || {
            let job = Job::new(&options(Threads::Pool(super::pool(2))));
            let mut scratch = job.plan.scratch().unwrap();
            runs(&job, &mut scratch)
        };
        assert_eq!(child(own_pool), Some(0), "a pool of the child's own");
    }

    /// A plan that a cache of the parent makes in the child has no threads, as one that the child inherits has none.
    #[test]
    fn a_cache_of_the_parent_takes_no_threads() {
        struct CountedLoop(AtomicUsize);

        impl ParallelFor for CountedLoop {
            fn threads(&self) -> usize {
                2
            }

            fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
                self.0.fetch_add(1, Ordering::Relaxed);
                (0..count).for_each(task);
            }
        }

        let counted = Arc::new(CountedLoop(AtomicUsize::new(0)));
        let threads = options(Threads::Custom(counted.clone()));
        let (job, cache, network) = (Job::new(&threads), PlanCache::new(threads, 4), network());
        // how often a run with a new plan called the loop
        let calls = || {
            cache.clear();
            let before = counted.0.load(Ordering::Relaxed);
            job.run_by(|_, input, to| cache.run(&network, input, to).unwrap());
            counted.0.load(Ordering::Relaxed) - before
        };
        assert_eq!(calls(), 1);
        assert_eq!(child(|| calls() as i32), Some(0));
        assert_eq!(calls(), 1);
    }

    /// Another thread of the parent may hold the lock of a cache, or of the crews of a plan, at the moment of the fork.
    #[test]
    fn a_child_waits_for_no_lock_of_its_parent() {
        let job = Job::new(&options(Threads::Pool(pool(2))));
        let cache = PlanCache::new(PlanOptions::new(), 4);
        let network = network();
        let by_cache = || job.run_by(|_, input, to| cache.run(&network, input, to).unwrap());
        let in_memory = || job.run_in(&mut vec![0; job.plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT]);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // mostly inside of the lock
                    let _ = (cache.len(), cache.scratch_bytes(), cache.is_empty());
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    in_memory();
                }
            });
            let children: Vec<_> = (0..20)
                .map(|_| {
                    child(|| {
                        let run = || (0..2).for_each(|_| (by_cache(), in_memory()).1);
                        i32::from(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err())
                    })
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            assert_eq!(children, [Some(0); 20]);
        });
    }
}

/// A scratch of one plan runs others: of fewer and of more threads, on other pools, in turns with memory of the caller's.
#[test]
fn one_scratch_serves_plans_of_any_threads() {
    within_a_minute(|| {
        let jobs: Vec<_> = [1, 2, 5, 3]
            .map(|threads| if threads == 1 { Threads::Serial } else { Threads::Pool(pool(threads)) })
            .map(|threads| Job::new(&options(threads)))
            .into();
        let most = jobs.iter().max_by_key(|job| job.plan.scratch_bytes()).unwrap();
        // of the bytes of all, and of one thread
        let mut memory = vec![0; most.plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT];
        let mut scratch = Scratch::new();
        for _ in 0..3 {
            for (at, job) in jobs.iter().enumerate() {
                scratch.reserve(&job.plan).unwrap();
                assert!(scratch.threads() >= job.plan.threads());
                assert!(scratch.bytes() >= job.plan.scratch_bytes());
                for job in &jobs[..=at] {
                    job.run(&mut scratch);
                    job.run_in(&mut memory);
                }
            }
        }
        assert_eq!((scratch.threads(), scratch.bytes()), (5, most.plan.scratch_bytes()));
    });
}

#[test]
fn runs_of_one_plan_at_the_same_time_on_one_pool_have_the_results_of_one_thread() {
    const CALLERS: usize = 3;
    within_a_minute(|| {
        let pool = pool(3);
        let job = Job::new(&options(Threads::Pool(Arc::clone(&pool))));
        let begin = Barrier::new(CALLERS);
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let mut scratch = job.plan.scratch().unwrap();
                    let mut memory = vec![0; job.plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT];
                    begin.wait();
                    for _ in 0..1000 {
                        job.run(&mut scratch);
                        job.run_in(&mut memory);
                    }
                });
            }
        });
    });
}
