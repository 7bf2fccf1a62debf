//! Random graphs, the same graphs by a naive interpreter, and runs of them.

use std::fmt;

use proptest::prelude::*;
use sepconv::testing::ByChannel;
use sepconv::{
    Activation, Arithmetic, ChannelActivation, ConvDesc, Filter, Fusion, Network, Padding, PlanOptions, Result, Shape,
    TransposedConv2d, Value, View, ViewMut, WindowPoolDesc,
};

use crate::cases::nonlinearity;
use crate::naive::{self, NaiveConv, NaiveEnd, PooledAs, Window};
use crate::{DenseTensor, EMULATED_MACS, Guarded, LEVELS, Placement, Rng, Runs, ValueKind, note, threads};

/// A layer of a graph, over the values that are there: inputs first, then what each layer computes.
#[allow(missing_docs, reason = "fields are what the layers of a builder take: `x` and `y` are values")]
#[derive(Clone, Debug)]
pub enum GraphOp {
    /// A convolution.
    Conv { x: usize, kernel: [usize; 2], stride: usize, outputs: usize, activation: GraphActivation, seed: u64 },
    /// A depthwise convolution.
    Depthwise { x: usize, kernel: [usize; 2], stride: usize, multiplier: usize, activation: GraphActivation, seed: u64 },
    /// A convolution in groups of so many outputs.
    Grouped {
        x: usize,
        kernel: [usize; 2],
        stride: usize,
        groups: usize,
        outputs: usize,
        activation: GraphActivation,
        seed: u64,
    },
    /// A transposed convolution whose stride is its kernel.
    Transposed { x: usize, kernel: [usize; 2], outputs: usize, activation: GraphActivation, seed: u64 },
    /// A sum.
    Add { x: usize, y: usize, activation: GraphActivation, seed: u64 },
    /// A product.
    Scale { x: usize, y: usize },
    /// A concatenation.
    Concat { values: Vec<usize> },
    /// The mean over the plane.
    Mean { x: usize },
    /// The maximum or the mean over a window with padding.
    Pool { x: usize, kernel: [usize; 2], stride: usize, padding: [usize; 2], of: PooledAs },
    /// Each pixel several times.
    Resize { x: usize, factors: [usize; 2] },
}

/// What a layer of a graph applies to its sums.
#[derive(Clone, Copy, Debug)]
pub enum GraphActivation {
    /// The same for all channels.
    Alike(Activation),
    /// With parameters for each channel, which the seed of the layer makes.
    ByChannel(ByChannel),
}

impl From<Activation> for GraphActivation {
    fn from(activation: Activation) -> GraphActivation {
        GraphActivation::Alike(activation)
    }
}

impl GraphActivation {
    /// Slopes, or lower and upper bounds, of each channel.
    pub fn params(self, seed: u64, channels: usize) -> [Vec<f32>; 2] {
        // every few layers all channels are alike
        let rng = &mut Rng(!seed);
        let equal = rng.chance(5);
        let draw = |_| {
            let rng = if equal { &mut Rng(!seed) } else { &mut *rng };
            let [a, b] = [rng.float(), rng.float()];
            match self {
                GraphActivation::ByChannel(ByChannel::PRelu) => [2.0 * a, b],
                _ => [a.min(b), if rng.chance(4) { f32::INFINITY } else { a.max(b) }],
            }
        };
        (0..channels).map(draw).map(|[a, b]| (a, b)).unzip::<f32, f32, Vec<f32>, Vec<f32>>().into()
    }

    /// The activation by channel with these parameters, if it is one.
    pub fn by_channel(self, [first, second]: &[Vec<f32>; 2]) -> Option<ChannelActivation<'_>> {
        match self {
            GraphActivation::Alike(_) => None,
            GraphActivation::ByChannel(ByChannel::PRelu) => Some(ChannelActivation::PRelu { slopes: first }),
            GraphActivation::ByChannel(_) => Some(ChannelActivation::Clamp { min: first, max: second }),
        }
    }

    /// The activation of all channels, if it is one.
    pub fn alike(self) -> Activation {
        match self {
            GraphActivation::Alike(activation) => activation,
            GraphActivation::ByChannel(_) => Activation::Linear,
        }
    }

    /// The description with it.
    fn end<'a>(self, desc: ConvDesc<'a>, params: &'a [Vec<f32>; 2]) -> ConvDesc<'a> {
        match self.by_channel(params) {
            Some(activation) => desc.activation_by_channel(activation),
            None => desc.activation(self.alike()),
        }
    }
}

