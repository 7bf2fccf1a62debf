//! Signals along H: planes of one column, which are planned as planes of one row. Results are those of the naive reference, bit for bit,
//! and the steps are those of the same signal along W.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use sepconv::testing::{Case, Cases, ConvCase, Op, Problem};
use sepconv::{
    Error, Fusion, Isa, Layout, Network, Padding, Plan, PlanOptions, Schedule, Shape, Strides, Threads, View, ViewMut,
};
use sepconv_test_support::{
    ChainCase, DenseTensor, OnCaller, Runs, SCHEDULES, assert_required_levels, chain, check, for_each_case, input,
    layers, reference, same_bits,
};

/// The convolutions of an operator.
fn convs(op: &mut Op) -> Vec<&mut ConvCase> {
    match op {
        Op::Conv2d(conv) | Op::Depthwise(conv) | Op::Pointwise(conv) | Op::Dense(conv) => vec![conv],
        Op::Separable { depthwise, pointwise, .. } => vec![depthwise, pointwise],
        Op::InvertedResidual { expand, depthwise, project, .. } => {
            expand.iter_mut().chain([depthwise, project]).collect()
        }
        Op::AveragePool => vec![],
        other => panic!("an operator that this test does not know: {other:?}"),
    }
}

/// The case with all pixels of its plane in one column, and windows of one column.
fn along_h(mut case: Case) -> Case {
    case.input = Shape { h: case.input.h * case.input.w, w: 1, ..case.input };
    for conv in case.nodes.iter_mut().flat_map(|node| convs(&mut node.op)) {
        conv.kernel[1] = 1;
        if let Padding::Explicit { left, right, .. } = &mut conv.padding {
            (*left, *right) = (0, 0);
        }
    }
    case
}

/// The case with rows and columns swapped.
fn with_axes_swapped(mut case: Case) -> Case {
    case.input = turned(case.input);
    for conv in case.nodes.iter_mut().flat_map(|node| convs(&mut node.op)) {
        for axes in [&mut conv.kernel, &mut conv.strides, &mut conv.dilations] {
            axes.swap(0, 1);
        }
        if let Padding::Explicit { top, bottom, left, right } = conv.padding {
            conv.padding = Padding::Explicit { top: left, bottom: right, left: top, right: bottom };
        }
    }
    case
}

fn turned(shape: Shape) -> Shape {
    Shape { h: shape.w, w: shape.h, ..shape }
}

fn network(problem: &Problem) -> Network {
    Network::new(layers(problem)).unwrap()
}

fn problem_of(case: &Case) -> Problem {
    ChainCase { case: case.clone(), runs: Runs::on(1) }.problem()
}

fn signals_equal_the_reference(count: u32, cases: Cases, fusions: &[Fusion]) {
    let swapped = Cell::new(0);
    let strategy = chain(cases).prop_map(|drawn| ChainCase { case: along_h(drawn.case), ..drawn });
    for_each_case(count, &strategy, |case| {
        let problem = case.problem();
        let network = network(&problem);
        let plan = |options: &PlanOptions| {
            let plan = network.plan(problem.input_shape(), options)?;
            swapped.set(swapped.get() + usize::from(plan.explain().axes_swapped));
            Ok(plan)
        };
        let expected = |arithmetic| reference(&problem, arithmetic);
        check(plan, fusions, &input(&problem), expected, case.case.macs(), case.runs)
    });
    assert!(swapped.get() > 0, "no plan with rows and columns swapped");
    assert_required_levels();
}

#[test]
fn standard_convolutions() {
    signals_equal_the_reference(600, Cases::conv2d(), &[Fusion::Auto]);
}

#[test]
fn depthwise_convolutions() {
    signals_equal_the_reference(1200, Cases::depthwise(), &[Fusion::Auto]);
}

#[test]
fn pointwise_convolutions() {
    signals_equal_the_reference(400, Cases::pointwise(), &[Fusion::Auto]);
}

#[test]
fn means() {
    signals_equal_the_reference(300, Cases::average_pool(), &[Fusion::Auto]);
}

#[test]
fn separable_blocks() {
    signals_equal_the_reference(400, Cases::separable(), &SCHEDULES);
}

