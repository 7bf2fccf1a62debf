//! From nodes to steps: what is fused, how tensors lie, and where they live.

use sepconv_kernels::{BLOCK, KernelKind};

use super::chain::preferred_schedule;
use super::cost::Thresholds;
use super::group::regroup;
use super::legal::{Chain, Part, STAGES};
use super::{
    ChainStep, Conv, ConvStep, Depthwise, Ends, Layout, Lowering, Node, Place, PoolStep, Step, Tensor, busiest,
    channels,
};
use crate::memory::{Arc, Carver, collect, product, push, reserve, text};
use crate::plan::{Bound, StageReport};
use crate::{Error, Fusion, Result, Schedule, Shape};

const DECLINED: &str = "fusion was declined";

/// An error of lowering, and the node that it is of, where it is of one.
pub(crate) struct Refused {
    pub(crate) node: Option<usize>,
    pub(crate) error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { node: None, error }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        refused.error
    }
}

/// A program, and the nodes whose steps take too much scratch. It may run if there are none.
struct Lowered {
    program: Program,
    too_large: Vec<usize>,
    /// Of the first of these.
    error: Option<Error>,
}

impl Lowered {
    fn program(self) -> Result<Program, Refused> {
        match self.error {
            None => Ok(self.program),
            Some(error) => Err(Refused { node: self.too_large.first().copied(), error }),
        }
    }

    /// Says of every stage that was to be fused why it is not.
    fn explain(mut self, why: &str) -> Result<Lowered> {
        for report in self.program.reports.iter_mut().filter(|report| report.why == DECLINED) {
            report.why = text(format_args!("{why}"))?;
        }
        Ok(self)
    }
}

/// The steps of a plan, and the memory that they need. The default has no steps.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) arena: usize,
    /// Values of scratch for each worker.
    pub(crate) worker: usize,
    pub(crate) macs: u64,
    pub(crate) reports: Vec<StageReport>,
}

/// One step before tensors have places: the stages that run as one.
struct Stage {
    /// The node that its stages are of.
    node: usize,
    parts: Parts,
    input: usize,
    output: usize,
    residual: Option<usize>,
    fused: bool,
    why: String,
    name: &'static str,
}

enum Parts {
    /// A convolution alone.
    Conv(Chain),
    /// Stages with a depthwise convolution. Threads share it by channels, or by rows.
    Chain {
        chain: Chain,
        schedule: Schedule,
        by_channels: bool,
    },
    Pool,
}

/// Turns nodes into a program.
pub(crate) fn lower(nodes: &[Node], input: Shape, lowering: &Lowering) -> Result<Program, Refused> {
    let fused = lower_as(nodes, input, lowering.fusion, &[], lowering)?;
    if lowering.fusion != Fusion::Auto || fused.too_large.is_empty() {
        return fused.program();
    }
    let some_fused = lower_as(nodes, input, Fusion::Auto, &fused.too_large, lowering)?;
    if some_fused.too_large.is_empty() {
        return some_fused.explain("fused, its scratch would be out of proportion")?.program();
    }
    // stages of one node may stand in another one, where the border between layers was moved: now each stands in its own
    let unfused = lower_as(nodes, input, Fusion::Never, &[], lowering)?;
    unfused.explain("by itself, a stage beside it would take scratch out of proportion")?.program()
}

