//! Average pooling over a whole plane.
//!
//! A sum is a tree, so that its error grows with the depth of the tree and not with the number of pixels. The tree is the same on every
//! instruction set and for every layout (`docs/numbers.md`):
//!
//! ```text
//!   leaf     256 pixels, row by row:      acc[p % 8] = acc[p % 8] + pixel p       p ascending
//!                                         ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
//!   plane    leaf + leaf ─┐               in the order of pixels
//!            leaf + leaf ─┴─ + ─ …
//!   mean     sum / divisor
//! ```
//!
//! All channels of a leaf are summed before the next leaf, up to 512 of them: a plane is read in the order in which it lies. A leaf has one of
//! three ways to its eight sums:
//!
//! ```text
//!   few pixels of one row         eight sums in registers, a vector of channels after the other
//!   no gap between pixels         eight pixels are a stretch of 8 × channels values: whole vectors for few channels too
//!   else, row by row              pixel after pixel is added to its sum, in L1
//! ```
//!
//! Registers: 8 sums and an input, or 4 of each. `docs/kernels/pool.md` has what was tried.

use crate::simd::{Vector, load, prefetch, store};
use crate::{BLOCK, Kernel, Level};

/// Sums of a leaf, one for each pixel of a group.
const GROUP: usize = 8;

/// Pixels of a leaf.
const LEAF: usize = 32 * GROUP;

/// Channels that go through the tree at once, where they lie together: their sums of a leaf stay in L1.
const CHANNELS: usize = 32 * BLOCK;

/// Values ahead of those that are added that are asked for.
const AHEAD: usize = 1 << 10;

/// A leaf is summed in registers if it has no more values from the first to the last: it is read once for each vector of channels, from L1.
const NEAR: usize = 4 << 10;

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
    /// [`PoolArgs::scratch_len`] values, which mean nothing before and after.
    pub scratch: *mut f32,
}

impl PoolArgs {
    /// Values of scratch for a plane of `pixels` pixels of `channels` channels.
    pub const fn scratch_len(channels: usize, pixels: usize) -> usize {
        // each vector is whole
        let room = if channels < CHANNELS { channels.next_multiple_of(BLOCK) } else { CHANNELS };
        // a level for each bit of the number of leaves
        let levels = usize::BITS - pixels.div_ceil(LEAF).leading_zeros();
        (GROUP + levels as usize) * room
    }
}

/// `f32_avgpool`.
pub enum AveragePool {}

impl Kernel for AveragePool {
    type Args = PoolArgs;

    /// # Safety
    /// `x` is readable in `channels` channels of every pixel of the plane, `out` writable in `channels` channels; they
    /// do not overlap. The plane has a pixel. `scratch` is writable in [`PoolArgs::scratch_len`] values.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PoolArgs) {
        let at_once = if a.x_block == BLOCK { CHANNELS } else { BLOCK };
        let mut c = 0;
        while c < a.channels {
            let n = at_once.min(a.channels - c);
            // SAFETY: the caller's, for channels `c..c + n`, which lie together.
            unsafe { channels(simd, a, c, n) };
            c += n;
        }
    }
}

/// The means of `n` channels from `c` on, which lie together in a pixel of the plane.
///
/// # Safety
/// As [`AveragePool::run`].
#[inline(always)]
unsafe fn channels<S: Vector>(simd: S, a: &PoolArgs, c: usize, n: usize) {
    let [rows, columns] = a.plane;
    // rows without a gap between them are one row
    let [rows, columns] = if a.x_row == columns * a.x_pixel { [1, rows * columns] } else { [rows, columns] };
    // SAFETY: the caller's; the tree has a level for each bit of the number of leaves, and a sum for each channel.
    unsafe {
        let mut tree = Tree { simd, channels: n, pixels: 0, leaves: 0, group: a.scratch };
        let plane = a.x.add(c / BLOCK * a.x_block);
        for y in 0..rows {
            let mut first = 0;
            while first < columns {
                let pixels = (LEAF - tree.pixels).min(columns - first);
                let last = y + 1 == rows && first + pixels == columns;
                tree.pixels(plane.add(y * a.x_row + first * a.x_pixel), a.x_pixel, pixels, last);
                first += pixels;
            }
        }
        let divisor = simd.splat_f32s(a.divisor);
        let mut i = 0;
        while i < n {
            let m = S::F32_LANES.min(n - i);
            let mean = simd.div_f32s(tree.sum(i), divisor);
            let out = a.out.add((c + i) / BLOCK * a.out_block + (c + i) % BLOCK);
            store_some(simd, out, mean, m);
            i += m;
        }
    }
}

/// The sums of some channels on their way through the tree.
struct Tree<S: Vector> {
    simd: S,
    channels: usize,
    /// Pixels of the leaf that is not whole yet.
    pixels: usize,
    /// Leaves that are in the levels.
    leaves: usize,
    /// The sums of a leaf, of each pixel of a group. Behind them the levels: of each that a bit of `leaves` names, the sum of as many
    /// leaves. All have a value for each channel, and vectors are whole.
    group: *mut f32,
}

