//! What a caller can decide about a plan.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::{null, null_mut};

use super::describe::read_code;
use super::status::{Name, Result, boundary, sepconv_status};
use super::tensor::{read_layout, sepconv_layout};
use super::threads::{read_threads, sepconv_parallel_for, sepconv_pool, sepconv_threads};
use super::versioned::{self, Versioned};
use crate::{Fusion, Isa, PlanOptions, Schedule};

/// An instruction set.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_isa {
    /// As an option: the best that the CPU has.
    Best = 0,
    /// x86-64 with AVX-512: F, BW, CD, DQ and VL.
    Avx512 = 1,
    /// x86-64 with AVX2 and FMA.
    Avx2 = 2,
    /// x86-64 with SSE4.2.
    Sse42 = 3,
    /// 64-bit ARM with Advanced SIMD.
    Neon = 4,
    /// Any CPU.
    Scalar = 5,
}

/// Each instruction set, and its code.
const ISAS: [(Isa, sepconv_isa); 5] = [
    (Isa::Avx512, sepconv_isa::Avx512),
    (Isa::Avx2, sepconv_isa::Avx2),
    (Isa::Sse42, sepconv_isa::Sse42),
    (Isa::Neon, sepconv_isa::Neon),
    (Isa::Scalar, sepconv_isa::Scalar),
];

impl From<Isa> for sepconv_isa {
    fn from(isa: Isa) -> sepconv_isa {
        // a test holds that there is none which is not listed
        ISAS.iter().find(|(listed, _)| *listed == isa).map_or(sepconv_isa::Best, |&(_, code)| code)
    }
}

/// Whether the stages of a block run as one, the tensor between them never going to memory as a whole.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_fusion {
    /// The plan decides.
    Auto = 0,
    /// Every stage on its own.
    Never = 1,
    /// By a ring of a few rows of all channels, or an error where that cannot be had.
    RowRing = 2,
    /// The whole plane, some channels at a time, or an error where that cannot be had.
    ChannelSlabs = 3,
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type ThreadsCode = i32;
type IsaCode = i32;
type FusionCode = i32;
type LayoutCode = i32;

/// The options of a plan. Call `sepconv_plan_options_init` first, then set what differs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sepconv_plan_options {
    /// `sizeof(sepconv_plan_options)`, as the init function sets it.
    pub struct_size: usize,
    /// The pool of `SEPCONV_THREADS_POOL`, NULL with any other. The plan, or the plan cache, keeps it alive.
    pub pool: *const sepconv_pool,
    /// Who does the work. Init: `SEPCONV_THREADS_SERIAL`.
    pub threads: ThreadsCode,
    /// Caps the instruction set, as the environment variable `SEPCONV_MAX_ISA` does; one that the CPU does not have takes the
    /// next one down. Init: `SEPCONV_ISA_BEST`, no cap.
    pub max_isa: IsaCode,
    /// Whether blocks are fused. Init: `SEPCONV_FUSION_AUTO`.
    pub fusion: FusionCode,
    /// Polls of a worker that waits for others between two steps, before it sleeps, some 20 ns a poll. Init: 20000. 0 suits
    /// a machine that must not burn any core.
    pub spins: u32,
    /// Not 0: the bits of a fused multiply-add also where there is none: scalar kernels emulate it, some fifty times slower.
    /// Init: 0.
    pub common_bits: i32,
    /// The loop of `SEPCONV_THREADS_CUSTOM`, NULL with any other. It must stay callable while the plan lives, or the plan
    /// cache of these options.
    pub parallel_for: sepconv_parallel_for,
    /// The first argument of each call of `parallel_for`. Any pointer; the library does not use what it points to.
    pub parallel_context: *mut c_void,
    /// Threads that can run tasks of `parallel_for` at the same time, the calling one counted. Init: 0, which is 1.
    pub parallel_threads: usize,
    /// The most threads that a run may take. Init: 0, as many as the CPUs that this process may use.
    pub max_threads: usize,
    /// The layout of the input of a run. Init: `SEPCONV_LAYOUT_NHWC`. A plan for NCHW takes any strides, more slowly where neither
    /// channels nor pixels lie together.
    pub input_layout: LayoutCode,
    /// The layout of the output of a run. Init: `SEPCONV_LAYOUT_NHWC`.
    pub output_layout: LayoutCode,
}

// SAFETY: `repr(C)`, the size first; integers and a pointer.
unsafe impl Versioned for sepconv_plan_options {
    const INIT: Self = sepconv_plan_options {
        struct_size: 0,
        pool: null(),
        threads: sepconv_threads::Serial as i32,
        max_isa: sepconv_isa::Best as i32,
        fusion: sepconv_fusion::Auto as i32,
        spins: crate::options::SPINS,
        common_bits: 0,
        parallel_for: None,
        parallel_context: null_mut(),
        parallel_threads: 0,
        max_threads: 0,
        input_layout: sepconv_layout::Nhwc as i32,
        output_layout: sepconv_layout::Nhwc as i32,
    };
    const LEAST: usize = offset_of!(sepconv_plan_options, common_bits) + size_of::<i32>();
}

/// Writes the defaults to `options`; `size` is `sizeof(sepconv_plan_options)`, which tells this library how long the
/// caller's struct is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_options_init(options: *mut sepconv_plan_options, size: usize) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { versioned::init("options", options, size) })
}

/// Reads options; NULL is the default.
///
/// # Safety
/// The contract of all functions.
pub(super) unsafe fn read_options(options: *const sepconv_plan_options) -> Result<PlanOptions> {
    let mut read = PlanOptions::new();
    if options.is_null() {
        return Ok(read);
    }
    // SAFETY: the caller's.
    let options = unsafe { versioned::read("options", options) }?;
    let field = |field| Name::field("options", field);
    // SAFETY: the caller's.
    read = read.threads(unsafe { read_threads(&options) }?);
    if options.max_threads != 0 {
        read = read.max_threads(options.max_threads);
    }
    let isa = read_code!(field("max_isa"), options.max_isa, sepconv_isa {
        Best => None,
        Avx512 => Some(Isa::Avx512),
        Avx2 => Some(Isa::Avx2),
        Sse42 => Some(Isa::Sse42),
        Neon => Some(Isa::Neon),
        Scalar => Some(Isa::Scalar),
    })?;
    if let Some(isa) = isa {
        read = read.max_isa(isa);
    }
    let fusion = read_code!(field("fusion"), options.fusion, sepconv_fusion {
        Auto => Fusion::Auto,
        Never => Fusion::Never,
        RowRing => Fusion::Require(Schedule::RowRing),
        ChannelSlabs => Fusion::Require(Schedule::ChannelSlabs),
    })?;
    let read = read
        .input_layout(read_layout(field("input_layout"), options.input_layout)?)
        .output_layout(read_layout(field("output_layout"), options.output_layout)?);
    Ok(read.fusion(fusion).spins(options.spins).common_bits(options.common_bits != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_code() {
        assert_eq!(ISAS.map(|(isa, _)| isa), Isa::ALL);
        for isa in Isa::ALL {
            let code = sepconv_isa::from(isa) as i32;
            // SAFETY: the names are static.
            let name = unsafe { core::ffi::CStr::from_ptr(super::super::sepconv_isa_name(code)) };
            assert_eq!(name.to_str(), Ok(isa.name()));
        }
    }
}
