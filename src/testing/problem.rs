//! A case with its numbers: what a kernel is given, and what the reference makes of it.

use std::ops::Range;

use sepconv_kernels::Arithmetic;

use super::reference::{self, Epilogue, Join, Number, PoolOf, Tensor, TensorMut, Window};
use super::values::CaseRng;
use super::{ByChannel, Case, CaseNode, ConvCase, Op, Values, WindowPoolCase};
use crate::{Activation, BatchNorm, ChannelActivation, Layout, Result, Shape, Strides};

/// The order of a filter's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterOrder {
    /// `[rows, columns, inputs, outputs]`: TensorFlow's. Of a depthwise convolution `[rows, columns, channels,
    /// multiplier]`, in which TensorFlow Lite's `[1, rows, columns, channels × multiplier]` lies as well.
    Hwio,
    /// `[outputs, inputs, rows, columns]`: PyTorch's and ONNX's. Of a depthwise convolution
    /// `[channels × multiplier, 1, rows, columns]`, which is what they take with as many groups as channels.
    Oihw,
    /// `[outputs, rows, columns, inputs]`: TensorFlow Lite's. Of a depthwise convolution
    /// `[channels × multiplier, rows, columns, 1]`.
    Ohwi,
}

/// Padding of the four sides, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pads {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns before.
    pub left: usize,
    /// Columns after.
    pub right: usize,
}

/// What a [`Stage`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageKind {
    /// A standard convolution, 1×1 and dense layers among them.
    Standard,
    /// A depthwise convolution.
    Depthwise,
    /// The mean of each channel over the plane. It has no filter, and neither have the kinds after it.
    AveragePool,
    /// The sum of two tensors of one shape, then an activation.
    Add,
    /// The product of two tensors. The second one has the shape of the first, or one pixel for each image: a scale of each channel.
    Scale,
    /// The channels of two tensors or more, one tensor after the other.
    Concat,
    /// The largest value of a window. Padding takes no part, and NaN is larger than any number.
    MaxPool,
    /// The mean of a window: of the pixels of the plane, or of all taps ([`Stage::counts_padding`]).
    MeanPool,
    /// An activation by itself.
    Activate,
}

/// One convolution, or one other operator, of a [`Problem`], with its numbers.
#[derive(Clone, Debug)]
pub struct Stage {
    kind: StageKind,
    case: ConvCase,
    reads: Vec<usize>,
    inputs: Vec<Shape>,
    output: Shape,
    pads: Pads,
    counts_padding: bool,
    /// HWIO, or HWCM.
    filter: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<StageNorm>,
    /// Slopes, or lower and upper bounds, of an activation with parameters for each channel.
    params: [Vec<f32>; 2],
}

#[derive(Clone, Debug)]
struct StageNorm {
    gamma: Option<Vec<f32>>,
    beta: Option<Vec<f32>>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f64,
}

impl Stage {
    /// A convolution of tensor `read`.
    fn new(case: &ConvCase, read: usize, input: Shape) -> Stage {
        let (Some(([top, bottom], h)), Some(([left, right], w))) = (case.lay(0, input.h), case.lay(1, input.w)) else {
            unreachable!("the case was checked");
        };
        let outputs = case.channels_out(input.c);
        let rng = &mut CaseRng::new(case.seed);
        let filter = rng.values(case.kernel[0] * case.kernel[1] * input.c * case.outputs, case.values);
        let mut vector = |there: bool, values| there.then(|| rng.values(outputs, values));
        let bias = vector(case.bias, case.values);
        let norm = case.batch_norm.map(|norm| StageNorm {
            gamma: vector(norm.gamma, Values::Uniform),
            beta: vector(norm.beta, Values::Uniform),
            mean: vector(true, Values::Uniform).unwrap_or_default(),
            // a variance of zero with an epsilon of zero has no meaning
            variance: vector(true, Values::Uniform)
                .unwrap_or_default()
                .into_iter()
                .map(|v| v.abs().max(f32::EPSILON))
                .collect(),
            epsilon: norm.epsilon,
        });
        let params = case.by_channel.map_or([vec![], vec![]], |kind| channel_params(kind, outputs, rng));
        Stage {
            kind: if case.depthwise { StageKind::Depthwise } else { StageKind::Standard },
            case: *case,
            reads: vec![read],
            inputs: vec![input],
            output: Shape::new(input.n, h, w, outputs),
            pads: Pads { top, bottom, left, right },
            counts_padding: false,
            filter,
            bias,
            norm,
            params,
        }
    }