/// A graph: shapes of its inputs, layers, and the values that are outputs.
#[derive(Clone)]
pub struct GraphCase {
    /// Of the inputs.
    pub inputs: Vec<Shape>,
    /// In an order in which each reads what is there.
    pub ops: Vec<GraphOp>,
    /// Values that are outputs; one may come twice.
    pub outputs: Vec<usize>,
    /// Of the values of the inputs.
    pub seed: u64,
}

impl fmt::Debug for GraphCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inputs {:?}, seed {}", self.inputs, self.seed)?;
        for (i, op) in self.ops.iter().enumerate() {
            writeln!(f, "  {} = {op:?}", self.inputs.len() + i)?;
        }
        write!(f, "  outputs {:?}", self.outputs)
    }
}

/// The padding before a plane of `size`, and the output, of a window as TensorFlow's `SAME` has it.
fn same(size: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let out = size.div_ceil(stride);
    [((out - 1) * stride + kernel).saturating_sub(size) / 2, out]
}

fn window(plane: Shape, kernel: [usize; 2], stride: usize) -> Window {
    let before = [(plane.h, kernel[0]), (plane.w, kernel[1])].map(|(size, kernel)| same(size, kernel, stride)[0]);
    Window { kernel, stride: [stride; 2], dilation: [1; 2], before }
}

impl GraphOp {
    /// The values that it reads.
    pub fn reads(&self) -> Vec<usize> {
        match self {
            GraphOp::Conv { x, .. }
            | GraphOp::Depthwise { x, .. }
            | GraphOp::Grouped { x, .. }
            | GraphOp::Transposed { x, .. }
            | GraphOp::Mean { x }
            | GraphOp::Pool { x, .. }
            | GraphOp::Resize { x, .. } => vec![*x],
            GraphOp::Add { x, y, .. } | GraphOp::Scale { x, y } => vec![*x, *y],
            GraphOp::Concat { values } => values.clone(),
        }
    }

    /// The shape of what it computes.
    pub fn shape(&self, shapes: &[Shape]) -> Shape {
        let x = shapes[self.reads()[0]];
        let windowed = |[kh, kw]: [usize; 2], stride, c| {
            let [h, w] = [(x.h, kh), (x.w, kw)].map(|(size, kernel)| same(size, kernel, stride)[1]);
            Shape { h, w, c, ..x }
        };
        match self {
            GraphOp::Conv { kernel, stride, outputs, .. } => windowed(*kernel, *stride, *outputs),
            GraphOp::Depthwise { kernel, stride, multiplier, .. } => windowed(*kernel, *stride, x.c * multiplier),
            GraphOp::Grouped { kernel, stride, groups, outputs, .. } => windowed(*kernel, *stride, groups * outputs),
            GraphOp::Transposed { kernel: [kh, kw], outputs, .. } => {
                Shape { h: kh * x.h, w: kw * x.w, c: *outputs, ..x }
            }
            GraphOp::Add { .. } | GraphOp::Scale { .. } => x,
            GraphOp::Concat { values } => Shape { c: values.iter().map(|&value| shapes[value].c).sum(), ..x },
            GraphOp::Mean { .. } => Shape { h: 1, w: 1, ..x },
            GraphOp::Pool { kernel, stride, padding, .. } => {
                let along = |size, axis: usize| (size + 2 * padding[axis] - kernel[axis]) / stride + 1;
                let [h, w] = [along(x.h, 0), along(x.w, 1)];
                Shape { h, w, ..x }
            }
            GraphOp::Resize { factors: [rows, columns], .. } => Shape { h: x.h * rows, w: x.w * columns, ..x },
        }
    }

