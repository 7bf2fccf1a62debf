//! From nodes to steps: what is fused, how tensors lie, and where they live.

use sepconv_kernels::{BLOCK, Isa, KernelKind, Kernels};

use super::chain::{ChainParts, SLAB_PIXELS, TAIL_WEIGHTS, preferred_schedule};
use super::group::regroup;
use super::{ChainStep, Conv, ConvStep, Depthwise, Ends, Layout, Node, Place, PoolStep, Step, Tensor, busiest};
use crate::memory::{Arc, Carver, collect, push, reserve, text};
use crate::plan::{Bound, StageReport};
use crate::{Error, Fusion, Result, Schedule, Shape};

/// A step of fewer multiply-adds runs on one thread. They take a microsecond, and lines that go from core to core as long; threads
/// meet behind it in any case. With 200,000 V2 0.35 96 took 3 % longer on two threads.
const WORTH_SHARING: u64 = 40_000;

/// A part of a layer of fewer multiply-adds, head and depthwise or the tail, gains no more by an exchange than it costs to meet once
/// more: it counts as if one thread ran it. 24-144-24 at 6×6 takes as long by rows, 56-336-56 at 3×3 a third longer.
const WORTH_MEETING: u64 = 150_000;

/// Multiply-adds that take as long as a pool's addition, which waits for the one before.
const POOL_MACS: u64 = 4;

/// How much more work by rows weighs as much as an exchange of the tensor between by channels: on cores that share a cache
/// the exchange costs nothing, on cores that do not it took 1.4 times the even share of an inverted residual. V1's last
/// two layers, where rows are an eighth to a third more, gained up to 7 % of a network on the ones; on the others up to 7
/// where it is wide, and lost up to 4 where it is narrow.
const WORTH_EXCHANGING: f64 = 1.12;

/// The most bytes of scratch that a worker may need for a stage that reads and writes `bytes` bytes, weights counted.
/// Channel blocks take up to 16 times a tensor of one channel; what is far beyond that comes of windows that reach over
/// next to nothing but padding, and of rows longer than any cache or memory was made for.
fn scratch_limit(bytes: u64) -> usize {
    let limit = (64u64 << 20).saturating_add(bytes.saturating_mul(64)).min(1 << 30);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Values of a tensor that costs less to write and to read again than a tail's weights: half a megabyte, of L2.
const NEAR_TENSOR: usize = 128 << 10;

const DECLINED: &str = "fusion was declined";

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
    parts: Parts,
    input: usize,
    output: usize,
    residual: Option<usize>,
    fused: bool,
    why: String,
    name: &'static str,
}

enum Parts {
    Conv(Arc<Conv>),
    /// Threads share it by channels, or by rows.
    Chain {
        chain: ChainParts,
        schedule: Schedule,
        by_channels: bool,
    },
    Pool,
}

/// Turns nodes into a program for `workers` threads.
pub(crate) fn lower(
    nodes: &[Node],
    input: Shape,
    fusion: Fusion,
    workers: usize,
    kernels: &Kernels,
) -> Result<Program> {
    match lower_as(nodes, input, fusion, workers, kernels) {
        Err(Error::Scratch { .. }) if fusion == Fusion::Auto => {
            let mut program = lower_as(nodes, input, Fusion::Never, workers, kernels)?;
            for report in program.reports.iter_mut().filter(|report| report.why == DECLINED) {
                report.why = text(format_args!("fused, its scratch would be out of proportion"))?;
            }
            Ok(program)
        }
        other => other,
    }
}

