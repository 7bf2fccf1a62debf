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
use super::conv::{ConvRows, RowTarget};
use super::cost::Thresholds;
use super::layout::{PlannedTensor, TensorLayout};
use super::offsets::PixelTable;
use super::schedule::{Plane, Portions, RowSource};
use super::share::ChainParts;
use super::stage::{Chain, ConvStage, DepthwiseStage, Ends, Misfit, STAGES, Stage};
use super::staging::{Staging, pixels_of};
use crate::memory::{Arc, Carver, product, text};
use crate::shape::{Extent, Window};
use crate::{Result, Schedule, Shape};

/// What fills the ring.
#[derive(Debug)]
pub(crate) enum Head {
    /// Nothing: rows are read in place.
    InPlace,
    /// Nothing: the caller's rows are read in place, and the kernel knows which columns of padding they lack.
    Pixels([bool; 2]),
    /// Rows are copied, each channel as often as the multiplier says.
    Copy,
    /// Rows are computed.
    Conv(Arc<ConvRows>),
}

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
        let dense = TensorLayout::blocked(Shape::new(1, rows, width, BLOCK), [0, 0])?;
        let dense = PixelTable::within(dense, rows, width, [1, 1], most, carver)?;
        let out = pixels_of(&tensors[ends.output], [rows, width], most, carver)?;
        let of_residual = |r: usize| pixels_of(&tensors[r], [rows, width], most, carver);
        let residual = ends.residual.map(of_residual).transpose()?;
        Ok(TailPixels { dense, out, residual })
    }
}

/// A depthwise convolution from tensor to tensor.
#[derive(Debug)]
pub(crate) struct ChainStep {
    pub(crate) head: Head,
    pub(crate) depthwise: DepthwiseStage,
    pub(crate) tail: Option<(ConvStage, TailPixels)>,
    pub(crate) ends: Ends,
    /// The tensor that the depthwise convolution reads: what the head makes, each channel `multiplier` times.
    pub(crate) middle: Shape,
    pub(crate) extent: Extent,
    pub(crate) kind: KernelKind,
    /// The schedule that was chosen. A depthwise convolution alone has the row ring.
    pub(crate) chosen: Schedule,
    pub(crate) schedule: Portions,
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
pub(crate) fn rows_in(kind: KernelKind, window: &Window, rows: usize) -> usize {
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
        let (head, tail) = (chain.head(), chain.tail().map(Stage::cloned));
        let depthwise = chain.depthwise().ok_or_else(|| Misfit::Order.named(STAGES))?.cloned();
        let x = &tensors[ends.input];
        let middle = Shape { c: depthwise.op.outputs(), ..after_head };
        let alone = head.is_none() && tail.is_none();

        // sums of a tail go over all channels
        let parts = ChainParts::new(after_depthwise, workers, by_channels && tail.is_none());
        let plane = Plane::new(middle, depthwise.op.window, parts.rows)?;
        let source = match head {
            Some(_) => None,
            None => Some(plane.row_source(x, depthwise.op.multiplier)),
        };
        let strips = plane.goes_by_strips(source, lowering);
        let portions = match schedule {
            _ if alone => plane.alone(strips, source, thresholds)?,
            Schedule::RowRing => plane.row_ring(source, tail.as_ref().map(|tail| &*tail.op), thresholds)?,
            Schedule::ChannelSlabs => plane.channel_slabs(thresholds)?,
        };
        let chosen = schedule;
        let schedule = plane.with_calls(portions, strips, source, thresholds);

        let ring = Ring::new(&plane, &schedule, source)?;
        let head = match (source, head) {
            (_, Some(stage)) => {
                let to = RowTarget::Ring(ring.layout, ring.rows);
                let rows = ConvRows::new(stage.cloned(), x, to, None, thresholds.head_values, thresholds, carver)?;
                Head::Conv(Arc::try_new("plan", rows)?)
            }
            (Some(RowSource::InPlace), _) => Head::InPlace,
            (Some(RowSource::Pixels(edges)), _) => Head::Pixels(edges),
            (Some(RowSource::Copy) | None, _) => Head::Copy,
        };
        let zero_row = match head {
            Head::Pixels(_) => middle.c,
            Head::InPlace => x.layout.row,
            Head::Copy | Head::Conv(_) => ring.layout.row,
        };
        let group = [schedule.group, plane.extent.out[1]];
        let scratch = ChainScratch::new(&plane, &schedule, &ring, zero_row, tail.as_ref(), carver)?;
        let tail = match tail {
            Some(tail) => Some((tail, TailPixels::new(tensors, &ends, group, thresholds, carver)?)),
            None => None,
        };
        let staging = ChainStep::staging(tensors, &ends, &plane, &schedule, tail.is_some(), carver)?;
        let Plane { extent, kind, .. } = plane;
        Ok(ChainStep {
            head,
            depthwise,
            tail,
            ends,
            middle,
            extent,
            kind,
            chosen,
            schedule,
            ring,
            zero_row,
            alone,
            scratch,
            parts,
            staging,
        })
    }

