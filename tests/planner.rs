//! The planner takes every way on small cases, by thresholds that tests set; and whichever way it takes, results are those
//! of the naive reference, bit for bit, or planning is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sepconv::testing::{Case, Cases, ConvCase, Op, Thresholds};
use sepconv::{
    Error, Explain, Fusion, Isa, Layer, Layout, Network, Padding, Plan, PlanOptions, Shape, StageReport, Threads, View,
    ViewMut,
};
use sepconv_test_support::{
    ChainCase, DenseTensor, Frame, Guarded, Limits, MOST_THREADS, OnCaller, Runs, SCHEDULES, assert_required_levels,
    chain, check, for_each_case, input, layers, note, reference, same_bits, threads,
};

fn equals_the_reference(case: &Case, fusions: &[Fusion], runs: Runs) -> Result<(), TestCaseError> {
    let chain = ChainCase { case: case.clone(), runs };
    let problem = chain.problem();
    let network = Network::new(layers(&problem)).unwrap();
    let plan = |options: &PlanOptions| network.plan(case.input, options);
    let expected = |arithmetic| reference(&problem, arithmetic);
    check(plan, fusions, &input(&problem), expected, case.macs(), runs)
}

fn assert_equals_the_reference(case: &Case, runs: Runs) {
    if let Err(error) = equals_the_reference(case, &[Fusion::Auto, Fusion::Never], runs) {
        panic!("{case}, {runs:?}: {error}");
    }
}

fn point(outputs: usize) -> ConvCase {
    ConvCase::pointwise(outputs).bias(true).seed(1)
}

fn standard(kernel: [usize; 2], outputs: usize) -> ConvCase {
    ConvCase::standard(kernel, outputs).bias(true).seed(2)
}

fn depthwise(multiplier: usize) -> ConvCase {
    ConvCase::depthwise([3, 3]).multiplier(multiplier).bias(true).seed(3)
}

/// Networks in which a convolution stands before a depthwise convolution with a multiplier, in one layer or in two.
fn multipliers_behind_convolutions(input: Shape, middle: usize, multiplier: usize, stride: usize) -> Vec<Case> {
    let case = || Case::new(input).seed(4);
    let dw = || depthwise(multiplier).strides([stride; 2]);
    vec![
        case().conv2d(standard([3, 3], middle)).depthwise(dw()),
        case().pointwise(point(middle)).depthwise(dw()),
        case().dense(point(middle)).depthwise(dw().dilations([2, 1])),
        case().pointwise(point(middle)).depthwise(dw()).pointwise(point(5)),
        case().conv2d(standard([2, 3], middle).strides([1, 2])).separable(dw(), point(9)),
        case().separable(depthwise(1), point(middle)).separable(dw(), point(3)),
        case().pointwise(point(middle)).depthwise(dw()).inverted_residual(
            Some(point(17)),
            depthwise(2),
            point(4),
            true,
        ),
        case().conv2d(standard([3, 3], middle)).inverted_residual(None, dw(), point(middle), true),
        case().conv2d(standard([3, 3], 6)).inverted_residual(Some(point(middle)), dw(), point(6), true),
        case().inverted_residual(Some(point(middle)), depthwise(1), point(6), true).depthwise(dw()).depthwise(dw()),
    ]
}

#[test]
fn a_multiplier_behind_a_convolution_at_full_size() {
    // the border between the two was moved without a look at the multiplier: wrong channels, and writes out of bounds
    let first = Case::new(Shape::new(1, 112, 112, 3)).seed(4).conv2d(standard([3, 3], 32)).depthwise(depthwise(2));
    let second = Case::new(Shape::new(16, 14, 14, 16)).seed(4).pointwise(point(128)).depthwise(depthwise(4));
    for case in [first, second] {
        assert_equals_the_reference(&case, Runs::on(2));
    }
    for (multiplier, stride, threads) in [(2, 1, 1), (3, 2, 3), (5, 1, 8)] {
        for case in multipliers_behind_convolutions(Shape::new(2, 34, 57, 6), 83, multiplier, stride) {
            assert_equals_the_reference(&case, Runs::on(threads));
        }
    }
    assert_required_levels();
}

