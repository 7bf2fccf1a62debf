//! Average pooling over a whole plane.
//!
//! ```text
//!   for each vector of channels:
//!       sum = 0
//!       for rows, for columns:  sum = sum + x[row][column]
//!       out = sum / divisor
//! ```
//!
//! Registers: a sum and an input. The additions of a sum wait for each other. The input is read once, so that memory bounds the kernel
//! on all planes but the smallest.

use pulp::Simd;

use crate::simd::{Vector, load, store};
use crate::{BLOCK, Kernel, Level};

/// What [`AveragePool`] computes on. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct PoolArgs {
    /// Channels.
    pub channels: usize,
    /// Rows and columns of the plane.
    pub plane: [usize; 2],
    /// The plane.
    pub x: *const f32,
    /// From one row to the next.
    pub x_row: usize,
    /// From one channel block to the next.
    pub x_block: usize,
    /// From one pixel to the next.
    pub x_pixel: usize,
    /// The output: one pixel.
    pub out: *mut f32,
    /// From one channel block of it to the next.
    pub out_block: usize,
    /// What the sum is divided by.
    pub divisor: f32,
}

/// `f32_avgpool`.
pub enum AveragePool {}

impl Kernel for AveragePool {
    type Args = PoolArgs;

    /// # Safety
    /// `x` is readable in `channels` channels of every pixel of the plane, `out` writable in `channels` channels; they
    /// do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PoolArgs) {
        let lanes = <L::Token as Simd>::F32_LANES;
        let divisor = simd.splat_f32s(a.divisor);
        let mut c = 0;
        while c < a.channels {
            let n = lanes.min(a.channels - c);
            // SAFETY: the caller's, for channels `c..c + n`.
            unsafe {
                let x = a.x.add(c / BLOCK * a.x_block + c % BLOCK);
                let mut sum = simd.splat_f32s(0.0);
                for y in 0..a.plane[0] {
                    for p in 0..a.plane[1] {
                        let x = x.add(y * a.x_row + p * a.x_pixel);
                        let v = if n == lanes { load(simd, x) } else { simd.load_lanes(x, n) };
                        sum = simd.add_f32s(sum, v);
                    }
                }
                let out = a.out.add(c / BLOCK * a.out_block + c % BLOCK);
                let mean = simd.div_f32s(sum, divisor);
                if n == lanes { store(simd, out, mean) } else { simd.store_lanes(out, mean, n) }
            }
            c += lanes;
        }
    }
}
