//! A network: operators planned together.

use core::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::Arc;
use crate::ops::{
    Add, Concat, Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, PointwiseConv2d, Resize, Scale,
    SeparableConv2d, TransposedConv2d, WindowPool,
};
use crate::plan::{Graph, GraphNode, Node};
use crate::{Error, GraphBuilder, Plan, PlanOptions, Result, Shape, memory};

/// One layer of a [`Network`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Layer {
    /// A standard convolution.
    Conv2d(Conv2d),
    /// A depthwise convolution.
    DepthwiseConv2d(DepthwiseConv2d),
    /// A 1×1 convolution.
    PointwiseConv2d(PointwiseConv2d),
    /// A depthwise and a pointwise convolution.
    SeparableConv2d(SeparableConv2d),
    /// Expand, depthwise, project.
    InvertedResidual(InvertedResidual),
    /// The mean over the plane.
    GlobalAveragePool(GlobalAveragePool),
    /// A dense layer.
    Dense(Dense),
    /// A transposed convolution.
    TransposedConv2d(TransposedConv2d),
    /// The maximum or the mean over a window.
    WindowPool(WindowPool),
    /// The sum of two tensors.
    Add(Add),
    /// A tensor times another one.
    Scale(Scale),
    /// The channels of several tensors.
    Concat(Concat),
    /// Each pixel several times.
    Resize(Resize),
}

macro_rules! layers {
    ($($operator:ident $kind:literal,)*; $($joins:ident $joins_kind:literal,)*) => {
        layers! { from $($operator)* $($joins)* }

        impl Layer {
            pub(crate) fn node(&self) -> &Node {
                match self {
                    $(Layer::$operator(operator) => operator.node(),)*
                    $(Layer::$joins(operator) => operator.node(),)*
                }
            }

            /// The shape that the layer makes of inputs of these shapes.
            pub(crate) fn output(&self, inputs: &[Shape]) -> Result<Shape> {
                match (self, inputs) {
                    $((Layer::$operator(operator), &[input]) => operator.output_shape(input),)*
                    _ => self.node().output(inputs),
                }
            }

            /// The operator, as errors call it.
            pub(crate) fn kind(&self) -> &'static str {
                match self {
                    $(Layer::$operator(_) => $kind,)*
                    $(Layer::$joins(_) => $joins_kind,)*
                }
            }
        }
    };
    (from $($operator:ident)*) => {
        $(impl From<$operator> for Layer {
            fn from(operator: $operator) -> Layer {
                Layer::$operator(operator)
            }
        })*
    };
}

layers! {
    Conv2d "convolution",
    DepthwiseConv2d "depthwise convolution",
    PointwiseConv2d "pointwise convolution",
    SeparableConv2d "separable convolution",
    InvertedResidual "inverted residual",
    GlobalAveragePool "global average pool",
    Dense "dense layer",
    TransposedConv2d "transposed convolution",
    WindowPool "window pool",
    Resize "resize",
    ;
    Add "sum",
    Scale "scale",
    Concat "concatenation",
}

impl Layer {
    /// The channels that it makes of inputs of so many, or why it cannot take them.
    pub(crate) fn channels_of(&self, inputs: &[usize]) -> Result<usize> {
        let Some((&input, others)) = inputs.split_first() else {
            return Err(Error::Network("a layer without inputs".into()));
        };
        let reads = match self {
            Layer::Concat(_) => None,
            Layer::Add(_) | Layer::Scale(_) => Some(2),
            _ => Some(1),
        };
        match reads {
            None => Ok(inputs.iter().fold(0, |sum, &channels| sum.saturating_add(channels))),
            Some(reads) if reads != inputs.len() => {
                Err(Error::Count { what: "input", expected: reads, got: inputs.len() })
            }
            Some(_) => {
                let [expected, made] = self.node().channels().unwrap_or([input; 2]);
                match [input].iter().chain(others).find(|&&got| got != expected) {
                    Some(&got) => Err(Error::Channels { what: "input", expected, got }),
                    None => Ok(made),
                }
            }
        }
    }

    /// A plan of the layer alone.
    #[cfg(feature = "capi")]
    pub(crate) fn plan(&self, input: Shape, options: &PlanOptions) -> Result<Plan> {
        self.output(&[input])?;
        Ok(Plan::new(&Graph::chain([self.node()])?, &[input], options)?)
    }

    /// An error of this layer, the one at `index` of a network.
    pub(crate) fn error(&self, index: usize, error: Error) -> Error {
        match error {
            // where memory ran out, there may be none for more
            Error::Allocation { .. } => error,
            _ => match memory::boxed("error", error) {
                Ok(error) => Error::Layer { index, kind: self.kind(), error },
                Err(out_of_memory) => out_of_memory,
            },
        }
    }
}

