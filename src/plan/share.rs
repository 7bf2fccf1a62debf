//! Rows, channels and images of a step, shared out over workers, and which of these come out even.

use core::ops::Range;

use sepconv_kernels::BLOCK;

use super::Lowering;
use super::stage::{Chain, PackedDepthwise};
use crate::Shape;

/// The `part`th of `parts` almost equal ranges of `0..len`.
pub(crate) fn share(len: usize, parts: usize, part: usize) -> Range<usize> {
    let (each, longer) = (len / parts, len % parts);
    let start = part * each + part.min(longer);
    start..start + each + usize::from(part < longer)
}

/// Channels of some channel blocks of a tensor of `channels`, of which the last block may have fewer than 16.
///
/// Blocks are a [`share`] of as many as hold these channels. Steps are only made where stages agree on that number, so there is
/// at least one block.
pub(crate) fn lanes(blocks: &Range<usize>, channels: usize) -> usize {
    debug_assert!(blocks.start < blocks.end && blocks.start * BLOCK < channels, "{blocks:?} of {channels} channels");
    (blocks.end * BLOCK).min(channels) - blocks.start * BLOCK
}

/// The share of `count` equal parts that the busiest of `workers` has.
pub(super) fn busiest(count: usize, workers: usize) -> f64 {
    count.div_ceil(workers) as f64 / count as f64
}

/// The most output rows, of `rows`, that a step takes at once, so that `values` a row stay below `budget`. Images and pixels are counted so too.
pub(super) fn rows_within(budget: usize, values: usize, rows: usize) -> usize {
    (budget / values.max(1)).clamp(1, rows.max(1))
}

/// How many of `count` each of the fewest parts has, of at most `most`, so that all are as even as can be.
pub(super) fn evenly(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

/// Parts of the rows of all images of a depthwise step, and parts of its channels. One of them is 1.
///
/// Rows at the border between two parts of one image are read, and behind a head computed, by both. So the parts are stretches of all rows,
/// of which a border is in at most one image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainParts {
    pub(crate) lines: usize,
    pub(crate) channels: usize,
}

impl ChainParts {
    /// Of a step that makes `out`. `by_channels`: workers share out channels where images alone do not come out even. Stages that are
    /// `alone` have no border at all by channels.
    pub(super) fn new(out: Shape, workers: usize, by_channels: bool, alone: bool) -> ChainParts {
        let (lines, blocks) = (out.n * out.h, out.c.div_ceil(BLOCK));
        let evener = alone && busiest(blocks, workers) < busiest(lines, workers);
        if !out.n.is_multiple_of(workers) && (by_channels || evener) {
            ChainParts { lines: 1, channels: workers.min(blocks) }
        } else {
            ChainParts { lines: workers.min(lines), channels: 1 }
        }
    }

    /// The most output rows of one image in a part.
    pub(super) fn rows(&self, out: Shape) -> usize {
        out.h.min((out.n * out.h).div_ceil(self.lines))
    }
}

/// Parts of the rows of all images of a convolution, and parts of its panels. One of them is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvParts {
    pub(crate) rows: usize,
    pub(crate) panels: usize,
}

impl ConvParts {
    /// Of `lines` rows in all images, and `panels` panels.
    pub(super) fn new(lines: usize, panels: usize, workers: usize) -> ConvParts {
        if workers == 1 {
            ConvParts { rows: 1, panels: 1 }
        } else if busiest(lines, workers) <= busiest(panels, workers) {
            ConvParts { rows: workers.min(lines), panels: 1 }
        } else {
            ConvParts { rows: 1, panels: workers.min(panels) }
        }
    }
}

/// Whether threads share a small plane faster by channels than by rows. Rows may divide unevenly, and the rows of a head at the border
/// between two threads are computed twice. By channels, the tail is a step of its own, behind an exchange of a tensor as small as the
/// plane.
pub(super) fn worth_exchanging(
    chain: &Chain,
    depthwise: &PackedDepthwise,
    [after_head, after_depthwise]: [Shape; 2],
    lowering: &Lowering,
) -> bool {
    let (head, tail, workers) = (chain.head(), chain.tail(), lowering.workers);
    let of_head = head.map_or(0, |head| head.op.macs(after_head.pixels()));
    let of_depthwise = depthwise.macs(after_depthwise.pixels());
    let of_tail = tail.map_or(0, |tail| tail.op.macs(after_depthwise.pixels()));

    // workers share the rows of all images
    let (lines, head_lines) = (after_depthwise.n * after_depthwise.h, after_head.n * after_head.h);
    let window = &depthwise.window;
    let read = ((lines.div_ceil(workers) - 1) * window.stride[0] + window.reach(0)).min(head_lines);
    let by_rows = of_head as f64 * read as f64 / head_lines as f64
        + of_depthwise.saturating_add(of_tail) as f64 * busiest(lines, workers);

    let worth_meeting = lowering.thresholds.worth_meeting as u64;
    let shared = |macs: u64, parts: f64| macs as f64 * if macs < worth_meeting { 1.0 } else { parts };
    let blocks = busiest(after_depthwise.c.div_ceil(BLOCK), workers);
    let panels = tail.map_or(1.0, |tail| busiest(tail.op.outputs.div_ceil(BLOCK), workers));
    let by_channels =
        shared(of_head.saturating_add(of_depthwise), blocks) + shared(of_tail, panels.min(busiest(lines, workers)));
    by_rows > by_channels * (lowering.thresholds.worth_exchanging as f64 / 100.0)
}
