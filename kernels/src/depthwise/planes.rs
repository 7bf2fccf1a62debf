//! Depthwise 3×3 over planes, one channel at a time: lanes are pixels of a row.
//!
//! ```text
//!   row of a plane      p0 p1 p2 p3 p4 p5 p6 p7 p8 …
//!   stride 1, a pixel:  three vectors, from p0, p1 and p2 on
//!   stride 2, a pixel:  p0 p2 p4 … │ p1 p3 p5 … │ p2 p4 p6 …      even and odd places of pairs of vectors
//! ```
//!
//! ```text
//!   for four output rows (stride 2: two):
//!       for a vector of output pixels:
//!           for each input row:  load the three taps; for each output row that reads it: 3 multiply-adds
//!           epilogue, store
//! ```
//!
//! Rows are read where the caller has them. A vector at the border of the plane moves by a lane and takes in a zero. The last vector of a
//! row overlaps the one before, and so do the last rows. A narrow row is one vector, and both other taps are that vector, moved. Planes with
//! more padding, or whose pixels lie apart, are copied a band of rows ahead, with padding written out: a load that spans two stores waits
//! until both have left the store buffer.
//!
//! Registers of AVX2 at stride 1: the bias, 6 of 9 weights, 4 sums, 3 taps; the rest is read from the stack. `docs/kernels/planes.md` has
//! what was tried.

use core::ops::Range;

use crate::activation::by_parts;
use crate::epilogue::EpilogueVectors;
use crate::simd::{MulAdd, Vector, load, store};
use crate::{BLOCK, Epilogue, Kernel, Level};

/// The arguments of [`DwPlanes`]: output rows of some channels. Distances are counted in values.
#[derive(Clone, Debug)]
pub struct DwPlanesArgs {
    /// The plane of input channel 0.
    pub x: *const f32,
    /// From one plane of the input to the next.
    pub x_plane: usize,
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
    /// Output channels.
    pub channels: Range<usize>,
    /// Output channel `c` reads input channel `c / multiplier`.
    pub multiplier: usize,
    /// Packed weights: for each block of 16 channels the biases, then the weights of each tap.
    pub w: *const f32,
    /// [`DwPlanesArgs::scratch_len`] values: zeros, or as an earlier call left them that differed in channels and pointers alone.
    pub scratch: *mut f32,
    /// The first output row of output channel 0.
    pub out: *mut f32,
    /// From one plane of the output to the next.
    pub out_plane: usize,
    /// From one row of the output to the next, and from one pixel to the next.
    pub out_steps: [usize; 2],
    /// What becomes of a sum before it is stored.
    pub epilogue: Epilogue,
    /// Of an activation by channel, the parameters of output channel 0: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
}

impl DwPlanesArgs {
    /// Values of scratch for rows of `width` output pixels at this stride, or `None` where that overflows.
    pub const fn scratch_len(stride: usize, width: usize) -> Option<usize> {
        if width > isize::MAX as usize / 64 {
            return None;
        }
        // the input rows of a band, and the output rows of a tile
        let rows = (rows_in_band(stride, width) - 1) * stride + 3;
        (rows + rows_of_tile(stride)).checked_mul(row_len(stride, width))
    }
}

/// Values of a row of the band: what all windows of an output row read, and no less than the windows of a vector read.
const fn row_len(stride: usize, width: usize) -> usize {
    let width = if width < BLOCK { BLOCK } else { width };
    width * stride + 2
}

/// Output rows of a tile.
const fn rows_of_tile(stride: usize) -> usize {
    if stride == 1 { 4 } else { 2 }
}

/// Output rows of a band: those of some tiles, whose input rows fill half of an L1.
const fn rows_in_band(stride: usize, width: usize) -> usize {
    let rows = (4096 / row_len(stride, width)).saturating_sub(2) / stride;
    let of_tile = rows_of_tile(stride);
    if rows < of_tile { of_tile } else { rows / of_tile * of_tile }
}

/// `f32_dwplanes3x3s1` and `f32_dwplanes3x3s2`.
pub enum DwPlanes<const STRIDE: usize> {}

impl<const STRIDE: usize> Kernel for DwPlanes<STRIDE> {
    type Args = DwPlanesArgs;

