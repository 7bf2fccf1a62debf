//! Both blocks, and networks of any layers, equal the chain of naive references, bit for bit: fused by either schedule,
//! not fused, and as the plan decides, on every instruction set and number of threads.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sepconv::testing::{Case, Cases, ConvCase, Op, Thresholds, Values};
use sepconv::{
    Activation, ConvDesc, Error, Filter, Fusion, InvertedResidual, InvertedResidualDesc, Isa, KernelKind, Layer,
    Network, Padding, Plan, PlanOptions, Result, Schedule, SeparableConv2d, Shape, Shortcut,
};
use sepconv_test_support::{
    ChainCase, Frame, Runs, SCHEDULES, assert_required_levels, chain, check, for_each_case, input, layers, reference,
    threads,
};

fn every_case_equals_the_reference<P: Fn(&PlanOptions) -> Result<Plan>>(
    count: u32,
    cases: Cases,
    fusions: &[Fusion],
    planner: impl Fn(Vec<Layer>, &ChainCase) -> P,
) {
    for_each_case(count, &chain(cases), |case| {
        let problem = case.problem();
        let plan = planner(layers(&problem), &case);
        let expected = |arithmetic| reference(&problem, arithmetic);
        check(plan, fusions, &input(&problem), expected, case.case.macs(), case.runs)
    });
    assert_required_levels();
}

fn block(layers: Vec<Layer>, case: &ChainCase) -> impl Fn(&PlanOptions) -> Result<Plan> + use<> {
    let input = case.case.input;
    let [layer] = <[Layer; 1]>::try_from(layers).unwrap();
    move |options| match &layer {
        Layer::SeparableConv2d(op) => op.plan(input, options),
        Layer::InvertedResidual(op) => op.plan(input, options),
        other => panic!("no block: {other:?}"),
    }
}

fn network(layers: Vec<Layer>, case: &ChainCase) -> impl Fn(&PlanOptions) -> Result<Plan> + use<> {
    let input = case.case.input;
    let network = Network::new(layers).unwrap();
    move |options| network.plan(input, options)
}

fn this_network_equals_the_reference(case: Case, threads: usize) {
    let runs = Runs { again: true, ..Runs::on(threads) };
    let case = ChainCase { case, runs };
    let problem = case.problem();
    let plan = network(layers(&problem), &case);
    let expected = |arithmetic| reference(&problem, arithmetic);
    let fusions = [Fusion::Auto, Fusion::Never];
    if let Err(error) = check(plan, &fusions, &input(&problem), expected, case.case.macs(), runs) {
        panic!("{}: {error}", case.case);
    }
}

#[test]
fn separable_by_every_schedule() {
    every_case_equals_the_reference(2500, Cases::separable(), &SCHEDULES, block);
}

#[test]
fn inverted_residual_by_every_schedule() {
    every_case_equals_the_reference(4000, Cases::inverted_residual(), &SCHEDULES, block);
}

#[test]
fn networks() {
    every_case_equals_the_reference(2000, Cases::chain(), &[Fusion::Auto, Fusion::Never], network);
}

#[test]
fn a_window_over_a_pooled_pixel_sees_zeros_around_it() {
    // found by fuzzing: the pool left the columns beside its pixel as scratch had them
    let depthwise = |kernel| ConvCase::depthwise(kernel).padding(Padding::all(2)).bias(true).seed(1);
    let point = ConvCase::pointwise(5).bias(true).seed(1);
    let pooled = Case::new(Shape::new(2, 4, 3, 21)).seed(2).average_pool();
    for case in [
        pooled.clone().depthwise(depthwise([3, 3])),
        pooled.clone().depthwise(depthwise([5, 2])),
        pooled.clone().depthwise(depthwise([3, 3]).multiplier(2)),
        pooled.clone().separable(depthwise([3, 3]), point),
        pooled.conv2d(ConvCase::standard([3, 3], 5).padding(Padding::all(2)).bias(true).seed(1)),
    ] {
        this_network_equals_the_reference(case, 3);
    }
}

