//! A case with its numbers: what a kernel is given, and what the reference makes of it.

use sepconv_kernels::Arithmetic;

use super::reference::{self, Epilogue, Number, Tensor, TensorMut, Window};
use super::values::CaseRng;
use super::{ByChannel, Case, ConvCase, Op, Values};
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
    /// The mean of each channel over the plane. It has no filter.
    AveragePool,
}

/// One convolution, or one average, of a [`Problem`], with its numbers.
#[derive(Clone, Debug)]
pub struct Stage {
    kind: StageKind,
    case: ConvCase,
    input: Shape,
    output: Shape,
    pads: Pads,
    /// HWIO, or HWCM.
    filter: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<StageNorm>,
    /// Slopes, or lower and upper bounds, of an activation with parameters for each channel.
    params: [Vec<f32>; 2],
    shortcut_from: Option<usize>,
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
    fn new(case: &ConvCase, input: Shape) -> Stage {
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
            input,
            output: Shape::new(input.n, h, w, outputs),
            pads: Pads { top, bottom, left, right },
            filter,
            bias,
            norm,
            params,
            shortcut_from: None,
        }
    }

    fn average_pool(input: Shape) -> Stage {
        Stage {
            kind: StageKind::AveragePool,
            case: ConvCase::depthwise([input.h, input.w]),
            input,
            output: Shape { h: 1, w: 1, ..input },
            pads: Pads { top: 0, bottom: 0, left: 0, right: 0 },
            filter: vec![],
            bias: None,
            norm: None,
            params: [vec![], vec![]],
            shortcut_from: None,
        }
    }

    /// What it does.
    pub fn kind(&self) -> StageKind {
        self.kind
    }

    /// The shape that it reads.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The shape that it writes.
    pub fn output_shape(&self) -> Shape {
        self.output
    }

    /// Taps, `[rows, columns]`; of an average the whole plane.
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
        if self.kind == StageKind::Standard { 1 } else { self.input.c }
    }

    /// Output channels for each input channel, of a depthwise convolution; else 1.
    pub fn multiplier(&self) -> usize {
        if self.kind == StageKind::Depthwise { self.case.outputs } else { 1 }
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

    /// The same, as the reference takes it.
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

    /// The stage whose input is added to this one's sum, before the activation: the first of the same operator.
    pub fn shortcut_from(&self) -> Option<usize> {
        self.shortcut_from
    }

    /// The description of its convolution.
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
        h * w * if self.kind == StageKind::Standard { self.input.c } else { 1 }
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

    /// The reference of this stage, of a dense NHWC input.
    fn reference<T: Number + From<f32>>(
        &self,
        (filter, bias): (&[T], &[T]),
        input: &[T],
        shortcut: Option<&[T]>,
        arithmetic: Arithmetic,
    ) -> Vec<T> {
        let mut output = vec![T::ZERO; values_of(self.output)];
        let to = tensor_mut(&mut output, self.output);
        let from = tensor(input, self.input);
        let (epilogue, params) = self.epilogue();
        let conv = reference::Conv { window: self.window(), filter, bias, epilogue, params: &params };
        match self.kind {
            StageKind::AveragePool => reference::average_pool(from, to),
            StageKind::Depthwise => reference::depthwise(&conv, from, to, arithmetic),
            StageKind::Standard => {
                reference::conv2d(&conv, from, shortcut.map(|s| tensor(s, self.output)), to, arithmetic);
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

/// A [`Case`] with its numbers, in the [`Layout`] that was asked for: what a kernel is given.
///
/// [`Case::input_gap`] and [`Case::output_gap`] values lie between pixels in NHWC, and between the rows of a plane in NCHW.
#[derive(Clone, Debug)]
pub struct Problem {
    case: Case,
    layout: Layout,
    stages: Vec<Stage>,
    /// Dense NHWC.
    values: Vec<f32>,
    /// As the kernel's layout has it.
    input: Vec<f32>,
}

/// What the input holds in its gaps: a kernel that takes it into a sum is found out.
const GAP: f32 = f32::from_bits(0x7fc0_beef);

impl Problem {
    /// Makes up the numbers of a case, or says what is wrong with it.
    pub fn new(case: &Case, layout: Layout) -> Result<Problem> {
        case.output()?;
        let mut stages: Vec<Stage> = Vec::new();
        let mut shape = case.input;
        for op in &case.ops {
            let entered = shape;
            let first = stages.len();
            if let Op::AveragePool = op {
                stages.push(Stage::average_pool(shape));
                shape = Shape { h: 1, w: 1, ..shape };
            }
            for conv in op.convs() {
                let stage = Stage::new(conv, shape);
                shape = stage.output;
                stages.push(stage);
            }
            if let (Op::InvertedResidual { shortcut: true, .. }, Some(last)) = (op, stages.last_mut())
                && shape == entered
            {
                last.shortcut_from = Some(first);
            }
        }
        let mut problem = Problem { case: case.clone(), layout, stages, values: vec![], input: vec![] };
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

    /// The shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.stages.last().map_or(self.case.input, |stage| stage.output)
    }

    /// The distances between the values of the input.
    pub fn input_strides(&self) -> Strides {
        strides(self.layout, self.case.input, self.case.input_gap)
    }

    /// The distances between the values of the output. Values between them are not to be written.
    pub fn output_strides(&self) -> Strides {
        strides(self.layout, self.output_shape(), self.case.output_gap)
    }

    /// Values that the output has in memory.
    pub(super) fn output_span(&self) -> usize {
        span(self.output_shape(), self.output_strides())
    }

    /// Where the value at an image, row, column and channel of the output is in memory.
    pub(super) fn output_at(&self, at: [usize; 4]) -> usize {
        place(self.output_strides(), at)
    }

    /// Everything that is to be computed, in order: each convolution of each operator.
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

    /// What the reference gives, in f32 by the contract: dense NHWC.
    pub fn reference_f32(&self, arithmetic: Arithmetic) -> Vec<f32> {
        self.reference(self.values.clone(), arithmetic, |v| v as f32)
    }

    /// What the reference gives in f64, with batch norms that nothing rounds: dense NHWC.
    pub fn reference_f64(&self) -> Vec<f64> {
        self.reference(self.values.iter().map(|&v| f64::from(v)).collect(), Arithmetic::Separate, |v| v)
    }

    fn reference<T: Number + From<f32>>(&self, input: Vec<T>, arithmetic: Arithmetic, round: fn(f64) -> T) -> Vec<T> {
        let mut tensors = vec![input];
        for (at, stage) in self.stages.iter().enumerate() {
            let (filter, bias) = stage.folded();
            let [filter, bias] = [filter, bias].map(|v| v.into_iter().map(round).collect::<Vec<T>>());
            let shortcut = stage.shortcut_from.map(|from| &tensors[from][..]);
            tensors.push(stage.reference((&filter, &bias), &tensors[at], shortcut, arithmetic));
        }
        tensors.pop().unwrap_or_default()
    }

    /// The input, dense NHWC.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }
}
