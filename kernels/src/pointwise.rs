//! The pointwise microkernel: pixels × channels in times channels in × channels out, on packed weights.
//!
//! ```text
//!            panel: 16 output channels                 one tile: mr pixels × nv vectors of sums in registers
//!          ┌───────────────────────────┐
//!   bias   │ b0  b1  …             b15 │                acc[pixel][vector] = bias
//!   k = 0  │ w   w   …             w   │                for k ascending:
//!   k = 1  │                           │                    acc = acc + x[pixel][k] × w[k][vector]
//!    …     │                           │                out = clamp(acc [+ residual])
//!          └───────────────────────────┘
//! ```
//!
//! The sums of a tile start from the bias, or from partial sums that an earlier slab of `k` left in memory, and stay in
//! registers until the end of `k`. A value of `x` is broadcast and meets all vectors of the panel.
//!
//! Pixels are found by a table of offsets that the caller computes once for a group of rows, so that a tile may run
//! over the ends of rows, and `k` goes in segments that lie `x_segment` apart. That is all that the kernel knows of
//! layouts, and it serves four of them: NHWC (one segment), channel blocks (segments of 16), standard convolution (one
//! segment for each kernel row, or tap where there is dilation), and slabs of any.
//!
//! Registers on AVX2 (16): 6 × 2 sums, 2 weights, 1 broadcast. A last panel of at most 8 channels takes 12 × 1. NEON (32):
//! 6 × 4 sums, 4 weights, 1 broadcast. SSE4.2 (16, and a product needs one): 5 × 2 sums, half a panel at a time. One pixel
//! alone (a dense layer) has too few sums to hide the latency, so it takes four panels at once.
//!
//! AVX-512 (32, and a panel is one vector): 10 pixels of two panels, 20 sums; with more pixels their pointers do not fit
//! the 16 integer registers. An odd number of panels ends in 8 pixels of three, one panel alone takes 12 pixels, and is
//! bound by the 13 loads of its 12 multiply-adds (0.80 to 0.85 of the peak). Of a last panel of at most 8 channels, two
//! pixels share a vector, one in each half, in tiles of 10 pixels of one panel or two and that half:
//!
//! ```text
//!   value of pixel p     x x x x x x x x x x x x x x x x   ─▶ panel            blend: the lower half of the one,
//!   value of pixel p+1   y y y y y y y y y y y y y y y y   ─▶ panel            the upper half of the other
//!                        x x x x x x x x y y y y y y y y   ─▶ half a panel, its 8 weights in both halves
//! ```
//!
//! N = 24 went from 0.74 to 0.96 of the peak by that, and N = 88 from 0.90 to 0.99. The blend is an instruction of our own
//! choice: LLVM makes a shuffle of it, which takes a pipe of the multiply-adds (0.84).
//!
//! Pixels are split evenly over tiles: 49 are 4 × 6 + 5 × 5, never 8 × 6 + 1.
//!
//! The weights of a panel pass once for each tile. Where they are few, a tile goes over all panels and keeps its pixels
//! at hand; where they are many, all tiles go over a panel, and the last of them ask for the next: 7×7 planes, of nine
//! tiles, gained a seventh by that (79 → 92 % of the peak), since a first tile that waits for L3 takes more than twice
//! its time. On AVX-512 the two panels of a tile have to be asked for both: with one, a layer of 1024×1024 in its network
//! took 1.2 times as long.
//!
//! Instructions count as much as multiply-adds do. On AVX2 a step of 6 × 2 sums was 24 of them, 12 multiply-adds with 12 others,
//! and a core that shares its decoder with another thread hands out three or four a cycle: 0.71 of the peak, all in L1, where 20½
//! for a step have 0.91. So the 16 steps of a channel block stand one after the other, pixels are found by one index beside
//! pointers that stay, and weights are asked for four rows at a time: 20½. V2 1.0 224 has 76 million instructions for 90 and takes
//! 0.92 of the time beside a busy thread, V1 1.0 0.86; with the core to itself, 0.99. An index that LLVM can follow becomes a
//! pointer for each pixel again, which cost 2 %. By 4 steps: a third of the gain at most. By 8 steps: 21 for a step, V1 and V2 took 2
//! to 4 % longer beside busy neighbours (Zen 3), and the file compiled in four fifths of the time. Half a panel, 12 × 1: 27 instructions for 29, and
//! nearly twice the time to compile this file; 25 where pixels lie a block apart and need no pointer each, and the stem's nine taps
//! of a row one after the other as well: V2 0.35 96 had 2.4 % fewer instructions, and took as long. Not measured on AVX-512, whose
//! step is 36 instructions in 10 cycles.
//!
//! What stands around the loop was 180 instructions. Calls without partial sums, residual and vectors that are not whole have tiles
//! that do not ask for these. That took K = 16 from 0.80 to 0.89 of the peak, K = 24 from 0.86 to 0.92, and K = 32 from 0.89 to
//! 0.93.
//!
//! What lost: 4 pixels × 3 vectors on AVX2 spills (36–40 % of the peak); a division for each pixel of a tile in place
//! of the table of offsets cost a quarter at k = 16; slabs of 192 to 320 of `k` whose weights stay in L1, with partial
//! sums on the stack, took 3 to 5 % longer than long sums over weights that come from L2; one loop over all of `k`, or one
//! that tests at its end only, made LLVM keep sums on the stack (0.70 at K = 16). Each kind of
//! tile is a function of its own, which a call enters at most twice: inlined into one function, all tiles took twice as long to compile,
//! and were no faster.

