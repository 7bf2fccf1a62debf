//! Cases as data: what is generated, shrunk, printed as Rust, and built again from what was printed.

use std::fmt;

use super::Values;
use crate::{Activation, Error, Padding, Result, Shape};

/// One convolution of a case, without its numbers: those follow from [`values`](Self::values) and [`seed`](Self::seed).
///
/// Input channels are those of what stands before. Printed with `{}` it is the Rust that makes it.
///
/// ```
/// use sepconv::testing::*;
/// let conv = ConvCase::depthwise([3, 3]).multiplier(2).strides([2, 1]).activation(Activation::Relu6);
/// assert_eq!(
///     conv.to_string(),
///     "ConvCase::depthwise([3, 3]).multiplier(2).strides([2, 1]).activation(Activation::Relu6)",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConvCase {
    /// Whether it is depthwise.
    pub depthwise: bool,
    /// Taps, `[rows, columns]`.
    pub kernel: [usize; 2],
    /// Output channels; of a depthwise convolution, those for each input channel.
    pub outputs: usize,
    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub strides: [usize; 2],
    /// Pixels from one tap to the next, `[rows, columns]`.
    pub dilations: [usize; 2],
    /// How the plane is padded.
    pub padding: Padding,
    /// What is applied to the sum.
    pub activation: Activation,
    /// The activation with parameters for each channel that is there in its place.
    pub by_channel: Option<ByChannel>,
    /// Whether it has a bias.
    pub bias: bool,
    /// The batch norm behind it.
    pub batch_norm: Option<NormCase>,
    /// What its filter and bias are like.
    pub values: Values,
    /// From which they are made.
    pub seed: u64,
}

/// An activation of a case that has parameters for each channel. The seed of its convolution makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ByChannel {
    /// [`ChannelActivation::PRelu`](crate::ChannelActivation::PRelu).
    PRelu,
    /// [`ChannelActivation::Clamp`](crate::ChannelActivation::Clamp).
    Clamp,
}

/// A batch norm of a case, without its vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NormCase {
    /// Whether it has a scale.
    pub gamma: bool,
    /// Whether it has an offset.
    pub beta: bool,
    /// What is added to the variance.
    pub epsilon: f64,
}

impl NormCase {
    /// A batch norm with scale and offset.
    pub const fn new(epsilon: f64) -> Self {
        NormCase { gamma: true, beta: true, epsilon }
    }

    /// Whether it has a scale.
    pub const fn gamma(mut self, gamma: bool) -> Self {
        self.gamma = gamma;
        self
    }

    /// Whether it has an offset.
    pub const fn beta(mut self, beta: bool) -> Self {
        self.beta = beta;
        self
    }
}

impl ConvCase {
    const fn new(depthwise: bool, kernel: [usize; 2], outputs: usize) -> Self {
        ConvCase {
            depthwise,
            kernel,
            outputs,
            strides: [1, 1],
            dilations: [1, 1],
            padding: Padding::Same,
            activation: Activation::Linear,
            by_channel: None,
            bias: false,
            batch_norm: None,
            values: Values::Uniform,
            seed: 0,
        }
    }

    /// A standard convolution: stride and dilation 1, [`Padding::Same`], uniform values, nothing behind it.
    pub const fn standard(kernel: [usize; 2], outputs: usize) -> Self {
        Self::new(false, kernel, outputs)
    }

    /// A 1×1 convolution, or a dense layer.
    pub const fn pointwise(outputs: usize) -> Self {
        Self::new(false, [1, 1], outputs)
    }

    /// A depthwise convolution of multiplier 1, all else as of [`standard`](Self::standard).
    pub const fn depthwise(kernel: [usize; 2]) -> Self {
        Self::new(true, kernel, 1)
    }

    /// Output channels for each input channel of a depthwise convolution: output `c × multiplier + m` comes from input
    /// `c`.
    pub const fn multiplier(mut self, multiplier: usize) -> Self {
        self.outputs = multiplier;
        self
    }

    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub const fn strides(mut self, strides: [usize; 2]) -> Self {
        self.strides = strides;
        self
    }