/// Lowers all nodes by `fusion`, but those of `unfused`, in ascending order, by single stages.
fn lower_as(nodes: &[Node], input: Shape, fusion: Fusion, unfused: &[usize], lowering: &Lowering) -> Result<Lowered> {
    input.len()?;
    let thresholds = &lowering.thresholds;
    let mut shapes = Vec::new();
    push("plan", &mut shapes, input)?;
    let mut stages = Vec::new();
    let regrouped = match fusion {
        Fusion::Auto => Some(regroup(nodes, input, thresholds)?),
        _ => None,
    };
    for (index, node) in regrouped.as_deref().unwrap_or(nodes).iter().enumerate() {
        let fusion = if unfused.binary_search(&index).is_ok() { Fusion::Never } else { fusion };
        split(index, node, fusion, lowering, &mut shapes, &mut stages)?;
    }
    if let Fusion::Require(schedule) = fusion
        && !stages.iter().any(|stage| stage.fused)
    {
        return Err(Error::Fusion(format!("{schedule:?} was asked for, and no layer has stages to fuse")));
    }
    let layouts = layouts(&shapes, &stages, thresholds)?;
    let (places, arena) = places(&layouts, &shapes, &stages)?;
    let tensor = |t| Tensor { shape: shapes[t], place: places[t], layout: layouts[t] };
    let tensors = collect("plan", (0..shapes.len()).map(tensor))?;

    let mut program = Program { steps: Vec::new(), tensors, arena, worker: 0, macs: 0, reports: Vec::new() };
    let (mut too_large, mut error) = (Vec::new(), None);
    for stage in stages {
        let node = stage.node;
        let mut scratch = Carver::default();
        let (from, to) = (program.tensors[stage.input], program.tensors[stage.output]);
        let mut report = StageReport::new(&stage, &from, &to, stage.residual.map(|r| &program.tensors[r]))?;
        let step = step(stage, &mut report, &program.tensors, lowering, &mut scratch)?;
        report.scratch_bytes = scratch.len() * size_of::<f32>();
        let limit = thresholds.scratch_limit(report.bytes);
        if report.scratch_bytes > limit {
            error.get_or_insert(Error::Scratch { stage: report.name, bytes: report.scratch_bytes, limit });
            if too_large.last() != Some(&node) {
                push("plan", &mut too_large, node)?;
            }
        }
        report.pieces = step.pieces();
        program.macs = program.macs.saturating_add(report.macs);
        program.worker = program.worker.max(scratch.len());
        push("plan", &mut program.steps, step)?;
        push("plan", &mut program.reports, report)?;
    }
    Ok(Lowered { program, too_large, error })
}

/// The step of a stage over tensors that have places. What it decides is added to the report.
fn step(
    stage: Stage,
    report: &mut StageReport,
    tensors: &[Tensor],
    lowering: &Lowering,
    scratch: &mut Carver,
) -> Result<Step> {
    let thresholds = &lowering.thresholds;
    let ends = Ends { input: stage.input, output: stage.output, residual: stage.residual };
    let work = match stage.parts {
        Parts::Pool => report.input.len()?.saturating_mul(thresholds.pool_macs) as u64,
        _ => report.macs,
    };
    let workers = if work < thresholds.worth_sharing as u64 { 1 } else { lowering.workers };
    Ok(match stage.parts {
        Parts::Pool => Step::Pool(PoolStep::new(tensors, ends, workers)?),
        Parts::Conv(chain) => {
            let step = ConvStep::new(&chain, tensors, ends, workers, thresholds, scratch)?;
            Step::Conv(Arc::try_new("plan", step)?)
        }
        Parts::Chain { chain, schedule, by_channels } => {
            let step = ChainStep::new(&chain, tensors, ends, schedule, by_channels, workers, lowering, scratch)?;
            report.kernels.insert(usize::from(report.kernels.len() > 1), step.kind());
            report.schedule = Some(step.explain_schedule()?);
            Step::Chain(Arc::try_new("plan", step)?)
        }
    })
}

/// The shape that a node makes of `input`, with the shapes between its stages: head, depthwise, tail.
pub(crate) fn shapes_of(node: &Node, input: Shape) -> Result<[Shape; 3]> {
    match node {
        Node::Pool { channels: c } => {
            input.len()?;
            channels("average pool input", *c, input.c)?;
            Ok([Shape::new(input.n, 1, 1, input.c); 3])
        }
        Node::Chain { chain, .. } => chain.shapes(input),
    }
}