use core::mem::MaybeUninit;
use core::ops::Range;

use pulp::Simd;

use crate::simd::{MulAdd, Places, Vector, copy_pixels, load, opaque, pixels_to_block, prefetch, store};
use crate::{BLOCK, Kernel, Level};

/// What [`Pointwise`] computes on. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct PointwiseArgs {
    /// Pixels.
    pub m: usize,
    /// Input channels, all taps of a standard convolution counted.
    pub k: usize,
    /// Output channels, from the first of `w`.
    pub n: usize,
    /// The input.
    pub x: *const f32,
    /// Where each of the `m` pixels begins, from `x`.
    pub x_pixels: *const usize,
    /// Values of `k` that lie together; the last segment may be shorter.
    pub segment: usize,
    /// From one segment to the next.
    pub x_segment: usize,
    /// The first weight of the first panel: 16 values for each of `k`.
    pub w: *const f32,
    /// From one panel to the next, in `w` and in `bias`.
    pub w_panel: usize,
    /// The bias of the first panel.
    pub bias: *const f32,
    /// Partial sums that the tile starts from in place of the bias, or null. Pixel `i` lies at `16 × i`.
    pub partial: *const f32,
    /// From one panel of partial sums to the next.
    pub partial_panel: usize,
    /// What is added to the sum before the clamp, or null.
    pub residual: *const f32,
    /// Where each of the `m` pixels begins, from `residual`.
    pub residual_pixels: *const usize,
    /// From one panel of `residual` to the next.
    pub residual_panel: usize,
    /// The output.
    pub out: *mut f32,
    /// Where each of the `m` pixels begins, from `out`.
    pub out_pixels: *const usize,
    /// From one panel of `out` to the next.
    pub out_panel: usize,
    /// Whether the last panel of `out` has room for 16 channels whatever `n` is.
    pub whole_blocks: bool,
    /// The same of `residual`.
    pub residual_whole: bool,
    /// Lower and upper bound of the clamp.
    pub clamp: [f32; 2],
}

/// `f32_pointwise`.
pub enum Pointwise {}

/// Rows of weights that a single pixel asks for ahead of their use: it reads each once, from as far away as they lie.
const AHEAD: usize = 32;

/// Bytes of weights that may stay in L1 beside the pixels of a tile.
const RESIDENT_WEIGHTS: usize = 20 << 10;

impl Kernel for Pointwise {
    type Args = PointwiseArgs;

    /// # Safety
    /// For each of `m` pixels and `k` channels, `x` is readable where offsets and segments say, and `out` writable in
    /// `n` channels (all 16 of a panel with `whole_blocks`), as `residual` is readable. `w` and `bias` hold whole
    /// panels for `n` and `k`; `partial`, if any, `m` × 16 values a panel. `out` overlaps none of the others, but it
    /// may be `partial` or `residual` at the same offsets.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs) {
        let panels = a.n.div_ceil(BLOCK);
        let half = (1..=BLOCK / 2).contains(&(a.n % BLOCK));
        // the panels that tiles of one kind go over, and those at the end for tiles of another
        let wide = match panels_of_tile::<L::Token>() {
            1 => panels - usize::from(half),
            _ if half => (panels - 1).saturating_sub(1) / 2 * 2,
            _ if panels.is_multiple_of(2) => panels,
            _ => panels.saturating_sub(3),
        };
        // SAFETY: the caller's promise, for every pixel and panel.
        unsafe {
            if a.m <= 2 {
                for i in 0..a.m {
                    few_pixels::<L::Token, L::Step>(simd, a, i, panels);
                }
                return;
            }
            let resident = a.k * a.n * size_of::<f32>() <= RESIDENT_WEIGHTS;
            for (part, half) in [(0..wide, false), (wide..panels, half)] {
                let step = if resident || part.end > wide { part.len() } else { panels_of_tile::<L::Token>() };
                let mut first = part.start;
                while first < part.end {
                    all_pixels::<L>(a, first..first + step, half, resident);
                    first += step;
                }
            }
        }
    }
}

