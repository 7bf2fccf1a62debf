//! Operators as data: what proptest generates, shrinks and prints, and what both the library and the reference are given.
//!
//! A case holds seeds in place of values, so that a failure prints in a few lines. Sizes are biased to the edges of tiles,
//! vectors and blocks, then cut down until the case has no more multiply-adds than its budget.

use proptest::prelude::*;
use proptest::sample::select;
use sepconv::{
    Activation, BatchNorm, Conv2d, ConvDesc, Dense as DenseLayer, DepthwiseConv2d, Filter, GlobalAveragePool,
    InvertedResidual, InvertedResidualDesc, Layer, Padding, PointwiseConv2d, SeparableConv2d, Shape,
};
use sepconv_kernels::reference::{self, Number, Tensor, TensorMut};

use super::{Arithmetic, Dense, Frame, Rng, Runs, Values};

/// The window of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct WindowCase {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
}

impl WindowCase {
    pub const POINT: WindowCase =
        WindowCase { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], padding: Padding::Same };

    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Padding before, and output size, of an axis; `None` where the kernel does not fit.
    fn lay(&self, axis: usize, size: usize) -> Option<(usize, usize)> {
        let (reach, stride) = (self.reach(axis), self.stride[axis]);
        let [before, after] = match self.padding {
            Padding::Valid => [0, 0],
            Padding::Same => {
                let out = size.div_ceil(stride);
                let total = ((out - 1) * stride + reach).saturating_sub(size);
                [total / 2, total - total / 2]
            }
            Padding::Explicit { top, bottom, left, right } => [[top, bottom], [left, right]][axis],
        };
        let padded = size + before + after;
        (padded >= reach).then(|| (before, (padded - reach) / stride + 1))
    }

    /// The output's rows and columns.
    pub fn out(&self, [h, w]: [usize; 2]) -> [usize; 2] {
        [self.lay(0, h).unwrap().1, self.lay(1, w).unwrap().1]
    }
}

/// Batch norm, without its vectors.
#[derive(Clone, Copy, Debug)]
pub struct NormCase {
    pub gamma: bool,
    pub beta: bool,
    pub epsilon: f64,
}

/// Which operator's filter it is, and in which order its values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Hwio,
    Oihw,
    Ohwi,
    DepthwiseHwcm,
    DepthwiseC1hw,
}

/// A convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvCase {
    pub order: Order,
    pub window: WindowCase,
    pub inputs: usize,
    /// Outputs, or the multiplier of a depthwise convolution.
    pub outputs: usize,
    pub activation: Activation,
    pub bias: bool,
    pub norm: Option<NormCase>,
    pub values: Values,
    pub seed: u64,
}

impl ConvCase {
    pub fn is_depthwise(&self) -> bool {
        matches!(self.order, Order::DepthwiseHwcm | Order::DepthwiseC1hw)
    }

    pub fn channels_out(&self) -> usize {
        if self.is_depthwise() { self.inputs * self.outputs } else { self.outputs }
    }

    pub fn output(&self, input: Shape) -> Shape {
        let [h, w] = self.window.out([input.h, input.w]);
        Shape::new(input.n, h, w, self.channels_out())
    }

    pub fn macs(&self, input: Shape) -> u64 {
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let each = if self.is_depthwise() { taps } else { taps * self.inputs };
        self.output(input).len().unwrap() as u64 * each as u64
    }

