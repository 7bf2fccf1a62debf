//! Cases of the conformance kit as operators of the library, and where and how these are run.

use std::cell::Cell;

use proptest::prelude::*;
use sepconv::testing::reference::{self as naive, Conv, Epilogue, Nonlinearity, Tensor, TensorMut, Window};
use sepconv::testing::{Case, Cases, FilterOrder, Layout, Op, Problem, Stage, StageKind};
use sepconv::{
    Activation, Arithmetic, ChannelActivation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Filter, GlobalAveragePool,
    InvertedResidual, InvertedResidualDesc, Layer, Network, PointwiseConv2d, Result, SeparableConv2d, Shape, Shortcut,
    WindowPoolDesc,
};

use crate::{AXES, DenseTensor, Frame, MOST_THREADS, Runs, limits};

/// A case, and how it is run.
#[derive(Clone, Debug)]
pub struct ChainCase {
    /// The case.
    pub case: Case,
    /// How it is run.
    pub runs: Runs,
}

impl ChainCase {
    /// The case with its numbers, in NHWC.
    pub fn problem(&self) -> Problem {
        Problem::new(&self.case, Layout::Nhwc).unwrap()
    }
}

/// The input of a problem without gaps.
pub fn input(problem: &Problem) -> DenseTensor {
    DenseTensor { shape: problem.input_shape(), data: problem.input().to_vec() }
}

/// The output of a problem by the reference.
pub fn reference(problem: &Problem, arithmetic: Arithmetic) -> DenseTensor {
    DenseTensor { shape: problem.output_shape(), data: problem.reference_f32(arithmetic) }
}

/// What the problem's operators make of another input of its shape: one with a value of the test's own in it.
pub fn reference_of(problem: &Problem, input: &DenseTensor, arithmetic: Arithmetic) -> DenseTensor {
    let mut tensors = vec![input.clone()];
    for (at, stage) in problem.stages().iter().enumerate() {
        let shape = stage.output_shape();
        let mut output = DenseTensor { shape, data: vec![0.0; shape.len().unwrap()] };
        let to =
            TensorMut { data: &mut output.data, shape: [shape.n, shape.h, shape.w, shape.c], pixel_stride: shape.c };
        if stage.kind() == StageKind::AveragePool {
            naive::average_pool(tensor(&tensors[at]), to);
        } else {
            let (kernel, pads) = (stage.kernel(), stage.pads());
            let before = [pads.top, pads.left];
            let window = Window { kernel, stride: stage.strides(), dilation: stage.dilations(), before };
            let (filter, bias) = (stage.folded_filter(FilterOrder::Hwio), stage.folded_bias());
            let (kind, params) = nonlinearity(stage.activation(), stage.channel_activation());
            let conv = Conv { window, filter: &filter, bias: &bias, epilogue: Epilogue::of(kind), params: &params };
            let from = tensor(&tensors[at]);
            if stage.kind() == StageKind::Depthwise {
                naive::depthwise(&conv, from, to, arithmetic);
            } else {
                let shortcut = stage.shortcut_from().map(|from| tensor(&tensors[from]));
                naive::conv2d(&conv, from, shortcut, to, arithmetic);
            }
        }
        tensors.push(output);
    }
    tensors.pop().unwrap()
}

/// What the reference makes of an activation, or of one by channel in its place, and its parameters.
pub(crate) fn nonlinearity(
    activation: Activation,
    by_channel: Option<ChannelActivation<'_>>,
) -> (Nonlinearity, Vec<[f32; 2]>) {
    let of =
        |values: &[f32], second: &[f32]| values.iter().zip(second).map(|(&first, &second)| [first, second]).collect();
    match by_channel {
        None => (activation.into(), vec![]),
        Some(ChannelActivation::PRelu { slopes }) => (Nonlinearity::PRelu, of(slopes, slopes)),
        Some(ChannelActivation::Clamp { min, max }) => (Nonlinearity::ClampByChannel, of(min, max)),
        Some(other) => unreachable!("{other:?} is not known here"),
    }
}

fn tensor(dense: &DenseTensor) -> Tensor<'_, f32> {
    let Shape { n, h, w, c } = dense.shape;
    Tensor { data: &dense.data, shape: [n, h, w, c], pixel_stride: c }
}

/// The operators of a problem, with filters in every order that there is.
pub fn layers(problem: &Problem) -> Vec<Layer> {
    const ORDERS: [FilterOrder; 3] = [FilterOrder::Hwio, FilterOrder::Oihw, FilterOrder::Ohwi];
    let stages = problem.stages();
    let filters: Vec<(FilterOrder, Vec<f32>)> = stages
        .iter()
        .map(|stage| {
            // dense layers and depthwise convolutions come in two
            let order = ORDERS[stage.case().seed as usize % if stage.case().depthwise { 2 } else { 3 }];
            (order, stage.filter(order))
        })
        .collect();
    let at = Cell::new(0);
    let take = || at.replace(at.get() + 1);
    let next = || {
        let at = take();
        desc(&stages[at], filters[at].0, &filters[at].1)
    };
    problem
        .case()
        .ops()
        .map(|op| match op {
            Op::Conv2d(_) => Conv2d::new(next()).unwrap().into(),
            Op::Depthwise(_) => DepthwiseConv2d::new(next()).unwrap().into(),
            Op::Pointwise(_) => PointwiseConv2d::new(next()).unwrap().into(),
            Op::Dense(_) => Dense::new(next()).unwrap().into(),
            Op::Separable { .. } => SeparableConv2d::new(next(), next()).unwrap().into(),
            Op::InvertedResidual { expand, shortcut, .. } => {
                let expand = expand.as_ref().map(|_| next());
                let shortcut = if *shortcut { Shortcut::IfShapesAllow } else { Shortcut::None };
                let mut block = InvertedResidualDesc::new(next(), next()).shortcut(shortcut);
                if let Some(expand) = expand {
                    block = block.expand(expand);
                }
                InvertedResidual::new(block).unwrap().into()
            }
            Op::AveragePool => GlobalAveragePool::new(stages[take()].input_shape().c).unwrap().into(),
            other => panic!("an operator that the library does not have: {other:?}"),
        })
        .collect()
}

