//! How a convolution is described: filter, bias or batch norm, window and activation.

use sepconv_kernels::Nonlinearity;

use crate::shape::ConvWindow;
use crate::{Error, Padding, Result};

/// The order in which a filter's values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilterLayout {
    Hwio,
    Hwoi,
    Oihw,
    Iohw,
    Ohwi,
    /// [`FilterLayout::DepthwiseHwcm`] of multiplier 1.
    DepthwiseHwc,
    DepthwiseHwcm,
    DepthwiseC1hw,
}

/// The values of a filter, with the order in which they lie. A constructor exists for each order, so nobody has to
/// guess.
///
/// Lengths are checked where the operator is made.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    data: &'a [f32],
    order: FilterLayout,
    kernel: [usize; 2],
    inputs: usize,
    /// Output channels; of a depthwise filter the multiplier.
    outputs: usize,
}

impl<'a> Filter<'a> {
    /// `[rows, columns, inputs, outputs]`: TensorFlow's convolution.
    pub const fn hwio(data: &'a [f32], [h, w, i, o]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::Hwio, kernel: [h, w], inputs: i, outputs: o }
    }

    /// `[outputs, inputs, rows, columns]`: PyTorch's and ONNX's convolution.
    pub const fn oihw(data: &'a [f32], [o, i, h, w]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::Oihw, kernel: [h, w], inputs: i, outputs: o }
    }

    /// `[rows, columns, outputs, inputs]`: TensorFlow's transposed convolution.
    pub const fn hwoi(data: &'a [f32], [h, w, o, i]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::Hwoi, kernel: [h, w], inputs: i, outputs: o }
    }

    /// `[inputs, outputs, rows, columns]`: PyTorch's and ONNX's transposed convolution.
    pub const fn iohw(data: &'a [f32], [i, o, h, w]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::Iohw, kernel: [h, w], inputs: i, outputs: o }
    }

    /// `[outputs, rows, columns, inputs]`: TensorFlow Lite's convolution.
    pub const fn ohwi(data: &'a [f32], [o, h, w, i]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::Ohwi, kernel: [h, w], inputs: i, outputs: o }
    }

    /// `[inputs, outputs]` of a 1×1 convolution or a dense layer: TensorFlow's order.
    pub const fn io(data: &'a [f32], [i, o]: [usize; 2]) -> Self {
        Self::hwio(data, [1, 1, i, o])
    }

    /// `[outputs, inputs]` of a 1×1 convolution or a dense layer: PyTorch's order.
    pub const fn oi(data: &'a [f32], [o, i]: [usize; 2]) -> Self {
        Self::oihw(data, [o, i, 1, 1])
    }

    /// `[rows, columns, channels]` of a depthwise convolution with multiplier 1; TensorFlow Lite's `1HWC` is the same.
    pub const fn depthwise_hwc(data: &'a [f32], [h, w, c]: [usize; 3]) -> Self {
        Filter { data, order: FilterLayout::DepthwiseHwc, kernel: [h, w], inputs: c, outputs: 1 }
    }

    /// `[rows, columns, channels, multiplier]`: TensorFlow's depthwise convolution. Output channel `c × multiplier + m`
    /// comes from input channel `c`.
    pub const fn depthwise_hwcm(data: &'a [f32], [h, w, c, m]: [usize; 4]) -> Self {
        Filter { data, order: FilterLayout::DepthwiseHwcm, kernel: [h, w], inputs: c, outputs: m }
    }

    /// `[channels × multiplier, 1, rows, columns]`: PyTorch's convolution with `groups = channels`.
    pub const fn depthwise_c1hw(data: &'a [f32], [c, h, w]: [usize; 3], multiplier: usize) -> Self {
        Filter { data, order: FilterLayout::DepthwiseC1hw, kernel: [h, w], inputs: c, outputs: multiplier }
    }

    /// Rows and columns of the kernel.
    pub const fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Channels that it reads.
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// Channels that it writes.
    pub fn outputs(&self) -> usize {
        if self.is_depthwise() { self.inputs.saturating_mul(self.outputs) } else { self.outputs }
    }

    pub(crate) fn is_depthwise(&self) -> bool {
        matches!(self.order, FilterLayout::DepthwiseHwc | FilterLayout::DepthwiseHwcm | FilterLayout::DepthwiseC1hw)
    }