    /// Makes up the values.
    pub fn build(&self) -> Conv {
        let rng = &mut Rng(self.seed);
        let [kh, kw] = self.window.kernel;
        let (i, o) = (self.inputs, self.outputs);
        let canonical = rng.values(kh * kw * i * o, self.values);
        let n = self.channels_out();
        let mut vector = |there: bool, values| there.then(|| rng.values(n, values));
        let bias = vector(self.bias, self.values);
        let norm = self.norm.map(|norm| Norm {
            gamma: vector(norm.gamma, Values::Plain),
            beta: vector(norm.beta, Values::Plain),
            mean: vector(true, Values::Plain).unwrap(),
            // a variance of zero with an epsilon of zero is an error, and tested as one
            variance: vector(true, Values::Plain).unwrap().into_iter().map(|v| v.abs().max(f32::EPSILON)).collect(),
            epsilon: norm.epsilon,
        });
        let mut ordered = vec![0.0; canonical.len()];
        for (at, &value) in canonical.iter().enumerate() {
            let (oc, ic, x, y) = (at % o, at / o % i, at / (o * i) % kw, at / (o * i * kw));
            ordered[match self.order {
                Order::Hwio | Order::DepthwiseHwcm => at,
                Order::Oihw => ((oc * i + ic) * kh + y) * kw + x,
                Order::Ohwi => ((oc * kh + y) * kw + x) * i + ic,
                Order::DepthwiseC1hw => ((ic * o + oc) * kh + y) * kw + x,
            }] = value;
        }
        Conv { case: *self, canonical, ordered, bias, norm }
    }
}

struct Norm {
    gamma: Option<Vec<f32>>,
    beta: Option<Vec<f32>>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f64,
}

/// A convolution with its values.
pub struct Conv {
    pub case: ConvCase,
    /// HWIO, or HWCM.
    canonical: Vec<f32>,
    /// In the case's order.
    ordered: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<Norm>,
}

impl Conv {
    pub fn desc(&self) -> ConvDesc<'_> {
        let ConvCase { order, window, inputs: i, outputs: o, activation, .. } = self.case;
        let [h, w] = window.kernel;
        let data = &self.ordered[..];
        let point = window.kernel == [1, 1];
        let mut desc = ConvDesc::new(match order {
            Order::Hwio if point => Filter::io(data, [i, o]),
            Order::Oihw if point => Filter::oi(data, [o, i]),
            Order::Hwio => Filter::hwio(data, [h, w, i, o]),
            Order::Oihw => Filter::oihw(data, [o, i, h, w]),
            Order::Ohwi => Filter::ohwi(data, [o, h, w, i]),
            Order::DepthwiseHwcm if o == 1 => Filter::depthwise_hwc(data, [h, w, i]),
            Order::DepthwiseHwcm => Filter::depthwise_hwcm(data, [h, w, i, o]),
            Order::DepthwiseC1hw => Filter::depthwise_c1hw(data, [i, h, w], o),
        })
        .strides(window.stride)
        .dilations(window.dilation)
        .padding(window.padding)
        .activation(activation);
        if let Some(bias) = &self.bias {
            desc = desc.bias(bias);
        }
        if let Some(norm) = &self.norm {
            desc = desc.batch_norm(BatchNorm {
                gamma: norm.gamma.as_deref(),
                beta: norm.beta.as_deref(),
                mean: &norm.mean,
                variance: &norm.variance,
                epsilon: norm.epsilon,
            });
        }
        desc
    }

    /// Filter and bias with the batch norm in them, as the contract says: in f64, rounded once.
    pub fn folded(&self) -> (Vec<f32>, Vec<f32>) {
        let n = self.case.channels_out();
        let bias = |o: usize| self.bias.as_ref().map_or(0.0, |bias| bias[o]);
        let Some(norm) = &self.norm else {
            return (self.canonical.clone(), (0..n).map(bias).collect());
        };
        let of = |values: &Option<Vec<f32>>, o: usize, default| values.as_ref().map_or(default, |v| f64::from(v[o]));
        let scale = |o: usize| of(&norm.gamma, o, 1.0) / (f64::from(norm.variance[o]) + norm.epsilon).sqrt();
        // in the canonical order the output channel, and a depthwise filter's `c × multiplier + m`, comes last
        let filter = self.canonical.iter().enumerate().map(|(at, &w)| (f64::from(w) * scale(at % n)) as f32);
        let bias =
            (0..n).map(|o| ((f64::from(bias(o)) - f64::from(norm.mean[o])) * scale(o) + of(&norm.beta, o, 0.0)) as f32);
        (filter.collect(), bias.collect())
    }

    /// The same with the folded filter's and bias's absolute values, and nothing clamped.
    pub fn absolute(&self) -> Conv {
        let (filter, bias) = self.folded();
        let [canonical, bias] = [filter, bias].map(|v| v.into_iter().map(f32::abs).collect::<Vec<f32>>());
        let case = ConvCase { activation: Activation::Linear, norm: None, bias: true, ..self.case };
        Conv { case, ordered: vec![], canonical, bias: Some(bias), norm: None }
    }

    /// The reference's result. `T` is f32, or f64 on the same folded values.
    pub fn reference<T: Number + From<f32>>(
        &self,
        input: &Dense<T>,
        residual: Option<&Dense<T>>,
        arithmetic: Arithmetic,
    ) -> Dense<T> {
        let window = self.case.window;
        let (filter, bias) = self.folded();
        let [filter, bias] = [filter, bias].map(|v| v.into_iter().map(T::from).collect::<Vec<T>>());
        let size = [input.shape.h, input.shape.w];
        let conv = reference::Conv {
            window: reference::Window {
                kernel: window.kernel,
                stride: window.stride,
                dilation: window.dilation,
                before: [0, 1].map(|axis| window.lay(axis, size[axis]).unwrap().0),
            },
            filter: &filter,
            bias: &bias,
            clamp: self.case.activation.bounds().map(T::from),
        };
        let shape = self.case.output(input.shape);
        let mut output = Dense { shape, data: vec![T::ZERO; shape.len().unwrap()] };
        if self.case.is_depthwise() {
            assert!(residual.is_none(), "the reference has no residual here");
            reference::depthwise(&conv, tensor(input), tensor_mut(&mut output), arithmetic);
        } else {
            reference::conv(&conv, tensor(input), residual.map(tensor), tensor_mut(&mut output), arithmetic);
        }
        output
    }
}

