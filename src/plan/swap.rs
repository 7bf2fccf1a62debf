//! Planes of one column are planned as planes of one row.
//!
//! ```text
//!   a signal along H: h rows of one pixel            the same along W: one row of h pixels
//!   shape n×h×1×c, windows k×1                  ──▶  shape n×1×h×c, windows 1×k
//!   strides of the caller: row, pixel           ──▶  pixel, row: swapped at each run
//! ```
//!
//! Every row pays for its own calls, and a row of one pixel has little to share that with. Rows and columns are swapped where the input
//! has one column, and every window has one column without padding beside it: then no tensor has a second column.
//!
//! The bits stay. The taps of a window of one column have the same order as those of a window of one row, so both share the packed
//! weights. A mean adds its pixels by their number, row by row: down one column, pixels have the same numbers as along one row.

use super::cost::Thresholds;
use super::graph::{Graph, GraphNode};
use super::lower::{Program, Refused, lower_as_given};
use super::stage::Chain;
use super::{Lowering, Node, SplitConv, Step};
use crate::memory::{Arc, collect, push};
use crate::{Error, Result, Shape};

/// The program of a graph over planes of one column with rows and columns swapped; `None` where it is lowered as it is.
pub(super) fn lower_swapped(graph: &Graph, inputs: &[Shape], lowering: &Lowering) -> Result<Option<Program>, Refused> {
    let gain = lowering.thresholds.swap_gain;
    let is_column = |shape: &Shape| shape.w == 1;
    if gain == 0
        || !inputs.iter().all(is_column)
        || inputs.iter().all(|shape| shape.h == 1)
        || !graph.nodes.iter().all(|node| node.node.keeps_one_column())
    {
        return Ok(None);
    }
    let mut swapped = graph.without_nodes()?;
    for node in &graph.nodes {
        let inputs = collect("plan", node.inputs.iter().copied())?;
        push("plan", &mut swapped.nodes, GraphNode { node: node.node.swapped()?, inputs, ..*node })?;
    }
    let rows = collect("plan", inputs.iter().map(|shape| shape.swapped()))?;
    let Some(mut program) = unless_too_large(lower_as_given(&swapped, &rows, lowering))? else {
        return Ok(None);
    };
    // a long row takes more scratch than short ones, and leaves every cache
    if program.worker > lowering.thresholds.scratch_least {
        return Ok(None);
    }
    if program.steps.iter().any(|step| loses_by_a_long_row(step, &lowering.thresholds)) {
        return Ok(None);
    }
    // threads share the rows of a plane, and may have fewer parts of one row
    if lowering.workers > 1 {
        let given = unless_too_large(lower_as_given(graph, inputs, lowering))?;
        if given.is_some_and(|given| busiest_work(&program) > gain as f64 * busiest_work(&given)) {
            return Ok(None);
        }
    }
    program.swapped = true;
    for report in &mut program.reports {
        (report.input, report.output) = (report.input.swapped(), report.output.swapped());
    }
    Ok(Some(program))
}

impl Node {
    /// Whether a plane of one column stays one.
    fn keeps_one_column(&self) -> bool {
        match self {
            Node::Pool { .. } | Node::Concat => true,
            Node::Rows(op) => op.keeps_one_column(),
            Node::Split(split) => {
                split.window.is_none_or(|[_, columns]| columns == 1)
                    && split.convs.iter().all(Chain::has_windows_of_one_column)
            }
            Node::Chain { chain, .. } => chain.has_windows_of_one_column(),
        }
    }

    /// The same layer over planes whose rows are columns.
    fn swapped(&self) -> Result<Node> {
        Ok(match self {
            Node::Pool { channels } => Node::Pool { channels: *channels },
            Node::Rows(op) => Node::Rows(op.swapped()),
            Node::Concat => Node::Concat,
            Node::Split(split) => {
                let mut convs = Vec::new();
                for conv in &split.convs {
                    push("plan", &mut convs, conv.swapped()?)?;
                }
                // places of a window of one column have the same order
                let window = split.window.map(|[rows, columns]| [columns, rows]);
                Node::Split(Arc::try_new("plan", SplitConv { convs, window })?)
            }
            Node::Chain { chain, shortcut } => Node::Chain { chain: chain.swapped()?, shortcut: *shortcut },
        })
    }
}

/// Whether a step keeps a row beyond L2 between its stages, since it has no sections, and does so much for each pixel that what a row of one
/// pixel costs is less.
fn loses_by_a_long_row(step: &Step, thresholds: &Thresholds) -> bool {
    let Step::Chain(step) = step else { return false };
    let tail = step.tail.as_ref().map(|(tail, _)| tail);
    let convs = [step.head.as_ref().map(|head| &head.stage), tail];
    let macs = convs.into_iter().flatten().fold(0u64, |macs, conv| macs.saturating_add(conv.op.macs(1)));
    let row = step.middle.w.saturating_mul(step.middle.c);
    row > thresholds.near_border && macs > thresholds.swap_macs as u64
}

/// A program, or `None` where a size of it is too large.
fn unless_too_large(lowered: Result<Program, Refused>) -> Result<Option<Program>, Refused> {
    match lowered {
        Ok(program) => Ok(Some(program)),
        // an allocator is not asked for a size that overflows
        Err(Refused {
            error: Error::Scratch { .. } | Error::TooLarge { .. } | Error::Allocation { bytes: usize::MAX, .. },
            ..
        }) => Ok(None),
        Err(refused) => Err(refused),
    }
}

/// Multiply-adds of the busiest worker, as far as the pieces of a step are even.
fn busiest_work(program: &Program) -> f64 {
    program.reports.iter().map(|report| report.macs as f64 / report.pieces as f64).sum()
}
