//! Depthwise 3×3 over planes, one channel at a time: lanes are pixels of a row.
//!
//! ```text
//!   plane        y: p0 p1 p2 p3 …                       rows of a caller's NCHW tensor
//!   band         y: 0 p0 p1 p2 … 0                      stride 1: one array, columns of padding written out
//!                   0 p1 p3 … │ p0 p2 p4 …              stride 2: even columns, then odd columns
//! ```
//!
//! ```text
//!   for a band of output rows:
//!       copy its input rows
//!       for two output rows:
//!           for two vectors of output pixels:
//!               for each input row:  load 3 vectors; for each output row that reads it: 3 multiply-adds
//!               clamp, store
//! ```
//!
//! Rows are copied a band before they are read: a load that spans two stores waits until both have left the store buffer. The last
//! vector of a row overlaps the one before. Registers of AVX2: 9 weights, 4 sums of 2 rows × 2 vectors, 3 loads. The page `docs/kernels/planes.md`
//! has what was tried.

use crate::quad::Quad;
use crate::simd::{MulAdd, Vector, load, store};
use crate::{BLOCK, Kernel, Level};

/// The arguments of [`DwPlanes`]: output rows of one channel. Distances are counted in values.
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
        if width > isize::MAX as usize / 64 {
            return None;
        }
        // the input rows of a band, each of one array for each column of the stride; and two rows of output
        let rows = (rows_in_band(stride, width) - 1) * stride + 3;
        (rows * stride + 2).checked_mul(array_len(width))
    }
}

/// Values of an array of a padded row.
const fn array_len(width: usize) -> usize {
    width + 2 + BLOCK
}

/// Output rows of a band: an even number, whose input rows fill half of an L1.
const fn rows_in_band(stride: usize, width: usize) -> usize {
    let rows = (4096 / (stride * array_len(width))).saturating_sub(2) / stride;
    if rows < 2 { 2 } else { rows / 2 * 2 }
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
        unsafe { rows::<L::Token, L::MulAdd, STRIDE>(simd, a) }
    }
}

/// # Safety
/// As [`DwPlanes::run`].
#[inline(always)]
unsafe fn rows<S: Vector, A: MulAdd, const STRIDE: usize>(simd: S, a: &DwPlanesArgs) {
    let [first, count] = a.rows;
    let array = array_len(a.width);
    let row_len = STRIDE * array;
    let band = rows_in_band(STRIDE, a.width);
    // SAFETY: the caller's; the scratch holds the input rows of a band, and two rows of output.
    unsafe {
        let staged = a.scratch.add(((band - 1) * STRIDE + 3) * row_len);
        let filter = ChannelWeights::new(simd, a);
        let mut done = 0;
        while done < count {
            let rows_out = (count - done).min(band);
            for i in 0..(rows_out - 1) * STRIDE + 3 {
                let to = a.scratch.add(i * row_len);
                match ((first + done) * STRIDE + i).checked_sub(a.before[0]).filter(|&y| y < a.plane[0]) {
                    Some(y) => fill::<S, STRIDE>(simd, a, y, to, array),
                    None => to.write_bytes(0, row_len),
                }
            }
            let mut row = 0;
            while row < rows_out {
                let rows = a.scratch.add(row * STRIDE * row_len).cast_const();
                let out = a.out.add((done + row) * a.out_steps[0]);
                // rows that no vector fits, or whose pixels lie apart, are computed to scratch
                let apart = a.out_steps[1] != 1 || a.width < S::F32_LANES;
                let (to, to_row) = if apart { (staged, array) } else { (out, a.out_steps[0]) };
                let here = (rows_out - row).min(if S::FEW_TILES { 1 } else { 2 });
                if !S::FEW_TILES && here == 2 {
                    pixels::<S, A, STRIDE, 2>(simd, a.width, &filter, rows, array, to, to_row);
                } else {
                    pixels::<S, A, STRIDE, 1>(simd, a.width, &filter, rows, array, to, to_row);
                }
                if apart {
                    for y in 0..here {
                        for x in 0..a.width {
                            *out.add(y * a.out_steps[0] + x * a.out_steps[1]) = *staged.add(y * array + x);
                        }
                    }
                }
                row += here;
            }
            done += rows_out;
        }
    }
}

