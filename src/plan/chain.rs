//! A depthwise convolution with the stages before it and behind it fused in, planned.
//!
//! ```text
//!   head: none │ 1×1 │ k×k          depthwise                 tail: none │ 1×1
//!   input ───────────────▶ ring of padded rows ──▶ a few rows ─────────────▶ output
//!                          in channel blocks       in channel blocks         [+ shortcut]
//! ```
//!
//! The tensor between head and depthwise never exists as a whole. Two schedules, one loop:
//!
//! - *row ring*: all channels, a group of output rows at a time. The ring keeps the rows that the next group needs again.
//! - *channel slabs*: all rows of a piece, some channel blocks at a time. The tail's sums rest in memory between slabs.
//!
//! A depthwise convolution alone has no sums to rest, and goes over its slabs in the outer loop: a slab's ring stays in L1.
//!
//! Without a head the rows are read in place if the producer has left columns of zeros beside them, or if the kernel
//! can do without these columns; else they are copied into the ring. A row of vertical padding is a pointer to one row
//! of zeros. `run/chain.rs` has the loop, and `docs/kernels/chain.md` what was tried and lost.

use sepconv_kernels::{BLOCK, KernelKind};

use super::Lowering;
use super::conv::{ConvRows, Destination};
use super::cost::Thresholds;
use super::layout::{PlannedTensor, TensorLayout};
use super::offsets::PixelTable;
use super::schedule::{Plane, Portions, RowSource};
use super::share::ChainParts;
use super::stage::{Chain, ConvStage, DepthwiseStage, Ends, Misfit, PackedStage, STAGES};
use super::staging::{self, Staging, pixels_of};
use crate::memory::{Carver, product, text};
use crate::shape::{ConvWindow, Extent};
use crate::{Result, Schedule, Shape};

/// The rows of the tensor that the depthwise convolution reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    /// Rows that it holds; 0 where rows are read in place.
    pub(crate) rows: usize,
    /// The layout of `slab` blocks of one row.
    pub(crate) layout: TensorLayout,
}

/// Places in a worker's scratch, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainScratch {
    pub(crate) zeros: usize,
    pub(crate) ring: usize,
    pub(crate) depthwise: usize,
    pub(crate) partial: usize,
    pub(crate) row_pointers: usize,
    /// Offsets of the taps of a kernel row.
    pub(crate) taps: usize,
    pub(crate) out_pointers: usize,
}

/// The pixels of a group, as the tail finds them.
#[derive(Debug)]
pub(crate) struct TailPixels {
    /// Of the depthwise rows, and of partial sums.
    pub(crate) dense: PixelTable,
    pub(crate) out: PixelTable,
    pub(crate) residual: Option<PixelTable>,
}

impl TailPixels {
    /// Of groups of at most `rows` rows of `width` pixels.
    fn new(
        tensors: &[PlannedTensor],
        ends: &Ends,
        [rows, width]: [usize; 2],
        thresholds: &Thresholds,
        carver: &mut Carver,
    ) -> Result<TailPixels> {
        let most = thresholds.planned_offsets;
        let dense = PixelTable::dense(rows, width, most, carver)?;
        let out = pixels_of(&tensors[ends.output], [1, rows, width], most, carver)?;
        let of_residual = |r: usize| pixels_of(&tensors[r], [1, rows, width], most, carver);
        let residual = ends.residual.map(of_residual).transpose()?;
        Ok(TailPixels { dense, out, residual })
    }
}

/// A depthwise convolution from tensor to tensor.
#[derive(Debug)]
pub(crate) struct ChainStep {
    pub(crate) source: RowSource,
    /// The rows that are computed, where the source is the head.
    pub(crate) head: Option<ConvRows>,
    pub(crate) depthwise: DepthwiseStage,
    pub(crate) tail: Option<(ConvStage, TailPixels)>,
    pub(crate) ends: Ends,
    /// The tensor that the depthwise convolution reads: what the head makes, each channel `multiplier` times.
    pub(crate) middle: Shape,
    pub(crate) extent: Extent,
    pub(crate) kind: KernelKind,
    /// A depthwise convolution alone has the row ring.
    pub(crate) schedule: Schedule,
    pub(crate) portions: Portions,
    pub(crate) ring: Ring,
    /// Values of the row that stands for rows of padding.
    pub(crate) zero_row: usize,
    /// Nothing is computed before or behind the depthwise convolution: the outer loop is over slabs.
    pub(crate) alone: bool,
    pub(crate) scratch: ChainScratch,
    pub(crate) parts: ChainParts,
    /// Of the output and of the residual, where they lie in planes.
    pub(crate) staging: [Option<Staging>; 2],
}

/// Input rows that one call of a depthwise kernel is given, for `rows` output rows or, of the general kernel, for one.
pub(crate) fn rows_in(kind: KernelKind, window: &ConvWindow, rows: usize) -> usize {
    match kind {
        KernelKind::DwConv => window.kernel[0],
        _ => (rows - 1) * window.stride[0] + window.kernel[0],
    }
}

