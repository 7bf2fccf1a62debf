//! The processor time of runs on several threads, against that of one thread. This test is a process of its own, since the time of a process has all its
//! threads in it: those of another test would count. Unlike the time by a clock on the wall, it hardly depends on what else runs.

#![cfg(unix)]

use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPoolBuilder;
use sepconv::models::{Config, MobileNetV2, Weights};
use sepconv::{PlanOptions, Shape, Threads, ViewMut};
use sepconv_test_support::{DenseTensor, Rng, ValueKind};

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Ten workers on two cores, which never slept while they waited for each other, took 7 to 23 times as long as one thread by the clock on
/// the wall, and kept both cores busy. Now they take up to 2 times the processor time of one thread where there are as many as cores, and
/// up to 5 times where the caller insists on all ten.
#[test]
fn more_threads_than_cores_take_little_more_than_one() {
    const ATTEMPTS: usize = 8;
    const ROUNDS: usize = 40;
    let architecture = MobileNetV2::architecture(&Config::new().alpha(0.35)).unwrap();
    let weights = Weights::seeded(&architecture, 0).unwrap();
    let network = architecture.network(&weights).unwrap();
    let shape = Shape::new(1, 96, 96, 3);
    let input = DenseTensor::random(&mut Rng(3), shape, ValueKind::Plain);
    let many = Threads::Pool(Arc::new(ThreadPoolBuilder::new().num_threads(10).build().unwrap()));
    let insisted = PlanOptions::new().threads(many.clone()).max_threads(sepconv::MAX_THREADS);
    let plans =
        [PlanOptions::new(), PlanOptions::new().threads(many), insisted].map(|o| network.plan(shape, &o).unwrap());
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(plans.each_ref().map(sepconv::Plan::threads), [1, cores.min(10), 10]);
    let mut scratches = plans.each_ref().map(|plan| plan.scratch().unwrap());
    let mut outputs =
        plans.each_ref().map(|plan| vec![sepconv_test_support::CANARY; plan.output_shape().len().unwrap()]);
    let mut costs: Vec<[f64; 3]> = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut sums = [Duration::ZERO; 3];
        for (way, plan) in plans.iter().enumerate() {
            let began = processor_time();
            for _ in 0..ROUNDS {
                let to = ViewMut::new(&mut outputs[way], plan.output_shape()).unwrap();
                plan.run(input.view(), to, &mut scratches[way]).unwrap();
            }
            // workers that still poll for the next run sleep by then
            std::thread::sleep(Duration::from_millis(5));
            sums[way] = processor_time() - began;
        }
        costs.push(sums.map(|sum| sum.as_secs_f64() / sums[0].as_secs_f64()));
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    let few = |cost: &[f64; 3]| cost[1] <= 3.0 && cost[2] <= 10.0;
    assert!(costs.iter().any(few), "one thread, as many as cores, ten: {costs:.2?}");
}