#[test]
fn rows_whose_tables_of_pixels_are_too_long_to_be_kept() {
    // what a plan writes at each run, and not when it is made, of tensors that are not the caller's
    let point = |outputs| ConvCase::pointwise(outputs).bias(true).seed(1);
    let depthwise = || ConvCase::depthwise([3, 3]).padding(Padding::Same).bias(true).seed(1);
    let case = Case::new(Shape::new(1, 3, 33_000, 2))
        .seed(2)
        .pointwise(point(3))
        .inverted_residual(Some(point(4)), depthwise(), point(3), true)
        .separable(depthwise(), point(2))
        .pointwise(point(1));
    this_network_equals_the_reference(case, 2);
}

/// What a case is of, by name: each must come up in a fraction of the cases that a run takes.
fn features(case: &ChainCase) -> Vec<String> {
    let (runs, case) = (case.runs, &case.case);
    let mut features = vec![format!("batch {}", case.input.n), format!("values {:?}", case.values)];
    let edge = |name: &str, size: usize, edges: &[usize]| {
        edges
            .contains(&size)
            .then(|| format!("{name} {size}"))
            .or((size > *edges.last().unwrap()).then(|| format!("{name} large")))
    };
    features.extend(edge("rows", case.input.h, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]));
    features.extend(edge("columns", case.input.w, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24]));
    for (tensor, frame) in [("input", runs.input), ("output", runs.output)] {
        let order = match frame.order {
            Frame::NHWC => "NHWC",
            Frame::NCHW => "NCHW",
            _ => "another",
        };
        let apart = if frame.gaps == [0; 4] { "dense" } else { "apart" };
        features.push(format!("{tensor} {order} {apart}"));
    }
    features.push(format!("threads {}", runs.threads));
    for op in case.ops() {
        if let Op::InvertedResidual { expand, shortcut, .. } = op {
            let of = expand.map_or("none", |e| if e.kernel == [1, 1] { "pointwise" } else { "of a window" });
            features.push(format!("expand {of}"));
            let taken = *shortcut && op.output(&[case.input]).unwrap() == case.input;
            features.push(format!("shortcut {}", if taken { "taken" } else { "not taken" }));
        }
        let mut channels = case.input.c;
        for conv in op.convs() {
            channels = conv.channels_out(channels);
            features.extend(edge("channels", channels, &[1, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 96]));
            features.push(format!("bias {}, norm {}", conv.bias, conv.batch_norm.is_some()));
            features.push(match (conv.by_channel, conv.activation) {
                (Some(by_channel), _) => format!("by channel {by_channel:?}"),
                (None, Activation::Clamp { .. }) => "clamp".into(),
                (None, activation) => format!("{activation:?}"),
            });
            features.push(format!("weights {:?}", conv.values));
            if !conv.depthwise {
                continue;
            }
            features.push(format!("multiplier {}", conv.outputs));
            for axis in 0..2 {
                features.push(format!("kernel {}", conv.kernel[axis]));
                features.push(format!("stride {}", conv.strides[axis]));
                features.push(format!("dilation {}", conv.dilations[axis]));
            }
            if conv.strides[0] != conv.strides[1] {
                features.push("strides that differ".into());
            }
            features.push(match conv.padding {
                Padding::Same => "SAME".into(),
                Padding::Valid => "VALID".into(),
                Padding::Explicit { top, left, .. }
                    if top > (conv.kernel[0] - 1) * conv.dilations[0]
                        || left > (conv.kernel[1] - 1) * conv.dilations[1] =>
                {
                    "padding beyond the kernel".into()
                }
                Padding::Explicit { top, bottom, .. } if top != bottom => "uneven padding".into(),
                Padding::Explicit { .. } => "even padding".into(),
                other => panic!("a padding that no test expects: {other:?}"),
            });
        }
    }
    features
}

