//! Every operator of MobileNetV1 and V2 at width 1 and 224×224, and depthwise convolutions that neither has, a group a
//! family.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use common::{add, configured};
use criterion::{Criterion, criterion_group, criterion_main};
use sepconv_bench::shapes::{self, Family, List, Net};
use sepconv_bench::subject::plan_options;

fn operators(criterion: &mut Criterion) {
    let mut list = List::new();
    shapes::add_network(&mut list, Net::V1, 1.0, 224).expect("V1 exists at width 1");
    shapes::add_network(&mut list, Net::V2, 1.0, 224).expect("V2 exists at width 1");
    shapes::add_general(&mut list);
    let mut entries = list.into_entries();
    entries.sort_by_key(|entry| entry.operator.family());
    let options = plan_options(None, 1).expect("one thread of the best instruction set");
    for family in entries.chunk_by(|a, b| a.operator.family() == b.operator.family()) {
        let mut group = criterion.benchmark_group(match family[0].operator.family() {
            Family::Standard => "standard convolution",
            Family::Depthwise => "depthwise",
            Family::GeneralDepthwise => "general depthwise",
            Family::Pointwise => "pointwise",
            Family::Separable => "separable block",
            Family::InvertedResidual => "inverted residual block",
        });
        for entry in family {
            add(&mut group, &entry.operator.name(), &entry.operator, &options);
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = operators }
criterion_main!(benches);
