//! A batch of no images is planned and run as any other: every operator, block and network makes an empty output of it, on
//! every instruction set, schedule and number of threads.

use sepconv::models::{Config, MobileNetV1, MobileNetV2, Weights};
use sepconv::testing::{Cases, Check, Layout, Problem};
use sepconv::{Error, Fusion, GlobalAveragePool, Network, Plan, PlanOptions, Shape, View, ViewMut};
use sepconv_test_support::{
    CANARY, ChainCase, chain, check, for_each_case, input, is_canary, layers, reference, threads,
};

/// The case without its images.
fn emptied(mut case: ChainCase) -> ChainCase {
    case.case.input.n = 0;
    case
}

/// Asserts that a plan for no images has nothing to do, and does nothing to the memory that it is given.
fn assert_nothing_is_done(what: &str, plan: &Plan) {
    let explained = plan.explain();
    assert!(explained.stages.is_empty() && explained.threads == 1, "{what}: {explained}");
    assert!(!explained.to_string().is_empty(), "{what}");
    assert_eq!((plan.macs(), plan.scratch_bytes()), (0, 0), "{what}");
    let (from, to) = (plan.input_shape(), plan.output_shape());
    assert_eq!((from.len(), to.len()), (Ok(0), Ok(0)), "{what}: {from}, {to}");
    let mut scratch = plan.scratch().unwrap();
    plan.run(View::new(&[], from).unwrap(), ViewMut::new(&mut [], to).unwrap(), &mut scratch).unwrap();
    let mut output = [CANARY; 64];
    let strides = [from.c + 3, to.c + 3];
    let from = View::with_pixel_stride(&[1.0; 64], from, strides[0]).unwrap();
    plan.run(from, ViewMut::with_pixel_stride(&mut output, to, strides[1]).unwrap(), &mut scratch).unwrap();
    assert!(output.iter().all(|&v| is_canary(v)), "{what}: something was written");
}

#[test]
fn every_operator_block_and_network() {
    for cases in [
        Cases::conv2d(),
        Cases::depthwise(),
        Cases::pointwise(),
        Cases::dense(),
        Cases::separable(),
        Cases::inverted_residual(),
        Cases::average_pool(),
        Cases::chain(),
    ] {
        for_each_case(64, &chain(cases), |case| {
            let one = Shape { n: 1, ..case.case.input };
            let case = emptied(case);
            let problem = case.problem();
            let network = Network::new(layers(&problem)).unwrap();
            let shape = problem.input_shape();
            let of_one = network.output_shape(one).unwrap();
            assert_eq!(network.output_shape(shape), Ok(Shape { n: 0, ..of_one }));
            for count in [1, 3, 4] {
                let plan = network.plan(shape, &PlanOptions::new().threads(threads(count))).unwrap();
                assert_nothing_is_done(&case.case.to_string(), &plan);
            }
            check(
                |options| network.plan(shape, options),
                &[Fusion::Auto, Fusion::Never],
                &input(&problem),
                |arithmetic| reference(&problem, arithmetic),
                0,
                case.runs,
            )
        });
    }
}

#[test]
fn models() {
    let config = Config::new().alpha(0.1).classes(7);
    for architecture in [MobileNetV1::architecture(&config), MobileNetV2::architecture(&config)] {
        let architecture = architecture.unwrap();
        let network = architecture.network(&Weights::seeded(&architecture, 1).unwrap()).unwrap();
        let plan = network.plan(Shape::new(0, 40, 33, 3), &PlanOptions::new().threads(threads(2))).unwrap();
        assert_eq!(plan.output_shape(), Shape::new(0, 1, 1, 7));
        assert_nothing_is_done("a model", &plan);
    }
}

#[test]
fn shapes_are_held_to_what_one_image_is_held_to() {
    let average = GlobalAveragePool::new(8).unwrap();
    for (shape, zero) in [((0, 0, 4, 8), true), ((0, 4, 0, 8), true), ((0, 4, 4, 9), false)] {
        let (n, h, w, c) = shape;
        let error = average.plan(Shape::new(n, h, w, c), &PlanOptions::new()).unwrap_err();
        let same = if zero { matches!(error, Error::ZeroSize { .. }) } else { matches!(error, Error::Channels { .. }) };
        assert!(same, "{shape:?}: {error:?}");
    }
    let empty = Shape::new(0, 4, 4, 8);
    assert!(empty.is_empty() && !Shape::new(1, 4, 4, 8).is_empty());
    assert_eq!((empty.len(), empty.span(20)), (Ok(0), Ok(0)));
    assert!(matches!(empty.span(7), Err(Error::PixelStride { expected: 8, got: 7, .. })));
    // a plan for images does not take an empty batch, nor the other way round
    let data = [0.0; 128];
    for (planned, given) in [(1, 0), (0, 1)] {
        let plan = average.plan(Shape { n: planned, ..empty }, &PlanOptions::new()).unwrap();
        let mut output = [CANARY; 8];
        let error = plan
            .run(
                View::new(&data, Shape { n: given, ..empty }).unwrap(),
                ViewMut::new(&mut output, plan.output_shape()).unwrap(),
                &mut plan.scratch().unwrap(),
            )
            .unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { what: "input", .. }), "{error:?}");
        assert!(output.iter().all(|&v| is_canary(v)));
    }
}

#[test]
fn the_conformance_kit_has_cases_of_no_images() {
    for_each_case(64, &chain(Cases::chain()), |case| {
        let case = emptied(case).case.gaps(2, 3);
        for layout in [Layout::Nhwc, Layout::Nchw] {
            for check in [Check::bounded(), Check::bits(sepconv::Arithmetic::Fused)] {
                let summary = check.layout(layout).case(&case, |problem: &Problem, output: &mut [f32]| {
                    assert_eq!((problem.input().len(), output.len()), (0, 0));
                });
                assert_eq!((summary.cases, summary.values), (1, 0));
            }
        }
        Ok(())
    });
}
