//! Networks that are no chain of MobileNet's blocks, described to [`Network::builder`](sepconv::Network::builder) layer by layer, as a file
//! of weights or the graph of an engine has them: single convolutions, pools and sums.

mod describe;
mod interpreter;
mod networks;
mod tensors;

pub use describe::Describe;
pub use interpreter::Interpreter;
pub use networks::{pyramid, resnet18};
pub use tensors::{ConvTensors, NamedTensors};