/// Whether the steps of a whole block of `k` stand one after the other, in a tile of so many vectors and pixels. Tiles of 3 pixels are
/// rare.
#[inline(always)]
const fn unrolls<S: Vector>(vectors: usize, pixels: usize) -> bool {
    S::F32_LANES == 8 && vectors > 1 && pixels > 3
}

/// How a tile goes over `k`: so many whole blocks of it, each `hop` values of `x` from the one before, perhaps 8 values more,
/// and the rest in segments.
#[derive(Clone, Copy)]
struct Blocks {
    count: usize,
    hop: usize,
    eight: bool,
}

impl Blocks {
    /// None but the rest, where tiles are not unrolled or segments are neither blocks nor all of `k`.
    #[inline(always)]
    fn of(a: &PointwiseArgs, unrolled: bool) -> Blocks {
        let together = a.segment >= a.k;
        if unrolled && (together || a.segment == BLOCK) {
            let hop = if together { BLOCK } else { a.x_segment };
            Blocks { count: a.k / BLOCK, hop, eight: a.k % BLOCK >= BLOCK / 2 }
        } else {
            Blocks { count: 0, hop: 0, eight: false }
        }
    }
}

/// Weights that tiles ask for while they compute: each tile from the tile `from` on, `times` × [`Ahead::at_once`] rows in each block of
/// `k`, or segment where there are no blocks; one tile `hop` values behind the other.
#[derive(Clone, Copy)]
struct Ahead {
    w: *const f32,
    from: usize,
    times: usize,
    hop: usize,
}

impl Ahead {
    /// Rows that are asked for one after the other. Where steps are unrolled, a loop over a few rows is as long as a step.
    #[inline(always)]
    const fn at_once<S: Vector>() -> usize {
        if unrolls::<S>(2, MAX_MR) { 4 } else { 1 }
    }

    /// For the tiles behind the first `tiles`.
    #[inline(always)]
    fn after(self, tiles: usize) -> Ahead {
        let asked = tiles.saturating_sub(self.from);
        Ahead { w: self.w.wrapping_add(asked * self.hop), from: self.from.saturating_sub(tiles), ..self }
    }
}

/// All pixels, one tile after the other, each in all of some panels.
///
/// Where weights are not `resident`, the panels that follow are fetched into the cache meanwhile: the last tiles ask for
/// them, since what the first ones asked for would be gone again.
///
/// # Safety
/// As [`Pointwise::run`].
#[inline(always)]
unsafe fn all_pixels<L: Level>(a: &PointwiseArgs, panels: Range<usize>, half: bool, resident: bool) {
    let lanes = <L::Token as Simd>::F32_LANES;
    // what stands around a few steps of k counts, so that most calls have a tile of their own that asks nothing
    let whole = if lanes == BLOCK { BLOCK } else { BLOCK / 2 };
    let plain = resident
        && !shares_vectors::<L::Token>(half)
        && a.partial.is_null()
        && a.residual.is_null()
        && (a.whole_blocks || a.n.is_multiple_of(whole));
    let max = max_mr::<L::Token>(panels.len(), half);
    let tiles = a.m.div_ceil(max);
    let blocks = Blocks::of(a, unrolls::<L::Token>(if half { 1 } else { 2 }, max));
    let mut ahead = Ahead { w: a.w.wrapping_add(panels.end * a.w_panel), from: tiles, times: 0, hop: 0 };
    if !resident {
        // places of a tile at which it asks
        let places = if blocks.count > 0 { blocks.count } else { a.k.div_ceil(a.segment) };
        let (lines, at_once) = (panels.len() * (a.k + 1), places * Ahead::at_once::<L::Token>());
        let asking = tiles.min(lines.div_ceil(at_once));
        ahead.times = lines.div_ceil(asking * at_once);
        ahead.hop = ahead.times * at_once * BLOCK;
        ahead.from = tiles - asking;
    }
    let mut done = 0;
    for (first, count, mr) in split(a.m, max, sharing::<L::Token>(panels.len(), half)) {
        let group = Tiles { call: *a, first, count, blocks, panels: panels.clone(), half, ahead: ahead.after(done) };
        // SAFETY: the caller's.
        unsafe {
            // a level of few tiles has none of these
            if const { !L::Token::FEW_TILES } && plain {
                group.enter::<L, true>(mr);
            } else {
                group.enter::<L, false>(mr);
            }
        }
        done += count;
    }
}

