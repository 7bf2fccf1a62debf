//! Both blocks, and networks of any layers, equal the chain of naive references, bit for bit: fused by either schedule, not
//! fused, and as the plan decides, on every instruction set and number of threads.

mod common;

use std::collections::BTreeMap;

use common::{
    ChainCase, ConvCase, Frame, LayerCase, Order, Runs, SCHEDULES, Values, WindowCase, alone, assert_required_levels,
    check, for_each_case, threads,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sepconv::{Activation, Arithmetic, Fusion, Layer, Network, Padding, Plan, PlanOptions, Result, Schedule, Shape};

fn every_case_equals_the_reference<P: Fn(&PlanOptions) -> Result<Plan>>(
    cases: u32,
    strategy: impl Strategy<Value = ChainCase>,
    fusions: &[Fusion],
    planner: impl Fn(Vec<Layer>, &ChainCase) -> P,
) {
    for_each_case(cases, &strategy, |case| {
        let built = case.build();
        let input = case.input();
        let reference = |arithmetic: Arithmetic| {
            let mut x = built[0].reference(&input, arithmetic);
            for layer in &built[1..] {
                x = layer.reference(&x, arithmetic);
            }
            x
        };
        let plan = planner(built.iter().map(common::Built::layer).collect(), &case);
        check(plan, fusions, &input, reference, case.macs(), case.runs)
    });
    assert_required_levels();
}

fn block(layers: Vec<Layer>, case: &ChainCase) -> impl Fn(&PlanOptions) -> Result<Plan> + use<> {
    let input = case.input;
    let [layer] = <[Layer; 1]>::try_from(layers).unwrap();
    move |options| match &layer {
        Layer::SeparableConv2d(op) => op.plan(input, options),
        Layer::InvertedResidual(op) => op.plan(input, options),
        other => panic!("no block: {other:?}"),
    }
}

fn network(layers: Vec<Layer>, case: &ChainCase) -> impl Fn(&PlanOptions) -> Result<Plan> + use<> {
    let input = case.input;
    let network = Network::new(layers).unwrap();
    move |options| network.plan(input, options)
}

#[test]
fn separable_by_every_schedule() {
    every_case_equals_the_reference(2500, alone(common::separable()), &SCHEDULES, block);
}

#[test]
fn inverted_residual_by_every_schedule() {
    every_case_equals_the_reference(4000, alone(common::inverted()), &SCHEDULES, block);
}

#[test]
fn networks() {
    every_case_equals_the_reference(2000, common::network(), &[Fusion::Auto, Fusion::Never], network);
}

#[test]
fn a_window_over_a_pooled_pixel_sees_zeros_around_it() {
    // found by fuzzing: the pool left the columns beside its pixel as scratch had them
    let conv = |order, kernel, outputs| ConvCase {
        order,
        window: WindowCase { kernel, padding: Padding::all(2), ..WindowCase::POINT },
        inputs: 21,
        outputs,
        activation: Activation::Linear,
        bias: true,
        norm: None,
        values: Values::Plain,
        seed: 1,
    };
    let point = ConvCase { window: WindowCase::POINT, ..conv(Order::Hwio, [1, 1], 5) };
    let depthwise = conv(Order::DepthwiseHwcm, [3, 3], 1);
    for next in [
        LayerCase::Depthwise(depthwise),
        LayerCase::Depthwise(conv(Order::DepthwiseHwcm, [5, 2], 1)),
        LayerCase::Depthwise(conv(Order::DepthwiseHwcm, [3, 3], 2)),
        LayerCase::Separable(depthwise, point),
        LayerCase::Conv2d(conv(Order::Hwio, [3, 3], 5)),
    ] {
        let input = Shape::new(2, 4, 3, 21);
        let runs = Runs { input: Frame::default(), output: Frame::default(), threads: 3, again: true };
        let layers = vec![LayerCase::Pool(21), next];
        let case = ChainCase { layers, input, values: Values::Plain, seed: 2, runs };
        let (built, x) = (case.build(), case.input());
        let reference = |arithmetic| built[1].reference(&built[0].reference(&x, arithmetic), arithmetic);
        let plan = network(built.iter().map(common::Built::layer).collect(), &case);
        if let Err(error) = check(plan, &[Fusion::Auto, Fusion::Never], &x, reference, case.macs(), runs) {
            panic!("{case:?}: {error}");
        }
    }
}

/// What a case is of, by name: each must come up in a fraction of the cases that a run takes.
fn features(case: &ChainCase) -> Vec<String> {
    let mut features = vec![format!("batch {}", case.input.n), format!("values {:?}", case.values)];
    let edge = |name: &str, size: usize, edges: &[usize]| {
        edges
            .contains(&size)
            .then(|| format!("{name} {size}"))
            .or((size > *edges.last().unwrap()).then(|| format!("{name} large")))
    };
    features.extend(edge("rows", case.input.h, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]));
    features.extend(edge("columns", case.input.w, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]));
    for (tensor, frame) in [("input", case.runs.input), ("output", case.runs.output)] {
        features.push(format!("{tensor} pixels {}", if frame.gap > 0 { "apart" } else { "dense" }));
    }
    features.push(format!("threads {}", case.runs.threads));
    for layer in &case.layers {
        if let LayerCase::Inverted { expand, shortcut, .. } = layer {
            let of = expand.map_or("none", |e| if e.window.kernel == [1, 1] { "pointwise" } else { "of a window" });
            features.push(format!("expand {of}"));
            let taken = *shortcut && layer.output(case.input) == case.input;
            features.push(format!("shortcut {}", if taken { "taken" } else { "not taken" }));
        }
        for conv in layer.convs() {
            let window = conv.window;
            features.extend(edge("channels", conv.channels_out(), &[1, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 100]));
            features.push(format!("bias {}, norm {}", conv.bias, conv.norm.is_some()));
            features.push(match conv.activation {
                Activation::Clamp { .. } => "clamp".into(),
                activation => format!("{activation:?}"),
            });
            features.push(format!("weights {:?}", conv.values));
            if !conv.is_depthwise() {
                continue;
            }
            features.push(format!("multiplier {}", conv.outputs));
            for axis in 0..2 {
                features.push(format!("kernel {}", window.kernel[axis]));
                features.push(format!("stride {}", window.stride[axis]));
                features.push(format!("dilation {}", window.dilation[axis]));
            }
            if window.stride[0] != window.stride[1] {
                features.push("strides that differ".into());
            }
            features.push(match window.padding {
                Padding::Same => "SAME".into(),
                Padding::Valid => "VALID".into(),
                Padding::Explicit { top, left, .. }
                    if top > (window.kernel[0] - 1) * window.dilation[0]
                        || left > (window.kernel[1] - 1) * window.dilation[1] =>
                {
                    "padding beyond the kernel".into()
                }
                Padding::Explicit { top, bottom, .. } if top != bottom => "uneven padding".into(),
                Padding::Explicit { .. } => "even padding".into(),
            });
        }
    }
    features
}