/// Splits a node into stages, and makes the tensors between them.
fn split(
    index: usize,
    node: &Node,
    fusion: Fusion,
    lowering: &Lowering,
    shapes: &mut Vec<Shape>,
    stages: &mut Vec<Stage>,
) -> Result<()> {
    let input = shapes.len() - 1;
    let shape = shapes[input];
    let [after_head, after_depthwise, after_tail] = shapes_of(node, shape)?;
    let Node::Chain { chain, shortcut } = node else {
        push("plan", shapes, after_tail)?;
        let (why, name) = (text(format_args!("one stage"))?, "average pool");
        let (parts, output) = (Parts::Pool, input + 1);
        let stage = Stage { node: index, parts, input, output, residual: None, fused: false, why, name };
        return push("plan", stages, stage);
    };
    let residual = (*shortcut && after_tail == shape).then_some(input);
    let (head, tail) = (chain.head(), chain.tail());
    let Some(depthwise) = chain.depthwise() else {
        push("plan", shapes, after_tail)?;
        let (parts, why) = (Parts::Conv(chain.clone()), text(format_args!("one stage"))?);
        let (output, name) = (input + 1, name_of(chain));
        let stage = Stage { node: index, parts, input, output, residual, fused: false, why, name };
        return push("plan", stages, stage);
    };
    let alone = head.is_none() && tail.is_none();
    let (fused, schedule, why) =
        choose(chain, [after_head, after_depthwise], input == 0, fusion, &lowering.thresholds)?;
    let by_channels = fusion == Fusion::Auto
        && !alone
        && after_depthwise.h * after_depthwise.w <= lowering.thresholds.slab_pixels
        && !shape.n.is_multiple_of(lowering.workers)
        && worth_exchanging(chain, depthwise, [after_head, after_depthwise], lowering);
    // a step for these stages, from the tensor that the one before wrote
    let mut add = |chain: Chain, schedule, by_channels, fused, why, shape, residual| {
        let name = name_of(&chain);
        let parts = match chain.depthwise() {
            Some(_) => Parts::Chain { chain, schedule, by_channels },
            None => Parts::Conv(chain),
        };
        let from = shapes.len() - 1;
        push("plan", shapes, shape)?;
        push("plan", stages, Stage { node: index, parts, input: from, output: from + 1, residual, fused, why, name })
    };
    // unreached: some stages of a step are a step too
    let of = |parts: &[Part]| Chain::of(parts).map_err(|misfit| misfit.named(STAGES));
    if let (true, true, Some(tail)) = (fused, by_channels, tail) {
        let middle = Part::Depthwise(depthwise.clone());
        let (before, fused, why) = match head {
            Some(head) => (of(&[Part::Conv(head.clone()), middle])?, true, why),
            None => {
                (of(&[middle])?, false, text(format_args!("threads share its channels: rows do not come out even"))?)
            }
        };
        add(before, schedule, true, fused, why, after_depthwise, None)?;
        let why = text(format_args!("threads share the channels of the stages before it"))?;
        return add(of(&[Part::Conv(tail.clone())])?, schedule, false, false, why, after_tail, residual);
    }
    if alone || fused {
        return add(chain.clone(), schedule, by_channels, fused, why, after_tail, residual);
    }
    let mut left = chain.parts().iter().flatten().count();
    for (part, shape) in chain.parts().into_iter().zip([after_head, after_depthwise, after_tail]) {
        let Some(part) = part else { continue };
        left -= 1;
        let (chain, why) = (of(&[part])?, text(format_args!("{why}"))?);
        add(chain, Schedule::RowRing, false, false, why, shape, residual.filter(|_| left == 0))?;
    }
    Ok(())
}

/// The name of a step.
fn name_of(chain: &Chain) -> &'static str {
    let point = chain.head().is_some_and(|head| head.is_pointwise());
    match (chain.head(), chain.depthwise(), chain.tail()) {
        (_, None, _) if point => "pointwise",
        (_, None, _) => "convolution",
        (None, _, None) => "depthwise",
        (None, _, Some(_)) => "depthwise → pointwise",
        (Some(_), _, None) if point => "pointwise → depthwise",
        (Some(_), _, Some(_)) if point => "pointwise → depthwise → pointwise",
        (Some(_), _, None) => "convolution → depthwise",
        (Some(_), _, Some(_)) => "convolution → depthwise → pointwise",
    }
}

