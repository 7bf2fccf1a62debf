//! The networks on real photos: what they see, and how far they are from a forward pass in f64.
//!
//! Models and photos are fetched on first use, as the example does; without them these tests fail.

#[path = "../examples/support/mod.rs"]
mod support;

use rayon::prelude::*;
use sepconv::models::{Block, Config, ConvKind, Convolution, MobileNetV1, MobileNetV2, Weights};
use sepconv::{Activation, Network, PlanOptions, Shape, View, ViewMut};
use support::{assets, graph_def, keras, photo};

/// A plane in f64: rows, columns, channels, values.
struct Plane {
    h: usize,
    w: usize,
    c: usize,
    values: Vec<f64>,
}

/// One layer by its definition: sum over the taps that are in the plane, batch norm as it is written, activation.
/// Padding is TensorFlow's SAME.
fn layer(x: &Plane, conv: &Convolution, weights: &Weights<'_>) -> Plane {
    let get = |part: &str| weights.values(&format!("{}.{part}", conv.name)).map(std::borrow::Cow::into_owned);
    let filter: Vec<f64> = get("weight").unwrap().into_iter().map(f64::from).collect();
    let bias = get("bias").ok();
    let norm = ["gamma", "beta", "mean", "variance"].map(get);
    let (k, s) = (conv.kernel, conv.stride);
    let (h, w) = (x.h.div_ceil(s), x.w.div_ceil(s));
    let before = |out: usize, size: usize| (((out - 1) * s + k).saturating_sub(size) / 2) as isize;
    let (top, left) = (before(h, x.h), before(w, x.w));
    let mut values = vec![0.0; h * w * conv.outputs];
    values.par_chunks_mut(w * conv.outputs).enumerate().for_each(|(oy, row)| {
        for (ox, sums) in row.chunks_mut(conv.outputs).enumerate() {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let (y, px) = ((oy * s + ky) as isize - top, (ox * s + kx) as isize - left);
                if y < 0 || px < 0 || y as usize >= x.h || px as usize >= x.w {
                    continue;
                }
                let pixel = &x.values[(y as usize * x.w + px as usize) * x.c..][..x.c];
                let tap = ky * k + kx;
                if conv.kind == ConvKind::Depthwise {
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum += pixel[c] * filter[tap * x.c + c];
                    }
                } else {
                    for (i, &value) in pixel.iter().enumerate() {
                        let weights = &filter[(tap * x.c + i) * conv.outputs..][..conv.outputs];
                        for (sum, weight) in sums.iter_mut().zip(weights) {
                            *sum += value * weight;
                        }
                    }
                }
            }
            for (o, sum) in sums.iter_mut().enumerate() {
                if let Some(bias) = &bias {
                    *sum += f64::from(bias[o]);
                }
                if let [Ok(gamma), Ok(beta), Ok(mean), Ok(variance)] = &norm {
                    let [gamma, beta, mean, variance] = [gamma[o], beta[o], mean[o], variance[o]].map(f64::from);
                    *sum = (*sum - mean) / (variance + 1e-3).sqrt() * gamma + beta;
                }
                if conv.activation == Activation::Relu6 {
                    *sum = sum.clamp(0.0, 6.0);
                }
            }
        }
    });
    Plane { h, w, c: conv.outputs, values }
}

/// The whole network; the second value is what the pool makes: the features.
fn forward(blocks: &[Block], weights: &Weights<'_>, mut x: Plane) -> (Vec<f64>, Vec<f64>) {
    let mut features = Vec::new();
    for block in blocks {
        if let Block::GlobalAveragePool { .. } = block {
            features =
                (0..x.c).map(|c| x.values.iter().skip(c).step_by(x.c).sum::<f64>() / (x.h * x.w) as f64).collect();
            x = Plane { h: 1, w: 1, c: x.c, values: features.clone() };
            continue;
        }
        let shortcut = matches!(block, Block::InvertedResidual { shortcut: true, .. });
        let before = shortcut.then(|| x.values.clone());
        for conv in block.convolutions() {
            x = layer(&x, conv, weights);
        }
        if let Some(before) = before {
            x.values.iter_mut().zip(&before).for_each(|(sum, b)| *sum += b);
        }
    }
    (x.values, features)
}

