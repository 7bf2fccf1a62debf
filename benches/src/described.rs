//! A network of the models, described as an engine's graph has it: single convolutions and sums.

use sepconv::models::{Architecture, Block, ConvKind, Convolution, StridePadding, WeightOrder, Weights};
use sepconv::{Activation, ConvDesc, Filter, GraphBuilder, Network, Padding, Result, Value};

/// The same network as [`Architecture::network`] makes, described by single convolutions and sums.
pub fn by_convolutions(architecture: &Architecture, weights: &Weights<'_>, padding: StridePadding) -> Result<Network> {
    let mut graph = Network::builder();
    let mut x = graph.input(architecture.inputs());
    for block in architecture.blocks() {
        let input = x;
        for layer in block.convolutions() {
            x = convolution(&mut graph, x, layer, weights, padding)?;
        }
        x = match block {
            Block::GlobalAveragePool { .. } => graph.global_average_pool(x)?,
            Block::InvertedResidual { shortcut: true, .. } => graph.add(x, input, Activation::Linear)?,
            _ => x,
        };
    }
    graph.output(x);
    graph.build()
}

fn convolution(
    graph: &mut GraphBuilder,
    x: Value,
    layer: &Convolution,
    weights: &Weights<'_>,
    padding: StridePadding,
) -> Result<Value> {
    let &Convolution { kernel, inputs, outputs, stride, activation, .. } = layer;
    let values = |part: &str| weights.values(&format!("{}.{part}", layer.name));
    let (weight, bias) = (values("weight")?, values("bias")?);
    let filter = match (layer.kind, weights.order()) {
        (ConvKind::Depthwise, WeightOrder::Oihw) => Filter::depthwise_c1hw(&weight, [inputs, kernel, kernel], 1),
        (ConvKind::Depthwise, _) => Filter::depthwise_hwc(&weight, [kernel, kernel, inputs]),
        (_, WeightOrder::Oihw) => Filter::oihw(&weight, [outputs, inputs, kernel, kernel]),
        _ => Filter::hwio(&weight, [kernel, kernel, inputs, outputs]),
    };
    let padding = match padding {
        StridePadding::Symmetric if stride > 1 => Padding::all(kernel / 2),
        _ => Padding::Same,
    };
    let desc = ConvDesc::new(filter).bias(&bias).stride(stride).padding(padding).activation(activation);
    if layer.kind == ConvKind::Dense { graph.dense(x, desc) } else { graph.conv(x, desc) }
}