#[test]
fn a_multiplier_behind_a_convolution_by_tiny_thresholds() {
    let mut threads = 1;
    for (middle, multiplier) in [(1, 2), (7, 3), (16, 2), (16, 4), (17, 5), (40, 2)] {
        for stride in 1..=2 {
            for case in multipliers_behind_convolutions(Shape::new(2, 7, 9, 6), middle, multiplier, stride) {
                threads = threads % MOST_THREADS + 1;
                assert_equals_the_reference(&case, Runs { limits: Limits::Tiny, ..Runs::on(threads) });
            }
        }
    }
}

#[test]
fn networks_by_all_thresholds() {
    for_each_case(800, &chain(Cases::chain()), |case| {
        let seed = case.case.seed;
        for limits in [Limits::Tiny, Limits::Mixed(seed), Limits::Mixed(!seed)] {
            equals_the_reference(&case.case, &SCHEDULES[..2], Runs { limits, ..case.runs })?;
        }
        Ok(())
    });
    assert_required_levels();
}

#[test]
fn blocks_by_all_thresholds() {
    let cases = prop_oneof![chain(Cases::separable()), chain(Cases::inverted_residual())];
    for_each_case(800, &cases, |case| {
        for limits in [Limits::Tiny, Limits::Mixed(case.case.seed)] {
            equals_the_reference(&case.case, &SCHEDULES, Runs { limits, ..case.runs })?;
        }
        Ok(())
    });
    assert_required_levels();
}

/// The library's thresholds and tiny ones, with every number but the limits of scratch at an end, then with each number alone. No
/// thresholds come twice.
fn thresholds_with_ends() -> Vec<(String, Thresholds)> {
    let (mut all, mut names) = (Vec::<(String, Thresholds)>::new(), Vec::new());
    let library = Thresholds::of(Isa::Scalar);
    { library }.each(|name, _| names.push(name));
    let mut add = |case: String, base: Thresholds, end: usize, is_set: &dyn Fn(usize) -> bool| {
        for strips in [None, Some(true), Some(false)] {
            let mut thresholds = base;
            thresholds.strips = strips;
            let mut at = 0;
            thresholds.each(|_, value| {
                if is_set(at) {
                    *value = end;
                }
                at += 1;
            });
            if all.iter().all(|(_, other)| *other != thresholds) {
                all.push((format!("{case} {end}, strips {strips:?}"), thresholds));
            }
        }
    };
    let tiny = Limits::Tiny.thresholds(Isa::Scalar).unwrap();
    for end in [0, 1, usize::MAX] {
        add("all".into(), library, end, &|at| !names[at].starts_with("scratch"));
        for (at, name) in names.iter().enumerate() {
            add(format!("{name} ({at})"), library, end, &|other| other == at);
            add(format!("tiny, {name} ({at})"), tiny, end, &|other| other == at);
        }
    }
    all
}

/// The first difference from the reference of a run that starts with NaN in its scratch.
fn difference(plan: &Plan, input: &DenseTensor, expected: &DenseTensor) -> Option<String> {
    let [from, to] = plan.layouts().map(Frame::of);
    let memory = from.write(&input.data, input.shape);
    let view = View::with_strides(&memory, input.shape, from.strides(input.shape)).unwrap();
    let mut output = Guarded::new(expected.data.len());
    let view_mut = ViewMut::with_strides(output.slice_mut(), expected.shape, to.strides(expected.shape)).unwrap();
    let mut scratch = plan.scratch().unwrap();
    scratch.as_mut_slice().fill(0xFF);
    note(&plan.explain().to_string());
    plan.run(view, view_mut, &mut scratch).unwrap();
    let output = to.read(output.slice(), expected.shape);
    let mut values = output.iter().zip(&expected.data).enumerate();
    let (at, (got, expected)) = values.find(|(_, (got, expected))| !same_bits(**got, **expected))?;
    Some(format!("value {at}: expected {expected:e}, got {got:e}\n{}", plan.explain()))
}