    /// # Safety
    /// `x` is readable in each pixel of the planes that `channels` name, `w` in the blocks of these channels, `scratch` is writable, and so is
    /// `out` in `rows[1]` rows of `width` pixels of each channel; none of them overlap. A window of 3×3 at each output pixel begins inside
    /// of the padded plane.
    /// Of an activation by channel, `params` is readable for whole 16 channels.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DwPlanesArgs) {
        // SAFETY: the caller's.
        unsafe {
            if by_parts::<L, Self>(a) {
                return;
            }
            if STRIDE == 1 {
                planes::<L::Token, L::MulAdd, 1, { rows_of_tile(1) }>(simd, a);
            } else {
                planes::<L::Token, L::MulAdd, 2, { rows_of_tile(2) }>(simd, a);
            }
        }
    }
}

/// Input rows, where the caller has them or in a band.
struct InputRows {
    first: *const f32,
    /// From one row to the next.
    step: usize,
    /// Rows of padding above.
    above: usize,
    height: usize,
    /// A row of padding.
    zeros: *const f32,
    /// Columns of padding before.
    before: usize,
    width: usize,
}

impl InputRows {
    /// Rows of the padded plane from row `top` on, of which `count` are read.
    #[inline(always)]
    fn rows(&self, top: usize, count: usize) -> [*const f32; MAX_ROWS] {
        let first = self.first.wrapping_add(top.wrapping_sub(self.above).wrapping_mul(self.step));
        let row = |i: usize| first.wrapping_add(i * self.step);
        if top >= self.above && top + count <= self.above.saturating_add(self.height) {
            return core::array::from_fn(row);
        }
        let is_padding = |y: usize| y < self.above || y - self.above >= self.height;
        core::array::from_fn(|i| if is_padding(top + i) { self.zeros } else { row(i) })
    }
}

/// The most input rows of a tile: of four output rows at stride 1.
const MAX_ROWS: usize = 6;

/// How the rows of a plane are read.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Where the caller has them.
    InPlace,
    /// Where the caller has them, each by one vector (stride 2: two).
    Narrow,
    /// From a copy of a band of rows.
    Band,
}

impl Way {
    /// The way to compute `rows` rows of `width` pixels from rows of `columns` pixels that lie together, with `before` columns of padding
    /// before them. Every way gives the same bits.
    #[inline(always)]
    fn of<S: Vector>(stride: usize, before: usize, columns: usize, [rows, width]: [usize; 2]) -> Way {
        let lanes = S::F32_LANES;
        // at most one column of padding at each side
        let usual = before <= 1 && (width - 1) * stride + 3 <= before + columns + 1;
        if usual && width >= lanes && columns > stride * lanes {
            // no vector reaches over both sides
            return Way::InPlace;
        }
        let fits = width <= lanes && columns <= stride * lanes && rows >= rows_of_tile(stride);
        // at stride 1 the first tap is the second one, moved
        let moved = stride == 2 || before == 1;
        if usual && fits && moved && !S::FEW_TILES { Way::Narrow } else { Way::Band }
    }
}

/// Whether [`DwPlanes`] copies rows of the plane before it computes: see [`Kernels::dwplanes3x3_copies`](crate::Kernels::dwplanes3x3_copies).
pub(crate) fn copies<S: Vector>(stride: usize, before: usize, columns: usize, out: [usize; 2]) -> bool {
    Way::of::<S>(stride, before, columns, out) == Way::Band
}

