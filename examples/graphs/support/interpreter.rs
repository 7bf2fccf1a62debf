//! A network computed while it is described, by plain loops.

use sepconv::{Activation, Arithmetic, Result, Shape};
use sepconv_test_support::DenseTensor;
use sepconv_test_support::naive::{self, NaiveConv, PooledAs, Window};

use crate::{ConvTensors, Describe};

/// Computes each layer when it is described. Every bit of the results is the reference's.
#[derive(Debug)]
pub struct Interpreter {
    arithmetic: Arithmetic,
    inputs: std::vec::IntoIter<DenseTensor>,
    values: Vec<DenseTensor>,
    outputs: Vec<usize>,
}

impl Interpreter {
    /// `inputs` are taken in the order in which the network describes its own.
    pub fn new(inputs: Vec<DenseTensor>, arithmetic: Arithmetic) -> Self {
        Interpreter { arithmetic, inputs: inputs.into_iter(), values: Vec::new(), outputs: Vec::new() }
    }

    /// The outputs, in the order in which they were described.
    pub fn outputs(&self) -> Vec<DenseTensor> {
        self.outputs.iter().map(|&output| self.values[output].clone()).collect()
    }

    fn push(&mut self, value: DenseTensor) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    /// A window with padding, and the shape of what it makes of `x`.
    fn window(&self, x: usize, kernel: usize, stride: usize, channels: usize) -> (Window, Shape) {
        let Shape { n, h, w, .. } = self.values[x].shape;
        let along = |size: usize| (size + kernel / 2 * 2 - kernel) / stride + 1;
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], before: [kernel / 2; 2] };
        (window, Shape::new(n, along(h), along(w), channels))
    }
}

/// OIHW to HWIO, and C1HW to HWC1.
fn transposed(conv: &ConvTensors<'_>) -> Vec<f32> {
    let &ConvTensors { kernel, inputs, outputs, .. } = conv;
    let [inputs, outputs, groups] = if conv.is_depthwise { [1, 1, outputs] } else { [inputs, outputs, 1] };
    let taps = kernel * kernel;
    let mut filter = Vec::with_capacity(conv.weight.len());
    for tap in 0..taps {
        for group in 0..groups {
            for input in 0..inputs {
                filter.extend((0..outputs).map(|o| conv.weight[((group + o) * inputs + input) * taps + tap]));
            }
        }
    }
    filter
}

impl Describe for Interpreter {
    type Tensor = usize;

    fn input(&mut self, channels: usize) -> usize {
        let input = self.inputs.next().expect("as many inputs as the network has");
        assert_eq!(input.shape.c, channels, "channels of an input");
        self.push(input)
    }

    fn output(&mut self, x: usize) {
        self.outputs.push(x);
    }

    fn conv(&mut self, x: usize, conv: &ConvTensors<'_>) -> Result<usize> {
        let (window, shape) = self.window(x, conv.kernel, conv.stride, conv.outputs);
        let filter = transposed(conv);
        let naive = NaiveConv::new(window, &filter, &conv.bias, conv.activation);
        let compute = if conv.is_depthwise { naive::depthwise } else { naive::conv };
        let made = compute(&naive, &self.values[x], shape, self.arithmetic);
        Ok(self.push(made))
    }

    fn dense(&mut self, x: usize, conv: &ConvTensors<'_>) -> Result<usize> {
        self.conv(x, conv)
    }

    fn add(&mut self, x: usize, y: usize, activation: Activation) -> Result<usize> {
        let sum = naive::add(&self.values[x], &self.values[y], activation, self.arithmetic);
        Ok(self.push(sum))
    }

    fn max_pool(&mut self, x: usize, kernel: usize, stride: usize) -> Result<usize> {
        let (window, shape) = self.window(x, kernel, stride, self.values[x].shape.c);
        let made = naive::pool(PooledAs::Maximum, window, &self.values[x], shape);
        Ok(self.push(made))
    }

    fn global_average_pool(&mut self, x: usize) -> Result<usize> {
        let mean = naive::mean(&self.values[x]);
        Ok(self.push(mean))
    }

    fn resize(&mut self, x: usize, factors: [usize; 2]) -> Result<usize> {
        let made = naive::resize(&self.values[x], factors);
        Ok(self.push(made))
    }
}