/// Every threshold at its ends, all at once and one by one.
#[test]
fn thresholds_at_their_ends() {
    let case = Case::new(Shape::new(2, 9, 11, 20))
        .conv2d(standard([3, 3], 24))
        .inverted_residual(Some(point(50)), depthwise(1).strides([2, 2]), point(24), true)
        .inverted_residual(Some(point(40)), depthwise(2), point(24), true)
        .separable(depthwise(2), point(48))
        .depthwise(depthwise(1).padding(Padding::all(3)))
        .average_pool()
        .dense(point(10));
    // rows of a call in strips are of depthwise convolutions on the caller's pixels
    let strips = |stride| Case::new(Shape::new(1, 9, 11, 32)).depthwise(depthwise(1).strides([stride; 2]));
    let (mut planned, mut refused) = (0, 0);
    for case in [case, strips(1), strips(2)] {
        let problem = ChainCase { case: case.clone(), runs: Runs::on(1) }.problem();
        let network = Network::new(layers(&problem)).unwrap();
        let input = input(&problem);
        let expected = reference(&problem, Isa::Scalar.arithmetic());
        for (name, thresholds) in thresholds_with_ends() {
            for (count, layout) in [(1, Layout::Nhwc), (5, Layout::Nchw)] {
                let options = PlanOptions::new()
                    .max_isa(Isa::Scalar)
                    .layout(layout)
                    .max_threads(MOST_THREADS)
                    .threads(threads(count))
                    .spins(100)
                    .thresholds(thresholds);
                match network.plan(case.input, &options) {
                    Ok(plan) => {
                        planned += 1;
                        if let Some(difference) = difference(&plan, &input, &expected) {
                            panic!("{name}, {count} threads, {case}: {difference}");
                        }
                    }
                    Err(error) if matches!(error.without_layers(), Error::Scratch { .. }) => refused += 1,
                    Err(error) => panic!("{name}: {error}"),
                }
            }
        }
    }
    assert!(planned > 3000 && refused > 0, "{planned} planned, {refused} refused");
}

#[test]
fn every_instruction_set_has_thresholds() {
    for isa in Isa::ALL {
        let thresholds = Thresholds::of(isa);
        // what `Plan::scratch_bytes` documents
        let Thresholds { scratch_least, scratch_per_byte, scratch_most, padding_columns, .. } = thresholds;
        let documented = (64 << 20, 64, 1 << 30, 16);
        assert_eq!((scratch_least, scratch_per_byte, scratch_most, padding_columns), documented, "{isa}");
        // three blocks of the largest plane that always goes by slabs fit: input and output
        assert!(thresholds.slab_values / 3 >= 2 * 16 * thresholds.slab_pixels, "{isa}");
    }
}

#[test]
fn sizes_whose_sum_overflows_are_an_error() {
    // the sum of the values between layers was counted in 64 bits, stayed at its largest, and no group ended the network
    let layer = || -> Layer {
        let weights = [1.0];
        let desc = sepconv::ConvDesc::new(sepconv::Filter::io(&weights, [1, 1]));
        sepconv::PointwiseConv2d::new(desc).unwrap().into()
    };
    let network = Network::new((0..40).map(|_| layer()).collect()).unwrap();
    let error = network.plan(Shape::new(1, 1 << 30, 1 << 30, 1), &PlanOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Allocation { .. } | Error::TooLarge { .. }), "{error}");
}

