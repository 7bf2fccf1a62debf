//! Every decision about a run, and no pointer.
//!
//! ```text
//!   ops, network ──▶ Graph of Nodes ──lower──▶ Step + PlannedTensor ──▶ run
//! ```
//!
//! An operator and a network come down to the same thing: a [`Graph`] of [`Node`]s. [`lower`] turns each into one step (fused) or
//! several, gives every tensor between them a layout and a place in the arena, and sizes the scratch of a worker. A step is cut
//! into pieces. No two pieces write the same value. A plan is data: shapes, layouts, places and tables of offsets. `run/` turns
//! it and the caller's slices into calls of kernels.

mod chain;
mod conv;
pub(crate) mod cost;
mod flat;
mod graph;
mod group;
mod layout;
mod lower;
mod offsets;
mod planes;
mod pool;
mod report;
mod rows;
mod schedule;
mod sections;
mod share;
mod stage;
mod staging;
mod swap;

use sepconv_kernels::Kernels;

pub(crate) use chain::{ChainStep, TailPixels, rows_in};
pub(crate) use conv::{ConvRows, ConvStep, Taps};
use cost::Thresholds;
pub(crate) use flat::{Down, FlatStep};
pub(crate) use graph::{Graph, GraphNode};
pub(crate) use layout::{Order, Place, PlannedTensor, TensorLayout};
pub(crate) use lower::{Program, Refused, lower};
pub(crate) use offsets::{Offsets, Phases, PixelTable};
pub(crate) use planes::PlanesStep;
pub(crate) use pool::PoolStep;
pub use report::{Bound, Explain, StageReport};
pub(crate) use rows::{RowsOp, RowsStep};
pub(crate) use schedule::RowSource;
pub(crate) use sections::SectionsStep;
pub(crate) use share::{lanes, share};
pub(crate) use stage::{
    Chain, ConvStage, DepthwiseStage, FlatWeights, Misfit, PackedConv, PackedDepthwise, PackedParams, PackedStage,
    StageEnd, channels,
};
pub(crate) use staging::Staging;

use crate::memory::{Arc, push};
use crate::{Error, Fusion, Layout, Result, Shape};

/// What lowering takes: one layer, whose stages may run as one.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Stages that may run as one step, and whether the input is added to the output where the shapes are the same.
    Chain { chain: Chain, shortcut: bool },
    /// The mean over the plane.
    Pool { channels: usize },
    /// An operation without weights.
    Rows(RowsOp),
    /// The channels of several tensors, one after the other.
    Concat,
    /// Convolutions that each compute a part of the output.
    Split(Arc<SplitConv>),
}

/// Convolutions of which each computes a part of the output: channels of a group, or pixels of a grid.
#[derive(Debug)]
pub(crate) struct SplitConv {
    /// In the order of groups, or of the places of a window, row by row.
    pub(crate) convs: Vec<Chain>,
    /// Rows and columns of the window of a transposed convolution; none of groups.
    pub(crate) window: Option<[usize; 2]>,
}

impl Node {
    /// A copy of a tensor.
    const COPY: Node = Node::Rows(RowsOp::Copy { factors: [1, 1] });

    /// Input channels and output channels of a node that knows them.
    pub(crate) fn channels(&self) -> Option<[usize; 2]> {
        match self {
            Node::Pool { channels } => Some([*channels; 2]),
            Node::Chain { chain, .. } => Some(chain.channels()),
            Node::Split(split) => {
                let [inputs, outputs] = split.convs.first().map(Chain::channels)?;
                let groups = if split.window.is_none() { split.convs.len() } else { 1 };
                Some([inputs * groups, outputs * groups])
            }
            Node::Rows(op) => op.channels().map(|channels| [channels; 2]),
            Node::Concat => None,
        }
    }

    /// A layer of convolutions that each compute a part of the output: by groups, or by the places of a window.
    pub(crate) fn split(stages: Vec<ConvStage>, window: Option<[usize; 2]>) -> Result<Node> {
        let mut convs = Vec::new();
        for stage in stages {
            let name = stage.name;
            let chain = Chain::new(Some(stage), None, None).map_err(|misfit| misfit.named([name; 3]))?;
            push("operator", &mut convs, chain)?;
        }
        Ok(Node::Split(Arc::try_new("operator", SplitConv { convs, window })?))
    }

