//! Which stages of a network run as one, across the borders of its layers.
//!
//! A layer is a group as it was described: depthwise → pointwise in V1, expand → depthwise → project in V2. Where what
//! passes from one layer to the next does not fit the cache, other borders move fewer bytes. V1 at 224×224 begins with
//!
//! ```text
//!   described    conv │ dw   pw │ dw   pw │ dw   pw │ dw …        values at the borders: 400 k, 800 k, 400 k, 400 k
//!   regrouped    conv   dw │ pw   dw │ pw   dw   pw │ dw …                               400 k, 200 k, 400 k
//! ```
//!
//! A group is any stages that [`may_be_one_step`] allows. Among all ways to set borders the one is taken whose borders
//! cost least, as described where nothing is won. Layers of one stage describe no groups: between two of them, the borders are those of
//! MobileNet's blocks.
//!
//! A group is a part of a run of stages. In a run, each stage is the only reader of the tensor before it.

use super::Node;
use super::cost::Thresholds;
use super::graph::{Graph, GraphNode, NEAR};
use super::stage::{Chain, PackedOp, PackedStage, STAGES, may_be_one_step};
use crate::memory::{collect, push};
use crate::{Result, Shape};

/// A border before each stage of a run and one after the last, and the best way to reach it.
#[derive(Clone, Copy)]
struct Border {
    /// The value that passes here, unless it lies within a layer.
    value: Option<usize>,
    shape: Shape,
    /// Values that a tensor here costs.
    values: usize,
    /// Whether layers meet here as described.
    described: bool,
    /// Of the best way: values at its borders, and how many borders are not as described. No sum of sizes comes near the
    /// largest, which stands for a border that no way has reached.
    cost: (u128, usize),
    /// Stages of the group that ends here.
    group: usize,
}

/// Stages of which each is the only reader of what the one before it writes.
struct StageRun {
    stages: Vec<PackedStage>,
    /// One before each stage.
    borders: Vec<Border>,
    /// How many stages the layer that came last has.
    stages_of_last: usize,
    /// The value behind the last stage, and its shape.
    output: usize,
    shape: Shape,
    /// The layer of each stage.
    layers: Vec<Option<usize>>,
    /// What is added to the last stage.
    residual: Option<usize>,
    /// The node at whose place the run stands: the last of it.
    at: usize,
}

/// Nodes with borders where they cost least; or, where costs do not count, as they are described.
pub(super) fn regroup(graph: &Graph, shapes: &mut Vec<Shape>, thresholds: Option<&Thresholds>) -> Result<Graph> {
    let readers = graph.readers()?;
    let mut runs: Vec<StageRun> = Vec::new();
    // the run that ends with each value, and may go on
    let mut open = collect("plan", (0..graph.values).map(|_| None))?;
    let mut run_of = collect("plan", graph.nodes.iter().map(|_| None))?;
    for (at, node) in graph.nodes.iter().enumerate() {
        let Node::Chain { chain, .. } = &node.node else { continue };
        let &[input, ref residual @ ..] = &*node.inputs else { continue };
        // stages of a run run at the place of the last one
        let may_go_on = |run: &usize| readers[input] == 1 && at - runs[*run].at <= NEAR;
        let run = match open[input].filter(may_go_on) {
            Some(run) => run,
            None => {
                push("plan", &mut runs, StageRun::new(input, shapes[input]))?;
                runs.len() - 1
            }
        };
        runs[run].layer(chain, node, at, shapes, thresholds)?;
        run_of[at] = Some(run);
        // what is added to the last stage makes a border
        runs[run].residual = residual.first().copied();
        if residual.is_empty() {
            open[node.output] = Some(run);
        }
    }
    let mut out = graph.without_nodes()?;
    for (at, node) in graph.nodes.iter().enumerate() {
        match run_of[at] {
            None => push("plan", &mut out.nodes, node.copied()?)?,
            Some(run) if runs[run].at == at => runs[run].group(&mut out, shapes)?,
            Some(_) => {}
        }
    }
    Ok(out)
}

impl StageRun {
    fn new(input: usize, shape: Shape) -> StageRun {
        let (stages, borders, layers) = (Vec::new(), Vec::new(), Vec::new());
        StageRun { stages, borders, stages_of_last: 0, output: input, shape, layers, residual: None, at: 0 }
    }

