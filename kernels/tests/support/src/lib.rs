//! What the tests of kernels share: numbers, memory beside guard pages, and equality of bits. The tests of `sepconv` take them through
//! `sepconv-test-support`.

pub mod guard;
pub mod isa;

pub use guard::{Guarded, Placement};
use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::RowLayout;

/// SplitMix64: numbers that a failure can be repeated from.
pub struct Rng(pub u64);

impl Rng {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }

    /// True once in `one_in` times.
    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Uniform in −1…1, all 24 bits of the mantissa in use.
    pub fn float(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` values of a kind.
    pub fn values(&mut self, len: usize, kind: ValueKind) -> Vec<f32> {
        (0..len).map(|_| self.value(kind)).collect()
    }

    fn value(&mut self, kind: ValueKind) -> f32 {
        match kind {
            ValueKind::Plain => self.float(),
            ValueKind::Tiny => self.float() * 1e-20,
            ValueKind::Special if self.chance(48) => self.pick(&SPECIAL),
            ValueKind::Special => self.float(),
        }
    }
}

/// What the values of a case are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueKind {
    /// In −1…1.
    Plain,
    /// So small that products are denormal.
    Tiny,
    /// In −1…1, but one in 48 of [`SPECIAL`].
    Special,
}

/// What [`ValueKind::Special`] draws beside numbers of −1…1.
pub const SPECIAL: [f32; 9] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, -3e-39];

/// What memory holds that nobody may write, and what nobody may take into a sum.
pub const CANARY: f32 = f32::from_bits(0x7fc0_cafe);

/// Equal bits; one NaN is as good as another, since sign and payload differ between instruction sets.
pub fn same_bits(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Whether memory still holds its canary, which no computation gives.
pub fn is_canary(v: f32) -> bool {
    v.to_bits() == CANARY.to_bits()
}

/// A row of `width` pixels in a layout, and what value `(pixel, channel)` of it is.
pub fn row(rng: &mut Rng, width: usize, channels: usize, blocks: bool) -> (RowLayout, Guarded, Vec<f32>) {
    let layout = if blocks {
        RowLayout { block: (width + rng.below(3)) * BLOCK, pixel: BLOCK }
    } else {
        RowLayout { block: BLOCK, pixel: channels + rng.below(3) }
    };
    let at = |p: usize, c: usize| c / BLOCK * layout.block + p * layout.pixel + c % BLOCK;
    let values = rng.values(width * channels, ValueKind::Plain);
    let last = (0..channels).map(|c| at(width - 1, c)).max().unwrap();
    let mut memory = Guarded::new(last + 1);
    for p in 0..width {
        for c in 0..channels {
            memory.slice_mut()[at(p, c)] = values[p * channels + c];
        }
    }
    (layout, memory, values)
}