impl<S: Vector> Tree<S> {
    /// Room for a value of each channel.
    #[inline(always)]
    fn room(&self) -> usize {
        self.channels.next_multiple_of(BLOCK)
    }

    /// The sums of a level.
    #[inline(always)]
    fn level(&self, level: usize) -> *mut f32 {
        self.group.wrapping_add((GROUP + level) * self.room())
    }

    /// Adds `pixels` pixels of a row, the first at `x`: no more than the leaf lacks. `last`: there are no more.
    ///
    /// # Safety
    /// The channels of these pixels are readable.
    #[inline(always)]
    unsafe fn pixels(&mut self, x: *const f32, x_pixel: usize, pixels: usize, last: bool) {
        let whole = last || self.pixels + pixels == LEAF;
        // SAFETY: the caller's.
        unsafe {
            // of few channels, vectors of a pixel are not whole
            let wide = x_pixel != self.channels || self.channels.is_multiple_of(S::F32_LANES) || pixels < GROUP;
            let near = pixels * x_pixel <= NEAR;
            if whole && self.pixels == 0 && (near || pixels <= GROUP) && wide {
                self.few_pixels(x, x_pixel, pixels);
                return;
            }
            // the distance between the sums of two pixels of the group
            let mut apart = self.room();
            if whole && self.pixels == 0 && x_pixel == self.channels && near && pixels >= GROUP {
                apart = self.channels;
                self.stretches(x, pixels);
            } else {
                self.row(x, x_pixel, pixels, apart);
            }
            self.pixels += pixels;
            if whole {
                let (simd, sums) = (self.simd, self.group.cast_const());
                let count = self.pixels.min(GROUP);
                self.leaf(|i, m| {
                    let sum = |p| load_some(simd, sums.add(p * apart + i), m);
                    sum_tree(simd, count, sum)
                });
            }
        }
    }

    /// Adds a leaf of few pixels.
    ///
    /// # Safety
    /// As [`Tree::pixels`].
    #[inline(always)]
    unsafe fn few_pixels(&mut self, x: *const f32, x_pixel: usize, pixels: usize) {
        let simd = self.simd;
        // SAFETY: the caller's.
        unsafe {
            self.leaf(|i, m| {
                let of = |p: usize| load_some(simd, x.add(p * x_pixel + i), m);
                if pixels <= GROUP {
                    return sum_tree(simd, pixels, of);
                }
                let mut sums = [of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)];
                let mut first = GROUP;
                while first + GROUP <= pixels {
                    for p in 0..GROUP {
                        sums[p] = simd.add_f32s(sums[p], of(first + p));
                    }
                    first += GROUP;
                }
                for p in 0..GROUP {
                    if first + p < pixels {
                        sums[p] = simd.add_f32s(sums[p], of(first + p));
                    }
                }
                sum_tree(simd, GROUP, |p| sums[p])
            });
        }
    }

    /// The sums of a leaf of pixels without a gap, a group at least. They lie without a gap too.
    ///
    /// # Safety
    /// As [`Tree::pixels`].
    #[inline(always)]
    unsafe fn stretches(&mut self, x: *const f32, pixels: usize) {
        let (simd, lanes, n) = (self.simd, S::F32_LANES, self.channels);
        let (to, groups, len) = (self.group, pixels / GROUP, GROUP * n);
        // SAFETY: the caller's. Where the last vector is not filled, the room for `8 × n` values has more, and it may be whole.
        unsafe {
            let mut i = 0;
            while i + 4 * lanes <= len {
                sum_each::<S, 4>(simd, x.add(i), len, groups, to.add(i), lanes);
                i += 4 * lanes;
            }
            while i < len {
                sum_each::<S, 1>(simd, x.add(i), len, groups, to.add(i), lanes.min(len - i));
                i += lanes;
            }
            // pixels behind the last whole group
            for p in 0..pixels % GROUP {
                let (x, to) = (x.add((groups * GROUP + p) * n), to.add(p * n));
                let mut i = 0;
                while i < n {
                    let m = lanes.min(n - i);
                    let sum = simd.add_f32s(load_some(simd, to.add(i), m), load_some(simd, x.add(i), m));
                    store_some(simd, to.add(i), sum, m);
                    i += m;
                }
            }
        }
    }

    /// Adds the pixels of a row to the sums of the leaf, which lie `apart`: in the order of memory, and asks for what comes next.
    ///
    /// # Safety
    /// As [`Tree::pixels`].
    #[inline(always)]
    unsafe fn row(&mut self, x: *const f32, x_pixel: usize, pixels: usize, apart: usize) {
        let (simd, lanes, n) = (self.simd, S::F32_LANES, self.channels);
        for p in 0..pixels {
            let place = self.pixels + p;
            // SAFETY: the caller's; `8 × apart` values of sums are no more than the group has.
            unsafe {
                let (x, to) = (x.add(p * x_pixel), self.group.add(place % GROUP * apart));
                // the first pixel of all is the sum
                let from = (place >= GROUP).then_some(to.cast_const());
                let mut i = 0;
                while i + BLOCK <= n {
                    prefetch(x.wrapping_add(i + AHEAD));
                    for v in 0..BLOCK / lanes {
                        let at = i + v * lanes;
                        let mut sum = load(simd, x.add(at));
                        if let Some(from) = from {
                            sum = simd.add_f32s(load(simd, from.add(at)), sum);
                        }
                        store(simd, to.add(at), sum);
                    }
                    i += BLOCK;
                }
                while i < n {
                    let mut sum = load_some(simd, x.add(i), lanes.min(n - i));
                    if let Some(from) = from {
                        sum = simd.add_f32s(load(simd, from.add(i)), sum);
                    }
                    store(simd, to.add(i), sum);
                    i += lanes;
                }
            }
        }
    }

    /// Adds a leaf to the tree: `sum` of the channels from the `i`th on, as many as a vector or the channels have.
    #[inline(always)]
    fn leaf(&mut self, sum: impl Fn(usize, usize) -> S::f32s) {
        let (simd, lanes, n) = (self.simd, S::F32_LANES, self.channels);
        // the levels that this leaf completes, and the one that keeps their sum
        let level = self.leaves.trailing_ones() as usize;
        let mut i = 0;
        while i < n {
            let mut sum = sum(i, lanes.min(n - i));
            // SAFETY: the levels below `level` have sums; a plane has no more leaves than the levels count.
            unsafe {
                for below in 0..level {
                    sum = simd.add_f32s(load(simd, self.level(below).add(i)), sum);
                }
                store(simd, self.level(level).add(i), sum);
            }
            i += lanes;
        }
        self.leaves += 1;
        self.pixels = 0;
    }

    /// The sum of all leaves, of the channels of the vector at `i`.
    ///
    /// # Safety
    /// There was a leaf; `i` is a multiple of the lanes.
    #[inline(always)]
    unsafe fn sum(&self, i: usize) -> S::f32s {
        let of_level = |level: u32| {
            // SAFETY: the level has a sum.
            unsafe { load(self.simd, self.level(level as usize).add(i)) }
        };
        let mut left = self.leaves;
        let mut sum = of_level(left.trailing_zeros());
        left &= left - 1;
        while left != 0 {
            sum = self.simd.add_f32s(of_level(left.trailing_zeros()), sum);
            left &= left - 1;
        }
        sum
    }
}