#[test]
fn generators_reach_every_edge() {
    // always the same cases, however many the tests above run
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![alone(common::separable()), alone(common::inverted())];
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..2000 {
        let case = strategy.new_tree(&mut runner).unwrap().current();
        assert!(case.macs() <= 6_000_000 && case.input.n <= 3, "{case:?}");
        for feature in features(&case) {
            *seen.entry(feature).or_default() += 1;
        }
        // what the plan makes of it
        let plan = block(case.build().iter().map(common::Built::layer).collect(), &case);
        for schedule in [Schedule::RowRing, Schedule::ChannelSlabs] {
            let options = PlanOptions::new().threads(threads(3)).fusion(Fusion::Require(schedule));
            let plan = plan(&options).unwrap();
            for stage in &plan.explain().stages {
                assert!(stage.fused, "{schedule:?} was required");
                if stage.pieces > case.input.n {
                    *seen.entry(format!("{schedule:?}: rows of an image shared out")).or_default() += 1;
                }
                if schedule == Schedule::ChannelSlabs && stage.schedule.as_ref().is_some_and(|s| s.contains("slabs")) {
                    *seen.entry("more slabs than one".into()).or_default() += 1;
                }
            }
        }
    }
    let edges = |name: &str, edges: &[usize]| edges.iter().map(|e| format!("{name} {e}")).collect::<Vec<_>>();
    let named = |names: &[&str]| names.iter().map(|&name| String::from(name)).collect::<Vec<_>>();
    let expected = [
        edges("batch", &[1, 2, 3]),
        edges("rows", &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]),
        edges("columns", &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]),
        edges("channels", &[1, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 100]),
        edges("multiplier", &[1, 2, 3, 4]),
        edges("kernel", &[1, 2, 3, 4, 5, 6, 7]),
        edges("stride", &[1, 2, 3]),
        edges("dilation", &[1, 2, 3]),
        edges("threads", &[2, 3, 4]),
        [Values::Plain, Values::Tiny, Values::Special].map(|v| format!("values {v:?}")).to_vec(),
        [Values::Plain, Values::Tiny, Values::Special].map(|v| format!("weights {v:?}")).to_vec(),
        named(&["rows large", "columns large", "channels large", "SAME", "VALID", "even padding", "uneven padding"]),
        named(&["padding beyond the kernel", "strides that differ", "Linear", "Relu", "Relu6", "clamp"]),
        named(&["bias true, norm true", "bias true, norm false", "bias false, norm true", "bias false, norm false"]),
        named(&["input pixels apart", "output pixels apart", "input pixels dense", "output pixels dense"]),
        named(&["expand none", "expand pointwise", "expand of a window", "shortcut taken", "shortcut not taken"]),
        named(&["more slabs than one", "RowRing: rows of an image shared out"]),
        named(&["ChannelSlabs: rows of an image shared out"]),
    ];
    // a few in 2000, so that none of the runs above goes without
    for feature in expected.iter().flatten() {
        let count = seen.get(feature).copied().unwrap_or(0);
        assert!(count >= 5, "{feature}: only {count} of 2000 cases; all: {seen:#?}");
    }
}
