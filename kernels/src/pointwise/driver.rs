//! The driver: splits the panels and the pixels of a call into tiles, and enters these.

use core::ops::Range;

use pulp::Simd;

use super::PointwiseArgs;
use super::few_outputs::{FewOutputs, few_outputs};
use super::pixel::few_pixels;
use super::product::{Floats, Multiplied, TileProduct};
use super::tile::{Ahead, LINE, Reduction, Tile, Tiles, unrolls};
use crate::simd::Vector;
use crate::{BLOCK, CHANNEL_PARAMS, Level, Residual, Store};

/// Bytes of weights that may stay in L1 beside the pixels of a tile.
const RESIDENT_WEIGHTS: usize = 20 << 10;

/// The whole call, of floats.
///
/// # Safety
/// As [`super::Pointwise::run`].
#[inline(always)]
pub(super) unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs) {
    let few = few_outputs::<L::Token>(a);
    let panels = a.n.div_ceil(BLOCK) - usize::from(few > 0);
    let half = few == 0 && (1..=BLOCK / 2).contains(&(a.n % BLOCK));
    // SAFETY: the caller's promise.
    unsafe {
        // a level of few tiles has none of these
        if const { !L::Token::FEW_TILES } && few > 0 {
            L::enter::<FewOutputs>(&last_panel(a, panels));
        }
        all_panels::<L, Floats>(simd, a, panels, half);
    }
}

/// The first `panels` panels, of the last of which only the first 8 channels count, where it is `half`.
///
/// # Safety
/// As [`super::Pointwise::run`].
#[inline(always)]
pub(super) unsafe fn all_panels<L: Level, O: Multiplied>(
    simd: L::Token,
    a: &PointwiseArgs<O::Pointee>,
    panels: usize,
    half: bool,
) {
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
            few_pixels::<L::Token, O::On<L>>(simd, a, panels);
            return;
        }
        let resident = weights_len::<L, O>(a.k) / BLOCK * a.n <= RESIDENT_WEIGHTS;
        for (part, half) in [(0..wide, false), (wide..panels, half)] {
            if !part.is_empty() {
                let step = if resident || part.end > wide { part.len() } else { panels_at_once::<L, O>(a.k, wide) };
                all_pixels::<L, O>(a, part, step, half, resident);
            }
        }
    }
}

/// Bytes of the weights of a panel.
#[inline(always)]
fn weights_len<L: Level, O: Multiplied>(k: usize) -> usize {
    k * BLOCK * size_of::<<O::On<L> as TileProduct<L::Token>>::Weight>()
}

/// The part of a call that is for `panel`, its last one.
#[inline(always)]
fn last_panel(a: &PointwiseArgs, panel: usize) -> PointwiseArgs {
    PointwiseArgs {
        n: a.n - panel * BLOCK,
        w: a.w.wrapping_add(panel * a.w_panel),
        bias: a.bias.wrapping_add(panel * a.w_panel),
        // null, where there are none
        partial: if a.partial.is_null() { a.partial } else { a.partial.wrapping_add(panel * a.partial_panel) },
        residual: a.residual.map(|r| Residual { ptr: r.ptr.wrapping_add(panel * r.panel), ..r }),
        store: Store { ptr: a.store.ptr.wrapping_add(panel * a.store.panel), ..a.store },
        params: a.params.wrapping_add(panel * CHANNEL_PARAMS),
        ..*a
    }
}

/// All pixels in `step` panels, one tile after the other, and then in the next panels.
///
/// Where weights are not `resident`, the panels that follow are fetched into the cache meanwhile: the last tiles ask for
/// them, since what the first ones asked for would be gone again.
///
/// Numbers that are the same for all panels are computed once: a call of few pixels has as many groups of tiles as tiles.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn all_pixels<L: Level, O: Multiplied>(
    a: &PointwiseArgs<O::Pointee>,
    panels: Range<usize>,
    step: usize,
    half: bool,
    resident: bool,
) {
    let lanes = <L::Token as Simd>::F32_LANES;
    // what stands around a few steps of k counts, so that most calls have a tile of their own that asks nothing
    let whole = if lanes == BLOCK { BLOCK } else { BLOCK / 2 };
    let plain = resident
        && !shares_vectors::<L, O>(half)
        && a.partial.is_null()
        && a.residual.is_none()
        && (a.store.whole || a.n >= panels.end * BLOCK || a.n.is_multiple_of(whole));
    let max = max_mr::<L::Token>(step, half);
    let count = a.m.div_ceil(max);
    let reduction = Reduction::of(a, unrolls::<L::Token>(if half { 1 } else { 2 }, max));
    let mut ahead = Ahead { w: a.w.cast(), from: count, times: 0, hop: 0 };
    if !resident {
        // places of a tile at which it asks
        let places = if reduction.blocks > 0 { reduction.blocks } else { a.k.div_ceil(a.segment) };
        let rounds = step.div_ceil(panels_of_tile::<L::Token>());
        let at_once = rounds * places * Ahead::at_once::<L::Token>();
        let lines = step * (weights_len::<L, O>(a.k) / LINE + 1);
        let asking = count.min(lines.div_ceil(at_once));
        ahead.times = lines.div_ceil(asking * at_once);
        ahead.hop = ahead.times * at_once * LINE;
        ahead.from = count - asking;
    }
    let groups = split(a.m, max, sharing::<L, O>(step, half));
    let mut tiles = Tiles { call: a, first: 0, count: 0, reduction, panels: panels.start..panels.start, half, ahead };
    while tiles.panels.end < panels.end {
        tiles.panels = tiles.panels.end..panels.end.min(tiles.panels.end + step);
        tiles.ahead = Ahead { w: a.w.wrapping_add(tiles.panels.end * a.w_panel).cast(), ..ahead };
        for (first, count, mr) in groups {
            if count == 0 {
                continue;
            }
            (tiles.first, tiles.count) = (first, count);
            // SAFETY: the caller's.
            unsafe {
                // a level of few tiles has none of these
                if const { !L::Token::FEW_TILES } && plain {
                    enter_tiles::<L, O, true>(&tiles, mr);
                } else {
                    enter_tiles::<L, O, false>(&tiles, mr);
                }
            }
            tiles.ahead = tiles.ahead.after(count);
        }
    }
}