    pub(crate) fn order_name(&self) -> &'static str {
        match self.order {
            FilterLayout::Hwio => "HWIO",
            FilterLayout::Hwoi => "HWOI",
            FilterLayout::Oihw => "OIHW",
            FilterLayout::Iohw => "IOHW",
            FilterLayout::Ohwi => "OHWI",
            FilterLayout::DepthwiseHwc => "depthwise HWC",
            FilterLayout::DepthwiseHwcm => "depthwise HWCM",
            FilterLayout::DepthwiseC1hw => "depthwise C1HW",
        }
    }

    /// The same values as a depthwise filter of so many channels: of a standard one that reads one channel a group.
    pub(crate) fn depthwise(&self, channels: usize) -> Filter<'a> {
        let order = match self.order {
            FilterLayout::Hwio | FilterLayout::Hwoi => FilterLayout::DepthwiseHwcm,
            _ => FilterLayout::DepthwiseC1hw,
        };
        Filter { order, inputs: channels, outputs: self.outputs / channels, ..*self }
    }

    /// An error where a size is zero, does not fit, or is not that of the data.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        let [h, w] = self.kernel;
        if h == 0 || w == 0 {
            return Err(Error::ZeroWindow { stage: what, what: "kernel" });
        }
        if self.inputs == 0 || self.outputs == 0 {
            return Err(Error::ZeroWindow { stage: what, what: "filter channels" });
        }
        let expected = h
            .checked_mul(w)
            .and_then(|v| v.checked_mul(self.inputs))
            .and_then(|v| v.checked_mul(self.outputs))
            .unwrap_or(usize::MAX);
        if self.data.len() != expected {
            let outputs = match self.order {
                FilterLayout::DepthwiseHwc => String::new(),
                _ => format!("×{}", self.outputs),
            };
            let sizes = format!("{what} filter {h}×{w}×{}{outputs} ({})", self.inputs, self.order_name());
            return Err(Error::Length { what: sizes, expected, got: self.data.len() });
        }
        Ok(())
    }

    #[cfg(feature = "gemm")]
    pub(crate) fn data(&self) -> &'a [f32] {
        self.data
    }

    #[cfg(feature = "gemm")]
    /// Of a 1×1 filter: from one input to the next, and from one output to the next.
    pub(crate) fn strides_io(&self) -> [usize; 2] {
        match self.order {
            FilterLayout::Hwio | FilterLayout::Iohw | FilterLayout::DepthwiseHwc | FilterLayout::DepthwiseHwcm => {
                [self.outputs, 1]
            }
            FilterLayout::Oihw | FilterLayout::Hwoi | FilterLayout::Ohwi | FilterLayout::DepthwiseC1hw => {
                [1, self.inputs]
            }
        }
    }

    /// The weight of tap `(y, x)` from input `i` to output `o`; of a depthwise filter `i` is the channel and `o` the
    /// multiple.
    pub(crate) fn at(&self, y: usize, x: usize, i: usize, o: usize) -> f32 {
        let (first, step) = self.outputs_of(y, x, i);
        self.data[first + o * step]
    }

    /// Where the weights of tap `(y, x)` from input `i` lie: that of output 0, and the distance to the next.
    fn outputs_of(&self, y: usize, x: usize, i: usize) -> (usize, usize) {
        let [h, w] = self.kernel;
        let (inputs, outputs) = (self.inputs, self.outputs);
        match self.order {
            FilterLayout::Hwio | FilterLayout::DepthwiseHwc | FilterLayout::DepthwiseHwcm => {
                (((y * w + x) * inputs + i) * outputs, 1)
            }
            FilterLayout::Hwoi => ((y * w + x) * outputs * inputs + i, inputs),
            FilterLayout::Oihw => ((i * h + y) * w + x, inputs * h * w),
            FilterLayout::Iohw => ((i * outputs * h + y) * w + x, h * w),
            FilterLayout::Ohwi => ((y * w + x) * inputs + i, h * w * inputs),
            FilterLayout::DepthwiseC1hw => ((i * outputs * h + y) * w + x, h * w),
        }
    }

    /// Writes the weights of tap `(y, x)` from input `i` to the outputs from `first` on.
    pub(crate) fn row(&self, y: usize, x: usize, i: usize, first: usize, out: &mut [f32]) {
        let (start, step) = self.outputs_of(y, x, i);
        let data = &self.data[start + first * step..];
        if step == 1 {
            out.copy_from_slice(&data[..out.len()]);
        } else {
            for (out, &weight) in out.iter_mut().zip(data.iter().step_by(step)) {
                *out = weight;
            }
        }
    }
}

