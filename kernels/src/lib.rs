//! SIMD microkernels and packing for separable convolutions.
//!
//! This crate knows nothing of shapes, plans or threads: it takes pointers, offsets and counts, allocates nothing, and
//! needs no `std`. What it offers is safe only in the hands of a caller who lays out memory as each kernel asks; the
//! crate `sepconv` is that caller.
//!
//! - [`Isa`] and [`Arithmetic`]: what a kernel runs on, and how it rounds;
//! - [`Kernels`]: the list of kernels, compiled for one instruction set;
//! - [`Epilogue`], [`Residual`] and [`Store`]: what a kernel does with a complete sum;
//! - [`pack`]: the layouts of weights and activations, and how to get there from NHWC;
//! - [`mod@reference`]: the same operators as plain loops, which define every bit of the results.
//!
//! Each algorithm is written once, generic over [`simd::Vector`]; tiles are chosen by the number and the width of
//! registers.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(clippy::needless_range_loop, reason = "tiles index several arrays by one constant range")]

#[cfg(feature = "std")]
extern crate std;

/// Calls `$body` with `$i` each of the constants below `$count`, so that LLVM's unroller decides nothing: a tile whose loops stay loops
/// keeps its sums in memory.
///
/// It is not for every loop. In place of the inner loops of the tiles, the front end takes more time for it than LLVM gains.
macro_rules! unrolled {
    ($i:ident in $count:expr, of $($n:literal)*, $body:block) => {
        const { assert!($count <= [$($n),*].len()) };
        $({
            const $i: usize = $n;
            if const { $i < $count } $body
        })*
    };
}

mod activation;
mod block_row;
#[doc(hidden)]
pub mod cpu;
mod depthwise;
mod epilogue;
pub mod int8;
mod isa;
mod join_row;
mod list;
pub mod pack;
mod pointwise;
mod pool;
mod pool_row;
mod quad;
pub mod reference;
pub mod simd;
mod transpose;

pub use activation::{Activate, ActivateArgs};
pub use block_row::{BlockRow, BlockRowArgs};
pub use depthwise::{DepthwiseArgs, DwConv, DwConv3x3, DwPlanes, DwPlanesArgs, EDGE_TAPS};
pub use epilogue::{CHANNEL_PARAMS, Epilogue, Nonlinearity, Pointee, Residual, Store};
pub use int8::{
    CallerValue, ConvertArgs, DepthwisePacking, FromCaller, Int8DwConv, Int8DwConv3x3, Int8Layout, Int8Mean,
    Int8MeanArgs, Int8Sum, Int8SumArgs, QuantizedSum, Requantize, StoredType, ToCaller, ValuePlaces,
};
pub use isa::{Arithmetic, Isa, UnknownIsa};
pub use join_row::{Join, JoinRow, JoinRowArgs, RowPixels};
pub use list::{Kernel, KernelKind, Kernels, Level};
pub use pointwise::{Int8Pointwise, Pointwise, PointwiseArgs};
pub use pool::{AveragePool, PoolArgs};
pub use pool_row::{PoolOf, PoolRow, PoolRowArgs};
pub use transpose::{FromPlanes, FromPlanesArgs, ToPlanes, ToPlanesArgs};

/// Channels of a block: the unit of every packed layout, counted in channels and never in vectors, so that packed data
/// mean the same on every instruction set.
pub const BLOCK: usize = 16;
