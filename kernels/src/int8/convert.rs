//! Pixels between a caller's tensor and stored values: no other kernel reads or writes a caller's bytes.
//!
//! ```text
//!   from a caller     u8: q        i8: q = v + 128        f32: q = clamp(rne(v × 1/scale) + zero, 0, 255)     stored as q − OFFSET
//!   to a caller       u8: q        i8: q − 128            f32: (q − zero) × scale
//! ```
//!
//! Both sides have any distances between pixels, blocks and channels. Where channels lie together on both sides, the loop over them is one
//! that LLVM makes vectors of.

use super::{Int8, StoredValue};
use crate::{BLOCK, Kernel, Level};

/// What a caller's value means. The zero point of i8 is 128 less than that of the quantized value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CallerValue {
    /// The quantized value.
    U8,
    /// The quantized value less 128.
    I8,
    /// A real number: `(q − zero) × scale`.
    F32 {
        /// Real numbers from one quantized value to the next.
        scale: f32,
        /// The quantized value of 0.
        zero: i32,
    },
}

/// Where values lie: value `(p, c)` of a row at `p × pixel + (c / 16) × block + (c % 16) × channel`, counted in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValuePlaces {
    /// From one pixel to the next.
    pub pixel: usize,
    /// From one block of 16 channels to the next.
    pub block: usize,
    /// From one channel to the next.
    pub channel: usize,
}

/// What [`FromCaller`] and [`ToCaller`] go over.
#[derive(Clone, Copy, Debug)]
pub struct ConvertArgs {
    /// The caller's values: bytes or floats, as `value` says.
    pub caller: *mut u8,
    /// Where they lie.
    pub caller_places: ValuePlaces,
    /// What they mean.
    pub value: CallerValue,
    /// The stored values.
    pub stored: *mut u8,
    /// Where they lie.
    pub stored_places: ValuePlaces,
    /// Pixels.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// `int8_from_caller`.
pub enum FromCaller {}

/// `int8_to_caller`.
pub enum ToCaller {}

impl Kernel for FromCaller {
    type Args = ConvertArgs;

    /// # Safety
    /// `caller` is readable, and `stored` is writable, in `channels` of `width` pixels. They do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(_: L::Token, a: &ConvertArgs) {
        let offset = <L::Int8 as Int8<L::Token>>::OFFSET;
        let to = a.stored.cast::<<L::Int8 as Int8<L::Token>>::Stored>();
        // SAFETY: the caller's.
        unsafe {
            match a.value {
                CallerValue::U8 => each(a, a.caller.cast_const(), a.caller_places, to, a.stored_places, |q| {
                    StoredValue::of(i32::from(q) - offset)
                }),
                CallerValue::I8 => {
                    let from = a.caller.cast_const().cast::<i8>();
                    each(a, from, a.caller_places, to, a.stored_places, |v| {
                        StoredValue::of(i32::from(v) + 128 - offset)
                    });
                }
                CallerValue::F32 { scale, zero } => {
                    let (from, inverse) = (a.caller.cast_const().cast::<f32>(), 1.0 / scale);
                    each(a, from, a.caller_places, to, a.stored_places, |v| {
                        StoredValue::of(quantize(v, inverse, zero) - offset)
                    });
                }
            }
        }
    }
}

impl Kernel for ToCaller {
    type Args = ConvertArgs;

    /// # Safety
    /// `stored` is readable, and `caller` is writable, in `channels` of `width` pixels. They do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(_: L::Token, a: &ConvertArgs) {
        let offset = <L::Int8 as Int8<L::Token>>::OFFSET;
        let from = a.stored.cast_const().cast::<<L::Int8 as Int8<L::Token>>::Stored>();
        // SAFETY: the caller's.
        unsafe {
            match a.value {
                CallerValue::U8 => {
                    each(a, from, a.stored_places, a.caller, a.caller_places, |q| (q.value() + offset) as u8);
                }
                CallerValue::I8 => {
                    let to = a.caller.cast::<i8>();
                    each(a, from, a.stored_places, to, a.caller_places, |q| (q.value() + offset - 128) as i8);
                }
                CallerValue::F32 { scale, zero } => {
                    let to = a.caller.cast::<f32>();
                    each(a, from, a.stored_places, to, a.caller_places, |q| (q.value() + offset - zero) as f32 * scale);
                }
            }
        }
    }
}

/// 1.5 × 2²³: added to a float between −2²² and 2²², it rounds it to a whole number, ties to even.
const ROUNDS: f32 = 12_582_912.0;

/// `clamp(rne(v × inverse) + zero, 0, 255)`. NaN becomes 0.
#[inline(always)]
fn quantize(v: f32, inverse: f32, zero: i32) -> i32 {
    let (least, most) = (-zero as f32, (255 - zero) as f32);
    let scaled = v * inverse;
    // a comparison with NaN is false
    let scaled = if scaled > least { scaled } else { least };
    let scaled = if scaled < most { scaled } else { most };
    ((scaled + ROUNDS) - ROUNDS) as i32 + zero
}

/// Each value of each pixel, by a function of one value.
///
/// # Safety
/// `from` is readable, and `to` is writable, at the places of all pixels and channels. They do not overlap.
#[inline(always)]
unsafe fn each<F: Copy, T: Copy>(
    a: &ConvertArgs,
    from: *const F,
    from_places: ValuePlaces,
    to: *mut T,
    to_places: ValuePlaces,
    convert: impl Fn(F) -> T + Copy,
) {
    let together = |places: ValuePlaces| places.channel == 1 && (places.block == BLOCK || a.channels <= BLOCK);
    // channels that lie together on both sides: all of them, or a block
    let run = match (from_places.channel, to_places.channel) {
        (1, 1) if together(from_places) && together(to_places) => a.channels,
        (1, 1) => BLOCK,
        _ => 1,
    };
    let mut c = 0;
    while c < a.channels {
        let count = run.min(a.channels - c);
        let at = |places: ValuePlaces| c / BLOCK * places.block + c % BLOCK * places.channel;
        let (from, to) = (from.wrapping_add(at(from_places)), to.wrapping_add(at(to_places)));
        for p in 0..a.width {
            let (from, to) = (from.wrapping_add(p * from_places.pixel), to.wrapping_add(p * to_places.pixel));
            // SAFETY: the caller's, for channels from `c` on, which lie together.
            unsafe {
                if count == BLOCK {
                    to.cast::<[T; BLOCK]>().write_unaligned(from.cast::<[F; BLOCK]>().read_unaligned().map(convert));
                } else {
                    for i in 0..count {
                        to.add(i).write_unaligned(convert(from.add(i).read_unaligned()));
                    }
                }
            }
        }
        c += count;
    }
}
