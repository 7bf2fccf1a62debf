//! Where tensors lie: the layout of each, and its place in the arena.

use core::ops::Range;

use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::RowLayout;

use super::cost::Thresholds;
use super::lower::{Draft, DraftKind, DraftTensor};
use crate::memory::{LINE, collect, product, push};
use crate::tensor::ElementType;
use crate::{Error, Layout, Result, Shape, Strides};

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A tensor of the caller's that is read, by its number.
    Input(usize),
    /// A tensor of the caller's that is written, by its number. Steps behind the one that wrote it may read it.
    Output(usize),
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
    /// None of a tensor with all of its channels.
    pub(crate) slice: Option<SliceOf>,
}

/// Which values of another tensor, the whole, a tensor is: some channels, or the pixels of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceOf {
    /// The first channel; of channel blocks a multiple of 16.
    pub(crate) first: usize,
    /// The first row and column.
    pub(crate) at: [usize; 2],
    /// Rows, and columns, from one of its own to the next.
    pub(crate) step: [usize; 2],
    /// The shape of the whole.
    pub(super) whole: Shape,
}

impl SliceOf {
    /// The layout of the slice, of that of the whole.
    pub(crate) fn layout(&self, whole: TensorLayout) -> TensorLayout {
        let [rows, columns] = self.step;
        let within = RowLayout { pixel: whole.within.pixel.wrapping_mul(columns), ..whole.within };
        TensorLayout { row: whole.row.wrapping_mul(rows), within, ..whole }
    }

    /// The layout of the whole, of that of the slice.
    fn layout_of_whole(&self, layout: TensorLayout) -> TensorLayout {
        let [rows, columns] = self.step;
        let within = RowLayout { pixel: layout.within.pixel / columns, ..layout.within };
        TensorLayout { row: layout.row / rows, within, ..layout }
    }

    /// Values from the first of the whole, whose layout this is, to the first of the slice.
    pub(crate) fn offset(&self, whole: &TensorLayout) -> usize {
        let [y, x] = self.at;
        self.first / BLOCK * whole.within.block
            + self.first % BLOCK * whole.channel
            + y * whole.row
            + x * whole.within.pixel
    }
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

    /// The shape and the layout of the tensor, or of the one that it is a section or a slice of.
    pub(super) fn whole(&self) -> (Shape, TensorLayout) {
        if let Some(slice) = self.slice {
            let (_, layout) = PlannedTensor { slice: None, ..*self }.whole();
            return (slice.whole, slice.layout_of_whole(layout));
        }
        match self.section {
            None => (self.shape, self.layout),
            Some(SectionOf { width, columns, .. }) => {
                let origin = if self.layout.is_whole() { columns[0] * BLOCK } else { 0 };
                (Shape { w: width, ..self.shape }, TensorLayout { columns, origin, ..self.layout })
            }
        }
    }

    /// The layout of the tensor, or of the one that it is a slice of.
    pub(crate) fn unsliced(&self) -> TensorLayout {
        self.slice.map_or(self.layout, |slice| slice.layout_of_whole(self.layout))
    }

    /// The channels of the whole tensor that it has.
    pub(super) fn channels(&self) -> Range<usize> {
        let first = self.slice.map_or(0, |slice| slice.first);
        first..first + self.shape.c
    }

    /// Whether both are slices of one whole that have no value in common.
    pub(super) fn is_beside(&self, other: &PlannedTensor) -> bool {
        if self.place != other.place || self.whole() != other.whole() {
            return false;
        }
        let [a, b] = [self.channels(), other.channels()];
        let of_grid = |tensor: &PlannedTensor| tensor.slice.map_or(([0, 0], [1, 1]), |slice| (slice.at, slice.step));
        let ((at, step), (others, others_step)) = (of_grid(self), of_grid(other));
        a.end <= b.start || b.end <= a.start || (step == others_step && at != others)
    }

    /// Whether it lies in memory of the caller's.
    pub(crate) fn is_of_caller(&self) -> bool {
        !matches!(self.place, Place::Arena(_))
    }

    /// Values from the first of the tensor to the first of a section that begins at its first column.
    pub(crate) fn section_origin(&self) -> usize {
        self.whole().1.origin - self.layout.origin
    }
}

