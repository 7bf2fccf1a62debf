//! A depthwise convolution with the stages beside it, planned by sections of columns.
//!
//! ```text
//!   padding │ first section │ section │ section │ last section │ padding        each goes down all rows before the next
//! ```
//!
//! A ring of long rows leaves L2 however few rows it holds, and one row has nothing that threads could share. So the plane is cut into
//! sections. Each is a step over a part of the columns of its tensors ([`PlannedTensor::section`]), with the padding of the sides that it
//! reaches. Windows at the border of two sections read columns of both, and a head computes them twice.
//!
//! Sections inside of the plane are alike, so three steps serve all: the run says at which columns each begins.

use sepconv_kernels::BLOCK;

use super::Lowering;
use super::chain::ChainStep;
use super::layout::PlannedTensor;
use super::schedule::{Plane, RowSource};
use super::share::busiest;
use super::stage::{Chain, Ends};
use crate::memory::{Arc, Carver, push};
use crate::{Padding, Result, Schedule, Shape};

/// A step in sections of columns.
#[derive(Debug)]
pub(crate) struct SectionsStep {
    pub(crate) first: Arc<ChainStep>,
    /// Any section between the first and the last.
    inner: Option<Arc<ChainStep>>,
    last: Arc<ChainStep>,
    pub(crate) count: usize,
    /// Parts that the sections are shared out in, or none where workers share out each section.
    pub(crate) parts: Option<usize>,
    /// Output columns of each section but the last, input columns from one to the next, and columns of padding before the first.
    pub(super) columns: usize,
    step: usize,
    before: usize,
}

/// The number of sections, at least 2, or none where the plane is not to be cut: by the memory of two output rows of a section, and by what
/// workers have to share.
pub(super) fn count(
    chain: &Chain,
    tensors: &[PlannedTensor],
    ends: &Ends,
    schedule: Schedule,
    by_channels: bool,
    workers: usize,
    lowering: &Lowering,
) -> Result<Option<usize>> {
    let [after_head, out, _] = chain.over(tensors, ends)?;
    let Some(depthwise) = chain.depthwise() else { return Ok(None) };
    let (window, thresholds) = (&depthwise.op.window, &lowering.thresholds);
    let head_is_pointwise = chain.head().is_none_or(|head| head.op.is_pointwise());
    if schedule != Schedule::RowRing || by_channels || !head_is_pointwise {
        return Ok(None);
    }
    let middle = Shape { c: depthwise.op.outputs(), ..after_head };
    let plane = Plane::new(middle, *window, out.h)?;
    let alone = chain.head().is_none() && chain.tail().is_none();
    let source = match chain.head() {
        Some(_) => RowSource::Head,
        None => plane.row_source(&tensors[ends.input], depthwise.op.multiplier, lowering),
    };
    // a depthwise convolution alone copies a block of channels at a time
    let blocks = if alone && source == RowSource::Copy { 1 } else { plane.blocks };
    let read = plane.rows_read(2).saturating_mul(window.stride[1]).saturating_mul(blocks * BLOCK);
    let kept = if chain.tail().is_some() { 2 * plane.blocks * BLOCK } else { 0 };
    let of_column = read.saturating_add(kept);

    let least = thresholds.section_columns.max(window.least_columns(thresholds.part_overlaps)).max(1);
    let fits = of_column.saturating_mul(out.w) <= thresholds.section_values;
    let near = if fits { out.w } else { (thresholds.ring_values / of_column).max(least) };
    let lines = out.n * out.h;
    let shared =
        if alone { busiest(lines, workers).min(busiest(plane.blocks, workers)) } else { busiest(lines, workers) };
    // for each that has a part, so many have none
    let idle = shared * workers as f64 - 1.0 >= thresholds.idle_workers as f64;
    let of_cache = out.w.div_ceil(near);
    let takes_threads = |count: usize| busiest(count.max(1), workers).min(busiest(lines, workers)) > shared;
    let by_workers = idle || (of_cache > 1 && takes_threads(of_cache));
    let count = if by_workers { of_cache.next_multiple_of(workers) } else { of_cache }.min(out.w / least);
    Ok((count > 1 && !takes_threads(count)).then_some(count))
}

impl SectionsStep {
    /// A step in `count` sections, or none where a section between the first and the last would meet padding, or one of these two nothing else.
    pub(super) fn new(
        chain: &Chain,
        tensors: &mut Vec<PlannedTensor>,
        ends: Ends,
        count: usize,
        workers: usize,
        lowering: &Lowering,
        scratch: &mut Carver,
    ) -> Result<Option<SectionsStep>> {
        let [middle, out, _] = chain.over(tensors, &ends)?;
        let Some(depthwise) = chain.depthwise() else { return Ok(None) };
        let window = depthwise.op.window;
        let extent = window.over([middle.h, middle.w])?;
        let ([top, before], [bottom, _]) = (extent.before, extent.after);
        let (stride, reach) = (window.stride[1], window.reach(1));
        // the last section takes in what is left: fewer columns than there are sections
        let columns = out.w / count;
        let last_out = out.w - (count - 1) * columns;
        let step = columns * stride;
        let inside = (columns - 1) * stride + reach;
        let last_in = (before + middle.w).saturating_sub((count - 1) * step);
        // the end of what the section before the last one reads, padding counted
        let end = (count - 2) * step + inside;
        let meets_padding = step < before || end > before + middle.w;
        if meets_padding || inside <= before || last_in == 0 {
            return Ok(None);
        }

        let lines = out.n * out.h;
        let by_sections = busiest(count, workers) < busiest(lines, workers);
        let (parts, of_section) = if by_sections { (Some(workers.min(count)), 1) } else { (None, workers) };
        let from = *scratch;
        let mut kind = |input: usize, output: usize, reaches: [bool; 2], padding: [usize; 2]| {
            let chain = chain.with_padding(Padding::Explicit { top, bottom, left: padding[0], right: padding[1] })?;
            let at = tensors.len();
            let section_of = |tensor: usize, width, end| tensors[tensor].section(width, end, reaches);
            let sections = [section_of(ends.input, input, 0), section_of(ends.output, output, 1)];
            let residual = ends.residual.map(|residual| section_of(residual, output, 1));
            for tensor in sections.into_iter().chain(residual) {
                push("plan", tensors, tensor)?;
            }
            let ends = Ends { input: at, output: at + 1, residual: residual.map(|_| at + 2) };
            // the kinds use one part of the scratch, one after the other
            let mut own = from;
            let step = ChainStep::new(&chain, tensors, ends, Schedule::RowRing, false, of_section, lowering, &mut own)?;
            if own.len() > scratch.len() {
                *scratch = own;
            }
            Arc::try_new("plan", step)
        };
        let first = kind(inside - before, columns, [true, false], [before, 0])?;
        let inner = if count > 2 { Some(kind(inside, columns, [false, false], [0, 0])?) } else { None };
        let last = kind(last_in, last_out, [false, true], [0, extent.after[1]])?;
        Ok(Some(SectionsStep { first, inner, last, count, parts, columns, step, before }))
    }

    /// The step of a section.
    pub(crate) fn kind(&self, section: usize) -> &ChainStep {
        match &self.inner {
            _ if section == 0 => &self.first,
            Some(inner) if section + 1 < self.count => inner,
            _ => &self.last,
        }
    }

    /// The columns of input and output at which a section begins.
    pub(crate) fn at(&self, section: usize) -> [usize; 2] {
        // the first section has the padding before the plane
        [(section * self.step).saturating_sub(self.before), section * self.columns]
    }
}
