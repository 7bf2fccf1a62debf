//! Activations that are no clamp: over values that a kernel has stored, in place.
//!
//! ```text
//!   for some pixels, rows or planes of a call, of at most 64 KiB:
//!       the kernel itself, with no clamp: its tiles know of no other activation
//!       for each vector that it stored:  read it, apply the function, write it
//! ```
//!
//! So each kernel has one copy of its tiles, and each function is there once for an instruction set. A tile with a clamp stays as it is.
//!
//! | function | from | registers |
//! |---|---|---|
//! | HardSigmoid, HardSwish | `clamp(x + 3, 0, 6) × (1/6)` | 5 |
//! | Sigmoid, SiLU | `t = e^−|x|`; `t / (1 + t)` or `1 / (1 + t)` | 16 |
//! | Tanh | `q = e^−2|x| − 1`; `−q / (q + 2)` with the sign of `x` | 14 |
//! | GELU | SiLU with a sum of two floats in the place of `x` below `e` | 16 |
//! | PReLU, a clamp by channel | their parameters, a vector beside each vector of values | 4 |
//!
//! [`reduce`] is the one exponential: `e^z = 2^n × (1 + r + r² × q(r))`, where `n` is rounded by the addition of 1.5 × 2^23, so that it is in
//! the low bits of the sum. Each step is one of [`MulAdd`], so the bits depend on the [`Arithmetic`](crate::Arithmetic) alone.
//!
//! `docs/numbers.md` has all steps, and `docs/kernels/activation.md` what they cost.

use core::marker::PhantomData;

use crate::epilogue::Nonlinearity;
use crate::simd::{MulAdd, PixelOffsets, Vector, load, store};
use crate::{
    BLOCK, CHANNEL_PARAMS, DepthwiseArgs, DwConv, DwConv3x3, DwPlanes, DwPlanesArgs, Epilogue, Kernel, Level,
    Pointwise, PointwiseArgs, Residual, Store,
};

/// The values that [`Activate`] goes over. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct ActivateArgs {
    /// The values.
    pub ptr: *mut f32,
    /// Pixels.
    pub count: usize,
    /// Where each pixel begins, from `ptr`.
    pub pixels: PixelOffsets,
    /// Channels.
    pub channels: usize,
    /// From 16 channels to the next 16.
    pub panel: usize,
    /// Whether the last 16 channels have room for 16 whatever the number of channels is: all of them may be written.
    pub whole: bool,
    /// The function.
    pub activation: Nonlinearity,
    /// Of an activation by channel, the parameters of the first channel: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
}

/// `f32_activate`: a function of each value, in place.
pub enum Activate {}

impl Kernel for Activate {
    type Args = ActivateArgs;

    /// # Safety
    /// `ptr` is readable and writable in all channels of all pixels, in whole 16 of them where it is `whole`. No value lies in two pixels.
    /// Of an activation by channel, `params` is readable for whole 16 channels.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &ActivateArgs) {
        // SAFETY: the caller's.
        unsafe {
            match a.activation {
                Nonlinearity::Clamp(bounds) => over::<L, _>(simd, a, Clamp(bounds)),
                Nonlinearity::HardSwish => over::<L, _>(simd, a, HardSwish),
                Nonlinearity::HardSigmoid => over::<L, _>(simd, a, HardSigmoid),
                Nonlinearity::Sigmoid => over::<L, _>(simd, a, Sigmoid),
                Nonlinearity::Silu => over::<L, _>(simd, a, Silu),
                Nonlinearity::Tanh => over::<L, _>(simd, a, Tanh),
                Nonlinearity::Gelu => over::<L, _>(simd, a, Gelu),
                Nonlinearity::LeakyRelu(slope) => over::<L, _>(simd, a, LeakyRelu(slope)),
                Nonlinearity::PRelu => over::<L, _>(simd, a, PRelu(a.params)),
                Nonlinearity::ClampByChannel => over::<L, _>(simd, a, ClampByChannel(a.params)),
            }
        }
    }
}

/// A function of one value.
trait Function: Copy {
    /// Whether each channel has parameters of its own.
    const BY_CHANNEL: bool = false;

    /// The function of the channels from `channel` on, counted from its first one: a lane of a block, with all lanes of a vector behind it.
    #[inline(always)]
    fn at_channel(self, _channel: usize) -> Self {
        self
    }

