//! A depthwise convolution of few channels, planned: a vector holds channels of several pixels.
//!
//! ```text
//!   a row of 3 channels     c0 c1 c2 c0 c1 c2 c0 c1 │ c2 c0 c1 c2 …      from tap to tap: 3 values
//!   weights of a tap        w0 w1 w2 w0 w1 w2 w0 w1 │ w2 w0 w1 w2 …      from lane 48 on they repeat
//! ```
//!
//! Blocks of 16 channels would leave lanes empty, and still win where few are: 3×3 has kernels of its own over blocks.
//!
//! Rows are copied, each with its padding and without gaps between pixels: they are *flat*. Columns that are a stride apart lie together
//! ([`Phases`]), so the taps of pixels that follow each other do too. To the kernel, 48 lanes are a pixel of 48 channels. Weights for that
//! many are packed when an operator is made.
//!
//! A section of columns goes over all rows before the next, so that its rows stay in L1 however long a row is. A tile of the kernel is as many
//! such pixels of a row; or, since a row has few of them, the same lanes of as many rows ([`Down`]). Rows are then what the kernel takes
//! for pixels, and a whole row is one of them, with weights for each lane.

use sepconv_kernels::{BLOCK, CHANNEL_PARAMS, KernelKind};

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

/// The rows of a tile that goes down rows. A plane of fewer has no such tiles.
const ROWS: usize = 12;

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
    pub(crate) down: Option<Down>,
    pub(crate) scratch: FlatScratch,
}

/// Tiles that go down rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Down {
    /// Output rows of a call of the kernel.
    pub(crate) rows: usize,
    /// The place of the weights of a section in a worker's scratch, in bytes.
    pub(crate) weights: usize,
    /// The place of the parameters of an activation by channel, for each lane of a section.
    pub(crate) params: usize,
}

/// Places in a worker's scratch, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlatScratch {
    pub(crate) zeros: usize,
    pub(crate) ring: usize,
    /// Flat rows of output of a call, for tensors of other layouts.
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
            (None, Some(depthwise), None) if matches!(x.place, Place::Input(_)) => depthwise.op,
            _ => return Ok(false),
        };
        let Some(flat) = &depthwise.flat else { return Ok(false) };
        let middle = Shape { c: depthwise.outputs(), ..x.shape };
        let plane = Plane::new(middle, depthwise.window, out.shape.h)?;
        if plane.row_source(x, depthwise.multiplier, lowering) != RowSource::Copy {
            return Ok(false);
        }
        let values = out.shape.w.saturating_mul(out.shape.c);
        let thresholds = &lowering.thresholds;
        let least = if plane.kind == KernelKind::DwConv { thresholds.flat_lanes } else { thresholds.flat_lanes_3x3 };
        let lanes = (plane.blocks * BLOCK).saturating_mul(100);
        let gains = lanes >= least.saturating_mul(out.shape.c);
        let along = values / flat.lanes >= thresholds.flat_pixels;
        // from planes to planes, channels would be put together and taken apart
        Ok(gains
            && (along || out.shape.h >= ROWS)
            && (x.layout.order == Order::Pixels || out.layout.order == Order::Pixels))
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
        // a section of whole pixels of the kernel
        let unit = lanes / channels;
        let units = out.w.div_ceil(unit);
        let least = thresholds.flat_pixels.max(window.least_columns(thresholds.part_overlaps).div_ceil(unit)).max(1);
        let (lines, sections) = (out.n * out.h, units.div_ceil(least));
        let down = product(&[out.w, channels])? / lanes < thresholds.flat_pixels;
        let parts = if down || busiest(lines, workers) <= busiest(sections, workers) {
            [workers.min(lines), 1]
        } else {
            [1, workers.min(sections)]
        };
        let longest = units.div_ceil(parts[1]);
        let near = thresholds.near_ring;
        let least = least.min(longest);
        let columns = if down {
            let taps = product(&window.kernel)?;
            rows_within(near, lanes.saturating_mul(taps + 1), longest).max(least) * unit
        } else {
            let rows = window.reach(0).min(input.h);
            let of_unit = rows.saturating_mul(lanes).saturating_mul(window.stride[1]);
            rows_within(near, of_unit, longest).max(least) * unit
        };
        let columns = columns.min(out.w);
        let parts = [parts[0], parts[1].min(out.w.div_ceil(columns))];

        let read = (columns - 1) * window.stride[1] + window.reach(1);
        let phases = Phases::new(read, window.stride[1]);
        // the last vector of a row reads over its end
        let row = product(&[phases.columns()?, channels])?.saturating_add(BLOCK);
        let (rows, down) = if down {
            let rows = rows_within(near, window.stride[0].saturating_mul(row), out.h).clamp(1, ROWS);
            let blocks = product(&[columns, channels])?.div_ceil(BLOCK);
            let weights = product(&[blocks, product(&window.kernel)? + 1, BLOCK])?;
            let params = if stage.end.params.is_some() { product(&[blocks, CHANNEL_PARAMS])? } else { 0 };
            let (weights, params) = (scratch.values::<f32>(weights)?, scratch.values::<f32>(params)?);
            (rows, Some(Down { rows, weights, params }))
        } else {
            (1, None)
        };
        // a call goes down the rows of the ring, padding among them, or finds each of them by a pointer
        let ring = (rows - 1) * window.stride[0] + window.reach(0);
        let ring = if down.is_some() { ring } else { ring.min(input.h) };
        Ok(FlatStep {
            scratch: FlatScratch {
                zeros: scratch.values::<f32>(row)?,
                ring: scratch.values::<f32>(product(&[ring, row])?)?,
                out: scratch.values::<f32>(product(&[rows, columns, channels])?)?,
                rows: scratch.values::<*const f32>(window.kernel[0])?,
                taps: scratch.values::<usize>(window.kernel[1])?,
            },
            stage,
            ends,
            extent,
            phases,
            ring: [ring, row],
            columns,
            parts,
            down,
        })
    }
}