/// What is applied to a sum before it is stored. NaN passes through every one of them.
///
/// A clamp costs nothing. Every other activation goes over what a kernel has stored, while that is in the cache. Each is defined to the bit,
/// and at most 4 units in the last place from the exact function: `docs/numbers.md` has the steps.
///
/// Infinities and −0 become what the formula makes of them in f64: `HardSwish`, `Silu` and `Gelu` of −∞ are NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// The sum as it is.
    #[default]
    Linear,
    /// `max(0, x)`.
    Relu,
    /// `min(max(0, x), 6)`: MobileNet's, bounded so that low precision can hold it.
    Relu6,
    /// `min(max(min, x), max)`; either bound may be infinite.
    Clamp {
        /// The lower bound.
        min: f32,
        /// The upper bound, not less than `min`.
        max: f32,
    },
    /// `x × min(max(0, x + 3), 6) / 6`: [MobileNetV3's](https://arxiv.org/abs/1905.02244), PyTorch's `Hardswish` and ONNX's `HardSwish`.
    HardSwish,
    /// `min(max(0, x + 3), 6) / 6`: the gate of MobileNetV3, PyTorch's `Hardsigmoid`. ONNX's `HardSigmoid` is this one with
    /// `alpha` 1/6 and `beta` 1/2, which are not its defaults.
    HardSigmoid,
    /// `1 / (1 + e^−x)`: the logistic function.
    Sigmoid,
    /// `x / (1 + e^−x)`: [SiLU](https://arxiv.org/abs/1702.03118), which is Swish with β 1, as EfficientNet has it.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x / 2 × (1 + tanh(√(2/π) × (x + 0.044715 x³)))`: [GELU](https://arxiv.org/abs/1606.08415) in its tanh form, which PyTorch and
    /// ONNX call `approximate="tanh"`. It is not the form with the error function.
    Gelu,
    /// `x`, where it is negative times the slope.
    LeakyRelu {
        /// A finite number: 0.01 in PyTorch and ONNX unless they are told otherwise.
        slope: f32,
    },
}

impl Activation {
    /// The lower and the upper bound of a clamp, or `None` of an activation that is none.
    pub const fn bounds(self) -> Option<[f32; 2]> {
        match self {
            Activation::Linear => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Activation::Relu => Some([0.0, f32::INFINITY]),
            Activation::Relu6 => Some([0.0, 6.0]),
            Activation::Clamp { min, max } => Some([min, max]),
            _ => None,
        }
    }

    /// An error of the value called `what` where the bounds are none, or a slope is no number.
    pub(crate) fn check(self, what: impl FnOnce() -> String) -> Result<()> {
        let (expected, got) = match self {
            Activation::Clamp { min, max } if min.is_nan() || max.is_nan() || min > max => {
                ("bounds that are numbers, the lower not above the upper", format!("{min}…{max}"))
            }
            Activation::LeakyRelu { slope } if !slope.is_finite() => ("a finite slope", slope.to_string()),
            _ => return Ok(()),
        };
        Err(Error::Value { what: what(), expected, got })
    }
}

/// An activation whose parameters each output channel has for itself, in the order of the channels: see
/// [`ConvDesc::activation_by_channel`] and [`GraphBuilder::add_by_channel`](crate::GraphBuilder::add_by_channel).
///
/// NaN passes, as it does through any [`Activation`]. An operator keeps a copy of the parameters. Where all channels have the same ones it is
/// the [`Activation`] of these.
///
/// ```
/// use sepconv::{ChannelActivation, Conv2d, ConvDesc, Filter};
/// # fn main() -> sepconv::Result<()> {
/// let (weights, slopes) = ([0.1; 8 * 3], [0.25, 0.0, -1.0]);
/// let desc = ConvDesc::new(Filter::io(&weights, [8, 3]));
/// let conv = Conv2d::new(desc.activation_by_channel(ChannelActivation::PRelu { slopes: &slopes }))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ChannelActivation<'a> {
    /// `x`, where it is negative times the slope of its channel: [PReLU](https://arxiv.org/abs/1502.01852), as PyTorch and ONNX have it. A slope
    /// that all channels share is [`Activation::LeakyRelu`].
    PRelu {
        /// Finite numbers.
        slopes: &'a [f32],
    },
    /// `min(max(min, x), max)`, of the bounds of its channel; either may be infinite.
    Clamp {
        /// The lower bounds.
        min: &'a [f32],
        /// The upper bounds, none less than the lower one of its channel.
        max: &'a [f32],
    },
}