/// Layers, one after the other, planned together: one arena, between two layers the layout that the second one needs, and one team
/// of workers for the whole run.
///
/// ```
/// # fn main() -> sepconv::Result<()> {
/// use sepconv::{ConvDesc, Dense, Filter, GlobalAveragePool, Network, PlanOptions, SeparableConv2d, Shape};
/// let (depthwise, pointwise, dense) = ([0.1; 9 * 8], [0.1; 8 * 24], [0.1; 24 * 10]);
/// let network = Network::new(vec![
///     SeparableConv2d::new(
///         ConvDesc::new(Filter::depthwise_hwc(&depthwise, [3, 3, 8])).stride(2),
///         ConvDesc::new(Filter::io(&pointwise, [8, 24])),
///     )?
///     .into(),
///     GlobalAveragePool::new(24)?.into(),
///     Dense::new(ConvDesc::new(Filter::io(&dense, [24, 10])))?.into(),
/// ])?;
/// let plan = network.plan(Shape::new(1, 32, 32, 8), &PlanOptions::new())?;
/// assert_eq!(plan.output_shape(), Shape::new(1, 1, 1, 10));
/// # Ok(())
/// # }
/// ```
/// A clone is equal to what it was cloned from, and networks made apart are not.
#[derive(Clone, Debug)]
pub struct Network {
    id: u64,
    layers: Vec<Layer>,
    graph: Arc<Graph>,
    /// Channels of each input; none where the first layers take any.
    channels: Vec<Option<usize>>,
}

impl PartialEq for Network {
    fn eq(&self, other: &Network) -> bool {
        self.id == other.id
    }
}

impl Eq for Network {}

impl Network {
    /// A network of at least one layer, each of which reads as many channels as the one before it writes.
    ///
    /// # Errors
    /// [`Error::Network`] of no layers. [`Error::Layer`] of the first layer that reads another number of channels.
    pub fn new(layers: Vec<Layer>) -> Result<Network> {
        if layers.is_empty() {
            return Err(Error::Network("expected at least one layer, got none".into()));
        }
        // unknown until a layer says what it reads
        let (mut channels, mut first) = (None, None);
        for (index, layer) in layers.iter().enumerate() {
            let own = layer.node().channels();
            let read = channels.or(own.map(|[read, _]| read));
            let made = layer.channels_of(&[read.unwrap_or(1)]).map_err(|error| layer.error(index, error))?;
            // layers before it keep the channels
            first = first.or(read);
            channels = read.map(|_| made);
        }
        let graph = Graph::chain(layers.iter().map(Layer::node))?;
        let channels = memory::collect("network", [first])?;
        Network::of(layers, graph, channels)
    }

    /// A graph of layers: sums, concatenations, tensors with several readers, several inputs and outputs.
    pub fn builder() -> GraphBuilder {
        GraphBuilder::new()
    }

