//! Instruction set against instruction set: one operator of each kind, a group an operator.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use common::{add, configured};
use criterion::{Criterion, criterion_group, criterion_main};
use sepconv::Isa;
use sepconv_bench::shapes::{self, BenchStage, Net, Operator};
use sepconv_bench::subject::plan_options;

fn isa_vs_isa(criterion: &mut Criterion) {
    let v2 = shapes::blocks(Net::V2, 1.0, 224).expect("V2 exists at width 1");
    let block = v2.into_iter().find(|block| block.shortcut).expect("V2 has shortcuts");
    for operator in [
        Operator::single(BenchStage::standard(3, 2, 3, 32), 224),
        Operator::single(BenchStage::depthwise(3, 1, 128), 56),
        Operator::single(BenchStage::depthwise(3, 2, 128), 56),
        Operator::single(BenchStage::depthwise(5, 1, 128), 56),
        Operator::single(BenchStage::pointwise(24, 144), 56),
        Operator::single(BenchStage::pointwise(512, 512), 14),
        Operator::separable(BenchStage::depthwise(3, 1, 512), 512, 14),
        block,
    ] {
        let mut group = criterion.benchmark_group(format!("ISA vs ISA, {} {}", operator.name(), operator.shape()));
        // those that this CPU lacks, or SEPCONV_MAX_ISA takes away, have no options
        for (isa, options) in Isa::ALL.into_iter().filter_map(|isa| Some((isa, plan_options(Some(isa), 1).ok()?))) {
            add(&mut group, isa.name(), &operator, &options);
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = isa_vs_isa }
criterion_main!(benches);
