//! What a network is made of, before it has weights.

use core::fmt::Arguments;

use super::Weights;
use super::weights::LayerWeights;
use crate::memory::{push, text};
use crate::{
    Activation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Error, GlobalAveragePool, GraphBuilder, InvertedResidual,
    InvertedResidualDesc, Layer, Network, Padding, PointwiseConv2d, Result, SeparableConv2d, Shortcut, Value,
};

/// How planes are padded where the stride is 2. At stride 1 both add one pixel at each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StridePadding {
    /// [`Padding::Same`], as weights trained with TensorFlow expect: on an even plane one pixel at the bottom and one to the right.
    #[default]
    Same,
    /// One pixel at each side, as weights trained with PyTorch expect.
    Symmetric,
}

/// The layer that a network ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelOutput {
    /// The dense layer: N×1×1×classes, before any softmax.
    #[default]
    Logits,
    /// The global average pool: N×1×1×C.
    Features,
    /// The last convolution: N×H×W×C, with a pixel for each 32×32 pixels of the image.
    FeatureMap,
}

/// The options of a network. The default is width 1, logits of 1000 classes, ReLU6, and TensorFlow's padding and epsilon.
///
/// A file of weights does not say with which activation, padding and epsilon it was trained. Another one than the
/// training's is no error: the network computes slightly wrong results.
///
/// ```
/// use sepconv::Activation;
/// use sepconv::models::{Config, MobileNetV1, ModelOutput, StridePadding};
/// let config = Config::new().alpha(0.5).classes(10).padding(StridePadding::Symmetric).epsilon(1e-5);
/// assert_eq!(MobileNetV1::architecture(&config).unwrap().outputs(), 10);
/// let config = config.activation(Activation::Relu).output(ModelOutput::FeatureMap);
/// assert_eq!(MobileNetV1::architecture(&config).unwrap().outputs(), 512);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    alpha: f64,
    classes: usize,
    padding: StridePadding,
    activation: Activation,
    output: ModelOutput,
    epsilon: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            alpha: 1.0,
            classes: 1000,
            padding: StridePadding::Same,
            activation: Activation::Relu6,
            output: ModelOutput::Logits,
            epsilon: 1e-3,
        }
    }
}

impl Config {
    /// The widest network that is taken: its widest layer has two million channels.
    pub const MAX_ALPHA: f64 = 1024.0;
    /// The most classes that are taken.
    pub const MAX_CLASSES: usize = 1 << 24;

    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The width multiplier: the factor by which layers have more or fewer channels, above 0 and at most
    /// [`Config::MAX_ALPHA`]. Products are rounded as in the papers' code.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// How many classes the logits are for, 1 to [`Config::MAX_CLASSES`]; without [`ModelOutput::Logits`] the number is not
    /// used.
    pub fn classes(mut self, classes: usize) -> Self {
        self.classes = classes;
        self
    }

    /// How planes are padded at stride 2.
    pub fn padding(mut self, padding: StridePadding) -> Self {
        self.padding = padding;
        self
    }

    /// The activation of every layer but V2's projections and the dense layer, which are linear. V3 has activations of its own, and does not
    /// read this one. TensorFlow's weights of
    /// both networks and torchvision's of V2 were trained with ReLU6. V1's paper has ReLU, and so have weights that follow it.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// The layer that the network ends with. Weights of layers behind it are not asked for.
    pub fn output(mut self, output: ModelOutput) -> Self {
        self.output = output;
        self
    }

    /// What is added to the variance of a batch norm, at least 0: 1e-3 in TensorFlow's weights, 1e-5 in PyTorch's.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str, expected, got: String| Err(Error::Value { what: what.into(), expected, got });
        // a comparison with NaN is false
        if !(self.alpha > 0.0 && self.alpha <= Self::MAX_ALPHA) {
            return wrong("width multiplier alpha", "a number above 0 and at most 1024", self.alpha.to_string());
        }
        if self.output == ModelOutput::Logits && !(1..=Self::MAX_CLASSES).contains(&self.classes) {
            return wrong("classes", "1 to 16777216", self.classes.to_string());
        }
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return wrong("batch norm epsilon", "a finite number, at least 0", self.epsilon.to_string());
        }
        self.activation.check(|| "activation".into())
    }
}