fn lower_as(nodes: &[Node], input: Shape, fusion: Fusion, workers: usize, kernels: &Kernels) -> Result<Program> {
    input.len()?;
    let mut shapes = Vec::new();
    push("plan", &mut shapes, input)?;
    let mut stages = Vec::new();
    let regrouped = match fusion {
        Fusion::Auto => Some(regroup(nodes, input)?),
        _ => None,
    };
    for node in regrouped.as_deref().unwrap_or(nodes) {
        split(node, fusion, workers, kernels.isa(), &mut shapes, &mut stages)?;
    }
    if let Fusion::Require(schedule) = fusion
        && !stages.iter().any(|stage| stage.fused)
    {
        return Err(Error::Fusion(format!("{schedule:?} was asked for, and no layer has stages to fuse")));
    }
    let layouts = layouts(&shapes, &stages)?;
    let (places, arena) = places(&layouts, &shapes, &stages)?;
    let tensor = |t| Tensor { shape: shapes[t], place: places[t], layout: layouts[t] };
    let tensors = collect("plan", (0..shapes.len()).map(tensor))?;

    let mut program = Program { steps: Vec::new(), tensors, arena, worker: 0, macs: 0, reports: Vec::new() };
    for stage in stages {
        let mut scratch = Carver::default();
        let (from, to) = (program.tensors[stage.input], program.tensors[stage.output]);
        let mut report = StageReport::new(&stage, &from, &to, stage.residual.map(|r| &program.tensors[r]))?;
        let ends = Ends { input: stage.input, output: stage.output, residual: stage.residual };
        let work = match stage.parts {
            Parts::Pool => ((from.shape.pixels() * from.shape.c) as u64).saturating_mul(POOL_MACS),
            _ => report.macs,
        };
        let workers = if work < WORTH_SHARING { 1 } else { workers };
        let step = match stage.parts {
            Parts::Pool => Step::Pool(PoolStep::new((stage.input, from.shape), stage.output, workers)),
            Parts::Conv(conv) => {
                let step = ConvStep::new(conv, &program.tensors, ends, workers, &mut scratch)?;
                Step::Conv(Arc::try_new("plan", step)?)
            }
            Parts::Chain { chain, schedule, by_channels } => {
                let step = ChainStep::new(
                    chain,
                    &program.tensors,
                    ends,
                    schedule,
                    by_channels,
                    workers,
                    kernels,
                    &mut scratch,
                )?;
                report.kernels.insert(usize::from(report.kernels.len() > 1), step.kind());
                report.schedule = Some(step.explain_schedule()?);
                Step::Chain(Arc::try_new("plan", step)?)
            }
        };
        report.scratch_bytes = scratch.len() * size_of::<f32>();
        let limit = scratch_limit(report.bytes);
        if report.scratch_bytes > limit {
            return Err(Error::Scratch { stage: report.name, bytes: report.scratch_bytes, limit });
        }
        report.pieces = step.pieces();
        program.macs = program.macs.saturating_add(report.macs);
        program.worker = program.worker.max(scratch.len());
        push("plan", &mut program.steps, step)?;
        push("plan", &mut program.reports, report)?;
    }
    Ok(program)
}

/// The shape that a node makes of `input`, with the shapes between its stages: head, depthwise, tail.
pub(crate) fn shapes_of(node: &Node, input: Shape) -> Result<[Shape; 3]> {
    input.len()?;
    let channels = |what, expected, got| {
        if expected == got { Ok(()) } else { Err(Error::Channels { what, expected, got }) }
    };
    match node {
        Node::Pool { channels: c } => {
            channels("average pool input", *c, input.c)?;
            Ok([Shape::new(input.n, 1, 1, input.c); 3])
        }
        Node::Chain { head, depthwise, tail, .. } => {
            let mut shapes = [input; 3];
            let mut shape = input;
            if let Some(conv) = head {
                channels("convolution input", conv.inputs, shape.c)?;
                let [h, w] = conv.window.over([shape.h, shape.w])?.out;
                shape = Shape::new(shape.n, h, w, conv.outputs);
            }
            shapes[0] = shape;
            if let Some(depthwise) = depthwise {
                channels("depthwise input", depthwise.inputs, shape.c)?;
                let [h, w] = depthwise.window.over([shape.h, shape.w])?.out;
                shape = Shape::new(shape.n, h, w, depthwise.outputs());
            }
            shapes[1] = shape;
            if let Some(conv) = tail {
                channels("pointwise input", conv.inputs, shape.c)?;
                shape = Shape::new(shape.n, shape.h, shape.w, conv.outputs);
            }
            shapes[2] = shape;
            for shape in shapes {
                shape.len()?;
            }
            Ok(shapes)
        }
    }
}