    /// A stage without a filter, of which `case` has window and activation.
    fn plain(kind: StageKind, case: ConvCase, reads: &[usize], inputs: Vec<Shape>, output: Shape) -> Stage {
        let [[top, bottom], [left, right]] = match kind {
            StageKind::MaxPool | StageKind::MeanPool => [(0, inputs[0].h), (1, inputs[0].w)]
                .map(|(axis, size)| case.lay(axis, size).map_or([0, 0], |(pads, _)| pads)),
            _ => [[0, 0]; 2],
        };
        Stage {
            kind,
            case,
            reads: reads.to_vec(),
            inputs,
            output,
            pads: Pads { top, bottom, left, right },
            counts_padding: false,
            filter: vec![],
            bias: None,
            norm: None,
            params: [vec![], vec![]],
        }
    }

    /// What it does.
    pub fn kind(&self) -> StageKind {
        self.kind
    }

    /// The tensors that it reads, by their numbers: 0 is the input of the problem, and `i + 1` what stage `i` makes.
    ///
    /// A convolution reads one. One with a shortcut reads a second one, which is added to its sum before the activation.
    pub fn inputs(&self) -> &[usize] {
        &self.reads
    }

    /// The shapes of these tensors.
    pub fn input_shapes(&self) -> &[Shape] {
        &self.inputs
    }

    /// The shape of the first tensor that it reads.
    pub fn input_shape(&self) -> Shape {
        self.inputs[0]
    }

    /// The shape that it writes.
    pub fn output_shape(&self) -> Shape {
        self.output
    }

    /// Taps, `[rows, columns]`; of an average over the plane all of it.
    pub fn kernel(&self) -> [usize; 2] {
        self.case.kernel
    }

    /// Pixels that the window moves at each step, `[rows, columns]`.
    pub fn strides(&self) -> [usize; 2] {
        self.case.strides
    }

    /// Pixels from one tap to the next, `[rows, columns]`.
    pub fn dilations(&self) -> [usize; 2] {
        self.case.dilations
    }

    /// Padding of the four sides, whichever way the case names it.
    pub fn pads(&self) -> Pads {
        self.pads
    }

    /// Groups, as PyTorch and ONNX count them: as many as channels where it is depthwise.
    pub fn groups(&self) -> usize {
        if self.kind == StageKind::Depthwise { self.inputs[0].c } else { 1 }
    }

    /// Output channels for each input channel, of a depthwise convolution; else 1.
    pub fn multiplier(&self) -> usize {
        if self.kind == StageKind::Depthwise { self.case.outputs } else { 1 }
    }

    /// Whether a mean over a window divides by all taps: ONNX's `count_include_pad`.
    pub fn counts_padding(&self) -> bool {
        self.counts_padding
    }

    /// What is applied to the sum, behind batch norm and shortcut, unless there is a [`channel_activation`](Self::channel_activation).
    pub fn activation(&self) -> Activation {
        self.case.activation
    }

