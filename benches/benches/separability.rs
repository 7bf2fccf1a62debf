//! Depthwise against standard convolution: each layer of MobileNetV1 as the one and as the other, a group a layer.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use common::{add, configured};
use criterion::{Criterion, criterion_group, criterion_main};
use sepconv::Fusion;
use sepconv_bench::shapes::{self, BenchStage, Family, List, Net, Operator};
use sepconv_bench::subject::plan_options;

fn depthwise_vs_standard(criterion: &mut Criterion) {
    let mut list = List::new();
    for block in shapes::blocks(Net::V1, 1.0, 224).expect("V1 exists at width 1") {
        list.add(block, "v1");
    }
    let options = plan_options(None, 1).expect("one thread of the best instruction set");
    for entry in list.into_entries() {
        let block = entry.operator;
        if block.family() != Family::Separable {
            continue;
        }
        let [depthwise, pointwise] = [block.stages[0], block.stages[1]];
        let standard = BenchStage::standard(3, depthwise.stride[0], depthwise.inputs, pointwise.outputs);
        let single = |stage, input| Operator { stages: vec![stage], shortcut: false, input };
        let mut group =
            criterion.benchmark_group(format!("depthwise vs standard, {} s{}", block.shape(), depthwise.stride[0]));
        add(&mut group, "standard", &single(standard, block.input), &options);
        add(&mut group, "depthwise alone", &single(depthwise, block.input), &options);
        add(&mut group, "pointwise alone", &single(pointwise, depthwise.output(block.input)), &options);
        add(&mut group, "separable, unfused", &block, &options.clone().fusion(Fusion::Never));
        add(&mut group, "separable", &block, &options);
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = depthwise_vs_standard }
criterion_main!(benches);
