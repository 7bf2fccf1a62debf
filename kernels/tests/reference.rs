//! The reference itself, against results that were worked out by hand, and its two arithmetics against their
//! definitions.

use sepconv_kernels::Arithmetic::{self, Fused, Separate};
use sepconv_kernels::Epilogue;
use sepconv_kernels::reference::{Conv, Tensor, TensorMut, Window, average_pool, clamp, conv, depthwise};
use sepconv_kernels_test_support::{Rng, ValueKind, same_bits};

fn tensor<T>(data: &[T], shape: [usize; 4]) -> Tensor<'_, T> {
    Tensor { data, shape, pixel_stride: shape[3] }
}

fn tensor_mut<T>(data: &mut [T], shape: [usize; 4]) -> TensorMut<'_, T> {
    TensorMut { data, shape, pixel_stride: shape[3] }
}

#[test]
fn a_standard_convolution_by_hand() {
    // 2×3 pixels of two channels; 2×2 kernel, stride 2×1, a row of padding above and a column to the left
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
    #[rustfmt::skip]
    let filter = [
        1.0, 100.0,   2.0, 0.0, // tap (0, 0): one row for each input, one column for each output
        3.0, 0.0,     4.0, 0.0, // (0, 1)
        5.0, 0.0,     6.0, 1.0, // (1, 0)
        7.0, 0.0,     8.0, 0.0, // (1, 1)
    ];
    let window = Window { kernel: [2, 2], stride: [2, 1], dilation: [1, 1], before: [1, 1] };
    for arithmetic in [Fused, Separate] {
        let mut out = [f32::NAN; 6];
        let desc = Conv { window, filter: &filter, bias: &[0.5, -1.0], epilogue: Epilogue::NONE, params: &[] };
        conv(&desc, tensor(&x, [1, 2, 3, 2]), None, tensor_mut(&mut out, [1, 1, 3, 2]), arithmetic);
        // (1, 1) of pixel 0 alone; then (1, 0) of the pixel before and (1, 1) of this one
        let first = 7.0 * 1.0 + 8.0 * 2.0 + 0.5;
        let second = 5.0 * 1.0 + 6.0 * 2.0 + 7.0 * 3.0 + 8.0 * 4.0 + 0.5;
        let third = 5.0 * 3.0 + 6.0 * 4.0 + 7.0 * 5.0 + 8.0 * 6.0 + 0.5;
        assert_eq!(out, [first, -1.0, second, 2.0 - 1.0, third, 4.0 - 1.0]);
    }
}

#[test]
fn residual_comes_before_the_clamp_and_strides_between_pixels_are_kept() {
    let x = [1.0, -7.0, 2.0];
    let residual = [10.0, -7.0, -7.0, -20.0];
    let mut out = [-7.0; 4];
    conv(
        &Conv {
            window: Window::POINT,
            filter: &[2.0],
            bias: &[1.0],
            epilogue: Epilogue::clamp([0.0, 6.0]),
            params: &[],
        },
        Tensor { data: &x, shape: [1, 1, 2, 1], pixel_stride: 2 },
        Some(Tensor { data: &residual, shape: [1, 1, 2, 1], pixel_stride: 3 }),
        TensorMut { data: &mut out, shape: [1, 1, 2, 1], pixel_stride: 3 },
        Fused,
    );
    assert_eq!(out, [6.0, -7.0, -7.0, 0.0]);
}

#[test]
fn a_depthwise_convolution_by_hand() {
    // 3 pixels of two channels, multiplier 2, 1×2 kernel, dilation 2
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let filter = [1.0, 10.0, 100.0, 1000.0, 2.0, 20.0, 200.0, 2000.0];
    let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 2], before: [0, 0] };
    let mut out = [0.0; 4];
    let desc = Conv { window, filter: &filter, bias: &[0.0, 0.0, 0.0, 0.5], epilogue: Epilogue::NONE, params: &[] };
    depthwise(&desc, tensor(&x, [1, 1, 3, 2]), tensor_mut(&mut out, [1, 1, 1, 4]), Separate);
    assert_eq!(out, [11.0, 110.0, 1400.0, 14000.5]);
}

#[test]
fn an_average_by_hand() {
    let x = [1.0, 10.0, 2.0, 20.0, 4.0, 40.0, -1.0, -10.0, 0.0, 0.0, 0.0, 0.0];
    let mut out = [0.0; 4];
    average_pool(tensor(&x, [2, 1, 3, 2]), tensor_mut(&mut out, [2, 1, 1, 2]));
    assert_eq!(out, [7.0 / 3.0, 70.0 / 3.0, -1.0 / 3.0, -10.0 / 3.0]);
}

/// One sum over `k`, the plainest way there is, in the order of the contract.
fn one_sum(x: &[f32], w: &[f32], bias: f32, arithmetic: Arithmetic) -> f32 {
    x.iter().zip(w).fold(bias, |acc, (&x, &w)| match arithmetic {
        Fused => x.mul_add(w, acc),
        Separate => acc + x * w,
        other => panic!("no definition of {other:?}"),
    })
}

