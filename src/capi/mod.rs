//! The C ABI: what [`crate`] does, for programs in C and for whatever else calls C. Feature `capi`.
//!
//! The header is `src/capi/sepconv.h`, which cbindgen writes from these files; [`docs::c`](crate::docs::c) is the way in for a
//! reader of C.
//!
//! ```text
//!   sepconv_conv_desc ──new──▶ sepconv_operator ──plan──▶ sepconv_plan ──run──▶ output
//!                                  ├─▶ sepconv_network ──plan─┘  └─scratch_new─▶ sepconv_scratch
//!                                  │     ▲     └──plan_cache_run──▶ output
//!                                  └─▶ sepconv_graph
//! ```
//!
//! Every function here reads its arguments, calls what Rust programs call, and hands the result over. What comes from C is
//! an integer or a pointer until it was looked at:
//!
//! - a code that stands for a variant of an enum is an `i32`, since a Rust enum of another value is undefined behaviour by
//!   existing; [`sepconv_status`] and others that only go out are enums;
//! - pointers are checked for NULL and alignment, lengths for what an address space holds, `struct_size` for versions that
//!   are known, input, output and memory of a run for bytes in common, and scratch for a run that is under way on another thread;
//! - out-parameters are written last, so that an error writes nothing;
//! - no panic passes: every body runs inside of `boundary`, in `status.rs`, which makes a status of it.
//!
//! Descriptions and options are structs that may grow: fields are added at the end, where the size of the struct grows by
//! them, and their zero means what was meant before they came. `versioned.rs` reads both older and newer ones. All else that
//! holds anything is opaque.
//!
//! # Safety
//!
//! One contract for all functions, which is that of any C library. A pointer is NULL, or it points to what its type says
//! for as long as the call lasts, and with a length to so many of them: readable if it is to `const`, else writable and
//! used by nobody else meanwhile. Handles come from a function of this library and were not freed. A plan, a plan cache, an
//! operator, a network and a pool may be used by many threads at once, but freed only when no call uses them. A graph is used by one
//! call at a time.

#![allow(non_camel_case_types, reason = "names of C")]
#![allow(clippy::exhaustive_structs, reason = "structs of C: their size tells how many fields the caller knows")]
#![allow(
    clippy::missing_safety_doc,
    reason = "one contract, said once: above, and in docs/c.md for readers of the header"
)]

/// What the header promises of threads: these are shared by many, a scratch and a graph are handed from one to another.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn handed_over<T: Send>() {}
    shared::<sepconv_operator>();
    shared::<sepconv_network>();
    shared::<sepconv_plan>();
    shared::<sepconv_plan_cache>();
    shared::<sepconv_pool>();
    handed_over::<sepconv_scratch>();
    handed_over::<sepconv_graph>();
};

mod cache;
mod describe;
mod graph;
#[cfg(feature = "models")]
mod models;
mod network;
mod operator;
mod options;
mod plan;
mod pointer;
mod status;
mod tensor;
mod threads;
mod version;
mod versioned;
mod window_pool;

pub use cache::*;
pub use describe::*;
pub use graph::*;
#[cfg(feature = "models")]
pub use models::*;
pub use network::*;
pub use operator::*;
pub use options::*;
pub use plan::*;
pub use status::*;
pub use tensor::*;
pub use threads::*;
pub use version::*;
pub use window_pool::*;
