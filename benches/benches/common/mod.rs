//! What the benches share: how an operator becomes one of criterion's.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use sepconv::PlanOptions;
use sepconv_bench::shapes::Operator;
use sepconv_bench::subject::{Buffers, CacheState, Subject};

/// Shorter than criterion's default, as there are many operators and each is quick.
pub(crate) fn configured() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

/// Adds an operator on buffers that stay in place; throughput is in multiply-adds.
pub(crate) fn add(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, operator: &Operator, options: &PlanOptions) {
    group.throughput(Throughput::Elements(operator.macs()));
    let id = BenchmarkId::new(name, operator.shape());
    group.bench_function(id, |bencher| {
        let network = operator.network().expect("the operators of this list can be made");
        let mut subject = Subject::new(&network, operator.input, options).expect("and planned");
        let mut buffers = Buffers::for_all([&subject], CacheState::Warm);
        bencher.iter(|| subject.run(&mut buffers));
    });
}