/// Panels that one tile covers: two where a panel is a single vector.
#[inline(always)]
const fn panels_of_tile<S: Vector>() -> usize {
    if S::F32_LANES == BLOCK { 2 } else { 1 }
}

/// The most pixels of a tile that goes over `panels` panels, of which the last may be half.
#[inline(always)]
const fn max_mr<S: Vector>(panels: usize, half: bool) -> usize {
    match (S::F32_LANES, S::REGISTER_COUNT, half) {
        (16, _, false) if panels == 3 => 8,
        (16, ..) if panels == 1 => 12,
        (16, _, _) => 10,
        (8, _, false) => 6,
        (8, _, true) => 12,
        (4, 32, false) => 6,
        (4, 32, true) => 12,
        (4, _, _) => 5,
        _ => 3,
    }
}

/// Splits `m` pixels into the fewest tiles of at most `max`, evenly, by `unit` of them: the longer tiles, and those of one unit less. Of
/// each, the first pixel, the number of tiles, and the pixels of one; the last tile of all may lack a pixel. Of 3 pixels or more, no
/// tile has fewer than 3, or than 2 where `max` is 3: there are none for these.
#[inline(always)]
fn split(m: usize, max: usize, unit: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (units, tiles) = (m.div_ceil(unit), m.div_ceil(max));
    let (each, longer) = (units / tiles, units % tiles);
    let behind = longer * (each + 1) * unit;
    let groups = [(0, longer, (each + 1) * unit), (behind, tiles - longer, each * unit)];
    groups.into_iter().filter(|&(_, count, _)| count > 0)
}

/// Whether two pixels share a vector, in tiles of half a panel.
#[inline(always)]
const fn shares_vectors<S: Vector>(half: bool) -> bool {
    S::F32_LANES == BLOCK && half
}

/// Pixels by which tiles are counted: there are tiles of even numbers alone where two pixels share a vector, and where they
/// are rare. A tile of an odd number computes its last pixel twice then.
#[inline(always)]
const fn sharing<S: Vector>(panels: usize, half: bool) -> usize {
    if shares_vectors::<S>(half) || (S::F32_LANES == BLOCK && panels % 2 == 1) { 2 } else { 1 }
}

/// Tiles of as many pixels, one behind the other: all of a call's but those that have a pixel more, or less.
pub(crate) struct Tiles {
    call: PointwiseArgs,
    /// The first pixel of the first tile.
    first: usize,
    count: usize,
    blocks: Blocks,
    panels: Range<usize>,
    /// Only the first 8 channels of the last panel count.
    half: bool,
    ahead: Ahead,
}

impl Tiles {
    /// Runs them in tiles of `mr` pixels, by as many vectors at a time as the registers hold.
    ///
    /// `PLAIN`: sums start from the bias, nothing is added to them, all vectors are whole, and no weights are asked for.
    ///
    /// # Safety
    /// As [`Pointwise::run`], for these pixels and panels.
    #[inline(always)]
    unsafe fn enter<L: Level, const PLAIN: bool>(&self, mr: usize) {
        macro_rules! tiles {
            ($np:literal by $nv:literal: $($mr:literal)*) => { tiles!(false, $np by $nv: $($mr)*) };
            ($half:literal, $np:literal by $nv:literal: $($mr:literal)*) => {
                match mr {
                    $($mr => L::enter::<Tile<PLAIN, $half, $mr, $np, $nv>>(self),)*
                    _ => unreachable!(),
                }
            };
        }
        // SAFETY: the caller's.
        unsafe {
            match (<L::Token as Simd>::F32_LANES, <L::Token as Simd>::REGISTER_COUNT, self.half) {
                (16, ..) => match (self.panels.len(), self.half) {
                    // such a call is never plain
                    (2, true) if const { !PLAIN } => tiles!(true, 1 by 1: 4 6 8 10),
                    (3, true) if const { !PLAIN } => tiles!(true, 2 by 1: 4 6 8 10),
                    (3, _) => tiles!(3 by 1: 4 6 8),
                    (1, _) => tiles!(1 by 1: 4 6 8 10 12),
                    _ => tiles!(2 by 1: 3 4 5 6 7 8 9 10),
                },
                (8, _, false) => tiles!(1 by 2: 3 4 5 6),
                (8, _, true) => tiles!(1 by 1: 3 4 5 6 7 8 9 10 11 12),
                (4, 32, false) => tiles!(1 by 4: 3 4 5 6),
                (4, 32, true) => tiles!(1 by 2: 3 4 5 6 7 8 9 10 11 12),
                // the tiles of half a panel are those of a whole one
                (4, ..) => tiles!(1 by 2: 3 4 5),
                _ => tiles!(1 by 4: 2 3),
            }
        }
    }
}