    /// Pixels from one tap to the next, `[rows, columns]`.
    pub const fn dilations(mut self, dilations: [usize; 2]) -> Self {
        self.dilations = dilations;
        self
    }

    /// How the plane is padded.
    pub const fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// What is applied to the sum.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self.by_channel = None;
        self
    }

    /// What is applied to the sum, with parameters for each channel, in the place of [`activation`](Self::activation).
    pub const fn by_channel(mut self, activation: ByChannel) -> Self {
        self.by_channel = Some(activation);
        self
    }

    /// Whether it has a bias.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// A batch norm behind it.
    pub const fn batch_norm(mut self, batch_norm: NormCase) -> Self {
        self.batch_norm = Some(batch_norm);
        self
    }

    /// What its filter and bias are like.
    pub const fn values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// From which filter, bias, batch norm and parameters of an activation are made.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Output channels, given those of the input.
    pub fn channels_out(&self, inputs: usize) -> usize {
        if self.depthwise { inputs.saturating_mul(self.outputs) } else { self.outputs }
    }

    /// Pixels from the first tap to the last one, both counted.
    pub(super) fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Padding before and after, and the size of what comes out, of an axis; `None` where the kernel does not fit.
    pub(super) fn lay(&self, axis: usize, size: usize) -> Option<([usize; 2], usize)> {
        let (reach, stride) = (self.reach(axis), self.strides[axis]);
        let pads = match self.padding {
            Padding::Valid => [0, 0],
            Padding::Same => {
                let out = size.div_ceil(stride);
                let total = ((out - 1) * stride + reach).saturating_sub(size);
                [total / 2, total - total / 2]
            }
            Padding::Explicit { top, bottom, left, right } => [[top, bottom], [left, right]][axis],
        };
        let padded = size + pads[0] + pads[1];
        (padded >= reach).then(|| (pads, (padded - reach) / stride + 1))
    }

    /// The shape of what comes out, or what is wrong.
    fn output(&self, input: Shape) -> Result<Shape> {
        let sizes = [self.kernel, self.strides, self.dilations, [self.outputs, 1]];
        if let Some(zero) = sizes.iter().position(|size| size.contains(&0)) {
            let what = ["kernel", "stride", "dilation", "filter channels"][zero];
            return Err(Error::ZeroWindow { stage: "case", what });
        }
        let sides = match self.padding {
            Padding::Explicit { top, bottom, left, right } => [top, bottom, left, right],
            Padding::Valid | Padding::Same => [0; 4],
        };
        // far above what a naive loop comes to the end of, and far below what overflows
        const LIMIT: usize = 1 << 20;
        let largest = sizes.iter().flatten().chain(&sides).chain(&[input.n, input.h, input.w, input.c]).copied().max();
        if let Some(got) = largest.filter(|&size| size > LIMIT) {
            return Err(Error::Window { stage: "case", what: "size", limit: LIMIT, got });
        }
        self.activation.check(|| "activation".into())?;
        let mut out = [0; 2];
        for (axis, size) in [input.h, input.w].into_iter().enumerate() {
            let Some((_, laid)) = self.lay(axis, size) else {
                let got = size + sides[2 * axis] + sides[2 * axis + 1];
                let axis_name = ["rows", "columns"][axis];
                return Err(Error::InputTooSmall { stage: "case", axis: axis_name, expected: self.reach(axis), got });
            };
            out[axis] = laid;
        }
        Ok(Shape::new(input.n, out[0], out[1], self.channels_out(input.c)))
    }

    fn is_pointwise(&self) -> bool {
        let padded = match self.padding {
            Padding::Explicit { top, bottom, left, right } => [top, bottom, left, right] != [0; 4],
            Padding::Valid | Padding::Same => false,
        };
        !self.depthwise && self.kernel == [1, 1] && self.strides == [1, 1] && !padded
    }
}