    /// # Safety
    /// By channel, the parameters of a vector of channels are readable.
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// All values, 16 at a time.
///
/// # Safety
/// As [`Activate::run`].
#[inline(always)]
unsafe fn over<L: Level, F: Function>(simd: L::Token, a: &ActivateArgs, f: F) {
    let channels = if a.whole { a.channels.next_multiple_of(BLOCK) } else { a.channels };
    // channels that lie together in a pixel, from a first one on: all of them, or a panel
    let together = if a.panel == BLOCK { channels } else { BLOCK };
    let mut first = 0;
    while first < channels {
        let count = together.min(channels - first);
        let (ptr, f) = (a.ptr.wrapping_add(first / BLOCK * a.panel), f.at_channel(first));
        // pixels that follow each other are one, where all channels are alike
        let (pixels, len) = match a.pixels {
            PixelOffsets::Every(pixel) if pixel == count && !F::BY_CHANNEL => (1, a.count * count),
            _ => (a.count, count),
        };
        for p in 0..pixels {
            // SAFETY: the caller's.
            unsafe {
                let at = match a.pixels {
                    PixelOffsets::Every(pixel) => p * pixel,
                    PixelOffsets::Table(table) => *table.wrapping_add(p),
                };
                // a panel's vectors alone, without a look at what is left
                if const { !L::Token::FEW_TILES } && len == BLOCK {
                    sixteen::<L, F>(simd, ptr.wrapping_add(at), f);
                } else {
                    values::<L, F>(simd, ptr.wrapping_add(at), len, f);
                }
            }
        }
        first += count;
    }
}

/// `count` values that lie together.
///
/// # Safety
/// They are readable and writable, and so are the parameters of their channels readable, in whole 16.
#[inline(always)]
unsafe fn values<L: Level, F: Function>(simd: L::Token, ptr: *mut f32, count: usize, f: F) {
    let lanes = <L::Token as pulp::Simd>::F32_LANES;
    let mut at = 0;
    while at < count {
        let (p, left, f) = (ptr.wrapping_add(at), count - at, f.at_channel(at));
        // SAFETY: the caller's, of values below `count`; the block holds a vector.
        unsafe {
            if const { !L::Token::FEW_TILES } && left >= BLOCK {
                sixteen::<L, F>(simd, p, f);
                at += BLOCK;
                continue;
            }
            // a vector, of which a part goes by way of a block: a function that is there twice is twice as large
            let mut block = [0.0; BLOCK];
            let is_part = left < lanes;
            let to = if is_part { block.as_mut_ptr() } else { p };
            if is_part {
                store(simd, to, simd.load_lanes(p, left));
            }
            let y = f.of::<L::Token, L::MulAdd>(simd, load(simd, to));
            if is_part {
                simd.store_lanes(p, y, left);
            } else {
                store(simd, p, y);
            }
            at += lanes;
        }
    }
}

/// 16 values that lie together.
///
/// # Safety
/// They are readable and writable, and the parameters of their channels readable.
#[inline(always)]
unsafe fn sixteen<L: Level, F: Function>(simd: L::Token, ptr: *mut f32, f: F) {
    let lanes = <L::Token as pulp::Simd>::F32_LANES;
    for v in 0..BLOCK / lanes {
        let p = ptr.wrapping_add(v * lanes);
        // SAFETY: the caller's.
        unsafe { store(simd, p, f.at_channel(v * lanes).of::<L::Token, L::MulAdd>(simd, load(simd, p))) };
    }
}

#[derive(Clone, Copy)]
struct Clamp([f32; 2]);

impl Function for Clamp {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        simd.clamp(x, simd.splat_f32s(self.0[0]), simd.splat_f32s(self.0[1]))
    }
}

#[derive(Clone, Copy)]
struct HardSigmoid;

impl Function for HardSigmoid {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        let sum = simd.add_f32s(x, simd.splat_f32s(3.0));
        let part = simd.clamp(sum, simd.splat_f32s(0.0), simd.splat_f32s(6.0));
        simd.mul_f32s(part, simd.splat_f32s(1.0 / 6.0))
    }
}

#[derive(Clone, Copy)]
struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        // SAFETY: it has no parameters.
        simd.mul_f32s(x, unsafe { HardSigmoid.of::<S, A>(simd, x) })
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu(f32);

