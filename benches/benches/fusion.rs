//! Fused against unfused: every block of MobileNetV1 and V2 at width 1 and 224×224, a group a block.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use common::{add, configured};
use criterion::{Criterion, criterion_group, criterion_main};
use sepconv::{Fusion, Schedule};
use sepconv_bench::shapes::{self, List, Net};
use sepconv_bench::subject::plan_options;

fn fused_vs_unfused(criterion: &mut Criterion) {
    let mut list = List::new();
    for net in [Net::V1, Net::V2] {
        for block in shapes::blocks(net, 1.0, 224).expect("both exist at width 1") {
            list.add(block, "");
        }
    }
    let options = plan_options(None, 1).expect("one thread of the best instruction set");
    for entry in list.into_entries().into_iter().filter(|entry| entry.operator.stages.len() > 1) {
        let block = entry.operator;
        let mut group = criterion.benchmark_group(format!("fused vs unfused, {} {}", block.name(), block.shape()));
        for (name, fusion) in [
            ("unfused", Fusion::Never),
            ("row ring", Fusion::Require(Schedule::RowRing)),
            ("channel slabs", Fusion::Require(Schedule::ChannelSlabs)),
            ("as the plan takes it", Fusion::Auto),
        ] {
            add(&mut group, name, &block, &options.clone().fusion(fusion));
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = fused_vs_unfused }
criterion_main!(benches);