/// `f32_pointwise`, as far as a kind of tile goes: see [`tiles`]. A function of its own for each.
pub(crate) enum Tile<const PLAIN: bool, const HALF: bool, const MR: usize, const NP: usize, const NV: usize> {}

impl<const PLAIN: bool, const HALF: bool, const MR: usize, const NP: usize, const NV: usize> Kernel
    for Tile<PLAIN, HALF, MR, NP, NV>
{
    type Args = Tiles;

    /// # Safety
    /// As [`Tiles::enter`].
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, group: &Tiles) {
        let Tiles { call, first, count, blocks, half, ahead, .. } = group;
        let lanes = <L::Token as Simd>::F32_LANES;
        // of a tile with half a panel behind its others, that half is apart
        let panels = group.panels.start..group.panels.end - usize::from(HALF);
        let channels = if *half && !HALF { BLOCK / 2 } else { BLOCK };
        for t in 0..*count {
            let i = first + t * MR;
            // the last tile of a call may lack a pixel
            let last = MR.min(call.m - i) - 1;
            for part in 0..channels / (lanes * NV) {
                // SAFETY: the caller's.
                unsafe {
                    tiles::<L::Token, L::Step, PLAIN, HALF, MR, NP, NV>(
                        simd,
                        call,
                        *blocks,
                        ahead.after(t),
                        i,
                        last,
                        panels.clone(),
                        part * lanes * NV,
                    );
                }
            }
        }
    }
}

/// `MR` pixels from `i` to `i + last`, times `NV` vectors from channel `lane` on of each panel, `NP` panels at a time. One
/// pixel may be lacking: the last one stands twice then.
///
/// `HALF`: and times half a panel behind them, where a panel is one vector. Two pixels share a vector then: the lower half
/// is the first one's, the upper half the second one's.
///
/// # Safety
/// As [`Pointwise::run`]; the panels are a multiple of `NP`.
#[inline(always)]
unsafe fn tiles<
    S: Vector,
    A: MulAdd,
    const PLAIN: bool,
    const HALF: bool,
    const MR: usize,
    const NP: usize,
    const NV: usize,
