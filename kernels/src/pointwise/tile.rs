//! The tile: some pixels times the vectors of some panels, all of `k`, with the sums in registers.

use core::marker::PhantomData;
use core::ops::Range;

use pulp::Simd;

use super::PointwiseArgs;
use super::product::{Multiplied, TileProduct};
use crate::simd::{Vector, opaque, opaque_ref, prefetch};
use crate::{BLOCK, Kernel, Level, Pointee};

/// Bytes of what tiles ask for at once: a row of 16 floats, or of as many int8 weights as a step has.
pub(super) const LINE: usize = 64;

/// The most pixels of any tile.
pub(super) const MAX_MR: usize = 12;

/// Whether the steps of a whole block of `k` stand one after the other, in a tile of so many vectors and pixels. Tiles of 3 pixels are
/// rare.
#[inline(always)]
pub(super) const fn unrolls<S: Vector>(vectors: usize, pixels: usize) -> bool {
    S::F32_LANES == 8 && vectors > 1 && pixels > 3
}

/// How a tile goes over `k`: so many whole blocks of it, each `hop` values of `x` from the one before, perhaps 8 values more,
/// and the rest in segments.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub(super) blocks: usize,
    hop: usize,
    eight: bool,
}

impl Reduction {
    /// None but the rest, where tiles are not unrolled or segments are neither blocks nor all of `k`.
    #[inline(always)]
    pub(super) fn of<T: Pointee>(a: &PointwiseArgs<T>, unrolled: bool) -> Reduction {
        let together = a.segment >= a.k;
        if unrolled && (together || a.segment == BLOCK) {
            let hop = if together { BLOCK } else { a.x_segment };
            Reduction { blocks: a.k / BLOCK, hop, eight: a.k % BLOCK >= BLOCK / 2 }
        } else {
            Reduction { blocks: 0, hop: 0, eight: false }
        }
    }
}

/// Weights that tiles ask for while they compute: each tile from the tile `from` on, `times` × [`Ahead::at_once`] lines in each block of
/// `k`, or segment where there are no blocks; one tile `hop` bytes behind the other.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) w: *const u8,
    pub(super) from: usize,
    pub(super) times: usize,
    pub(super) hop: usize,
}

impl Ahead {
    /// Lines that are asked for one after the other. Where steps are unrolled, a loop over a few of them is as long as a step.
    #[inline(always)]
    pub(super) const fn at_once<S: Vector>() -> usize {
        if unrolls::<S>(2, MAX_MR) { 4 } else { 1 }
    }

    /// For the tiles behind the first `tiles`.
    #[inline(always)]
    pub(super) fn after(self, tiles: usize) -> Ahead {
        let asked = tiles.saturating_sub(self.from);
        Ahead { w: self.w.wrapping_add(asked * self.hop), from: self.from.saturating_sub(tiles), ..self }
    }
}

/// Tiles of as many pixels, one behind the other: all of a call's but those that have a pixel more, or less.
pub(super) struct Tiles<T: Pointee> {
    pub(super) call: *const PointwiseArgs<T>,
    /// The first pixel of the first tile.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) reduction: Reduction,
    pub(super) panels: Range<usize>,
    /// Only the first 8 channels of the last panel count.
    pub(super) half: bool,
    pub(super) ahead: Ahead,
}

/// `f32_pointwise`, as far as a kind of tile goes: see [`over_panels`]. A function of its own for each.
pub(super) struct Tile<O, const PLAIN: bool, const HALF: bool, const MR: usize, const NP: usize, const NV: usize>(
    PhantomData<O>,
);