/// What kind of convolution a layer is; a dense layer is one of a single pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConvKind {
    /// Every output channel reads every input channel.
    Standard,
    /// Every output channel reads its own input channel.
    Depthwise,
    /// 1×1.
    Pointwise,
    /// A matrix times the channels of one pixel.
    Dense,
}

/// One layer that has weights.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Convolution {
    /// The name, to which the names of its tensors are appended.
    pub name: String,
    /// Its kind.
    pub kind: ConvKind,
    /// Rows of the kernel, and columns.
    pub kernel: usize,
    /// Pixels that the window moves at each step, on both axes.
    pub stride: usize,
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it writes.
    pub outputs: usize,
    /// What is applied to the sum.
    pub activation: Activation,
}

impl Convolution {
    /// Values that one output is the weighted sum of.
    pub fn fan_in(&self) -> usize {
        self.kernel * self.kernel * if self.kind == ConvKind::Depthwise { 1 } else { self.inputs }
    }

    /// Weights and, once a batch norm is folded in, one bias for each output channel.
    pub fn parameters(&self) -> u64 {
        self.outputs as u64 * (self.fan_in() as u64 + 1)
    }
}

/// [Squeeze-and-excite](https://arxiv.org/abs/1709.01507): the mean of each channel goes through two layers, which make the scale of each
/// channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SqueezeExcite {
    /// From the channels to a quarter of them.
    pub reduce: Convolution,
    /// Back to the channels.
    pub expand: Convolution,
}

/// A part of a network that is planned as one operator; with squeeze-and-excite, as the nodes of a graph.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Block {
    /// A layer that stands alone: [`Conv2d`], [`DepthwiseConv2d`], [`PointwiseConv2d`] or [`Dense`], as its kind says.
    Single(Convolution),
    /// [`SeparableConv2d`].
    #[non_exhaustive]
    Separable {
        /// The first stage.
        depthwise: Convolution,
        /// The second stage.
        pointwise: Convolution,
    },
    /// [`InvertedResidual`].
    #[non_exhaustive]
    InvertedResidual {
        /// The first stage, where there is one. It need not be pointwise: the stem is the first stage of V2's first
        /// block.
        expand: Option<Convolution>,
        /// The second stage.
        depthwise: Convolution,
        /// Squeeze-and-excite, before the third stage.
        excite: Option<Box<SqueezeExcite>>,
        /// The third stage.
        project: Convolution,
        /// Whether the block's input is added to its output.
        shortcut: bool,
    },
    /// [`GlobalAveragePool`].
    #[non_exhaustive]
    GlobalAveragePool {
        /// Channels of its input.
        channels: usize,
    },
}

impl Block {
    /// Its layers that have weights, in the order in which they run.
    pub fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        match self {
            Block::Single(only) => [Some(only), None, None, None, None],
            Block::Separable { depthwise, pointwise } => [Some(depthwise), Some(pointwise), None, None, None],
            Block::InvertedResidual { expand, depthwise, excite, project, .. } => {
                let excite = excite.as_ref();
                let [reduce, back] = [excite.map(|excite| &excite.reduce), excite.map(|excite| &excite.expand)];
                [expand.as_ref(), Some(depthwise), reduce, back, Some(project)]
            }
            Block::GlobalAveragePool { .. } => [None; 5],
        }
        .into_iter()
        .flatten()
    }
}

/// The blocks of a network, and the options that it was described with: all but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    config: Config,
    blocks: Vec<Block>,
    outputs: usize,
}

