//! The contract on numbers, by cases that were worked out by hand, and the error bound against f64.
#![allow(clippy::print_stdout, reason = "one test measures, and prints a table")]

use sepconv::testing::{self, Case, Cases, Check, ConvCase, Layout, Op, Problem};
use sepconv::{
    Activation, Arithmetic, BatchNorm, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Filter, Fusion, GlobalAveragePool,
    InvertedResidual, InvertedResidualDesc, Isa, Layer, Network, Padding, Plan, PlanOptions, PointwiseConv2d, Scratch,
    SeparableConv2d, Shape, Shortcut, Threads, View, ViewMut,
};
use sepconv_test_support::{
    CANARY, DenseTensor, LEVELS, PlanLevel, Rng, Runs, SCHEDULES, ValueKind, assert_required_levels, check,
    has_common_bits, layers, reference_of, same_bits, threads,
};

fn run(plan: &Plan, input: &[f32]) -> Vec<f32> {
    let mut output = vec![CANARY; plan.output_shape().len().unwrap()];
    let mut scratch = plan.scratch().unwrap();
    scratch.as_mut_slice().fill(0xFF);
    let from = View::new(input, plan.input_shape()).unwrap();
    plan.run(from, ViewMut::new(&mut output, plan.output_shape()).unwrap(), &mut scratch).unwrap();
    output
}

fn assert_same(what: &dyn std::fmt::Debug, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what:?}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!(same_bits(got, expected), "{what:?}: value {i}: expected {expected:e}, got {got:e}");
    }
}

/// Runs `body` on every level, those with emulated steps too.
fn on_every_level(body: impl Fn(PlanLevel)) {
    for &level in LEVELS.iter() {
        body(level);
    }
    assert_required_levels();
}

/// 2 rows of `c` channels with one value each: enough channels that vectors and tails are met.
const CHANNELS: [usize; 4] = [1, 7, 16, 21];

/// What each operator makes of `x` in every channel, where it multiplies by `w` once and adds `bias`, then clamps.
fn each_operator(level: PlanLevel, x: f32, w: f32, bias: f32, activation: Activation) -> Vec<(&'static str, Vec<f32>)> {
    let mut results = Vec::new();
    for c in CHANNELS {
        let input = Shape::new(1, 1, 2, c);
        let pixel = Shape::new(1, 1, 1, c);
        let (weights, biases) = (vec![w; c], vec![bias; c]);
        // only the first input channel counts; the others are zeros times ones, which leave every sum as it is
        let mut matrix = vec![1.0; c * c];
        matrix[..c].fill(w);
        let mut first = vec![0.0; 2 * c];
        (first[0], first[c]) = (x, x);
        let all = vec![x; 2 * c];
        let standard = ConvDesc::new(Filter::io(&matrix, [c, c])).bias(&biases).activation(activation);
        let depthwise = ConvDesc::new(Filter::depthwise_hwc(&weights, [1, 1, c])).bias(&biases).activation(activation);
        let options = level.options();
        let conv = Conv2d::new(standard).unwrap().plan(input, &options).unwrap();
        let pointwise = PointwiseConv2d::new(standard).unwrap().plan(input, &options).unwrap();
        let dense = Dense::new(standard).unwrap().plan(pixel, &options).unwrap();
        let depthwise = DepthwiseConv2d::new(depthwise).unwrap().plan(input, &options).unwrap();
        results.push(("conv2d", run(&conv, &first)));
        results.push(("pointwise", run(&pointwise, &first)));
        results.push(("dense", run(&dense, &first[..c])));
        results.push(("depthwise", run(&depthwise, &all)));
    }
    results
}