/// Panels that one tile covers: two where a panel is a single vector.
#[inline(always)]
const fn panels_of_tile<S: Vector>() -> usize {
    if S::F32_LANES == BLOCK { 2 } else { 1 }
}

/// Panels of `wide` ones that all tiles go over before the next: as many as stay in L1, evenly.
#[inline(always)]
fn panels_at_once<L: Level, O: Multiplied>(k: usize, wide: usize) -> usize {
    let unit = panels_of_tile::<L::Token>();
    let most = (RESIDENT_WEIGHTS / weights_len::<L, O>(k) / unit * unit).max(unit);
    wide.div_ceil(wide.div_ceil(most)).next_multiple_of(unit)
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
/// each, the first pixel, the number of tiles, which may be 0, and the pixels of one; the last tile of all may lack a pixel. Of 3 pixels
/// or more, no tile has fewer than 3, or than 2 where `max` is 3: there are none for these.
#[inline(always)]
fn split(m: usize, max: usize, unit: usize) -> [(usize, usize, usize); 2] {
    let (units, tiles) = (m.div_ceil(unit), m.div_ceil(max));
    let (each, longer) = (units / tiles, units % tiles);
    [(0, longer, (each + 1) * unit), (longer * (each + 1) * unit, tiles - longer, each * unit)]
}

/// Whether two pixels share a vector, in tiles of half a panel.
#[inline(always)]
const fn shares_vectors<L: Level, O: Multiplied>(half: bool) -> bool {
    <O::On<L> as TileProduct<L::Token>>::SHARES_VECTORS && half
}

/// Pixels by which tiles are counted: there are tiles of even numbers alone where two pixels share a vector, and where they
/// are rare. A tile of an odd number computes its last pixel twice then.
#[inline(always)]
const fn sharing<L: Level, O: Multiplied>(panels: usize, half: bool) -> usize {
    if shares_vectors::<L, O>(half) || (L::Token::F32_LANES == BLOCK && panels % 2 == 1) { 2 } else { 1 }
}

/// Runs a group in tiles of `mr` pixels, by as many vectors at a time as the registers hold.
///
/// `PLAIN`: sums start from the bias, nothing is added to them, all vectors are whole, and no weights are asked for.
///
/// # Safety
/// As [`run`], for the pixels and panels of the group.
#[inline(always)]
unsafe fn enter_tiles<L: Level, O: Multiplied, const PLAIN: bool>(tiles: &Tiles<O::Pointee>, mr: usize) {
    macro_rules! enter {
        ($np:literal by $nv:literal: $($mr:literal)*) => { enter!(false, $np by $nv: $($mr)*) };
        ($half:literal, $np:literal by $nv:literal: $($mr:literal)*) => {
            match mr {
                $($mr => L::enter::<Tile<O, PLAIN, $half, $mr, $np, $nv>>(tiles),)*
                _ => unreachable!(),
            }
        };
    }
    // constants in `if const`, so that tiles of other levels are not compiled
    // SAFETY: the caller's.
    unsafe {
        if const { L::Token::F32_LANES == 16 } {
            match (tiles.panels.len(), tiles.half) {
                // such a call is never plain
                (2, true) if const { !PLAIN && shares_vectors::<L, O>(true) } => enter!(true, 1 by 1: 4 6 8 10),
                (3, true) if const { !PLAIN && shares_vectors::<L, O>(true) } => enter!(true, 2 by 1: 4 6 8 10),
                (3, _) => enter!(3 by 1: 4 6 8),
                (1, _) => enter!(1 by 1: 4 6 8 10 12),
                _ => enter!(2 by 1: 3 4 5 6 7 8 9 10),
            }
        } else if const { L::Token::F32_LANES == 8 } {
            if tiles.half && const { <O::On<L> as TileProduct<L::Token>>::HAS_HALVES } {
                enter!(1 by 1: 3 4 5 6 7 8 9 10 11 12);
            } else {
                enter!(1 by 2: 3 4 5 6);
            }
        } else if const { L::Token::F32_LANES == 4 && L::Token::REGISTER_COUNT == 32 } {
            if tiles.half && const { <O::On<L> as TileProduct<L::Token>>::HAS_HALVES } {
                enter!(1 by 2: 3 4 5 6 7 8 9 10 11 12);
            } else {
                enter!(1 by 4: 3 4 5 6);
            }
        } else if const { L::Token::F32_LANES == 4 } {
            // the tiles of half a panel are those of a whole one
            enter!(1 by 2: 3 4 5);
        } else {
            enter!(1 by 4: 2 3);
        }
    }
}