impl Function for LeakyRelu {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        leaky(simd, x, simd.splat_f32s(self.0))
    }
}

/// `x`, where it is negative times the slope.
#[inline(always)]
fn leaky<S: Vector>(simd: S, x: S::f32s, slope: S::f32s) -> S::f32s {
    // times 1 elsewhere: of a choice between `x` and another value, LLVM makes a masked store, which takes several times as long
    let negative = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    simd.mul_f32s(x, simd.select_f32s(negative, slope, simd.splat_f32s(1.0)))
}

/// The parameters from `channel` on; `params` are those of the first channel of a block.
#[inline(always)]
fn params_from(params: *const f32, channel: usize) -> *const f32 {
    params.wrapping_add(channel / BLOCK * CHANNEL_PARAMS + channel % BLOCK)
}

/// [`LeakyRelu`] with a slope for each channel.
#[derive(Clone, Copy)]
struct PRelu(*const f32);

impl Function for PRelu {
    const BY_CHANNEL: bool = true;

    #[inline(always)]
    fn at_channel(self, channel: usize) -> Self {
        PRelu(params_from(self.0, channel))
    }

    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        // SAFETY: the caller's.
        leaky(simd, x, unsafe { load(simd, self.0) })
    }
}

/// [`Clamp`] with bounds for each channel.
#[derive(Clone, Copy)]
struct ClampByChannel(*const f32);

impl Function for ClampByChannel {
    const BY_CHANNEL: bool = true;

    #[inline(always)]
    fn at_channel(self, channel: usize) -> Self {
        ClampByChannel(params_from(self.0, channel))
    }

    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        // SAFETY: the caller's: the upper bounds lie a block behind the lower ones.
        let [lo, hi] = unsafe { [load(simd, self.0), load(simd, self.0.wrapping_add(BLOCK))] };
        simd.clamp(x, lo, hi)
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        logistic::<S, A>(simd, simd.splat_f32s(1.0), minus_abs(simd, x), None, x)
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        logistic::<S, A>(simd, x, minus_abs(simd, x), None, x)
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        let (sign, one) = (simd.splat_f32s(-0.0), simd.splat_f32s(1.0));
        // from −40 on the result is 1
        let z = simd.clamp(
            simd.mul_f32s(minus_abs(simd, x), simd.splat_f32s(2.0)),
            simd.splat_f32s(-40.0),
            simd.splat_f32s(0.0),
        );
        let [power, rest] = reduce::<S, A, 0>(simd, z, None);
        // e^z − 1 without cancellation, since the power is 1 where `z` is small
        let q = A::mul_add(simd, power, rest, simd.sub_f32s(power, one));
        let magnitude = simd.abs_f32s(simd.div_f32s(q, simd.add_f32s(q, simd.splat_f32s(2.0))));
        simd.or_f32s(magnitude, simd.and_f32s(sign, x))
    }
}

/// `2 × √(2/π)`, and what it is more than that f32.
const GELU_LINEAR: [f32; 2] = [1.595_769_2, -4.534_068e-8];
/// 0.044715 times that, and what it is more.
const GELU_CUBIC: [f32; 2] = [0.071_354_814, 2.398_832_5e-9];

#[derive(Clone, Copy)]
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    unsafe fn of<S: Vector, A: MulAdd>(self, simd: S, x: S::f32s) -> S::f32s {
        let [linear, linear_rest] = GELU_LINEAR.map(|v| simd.splat_f32s(v));
        let [cubic, cubic_rest] = GELU_CUBIC.map(|v| simd.splat_f32s(v));
        // from ±16 on the result is 0 or `x`
        let c = simd.clamp(simd.abs_f32s(x), simd.splat_f32s(0.0), simd.splat_f32s(16.0));
        let [square, square_rest] = A::product(simd, c, c);
        let [term, term_rest] = A::product(simd, square, cubic);
        let sum = simd.add_f32s(linear, term);
        // what the sum was rounded by, of summands of which either may be the larger
        let of_term = simd.sub_f32s(sum, linear);
        let lost_linear = simd.sub_f32s(linear, simd.sub_f32s(sum, of_term));
        let mut rest = simd.add_f32s(simd.add_f32s(lost_linear, simd.sub_f32s(term, of_term)), term_rest);
        rest = simd.add_f32s(A::mul_add(simd, square_rest, cubic, rest), linear_rest);
        rest = A::mul_add(simd, square, cubic_rest, rest);
        let [w, w_rest] = A::product(simd, c, sum);
        let w_rest = A::mul_add(simd, c, rest, w_rest);
        logistic::<S, A>(simd, x, simd.neg_f32s(w), Some(simd.neg_f32s(w_rest)), x)
    }
}