impl ChainStep {
    /// A step of stages with a depthwise convolution, or an error where they do not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        tensors: &[PlannedTensor],
        ends: Ends,
        schedule: Schedule,
        by_channels: bool,
        workers: usize,
        lowering: &Lowering,
        carver: &mut Carver,
    ) -> Result<ChainStep> {
        let thresholds = &lowering.thresholds;
        let [after_head, after_depthwise, _] = chain.over(tensors, &ends)?;
        let (head, tail) = (chain.head(), chain.tail().map(PackedStage::cloned));
        let depthwise = chain.depthwise().ok_or_else(|| Misfit::Order.named(STAGES))?.cloned();
        let x = &tensors[ends.input];
        let middle = Shape { c: depthwise.op.outputs(), ..after_head };
        let alone = head.is_none() && tail.is_none();

        // sums of a tail go over all channels
        let parts = ChainParts::new(after_depthwise, workers, by_channels && tail.is_none(), alone);
        let plane = Plane::new(middle, depthwise.op.window, parts.rows(after_depthwise))?;
        let source = match head {
            Some(_) => RowSource::Head,
            None => plane.row_source(x, depthwise.op.multiplier, lowering),
        };
        let strips = plane.goes_by_strips(source, lowering);
        let sizes = match schedule {
            _ if alone => plane.alone(strips, source, thresholds)?,
            Schedule::RowRing => plane.row_ring(source, tail.as_ref().map(|tail| &*tail.op), thresholds)?,
            Schedule::ChannelSlabs => plane.channel_slabs(thresholds)?,
        };
        let portions = plane.with_calls(sizes, strips, source, thresholds);

        let ring = Ring::new(&plane, &portions, source)?;
        let head = match head {
            Some(stage) => {
                let to = Destination::Ring(ring.layout, ring.rows);
                Some(ConvRows::new(stage.cloned(), x, to, None, thresholds.head_values, thresholds, carver)?)
            }
            None => None,
        };
        let zero_row = match source {
            RowSource::Pixels(_) => middle.c,
            RowSource::InPlace => x.layout.row,
            RowSource::Copy | RowSource::Head => ring.layout.row,
        };
        let group = [portions.group, plane.extent.out[1]];
        let scratch = ChainScratch::new(&plane, &portions, &ring, zero_row, tail.as_ref(), carver)?;
        let tail = match tail {
            Some(tail) => Some((tail, TailPixels::new(tensors, &ends, group, thresholds, carver)?)),
            None => None,
        };
        // of all channels behind a tail, of a slab without one
        let staged = if tail.is_some() { tensors[ends.output].shape.c.div_ceil(BLOCK) } else { portions.slab };
        let staging = staging::of_ends(tensors, &ends, portions.group, staged, carver)?;
        let Plane { extent, kind, .. } = plane;
        Ok(ChainStep {
            source,
            head,
            depthwise,
            tail,
            ends,
            middle,
            extent,
            kind,
            schedule,
            portions,
            ring,
            zero_row,
            alone,
            scratch,
            parts,
            staging,
        })
    }

    /// How it goes over its plane, in words.
    pub(super) fn explain_schedule(&self) -> Result<String> {
        let rows = match self.source {
            RowSource::InPlace => "rows read in place",
            RowSource::Pixels(_) => "pixels read in place",
            RowSource::Copy => "rows copied into the ring",
            RowSource::Head => "rows computed into the ring",
        };
        let Portions { group, slab, .. } = self.portions;
        let (all, parts) = (self.middle.c, self.parts.channels);
        let of_piece = all.div_ceil(BLOCK).div_ceil(parts);
        let several = slab < of_piece;
        let channels = (slab.min(of_piece) * BLOCK).min(all);
        match self.schedule {
            Schedule::ChannelSlabs if several => {
                text(format_args!("channel slabs of {channels} channels over {group} rows; {rows}"))
            }
            Schedule::ChannelSlabs => {
                let whose = if parts > 1 { " of a piece" } else { "" };
                text(format_args!(
                    "channel slabs: all {channels} channels{whose} in one slab, over {group} rows; {rows}"
                ))
            }
            Schedule::RowRing if several => {
                text(format_args!("row ring, {group} output rows at a time, in slabs of {channels} channels; {rows}"))
            }
            Schedule::RowRing => text(format_args!("row ring, {group} output rows at a time; {rows}")),
        }
    }
}

impl Ring {
    fn new(plane: &Plane, portions: &Portions, source: RowSource) -> Result<Ring> {
        let layout = TensorLayout::blocked(Shape { c: portions.slab * BLOCK, ..plane.middle }, plane.columns)?;
        Ok(Ring { rows: if source.fills_ring() { plane.rows_read(portions.group) } else { 0 }, layout })
    }
}

impl ChainScratch {
    fn new(
        plane: &Plane,
        portions: &Portions,
        ring: &Ring,
        zero_row: usize,
        tail: Option<&ConvStage>,
        carver: &mut Carver,
    ) -> Result<ChainScratch> {
        let pixels = product(&[portions.group, plane.extent.out[1]])?;
        let depthwise = product(&[usize::from(tail.is_some()), pixels, portions.slab, BLOCK])?;
        let partial = match tail {
            Some(tail) if portions.slab < plane.blocks => product(&[pixels, tail.op.outputs.div_ceil(BLOCK), BLOCK])?,
            _ => 0,
        };
        let calls = portions.rows_at_once;
        Ok(ChainScratch {
            zeros: carver.values::<f32>(zero_row)?,
            ring: carver.values::<f32>(product(&[ring.rows, ring.layout.row])?)?,
            depthwise: carver.values::<f32>(depthwise)?,
            partial: carver.values::<f32>(partial)?,
            row_pointers: carver.values::<*const f32>(rows_in(plane.kind, &plane.window, calls))?,
            taps: carver.values::<usize>(plane.window.kernel[1])?,
            out_pointers: carver.values::<*mut f32>(calls)?,
        })
    }
}