pub fn tensor<T>(dense: &Dense<T>) -> Tensor<'_, T> {
    let Shape { n, h, w, c } = dense.shape;
    Tensor { data: &dense.data, shape: [n, h, w, c], pixel_stride: c }
}

pub fn tensor_mut<T>(dense: &mut Dense<T>) -> TensorMut<'_, T> {
    let Shape { n, h, w, c } = dense.shape;
    TensorMut { data: &mut dense.data, shape: [n, h, w, c], pixel_stride: c }
}

/// A layer of a network, an operator by itself among them.
#[derive(Clone, Debug)]
pub enum LayerCase {
    Conv2d(ConvCase),
    Depthwise(ConvCase),
    Pointwise(ConvCase),
    Separable(ConvCase, ConvCase),
    Inverted { expand: Option<ConvCase>, depthwise: ConvCase, project: ConvCase, shortcut: bool },
    Pool(usize),
    Dense(ConvCase),
}

impl LayerCase {
    /// Its convolutions in order.
    pub fn convs(&self) -> Vec<ConvCase> {
        match self {
            LayerCase::Conv2d(c) | LayerCase::Depthwise(c) | LayerCase::Pointwise(c) | LayerCase::Dense(c) => vec![*c],
            LayerCase::Separable(d, p) => vec![*d, *p],
            LayerCase::Inverted { expand, depthwise, project, .. } => {
                expand.iter().copied().chain([*depthwise, *project]).collect()
            }
            LayerCase::Pool(_) => vec![],
        }
    }

    fn convs_mut(&mut self) -> Vec<&mut ConvCase> {
        match self {
            LayerCase::Conv2d(c) | LayerCase::Depthwise(c) | LayerCase::Pointwise(c) | LayerCase::Dense(c) => vec![c],
            LayerCase::Separable(d, p) => vec![d, p],
            LayerCase::Inverted { expand, depthwise, project, .. } => {
                expand.iter_mut().chain([depthwise, project]).collect()
            }
            LayerCase::Pool(_) => vec![],
        }
    }

    pub fn output(&self, input: Shape) -> Shape {
        match self {
            LayerCase::Pool(c) => Shape::new(input.n, 1, 1, *c),
            _ => self.convs().iter().fold(input, |shape, conv| conv.output(shape)),
        }
    }

    pub fn macs(&self, input: Shape) -> u64 {
        let mut shape = input;
        let mut macs = 0;
        for conv in self.convs() {
            macs += conv.macs(shape);
            shape = conv.output(shape);
        }
        macs
    }