#[test]
fn inverted_residuals() {
    signals_equal_the_reference(400, Cases::inverted_residual(), &SCHEDULES);
}

#[test]
fn networks() {
    signals_equal_the_reference(600, Cases::chain(), &SCHEDULES[..2]);
}

fn taps(taps: usize) -> ConvCase {
    ConvCase::depthwise([taps, 1]).bias(true).seed(1)
}

fn standard(taps: usize, outputs: usize) -> ConvCase {
    ConvCase::standard([taps, 1], outputs).bias(true).seed(2)
}

fn point(outputs: usize) -> ConvCase {
    ConvCase::pointwise(outputs).bias(true).seed(3)
}

/// Signals along H of every kind.
fn signals() -> Vec<Case> {
    let explicit = |top, bottom| Padding::Explicit { top, bottom, left: 0, right: 0 };
    let of = |images, length, channels| Case::new(Shape::new(images, length, 1, channels)).seed(4);
    vec![
        of(1, 500, 1).depthwise(taps(3)),
        of(2, 300, 40).depthwise(taps(5).strides([2, 3]).padding(explicit(1, 4))),
        of(1, 200, 9).depthwise(taps(4).multiplier(3).dilations([3, 1])),
        of(3, 100, 20).conv2d(standard(7, 33).strides([3, 1])),
        of(1, 90, 16).conv2d(standard(3, 8).dilations([4, 2]).padding(Padding::Valid)),
        of(4, 50, 24).pointwise(point(40)),
        of(2, 150, 32).separable(taps(9), point(48)),
        of(1, 130, 16).inverted_residual(Some(point(64)), taps(5), point(16), true),
        of(2, 65, 16).inverted_residual(Some(standard(3, 48)), taps(3).strides([2, 1]), point(24), true),
        of(1, 700, 8)
            .conv2d(standard(5, 24).strides([2, 1]))
            .inverted_residual(Some(point(48)), taps(3), point(24), true)
            .separable(taps(3).strides([2, 2]), point(40))
            .average_pool()
            .dense(point(10)),
        of(2, 999, 33).average_pool(),
    ]
}

/// The bits of a run on the dense input of a problem.
fn bits(plan: &Plan, problem: &Problem) -> Vec<u32> {
    let [from, to] = plan.layouts();
    let (x, shape) = (input(problem), plan.output_shape());
    // a plane of one column or of one row has the same values in either layout, if its channels are transposed
    let strides = Strides::dense(from, x.shape);
    let mut data = vec![0.0; x.data.len()];
    place_each(x.shape, strides, |i, place| data[place] = x.data[i]);
    let (mut output, strides_out) = (vec![f32::NAN; shape.len().unwrap()], Strides::dense(to, shape));
    let view = View::with_strides(&data, x.shape, strides).unwrap();
    plan.run(view, ViewMut::with_strides(&mut output, shape, strides_out).unwrap(), &mut plan.scratch().unwrap())
        .unwrap();
    output.iter().map(|value| value.to_bits()).collect()
}

/// Calls `each` with the number of each value and its place.
fn place_each(shape: Shape, strides: Strides, mut each: impl FnMut(usize, usize)) {
    let Shape { n, h, w, c } = shape;
    for i in 0..n * h * w * c {
        let (p, channel) = (i / c, i % c);
        let (row, x) = (p / w, p % w);
        let place = row / h * strides.image + row % h * strides.row + x * strides.pixel + channel * strides.channel;
        each(i, place);
    }
}

