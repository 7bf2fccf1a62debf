//! The networks on real photos: what they see, and how far they are from a forward pass in f64.
//!
//! Models and photos are fetched on first use, as the example does; without them these tests fail.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use sepconv::models::{Config, MobileNetV1, MobileNetV2, ModelOutput, Weights};
use sepconv::{Network, PlanOptions, Shape, View, ViewMut};
use sepconv_examples::{assets, graph_def, keras, photo};

/// A plane in f64: `h × w` pixels of `c` channels.
#[derive(Clone)]
struct PhotoPlane {
    h: usize,
    w: usize,
    c: usize,
    values: Vec<f64>,
}

/// What follows the sum of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Relu6,
    Nothing,
}

/// The networks in f64, written from the papers and from nothing in `src`: weights as the files hold them, every sum by
/// its definition, batch norms not folded.
struct Exact<'w> {
    weights: &'w Weights<'w>,
    shapes: HashMap<&'w str, &'w [usize]>,
}

impl<'w> Exact<'w> {
    fn new(weights: &'w Weights<'w>) -> Self {
        Exact { weights, shapes: weights.tensors().collect() }
    }

    fn tensor(&self, layer: &str, part: &str) -> Option<Vec<f64>> {
        let values = self.weights.values(&format!("{layer}.{part}")).ok()?;
        Some(values.iter().copied().map(f64::from).collect())
    }

    /// A convolution, padded so that only every `s`-th pixel is left out: half before, the odd one after.
    fn layer(&self, x: &PhotoPlane, name: &str, s: usize, then: Then) -> PhotoPlane {
        let filter = self.tensor(name, "weight").unwrap();
        let [k, _, inputs, last] = *self.shapes[format!("{name}.weight").as_str()] else { panic!("{name}") };
        let depthwise = name.ends_with("depthwise");
        let outputs = if depthwise { inputs } else { last };
        assert_eq!(x.c, inputs, "{name}");
        let bias = self.tensor(name, "bias");
        let norm = ["gamma", "beta", "mean", "variance"].map(|part| self.tensor(name, part));
        let (h, w) = (x.h.div_ceil(s), x.w.div_ceil(s));
        let before = |out: usize, size: usize| ((out - 1) * s + k).saturating_sub(size) / 2;
        let (top, left) = (before(h, x.h), before(w, x.w));
        let mut values = vec![0.0; h * w * outputs];
        values.par_chunks_mut(outputs).enumerate().for_each(|(at, sums)| {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let (y, x_at) = (at / w * s + ky, at % w * s + kx);
                if y < top || x_at < left || y - top >= x.h || x_at - left >= x.w {
                    continue;
                }
                let pixel = &x.values[((y - top) * x.w + x_at - left) * inputs..][..inputs];
                let tap = &filter[(ky * k + kx) * inputs * last..][..inputs * last];
                if depthwise {
                    for ((sum, value), weight) in sums.iter_mut().zip(pixel).zip(tap) {
                        *sum += value * weight;
                    }
                } else {
                    for (value, weights) in pixel.iter().zip(tap.chunks_exact(outputs)) {
                        sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
                    }
                }
            }
            for (o, sum) in sums.iter_mut().enumerate() {
                if let Some(bias) = &bias {
                    *sum += bias[o];
                }
                if let [Some(gamma), Some(beta), Some(mean), Some(variance)] = &norm {
                    *sum = gamma[o] * (*sum - mean[o]) / (variance[o] + 1e-3).sqrt() + beta[o];
                }
                if then == Then::Relu6 {
                    *sum = sum.clamp(0.0, 6.0);
                }
            }
        });
        PhotoPlane { h, w, c: outputs, values }
    }

    /// The mean of all pixels, and what the head makes of it: features and logits.
    fn top(&self, x: &PhotoPlane) -> (Vec<f64>, Vec<f64>) {
        let mean = |c| x.values.iter().skip(c).step_by(x.c).sum::<f64>() / (x.h * x.w) as f64;
        let features: Vec<f64> = (0..x.c).map(mean).collect();
        let (filter, mut logits) = (self.tensor("head", "weight").unwrap(), self.tensor("head", "bias").unwrap());
        let outputs = logits.len();
        for (feature, weights) in features.iter().zip(filter.chunks_exact(outputs)) {
            logits.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += feature * weight);
        }
        (features, logits)
    }

    /// Features and logits of MobileNetV1, table 1 of its paper.
    fn v1(&self, x: &PhotoPlane) -> (Vec<f64>, Vec<f64>) {
        let mut x = self.layer(x, "stem", 2, Then::Relu6);
        for (block, stride) in (1..).zip([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]) {
            x = self.layer(&x, &format!("block{block}.depthwise"), stride, Then::Relu6);
            x = self.layer(&x, &format!("block{block}.pointwise"), 1, Then::Relu6);
        }
        self.top(&x)
    }

    /// Features and logits of MobileNetV2, table 2 of its paper.
    fn v2(&self, x: &PhotoPlane) -> (Vec<f64>, Vec<f64>) {
        let mut x = self.layer(x, "stem", 2, Then::Relu6);
        for (block, stride) in [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1].into_iter().enumerate() {
            let input = x.clone();
            if block > 0 {
                x = self.layer(&x, &format!("block{block}.expand"), 1, Then::Relu6);
            }
            x = self.layer(&x, &format!("block{block}.depthwise"), stride, Then::Relu6);
            x = self.layer(&x, &format!("block{block}.project"), 1, Then::Nothing);
            if stride == 1 && input.c == x.c {
                x.values.iter_mut().zip(&input.values).for_each(|(sum, value)| *sum += value);
            }
        }
        self.top(&self.layer(&x, "last", 1, Then::Relu6))
    }
}

