//! What a plan runs: steps over tensors, in one memory.
//!
//! ```text
//!   ops, network ──▶ Node ──lower──▶ Step + Tensor ──run──▶ kernels
//! ```
//!
//! An operator and a network come down to the same thing: a list of [`Node`]s. [`lower`] turns each into one step
//! (fused) or several, gives every tensor between them a layout and a place in the arena, and sizes the scratch of a
//! worker. A step is cut into pieces. No two pieces write the same value. [`crate::team`] decides which worker runs a
//! piece.
//!
//! Here slices become pointers. Outside of it and of `kernels`, unsafe code is in the plan that enters it, the meeting of workers
//! (`team/meeting.rs`), the one-shot call on the `gemm` crate, `memory.rs`, and what C calls (`capi`). What makes it sound is said
//! once: every offset is computed from the shapes that
//! the plan was made for, `Plan::run` checks that slices have those shapes, and the scratch comes from the same plan.

mod chain;
mod conv;
pub(crate) mod cost;
mod group;
mod legal;
mod lower;
mod pool;
mod table;

use sepconv_kernels::pack::RowLayout;
use sepconv_kernels::{BLOCK, Kernels};

use crate::memory::{Aligned, Arc, product};
use crate::shape::Window;
use crate::{Fusion, Result, Shape};

pub(crate) use chain::ChainStep;
pub(crate) use conv::ConvStep;
use cost::Thresholds;
pub(crate) use legal::{Chain, channels};
pub(crate) use lower::{Program, Refused, lower, shapes_of};
pub(crate) use pool::PoolStep;
use table::PixelTable;

/// A standard convolution, packed: taps in the order of rows, columns and input channels, 16 outputs a panel.
#[derive(Debug)]
pub(crate) struct Conv {
    pub(crate) window: Window,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) clamp: [f32; 2],
    pub(crate) weights: Aligned,
}

/// A depthwise convolution, packed.
#[derive(Debug)]
pub(crate) struct Depthwise {
    pub(crate) window: Window,
    pub(crate) inputs: usize,
    pub(crate) multiplier: usize,
    pub(crate) clamp: [f32; 2],
    pub(crate) weights: Aligned,
}

impl Conv {
    /// Values that one output is the sum of.
    pub(crate) fn k(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.inputs
    }

    /// Whether every output pixel reads the one input pixel at its place.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1]
            && self.window.stride == [1, 1]
            && self.window.over([1, 1]).is_ok_and(|e| e.before == [0, 0] && e.out == [1, 1])
    }
}

impl Depthwise {
    pub(crate) fn outputs(&self) -> usize {
        self.inputs * self.multiplier
    }
}

/// What lowering takes: one layer, whose stages may run as one.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Stages that may run as one step, and whether the input is added to the output where the shapes are the same.
    Chain { chain: Chain, shortcut: bool },
    /// The mean over the plane.
    Pool { channels: usize },
}

impl Node {
    /// Input channels and output channels.
    pub(crate) fn channels(&self) -> [usize; 2] {
        match self {
            Node::Pool { channels } => [*channels; 2],
            Node::Chain { chain, .. } => chain.channels(),
        }
    }

    /// A layer of one convolution, which errors call `name`.
    pub(crate) fn conv(name: &'static str, conv: Arc<Conv>) -> Result<Node> {
        Node::chain([name; 3], Some(conv), None, None)
    }

    /// A layer of these stages without a shortcut, or why they are none. Errors call the stages by `names`.
    pub(crate) fn chain(
        names: [&'static str; 3],
        head: Option<Arc<Conv>>,
        depthwise: Option<Arc<Depthwise>>,
        tail: Option<Arc<Conv>>,
    ) -> Result<Node> {
        let chain = Chain::new(head, depthwise, tail).map_err(|misfit| misfit.named(names))?;
        Ok(Node::Chain { chain, shortcut: false })
    }
}

/// What a program is lowered for.
#[derive(Debug)]
pub(crate) struct Lowering {
    pub(crate) fusion: Fusion,
    /// Threads that share out each step: at least 1.
    pub(crate) workers: usize,
    pub(crate) kernels: &'static Kernels,
    pub(crate) thresholds: Thresholds,
}

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Input,
    Output,
    /// Values from the start of the arena.
    Arena(usize),
}

/// How a tensor's values lie, counted from its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The first pixel of the first row.
    pub(crate) origin: usize,
    /// From one row to the next; images follow each other without a gap.
    pub(crate) row: usize,
    pub(crate) within: RowLayout,
    /// Whether every block has room for 16 channels: all lanes may be read and written.
    pub(crate) whole: bool,
    /// Columns of zeros on each side of a row.
    pub(crate) columns: [usize; 2],
}

impl Layout {
    /// NHWC, pixels `stride` apart.
    pub(crate) fn nhwc(shape: Shape, stride: usize) -> Layout {
        Layout {
            origin: 0,
            row: shape.w * stride,
            within: RowLayout { block: BLOCK, pixel: stride },
            whole: false,
            columns: [0, 0],
        }
    }

    /// Rows of channel blocks with columns of zeros on both sides; an error where all of them together are too long.
    pub(crate) fn blocked(shape: Shape, columns: [usize; 2]) -> Result<Layout> {
        let [left, right] = columns;
        let width = left.saturating_add(shape.w).saturating_add(right);
        let block = product(&[width, BLOCK])?;
        let row = product(&[block, shape.c.div_ceil(BLOCK)])?;
        product(&[shape.n, shape.h, row])?;
        Ok(Layout { origin: left * BLOCK, row, within: RowLayout { block, pixel: BLOCK }, whole: true, columns })
    }
}

