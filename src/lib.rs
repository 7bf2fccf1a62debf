#![doc = include_str!("../README.md")]
// public enums and structs grow; those that do not say why
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(feature = "capi")]
pub mod capi;
mod describe;
mod error;
mod memory;
mod network;
mod ops;
mod options;
mod plan;
mod program;
mod shape;
mod team;
mod tensor;
mod threads;

#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "testing")]
pub mod testing;

pub use describe::{Activation, BatchNorm, ConvDesc, Filter};
pub use error::{Error, Result};
pub use network::{Layer, Network};
#[cfg(feature = "gemm")]
#[cfg_attr(docsrs, doc(cfg(feature = "gemm")))]
pub use ops::pointwise_gemm;
pub use ops::{
    Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, InvertedResidualDesc, PointwiseConv2d,
    SeparableConv2d, Shortcut,
};
pub use options::{Fusion, PlanOptions, Schedule};
pub use plan::{Bound, Explain, Plan, Scratch, StageReport};
pub use sepconv_kernels::{Arithmetic, Isa};
pub use shape::{Padding, Shape};
pub use tensor::{View, ViewMut};
pub use threads::{MAX_THREADS, ParallelFor, Threads};
