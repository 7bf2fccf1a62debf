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
        within_limit(sizes.iter().flatten().chain(&sides).chain(&[input.n, input.h, input.w, input.c]))?;
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

    pub(super) fn is_pointwise(&self) -> bool {
        let padded = match self.padding {
            Padding::Explicit { top, bottom, left, right } => [top, bottom, left, right] != [0; 4],
            Padding::Valid | Padding::Same => false,
        };
        !self.depthwise && self.kernel == [1, 1] && self.strides == [1, 1] && !padded
    }
}

/// A maximum or a mean over a window, of a graph.
///
/// ```
/// use sepconv::testing::*;
/// let pool = WindowPoolCase::mean([2, 2]).strides([2, 2]).padding(Padding::Valid);
/// assert_eq!(pool.to_string(), "WindowPoolCase::mean([2, 2]).strides([2, 2]).padding(Padding::Valid)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct WindowPoolCase {
    /// Whether it takes the largest value of a window. It takes the mean otherwise.
    pub maximum: bool,
    /// Taps, `[rows, columns]`.
    pub kernel: [usize; 2],
    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub strides: [usize; 2],
    /// How the plane is padded. Each side has fewer pixels than the window has taps, so that a window meets a pixel of the plane.
    pub padding: Padding,
    /// Whether a mean divides by all taps. It divides by the number of pixels of the plane otherwise.
    pub count_padding: bool,
}

impl WindowPoolCase {
    /// The largest value of each window: stride 1, [`Padding::Same`]. Padding takes no part, and NaN is larger than any number.
    pub const fn max(kernel: [usize; 2]) -> Self {
        WindowPoolCase { maximum: true, kernel, strides: [1, 1], padding: Padding::Same, count_padding: false }
    }

    /// The mean of each window: stride 1, [`Padding::Same`], over the pixels of the plane.
    pub const fn mean(kernel: [usize; 2]) -> Self {
        WindowPoolCase { maximum: false, ..Self::max(kernel) }
    }

    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub const fn strides(mut self, strides: [usize; 2]) -> Self {
        self.strides = strides;
        self
    }

    /// How the plane is padded.
    pub const fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Whether a mean divides by all taps: ONNX's `count_include_pad`.
    pub const fn count_padding(mut self, count_padding: bool) -> Self {
        self.count_padding = count_padding;
        self
    }

    /// The depthwise convolution that has the same window.
    pub(super) fn window(&self) -> ConvCase {
        ConvCase::depthwise(self.kernel).strides(self.strides).padding(self.padding)
    }

    fn output(&self, input: Shape) -> Result<Shape> {
        let window = self.window();
        let output = window.output(input)?;
        for (axis, size) in [input.h, input.w].into_iter().enumerate() {
            let (pads, _) = window.lay(axis, size).unwrap_or_default();
            if pads.iter().any(|&pad| pad >= self.kernel[axis]) {
                let expected = "padding of fewer pixels than the window has taps";
                return Err(Error::Value { what: "window pool".into(), expected, got: self.to_string() });
            }
        }
        Ok(output)
    }
}

/// The most of any size of a case: far above what a naive loop comes to the end of, and far below what overflows.
const LIMIT: usize = 1 << 20;