#[test]
fn special_values_take_the_way_of_the_contract() {
    let relu6 = Activation::Relu6;
    let free = Activation::Linear;
    let tiny = f32::from_bits(3);
    #[rustfmt::skip]
    let cases = [
        // (x, w, bias, activation, result)
        (f32::NAN, 1.0, 0.0, relu6, f32::NAN),
        (1.0, f32::NAN, 0.0, Activation::Relu, f32::NAN),
        (1.0, 1.0, f32::NAN, Activation::Clamp { min: -1.0, max: 1.0 }, f32::NAN),
        (f32::INFINITY, 1.0, f32::NEG_INFINITY, relu6, f32::NAN),
        (f32::INFINITY, 1.0, 0.0, relu6, 6.0),
        (f32::NEG_INFINITY, 1.0, 0.0, relu6, 0.0),
        (f32::INFINITY, -2.0, 0.0, free, f32::NEG_INFINITY),
        (f32::INFINITY, 0.0, 0.0, free, f32::NAN),
        (3.0, 4.0, 0.5, free, 12.5),
        (3.0, 4.0, 0.5, relu6, 6.0),
        // denormals are neither flushed where they come nor where they are made
        (tiny, 1.0, 0.0, free, tiny),
        (1e-30, 1e-10, 0.0, free, 1e-40),
        (tiny, 1.0, 0.0, relu6, tiny),
        // a denormal bound
        (0.0, 1.0, 0.0, Activation::Clamp { min: tiny, max: 1.0 }, tiny),
    ];
    on_every_level(|level| {
        for case @ (x, w, bias, activation, expected) in cases {
            for (operator, got) in each_operator(level, x, w, bias, activation) {
                assert_same(&(level, operator, case), &got, &vec![expected; got.len()]);
            }
        }
    });
}

#[test]
fn negative_zero_passes_a_bound_of_zero() {
    on_every_level(|level| {
        for c in CHANNELS {
            let (ones, zeros) = (vec![1.0; c], vec![-0.0; c]);
            for activation in [Activation::Linear, Activation::Relu, Activation::Relu6] {
                let desc = ConvDesc::new(Filter::depthwise_hwc(&ones, [1, 1, c])).bias(&zeros).activation(activation);
                let plan = DepthwiseConv2d::new(desc).unwrap().plan(Shape::new(1, 1, 3, c), &level.options()).unwrap();
                assert_same(&(level, activation), &run(&plan, &vec![-0.0; 3 * c]), &vec![-0.0; 3 * c]);
                // one input channel, so that no other zero is added
                let desc = ConvDesc::new(Filter::io(&ones, [1, c])).bias(&zeros).activation(activation);
                let plan = PointwiseConv2d::new(desc).unwrap().plan(Shape::new(1, 1, 3, 1), &level.options()).unwrap();
                assert_same(&(level, activation), &run(&plan, &[-0.0; 3]), &vec![-0.0; 3 * c]);
            }
        }
    });
}

#[test]
fn padding_takes_part_as_zero() {
    // the corner sees padding: 0 × ∞ is NaN, whatever the pixel there is
    on_every_level(|level| {
        for c in CHANNELS {
            let mut filter = vec![1.0; 9 * c];
            filter[..c].fill(f32::INFINITY);
            let desc = ConvDesc::new(Filter::depthwise_hwc(&filter, [3, 3, c])).activation(Activation::Relu6);
            let plan = DepthwiseConv2d::new(desc).unwrap().plan(Shape::new(1, 2, 2, c), &level.options()).unwrap();
            let got = run(&plan, &vec![1.0; 4 * c]);
            // only the last pixel has its first tap on the plane
            let expected = [vec![f32::NAN; 3 * c], vec![6.0; c]].concat();
            assert_same(&(level, "depthwise", c), &got, &expected);

            let desc = ConvDesc::new(Filter::hwio(&filter, [3, 3, 1, c])).activation(Activation::Relu6);
            let plan = Conv2d::new(desc).unwrap().plan(Shape::new(1, 2, 2, 1), &level.options()).unwrap();
            assert_same(&(level, "conv2d", c), &run(&plan, &[1.0; 4]), &expected);
        }
    });
}