    pub fn build(&self) -> Built {
        Built { case: self.clone(), convs: self.convs().iter().map(ConvCase::build).collect() }
    }
}

/// A layer with its values.
pub struct Built {
    pub case: LayerCase,
    convs: Vec<Conv>,
}

impl Built {
    pub fn layer(&self) -> Layer {
        let desc = |i: usize| self.convs[i].desc();
        match &self.case {
            LayerCase::Conv2d(_) => Conv2d::new(desc(0)).unwrap().into(),
            LayerCase::Depthwise(_) => DepthwiseConv2d::new(desc(0)).unwrap().into(),
            LayerCase::Pointwise(_) => PointwiseConv2d::new(desc(0)).unwrap().into(),
            LayerCase::Separable(..) => SeparableConv2d::new(desc(0), desc(1)).unwrap().into(),
            LayerCase::Inverted { expand, shortcut, .. } => {
                let at = usize::from(expand.is_some());
                let mut block = InvertedResidualDesc::new(desc(at), desc(at + 1)).shortcut(*shortcut);
                if expand.is_some() {
                    block = block.expand(desc(0));
                }
                InvertedResidual::new(block).unwrap().into()
            }
            LayerCase::Pool(channels) => GlobalAveragePool::new(*channels).unwrap().into(),
            LayerCase::Dense(_) => DenseLayer::new(desc(0)).unwrap().into(),
        }
    }

    pub fn reference<T: Number + From<f32>>(&self, input: &Dense<T>, arithmetic: Arithmetic) -> Dense<T> {
        if let LayerCase::Pool(channels) = self.case {
            let shape = Shape::new(input.shape.n, 1, 1, channels);
            let mut output = Dense { shape, data: vec![T::ZERO; shape.len().unwrap()] };
            reference::average_pool(tensor(input), tensor_mut(&mut output));
            return output;
        }
        let shortcut = matches!(self.case, LayerCase::Inverted { shortcut: true, .. })
            && self.case.output(input.shape) == input.shape;
        let mut x = None;
        for (i, conv) in self.convs.iter().enumerate() {
            let residual = (shortcut && i + 1 == self.convs.len()).then_some(input);
            x = Some(conv.reference(x.as_ref().unwrap_or(input), residual, arithmetic));
        }
        x.unwrap()
    }
}

/// Operators one after another, with the input that they are given and how they are run.
#[derive(Clone, Debug)]
pub struct ChainCase {
    pub layers: Vec<LayerCase>,
    pub input: Shape,
    pub values: Values,
    pub seed: u64,
    pub runs: Runs,
}

impl ChainCase {
    pub fn macs(&self) -> u64 {
        let mut shape = self.input;
        let mut macs = 0;
        for layer in &self.layers {
            macs += layer.macs(shape);
            shape = layer.output(shape);
        }
        macs
    }

    pub fn input(&self) -> Dense {
        Dense::random(&mut Rng(self.seed), self.input, self.values)
    }

    pub fn build(&self) -> Vec<Built> {
        self.layers.iter().map(LayerCase::build).collect()
    }

    /// Makes channels follow from one convolution to the next, then cuts sizes until the case fits its budget and every
    /// kernel its plane. Where sizes alone do not do, the last layers go.
    fn fit(mut self, budget: u64, keep: Keep) -> Self {
        self.link();
        let windows: Vec<Vec<WindowCase>> =
            self.layers.iter().map(|layer| layer.convs().iter().map(|c| c.window).collect()).collect();
        let least = [0, 1].map(|axis| (1..).find(|&size| fits(&windows, &self.layers, axis, size)).unwrap());
        self.input.h = self.input.h.max(least[0]);
        self.input.w = self.input.w.max(least[1]);
        for step in 0.. {
            if self.macs() <= budget {
                break;
            }
            let cut = |size: usize, least: usize| least.max(size - size.div_ceil(4));
            let before = (self.input, self.channels());
            let plane = match keep {
                Keep::Channels => true,
                Keep::Plane => false,
                Keep::Both => step % 2 == 0,
            };
            // what is kept goes last, and only where the rest is as small as it can be
            for plane in [plane, !plane] {
                if plane {
                    match step % 3 {
                        0 if self.input.n > 1 => self.input.n -= 1,
                        1 if self.input.w > least[1] => self.input.w = cut(self.input.w, least[1]),
                        _ if self.input.h > least[0] => self.input.h = cut(self.input.h, least[0]),
                        _ if self.input.w > least[1] => self.input.w = cut(self.input.w, least[1]),
                        _ => self.input.n = (self.input.n - 1).max(1),
                    }
                } else {
                    self.input.c = cut(self.input.c, 1);
                    for conv in self.layers.iter_mut().flat_map(LayerCase::convs_mut) {
                        if !conv.is_depthwise() {
                            conv.outputs = cut(conv.outputs, 1);
                        }
                    }
                    self.link();
                }
                if before != (self.input, self.channels()) {
                    break;
                }
            }
            if before == (self.input, self.channels()) {
                // strides multiply from layer to layer, and so does the smallest plane that all of them fit
                assert!(self.layers.len() > 1, "a layer that nothing makes smaller: {self:?}");
                self.layers.pop();
                return self.fit(budget, keep);
            }
        }
        self
    }

