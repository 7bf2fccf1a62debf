//! Which instruction sets this CPU can run, and the operating system lets it run.
//!
//! With the feature `std` the standard library tells. Without it, x86-64 is asked here, for the same bits: an instruction
//! set that has wider registers than SSE's needs the operating system to save them when it switches threads. `XCR0` says
//! which registers it saves, and the instruction that reads `XCR0` exists where the bit OSXSAVE of CPUID is set.
//!
//! Public for the tests of this crate alone, and no part of its API.

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The registers of CPUID and `XCR0` that tell, of a CPU, or of what an instruction set needs.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuBits {
    /// Leaf 1, `ecx` and `edx`.
    pub leaf1: [u32; 2],
    /// Leaf 7, `ebx`.
    pub leaf7: u32,
    /// Leaf 0x8000_0001, `ecx`.
    pub extended: u32,
    /// The registers that the operating system saves.
    pub xcr0: u64,
}

#[cfg(target_arch = "x86_64")]
impl CpuBits {
    /// XSAVE and OSXSAVE of leaf 1: there is an `XCR0` to read.
    const OSXSAVE: u32 = bits(&[26, 27]);

    /// SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT; FXSR, SSE, SSE2.
    pub const SSE42: CpuBits =
        CpuBits { leaf1: [bits(&[0, 9, 19, 20, 23]), bits(&[24, 25, 26])], leaf7: 0, extended: 0, xcr0: 0 };

    /// And FMA, AVX; BMI1, AVX2, BMI2; LZCNT; registers of SSE and AVX.
    pub const AVX2: CpuBits = CpuBits::SSE42.and(CpuBits {
        leaf1: [bits(&[12, 28]) | CpuBits::OSXSAVE, 0],
        leaf7: bits(&[3, 5, 8]),
        extended: bits(&[5]),
        xcr0: bits(&[1, 2]) as u64,
    });

    /// And F16C, without which Rust has no AVX-512; AVX-512 F, DQ, CD, BW, VL; masks, and registers of AVX-512.
    pub const AVX512: CpuBits = CpuBits::AVX2.and(CpuBits {
        leaf1: [bits(&[29]), 0],
        leaf7: bits(&[16, 17, 28, 30, 31]),
        extended: 0,
        xcr0: bits(&[5, 6, 7]) as u64,
    });

    const fn and(self, more: CpuBits) -> CpuBits {
        CpuBits {
            leaf1: [self.leaf1[0] | more.leaf1[0], self.leaf1[1] | more.leaf1[1]],
            leaf7: self.leaf7 | more.leaf7,
            extended: self.extended | more.extended,
            xcr0: self.xcr0 | more.xcr0,
        }
    }

    /// Whether a CPU with these bits has all that `needed` names.
    pub fn have(self, needed: CpuBits) -> bool {
        self.and(needed) == self
    }

    /// Those of this CPU. None where it cannot be asked, which is in an SGX enclave and under Miri.
    #[allow(unused_unsafe, reason = "newer versions of Rust know that CPUID is safe")]
    pub fn read() -> CpuBits {
        if cfg!(any(target_env = "sgx", miri)) {
            return CpuBits::default();
        }
        use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
        // SAFETY: every x86-64 CPU has CPUID, and leaves are read up to the last one. XGETBV exists where OSXSAVE is set.
        unsafe {
            let (last, last_extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
            let leaf1 = __cpuid(1);
            CpuBits {
                leaf1: [leaf1.ecx, leaf1.edx],
                leaf7: if last >= 7 { __cpuid_count(7, 0).ebx } else { 0 },
                extended: if last_extended >= 0x8000_0001 { __cpuid(0x8000_0001).ecx } else { 0 },
                xcr0: if leaf1.ecx & CpuBits::OSXSAVE == CpuBits::OSXSAVE { _xgetbv(0) } else { 0 },
            }
        }
    }
}

/// A word with these bits set.
#[cfg(target_arch = "x86_64")]
const fn bits(set: &[u32]) -> u32 {
    let (mut word, mut i) = (0, 0);
    while i < set.len() {
        word |= 1 << set[i];
        i += 1;
    }
    word
}

/// What was read, so that CPUID, which a virtual machine may take microseconds for, is asked once.
#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has(level: u8) -> bool {
    const READ: u8 = 1 << 7;
    static LEVELS: AtomicU8 = AtomicU8::new(0);
    let mut levels = LEVELS.load(Relaxed);
    if levels == 0 {
        let cpu = CpuBits::read();
        levels = READ;
        for (i, needed) in [CpuBits::SSE42, CpuBits::AVX2, CpuBits::AVX512].into_iter().enumerate() {
            levels |= u8::from(cpu.have(needed)) << i;
        }
        // whoever reads at the same time stores the same
        LEVELS.store(levels, Relaxed);
    }
    levels & 1 << level != 0
}

/// Each line is a function that says whether this CPU has an instruction set, its bit among what was read, and the
/// features that it is.
macro_rules! detectors {
    ($($name:ident $level:literal: [$($feature:tt)*];)*) => {$(
        /// Whether this CPU has it, and the operating system saves its registers.
        pub fn $name() -> bool {
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            return $(std::is_x86_feature_detected!($feature))&&*;
            #[cfg(all(target_arch = "x86_64", not(feature = "std")))]
            return has($level) || $(cfg!(target_feature = $feature))&&*;
            #[cfg(not(target_arch = "x86_64"))]
            false
        }
    )*};
}

detectors! {
    has_sse42 0: ["sse" "sse2" "fxsr" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt"];
    has_avx2 1: ["sse4.2" "popcnt" "avx" "avx2" "bmi1" "bmi2" "fma" "lzcnt"];
    has_avx512 2: ["popcnt" "avx2" "bmi1" "bmi2" "fma" "lzcnt" "f16c" "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"];
}

/// Whether this CPU has Advanced SIMD.
pub fn has_neon() -> bool {
    #[cfg(all(target_arch = "aarch64", feature = "std"))]
    return std::arch::is_aarch64_feature_detected!("neon");
    #[cfg(not(all(target_arch = "aarch64", feature = "std")))]
    cfg!(all(target_arch = "aarch64", target_feature = "neon"))
}
