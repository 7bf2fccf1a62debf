//! MobileNetV2 out of a Keras model in HDF5.

use anyhow::{Context, Result};
use hdf5_reader::Hdf5File;
use sepconv::models::{WeightOrder, Weights};

use super::BATCH_NORM;

/// What the model tells apart, in the order of its outputs: the classes of the label encoder beside it.
pub const BREEDS: [&str; 19] = [
    "Chihuahua",
    "Maltese dog",
    "Shih-Tzu",
    "papillon",
    "Yorkshire terrier",
    "West Highland white terrier",
    "golden retriever",
    "Labrador retriever",
    "Rottweiler",
    "German shepherd",
    "Doberman",
    "bull mastiff",
    "French bulldog",
    "Siberian husky",
    "pug",
    "Samoyed",
    "Pomeranian",
    "toy poodle",
    "miniature poodle",
];

/// The weights of MobileNetV2 under the names that `sepconv::models` gives them.
pub fn mobilenet_v2(bytes: &[u8]) -> Result<Weights<'static>> {
    let file = Hdf5File::from_bytes(bytes).context("not an HDF5 file")?;
    let mut weights = Weights::new(WeightOrder::Hwio);
    let mut take = |from: &str, to: &str| -> Result<()> {
        let path = format!("model_weights/{from}");
        let dataset = file.dataset(&path).with_context(|| format!("the file has no {path}"))?;
        let shape: Vec<usize> = dataset.shape().iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
        let mut values = vec![0f32; shape.iter().product()];
        dataset.read_into(&mut values).with_context(|| path)?;
        Ok(weights.insert(to, &shape, values)?)
    };
    let mut layer = |from: &str, batch_norm: &str, to: &str| -> Result<()> {
        take(&format!("mobilenetv2_1.00_160/{from}/kernel"), &format!("{to}.weight"))?;
        for (theirs, ours) in BATCH_NORM {
            take(&format!("mobilenetv2_1.00_160/{batch_norm}/{theirs}"), &format!("{to}.{ours}"))?;
        }
        Ok(())
    };
    layer("Conv1", "bn_Conv1", "stem")?;
    layer("Conv_1", "Conv_1_bn", "last")?;
    for block in 0..=16 {
        let theirs = if block == 0 { "expanded_conv".into() } else { format!("block_{block}") };
        for stage in ["expand", "depthwise", "project"] {
            if block > 0 || stage != "expand" {
                layer(&format!("{theirs}_{stage}"), &format!("{theirs}_{stage}_BN"), &format!("block{block}.{stage}"))?;
            }
        }
    }
    take("dense/dense/kernel", "head.weight")?;
    take("dense/dense/bias", "head.bias")?;
    Ok(weights)
}