/// An error where a size is larger than [`LIMIT`].
fn within_limit<'a>(sizes: impl IntoIterator<Item = &'a usize>) -> Result<()> {
    match sizes.into_iter().copied().max() {
        Some(got) if got > LIMIT => Err(Error::Window { stage: "case", what: "size", limit: LIMIT, got }),
        _ => Ok(()),
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
    /// The sum of two tensors of one shape, then an activation.
    Add(Activation),
    /// The product of two tensors. The second one has the shape of the first, or one pixel for each image: a scale of each channel.
    Scale,
    /// The channels of two tensors or more, one tensor after the other.
    Concat,
    /// A maximum or a mean over a window.
    WindowPool(WindowPoolCase),
    /// An activation that is no part of another operator.
    Activate(Activation),
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
            _ => vec![],
        }
    }

    pub(super) fn convs_mut(&mut self) -> Vec<&mut ConvCase> {
        match self {
            Op::Conv2d(conv) | Op::Depthwise(conv) | Op::Pointwise(conv) | Op::Dense(conv) => vec![conv],
            Op::Separable { depthwise, pointwise } => vec![depthwise, pointwise],
            Op::InvertedResidual { expand, depthwise, project, .. } => {
                expand.iter_mut().chain([depthwise, project]).collect()
            }
            _ => vec![],
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
            Op::Add(_) => "add",
            Op::Scale => "scale",
            Op::Concat => "concat",
            Op::WindowPool(_) => "window pool",
            Op::Activate(_) => "activation",
        }
    }

    /// The shape of what comes out, or what is wrong with the operator or with the tensors that it reads.
    pub fn output(&self, inputs: &[Shape]) -> Result<Shape> {
        let (least, most) = match self {
            Op::Add(_) | Op::Scale => (2, 2),
            Op::Concat => (2, usize::MAX),
            _ => (1, 1),
        };
        if inputs.len() < least || inputs.len() > most {
            let what = format!("tensors that {} reads", self.name());
            let expected = ["one", "two", "two or more"][least - 1 + usize::from(most > 2)];
            return Err(Error::Value { what, expected, got: inputs.len().to_string() });
        }
        for &Shape { n, h, w, c } in inputs {
            within_limit(&[n, h, w, c])?;
        }
        let input = inputs[0];
        let alike = |expected: Shape, got: Shape| {
            if got == expected { Ok(expected) } else { Err(Error::ShapeMismatch { what: self.name(), expected, got }) }
        };
        match self {
            Op::AveragePool => Ok(Shape { h: 1, w: 1, ..input }),
            Op::Add(activation) => {
                activation.check(|| "activation".into())?;
                alike(input, inputs[1])
            }
            Op::Scale if inputs[1] == (Shape { h: 1, w: 1, ..input }) => Ok(input),
            Op::Scale => alike(input, inputs[1]),
            Op::Concat => inputs[1..].iter().try_fold(input, |sum, &got| {
                alike(Shape { c: got.c, ..input }, got)?;
                let c = sum.c + got.c;
                within_limit(&[c])?;
                Ok(Shape { c, ..input })
            }),
            Op::WindowPool(pool) => pool.output(input),
            Op::Activate(activation) => activation.check(|| "activation".into()).map(|()| input),
            _ => self.convolved(input),
        }
    }

    /// The shape of what its convolutions make.
    fn convolved(&self, input: Shape) -> Result<Shape> {
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
        convs.iter().try_fold(input, |shape, conv| conv.output(shape))
    }

    /// Multiply-adds, of tensors that the operator takes; of an operator that does not multiply, what it adds, compares or moves.
    pub(super) fn macs(&self, inputs: &[Shape]) -> u64 {
        let values =
            |Shape { n, h, w, c }: Shape| [h, w, c].iter().fold(n as u64, |all, &size| all.saturating_mul(size as u64));
        let convs = self.convs();
        if convs.is_empty() {
            let each = if let Op::WindowPool(pool) = self { pool.kernel[0] * pool.kernel[1] } else { 1 };
            return inputs
                .iter()
                .fold(0, |all: u64, &input| all.saturating_add(values(input).saturating_mul(each as u64)));
        }
        let (mut shape, mut macs) = (inputs[0], 0);
        for conv in convs {
            let (Some((_, h)), Some((_, w))) = (conv.lay(0, shape.h), conv.lay(1, shape.w)) else { return 0 };
            let out = Shape::new(shape.n, h, w, conv.channels_out(shape.c));
            let taps = Shape::new(1, conv.kernel[0], conv.kernel[1], if conv.depthwise { 1 } else { shape.c });
            macs = values(out).saturating_mul(values(taps)).saturating_add(macs);
            shape = out;
        }
        macs
    }
}

/// An operator of a [`Case`], and the tensors that it reads by their numbers: 0 is the input, `i + 1` what node `i` makes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CaseNode {
    /// The operator.
    pub op: Op,
    /// The tensors that it reads. Each is the input, or what an earlier node makes.
    pub reads: Vec<usize>,
}