#[test]
fn every_tap_on_padding_takes_part_as_zero() {
    // one tap is infinite: where it lies on the plane the sum is, and meets the bound; where it lies on padding it is
    // NaN
    let ([h, w], relu6) = ([4, 5], Activation::Relu6);
    on_every_level(|level| {
        for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (3, 1, 2), (5, 1, 1), (2, 3, 1)] {
            for tap in 0..kernel * kernel {
                for c in CHANNELS {
                    let mut filter = vec![1.0; kernel * kernel * c];
                    filter[tap * c..][..c].fill(f32::INFINITY);
                    let padding = Padding::all(dilation * (kernel - 1));
                    let desc = |filter| ConvDesc::new(filter).stride(stride).dilation(dilation).padding(padding);
                    let depthwise = desc(Filter::depthwise_hwc(&filter, [kernel, kernel, c])).activation(relu6);
                    let standard = desc(Filter::hwio(&filter, [kernel, kernel, 1, c])).activation(relu6);
                    let depthwise = DepthwiseConv2d::new(depthwise).unwrap();
                    let depthwise = depthwise.plan(Shape::new(1, h, w, c), &level.options()).unwrap();
                    let standard = Conv2d::new(standard).unwrap();
                    let standard = standard.plan(Shape::new(1, h, w, 1), &level.options()).unwrap();
                    let out = depthwise.output_shape();
                    let on_plane = |at: usize, tap: usize, size: usize| {
                        let at = at * stride + tap * dilation;
                        (dilation * (kernel - 1)..dilation * (kernel - 1) + size).contains(&at)
                    };
                    let mut expected = Vec::new();
                    for y in 0..out.h {
                        for x in 0..out.w {
                            let there = on_plane(y, tap / kernel, h) && on_plane(x, tap % kernel, w);
                            expected.extend(vec![if there { 6.0 } else { f32::NAN }; c]);
                        }
                    }
                    let what = (level, kernel, stride, dilation, tap, c);
                    assert_same(&("depthwise", what), &run(&depthwise, &vec![1.0; h * w * c]), &expected);
                    assert_same(&("conv2d", what), &run(&standard, &vec![1.0; h * w]), &expected);
                }
            }
        }
    });
}

/// One operator of every kind over a plane of this shape: every kernel, and every schedule of the blocks.
fn operators(shape: Shape, seed: u64) -> Vec<Case> {
    let of = |conv: ConvCase, activation| {
        let values = if seed.is_multiple_of(3) { testing::Values::Special } else { testing::Values::Uniform };
        conv.activation(activation).bias(seed.is_multiple_of(2)).values(values).seed(seed)
    };
    let depthwise =
        |kernel: usize, stride: usize| of(ConvCase::depthwise([kernel; 2]).strides([stride; 2]), Activation::Relu6);
    let pointwise = |outputs, activation| of(ConvCase::pointwise(outputs), activation);
    let case = || Case::new(shape).seed(seed);
    vec![
        case().conv2d(of(ConvCase::standard([3, 3], 19).strides([2, 2]), Activation::Relu)),
        case().depthwise(depthwise(3, 1)),
        case().depthwise(depthwise(3, 2)),
        case().depthwise(depthwise(5, 1)),
        case().pointwise(pointwise(37, Activation::Relu6)),
        case().dense(pointwise(11, Activation::Linear)),
        case().separable(depthwise(3, 1), pointwise(23, Activation::Relu6)),
        case().inverted_residual(
            Some(pointwise(shape.c, Activation::Relu6)),
            depthwise(3, 1),
            pointwise(shape.c, Activation::Linear),
            true,
        ),
        case().average_pool(),
    ]
}