/// The stages of a problem as the layers of a graph. An activation by itself is an error, since the library has no such layer.
pub fn network(problem: &Problem) -> Result<Network> {
    let mut graph = Network::builder();
    let mut values = vec![graph.input(problem.input_shape().c)];
    for stage in problem.stages() {
        let read: Vec<_> = stage.inputs().iter().map(|&tensor| values[tensor]).collect();
        let filter = stage.filter(FilterOrder::Hwio);
        let made = match stage.kind() {
            StageKind::Standard | StageKind::Depthwise => match read[..] {
                [x] => graph.conv(x, desc(stage, FilterOrder::Hwio, &filter))?,
                _ => {
                    let linear = desc(stage, FilterOrder::Hwio, &filter).activation(Activation::Linear);
                    let sum = graph.conv(read[0], linear)?;
                    match stage.channel_activation() {
                        Some(activation) => graph.add_by_channel(sum, read[1], activation)?,
                        None => graph.add(sum, read[1], stage.activation())?,
                    }
                }
            },
            StageKind::AveragePool => graph.global_average_pool(read[0])?,
            StageKind::Add => graph.add(read[0], read[1], stage.activation())?,
            StageKind::Scale => graph.scale(read[0], read[1])?,
            StageKind::Concat => graph.concat(&read)?,
            StageKind::MaxPool | StageKind::MeanPool => {
                let pool = match stage.kind() {
                    StageKind::MaxPool => WindowPoolDesc::max(stage.kernel()),
                    _ if stage.counts_padding() => WindowPoolDesc::average(stage.kernel()).count_padding(),
                    _ => WindowPoolDesc::average(stage.kernel()),
                };
                graph.window_pool(read[0], pool.strides(stage.strides()).padding(stage.case().padding))?
            }
            other => return Err(sepconv::Error::Network(format!("no layer for {other:?}"))),
        };
        values.push(made);
    }
    problem.outputs().iter().for_each(|output| graph.output(values[output.tensor]));
    graph.build()
}

fn desc<'a>(stage: &'a Stage, order: FilterOrder, data: &'a [f32]) -> ConvDesc<'a> {
    let [h, w] = stage.kernel();
    let (i, o, m) = (stage.input_shape().c, stage.output_shape().c, stage.multiplier());
    let depthwise = stage.kind() == StageKind::Depthwise;
    let point = [h, w] == [1, 1];
    let mut desc = ConvDesc::new(match order {
        FilterOrder::Hwio if depthwise && m == 1 => Filter::depthwise_hwc(data, [h, w, i]),
        FilterOrder::Hwio if depthwise => Filter::depthwise_hwcm(data, [h, w, i, m]),
        _ if depthwise => Filter::depthwise_c1hw(data, [i, h, w], m),
        FilterOrder::Hwio if point => Filter::io(data, [i, o]),
        FilterOrder::Oihw if point => Filter::oi(data, [o, i]),
        FilterOrder::Hwio => Filter::hwio(data, [h, w, i, o]),
        FilterOrder::Oihw => Filter::oihw(data, [o, i, h, w]),
        _ => Filter::ohwi(data, [o, h, w, i]),
    })
    .strides(stage.strides())
    .dilations(stage.dilations())
    .padding(stage.case().padding)
    .activation(stage.activation());
    if let Some(bias) = stage.bias() {
        desc = desc.bias(bias);
    }
    if let Some(activation) = stage.channel_activation() {
        desc = desc.activation_by_channel(activation);
    }
    if let Some(norm) = stage.batch_norm() {
        desc = desc.batch_norm(norm);
    }
    desc
}

fn frame() -> impl Strategy<Value = Frame> {
    let order = prop_oneof![
        4 => Just(Frame::NHWC),
        4 => Just(Frame::NCHW),
        // rows, channels and pixels apart, in any order
        1 => Just(AXES).prop_shuffle(),
    ];
    let gap = || prop_oneof![6 => Just(0usize), 2 => 1usize..=3, 1 => 4usize..=20];
    // most tensors have a value beside the last
    let gaps = (prop_oneof![9 => Just(0usize), 1 => 1usize..=2], gap(), gap(), gap());
    (0usize..4, order, gaps).prop_map(|(offset, order, (a, b, c, d))| Frame { offset, order, gaps: [a, b, c, d] })
}

/// Where the tensors of a case lie, its threads and its thresholds.
pub fn runs() -> impl Strategy<Value = Runs> {
    // one more than the most is rayon's own pool
    let threads = prop_oneof![2usize..=3, 2..=MOST_THREADS + 1];
    (frame(), frame(), threads, proptest::bool::weighted(0.25), limits())
        .prop_map(|(input, output, threads, again, limits)| Runs { input, output, threads, again, limits })
}

/// Cases, some large enough that a plan shares them out over threads, and how they are run.
pub fn chain(cases: Cases) -> impl Strategy<Value = ChainCase> {
    (cases.max_macs(6_000_000), runs()).prop_map(|(case, runs)| ChainCase { case, runs })
}