/// Splits a node into stages, and makes the tensors between them.
fn split(
    node: &Node,
    fusion: Fusion,
    workers: usize,
    isa: Isa,
    shapes: &mut Vec<Shape>,
    stages: &mut Vec<Stage>,
) -> Result<()> {
    let input = shapes.len() - 1;
    let shape = shapes[input];
    let [after_head, after_depthwise, after_tail] = shapes_of(node, shape)?;
    let Node::Chain { head, depthwise, tail, shortcut } = node else {
        push("plan", shapes, after_tail)?;
        let (why, name) = (text(format_args!("one stage"))?, "average pool");
        let stage = Stage { parts: Parts::Pool, input, output: input + 1, residual: None, fused: false, why, name };
        return push("plan", stages, stage);
    };
    let residual = (*shortcut && after_tail == shape).then_some(input);
    let Some(depthwise) = depthwise else {
        let conv = head.clone().ok_or_else(|| Error::Network("a layer without stages".into()))?;
        push("plan", shapes, after_tail)?;
        let name = if conv.is_pointwise() { "pointwise" } else { "convolution" };
        let (parts, why) = (Parts::Conv(conv), text(format_args!("one stage"))?);
        let stage = Stage { parts, input, output: input + 1, residual, fused: false, why, name };
        return push("plan", stages, stage);
    };
    let alone = head.is_none() && tail.is_none();
    let pixels = after_depthwise.h * after_depthwise.w;
    let small = pixels <= SLAB_PIXELS;
    let chosen = match head {
        Some(_) => preferred_schedule(isa, depthwise, after_head, after_depthwise)?,
        None => Schedule::RowRing,
    };
    let (fused, schedule, why) = match fusion {
        _ if alone => (false, chosen, text(format_args!("one stage"))?),
        Fusion::Require(schedule) => (true, schedule, text(format_args!("asked for"))?),
        Fusion::Never => (false, chosen, text(format_args!("{DECLINED}"))?),
        // with the caller's rows the depthwise rows fill L2 after a few: fused is no faster, and up to a twentieth slower
        Fusion::Auto
            if head.is_none()
                && input == 0
                && after_depthwise.pixels() * after_depthwise.c <= NEAR_TENSOR
                && tail.as_ref().is_some_and(|tail| tail.weights.len() > TAIL_WEIGHTS) =>
        {
            (false, chosen, text(format_args!("the pointwise weights would come from L3 for every few rows"))?)
        }
        Fusion::Auto => {
            let fits = match chosen {
                Schedule::ChannelSlabs => "a slab of the whole plane fits the cache",
                Schedule::RowRing => "a ring of rows fits the cache",
            };
            (true, chosen, text(format_args!("{pixels} output pixels: {fits}"))?)
        }
    };
    let by_channels = fusion == Fusion::Auto
        && !alone
        && small
        && !shape.n.is_multiple_of(workers)
        && worth_exchanging(head.as_deref(), depthwise, tail.as_deref(), [after_head, after_depthwise], workers);
    if fused || alone {
        let chain_tail = tail.clone().filter(|_| !by_channels);
        let name = match (head, &chain_tail) {
            (None, None) => "depthwise",
            (None, Some(_)) => "depthwise → pointwise",
            (Some(head), None) if head.is_pointwise() => "pointwise → depthwise",
            (Some(head), Some(_)) if head.is_pointwise() => "pointwise → depthwise → pointwise",
            (Some(_), None) => "convolution → depthwise",
            (Some(_), Some(_)) => "convolution → depthwise → pointwise",
        };
        let chain = ChainParts { head: head.clone(), depthwise: depthwise.clone(), tail: chain_tail };
        let parts = Parts::Chain { chain, schedule, by_channels };
        let mut stage = Stage { parts, input, output: input + 1, residual, fused, why, name };
        let Some(tail) = tail.clone().filter(|_| by_channels) else {
            push("plan", shapes, after_tail)?;
            return push("plan", stages, stage);
        };
        stage.residual = None;
        if head.is_none() {
            stage.fused = false;
            stage.why = text(format_args!("threads share its channels: rows do not come out even"))?;
        }
        push("plan", shapes, after_depthwise)?;
        push("plan", stages, stage)?;
        push("plan", shapes, after_tail)?;
        let why = text(format_args!("threads share the channels of the stages before it"))?;
        let parts = Parts::Conv(tail);
        let stage =
            Stage { parts, input: input + 1, output: input + 2, residual, fused: false, why, name: "pointwise" };
        return push("plan", stages, stage);
    }
    let mut from = input;
    let mut add = |parts, shape, residual, name| {
        push("plan", shapes, shape)?;
        let output = shapes.len() - 1;
        let why = text(format_args!("{why}"))?;
        let stage = Stage { parts, input: from, output, residual, fused: false, why, name };
        from = output;
        push("plan", stages, stage)
    };
    if let Some(conv) = head {
        let name = if conv.is_pointwise() { "pointwise" } else { "convolution" };
        add(Parts::Conv(conv.clone()), after_head, None, name)?;
    }
    let chain = ChainParts { head: None, depthwise: Arc::clone(depthwise), tail: None };
    let last = tail.is_none();
    let parts = Parts::Chain { chain, schedule: Schedule::RowRing, by_channels: false };
    add(parts, after_depthwise, residual.filter(|_| last), "depthwise")?;
    if let Some(conv) = tail {
        add(Parts::Conv(conv.clone()), after_tail, residual, "pointwise")?;
    }
    Ok(())
}