impl<O: Multiplied, const PLAIN: bool, const HALF: bool, const MR: usize, const NP: usize, const NV: usize> Kernel
    for Tile<O, PLAIN, HALF, MR, NP, NV>
{
    type Args = Tiles<O::Pointee>;

    /// # Safety
    /// As [`super::Pointwise::run`], for the pixels and panels of the group.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, group: &Tiles<O::Pointee>) {
        let Tiles { call, first, count, reduction, half, ahead, .. } = group;
        let lanes = <L::Token as Simd>::F32_LANES;
        // of a tile with half a panel behind its others, that half is apart
        let panels = group.panels.start..group.panels.end - usize::from(HALF);
        // a vector at the least, where that has a whole panel
        let channels = if *half && !HALF { (BLOCK / 2).max(lanes * NV) } else { BLOCK };
        for t in 0..*count {
            // SAFETY: the caller's: the arguments of a call that has not returned.
            let call = opaque_ref(unsafe { &**call });
            let i = first + t * MR;
            // the last tile of a call may lack a pixel
            let last = MR.min(call.m - i) - 1;
            for part in 0..channels / (lanes * NV) {
                // SAFETY: the caller's.
                unsafe {
                    over_panels::<L::Token, O::On<L>, PLAIN, HALF, MR, NP, NV>(
                        simd,
                        call,
                        *reduction,
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

// The parts of `over_panels` are macros. As functions, inlined, they made LLVM touch the stack more often in tiles of half a panel.

/// A step of `k`, in [`over_panels`]: the value of each pixel at `$x[$k]`, times row `$w[$row]` of the weights.
macro_rules! step {
    ($simd:ident, $a:ident, $acc:ident, $halves:ident, $x:ident[$k:expr], $w:ident[$row:expr]) => {{
        let (k, w) = ($k, $w.wrapping_add($row * BLOCK * P::STEP));
        let mut weights = [[P::weights($simd, w); NV]; NP];
        for q in 0..NP {
            for v in 0..NV {
                let w = w.cast::<P::Pointee>().add(q * $a.w_panel).cast::<P::Weight>();
                weights[q][v] = P::weights($simd, w.add(v * S::F32_LANES * P::STEP));
            }
        }
        let mut half = weights[0][0];
        if HALF {
            half = P::half_weights($simd, w.cast::<P::Pointee>().add(NP * $a.w_panel).cast());
        }
        let mut first = half;
        for p in 0..MR {
            let value = P::splat($simd, $x[p].add(k));
            for q in 0..NP {
                for v in 0..NV {
                    $acc[p][q][v] = P::step($simd, value, weights[q][v], $acc[p][q][v]);
                }
            }
            if HALF && p % 2 == 0 {
                first = value;
            } else if HALF {
                $halves[p / 2] = P::step($simd, P::of_two($simd, first, value), half, $halves[p / 2]);
            }
        }
    }};
}

/// What the sums of whole panels start from, in [`over_panels`]: the bias, or partial sums.
macro_rules! start {
    ($simd:ident, $a:ident, $acc:ident, $i:ident, $last:ident, $panel:ident, $lane:ident) => {
        for q in 0..NP {
            if PLAIN || $a.partial.is_null() {
                let bias = $a.bias.add(($panel + q) * $a.w_panel).cast::<P::Sum>().add($lane);
                for v in 0..NV {
                    let b = P::load($simd, bias.add(v * S::F32_LANES));
                    for p in 0..MR {
                        $acc[p][q][v] = b;
                    }
                }
            } else {
                let partial = $a.partial.cast::<P::Sum>().add(($panel + q) * $a.partial_panel + $i * BLOCK + $lane);
                for p in 0..MR {
                    for v in 0..NV {
                        $acc[p][q][v] = P::load($simd, partial.add(place::<MR>(p, $last) * BLOCK + v * S::F32_LANES));
                    }
                }
            }
        }
    };
}

/// The same of half a panel, two pixels a vector.
macro_rules! start_half {
    ($simd:ident, $a:ident, $halves:ident, $i:ident, $last:ident, $panel:expr) => {
        let bias = $a.bias.add($panel * $a.w_panel).cast::<P::Sum>();
        let b = P::load_halves($simd, bias, bias);
        for p in 0..MR / 2 {
            $halves[p] = b;
        }
        if !$a.partial.is_null() {
            let partial = $a.partial.cast::<P::Sum>().add($panel * $a.partial_panel + $i * BLOCK);
            for p in 0..MR / 2 {
                let upper = place::<MR>(2 * p + 1, $last);
                $halves[p] = P::load_halves($simd, partial.add(2 * p * BLOCK), partial.add(upper * BLOCK));
            }
        }
    };
}

/// Asks for the next weights, in [`over_panels`]: `$times` × [`Ahead::at_once`] lines of them.
macro_rules! ask {
    ($next:ident, $times:ident) => {
        for _ in 0..$times {
            for row in 0..Ahead::at_once::<S>() {
                prefetch($next.wrapping_add(row * LINE));
            }
            $next = $next.wrapping_add(Ahead::at_once::<S>() * LINE);
        }
    };
}

/// `MR` pixels from `i` to `i + last`, times `NV` vectors from channel `lane` on of each panel, `NP` panels at a time. One
/// pixel may be lacking: the last one stands twice then.
///
/// `HALF`: and times half a panel behind them, where a panel is one vector. Two pixels share a vector then: the lower half
/// is the first one's, the upper half the second one's.
///
/// # Safety
/// As [`super::Pointwise::run`]; the panels are a multiple of `NP`.
#[inline(always)]
unsafe fn over_panels<
    S: Vector,
    P: TileProduct<S>,
    const PLAIN: bool,
    const HALF: bool,
    const MR: usize,
    const NP: usize,
    const NV: usize,
>(
    simd: S,
    a: &PointwiseArgs<P::Pointee>,
    reduction: Reduction,
    ahead: Ahead,
    i: usize,
    last: usize,
    panels: Range<usize>,
    lane: usize,
) {
    let times = if PLAIN || ahead.from > 0 { 0 } else { ahead.times };
    // SAFETY: every address below is one that the caller promised: a pixel of `i..=i + last`, a channel of the panels.
    unsafe {
        let x = a.x.cast::<P::Input>();
        let mut pixels = [x; MR];
        for p in 0..MR {
            pixels[p] = x.add(*a.x_pixels.add(i + place::<MR>(p, last)));
        }
        let mut next = ahead.w;
        for panel in panels.step_by(NP) {
            let mut acc = [[[P::zero(simd); NV]; NP]; MR];
            start!(simd, a, acc, i, last, panel, lane);
            let mut halves = [P::zero(simd); MR];
            if HALF {
                start_half!(simd, a, halves, i, last, panel + NP);
            }
            let mut x = pixels;
            let mut w = a.w.add(panel * a.w_panel).cast::<P::Weight>().add(lane * P::STEP);
            let mut left = a.k;
            if const { unrolls::<S>(NV, MR) } {
                let mut at = 0;
                for _ in 0..reduction.blocks {
                    ask!(next, times);
                    unrolled!(STEP in BLOCK / P::STEP, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15, {
                        step!(simd, a, acc, halves, x[at + STEP * P::STEP], w[STEP]);
                    });
                    w = w.wrapping_add(BLOCK * BLOCK);
                    // else each pixel has a pointer that moves
                    at = opaque(at + reduction.hop);
                }
                left -= reduction.blocks * BLOCK;
                if reduction.eight {
                    unrolled!(STEP in BLOCK / 2 / P::STEP, of 0 1 2 3 4 5 6 7, {
                        step!(simd, a, acc, halves, x[at + STEP * P::STEP], w[STEP]);
                    });
                    w = w.wrapping_add(BLOCK / 2 * BLOCK);
                    at += BLOCK / 2;
                    left -= BLOCK / 2;
                }
                for p in 0..MR {
                    x[p] = x[p].wrapping_add(at);
                }
            }
            while left > 0 {
                if const { !unrolls::<S>(NV, MR) } || reduction.blocks == 0 {
                    ask!(next, times);
                }
                let segment = left.min(a.segment);
                let mut k = 0;
                while k < segment {
                    step!(simd, a, acc, halves, x[k], w[0]);
                    // of a part of a panel, the last step leaves the weights
                    w = w.wrapping_add(BLOCK * P::STEP);
                    k += P::STEP;
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                for p in 0..MR {
                    x[p] = x[p].add(a.x_segment);
                }
            }
            P::finish::<PLAIN, MR, NP, NV>(simd, a, acc, i, last, panel, lane);
            if HALF {
                P::finish_half(simd, a, halves, i, last, panel + NP);
            }
        }
    }
}

/// Of which pixel of a tile the `p`th sums are: its own, but for the last ones of a tile that has a pixel less.
#[inline(always)]
pub(super) const fn place<const MR: usize>(p: usize, last: usize) -> usize {
    if p + 1 == MR { last } else { p }
}