#[test]
fn wide_planes_go_to_planes() {
    let planes = "planes, a channel at a time";
    for (stride, width, layouts, expected) in [
        (1, 24, [Layout::Nchw; 2], planes),
        (2, 24, [Layout::Nchw; 2], planes),
        (1, 24, [Layout::Nchw, Layout::Nhwc], "rows copied into the ring"),
        (1, 24, [Layout::Nhwc, Layout::Nchw], "pixels read in place"),
        (1, 5, [Layout::Nchw; 2], planes),
        (1, 3, [Layout::Nchw; 2], "rows copied into the ring"),
        (3, 24, [Layout::Nchw; 2], "rows copied into the ring"),
    ] {
        let case = Case::new(Shape::new(2, 7, width, 32)).depthwise(depthwise(1).strides([stride; 2]));
        let problem = ChainCase { case: case.clone(), runs: Runs::on(1) }.problem();
        let network = Network::new(layers(&problem)).unwrap();
        let [from, to] = layouts;
        let options = PlanOptions::new().max_isa(Isa::Scalar).input_layout(from).output_layout(to);
        let plan = network.plan(case.input, &options).unwrap();
        let schedule = plan.explain().stages[0].schedule.clone().unwrap();
        assert!(schedule.ends_with(expected), "{case}, {layouts:?}: {schedule}");
        assert_eq!(difference(&plan, &input(&problem), &reference(&problem, Isa::Scalar.arithmetic())), None);
    }
}

/// The stages of the plan of a case on so many threads.
fn stages_on(count: usize, case: &Case) -> Vec<StageReport> {
    let problem = ChainCase { case: case.clone(), runs: Runs::on(1) }.problem();
    let network = Network::new(layers(&problem)).unwrap();
    let options = PlanOptions::new().threads(Threads::Custom(Arc::new(OnCaller(count)))).max_threads(count);
    network.plan(case.input, &options).unwrap().explain().stages.to_vec()
}

#[test]
fn work_comes_out_even() {
    // 7 rows on 8 threads: by channels
    for (side, channels, workers) in [(7, 1024, 8), (7, 512, 8), (5, 1024, 8), (3, 512, 4)] {
        let case = Case::new(Shape::new(1, side, side, channels)).depthwise(depthwise(1));
        let pieces = stages_on(workers, &case)[0].pieces;
        assert!(pieces >= workers, "{case}: {pieces} pieces on {workers} threads");
    }
    // one row: by sections of columns, whatever their number divides into
    for (width, workers) in [(101, 2), (401, 4), (1000, 3), (4096, 8)] {
        let row = Case::new(Shape::new(1, 1, width, 64));
        for case in [row.clone().separable(depthwise(1), point(64)), row.depthwise(depthwise(1))] {
            let pieces = stages_on(workers, &case)[0].pieces;
            assert!(pieces >= workers, "{case}: {pieces} pieces on {workers} threads");
        }
    }
    // a row that leaves L2: sections for that have a part for each thread too
    let case = Case::new(Shape::new(1, 1, 3000, 128)).depthwise(ConvCase::depthwise([1, 3]));
    assert_eq!(stages_on(8, &case)[0].pieces, 8);
    // stretches of all rows: no more than one image for each border between two threads is in two pieces
    for (images, workers) in [(19, 4), (35, 8), (67, 16), (7, 4)] {
        let block = Case::new(Shape::new(images, 24, 24, 32));
        let block = block.inverted_residual(Some(point(192)), depthwise(1), point(32), true);
        let stages = stages_on(workers, &block);
        assert!(stages.iter().all(|stage| stage.pieces == workers), "{block}: {stages:?}");
    }
}

