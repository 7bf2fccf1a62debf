//! Every operator equals the naive reference, bit for bit, on every instruction set and number of threads.

mod common;

use common::{ChainCase, alone, assert_required_levels, check, for_each_case};
use proptest::prelude::*;
use sepconv::{Fusion, Layer, Plan, PlanOptions, Result, Shape};

fn plan(layer: &Layer, input: Shape, options: &PlanOptions) -> Result<Plan> {
    match layer {
        Layer::Conv2d(op) => op.plan(input, options),
        Layer::DepthwiseConv2d(op) => op.plan(input, options),
        Layer::PointwiseConv2d(op) => op.plan(input, options),
        Layer::GlobalAveragePool(op) => op.plan(input, options),
        Layer::Dense(op) => op.plan(input, options),
        other => panic!("no operator of this test: {other:?}"),
    }
}

fn every_case_equals_the_reference(cases: u32, strategy: impl Strategy<Value = ChainCase>) {
    for_each_case(cases, &strategy, |case| {
        let built = case.layers[0].build();
        let (layer, input) = (built.layer(), case.input());
        check(
            |options| plan(&layer, case.input, options),
            &[Fusion::Auto],
            &input,
            |arithmetic| built.reference(&input, arithmetic),
            case.macs(),
            case.runs,
        )
    });
    assert_required_levels();
}

#[test]
fn conv2d() {
    every_case_equals_the_reference(3000, alone(common::conv2d()));
}

#[test]
fn depthwise() {
    every_case_equals_the_reference(5000, alone(common::depthwise()));
}

#[test]
fn pointwise() {
    every_case_equals_the_reference(3000, alone(common::pointwise()));
}

#[test]
fn average_pool() {
    every_case_equals_the_reference(1000, alone(common::pool()));
}

#[test]
fn dense() {
    every_case_equals_the_reference(1500, common::dense_alone());
}