#[test]
fn generators_reach_every_edge() {
    // always the same cases, however many the tests above run
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![chain(Cases::separable()), chain(Cases::inverted_residual())];
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..2000 {
        let case = strategy.new_tree(&mut runner).unwrap().current();
        assert!(case.case.macs() <= 6_000_000 && case.case.input.n <= 3, "{case:?}");
        for feature in features(&case) {
            *seen.entry(feature).or_default() += 1;
        }
        // what the plan makes of it
        let plan = block(layers(&case.problem()), &case);
        for schedule in [Schedule::RowRing, Schedule::ChannelSlabs] {
            let options = PlanOptions::new().threads(threads(3)).max_threads(3).fusion(Fusion::Require(schedule));
            let plan = plan(&options).unwrap();
            for stage in &plan.explain().stages {
                assert!(stage.fused, "{schedule:?} was required");
                if stage.pieces > case.case.input.n {
                    *seen.entry(format!("{schedule:?}: rows of an image shared out")).or_default() += 1;
                }
                let words = stage.schedule.as_ref().unwrap();
                let named = ["row ring, ", "channel slabs"][usize::from(schedule == Schedule::ChannelSlabs)];
                assert!(words.starts_with(named), "{schedule:?} was required: {words}");
                if words.starts_with("channel slabs of ") {
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
        edges("channels", &[1, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 96]),
        edges("multiplier", &[1, 2, 3, 4]),
        edges("kernel", &[1, 2, 3, 4, 5, 6, 7]),
        edges("stride", &[1, 2, 3]),
        edges("dilation", &[1, 2, 3]),
        edges("threads", &[2, 3, 4, 5, 6, 7, 8, 9]),
        Values::ALL.iter().map(|v| format!("values {v:?}")).collect(),
        Values::ALL.iter().map(|v| format!("weights {v:?}")).collect(),
        named(&["rows large", "columns large", "channels large", "SAME", "VALID", "even padding", "uneven padding"]),
        named(&["padding beyond the kernel", "strides that differ", "Linear", "Relu", "Relu6", "clamp"]),
        named(&["by channel PRelu", "by channel Clamp"]),
        named(&["bias true, norm true", "bias true, norm false", "bias false, norm true", "bias false, norm false"]),
        ["NHWC", "NCHW", "another"]
            .iter()
            .flat_map(|order| ["input", "output"].map(|tensor| format!("{tensor} {order}")))
            .flat_map(|tensor| ["dense", "apart"].map(|apart| format!("{tensor} {apart}")))
            .collect(),
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

#[test]
fn a_plan_says_the_schedule_that_was_demanded() {
    let (taps, matrix) = (vec![0.1; 9 * 96], vec![0.1; 96 * 32]);
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, 96]));
    let block = SeparableConv2d::new(depthwise, ConvDesc::new(Filter::io(&matrix, [96, 32]))).unwrap();
    let words = |schedule, slab_values| {
        let mut thresholds = Thresholds::of(Isa::Scalar);
        thresholds.slab_values = slab_values;
        let options = PlanOptions::new().thresholds(thresholds).fusion(Fusion::Require(schedule));
        let plan = block.plan(Shape::new(1, 14, 14, 96), &options).unwrap();
        plan.explain().stages[0].schedule.clone().unwrap()
    };
    let pixels = "pixels read in place";
    // both schedules go over all rows and all channels at once
    let expected = format!("channel slabs: all 96 channels in one slab, over 14 rows; {pixels}");
    assert_eq!(words(Schedule::ChannelSlabs, usize::MAX), expected);
    assert_eq!(words(Schedule::ChannelSlabs, 1), format!("channel slabs of 16 channels over 14 rows; {pixels}"));
    let ring = words(Schedule::RowRing, usize::MAX);
    assert!(ring.starts_with("row ring, ") && ring.ends_with(&format!(" output rows at a time; {pixels}")), "{ring}");
}

#[test]
fn a_report_lists_kernels_in_the_order_of_the_data() {
    let (expand, taps, matrix) = ([0.1; 8 * 64], [0.1; 9 * 64], [0.1; 64 * 8]);
    let point = |matrix, sizes| ConvDesc::new(Filter::io(matrix, sizes));
    let desc =
        InvertedResidualDesc::new(ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, 64])), point(&matrix[..], [64, 8]));
    let block = InvertedResidual::new(desc.expand(point(&expand[..], [8, 64]))).unwrap();
    let of_head = [KernelKind::Pointwise, KernelKind::DwConv3x3S1];
    let options = PlanOptions::new().fusion(Fusion::Require(Schedule::RowRing));
    let stages = block.plan(Shape::new(1, 14, 14, 8), &options).unwrap().explain().stages;
    assert_eq!(stages[0].kernels, [of_head[0], of_head[1], KernelKind::Pointwise]);
    // threads that share a small plane by channels have the head and the depthwise stage as one step
    let mut thresholds = Thresholds::of(Isa::Scalar);
    (thresholds.worth_sharing, thresholds.worth_meeting) = (0, 0);
    let options = PlanOptions::new().threads(threads(2)).max_threads(2).thresholds(thresholds);
    let explained = block.plan(Shape::new(1, 7, 7, 8), &options).unwrap().explain();
    assert_eq!(explained.stages[0].name, "pointwise → depthwise", "{explained}");
    assert_eq!(explained.stages[0].kernels, of_head, "{explained}");
}