    /// Weights and bias of a convolution: HWIO, of groups too, HWCM of a depthwise one, HWOI of a transposed one.
    pub fn weights(&self, inputs: usize) -> [Vec<f32>; 2] {
        let (len, outputs, seed) = match *self {
            GraphOp::Conv { kernel: [kh, kw], outputs, seed, .. } => (kh * kw * inputs * outputs, outputs, seed),
            GraphOp::Depthwise { kernel: [kh, kw], multiplier, seed, .. } => {
                (kh * kw * inputs * multiplier, inputs * multiplier, seed)
            }
            GraphOp::Grouped { kernel: [kh, kw], groups, outputs, seed, .. } => {
                (kh * kw * inputs * outputs, groups * outputs, seed)
            }
            GraphOp::Transposed { kernel: [kh, kw], outputs, seed, .. } => (kh * kw * inputs * outputs, outputs, seed),
            _ => (0, 0, 0),
        };
        let rng = &mut Rng(seed);
        [rng.values(len, ValueKind::Plain), rng.values(outputs, ValueKind::Plain)]
    }

    /// Its activation, if it has one.
    pub fn activation(&self) -> GraphActivation {
        match *self {
            GraphOp::Conv { activation, .. }
            | GraphOp::Depthwise { activation, .. }
            | GraphOp::Grouped { activation, .. }
            | GraphOp::Transposed { activation, .. }
            | GraphOp::Add { activation, .. } => activation,
            _ => Activation::Linear.into(),
        }
    }

    /// The parameters of its activation, of so many output channels.
    pub fn params(&self, channels: usize) -> [Vec<f32>; 2] {
        let seed = match *self {
            GraphOp::Conv { seed, .. }
            | GraphOp::Depthwise { seed, .. }
            | GraphOp::Grouped { seed, .. }
            | GraphOp::Transposed { seed, .. }
            | GraphOp::Add { seed, .. } => seed,
            _ => 0,
        };
        self.activation().params(seed, channels)
    }

    /// Adds the layer to a builder.
    fn build(&self, graph: &mut sepconv::GraphBuilder, values: &[Value], shapes: &[Shape]) -> Result<Value> {
        let read = self.reads();
        let (x, c) = (values[read[0]], shapes[read[0]].c);
        let [weights, bias] = self.weights(c);
        let (activation, params) = (self.activation(), self.params(self.shape(shapes).c));
        let described = |filter| activation.end(ConvDesc::new(filter).bias(&bias), &params);
        match *self {
            GraphOp::Conv { kernel: [kh, kw], stride, outputs, .. } => {
                let filter = Filter::hwio(&weights, [kh, kw, c, outputs]);
                graph.conv(x, described(filter).stride(stride))
            }
            GraphOp::Depthwise { kernel: [kh, kw], stride, multiplier, .. } => {
                let filter = Filter::depthwise_hwcm(&weights, [kh, kw, c, multiplier]);
                graph.conv(x, described(filter).stride(stride))
            }
            GraphOp::Grouped { kernel: [kh, kw], stride, groups, outputs, .. } => {
                let filter = Filter::hwio(&weights, [kh, kw, c / groups, groups * outputs]);
                graph.conv(x, described(filter).stride(stride).groups(groups))
            }
            GraphOp::Transposed { kernel: [kh, kw], outputs, .. } => {
                let filter = Filter::hwoi(&weights, [kh, kw, outputs, c]);
                graph.layer(x, TransposedConv2d::new(described(filter).strides([kh, kw]))?)
            }
            GraphOp::Add { y, .. } => match activation.by_channel(&params) {
                Some(activation) => graph.add_by_channel(x, values[y], activation),
                None => graph.add(x, values[y], activation.alike()),
            },
            GraphOp::Scale { y, .. } => graph.scale(x, values[y]),
            GraphOp::Concat { .. } => graph.concat(&read.iter().map(|&value| values[value]).collect::<Vec<_>>()),
            GraphOp::Mean { .. } => graph.global_average_pool(x),
            GraphOp::Pool { kernel, stride, padding, of, .. } => {
                let desc = match of {
                    PooledAs::Maximum => WindowPoolDesc::max(kernel),
                    PooledAs::Mean => WindowPoolDesc::average(kernel),
                    PooledAs::MeanOfAll => WindowPoolDesc::average(kernel).count_padding(),
                };
                let [rows, columns] = padding;
                let padding = Padding::Explicit { top: rows, bottom: rows, left: columns, right: columns };
                graph.window_pool(x, desc.stride(stride).padding(padding))
            }
            GraphOp::Resize { factors, .. } => graph.resize(x, factors),
        }
    }

