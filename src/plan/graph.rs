//! A graph of nodes over values, and the rewriting that comes before steps: sums become residuals, and every output has a tensor of its own.
//!
//! ```text
//!   conv ──▶ v ──▶ add ──▶ y      v has no other reader:    conv + residual ──▶ y
//!                   ▲                                                ▲
//!                   w                                                w
//! ```
//!
//! Values are numbers. Nodes stand in an order in which each reads what is there: inputs, and values of nodes before it.

use sepconv_kernels::{Epilogue, Join, Nonlinearity};

use super::Node;
use super::lower::Refused;
use super::rows::RowsOp;
use super::stage::{PackedOp, StageEnd};
use crate::memory::{collect, push};
use crate::{Error, Result, Shape};

/// A node and the values at its ends.
#[derive(Debug)]
pub(crate) struct GraphNode {
    pub(crate) node: Node,
    /// The values that it reads. The second value of a chain is added to its output.
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
    /// The layer that errors name. None of a copy that no layer asked for.
    pub(crate) layer: Option<usize>,
}

/// Nodes that a node may pass when it moves to a later place, whatever it reads. What it reads lives longer by that.
pub(super) const NEAR: usize = 8;

/// Nodes over values.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<GraphNode>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// The number of values.
    pub(crate) values: usize,
}

impl Graph {
    /// Layers one after the other.
    pub(crate) fn chain<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Result<Graph> {
        let mut graph = Graph { values: 1, ..Graph::default() };
        push("plan", &mut graph.inputs, 0)?;
        for (layer, node) in nodes.into_iter().enumerate() {
            let (inputs, output) = (collect("plan", [layer])?, graph.value());
            push("plan", &mut graph.nodes, GraphNode { node: node.clone(), inputs, output, layer: Some(layer) })?;
        }
        let last = graph.values - 1;
        push("plan", &mut graph.outputs, last)?;
        Ok(graph)
    }

    /// The same graph without its nodes.
    pub(super) fn without_nodes(&self) -> Result<Graph> {
        let inputs = collect("plan", self.inputs.iter().copied())?;
        let outputs = collect("plan", self.outputs.iter().copied())?;
        Ok(Graph { nodes: Vec::new(), inputs, outputs, values: self.values })
    }

    /// A new value.
    pub(crate) fn value(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    /// The shape of each value, of inputs of these shapes.
    pub(crate) fn shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>, Refused> {
        self.shapes_by(inputs, |node, read| {
            node.node.output(read).map_err(|error| Refused { layer: node.layer, error })
        })
    }

    /// As [`Graph::shapes`], where `output` says what a node makes of the shapes that it reads.
    pub(crate) fn shapes_by<E: From<Error>>(
        &self,
        inputs: &[Shape],
        output: impl Fn(&GraphNode, &[Shape]) -> Result<Shape, E>,
    ) -> Result<Vec<Shape>, E> {
        let none = Shape::new(0, 0, 0, 0);
        let mut shapes = collect("plan", (0..self.values).map(|_| none))?;
        for (&value, &shape) in self.inputs.iter().zip(inputs) {
            shapes[value] = shape;
        }
        for node in &self.nodes {
            let read = collect("plan", node.inputs.iter().map(|&value| shapes[value]))?;
            shapes[node.output] = output(node, &read)?;
        }
        Ok(shapes)
    }

    /// How many nodes and outputs read each value.
    pub(super) fn readers(&self) -> Result<Vec<usize>> {
        let mut readers = collect("plan", (0..self.values).map(|_| 0))?;
        for &value in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            readers[value] += 1;
        }
        Ok(readers)
    }

    /// The graph that steps are made of: shortcuts are inputs of their nodes, sums are residuals where they can be, and each output is written
    /// by a node and is no other output.
    pub(super) fn resolved(&self, shapes: &mut Vec<Shape>) -> Result<Graph> {
        let mut graph = self.without_nodes()?;
        for node in &self.nodes {
            push("plan", &mut graph.nodes, node.copied()?)?;
        }
        for node in &mut graph.nodes {
            if let (Node::Chain { shortcut: true, .. }, &[input]) = (&node.node, &*node.inputs)
                && shapes[input] == shapes[node.output]
            {
                push("plan", &mut node.inputs, input)?;
            }
        }
        graph.add_residuals(shapes)?;
        graph.part_outputs(shapes)?;
        Ok(graph)
    }

