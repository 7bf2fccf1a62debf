//! Operations without weights, planned: sums and products of two tensors, copies, maxima and means over a window.
//!
//! They go down the rows of all images, a group at a time. Each output row is computed from input rows where they lie. Rows of a caller's
//! planes are transposed to channel blocks in scratch first, and results are transposed back.

use core::ops::Range;

use sepconv_kernels::{BLOCK, Join, KernelKind, PoolOf};

use super::cost::Thresholds;
use super::layout::{Order, PlannedTensor};
use super::share::rows_within;
use super::stage::{Ends, Misfit, StageEnd, channels};
use super::staging::Staging;
use crate::memory::{Carver, product, text};
use crate::shape::{ConvWindow, Extent};
use crate::{Error, Result, Shape};

/// What is computed of rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowsOp {
    /// The sum or the product of two tensors, of so many channels where its activation says so. The second one may have one pixel an image.
    Join { join: Join, end: StageEnd, channels: Option<usize> },
    /// Each pixel, so many times along rows and columns.
    Copy { factors: [usize; 2] },
    /// The maximum or the mean of each window.
    Pool { window: ConvWindow, of: PoolOf },
}

/// A step that goes down rows.
#[derive(Debug)]
pub(crate) struct RowsStep {
    pub(crate) op: RowsOp,
    /// The second operand of a join is the residual.
    pub(crate) ends: Ends,
    /// Of a window; of all else, of one pixel.
    pub(crate) extent: Extent,
    /// Output rows of a group.
    pub(crate) group: usize,
    /// Parts of the rows of all images.
    pub(crate) parts: usize,
    /// Of the input, the second operand and the output, where they lie in planes.
    pub(crate) staging: [Option<Staging>; 3],
}

impl RowsOp {
    /// The shape that it makes of inputs of these shapes, or why it cannot take them.
    pub(crate) fn output(&self, input: Shape, second: Option<Shape>) -> Result<Shape> {
        input.len()?;
        let output = match self {
            RowsOp::Join { end, channels: of, .. } => {
                channels("activation of a sum", of.unwrap_or(input.c), input.c)?;
                // unreached: an operator has the parameters of its channels
                if !end.suits(input.c) {
                    return Err(Misfit::Packed { stage: 0 }.named(["activation of a sum"; 3]));
                }
                let expected = input;
                let got = second.unwrap_or(input);
                let one = Shape { h: 1, w: 1, ..expected };
                if got != expected && got != one {
                    return Err(Error::ShapeMismatch { what: "second operand", expected, got });
                }
                input
            }
            RowsOp::Copy { factors: [rows, columns] } => {
                let [h, w] = [(input.h, rows), (input.w, columns)].map(|(len, &by)| len.saturating_mul(by));
                Shape { h, w, ..input }
            }
            RowsOp::Pool { window, .. } => {
                let extent = window.over([input.h, input.w]).map_err(|error| error.in_stage("pool"))?;
                let [h, w] = extent.out;
                // of padding alone there is no maximum and no mean
                let [top, left] = extent.before;
                let outside = |before: usize, out: usize, stride: usize, kernel: usize, len: usize| {
                    before >= kernel || (out - 1) * stride >= before + len
                };
                let [kh, kw] = window.kernel;
                if outside(top, h, window.stride[0], kh, input.h) || outside(left, w, window.stride[1], kw, input.w) {
                    let (what, expected) =
                        (text(format_args!("pool padding"))?, "a pixel of the plane in every window");
                    let got = text(format_args!("padding that fills a window of {kh}×{kw}"))?;
                    return Err(Error::Value { what, expected, got });
                }
                Shape { h, w, ..input }
            }
        };
        output.len()?;
        Ok(output)
    }

    /// The channels of its tensors, where its activation has parameters for each.
    pub(super) fn channels(&self) -> Option<usize> {
        match self {
            RowsOp::Join { channels, .. } => *channels,
            RowsOp::Copy { .. } | RowsOp::Pool { .. } => None,
        }
    }

    /// How its sums end, of a join.
    pub(super) fn end(&self) -> Option<&StageEnd> {
        match self {
            RowsOp::Join { end, .. } => Some(end),
            RowsOp::Copy { .. } | RowsOp::Pool { .. } => None,
        }
    }

    /// The kernel that it runs on, if it is more than a copy.
    pub(super) fn kernel(&self) -> Option<KernelKind> {
        match self {
            RowsOp::Join { .. } => Some(KernelKind::JoinRow),
            RowsOp::Pool { .. } => Some(KernelKind::PoolRow),
            RowsOp::Copy { .. } => None,
        }
    }