#[test]
fn the_steps_are_those_of_a_signal_along_w() {
    for case in signals() {
        let sides = [problem_of(&case), problem_of(&with_axes_swapped(case.clone()))];
        for layout in [Layout::Nhwc, Layout::Nchw] {
            for fusion in [Fusion::Auto, Fusion::Never] {
                let options = PlanOptions::new().threads(Threads::Serial).layout(layout).fusion(fusion);
                let plans = [0, 1].map(|i| network(&sides[i]).plan(sides[i].input_shape(), &options).unwrap());
                let [along_h, along_w] = [0, 1].map(|i| plans[i].explain());
                assert_eq!((along_h.axes_swapped, along_w.axes_swapped), (true, false), "{case}: {along_h}");
                assert_eq!(plans[0].input_shape(), sides[0].input_shape());
                assert_eq!(plans[0].output_shape(), sides[0].output_shape());
                assert_eq!(plans[0].scratch_bytes(), plans[1].scratch_bytes(), "{case}");
                assert_eq!(plans[0].macs(), plans[1].macs(), "{case}");
                assert_eq!(along_h.stages.first().unwrap().input, sides[0].input_shape());
                assert_eq!(along_h.stages.last().unwrap().output, sides[0].output_shape());
                let mut stages = along_h.stages.clone();
                for stage in &mut stages {
                    (stage.input, stage.output) = (turned(stage.input), turned(stage.output));
                }
                assert_eq!(format!("{stages:#?}"), format!("{:#?}", along_w.stages), "{case}");
                assert!(along_h.to_string().lines().next().unwrap().ends_with(", rows and columns swapped"));
                assert!(!along_w.to_string().contains("swapped"));
                let [along_h, along_w] = [0, 1].map(|i| bits(&plans[i], &sides[i]));
                assert_eq!(along_h, along_w, "{case}, {layout:?}, {fusion:?}");
            }
        }
    }
}

#[test]
fn planes_with_another_column_stay() {
    let signal = Shape::new(1, 60, 1, 8);
    let beside = |left, right| Padding::Explicit { top: 1, bottom: 1, left, right };
    for (case, expected) in [
        (Case::new(signal).depthwise(taps(3)), true),
        (Case::new(Shape { h: 2, ..signal }).depthwise(taps(3)), true),
        // one row as well
        (Case::new(Shape { h: 1, ..signal }).depthwise(taps(3)), false),
        (Case::new(Shape { w: 2, ..signal }).depthwise(taps(3)), false),
        (Case::new(signal).depthwise(taps(3).padding(beside(1, 0))), false),
        (Case::new(signal).depthwise(taps(3).padding(beside(0, 1))), false),
        (Case::new(signal).depthwise(ConvCase::depthwise([3, 3])), false),
        (Case::new(signal).pointwise(point(5)).conv2d(ConvCase::standard([1, 3], 4)), false),
        (Case::new(signal).average_pool().conv2d(ConvCase::standard([3, 3], 4)), false),
    ] {
        let problem = problem_of(&case);
        let plan = network(&problem).plan(case.input, &PlanOptions::new()).unwrap();
        assert_eq!(plan.explain().axes_swapped, expected, "{case}");
        let expected = reference(&problem, plan.arithmetic());
        let expected: Vec<u32> = expected.data.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits(&plan, &problem), expected, "{case}");
    }
}

#[test]
fn threads_keep_rows_that_come_out_even() {
    // along W, all of it is one row
    let case = Case::new(Shape::new(1, 4096, 1, 64)).separable(taps(3), point(64));
    let problem = problem_of(&case);
    let options = |count| PlanOptions::new().threads(Threads::Custom(Arc::new(OnCaller(count))));
    let mut most = 0;
    for count in [1, 2, 8] {
        let options = options(count).max_threads(count);
        let plan = network(&problem).plan(case.input, &options).unwrap();
        let along_w =
            network(&problem_of(&with_axes_swapped(case.clone()))).plan(turned(case.input), &options).unwrap();
        let [pieces, others] = [&plan, &along_w].map(|plan| plan.explain().stages[0].pieces);
        // the busiest worker has at most twice the work that it has where all share it
        assert!(pieces * 2 >= count, "{count} threads: {}", plan.explain());
        assert!(plan.explain().axes_swapped || pieces > others, "{count} threads: {}", plan.explain());
        most = most.max(pieces);
    }
    assert!(most > 1);
}

#[test]
fn a_row_that_takes_much_scratch_stays_a_column() {
    let plan = |length: usize, taps: usize| {
        let case = Case::new(Shape::new(1, 4, 1, 1)).depthwise(ConvCase::depthwise([taps, 1]));
        network(&problem_of(&case)).plan(Shape::new(1, length, 1, 1), &PlanOptions::new().max_isa(Isa::Scalar))
    };
    for length in [1 << 24, 1 << 40, 1 << 50] {
        let plan = plan(length, 3).unwrap();
        assert!(plan.scratch_bytes() < 65 << 20, "{}", plan.explain());
        assert_eq!(plan.input_shape(), Shape::new(1, length, 1, 1));
    }
    let error = plan(1 << 62, 3).unwrap_err();
    assert!(matches!(error.without_layers(), Error::TooLarge { .. }), "{error}");
}