/// # Safety
/// As [`DwPlanes::run`].
#[inline(always)]
unsafe fn planes<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(simd: S, a: &DwPlanesArgs) {
    let together = a.x_steps[1] == 1;
    let way = if together { Way::of::<S>(STRIDE, a.before[1], a.plane[1], [a.rows[1], a.width]) } else { Way::Band };
    let row_len = row_len(STRIDE, a.width);
    let band = if way == Way::Band { rows_in_band(STRIDE, a.width) } else { a.rows[1] };
    let rows_of_input = if way == Way::Band { (band - 1) * STRIDE + 3 } else { 1 };
    let staged = a.scratch.wrapping_add(rows_of_input * row_len);
    for channel in a.channels.clone() {
        let read = if a.multiplier == 1 { channel } else { channel / a.multiplier };
        let x = a.x.wrapping_add(read * a.x_plane);
        let zeros = a.scratch.cast_const();
        let input = match way {
            Way::Band => InputRows {
                first: zeros,
                step: row_len,
                above: 0,
                height: usize::MAX,
                zeros,
                before: 0,
                width: row_len,
            },
            _ => {
                let ([above, before], [height, width]) = (a.before, a.plane);
                InputRows { first: x, step: a.x_steps[0], above, height, zeros, before, width }
            }
        };
        // SAFETY: the caller's; the scratch holds the input rows of a band, and the output rows of a tile.
        unsafe {
            let w = a.w.add(channel / BLOCK * 10 * BLOCK + channel % BLOCK);
            let filter = ChannelWeights::new(simd, w, a.epilogue);
            let mut done = 0;
            while done < a.rows[1] {
                let rows_out = (a.rows[1] - done).min(band);
                if way == Way::Band {
                    let (top, columns) = ((a.rows[0] + done) * STRIDE, (a.width - 1) * STRIDE + 3);
                    for i in 0..(rows_out - 1) * STRIDE + 3 {
                        fill(simd, a, x, top + i, a.scratch.add(i * row_len), columns);
                    }
                }
                let out = a.out.add(channel * a.out_plane);
                tiles::<S, A, STRIDE, ROWS>(simd, a, way, &filter, &input, done..done + rows_out, out, staged);
                done += rows_out;
            }
        }
    }
}

/// Computes output rows `rows` of a channel. Row 0 is the first of the call, at `out`.
///
/// # Safety
/// As [`DwPlanes::run`]; the band, if there is one, has the input rows of these output rows, and `staged` is the part of the scratch for
/// output rows.
#[inline(always)]
unsafe fn tiles<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    a: &DwPlanesArgs,
    way: Way,
    filter: &ChannelWeights<S>,
    input: &InputRows,
    rows: Range<usize>,
    out: *mut f32,
    staged: *mut f32,
) {
    let top = if way == Way::Band { 0 } else { (a.rows[0] + rows.start) * STRIDE };
    let (count, last) = (rows.len(), rows.end == a.rows[1]);
    let staged_row = row_len(STRIDE, a.width);
    // AVX-512 stores the lanes that a narrow row has. Elsewhere a store reaches into the next row of the plane, which a later store
    // overwrites. Rows shorter than a vector, or whose pixels lie apart, are computed to scratch.
    let masked = S::F32_LANES == BLOCK;
    let dense = masked || (a.out_steps[0] == a.width && 2 * a.width >= S::F32_LANES);
    let apart = a.out_steps[1] != 1 || (a.width < S::F32_LANES && !(way == Way::Narrow && dense));
    let mut row = 0;
    while row < count {
        let whole = !S::FEW_TILES && count >= ROWS;
        // the last tile overlaps the one before
        let first = if whole { row.min(count - ROWS) } else { row };
        let here = if whole { ROWS } else { 1 };
        let inputs = input.rows(top + first * STRIDE, (here - 1) * STRIDE + 3);
        // SAFETY: the caller's.
        unsafe {
            let out = out.add((rows.start + first) * a.out_steps[0]);
            let (to, to_row) = if apart { (staged, staged_row) } else { (out, a.out_steps[0]) };
            if !whole {
                pixels::<S, A, STRIDE, 1>(simd, a.width, filter, input, &inputs, to, to_row);
            } else if way == Way::Narrow {
                let ends = last && first + ROWS == count && !apart;
                let lanes = [masked, masked || ends].map(|part| if part { a.width } else { S::F32_LANES });
                narrow_tile::<S, A, STRIDE, ROWS>(simd, filter, input, &inputs, to, to_row, lanes);
            } else {
                pixels::<S, A, STRIDE, ROWS>(simd, a.width, filter, input, &inputs, to, to_row);
            }
            if apart {
                for y in 0..here {
                    for x in 0..a.width {
                        *out.add(y * a.out_steps[0] + x * a.out_steps[1]) = *staged.add(y * staged_row + x);
                    }
                }
            }
        }
        row += here;
    }
}