/// A vector of which the first `m` lanes are read.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load_some<S: Vector>(simd: S, x: *const f32, m: usize) -> S::f32s {
    // SAFETY: the caller's.
    unsafe { if m == S::F32_LANES { load(simd, x) } else { simd.load_lanes(x, m) } }
}

/// Writes the first `m` lanes of a vector.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn store_some<S: Vector>(simd: S, out: *mut f32, v: S::f32s, m: usize) {
    // SAFETY: the caller's.
    unsafe {
        if m == S::F32_LANES {
            store(simd, out, v);
        } else {
            simd.store_lanes(out, v, m);
        }
    }
}

/// The sums of `NV` vectors, of which the last has `m` lanes, over `count` places that lie `apart`.
///
/// # Safety
/// All of them are readable, and whole vectors at `to` writable.
#[inline(always)]
unsafe fn sum_each<S: Vector, const NV: usize>(
    simd: S,
    x: *const f32,
    apart: usize,
    count: usize,
    to: *mut f32,
    m: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let of = |x: *const f32, v: usize| {
            load_some(simd, x.add(v * S::F32_LANES), if v + 1 == NV { m } else { S::F32_LANES })
        };
        let mut sums = [simd.splat_f32s(0.0); NV];
        for v in 0..NV {
            sums[v] = of(x, v);
        }
        for g in 1..count {
            for v in 0..NV {
                sums[v] = simd.add_f32s(sums[v], of(x.add(g * apart), v));
            }
        }
        for v in 0..NV {
            store(simd, to.add(v * S::F32_LANES), sums[v]);
        }
    }
}

/// The sum of 1 to 8 values as a tree: neighbours first; one without a neighbour goes up a level.
#[inline(always)]
fn sum_tree<S: Vector>(simd: S, count: usize, of: impl Fn(usize) -> S::f32s) -> S::f32s {
    let add = |a, b| simd.add_f32s(a, b);
    let two = |p| add(of(p), of(p + 1));
    let four = |p| add(two(p), two(p + 2));
    match count {
        1 => of(0),
        2 => two(0),
        3 => add(two(0), of(2)),
        4 => four(0),
        5 => add(four(0), of(4)),
        6 => add(four(0), two(4)),
        7 => add(four(0), add(two(4), of(6))),
        _ => add(four(0), four(4)),
    }
}