/// `−|x|`.
#[inline(always)]
fn minus_abs<S: Vector>(simd: S, x: S::f32s) -> S::f32s {
    simd.or_f32s(x, simd.splat_f32s(-0.0))
}

/// Below this the exponent is this, of which the scaled power of two has no bit set. No result differs from 0 there.
const LEAST_EXPONENT: f32 = -132.4;

/// Powers of two that `t` is scaled by, so that it is no denormal.
const SCALE: i32 = 64;
const DOWN: f32 = 1.0 / 18_446_744_073_709_551_616.0;

/// `x / (1 + t)` where `sign` is not negative, else `x × t / (1 + t)`, for `t = e^z`. `z` is not positive, and may be more exact by a second
/// float.
#[inline(always)]
fn logistic<S: Vector, A: MulAdd>(simd: S, x: S::f32s, z: S::f32s, z_rest: Option<S::f32s>, sign: S::f32s) -> S::f32s {
    let (one, down, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(DOWN), simd.splat_f32s(0.0));
    let z = simd.clamp(z, simd.splat_f32s(LEAST_EXPONENT), zero);
    let [power, rest] = reduce::<S, A, SCALE>(simd, z, z_rest);
    let t = simd.mul_f32s(simd.add_f32s(rest, one), power);
    let negative = simd.less_than_f32s(sign, zero);
    let numerator = simd.mul_f32s(x, simd.select_f32s(negative, t, one));
    let quotient = simd.div_f32s(numerator, A::mul_add(simd, t, down, one));
    // a result that is denormal is rounded here, and nowhere before
    simd.mul_f32s(quotient, simd.select_f32s(negative, down, one))
}

/// 1.5 × 2^23: the sum of this and a number of less than 2^22 is rounded to a whole number, which its low bits have.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts. The first has nine bits, so that its product with a whole number is exact.
const LN_2: [f32; 2] = [355.0 / 512.0, -0.000_212_194_44];
/// `(e^r − 1 − r) / r²` for |r| ≤ ln 2 / 2, the highest power first.
const EXP: [f32; 5] = [0.001_392_64, 0.008_363_353, 0.041_666_552, 0.166_665_76, 0.5];

/// `2^(n + SCALE)` and `e^r − 1` of `z = n ln 2 + r`, where `n + SCALE + 127` is between 0 and 254; of 0 the power is 0. `z` may be more
/// exact by a second float.
#[inline(always)]
fn reduce<S: Vector, A: MulAdd, const SCALE: i32>(simd: S, z: S::f32s, z_rest: Option<S::f32s>) -> [S::f32s; 2] {
    let round = simd.splat_f32s(const { ROUND + (127 + SCALE) as f32 });
    let n = A::mul_add(simd, z, simd.splat_f32s(core::f32::consts::LOG2_E), round);
    let power = simd.low_bits_to_exponent(n);
    let n = simd.sub_f32s(n, round);
    let r = A::mul_add(simd, n, simd.splat_f32s(-LN_2[0]), z);
    let r = A::mul_add(simd, n, simd.splat_f32s(-LN_2[1]), r);
    let r = z_rest.map_or(
        r,
        #[inline(always)]
        |rest| simd.add_f32s(r, rest),
    );
    let mut q = simd.splat_f32s(EXP[0]);
    for i in 1..EXP.len() {
        q = A::mul_add(simd, r, q, simd.splat_f32s(EXP[i]));
    }
    [power, A::mul_add(simd, simd.mul_f32s(r, r), q, r)]
}

/// Values that a kernel stores before [`Activate`] goes over them: 64 KiB are in L2 on all CPUs, and no slower there than in L1.
const STORED_AT_ONCE: usize = 16384;

/// A kernel whose calls can be parted, so that [`Activate`] goes over the results of each part.
pub(crate) trait Parted: Kernel {
    /// What becomes of a sum in a call.
    fn epilogue(a: &Self::Args) -> &Epilogue;

