//! Small cases over every operator, both blocks and networks, run every way there is: bits equal to the reference.
//!
//! A case is that of the property tests, and so is the check. The strategies of those draw again where a draw is not even, which
//! is no way to read a fuzzer's bytes; here each choice is a byte or two.

#[path = "../../tests/common/mod.rs"]
mod common;

use arbitrary::{Result, Unstructured};
use sepconv::{Activation, Arithmetic, Fusion, Network, Padding, Shape};

use common::{Built, ChainCase, ConvCase, Frame, LayerCase, NormCase, Order, Runs, SCHEDULES, Values, WindowCase};

/// Cases above this are left to the property tests: here many small ones say more.
const MACS: u64 = 40_000;

fn padding(u: &mut Unstructured<'_>) -> Result<Padding> {
    let mut side = || u.int_in_range(0..=7usize);
    Ok(match side()? {
        0..=2 => Padding::Same,
        3 => Padding::Valid,
        _ => Padding::Explicit { top: side()?, bottom: side()?, left: side()?, right: side()? },
    })
}

/// A third each the windows that have tiles of their own.
fn window(u: &mut Unstructured<'_>) -> Result<WindowCase> {
    let stride = match u.int_in_range(0..=2u8)? {
        0 => 1,
        1 => 2,
        _ => {
            return Ok(WindowCase {
                kernel: [u.int_in_range(1..=7)?, u.int_in_range(1..=7)?],
                stride: [u.int_in_range(1..=3)?, u.int_in_range(1..=3)?],
                dilation: [u.int_in_range(1..=3)?, u.int_in_range(1..=3)?],
                padding: padding(u)?,
            });
        }
    };
    Ok(WindowCase { kernel: [3, 3], stride: [stride; 2], dilation: [1, 1], padding: padding(u)? })
}

fn values(u: &mut Unstructured<'_>) -> Result<Values> {
    Ok(*u.choose(&[Values::Plain, Values::Plain, Values::Tiny, Values::Special])?)
}

/// A convolution over what `shape` holds, which becomes what it makes; `None` where its kernel does not fit.
fn conv(
    u: &mut Unstructured<'_>,
    orders: &[Order],
    window: WindowCase,
    outputs: usize,
    shape: &mut Shape,
) -> Result<Option<ConvCase>> {
    let case = ConvCase {
        order: *u.choose(orders)?,
        window,
        inputs: shape.c,
        outputs,
        activation: match u.int_in_range(0..=5u8)? {
            0 | 1 => Activation::Linear,
            2 => Activation::Relu,
            3 => Activation::Relu6,
            4 => Activation::Clamp { min: -0.5, max: 0.5 },
            _ => Activation::Clamp { min: -1.0, max: -0.0 },
        },
        bias: u.arbitrary()?,
        norm: match u.int_in_range(0..=3u8)? {
            0 => Some(NormCase { gamma: u.arbitrary()?, beta: u.arbitrary()?, epsilon: 1e-3 }),
            _ => None,
        },
        values: values(u)?,
        seed: u.arbitrary::<u16>()?.into(),
    };
    let [h, w] = [(0, shape.h), (1, shape.w)].map(|(axis, size)| {
        let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let added = match window.padding {
            Padding::Valid => 0,
            Padding::Same => reach,
            Padding::Explicit { top, bottom, left, right } => [top + bottom, left + right][axis],
        };
        size + added >= reach
    });
    if !h || !w {
        return Ok(None);
    }
    *shape = case.output(*shape);
    Ok(Some(case))
}

const STANDARD: &[Order] = &[Order::Hwio, Order::Oihw, Order::Ohwi];
const MATRIX: &[Order] = &[Order::Hwio, Order::Oihw];
const DEPTHWISE: &[Order] = &[Order::DepthwiseHwcm, Order::DepthwiseC1hw];

/// Channels around the ends of vectors and blocks, as a rule.
fn channels(u: &mut Unstructured<'_>) -> Result<usize> {
    const ENDS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48];
    Ok(if u.ratio(3, 4)? { *u.choose(&ENDS)? } else { u.int_in_range(1..=100)? })
}

fn multiplier(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[1, 1, 1, 2, 3])?)
}

