//! Weights by the names of layers: of a file, or seeded.

use std::borrow::Cow;

use sepconv::models::Weights;
use sepconv::{Activation, ConvDesc, Filter, Padding, Result};

/// The weights of a network.
#[derive(Debug)]
pub enum NamedTensors<'a> {
    /// Random ones, the same on every machine.
    Seeded,
    /// Those of a file, which names them as PyTorch does: `layer.weight`, in OIHW, and `layer.bias`.
    File(Weights<'a>),
}

/// A convolution with its weights.
#[derive(Clone, Debug)]
pub struct ConvTensors<'a> {
    /// OIHW, C1HW of a depthwise convolution.
    pub weight: Cow<'a, [f32]>,
    /// A value for each output.
    pub bias: Cow<'a, [f32]>,
    /// Rows of the window, and columns.
    pub kernel: usize,
    /// Pixels that the window moves.
    pub stride: usize,
    /// Channels that an output reads: 1 of a depthwise convolution.
    pub inputs: usize,
    /// Channels that it writes.
    pub outputs: usize,
    /// Whether each output reads the input of its own number.
    pub is_depthwise: bool,
    /// What is applied to the sum.
    pub activation: Activation,
}

impl NamedTensors<'_> {
    /// The standard convolution of this name.
    pub fn conv(
        &self,
        name: &str,
        kernel: usize,
        [inputs, outputs]: [usize; 2],
        activation: Activation,
    ) -> Result<ConvTensors<'_>> {
        let fan_in = kernel * kernel * inputs;
        // as wide as keeps the spread of values from layer to layer: a rectifier cuts off half of the variance
        let gain = if activation == Activation::Linear { 3.0 } else { 6.0 };
        let weight = self.values(name, "weight", outputs * fan_in, (gain / fan_in as f32).sqrt())?;
        let bias = self.values(name, "bias", outputs, 0.1)?;
        Ok(ConvTensors { weight, bias, kernel, stride: 1, inputs, outputs, is_depthwise: false, activation })
    }

    /// The depthwise convolution of this name.
    pub fn depthwise(
        &self,
        name: &str,
        kernel: usize,
        channels: usize,
        activation: Activation,
    ) -> Result<ConvTensors<'_>> {
        let conv = self.conv(name, kernel, [1, channels], activation)?;
        Ok(ConvTensors { is_depthwise: true, ..conv })
    }

    /// The tensor of this name; a seeded one has so many values, of at most `bound`.
    fn values(&self, layer: &str, part: &str, len: usize, bound: f32) -> Result<Cow<'_, [f32]>> {
        let name = format!("{layer}.{part}");
        match self {
            NamedTensors::File(weights) => weights.values(&name),
            NamedTensors::Seeded => {
                let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
                let mut rng = fastrand::Rng::with_seed(seed);
                Ok((0..len).map(|_| (2.0 * rng.f32() - 1.0) * bound).collect())
            }
        }
    }
}

impl ConvTensors<'_> {
    /// The same with another stride.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// The convolution as the library takes it, padded as PyTorch's networks are.
    pub fn desc(&self) -> ConvDesc<'_> {
        let &ConvTensors { kernel, inputs, outputs, .. } = self;
        let filter = if self.is_depthwise {
            Filter::depthwise_c1hw(&self.weight, [outputs, kernel, kernel], 1)
        } else {
            Filter::oihw(&self.weight, [outputs, inputs, kernel, kernel])
        };
        let padding = Padding::all(kernel / 2);
        ConvDesc::new(filter).bias(&self.bias).stride(self.stride).padding(padding).activation(self.activation)
    }
}