    /// How many parts there may be, and how many values one of these stores.
    fn parts<S: Vector>(a: &Self::Args) -> [usize; 2];

    /// The call of `count` parts from `first` on, with no activation.
    ///
    /// # Safety
    /// The call has these parts.
    unsafe fn part<S: Vector>(a: &Self::Args, first: usize, count: usize) -> Self::Args;

    /// Calls `activate` for all that a call stores.
    ///
    /// # Safety
    /// As the kernel's.
    unsafe fn stored(a: &Self::Args, activation: Nonlinearity, activate: impl Fn(&ActivateArgs));
}

/// Whether the activation is no clamp. The call is done then: by the same kernel, part by part, each with its activation behind it.
///
/// # Safety
/// As the kernel's.
#[inline(always)]
pub(crate) unsafe fn by_parts<L: Level, K: Parted>(a: &K::Args) -> bool {
    if K::epilogue(a).is_clamp() {
        return false;
    }
    // SAFETY: the caller's.
    unsafe { L::enter::<InParts<K>>(a) };
    true
}

/// The parts of a call: a function of its own, since few calls have some.
struct InParts<K>(PhantomData<K>);

impl<K: Parted> Kernel for InParts<K> {
    type Args = K::Args;

    /// # Safety
    /// As the kernel's.
    #[inline(always)]
    unsafe fn run<L: Level>(_: L::Token, a: &K::Args) {
        let (activation, [parts, values]) = (K::epilogue(a).activation(), K::parts::<L::Token>(a));
        let at_once = (STORED_AT_ONCE / values.max(1)).max(1);
        // evenly: a last part of a pixel or two has no whole tile
        let at_once = parts.div_ceil(parts.div_ceil(at_once).max(1));
        let mut first = 0;
        while first < parts {
            let count = at_once.min(parts - first);
            // SAFETY: the caller's, for these parts.
            unsafe {
                let part = K::part::<L::Token>(a, first, count);
                L::enter::<K>(&part);
                K::stored(
                    &part,
                    activation,
                    #[inline(always)]
                    |stored| L::enter::<Activate>(stored),
                );
            }
            first += count;
        }
    }
}

impl Parted for Pointwise {
    #[inline(always)]
    fn epilogue(a: &PointwiseArgs) -> &Epilogue {
        &a.epilogue
    }

    /// Pixels.
    #[inline(always)]
    fn parts<S: Vector>(a: &PointwiseArgs) -> [usize; 2] {
        [a.m, a.n]
    }

    #[inline(always)]
    unsafe fn part<S: Vector>(a: &PointwiseArgs, first: usize, count: usize) -> PointwiseArgs {
        PointwiseArgs {
            m: count,
            x_pixels: a.x_pixels.wrapping_add(first),
            // null, where there are none
            partial: if a.partial.is_null() { a.partial } else { a.partial.wrapping_add(first * BLOCK) },
            residual: a.residual.map(|r| Residual { pixels: r.pixels.wrapping_add(first), ..r }),
            epilogue: Epilogue::NONE,
            store: Store { pixels: a.store.pixels.wrapping_add(first), ..a.store },
            ..*a
        }
    }

    #[inline(always)]
    unsafe fn stored(a: &PointwiseArgs, activation: Nonlinearity, activate: impl Fn(&ActivateArgs)) {
        activate(&ActivateArgs {
            ptr: a.store.ptr,
            count: a.m,
            pixels: PixelOffsets::Table(a.store.pixels),
            channels: a.n,
            panel: a.store.panel,
            whole: a.store.whole,
            activation,
            params: a.params,
        });
    }
}

/// Rows of a part of a 3×3 kernel: strips go down more of them, the others two.
const fn rows_of_part<S: Vector>() -> usize {
    if crate::depthwise::by_strips::<S>() { 8 } else { 2 }
}

impl<const STRIDE: usize> Parted for DwConv3x3<STRIDE> {
    #[inline(always)]
    fn epilogue(a: &DepthwiseArgs) -> &Epilogue {
        &a.epilogue
    }

    #[inline(always)]
    fn parts<S: Vector>(a: &DepthwiseArgs) -> [usize; 2] {
        let rows = const { rows_of_part::<S>() };
        [a.rows_out.div_ceil(rows), rows * a.width * a.channels]
    }

