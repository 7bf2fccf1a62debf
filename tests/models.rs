//! MobileNetV1 and V2: what their papers say of their cost, and what is wrong with a file of weights.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView, serialize};
use sepconv::models::{Architecture, Config, MobileNetV1, MobileNetV2, StridePadding, WeightOrder, Weights};
use sepconv::{Error, PlanOptions, Shape, View, ViewMut};

/// Multiply-accumulates in millions and parameters in millions, at a resolution.
fn cost(architecture: &Architecture, size: usize) -> (f64, f64) {
    let weights = Weights::seeded(architecture, 0).unwrap();
    let network = architecture.network(&weights).unwrap();
    let plan = network.plan(Shape::new(1, size, size, 3), &PlanOptions::new()).unwrap();
    (plan.macs() as f64 / 1e6, architecture.parameters() as f64 / 1e6)
}

#[track_caller]
fn assert_cost(architecture: &Architecture, size: usize, macs: f64, parameters: f64, tolerance: f64) {
    let got = cost(architecture, size);
    assert!((got.0 - macs).abs() <= tolerance * macs, "{} M MACs, the paper has {macs}", got.0);
    assert!((got.1 - parameters).abs() <= 0.03 * parameters, "{} M parameters, the paper has {parameters}", got.1);
}

#[test]
fn costs_are_those_of_the_papers() {
    let v1 = |alpha| MobileNetV1::architecture(&Config::new().alpha(alpha)).unwrap();
    let v2 = |alpha| MobileNetV2::architecture(&Config::new().alpha(alpha)).unwrap();
    // arXiv 1704.04861, tables 6, 7 and 8
    assert_cost(&v1(1.0), 224, 569.0, 4.2, 0.005);
    assert_cost(&v1(0.5), 160, 76.0, 1.32, 0.02);
    assert_cost(&v1(0.25), 224, 41.0, 0.47, 0.02);
    // arXiv 1801.04381, table 4
    assert_cost(&v2(1.0), 224, 300.0, 3.4, 0.005);
    // the paper says 6.9 M parameters; the table beside the authors' code, whose rounding this follows, says 6.06
    assert_cost(&v2(1.4), 224, 585.0, 6.06, 0.01);
}

#[test]
fn any_width_resolution_class_count_and_padding_runs() {
    for (alpha, size, classes) in [(0.1, 32, 1), (0.35, 33, 7), (0.77, 47, 1000), (1.3, 50, 17)] {
        for padding in [StridePadding::Same, StridePadding::Symmetric] {
            let config = Config::new().alpha(alpha).classes(classes).padding(padding);
            for architecture in [MobileNetV1::architecture(&config), MobileNetV2::architecture(&config)] {
                let architecture = architecture.unwrap();
                let network = architecture.network(&Weights::seeded(&architecture, 3).unwrap()).unwrap();
                let input = Shape::new(2, size, size, 3);
                let plan = network.plan(input, &PlanOptions::new()).unwrap();
                assert_eq!(plan.output_shape(), Shape::new(2, 1, 1, classes));
                let image: Vec<f32> = (0..input.len().unwrap()).map(|i| (i as f32 * 0.37).sin()).collect();
                let mut logits = vec![f32::NAN; 2 * classes];
                let view = ViewMut::new(&mut logits, plan.output_shape()).unwrap();
                plan.run(View::new(&image, input).unwrap(), view, &mut plan.scratch().unwrap()).unwrap();
                assert!(logits.iter().all(|v| v.is_finite()), "{logits:?}");
            }
        }
    }
}

#[test]
fn options_out_of_range_are_errors() {
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        assert!(MobileNetV1::architecture(&Config::new().alpha(alpha)).is_err(), "{alpha}");
        assert!(MobileNetV2::architecture(&Config::new().alpha(alpha)).is_err(), "{alpha}");
    }
    assert!(MobileNetV1::architecture(&Config::new().classes(0)).is_err());
    assert!(MobileNetV2::architecture(&Config::new().epsilon(f64::NAN)).is_err());
}

/// A file with the tensors of a narrow V2, each after a change.
fn file(change: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>, &mut Dtype) -> bool) -> (Architecture, Vec<u8>) {
    let architecture = MobileNetV2::architecture(&Config::new().alpha(0.1).classes(3)).unwrap();
    let weights = Weights::seeded(&architecture, 5).unwrap();
    let tensors: HashMap<String, (Vec<usize>, Vec<u8>, Dtype)> = weights
        .tensors()
        .filter_map(|(name, shape)| {
            let values = weights.values(name).unwrap();
            let mut bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let (mut shape, mut dtype) = (shape.to_vec(), Dtype::F32);
            change(name, &mut shape, &mut bytes, &mut dtype).then(|| (name.to_owned(), (shape, bytes, dtype)))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes, dtype))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    (architecture, serialize(views, None).unwrap())
}

fn network_error(architecture: &Architecture, bytes: &[u8]) -> String {
    let weights = Weights::from_safetensors(bytes, WeightOrder::Hwio).unwrap();
    match architecture.network(&weights) {
        Err(Error::Weights(message)) => message,
        other => panic!("expected an error of weights, got {other:?}"),
    }
}

#[test]
fn a_whole_file_makes_the_same_network() {
    let (architecture, bytes) = file(|_, _, _, _| true);
    let run = |weights: &Weights<'_>| {
        let input = Shape::new(1, 32, 32, 3);
        let plan = architecture.network(weights).unwrap().plan(input, &PlanOptions::new()).unwrap();
        let mut out = vec![0.0; 3];
        let view = ViewMut::new(&mut out, plan.output_shape()).unwrap();
        plan.run(View::new(&[0.5; 32 * 32 * 3], input).unwrap(), view, &mut plan.scratch().unwrap()).unwrap();
        out
    };
    let from_file = run(&Weights::from_safetensors(&bytes, WeightOrder::Hwio).unwrap());
    assert_eq!(from_file, run(&Weights::seeded(&architecture, 5).unwrap()));
}

#[test]
fn a_missing_a_misshapen_and_a_foreign_tensor_are_named() {
    let (architecture, bytes) = file(|name, _, _, _| name != "block3.project.weight");
    let message = network_error(&architecture, &bytes);
    assert!(message.contains("block3.project.weight") && message.contains("no such tensor"), "{message}");

    let (architecture, bytes) = file(|name, shape, _, _| {
        if name == "block2.depthwise.weight" {
            shape.swap(0, 2);
        }
        true
    });
    let message = network_error(&architecture, &bytes);
    assert!(message.contains("block2.depthwise.weight: expected [3,3,48,1] f32, got [48,3,3,1] f32"), "{message}");

    let (architecture, bytes) = file(|name, _, _, dtype| {
        if name == "head.bias" {
            *dtype = Dtype::I32;
        }
        true
    });
    let message = network_error(&architecture, &bytes);
    assert!(message.contains("head.bias: expected [3] f32, got [3] i32"), "{message}");
}

#[test]
fn bytes_that_are_no_such_file_are_errors() {
    let (_, whole) = file(|_, _, _, _| true);
    let truncated = &whole[..whole.len() - 1];
    let mut absurd = whole.clone();
    absurd[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [&[][..], &[1, 2, 3], &whole[..8], &whole[..100], truncated, &absurd, &[0xff; 64]] {
        match Weights::from_safetensors(bytes, WeightOrder::Hwio) {
            Err(Error::Weights(message)) => assert!(message.contains("not a safetensors file"), "{message}"),
            other => panic!("expected an error, got {other:?}"),
        }
    }
}