    /// Places for a group of rows of the output and of the residual: of all channels behind a tail, of a slab without one.
    fn staging(
        tensors: &[PlannedTensor],
        ends: &Ends,
        plane: &Plane,
        schedule: &Portions,
        tail: bool,
        carver: &mut Carver,
    ) -> Result<[Option<Staging>; 2]> {
        let out = &tensors[ends.output];
        let blocks = if tail { out.shape.c.div_ceil(BLOCK) } else { schedule.slab.min(plane.blocks) };
        let of_output = Staging::new(out, schedule.group, blocks, carver)?;
        let of_residual = match ends.residual {
            Some(residual) => Staging::new(&tensors[residual], schedule.group, blocks, carver)?,
            None => None,
        };
        Ok([of_output, of_residual])
    }

    /// How it goes over its plane, in words.
    pub(super) fn explain_schedule(&self) -> Result<String> {
        let head = match &self.head {
            Head::InPlace => "rows read in place",
            Head::Pixels(_) => "pixels read in place",
            Head::Copy => "rows copied into the ring",
            Head::Conv(_) => "rows computed into the ring",
        };
        let Portions { group, slab, .. } = self.schedule;
        let (all, parts) = (self.middle.c, self.parts.channels);
        let of_piece = all.div_ceil(BLOCK).div_ceil(parts);
        let several = slab < of_piece;
        let channels = (slab.min(of_piece) * BLOCK).min(all);
        match self.chosen {
            Schedule::ChannelSlabs if several => {
                text(format_args!("channel slabs of {channels} channels over {group} rows; {head}"))
            }
            Schedule::ChannelSlabs => {
                let whose = if parts > 1 { " of a piece" } else { "" };
                text(format_args!(
                    "channel slabs: all {channels} channels{whose} in one slab, over {group} rows; {head}"
                ))
            }
            Schedule::RowRing if several => {
                text(format_args!("row ring, {group} output rows at a time, in slabs of {channels} channels; {head}"))
            }
            Schedule::RowRing => text(format_args!("row ring, {group} output rows at a time; {head}")),
        }
    }
}

impl Ring {
    fn new(plane: &Plane, schedule: &Portions, source: Option<RowSource>) -> Result<Ring> {
        let filled = matches!(source, None | Some(RowSource::Copy));
        let layout = TensorLayout::blocked(Shape { c: schedule.slab * BLOCK, ..plane.middle }, plane.columns)?;
        Ok(Ring { rows: if filled { plane.rows_read(schedule.group) } else { 0 }, layout })
    }
}

impl ChainScratch {
    fn new(
        plane: &Plane,
        schedule: &Portions,
        ring: &Ring,
        zero_row: usize,
        tail: Option<&ConvStage>,
        carver: &mut Carver,
    ) -> Result<ChainScratch> {
        let pixels = product(&[schedule.group, plane.extent.out[1]])?;
        let depthwise = product(&[usize::from(tail.is_some()), pixels, schedule.slab, BLOCK])?;
        let partial = match tail {
            Some(tail) if schedule.slab < plane.blocks => product(&[pixels, tail.op.outputs.div_ceil(BLOCK), BLOCK])?,
            _ => 0,
        };
        let calls = schedule.rows_at_once;
        Ok(ChainScratch {
            zeros: carver.values::<f32>(zero_row)?,
            ring: carver.values::<f32>(product(&[ring.rows, ring.layout.row])?)?,
            depthwise: carver.values::<f32>(depthwise)?,
            partial: carver.values::<f32>(partial)?,
            row_pointers: carver.values::<*const f32>(rows_in(plane.kind, &plane.window, calls))?,
            out_pointers: carver.values::<*mut f32>(calls)?,
        })
    }
}