    /// Computes it by plain loops.
    fn evaluate(&self, values: &[DenseTensor], shapes: &[Shape], arithmetic: Arithmetic) -> DenseTensor {
        let read = self.reads();
        let x = &values[read[0]];
        let shape = self.shape(shapes);
        let [weights, bias] = self.weights(x.shape.c);
        let (activation, params) = (self.activation(), self.params(shape.c));
        let (kind, params) = nonlinearity(activation.alike(), activation.by_channel(&params));
        let end = NaiveEnd::by_channel(kind, &params);
        match *self {
            GraphOp::Conv { kernel, stride, .. } => {
                let conv = NaiveConv::new(window(x.shape, kernel, stride), &weights, &bias, end);
                naive::conv(&conv, x, shape, arithmetic)
            }
            GraphOp::Depthwise { kernel, stride, .. } => {
                let conv = NaiveConv::new(window(x.shape, kernel, stride), &weights, &bias, end);
                naive::depthwise(&conv, x, shape, arithmetic)
            }
            GraphOp::Grouped { kernel, stride, groups, .. } => {
                let conv = NaiveConv::new(window(x.shape, kernel, stride), &weights, &bias, end);
                naive::grouped(&conv, groups, x, shape, arithmetic)
            }
            GraphOp::Transposed { kernel, .. } => {
                let window = Window { kernel, stride: kernel, ..Window::POINT };
                let conv = NaiveConv::new(window, &weights, &bias, end);
                naive::transposed(&conv, x, shape, arithmetic)
            }
            GraphOp::Add { y, .. } => naive::add(x, &values[y], end, arithmetic),
            GraphOp::Scale { y, .. } => naive::scale(x, &values[y], arithmetic),
            GraphOp::Concat { .. } => naive::concat(&read.iter().map(|&value| &values[value]).collect::<Vec<_>>()),
            GraphOp::Mean { .. } => naive::mean(x),
            GraphOp::Pool { kernel, stride, padding, of, .. } => {
                let window = Window { kernel, stride: [stride; 2], dilation: [1; 2], before: padding };
                naive::pool(of, window, x, shape)
            }
            GraphOp::Resize { factors, .. } => naive::resize(x, factors),
        }
    }
}

impl GraphCase {
    /// A graph of so many layers.
    pub fn draw(rng: &mut Rng, layers: usize) -> GraphCase {
        let n = rng.pick(&[1, 1, 2, 3]);
        // planes of one column are planned as planes of one row
        let plane = rng.pick(&[[1, 1], [5, 5], [4, 7], [7, 4], [9, 1], [1, 9], [12, 12]]);
        let mut inputs = Vec::new();
        for _ in 0..rng.pick(&[1, 1, 2, 3]) {
            let channels = rng.pick(&[1, 3, 8, 16, 20, 32]);
            inputs.push(Shape::new(n, plane[0], plane[1], channels));
        }
        let mut shapes = inputs.clone();
        let mut ops: Vec<GraphOp> = Vec::new();
        // one in a few graphs is a signal: planes of one column stay so
        let is_signal = plane[1] == 1;
        while ops.len() < layers {
            let drawn = if rng.chance(5) { draw_block(rng, &shapes) } else { vec![draw_op(rng, &shapes)] };
            for op in drawn {
                let shape = op.shape(&shapes);
                if shape.h * shape.w > 600 || shape.c > 200 || (is_signal && shape.w > 1) {
                    break;
                }
                shapes.push(shape);
                ops.push(op);
            }
        }
        let mut case = GraphCase { inputs, ops, outputs: Vec::new(), seed: rng.next_u64() };
        case.outputs = case.unread();
        // values that are read, inputs, and the same value again
        while rng.chance(3) {
            case.outputs.push(rng.below(shapes.len()));
        }
        let count = case.outputs.len();
        case.outputs.rotate_left(rng.below(count));
        case
    }

