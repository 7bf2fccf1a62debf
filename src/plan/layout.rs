//! Where tensors lie: the layout of each, and its place in the arena.

use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::RowLayout;

use super::cost::Thresholds;
use super::lower::{Draft, DraftKind};
use crate::memory::{LINE, collect, product, push};
use crate::tensor::ElementType;
use crate::{Error, Layout, Result, Shape, Strides};

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Input,
    Output,
    /// Bytes from the start of the arena.
    Arena(usize),
}

/// The order of the axes of a tensor in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The channels of a pixel lie together: a caller's NHWC tensor.
    Pixels,
    /// Each channel is a plane: a caller's NCHW tensor, or one of any strides.
    Planes,
    /// Channel blocks: every block has room for 16 channels, and all lanes may be read and written.
    Blocks,
}

/// How the values of a tensor lie. All fields count elements.
///
/// Value `(n, y, x, c)` is at `origin + n × image + y × row + (c / 16) × block + x × pixel + (c % 16) × channel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorLayout {
    pub(crate) order: Order,
    /// The first pixel of the first row.
    pub(crate) origin: usize,
    /// From one image to the next.
    pub(crate) image: usize,
    /// From one row to the next.
    pub(crate) row: usize,
    pub(crate) within: RowLayout,
    /// From one channel of a block to the next: 1 unless each channel is a plane.
    pub(crate) channel: usize,
    /// Columns of zeros on each side of a row.
    pub(crate) columns: [usize; 2],
}

impl TensorLayout {
    /// A tensor of a caller, by its strides, whose span was checked.
    pub(crate) fn of_caller(layout: Layout, shape: Shape, strides: Strides) -> TensorLayout {
        let dense = Strides::dense(layout, shape);
        // the stride of an axis of length 1 may be any number, and is multiplied by 0 alone
        let along = |len: usize, stride: usize, dense: usize| if len > 1 { stride } else { dense };
        let (pixel, channel) =
            (along(shape.w, strides.pixel, dense.pixel), along(shape.c, strides.channel, dense.channel));
        TensorLayout {
            order: match layout {
                Layout::Nhwc => Order::Pixels,
                Layout::Nchw => Order::Planes,
            },
            origin: 0,
            image: along(shape.n, strides.image, dense.image),
            row: along(shape.h, strides.row, dense.row),
            // a tensor of a single block has no second one
            within: RowLayout { block: channel.saturating_mul(BLOCK), pixel },
            channel,
            columns: [0, 0],
        }
    }

    /// Dense NHWC.
    pub(crate) fn nhwc(shape: Shape) -> TensorLayout {
        TensorLayout::dense(Layout::Nhwc, shape)
    }

    /// A dense tensor of a caller.
    pub(super) fn dense(layout: Layout, shape: Shape) -> TensorLayout {
        TensorLayout::of_caller(layout, shape, Strides::dense(layout, shape))
    }

    /// Rows of channel blocks with columns of zeros on both sides; an error where all of them together are too long.
    pub(crate) fn blocked(shape: Shape, columns: [usize; 2]) -> Result<TensorLayout> {
        let [left, right] = columns;
        let width = left.saturating_add(shape.w).saturating_add(right);
        let block = product(&[width, BLOCK])?;
        let row = product(&[block, shape.c.div_ceil(BLOCK)])?;
        product(&[shape.n, shape.h, row])?;
        Ok(TensorLayout {
            order: Order::Blocks,
            origin: left * BLOCK,
            image: shape.h * row,
            row,
            within: RowLayout { block, pixel: BLOCK },
            channel: 1,
            columns,
        })
    }

    /// Whether every block has room for 16 channels.
    pub(crate) fn is_whole(&self) -> bool {
        self.order == Order::Blocks
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
    /// None of a whole tensor.
    pub(crate) section: Option<SectionOf>,
}

/// What a section of columns is a part of. The run says at which column it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectionOf {
    /// Columns of the tensor.
    pub(super) width: usize,
    /// Columns of zeros on each side of a row of the tensor.
    columns: [usize; 2],
    /// The end of the step whose columns count: 0 for its input, 1 for its output.
    pub(crate) end: usize,
}

impl PlannedTensor {
    /// A section of `width` columns, for an end of a step, that takes in the columns of zeros at the sides that it reaches.
    pub(super) fn section(&self, width: usize, end: usize, reaches: [bool; 2]) -> PlannedTensor {
        let [left, right] = self.layout.columns;
        let kept = |columns: usize, reaches: bool| if reaches { columns } else { 0 };
        let mut layout = self.layout;
        layout.columns = [kept(left, reaches[0]), kept(right, reaches[1])];
        layout.origin = kept(layout.origin, reaches[0]);
        let section = Some(SectionOf { width: self.shape.w, columns: self.layout.columns, end });
        PlannedTensor { shape: Shape { w: width, ..self.shape }, layout, section, ..*self }
    }

    /// The shape and the layout of the tensor, or of the one that it is a section of.
    pub(super) fn whole(&self) -> (Shape, TensorLayout) {
        match self.section {
            None => (self.shape, self.layout),
            Some(SectionOf { width, columns, .. }) => {
                let origin = if self.layout.is_whole() { columns[0] * BLOCK } else { 0 };
                (Shape { w: width, ..self.shape }, TensorLayout { columns, origin, ..self.layout })
            }
        }
    }

    /// Values from the first of the tensor to the first of a section that begins at its first column.
    pub(crate) fn section_origin(&self) -> usize {
        self.whole().1.origin - self.layout.origin
    }
}

/// A layout for each tensor: the caller's for the first and the last, and else the one that the step which reads it needs.
pub(super) fn layouts(
    shapes: &[Shape],
    [first, last]: [Layout; 2],
    drafts: &[Draft],
    thresholds: &Thresholds,
) -> Result<Vec<TensorLayout>> {
    let mut layouts = collect("plan", shapes.iter().map(|&shape| TensorLayout::nhwc(shape)))?;
    layouts[0] = TensorLayout::dense(first, shapes[0]);
    layouts[shapes.len() - 1] = TensorLayout::dense(last, shapes[shapes.len() - 1]);
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
