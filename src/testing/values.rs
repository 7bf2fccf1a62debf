//! The numbers that tensors are filled with.

use proptest::prelude::*;
use proptest::sample::select;

/// What the values of a tensor are like.
///
/// Each kind is after a certain mistake; [`Values::make`] makes them from a seed, so that a case holds no numbers but
/// these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Values {
    /// Uniform in −1…1, all 24 bits of the mantissa in use.
    Uniform,
    /// Uniform in ±1e−20: products of two of them are denormal.
    Tiny,
    /// Uniform in ±1e18: sums of some hundred products come to the end of f32.
    Huge,
    /// Denormal, of either sign and any number of bits.
    Denormal,
    /// As often as not +0 or −0, else uniform.
    Zeros,
    /// One number, everywhere: what sums to the number of taps shows how many were taken.
    Equal,
    /// Of either sign, and within 2⁻¹⁰ of 1: sums cancel to little, and each rounding of a large partial sum shows.
    Cancelling,
    /// Uniform, but one in 64 is +∞ or −∞; at least one is.
    Infinite,
    /// Uniform, but one in 64 is NaN; at least one is.
    Nan,
    /// Uniform, but one in 48 is NaN, an infinity, a zero of either sign, the largest number, or a denormal.
    Special,
}

impl Values {
    /// Every kind.
    pub const ALL: &[Values] = &[
        Values::Uniform,
        Values::Tiny,
        Values::Huge,
        Values::Denormal,
        Values::Zeros,
        Values::Equal,
        Values::Cancelling,
        Values::Infinite,
        Values::Nan,
        Values::Special,
    ];

    /// The kinds without NaN and infinities, and without [`Values::Huge`], whose sums may overflow to them.
    pub const FINITE: &[Values] =
        &[Values::Uniform, Values::Tiny, Values::Denormal, Values::Zeros, Values::Equal, Values::Cancelling];

    /// `len` values, always the same for a seed.
    pub fn make(self, len: usize, seed: u64) -> Vec<f32> {
        CaseRng::new(seed).values(len, self)
    }
}

const SPECIAL: [f32; 9] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, -3e-39];

/// SplitMix64.
pub(super) struct CaseRng(u64);

impl CaseRng {
    pub(super) fn new(seed: u64) -> CaseRng {
        CaseRng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn signed(&mut self, v: f32) -> f32 {
        if self.one_in(2) { -v } else { v }
    }

    pub(super) fn values(&mut self, len: usize, kind: Values) -> Vec<f32> {
        let equal = self.uniform();
        let mut values: Vec<f32> = (0..len)
            .map(|_| match kind {
                Values::Uniform => self.uniform(),
                Values::Tiny => self.uniform() * 1e-20,
                Values::Huge => self.uniform() * 1e18,
                Values::Denormal => {
                    let bits = self.below(23);
                    let v = f32::from_bits((self.next() as u32 & 0x007f_ffff) >> bits);
                    self.signed(v)
                }
                Values::Zeros if self.one_in(2) => self.signed(0.0),
                Values::Equal => equal,
                Values::Cancelling => {
                    let v = 1.0 + self.uniform() / 1024.0;
                    self.signed(v)
                }
                Values::Infinite if self.one_in(64) => self.signed(f32::INFINITY),
                Values::Nan if self.one_in(64) => f32::NAN,
                Values::Special if self.one_in(48) => SPECIAL[self.below(SPECIAL.len())],
                Values::Zeros | Values::Infinite | Values::Nan | Values::Special => self.uniform(),
            })
            .collect();
        // small tensors must not go without
        if len > 0 && values.iter().all(|v| v.is_finite()) {
            let at = self.below(len);
            match kind {
                Values::Infinite => values[at] = self.signed(f32::INFINITY),
                Values::Nan => values[at] = f32::NAN,
                _ => {}
            }
        }
        values
    }
}

/// One of `kinds`; uniform values, where they are among them, half of the time.
pub(super) fn one_of(kinds: Vec<Values>) -> BoxedStrategy<Values> {
    if kinds.contains(&Values::Uniform) {
        prop_oneof![1 => Just(Values::Uniform), 1 => select(kinds)].boxed()
    } else {
        select(kinds).boxed()
    }
}