    #[inline(always)]
    unsafe fn part<S: Vector>(a: &DepthwiseArgs, first: usize, count: usize) -> DepthwiseArgs {
        let rows = const { rows_of_part::<S>() };
        let first = first * rows;
        DepthwiseArgs {
            rows_out: (count * rows).min(a.rows_out - first),
            rows: a.rows.wrapping_add(first * STRIDE),
            out: a.out.wrapping_add(first),
            epilogue: Epilogue::NONE,
            ..*a
        }
    }

    #[inline(always)]
    unsafe fn stored(a: &DepthwiseArgs, activation: Nonlinearity, activate: impl Fn(&ActivateArgs)) {
        // SAFETY: the caller's.
        unsafe { stored_rows(a, activation, activate) }
    }
}

impl Parted for DwConv {
    #[inline(always)]
    fn epilogue(a: &DepthwiseArgs) -> &Epilogue {
        &a.epilogue
    }

    /// The one row.
    #[inline(always)]
    fn parts<S: Vector>(_: &DepthwiseArgs) -> [usize; 2] {
        [1, 0]
    }

    #[inline(always)]
    unsafe fn part<S: Vector>(a: &DepthwiseArgs, _: usize, _: usize) -> DepthwiseArgs {
        DepthwiseArgs { epilogue: Epilogue::NONE, ..*a }
    }

    #[inline(always)]
    unsafe fn stored(a: &DepthwiseArgs, activation: Nonlinearity, activate: impl Fn(&ActivateArgs)) {
        // SAFETY: the caller's.
        unsafe { stored_rows(a, activation, activate) }
    }
}

/// [`Parted::stored`] of the depthwise kernels.
///
/// # Safety
/// As theirs.
#[inline(always)]
unsafe fn stored_rows(a: &DepthwiseArgs, activation: Nonlinearity, activate: impl Fn(&ActivateArgs)) {
    for oy in 0..a.rows_out {
        activate(&ActivateArgs {
            // SAFETY: the caller's.
            ptr: unsafe { *a.out.wrapping_add(oy) },
            count: a.width,
            pixels: PixelOffsets::Every(a.out_pixel),
            channels: a.channels,
            panel: a.out_block,
            whole: a.whole_blocks,
            activation,
            params: a.params,
        });
    }
}

impl<const STRIDE: usize> Parted for DwPlanes<STRIDE> {
    #[inline(always)]
    fn epilogue(a: &DwPlanesArgs) -> &Epilogue {
        &a.epilogue
    }

    /// Channels. Calls of one scratch may differ in these alone.
    #[inline(always)]
    fn parts<S: Vector>(a: &DwPlanesArgs) -> [usize; 2] {
        [a.channels.len(), a.rows[1] * a.width]
    }

    #[inline(always)]
    unsafe fn part<S: Vector>(a: &DwPlanesArgs, first: usize, count: usize) -> DwPlanesArgs {
        let first = a.channels.start + first;
        DwPlanesArgs { channels: first..first + count, epilogue: Epilogue::NONE, ..a.clone() }
    }

    #[inline(always)]
    unsafe fn stored(a: &DwPlanesArgs, activation: Nonlinearity, activate: impl Fn(&ActivateArgs)) {
        let [row, pixel] = a.out_steps;
        // to `Activate`, a row whose values lie together is a pixel; else each value of a row is one
        let (calls, count, channels, step) =
            if pixel == 1 { (1, a.rows[1], a.width, row) } else { (a.rows[1], a.width, 1, pixel) };
        for channel in a.channels.clone() {
            // lanes are pixels: the function of the channel is that of a call
            let activation = if activation.is_by_channel() {
                let params = params_from(a.params, channel);
                // SAFETY: the caller's.
                activation.of_channel(unsafe { [*params, *params.wrapping_add(BLOCK)] })
            } else {
                activation
            };
            for y in 0..calls {
                activate(&ActivateArgs {
                    ptr: a.out.wrapping_add(channel * a.out_plane + y * row),
                    count,
                    pixels: PixelOffsets::Every(step),
                    channels,
                    panel: BLOCK,
                    whole: false,
                    activation,
                    params: a.params,
                });
            }
        }
    }
}