/// Whether threads do better to share a small plane by channels, and then its tail by what comes out even, than by rows:
/// seven rows do not halve, and of a head the rows between two threads are computed twice. The tensor between is as small
/// as the plane.
fn worth_exchanging(
    head: Option<&Conv>,
    depthwise: &Depthwise,
    tail: Option<&Conv>,
    [after_head, after_depthwise]: [Shape; 2],
    workers: usize,
) -> bool {
    let of_head = head.map_or(0, |head| conv_macs(head, after_head.pixels()));
    let of_depthwise = depthwise_macs(depthwise, after_depthwise.pixels());
    let of_tail = tail.map_or(0, |tail| conv_macs(tail, after_depthwise.pixels()));

    let height = after_depthwise.h;
    let window = &depthwise.window;
    let read = ((height.div_ceil(workers) - 1) * window.stride[0] + window.reach(0)).min(after_head.h);
    let by_rows = of_head as f64 * read as f64 / after_head.h as f64
        + of_depthwise.saturating_add(of_tail) as f64 * busiest(height, workers);

    let shared = |macs: u64, parts: f64| macs as f64 * if macs < WORTH_MEETING { 1.0 } else { parts };
    let blocks = busiest(after_depthwise.c.div_ceil(BLOCK), workers);
    let panels = tail.map_or(1.0, |tail| busiest(tail.outputs.div_ceil(BLOCK), workers));
    let by_channels =
        shared(of_head.saturating_add(of_depthwise), blocks) + shared(of_tail, panels.min(busiest(height, workers)));
    by_rows > by_channels * WORTH_EXCHANGING
}

/// A layout for each tensor, as the step that reads it likes best.
fn layouts(shapes: &[Shape], stages: &[Stage]) -> Result<Vec<Layout>> {
    let mut layouts = collect("plan", shapes.iter().map(|&s| Layout::nhwc(s, s.c)))?;
    for stage in stages.iter().skip(1) {
        let shape = shapes[stage.input];
        let columns = match &stage.parts {
            // the window is copied from dense pixels
            Parts::Conv(conv) if !conv.is_pointwise() => continue,
            Parts::Chain { chain: ChainParts { head: Some(conv), .. }, .. } if !conv.is_pointwise() => continue,
            Parts::Chain { chain: ChainParts { head: None, depthwise, .. }, .. } if depthwise.multiplier == 1 => {
                let extent = depthwise.window.over([shape.h, shape.w])?;
                [extent.before[1], extent.after[1]]
            }
            _ => [0, 0],
        };
        // padding can be far wider than a plane: then it is cheaper to copy rows than to keep it in memory
        let columns = if columns[0] + columns[1] <= shape.w.max(16) { columns } else { [0, 0] };
        crate::memory::product(&[shape.n, shape.h, columns[0] + shape.w + columns[1], shape.c.div_ceil(BLOCK), BLOCK])?;
        layouts[stage.input] = Layout::blocked(shape, columns);
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
        let len = crate::memory::product(&[shapes[t].n, shapes[t].h, layouts[t].row])?
            .checked_next_multiple_of(BLOCK * 2)
            .ok_or(Error::TooLarge { what: "arena", shape: shapes[t] })?;
        let mut at = 0;
        for &(start, end, _) in &alive {
            if start - at >= len {
                break;
            }
            at = end;
        }
        places[t] = Place::Arena(at);
        push("plan", &mut alive, (at, at + len, t))?;
        arena = arena.max(at + len);
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
            Parts::Conv(c) => {
                report.kernels.push(KernelKind::Pointwise);
                conv(c, to.shape.pixels(), &mut report.macs);
            }
            Parts::Chain { chain, .. } => {
                if let Some(c) = &chain.head {
                    report.kernels.push(KernelKind::Pointwise);
                    let middle = c.window.over([from.shape.h, from.shape.w]).map_or([0, 0], |e| e.out);
                    conv(c, from.shape.n * middle[0] * middle[1], &mut report.macs);
                }
                if let Some(c) = &chain.tail {
                    report.kernels.push(KernelKind::Pointwise);
                    conv(c, to.shape.pixels(), &mut report.macs);
                }
                report.macs = report.macs.saturating_add(depthwise_macs(&chain.depthwise, to.shape.pixels()));
                weights += chain.depthwise.weights.len() as u64;
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
