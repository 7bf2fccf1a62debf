//! Separable convolutions for CPUs: the kernels that MobileNetV1 and MobileNetV2 are made of, and the blocks and networks
//! on top of them.
//!
//! An operator is described, made, planned and run. `new` checks the description, folds its batch norm and packs its weights.
//! `plan` decides everything for one input shape. `run` only computes. A description is of stages. A step of a plan is one stage, or
//! several fused ones; [`Plan::explain`] lists the steps.
//!
//! ```
//! use sepconv::{Activation, ConvDesc, Filter, PlanOptions, SeparableConv2d, Shape, View, ViewMut};
//!
//! # fn main() -> sepconv::Result<()> {
//! let (depthwise, pointwise) = (vec![0.1; 3 * 3 * 8], vec![0.1; 8 * 16]);
//! let block = SeparableConv2d::new(
//!     ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, 8])).activation(Activation::Relu6),
//!     ConvDesc::new(Filter::io(&pointwise, [8, 16])).activation(Activation::Relu6),
//! )?;
//! let plan = block.plan(Shape::new(1, 14, 14, 8), &PlanOptions::new())?;
//! let mut scratch = plan.scratch()?; // one for each run at a time; keep it
//! let (input, mut output) = (vec![1.0; plan.input_shape().len()?], vec![0.0; plan.output_shape().len()?]);
//! let (from, to) = (View::new(&input, plan.input_shape())?, ViewMut::new(&mut output, plan.output_shape())?);
//! plan.run(from, to, &mut scratch)?;
//! println!("{}", plan.explain()); // kernels, schedule and why
//! # Ok(())
//! # }
//! ```
//!
//! | to compute | take |
//! |---|---|
//! | a standard, depthwise or 1×1 convolution | [`Conv2d`], [`DepthwiseConv2d`], [`PointwiseConv2d`] |
//! | MobileNetV1's block | [`SeparableConv2d`] |
//! | MobileNetV2's block | [`InvertedResidual`] |
//! | what networks end in | [`GlobalAveragePool`], [`Dense`] |
//! | a plane enlarged by windows that do not overlap | [`TransposedConv2d`] |
//! | maxima and means over a window | [`WindowPool`] |
//! | layers planned together | [`Network`] |
//! | sums, concatenations, several outputs | [`GraphBuilder`] |
//! | shapes that change from run to run | [`PlanCache`] |
#![cfg_attr(feature = "models", doc = "| MobileNetV1 and V2, weights from safetensors | [`models`] |")]
#![cfg_attr(feature = "gemm", doc = "| 1×1 with weights that change at each call | [`pointwise_gemm`] |")]
//!
//! Tensors are `f32`, NHWC or NCHW, of any strides: [`View`], [`ViewMut`] and [`Strides`]. A [`Filter`] names the order of its values. The caller
//! owns the [`Threads`]. Every bit of a result is defined ([`docs::numbers`]), whatever the schedule and the threads. AVX-512, AVX2 and NEON
//! give the same bits. SSE4.2 and scalar round each product too; [`PlanOptions::common_bits`] gives them the same bits, slowly.
//!
//! # Features
//!
//! On by default are `rayon` (pools for [`Threads`]), `avx512`, `avx2` and `sse42` (kernels for x86-64) and `common-bits` (a fused
//! multiply-add emulated, for [`PlanOptions::common_bits`]). Kernels for NEON and scalar kernels are always there. Off by default are
//! `gemm` (`pointwise_gemm`), `models`, `testing` (a conformance kit for any engine) and `capi` (the C ABI).
//!
//! Without optimisation, kernels are hundreds of times slower. A crate that depends on this one puts into its `Cargo.toml`:
//!
//! ```toml
//! [profile.dev.package.sepconv-kernels]
//! opt-level = 3
//! [profile.dev.package.sepconv]
//! opt-level = 3
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
// public enums and structs grow; those that do not say why
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod cache;
#[cfg(feature = "capi")]
pub mod capi;
mod describe;
#[cfg(doc)]
pub mod docs;
mod error;
mod graph;
mod memory;
mod network;
mod ops;
mod options;
mod plan;
mod run;
mod shape;
mod tensor;
mod threads;

#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "testing")]
pub mod testing;

pub use cache::PlanCache;
pub use describe::{Activation, BatchNorm, ChannelActivation, ConvDesc, Filter};
pub use error::{Error, Result};
pub use graph::{GraphBuilder, Value};
pub use network::{Layer, Network};
#[cfg(feature = "gemm")]
#[cfg_attr(docsrs, doc(cfg(feature = "gemm")))]
pub use ops::pointwise_gemm;
pub use ops::{
    Add, Concat, Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, InvertedResidualDesc,
    PointwiseConv2d, Resize, Scale, SeparableConv2d, Shortcut, TransposedConv2d, WindowPool, WindowPoolDesc,
};
pub use options::{Fusion, PlanOptions, Schedule};
pub use plan::{Bound, Explain, StageReport};
// whose pools and types the public items take, in the version that they take
#[cfg(feature = "rayon")]
pub use rayon;
pub use run::{Plan, Scratch};
pub use sepconv_kernels::{Arithmetic, Isa, KernelKind, UnknownIsa};
pub use shape::{Padding, Shape};
pub use tensor::{Element, ElementType, Layout, Strides, View, ViewMut};
pub use threads::{MAX_THREADS, ParallelFor, Threads};

/// What the README shows compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does what the page for engines shows.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