#[test]
fn a_report_says_where_a_shortcut_is_added() {
    let (taps, matrix) = ([0.1; 9 * 8], [0.1; 64]);
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, 8]));
    let desc = InvertedResidualDesc::new(depthwise, ConvDesc::new(Filter::io(&matrix, [8, 8])));
    for (shortcut, added) in [(Shortcut::None, false), (Shortcut::Required, true)] {
        let block = InvertedResidual::new(desc.shortcut(shortcut)).unwrap();
        for (fusion, expected) in
            [(Fusion::Require(Schedule::RowRing), vec![added]), (Fusion::Never, vec![false, added])]
        {
            let explained = block.plan(Shape::new(1, 7, 7, 8), &PlanOptions::new().fusion(fusion)).unwrap().explain();
            assert_eq!(explained.stages.iter().map(|stage| stage.shortcut).collect::<Vec<_>>(), expected);
            assert_eq!(explained.to_string().contains("pointwise + input  "), added, "{explained}");
        }
    }
}

#[test]
fn a_block_whose_scratch_is_too_large_keeps_no_other_from_fusing() {
    let block = |channels: usize, stride: usize| {
        let (depthwise, pointwise) = (vec![0.1; 9 * channels], vec![0.1; channels * 32]);
        let depthwise = ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, channels])).stride(stride);
        Layer::from(SeparableConv2d::new(depthwise, ConvDesc::new(Filter::io(&pointwise, [channels, 32]))).unwrap())
    };
    let network = Network::new(vec![block(8, 2), block(32, 2), block(32, 2)]).unwrap();
    let input = Shape::new(1, 128, 128, 8);
    let plan = |bytes| {
        let mut thresholds = Thresholds::of(Isa::Scalar);
        // borders between layers stay where they are
        (thresholds.near_border, thresholds.near_tensor) = (usize::MAX, usize::MAX);
        (thresholds.scratch_least, thresholds.scratch_per_byte) = (bytes, 0);
        network.plan(input, &PlanOptions::new().thresholds(thresholds))
    };
    let all = plan(1 << 30).unwrap().explain();
    assert!(all.stages.len() == 3 && all.stages.iter().all(|stage| stage.fused), "{all}");
    let largest = all.stages.iter().map(|stage| stage.scratch_bytes).max().unwrap();
    let other = all.stages.iter().map(|stage| stage.scratch_bytes).filter(|&bytes| bytes < largest).max().unwrap();
    let some = plan(other).unwrap().explain();
    for stage in &some.stages {
        assert_eq!(stage.fused, !stage.why.contains("out of proportion"), "{some}");
    }
    assert_eq!(some.stages.iter().filter(|stage| stage.fused).count(), 2, "{some}");
    // the error is of the first layer that no plan has the scratch for
    let error = plan(0).unwrap_err();
    assert!(matches!(error, Error::Layer { index: 0, .. }), "{error}");
}