    /// The shape that it makes of inputs of these shapes, or why it cannot take them.
    pub(crate) fn output(&self, inputs: &[Shape]) -> Result<Shape> {
        let Some((&input, others)) = inputs.split_first() else {
            return Err(Error::Network("a layer without inputs".into()));
        };
        match self {
            Node::Pool { channels: c } => {
                input.len()?;
                channels("average pool", *c, input.c)?;
                Ok(Shape::new(input.n, 1, 1, input.c))
            }
            Node::Chain { chain, .. } => chain.shapes(input).map(|[.., last]| last),
            Node::Rows(op) => op.output(input, others.first().copied()),
            Node::Split(split) => {
                let Some(first) = split.convs.first() else { return Err(Misfit::Order.named(stage::STAGES)) };
                let [expected, outputs] = self.channels().unwrap_or_default();
                channels("convolution", expected, input.c)?;
                let [[inputs, _], [rows, columns]] = [first.channels(), split.window.unwrap_or([1, 1])];
                let [.., out] = first.shapes(Shape { c: inputs, ..input })?;
                let [h, w] = [out.h.saturating_mul(rows), out.w.saturating_mul(columns)];
                let output = Shape { h, w, c: outputs, ..out };
                output.len()?;
                Ok(output)
            }
            Node::Concat => {
                let mut output = input;
                for &other in others {
                    let expected = Shape { c: other.c, ..input };
                    if other != expected {
                        return Err(Error::ShapeMismatch { what: "concatenated tensor", expected, got: other });
                    }
                    output.c = output.c.saturating_add(other.c);
                }
                output.len()?;
                Ok(output)
            }
        }
    }

    /// Whether both are one layer, or clones of one.
    pub(crate) fn is(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Pool { channels }, Node::Pool { channels: others }) => channels == others,
            (Node::Chain { chain, shortcut }, Node::Chain { chain: other, shortcut: others }) => {
                chain.is(other) && shortcut == others
            }
            (Node::Split(split), Node::Split(others)) => split.is(others),
            (Node::Rows(op), Node::Rows(other)) => op == other,
            _ => false,
        }
    }

    /// A layer of one convolution, which errors call `name`.
    pub(crate) fn conv(name: &'static str, conv: ConvStage) -> Result<Node> {
        Node::chain([name; 3], Some(conv), None, None)
    }

    /// A layer of these stages without a shortcut, or why they are none. Errors call the stages by `names`.
    pub(crate) fn chain(
        names: [&'static str; 3],
        head: Option<ConvStage>,
        depthwise: Option<DepthwiseStage>,
        tail: Option<ConvStage>,
    ) -> Result<Node> {
        let chain = Chain::new(head, depthwise, tail).map_err(|misfit| misfit.named(names))?;
        Ok(Node::Chain { chain, shortcut: false })
    }
}

/// What a program is lowered for.
#[derive(Debug)]
pub(crate) struct Lowering {
    pub(crate) fusion: Fusion,
    /// Of the caller's inputs and outputs.
    pub(crate) layouts: [Layout; 2],
    /// Threads that share out each step: at least 1.
    pub(crate) workers: usize,
    pub(crate) kernels: &'static Kernels,
    pub(crate) thresholds: Thresholds,
}

/// A step: it runs when the one before is done.
#[derive(Debug)]
pub(crate) enum Step {
    Conv(Arc<ConvStep>),
    Chain(Arc<ChainStep>),
    Sections(Arc<SectionsStep>),
    Planes(PlanesStep),
    Flat(Arc<FlatStep>),
    Pool(PoolStep),
    Rows(Arc<RowsStep>),
}

impl Step {
    /// Into how many pieces it is cut.
    pub(crate) fn pieces(&self) -> usize {
        match self {
            Step::Conv(step) => step.parts.rows * step.parts.panels,
            Step::Chain(step) => step.parts.lines * step.parts.channels,
            Step::Sections(step) => step.parts.unwrap_or_else(|| step.first.parts.lines * step.first.parts.channels),
            Step::Planes(step) => step.parts,
            Step::Flat(step) => step.parts[0] * step.parts[1],
            Step::Pool(step) => step.parts,
            Step::Rows(step) => step.parts,
        }
    }
}
