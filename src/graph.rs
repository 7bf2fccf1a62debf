//! A graph of layers, built value by value.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{collect, push, reserve};
use crate::ops::{Add, Concat, Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, PointwiseConv2d, Resize, Scale};
use crate::ops::{WindowPool, WindowPoolDesc};
use crate::plan::{Graph, GraphNode};
use crate::{Activation, ChannelActivation, ConvDesc, Error, Layer, Network, Result};

/// A tensor of a graph that is being built: an input, or what a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    builder: u64,
    number: usize,
}

/// Builds a graph. Each layer reads values that are there already. [`Network::builder`] makes a builder.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{Activation, ConvDesc, Filter, Network, PlanOptions, Shape};
/// let (expand, depthwise, project) = ([0.1; 8 * 48], [0.1; 9 * 48], [0.1; 48 * 8]);
/// let mut graph = Network::builder();
/// let x = graph.input(8);
/// let y = graph.conv(x, ConvDesc::new(Filter::io(&expand, [8, 48])).activation(Activation::Relu6))?;
/// let y = graph.conv(y, ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, 48])).activation(Activation::Relu6))?;
/// let y = graph.conv(y, ConvDesc::new(Filter::io(&project, [48, 8])))?;
/// let sum = graph.add(y, x, Activation::Linear)?;
/// graph.output(sum);
/// let network = graph.build()?;
/// // the planner finds the block of MobileNetV2
/// let plan = network.plan(Shape::new(1, 14, 14, 8), &PlanOptions::new())?;
/// assert_eq!(plan.explain().stages.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    id: u64,
    layers: Vec<Layer>,
    graph: Graph,
    /// Of each value, its channels and the layer that computes it.
    values: Vec<(usize, Option<usize>)>,
    /// The first thing that could not be said by an error at its place: memory ran out, or a value is another builder's.
    late: Option<Error>,
}

impl GraphBuilder {
    pub(crate) fn new() -> GraphBuilder {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        GraphBuilder { id, layers: Vec::new(), graph: Graph::default(), values: Vec::new(), late: None }
    }

    /// A tensor of the caller's of so many channels. Inputs have the order of these calls.
    pub fn input(&mut self, channels: usize) -> Value {
        let number = self.values.len();
        let pushed = push("graph", &mut self.graph.inputs, number).and_then(|()| self.value(channels, None)).map(drop);
        self.keep(pushed);
        Value { builder: self.id, number }
    }

    /// Makes a tensor an output. Outputs have the order of these calls. An output may be read by layers too.
    pub fn output(&mut self, value: Value) {
        let pushed = self.number(value).and_then(|number| push("graph", &mut self.graph.outputs, number));
        self.keep(pushed);
    }

    /// A layer that reads one tensor: any of the operators.
    ///
    /// # Errors
    /// [`Error::Layer`] where the layer reads another number of channels.
    pub fn layer(&mut self, x: Value, layer: impl Into<Layer>) -> Result<Value> {
        self.add_layer(layer.into(), &[x])
    }

    /// A convolution: by its filter a depthwise, a pointwise or a standard one.
    ///
    /// # Errors
    /// Those of the operator, and [`Error::Layer`] where it reads another number of channels.
    pub fn conv(&mut self, x: Value, desc: ConvDesc<'_>) -> Result<Value> {
        let layer = if desc.filter.is_depthwise() {
            DepthwiseConv2d::new(desc)?.into()
        } else if desc.is_pointwise() {
            PointwiseConv2d::new(desc)?.into()
        } else {
            Layer::from(Conv2d::new(desc)?)
        };
        self.add_layer(layer, &[x])
    }

    /// A dense layer, over tensors of one pixel.
    ///
    /// # Errors
    /// As [`GraphBuilder::conv`].
    pub fn dense(&mut self, x: Value, desc: ConvDesc<'_>) -> Result<Value> {
        self.add_layer(Dense::new(desc)?.into(), &[x])
    }

    /// The sum of two tensors, then an activation. `y` has the shape of `x`, or one pixel an image.
    ///
    /// # Errors
    /// [`Error::Layer`] where the channels differ, [`Error::Value`] where the activation has bounds that are none.
    pub fn add(&mut self, x: Value, y: Value, activation: Activation) -> Result<Value> {
        self.add_layer(Add::new(activation)?.into(), &[x, y])
    }

    /// The sum of two tensors, then an activation that has parameters for each channel.
    ///
    /// # Errors
    /// [`Error::Layer`] where the channels differ, [`Error::Length`] or [`Error::Value`] of parameters that are none.
    pub fn add_by_channel(&mut self, x: Value, y: Value, activation: ChannelActivation<'_>) -> Result<Value> {
        self.add_layer(Add::by_channel(activation)?.into(), &[x, y])
    }