#[test]
fn a_special_value_in_any_place_and_tail_takes_the_way_of_the_contract() {
    let tiny = f32::from_bits(7);
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, tiny, -tiny, f32::MAX, f32::MIN_POSITIVE / 2.0];
    let rng = &mut Rng(9);
    for (i, special) in specials.into_iter().enumerate() {
        // every tail of a vector and of a block, on rows of every tail of a tile
        for c in 1..=35 {
            let shape = Shape::new(1, 1 + (c + i) % 4, 1 + (5 * c + 3 * i) % 14, c);
            let mut input = DenseTensor::random(rng, shape, ValueKind::Plain);
            let len = input.data.len();
            for place in [rng.below(len), if c % 2 == 0 { 0 } else { len - 1 }] {
                input.data[place] = special;
            }
            for case in operators(shape, (c * specials.len() + i) as u64) {
                let problem = Problem::new(&case, Layout::Nhwc).unwrap();
                let network = Network::new(layers(&problem)).unwrap();
                let blocks = matches!(case.nodes[0].op, Op::Separable { .. } | Op::InvertedResidual { .. });
                let fusions = if blocks { &SCHEDULES[..] } else { &SCHEDULES[..1] };
                let runs = Runs::on(2);
                let expected = |arithmetic| reference_of(&problem, &input, arithmetic);
                let plan = |options: &PlanOptions| network.plan(shape, options);
                if let Err(e) = check(plan, fusions, &input, expected, case.macs(), runs) {
                    panic!("{special:e} in the input of {case}: {e}");
                }
            }
        }
    }
    assert_required_levels();
}

#[test]
fn one_rounding_or_two_is_what_the_plan_says() {
    // (1 + ε)² − (1 + 2ε) is ε² where the product is not rounded
    let x = 1.0 + f32::EPSILON;
    let bias = -(1.0 + 2.0 * f32::EPSILON);
    on_every_level(|level| {
        let expected = match level.arithmetic {
            Arithmetic::Fused => f32::EPSILON * f32::EPSILON,
            Arithmetic::Separate => 0.0,
            other => panic!("no bits of {other:?}"),
        };
        for (operator, got) in each_operator(level, x, x, bias, Activation::Linear) {
            assert_same(&(level, operator), &got, &vec![expected; got.len()]);
        }
    });
}

#[test]
fn levels_have_the_arithmetic_of_the_contract() {
    let average = GlobalAveragePool::new(3).unwrap();
    on_every_level(|level| {
        let plan = average.plan(Shape::new(1, 2, 2, 3), &level.options()).unwrap();
        let fused = level.common_bits || matches!(level.isa, Isa::Avx512 | Isa::Avx2 | Isa::Neon);
        assert_eq!(plan.isa(), level.isa);
        assert_eq!(plan.arithmetic(), if fused { Arithmetic::Fused } else { Arithmetic::Separate });
        // what has no fused multiply-add leaves the common bits to scalar
        let common = average.plan(Shape::new(1, 2, 2, 3), &level.options().common_bits(true));
        if !has_common_bits(level.isa) {
            let message = format!("instruction set: common bits on {} need the cargo feature `common-bits`", level.isa);
            assert_eq!(common.unwrap_err().to_string(), message);
            return;
        }
        let common = common.unwrap();
        assert_eq!(
            (common.isa(), common.arithmetic()),
            (if fused { level.isa } else { Isa::Scalar }, Arithmetic::Fused)
        );
    });
    // a cap never lifts: asking for what the CPU lacks takes the next one down
    for isa in Isa::ALL {
        let plan = average.plan(Shape::new(1, 2, 2, 3), &PlanOptions::new().max_isa(isa)).unwrap();
        assert!(plan.isa().is_available());
    }
}

#[test]
fn the_common_bits_are_common() {
    let rng = &mut Rng(5);
    let (shape, c, n) = (Shape::new(1, 9, 11, 37), 37, 29);
    let [w, d, x] = [c * n, 9 * c, shape.len().unwrap()].map(|len| rng.values(len, ValueKind::Plain));
    let block = SeparableConv2d::new(
        ConvDesc::new(Filter::depthwise_hwc(&d, [3, 3, c])).activation(Activation::Relu6),
        ConvDesc::new(Filter::io(&w, [c, n])),
    )
    .unwrap();
    let results: Vec<(Isa, Vec<f32>)> = LEVELS
        .iter()
        .filter(|level| has_common_bits(level.isa))
        .map(|level| level.options().common_bits(true))
        .map(|options| block.plan(shape, &options).unwrap())
        .map(|plan| (plan.isa(), run(&plan, &x)))
        .collect();
    for (isa, result) in &results {
        assert_same(isa, result, &results[0].1);
    }
}

