//! MobileNetV3: inverted residuals with squeeze-and-excite and hard-swish.

use super::architecture::Builder;
use super::mobilenet_v2::divisible;
use super::{Architecture, Block, Config, Convolution, SqueezeExcite, Weights};
use crate::memory::boxed;
use crate::{Activation, Network, Result};

/// Which of the two networks of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum V3Size {
    /// Table 1.
    Large,
    /// Table 2.
    Small,
}

/// [MobileNetV3](https://arxiv.org/abs/1905.02244), tables 1 and 2: a 3×3 stem at stride 2, 15 or 11 inverted residuals, some of them with
/// squeeze-and-excite, a 1×1 convolution, the pool, a layer of 1280 or 1024 channels, and a dense layer.
///
/// Channels are rounded as in [`MobileNetV2`](super::MobileNetV2). Squeeze-and-excite has a quarter of the channels inside, rounded so
/// too. As the weights that are published have it, there is none behind the last block of the small network, unlike in table 2.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::models::{Config, MobileNetV3, V3Size};
/// let large = MobileNetV3::architecture(V3Size::Large, &Config::new())?;
/// assert_eq!(large.parameters(), 5_470_832);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MobileNetV3 {}

/// An inverted residual: its window, expanded channels, output channels, whether it has squeeze-and-excite, and whether its activation is
/// hard-swish; and its stride.
struct V3Row(usize, usize, usize, bool, bool, usize);

/// With, and without.
const SE: bool = true;
const NO: bool = false;
/// Hard-swish, and ReLU.
const HS: bool = true;
const RE: bool = false;

const LARGE: [V3Row; 15] = [
    V3Row(3, 16, 16, NO, RE, 1),
    V3Row(3, 64, 24, NO, RE, 2),
    V3Row(3, 72, 24, NO, RE, 1),
    V3Row(5, 72, 40, SE, RE, 2),
    V3Row(5, 120, 40, SE, RE, 1),
    V3Row(5, 120, 40, SE, RE, 1),
    V3Row(3, 240, 80, NO, HS, 2),
    V3Row(3, 200, 80, NO, HS, 1),
    V3Row(3, 184, 80, NO, HS, 1),
    V3Row(3, 184, 80, NO, HS, 1),
    V3Row(3, 480, 112, SE, HS, 1),
    V3Row(3, 672, 112, SE, HS, 1),
    V3Row(5, 672, 160, SE, HS, 2),
    V3Row(5, 960, 160, SE, HS, 1),
    V3Row(5, 960, 160, SE, HS, 1),
];

const SMALL: [V3Row; 11] = [
    V3Row(3, 16, 16, SE, RE, 2),
    V3Row(3, 72, 24, NO, RE, 2),
    V3Row(3, 88, 24, NO, RE, 1),
    V3Row(5, 96, 40, SE, HS, 2),
    V3Row(5, 240, 40, SE, HS, 1),
    V3Row(5, 240, 40, SE, HS, 1),
    V3Row(5, 120, 48, SE, HS, 1),
    V3Row(5, 144, 48, SE, HS, 1),
    V3Row(5, 288, 96, SE, HS, 2),
    V3Row(5, 576, 96, SE, HS, 1),
    V3Row(5, 576, 96, SE, HS, 1),
];

impl MobileNetV3 {
    /// Its blocks and tensors, or an error where an option is out of range.
    pub fn architecture(size: V3Size, config: &Config) -> Result<Architecture> {
        let mut builder = Builder::new(config)?;
        let alpha = builder.alpha();
        let scaled = |channels: usize| divisible(channels as f64 * alpha);
        let (rows, last, hidden) = match size {
            V3Size::Large => (&LARGE[..], 960, 1280),
            V3Size::Small => (&SMALL[..], 576, 1024),
        };
        let stem = builder.stem(scaled(16))?;
        builder.push(Block::Single(Convolution { activation: Activation::HardSwish, ..stem }))?;
        for (block, &V3Row(kernel, expanded, outputs, excites, swishes, stride)) in rows.iter().enumerate() {
            let activation = if swishes { Activation::HardSwish } else { Activation::Relu };
            let (inputs, expanded, outputs) = (builder.channels(), scaled(expanded), scaled(outputs));
            let expand = if expanded == inputs {
                None
            } else {
                let expand = builder.pointwise(format_args!("block{block}.expand"), expanded)?;
                Some(Convolution { activation, ..expand })
            };
            let depthwise = Convolution { kernel, activation, ..builder.depthwise(block, stride)? };
            let excite = if excites {
                let inside = divisible((expanded / 4) as f64);
                let name = format_args!("block{block}.excite.reduce");
                let reduce = builder.dense(name, inside, Activation::Relu)?;
                let name = format_args!("block{block}.excite.expand");
                let expand = builder.dense(name, expanded, Activation::HardSigmoid)?;
                Some(boxed("network", SqueezeExcite { reduce, expand })?)
            } else {
                None
            };
            let project = builder.pointwise(format_args!("block{block}.project"), outputs)?;
            let project = Convolution { activation: Activation::Linear, ..project };
            let shortcut = stride == 1 && inputs == outputs;
            builder.push(Block::InvertedResidual { expand, depthwise, excite, project, shortcut })?;
        }
        let last = builder.pointwise(format_args!("last"), scaled(last))?;
        builder.push(Block::Single(Convolution { activation: Activation::HardSwish, ..last }))?;
        let hidden = if alpha > 1.0 { scaled(hidden) } else { hidden };
        builder.finish_behind(Some((hidden, Activation::HardSwish)))
    }

    /// The network with these weights: [`Architecture::network`] of [`MobileNetV3::architecture`].
    pub fn network(size: V3Size, config: &Config, weights: &Weights<'_>) -> Result<Network> {
        Self::architecture(size, config)?.network(weights)
    }
}