    /// Values that no layer reads.
    fn unread(&self) -> Vec<usize> {
        let mut is_read = vec![false; self.inputs.len() + self.ops.len()];
        self.ops.iter().flat_map(GraphOp::reads).for_each(|value| is_read[value] = true);
        (0..is_read.len()).filter(|&value| !is_read[value]).collect()
    }

    /// The shapes of all values.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes = self.inputs.clone();
        for op in &self.ops {
            shapes.push(op.shape(&shapes));
        }
        shapes
    }

    /// The network that the builder makes of it.
    pub fn network(&self) -> Result<Network> {
        let mut graph = Network::builder();
        let shapes = self.shapes();
        let mut values: Vec<Value> = self.inputs.iter().map(|shape| graph.input(shape.c)).collect();
        for op in &self.ops {
            values.push(op.build(&mut graph, &values, &shapes)?);
        }
        self.outputs.iter().for_each(|&value| graph.output(values[value]));
        graph.build()
    }

    /// Random inputs.
    pub fn input_tensors(&self) -> Vec<DenseTensor> {
        let rng = &mut Rng(self.seed);
        self.inputs.iter().map(|&shape| DenseTensor::random(rng, shape, ValueKind::Plain)).collect()
    }

    /// The outputs by plain loops.
    pub fn evaluate(&self, inputs: &[DenseTensor], arithmetic: Arithmetic) -> Vec<DenseTensor> {
        let shapes = self.shapes();
        let mut values = inputs.to_vec();
        for op in &self.ops {
            values.push(op.evaluate(&values, &shapes, arithmetic));
        }
        self.outputs.iter().map(|&value| values[value].clone()).collect()
    }
}

/// A block of MobileNet: expand, depthwise, project, and a shortcut where shapes allow one; or without the first.
fn draw_block(rng: &mut Rng, shapes: &[Shape]) -> Vec<GraphOp> {
    let x = rng.below(shapes.len());
    let Shape { w, c, .. } = shapes[x];
    let mut last = shapes.len();
    let mut ops = Vec::new();
    let (wide, kernel) = (c.max(8) * 2, [3, if w == 1 { 1 } else { 3 }]);
    let activation = Activation::Relu6.into();
    let expands = rng.chance(2);
    if expands {
        ops.push(GraphOp::Conv { x, kernel: [1, 1], stride: 1, outputs: wide, activation, seed: rng.next_u64() });
        last += 1;
    }
    let from = if expands { last - 1 } else { x };
    let (stride, seed) = (rng.pick(&[1, 1, 2]), rng.next_u64());
    ops.push(GraphOp::Depthwise { x: from, kernel, stride, multiplier: 1, activation, seed });
    let seed = rng.next_u64();
    ops.push(GraphOp::Conv {
        x: last,
        kernel: [1, 1],
        stride: 1,
        outputs: c,
        activation: Activation::Linear.into(),
        seed,
    });
    if stride == 1 {
        ops.push(GraphOp::Add { x: last + 1, y: x, activation: Activation::Linear.into(), seed: 0 });
    }
    ops
}

