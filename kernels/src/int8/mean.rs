//! The mean over a plane of quantized values.
//!
//! ```text
//!   for block of 16 channels:
//!       acc = bias                                 less the zero points of all pixels
//!       for four pixels:  acc += p0 + p1 + p2 + p3     a step of sums, with weights of one
//!       store rne(f32(acc) × multiplier) + zero, clamped
//! ```
//!
//! Registers: the sums of a block, four pixels, and ones; at most 9.

use pulp::Simd;

use super::{End, Int8, Requantize};
use crate::simd::Vector;
use crate::{BLOCK, Kernel, Level};

/// What [`Int8Mean`] computes on. Offsets and distances are counted in stored values.
#[derive(Clone, Copy, Debug)]
pub struct Int8MeanArgs {
    /// Channels.
    pub channels: usize,
    /// Rows and columns of the plane.
    pub plane: [usize; 2],
    /// The plane.
    pub x: *const u8,
    /// From one row to the next.
    pub x_row: usize,
    /// From one channel block to the next.
    pub x_block: usize,
    /// From one pixel to the next.
    pub x_pixel: usize,
    /// The output: one pixel.
    pub out: *mut u8,
    /// From one channel block of it to the next.
    pub out_block: usize,
    /// What a sum of stored values begins with.
    pub bias: i32,
    /// What the sum is multiplied by.
    pub multiplier: f32,
    /// What becomes of it then.
    pub requantize: Requantize,
}

/// `int8_mean`.
pub enum Int8Mean {}

impl Kernel for Int8Mean {
    type Args = Int8MeanArgs;

    /// # Safety
    /// `x` is readable, and `out` is writable, in whole blocks for `channels`, `x` of every pixel of the plane. They do not overlap. A sum fits
    /// an i32.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &Int8MeanArgs) {
        // SAFETY: the caller's.
        unsafe {
            if const { L::Token::F32_LANES == 16 } {
                blocks::<L::Token, L::Int8, 1>(simd, a);
            } else if const { L::Token::F32_LANES == 4 } {
                blocks::<L::Token, L::Int8, 4>(simd, a);
            } else {
                blocks::<L::Token, L::Int8, 2>(simd, a);
            }
        }
    }
}

/// All blocks, `NV` vectors at a time.
///
/// # Safety
/// As [`Int8Mean::run`].
#[inline(always)]
unsafe fn blocks<S: Vector, I: Int8<S>, const NV: usize>(simd: S, a: &Int8MeanArgs) {
    let end = End::<S, I>::new(simd, &a.requantize, false);
    let (multipliers, zeros) = ([a.multiplier; BLOCK], [0u8; 2 * BLOCK]);
    let ones = I::ones(simd);
    let [rows, columns] = a.plane;
    for block in 0..a.channels.div_ceil(BLOCK) {
        let plane = a.x.cast::<I::Stored>().wrapping_add(block * a.x_block);
        for part in 0..BLOCK / (S::F32_LANES * NV) {
            let first = part * NV;
            let mut sums = [I::splat_sum(simd, a.bias); NV];
            // SAFETY: the caller's; four places are pixels of the row, or zeros.
            unsafe {
                for y in 0..rows {
                    let row = plane.wrapping_add(y * a.x_row);
                    for x in (0..columns).step_by(4) {
                        let place = |i: usize| {
                            if x + i < columns { row.wrapping_add((x + i) * a.x_pixel) } else { zeros.as_ptr().cast() }
                        };
                        let places = [place(0), place(1), place(2), place(3)];
                        for v in 0..NV {
                            let [first, others] = I::taps(simd, places, first + v);
                            sums[v] = I::dot(simd, first, ones, sums[v]);
                            if I::STEP == 2 {
                                sums[v] = I::dot(simd, others, ones, sums[v]);
                            }
                        }
                    }
                }
                let out = a.out.cast::<I::Stored>().wrapping_add(block * a.out_block);
                end.store(simd, sums, first, multipliers.as_ptr(), core::ptr::null(), out);
            }
        }
    }
}
