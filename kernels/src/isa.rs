//! Instruction sets, and which of them this CPU has.

use core::fmt;
use core::str::FromStr;

/// An instruction set that kernels are compiled for.
///
/// The order is that of preference on one architecture: a later variant, which is the greater one, is never faster than an
/// earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL: 32 registers of 16 floats.
    Avx512,
    /// x86-64 with AVX2 and FMA: 16 registers of 8 floats.
    Avx2,
    /// x86-64 with SSE4.2, without FMA: 16 registers of 4 floats.
    Sse42,
    /// AArch64 with Advanced SIMD: 32 registers of 4 floats.
    Neon,
    /// Any CPU: plain Rust.
    Scalar,
}

impl Isa {
    /// Every instruction set, in the order of preference.
    pub const ALL: [Isa; 5] = [Isa::Avx512, Isa::Avx2, Isa::Sse42, Isa::Neon, Isa::Scalar];

    /// Whether this CPU can run it. Found once, then remembered.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Sse42 => pulp::x86::V2::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => pulp::aarch64::Neon::try_new().is_some(),
            Isa::Scalar => true,
            #[allow(unreachable_patterns, reason = "which variants are left depends on the architecture")]
            _ => false,
        }
    }

    /// The best that this CPU can run.
    pub fn best() -> Isa {
        Isa::best_up_to(Isa::ALL[0])
    }

    /// The best that this CPU can run and that is not above `cap`; the cap never lifts.
    pub fn best_up_to(cap: Isa) -> Isa {
        Isa::ALL.into_iter().find(|&isa| isa >= cap && isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// The name in lower case: `avx512`, `avx2`, `sse42`, `neon`, `scalar`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Sse42 => "sse42",
            Isa::Neon => "neon",
            Isa::Scalar => "scalar",
        }
    }

    /// How a step of a sum is rounded on this instruction set unless common bits are asked for.
    pub const fn arithmetic(self) -> Arithmetic {
        match self {
            Isa::Avx512 | Isa::Avx2 | Isa::Neon => Arithmetic::Fused,
            Isa::Sse42 | Isa::Scalar => Arithmetic::Separate,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected avx512, avx2, sse42, neon or scalar")
    }
}

impl core::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| name.eq_ignore_ascii_case(isa.name())).ok_or(UnknownIsa)
    }
}

/// How a step `acc + x × w` of a sum is rounded. It decides the bits of every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Once: a fused multiply-add. On CPUs without one it is emulated, some fifty times slower.
    Fused,
    /// Twice: a product, then a sum.
    Separate,
}