    /// Layers that were checked against each other.
    pub(crate) fn of(layers: Vec<Layer>, graph: Graph, channels: Vec<Option<usize>>) -> Result<Network> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let graph = Arc::try_new("network", graph)?;
        Ok(Network { id: NEXT.fetch_add(1, Ordering::Relaxed), layers, graph, channels })
    }

    /// A number that clones share, and no other network of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The network of some layers, by their numbers. Its inputs are the tensors that these layers read and do not compute. Its outputs are
    /// the tensors that other layers read, and outputs of this network. Both have the order in which they are computed.
    /// The layers share their weights with this network.
    ///
    /// ```
    /// # fn main() -> sepconv::Result<()> {
    /// # use sepconv::{Dense, ConvDesc, Filter, GlobalAveragePool, Network, Resize, Shape};
    /// let weights = [0.5; 8];
    /// let dense = Dense::new(ConvDesc::new(Filter::io(&weights, [4, 2])))?;
    /// let network = Network::new(vec![Resize::new([2, 2])?.into(), GlobalAveragePool::new(4)?.into(), dense.into()])?;
    /// // without the dense layer
    /// let features = network.cut(0..2)?;
    /// assert_eq!(features.output_shape(Shape::new(1, 3, 3, 4))?, Shape::new(1, 1, 1, 4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Part`] of no layers, and of layers that are not there.
    pub fn cut(&self, layers: Range<usize>) -> Result<Network> {
        let Range { start, end } = layers;
        let kept = self.layers.get(start..end).filter(|layers| !layers.is_empty());
        let Some(kept) = kept else {
            return Err(Error::Part { axis: "layers", len: self.layers.len(), start, end });
        };
        let is_inside = |layer: usize| (start..end).contains(&layer);
        let known = self.value_channels()?;
        let mut graph = Graph::default();
        let mut channels = Vec::new();
        // of each value: whether layers inside read it, layers inside compute it, and others read it
        let none = || memory::collect("network", (0..self.graph.values).map(|_| false));
        let (mut read_inside, mut made_inside, mut read_outside) = (none()?, none()?, none()?);
        for (node, layer) in self.nodes() {
            let reads = if is_inside(layer) { &mut read_inside } else { &mut read_outside };
            node.inputs.iter().for_each(|&value| reads[value] = true);
            made_inside[node.output] = is_inside(layer);
        }
        self.graph.outputs.iter().for_each(|&value| read_outside[value] = true);
        // the number that each value has in the part
        let mut numbers = memory::collect("network", (0..self.graph.values).map(|_| None))?;
        for value in (0..self.graph.values).filter(|&value| read_inside[value] && !made_inside[value]) {
            let number = graph.value();
            numbers[value] = Some(number);
            memory::push("network", &mut graph.inputs, number)?;
            memory::push("network", &mut channels, known[value])?;
        }
        for (node, layer) in self.nodes().filter(|&(_, layer)| is_inside(layer)) {
            let inputs = memory::collect("network", node.inputs.iter().filter_map(|&value| numbers[value]))?;
            let output = graph.value();
            numbers[node.output] = Some(output);
            if read_outside[node.output] {
                memory::push("network", &mut graph.outputs, output)?;
            }
            let layer = Some(layer - start);
            let node = GraphNode { node: node.node.clone(), inputs, output, layer };
            memory::push("network", &mut graph.nodes, node)?;
        }
        let kept = memory::collect("network", kept.iter().cloned())?;
        Network::of(kept, graph, channels)
    }

    /// Its nodes, each with the number of its layer.
    fn nodes(&self) -> impl Iterator<Item = (&GraphNode, usize)> {
        self.graph.nodes.iter().filter_map(|node| Some((node, node.layer?)))
    }

    /// The channels of each value, where layers say them.
    fn value_channels(&self) -> Result<Vec<Option<usize>>> {
        let mut channels = memory::collect("network", (0..self.graph.values).map(|_| None))?;
        for (&value, &known) in self.graph.inputs.iter().zip(&self.channels) {
            channels[value] = known;
        }
        for (node, index) in self.nodes() {
            let layer = &self.layers[index];
            // a layer that says what it makes, or inputs that are all known
            channels[node.output] = match layer.node().channels() {
                Some([_, made]) => Some(made),
                None if node.inputs.iter().all(|&value| channels[value].is_some()) => {
                    let read = node.inputs.iter().map(|&value| channels[value].unwrap_or_default());
                    layer.channels_of(&memory::collect("network", read)?).ok()
                }
                None => None,
            };
        }
        Ok(channels)
    }

    /// The number of its inputs.
    pub fn inputs(&self) -> usize {
        self.graph.inputs.len()
    }

    /// The number of its outputs.
    pub fn outputs(&self) -> usize {
        self.graph.outputs.len()
    }

    /// The shape that it makes of `input`: of the first output, where there are several.
    ///
    /// # Errors
    /// [`Error::Layer`] of the first layer that cannot take what comes to it. [`Error::Count`] of a network of several inputs.
    pub fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(self.output_shapes(&[input])?[0])
    }

    /// The shapes that it makes of inputs of these shapes.
    ///
    /// # Errors
    /// Those of [`Network::output_shape`], and [`Error::ShapeMismatch`] where the inputs have batches of several sizes.
    pub fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        let (expected, got) = (self.inputs(), inputs.len());
        if expected != got {
            return Err(Error::Count { what: "input", expected, got });
        }
        if let Some(&got) = inputs.iter().find(|input| input.n != inputs[0].n) {
            return Err(Error::ShapeMismatch { what: "batch", expected: Shape { n: inputs[0].n, ..got }, got });
        }
        // a chain's layers say so themselves, by their names
        if self.inputs() > 1 || self.layers.first().is_none_or(|layer| layer.node().channels().is_none()) {
            for (&expected, input) in self.channels.iter().zip(inputs) {
                if let Some(expected) = expected.filter(|&expected| expected != input.c) {
                    return Err(Error::Channels { what: "input", expected, got: input.c });
                }
            }
        }
        let shapes = self.graph.shapes_by(inputs, |node, read| match node.layer {
            Some(index) => self.layers[index].output(read).map_err(|error| self.layers[index].error(index, error)),
            None => node.node.output(read),
        })?;
        memory::collect("plan", self.graph.outputs.iter().map(|&value| shapes[value]))
    }

    /// Plans it for an input shape.
    ///
    /// # Errors
    /// As [`Network::output_shape`], and [`Error::Layer`] of a layer whose scratch would be out of proportion. Errors that
    /// are no layer's own come as they are: an instruction set that is not there, a fusion that no layer has, memory that
    /// ran out.
    pub fn plan(&self, input: Shape, options: &PlanOptions) -> Result<Plan> {
        self.plan_all(&[input], options)
    }

    /// Plans it for the shapes of all of its inputs.
    ///
    /// # Errors
    /// Those of [`Network::plan`] and [`Network::output_shapes`].
    pub fn plan_all(&self, inputs: &[Shape], options: &PlanOptions) -> Result<Plan> {
        self.output_shapes(inputs)?;
        Plan::new(&self.graph, inputs, options).map_err(|refused| match refused.layer {
            Some(index) => self.layers[index].error(index, refused.error),
            None => refused.error,
        })
    }
}
