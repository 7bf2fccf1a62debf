//! Small cases over every operator, both blocks and networks, run every way there is: bits equal to the reference.
//!
//! A case is that of the property tests, and so is the check. The strategies of those draw again where a draw is not
//! even, which is no way to read a fuzzer's bytes; here each choice is a byte or two.

use arbitrary::{Result, Unstructured};
use sepconv::testing::{ByChannel, Case, ConvCase, NormCase, Op, Values};
use sepconv::{Activation, Fusion, Network, Padding, Shape};

use sepconv_test_support::{AXES, ChainCase, Frame, Limits, MOST_THREADS, Runs, SCHEDULES};

/// Cases above this are left to the property tests: here many small ones say more, and by thresholds that are drawn they
/// take every way through the planner.
const MACS: u64 = 40_000;

fn padding(u: &mut Unstructured<'_>) -> Result<Padding> {
    let mut side = || u.int_in_range(0..=7usize);
    Ok(match side()? {
        0..=2 => Padding::Same,
        3 => Padding::Valid,
        _ => Padding::Explicit { top: side()?, bottom: side()?, left: side()?, right: side()? },
    })
}

/// Where a convolution looks.
struct DrawnWindow {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    padding: Padding,
}

impl DrawnWindow {
    /// A third each the windows that have tiles of their own.
    fn draw(u: &mut Unstructured<'_>) -> Result<DrawnWindow> {
        let stride = match u.int_in_range(0..=2u8)? {
            0 => 1,
            1 => 2,
            _ => {
                return Ok(DrawnWindow {
                    kernel: [u.int_in_range(1..=7)?, u.int_in_range(1..=7)?],
                    strides: [u.int_in_range(1..=3)?, u.int_in_range(1..=3)?],
                    dilations: [u.int_in_range(1..=3)?, u.int_in_range(1..=3)?],
                    padding: padding(u)?,
                });
            }
        };
        Ok(DrawnWindow { padding: padding(u)?, ..DrawnWindow::same(3, stride) })
    }

    fn same(kernel: usize, stride: usize) -> DrawnWindow {
        DrawnWindow { kernel: [kernel; 2], strides: [stride; 2], dilations: [1, 1], padding: Padding::Same }
    }

    fn standard(self, outputs: usize) -> ConvCase {
        self.lay(ConvCase::standard(self.kernel, outputs))
    }

    fn depthwise(self, multiplier: usize) -> ConvCase {
        self.lay(ConvCase::depthwise(self.kernel).multiplier(multiplier))
    }

    fn lay(&self, conv: ConvCase) -> ConvCase {
        conv.strides(self.strides).dilations(self.dilations).padding(self.padding)
    }
}

/// Plain numbers every other time, else any kind that there is.
fn values(u: &mut Unstructured<'_>) -> Result<Values> {
    Ok(if u.arbitrary()? { Values::Uniform } else { *u.choose(Values::ALL)? })
}

/// What a convolution does besides its sums, and its numbers. The order of its filter goes by the seed: see
/// [`sepconv_test_support::layers`].
fn finish(u: &mut Unstructured<'_>, conv: ConvCase) -> Result<ConvCase> {
    let conv = conv.activation(match u.int_in_range(0..=14u8)? {
        0 | 1 => Activation::Linear,
        2 => Activation::Relu,
        3 => Activation::Relu6,
        4 => Activation::Clamp { min: -0.5, max: 0.5 },
        5 => Activation::HardSwish,
        6 => Activation::HardSigmoid,
        7 => Activation::Sigmoid,
        8 => Activation::Silu,
        9 => Activation::Tanh,
        10 => Activation::Gelu,
        11 => Activation::LeakyRelu { slope: 0.01 },
        12 => return finish_behind(u, conv.by_channel(ByChannel::PRelu)),
        13 => return finish_behind(u, conv.by_channel(ByChannel::Clamp)),
        _ => Activation::Clamp { min: -1.0, max: -0.0 },
    });
    finish_behind(u, conv)
}

/// The same without the activation.
fn finish_behind(u: &mut Unstructured<'_>, conv: ConvCase) -> Result<ConvCase> {
    let conv = conv.bias(u.arbitrary()?);
    let conv = match u.int_in_range(0..=3u8)? {
        0 => conv.batch_norm(NormCase::new(1e-3).gamma(u.arbitrary()?).beta(u.arbitrary()?)),
        _ => conv,
    };
    Ok(conv.values(values(u)?).seed(u.arbitrary::<u16>()?.into()))
}

/// Channels around the ends of vectors and blocks, as a rule.
fn channels(u: &mut Unstructured<'_>) -> Result<usize> {
    const ENDS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48];
    Ok(if u.ratio(3, 4)? { *u.choose(&ENDS)? } else { u.int_in_range(1..=100)? })
}