impl ChannelActivation<'_> {
    /// The activation of a channel.
    ///
    /// # Panics
    /// Of a channel that there are no parameters for.
    pub fn of_channel(&self, channel: usize) -> Activation {
        match *self {
            ChannelActivation::PRelu { slopes } => Activation::LeakyRelu { slope: slopes[channel] },
            ChannelActivation::Clamp { min, max } => Activation::Clamp { min: min[channel], max: max[channel] },
        }
    }

    /// The channels that it has parameters for.
    pub(crate) fn channels(&self) -> usize {
        match *self {
            ChannelActivation::PRelu { slopes } => slopes.len(),
            ChannelActivation::Clamp { min, .. } => min.len(),
        }
    }

    /// An error of the values called `what` where there are not as many as `channels`, or no activation has them.
    pub(crate) fn check(&self, what: &str, channels: usize) -> Result<()> {
        let length = |name: &str, values: &[f32]| {
            if values.len() == channels {
                return Ok(());
            }
            Err(Error::Length { what: format!("{what} {name}"), expected: channels, got: values.len() })
        };
        match *self {
            ChannelActivation::PRelu { slopes } => length("slopes", slopes)?,
            ChannelActivation::Clamp { min, max } => {
                length("lower bounds", min)?;
                length("upper bounds", max)?;
            }
        }
        (0..channels).try_for_each(|c| self.of_channel(c).check(|| format!("{what} activation of channel {c}")))
    }

    /// What kernels call it.
    pub(crate) fn nonlinearity(&self) -> Nonlinearity {
        match self {
            ChannelActivation::PRelu { .. } => Nonlinearity::PRelu,
            ChannelActivation::Clamp { .. } => Nonlinearity::ClampByChannel,
        }
    }

    /// The parameters of a channel, as kernels have them.
    pub(crate) fn params(&self, channel: usize) -> [f32; 2] {
        match *self {
            ChannelActivation::PRelu { slopes } => [slopes[channel], 0.0],
            ChannelActivation::Clamp { min, max } => [min[channel], max[channel]],
        }
    }
}

/// What kernels and the reference make of an activation.
impl From<Activation> for Nonlinearity {
    fn from(activation: Activation) -> Nonlinearity {
        match activation {
            Activation::Linear => Nonlinearity::NONE,
            Activation::Relu => Nonlinearity::Clamp([0.0, f32::INFINITY]),
            Activation::Relu6 => Nonlinearity::Clamp([0.0, 6.0]),
            Activation::Clamp { min, max } => Nonlinearity::Clamp([min, max]),
            Activation::HardSwish => Nonlinearity::HardSwish,
            Activation::HardSigmoid => Nonlinearity::HardSigmoid,
            Activation::Sigmoid => Nonlinearity::Sigmoid,
            Activation::Silu => Nonlinearity::Silu,
            Activation::Tanh => Nonlinearity::Tanh,
            Activation::Gelu => Nonlinearity::Gelu,
            Activation::LeakyRelu { slope } => Nonlinearity::LeakyRelu(slope),
        }
    }
}

/// Batch norm after a convolution: `(x − mean) / sqrt(variance + epsilon) × gamma + beta`, for each output channel.
///
/// It is folded into filter and bias when the operator is made, in f64, rounded once.
#[allow(clippy::exhaustive_structs, reason = "five values by definition; a literal names each of the four vectors")]
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// The learnt scale; `None` is 1.
    pub gamma: Option<&'a [f32]>,
    /// The learnt offset; `None` is 0.
    pub beta: Option<&'a [f32]>,
    /// The moving mean.
    pub mean: &'a [f32],
    /// The moving variance.
    pub variance: &'a [f32],
    /// What keeps the root away from zero: 1e-3 in TensorFlow's MobileNets, 1e-5 in PyTorch's.
    pub epsilon: f64,
}

/// A convolution, described: a filter, then a bias, a batch norm or both, then an activation.
///
/// The defaults are stride 1, dilation 1, [`Padding::Same`], no bias and [`Activation::Linear`].
///
/// ```
/// use sepconv::{Activation, ConvDesc, Filter};
/// let weights = [0.1; 3 * 3 * 8];
/// let depthwise = ConvDesc::new(Filter::depthwise_hwc(&weights, [3, 3, 8])).stride(2).activation(Activation::Relu6);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConvDesc<'a> {
    pub(crate) filter: Filter<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) batch_norm: Option<BatchNorm<'a>>,
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padding: Padding,
    pub(crate) groups: usize,
    pub(crate) activation: Activation,
    /// In the place of `activation`.
    pub(crate) by_channel: Option<ChannelActivation<'a>>,
}

impl<'a> ConvDesc<'a> {
    /// A convolution by a filter, all else at its default.
    pub const fn new(filter: Filter<'a>) -> Self {
        ConvDesc {
            filter,
            bias: None,
            batch_norm: None,
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            groups: 1,
            activation: Activation::Linear,
            by_channel: None,
        }
    }

