//! What the programs that measure sepconv share.

pub mod bandwidth;
pub mod cliffs;
pub mod cost;
pub mod described;
pub mod machine;
pub mod peak;
pub mod roofline;
pub mod rounds;
pub mod shapes;
pub mod subject;
pub mod timing;
