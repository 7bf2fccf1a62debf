//! Where tensors lie: the layout of each, and its place in the arena.

use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::RowLayout;

use super::cost::Thresholds;
use super::lower::{Draft, DraftKind};
use crate::memory::{LINE, collect, product, push};
use crate::tensor::ElementType;
use crate::{Error, Result, Shape};

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Input,
    Output,
    /// Bytes from the start of the arena.
    Arena(usize),
}

/// How the values of a tensor lie. All fields count elements.
///
/// Value `(n, y, x, c)` is at `origin + n × image + y × row + (c / 16) × block + x × pixel + c % 16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorLayout {
    /// The first pixel of the first row.
    pub(crate) origin: usize,
    /// From one image to the next.
    pub(crate) image: usize,
    /// From one row to the next.
    pub(crate) row: usize,
    pub(crate) within: RowLayout,
    /// Whether every block has room for 16 channels: all lanes may be read and written.
    pub(crate) whole: bool,
    /// Columns of zeros on each side of a row.
    pub(crate) columns: [usize; 2],
}

impl TensorLayout {
    /// NHWC, pixels `stride` apart.
    pub(crate) fn nhwc(shape: Shape, stride: usize) -> TensorLayout {
        TensorLayout {
            origin: 0,
            image: shape.h * shape.w * stride,
            row: shape.w * stride,
            within: RowLayout { block: BLOCK, pixel: stride },
            whole: false,
            columns: [0, 0],
        }
    }

    /// Rows of channel blocks with columns of zeros on both sides; an error where all of them together are too long.
    pub(crate) fn blocked(shape: Shape, columns: [usize; 2]) -> Result<TensorLayout> {
        let [left, right] = columns;
        let width = left.saturating_add(shape.w).saturating_add(right);
        let block = product(&[width, BLOCK])?;
        let row = product(&[block, shape.c.div_ceil(BLOCK)])?;
        product(&[shape.n, shape.h, row])?;
        let within = RowLayout { block, pixel: BLOCK };
        Ok(TensorLayout { origin: left * BLOCK, image: shape.h * row, row, within, whole: true, columns })
    }

    /// From the first value to row `y` of image `n`.
    pub(crate) fn row_of(&self, n: usize, y: usize) -> usize {
        self.origin + n * self.image + y * self.row
    }
}

/// A tensor between steps, or one of the caller's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedTensor {
    pub(crate) shape: Shape,
    pub(crate) element: ElementType,
    pub(crate) place: Place,
    /// Of the caller's tensors the strides are only known at a run: there they are taken from the view.
    pub(crate) layout: TensorLayout,
}

/// A layout for each tensor: the one that the step which reads it needs.
pub(super) fn layouts(shapes: &[Shape], drafts: &[Draft], thresholds: &Thresholds) -> Result<Vec<TensorLayout>> {
    let mut layouts = collect("plan", shapes.iter().map(|&s| TensorLayout::nhwc(s, s.c)))?;
    for draft in drafts.iter().skip(1) {
        let shape = shapes[draft.input];
        let columns = match &draft.kind {
            DraftKind::Conv(chain) | DraftKind::Chain { chain, .. } => match (chain.head(), chain.depthwise()) {
                // the window is copied from dense pixels
                (Some(head), _) if !head.op.is_pointwise() => continue,
                (None, Some(depthwise)) if depthwise.op.multiplier == 1 => {
                    let extent = depthwise.op.window.over([shape.h, shape.w])?;
                    [extent.before[1], extent.after[1]]
                }
                _ => [0, 0],
            },
            DraftKind::Pool => [0, 0],
        };
        let fits = columns[0].saturating_add(columns[1]) <= shape.w.max(thresholds.padding_columns);
        layouts[draft.input] = TensorLayout::blocked(shape, if fits { columns } else { [0, 0] })?;
    }
    Ok(layouts)
}

/// A place for each tensor: the caller's, or the lowest of the arena that no tensor alive at the same time takes. Returns the
/// bytes of the arena as well.
pub(super) fn places(
    layouts: &[TensorLayout],
    shapes: &[Shape],
    element: ElementType,
    drafts: &[Draft],
) -> Result<(Vec<Place>, usize)> {
    let last = shapes.len() - 1;
    let mut places = collect("plan", shapes.iter().map(|_| Place::Input))?;
    places[last] = Place::Output;
    // the last step that reads each tensor
    let mut dies = collect("plan", shapes.iter().map(|_| 0))?;
    for (s, draft) in drafts.iter().enumerate() {
        dies[draft.input] = s;
        if let Some(r) = draft.residual {
            dies[r] = s;
        }
    }
    let mut alive: Vec<(usize, usize, usize)> = Vec::new();
    let mut arena = 0;
    for (s, draft) in drafts.iter().enumerate() {
        let t = draft.output;
        if t == last {
            break;
        }
        alive.retain(|&(_, _, tensor)| dies[tensor] >= s);
        alive.sort_unstable();
        let too_large = Error::TooLarge { what: "arena", shape: shapes[t] };
        let len = product(&[shapes[t].n, layouts[t].image, element.bytes()])?
            .checked_next_multiple_of(LINE)
            .ok_or_else(|| too_large.clone())?;
        let mut at = 0;
        for &(start, end, _) in &alive {
            if start.saturating_sub(at) >= len {
                break;
            }
            at = end;
        }
        let end = at.checked_add(len).ok_or(too_large)?;
        places[t] = Place::Arena(at);
        push("plan", &mut alive, (at, end, t))?;
        arena = arena.max(end);
    }
    Ok((places, arena))
}