    /// Adds the stages of a layer.
    fn layer(
        &mut self,
        chain: &Chain,
        node: &GraphNode,
        at: usize,
        shapes: &[Shape],
        thresholds: Option<&Thresholds>,
    ) -> Result<()> {
        let count = chain.stages().iter().flatten().count();
        let behind = chain.shapes(self.shape)?;
        let single = count == 1 && self.stages_of_last == 1;
        let mut value = Some(self.output);
        for (stage, to) in chain.stages().iter().zip(behind) {
            let Some(stage) = stage else { continue };
            let described = match value {
                None => false,
                Some(_) if single => self.is_natural(stage),
                Some(_) => true,
            };
            let values = match thresholds {
                Some(thresholds) => {
                    self.shape.len().map(|values| if values > thresholds.near_border { values } else { 0 })?
                }
                None => 0,
            };
            let (cost, group) = ((u128::MAX, 0), 0);
            push("plan", &mut self.borders, Border { value, shape: self.shape, values, described, cost, group })?;
            push("plan", &mut self.stages, stage.clone())?;
            push("plan", &mut self.layers, node.layer)?;
            (value, self.shape) = (None, to);
        }
        debug_assert_eq!(self.shape, shapes[node.output]);
        (self.output, self.stages_of_last, self.at) = (node.output, count, at);
        Ok(())
    }

    /// Whether a border stands before `stage` in blocks as MobileNet has them: a depthwise convolution goes with the pointwise one behind
    /// it, and with one before it that is not already behind another.
    fn is_natural(&self, stage: &PackedStage) -> bool {
        let is_depthwise = |stage: &PackedStage| matches!(stage.op, PackedOp::Depthwise(_));
        let is_pointwise = |stage: &PackedStage| matches!(&stage.op, PackedOp::Conv(conv) if conv.is_pointwise());
        let mut before = self.stages.iter().rev();
        let (Some(last), second) = (before.next(), before.next()) else { return true };
        let expands = is_pointwise(last) && !second.is_some_and(is_depthwise) && is_depthwise(stage);
        let projects = is_depthwise(last) && is_pointwise(stage);
        let pair = [last.clone(), stage.clone()];
        !((expands || projects) && may_be_one_step(&pair))
    }

    /// Appends the stages in their best groups.
    fn group(&mut self, out: &mut Graph, shapes: &mut Vec<Shape>) -> Result<()> {
        let StageRun { stages, borders, output, shape, .. } = self;
        let end =
            Border { value: Some(*output), shape: *shape, values: 0, described: true, cost: (u128::MAX, 0), group: 0 };
        push("plan", borders, end)?;
        borders[0].cost = (0, 0);
        for end in 1..borders.len() {
            for len in 1..=end.min(Chain::MOST) {
                let start = end - len;
                let (values, moved) = borders[start].cost;
                let Border { values: here, described, cost, .. } = borders[end];
                let new = (values + here as u128, moved + usize::from(!described));
                // a stage alone is always a step, so that every border is reached
                if new < cost && (len == 1 || may_be_one_step(&stages[start..end])) {
                    (borders[end].cost, borders[end].group) = (new, len);
                }
            }
        }
        // the groups, from the last to the first
        let first = out.nodes.len();
        let mut end = stages.len();
        while end > 0 {
            let start = end - borders[end].group;
            // unreached: a group was only chosen where it may be one step
            let chain = Chain::of(&stages[start..end]).map_err(|misfit| misfit.named(STAGES))?;
            let (input, output) = (borders[start].value(out, shapes)?, borders[end].value(out, shapes)?);
            let residual = self.residual.filter(|_| end == stages.len());
            let inputs = collect("plan", [Some(input), residual].into_iter().flatten())?;
            let layer = self.layers[start];
            let node = Node::Chain { chain, shortcut: false };
            push("plan", &mut out.nodes, GraphNode { node, inputs, output, layer })?;
            end = start;
        }
        out.nodes[first..].reverse();
        Ok(())
    }
}

impl Border {
    /// The value that passes here: a new one within a layer.
    fn value(&mut self, graph: &mut Graph, shapes: &mut Vec<Shape>) -> Result<usize> {
        if let Some(value) = self.value {
            return Ok(value);
        }
        push("plan", shapes, self.shape)?;
        let value = graph.value();
        self.value = Some(value);
        Ok(value)
    }
}