/// A tensor between steps, or one of the caller's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor {
    pub(crate) shape: Shape,
    pub(crate) place: Place,
    /// Of the caller's tensors the pixel stride is only known at a run: there it is taken from the view.
    pub(crate) layout: Layout,
}

/// The tensors that a step reads and writes, by their places in the program's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// What is added to the output.
    pub(crate) residual: Option<usize>,
}

/// A tensor at a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) ptr: *mut f32,
    pub(crate) shape: Shape,
    pub(crate) layout: Layout,
}

impl Bound {
    /// From the first value to row `y` of image `n`.
    fn row(&self, n: usize, y: usize) -> usize {
        self.layout.origin + (n * self.shape.h + y) * self.layout.row
    }
}

/// Memory and kernels of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) tensors: &'a [Tensor],
    pub(crate) input: *const f32,
    pub(crate) input_stride: usize,
    pub(crate) output: *mut f32,
    pub(crate) output_stride: usize,
    pub(crate) arena: *mut f32,
}

impl Run<'_> {
    fn bind(&self, tensor: usize) -> Bound {
        let Tensor { shape, place, layout } = self.tensors[tensor];
        match place {
            Place::Input => Bound { ptr: self.input.cast_mut(), shape, layout: Layout::nhwc(shape, self.input_stride) },
            Place::Output => Bound { ptr: self.output, shape, layout: Layout::nhwc(shape, self.output_stride) },
            // SAFETY: lowering gave the tensor a place inside the arena
            Place::Arena(at) => Bound { ptr: unsafe { self.arena.add(at) }, shape, layout },
        }
    }
}

/// A step: it runs when the one before is done.
#[derive(Debug)]
pub(crate) enum Step {
    Conv(Arc<ConvStep>),
    Chain(Arc<ChainStep>),
    Pool(PoolStep),
}

impl Step {
    /// Into how many pieces it is cut.
    pub(crate) fn pieces(&self) -> usize {
        match self {
            Step::Conv(step) => step.pieces(),
            Step::Chain(step) => step.pieces(),
            Step::Pool(step) => step.pieces(),
        }
    }

    /// Runs one piece.
    ///
    /// # Safety
    /// `run` is bound to slices of the shapes that the plan was made for and to an arena of its size; `scratch` is a
    /// worker's own region of the size that lowering found. No other thread runs this piece, and all earlier steps are
    /// done.
    pub(crate) unsafe fn run(&self, run: &Run<'_>, piece: usize, scratch: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Step::Conv(step) => step.run(run, piece, scratch),
                Step::Chain(step) => step.run(run, piece, scratch),
                Step::Pool(step) => step.run(run, piece),
            }
        }
    }
}

/// The `part`th of `parts` almost equal ranges of `0..len`.
pub(crate) fn share(len: usize, parts: usize, part: usize) -> core::ops::Range<usize> {
    let (each, longer) = (len / parts, len % parts);
    let start = part * each + part.min(longer);
    start..start + each + usize::from(part < longer)
}

/// Channels of some channel blocks of a tensor of `channels`, of which the last block may have fewer than 16.
///
/// Blocks are a [`share`] of as many as hold these channels, and steps are only made where stages agree on that number, so
/// that there is at least one.
fn lanes(blocks: &core::ops::Range<usize>, channels: usize) -> usize {
    debug_assert!(blocks.start < blocks.end && blocks.start * BLOCK < channels, "{blocks:?} of {channels} channels");
    (blocks.end * BLOCK).min(channels) - blocks.start * BLOCK
}

/// What share of `count` equal parts the busiest of `workers` has.
fn busiest(count: usize, workers: usize) -> f64 {
    count.div_ceil(workers) as f64 / count as f64
}

/// Fills the columns of zeros beside `rows` rows of channel blocks that begin at `first`.
///
/// # Safety
/// `first` is the first value, padding included, of rows laid out as `layout` says for `width` pixels and `blocks`
/// blocks.
unsafe fn zero_columns(first: *mut f32, rows: usize, layout: &Layout, width: usize, blocks: usize) {
    let [left, right] = layout.columns;
    for y in 0..rows {
        for b in 0..blocks {
            // SAFETY: the caller's.
            unsafe {
                let row = first.add(y * layout.row + b * layout.within.block);
                zero_pixels(row, left);
                zero_pixels(row.add((left + width) * BLOCK), right);
            }
        }
    }
}

/// Fills `pixels` pixels of a block with zeros.
///
/// # Safety
/// They are writable.
unsafe fn zero_pixels(at: *mut f32, pixels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match pixels {
            0 => {}
            // nearly always; a call for each line took half a percent of MobileNetV1, and two of a narrow one
            1 => at.cast::<[f32; BLOCK]>().write([0.0; BLOCK]),
            _ => at.write_bytes(0, pixels * BLOCK),
        }
    }
}

/// The longest run of output rows that a step takes at once, so that `values` a row stay below `budget`.
fn rows_within(budget: usize, values: usize, rows: usize) -> usize {
    (budget / values.max(1)).clamp(1, rows.max(1))
}