    /// `x` times `y`, value by value. `y` has the shape of `x`, or one pixel an image: the scale of each channel.
    ///
    /// # Errors
    /// [`Error::Layer`] where the channels differ.
    pub fn scale(&mut self, x: Value, y: Value) -> Result<Value> {
        self.add_layer(Scale::new().into(), &[x, y])
    }

    /// The channels of all these tensors, one after the other.
    ///
    /// # Errors
    /// [`Error::Layer`] of no tensors.
    pub fn concat(&mut self, values: &[Value]) -> Result<Value> {
        self.add_layer(Concat::new().into(), values)
    }

    /// The mean over the plane.
    ///
    /// # Errors
    /// Those of [`GlobalAveragePool::new`].
    pub fn global_average_pool(&mut self, x: Value) -> Result<Value> {
        let number = self.number(x)?;
        let channels = self.values[number].0;
        self.add_layer(GlobalAveragePool::new(channels)?.into(), &[x])
    }

    /// The maximum or the mean over a window.
    ///
    /// # Errors
    /// Those of [`WindowPool::new`].
    pub fn window_pool(&mut self, x: Value, desc: WindowPoolDesc) -> Result<Value> {
        self.add_layer(WindowPool::new(desc)?.into(), &[x])
    }

    /// Each pixel several times along rows and columns.
    ///
    /// # Errors
    /// Those of [`Resize::new`].
    pub fn resize(&mut self, x: Value, factors: [usize; 2]) -> Result<Value> {
        self.add_layer(Resize::new(factors)?.into(), &[x])
    }

    /// The network of all layers.
    ///
    /// # Errors
    /// [`Error::Network`] where there is no input or no output, where nothing reads a tensor that is no output, or where
    /// [`GraphBuilder::output`] was given a tensor of another builder.
    pub fn build(self) -> Result<Network> {
        if let Some(error) = self.late {
            return Err(error);
        }
        let refused = |why: String| Err(Error::Network(why));
        if self.graph.inputs.is_empty() || self.graph.outputs.is_empty() {
            return refused("expected at least one input and one output".into());
        }
        let mut is_read = collect("graph", self.values.iter().map(|_| false))?;
        for &value in self.graph.nodes.iter().flat_map(|node| &node.inputs).chain(&self.graph.outputs) {
            is_read[value] = true;
        }
        if let Some(unread) = is_read.iter().position(|read| !read) {
            return refused(match self.values[unread].1 {
                Some(layer) => {
                    let kind = self.layers[layer].kind();
                    format!("layer {layer} ({kind}): nothing reads what it computes, and it is no output")
                }
                None => {
                    let number = self.graph.inputs.iter().position(|&input| input == unread).unwrap_or_default();
                    format!("input {number}: nothing reads it")
                }
            });
        }
        let channels = self.graph.inputs.iter().map(|&input| Some(self.values[input].0));
        let channels = collect("graph", channels)?;
        Network::of(self.layers, self.graph, channels)
    }

    /// Adds a layer over these tensors.
    fn add_layer(&mut self, layer: Layer, values: &[Value]) -> Result<Value> {
        let mut inputs = Vec::new();
        for &value in values {
            push("graph", &mut inputs, self.number(value)?)?;
        }
        let index = self.layers.len();
        let channels = collect("graph", inputs.iter().map(|&input| self.values[input].0))?;
        let made = layer.channels_of(&channels).map_err(|error| layer.error(index, error))?;
        let node = layer.node().clone();
        // all or none of them
        reserve("graph", &mut self.layers, 1)?;
        reserve("graph", &mut self.graph.nodes, 1)?;
        let output = self.value(made, Some(index))?;
        self.layers.push(layer);
        self.graph.nodes.push(GraphNode { node, inputs, output: output.number, layer: Some(index) });
        Ok(output)
    }

    fn value(&mut self, channels: usize, layer: Option<usize>) -> Result<Value> {
        let number = self.values.len();
        push("graph", &mut self.values, (channels, layer))?;
        self.graph.values = self.values.len();
        Ok(Value { builder: self.id, number })
    }

    /// The number of a value, or an error where it is another builder's.
    fn number(&self, value: Value) -> Result<usize> {
        // an input that there was no memory for
        if let Some(error @ Error::Allocation { .. }) = &self.late {
            return Err(error.clone());
        }
        if value.builder != self.id || value.number >= self.values.len() {
            return Err(Error::Network("a value of another builder".into()));
        }
        Ok(value.number)
    }

    fn keep(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.late.get_or_insert(error);
        }
    }
}