>(
    simd: S,
    a: &PointwiseArgs,
    blocks: Blocks,
    ahead: Ahead,
    i: usize,
    last: usize,
    panels: Range<usize>,
    lane: usize,
) {
    let lanes = S::F32_LANES;
    let times = if PLAIN || ahead.from > 0 { 0 } else { ahead.times };
    // SAFETY: every address below is one that the caller promised: a pixel of `i..=i + last`, a channel of the panels.
    unsafe {
        let mut pixels = [a.x; MR];
        for p in 0..MR {
            pixels[p] = a.x.add(*a.x_pixels.add(i + place::<MR>(p, last)));
        }
        for panel in panels.step_by(NP) {
            let mut acc = [[[simd.splat_f32s(0.0); NV]; NP]; MR];
            for q in 0..NP {
                if PLAIN || a.partial.is_null() {
                    let bias = a.bias.add((panel + q) * a.w_panel + lane);
                    for v in 0..NV {
                        let b = load(simd, bias.add(v * lanes));
                        for p in 0..MR {
                            acc[p][q][v] = b;
                        }
                    }
                } else {
                    let partial = a.partial.add((panel + q) * a.partial_panel + i * BLOCK + lane);
                    for p in 0..MR {
                        for v in 0..NV {
                            acc[p][q][v] = load(simd, partial.add(place::<MR>(p, last) * BLOCK + v * lanes));
                        }
                    }
                }
            }

            let mut halves = [simd.splat_f32s(0.0); MR];
            if HALF {
                let bias = a.bias.add((panel + NP) * a.w_panel);
                let b = simd.load_halves(bias, bias);
                for p in 0..MR / 2 {
                    halves[p] = b;
                }
                if !a.partial.is_null() {
                    let partial = a.partial.add((panel + NP) * a.partial_panel + i * BLOCK);
                    for p in 0..MR / 2 {
                        let upper = place::<MR>(2 * p + 1, last);
                        halves[p] = simd.load_halves(partial.add(2 * p * BLOCK), partial.add(upper * BLOCK));
                    }
                }
            }

            let mut x = pixels;
            let mut w = a.w.add(panel * a.w_panel + lane);
            let mut next = ahead.w;
            // a step of `k`: its pixels' values at `$k`, and its weights so many rows on
            macro_rules! step {
                ($k:expr, $row:expr) => {{
                    let (k, w) = ($k, w.wrapping_add($row * BLOCK));
                    let mut weights = [[simd.splat_f32s(0.0); NV]; NP];
                    for q in 0..NP {
                        for v in 0..NV {
                            weights[q][v] = load(simd, w.add(q * a.w_panel + v * lanes));
                        }
                    }
                    let mut half = weights[0][0];
                    if HALF {
                        let w = w.add(NP * a.w_panel);
                        half = simd.load_halves(w, w);
                    }
                    let mut first = half;
                    for p in 0..MR {
                        let value = simd.splat_f32s(*x[p].add(k));
                        for q in 0..NP {
                            for v in 0..NV {
                                acc[p][q][v] = A::mul_add(simd, value, weights[q][v], acc[p][q][v]);
                            }
                        }
                        if HALF && p % 2 == 0 {
                            first = value;
                        } else if HALF {
                            halves[p / 2] = A::mul_add(simd, simd.halves(first, value), half, halves[p / 2]);
                        }
                    }
                }};
            }
            macro_rules! ask {
                () => {
                    for _ in 0..times {
                        for row in 0..Ahead::at_once::<S>() {
                            prefetch(next.wrapping_add(row * BLOCK));
                        }
                        next = next.wrapping_add(Ahead::at_once::<S>() * BLOCK);
                    }
                };
            }
            let mut left = a.k;
            if const { unrolls::<S>(NV, MR) } {
                let mut at = 0;
                for _ in 0..blocks.count {
                    ask!();
                    unrolled!(STEP in BLOCK, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15, { step!(at + STEP, STEP) });
                    w = w.wrapping_add(BLOCK * BLOCK);
                    // else each pixel has a pointer that moves
                    at = opaque(at + blocks.hop);
                }
                left -= blocks.count * BLOCK;
                if blocks.eight {
                    unrolled!(STEP in BLOCK / 2, of 0 1 2 3 4 5 6 7, { step!(at + STEP, STEP) });
                    w = w.wrapping_add(BLOCK / 2 * BLOCK);
                    at += BLOCK / 2;
                    left -= BLOCK / 2;
                }
                for p in 0..MR {
                    x[p] = x[p].wrapping_add(at);
                }
            }
            while left > 0 {
                if const { !unrolls::<S>(NV, MR) } || blocks.count == 0 {
                    ask!();
                }
                let segment = left.min(a.segment);
                let mut k = 0;
                while k < segment {
                    step!(k, 0);
                    // of a part of a panel, the last step leaves the weights
                    w = w.wrapping_add(BLOCK);
                    k += 1;
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                for p in 0..MR {
                    x[p] = x[p].add(a.x_segment);
                }
            }
            finish::<S, PLAIN, MR, NP, NV>(simd, a, acc, i, last, panel, lane);
            if HALF {
                finish_half(simd, a, halves, i, last, panel + NP);
            }
        }
    }
}

/// Of which pixel of a tile the `p`th sums are: its own, but for the last ones of a tile that has a pixel less.
#[inline(always)]
const fn place<const MR: usize>(p: usize, last: usize) -> usize {
    if p + 1 == MR { last } else { p }
}

/// The most pixels of any tile.
const MAX_MR: usize = 12;

/// Where pixels begin in a block of memory of the tile's own.
static DENSE: [usize; MAX_MR] = {
    let mut at = [0; MAX_MR];
    let mut p = 0;
    while p < MAX_MR {
        at[p] = p * BLOCK;
        p += 1;
    }
    at
};

/// Where `mr` values of a residual or an output are: in the caller's memory where whole vectors are there, else in a block
/// of the tile's own, so that vectors meet one path.
macro_rules! or_block {
    ($whole:expr, $ptr:expr, $pixels:expr, $block:expr) => {
        if $whole { ($ptr, $pixels) } else { ($block, DENSE.as_ptr()) }
    };
}

/// Adds the residual, clamps and stores `MR` pixels of `NP` panels.
///
/// On AVX-512 each value is clamped and stored before the next, pixel by pixel: a burst of stores, all clamps before it,
/// took up to 3 % longer with 64 steps of `k` while the other core was busy, and 1 % with 16 in quiet. On AVX2 it is the
/// other way round, by half a percent of a network. One place that stores, or LLVM keeps sums in memory on NEON.
///
/// # Safety
/// As [`Pointwise::run`].
#[inline(always)]
unsafe fn finish<S: Vector, const PLAIN: bool, const MR: usize, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs,
    mut acc: [[[S::f32s; NV]; NP]; MR],
    i: usize,
    last: usize,
    panel: usize,
    lane: usize,
) {
    let lanes = S::F32_LANES;
    const { assert!(MR <= MAX_MR) };
    let mut block = [const { MaybeUninit::<f32>::uninit() }; MAX_MR * BLOCK];
    let block = block.as_mut_ptr().cast::<f32>();
    // the last panel, of which a part may lie past the last channel
    let tail = panel + NP - 1;
    let channels = a.n.saturating_sub(tail * BLOCK + lane).min(NV * lanes);
    let full = channels == NV * lanes;
    // with AVX-512 a vector of which not all lanes are there is read and written by a mask, elsewhere by way of a block
    let masked = lanes == BLOCK;
    // SAFETY: the caller's: vectors are read and written whole only where 16 channels are there, and elsewhere no more
    // than `channels`; `block` and `DENSE` hold `MR` pixels.
    unsafe {
        if !PLAIN && !a.residual.is_null() {
            let from = a.residual.wrapping_add(panel * a.residual_panel + lane);
            let whole = a.residual_whole || full;
            let end = from.wrapping_add((NP - 1) * a.residual_panel);
            let in_place = whole || masked;
            let (residual, pixels) = or_block!(in_place, end, a.residual_pixels.add(i), block.cast_const());
            if !in_place {
                pixels_to_block(last + 1, channels, end, a.residual_pixels.add(i), block);
            }
            for p in 0..MR {
                let at = place::<MR>(p, last);
                for q in 0..NP {
                    let r = if q + 1 < NP {
                        from.add(q * a.residual_panel + *a.residual_pixels.add(i + at))
                    } else {
                        residual.add(*pixels.add(at))
                    };
                    for v in 0..NV {
                        let r = if masked && q + 1 == NP && !whole {
                            simd.load_lanes(r, channels)
                        } else {
                            load(simd, r.add(v * lanes))
                        };
                        acc[p][q][v] = simd.add_f32s(acc[p][q][v], r);
                    }
                }
            }
        }
        let to = a.out.wrapping_add(panel * a.out_panel + lane);
        let whole = PLAIN || a.whole_blocks || full;
        let end = to.wrapping_add((NP - 1) * a.out_panel);
        let in_place = whole || masked;
        let (out, pixels) = or_block!(in_place, end, a.out_pixels.add(i), block);
        let (lo, hi) = (simd.splat_f32s(a.clamp[0]), simd.splat_f32s(a.clamp[1]));
        if lanes < BLOCK && a.clamp != [f32::NEG_INFINITY, f32::INFINITY] {
            for p in 0..MR {
                for q in 0..NP {
                    for v in 0..NV {
                        acc[p][q][v] = simd.clamp(acc[p][q][v], lo, hi);
                    }
                }
            }
        }
        for p in 0..MR {
            let at = place::<MR>(p, last);
            for q in 0..NP {
                let out = if q + 1 < NP {
                    to.add(q * a.out_panel + *a.out_pixels.add(i + at))
                } else {
                    out.add(*pixels.add(at))
                };
                for v in 0..NV {
                    let sum = if lanes == BLOCK { simd.clamp(acc[p][q][v], lo, hi) } else { acc[p][q][v] };
                    if masked && q + 1 == NP && !whole {
                        simd.store_lanes(out, sum, channels);
                    } else {
                        store(simd, out.add(v * lanes), sum);
                    }
                }
            }
        }
        if !in_place {
            copy_pixels(last + 1, channels, (block, Places::Every(BLOCK)), (end, Places::Table(a.out_pixels.add(i))));
        }
    }
}

