//! A network: operators planned together.

use crate::ops::{
    Conv2d, Dense, DepthwiseConv2d, GlobalAveragePool, InvertedResidual, PointwiseConv2d, SeparableConv2d,
};
use crate::program::Node;
use crate::{Error, Plan, PlanOptions, Result, Shape};

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
    ($($operator:ident)*) => {
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
        }
    };
}

layers!(Conv2d DepthwiseConv2d PointwiseConv2d SeparableConv2d InvertedResidual GlobalAveragePool Dense);

/// Layers, one after the other, planned together: one arena, layouts between them that the next layer likes, and one
/// entry into the pool for the whole run.
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
#[derive(Clone, Debug)]
pub struct Network {
    layers: Vec<Layer>,
}

impl Network {
    /// A network of at least one layer.
    pub fn new(layers: Vec<Layer>) -> Result<Network> {
        if layers.is_empty() {
            return Err(Error::Network("expected at least one layer, got none".into()));
        }
        Ok(Network { layers })
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shape that it makes of `input`.
    pub fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.layers.iter().try_fold(input, |shape, layer| layer.output_shape(shape))
    }

    /// Plans it for an input shape.
    pub fn plan(&self, input: Shape, options: &PlanOptions) -> Result<Plan> {
        self.output_shape(input)?;
        let nodes = crate::memory::collect("plan", self.layers.iter().map(|layer| layer.node().clone()))?;
        Plan::new(&nodes, input, options)
    }
}
