//! Every decision about a run, and no pointer.
//!
//! ```text
//!   ops, network ──▶ Node ──lower──▶ Step + PlannedTensor ──▶ run
//! ```
//!
//! An operator and a network come down to the same thing: a list of [`Node`]s. [`lower`] turns each into one step (fused) or
//! several, gives every tensor between them a layout and a place in the arena, and sizes the scratch of a worker. A step is cut
//! into pieces. No two pieces write the same value. A plan is data: shapes, layouts, places and tables of offsets. `run/` turns
//! it and the caller's slices into calls of kernels.

mod chain;
mod conv;
pub(crate) mod cost;
mod flat;
mod group;
mod layout;
mod lower;
mod offsets;
mod planes;
mod pool;
mod report;
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
pub(crate) use layout::{Order, Place, PlannedTensor, TensorLayout};
pub(crate) use lower::{Program, Refused, lower, shapes_of};
pub(crate) use offsets::{Offsets, Phases, PixelTable};
pub(crate) use planes::PlanesStep;
pub(crate) use pool::PoolStep;
pub use report::{Bound, Explain, StageReport};
pub(crate) use schedule::RowSource;
pub(crate) use sections::SectionsStep;
pub(crate) use share::{lanes, share};
pub(crate) use stage::{
    Chain, ConvStage, DepthwiseStage, FlatWeights, PackedConv, PackedDepthwise, PackedStage, channels,
};
pub(crate) use staging::Staging;

use crate::memory::Arc;
use crate::{Fusion, Layout, Result};

/// What lowering takes: one layer, whose stages may run as one.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Stages that may run as one step, and whether the input is added to the output where the shapes are the same.
    Chain { chain: Chain, shortcut: bool },
    /// The mean over the plane.
    Pool { channels: usize },
}

impl Node {
    /// Input channels and output channels.
    pub(crate) fn channels(&self) -> [usize; 2] {
        match self {
            Node::Pool { channels } => [*channels; 2],
            Node::Chain { chain, .. } => chain.channels(),
        }
    }

    /// Whether both are one layer, or clones of one.
    pub(crate) fn is(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Pool { channels }, Node::Pool { channels: others }) => channels == others,
            (Node::Chain { chain, shortcut }, Node::Chain { chain: other, shortcut: others }) => {
                chain.is(other) && shortcut == others
            }
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
    /// Of the caller's input and output.
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
        }
    }
}