/// The same of half a panel, two pixels a vector. No more than its half of 8 channels is read or written.
///
/// # Safety
/// As [`Pointwise::run`].
#[inline(always)]
unsafe fn finish_half<S: Vector, const MR: usize>(
    simd: S,
    a: &PointwiseArgs,
    mut halves: [S::f32s; MR],
    i: usize,
    last: usize,
    panel: usize,
) {
    let mut block = [const { MaybeUninit::<f32>::uninit() }; MAX_MR * BLOCK];
    let block = block.as_mut_ptr().cast::<f32>();
    let channels = a.n - panel * BLOCK;
    // SAFETY: as in `finish`, with vectors of 8 channels.
    unsafe {
        let to = a.out.wrapping_add(panel * a.out_panel);
        let whole = a.whole_blocks || channels == BLOCK / 2;
        let (out, out_pixels) = or_block!(whole, to, a.out_pixels.add(i), block);
        if !a.residual.is_null() {
            let from = a.residual.wrapping_add(panel * a.residual_panel);
            let whole = a.residual_whole || channels == BLOCK / 2;
            if !whole {
                pixels_to_block(last + 1, channels, from, a.residual_pixels.add(i), block);
            }
            let (residual, pixels) = or_block!(whole, from, a.residual_pixels.add(i), block.cast_const());
            for p in 0..MR / 2 {
                let [lower, upper] =
                    [residual.add(*pixels.add(2 * p)), residual.add(*pixels.add(place::<MR>(2 * p + 1, last)))];
                halves[p] = simd.add_f32s(halves[p], simd.load_halves(lower, upper));
            }
        }
        let (lo, hi) = (simd.splat_f32s(a.clamp[0]), simd.splat_f32s(a.clamp[1]));
        for p in 0..MR / 2 {
            let [lower, upper] =
                [out.add(*out_pixels.add(2 * p)), out.add(*out_pixels.add(place::<MR>(2 * p + 1, last)))];
            simd.store_halves(lower, upper, simd.clamp(halves[p], lo, hi));
        }
        if !whole {
            copy_pixels(last + 1, channels, (block, Places::Every(BLOCK)), (to, Places::Table(a.out_pixels.add(i))));
        }
    }
}