/// Whether stages with a depthwise convolution run as one step, by which schedule, and why. `first`: they read the caller's
/// input.
fn choose(
    chain: &Chain,
    [after_head, after_depthwise]: [Shape; 2],
    first: bool,
    fusion: Fusion,
    thresholds: &Thresholds,
) -> Result<(bool, Schedule, String)> {
    let (head, tail) = (chain.head(), chain.tail());
    let schedule = match (head, chain.depthwise()) {
        (Some(_), Some(depthwise)) => preferred_schedule(thresholds, depthwise, after_head, after_depthwise)?,
        _ => Schedule::RowRing,
    };
    Ok(match fusion {
        _ if head.is_none() && tail.is_none() => (false, schedule, text(format_args!("one stage"))?),
        Fusion::Require(schedule) => (true, schedule, text(format_args!("asked for"))?),
        Fusion::Never => (false, schedule, text(format_args!("{DECLINED}"))?),
        // with the caller's rows the depthwise rows fill L2 after a few: fused is no faster, and up to a twentieth slower
        Fusion::Auto
            if head.is_none()
                && first
                && after_depthwise.len()? <= thresholds.near_tensor
                && tail.is_some_and(|tail| tail.weights.len() > thresholds.tail_weights) =>
        {
            (false, schedule, text(format_args!("the pointwise weights would come from L3 for every few rows"))?)
        }
        Fusion::Auto => {
            let fits = match schedule {
                Schedule::ChannelSlabs => "a slab of the whole plane fits the cache",
                Schedule::RowRing => "a ring of rows fits the cache",
            };
            let pixels = after_depthwise.h * after_depthwise.w;
            (true, schedule, text(format_args!("{pixels} output pixels: {fits}"))?)
        }
    })
}

/// Whether threads share a small plane faster by channels than by rows. Rows may divide unevenly, and the rows of a head at the border
/// between two threads are computed twice. By channels, the tail is a step of its own, behind an exchange of a tensor as small as the
/// plane.
fn worth_exchanging(
    chain: &Chain,
    depthwise: &Depthwise,
    [after_head, after_depthwise]: [Shape; 2],
    lowering: &Lowering,
) -> bool {
    let (head, tail, workers) = (chain.head(), chain.tail(), lowering.workers);
    let of_head = head.map_or(0, |head| conv_macs(head, after_head.pixels()));
    let of_depthwise = depthwise_macs(depthwise, after_depthwise.pixels());
    let of_tail = tail.map_or(0, |tail| conv_macs(tail, after_depthwise.pixels()));

    let height = after_depthwise.h;
    let window = &depthwise.window;
    let read = ((height.div_ceil(workers) - 1) * window.stride[0] + window.reach(0)).min(after_head.h);
    let by_rows = of_head as f64 * read as f64 / after_head.h as f64
        + of_depthwise.saturating_add(of_tail) as f64 * busiest(height, workers);

    let worth_meeting = lowering.thresholds.worth_meeting as u64;
    let shared = |macs: u64, parts: f64| macs as f64 * if macs < worth_meeting { 1.0 } else { parts };
    let blocks = busiest(after_depthwise.c.div_ceil(BLOCK), workers);
    let panels = tail.map_or(1.0, |tail| busiest(tail.outputs.div_ceil(BLOCK), workers));
    let by_channels =
        shared(of_head.saturating_add(of_depthwise), blocks) + shared(of_tail, panels.min(busiest(height, workers)));
    by_rows > by_channels * (lowering.thresholds.worth_exchanging as f64 / 100.0)
}

/// A layout for each tensor: the one that the step which reads it needs.
fn layouts(shapes: &[Shape], stages: &[Stage], thresholds: &Thresholds) -> Result<Vec<Layout>> {
    let mut layouts = collect("plan", shapes.iter().map(|&s| Layout::nhwc(s, s.c)))?;
    for stage in stages.iter().skip(1) {
        let shape = shapes[stage.input];
        let columns = match &stage.parts {
            Parts::Conv(chain) | Parts::Chain { chain, .. } => match (chain.head(), chain.depthwise()) {
                // the window is copied from dense pixels
                (Some(conv), _) if !conv.is_pointwise() => continue,
                (None, Some(depthwise)) if depthwise.multiplier == 1 => {
                    let extent = depthwise.window.over([shape.h, shape.w])?;
                    [extent.before[1], extent.after[1]]
                }
                _ => [0, 0],
            },
            Parts::Pool => [0, 0],
        };
        let fits = columns[0].saturating_add(columns[1]) <= shape.w.max(thresholds.padding_columns);
        layouts[stage.input] = Layout::blocked(shape, if fits { columns } else { [0, 0] })?;
    }
    Ok(layouts)
}