    /// What is applied to the sum in the place of [`activation`](Self::activation): an activation with parameters for each output channel.
    pub fn channel_activation(&self) -> Option<ChannelActivation<'_>> {
        let [first, second] = &self.params;
        self.case.by_channel.map(|kind| match kind {
            ByChannel::PRelu => ChannelActivation::PRelu { slopes: first },
            ByChannel::Clamp => ChannelActivation::Clamp { min: first, max: second },
        })
    }

    /// What is applied to the sums of an output channel, whichever of the two there is.
    pub fn activation_of(&self, channel: usize) -> Activation {
        self.channel_activation().map_or(self.case.activation, |activation| activation.of_channel(channel))
    }

    /// Whether sums are left as they are.
    pub(super) fn is_linear(&self) -> bool {
        self.case.by_channel.is_none() && self.case.activation == Activation::Linear
    }

    /// What is applied to the sums, as the reference takes it.
    pub(super) fn epilogue(&self) -> (Epilogue, Vec<[f32; 2]>) {
        match self.channel_activation() {
            Some(activation) => {
                let params = (0..self.output.c).map(|channel| activation.params(channel)).collect();
                (Epilogue::of(activation.nonlinearity()), params)
            }
            None => (Epilogue::of(self.case.activation.into()), vec![]),
        }
    }

    /// The filter as it is before the batch norm. Empty where there is none.
    pub fn filter(&self, order: FilterOrder) -> Vec<f32> {
        self.ordered(&self.filter, order)
    }

    /// The bias as it is before the batch norm.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// The batch norm, which comes behind the bias.
    pub fn batch_norm(&self) -> Option<BatchNorm<'_>> {
        self.norm.as_ref().map(|norm| BatchNorm {
            gamma: norm.gamma.as_deref(),
            beta: norm.beta.as_deref(),
            mean: &norm.mean,
            variance: &norm.variance,
            epsilon: norm.epsilon,
        })
    }

    /// The filter with the batch norm in it, folded in f64 and rounded once.
    pub fn folded_filter(&self, order: FilterOrder) -> Vec<f32> {
        let folded: Vec<f32> = self.folded().0.into_iter().map(|w| w as f32).collect();
        self.ordered(&folded, order)
    }

    /// The bias with the batch norm in it, folded in f64 and rounded once; zeros where there is neither.
    pub fn folded_bias(&self) -> Vec<f32> {
        self.folded().1.into_iter().map(|b| b as f32).collect()
    }

    /// The tensor that is added to the sum of this convolution, before the activation: the input of its block. It is the second one of
    /// [`Stage::inputs`].
    pub fn shortcut_from(&self) -> Option<usize> {
        if self.is_convolution() { self.reads.get(1).copied() } else { None }
    }

    /// Whether it has a filter.
    pub fn is_convolution(&self) -> bool {
        matches!(self.kind, StageKind::Standard | StageKind::Depthwise)
    }

    /// The description of its convolution. Of a stage that is none, it has the window and the activation.
    pub fn case(&self) -> &ConvCase {
        &self.case
    }

    /// Filter and bias with the batch norm in them, not rounded; in HWIO or HWCM.
    pub(super) fn folded(&self) -> (Vec<f64>, Vec<f64>) {
        reference::fold(&self.filter, self.bias(), self.batch_norm(), self.output.c)
    }

    /// What a bound needs: the filter before the batch norm.
    pub(super) fn canonical_filter(&self) -> &[f32] {
        &self.filter
    }

    pub(super) fn window(&self) -> Window {
        Window {
            kernel: self.case.kernel,
            stride: self.case.strides,
            dilation: self.case.dilations,
            before: [self.pads.top, self.pads.left],
        }
    }

    /// Values that are multiplied for one value of the output.
    pub(super) fn taps(&self) -> usize {
        let [h, w] = self.case.kernel;
        h * w * if self.kind == StageKind::Standard { self.inputs[0].c } else { 1 }
    }

    fn ordered(&self, canonical: &[f32], order: FilterOrder) -> Vec<f32> {
        let [kh, kw] = self.case.kernel;
        let outputs = self.output.c;
        let inputs = canonical.len() / (kh * kw * outputs).max(1);
        if order == FilterOrder::Hwio {
            return canonical.to_vec();
        }
        // a depthwise filter is one of a single input for each output
        let mut ordered = Vec::with_capacity(canonical.len());
        for o in 0..outputs {
            let mut push = |y: usize, x: usize, i: usize| {
                ordered.push(canonical[((y * kw + x) * inputs + i) * outputs + o]);
            };
            if order == FilterOrder::Oihw {
                (0..inputs).for_each(|i| (0..kh).for_each(|y| (0..kw).for_each(|x| push(y, x, i))));
            } else {
                (0..kh).for_each(|y| (0..kw).for_each(|x| (0..inputs).for_each(|i| push(y, x, i))));
            }
        }
        ordered
    }

    /// What a pool takes of a window.
    fn pool_of(&self) -> PoolOf {
        match (self.kind, self.counts_padding) {
            (StageKind::MaxPool, _) => PoolOf::Maximum,
            (_, false) => PoolOf::MeanInside,
            (_, true) => PoolOf::MeanOfAll { taps: self.taps() },
        }
    }

    /// The reference of this stage, of dense NHWC tensors.
    pub(super) fn reference<T: Number>(
        &self,
        (filter, bias): (&[T], &[T]),
        reads: &[&[T]],
        arithmetic: Arithmetic,
    ) -> Vec<T> {
        let mut output = vec![T::ZERO; values_of(self.output)];
        let from = |at: usize| tensor(reads[at], self.inputs[at]);
        let (epilogue, params) = self.epilogue();
        let conv = reference::Conv { window: self.window(), filter, bias, epilogue, params: &params };
        let to = tensor_mut(&mut output, self.output);
        match self.kind {
            StageKind::AveragePool => reference::average_pool(from(0), to),
            StageKind::Depthwise => reference::depthwise(&conv, from(0), to, arithmetic),
            StageKind::Standard => {
                let shortcut = reads.get(1).map(|shortcut| tensor(shortcut, self.output));
                reference::conv2d(&conv, from(0), shortcut, to, arithmetic);
            }
            StageKind::Add => reference::join((Join::Sum, epilogue, &params), from(0), from(1), to, arithmetic),
            StageKind::Scale => reference::join((Join::Product, Epilogue::NONE, &[]), from(0), from(1), to, arithmetic),
            StageKind::MaxPool | StageKind::MeanPool => {
                reference::pool(self.pool_of(), &self.window(), from(0), to);
            }
            StageKind::Concat => return self.concat(reads),
            StageKind::Activate => {
                return reads[0].iter().map(|v| v.activate(self.case.activation.into(), arithmetic)).collect();
            }
        }
        output
    }

    /// The values of all tensors of a concatenation in the order of its output.
    pub(super) fn concat<T: Copy>(&self, reads: &[&[T]]) -> Vec<T> {
        let mut output = Vec::with_capacity(values_of(self.output));
        for pixel in 0..self.output.n * self.output.h * self.output.w {
            for (values, shape) in reads.iter().zip(&self.inputs) {
                output.extend_from_slice(&values[pixel * shape.c..][..shape.c]);
            }
        }
        output
    }
}