/// One pixel times all panels, as many at a time as give enough sums to hide the latency.
///
/// # Safety
/// As [`Pointwise::run`], for pixel `i`.
#[inline(always)]
unsafe fn few_pixels<S: Vector, A: MulAdd>(simd: S, a: &PointwiseArgs, i: usize, panels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match S::F32_LANES {
            16 => pixel::<S, A, 8, 1>(simd, a, i, panels),
            8 => pixel::<S, A, 4, 2>(simd, a, i, panels),
            4 => pixel::<S, A, 2, 4>(simd, a, i, panels),
            _ => pixel::<S, A, 1, 16>(simd, a, i, panels),
        }
    }
}

/// Pixel `i` times all panels, `NP` of `NV` vectors at a time.
///
/// # Safety
/// As [`Pointwise::run`], for pixel `i`.
#[inline(always)]
unsafe fn pixel<S: Vector, A: MulAdd, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs,
    i: usize,
    panels: usize,
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while first < panels {
        // the last group goes back over panels that were done where it would be short; the result is the same
        let mut panel = [0; NP];
        for q in 0..NP {
            panel[q] = (first + q).min(panels - 1);
        }
        // SAFETY: the caller's promise, for pixel `i` and panels below `panels`.
        unsafe {
            let mut acc = [[simd.splat_f32s(0.0); NV]; NP];
            let mut w = [a.w; NP];
            for q in 0..NP {
                w[q] = a.w.add(panel[q] * a.w_panel);
                let start = if a.partial.is_null() {
                    a.bias.add(panel[q] * a.w_panel)
                } else {
                    a.partial.add(panel[q] * a.partial_panel + i * BLOCK)
                };
                for v in 0..NV {
                    acc[q][v] = load(simd, start.add(v * lanes));
                }
            }
            let mut x = a.x.add(*a.x_pixels.add(i));
            let mut left = a.k;
            loop {
                let segment = left.min(a.segment);
                for k in 0..segment {
                    let value = simd.splat_f32s(*x.add(k));
                    for q in 0..NP {
                        prefetch(w[q].wrapping_add((k + AHEAD) * BLOCK));
                        for v in 0..NV {
                            let weight = load(simd, w[q].add(k * BLOCK + v * lanes));
                            acc[q][v] = A::mul_add(simd, value, weight, acc[q][v]);
                        }
                    }
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                x = x.add(a.x_segment);
                for q in 0..NP {
                    w[q] = w[q].add(segment * BLOCK);
                }
            }
            for q in 0..NP {
                // a constant range: of a variable one, a sum would be stored at every step of k
                if q < panels - first {
                    finish::<S, false, 1, 1, NV>(simd, a, [[acc[q]]], i, 0, panel[q], 0);
                }
            }
        }
        first += NP;
    }
}