    fn channels(&self) -> Vec<usize> {
        self.layers.iter().flat_map(LayerCase::convs).map(|conv| conv.outputs).collect()
    }

    fn link(&mut self) {
        let mut channels = self.input.c;
        for layer in &mut self.layers {
            if let LayerCase::Pool(c) = layer {
                *c = channels;
            }
            // a shortcut needs as many channels out as in, which by chance are seldom the same
            let entered = channels;
            let shortcut = matches!(layer, LayerCase::Inverted { shortcut: true, .. });
            let mut convs = layer.convs_mut();
            if shortcut && convs.last().is_some_and(|project| !project.seed.is_multiple_of(8)) {
                convs.last_mut().unwrap().outputs = entered;
            }
            for conv in convs {
                conv.inputs = channels;
                channels = conv.channels_out();
            }
        }
    }
}

/// Whether every kernel fits the axis of the plane that reaches it.
fn fits(windows: &[Vec<WindowCase>], layers: &[LayerCase], axis: usize, size: usize) -> bool {
    let mut size = Some(size);
    for (windows, layer) in windows.iter().zip(layers) {
        if matches!(layer, LayerCase::Pool(_)) {
            size = size.map(|_| 1);
        }
        for window in windows {
            size = size.and_then(|size| window.lay(axis, size)).map(|(_, out)| out);
        }
    }
    size.is_some()
}

/// Which sizes a budget does not cut while others are left.
#[derive(Clone, Copy, Debug)]
enum Keep {
    Channels,
    Plane,
    Both,
}

/// Planes of 1…40, most often at the ends of tiles (4, 5, 6, 8, 12 and 16 pixels) and of the planes of MobileNet.
fn side() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => select(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 24, 25, 28, 29]),
        1 => 1usize..=40,
    ]
}

/// Channels of 1…200, most often at the ends of vectors, half panels, blocks, and groups of panels.
fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => select(vec![
            1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40, 41, 47, 48, 49, 56, 63, 64, 65, 72, 80, 96,
            97, 112, 127, 128, 129, 144, 160, 192, 199, 200
        ]),
        1 => 1usize..=200,
    ]
}

fn batch() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(1), 1 => Just(2), 1 => Just(3)]
}

