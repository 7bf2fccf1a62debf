//! From nodes to steps: what is fused, how tensors lie, and where they live.

use sepconv_kernels::KernelKind;

use super::chain::ChainStep;
use super::conv::ConvStep;
use super::flat::FlatStep;
use super::group::regroup;
use super::layout::{PlannedTensor, layouts, places};
use super::planes::PlanesStep;
use super::pool::PoolStep;
use super::report::StageReport;
use super::schedule::preferred_schedule;
use super::sections::{self, SectionsStep};
use super::share::worth_exchanging;
use super::stage::{Chain, Ends, PackedStage, STAGES, channels};
use super::swap::lower_swapped;
use super::{Lowering, Node, Step};
use crate::memory::{Arc, Carver, collect, push, text};
use crate::tensor::ElementType;
use crate::{Error, Fusion, Layout, Result, Schedule, Shape};

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
    pub(crate) tensors: Vec<PlannedTensor>,
    /// Bytes of the tensors between steps.
    pub(crate) arena: usize,
    /// Bytes of scratch for each worker.
    pub(crate) worker: usize,
    pub(crate) macs: u64,
    pub(crate) reports: Vec<StageReport>,
    /// Whether rows and columns of all tensors, the caller's too, are swapped. Shapes in reports are as the caller has them.
    pub(crate) swapped: bool,
}

/// A step before tensors have places: the stages that run as one.
pub(super) struct Draft {
    /// The node that its stages are of.
    node: usize,
    pub(super) kind: DraftKind,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) residual: Option<usize>,
    pub(super) fused: bool,
    pub(super) why: String,
    pub(super) name: &'static str,
}

pub(super) enum DraftKind {
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
    match lower_swapped(nodes, input, lowering)? {
        Some(program) => Ok(program),
        None => lower_as_given(nodes, input, lowering),
    }
}