/// Each part of a row copies or computes again what it reads of the next, so parts are longer than a window reaches.
#[test]
fn windows_that_reach_far_are_cut_into_few_parts() {
    let columns = |case: &Case, workers| {
        let stage = &stages_on(workers, case)[0];
        let words = stage.schedule.as_ref().unwrap().rsplit("; ").next().unwrap();
        let words = words.rsplit(", ").next().unwrap();
        words.strip_suffix(" columns at a time").map_or(stage.output.w, |columns| columns.parse().unwrap())
    };
    for dilation in [1, 64, 512, 4096] {
        let mut far = ConvCase::depthwise([1, 3]);
        (far.dilations, far.padding) = ([1, dilation], Padding::Valid);
        let row = |channels| Case::new(Shape::new(1, 1, 20_000, channels));
        for workers in [1, 4] {
            for case in [
                row(16).inverted_residual(Some(point(96)), far, point(16), false),
                row(20).depthwise(far),
                row(3).depthwise(far),
            ] {
                let columns = columns(&case, workers);
                assert!(columns >= 4 * 2 * (dilation - 1) || columns >= 20_000 / 4, "{case}: {columns} columns");
                assert!(dilation > 64 || columns < 10_000, "{case}: {columns} columns of 20,000");
            }
        }
    }
}

#[test]
fn small_planes_of_a_batch_run_stage_by_stage() {
    let block = |images, side: usize| {
        let case = Case::new(Shape::new(images, side, side, 32));
        stages_on(1, &case.inverted_residual(Some(point(192)), depthwise(1), point(32), true)).len()
    };
    assert_eq!([block(100, 3), block(1, 3), block(100, 7)], [3, 1, 1]);
}

/// What a plan made of a case, by name.
fn ways(case: &ChainCase, explained: &Explain) -> Vec<String> {
    let (stages, mut ways) = (&explained.stages, Vec::new());
    if explained.axes_swapped {
        ways.push("rows and columns swapped".to_owned());
    }
    let described = |stage: &StageReport| {
        case.case.ops().any(|op| match op {
            Op::Separable { .. } => stage.name == "depthwise → pointwise",
            Op::InvertedResidual { expand, .. } => match expand {
                None => stage.name == "depthwise → pointwise",
                Some(expand) if expand.kernel == [1, 1] => stage.name == "pointwise → depthwise → pointwise",
                Some(_) => stage.name == "convolution → depthwise → pointwise",
            },
            _ => false,
        })
    };
    for stage in stages {
        ways.push(stage.name.to_owned());
        if stage.fused && !described(stage) {
            ways.push(format!("borders moved: {}", stage.name));
        }
        if stage.pieces > 1 {
            ways.push(format!("shared: {}", stage.name));
        }
        let numbers = [
            "the pointwise weights",
            "threads share its channels",
            "threads share the channels",
            "fused, its",
            "small planes",
        ];
        ways.extend(numbers.iter().filter(|why| stage.why.starts_with(*why)).map(|&why| why.to_owned()));
        let Some(schedule) = &stage.schedule else { continue };
        if schedule.contains("columns at a time") {
            let flat = schedule.starts_with("flat rows");
            ways.push(if flat { "sections of flat rows" } else { "sections of columns" }.to_owned());
            if stage.pieces > stage.output.n * stage.output.h {
                ways.push("sections shared out".to_owned());
            }
        }
        let Some((portions, rows)) = schedule.split_once("; ") else {
            ways.push(schedule.clone());
            continue;
        };
        ways.push(rows.split("; ").next().unwrap_or(rows).to_owned());
        let number = |at: usize| -> usize { portions.split(' ').filter_map(|word| word.parse().ok()).nth(at).unwrap() };
        let slabs = portions.contains("slabs of ");
        let group = number(usize::from(portions.starts_with("channel slabs")));
        // as far as rows are shared out evenly over the images
        let rows = if explained.axes_swapped { stage.output.w } else { stage.output.h };
        let piece = rows.div_ceil((stage.pieces / stage.output.n).max(1));
        let kind = match (slabs, group < piece) {
            (false, false) => "one group of all channels",
            (false, true) => "several groups of all channels",
            (true, false) => "several slabs of all rows",
            (true, true) => "several slabs of several groups",
        };
        ways.push(kind.to_owned());
        ways.push(format!("{kind}: {}", stage.name));
        if stage.output.n > 1 {
            ways.push(format!("several images: {kind}"));
        }
    }
    ways
}

