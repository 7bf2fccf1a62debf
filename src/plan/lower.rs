//! From nodes to steps: what is fused, how tensors lie, and where they live.

use sepconv_kernels::KernelKind;

use super::chain::ChainStep;
use super::conv::ConvStep;
use super::flat::FlatStep;
use super::graph::{Graph, GraphNode};
use super::group::regroup;
use super::layout::{Arena, DraftSlice, Place, PlannedTensor, SliceOf, layouts, places, whole_of};
use super::planes::PlanesStep;
use super::pool::PoolStep;
use super::report::StageReport;
use super::rows::{RowsOp, RowsStep};
use super::schedule::preferred_schedule;
use super::sections::{self, SectionsStep};
use super::share::worth_exchanging;
use super::stage::{Chain, Ends, PackedStage, STAGES};
use super::swap::lower_swapped;
use super::{Lowering, Node, SplitConv, Step};
use crate::memory::{Arc, Carver, collect, push, text};
use crate::tensor::ElementType;
use crate::{Error, Fusion, Layout, Result, Schedule, Shape};

const DECLINED: &str = "fusion was declined";

/// An error of lowering, and the layer that it is of, where it is of one.
pub(crate) struct Refused {
    pub(crate) layer: Option<usize>,
    pub(crate) error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { layer: None, error }
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
    /// Of the first of these, with its layer.
    error: Option<(Option<usize>, Error)>,
}

