//! The conformance kit: for the test suite of any engine that has convolutions.
//!
//! It has the naive [`reference`](mod@reference) of every operator and block of this crate, in f32 and f64; [`Cases`],
//! which are strategies of proptest over operators, blocks and graphs, drawn at the edges where kernels go wrong; and a [`Check`], which runs *your*
//! kernel on them, NHWC or NCHW, and holds it to equal bits or to an error bound that is derived and not guessed.
//! Nothing in it calls a kernel of this crate.
//!
//! A property test over depthwise convolutions in NCHW is a function that computes one case:
//!
//! ```
//! # mod my_engine {
//! #     /// The depthwise convolution of some other engine: NCHW, PyTorch's filter, dense.
//! #     pub fn depthwise(
//! #         x: &[f32], [_, c, h, w]: [usize; 4], filter: &[f32], [kh, kw]: [usize; 2], bias: Option<&[f32]>,
//! #         [sh, sw]: [usize; 2], [top, left]: [usize; 2], out: &mut [f32], [oh, ow]: [usize; 2],
//! #     ) {
//! #         for (plane, out) in out.chunks_exact_mut(oh * ow).enumerate() {
//! #             let (x, filter) = (&x[plane * h * w..][..h * w], &filter[plane % c * kh * kw..][..kh * kw]);
//! #             for (at, out) in out.iter_mut().enumerate() {
//! #                 *out = bias.map_or(0.0, |bias| bias[plane % c]);
//! #                 for (tap, weight) in filter.iter().enumerate() {
//! #                     let y = (at / ow * sh + tap / kw).wrapping_sub(top);
//! #                     let x_at = (at % ow * sw + tap % kw).wrapping_sub(left);
//! #                     *out += weight * if y < h && x_at < w { x[y * w + x_at] } else { 0.0 };
//! #                 }
//! #             }
//! #         }
//! #     }
//! # }
//! use sepconv::testing::*;
//!
//! // a test: `#[test]` stands here
//! fn depthwise_is_within_its_bound() {
//!     // what the engine has: windows of any shape, no dilation, no multiplier, no activation
//!     let cases = Cases::depthwise().max_dilation(1).max_multiplier(1).batch_norm(false).activations(&[Activation::Linear]);
//!     Check::bounded().layout(Layout::Nchw).run(cases, |problem: &Problem, output: &mut [f32]| {
//!         let (x, out) = (problem.input_shape(), problem.output_shape());
//!         let (conv, pads) = (problem.conv(), problem.conv().pads());
//!         my_engine::depthwise(
//!             problem.input(), [x.n, x.c, x.h, x.w],
//!             &conv.filter(FilterOrder::Oihw), conv.kernel(), conv.bias(),
//!             conv.strides(), [pads.top, pads.left],
//!             output, [out.h, out.w],
//!         );
//!     });
//! }
//! # depthwise_is_within_its_bound();
//! ```
//!
//! What fails is shrunk, and printed as the Rust that repeats it. A [`Problem`] tells a kernel all of a case: the input, the shapes, and
//! a [`Stage`] for each convolution and each other node of a graph. [`docs::conformance`](crate::docs::conformance) has both in full.
//!
//! # Which check
//!
//! | | holds to | takes |
//! |---|---|---|
//! | [`Check::bits`] | the f32 reference, bit for bit | the order of the contract only: [`docs::numbers`](crate::docs::numbers) |
//! | [`Check::bounded`] | the f64 reference, within `γₙ Σ\|x × w\|` | every order of the sum, one rounding a step or two |
//!
//! Engines differ where numbers are no numbers: [`NanPolicy`], [`InfPolicy`], [`PaddingPolicy`] and [`Denormals`] say what is taken.

mod bound;
mod case;
mod cases;
mod check;
mod problem;
pub mod reference;
mod values;

pub use crate::{Layout, Strides};
pub use case::{ByChannel, Case, CaseNode, ConvCase, NormCase, Op, WindowPoolCase};
pub use cases::{Cases, PaddingKind};
pub use check::{
    Check, Denormals, Difference, Failure, Fault, InfPolicy, IntoReply, NanPolicy, PaddingPolicy, Reply, Summary,
};
pub use problem::{FilterOrder, Pads, Problem, ProblemOutput, Stage, StageKind};
pub use values::Values;

// what a printed case is made of, so that one `use` is enough
pub use crate::{Activation, Padding, Shape};
// for the tests of this crate: what its planner decides by
pub use crate::plan::cost::{StripRows, Thresholds};
pub use sepconv_kernels::Arithmetic;
// [`Cases`] are its strategies
pub use proptest;