/// Copies row `y` of the padded plane at `x` to a row of the band: the first `columns` of it, padding written out.
///
/// # Safety
/// As [`DwPlanes::run`]; `to` is a row of the band.
#[inline(always)]
unsafe fn fill<S: Vector>(simd: S, a: &DwPlanesArgs, x: *const f32, y: usize, to: *mut f32, columns: usize) {
    let (before, step) = (a.before[1].min(columns), a.x_steps[1]);
    let copied = a.plane[1].min(columns - before);
    let y = y.checked_sub(a.before[0]).filter(|&y| y < a.plane[0]);
    let copied = if y.is_some() { copied } else { 0 };
    // SAFETY: the caller's.
    unsafe {
        for i in 0..before {
            *to.add(i) = 0.0;
        }
        for i in before + copied..columns {
            *to.add(i) = 0.0;
        }
        let (x, to) = (x.wrapping_add(y.unwrap_or(0) * a.x_steps[0]), to.add(before));
        let mut i = 0;
        // a call of `memcpy` for each short row takes as long as its multiply-adds
        while step == 1 && i + S::F32_LANES <= copied {
            store(simd, to.add(i), load(simd, x.add(i)));
            i += S::F32_LANES;
        }
        while i < copied {
            *to.add(i) = *x.add(i * step);
            i += 1;
        }
    }
}

/// The bias, the weights and the epilogue of a channel, in vectors.
struct ChannelWeights<S: Vector> {
    bias: S::f32s,
    w: [S::f32s; 9],
    epilogue: EpilogueVectors<S>,
}

impl<S: Vector> ChannelWeights<S> {
    /// # Safety
    /// `w` is readable at the bias and at nine weights, each 16 behind the one before.
    #[inline(always)]
    unsafe fn new(simd: S, w: *const f32, epilogue: Epilogue) -> ChannelWeights<S> {
        // SAFETY: the caller's.
        let splat = |i: usize| simd.splat_f32s(unsafe { *w.add(i * BLOCK) });
        ChannelWeights { bias: splat(0), w: core::array::from_fn(|i| splat(1 + i)), epilogue: epilogue.vectors(simd) }
    }
}

/// All pixels of `ROWS` output rows, which lie `out_row` apart.
///
/// # Safety
/// As [`DwPlanes::run`]; `inputs` are the input rows of these output rows. The output has room for a vector at least.
#[inline(always)]
unsafe fn pixels<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    width: usize,
    filter: &ChannelWeights<S>,
    input: &InputRows,
    inputs: &[*const f32; MAX_ROWS],
    out: *mut f32,
    out_row: usize,
) {
    let lanes = S::F32_LANES;
    // the last column of a vector's taps, and whether it is beyond the plane
    let over = |x: usize| (x + lanes - 1) * STRIDE + 2 >= input.before + input.width;
    let mut x = 0;
    // SAFETY: the caller's; all pixels of a tile are below the width, but for those of a row shorter than a vector.
    unsafe {
        if const { ROWS > 1 } && input.before > 0 {
            tile::<S, A, STRIDE, ROWS>(simd, filter, input, inputs, 0, [true, false], out, out_row);
            x = lanes;
        }
        while x < width {
            let at = x.min(width.saturating_sub(lanes));
            if const { ROWS == 1 } {
                let under = at * STRIDE < input.before;
                tile::<S, A, STRIDE, ROWS>(simd, filter, input, inputs, at, [under, over(at)], out, out_row);
            } else if over(at) {
                tile::<S, A, STRIDE, ROWS>(simd, filter, input, inputs, at, [false, true], out, out_row);
            } else {
                tile::<S, A, STRIDE, ROWS>(simd, filter, input, inputs, at, [false, false], out, out_row);
            }
            x += lanes;
        }
    }
}

/// Whether output row `o` of a tile reads its input row `i`.
const fn reads(stride: usize, o: usize, i: usize) -> bool {
    o * stride <= i && i < o * stride + 3
}

/// The three taps of a vector of output pixels in an input row, the first of them at `p`. At a border of the plane, the first value of
/// the first tap is a zero (`under`), or the last value of the last tap (`over`).
///
/// # Safety
/// All values of the taps are readable, but for those two.
#[inline(always)]
unsafe fn taps<S: Vector, const STRIDE: usize>(simd: S, p: *const f32, under: bool, over: bool) -> [S::f32s; 3] {
    let at = |i: usize| p.wrapping_add(i);
    // SAFETY: the caller's.
    unsafe {
        if STRIDE == 1 {
            let middle = load(simd, at(1));
            let first = if under { simd.after_zero(middle) } else { load(simd, p) };
            let last = if over { simd.before_zero(middle) } else { load(simd, at(2)) };
            [first, middle, last]
        } else {
            // values from the first and from the second on
            let (b, c) = (load(simd, at(S::F32_LANES)), load(simd, at(1)));
            let a = if under { simd.after_zero(c) } else { load(simd, p) };
            let d = if over { simd.before_zero(b) } else { load(simd, at(1 + S::F32_LANES)) };
            let [first, middle] = simd.even_odd(a, b);
            let [_, last] = simd.even_odd(c, d);
            [first, middle, last]
        }
    }
}