#[test]
fn a_shortcut_is_added_before_the_activation() {
    on_every_level(|level| {
        for c in CHANNELS {
            let (ones, mut identity) = (vec![1.0; c], vec![0.0; c * c]);
            (0..c).for_each(|i| identity[i * c + i] = 1.0);
            let depthwise = ConvDesc::new(Filter::depthwise_hwc(&ones, [1, 1, c]));
            let project = ConvDesc::new(Filter::io(&identity, [c, c])).activation(Activation::Relu6);
            for fusion in SCHEDULES {
                let options = level.options().fusion(fusion);
                let shape = Shape::new(1, 2, 1, c);
                let desc = InvertedResidualDesc::new(depthwise, project).shortcut(Shortcut::Required);
                let x = [vec![2.5; c], vec![-1.0; c]].concat();
                let with = InvertedResidual::new(desc).unwrap().plan(shape, &options).unwrap();
                assert_same(&(level, fusion), &run(&with, &x), &[vec![5.0; c], vec![0.0; c]].concat());
                let without =
                    InvertedResidual::new(desc.shortcut(Shortcut::None)).unwrap().plan(shape, &options).unwrap();
                assert_same(&(level, fusion), &run(&without, &x), &[vec![2.5; c], vec![0.0; c]].concat());
            }
        }
    });
}

#[test]
fn batch_norm_is_folded_in_f64_and_rounded_once() {
    let (weight, bias, x) = (0.3f32, 0.7f32, 1.7f32);
    let (gamma, beta, mean, variance, epsilon) = (1.1f32, -0.2f32, 0.4f32, 0.9f32, 1e-3);
    let scale = f64::from(gamma) / (f64::from(variance) + epsilon).sqrt();
    let w = (f64::from(weight) * scale) as f32;
    let b = ((f64::from(bias) - f64::from(mean)) * scale + f64::from(beta)) as f32;
    let bare_scale = 1.0 / (f64::from(variance) + epsilon).sqrt();
    let bare_w = (f64::from(weight) * bare_scale) as f32;
    let bare_b = (-f64::from(mean) * bare_scale) as f32;
    on_every_level(|level| {
        let step = |x: f32, w: f32, acc: f32| match level.arithmetic {
            Arithmetic::Fused => x.mul_add(w, acc),
            Arithmetic::Separate => acc + x * w,
            other => panic!("no bits of {other:?}"),
        };
        let options = level.options();
        let full =
            BatchNorm { gamma: Some(&[gamma]), beta: Some(&[beta]), mean: &[mean], variance: &[variance], epsilon };
        let bare = BatchNorm { gamma: None, beta: None, ..full };
        let (weights, biases) = ([weight], [bias]);
        for (norm, with_bias, expected) in [(full, true, step(x, w, b)), (bare, false, step(x, bare_w, bare_b))] {
            let describe = |filter| {
                let desc = ConvDesc::new(filter).batch_norm(norm);
                if with_bias { desc.bias(&biases) } else { desc }
            };
            let shape = Shape::new(1, 1, 1, 1);
            let standard = PointwiseConv2d::new(describe(Filter::io(&weights, [1, 1]))).unwrap();
            assert_same(&level, &run(&standard.plan(shape, &options).unwrap(), &[x]), &[expected]);
            let depthwise = DepthwiseConv2d::new(describe(Filter::depthwise_hwc(&weights, [1, 1, 1]))).unwrap();
            assert_same(&level, &run(&depthwise.plan(shape, &options).unwrap(), &[x]), &[expected]);
        }
    });
}