/// Copies a row of the plane to a row of the band, of which the columns of padding are zeros.
///
/// # Safety
/// As [`DwPlanes::run`]; `to` is a row of the band, of `STRIDE` arrays.
#[inline(always)]
unsafe fn fill<S: Vector, const STRIDE: usize>(simd: S, a: &DwPlanesArgs, y: usize, to: *mut f32, array: usize) {
    let (left, step) = (a.before[1], a.x_steps[1]);
    // columns that a window reads
    let columns = a.plane[1].min(((a.width - 1) * STRIDE + 3).saturating_sub(left));
    // SAFETY: the caller's; column `c` of the padded row is at `c / STRIDE` of the array `c % STRIDE`.
    unsafe {
        let x = a.x.add(y * a.x_steps[0]);
        if STRIDE == 1 && step == 1 {
            copy(simd, x, to.wrapping_add(left), columns);
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

/// Copies `len` values. A call of `memcpy` for each short row takes as long as its multiply-adds.
///
/// # Safety
/// As `copy_nonoverlapping`.
#[inline(always)]
unsafe fn copy<S: Vector>(simd: S, from: *const f32, to: *mut f32, len: usize) {
    let mut i = 0;
    // SAFETY: the caller's.
    unsafe {
        while i + S::F32_LANES <= len {
            store(simd, to.add(i), load(simd, from.add(i)));
            i += S::F32_LANES;
        }
        while i < len {
            *to.add(i) = *from.add(i);
            i += 1;
        }
    }
}

/// The bias, the weights and the clamp of a channel, in vectors.
struct ChannelWeights<S: Vector> {
    bias: S::f32s,
    w: [S::f32s; 9],
    clamp: [S::f32s; 2],
}

impl<S: Vector> ChannelWeights<S> {
    /// # Safety
    /// `w` is readable as [`DwPlanes::run`] asks.
    #[inline(always)]
    unsafe fn new(simd: S, a: &DwPlanesArgs) -> ChannelWeights<S> {
        // SAFETY: the caller's.
        let splat = |i: usize| simd.splat_f32s(unsafe { *a.w.add(i * BLOCK) });
        ChannelWeights {
            bias: splat(0),
            w: core::array::from_fn(|i| splat(1 + i)),
            clamp: a.clamp.map(|bound| simd.splat_f32s(bound)),
        }
    }
}

/// All pixels of `ROWS` output rows, which lie `out_row` apart.
///
/// # Safety
/// As [`DwPlanes::run`]; `rows` is the first input row of these output rows. The output has room for a vector at least.
#[inline(always)]
unsafe fn pixels<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    width: usize,
    filter: &ChannelWeights<S>,
    rows: *const f32,
    array: usize,
    out: *mut f32,
    out_row: usize,
) {
    let lanes = S::F32_LANES;
    let mut x = 0;
    // SAFETY: the caller's; all pixels of a tile are below the width, but for those of a row shorter than a vector.
    unsafe {
        // a last row alone has tiles of one vector: they are few, and code is not
        while !S::FEW_TILES && ROWS == 2 && x + 2 * lanes <= width {
            tile::<S, A, STRIDE, ROWS, 2>(simd, filter, rows, array, x, out, out_row);
            x += 2 * lanes;
        }
        while x < width {
            // the last vector overlaps the one before
            let at = x.min(width.saturating_sub(lanes));
            tile::<S, A, STRIDE, ROWS, 1>(simd, filter, rows, array, at, out, out_row);
            x += lanes;
        }
    }
}

/// Whether output row `o` of a tile reads its input row `i`.
const fn reads(stride: usize, o: usize, i: usize) -> bool {
    o * stride <= i && i < o * stride + 3
}

/// `VECTORS` vectors of `ROWS` output rows, from column `x` on.
///
/// # Safety
/// As [`pixels`].
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    filter: &ChannelWeights<S>,
    rows: *const f32,
    array: usize,
    x: usize,
    out: *mut f32,
    out_row: usize,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[filter.bias; ROWS]; VECTORS];
    // SAFETY: the caller's; behind the last pixel of a row is room in its array.
    unsafe {
        unrolled!(I in (ROWS - 1) * STRIDE + 3, of 0 1 2 3 4, {
            let row = rows.add(I * STRIDE * array + x);
            unrolled!(V in VECTORS, of 0 1, {
                let row = row.add(V * lanes);
                let taps = if STRIDE == 1 { [0, 1, 2] } else { [0, array, 1] };
                let v = taps.map(|tap| load(simd, row.add(tap)));
                unrolled!(O in ROWS, of 0 1, {
                    if const { reads(STRIDE, O, I) } {
                        let w = &filter.w[(I - O * STRIDE) * 3..];
                        sums[V][O] = A::mul_add(simd, v[0], w[0], sums[V][O]);
                        sums[V][O] = A::mul_add(simd, v[1], w[1], sums[V][O]);
                        sums[V][O] = A::mul_add(simd, v[2], w[2], sums[V][O]);
                    }
                });
            });
        });
        unrolled!(V in VECTORS, of 0 1, {
            unrolled!(O in ROWS, of 0 1, {
                let sum = simd.clamp(sums[V][O], filter.clamp[0], filter.clamp[1]);
                store(simd, out.add(O * out_row + x + V * lanes), sum);
            });
        });
    }
}
