//! What the programs that measure sepconv share.

pub mod peak;
pub mod timing;
