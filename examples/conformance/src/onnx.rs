//! A problem of the kit as a model of ONNX, which tract and ONNX Runtime both read.

use sepconv::testing::{Activation, FilterOrder, Problem, Shape, Stage, StageKind};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// The model: input `x0`, outputs `y0`, `y1` and so on, all NCHW. A convolution is `Conv`, then `BatchNormalization`, `Add` and `Clip` or
/// `Relu` where it has them: nothing is folded, so that an engine may. Other stages are the operators that ONNX has for them.
pub fn model(problem: &Problem) -> ModelProto {
    let mut graph = OnnxGraph::default();
    // the input, and what each stage makes
    let mut tensors = vec![String::from("x0")];
    for (at, stage) in problem.stages().iter().enumerate() {
        let reads: Vec<&str> = stage.inputs().iter().map(|&tensor| tensors[tensor].as_str()).collect();
        let made = graph.stage(at, stage, &reads);
        tensors.push(made);
    }
    let outputs: Vec<String> = (0..problem.outputs().len()).map(|at| format!("y{at}")).collect();
    for (output, name) in problem.outputs().iter().zip(&outputs) {
        graph.node("Identity", &[&tensors[output.tensor]], name, vec![]);
    }
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 15, ..Default::default() }],
        graph: Some(GraphProto {
            name: "case".into(),
            node: graph.nodes,
            initializer: graph.constants,
            input: vec![value("x0", problem.input_shape())],
            output: problem.outputs().iter().zip(&outputs).map(|(output, name)| value(name, output.shape)).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[derive(Default)]
struct OnnxGraph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl OnnxGraph {
    /// Adds the nodes of a stage, and returns the name of what it makes.
    fn stage(&mut self, at: usize, stage: &Stage, reads: &[&str]) -> String {
        let last = format!("sum{at}");
        let pads = stage.pads();
        let window = || {
            vec![
                ints("kernel_shape", &stage.kernel()),
                ints("strides", &stage.strides()),
                ints("pads", &[pads.top, pads.left, pads.bottom, pads.right]),
            ]
        };
        match stage.kind() {
            StageKind::Standard | StageKind::Depthwise => return self.convolution(at, stage, reads, window()),
            StageKind::AveragePool => self.node("GlobalAveragePool", reads, &last, vec![]),
            StageKind::Add => self.node("Add", reads, &last, vec![]),
            StageKind::Scale => self.node("Mul", reads, &last, vec![]),
            StageKind::Concat => self.node("Concat", reads, &last, vec![int("axis", 1)]),
            StageKind::MaxPool => self.node("MaxPool", reads, &last, window()),
            StageKind::MeanPool => {
                let counts = int("count_include_pad", usize::from(stage.counts_padding()));
                self.node("AveragePool", reads, &last, window().into_iter().chain([counts]).collect());
            }
            StageKind::Activate => return self.activation(at, stage.activation(), reads[0].into()),
            other => unreachable!("a stage that this program does not know: {other:?}"),
        }
        self.activation(at, stage.activation(), last)
    }

    fn convolution(&mut self, at: usize, stage: &Stage, reads: &[&str], window: Vec<AttributeProto>) -> String {
        let name = |part: &str| format!("{part}{at}");
        let outputs = stage.output_shape().c;
        let mut last = name("sum");
        let [kh, kw] = stage.kernel();
        let dims = [outputs, stage.input_shape().c / stage.groups(), kh, kw];
        let filter = self.constant(name("filter"), &dims, stage.filter(FilterOrder::Oihw));
        let bias = stage.bias().map(|bias| self.constant(name("bias"), &[outputs], bias.to_vec()));
        let more = [ints("dilations", &stage.dilations()), int("group", stage.groups())];
        let attributes = window.into_iter().chain(more).collect();
        let inputs: Vec<&str> = [reads[0], &filter].into_iter().chain(bias.as_deref()).collect();
        self.node("Conv", &inputs, &last, attributes);
        if let Some(norm) = stage.batch_norm() {
            let or = |values: Option<&[f32]>, default: f32| values.map_or(vec![default; outputs], <[f32]>::to_vec);
            let parts = [
                ("gamma", or(norm.gamma, 1.0)),
                ("beta", or(norm.beta, 0.0)),
                ("mean", norm.mean.to_vec()),
                ("variance", norm.variance.to_vec()),
            ]
            .map(|(part, values)| self.constant(name(part), &[outputs], values));
            let [gamma, beta, mean, variance] = &parts;
            let output = name("normed");
            self.node(
                "BatchNormalization",
                &[&last, gamma, beta, mean, variance],
                &output,
                vec![float("epsilon", norm.epsilon as f32)],
            );
            last = output;
        }
        // the input of its block
        if let [_, shortcut] = reads {
            let output = name("added");
            self.node("Add", &[&last, shortcut], &output, vec![]);
            last = output;
        }
        self.activation(at, stage.activation(), last)
    }

    /// Adds the nodes of an activation, if there are any, and returns the name of what they make.
    fn activation(&mut self, at: usize, activation: Activation, last: String) -> String {
        let output = format!("active{at}");
        match activation {
            Activation::Linear => return last,
            Activation::Relu => self.node("Relu", &[&last], &output, vec![]),
            activation => {
                // `main` draws clamps alone
                let bounds = activation.bounds().expect("a clamp");
                // infinite bounds are given too: those that are left out are the largest numbers, not infinities
                let bounds = [("min", bounds[0]), ("max", bounds[1])]
                    .map(|(part, bound)| self.constant(format!("{part}{at}"), &[], vec![bound]));
                self.node("Clip", &[&last, &bounds[0], &bounds[1]], &output, vec![]);
            }
        }
        output
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            name: output.into(),
            op_type: op.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            attribute,
            ..Default::default()
        });
    }

    fn constant(&mut self, name: String, dims: &[usize], values: Vec<f32>) -> String {
        self.constants.push(TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            ..Default::default()
        });
        name
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|&v| v as i64).collect(),
        ..Default::default()
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value as i64, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..Default::default() }
}

fn value(name: &str, Shape { n, h, w, c }: Shape) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |size: usize| Dimension { value: Some(Value::DimValue(size as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: [n, c, h, w].map(dim).to_vec() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