    /// One value for each output channel, added to the sum; a batch norm comes after it.
    pub const fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// A batch norm to fold into filter and bias.
    pub const fn batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
        self.batch_norm = Some(batch_norm);
        self
    }

    /// Pixels that the window moves at each step, on both axes.
    pub const fn stride(self, stride: usize) -> Self {
        self.strides([stride, stride])
    }

    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub const fn strides(mut self, strides: [usize; 2]) -> Self {
        self.stride = strides;
        self
    }

    /// Pixels from one tap to the next, on both axes.
    pub const fn dilation(self, dilation: usize) -> Self {
        self.dilations([dilation, dilation])
    }

    /// Pixels from one tap to the next, `[rows, columns]`.
    pub const fn dilations(mut self, dilations: [usize; 2]) -> Self {
        self.dilation = dilations;
        self
    }

    /// How the plane is padded.
    pub const fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// In how many groups the channels are: each group of outputs reads a group of inputs of its own. The filter's inputs are those of a
    /// group. [`Conv2d`](crate::Conv2d) takes groups; as many groups as inputs are a depthwise convolution.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// What is applied to the sum.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self.by_channel = None;
        self
    }

    /// What is applied to the sum, with parameters for each output channel: those of all groups, of a depthwise convolution for each channel
    /// as often as the multiplier says. It takes the place of [`ConvDesc::activation`], and that of this one: the last call counts.
    pub const fn activation_by_channel(mut self, activation: ChannelActivation<'a>) -> Self {
        self.activation = Activation::Linear;
        self.by_channel = Some(activation);
        self
    }

    pub(crate) fn window(&self) -> ConvWindow {
        let kernel = self.filter.kernel();
        // one tap is as far from the next as anyone likes; zero stays zero, which is an error
        let dilation = [0, 1].map(|axis| self.dilation[axis].min(if kernel[axis] == 1 { 1 } else { usize::MAX }));
        ConvWindow { kernel, stride: self.stride, dilation, padding: self.padding }
    }

    /// Whether it is a 1×1 convolution.
    pub(crate) fn is_pointwise(&self) -> bool {
        let padded = match self.padding {
            Padding::Explicit { top, bottom, left, right } => [top, bottom, left, right] != [0; 4],
            Padding::Valid | Padding::Same => false,
        };
        self.filter.kernel() == [1, 1] && self.stride == [1, 1] && self.groups == 1 && !padded
    }

    /// Checks everything that does not depend on the input, for the stage `what` of an operator.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        self.filter.check(what)?;
        self.window().check(what)?;
        self.activation.check(|| format!("{what} activation"))?;
        let outputs = self.filter.outputs();
        let length = |name: &str, values: Option<&[f32]>| match values {
            Some(values) if values.len() != outputs => {
                Err(Error::Length { what: format!("{what} {name}"), expected: outputs, got: values.len() })
            }
            _ => Ok(()),
        };
        length("bias", self.bias)?;
        if let Some(activation) = self.by_channel {
            activation.check(what, outputs)?;
        }
        if let Some(bn) = self.batch_norm {
            length("batch norm gamma", bn.gamma)?;
            length("batch norm beta", bn.beta)?;
            length("batch norm mean", Some(bn.mean))?;
            length("batch norm variance", Some(bn.variance))?;
            if !(bn.epsilon.is_finite() && bn.epsilon >= 0.0) {
                return Err(Error::Value {
                    what: format!("{what} batch norm epsilon"),
                    expected: "a finite number, at least 0",
                    got: bn.epsilon.to_string(),
                });
            }
            if let Some(&variance) = bn.variance.iter().find(|&&v| f64::from(v) + bn.epsilon <= 0.0) {
                return Err(Error::Value {
                    what: format!("{what} batch norm variance"),
                    expected: "variance + epsilon above 0",
                    got: format!("{variance} + {}", bn.epsilon),
                });
            }
        }
        Ok(())
    }

    /// What output channel `o` multiplies its weights by, and the bias it starts from, with the batch norm folded in.
    pub(crate) fn fold(&self, o: usize) -> (f64, f64) {
        let bias = self.bias.map_or(0.0, |b| f64::from(b[o]));
        match self.batch_norm {
            None => (1.0, bias),
            Some(bn) => {
                let gamma = bn.gamma.map_or(1.0, |g| f64::from(g[o]));
                let beta = bn.beta.map_or(0.0, |b| f64::from(b[o]));
                let scale = gamma / (f64::from(bn.variance[o]) + bn.epsilon).sqrt();
                (scale, (bias - f64::from(bn.mean[o])) * scale + beta)
            }
        }
    }
}
