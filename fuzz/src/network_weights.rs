//! Arbitrary bytes as a safetensors file, into both models: a network or an error, never a panic, and never more memory
//! than the file and the network account for. The bytes are the file, or they draw the types and the values of a whole
//! file's tensors.

use safetensors::tensor::{Dtype, TensorView};
use sepconv::models::{Architecture, Config, MobileNetV1, MobileNetV2, ModelOutput, WeightOrder, Weights};
use sepconv::{Error, PlanOptions, Shape, View, ViewMut};

use sepconv_test_support::asked::asked;

/// The narrowest networks there are, so that a valid file is short: V1 of 8 channels everywhere, and V2 without its
/// dense layer.
pub fn architectures() -> [Architecture; 2] {
    let config = Config::new().alpha(0.01).classes(3);
    [
        MobileNetV1::architecture(&config).expect("options in range"),
        MobileNetV2::architecture(&config.output(ModelOutput::Features)).expect("options in range"),
    ]
}

/// The first byte says which order filters lie in, whether the rest is a file or draws one, and if so, of which model
/// and with which parts.
pub fn check(data: &[u8]) -> String {
    let Some((&first, rest)) = data.split_first() else { return "nothing".into() };
    let order = if first & 1 == 0 { WeightOrder::Hwio } else { WeightOrder::Oihw };
    if first & 2 == 0 {
        return check_file(rest, order);
    }
    let [v1, v2] = architectures();
    check_drawn(rest, order, if first & 4 == 0 { &v1 } else { &v2 }, first & 8 != 0)
}

/// Tensors of a file: names, shapes and how many values.
pub type Listed = Vec<(String, Vec<usize>, usize)>;

/// The tensors of a model in an order of filters, with biases or with batch norms.
pub fn listed(architecture: &Architecture, order: WeightOrder, norms: bool) -> Listed {
    let seeded = Weights::seeded(architecture, 1).expect("memory for a small network");
    let mut tensors = Listed::new();
    for (name, shape) in seeded.tensors() {
        let shape = match (order, shape) {
            (WeightOrder::Oihw, &[h, w, c, 1]) if name.contains("depthwise") => vec![c, 1, h, w],
            (WeightOrder::Oihw, &[h, w, i, o]) => vec![o, i, h, w],
            _ => shape.to_vec(),
        };
        let len = shape.iter().product();
        match name.strip_suffix(".bias") {
            Some(layer) if norms => {
                for part in ["gamma", "beta", "mean", "variance"] {
                    tensors.push((format!("{layer}.{part}"), shape.clone(), len));
                }
            }
            _ => tensors.push((name.into(), shape, len)),
        }
    }
    tensors
}

/// A file of these tensors: each of the type and the bytes that `make` gives for its place and its number of values.
pub fn file_of(tensors: &Listed, mut make: impl FnMut(usize, &str, usize) -> (Dtype, Vec<u8>)) -> Vec<u8> {
    let made: Vec<_> = tensors.iter().enumerate().map(|(at, (name, _, len))| make(at, name, *len)).collect();
    let views = tensors.iter().zip(&made).map(|((name, shape, _), (dtype, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a shape of its bytes"))
    });
    safetensors::serialize(views, None).expect("tensors")
}

/// What the crate half makes of a value.
fn widened(dtype: Dtype, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (Dtype::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
        (Dtype::BF16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f32(),
        _ => panic!("{dtype} of {} bytes is no float of a file", bytes.len()),
    }
}

/// A whole file of a model, of types and values drawn from `data`. Unless a type is none of the three, it makes a network.
fn check_drawn(data: &[u8], order: WeightOrder, architecture: &Architecture, norms: bool) -> String {
    let mut draw = data.iter().copied().cycle();
    let tensors = listed(architecture, order, norms);
    let mut drawn = Vec::new();
    let file = file_of(&tensors, |_, _, len| {
        let dtype = match draw.next().unwrap_or(0) {
            255 => Dtype::F64,
            254 => Dtype::I16,
            byte => [Dtype::F32, Dtype::F16, Dtype::BF16][usize::from(byte % 3)],
        };
        let bytes: Vec<u8> = draw.by_ref().chain(core::iter::repeat(0)).take(len * dtype.bitsize() / 8).collect();
        drawn.push((dtype, bytes.clone()));
        (dtype, bytes)
    });
    let weights = Weights::from_safetensors(&file, order).expect("a whole file");
    let mut foreign = None;
    for ((name, ..), (dtype, bytes)) in tensors.iter().zip(&drawn) {
        if matches!(dtype, Dtype::F64 | Dtype::I16) {
            let error = weights.values(name).expect_err("no float of 32 or 16 bits").to_string();
            assert!(error.contains(name) && error.contains(&dtype.to_string().to_lowercase()), "{error}");
            foreign = Some(dtype);
            continue;
        }
        let got = weights.values(name).expect("floats");
        let expected = bytes.chunks(dtype.bitsize() / 8).map(|bytes| widened(*dtype, bytes));
        assert_eq!(got.len() * dtype.bitsize() / 8, bytes.len(), "{name}");
        for (&got, expected) in got.iter().zip(expected) {
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{name}: {got} {expected}"
            );
        }
    }
    match (architecture.network(&weights), foreign) {
        (Err(Error::Weights(_)), Some(_)) => {}
        // a batch norm may hold what divides by zero
        (Err(Error::Value { .. }), _) if norms => {}
        (Ok(_), None) => {}
        (other, foreign) => panic!("{foreign:?}: {:?}", other.map(|_| "a network")),
    }
    check_file(&file, order)
}

fn check_file(file: &[u8], order: WeightOrder) -> String {
    // a header becomes strings, shapes and a tree: its parser takes a few dozen bytes for each of its own
    let (weights, bytes) = asked(|| Weights::from_safetensors(file, order));
    assert!(bytes <= (64 << 10) + 200 * file.len(), "reading {} bytes of file took {bytes} bytes", file.len());
    let weights = match weights {
        Ok(weights) => weights,
        Err(Error::Weights(why)) => return format!("no file: {}", why.split(':').next().unwrap_or_default()),
        Err(other) => panic!("{other:?}"),
    };
    let mut outcome = String::new();
    for (name, architecture) in ["v1", "v2"].into_iter().zip(architectures()) {
        let (network, bytes) = asked(|| architecture.network(&weights));
        let room = 200 * architecture.parameters() as usize;
        assert!(bytes <= (256 << 10) + room, "{name}: a network of {} weights took {bytes} bytes", room / 200);
        match network {
            Ok(network) => {
                let image = Shape::new(1, 33, 32, 3);
                let plan = network.plan(image, &PlanOptions::new()).expect("a plan for an image");
                assert_eq!(plan.output_shape(), Shape::new(1, 1, 1, architecture.outputs()));
                let x = vec![0.5; 33 * 32 * 3];
                let mut y = vec![0.0; architecture.outputs()];
                plan.run(
                    View::new(&x, image).expect("an image"),
                    ViewMut::new(&mut y, plan.output_shape()).expect("an output"),
                    &mut plan.scratch().expect("scratch"),
                )
                .expect("a run");
                outcome += &format!("{name} ");
            }
            // a batch norm may hold what divides by zero
            Err(error @ (Error::Weights(_) | Error::Value { .. })) => {
                let text = error.to_string();
                outcome += &format!("{name}: {} ", text.split(':').take(2).collect::<Vec<_>>().join(":"));
            }
            Err(other) => panic!("{name}: {other:?}"),
        }
    }
    outcome
}