#[test]
fn order_and_rounding_are_the_contract_s() {
    let rng = &mut Rng(1);
    let (mut differ, k, n) = (0, 61, 19);
    for round in 0..50 {
        let kind = [ValueKind::Plain, ValueKind::Tiny, ValueKind::Special][round % 3];
        let (x, w, b) = (rng.values(k, kind), rng.values(k * n, kind), rng.values(n, kind));
        let mut bits = [[0.0; 19]; 2];
        for (arithmetic, out) in [Fused, Separate].into_iter().zip(&mut bits) {
            let desc = Conv { window: Window::POINT, filter: &w, bias: &b, epilogue: Epilogue::NONE, params: &[] };
            conv(&desc, tensor(&x, [1, 1, 1, k]), None, tensor_mut(out, [1, 1, 1, n]), arithmetic);
            for o in 0..n {
                let column: Vec<f32> = (0..k).map(|i| w[i * n + o]).collect();
                let expected = one_sum(&x, &column, b[o], arithmetic);
                assert!(
                    same_bits(out[o], expected),
                    "{arithmetic:?}, {kind:?}: expected {expected:e}, got {:e}",
                    out[o]
                );
            }
        }
        differ += (0..n).filter(|&o| !same_bits(bits[0][o], bits[1][o])).count();
    }
    assert!(differ > 100, "the two arithmetics must tell apart what rounds once and what rounds twice");
}

#[test]
fn rounding_once_is_exact_where_rounding_twice_is_not() {
    // (1 + 2⁻²³)² = 1 + 2⁻²² + 2⁻⁴⁶: the last term is what a product that is rounded loses
    let x = 1.0 + f32::EPSILON;
    let bias = -(1.0 + 2.0 * f32::EPSILON);
    for (arithmetic, expected) in [(Fused, f32::EPSILON * f32::EPSILON), (Separate, 0.0)] {
        let mut out = [f32::NAN];
        let desc = Conv { window: Window::POINT, filter: &[x], bias: &[bias], epilogue: Epilogue::NONE, params: &[] };
        conv(&desc, tensor(&[x], [1; 4]), None, tensor_mut(&mut out, [1; 4]), arithmetic);
        assert_eq!(out, [expected]);
    }
}

#[test]
fn a_call_and_an_instruction_round_alike() {
    // what no_std and CPUs without the instruction use, against what this CPU uses; ties and denormals among them
    let rng = &mut Rng(2);
    for i in 0..200_000 {
        let scale = |rng: &mut Rng| f32::from_bits((rng.next_u64() >> 32) as u32);
        let (x, w, acc) = match i % 3 {
            0 => (rng.float(), rng.float(), rng.float()),
            1 => (scale(rng), scale(rng), scale(rng)),
            _ => {
                let (x, w) = (rng.float(), rng.float());
                // nearly cancels
                (x, w, -(x * w) * (1.0 + f32::EPSILON * rng.below(3) as f32))
            }
        };
        let mut out = [f32::NAN];
        let desc = Conv { window: Window::POINT, filter: &[w], bias: &[acc], epilogue: Epilogue::NONE, params: &[] };
        conv(&desc, tensor(&[x], [1; 4]), None, tensor_mut(&mut out, [1; 4]), Fused);
        let expected = x.mul_add(w, acc);
        assert!(same_bits(out[0], expected), "{x:e} × {w:e} + {acc:e}: expected {expected:e}, got {:e}", out[0]);
        let call = libm::fmaf(x, w, acc);
        assert!(same_bits(call, expected), "libm: {x:e} × {w:e} + {acc:e}: expected {expected:e}, got {call:e}");
    }
}

#[test]
fn padding_takes_part_as_zero() {
    // 0 × ∞ is NaN, and a sum of −0 is lost to +0
    let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 1], before: [0, 1] };
    let mut out = [1.0];
    let desc = Conv { window, filter: &[f32::INFINITY, 1.0], bias: &[0.0], epilogue: Epilogue::NONE, params: &[] };
    conv(&desc, tensor(&[1.0], [1; 4]), None, tensor_mut(&mut out, [1; 4]), Fused);
    assert!(out[0].is_nan());
    let desc = Conv { window, filter: &[1.0, 1.0], bias: &[-0.0], epilogue: Epilogue::NONE, params: &[] };
    depthwise(&desc, tensor(&[-0.0], [1; 4]), tensor_mut(&mut out, [1; 4]), Separate);
    assert_eq!(out[0].to_bits(), 0);
}

#[test]
fn the_clamp_lets_nan_and_negative_zero_through() {
    assert!(clamp(f32::NAN, [0.0, 6.0]).is_nan());
    assert_eq!(clamp(-0.0f32, [0.0, 6.0]).to_bits(), (-0.0f32).to_bits());
    assert_eq!(clamp(0.0f32, [f32::NEG_INFINITY, -0.0]).to_bits(), 0);
    assert_eq!(clamp(7.0f32, [0.0, 6.0]), 6.0);
    assert_eq!(clamp(-7.0f32, [0.0, 6.0]), 0.0);
    assert_eq!(clamp(f32::INFINITY, [f32::NEG_INFINITY, f32::INFINITY]), f32::INFINITY);
}

#[test]
fn f64_takes_the_same_loops() {
    let x: Vec<f64> = (0..12).map(f64::from).collect();
    let filter = [1.0, 1e-12];
    let window = Window { kernel: [1, 2], stride: [2, 2], dilation: [1, 1], before: [0, 0] };
    let mut out = [0.0; 2];
    let desc =
        Conv { window, filter: &filter, bias: &[1.0], epilogue: Epilogue::clamp([0.0, f32::INFINITY]), params: &[] };
    conv(&desc, tensor(&x, [1, 3, 4, 1]), None, tensor_mut(&mut out[..], [1, 2, 1, 1]), Separate);
    assert_eq!(out, [1.0 + 1e-12, 9.0 + 9e-12]);
}
