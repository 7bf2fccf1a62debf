//! The one-shot pointwise convolution on the `gemm` crate. It does not keep the contract on bits, so it is held to the
//! bound that any order of summation has: `k × ε × Σ|x × w|` around the result in f64.
#![cfg(feature = "gemm")]

use sepconv::testing::reference::Number;
use sepconv::{Activation, Arithmetic, Error, Filter, Shape, Threads, View, ViewMut, pointwise_gemm};
use sepconv_test_support::{CANARY, Rng, ValueKind, is_canary, threads};

#[derive(Clone, Copy, Debug)]
struct GemmCase {
    pixels: [usize; 3],
    k: usize,
    n: usize,
    gaps: [usize; 2],
    transposed: bool,
    bias: bool,
    activation: Activation,
    threads: usize,
    seed: u64,
}

fn check(case: GemmCase) {
    let GemmCase { pixels: [batch, h, w], k, n, gaps: [gap_in, gap_out], activation, .. } = case;
    let rng = &mut Rng(case.seed);
    let m = batch * h * w;
    let (x_stride, out_stride) = (k + gap_in, n + gap_out);
    // what lies between pixels is NaN: a sum that takes it shows
    let mut x = vec![CANARY; (m - 1) * x_stride + k];
    for pixel in x.chunks_mut(x_stride) {
        pixel[..k].copy_from_slice(&rng.values(k, ValueKind::Plain));
    }
    let weights = rng.values(k * n, ValueKind::Plain);
    let bias = rng.values(n, ValueKind::Plain);
    let at = |i: usize, o: usize| if case.transposed { weights[o * k + i] } else { weights[i * n + o] };
    let filter = if case.transposed { Filter::oi(&weights, [n, k]) } else { Filter::io(&weights, [k, n]) };

    let mut out = vec![CANARY; (m - 1) * out_stride + n + 9];
    pointwise_gemm(
        View::with_pixel_stride(&x, Shape::new(batch, h, w, k), x_stride).unwrap(),
        filter,
        case.bias.then_some(&bias[..]),
        activation,
        ViewMut::with_pixel_stride(&mut out, Shape::new(batch, h, w, n), out_stride).unwrap(),
        threads(case.threads),
    )
    .unwrap();

    for p in 0..m {
        for o in 0..n {
            let terms = (0..k).map(|i| f64::from(x[p * x_stride + i]) * f64::from(at(i, o)));
            let start = if case.bias { f64::from(bias[o]) } else { 0.0 };
            let (sum, size) = terms.fold((start, start.abs()), |(sum, size), t| (sum + t, size + t.abs()));
            let expected = sum.activate(activation.into(), Arithmetic::Fused);
            // no activation here is steeper than 1.5, or off by more than 4 ulp
            let bound = (1.5 * (k + 2) as f64 * size + 4.0 * expected.abs()) * f64::from(f32::EPSILON);
            let got = f64::from(out[p * out_stride + o]);
            assert!(
                (got - expected).abs() <= bound,
                "{case:?}: pixel {p}, channel {o}: expected {expected}, got {got}"
            );
        }
    }
    for (i, &v) in out.iter().enumerate() {
        if i % out_stride >= n || i / out_stride >= m {
            assert!(is_canary(v), "{case:?}: wrote between or behind pixels, at {i}");
        }
    }
}

#[test]
fn every_case_is_within_the_bound() {
    let rng = &mut Rng(11);
    const SIZES: [usize; 16] = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130, 200];
    for _ in 0..400 {
        check(GemmCase {
            pixels: [1 + rng.below(3), 1 + rng.below(8), 1 + rng.below(8)],
            k: rng.pick(&SIZES),
            n: rng.pick(&SIZES),
            gaps: [rng.pick(&[0, 1, 6]), rng.pick(&[0, 0, 1, 6])],
            transposed: rng.chance(2),
            bias: rng.chance(2),
            activation: rng.pick(&[
                Activation::Linear,
                Activation::Relu,
                Activation::Relu6,
                Activation::Clamp { min: -0.5, max: 0.5 },
                Activation::HardSwish,
                Activation::Silu,
            ]),
            threads: 1 + rng.below(4),
            seed: rng.next_u64(),
        });
    }
}

