//! MobileNetV1: a standard convolution, then depthwise separable ones.

use super::architecture::Builder;
use super::{Architecture, Block, Config, Weights};
use crate::{Network, Result};

/// [MobileNetV1](https://arxiv.org/abs/1704.04861), table 1: a 3×3 stem at stride 2, 13 depthwise separable blocks with an
/// activation after each stage, the pool, and a dense layer.
///
/// At width `alpha` a layer of `c` channels has `max(⌊c × alpha⌋, 8)`, as in the authors' code.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::models::{Config, MobileNetV1};
/// let v1 = MobileNetV1::architecture(&Config::new())?;
/// assert_eq!(v1.parameters(), 4_221_032);
/// assert_eq!(v1.convolutions().nth(2).map(|c| c.name.as_str()), Some("block1.pointwise"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MobileNetV1 {}

/// Output channels and stride of each block, at width 1.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

impl MobileNetV1 {
    /// Its blocks and tensors, or an error where an option is out of range.
    pub fn architecture(config: &Config) -> Result<Architecture> {
        let mut builder = Builder::new(config)?;
        let alpha = builder.alpha();
        let scaled = |channels: usize| ((channels as f64 * alpha) as usize).max(8);

        let stem = builder.stem(scaled(32))?;
        builder.push(Block::Single(stem))?;
        for (block, (channels, stride)) in (1..).zip(BLOCKS) {
            let depthwise = builder.depthwise(block, stride)?;
            let pointwise = builder.pointwise(format_args!("block{block}.pointwise"), scaled(channels))?;
            builder.push(Block::Separable { depthwise, pointwise })?;
        }
        builder.finish()
    }

    /// The network with these weights: [`Architecture::network`] of [`MobileNetV1::architecture`].
    pub fn network(config: &Config, weights: &Weights<'_>) -> Result<Network> {
        Self::architecture(config)?.network(weights)
    }
}