/// Kernels of 1…7, strides and dilations of 1…3 and every kind of padding. A depthwise 3×3 at equal strides of 1 or 2 is
/// what has tiles of its own, so it comes most often.
fn window() -> impl Strategy<Value = WindowCase> {
    let kernel = prop_oneof![
        5 => Just([3, 3]),
        1 => Just([1, 1]),
        1 => Just([5, 5]),
        2 => [1usize..=7, 1usize..=7],
    ];
    let stride = prop_oneof![
        3 => Just([1, 1]),
        3 => Just([2, 2]),
        2 => [1usize..=3, 1usize..=3],
    ];
    let dilation = prop_oneof![4 => Just([1, 1]), 1 => [1usize..=3, 1usize..=3]];
    (kernel, stride, dilation, 0..8, [0usize..64, 0usize..64, 0usize..64, 0usize..64]).prop_map(
        |(kernel, stride, dilation, style, sides)| {
            let mut window = WindowCase { kernel, stride, dilation, padding: Padding::Same };
            let reach = [window.reach(0), window.reach(1)];
            // up to what the kernel needs, or beyond it: rows and columns that see nothing but padding
            let explicit = |beyond: usize| {
                let side = |side: usize, axis: usize| sides[side] % (reach[axis] + beyond);
                Padding::Explicit { top: side(0, 0), bottom: side(1, 0), left: side(2, 1), right: side(3, 1) }
            };
            window.padding = match style {
                0..=2 => Padding::Same,
                3 | 4 => Padding::Valid,
                5 => Padding::Explicit {
                    top: reach[0] / 2,
                    bottom: reach[0] / 2,
                    left: reach[1] / 2,
                    right: reach[1] / 2,
                },
                6 => explicit(0),
                _ => explicit(4),
            };
            window
        },
    )
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        2 => Just(Activation::Linear),
        2 => Just(Activation::Relu),
        3 => Just(Activation::Relu6),
        2 => select(vec![
            [-0.5, 0.5],
            [0.25, 0.25],
            [-0.0, 1.0],
            [-1.0, -0.0],
            [f32::NEG_INFINITY, 0.1],
            [-0.1, f32::INFINITY],
            [f32::MIN, f32::MAX],
        ]).prop_map(|[min, max]| Activation::Clamp { min, max }),
    ]
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![6 => Just(Values::Plain), 1 => Just(Values::Tiny), 2 => Just(Values::Special)]
}

fn norm() -> impl Strategy<Value = Option<NormCase>> {
    let norm = (any::<bool>(), any::<bool>(), select(vec![1e-3, 1e-5, 0.0]))
        .prop_map(|(gamma, beta, epsilon)| NormCase { gamma, beta, epsilon });
    proptest::option::of(norm)
}

/// A convolution of the given orders; its inputs are set where it is linked to what stands before.
fn conv(
    orders: &'static [Order],
    window: impl Strategy<Value = WindowCase>,
    outputs: impl Strategy<Value = usize>,
) -> impl Strategy<Value = ConvCase> {
    (select(orders), window, outputs, activation(), any::<bool>(), norm(), values(), any::<u64>()).prop_map(
        |(order, window, outputs, activation, bias, norm, values, seed)| ConvCase {
            order,
            window,
            inputs: 0,
            outputs,
            activation,
            bias,
            norm,
            values,
            seed,
        },
    )
}

const STANDARD: &[Order] = &[Order::Hwio, Order::Oihw, Order::Ohwi];
const MATRIX: &[Order] = &[Order::Hwio, Order::Oihw];
const DEPTHWISE: &[Order] = &[Order::DepthwiseHwcm, Order::DepthwiseC1hw];

fn multiplier() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(1usize), 1 => 2usize..=4]
}

/// Padding of a 1×1 kernel is nothing under either name.
fn point() -> impl Strategy<Value = WindowCase> {
    select(vec![Padding::Same, Padding::Valid, Padding::all(0)])
        .prop_map(|padding| WindowCase { padding, ..WindowCase::POINT })
}

pub fn conv2d() -> impl Strategy<Value = LayerCase> {
    conv(STANDARD, window(), channels()).prop_map(LayerCase::Conv2d)
}

pub fn depthwise() -> impl Strategy<Value = LayerCase> {
    conv(DEPTHWISE, window(), multiplier()).prop_map(LayerCase::Depthwise)
}

pub fn pointwise() -> impl Strategy<Value = LayerCase> {
    conv(STANDARD, point(), channels()).prop_map(LayerCase::Pointwise)
}

pub fn separable() -> impl Strategy<Value = LayerCase> {
    (conv(DEPTHWISE, window(), multiplier()), conv(STANDARD, point(), channels()))
        .prop_map(|(depthwise, pointwise)| LayerCase::Separable(depthwise, pointwise))
}

