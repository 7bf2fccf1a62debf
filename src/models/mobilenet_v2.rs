//! MobileNetV2: inverted residuals with linear bottlenecks.

use super::architecture::Builder;
use super::{Architecture, Block, Config, Convolution, Weights};
use crate::{Activation, Network, Result};

/// [MobileNetV2](https://arxiv.org/abs/1801.04381), table 2: a 3×3 stem at stride 2, 17 inverted residuals, a 1×1 convolution
/// to 1280 channels, the pool, and a dense layer.
///
/// At width `alpha` a layer of `c` channels has the multiple of 8 next to `c × alpha`, at least 8 and never below 90 %
/// of the product, as in the authors' code; the 1280 grow with `alpha` above 1 and do not shrink with it below.
///
/// The stem is the first stage of the first block, so that its output, the largest tensor of the network, need not go
/// to memory. Only where rounding gives stem and first block equally many channels (`alpha` below about 0.3), and so
/// the block a shortcut from the stem's output, the stem stands alone.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::models::{Config, MobileNetV2};
/// let v2 = MobileNetV2::architecture(&Config::new())?;
/// assert_eq!(v2.parameters(), 3_487_816);
/// assert_eq!(v2.convolutions().nth(3).map(|c| c.name.as_str()), Some("block1.expand"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MobileNetV2 {}

/// The factor of expansion, output channels at width 1, number of blocks, and stride of the first of them.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// The multiple of 8 next to `channels`, at least 8, and never more than 10 % down.
pub(super) fn divisible(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}

impl MobileNetV2 {
    /// Its blocks and tensors, or an error where an option is out of range.
    pub fn architecture(config: &Config) -> Result<Architecture> {
        let mut builder = Builder::new(config)?;
        let alpha = builder.alpha();
        let scaled = |channels: usize| divisible(channels as f64 * alpha);

        let stem = builder.stem(scaled(32))?;
        let mut stem = if scaled(STAGES[0].1) == stem.outputs {
            builder.push(Block::Single(stem))?;
            None
        } else {
            Some(stem)
        };
        let mut block = 0;
        for (factor, channels, blocks, first_stride) in STAGES {
            for i in 0..blocks {
                let stride = if i == 0 { first_stride } else { 1 };
                let inputs = builder.channels();
                let stem = stem.take();
                let shortcut = stride == 1 && inputs == scaled(channels);
                let expand = if factor == 1 {
                    stem
                } else {
                    Some(builder.pointwise(format_args!("block{block}.expand"), inputs * factor)?)
                };
                let depthwise = builder.depthwise(block, stride)?;
                let project = builder.pointwise(format_args!("block{block}.project"), scaled(channels))?;
                let project = Convolution { activation: Activation::Linear, ..project };
                builder.push(Block::InvertedResidual { expand, depthwise, excite: None, project, shortcut })?;
                block += 1;
            }
        }
        let last = builder.pointwise(format_args!("last"), if alpha > 1.0 { scaled(1280) } else { 1280 })?;
        builder.push(Block::Single(last))?;
        builder.finish()
    }

    /// The network with these weights: [`Architecture::network`] of [`MobileNetV2::architecture`].
    pub fn network(config: &Config, weights: &Weights<'_>) -> Result<Network> {
        Self::architecture(config)?.network(weights)
    }
}