#[test]
fn same_padding_puts_the_odd_pixel_at_the_bottom_and_the_right() {
    // a kernel that counts how many pixels of the plane it sees
    for (size, stride, kernel, dilation, seen) in [
        // even size, stride 2: nothing before, one after
        (4, 2, 3, 1, vec![3.0, 2.0]),
        // odd size, stride 2: one on each side
        (5, 2, 3, 1, vec![2.0, 3.0, 2.0]),
        // even kernel at stride 1: nothing before, one after
        (3, 1, 2, 1, vec![2.0, 2.0, 1.0]),
        // a stride beyond the kernel: nothing at all
        (5, 3, 1, 1, vec![1.0, 1.0]),
        // dilation reaches two pixels to each side
        (3, 1, 3, 2, vec![2.0, 1.0, 2.0]),
    ] {
        let ones = vec![1.0; kernel];
        for transposed in [false, true] {
            let turn = |[a, b]: [usize; 2]| if transposed { [b, a] } else { [a, b] };
            let ([kh, kw], [h, w]) = (turn([1, kernel]), turn([1, size]));
            let desc = |filter| ConvDesc::new(filter).strides(turn([1, stride])).dilations(turn([1, dilation]));
            let input = Shape::new(1, h, w, 1);
            let x = vec![1.0; size];
            let options = PlanOptions::new();
            let standard = Conv2d::new(desc(Filter::hwio(&ones, [kh, kw, 1, 1]))).unwrap();
            assert_eq!(run(&standard.plan(input, &options).unwrap(), &x), seen);
            let depthwise = DepthwiseConv2d::new(desc(Filter::depthwise_hwc(&ones, [kh, kw, 1]))).unwrap();
            assert_eq!(run(&depthwise.plan(input, &options).unwrap(), &x), seen);
        }
    }
}

#[test]
fn output_shapes_are_those_of_mobilenet() {
    let stem = vec![0.0; 27 * 32];
    let stem = ConvDesc::new(Filter::hwio(&stem, [3, 3, 3, 32])).stride(2);
    let image = Shape::new(2, 224, 224, 3);
    let half = Shape::new(2, 112, 112, 32);
    let same = Conv2d::new(stem).unwrap();
    assert_eq!(same.output_shape(image).unwrap(), half);
    let symmetric = Conv2d::new(stem.padding(Padding::all(1))).unwrap();
    assert_eq!(symmetric.output_shape(image).unwrap(), half);
    let valid = Conv2d::new(stem.padding(Padding::Valid)).unwrap();
    assert_eq!(valid.output_shape(image).unwrap(), Shape::new(2, 111, 111, 32));
    let depthwise = vec![0.0; 9 * 32 * 2];
    let depthwise = ConvDesc::new(Filter::depthwise_hwcm(&depthwise, [3, 3, 32, 2])).strides([2, 1]);
    let depthwise = DepthwiseConv2d::new(depthwise).unwrap();
    assert_eq!(depthwise.output_shape(half).unwrap(), Shape::new(2, 56, 112, 64));
    let average = GlobalAveragePool::new(32).unwrap();
    assert_eq!(average.output_shape(half).unwrap(), Shape::new(2, 1, 1, 32));
    let network = Network::new(vec![same.into(), depthwise.into()]).unwrap();
    assert_eq!(network.layers().len(), 2);
    assert_eq!(network.output_shape(image).unwrap(), Shape::new(2, 56, 112, 64));
    let plan = network.plan(image, &PlanOptions::new()).unwrap();
    assert_eq!((plan.input_shape(), plan.output_shape()), (image, Shape::new(2, 56, 112, 64)));
    assert_eq!(plan.macs(), 2 * (112 * 112 * 32 * 27 + 56 * 112 * 64 * 9));
}