/// Slopes around 0 and some beyond 1, or bounds that are in their order, some of them infinite.
fn channel_params(kind: ByChannel, channels: usize, rng: &mut CaseRng) -> [Vec<f32>; 2] {
    let [mut first, mut second] = [(); 2].map(|()| rng.values(channels, Values::Uniform));
    for (channel, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
        match kind {
            ByChannel::PRelu if channel % 3 == 1 => *first *= 4.0,
            ByChannel::PRelu => {}
            ByChannel::Clamp => {
                (*first, *second) = (first.min(*second), first.max(*second));
                match channel % 5 {
                    1 => *first = f32::NEG_INFINITY,
                    3 => *second = f32::INFINITY,
                    _ => {}
                }
            }
        }
    }
    [first, second]
}

/// A dense tensor, as the reference takes it.
pub(super) fn tensor<T>(data: &[T], Shape { n, h, w, c }: Shape) -> Tensor<'_, T> {
    Tensor { data, shape: [n, h, w, c], pixel_stride: c }
}

pub(super) fn tensor_mut<T>(data: &mut [T], Shape { n, h, w, c }: Shape) -> TensorMut<'_, T> {
    TensorMut { data, shape: [n, h, w, c], pixel_stride: c }
}

pub(super) fn values_of(Shape { n, h, w, c }: Shape) -> usize {
    n * h * w * c
}

/// The strides of a tensor with `gap` values between its neighbours: pixels in NHWC, rows of a plane in NCHW.
fn strides(layout: Layout, shape: Shape, gap: usize) -> Strides {
    match layout {
        Layout::Nhwc => Strides::with_pixel_stride(shape, shape.c + gap),
        Layout::Nchw => {
            let dense = Strides::dense(layout, Shape { w: shape.w + gap, ..shape });
            Strides { pixel: 1, ..dense }
        }
    }
}

/// Values from the first to the last of a tensor, both counted.
fn span(shape: Shape, strides: Strides) -> usize {
    strides.span(shape).unwrap_or(0)
}

/// Where a value lies.
fn place(strides: Strides, [n, y, x, c]: [usize; 4]) -> usize {
    n * strides.image + y * strides.row + x * strides.pixel + c * strides.channel
}