/// `ROWS` output rows of a plane whose rows fill no more than a vector (stride 2: two). `stored` has the lanes that are stored of all rows but
/// the last, and of the last.
///
/// # Safety
/// As [`pixels`]. The output has room for these lanes.
#[inline(always)]
unsafe fn narrow_tile<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    filter: &ChannelWeights<S>,
    input: &InputRows,
    inputs: &[*const f32; MAX_ROWS],
    out: *mut f32,
    out_row: usize,
    stored: [usize; 2],
) {
    let lanes = S::F32_LANES;
    let (n, m) = (input.width.min(lanes), input.width.saturating_sub(lanes));
    let mut sums = [filter.bias; ROWS];
    // SAFETY: the caller's; a row has `input.width` values, and lanes behind them are zeros.
    unsafe {
        unrolled!(I in (ROWS - 1) * STRIDE + 3, of 0 1 2 3 4 5, {
            let row = simd.load_lanes(inputs[I], n);
            let v = if STRIDE == 1 {
                [simd.after_zero(row), row, simd.before_zero(row)]
            } else {
                let [even, odd] = simd.even_odd(row, simd.load_lanes(inputs[I].wrapping_add(n), m)).map(|v| simd.in_order(v));
                if input.before == 1 { [simd.after_zero(odd), even, odd] } else { [even, odd, simd.before_zero(even)] }
            };
            add_taps::<S, A, STRIDE, ROWS, I>(simd, filter, v, &mut sums);
        });
        unrolled!(O in ROWS, of 0 1 2 3, {
                    let sum = filter.epilogue.apply(simd, sums[O]);
                    let out = out.add(O * out_row);
        let stored = stored[usize::from(O + 1 == ROWS)];
                    if stored < lanes { simd.store_lanes(out, sum, stored) } else { store(simd, out, sum) }
                });
    }
}

/// Adds the taps of input row `I` of a tile to the sums of the output rows that read it.
#[inline(always)]
fn add_taps<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize, const I: usize>(
    simd: S,
    filter: &ChannelWeights<S>,
    v: [S::f32s; 3],
    sums: &mut [S::f32s; ROWS],
) {
    unrolled!(O in ROWS, of 0 1 2 3, {
        if const { reads(STRIDE, O, I) } {
            let w = &filter.w[(I - O * STRIDE) * 3..];
            sums[O] = A::mul_add(simd, v[0], w[0], sums[O]);
            sums[O] = A::mul_add(simd, v[1], w[1], sums[O]);
            sums[O] = A::mul_add(simd, v[2], w[2], sums[O]);
        }
    });
}

/// A vector of `ROWS` output rows, from column `x` on. `edges` are those of [`taps`].
///
/// # Safety
/// As [`pixels`].
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    filter: &ChannelWeights<S>,
    input: &InputRows,
    inputs: &[*const f32; MAX_ROWS],
    x: usize,
    edges: [bool; 2],
    out: *mut f32,
    out_row: usize,
) {
    let first = (x * STRIDE).wrapping_sub(input.before);
    let mut sums = [filter.bias; ROWS];
    // SAFETY: the caller's.
    unsafe {
        unrolled!(I in (ROWS - 1) * STRIDE + 3, of 0 1 2 3 4 5, {
            let v = taps::<S, STRIDE>(simd, inputs[I].wrapping_add(first), edges[0], edges[1]);
            add_taps::<S, A, STRIDE, ROWS, I>(simd, filter, v, &mut sums);
        });
        unrolled!(O in ROWS, of 0 1 2 3, {
            let sum = filter.epilogue.apply(simd, sums[O]);
            let sum = if STRIDE == 1 { sum } else { simd.in_order(sum) };
            store(simd, out.add(O * out_row + x), sum);
        });
    }
}
