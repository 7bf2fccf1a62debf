//! A row of sums, or of products, of two tensors.
//!
//! ```text
//!   out[p][c] = epilogue(x[p][c] + y[p][c])      or ×, for each pixel p of the row and each channel c
//! ```
//!
//! `y` may be one pixel for the whole row: a scale by channel, as squeeze-and-excite has it. A row without gaps between pixels is one pixel
//! of more channels to the kernel, so that vectors run over the ends of pixels. `docs/kernels/rows.md` has more.

use crate::simd::{PixelOffsets, Vector, load, store};
use crate::{Activate, ActivateArgs, BLOCK, Epilogue, Kernel, Level};

/// How two values are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// By their sum.
    Sum,
    /// By their product.
    Product,
}

/// A row of pixels. Distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct RowPixels<P> {
    /// The first pixel.
    pub ptr: P,
    /// From one pixel to the next.
    pub pixel: usize,
    /// From one channel block to the next.
    pub block: usize,
    /// Whether the last block has 16 channels whatever the number of channels is.
    pub whole: bool,
}

/// What [`JoinRow`] computes on.
#[derive(Clone, Copy, Debug)]
pub struct JoinRowArgs {
    /// Channels.
    pub channels: usize,
    /// Pixels.
    pub width: usize,
    /// The first operand.
    pub x: RowPixels<*const f32>,
    /// The second operand. One pixel serves the whole row where pixels are 0 apart.
    pub y: RowPixels<*const f32>,
    /// The result.
    pub out: RowPixels<*mut f32>,
    /// How values are joined.
    pub join: Join,
    /// What is stored of a sum or a product. A residual is not added.
    pub epilogue: Epilogue,
    /// Of an activation by channel, the parameters of the first channel: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
}

/// `f32_joinrow`.
pub enum JoinRow {}

impl Kernel for JoinRow {
    type Args = JoinRowArgs;

    /// # Safety
    /// `x` and `y` are readable, and `out` is writable, in `channels` of `width` pixels, in whole blocks where they say so. `out` may be
    /// one of the others at the same places, and overlaps them nowhere else.
    /// Of an activation by channel, `params` is readable for whole 16 channels.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &JoinRowArgs) {
        // SAFETY: the caller's.
        unsafe {
            row(simd, a);
            if !a.epilogue.is_clamp() {
                let RowPixels { ptr, pixel, block, whole } = a.out;
                L::enter::<Activate>(&ActivateArgs {
                    ptr,
                    count: a.width,
                    pixels: PixelOffsets::Every(pixel),
                    channels: a.channels,
                    panel: block,
                    whole,
                    activation: a.epilogue.activation(),
                    params: a.params,
                });
            }
        }
    }
}

/// All vectors of a row.
///
/// # Safety
/// As [`JoinRow::run`].
#[inline(always)]
unsafe fn row<S: Vector>(simd: S, a: &JoinRowArgs) {
    let epilogue = a.epilogue.vectors(simd);
    // the same for all pixels: LLVM makes a loop of each
    let join = |x, y| match a.join {
        Join::Sum => simd.add_f32s(x, y),
        Join::Product => simd.mul_f32s(x, y),
    };
    let whole = a.x.whole && a.y.whole && a.out.whole;
    for block in 0..a.channels.div_ceil(BLOCK) {
        let channels = if whole { BLOCK } else { BLOCK.min(a.channels - block * BLOCK) };
        for lane in (0..channels).step_by(S::F32_LANES) {
            let there = channels - lane;
            // SAFETY: the caller's, for the channels of the block that are there.
            unsafe {
                let x = a.x.ptr.add(block * a.x.block + lane);
                let y = a.y.ptr.add(block * a.y.block + lane);
                let out = a.out.ptr.add(block * a.out.block + lane);
                if there >= S::F32_LANES {
                    for p in 0..a.width {
                        let joined = join(load(simd, x.add(p * a.x.pixel)), load(simd, y.add(p * a.y.pixel)));
                        store(simd, out.add(p * a.out.pixel), epilogue.apply(simd, joined));
                    }
                } else {
                    for p in 0..a.width {
                        let x = simd.load_lanes(x.add(p * a.x.pixel), there);
                        let y = simd.load_lanes(y.add(p * a.y.pixel), there);
                        simd.store_lanes(out.add(p * a.out.pixel), epilogue.apply(simd, join(x, y)), there);
                    }
                }
            }
        }
    }
}
