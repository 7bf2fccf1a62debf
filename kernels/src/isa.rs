//! Instruction sets, and which of them this CPU has.

use core::fmt;
use core::str::FromStr;

use crate::cpu;

/// Each line is an instruction set, best first: its variant, its name, the arithmetic that is its own, and, unless it is
/// compiled always and every CPU has it, where its kernels are compiled, and the function of [`cpu`] that tells whether the
/// CPU has it.
macro_rules! isas {
    ($($(#[$doc:meta])* $variant:ident $name:literal $arithmetic:ident $(, $compiled:meta, $has:ident)?;)*) => {
        /// An instruction set that kernels can be compiled for. All of them have a name, whichever are compiled
        /// ([`Isa::is_compiled`]).
        ///
        /// Variants are in the order of preference, best first: on one architecture, a later one is never faster than an
        /// earlier one. [`Isa::is_at_most`] compares by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Isa {
            $($(#[$doc])* $variant,)*
        }

        impl Isa {
            /// Every instruction set, in the order of preference.
            pub const ALL: [Isa; [$($name),*].len()] = [$(Isa::$variant),*];

            /// Whether its kernels are compiled in: on its architecture, and where a cargo feature selects it, with that
            /// feature.
            pub const fn is_compiled(self) -> bool {
                match self {
                    $(Isa::$variant => true $(&& cfg!($compiled))?,)*
                }
            }

            /// Whether this CPU has it.
            fn cpu_has(self) -> bool {
                match self {
                    $(Isa::$variant => true $(&& cpu::$has())?,)*
                }
            }

            /// The name in lower case: `avx512`, `avx2`, `sse42`, `neon`, `scalar`.
            pub const fn name(self) -> &'static str {
                match self { $(Isa::$variant => $name,)* }
            }

            /// How a step of a sum is rounded on this instruction set unless common bits are asked for.
            pub const fn arithmetic(self) -> Arithmetic {
                match self { $(Isa::$variant => Arithmetic::$arithmetic,)* }
            }
        }
    };
}

isas! {
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL: 32 registers of 16 floats. Feature `avx512`.
    Avx512 "avx512" Fused, all(target_arch = "x86_64", feature = "avx512"), has_avx512;
    /// x86-64 with AVX2 and FMA: 16 registers of 8 floats. Feature `avx2`.
    Avx2 "avx2" Fused, all(target_arch = "x86_64", feature = "avx2"), has_avx2;
    /// x86-64 with SSE4.2, without FMA: 16 registers of 4 floats. Feature `sse42`.
    Sse42 "sse42" Separate, all(target_arch = "x86_64", feature = "sse42"), has_sse42;
    /// AArch64 with Advanced SIMD: 32 registers of 4 floats.
    Neon "neon" Fused, target_arch = "aarch64", has_neon;
    /// Any CPU: plain Rust.
    Scalar "scalar" Separate;
}

impl Isa {
    /// Whether a program can use it: its kernels are compiled in ([`Isa::is_compiled`]), this CPU has it, and the operating
    /// system saves its registers. The CPU is asked once.
    pub fn is_available(self) -> bool {
        self.is_compiled() && self.cpu_has()
    }

    /// Whether a cap admits it: it is the cap, or comes after the cap in [`Isa::ALL`].
    ///
    /// ```
    /// use sepconv_kernels::Isa;
    ///
    /// assert!(Isa::Sse42.is_at_most(Isa::Avx2) && Isa::Avx2.is_at_most(Isa::Avx2));
    /// assert!(!Isa::Avx512.is_at_most(Isa::Avx2));
    /// // the cap of another architecture: it admits what comes after it
    /// assert!(Isa::Neon.is_at_most(Isa::Avx2) && !Isa::Avx2.is_at_most(Isa::Neon));
    /// ```
    pub const fn is_at_most(self, cap: Isa) -> bool {
        self as u8 >= cap as u8
    }

    /// The best that is available.
    pub fn best() -> Isa {
        Isa::best_up_to(Isa::ALL[0])
    }

    /// The best that is available and not above `cap`; the cap never lifts.
    pub fn best_up_to(cap: Isa) -> Isa {
        Isa::ALL.into_iter().find(|isa| isa.is_at_most(cap) && isa.is_available()).unwrap_or(Isa::Scalar)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ")?;
        for (i, isa) in Isa::ALL.iter().enumerate() {
            f.write_str(match i {
                0 => "",
                i if i + 1 == Isa::ALL.len() => " or ",
                _ => ", ",
            })?;
            f.write_str(isa.name())?;
        }
        Ok(())
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
#[non_exhaustive]
pub enum Arithmetic {
    /// Once: a fused multiply-add. On CPUs without one it is emulated, some fifty times slower.
    Fused,
    /// Twice: a product, then a sum.
    Separate,
}