#[test]
fn stale_output_is_never_added_to() {
    // an output of NaN would stay NaN if it were scaled by zero in place of being written
    let mut out = [f32::NAN; 2];
    let x = View::new(&[2.0, 3.0], Shape::new(1, 1, 1, 2)).unwrap();
    let to = ViewMut::new(&mut out, Shape::new(1, 1, 1, 2)).unwrap();
    let filter = Filter::io(&[1.0, 0.0, 0.0, 1.0], [2, 2]);
    pointwise_gemm(x, filter, None, Activation::Linear, to, Threads::Serial).unwrap();
    assert_eq!(out, [2.0, 3.0]);
}

/// The error of a call, after which the output is as it was.
fn refused(input: Shape, filter: Filter<'_>, bias: Option<&[f32]>, activation: Activation, output: Shape) -> Error {
    let x = vec![1.0; input.len().unwrap()];
    let mut out = vec![CANARY; output.len().unwrap()];
    let error = pointwise_gemm(
        View::new(&x, input).unwrap(),
        filter,
        bias,
        activation,
        ViewMut::new(&mut out, output).unwrap(),
        Threads::Serial,
    )
    .unwrap_err();
    assert!(out.iter().all(|&v| is_canary(v)), "{error}: something was written");
    error
}

#[test]
fn a_batch_of_no_images_writes_nothing() {
    let (weights, mut out) = ([1.0; 12], [CANARY; 9]);
    let [input, output] = [3, 4].map(|c| Shape::new(0, 2, 2, c));
    for count in [1, 2] {
        let filter = Filter::io(&weights, [3, 4]);
        let (from, to) = (View::new(&[], input).unwrap(), ViewMut::new(&mut out, output).unwrap());
        pointwise_gemm(from, filter, Some(&[1.0; 4]), Activation::Relu, to, threads(count)).unwrap();
    }
    assert!(out.iter().all(|&v| is_canary(v)));
}

#[test]
fn wrong_input_is_refused_before_anything_is_written() {
    let (input, output) = (Shape::new(1, 2, 2, 3), Shape::new(1, 2, 2, 4));
    let weights = [1.0; 12];
    let good = Filter::io(&weights, [3, 4]);

    let short = refused(input, Filter::io(&weights[..11], [3, 4]), None, Activation::Linear, output);
    assert!(matches!(short, Error::Length { expected: 12, got: 11, .. }), "{short}");

    let bias = refused(input, good, Some(&[0.0; 3]), Activation::Linear, output);
    assert!(matches!(bias, Error::Length { expected: 4, got: 3, .. }), "{bias}");

    let channels = refused(Shape::new(1, 2, 2, 5), good, None, Activation::Linear, output);
    assert!(matches!(channels, Error::Channels { expected: 3, got: 5, .. }), "{channels}");

    let shape = refused(input, good, None, Activation::Linear, Shape::new(1, 2, 1, 4));
    assert!(matches!(shape, Error::ShapeMismatch { what: "output", expected, .. } if expected == output), "{shape}");

    let depthwise = refused(input, Filter::depthwise_hwc(&weights[..3], [1, 1, 3]), None, Activation::Linear, output);
    assert!(matches!(depthwise, Error::FilterOrder { .. }), "{depthwise}");

    let window = [1.0; 9 * 12];
    let window = refused(input, Filter::hwio(&window, [3, 3, 3, 4]), None, Activation::Linear, output);
    assert!(matches!(window, Error::FilterOrder { .. } | Error::Value { .. }), "{window}");

    let clamp = refused(input, good, None, Activation::Clamp { min: 1.0, max: 0.0 }, output);
    assert!(matches!(clamp, Error::Value { .. }), "{clamp}");
}

#[test]
fn a_single_pixel_may_have_any_stride() {
    let (x, weights) = ([1.0, 2.0, 3.0], [1.0; 12]);
    for stride in [4, usize::MAX / 8 + 1, 1 << (usize::BITS - 1), usize::MAX - 4] {
        let mut out = [CANARY; 5];
        let (from, to) = (Shape::new(1, 1, 1, 3), Shape::new(1, 1, 1, 4));
        let input = View::with_pixel_stride(&x, from, stride).unwrap();
        let output = ViewMut::with_pixel_stride(&mut out, to, stride).unwrap();
        pointwise_gemm(input, Filter::io(&weights, [3, 4]), None, Activation::Linear, output, Threads::Serial).unwrap();
        assert_eq!(out[..4], [6.0; 4], "stride {stride}");
        assert!(is_canary(out[4]));
    }
}