/// A layout for each tensor: the caller's, and else the one that the steps which read it need. A slice has the layout of its whole.
pub(super) fn layouts(
    tensors: &[DraftTensor],
    [first, last]: [Layout; 2],
    drafts: &[Draft],
    thresholds: &Thresholds,
) -> Result<Vec<TensorLayout>> {
    let mut needs = collect("plan", tensors.iter().map(|_| Needs::default()))?;
    for draft in drafts {
        let whole = whole_of(tensors, draft.input).whole;
        needs[whole].add(draft, tensors[draft.input].shape)?;
        if let Some(residual) = draft.residual {
            needs[whole_of(tensors, residual).whole].blocks = true;
        }
    }
    for tensor in 0..tensors.len() {
        let DraftSlice { whole, first, step, .. } = whole_of(tensors, tensor);
        needs[whole].uneven |= !first.is_multiple_of(BLOCK);
        needs[whole].grid |= step != [1, 1];
    }
    let layout = |tensor: usize| {
        let whole = whole_of(tensors, tensor).whole;
        let DraftTensor { shape, caller, .. } = tensors[whole];
        match caller {
            Some(Place::Input(_)) => Ok(TensorLayout::dense(first, shape)),
            Some(_) => Ok(TensorLayout::dense(last, shape)),
            None => needs[whole].layout(shape, thresholds),
        }
    };
    let mut layouts = Vec::new();
    for tensor in 0..tensors.len() {
        push("plan", &mut layouts, layout(tensor)?)?;
    }
    Ok(layouts)
}

/// Which part of another tensor a tensor is.
#[derive(Clone, Copy, Debug)]
pub(super) struct DraftSlice {
    pub(super) whole: usize,
    /// The first channel, row and column.
    pub(super) first: usize,
    pub(super) at: [usize; 2],
    /// Rows, and columns, from one of its own to the next.
    pub(super) step: [usize; 2],
}

impl DraftSlice {
    /// Channels from `first` on of a tensor.
    pub(super) fn of_channels(whole: usize, first: usize) -> DraftSlice {
        DraftSlice { whole, first, at: [0, 0], step: [1, 1] }
    }
}

/// The part of another tensor that a tensor is, where that one is part of no other; all of the tensor itself, where it is no part.
pub(super) fn whole_of(tensors: &[DraftTensor], tensor: usize) -> DraftSlice {
    let mut part = DraftSlice::of_channels(tensor, 0);
    while let Some(outer) = tensors[part.whole].slice {
        let along = |axis: usize| outer.at[axis] + outer.step[axis] * part.at[axis];
        part = DraftSlice {
            whole: outer.whole,
            first: outer.first + part.first,
            at: [along(0), along(1)],
            step: [0, 1].map(|axis| outer.step[axis] * part.step[axis]),
        };
    }
    part
}

/// What the steps that read a tensor need of its layout.
#[derive(Clone, Default)]
struct Needs {
    /// Some step reads channel blocks.
    blocks: bool,
    /// Columns of zeros of the first depthwise convolution that reads it in place.
    columns: Option<[usize; 2]>,
    /// A slice begins within a block.
    uneven: bool,
    /// A slice is a grid of pixels: the step that writes it fills no columns of zeros.
    grid: bool,
    /// Some step copies a window from dense pixels.
    pixels: bool,
}

impl Needs {
    /// Adds the step that reads `shape` of the tensor.
    fn add(&mut self, draft: &Draft, shape: Shape) -> Result<()> {
        if let DraftKind::Conv(chain) | DraftKind::Chain { chain, .. } = &draft.kind {
            match (chain.head(), chain.depthwise()) {
                (Some(head), _) if !head.op.is_pointwise() => {
                    self.pixels = true;
                    return Ok(());
                }
                (None, Some(depthwise)) if depthwise.op.multiplier == 1 && self.columns.is_none() => {
                    let extent = depthwise.op.window.over([shape.h, shape.w])?;
                    self.columns = Some([extent.before[1], extent.after[1]]);
                }
                _ => {}
            }
        }
        self.blocks = true;
        Ok(())
    }

    fn layout(&self, shape: Shape, thresholds: &Thresholds) -> Result<TensorLayout> {
        if self.uneven || (self.pixels && !self.blocks) {
            return Ok(TensorLayout::nhwc(shape));
        }
        let [left, right] = self.columns.filter(|_| !self.grid).unwrap_or_default();
        let fits = left.saturating_add(right) <= shape.w.max(thresholds.padding_columns);
        TensorLayout::blocked(shape, if fits { [left, right] } else { [0, 0] })
    }
}

/// How often the tensors of the arena are placed anew for each order of them.
const MOST_TURNS: usize = 16;
/// How many pairs of tensors such turns may look at, so that planning a large network takes milliseconds.
const MOST_STEPS: usize = 1 << 20;

/// A tensor of the arena: its bytes, and the first and the last step at which it is alive.
#[derive(Clone, Copy)]
struct Life {
    tensor: usize,
    bytes: usize,
    steps: [usize; 2],
}

/// The memory of the tensors between steps.
pub(super) struct Arena {
    /// Of each tensor.
    pub(super) places: Vec<Place>,
    pub(super) bytes: usize,
    /// The most bytes that are alive at one step: no arena has fewer.
    pub(super) least: usize,
}