fn run(network: &Network, size: usize, pixels: &[f32]) -> Vec<f32> {
    let plan = network.plan(Shape::new(1, size, size, 3), &PlanOptions::new()).unwrap();
    let mut output = vec![f32::NAN; plan.output_shape().len().unwrap()];
    let input = View::new(pixels, plan.input_shape()).unwrap();
    let view = ViewMut::new(&mut output, plan.output_shape()).unwrap();
    plan.run(input, view, &mut plan.scratch().unwrap()).unwrap();
    output
}

fn plane(pixels: &[f32], size: usize) -> Plane {
    Plane { h: size, w: size, c: 3, values: pixels.iter().copied().map(f64::from).collect() }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|v| (v - max).exp()).sum();
    logits.iter().map(|v| (v - max).exp() / sum).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Asserts that no value is further than 1e-4 from the exact one, and says how far the furthest is.
#[track_caller]
fn assert_close(what: &str, got: &[f64], exact: &[f64]) {
    assert_eq!(got.len(), exact.len(), "{what}");
    // a NaN is further away than anything
    let distance = |(g, e): (&f64, &f64)| if g.is_nan() { f64::INFINITY } else { (g - e).abs() };
    let furthest = got.iter().zip(exact).map(distance).fold(0.0, f64::max);
    assert!(furthest <= 1e-4, "{what}: {furthest:e} from the forward pass in f64");
}

fn top(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(n);
    order
}

#[test]
fn v1_sees_what_is_on_the_photos() {
    let weights = graph_def::mobilenet_v1(&std::fs::read(assets::V1.path().unwrap()).unwrap()).unwrap();
    let labels: std::collections::HashMap<usize, String> =
        serde_json::from_slice(&std::fs::read(assets::LABELS.path().unwrap()).unwrap()).unwrap();
    let config = Config::new().classes(1001);
    let architecture = MobileNetV1::architecture(&config).unwrap();
    let network = architecture.network(&weights).unwrap();
    for asset in &assets::PHOTOS {
        let pixels = photo::read(&asset.path().unwrap(), 224).unwrap();
        let logits = wide(&run(&network, 224, &pixels));
        let (exact, _) = forward(architecture.blocks(), &weights, plane(&pixels, 224));
        assert_close(asset.name(), &logits, &exact);
        let probabilities = softmax(&logits);
        // class 0 is the background
        let seen: Vec<&str> = top(&probabilities, 3).iter().map(|&class| labels[&(class - 1)].as_str()).collect();
        match asset.name() {
            "coffee.png" => {
                assert_eq!(seen[0], "espresso");
                assert!(probabilities[top(&probabilities, 1)[0]] > 0.9, "{probabilities:?}");
            }
            "chelsea.png" => {
                assert_eq!(seen[0], "Egyptian cat");
                assert!(seen.contains(&"tabby, tabby cat"), "{seen:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn v2_agrees_with_the_forward_pass_in_f64() {
    let weights = keras::mobilenet_v2(&std::fs::read(assets::V2.path().unwrap()).unwrap()).unwrap();
    let config = Config::new().classes(keras::BREEDS.len());
    let architecture = MobileNetV2::architecture(&config).unwrap();
    let network = architecture.network(&weights).unwrap();
    let body = MobileNetV2::network(&config.include_top(false), &weights).unwrap();
    for asset in &assets::PHOTOS {
        let pixels = photo::read(&asset.path().unwrap(), 160).unwrap();
        let (exact, exact_features) = forward(architecture.blocks(), &weights, plane(&pixels, 160));
        assert_close("features", &wide(&run(&body, 160, &pixels)), &exact_features);
        assert_close("probabilities", &softmax(&wide(&run(&network, 160, &pixels))), &softmax(&exact));
    }
}

#[test]
fn a_file_that_is_no_photo_is_an_error() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-photo.png");
    std::fs::write(&path, "not a picture").unwrap();
    let message = format!("{:#}", photo::read(&path, 224).unwrap_err());
    assert!(message.contains("no-photo.png is not an image"), "{message}");
    let message = format!("{:#}", photo::read(std::path::Path::new("missing.png"), 224).unwrap_err());
    assert!(message.contains("cannot read missing.png"), "{message}");
}