#[test]
fn errors_name_the_axes_of_the_caller() {
    let case = Case::new(Shape::new(1, 9, 1, 4)).depthwise(taps(9).padding(Padding::Valid)).average_pool();
    let network = network(&problem_of(&case));
    let error = network.plan(Shape::new(1, 8, 1, 4), &PlanOptions::new()).unwrap_err();
    assert!(
        matches!(error.without_layers(), Error::InputTooSmall { axis: "rows", expected: 9, got: 8, .. }),
        "{error:?}"
    );
    let required = PlanOptions::new().fusion(Fusion::Require(Schedule::RowRing));
    let point = Case::new(Shape::new(1, 9, 1, 4)).pointwise(point(4));
    let error = self::network(&problem_of(&point)).plan(Shape::new(1, 9, 1, 4), &required).unwrap_err();
    assert!(matches!(error, Error::Fusion(_)), "{error:?}");

    let plan = network.plan(case.input, &PlanOptions::new()).unwrap();
    let (x, mut y) = ([0.0; 36], [0.0; 4]);
    let along_w = View::new(&x, turned(case.input)).unwrap();
    let to = ViewMut::new(&mut y, plan.output_shape()).unwrap();
    let error = plan.run(along_w, to, &mut plan.scratch().unwrap()).unwrap_err();
    let [due, other] = [case.input, turned(case.input)];
    assert!(
        matches!(error, Error::ShapeMismatch { what: "input", expected, got, .. } if (expected, got) == (due, other)),
        "{error}"
    );
    let planes = View::nchw(&x, case.input).unwrap();
    let to = ViewMut::new(&mut y, plan.output_shape()).unwrap();
    let error = plan.run(planes, to, &mut plan.scratch().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Layout { what: "input", .. }), "{error:?}");
}

#[test]
fn rows_of_any_stride() {
    let shape = Shape::new(2, 30, 1, 20);
    let cases = [
        Case::new(shape).depthwise(taps(3)),
        Case::new(shape).conv2d(standard(3, 20)),
        Case::new(shape).pointwise(point(20)),
        Case::new(shape).inverted_residual(Some(point(40)), taps(5), point(20), true),
        Case::new(shape).average_pool(),
    ];
    let data: Vec<f32> = (0..3000).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    for case in cases {
        let problem = problem_of(&case);
        let plan = network(&problem).plan(shape, &PlanOptions::new()).unwrap();
        assert!(plan.explain().axes_swapped, "{case}");
        // the same pixel again and again, pixels that overlap, dense ones, a crop of wider pixels; the stride of one pixel has no meaning
        for (row, pixel) in [(0, 20), (7, 1), (20, 0), (20, usize::MAX), (45, 20)] {
            let strides = Strides { image: 1500, row, pixel, channel: 1 };
            let mut dense = vec![0.0; shape.len().unwrap()];
            place_each(shape, Strides { pixel: 0, ..strides }, |i, place| dense[i] = data[place]);
            let dense = DenseTensor { shape, data: dense };
            let expected = sepconv_test_support::reference_of(&problem, &dense, plan.arithmetic());

            let out = expected.shape;
            let strides_out = Strides { image: 2000, row: 31, pixel: usize::MAX, channel: 1 };
            let mut output = vec![-7.0; 4000];
            let view = View::with_strides(&data, shape, strides).unwrap();
            let to = ViewMut::with_strides(&mut output, out, strides_out).unwrap();
            plan.run(view, to, &mut plan.scratch().unwrap()).unwrap();
            let mut written = vec![false; output.len()];
            place_each(out, Strides { pixel: 0, ..strides_out }, |i, place| {
                assert!(same_bits(output[place], expected.data[i]), "{case}, row stride {row}, value {i}");
                written[place] = true;
            });
            assert!(written.iter().zip(&output).all(|(&written, &value)| written || value == -7.0), "{case}");
        }
    }
}
