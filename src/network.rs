//! A network: operators planned together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ops::{
    Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, PointwiseConv2d, SeparableConv2d,
};
use crate::plan::Node;
use crate::{Error, Plan, PlanOptions, Result, Shape, memory};

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
}

macro_rules! layers {
    ($($operator:ident $kind:literal,)*) => {
        $(impl From<$operator> for Layer {
            fn from(operator: $operator) -> Layer {
                Layer::$operator(operator)
            }
        })*

        impl Layer {
            fn node(&self) -> &Node {
                match self { $(Layer::$operator(operator) => operator.node(),)* }
            }

            /// The shape that the layer makes of `input`.
            pub(crate) fn output_shape(&self, input: Shape) -> Result<Shape> {
                match self { $(Layer::$operator(operator) => operator.output_shape(input),)* }
            }

            /// A plan of the layer alone.
            #[cfg(feature = "capi")]
            pub(crate) fn plan(&self, input: Shape, options: &PlanOptions) -> Result<Plan> {
                match self { $(Layer::$operator(operator) => operator.plan(input, options),)* }
            }

            /// The operator, as errors call it.
            fn kind(&self) -> &'static str {
                match self { $(Layer::$operator(_) => $kind,)* }
            }
        }
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
}

impl Layer {
    /// An error of this layer, the one at `index` of a network.
    fn error(&self, index: usize, error: Error) -> Error {
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
        for (before, pair) in layers.windows(2).enumerate() {
            let [[_, got], [expected, _]] = [pair[0].node().channels(), pair[1].node().channels()];
            if expected != got {
                return Err(pair[1].error(before + 1, Error::Channels { what: "input", expected, got }));
            }
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Ok(Network { id: NEXT.fetch_add(1, Ordering::Relaxed), layers })
    }

    /// A number that clones share, and no other network of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shape that it makes of `input`.
    ///
    /// # Errors
    /// [`Error::Layer`] of the first layer that cannot take what comes to it.
    pub fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.layers.iter().enumerate().try_fold(input, |shape, (index, layer)| {
            layer.output_shape(shape).map_err(|error| layer.error(index, error))
        })
    }

    /// Plans it for an input shape.
    ///
    /// # Errors
    /// As [`Network::output_shape`], and [`Error::Layer`] of a layer whose scratch would be out of proportion. Errors that
    /// are no layer's own come as they are: an instruction set that is not there, a fusion that no layer has, memory that
    /// ran out.
    pub fn plan(&self, input: Shape, options: &PlanOptions) -> Result<Plan> {
        self.output_shape(input)?;
        let nodes = memory::collect("plan", self.layers.iter().map(|layer| layer.node().clone()))?;
        Plan::new(&nodes, input, options).map_err(|refused| match refused.node {
            Some(index) => self.layers[index].error(index, refused.error),
            None => refused.error,
        })
    }
}
