//! What a CPU must have for an instruction set, and what its operating system must save.
#![cfg(target_arch = "x86_64")]

use sepconv_kernels::Isa;
use sepconv_kernels::cpu::{CpuBits, has_avx2, has_avx512, has_sse42};

/// A CPU with everything, whose operating system saves what `xcr0` says.
fn full(xcr0: u64) -> CpuBits {
    CpuBits { leaf1: [!0; 2], leaf7: !0, extended: !0, xcr0 }
}

// the bits of XCR0: x87, SSE, AVX; masks of AVX-512, upper halves of its first registers, its other registers
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const MASKS: u64 = 1 << 5;
const UPPER: u64 = 1 << 6;
const MORE: u64 = 1 << 7;

#[test]
fn an_instruction_set_needs_its_registers_saved() {
    let all = X87 | SSE | AVX | MASKS | UPPER | MORE;
    for (xcr0, avx2, avx512) in [
        (all, true, true),
        (X87 | SSE | AVX, true, false),
        (X87 | SSE, false, false),
        (X87, false, false),
        (0, false, false),
        (all & !SSE, false, false),
        (all & !AVX, false, false),
        (all & !MASKS, true, false),
        (all & !UPPER, true, false),
        (all & !MORE, true, false),
    ] {
        let cpu = full(xcr0);
        assert_eq!(cpu.have(CpuBits::AVX2), avx2, "XCR0 {xcr0:#b}");
        assert_eq!(cpu.have(CpuBits::AVX512), avx512, "XCR0 {xcr0:#b}");
        assert!(cpu.have(CpuBits::SSE42), "SSE is saved by FXSAVE, whatever XCR0 is");
    }
    // without OSXSAVE there is no XCR0
    let mut cpu = full(all);
    cpu.leaf1[0] &= !(1 << 27);
    assert!(cpu.have(CpuBits::SSE42) && !cpu.have(CpuBits::AVX2) && !cpu.have(CpuBits::AVX512));
}

#[test]
fn every_bit_counts() {
    for needed in [CpuBits::SSE42, CpuBits::AVX2, CpuBits::AVX512] {
        let mut counted = 0;
        for word in 0..5 {
            for bit in 0..32 {
                let mut cpu = needed;
                let set = match word {
                    0 | 1 => &mut cpu.leaf1[word],
                    2 => &mut cpu.leaf7,
                    3 => &mut cpu.extended,
                    _ => {
                        cpu.xcr0 &= !(1 << bit);
                        &mut 0
                    }
                };
                *set &= !(1 << bit);
                assert_eq!(cpu.have(needed), cpu == needed);
                counted += u32::from(cpu != needed);
            }
        }
        let CpuBits { leaf1: [ecx, edx], leaf7, extended, xcr0 } = needed;
        let ones = [ecx, edx, leaf7, extended].iter().map(|word| word.count_ones()).sum::<u32>() + xcr0.count_ones();
        assert_eq!(counted, ones);
    }
    assert!(CpuBits::AVX512.have(CpuBits::AVX2) && CpuBits::AVX2.have(CpuBits::SSE42));
    assert!(!CpuBits::SSE42.have(CpuBits::AVX2) && !CpuBits::AVX2.have(CpuBits::AVX512));
}

#[test]
fn what_is_read_here_is_what_std_reads() {
    let cpu = CpuBits::read();
    for (isa, needed, has, std) in [
        (
            Isa::Sse42,
            CpuBits::SSE42,
            has_sse42(),
            is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt"),
        ),
        (
            Isa::Avx2,
            CpuBits::AVX2,
            has_avx2(),
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt"),
        ),
        (
            Isa::Avx512,
            CpuBits::AVX512,
            has_avx512(),
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"),
        ),
    ] {
        // Miri reads no CPUID, and has what it was compiled for
        assert!(cfg!(miri) || cpu.have(needed) == std, "{isa}: {cpu:x?}");
        assert_eq!(has, std, "{isa}");
        assert_eq!(isa.is_available(), isa.is_compiled() && std, "{isa}");
    }
}