/// An operator of a case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// A standard convolution.
    Conv2d(ConvCase),
    /// A depthwise convolution.
    Depthwise(ConvCase),
    /// A 1×1 convolution.
    Pointwise(ConvCase),
    /// A depthwise convolution, then a 1×1: MobileNetV1's block.
    #[non_exhaustive]
    Separable {
        /// The first of the two.
        depthwise: ConvCase,
        /// The second.
        pointwise: ConvCase,
    },
    /// Expand, depthwise, project: MobileNetV2's block.
    #[non_exhaustive]
    InvertedResidual {
        /// What stands before the depthwise convolution: 1×1 or any other.
        expand: Option<ConvCase>,
        /// The depthwise convolution.
        depthwise: ConvCase,
        /// The 1×1 behind it; a shortcut is added to its sum, before its activation.
        project: ConvCase,
        /// Whether the input is added where its shape is that of the output: [`crate::Shortcut::IfShapesAllow`].
        shortcut: bool,
    },
    /// The mean of each channel over the plane.
    AveragePool,
    /// A dense layer, of each pixel.
    Dense(ConvCase),
}

impl Op {
    /// Its convolutions in order.
    pub fn convs(&self) -> Vec<&ConvCase> {
        match self {
            Op::Conv2d(conv) | Op::Depthwise(conv) | Op::Pointwise(conv) | Op::Dense(conv) => vec![conv],
            Op::Separable { depthwise, pointwise } => vec![depthwise, pointwise],
            Op::InvertedResidual { expand, depthwise, project, .. } => {
                expand.iter().chain([depthwise, project]).collect()
            }
            Op::AveragePool => vec![],
        }
    }

    pub(super) fn convs_mut(&mut self) -> Vec<&mut ConvCase> {
        match self {
            Op::Conv2d(conv) | Op::Depthwise(conv) | Op::Pointwise(conv) | Op::Dense(conv) => vec![conv],
            Op::Separable { depthwise, pointwise } => vec![depthwise, pointwise],
            Op::InvertedResidual { expand, depthwise, project, .. } => {
                expand.iter_mut().chain([depthwise, project]).collect()
            }
            Op::AveragePool => vec![],
        }
    }

    /// The name of the operator, as it is called in this crate.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::Depthwise(_) => "depthwise",
            Op::Pointwise(_) => "pointwise",
            Op::Separable { .. } => "separable",
            Op::InvertedResidual { .. } => "inverted residual",
            Op::AveragePool => "average pool",
            Op::Dense(_) => "dense",
        }
    }

    /// The shape of what comes out, or what is wrong with the operator or its input.
    pub fn output(&self, input: Shape) -> Result<Shape> {
        let convs = self.convs();
        for (at, conv) in convs.iter().enumerate() {
            let (expected, fits) = match self {
                Op::Conv2d(_) => ("a standard convolution", !conv.depthwise),
                Op::InvertedResidual { expand: Some(_), .. } if at == 0 => ("a standard convolution", !conv.depthwise),
                Op::Depthwise(_) => ("a depthwise convolution", conv.depthwise),
                Op::Separable { .. } | Op::InvertedResidual { .. } if at + 2 == convs.len() => {
                    ("a depthwise convolution", conv.depthwise)
                }
                _ => ("a 1×1 convolution of stride 1", conv.is_pointwise()),
            };
            if !fits {
                return Err(Error::Value {
                    what: format!("{}, convolution {at}", self.name()),
                    expected,
                    got: conv.to_string(),
                });
            }
        }
        match self {
            Op::AveragePool => Ok(Shape { h: 1, w: 1, ..input }),
            _ => convs.iter().try_fold(input, |shape, conv| conv.output(shape)),
        }
    }

    /// Multiply-adds, of an input that the operator takes; of an average its additions.
    pub(super) fn macs(&self, input: Shape) -> u64 {
        if *self == Op::AveragePool {
            return (input.n * input.h * input.w * input.c) as u64;
        }
        let (mut shape, mut macs) = (input, 0);
        for conv in self.convs() {
            let (Some((_, h)), Some((_, w))) = (conv.lay(0, shape.h), conv.lay(1, shape.w)) else { return 0 };
            let out = Shape::new(shape.n, h, w, conv.channels_out(shape.c));
            let taps = conv.kernel[0] * conv.kernel[1] * if conv.depthwise { 1 } else { shape.c };
            macs += (out.n * out.h * out.w * out.c) as u64 * taps as u64;
            shape = out;
        }
        macs
    }
}