/// A place for each tensor: the caller's, or the lowest of the arena that no tensor alive at the same time takes.
fn places(layouts: &[Layout], shapes: &[Shape], stages: &[Stage]) -> Result<(Vec<Place>, usize)> {
    let last = shapes.len() - 1;
    let mut places = collect("plan", shapes.iter().map(|_| Place::Input))?;
    places[last] = Place::Output;
    // the last stage that reads each tensor
    let mut dies = collect("plan", shapes.iter().map(|_| 0))?;
    for (s, stage) in stages.iter().enumerate() {
        dies[stage.input] = s;
        if let Some(r) = stage.residual {
            dies[r] = s;
        }
    }
    let mut alive: Vec<(usize, usize, usize)> = Vec::new();
    let mut arena = 0;
    for (s, stage) in stages.iter().enumerate() {
        let t = stage.output;
        if t == last {
            break;
        }
        alive.retain(|&(_, _, tensor)| dies[tensor] >= s);
        alive.sort_unstable();
        let len = product(&[shapes[t].n, shapes[t].h, layouts[t].row])?
            .checked_next_multiple_of(BLOCK * 2)
            .ok_or(Error::TooLarge { what: "arena", shape: shapes[t] })?;
        let mut at = 0;
        for &(start, end, _) in &alive {
            if start.saturating_sub(at) >= len {
                break;
            }
            at = end;
        }
        let end = at.checked_add(len).ok_or(Error::TooLarge { what: "arena", shape: shapes[t] })?;
        places[t] = Place::Arena(at);
        push("plan", &mut alive, (at, end, t))?;
        arena = arena.max(end);
    }
    Ok((places, arena))
}

impl StageReport {
    /// What is known of a stage before its step is made.
    fn new(stage: &Stage, from: &Tensor, to: &Tensor, residual: Option<&Tensor>) -> Result<StageReport> {
        let floats = |t: &Tensor| (t.shape.pixels() * t.shape.c) as u64;
        let mut report = StageReport {
            name: stage.name,
            input: from.shape,
            output: to.shape,
            kernels: Vec::new(),
            fused: stage.fused,
            why: text(format_args!("{}", stage.why))?,
            schedule: None,
            macs: 0,
            bytes: 0,
            scratch_bytes: 0,
            pieces: 1,
            bound: Bound::Compute,
        };
        // a head, a depthwise stage and a tail
        reserve("plan", &mut report.kernels, 3)?;
        let mut weights = 0;
        let mut conv = |conv: &Conv, pixels: usize, macs: &mut u64| {
            *macs = macs.saturating_add(conv_macs(conv, pixels));
            weights += conv.weights.len() as u64;
        };
        match &stage.parts {
            Parts::Pool => report.kernels.push(KernelKind::AveragePool),
            Parts::Conv(chain) | Parts::Chain { chain, .. } => {
                if let Some(c) = chain.head() {
                    report.kernels.push(KernelKind::Pointwise);
                    let [h, w] = c.window.over([from.shape.h, from.shape.w])?.out;
                    conv(c, Shape { h, w, ..from.shape }.pixels(), &mut report.macs);
                }
                if let Some(c) = chain.tail() {
                    report.kernels.push(KernelKind::Pointwise);
                    conv(c, to.shape.pixels(), &mut report.macs);
                }
                if let Some(depthwise) = chain.depthwise() {
                    report.macs = report.macs.saturating_add(depthwise_macs(depthwise, to.shape.pixels()));
                    weights += depthwise.weights.len() as u64;
                }
            }
        }
        report.bytes = (floats(from) + floats(to) + residual.map_or(0, floats) + weights).saturating_mul(4);
        report.bound = Bound::predict(report.macs, report.bytes);
        Ok(report)
    }
}

fn conv_macs(conv: &Conv, pixels: usize) -> u64 {
    (pixels as u64).saturating_mul((conv.k() as u64).saturating_mul(conv.outputs as u64))
}

fn depthwise_macs(depthwise: &Depthwise, pixels: usize) -> u64 {
    let taps = depthwise.window.kernel[0] * depthwise.window.kernel[1];
    (pixels as u64).saturating_mul((taps as u64).saturating_mul(depthwise.outputs() as u64))
}
