//! How a depthwise convolution goes over its plane: which rows it reads, and the size of its groups and slabs.

use sepconv_kernels::{BLOCK, EDGE_TAPS, KernelKind};

use super::Lowering;
use super::cost::Thresholds;
use super::layout::{Order, PlannedTensor};
use super::share::{evenly, rows_within};
use super::stage::{PackedConv, PackedDepthwise};
use crate::memory::product;
use crate::shape::{ConvWindow, Extent};
use crate::{Result, Schedule, Shape};

/// The schedule of a chain with a head, where the plan may choose: [`Thresholds::slab_pixels`] says why.
pub(super) fn preferred_schedule(
    thresholds: &Thresholds,
    depthwise: &PackedDepthwise,
    middle: Shape,
    out: Shape,
) -> Result<Schedule> {
    let pixels = out.h * out.w;
    let extent = depthwise.window.over([middle.h, middle.w])?;
    let rows = product(&[middle.h, extent.before[1] + middle.w + extent.after[1]])?;
    let block = product(&[rows.saturating_add(pixels), BLOCK])?;
    let fits = block <= thresholds.slab_values / 3;
    let all = block.saturating_mul(out.c.div_ceil(BLOCK));
    let all_fit_by_halves = all <= thresholds.ring_values.saturating_mul(2);
    let slabs = pixels <= thresholds.slab_pixels || (fits && !all_fit_by_halves);
    Ok(if slabs { Schedule::ChannelSlabs } else { Schedule::RowRing })
}

/// Where a depthwise convolution finds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSource {
    /// Rows are read in place: the producer left columns of zeros beside them.
    InPlace,
    /// The caller's rows are read in place, and the kernel knows how many columns of padding they lack before and behind.
    Pixels([usize; 2]),
    /// Rows are copied into a ring, each channel as often as the multiplier says.
    Copy,
    /// The head computes rows into a ring.
    Head,
}

impl RowSource {
    /// Whether rows are written to a ring, and do not lie where they are read.
    pub(super) fn fills_ring(self) -> bool {
        matches!(self, RowSource::Copy | RowSource::Head)
    }
}

/// The plane that a depthwise convolution goes over, before it is cut into groups and slabs.
pub(super) struct Plane {
    pub(super) middle: Shape,
    pub(super) extent: Extent,
    pub(super) window: ConvWindow,
    pub(super) kind: KernelKind,
    /// Columns of padding on each side, and the length of a row with them.
    pub(super) columns: [usize; 2],
    padded_width: usize,
    /// Channel blocks.
    pub(super) blocks: usize,
    /// Output rows of the longest piece.
    piece_rows: usize,
}

/// The portions that a step goes over its plane in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portions {
    /// Output rows of a group.
    pub(crate) group: usize,
    /// Channel blocks of a slab.
    pub(crate) slab: usize,
    /// Output rows of one call of the depthwise kernel.
    pub(crate) rows_at_once: usize,
}

impl Plane {
    pub(super) fn new(middle: Shape, window: ConvWindow, piece_rows: usize) -> Result<Plane> {
        let extent = window.over([middle.h, middle.w])?;
        let columns = [extent.before[1], extent.after[1]];
        let padded_width = columns[0] + middle.w + columns[1];
        let blocks = middle.c.div_ceil(BLOCK);
        product(&[padded_width, blocks, BLOCK])?;
        let kind = match (window.kernel, window.stride, window.dilation) {
            ([3, 3], [1, 1], [1, 1]) => KernelKind::DwConv3x3S1,
            ([3, 3], [2, 2], [1, 1]) => KernelKind::DwConv3x3S2,
            ([3, 3], [3, 3], [1, 1]) => KernelKind::DwConv3x3S3,
            _ => KernelKind::DwConv,
        };
        Ok(Plane { middle, extent, window, kind, columns, padded_width, blocks, piece_rows })
    }

    /// The source of the rows without a head. No copy into channel blocks is faster than to read a caller's rows
    /// where they lie: the copy is written and read besides.
    pub(super) fn row_source(&self, x: &PlannedTensor, multiplier: usize, lowering: &Lowering) -> RowSource {
        let padded = !x.is_of_caller() && x.layout.is_whole();
        let [kh, kw] = self.window.kernel;
        // a window lacks at most all of its columns but one
        let (lacking, small) = match self.kind {
            KernelKind::DwConv => {
                (self.window.reach(1) - 1, kh.saturating_mul(kw) <= lowering.thresholds.pixel_taps.min(EDGE_TAPS))
            }
            _ => (1, true),
        };
        let by_pixels = small
            && self.columns.iter().all(|&columns| columns <= lacking)
            && self.middle.c.is_multiple_of(lowering.kernels.edge_channels(self.kind))
            && x.layout.order == Order::Pixels;
        if multiplier > 1 {
            RowSource::Copy
        } else if padded && x.layout.columns == self.columns {
            RowSource::InPlace
        } else if !padded && by_pixels {
            RowSource::Pixels(self.columns)
        } else {
            RowSource::Copy
        }
    }