/// An input, and the operators that it goes through: most often one.
///
/// A case holds kinds of values and seeds in place of numbers. Printed with `{}` it is a line of Rust that makes it
/// again, given `use sepconv::testing::*;`.
///
/// ```
/// use sepconv::testing::*;
/// let case = Case::new(Shape::new(1, 5, 5, 8)).depthwise(ConvCase::depthwise([3, 3]).strides([2, 2])).seed(7);
/// assert_eq!(
///     case.to_string(),
///     "Case::new(Shape::new(1, 5, 5, 8)).depthwise(ConvCase::depthwise([3, 3]).strides([2, 2])).seed(7)",
/// );
/// assert_eq!(case.output()?, Shape::new(1, 3, 3, 8));
/// # Ok::<(), sepconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// The shape of the input.
    pub input: Shape,
    /// The operators, each on what the one before it gives.
    pub ops: Vec<Op>,
    /// What the input is like.
    pub values: Values,
    /// From which the input is made.
    pub seed: u64,
    /// Values between one pixel of the input and the next; in NCHW between one row of a plane and the next.
    pub input_gap: usize,
    /// The same of the output, where they are to be left alone.
    pub output_gap: usize,
}

impl Case {
    /// A case without operators yet, of uniform values.
    pub const fn new(input: Shape) -> Self {
        Case { input, ops: Vec::new(), values: Values::Uniform, seed: 0, input_gap: 0, output_gap: 0 }
    }

    /// Adds an operator.
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Adds a standard convolution.
    pub fn conv2d(self, conv: ConvCase) -> Self {
        self.op(Op::Conv2d(conv))
    }

    /// Adds a depthwise convolution.
    pub fn depthwise(self, conv: ConvCase) -> Self {
        self.op(Op::Depthwise(conv))
    }

    /// Adds a 1×1 convolution.
    pub fn pointwise(self, conv: ConvCase) -> Self {
        self.op(Op::Pointwise(conv))
    }

    /// Adds a depthwise separable block.
    pub fn separable(self, depthwise: ConvCase, pointwise: ConvCase) -> Self {
        self.op(Op::Separable { depthwise, pointwise })
    }

    /// Adds an inverted residual block. A shortcut is taken where the block's output has the shape of its input.
    pub fn inverted_residual(
        self,
        expand: Option<ConvCase>,
        depthwise: ConvCase,
        project: ConvCase,
        shortcut: bool,
    ) -> Self {
        self.op(Op::InvertedResidual { expand, depthwise, project, shortcut })
    }

    /// Adds a global average.
    pub fn average_pool(self) -> Self {
        self.op(Op::AveragePool)
    }

    /// Adds a dense layer.
    pub fn dense(self, conv: ConvCase) -> Self {
        self.op(Op::Dense(conv))
    }

    /// What the input is like.
    pub fn values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// From which the input is made.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Values between one pixel and the next, in NCHW between one row and the next: of the input, and of the output.
    pub fn gaps(mut self, input: usize, output: usize) -> Self {
        (self.input_gap, self.output_gap) = (input, output);
        self
    }

    /// The shape of what comes out of the last operator, or what is wrong with the case.
    pub fn output(&self) -> Result<Shape> {
        self.input.len()?;
        if self.ops.is_empty() {
            return Err(Error::Network("a case needs an operator".into()));
        }
        self.ops.iter().try_fold(self.input, |shape, op| op.output(shape))
    }

    /// Multiply-adds of all its operators, and additions of its averages.
    pub fn macs(&self) -> u64 {
        let (mut shape, mut macs) = (self.input, 0);
        for op in &self.ops {
            macs += op.macs(shape);
            let Ok(out) = op.output(shape) else { break };
            shape = out;
        }
        macs
    }
}