impl Lowered {
    fn program(self) -> Result<Program, Refused> {
        match self.error {
            None => Ok(self.program),
            Some((layer, error)) => Err(Refused { layer, error }),
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
    /// The most of these that are alive at one step.
    pub(crate) arena_least: usize,
    /// Bytes of scratch for each worker.
    pub(crate) worker: usize,
    pub(crate) macs: u64,
    pub(crate) reports: Vec<StageReport>,
    /// Whether rows and columns of all tensors, the caller's too, are swapped. Shapes in reports are as the caller has them.
    pub(crate) swapped: bool,
}

/// A step before tensors have places: the stages that run as one.
pub(super) struct Draft {
    /// The node that its stages are of, by its place, and the layer that errors name.
    node: usize,
    layer: Option<usize>,
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
    Rows(RowsOp),
}

/// A tensor before it has a place in the arena.
#[derive(Clone, Copy)]
pub(super) struct DraftTensor {
    pub(super) shape: Shape,
    /// The tensor of the caller's that it is.
    pub(super) caller: Option<Place>,
    /// The part of another tensor that it is.
    pub(super) slice: Option<DraftSlice>,
}

/// Turns a graph into a program, for inputs of these shapes.
pub(crate) fn lower(graph: &Graph, inputs: &[Shape], lowering: &Lowering) -> Result<Program, Refused> {
    match lower_swapped(graph, inputs, lowering)? {
        Some(program) => Ok(program),
        None => lower_as_given(graph, inputs, lowering),
    }
}

/// Turns a graph into a program over the rows and columns of its planes.
pub(super) fn lower_as_given(graph: &Graph, inputs: &[Shape], lowering: &Lowering) -> Result<Program, Refused> {
    let mut shapes = graph.shapes(inputs)?;
    let graph = &graph.resolved(&mut shapes)?;
    let lower_as = |fusion, unfused: &[usize]| lower_as(graph, &shapes, fusion, unfused, lowering);
    let fused = lower_as(lowering.fusion, &[])?;
    if lowering.fusion != Fusion::Auto || fused.too_large.is_empty() {
        return fused.program();
    }
    let some_fused = lower_as(Fusion::Auto, &fused.too_large)?;
    if some_fused.too_large.is_empty() {
        return some_fused.explain("fused, its scratch would be out of proportion")?.program();
    }
    // stages of one node may stand in another one, where the border between layers was moved: now each stands in its own
    let unfused = lower_as(Fusion::Never, &[])?;
    unfused.explain("by itself, a stage beside it would take scratch out of proportion")?.program()
}

/// Lowers all nodes by `fusion`, but those of `unfused`, in ascending order, by single stages.
fn lower_as(
    graph: &Graph,
    shapes: &[Shape],
    fusion: Fusion,
    unfused: &[usize],
    lowering: &Lowering,
) -> Result<Lowered> {
    let drafts = Drafts::new(graph, shapes, fusion, unfused, lowering)?;
    if let Fusion::Require(schedule) = fusion
        && !drafts.steps.iter().any(|draft| draft.fused)
    {
        return Err(Error::Fusion(format!("{schedule:?} was asked for, and no layer has stages to fuse")));
    }
    drafts.check_order()?;
    let (tensors, arena) = drafts.tensors(lowering)?;
    let mut program = Program { tensors, arena: arena.bytes, arena_least: arena.least, ..Program::default() };
    let (mut too_large, mut error) = (Vec::new(), None);
    for draft in drafts.steps {
        let (node, layer) = (draft.node, draft.layer);
        let mut scratch = Carver::default();
        let (from, to) = (program.tensors[draft.input], program.tensors[draft.output]);
        let mut report = StageReport::new(&draft, &from, &to, draft.residual.map(|r| &program.tensors[r]))?;
        let step = step(draft, &mut report, &mut program.tensors, lowering, &mut scratch)?;
        report.scratch_bytes = scratch.len();
        let limit = lowering.thresholds.scratch_limit(report.bytes);
        if report.scratch_bytes > limit {
            error.get_or_insert((layer, Error::Scratch { stage: report.name, bytes: report.scratch_bytes, limit }));
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
        DraftKind::Rows(ref op) => op.values(report.input, report.output)?.saturating_mul(thresholds.pool_macs) as u64,
        _ => report.macs,
    };
    let workers = if work < thresholds.worth_sharing as u64 { 1 } else { lowering.workers };
    Ok(match draft.kind {
        DraftKind::Pool => Step::Pool(PoolStep::new(tensors, ends, workers, thresholds, scratch)?),
        DraftKind::Rows(op) => {
            let step = RowsStep::new(op, tensors, ends, workers, thresholds, scratch)?;
            Step::Rows(Arc::try_new("plan", step)?)
        }
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

/// The steps of a program before tensors have places, and these tensors. The first tensors are the values of the graph.
struct Drafts {
    steps: Vec<Draft>,
    tensors: Vec<DraftTensor>,
}

/// The node that a step is of, by its place in the graph, and its layer.
#[derive(Clone, Copy)]
struct DraftOf {
    node: usize,
    layer: Option<usize>,
}

/// The decision about the stages of a layer.
struct Choice {
    fused: bool,
    schedule: Schedule,
    why: String,
}

impl Drafts {
    fn new(graph: &Graph, shapes: &[Shape], fusion: Fusion, unfused: &[usize], lowering: &Lowering) -> Result<Drafts> {
        let mut shapes = collect("plan", shapes.iter().copied())?;
        let regrouped = match fusion {
            Fusion::Auto => Some(regroup(graph, &mut shapes, Some(&lowering.thresholds))?),
            Fusion::Require(_) => Some(regroup(graph, &mut shapes, None)?),
            Fusion::Never => None,
        };
        let graph = regrouped.as_ref().unwrap_or(graph);
        let tensor = |shape| DraftTensor { shape, caller: None, slice: None };
        let mut drafts = Drafts { steps: Vec::new(), tensors: collect("plan", shapes.into_iter().map(tensor))? };
        for (at, &value) in graph.inputs.iter().enumerate() {
            drafts.tensors[value].caller = Some(Place::Input(at));
        }
        for (at, &value) in graph.outputs.iter().enumerate() {
            drafts.tensors[value].caller = Some(Place::Output(at));
        }
        let copied = drafts.slices(graph)?;
        for (index, node) in graph.nodes.iter().enumerate() {
            let fusion = if unfused.binary_search(&index).is_ok() { Fusion::Never } else { fusion };
            drafts.node(index, node, fusion, &copied, lowering)?;
        }
        Ok(drafts)
    }

    /// Makes slices of the tensors that are concatenated: the step that computes such a tensor writes it where it belongs. Returns the
    /// tensors that have to be copied, each with the concatenation and its first channel there.
    ///
    /// A tensor of the caller's is no part of another one, and a tensor is a part of one other at one place.
    fn slices(&mut self, graph: &Graph) -> Result<Vec<(usize, usize, usize)>> {
        let mut copied = Vec::new();
        // of a concatenation of concatenations, the outer one comes last, and slices of slices are found by their wholes
        for node in &graph.nodes {
            if !matches!(node.node, Node::Concat) {
                continue;
            }
            let mut first = 0;
            for &value in &node.inputs {
                let DraftTensor { shape, caller, slice } = self.tensors[value];
                if caller.is_none() && slice.is_none() {
                    self.tensors[value].slice = Some(DraftSlice::of_channels(node.output, first));
                } else {
                    push("plan", &mut copied, (value, node.output, first))?;
                }
                first += shape.c;
            }
        }
        Ok(copied)
    }

    /// All tensors with layouts and places, and the arena.
    fn tensors(&self, lowering: &Lowering) -> Result<(Vec<PlannedTensor>, Arena)> {
        let (tensors, element) = (&*self.tensors, ElementType::F32);
        let layouts = layouts(tensors, lowering.layouts, &self.steps, &lowering.thresholds)?;
        let arena = places(&layouts, tensors, element, &self.steps)?;
        let tensor = |t: usize| {
            let DraftSlice { whole, first, at, step } = whole_of(tensors, t);
            let slice = (whole != t).then(|| SliceOf { first, at, step, whole: tensors[whole].shape });
            let layout = slice.map_or(layouts[t], |slice| slice.layout(layouts[t]));
            let (shape, place) = (tensors[t].shape, arena.places[t]);
            PlannedTensor { shape, element, place, layout, section: None, slice }
        };
        Ok((collect("plan", (0..tensors.len()).map(tensor))?, arena))
    }

    /// Checks that every step reads what is there: a tensor of the caller's, or one of which steps before it wrote all; and that no step
    /// writes a tensor that is there. A run relies on it: memory of the arena and of outputs has no values before a step writes them.
    fn check_order(&self) -> Result<()> {
        let refused = |why| Err(Error::Network(text(format_args!("a step {why}"))?));
        // values of each tensor that are not written yet
        let mut missing = Vec::new();
        for tensor in &self.tensors {
            let is_there = matches!(tensor.caller, Some(Place::Input(_)));
            push("plan", &mut missing, if is_there { 0 } else { tensor.shape.len()? })?;
        }
        for draft in &self.steps {
            for read in [Some(draft.input), draft.residual].into_iter().flatten() {
                let mut tensor = read;
                // a slice is there where its whole is
                while missing[tensor] > 0 {
                    let Some(DraftSlice { whole, .. }) = self.tensors[tensor].slice else {
                        return refused("that reads what no step before it wrote");
                    };
                    tensor = whole;
                }
            }
            let mut written = draft.output;
            let mut values = missing[written];
            if values == 0 {
                return refused("that writes what is there");
            }
            loop {
                missing[written] = missing[written].saturating_sub(values);
                // what completes a tensor is a part of its whole
                match self.tensors[written].slice {
                    Some(DraftSlice { whole, .. }) if missing[written] == 0 => {
                        values = self.tensors[written].shape.len()?;
                        written = whole;
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Adds a tensor of this shape.
    fn tensor(&mut self, shape: Shape) -> Result<usize> {
        push("plan", &mut self.tensors, DraftTensor { shape, caller: None, slice: None })?;
        Ok(self.tensors.len() - 1)
    }

    /// Adds a step between tensors.
    fn step(&mut self, of: DraftOf, kind: DraftKind, ends: Ends, choice: Choice) -> Result<()> {
        let name = match &kind {
            DraftKind::Pool => "average pool",
            DraftKind::Conv(chain) | DraftKind::Chain { chain, .. } => name_of(chain),
            DraftKind::Rows(op) => op.name(),
        };
        let Choice { fused, why, .. } = choice;
        let Ends { input, output, residual } = ends;
        let DraftOf { node, layer } = of;
        push("plan", &mut self.steps, Draft { node, layer, kind, input, output, residual, fused, why, name })
    }

    /// Adds the steps of a node.
    fn node(
        &mut self,
        index: usize,
        node: &GraphNode,
        fusion: Fusion,
        copied: &[(usize, usize, usize)],
        lowering: &Lowering,
    ) -> Result<()> {
        let of = DraftOf { node: index, layer: node.layer };
        let Some((&input, others)) = node.inputs.split_first() else { return Ok(()) };
        let ends = Ends { input, output: node.output, residual: others.first().copied() };
        let one_stage = || Choice::single(text(format_args!("one stage"))?);
        let chain = match &node.node {
            Node::Pool { .. } => return self.step(of, DraftKind::Pool, ends, one_stage()?),
            Node::Rows(op) => return self.step(of, DraftKind::Rows(op.clone()), ends, one_stage()?),
            Node::Concat => return self.concat(of, node, copied),
            Node::Split(split) => return self.split(of, split, ends),
            Node::Chain { chain, .. } => chain,
        };
        if chain.depthwise().is_none() {
            return self.step(of, DraftKind::Conv(chain.clone()), ends, one_stage()?);
        }
        let from = self.tensors[whole_of(&self.tensors, input).whole].caller.map(|place| match place {
            Place::Input(_) => lowering.layouts[0],
            _ => lowering.layouts[1],
        });
        let shapes = chain.shapes(self.tensors[input].shape)?;
        let choice = Choice::new(chain, shapes, from, fusion, lowering)?;
        let by_channels = fusion == Fusion::Auto && goes_by_channels(chain, shapes, lowering);
        match (choice.fused, chain.head().is_none() && chain.tail().is_none()) {
            (true, _) if by_channels && chain.tail().is_some() => self.without_tail(of, chain, shapes, ends, choice),
            (true, _) | (_, true) => {
                let kind = DraftKind::Chain { chain: chain.clone(), schedule: choice.schedule, by_channels };
                self.step(of, kind, ends, choice)
            }
            (false, false) => self.single_stages(of, chain, shapes, ends, &choice.why),
        }
    }

    /// Adds a step for each convolution of a group, or of a place of a window.
    fn split(&mut self, of: DraftOf, split: &SplitConv, Ends { input, output, .. }: Ends) -> Result<()> {
        let count = split.convs.len();
        for (place, conv) in split.convs.iter().enumerate() {
            let [inputs, outputs] = conv.channels();
            let (from, to, why) = match split.window {
                Some([rows, columns]) => {
                    let shape = Shape { c: outputs, ..self.tensors[input].shape };
                    let to = self.tensor(shape)?;
                    let (at, step) = ([place / columns, place % columns], [rows, columns]);
                    self.tensors[to].slice = Some(DraftSlice { whole: output, first: 0, at, step });
                    (input, to, text(format_args!("pixel {place} of {count} of a window"))?)
                }
                None => {
                    let from = self.tensor(Shape { c: inputs, ..self.tensors[input].shape })?;
                    self.tensors[from].slice = Some(DraftSlice::of_channels(input, place * inputs));
                    let to = self.tensor(Shape { c: outputs, ..self.tensors[output].shape })?;
                    self.tensors[to].slice = Some(DraftSlice::of_channels(output, place * outputs));
                    (from, to, text(format_args!("group {place} of {count}"))?)
                }
            };
            let ends = Ends { input: from, output: to, residual: None };
            self.step(of, DraftKind::Conv(conv.clone()), ends, Choice::single(why)?)?;
        }
        Ok(())
    }

    /// Adds the copies of a concatenation: of the tensors that are no slices of it.
    fn concat(&mut self, of: DraftOf, node: &GraphNode, copied: &[(usize, usize, usize)]) -> Result<()> {
        for &(input, whole, first) in copied.iter().filter(|&&(_, whole, _)| whole == node.output) {
            let output = self.tensor(self.tensors[input].shape)?;
            self.tensors[output].slice = Some(DraftSlice::of_channels(whole, first));
            let why = text(format_args!(
                "a tensor of the caller's, or one that is concatenated elsewhere, is copied to its channels"
            ))?;
            let ends = Ends { input, output, residual: None };
            self.step(of, DraftKind::Rows(RowsOp::Copy { factors: [1, 1] }), ends, Choice::single(why)?)?;
        }
        Ok(())
    }

    /// Adds the head and the depthwise stage as one step that threads share by channels, and the tail as a step of its own.
    fn without_tail(
        &mut self,
        of: DraftOf,
        chain: &Chain,
        [_, after_depthwise, _]: [Shape; 3],
        Ends { input, output, residual }: Ends,
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
        let middle = self.tensor(after_depthwise)?;
        self.step(of, kind, Ends { input, output: middle, residual: None }, choice)?;
        let why = text(format_args!("threads share the channels of the stages before it"))?;
        let ends = Ends { input: middle, output, residual };
        self.step(of, DraftKind::Conv(some_of(&[tail])?), ends, Choice::single(why)?)
    }

    /// Adds a step for each stage. The last one adds the residual.
    fn single_stages(&mut self, of: DraftOf, chain: &Chain, shapes: [Shape; 3], ends: Ends, why: &str) -> Result<()> {
        let last = if chain.tail().is_some() { 2 } else { 1 };
        let mut input = ends.input;
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
            let output = if place == last { ends.output } else { self.tensor(shape)? };
            self.step(of, kind, Ends { input, output, residual: ends.residual.filter(|_| place == last) }, choice)?;
            input = output;
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
fn takes_images_at_once(out: Shape, from: Option<Layout>, lowering: &Lowering) -> bool {
    out.n >= lowering.workers.saturating_mul(2)
        && out.h * out.w < lowering.thresholds.batch_pixels
        && from != Some(Layout::Nchw)
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

    /// Whether stages with a depthwise convolution run as one step, by which schedule, and why. `from` is the layout of
    /// the caller's tensor that they read, if they read one.
    fn new(
        chain: &Chain,
        [after_head, after_depthwise, _]: [Shape; 3],
        from: Option<Layout>,
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
            Fusion::Auto if takes_images_at_once(after_depthwise, from, lowering) => {
                let why = "small planes: by itself, a stage takes those of several images at once";
                choice(false, schedule, format_args!("{why}"))
            }
            // with the caller's rows the depthwise rows fill L2 after a few: fused is no faster, and up to a twentieth slower
            Fusion::Auto
                if head.is_none()
                    && from.is_some()
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