    /// Input rows inside the plane that `rows` output rows, at least one, read at the most.
    pub(super) fn rows_read(&self, rows: usize) -> usize {
        ((rows - 1) * self.window.stride[0] + self.window.reach(0)).min(self.middle.h)
    }

    /// Whether one call of the kernel takes all rows of a piece and goes down strips of columns: rows that lie there, each read once.
    pub(super) fn goes_by_strips(&self, source: RowSource, lowering: &Lowering) -> bool {
        let by_strips = lowering.thresholds.strips.unwrap_or(lowering.kernels.dwconv3x3_by_strips());
        by_strips && !source.fills_ring() && matches!(self.kind, KernelKind::DwConv3x3S1 | KernelKind::DwConv3x3S2)
    }

    /// Group and slab of a depthwise convolution with nothing before or behind it.
    pub(super) fn alone(&self, strips: bool, source: RowSource, thresholds: &Thresholds) -> Result<[usize; 2]> {
        let by_pixels = matches!(source, RowSource::Pixels(_));
        let group = match (strips, by_pixels) {
            (true, true) => thresholds.strip_rows(self.window.stride[0], self.middle.c, self.piece_rows),
            (true, false) => self.piece_rows,
            // the kernels take two rows at a time
            (false, _) => self.piece_rows.min(2),
        };
        let near = thresholds.near_ring / product(&[self.padded_width, self.rows_read(group), BLOCK])?;
        let slab = if by_pixels || strips { self.blocks } else { near.clamp(1, self.blocks) };
        Ok([group, slab])
    }

    /// Group and slab by rows of all channels, before a tail or none.
    pub(super) fn row_ring(
        &self,
        source: RowSource,
        tail: Option<&PackedConv>,
        thresholds: &Thresholds,
    ) -> Result<[usize; 2]> {
        let stride = self.window.stride[0];
        let row = if source.fills_ring() { product(&[self.padded_width, self.blocks, BLOCK])? } else { 0 };
        let out_row = if tail.is_some() { product(&[self.extent.out[1], self.blocks, BLOCK])? } else { 0 };
        let overlap = self.window.reach(0).saturating_sub(stride).saturating_mul(row);
        let heavy = tail.is_some_and(|tail| tail.weights.len() > thresholds.tail_weights);
        let budget = if heavy { thresholds.ring_values_heavy } else { thresholds.ring_values }.saturating_sub(overlap);
        let group = rows_within(budget, stride.saturating_mul(row).saturating_add(out_row), self.piece_rows);
        // the 3×3 kernels take two rows at a time
        let group = if group > 1 { group } else { self.piece_rows.min(2) };
        let group = evenly(self.piece_rows, group);
        // rows too long for all channels at once: some channels at a time, which computes or copies rows again
        let block = product(&[self.padded_width, self.rows_read(group), BLOCK])?;
        Ok([group, self.even_slab(thresholds.long_rows / block)])
    }

    /// Group and slab by slabs of channels.
    pub(super) fn channel_slabs(&self, thresholds: &Thresholds) -> Result<[usize; 2]> {
        let plane = product(&[self.padded_width, self.rows_read(self.piece_rows)])?
            .saturating_add(product(&[self.extent.out[1], self.piece_rows])?);
        let block = product(&[plane, BLOCK])?;
        Ok([self.piece_rows, self.even_slab(thresholds.slab_values / block)])
    }

    /// The portions of a group and a slab, with the rows of one call of the depthwise kernel.
    pub(super) fn with_calls(
        &self,
        [group, slab]: [usize; 2],
        strips: bool,
        source: RowSource,
        thresholds: &Thresholds,
    ) -> Portions {
        let rows_at_once = match (self.kind, source) {
            (KernelKind::DwConv, _) => 1,
            (_, RowSource::Pixels(_)) if strips => thresholds.strip_rows(self.window.stride[0], self.middle.c, group),
            _ => group,
        };
        Portions { group, slab, rows_at_once }
    }

    /// Blocks of as many slabs as slabs of at most `blocks` blocks are, and that are as even as can be.
    fn even_slab(&self, blocks: usize) -> usize {
        evenly(self.blocks, blocks.clamp(1, self.blocks))
    }
}