impl Architecture {
    /// The blocks in the order in which they run.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The layers that have weights, in the order in which they run.
    pub fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        self.blocks.iter().flat_map(Block::convolutions)
    }

    /// Channels of the input: 3.
    pub fn inputs(&self) -> usize {
        IMAGE_CHANNELS
    }

    /// Channels of the output: the classes, or the channels of the last convolution.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Values of all filters and biases, once batch norms are folded in.
    pub fn parameters(&self) -> u64 {
        self.convolutions().map(Convolution::parameters).sum()
    }

    /// The network with these weights, packed for running.
    ///
    /// # Errors
    /// [`Error::Weights`] where a tensor is missing, of another shape than its layer asks for, or of a type that is not
    /// F32, F16 or BF16.
    pub fn network(&self, weights: &Weights<'_>) -> Result<Network> {
        // a network has a block or more
        self.network_of_taps(weights, &[self.blocks.len().saturating_sub(1)])
    }

    /// The network with these weights whose outputs are what these blocks compute, by their numbers: a backbone, of which each stage is an
    /// output. Blocks behind the last of them are left out, and their weights are not asked for.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// use sepconv::Shape;
    /// use sepconv::models::{Config, MobileNetV2, Weights};
    /// let architecture = MobileNetV2::architecture(&Config::new().alpha(0.35))?;
    /// let weights = Weights::seeded(&architecture, 1)?;
    /// // the last blocks at a fourth, an eighth, a sixteenth and a 32nd of the image
    /// let backbone = architecture.network_of_taps(&weights, &[2, 5, 12, 16])?;
    /// let shapes = backbone.output_shapes(&[Shape::new(1, 224, 224, 3)])?;
    /// assert_eq!(shapes.iter().map(|shape| shape.h).collect::<Vec<_>>(), [56, 28, 14, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Architecture::network`], and [`Error::Part`] of a block that is not there.
    pub fn network_of_taps(&self, weights: &Weights<'_>, taps: &[usize]) -> Result<Network> {
        let count = self.blocks.len();
        if let Some(&tap) = taps.iter().find(|&&tap| tap >= count) {
            return Err(Error::Part { axis: "blocks", len: count, start: tap, end: tap.saturating_add(1) });
        }
        let mut graph = Network::builder();
        let mut x = graph.input(self.inputs());
        let mut made = Vec::new();
        let last = taps.iter().copied().max().map_or(0, |last| last + 1);
        for block in &self.blocks[..last] {
            x = match block {
                Block::InvertedResidual { excite: Some(excite), .. } => {
                    self.excited(&mut graph, x, block, excite, weights)?
                }
                _ => graph.layer(x, self.layer(block, weights)?)?,
            };
            push("network", &mut made, x)?;
        }
        taps.iter().for_each(|&tap| graph.output(made[tap]));
        graph.build()
    }

    /// The layers of an inverted residual with squeeze-and-excite.
    fn excited(
        &self,
        graph: &mut GraphBuilder,
        x: Value,
        block: &Block,
        excite: &SqueezeExcite,
        weights: &Weights<'_>,
    ) -> Result<Value> {
        let Block::InvertedResidual { expand, depthwise, project, shortcut, .. } = block else { return Ok(x) };
        let mut conv = |x, layer| graph.conv(x, self.describe(&weights.layer(layer)?));
        let mut wide = x;
        if let Some(expand) = expand {
            wide = conv(wide, expand)?;
        }
        wide = conv(wide, depthwise)?;
        let mut scale = graph.global_average_pool(wide)?;
        for layer in [&excite.reduce, &excite.expand] {
            scale = graph.dense(scale, self.describe(&weights.layer(layer)?))?;
        }
        let scaled = graph.scale(wide, scale)?;
        let made = graph.conv(scaled, self.describe(&weights.layer(project)?))?;
        if *shortcut { graph.add(made, x, Activation::Linear) } else { Ok(made) }
    }

    /// A layer as an operator takes it.
    fn describe<'w>(&self, layer: &'w LayerWeights<'_>) -> ConvDesc<'w> {
        let padding = match self.config.padding {
            // at stride 1 the two are the same
            StridePadding::Symmetric if layer.stride() > 1 => Padding::all(layer.kernel() / 2),
            _ => Padding::Same,
        };
        layer.describe(self.config.epsilon).padding(padding)
    }

    fn layer(&self, block: &Block, weights: &Weights<'_>) -> Result<Layer> {
        let load = |layer| weights.layer(layer);
        Ok(match block {
            Block::Single(only) => {
                let loaded = load(only)?;
                let description = self.describe(&loaded);
                match only.kind {
                    ConvKind::Standard => Conv2d::new(description)?.into(),
                    ConvKind::Depthwise => DepthwiseConv2d::new(description)?.into(),
                    ConvKind::Pointwise => PointwiseConv2d::new(description)?.into(),
                    ConvKind::Dense => Dense::new(description)?.into(),
                }
            }
            Block::Separable { depthwise, pointwise } => {
                let (depthwise, pointwise) = (load(depthwise)?, load(pointwise)?);
                SeparableConv2d::new(self.describe(&depthwise), self.describe(&pointwise))?.into()
            }
            Block::InvertedResidual { expand, depthwise, project, shortcut, .. } => {
                let expand = expand.as_ref().map(load).transpose()?;
                let (depthwise, project) = (load(depthwise)?, load(project)?);
                let shortcut = if *shortcut { Shortcut::Required } else { Shortcut::None };
                let mut description =
                    InvertedResidualDesc::new(self.describe(&depthwise), self.describe(&project)).shortcut(shortcut);
                if let Some(expand) = &expand {
                    description = description.expand(self.describe(expand));
                }
                InvertedResidual::new(description)?.into()
            }
            Block::GlobalAveragePool { channels } => GlobalAveragePool::new(*channels)?.into(),
        })
    }
}