/// An input, and the operators that it goes through: one, a chain, or a graph.
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
///
/// An operator reads what the one before it makes, unless it is told otherwise. Tensor 0 is the input, and tensor `i + 1` is what node `i`
/// makes. So this is the block of ResNet, and its first convolution is an output as well:
///
/// ```
/// use sepconv::testing::*;
/// let conv = ConvCase::standard([3, 3], 8);
/// let case = Case::new(Shape::new(1, 5, 5, 8)).conv2d(conv.activation(Activation::Relu)).conv2d(conv)
///     .add(&[2, 0], Activation::Relu)
///     .outputs(&[3, 1]);
/// assert_eq!(case.output_shapes()?, [Shape::new(1, 5, 5, 8); 2]);
/// # Ok::<(), sepconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// The shape of the input.
    pub input: Shape,
    /// The operators, each with the tensors that it reads.
    pub nodes: Vec<CaseNode>,
    /// The tensors that are outputs. None is what the last operator makes.
    pub outputs: Vec<usize>,
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
        Case {
            input,
            nodes: Vec::new(),
            outputs: Vec::new(),
            values: Values::Uniform,
            seed: 0,
            input_gap: 0,
            output_gap: 0,
        }
    }

    /// Adds an operator, which reads what the one before it makes.
    pub fn op(self, op: Op) -> Self {
        let last = self.nodes.len();
        self.node(op, &[last])
    }

    /// Adds an operator over these tensors.
    pub fn node(mut self, op: Op, reads: &[usize]) -> Self {
        self.nodes.push(CaseNode { op, reads: reads.to_vec() });
        self
    }

    /// Makes the operator that was added last read this tensor, and not what the one before it makes.
    pub fn reading(mut self, tensor: usize) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            node.reads = vec![tensor];
        }
        self
    }

    /// Adds the sum of two tensors, and an activation behind it.
    pub fn add(self, tensors: &[usize; 2], activation: Activation) -> Self {
        self.node(Op::Add(activation), tensors)
    }

    /// Adds the product of two tensors. The second has the shape of the first, or one pixel for each image.
    pub fn scale(self, tensors: &[usize; 2]) -> Self {
        self.node(Op::Scale, tensors)
    }

    /// Adds a concatenation of channels.
    pub fn concat(self, tensors: &[usize]) -> Self {
        self.node(Op::Concat, tensors)
    }

    /// Adds a maximum or a mean over a window.
    pub fn window_pool(self, pool: WindowPoolCase) -> Self {
        self.op(Op::WindowPool(pool))
    }

    /// Adds an activation by itself.
    pub fn activate(self, activation: Activation) -> Self {
        self.op(Op::Activate(activation))
    }

    /// Which tensors are outputs, in this order. The input is none, and no tensor comes twice.
    pub fn outputs(mut self, tensors: &[usize]) -> Self {
        self.outputs = tensors.to_vec();
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

    /// The shape of the output, of the first where there are several, or what is wrong with the case.
    pub fn output(&self) -> Result<Shape> {
        Ok(self.output_shapes()?[0])
    }

    /// The shapes of all outputs, or what is wrong with the case.
    pub fn output_shapes(&self) -> Result<Vec<Shape>> {
        let shapes = self.shapes()?;
        Ok(self.output_tensors().iter().map(|&tensor| shapes[tensor]).collect())
    }

    /// The operators.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.nodes.iter().map(|node| &node.op)
    }

    /// The tensors that are outputs.
    pub(super) fn output_tensors(&self) -> Vec<usize> {
        if self.outputs.is_empty() { vec![self.nodes.len()] } else { self.outputs.clone() }
    }

    /// Tensors that nothing reads and that are no outputs.
    pub(super) fn unused(&self) -> Vec<usize> {
        let outputs = self.output_tensors();
        let is_read = |tensor: &usize| self.nodes.iter().any(|node| node.reads.contains(tensor));
        (0..=self.nodes.len()).filter(|tensor| !is_read(tensor) && !outputs.contains(tensor)).collect()
    }

    /// The shapes of all tensors, or what is wrong with the case.
    pub(super) fn shapes(&self) -> Result<Vec<Shape>> {
        self.input.len()?;
        within_limit(&[self.input_gap, self.output_gap])?;
        let refused = |why: String| Err(Error::Network(why));
        if self.nodes.is_empty() {
            return refused("a case needs an operator".into());
        }
        let mut shapes = vec![self.input];
        for (at, CaseNode { op, reads }) in self.nodes.iter().enumerate() {
            if let Some(late) = reads.iter().find(|&&tensor| tensor > at) {
                return refused(format!("node {at} ({}): tensor {late} is not there yet", op.name()));
            }
            let inputs: Vec<Shape> = reads.iter().map(|&tensor| shapes[tensor]).collect();
            shapes.push(op.output(&inputs)?);
        }
        let outputs = self.output_tensors();
        for (at, tensor) in outputs.iter().enumerate() {
            if *tensor == 0 || *tensor > self.nodes.len() || outputs[..at].contains(tensor) {
                return refused(format!("output {at}: expected another tensor that a node makes, got {tensor}"));
            }
        }
        if let Some(unused) = self.unused().first() {
            return refused(format!("tensor {unused}: nothing reads it, and it is no output"));
        }
        Ok(shapes)
    }

    /// Multiply-adds of all its operators, and what the others add, compare or move.
    pub fn macs(&self) -> u64 {
        let (mut shapes, mut macs) = (vec![self.input], 0);
        for node in &self.nodes {
            let inputs: Option<Vec<Shape>> = node.reads.iter().map(|&tensor| shapes.get(tensor).copied()).collect();
            let Some(inputs) = inputs else { break };
            let Ok(out) = node.op.output(&inputs) else { break };
            macs = node.op.macs(&inputs).saturating_add(macs);
            shapes.push(out);
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
        write_padding(f, padding)?;
        if activation != Activation::Linear && by_channel.is_none() {
            f.write_str(".activation(")?;
            write_activation(f, activation)?;
            f.write_str(")")?;
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

impl fmt::Display for WindowPoolCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WindowPoolCase { maximum, kernel, strides, padding, count_padding } = *self;
        write!(f, "WindowPoolCase::{}({kernel:?})", if maximum { "max" } else { "mean" })?;
        if strides != [1, 1] {
            write!(f, ".strides({strides:?})")?;
        }
        write_padding(f, padding)?;
        if count_padding {
            f.write_str(".count_padding(true)")?;
        }
        Ok(())
    }
}

fn write_padding(f: &mut fmt::Formatter<'_>, padding: Padding) -> fmt::Result {
    match padding {
        Padding::Same => Ok(()),
        Padding::Explicit { top, bottom, left, right } if top == bottom && left == right && top == left => {
            write!(f, ".padding(Padding::all({top}))")
        }
        _ => write!(f, ".padding(Padding::{padding:?})"),
    }
}

fn write_activation(f: &mut fmt::Formatter<'_>, activation: Activation) -> fmt::Result {
    match activation {
        Activation::Clamp { min, max } => {
            write!(f, "Activation::Clamp {{ min: {}, max: {} }}", Literal(min), Literal(max))
        }
        Activation::LeakyRelu { slope } => write!(f, "Activation::LeakyRelu {{ slope: {} }}", Literal(slope)),
        _ => write!(f, "Activation::{activation:?}"),
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

impl fmt::Display for CaseNode {
    /// The call of [`Case`] that adds it, without the dot. It may have [`Case::reading`] behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads = &self.reads;
        match &self.op {
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
            Op::Add(activation) => {
                write!(f, "add(&{reads:?}, ")?;
                write_activation(f, *activation)?;
                f.write_str(")")
            }
            Op::Scale => write!(f, "scale(&{reads:?})"),
            Op::Concat => write!(f, "concat(&{reads:?})"),
            Op::WindowPool(pool) => write!(f, "window_pool({pool})"),
            Op::Activate(activation) => {
                f.write_str("activate(")?;
                write_activation(f, *activation)?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { n, h, w, c } = self.input;
        write!(f, "Case::new(Shape::new({n}, {h}, {w}, {c}))")?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, ".{node}")?;
            if let [tensor] = node.reads[..]
                && tensor != at
            {
                write!(f, ".reading({tensor})")?;
            }
        }
        if !self.outputs.is_empty() {
            write!(f, ".outputs(&{:?})", self.outputs)?;
        }
        if [self.input_gap, self.output_gap] != [0, 0] {
            write!(f, ".gaps({}, {})", self.input_gap, self.output_gap)?;
        }
        write_values(f, self.values, self.seed)
    }
}