fn multiplier(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[1, 1, 1, 2, 3])?)
}

fn standard(u: &mut Unstructured<'_>) -> Result<ConvCase> {
    let conv = DrawnWindow::draw(u)?.standard(channels(u)?);
    finish(u, conv)
}

fn depthwise(u: &mut Unstructured<'_>) -> Result<ConvCase> {
    let conv = DrawnWindow::draw(u)?.depthwise(multiplier(u)?);
    finish(u, conv)
}

fn pointwise(u: &mut Unstructured<'_>) -> Result<ConvCase> {
    let conv = ConvCase::pointwise(channels(u)?);
    finish(u, conv)
}

/// Puts an operator behind those of a case, which has so many channels there.
fn operator(u: &mut Unstructured<'_>, case: Case, entered: usize) -> Result<Case> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => case.conv2d(standard(u)?),
        1 => case.depthwise(depthwise(u)?),
        2 => case.pointwise(pointwise(u)?),
        3 => case.dense(pointwise(u)?),
        4 | 5 => case.separable(depthwise(u)?, pointwise(u)?),
        6 => {
            // stride 1 and SAME keep the shape that a shortcut needs
            let window = if u.arbitrary()? { DrawnWindow::same(3, 1) } else { DrawnWindow::draw(u)? };
            let expand = match u.int_in_range(0..=3u8)? {
                0 => None,
                1 => Some(standard(u)?),
                _ => Some(pointwise(u)?),
            };
            let depthwise = window.depthwise(multiplier(u)?);
            let depthwise = finish(u, depthwise)?;
            let project = ConvCase::pointwise(if u.arbitrary()? { entered } else { channels(u)? });
            let project = finish(u, project)?;
            case.inverted_residual(expand, depthwise, project, u.arbitrary()?)
        }
        _ => case.average_pool(),
    })
}

/// A case from bytes, or `None` where its operators do not fit their planes.
fn case(u: &mut Unstructured<'_>) -> Result<Option<ChainCase>> {
    let [h, w] = [u.int_in_range(1..=17)?, u.int_in_range(1..=30)?];
    let input = Shape::new(u.int_in_range(1..=3)?, h, w, channels(u)?);
    let frame = |u: &mut Unstructured<'_>| {
        let mut order = *u.choose(&[Frame::NHWC, Frame::NHWC, Frame::NCHW, Frame::NCHW, AXES])?;
        if order == AXES {
            order.swap(u.int_in_range(0..=3)?, u.int_in_range(0..=3)?);
        }
        let mut gaps = [*u.choose(&[0, 0, 0, 0, 1])?, 0, 0, 0];
        for gap in &mut gaps[1..] {
            *gap = *u.choose(&[0, 0, 1, 5])?;
        }
        Ok(Frame { offset: u.int_in_range(0..=3)?, order, gaps })
    };
    let (from, to) = (frame(u)?, frame(u)?);
    let threads = u.int_in_range(2..=MOST_THREADS)?;
    let limits = match u.int_in_range(0..=3u8)? {
        0 => Limits::Default,
        1 => Limits::Tiny,
        _ => Limits::Mixed(u.arbitrary()?),
    };
    let runs = Runs { input: from, output: to, threads, again: u.arbitrary()?, limits };
    let mut case = Case::new(input).values(values(u)?).seed(u.arbitrary::<u16>()?.into());
    let mut channels = input.c;
    for _ in 0..*u.choose(&[1, 1, 2, 3, 4])? {
        case = operator(u, case, channels)?;
        let Ok(output) = case.output() else { return Ok(None) };
        channels = output.c;
    }
    Ok((case.macs() <= MACS).then_some(ChainCase { case, runs }))
}

/// Reads a case, runs it every way there is, and panics where a bit is not the reference's.
pub fn check(data: &[u8]) -> String {
    let Ok(Some(chain)) = case(&mut Unstructured::new(data)) else { return "no case".into() };
    let problem = chain.problem();
    let ChainCase { case, runs } = chain;
    let network = Network::new(sepconv_test_support::layers(&problem)).expect("layers");
    let block = |op: &Op| matches!(op, Op::Separable { .. } | Op::InvertedResidual { .. });
    let fusions = if case.ops().any(block) { &SCHEDULES[..] } else { &[Fusion::Auto] };
    let plan = |options: &sepconv::PlanOptions| network.plan(case.input, options);
    let expected = |arithmetic| sepconv_test_support::reference(&problem, arithmetic);
    if let Err(error) =
        sepconv_test_support::check(plan, fusions, &sepconv_test_support::input(&problem), expected, case.macs(), runs)
    {
        panic!("{case}, {runs:?}\n{error}");
    }
    case.ops().map(Op::name).collect::<Vec<_>>().join(", ")
}
