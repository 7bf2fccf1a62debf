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
use super::lower::{Program, Refused, lower_as_given};
use super::{Lowering, Node, Step};
use crate::memory::push;
use crate::{Error, Result, Shape};

/// The program of nodes over a plane of one column with rows and columns swapped; `None` where the nodes are lowered as they are.
pub(super) fn lower_swapped(nodes: &[Node], input: Shape, lowering: &Lowering) -> Result<Option<Program>, Refused> {
    let gain = lowering.thresholds.swap_gain;
    if gain == 0 || input.h == 1 || input.w != 1 || !nodes.iter().all(Node::keeps_one_column) {
        return Ok(None);
    }
    let mut swapped = Vec::new();
    for node in nodes {
        push("plan", &mut swapped, node.swapped()?)?;
    }
    let Some(mut program) = unless_too_large(lower_as_given(&swapped, input.swapped(), lowering))? else {
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
        let given = unless_too_large(lower_as_given(nodes, input, lowering))?;
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
            Node::Pool { .. } => true,
            Node::Chain { chain, .. } => chain.has_windows_of_one_column(),
        }
    }

    /// The same layer over planes whose rows are columns.
    fn swapped(&self) -> Result<Node> {
        Ok(match self {
            Node::Pool { channels } => Node::Pool { channels: *channels },
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