/// Turns nodes into a program over the rows and columns of their planes.
pub(super) fn lower_as_given(nodes: &[Node], input: Shape, lowering: &Lowering) -> Result<Program, Refused> {
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
    let drafts = Drafts::new(nodes, input, fusion, unfused, lowering)?;
    if let Fusion::Require(schedule) = fusion
        && !drafts.steps.iter().any(|draft| draft.fused)
    {
        return Err(Error::Fusion(format!("{schedule:?} was asked for, and no layer has stages to fuse")));
    }
    let (tensors, arena) = drafts.tensors(lowering)?;
    let mut program = Program { tensors, arena, ..Program::default() };
    let (mut too_large, mut error) = (Vec::new(), None);
    for draft in drafts.steps {
        let node = draft.node;
        let mut scratch = Carver::default();
        let (from, to) = (program.tensors[draft.input], program.tensors[draft.output]);
        let mut report = StageReport::new(&draft, &from, &to, draft.residual.map(|r| &program.tensors[r]))?;
        let step = step(draft, &mut report, &mut program.tensors, lowering, &mut scratch)?;
        report.scratch_bytes = scratch.len();
        let limit = lowering.thresholds.scratch_limit(report.bytes);
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

/// The step of a draft over tensors that have places. What it decides is added to the report.
fn step(
    draft: Draft,
    report: &mut StageReport,
    tensors: &mut Vec<PlannedTensor>,
    lowering: &Lowering,
    scratch: &mut Carver,
) -> Result<Step> {
    let thresholds = &lowering.thresholds;
    let ends = Ends { input: draft.input, output: draft.output, residual: draft.residual };
    let work = match draft.kind {
        DraftKind::Pool => report.input.len()?.saturating_mul(thresholds.pool_macs) as u64,
        _ => report.macs,
    };
    let workers = if work < thresholds.worth_sharing as u64 { 1 } else { lowering.workers };
    Ok(match draft.kind {
        DraftKind::Pool => Step::Pool(PoolStep::new(tensors, ends, workers, thresholds, scratch)?),
        DraftKind::Conv(chain) => {
            let step = ConvStep::new(&chain, tensors, ends, workers, thresholds, scratch)?;
            Step::Conv(Arc::try_new("plan", step)?)
        }
        DraftKind::Chain { chain, schedule, by_channels } => {
            // the first way that fits: planes in place, one input channel as a convolution, flat rows, sections, all columns
            if let Some(kind) = PlanesStep::kind_of(&chain, tensors, &ends, lowering)? {
                let step = PlanesStep::new(&chain, kind, tensors, ends, workers, scratch)?;
                report.kernels.push(kind);
                report.schedule = Some(text(format_args!("planes, a channel at a time"))?);
                return Ok(Step::Planes(step));
            }
            if let Some(conv) = chain.as_conv()? {
                let step = ConvStep::new(&conv, tensors, ends, workers, thresholds, scratch)?;
                report.kernels.push(KernelKind::Pointwise);
                report.schedule = Some(text(format_args!("a standard convolution, since there is one input channel"))?);
                return Ok(Step::Conv(Arc::try_new("plan", step)?));
            }
            if FlatStep::suits(&chain, tensors, &ends, lowering)? {
                let step = FlatStep::new(&chain, tensors, ends, workers, thresholds, scratch)?;
                report.kernels.push(KernelKind::DwConv);
                let (width, columns) = (step.extent.out[1], step.columns);
                report.schedule = Some(if columns < width {
                    text(format_args!("flat rows, several pixels in a vector, {columns} columns at a time"))?
                } else {
                    text(format_args!("flat rows, several pixels in a vector"))?
                });
                return Ok(Step::Flat(Arc::try_new("plan", step)?));
            }
            if let Some(count) = sections::count(&chain, tensors, &ends, schedule, by_channels, workers, lowering)?
                && let Some(step) = SectionsStep::new(&chain, tensors, ends, count, workers, lowering, scratch)?
            {
                let (first, columns) = (&step.first, step.columns);
                report.kernels.insert(usize::from(chain.head().is_some()), first.kind);
                let sections = format_args!("{}; {columns} columns at a time", first.explain_schedule()?);
                report.schedule = Some(text(sections)?);
                return Ok(Step::Sections(Arc::try_new("plan", step)?));
            }
            let step = ChainStep::new(&chain, tensors, ends, schedule, by_channels, workers, lowering, scratch)?;
            let head = usize::from(chain.head().is_some());
            report.kernels.insert(head, step.kind);
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
            channels("average pool", *c, input.c)?;
            Ok([Shape::new(input.n, 1, 1, input.c); 3])
        }
        Node::Chain { chain, .. } => chain.shapes(input),
    }
}

/// The steps of a program before tensors have places, and the shapes of these tensors.
struct Drafts {
    steps: Vec<Draft>,
    shapes: Vec<Shape>,
}

/// The decision about the stages of a layer.
struct Choice {
    fused: bool,
    schedule: Schedule,
    why: String,
}

impl Drafts {
    fn new(nodes: &[Node], input: Shape, fusion: Fusion, unfused: &[usize], lowering: &Lowering) -> Result<Drafts> {
        let mut drafts = Drafts { steps: Vec::new(), shapes: Vec::new() };
        push("plan", &mut drafts.shapes, input)?;
        let regrouped = match fusion {
            Fusion::Auto => Some(regroup(nodes, input, &lowering.thresholds)?),
            _ => None,
        };
        for (index, node) in regrouped.as_deref().unwrap_or(nodes).iter().enumerate() {
            let fusion = if unfused.binary_search(&index).is_ok() { Fusion::Never } else { fusion };
            drafts.node(index, node, fusion, lowering)?;
        }
        Ok(drafts)
    }

    /// All tensors with layouts and places, and the bytes of the arena.
    fn tensors(&self, lowering: &Lowering) -> Result<(Vec<PlannedTensor>, usize)> {
        let (shapes, element) = (&self.shapes, ElementType::F32);
        let layouts = layouts(shapes, lowering.layouts, &self.steps, &lowering.thresholds)?;
        let (places, arena) = places(&layouts, shapes, element, &self.steps)?;
        let tensor =
            |t| PlannedTensor { shape: shapes[t], element, place: places[t], layout: layouts[t], section: None };
        Ok((collect("plan", (0..shapes.len()).map(tensor))?, arena))
    }

    /// Adds a step from the tensor that the step before wrote to a new one of this shape.
    fn step(
        &mut self,
        node: usize,
        kind: DraftKind,
        shape: Shape,
        residual: Option<usize>,
        choice: Choice,
    ) -> Result<()> {
        let name = match &kind {
            DraftKind::Pool => "average pool",
            DraftKind::Conv(chain) | DraftKind::Chain { chain, .. } => name_of(chain),
        };
        let Choice { fused, why, .. } = choice;
        let input = self.shapes.len() - 1;
        push("plan", &mut self.shapes, shape)?;
        push("plan", &mut self.steps, Draft { node, kind, input, output: input + 1, residual, fused, why, name })
    }

    /// Adds the steps of a node.
    fn node(&mut self, index: usize, node: &Node, fusion: Fusion, lowering: &Lowering) -> Result<()> {
        let input = self.shapes.len() - 1;
        let shape = self.shapes[input];
        let shapes = shapes_of(node, shape)?;
        let [_, _, after_tail] = shapes;
        let one_stage = || Choice::single(text(format_args!("one stage"))?);
        let (chain, residual) = match node {
            Node::Pool { .. } => return self.step(index, DraftKind::Pool, after_tail, None, one_stage()?),
            Node::Chain { chain, shortcut } => (chain, (*shortcut && after_tail == shape).then_some(input)),
        };
        if chain.depthwise().is_none() {
            return self.step(index, DraftKind::Conv(chain.clone()), after_tail, residual, one_stage()?);
        }
        let choice = Choice::new(chain, shapes, input == 0, fusion, lowering)?;
        let by_channels = fusion == Fusion::Auto && goes_by_channels(chain, shapes, lowering);
        match (choice.fused, chain.head().is_none() && chain.tail().is_none()) {
            (true, _) if by_channels && chain.tail().is_some() => {
                self.without_tail(index, chain, shapes, residual, choice)
            }
            (true, _) | (_, true) => {
                let kind = DraftKind::Chain { chain: chain.clone(), schedule: choice.schedule, by_channels };
                self.step(index, kind, after_tail, residual, choice)
            }
            (false, false) => self.single_stages(index, chain, shapes, residual, &choice.why),
        }
    }

    /// Adds the head and the depthwise stage as one step that threads share by channels, and the tail as a step of its own.
    fn without_tail(
        &mut self,
        index: usize,
        chain: &Chain,
        [_, after_depthwise, after_tail]: [Shape; 3],
        residual: Option<usize>,
        choice: Choice,
    ) -> Result<()> {
        let schedule = choice.schedule;
        let [head, depthwise, tail] = chain.stages().clone();
        let choice = match head {
            Some(_) => choice,
            None => Choice::single(text(format_args!("threads share its channels: rows do not come out even"))?)?,
        };
        let before = some_of(&[head, depthwise])?;
        let kind = DraftKind::Chain { chain: before, schedule, by_channels: true };
        self.step(index, kind, after_depthwise, None, choice)?;
        let why = text(format_args!("threads share the channels of the stages before it"))?;
        self.step(index, DraftKind::Conv(some_of(&[tail])?), after_tail, residual, Choice::single(why)?)
    }

    /// Adds a step for each stage. The last one adds the residual.
    fn single_stages(
        &mut self,
        index: usize,
        chain: &Chain,
        shapes: [Shape; 3],
        residual: Option<usize>,
        why: &str,
    ) -> Result<()> {
        let last = if chain.tail().is_some() { 2 } else { 1 };
        for (place, (stage, shape)) in chain.stages().iter().zip(shapes).enumerate() {
            if stage.is_none() {
                continue;
            }
            let chain = some_of(core::slice::from_ref(stage))?;
            let kind = match chain.depthwise() {
                Some(_) => DraftKind::Chain { chain, schedule: Schedule::RowRing, by_channels: false },
                None => DraftKind::Conv(chain),
            };
            let choice = Choice::single(text(format_args!("{why}"))?)?;
            self.step(index, kind, shape, residual.filter(|_| place == last), choice)?;
        }
        Ok(())
    }
}

/// Some of the stages of a step, in their order, as a step.
fn some_of(stages: &[Option<PackedStage>]) -> Result<Chain> {
    let stages = collect("plan", stages.iter().flatten().cloned())?;
    // unreached: some stages of a step are a step too
    Chain::of(&stages).map_err(|misfit| misfit.named(STAGES))
}

/// Whether threads share the channels of the stages up to the depthwise stage, and not rows.
fn goes_by_channels(chain: &Chain, [after_head, after_depthwise, _]: [Shape; 3], lowering: &Lowering) -> bool {
    let alone = chain.head().is_none() && chain.tail().is_none();
    !alone
        && after_depthwise.h * after_depthwise.w <= lowering.thresholds.slab_pixels
        && !after_depthwise.n.is_multiple_of(lowering.workers)
        && chain
            .depthwise()
            .is_some_and(|depthwise| worth_exchanging(chain, depthwise.op, [after_head, after_depthwise], lowering))
}

/// Whether a batch has small planes, and so many that a worker has several of them: a convolution alone takes these in one call, but not
/// out of a caller's planes.
fn takes_images_at_once(out: Shape, first: bool, lowering: &Lowering) -> bool {
    out.n >= lowering.workers.saturating_mul(2)
        && out.h * out.w < lowering.thresholds.batch_pixels
        && !(first && lowering.layouts[0] == Layout::Nchw)
}

/// The name of a step.
fn name_of(chain: &Chain) -> &'static str {
    let point = chain.head().is_some_and(|head| head.op.is_pointwise());
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

impl Choice {
    /// One stage alone.
    fn single(why: String) -> Result<Choice> {
        Ok(Choice { fused: false, schedule: Schedule::RowRing, why })
    }

    /// Whether stages with a depthwise convolution run as one step, by which schedule, and why. `first`: they read the caller's
    /// input.
    fn new(
        chain: &Chain,
        [after_head, after_depthwise, _]: [Shape; 3],
        first: bool,
        fusion: Fusion,
        lowering: &Lowering,
    ) -> Result<Choice> {
        let thresholds = &lowering.thresholds;
        let (head, tail) = (chain.head(), chain.tail());
        let schedule = match (head, chain.depthwise()) {
            (Some(_), Some(depthwise)) => preferred_schedule(thresholds, depthwise.op, after_head, after_depthwise)?,
            _ => Schedule::RowRing,
        };
        let choice = |fused, schedule, why: core::fmt::Arguments<'_>| Ok(Choice { fused, schedule, why: text(why)? });
        match fusion {
            _ if head.is_none() && tail.is_none() => choice(false, schedule, format_args!("one stage")),
            Fusion::Require(schedule) => choice(true, schedule, format_args!("asked for")),
            Fusion::Never => choice(false, schedule, format_args!("{DECLINED}")),
            Fusion::Auto if takes_images_at_once(after_depthwise, first, lowering) => {
                let why = "small planes: by itself, a stage takes those of several images at once";
                choice(false, schedule, format_args!("{why}"))
            }
            // with the caller's rows the depthwise rows fill L2 after a few: fused is no faster, and up to a twentieth slower
            Fusion::Auto
                if head.is_none()
                    && first
                    && after_depthwise.len()? <= thresholds.near_tensor
                    && tail.is_some_and(|tail| tail.op.weights.len() > thresholds.tail_weights) =>
            {
                let why = "the pointwise weights would come from L3 for every few rows";
                choice(false, schedule, format_args!("{why}"))
            }
            Fusion::Auto => {
                let fits = match schedule {
                    Schedule::ChannelSlabs => "a slab of the whole plane fits the cache",
                    Schedule::RowRing => "a ring of rows fits the cache",
                };
                let pixels = after_depthwise.h * after_depthwise.w;
                choice(true, schedule, format_args!("{pixels} output pixels: {fits}"))
            }
        }
    }
}
