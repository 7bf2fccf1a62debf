//! Depthwise 3×3 over planes, one channel at a time: lanes are pixels of a row.
//!
//! ```text
//!   plane        y: p0 p1 p2 p3 …                       rows of a caller's NCHW tensor
//!   ring         y: 0 p0 p1 p2 … 0                      stride 1: one array, columns of padding written out
//!                   0 p1 p3 … │ p0 p2 p4 …              stride 2: even columns, then odd columns
//! ```
//!
//! ```text
//!   for two output rows:
//!       copy the input rows that the ring does not hold yet
//!       for a vector of output pixels:
//!           for each input row:  load 3 vectors; for each output row that reads it: 3 multiply-adds
//!           clamp, store
//! ```
//!
//! The last vector of a row overlaps the one before. Registers of AVX2: 9 weights, 2 sums, 3 loads. The page `docs/kernels/depthwise.md`
//! has what was tried.

use crate::quad::Quad;
use crate::simd::{MulAdd, Vector, load, store};
use crate::{BLOCK, Kernel, Level};

/// What [`DwPlanes`] computes on: output rows of one channel. Distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct DwPlanesArgs {
    /// The plane.
    pub x: *const f32,
    /// From one row of the plane to the next, and from one pixel to the next.
    pub x_steps: [usize; 2],
    /// Rows and columns of the plane.
    pub plane: [usize; 2],
    /// Rows and columns of padding above and before.
    pub before: [usize; 2],
    /// The first output row, and the number of them.
    pub rows: [usize; 2],
    /// Output columns.
    pub width: usize,
    /// The bias, and then nine weights, each 16 behind the one before.
    pub w: *const f32,
    /// [`DwPlanesArgs::scratch_len`] values: zeros, or as an earlier call for the same sizes left them.
    pub scratch: *mut f32,
    /// The first output row.
    pub out: *mut f32,
    /// From one row of the output to the next, and from one pixel to the next.
    pub out_steps: [usize; 2],
    /// The least and the greatest value.
    pub clamp: [f32; 2],
}

impl DwPlanesArgs {
    /// Values of scratch for rows of `width` output pixels at this stride, or `None` where that overflows.
    pub const fn scratch_len(stride: usize, width: usize) -> Option<usize> {
        match width.checked_add(2 + BLOCK) {
            // the rows of the ring, and one of zeros, each of one array for each column of the stride
            Some(len) => len.checked_mul(stride * (rows_in_ring(stride) + 1)),
            None => None,
        }
    }
}

/// Input rows that two output rows read.
const fn rows_in_ring(stride: usize) -> usize {
    stride + 3
}

/// `f32_dwplanes3x3s1` and `f32_dwplanes3x3s2`.
pub enum DwPlanes<const STRIDE: usize> {}

impl<const STRIDE: usize> Kernel for DwPlanes<STRIDE> {
    type Args = DwPlanesArgs;

    /// # Safety
    /// `x` is readable in each pixel of the plane, `w` in 145 values, `scratch` is writable, and so is `out` in `rows[1]` rows of
    /// `width` pixels; none of them overlap. A window of 3×3 at each output pixel begins inside of the padded plane.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DwPlanesArgs) {
        // SAFETY: the caller's.
        unsafe { rows::<L::Token, L::Step, STRIDE>(simd, a) }
    }
}

/// # Safety
/// As [`DwPlanes::run`].
#[inline(always)]
unsafe fn rows<S: Vector, A: MulAdd, const STRIDE: usize>(simd: S, a: &DwPlanesArgs) {
    let [first, count] = a.rows;
    let ring_rows = rows_in_ring(STRIDE);
    let array = a.width + 2 + BLOCK;
    let row_len = STRIDE * array;
    // SAFETY: the caller's; the scratch holds the rows of the ring and one of zeros.
    unsafe {
        let zeros = a.scratch.add(ring_rows * row_len).cast_const();
        let ring_row = |y: usize| a.scratch.add(y % ring_rows * row_len);
        let mut filled = 0;
        let mut done = 0;
        while done < count {
            let rows_out = (count - done).min(2);
            let mut pointers = [zeros; 5];
            for (i, pointer) in pointers.iter_mut().enumerate().take((rows_out - 1) * STRIDE + 3) {
                let y = ((first + done) * STRIDE + i).checked_sub(a.before[0]).filter(|&y| y < a.plane[0]);
                if let Some(y) = y {
                    if y >= filled {
                        fill::<STRIDE>(a, y, ring_row(y), array);
                        filled = y + 1;
                    }
                    *pointer = ring_row(y);
                }
            }
            let out = a.out.add(done * a.out_steps[0]);
            if rows_out == 2 {
                pixels::<S, A, STRIDE, 2>(simd, a, &pointers, array, out);
            } else {
                pixels::<S, A, STRIDE, 1>(simd, a, &pointers, array, out);
            }
            done += rows_out;
        }
    }
}

