//! A depthwise convolution of few channels, planned: a vector holds channels of several pixels.
//!
//! ```text
//!   a row of 3 channels     c0 c1 c2 c0 c1 c2 c0 c1 │ c2 c0 c1 c2 …      from tap to tap: 3 values
//!   weights of a tap        w0 w1 w2 w0 w1 w2 w0 w1 │ w2 w0 w1 w2 …      from lane 48 on they repeat
//! ```
//!
//! Rows are copied, each with its padding and without gaps between pixels: they are *flat*. Columns that are a stride apart lie together
//! ([`Phases`]), so the taps of pixels that follow each other do too. To the kernel, 48 lanes are a pixel of 48 channels. Weights for that
//! many are packed when an operator is made.
//!
//! A section of columns goes over all rows before the next, so that its ring of rows stays in L1 however long a row is.

use sepconv_kernels::BLOCK;

use super::Lowering;
use super::cost::Thresholds;
use super::layout::{Order, Place, PlannedTensor};
use super::offsets::Phases;
use super::schedule::{Plane, RowSource};
use super::share::{busiest, rows_within};
use super::stage::{Chain, DepthwiseStage, Ends, Misfit, STAGES};
use crate::memory::{Carver, product};
use crate::shape::Extent;
use crate::{Result, Shape};

/// The fewest pixels, each of as many lanes as weights repeat after, that a row is worth the way for: a tile of the kernel has so many sums.
const LEAST_PIXELS: usize = 4;

/// A depthwise convolution over flat rows.
#[derive(Debug)]
pub(crate) struct FlatStep {
    pub(crate) stage: DepthwiseStage,
    pub(crate) ends: Ends,
    pub(crate) extent: Extent,
    /// The order of the columns of a section.
    pub(crate) phases: Phases,
    /// Rows of the ring, and values of each.
    pub(crate) ring: [usize; 2],
    /// Output columns of a section.
    pub(crate) columns: usize,
    /// Parts of the rows of all images, and parts of the sections. One of them is 1.
    pub(crate) parts: [usize; 2],
    pub(crate) scratch: FlatScratch,
}

/// Places in a worker's scratch, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlatScratch {
    pub(crate) zeros: usize,
    pub(crate) ring: usize,
    /// A flat row of output, for tensors of other layouts.
    pub(crate) out: usize,
    pub(crate) rows: usize,
    pub(crate) taps: usize,
}

impl FlatStep {
    /// Whether stages over these tensors are to go over flat rows: a depthwise convolution alone, whose rows must be copied, and whose
    /// channels would leave lanes of a block empty.
    pub(super) fn suits(chain: &Chain, tensors: &[PlannedTensor], ends: &Ends, lowering: &Lowering) -> Result<bool> {
        let (x, out) = (&tensors[ends.input], &tensors[ends.output]);
        let depthwise = match (chain.head(), chain.depthwise(), chain.tail()) {
            (None, Some(depthwise), None) if x.place == Place::Input => depthwise.op,
            _ => return Ok(false),
        };
        let Some(flat) = &depthwise.flat else { return Ok(false) };
        let middle = Shape { c: depthwise.outputs(), ..x.shape };
        let plane = Plane::new(middle, depthwise.window, out.shape.h)?;
        if plane.row_source(x, depthwise.multiplier, lowering) != RowSource::Copy {
            return Ok(false);
        }
        let values = out.shape.w.saturating_mul(out.shape.c);
        let worth = values / flat.lanes >= LEAST_PIXELS;
        // from planes to planes, channels would be put together and taken apart
        Ok(worth && (x.layout.order == Order::Pixels || out.layout.order == Order::Pixels))
    }

    /// A step of a depthwise convolution alone, or an error where it does not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        tensors: &[PlannedTensor],
        ends: Ends,
        workers: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<FlatStep> {
        let [_, out, _] = chain.over(tensors, &ends)?;
        let stage = chain.depthwise().ok_or_else(|| Misfit::Order.named(STAGES))?.cloned();
        let lanes = stage.op.flat.as_ref().ok_or_else(|| Misfit::Order.named(STAGES))?.lanes;
        let input = tensors[ends.input].shape;
        let (window, channels) = (stage.op.window, stage.op.outputs());
        let extent = window.over([input.h, input.w])?;
        let rows = window.reach(0).min(input.h);

        // a section of whole pixels of the kernel
        let unit = lanes / channels;
        let units = out.w.div_ceil(unit);
        let (lines, sections) = (out.n * out.h, units.div_ceil(LEAST_PIXELS));
        let parts = if busiest(lines, workers) <= busiest(sections, workers) {
            [workers.min(lines), 1]
        } else {
            [1, workers.min(sections)]
        };
        let of_unit = product(&[rows, lanes, window.stride[1]])?;
        let longest = units.div_ceil(parts[1]);
        let columns = rows_within(thresholds.near_ring, of_unit, longest).max(LEAST_PIXELS.min(longest)) * unit;
        let columns = columns.min(out.w);
        let parts = [parts[0], parts[1].min(out.w.div_ceil(columns))];

        let read = (columns - 1) * window.stride[1] + window.reach(1);
        let phases = Phases::new(read, window.stride[1]);
        // the last vector of a row reads over its end
        let row = product(&[phases.columns()?, channels])?.saturating_add(BLOCK);
        Ok(FlatStep {
            scratch: FlatScratch {
                zeros: scratch.values::<f32>(row)?,
                ring: scratch.values::<f32>(product(&[rows, row])?)?,
                out: scratch.values::<f32>(product(&[columns, channels])?)?,
                rows: scratch.values::<*const f32>(window.kernel[0])?,
                taps: scratch.values::<usize>(window.kernel[1])?,
            },
            stage,
            ends,
            extent,
            phases,
            ring: [rows, row],
            columns,
            parts,
        })
    }
}