/// A layer over `shape`, which becomes what it makes; `None` where a kernel does not fit.
fn layer(u: &mut Unstructured<'_>, shape: &mut Shape) -> Result<Option<LayerCase>> {
    let point = WindowCase::POINT;
    Ok(match u.int_in_range(0..=7u8)? {
        0 => {
            let (window, outputs) = (window(u)?, channels(u)?);
            conv(u, STANDARD, window, outputs, shape)?.map(LayerCase::Conv2d)
        }
        1 => {
            let (window, multiplier) = (window(u)?, multiplier(u)?);
            conv(u, DEPTHWISE, window, multiplier, shape)?.map(LayerCase::Depthwise)
        }
        2 => {
            let outputs = channels(u)?;
            conv(u, STANDARD, point, outputs, shape)?.map(LayerCase::Pointwise)
        }
        3 => {
            let outputs = channels(u)?;
            conv(u, MATRIX, point, outputs, shape)?.map(LayerCase::Dense)
        }
        4 | 5 => {
            let (window, multiplier, outputs) = (window(u)?, multiplier(u)?, channels(u)?);
            let Some(depthwise) = conv(u, DEPTHWISE, window, multiplier, shape)? else { return Ok(None) };
            conv(u, STANDARD, point, outputs, shape)?.map(|pointwise| LayerCase::Separable(depthwise, pointwise))
        }
        6 => {
            let entered = shape.c;
            // stride 1 and SAME keep the shape that a shortcut needs
            let window = if u.arbitrary()? { WindowCase { kernel: [3, 3], ..point } } else { window(u)? };
            let expand = match u.int_in_range(0..=3u8)? {
                0 => None,
                kind => {
                    let (of, outputs) = (if kind == 1 { self::window(u)? } else { point }, channels(u)?);
                    let Some(expand) = conv(u, STANDARD, of, outputs, shape)? else { return Ok(None) };
                    Some(expand)
                }
            };
            let multiplier = multiplier(u)?;
            let Some(depthwise) = conv(u, DEPTHWISE, window, multiplier, shape)? else { return Ok(None) };
            let outputs = if u.arbitrary()? { entered } else { channels(u)? };
            let shortcut = u.arbitrary()?;
            conv(u, STANDARD, point, outputs, shape)?.map(|project| LayerCase::Inverted {
                expand,
                depthwise,
                project,
                shortcut,
            })
        }
        _ => {
            (shape.h, shape.w) = (1, 1);
            Some(LayerCase::Pool(shape.c))
        }
    })
}

/// A case from bytes, or `None` where its layers do not fit their planes.
fn case(u: &mut Unstructured<'_>) -> Result<Option<ChainCase>> {
    let [h, w] = [u.int_in_range(1..=17)?, u.int_in_range(1..=30)?];
    let input = Shape::new(u.int_in_range(1..=3)?, h, w, channels(u)?);
    let frame = |u: &mut Unstructured<'_>| Ok(Frame { offset: u.int_in_range(0..=3)?, gap: *u.choose(&[0, 0, 1, 5])? });
    let (from, to) = (frame(u)?, frame(u)?);
    let runs = Runs { input: from, output: to, threads: u.int_in_range(2..=3)?, again: u.arbitrary()? };
    let (values, seed) = (values(u)?, u.arbitrary::<u16>()?.into());
    let (mut layers, mut shape) = (Vec::new(), input);
    for _ in 0..*u.choose(&[1, 1, 2, 3, 4])? {
        let Some(layer) = layer(u, &mut shape)? else { return Ok(None) };
        layers.push(layer);
    }
    let case = ChainCase { layers, input, values, seed, runs };
    Ok((case.macs() <= MACS).then_some(case))
}

/// Reads a case, runs it every way there is, and panics where a bit is not the reference's.
pub fn check(data: &[u8]) -> String {
    let Ok(Some(case)) = case(&mut Unstructured::new(data)) else { return "no case".into() };
    let built = case.build();
    let input = case.input();
    let reference = |arithmetic: Arithmetic| {
        let first = built[0].reference(&input, arithmetic);
        built[1..].iter().fold(first, |x, layer| layer.reference(&x, arithmetic))
    };
    let network = Network::new(built.iter().map(Built::layer).collect()).expect("layers");
    let block = |layer: &LayerCase| matches!(layer, LayerCase::Separable(..) | LayerCase::Inverted { .. });
    let fusions = if case.layers.iter().any(block) { &SCHEDULES[..] } else { &[Fusion::Auto] };
    let plan = |options: &sepconv::PlanOptions| network.plan(case.input, options);
    if let Err(error) = common::check(plan, fusions, &input, reference, case.macs(), case.runs) {
        panic!("{case:#?}\n{error}");
    }
    let kinds = case.layers.iter().map(|layer| format!("{layer:?}").chars().take(3).collect::<String>());
    kinds.collect::<Vec<_>>().join(" ")
}