/// An `f32` as Rust.
struct Literal(f32);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f32::INFINITY => f.write_str("f32::INFINITY"),
            f32::NEG_INFINITY => f.write_str("f32::NEG_INFINITY"),
            f32::MAX => f.write_str("f32::MAX"),
            f32::MIN => f.write_str("f32::MIN"),
            v => write!(f, "{v:?}"),
        }
    }
}

impl fmt::Display for NormCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NormCase::new({:?})", self.epsilon)?;
        if !self.gamma {
            f.write_str(".gamma(false)")?;
        }
        if !self.beta {
            f.write_str(".beta(false)")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConvCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvCase {
            kernel,
            outputs,
            strides,
            dilations,
            padding,
            activation,
            by_channel,
            bias,
            batch_norm,
            values,
            seed,
            ..
        } = *self;
        match (self.depthwise, kernel) {
            (true, _) => write!(f, "ConvCase::depthwise({kernel:?})")?,
            (false, [1, 1]) => write!(f, "ConvCase::pointwise({outputs})")?,
            (false, _) => write!(f, "ConvCase::standard({kernel:?}, {outputs})")?,
        }
        if self.depthwise && outputs != 1 {
            write!(f, ".multiplier({outputs})")?;
        }
        if strides != [1, 1] {
            write!(f, ".strides({strides:?})")?;
        }
        if dilations != [1, 1] {
            write!(f, ".dilations({dilations:?})")?;
        }
        match padding {
            Padding::Same => {}
            Padding::Explicit { top, bottom, left, right } if top == bottom && left == right && top == left => {
                write!(f, ".padding(Padding::all({top}))")?;
            }
            _ => write!(f, ".padding(Padding::{padding:?})")?,
        }
        match activation {
            _ if by_channel.is_some() => {}
            Activation::Linear => {}
            Activation::Clamp { min, max } => {
                let (min, max) = (Literal(min), Literal(max));
                write!(f, ".activation(Activation::Clamp {{ min: {min}, max: {max} }})")?;
            }
            Activation::LeakyRelu { slope } => {
                write!(f, ".activation(Activation::LeakyRelu {{ slope: {} }})", Literal(slope))?;
            }
            _ => write!(f, ".activation(Activation::{activation:?})")?,
        }
        if let Some(activation) = by_channel {
            write!(f, ".by_channel(ByChannel::{activation:?})")?;
        }
        if bias {
            f.write_str(".bias(true)")?;
        }
        if let Some(norm) = batch_norm {
            write!(f, ".batch_norm({norm})")?;
        }
        write_values(f, values, seed)
    }
}

fn write_values(f: &mut fmt::Formatter<'_>, values: Values, seed: u64) -> fmt::Result {
    if values != Values::Uniform {
        write!(f, ".values(Values::{values:?})")?;
    }
    if seed != 0 {
        write!(f, ".seed({seed})")?;
    }
    Ok(())
}

impl fmt::Display for Op {
    /// The call of [`Case`] that adds it, without the dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Conv2d(conv) => write!(f, "conv2d({conv})"),
            Op::Depthwise(conv) => write!(f, "depthwise({conv})"),
            Op::Pointwise(conv) => write!(f, "pointwise({conv})"),
            Op::Separable { depthwise, pointwise } => write!(f, "separable({depthwise}, {pointwise})"),
            Op::InvertedResidual { expand, depthwise, project, shortcut } => {
                f.write_str("inverted_residual(")?;
                match expand {
                    Some(expand) => write!(f, "Some({expand})")?,
                    None => f.write_str("None")?,
                }
                write!(f, ", {depthwise}, {project}, {shortcut})")
            }
            Op::AveragePool => f.write_str("average_pool()"),
            Op::Dense(conv) => write!(f, "dense({conv})"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { n, h, w, c } = self.input;
        write!(f, "Case::new(Shape::new({n}, {h}, {w}, {c}))")?;
        for op in &self.ops {
            write!(f, ".{op}")?;
        }
        if [self.input_gap, self.output_gap] != [0, 0] {
            write!(f, ".gaps({}, {})", self.input_gap, self.output_gap)?;
        }
        write_values(f, self.values, self.seed)
    }
}