fn draw_op(rng: &mut Rng, shapes: &[Shape]) -> GraphOp {
    let mut value = || if rng.chance(2) { shapes.len() - 1 } else { rng.below(shapes.len()) };
    let (x, y) = (value(), value());
    let alike = |x: usize, one: bool| -> Vec<usize> {
        let is_alike = |shape: &Shape| *shape == shapes[x] || (one && *shape == Shape { h: 1, w: 1, ..shapes[x] });
        (0..shapes.len()).filter(|&value| is_alike(&shapes[value])).collect()
    };
    let activation = rng.pick(&[
        Activation::Linear,
        Activation::Linear,
        Activation::Relu,
        Activation::Relu6,
        Activation::Clamp { min: -0.25, max: 0.5 },
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Silu,
        Activation::LeakyRelu { slope: 0.25 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
    ]);
    let activation = match rng.below(6) {
        0 => GraphActivation::ByChannel(ByChannel::PRelu),
        1 => GraphActivation::ByChannel(ByChannel::Clamp),
        _ => activation.into(),
    };
    let (kernel, stride, seed) = (rng.pick(&[1, 3, 3, 5]), rng.pick(&[1, 1, 1, 2, 3]), rng.next_u64());
    // over a signal, a window of one column, or of one row
    let kernel = match shapes[x] {
        Shape { w: 1, h: 2.., .. } => [kernel, 1],
        Shape { h: 1, w: 2.., .. } => [1, kernel],
        _ => [kernel; 2],
    };
    match rng.below(14) {
        0 | 1 => {
            GraphOp::Conv { x, kernel: [1, 1], stride: 1, outputs: rng.pick(&[1, 5, 16, 24, 48]), activation, seed }
        }
        // the number of channels of another value, for a sum
        2 => GraphOp::Conv {
            x,
            kernel: [1, 1],
            stride: 1,
            outputs: shapes[y].c,
            activation: Activation::Linear.into(),
            seed,
        },
        3 => GraphOp::Conv { x, kernel, stride, outputs: rng.pick(&[3, 16, 17]), activation, seed },
        4 | 5 => GraphOp::Depthwise { x, kernel, stride, multiplier: rng.pick(&[1, 1, 1, 2]), activation, seed },
        6 | 7 => GraphOp::Add { x, y: rng.pick(&alike(x, true)), activation, seed },
        8 => GraphOp::Scale { x, y: rng.pick(&alike(x, true)) },
        9 => {
            let Shape { n, h, w, .. } = shapes[x];
            let beside = |shape: &Shape| (shape.n, shape.h, shape.w) == (n, h, w);
            let there: Vec<usize> = (0..shapes.len()).filter(|&value| beside(&shapes[value])).collect();
            let count = 1 + rng.below(3);
            GraphOp::Concat { values: [x].into_iter().chain((0..count).map(|_| rng.pick(&there))).collect() }
        }
        10 if rng.chance(2) => GraphOp::Mean { x },
        10 => GraphOp::Resize { x, factors: [1 + rng.below(3), 1 + rng.below(2)] },
        11 => {
            let c = shapes[x].c;
            let divisors: Vec<usize> = (1..=c.min(6)).chain([c]).filter(|&groups| c.is_multiple_of(groups)).collect();
            let groups = rng.pick(&divisors);
            GraphOp::Grouped { x, kernel, stride, groups, outputs: rng.pick(&[1, 2, 5, 16]), activation, seed }
        }
        12 => {
            let kernel = rng.pick(&[[2, 2], [2, 2], [1, 1], [2, 1], [1, 3]]);
            GraphOp::Transposed { x, kernel, outputs: rng.pick(&[1, 5, 16, 20]), activation, seed }
        }
        _ => {
            let Shape { h, w, .. } = shapes[x];
            let kernel = [1 + rng.below(4.min(h)), 1 + rng.below(3.min(w))];
            let of = rng.pick(&[PooledAs::Maximum, PooledAs::Mean, PooledAs::MeanOfAll]);
            GraphOp::Pool { x, kernel, stride: 1 + rng.below(3), padding: kernel.map(|taps| taps / 2), of }
        }
    }
}

/// Random graphs of at most so many layers.
pub fn graphs(layers: usize) -> impl Strategy<Value = GraphCase> {
    (1..=layers, any::<u64>()).prop_map(|(layers, seed)| GraphCase::draw(&mut Rng(seed), layers))
}

/// Runs a graph every way there is: [`check_network`].
pub fn check_graph(case: &GraphCase, fusions: &[Fusion], runs: Runs) -> Result<(), TestCaseError> {
    let network = case.network().map_err(|e| TestCaseError::fail(format!("no network: {e}")))?;
    let inputs = case.input_tensors();
    let expected = |arithmetic| case.evaluate(&inputs, arithmetic);
    check_network(case, &network, &inputs, expected, fusions, runs)
}

/// Runs a network on every level, by each of `fusions`, on one thread and on several, as [`crate::check`] does with an operator.
/// `expected` are the outputs by an interpreter. `case` is what a fault of memory prints.
pub fn check_network(
    case: &dyn fmt::Debug,
    network: &Network,
    inputs: &[DenseTensor],
    expected: impl Fn(Arithmetic) -> Vec<DenseTensor>,
    fusions: &[Fusion],
    runs: Runs,
) -> Result<(), TestCaseError> {
    let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
    let memory: Vec<Guarded> = inputs.iter().map(|input| runs.input.lay_out(input)).collect();
    let views: Vec<View<'_>> = (memory.iter().zip(inputs))
        .map(|(memory, input)| {
            let values = &memory.slice()[runs.input.offset..];
            View::with_strides(values, input.shape, runs.input.strides(input.shape)).unwrap()
        })
        .collect();
    let [mut fused, mut separate] = [None, None];
    let macs = network.plan_all(&shapes, &PlanOptions::new()).map_or(u64::MAX, |plan| plan.macs());
    let mut turn = 0;
    for &level in LEVELS.iter().filter(|level| !level.is_emulated() || macs <= EMULATED_MACS) {
        let expected: &Vec<DenseTensor> = match level.arithmetic {
            Arithmetic::Fused => fused.get_or_insert_with(|| expected(Arithmetic::Fused)),
            _ => separate.get_or_insert_with(|| expected(Arithmetic::Separate)),
        };
        for &fusion in fusions {
            for count in [1, runs.threads] {
                let fail = |e: String| TestCaseError::fail(format!("{level:?}, {fusion:?}, {count} threads: {e}"));
                let mut options = level.options().fusion(fusion).threads(threads(count)).spins(100);
                options = options.input_layout(runs.input.layout()).output_layout(runs.output.layout());
                if let Some(thresholds) = runs.limits.thresholds(level.isa) {
                    options = options.thresholds(thresholds);
                }
                let plan = match network.plan_all(&shapes, &options) {
                    Err(error) if runs.limits.may_refuse(&error) => continue,
                    // no layer has stages to fuse
                    Err(sepconv::Error::Fusion(_)) if matches!(fusion, Fusion::Require(_)) => continue,
                    plan => plan.map_err(|e| fail(format!("no plan: {e}")))?,
                };
                let mut scratch = plan.scratch().map_err(|e| fail(format!("no scratch: {e}")))?;
                scratch.as_mut_slice().fill(0xFF);
                turn += 1;
                let placement = Placement::ALL[turn % 2];
                let mut out: Vec<Guarded> = plan
                    .output_shapes()
                    .iter()
                    .map(|&shape| placement.with(|| Guarded::new(runs.output.len(shape))))
                    .collect();
                note(&format!("{level:?}, {fusion:?}, {count} threads, {placement:?}\n{case:?}\n{}", plan.explain()));
                for _ in 0..1 + usize::from(runs.again) {
                    let mut to: Vec<ViewMut<'_>> = (out.iter_mut().zip(plan.output_shapes()))
                        .map(|(out, &shape)| {
                            let values = &mut out.slice_mut()[runs.output.offset..];
                            ViewMut::with_strides(values, shape, runs.output.strides(shape)).unwrap()
                        })
                        .collect();
                    plan.run_all(&views, &mut to, &mut scratch).map_err(|e| fail(format!("no run: {e}")))?;
                }
                for (i, (out, expected)) in out.iter().zip(expected).enumerate() {
                    if let Some(difference) = runs.output.difference(out.slice(), expected) {
                        return Err(fail(format!("output {i}: {difference}\n{}", plan.explain())));
                    }
                }
            }
        }
    }
    Ok(())
}