/// An output of a [`Problem`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProblemOutput {
    /// The number of its tensor: `i + 1` is what stage `i` makes.
    pub tensor: usize,
    /// Its shape.
    pub shape: Shape,
    /// The distances between its values. Values between them are not to be written.
    pub strides: Strides,
    /// Where it lies in the memory that a kernel gets. Values between two outputs are not to be written.
    pub range: Range<usize>,
}

impl ProblemOutput {
    /// Where the value at an image, row, column and channel is in that memory.
    pub(super) fn place(&self, at: [usize; 4]) -> usize {
        self.range.start + place(self.strides, at)
    }
}

/// A [`Case`] with its numbers, in the [`Layout`] that was asked for: what a kernel is given.
///
/// [`Case::input_gap`] and [`Case::output_gap`] values lie between pixels in NHWC, and between the rows of a plane in NCHW.
#[derive(Clone, Debug)]
pub struct Problem {
    case: Case,
    layout: Layout,
    stages: Vec<Stage>,
    outputs: Vec<ProblemOutput>,
    /// Dense NHWC.
    values: Vec<f32>,
    /// As the kernel's layout has it.
    input: Vec<f32>,
}

/// Values between two outputs, which a kernel that writes behind the first one reaches.
const BETWEEN_OUTPUTS: usize = 64;

/// The stage of an operator without a convolution.
fn plain_stage(op: &Op, reads: &[usize], inputs: Vec<Shape>, output: Shape) -> Stage {
    let point = |activation| ConvCase::depthwise([1, 1]).activation(activation);
    let (kind, case) = match op {
        Op::Add(activation) => (StageKind::Add, point(*activation)),
        Op::Activate(activation) => (StageKind::Activate, point(*activation)),
        Op::Scale => (StageKind::Scale, point(Activation::Linear)),
        Op::Concat => (StageKind::Concat, point(Activation::Linear)),
        Op::WindowPool(pool) if pool.maximum => (StageKind::MaxPool, pool.window()),
        Op::WindowPool(pool) => (StageKind::MeanPool, pool.window()),
        _ => (StageKind::AveragePool, ConvCase::depthwise([inputs[0].h, inputs[0].w])),
    };
    let counts_padding = matches!(op, Op::WindowPool(WindowPoolCase { count_padding: true, .. }));
    Stage { counts_padding, ..Stage::plain(kind, case, reads, inputs, output) }
}

/// What the input holds in its gaps: a kernel that takes it into a sum is found out.
const GAP: f32 = f32::from_bits(0x7fc0_beef);

impl Problem {
    /// Makes up the numbers of a case, or says what is wrong with it.
    pub fn new(case: &Case, layout: Layout) -> Result<Problem> {
        let shapes = case.shapes()?;
        let mut stages: Vec<Stage> = Vec::new();
        // the number that each tensor of the case has here, where a block has several stages
        let mut numbers = vec![0];
        for (at, CaseNode { op, reads }) in case.nodes.iter().enumerate() {
            let inputs: Vec<Shape> = reads.iter().map(|&tensor| shapes[tensor]).collect();
            let reads: Vec<usize> = reads.iter().map(|&tensor| numbers[tensor]).collect();
            let output = shapes[at + 1];
            if op.convs().is_empty() {
                stages.push(plain_stage(op, &reads, inputs, output));
            } else {
                let (mut read, mut shape) = (reads[0], inputs[0]);
                for conv in op.convs() {
                    let stage = Stage::new(conv, read, shape);
                    shape = stage.output;
                    stages.push(stage);
                    read = stages.len();
                }
                if let (Op::InvertedResidual { shortcut: true, .. }, Some(last)) = (op, stages.last_mut())
                    && shape == inputs[0]
                {
                    last.reads.push(reads[0]);
                    last.inputs.push(shape);
                }
            }
            numbers.push(stages.len());
        }
        let mut outputs = Vec::new();
        let mut start = 0;
        for tensor in case.output_tensors() {
            let shape = shapes[tensor];
            let strides = strides(layout, shape, case.output_gap);
            let range = start..start + span(shape, strides);
            start = range.end + BETWEEN_OUTPUTS;
            outputs.push(ProblemOutput { tensor: numbers[tensor], shape, strides, range });
        }
        let mut problem = Problem { case: case.clone(), layout, stages, outputs, values: vec![], input: vec![] };
        problem.renew(0);
        Ok(problem)
    }

