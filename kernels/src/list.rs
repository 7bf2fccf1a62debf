//! The list of kernels, and the functions that enter them.

use crate::int8::{self, Int8, Int8Layout};
use crate::simd::{self, MulAdd, Vector};
use crate::{
    Activate, ActivateArgs, Arithmetic, AveragePool, BLOCK, BlockRow, BlockRowArgs, DepthwiseArgs, DwConv, DwConv3x3,
    DwPlanes, DwPlanesArgs, FromPlanes, FromPlanesArgs, Isa, JoinRow, JoinRowArgs, Pointwise, PointwiseArgs, PoolArgs,
    PoolRow, PoolRowArgs, ToPlanes, ToPlanesArgs,
};

/// An algorithm, written once over [`Vector`].
pub trait Kernel {
    /// What it computes on.
    type Args;

    /// Runs it. Implementations are `#[inline(always)]`, as is all that they reach: the caller has the instructions
    /// enabled.
    ///
    /// # Safety
    /// Each kernel says what its arguments must be.
    unsafe fn run<L: Level>(simd: L::Token, args: &Self::Args);
}

/// Each line is a kernel: the field of [`Kernels`], the variant of [`KernelKind`], the type, its arguments and its name. Before it stands
/// where it is compiled, if that is not everywhere.
macro_rules! kernels {
    ($($(#[$cfg:meta])? $field:ident $kind:ident: $kernel:ty, $args:ty, $name:literal;)*) => {
        /// A kernel of the list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum KernelKind {
            $(#[doc = concat!("`", $name, "`")] $(#[$cfg])? $kind,)*
        }

        impl KernelKind {
            /// The whole list.
            pub const ALL: &'static [KernelKind] = &[$($(#[$cfg])? KernelKind::$kind,)*];

            /// The name that plans, benches and failures of tests print.
            pub const fn name(self) -> &'static str {
                match self { $($(#[$cfg])? KernelKind::$kind => $name,)* }
            }
        }

        /// The kernels, compiled for one instruction set and one way of rounding.
        #[derive(Clone, Copy, Debug)]
        pub struct Kernels {
            isa: Isa,
            arithmetic: Arithmetic,
            dwconv3x3_by_strips: bool,
            lanes: usize,
            dwplanes3x3_copies: fn(usize, usize, usize, [usize; 2]) -> bool,
            int8_layout: fn() -> Int8Layout,
            $(#[doc = concat!("Enters `", $name, "`. Unsafe as that kernel's `run` is.")] $(#[$cfg])? pub $field: unsafe fn(&$args),)*
        }

        impl Kernels {
            const fn of<L: Level>() -> Kernels {
                Kernels {
                    isa: <L::Token as Vector>::ISA,
                    arithmetic: <L::MulAdd as MulAdd>::ARITHMETIC,
                    lanes: <L::Token as pulp::Simd>::F32_LANES,
                    dwconv3x3_by_strips: crate::depthwise::by_strips::<L::Token>(),
                    dwplanes3x3_copies: crate::depthwise::copies::<L::Token>,
                    int8_layout: <L::Int8 as Int8<L::Token>>::layout,
                    $($(#[$cfg])? $field: L::enter::<$kernel>,)*
                }
            }
        }
    };
}

kernels! {
    pointwise Pointwise: Pointwise, PointwiseArgs, "f32_pointwise";
    #[cfg(feature = "int8")]
    int8_pointwise Int8Pointwise: crate::Int8Pointwise, PointwiseArgs<u8>, "int8_pointwise";
    #[cfg(feature = "int8")]
    int8_dwconv3x3s1 Int8DwConv3x3S1: crate::Int8DwConv3x3<1>, DepthwiseArgs<u8>, "int8_dwconv3x3s1";
    #[cfg(feature = "int8")]
    int8_dwconv3x3s2 Int8DwConv3x3S2: crate::Int8DwConv3x3<2>, DepthwiseArgs<u8>, "int8_dwconv3x3s2";
    #[cfg(feature = "int8")]
    int8_dwconv Int8DwConv: crate::Int8DwConv, DepthwiseArgs<u8>, "int8_dwconv";
    #[cfg(feature = "int8")]
    int8_mean Int8Mean: crate::Int8Mean, crate::Int8MeanArgs, "int8_mean";
    #[cfg(feature = "int8")]
    int8_from_caller FromCaller: crate::FromCaller, crate::ConvertArgs, "int8_from_caller";
    #[cfg(feature = "int8")]
    int8_to_caller ToCaller: crate::ToCaller, crate::ConvertArgs, "int8_to_caller";
    #[cfg(feature = "int8")]
    int8_sum Int8Sum: crate::Int8Sum, crate::Int8SumArgs, "int8_sum";
    dwconv3x3s1 DwConv3x3S1: DwConv3x3<1>, DepthwiseArgs, "f32_dwconv3x3s1";
    dwconv3x3s2 DwConv3x3S2: DwConv3x3<2>, DepthwiseArgs, "f32_dwconv3x3s2";
    dwconv3x3s3 DwConv3x3S3: DwConv3x3<3>, DepthwiseArgs, "f32_dwconv3x3s3";
    dwconv DwConv: DwConv, DepthwiseArgs, "f32_dwconv";
    activate Activate: Activate, ActivateArgs, "f32_activate";
    average_pool AveragePool: AveragePool, PoolArgs, "f32_avgpool";
    block_row BlockRow: BlockRow, BlockRowArgs, "f32_blockrow";
    from_planes FromPlanes: FromPlanes, FromPlanesArgs, "f32_from_planes";
    to_planes ToPlanes: ToPlanes, ToPlanesArgs, "f32_to_planes";
    join_row JoinRow: JoinRow, JoinRowArgs, "f32_joinrow";
    pool_row PoolRow: PoolRow, PoolRowArgs, "f32_poolrow";
    dwplanes3x3s1 DwPlanes3x3S1: DwPlanes<1>, DwPlanesArgs, "f32_dwplanes3x3s1";
    dwplanes3x3s2 DwPlanes3x3S2: DwPlanes<2>, DwPlanesArgs, "f32_dwplanes3x3s2";
}

impl Kernels {
    /// The kernels of the best available instruction set that is not above `cap` and rounds so.
    ///
    /// Every instruction set has kernels for the arithmetic that is its own. Scalar has kernels for both with the cargo feature
    /// `common-bits`: where a fused multiply-add is emulated, vectors of it gain nothing.
    pub fn up_to(cap: Isa, arithmetic: Arithmetic) -> Option<&'static Kernels> {
        TABLES.iter().copied().find(|k| k.isa.is_at_most(cap) && k.arithmetic == arithmetic && k.isa.is_available())
    }

    /// Every table that is compiled in and that this CPU can run.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        TABLES.iter().copied().filter(|k| k.isa.is_available())
    }

    /// The instruction set.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// How its int8 kernels want values and weights in memory.
    pub fn int8_layout(&self) -> Int8Layout {
        (self.int8_layout)()
    }

    /// How a step of a sum is rounded.
    pub const fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Whether [`DwConv3x3`], at stride 1 and 2, goes down all rows of a call and loads every input once for some columns, so that the more
    /// rows a call has the better. Else it takes two rows at a time, however many there are.
    pub const fn dwconv3x3_by_strips(&self) -> bool {
        self.dwconv3x3_by_strips
    }

    /// The number of which the channels of a caller's pixels are a multiple, where a depthwise kernel is given them with
    /// [`edges`](DepthwiseArgs::edges).
    pub const fn edge_channels(&self, kind: KernelKind) -> usize {
        match kind {
            KernelKind::DwConv3x3S1 | KernelKind::DwConv3x3S2 | KernelKind::DwConv => self.lanes,
            _ => BLOCK,
        }
    }

    /// Whether [`DwPlanes`](crate::DwPlanes) copies the rows that it reads, which takes it about twice as long: for output planes of
    /// `[rows, columns]`, input rows of `columns` pixels that lie together, and `before` columns of padding before them.
    pub fn dwplanes3x3_copies(&self, stride: usize, before: usize, columns: usize, out: [usize; 2]) -> bool {
        (self.dwplanes3x3_copies)(stride, before, columns, out)
    }
}

/// An instruction set with a way of rounding, and the one function in which its features are enabled.
pub trait Level {
    /// The instruction set.
    type Token: Vector;
    /// The way of rounding.
    type MulAdd: MulAdd;
    /// The 8-bit arithmetic.
    type Int8: Int8<Self::Token>;

    /// Runs a kernel, or a part of one that is a function of its own. Functions are small by that, and LLVM's time grows with the
    /// square of the loops in one.
    ///
    /// # Safety
    /// The CPU has the instruction set; the arguments are as `K::run` asks.
    unsafe fn enter<K: Kernel>(args: &K::Args);
}

/// Each line is a level, in the order of [`Isa::ALL`]: its module, pulp's token, how to make it, the arithmetic, and the
/// features to enable.
///
/// A module is what the compiler gives to one of its threads, so that levels are compiled beside each other.
macro_rules! levels {
    ($($(#[$cfg:meta])? $level:ident: $token:ty, $new:expr, $mul_add:ty, $int8:ty $(, $features:literal)?;)*) => {
        $(
            $(#[$cfg])?
            mod $level {
                use super::*;

                enum Here {}

                impl Level for Here {
                    type Token = $token;
                    type MulAdd = $mul_add;
                    type Int8 = $int8;

                    $(#[target_feature(enable = $features)])?
                    #[inline(never)]
                    unsafe fn enter<K: Kernel>(args: &K::Args) {
                        // SAFETY: the caller's promise on CPU and arguments.
                        #[allow(unused_unsafe, reason = "some tokens are safe to make")]
                        unsafe { K::run::<Here>($new, args) }
                    }
                }

                pub(super) static KERNELS: Kernels = Kernels::of::<Here>();
            }
        )*

        static TABLES: &[&Kernels] = &[$($(#[$cfg])? &$level::KERNELS,)*];
    };
}

levels! {
    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    avx512: pulp::x86::V4, pulp::x86::V4::new_unchecked(), simd::Fused, int8::Avx512Pairs,
        "avx,avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl";
    #[cfg(all(target_arch = "x86_64", feature = "avx2"))]
    avx2: pulp::x86::V3, pulp::x86::V3::new_unchecked(), simd::Fused, int8::Avx2Pairs,
        "avx,avx2,fma,bmi1,bmi2,lzcnt,popcnt";
    #[cfg(all(target_arch = "x86_64", feature = "sse42"))]
    sse42: pulp::x86::V2, pulp::x86::V2::new_unchecked(), simd::Separate, int8::Sse42Pairs,
        "sse3,ssse3,sse4.1,sse4.2,popcnt";
    #[cfg(target_arch = "aarch64")]
    neon: pulp::aarch64::Neon, pulp::aarch64::Neon::new_unchecked(), simd::Fused, int8::NeonPairs, "neon";
    scalar: pulp::Scalar, pulp::Scalar::new(), simd::Separate, int8::ScalarPairs;
    #[cfg(feature = "common-bits")]
    scalar_common: pulp::Scalar, pulp::Scalar::new(), simd::Fused, int8::ScalarPairs;
}