fn run(network: &Network, size: usize, pixels: &[f32]) -> Vec<f32> {
    let plan = network.plan(Shape::new(1, size, size, 3), &PlanOptions::new()).unwrap();
    let mut output = vec![f32::NAN; plan.output_shape().len().unwrap()];
    let input = View::new(pixels, plan.input_shape()).unwrap();
    let view = ViewMut::new(&mut output, plan.output_shape()).unwrap();
    plan.run(input, view, &mut plan.scratch().unwrap()).unwrap();
    output
}

fn plane(pixels: &[f32], size: usize) -> PhotoPlane {
    PhotoPlane { h: size, w: size, c: 3, values: pixels.iter().copied().map(f64::from).collect() }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|v| (v - max).exp()).sum();
    logits.iter().map(|v| (v - max).exp() / sum).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Asserts that no value is further than 1e-4 from the exact one.
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
    let weights = graph_def::mobilenet_v1(&assets::V1.read().unwrap()).unwrap();
    let labels: HashMap<usize, String> = serde_json::from_slice(&assets::LABELS.read().unwrap()).unwrap();
    let network = MobileNetV1::network(&Config::new().classes(1001), &weights).unwrap();
    for path in assets::PHOTOS.paths().unwrap() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let pixels = photo::read(&path, 224).unwrap();
        let logits = wide(&run(&network, 224, &pixels));
        let (_, exact) = Exact::new(&weights).v1(&plane(&pixels, 224));
        assert_close(&format!("logits of {name}"), &logits, &exact);
        let probabilities = softmax(&logits);
        let best = top(&probabilities, 3);
        // class 0 is the background
        let seen: Vec<&str> = best.iter().map(|&class| labels[&(class - 1)].as_str()).collect();
        match name {
            "coffee.png" => {
                assert_eq!(seen[0], "espresso");
                assert!(probabilities[best[0]] > 0.9, "{}", probabilities[best[0]]);
            }
            "chelsea.png" => {
                assert_eq!(seen[0], "Egyptian cat");
                assert!(seen.contains(&"tabby, tabby cat"), "{seen:?}");
            }
            "astronaut.png" => {}
            _ => panic!("nothing is known of {name}"),
        }
    }
}

#[test]
fn v2_agrees_with_the_forward_pass_in_f64() {
    let weights = keras::mobilenet_v2(&assets::V2.read().unwrap()).unwrap();
    let config = Config::new().classes(keras::BREEDS.len());
    let network = MobileNetV2::network(&config, &weights).unwrap();
    let body = MobileNetV2::network(&config.output(ModelOutput::Features), &weights).unwrap();
    for path in assets::PHOTOS.paths().unwrap() {
        let pixels = photo::read(&path, 160).unwrap();
        let (features, logits) = Exact::new(&weights).v2(&plane(&pixels, 160));
        assert_close("features", &wide(&run(&body, 160, &pixels)), &features);
        let probabilities = softmax(&wide(&run(&network, 160, &pixels)));
        assert_close("probabilities", &probabilities, &softmax(&logits));
        // no photo shows a dog; but TensorFlow, on the same file, sees one with 0.70
        if path.ends_with("astronaut.png") {
            let best = top(&probabilities, 1)[0];
            assert_eq!(keras::BREEDS[best], "Chihuahua");
            assert!((0.6..0.8).contains(&probabilities[best]), "{}", probabilities[best]);
        }
    }
}

#[test]
fn a_file_that_is_no_photo_is_an_error() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-photo.png");
    std::fs::write(&path, "not a picture").unwrap();
    let message = format!("{:#}", photo::read(&path, 224).unwrap_err());
    assert!(message.contains("no-photo.png is not an image"), "{message}");
    let message = format!("{:#}", photo::read(Path::new("missing.png"), 224).unwrap_err());
    assert!(message.contains("cannot read missing.png"), "{message}");
}