pub fn inverted() -> impl Strategy<Value = LayerCase> {
    let expand = prop_oneof![
        1 => Just(None),
        3 => conv(STANDARD, point(), channels()).prop_map(Some),
        2 => conv(STANDARD, window(), channels()).prop_map(Some),
    ];
    // half of them as in the papers, since only stride 1 and SAME keep the shape that a shortcut needs
    let kept =
        select(vec![[3, 3], [5, 5], [3, 1], [7, 7]]).prop_map(|kernel| WindowCase { kernel, ..WindowCase::POINT });
    let depthwise = prop_oneof![conv(DEPTHWISE, kept, multiplier()), conv(DEPTHWISE, window(), multiplier()),];
    (expand, depthwise, conv(STANDARD, point(), channels()), prop_oneof![3 => Just(true), 1 => Just(false)])
        .prop_map(|(expand, depthwise, project, shortcut)| LayerCase::Inverted { expand, depthwise, project, shortcut })
}

pub fn pool() -> impl Strategy<Value = LayerCase> {
    Just(LayerCase::Pool(0))
}

pub fn dense() -> impl Strategy<Value = LayerCase> {
    conv(MATRIX, Just(WindowCase::POINT), channels()).prop_map(LayerCase::Dense)
}

fn frame() -> impl Strategy<Value = Frame> {
    (0usize..4, prop_oneof![Just(0usize), Just(0), 1usize..=20]).prop_map(|(offset, gap)| Frame { offset, gap })
}

fn runs() -> impl Strategy<Value = Runs> {
    (frame(), frame(), 2usize..=4, proptest::bool::weighted(0.25)).prop_map(|(input, output, threads, again)| Runs {
        input,
        output,
        threads,
        again,
    })
}

/// Multiply-adds of a case: most are small, some large enough that a plan shares them out over threads.
fn budget() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(150_000), 3 => Just(1_000_000), 1 => Just(6_000_000)]
}

fn plane(flat: bool) -> impl Strategy<Value = [usize; 3]> {
    let side = || side().prop_map(move |side| if flat { 1 } else { side });
    (batch(), side(), side()).prop_map(|(n, h, w)| [n, h, w])
}

fn chain(
    layers: impl Strategy<Value = Vec<LayerCase>>,
    flat: bool,
    channels: impl Strategy<Value = usize>,
) -> impl Strategy<Value = ChainCase> {
    let keep = prop_oneof![Just(Keep::Both), Just(Keep::Channels), Just(Keep::Plane)];
    (layers, plane(flat), channels, values(), any::<u64>(), runs(), budget(), keep).prop_map(
        |(layers, [n, h, w], c, values, seed, runs, budget, keep)| {
            ChainCase { layers, input: Shape::new(n, h, w, c), values, seed, runs }.fit(budget, keep)
        },
    )
}

/// One operator.
pub fn alone(layer: impl Strategy<Value = LayerCase>) -> impl Strategy<Value = ChainCase> {
    chain(layer.prop_map(|layer| vec![layer]), false, channels())
}

/// One dense layer, most often of one pixel.
pub fn dense_alone() -> impl Strategy<Value = ChainCase> {
    let layer = || dense().prop_map(|layer| vec![layer]);
    prop_oneof![3 => chain(layer(), true, channels()), 1 => chain(layer(), false, channels())]
}

/// A network: up to four layers of any kind, then as often as not a pool, and dense layers behind it.
pub fn network() -> impl Strategy<Value = ChainCase> {
    let layer = prop_oneof![
        conv2d().boxed(),
        depthwise().boxed(),
        pointwise().boxed(),
        separable().boxed(),
        separable().boxed(),
        inverted().boxed(),
        inverted().boxed(),
        inverted().boxed(),
    ];
    let tail = prop_oneof![
        Just(vec![]).boxed(),
        pool().prop_map(|pool| vec![pool]).boxed(),
        (pool(), dense()).prop_map(|(pool, dense)| vec![pool, dense]).boxed(),
        (pool(), pointwise(), dense()).prop_map(|(pool, pointwise, dense)| vec![pool, pointwise, dense]).boxed(),
    ];
    let layers = (proptest::collection::vec(layer, 1..=4), tail).prop_map(|(mut layers, tail)| {
        layers.extend(tail);
        layers
    });
    chain(layers, false, channels())
}