    /// Other numbers in the input, for the run of that index.
    pub(super) fn renew(&mut self, run: u64) {
        let Case { values, seed, input: shape, .. } = self.case;
        self.values = values.make(values_of(shape), seed.wrapping_add(run.wrapping_mul(0x5851_f42d_4c95_7f2d)));
        let strides = self.input_strides();
        self.input = vec![GAP; span(shape, strides)];
        for (at, &value) in self.values.iter().enumerate() {
            let (c, pixel) = (at % shape.c, at / shape.c);
            let (n, y, x) = (pixel / (shape.h * shape.w), pixel / shape.w % shape.h, pixel % shape.w);
            self.input[place(strides, [n, y, x, c])] = value;
        }
    }

    /// The case that it was made of.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// How its tensors lie in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The input, in that layout.
    pub fn input(&self) -> &[f32] {
        &self.input
    }

    /// The shape of the input.
    pub fn input_shape(&self) -> Shape {
        self.case.input
    }

    /// The outputs. A case that is no graph has one.
    pub fn outputs(&self) -> &[ProblemOutput] {
        &self.outputs
    }

    /// The memory of the outputs, parted into that of each.
    pub fn split<'a>(&self, memory: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let (mut parts, mut rest, mut start) = (Vec::new(), memory, 0);
        for ProblemOutput { range, .. } in &self.outputs {
            let (part, behind) = rest[range.start - start..].split_at_mut(range.len());
            (rest, start) = (behind, range.end);
            parts.push(part);
        }
        parts
    }

    /// The shape of the first output.
    pub fn output_shape(&self) -> Shape {
        self.outputs[0].shape
    }

    /// The distances between the values of the input.
    pub fn input_strides(&self) -> Strides {
        strides(self.layout, self.case.input, self.case.input_gap)
    }

    /// The distances between the values of the first output. Values between them are not to be written.
    pub fn output_strides(&self) -> Strides {
        self.outputs[0].strides
    }

    /// Values that all outputs have in memory.
    pub(super) fn output_span(&self) -> usize {
        self.outputs.last().map_or(0, |last| last.range.end)
    }

    /// Everything that is to be computed, in order: each convolution of each operator, and each operator that has none. A stage tells which
    /// tensors it reads ([`Stage::inputs`]); in a chain each reads what the one before it makes.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The only convolution of a case that has one.
    ///
    /// # Panics
    /// Where there are several: a block, or a chain.
    #[track_caller]
    pub fn conv(&self) -> &Stage {
        assert!(self.stages.len() == 1, "{} is more than one convolution: see `stages`", self.case);
        &self.stages[0]
    }

    /// What the reference gives of the first output, in f32 by the contract: dense NHWC.
    pub fn reference_f32(&self, arithmetic: Arithmetic) -> Vec<f32> {
        self.references_f32(arithmetic).swap_remove(0)
    }

    /// What the reference gives of each output.
    pub fn references_f32(&self, arithmetic: Arithmetic) -> Vec<Vec<f32>> {
        self.reference(self.values.clone(), arithmetic, |v| v as f32)
    }

    /// What the reference gives of the first output in f64, with batch norms that nothing rounds: dense NHWC.
    pub fn reference_f64(&self) -> Vec<f64> {
        self.references_f64().swap_remove(0)
    }

    /// The same of each output.
    pub fn references_f64(&self) -> Vec<Vec<f64>> {
        self.reference(self.values.iter().map(|&v| f64::from(v)).collect(), Arithmetic::Separate, |v| v)
    }

    fn reference<T: Number>(&self, input: Vec<T>, arithmetic: Arithmetic, round: fn(f64) -> T) -> Vec<Vec<T>> {
        let mut tensors = vec![input];
        for stage in &self.stages {
            let (filter, bias) = stage.folded();
            let [filter, bias] = [filter, bias].map(|v| v.into_iter().map(round).collect::<Vec<T>>());
            let reads: Vec<&[T]> = stage.reads.iter().map(|&tensor| &tensors[tensor][..]).collect();
            let made = stage.reference((&filter, &bias), &reads, arithmetic);
            tensors.push(made);
        }
        self.outputs.iter().map(|output| tensors[output.tensor].clone()).collect()
    }

    /// The input, dense NHWC.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }
}