/// Channels of an image.
const IMAGE_CHANNELS: usize = 3;

/// Lays one convolution after the other, so that the channels of each follow from those before.
pub(super) struct Builder {
    config: Config,
    blocks: Vec<Block>,
    channels: usize,
}

impl Builder {
    pub(super) fn new(config: &Config) -> Result<Self> {
        config.check()?;
        Ok(Builder { config: config.clone(), blocks: Vec::new(), channels: IMAGE_CHANNELS })
    }

    /// The width multiplier, checked.
    pub(super) fn alpha(&self) -> f64 {
        self.config.alpha
    }

    /// Channels that the last layer writes.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    fn convolution(
        &mut self,
        name: Arguments<'_>,
        kind: ConvKind,
        outputs: usize,
        stride: usize,
    ) -> Result<Convolution> {
        let kernel = match kind {
            ConvKind::Standard | ConvKind::Depthwise => 3,
            ConvKind::Pointwise | ConvKind::Dense => 1,
        };
        let inputs = core::mem::replace(&mut self.channels, outputs);
        let name = text(name)?;
        Ok(Convolution { name, kind, kernel, stride, inputs, outputs, activation: self.config.activation })
    }

    /// 3×3 at stride 2, then the activation.
    pub(super) fn stem(&mut self, outputs: usize) -> Result<Convolution> {
        self.convolution(format_args!("stem"), ConvKind::Standard, outputs, 2)
    }

    /// A layer over one pixel.
    pub(super) fn dense(&mut self, name: Arguments<'_>, outputs: usize, activation: Activation) -> Result<Convolution> {
        Ok(Convolution { activation, ..self.convolution(name, ConvKind::Dense, outputs, 1)? })
    }

    /// 3×3 of each channel, then the activation.
    pub(super) fn depthwise(&mut self, block: usize, stride: usize) -> Result<Convolution> {
        self.convolution(format_args!("block{block}.depthwise"), ConvKind::Depthwise, self.channels, stride)
    }

    /// 1×1, then the activation.
    pub(super) fn pointwise(&mut self, name: Arguments<'_>, outputs: usize) -> Result<Convolution> {
        self.convolution(name, ConvKind::Pointwise, outputs, 1)
    }

    pub(super) fn push(&mut self, block: Block) -> Result<()> {
        push("network", &mut self.blocks, block)
    }

    /// The pool and the dense layer, as far as the output asks for them.
    pub(super) fn finish(self) -> Result<Architecture> {
        self.finish_behind(None)
    }

    /// The pool, a layer of so many channels with this activation if there is one, and the dense layer, as far as the output asks for them.
    pub(super) fn finish_behind(mut self, hidden: Option<(usize, Activation)>) -> Result<Architecture> {
        if self.config.output != ModelOutput::FeatureMap {
            self.push(Block::GlobalAveragePool { channels: self.channels })?;
        }
        if self.config.output == ModelOutput::Logits {
            if let Some((outputs, activation)) = hidden {
                let hidden = self.dense(format_args!("hidden"), outputs, activation)?;
                self.push(Block::Single(hidden))?;
            }
            let classes = self.config.classes;
            let head = self.dense(format_args!("head"), classes, Activation::Linear)?;
            self.push(Block::Single(head))?;
        }
        Ok(Architecture { config: self.config, blocks: self.blocks, outputs: self.channels })
    }
}
