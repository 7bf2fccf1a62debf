//! Every operator equals the naive reference, bit for bit, on every instruction set and number of threads.

use sepconv::testing::Cases;
use sepconv::{Fusion, Layer, Plan, PlanOptions, Result, Shape};
use sepconv_test_support::{assert_required_levels, chain, check, for_each_case, input, layers, reference};

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

fn every_case_equals_the_reference(count: u32, cases: Cases) {
    for_each_case(count, &chain(cases), |case| {
        let problem = case.problem();
        let layer = &layers(&problem)[0];
        check(
            |options| plan(layer, problem.input_shape(), options),
            &[Fusion::Auto],
            &input(&problem),
            |arithmetic| reference(&problem, arithmetic),
            case.case.macs(),
            case.runs,
        )
    });
    assert_required_levels();
}

#[test]
fn conv2d() {
    every_case_equals_the_reference(3000, Cases::conv2d());
}

#[test]
fn depthwise() {
    every_case_equals_the_reference(5000, Cases::depthwise());
}

#[test]
fn pointwise() {
    every_case_equals_the_reference(3000, Cases::pointwise());
}

#[test]
fn average_pool() {
    every_case_equals_the_reference(1000, Cases::average_pool());
}

#[test]
fn dense() {
    every_case_equals_the_reference(1500, Cases::dense());
}