#[test]
fn results_do_not_depend_on_batch_threads_or_clones() {
    let rng = &mut Rng(6);
    let (c, t, n) = (24, 144, 32);
    let [e, d, p] = [c * t, 9 * t, t * n].map(|len| rng.values(len, ValueKind::Plain));
    let block = InvertedResidual::new(
        InvertedResidualDesc::new(
            ConvDesc::new(Filter::depthwise_hwc(&d, [3, 3, t])).stride(2).activation(Activation::Relu6),
            ConvDesc::new(Filter::io(&p, [t, n])),
        )
        .expand(ConvDesc::new(Filter::io(&e, [c, t])).activation(Activation::Relu6)),
    )
    .unwrap();
    let one = Shape::new(1, 29, 31, c);
    let x = rng.values(3 * one.len().unwrap(), ValueKind::Plain);
    let single = block.plan(one, &PlanOptions::new()).unwrap();
    let apart: Vec<f32> = x.chunks_exact(one.len().unwrap()).flat_map(|x| run(&single, x)).collect();
    for count in 1..=4 {
        for fusion in SCHEDULES {
            let options = PlanOptions::new().threads(threads(count)).max_threads(sepconv::MAX_THREADS).fusion(fusion);
            let together = block.clone().plan(Shape { n: 3, ..one }, &options).unwrap();
            assert_same(&(count, fusion), &run(&together, &x), &apart);
        }
    }
}

#[test]
fn one_plan_serves_many_threads_at_once() {
    let rng = &mut Rng(7);
    let (shape, c) = (Shape::new(1, 19, 23, 48), 48);
    let [d, p] = [9 * c, c * c].map(|len| rng.values(len, ValueKind::Plain));
    let block = SeparableConv2d::new(
        ConvDesc::new(Filter::depthwise_hwc(&d, [3, 3, c])),
        ConvDesc::new(Filter::io(&p, [c, c])),
    )
    .unwrap();
    for count in [1, 3] {
        let plan =
            block.plan(shape, &PlanOptions::new().threads(threads(count)).max_threads(sepconv::MAX_THREADS)).unwrap();
        let inputs: Vec<Vec<f32>> = (0..4).map(|_| rng.values(shape.len().unwrap(), ValueKind::Plain)).collect();
        let expected: Vec<Vec<f32>> = inputs.iter().map(|x| run(&plan, x)).collect();
        std::thread::scope(|scope| {
            for (x, expected) in inputs.iter().zip(&expected) {
                let plan = &plan;
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert_same(&count, &run(plan, x), expected);
                    }
                });
            }
        });
    }
}

#[test]
fn a_run_from_within_a_job_of_its_own_pool_comes_to_an_end() {
    let rng = &mut Rng(8);
    let (shape, c) = (Shape::new(1, 40, 40, 64), 64);
    let weights = rng.values(c * c, ValueKind::Plain);
    let op = PointwiseConv2d::new(ConvDesc::new(Filter::io(&weights, [c, c]))).unwrap();
    let x = rng.values(shape.len().unwrap(), ValueKind::Plain);
    let expected = run(&op.plan(shape, &PlanOptions::new()).unwrap(), &x);
    let Threads::Pool(pool) = threads(2) else { unreachable!() };
    let plan = op.plan(shape, &PlanOptions::new().threads(Threads::Pool(pool.clone()))).unwrap();
    // more jobs than threads: every one runs while none is left to help
    let results: Vec<Vec<f32>> = pool.install(|| {
        use rayon::prelude::*;
        (0..16).into_par_iter().map(|_| run(&plan, &x)).collect()
    });
    for result in results {
        assert_same(&"inside", &result, &expected);
    }
}

#[test]
fn every_operator_is_within_its_bound_of_f64() {
    let kinds = [
        Cases::conv2d(),
        Cases::depthwise(),
        Cases::pointwise(),
        Cases::separable(),
        Cases::inverted_residual(),
        Cases::average_pool(),
        Cases::dense(),
    ];
    for cases in kinds {
        for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
            Check::bounded().run(cases.clone().gaps(), |problem: &Problem, output: &mut [f32]| {
                let plan = Network::new(layers(problem))?.plan(problem.input_shape(), &level.options())?;
                let from = View::with_strides(problem.input(), plan.input_shape(), problem.input_strides())?;
                let to = ViewMut::with_strides(output, plan.output_shape(), problem.output_strides())?;
                plan.run(from, to, &mut plan.scratch()?)
            });
        }
    }
    assert_required_levels();
}