/// Copies a row of the plane to a row of the ring, of which the columns of padding are zeros.
///
/// # Safety
/// As [`DwPlanes::run`]; `to` is a row of the ring, of `STRIDE` arrays.
#[inline(always)]
unsafe fn fill<const STRIDE: usize>(a: &DwPlanesArgs, y: usize, to: *mut f32, array: usize) {
    let (left, step) = (a.before[1], a.x_steps[1]);
    // columns that a window reads
    let columns = a.plane[1].min(((a.width - 1) * STRIDE + 3).saturating_sub(left));
    // SAFETY: the caller's; column `c` of the padded row is at `c / STRIDE` of the array `c % STRIDE`.
    unsafe {
        let x = a.x.add(y * a.x_steps[0]);
        if STRIDE == 1 && step == 1 {
            core::ptr::copy_nonoverlapping(x, to.wrapping_add(left), columns);
            return;
        }
        let mut i = 0;
        if STRIDE == 2 && step == 1 {
            // column `left + i` of the padded row is even or odd as `left` is
            let first = to.wrapping_add(left % 2 * array + left / 2);
            let second = to.wrapping_add((left + 1) % 2 * array + left.div_ceil(2));
            while i + 8 <= columns {
                let [even, odd] = Quad::even_odd(Quad::load(x.add(i)), Quad::load(x.add(i + 4)));
                even.store(first.add(i / 2));
                odd.store(second.add(i / 2));
                i += 8;
            }
        }
        while i < columns {
            let c = left + i;
            *to.add(c % STRIDE * array + c / STRIDE) = *x.add(i * step);
            i += 1;
        }
    }
}

/// All pixels of `ROWS` output rows.
///
/// # Safety
/// As [`DwPlanes::run`]; `rows` are rows of the ring, or of zeros, for these output rows.
#[inline(always)]
unsafe fn pixels<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    a: &DwPlanesArgs,
    rows: &[*const f32; 5],
    array: usize,
    out: *mut f32,
) {
    let lanes = S::F32_LANES;
    // SAFETY: the caller's.
    unsafe {
        let splat = |i: usize| simd.splat_f32s(*a.w.add(i * BLOCK));
        let bias = splat(0);
        let w: [S::f32s; 9] = core::array::from_fn(|i| splat(1 + i));
        let [lo, hi] = a.clamp.map(|bound| simd.splat_f32s(bound));
        let mut x = 0;
        loop {
            // behind the last pixel of a short row is room in the ring, and none in the output
            let n = lanes.min(a.width);
            let at = x.min(a.width - n);
            let mut sums = [bias; ROWS];
            unrolled!(I in (ROWS - 1) * STRIDE + 3, of 0 1 2 3 4, {
                let row = rows[I].add(at);
                let taps = if STRIDE == 1 { [0, 1, 2] } else { [0, array, 1] };
                let v = taps.map(|tap| load(simd, row.add(tap)));
                unrolled!(O in ROWS, of 0 1, {
                    if const { I >= O * STRIDE && I < O * STRIDE + 3 } {
                        let w = &w[(I - O * STRIDE) * 3..];
                        sums[O] = A::mul_add(simd, v[0], w[0], sums[O]);
                        sums[O] = A::mul_add(simd, v[1], w[1], sums[O]);
                        sums[O] = A::mul_add(simd, v[2], w[2], sums[O]);
                    }
                });
            });
            for (o, sum) in sums.into_iter().enumerate() {
                let sum = simd.clamp(sum, lo, hi);
                let out = out.add(o * a.out_steps[0] + at * a.out_steps[1]);
                if a.out_steps[1] != 1 {
                    let mut values = [0.0; BLOCK];
                    store(simd, values.as_mut_ptr(), sum);
                    for (i, value) in values.into_iter().enumerate().take(n) {
                        out.add(i * a.out_steps[1]).write(value);
                    }
                } else if n == lanes {
                    store(simd, out, sum);
                } else {
                    simd.store_lanes(out, sum, n);
                }
            }
            x += lanes;
            if x >= a.width {
                return;
            }
        }
    }
}
