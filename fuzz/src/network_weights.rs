//! Arbitrary bytes as a safetensors file, into both models: a network or an error, never a panic, and never more memory
//! than the file and the network account for.

use sepconv::models::{Architecture, Config, MobileNetV1, MobileNetV2, WeightOrder, Weights};
use sepconv::{Error, PlanOptions, Shape, View, ViewMut};

use crate::asked::asked;

/// The narrowest networks there are, so that a valid file is short: V1 of 8 channels everywhere, and V2 without its
/// top.
pub fn architectures() -> [Architecture; 2] {
    let config = Config::new().alpha(0.01).classes(3);
    [
        MobileNetV1::architecture(&config).expect("options in range"),
        MobileNetV2::architecture(&config.include_top(false)).expect("options in range"),
    ]
}

/// The first byte says which order filters lie in, the rest is the file.
pub fn check(data: &[u8]) -> String {
    let Some((first, file)) = data.split_first() else { return "nothing".into() };
    let order = if first & 1 == 0 { WeightOrder::Hwio } else { WeightOrder::Oihw };
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
