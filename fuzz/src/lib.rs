//! What the fuzz targets check, as functions of bytes: the targets themselves, and the program that makes their seeds,
//! are a few lines on top.
//!
//! Each `check` panics on a finding, and otherwise names what became of its bytes, so that seeds can be chosen that
//! differ.

pub mod describe;
pub mod graphs;
pub mod network_weights;
pub mod run_differential;

use sepconv_test_support::asked::ByteCountingAllocator;

#[global_allocator]
static ALLOCATOR: ByteCountingAllocator = ByteCountingAllocator;
