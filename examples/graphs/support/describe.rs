//! The calls by which a network is described.

use sepconv::{Activation, GraphBuilder, Padding, Result, Value, WindowPoolDesc};

use crate::ConvTensors;

/// The calls of [`GraphBuilder`] that the networks need. Your program calls the builder itself. This trait is there so that the same
/// description also runs on an [`Interpreter`](crate::Interpreter), which `--check` compares with.
pub trait Describe {
    /// A tensor.
    type Tensor: Copy;

    /// An input of so many channels.
    fn input(&mut self, channels: usize) -> Self::Tensor;

    /// Makes a tensor an output.
    fn output(&mut self, x: Self::Tensor);

    /// A convolution.
    fn conv(&mut self, x: Self::Tensor, conv: &ConvTensors<'_>) -> Result<Self::Tensor>;

    /// A dense layer, of tensors of one pixel.
    fn dense(&mut self, x: Self::Tensor, conv: &ConvTensors<'_>) -> Result<Self::Tensor>;

    /// The sum, then an activation.
    fn add(&mut self, x: Self::Tensor, y: Self::Tensor, activation: Activation) -> Result<Self::Tensor>;

    /// The maximum over a window with padding.
    fn max_pool(&mut self, x: Self::Tensor, kernel: usize, stride: usize) -> Result<Self::Tensor>;

    /// The mean over the plane.
    fn global_average_pool(&mut self, x: Self::Tensor) -> Result<Self::Tensor>;

    /// Each pixel several times along rows and columns.
    fn resize(&mut self, x: Self::Tensor, factors: [usize; 2]) -> Result<Self::Tensor>;
}

impl Describe for GraphBuilder {
    type Tensor = Value;

    fn input(&mut self, channels: usize) -> Value {
        GraphBuilder::input(self, channels)
    }

    fn output(&mut self, x: Value) {
        GraphBuilder::output(self, x);
    }

    fn conv(&mut self, x: Value, conv: &ConvTensors<'_>) -> Result<Value> {
        GraphBuilder::conv(self, x, conv.desc())
    }

    fn dense(&mut self, x: Value, conv: &ConvTensors<'_>) -> Result<Value> {
        GraphBuilder::dense(self, x, conv.desc())
    }

    fn add(&mut self, x: Value, y: Value, activation: Activation) -> Result<Value> {
        GraphBuilder::add(self, x, y, activation)
    }

    fn max_pool(&mut self, x: Value, kernel: usize, stride: usize) -> Result<Value> {
        let desc = WindowPoolDesc::max([kernel; 2]).stride(stride).padding(Padding::all(kernel / 2));
        GraphBuilder::window_pool(self, x, desc)
    }

    fn global_average_pool(&mut self, x: Value) -> Result<Value> {
        GraphBuilder::global_average_pool(self, x)
    }

    fn resize(&mut self, x: Value, factors: [usize; 2]) -> Result<Value> {
        GraphBuilder::resize(self, x, factors)
    }
}