    /// Makes residuals of sums. The convolution moves to the place of the sum: nothing else reads what it computes. It keeps its layer.
    fn add_residuals(&mut self, shapes: &[Shape]) -> Result<()> {
        let readers = self.readers()?;
        let mut writer = collect("plan", (0..self.values).map(|_| usize::MAX))?;
        for (at, node) in self.nodes.iter().enumerate() {
            writer[node.output] = at;
        }
        let mut moved = collect("plan", (0..self.nodes.len()).map(|_| false))?;
        for at in 0..self.nodes.len() {
            let GraphNode { node, inputs, output, .. } = &self.nodes[at];
            let Node::Rows(RowsOp::Join { join: Join::Sum, end, .. }) = node else {
                continue;
            };
            let (end_of_sum, output) = (end.clone(), *output);
            let &[a, b] = &**inputs else { continue };
            if a == b || shapes[a] != shapes[b] {
                continue;
            }
            let takes = |value: usize| {
                let from = writer[value];
                let free = readers[value] == 1 && from != usize::MAX && !moved[from];
                let end = if free { self.nodes[from].end_with_residual(&end_of_sum) } else { None };
                // what a convolution reads lives until it runs: a large tensor does not wait for a sum that comes much later
                let read = |node: &GraphNode| shapes[node.inputs[0]].len().unwrap_or(usize::MAX);
                let made = shapes[value].len().unwrap_or(0);
                let may_move = |from: usize| at - from <= NEAR || read(&self.nodes[from]) <= made;
                end.filter(|_| may_move(from)).map(|end| (value, end))
            };
            // of two convolutions the later one: the other's result is there then; an input comes before all nodes
            let place = |value: usize| (writer[value] != usize::MAX).then_some(writer[value]);
            let [first, second] = if place(a) > place(b) { [a, b] } else { [b, a] };
            let Some((value, end)) = takes(first).or_else(|| takes(second)) else { continue };
            let other = if value == a { b } else { a };
            let from = writer[value];
            let mut node = self.nodes[from].copied()?;
            node.end_by(end);
            push("plan", &mut node.inputs, other)?;
            node.output = output;
            self.nodes[at] = node;
            writer[output] = at;
            moved[from] = true;
        }
        let mut moved = moved.into_iter();
        self.nodes.retain(|_| !moved.next().unwrap_or_default());
        Ok(())
    }

    /// Gives every output a value of its own: of an input, and of an output that is asked for again, it is a copy.
    fn part_outputs(&mut self, shapes: &mut Vec<Shape>) -> Result<()> {
        for at in 0..self.outputs.len() {
            let value = self.outputs[at];
            if self.inputs.contains(&value) || self.outputs[..at].contains(&value) {
                let copy = self.value();
                let shape = shapes[value];
                push("plan", shapes, shape)?;
                let inputs = collect("plan", [value])?;
                push("plan", &mut self.nodes, GraphNode { node: Node::COPY, inputs, output: copy, layer: None })?;
                self.outputs[at] = copy;
            }
        }
        Ok(())
    }
}

impl GraphNode {
    /// The same node.
    pub(super) fn copied(&self) -> Result<GraphNode> {
        let inputs = collect("plan", self.inputs.iter().copied())?;
        Ok(GraphNode { node: self.node.clone(), inputs, ..*self })
    }

    /// How its last stage ends with a residual in the place of a sum that ends by `end`; `None` where it can add none: where it adds
    /// one already, where it is no convolution, or has an activation that no residual comes behind.
    fn end_with_residual(&self, end: &StageEnd) -> Option<StageEnd> {
        let Node::Chain { chain, .. } = &self.node else { return None };
        let last = chain.stages().iter().flatten().last()?;
        let own = last.end.epilogue;
        let PackedOp::Conv(conv) = &last.op else { return None };
        if self.inputs.len() > 1 || !end.suits(conv.outputs) {
            return None;
        }
        match own.activation() {
            _ if own == Epilogue::NONE => Some(end.clone()),
            // ReLU, and then the sum
            Nonlinearity::Clamp(_) if end.epilogue == Epilogue::NONE => Some(StageEnd::of(own.residual_last(true))),
            _ => None,
        }
    }

    /// Sets the end of its last stage.
    fn end_by(&mut self, end: StageEnd) {
        if let Node::Chain { chain, .. } = &mut self.node {
            chain.end_by(end);
        }
    }
}
