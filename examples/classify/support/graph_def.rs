//! MobileNetV1 out of a frozen TensorFlow GraphDef: the few messages of it that hold constants.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost::Message;
use sepconv::models::{WeightOrder, Weights};

use super::BATCH_NORM;

#[derive(Clone, PartialEq, Message)]
struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeDef>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeDef {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    op: String,
    #[prost(map = "string, message", tag = "5")]
    attr: std::collections::HashMap<String, AttrValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AttrValue {
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
    #[prost(bytes = "vec", tag = "4")]
    content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    float_val: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// The number of float32 in TensorFlow's list of types.
const DT_FLOAT: i32 = 1;

impl TensorProto {
    fn floats(&self) -> Result<(Vec<usize>, Vec<f32>)> {
        ensure!(self.dtype == DT_FLOAT, "expected type {DT_FLOAT} (float), got {}", self.dtype);
        let shape = self.shape.clone().unwrap_or_default();
        let shape: Vec<usize> = shape.dim.iter().map(|d| usize::try_from(d.size)).collect::<Result<_, _>>()?;
        let len = shape.iter().product();
        let values = if self.content.is_empty() {
            // one value may stand for all
            let last = *self.float_val.last().context("a tensor without values")?;
            let mut values = self.float_val.clone();
            values.resize(len, last);
            values
        } else {
            self.content.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
        };
        Ok((shape, values))
    }
}

/// The weights of MobileNetV1 under the names that `sepconv::models` gives them.
pub fn mobilenet_v1(bytes: &[u8]) -> Result<Weights<'static>> {
    let graph = GraphDef::decode(bytes).context("not a GraphDef")?;
    let constants: BTreeMap<&str, &TensorProto> = graph
        .node
        .iter()
        .filter(|node| node.op == "Const")
        .filter_map(|node| Some((node.name.as_str(), node.attr.get("value")?.tensor.as_ref()?)))
        .collect();
    let mut weights = Weights::new(WeightOrder::Hwio);
    let mut take = |from: &str, to: &str| -> Result<()> {
        let tensor = constants.get(from).with_context(|| format!("the graph has no constant {from}"))?;
        let (shape, values) = tensor.floats().with_context(|| from.to_owned())?;
        Ok(weights.insert(to, &shape, values)?)
    };
    let mut layer = |from: &str, filter: &str, to: &str| -> Result<()> {
        take(&format!("MobilenetV1/{from}/{filter}"), &format!("{to}.weight"))?;
        for (theirs, ours) in BATCH_NORM {
            take(&format!("MobilenetV1/{from}/BatchNorm/{theirs}"), &format!("{to}.{ours}"))?;
        }
        Ok(())
    };
    layer("Conv2d_0", "weights", "stem")?;
    for i in 1..=13 {
        layer(&format!("Conv2d_{i}_depthwise"), "depthwise_weights", &format!("block{i}.depthwise"))?;
        layer(&format!("Conv2d_{i}_pointwise"), "weights", &format!("block{i}.pointwise"))?;
    }
    take("MobilenetV1/Logits/Conv2d_1c_1x1/weights", "head.weight")?;
    take("MobilenetV1/Logits/Conv2d_1c_1x1/biases", "head.bias")?;
    Ok(weights)
}