    /// The name of its step.
    pub(super) fn name(&self) -> &'static str {
        match self {
            RowsOp::Join { join: Join::Sum, .. } => "add",
            RowsOp::Join { join: Join::Product, .. } => "scale",
            RowsOp::Copy { factors: [1, 1] } => "copy",
            RowsOp::Copy { .. } => "resize",
            RowsOp::Pool { of: PoolOf::Maximum, .. } => "max pool",
            RowsOp::Pool { .. } => "average pool of windows",
        }
    }

    /// The same operation over planes whose rows are columns.
    pub(super) fn swapped(&self) -> RowsOp {
        match *self {
            RowsOp::Copy { factors: [rows, columns] } => RowsOp::Copy { factors: [columns, rows] },
            RowsOp::Pool { window, of } => RowsOp::Pool { window: window.swapped(), of },
            RowsOp::Join { .. } => self.clone(),
        }
    }

    /// Whether a plane of one column stays one.
    pub(super) fn keeps_one_column(&self) -> bool {
        match self {
            RowsOp::Join { .. } => true,
            RowsOp::Copy { factors: [_, columns] } => *columns == 1,
            RowsOp::Pool { window, .. } => window.is_of_one_column(),
        }
    }
}

impl RowsStep {
    /// A step of such an operation alone, or an error where it does not fit its tensors.
    pub(super) fn new(
        op: RowsOp,
        tensors: &[PlannedTensor],
        ends: Ends,
        workers: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<RowsStep> {
        let input = ends.input(tensors)?.shape;
        let second = ends.residual.and_then(|second| tensors.get(second));
        if matches!(op, RowsOp::Join { .. }) != second.is_some() {
            return Err(Error::Network(text(format_args!("an operation of another number of tensors"))?));
        }
        let out = op.output(input, second.map(|second| second.shape))?;
        ends.check(tensors, out, second.map(|second| second.shape))?;
        let mut extent = Extent { before: [0, 0], after: [0, 0], out: [out.h, out.w] };
        if let RowsOp::Pool { window, .. } = op {
            extent = window.over([input.h, input.w])?;
        }
        // rows that are transposed stay in L2
        let rows_in = if let RowsOp::Pool { window, .. } = op { window.stride[0].min(input.h) } else { 1 };
        let row = product(&[out.w.max(input.w.saturating_mul(rows_in)), out.c.next_multiple_of(BLOCK)])?;
        let group = rows_within(thresholds.staged_values, row, out.h);
        let planes = |tensor: usize| tensors[tensor].layout.order == Order::Planes;
        let staged = [Some(ends.input), ends.residual, Some(ends.output)];
        let group = if staged.into_iter().flatten().any(planes) { group } else { out.h };
        let blocks = out.c.div_ceil(BLOCK);
        let read = op.most_rows_read(group).min(input.h);
        let of_input = Staging::new(&tensors[ends.input], read, blocks, scratch)?;
        let of_second = match ends.residual {
            Some(second) => Staging::new(&tensors[second], group.min(tensors[second].shape.h), blocks, scratch)?,
            None => None,
        };
        let of_output = Staging::new(&tensors[ends.output], group, blocks, scratch)?;
        let parts = workers.min(out.n * out.h);
        Ok(RowsStep { op, ends, extent, group, parts, staging: [of_input, of_second, of_output] })
    }
}

impl RowsOp {
    /// The values that it goes over: those of the larger end, as often as a window has taps.
    pub(super) fn values(&self, input: Shape, output: Shape) -> Result<usize> {
        let taps = match self {
            RowsOp::Pool { window, .. } => window.kernel[0].saturating_mul(window.kernel[1]),
            RowsOp::Join { .. } | RowsOp::Copy { .. } => 1,
        };
        Ok(input.len()?.max(output.len()?.saturating_mul(taps)))
    }

    /// The input rows, of `height`, that some output rows read.
    pub(crate) fn rows_read(&self, rows: &Range<usize>, height: usize, extent: &Extent) -> Range<usize> {
        match self {
            RowsOp::Join { .. } => rows.clone(),
            RowsOp::Copy { factors: [by, _] } => rows.start / by..(rows.end - 1) / by + 1,
            RowsOp::Pool { window, .. } => window.rows_needed(rows, extent.before[0], height),
        }
    }

    /// The most input rows that any `rows` output rows read.
    fn most_rows_read(&self, rows: usize) -> usize {
        match self {
            RowsOp::Join { .. } => rows,
            RowsOp::Copy { factors: [by, _] } => (rows - 1).div_ceil(*by) + 1,
            RowsOp::Pool { window, .. } => (rows - 1).saturating_mul(window.stride[0]).saturating_add(window.reach(0)),
        }
    }
}