/// A place for each tensor: the caller's, or one of the arena that no tensor alive at the same time takes.
///
/// Each tensor takes the lowest place that is free. Which tensor comes first decides how tight they lie, so several orders are tried, and
/// changed by what they lead to.
pub(super) fn places(
    layouts: &[TensorLayout],
    tensors: &[DraftTensor],
    element: ElementType,
    drafts: &[Draft],
) -> Result<Arena> {
    let mut lives: Vec<Life> = Vec::new();
    let mut life_of = collect("plan", tensors.iter().map(|_| usize::MAX))?;
    for (step, draft) in drafts.iter().enumerate() {
        for tensor in [Some(draft.input), draft.residual, Some(draft.output)].into_iter().flatten() {
            let whole = whole_of(tensors, tensor).whole;
            let DraftTensor { shape, caller, .. } = tensors[whole];
            if caller.is_some() {
                continue;
            }
            if life_of[whole] == usize::MAX {
                life_of[whole] = lives.len();
                let bytes = product(&[shape.n, layouts[whole].image, element.bytes()])?
                    .checked_next_multiple_of(LINE)
                    .ok_or(Error::TooLarge { what: "arena", shape })?;
                push("plan", &mut lives, Life { tensor: whole, bytes, steps: [step, step] })?;
            }
            lives[life_of[whole]].steps[1] = step;
        }
    }
    let least = most_alive(&lives, drafts.len())?;
    let mut best = lowest_places(&lives, tensors)?;
    let length = |life: &Life| life.steps[1] - life.steps[0];
    // each turn takes time by the square of the number of tensors
    let turns = MOST_TURNS.min(MOST_STEPS / lives.len().saturating_mul(lives.len()).max(1));
    for order in 0..if best.1 == least || turns == 0 { 0 } else { 3 } {
        // the number of the tensor comes last, so that an order is one
        lives.sort_unstable_by_key(|life| {
            let key = match order {
                0 => (life.bytes, 0),
                1 => (life.bytes, length(life)),
                _ => (length(life), life.bytes),
            };
            (core::cmp::Reverse(key), life.tensor)
        });
        // what lies at the end of the arena comes first the next time
        for _ in 0..turns {
            let packed = lowest_places(&lives, tensors)?;
            let end = |life: &Life| packed.0[life.tensor] + life.bytes;
            let last = lives.iter().position(|life| end(life) == packed.1).unwrap_or(0);
            if packed.1 < best.1 {
                best = packed;
            }
            if best.1 == least || last == 0 {
                break;
            }
            lives[..=last].rotate_right(1);
        }
    }
    let (of_whole, bytes) = best;
    let place = |tensor: usize| {
        let whole = whole_of(tensors, tensor).whole;
        tensors[whole].caller.unwrap_or(Place::Arena(of_whole[whole]))
    };
    Ok(Arena { places: collect("plan", (0..tensors.len()).map(place))?, bytes, least })
}

/// The most bytes that are alive at one of so many steps.
fn most_alive(lives: &[Life], steps: usize) -> Result<usize> {
    let mut begins = collect("plan", (0..=steps).map(|_| 0usize))?;
    let mut ends = collect("plan", (0..=steps).map(|_| 0usize))?;
    for life in lives {
        let [born, dies] = life.steps;
        begins[born] = begins[born].saturating_add(life.bytes);
        ends[dies + 1] = ends[dies + 1].saturating_add(life.bytes);
    }
    let (mut alive, mut most) = (0usize, 0);
    for (begins, ends) in begins.into_iter().zip(ends) {
        // a sum that saturates is one that no arena has
        alive = alive.saturating_sub(ends).saturating_add(begins);
        most = most.max(alive);
    }
    Ok(most)
}

/// The lowest place for each tensor, in this order, and the bytes of all.
fn lowest_places(lives: &[Life], tensors: &[DraftTensor]) -> Result<(Vec<usize>, usize)> {
    let mut places = collect("plan", tensors.iter().map(|_| 0))?;
    // of the tensors placed so far, by their places
    let mut placed: Vec<(usize, usize, [usize; 2])> = Vec::new();
    let mut arena = 0;
    for life in lives {
        let [born, dies] = life.steps;
        let mut at = 0;
        for &(start, end, [from, to]) in &placed {
            if to < born || dies < from {
                continue;
            }
            if start.saturating_sub(at) >= life.bytes {
                break;
            }
            at = at.max(end);
        }
        let shape = tensors[life.tensor].shape;
        let end = at.checked_add(life.bytes).ok_or(Error::TooLarge { what: "arena", shape })?;
        places[life.tensor] = at;
        let sorted = placed.partition_point(|&(start, ..)| start < at);
        push("plan", &mut placed, (at, end, life.steps))?;
        placed[sorted..].rotate_right(1);
        arena = arena.max(end);
    }
    Ok((places, arena))
}