#[test]
fn fusion_that_cannot_be_had_is_an_error() {
    // an operator of one stage has nothing to be fused with
    let (point, taps) = ([1.0; 4], [1.0; 18]);
    let pointwise = PointwiseConv2d::new(ConvDesc::new(Filter::io(&point, [2, 2]))).unwrap();
    let depthwise = DepthwiseConv2d::new(ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, 2]))).unwrap();
    let shape = Shape::new(1, 2, 2, 2);
    for fusion in SCHEDULES {
        let options = PlanOptions::new().fusion(fusion);
        for (plan, sum) in [(pointwise.plan(shape, &options), 2.0), (depthwise.plan(shape, &options), 4.0)] {
            match (fusion, plan) {
                (Fusion::Require(_), Err(error)) => {
                    assert!(matches!(error, sepconv::Error::Fusion(_)), "{error}");
                    assert!(error.to_string().starts_with("fusion: "), "{error}");
                }
                (Fusion::Require(_), Ok(plan)) => panic!("{fusion:?}: taken, yet\n{}", plan.explain()),
                (_, plan) => assert_eq!(run(&plan.unwrap(), &[1.0; 8]), [sum; 8]),
            }
        }
    }
}

#[test]
fn what_is_shared_between_threads_may_be() {
    fn shared<T: Clone + Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Conv2d>();
    shared::<DepthwiseConv2d>();
    shared::<PointwiseConv2d>();
    shared::<SeparableConv2d>();
    shared::<InvertedResidual>();
    shared::<GlobalAveragePool>();
    shared::<Dense>();
    shared::<Layer>();
    shared::<PlanOptions>();
    fn both<T: Send + Sync>() {}
    both::<Plan>();
    both::<Network>();
    sent::<Scratch>();
}

/// A mean as its bound says, on planes so large that a sum pixel after pixel would lose them.
#[test]
fn a_mean_of_many_pixels_is_near_the_truth() {
    on_every_level(|level| {
        for (h, w, c) in [(4200, 4100, 1), (1, 1 << 20, 3), (1 << 18, 1, 2), (300, 257, 70)] {
            let shape = Shape::new(1, h, w, c);
            for layout in [Layout::Nhwc, Layout::Nchw] {
                let plan = GlobalAveragePool::new(c).unwrap().plan(shape, &level.options().layout(layout)).unwrap();
                let mean = |value: &mut dyn FnMut() -> f32| {
                    let input: Vec<f32> = (0..shape.len().unwrap()).map(|_| value()).collect();
                    let strides = sepconv::Strides::dense(layout, shape);
                    let mut output = vec![CANARY; c];
                    plan.run(
                        View::with_strides(&input, shape, strides).unwrap(),
                        ViewMut::with_strides(
                            &mut output,
                            plan.output_shape(),
                            sepconv::Strides::dense(layout, plan.output_shape()),
                        )
                        .unwrap(),
                        &mut plan.scratch().unwrap(),
                    )
                    .unwrap();
                    let of_channel = |i: usize| i / strides.channel % c;
                    let mut exact = vec![0.0_f64; c];
                    for (i, &value) in input.iter().enumerate() {
                        exact[of_channel(i)] += f64::from(value);
                    }
                    output.into_iter().zip(exact.into_iter().map(|sum| sum / (h * w) as f64)).collect::<Vec<_>>()
                };
                assert!(mean(&mut || 1.0).iter().all(|&(got, _)| got == 1.0), "{level:?} {shape} {layout:?}");
                let rng = &mut Rng(7);
                let roundings = 37.0 + ((h * w).div_ceil(256) as f64).log2().ceil();
                for (got, exact) in mean(&mut || rng.below(1 << 24) as f32 / (1 << 24) as f32) {
                    let error = (f64::from(got) - exact).abs() / exact;
                    assert!(error <= roundings * 2f64.powi(-24), "{level:?} {shape} {layout:?}: {error:e}");
                    assert!(error <= 1e-6, "{level:?} {shape} {layout:?}: {error:e}");
                }
            }
        }
    });
}