#[test]
fn small_cases_take_every_way() {
    /// Plans of each way that are run.
    const RUN: usize = 5;
    /// Networks that are drawn. Behind them come depthwise convolutions alone.
    const CHAINS: usize = 3000;
    const STAGES: [&str; 9] = [
        "pointwise",
        "convolution",
        "depthwise",
        "depthwise → pointwise",
        "pointwise → depthwise",
        "pointwise → depthwise → pointwise",
        "convolution → depthwise",
        "convolution → depthwise → pointwise",
        "average pool",
    ];
    const KINDS: [&str; 4] = [
        "one group of all channels",
        "several groups of all channels",
        "several slabs of all rows",
        "several slabs of several groups",
    ];
    let fused = &STAGES[3..8];
    let mut expected: Vec<String> = STAGES.iter().map(|&stage| stage.to_owned()).collect();
    expected.extend(STAGES.iter().map(|stage| format!("shared: {stage}")));
    // a separable block is described as such; the other ways to fuse across layers
    expected.extend(fused.iter().map(|stage| format!("borders moved: {stage}")));
    for kind in KINDS {
        expected.push(format!("several images: {kind}"));
        expected.extend(fused.iter().map(|stage| format!("{kind}: {stage}")));
    }
    expected.extend(["rows read in place", "pixels read in place"].map(String::from));
    expected.extend(["rows copied into the ring", "rows computed into the ring"].map(String::from));
    expected.push("planes, a channel at a time".into());
    expected.push("flat rows, several pixels in a vector".into());
    expected.push("a standard convolution, since there is one input channel".into());
    expected.extend(["sections of columns", "sections shared out", "sections of flat rows"].map(String::from));
    expected.extend(["the pointwise weights", "threads share its channels"].map(String::from));
    expected.extend(["threads share the channels", "fused, its", "small planes"].map(String::from));
    // always the same cases, however many the tests above run
    let mut runner = TestRunner::deterministic();
    // no way depends on parameters for each channel, and rare ways come often enough among the cases without
    let [chains, alone] = [Cases::chain(), Cases::depthwise()].map(|cases| chain(cases.by_channel(false)));
    let mut seen = BTreeMap::<String, usize>::new();
    for turn in 0..CHAINS + 150 {
        let strategy = if turn < CHAINS { &chains } else { &alone };
        let case = strategy.new_tree(&mut runner).unwrap().current();
        let problem = case.problem();
        let network = Network::new(layers(&problem)).unwrap();
        for limits in [Limits::Tiny, Limits::Mixed(case.case.seed)] {
            let layout = if turn % 3 == 0 { Layout::Nchw } else { Layout::Nhwc };
            let options = PlanOptions::new().threads(threads(turn % MOST_THREADS + 1)).max_threads(MOST_THREADS);
            let options = options.spins(100).layout(layout);
            let isa = options.isa().unwrap();
            let plan = match network.plan(case.case.input, &options.thresholds(limits.thresholds(isa).unwrap())) {
                Ok(plan) => plan,
                Err(error) if limits.may_refuse(&error) => continue,
                Err(error) => panic!("{}: {error}", case.case),
            };
            let mut is_early = false;
            for way in ways(&case, &plan.explain()) {
                let count = seen.entry(way.clone()).or_default();
                *count += 1;
                is_early |= *count <= RUN && expected.contains(&way);
            }
            if is_early
                && let Some(difference) = difference(&plan, &input(&problem), &reference(&problem, plan.arithmetic()))
            {
                panic!("{}, {limits:?}: {difference}", case.case);
            }
        }
    }
    for way in &expected {
        let count = seen.get(way).copied().unwrap_or(0);
        assert!(count >= RUN, "{way}: only {count} times; all: {seen:#?}");
    }
}
