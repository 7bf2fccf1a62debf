//! The operators that are measured: those that MobileNetV1 and V2 are made of, and depthwise convolutions that neither
//! has.
//!
//! Nothing is listed here by hand but the latter. The shapes follow from [`sepconv::models`], so that they are those of
//! the networks at any width and resolution.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use sepconv::models::{Architecture, Block, Config, ConvKind, Convolution, MobileNetV1, MobileNetV2};
use sepconv::{
    Activation, Conv2d, ConvDesc, DepthwiseConv2d, Filter, InvertedResidual, InvertedResidualDesc, Layer, Network,
    PointwiseConv2d, Result, SeparableConv2d, Shape, Shortcut,
};

/// One of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Net {
    /// MobileNetV1.
    V1,
    /// MobileNetV2.
    V2,
}

impl Net {
    /// The widths that its paper evaluates.
    pub const fn alphas(self) -> &'static [f64] {
        match self {
            Net::V1 => &[0.25, 0.5, 0.75, 1.0],
            Net::V2 => &[0.35, 0.5, 0.75, 1.0, 1.4],
        }
    }

    /// The resolutions that its paper evaluates.
    pub const fn sizes(self) -> &'static [usize] {
        match self {
            Net::V1 => &[128, 160, 192, 224],
            Net::V2 => &[96, 128, 160, 192, 224],
        }
    }

    /// The network at a width, without weights.
    pub fn architecture(self, alpha: f64) -> Result<Architecture> {
        let config = Config::new().alpha(alpha);
        match self {
            Net::V1 => MobileNetV1::architecture(&config),
            Net::V2 => MobileNetV2::architecture(&config),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Net::V1 => "v1",
            Net::V2 => "v2",
        })
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Net, String> {
        match text.to_ascii_lowercase().as_str() {
            "v1" => Ok(Net::V1),
            "v2" => Ok(Net::V2),
            _ => Err("expected v1 or v2".into()),
        }
    }
}

/// What a stage of an operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BenchStageKind {
    /// A standard convolution.
    Standard,
    /// A depthwise convolution.
    Depthwise,
    /// A 1×1 convolution.
    Pointwise,
}

/// One convolution of an operator. All are padded to the plane's size, as TensorFlow's `SAME` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BenchStage {
    /// What it is.
    pub kind: BenchStageKind,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Pixels that the window moves, `[rows, columns]`.
    pub stride: [usize; 2],
    /// Pixels from one tap to the next.
    pub dilation: usize,
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it writes.
    pub outputs: usize,
    /// Whether a ReLU6 follows.
    pub relu6: bool,
}

impl BenchStage {
    /// A standard `kernel × kernel` convolution with ReLU6.
    pub const fn standard(kernel: usize, stride: usize, inputs: usize, outputs: usize) -> BenchStage {
        let stride = [stride, stride];
        BenchStage { kind: BenchStageKind::Standard, kernel, stride, dilation: 1, inputs, outputs, relu6: true }
    }

    /// A depthwise `kernel × kernel` convolution with ReLU6.
    pub const fn depthwise(kernel: usize, stride: usize, channels: usize) -> BenchStage {
        BenchStage { kind: BenchStageKind::Depthwise, ..BenchStage::standard(kernel, stride, channels, channels) }
    }

    /// A 1×1 convolution with ReLU6.
    pub const fn pointwise(inputs: usize, outputs: usize) -> BenchStage {
        BenchStage { kind: BenchStageKind::Pointwise, ..BenchStage::standard(1, 1, inputs, outputs) }
    }

    /// The same without an activation, as V2's last stages are.
    pub const fn linear(mut self) -> BenchStage {
        self.relu6 = false;
        self
    }

    /// Values that one output is the weighted sum of.
    const fn fan_in(&self) -> usize {
        let taps = self.kernel * self.kernel;
        match self.kind {
            BenchStageKind::Depthwise => taps,
            BenchStageKind::Standard | BenchStageKind::Pointwise => taps * self.inputs,
        }
    }

    /// Weights, and a bias for each output channel.
    pub const fn parameters(&self) -> usize {
        self.outputs * (self.fan_in() + 1)
    }

    /// The shape that it makes of `input`.
    pub const fn output(&self, input: Shape) -> Shape {
        Shape::new(input.n, input.h.div_ceil(self.stride[0]), input.w.div_ceil(self.stride[1]), self.outputs)
    }

    /// Multiply-accumulate operations on an input of this shape, padding counted.
    pub const fn macs(&self, input: Shape) -> u64 {
        let out = self.output(input);
        (out.n * out.h * out.w * out.c * self.fan_in()) as u64
    }

    fn of(convolution: &Convolution) -> BenchStage {
        let (inputs, outputs) = (convolution.inputs, convolution.outputs);
        let stage = match convolution.kind {
            ConvKind::Depthwise => BenchStage::depthwise(convolution.kernel, convolution.stride, inputs),
            ConvKind::Pointwise | ConvKind::Dense => BenchStage::pointwise(inputs, outputs),
            _ => BenchStage::standard(convolution.kernel, convolution.stride, inputs, outputs),
        };
        BenchStage { relu6: convolution.activation == Activation::Relu6, ..stage }
    }

    /// Seeded weights and biases: small, so that sums neither overflow nor become denormal.
    pub fn values(&self) -> (Vec<f32>, Vec<f32>) {
        let mut rng = fastrand::Rng::with_seed(0x5e9c);
        let scale = (6.0 / self.fan_in() as f32).sqrt();
        let weights = (0..self.outputs * self.fan_in()).map(|_| (rng.f32() * 2.0 - 1.0) * scale).collect();
        let biases = (0..self.outputs).map(|_| rng.f32()).collect();
        (weights, biases)
    }

    fn describe<'a>(&self, (weights, biases): &'a (Vec<f32>, Vec<f32>)) -> ConvDesc<'a> {
        let (k, i, o) = (self.kernel, self.inputs, self.outputs);
        let filter = match self.kind {
            BenchStageKind::Standard => Filter::hwio(weights, [k, k, i, o]),
            BenchStageKind::Depthwise => Filter::depthwise_hwcm(weights, [k, k, i, o / i]),
            BenchStageKind::Pointwise => Filter::io(weights, [i, o]),
        };
        let activation = if self.relu6 { Activation::Relu6 } else { Activation::Linear };
        ConvDesc::new(filter).bias(biases).strides(self.stride).dilation(self.dilation).activation(activation)
    }
}

impl fmt::Display for BenchStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, columns] = self.stride;
        match self.kind {
            BenchStageKind::Pointwise if self.stride == [1, 1] => return f.write_str("pw"),
            BenchStageKind::Pointwise => f.write_str("pw")?,
            BenchStageKind::Standard => write!(f, "conv{0}x{0}", self.kernel)?,
            BenchStageKind::Depthwise => write!(f, "dw{0}x{0}", self.kernel)?,
        }
        match rows == columns {
            true => write!(f, "s{rows}")?,
            false => write!(f, "s{rows}x{columns}")?,
        }
        if self.dilation > 1 {
            write!(f, "d{}", self.dilation)?;
        }
        if self.kind == BenchStageKind::Depthwise && self.outputs > self.inputs {
            write!(f, "m{}", self.outputs / self.inputs)?;
        }
        Ok(())
    }
}

/// What operators are grouped by in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// A standard convolution.
    Standard,
    /// A depthwise 3×3 convolution at stride 1 or 2, which both networks consist of.
    Depthwise,
    /// Any other depthwise convolution.
    GeneralDepthwise,
    /// A 1×1 convolution.
    Pointwise,
    /// V1's block: depthwise → pointwise.
    Separable,
    /// V2's block: expand → depthwise → project.
    InvertedResidual,
}

/// One operator on an input of one shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// Its convolutions, in the order in which they run.
    pub stages: Vec<BenchStage>,
    /// Whether the input is added to the output.
    pub shortcut: bool,
    /// What it reads.
    pub input: Shape,
}

impl Operator {
    /// An operator of one convolution on a square plane.
    pub fn single(stage: BenchStage, plane: usize) -> Operator {
        Operator { stages: vec![stage], shortcut: false, input: Shape::new(1, plane, plane, stage.inputs) }
    }

    /// V1's block.
    pub fn separable(depthwise: BenchStage, outputs: usize, plane: usize) -> Operator {
        let stages = vec![depthwise, BenchStage::pointwise(depthwise.outputs, outputs)];
        Operator { stages, ..Operator::single(depthwise, plane) }
    }

    /// What it is grouped by.
    pub fn family(&self) -> Family {
        match (self.stages.as_slice(), self.stages[0].kind) {
            ([only], BenchStageKind::Depthwise) => {
                let plain = only.kernel == 3 && only.dilation == 1 && only.inputs == only.outputs;
                if plain && matches!(only.stride, [1, 1] | [2, 2]) {
                    Family::Depthwise
                } else {
                    Family::GeneralDepthwise
                }
            }
            ([_], BenchStageKind::Standard) => Family::Standard,
            ([_], BenchStageKind::Pointwise) => Family::Pointwise,
            ([_, _], _) if !self.shortcut && self.stages[1].relu6 => Family::Separable,
            _ => Family::InvertedResidual,
        }
    }

    /// What it is called: `dw3x3s1`, `pw`, `conv3x3s2`, `separable-s2`, `inverted-s1+skip`, `stem+inverted-s1`.
    pub fn name(&self) -> String {
        let stride = || self.stages.iter().find(|s| s.kind == BenchStageKind::Depthwise).map_or(1, |s| s.stride[0]);
        match self.family() {
            Family::Separable => format!("separable-s{}", stride()),
            Family::InvertedResidual => {
                let stem = if self.stages[0].kind == BenchStageKind::Standard { "stem+" } else { "" };
                format!("{stem}inverted-s{}{}", stride(), if self.shortcut { "+skip" } else { "" })
            }
            _ => self.stages[0].to_string(),
        }
    }

    /// Its plane and its channels: `112x112x32` of a depthwise convolution, `56x56 24-144-24` of others.
    pub fn shape(&self) -> String {
        let Shape { h, w, c, .. } = self.input;
        if self.stages.len() == 1 && self.stages[0].kind == BenchStageKind::Depthwise {
            return format!("{h}x{w}x{c}");
        }
        let mut shape = format!("{h}x{w} {c}");
        // a depthwise stage of multiplier 1 leaves the channels as they are
        for stage in self.stages.iter().filter(|s| s.kind != BenchStageKind::Depthwise || s.inputs != s.outputs) {
            shape += &format!("-{}", stage.outputs);
        }
        shape
    }

    /// What it writes.
    pub fn output(&self) -> Shape {
        self.stages.iter().fold(self.input, |shape, stage| stage.output(shape))
    }

    /// Multiply-accumulate operations, padding counted.
    pub fn macs(&self) -> u64 {
        let (mut macs, mut shape) = (0, self.input);
        for stage in &self.stages {
            macs += stage.macs(shape);
            shape = stage.output(shape);
        }
        macs
    }

    /// Weights and biases.
    pub fn parameters(&self) -> usize {
        self.stages.iter().map(BenchStage::parameters).sum()
    }

    /// Bytes that have to be moved at the least: the input, the output, the weights and the biases, each once.
    pub fn bytes(&self) -> u64 {
        let values = |shape: Shape| shape.pixels() * shape.c;
        (size_of::<f32>() * (values(self.input) + values(self.output()) + self.parameters())) as u64
    }

    /// The largest `k` of its sums over input channels, which is what a pointwise kernel's speed depends on.
    pub fn depth(&self) -> usize {
        self.stages.iter().filter(|s| s.kind != BenchStageKind::Depthwise).map(BenchStage::fan_in).max().unwrap_or(1)
    }

    /// The public operator, with seeded weights.
    pub fn layer(&self) -> Result<Layer> {
        let values: Vec<_> = self.stages.iter().map(BenchStage::values).collect();
        let desc = |stage: usize| self.stages[stage].describe(&values[stage]);
        let shortcut = if self.shortcut { Shortcut::Required } else { Shortcut::None };
        Ok(match (self.family(), self.stages.len()) {
            (Family::Standard, _) => Conv2d::new(desc(0))?.into(),
            (Family::Depthwise | Family::GeneralDepthwise, _) => DepthwiseConv2d::new(desc(0))?.into(),
            (Family::Pointwise, _) => PointwiseConv2d::new(desc(0))?.into(),
            (Family::Separable, _) => SeparableConv2d::new(desc(0), desc(1))?.into(),
            (Family::InvertedResidual, 2) => {
                let block = InvertedResidualDesc::new(desc(0), desc(1)).shortcut(shortcut);
                InvertedResidual::new(block)?.into()
            }
            (Family::InvertedResidual, _) => {
                let block = InvertedResidualDesc::new(desc(1), desc(2)).expand(desc(0)).shortcut(shortcut);
                InvertedResidual::new(block)?.into()
            }
        })
    }

    /// The public operator as a network of one layer: it is planned as `operator.plan` plans it.
    pub fn network(&self) -> Result<Network> {
        Network::new(vec![self.layer()?])
    }
}

/// An operator and the networks that have it, such as `v2-1.0`.
#[derive(Clone, Debug)]
pub struct UsedOperator {
    /// The operator.
    pub operator: Operator,
    /// What has it.
    pub used_by: Vec<String>,
}

/// Operators, each once, in the order in which they came first.
#[derive(Clone, Debug, Default)]
pub struct List {
    entries: Vec<UsedOperator>,
    places: HashMap<Operator, usize>,
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List::default()
    }

    /// Adds an operator, or only its user if the operator is there already.
    pub fn add(&mut self, operator: Operator, used_by: &str) {
        let place = *self.places.entry(operator.clone()).or_insert_with(|| {
            self.entries.push(UsedOperator { operator, used_by: Vec::new() });
            self.entries.len() - 1
        });
        let users = &mut self.entries[place].used_by;
        if users.last().is_none_or(|last| last != used_by) {
            users.push(used_by.to_owned());
        }
    }

    /// The operators.
    pub fn into_entries(self) -> Vec<UsedOperator> {
        self.entries
    }
}

/// The blocks of a network as operators, on the shapes that they see at a resolution; what a network ends in is left
/// out.
pub fn blocks(net: Net, alpha: f64, size: usize) -> Result<Vec<Operator>> {
    let architecture = net.architecture(alpha)?;
    let mut input = Shape::new(1, size, size, architecture.inputs());
    let mut operators = Vec::new();
    for block in architecture.blocks() {
        let stages: Vec<BenchStage> = match block {
            Block::GlobalAveragePool { .. } => break,
            _ => block.convolutions().map(BenchStage::of).collect(),
        };
        let shortcut = matches!(block, Block::InvertedResidual { shortcut: true, .. });
        let operator = Operator { stages, shortcut, input };
        input = operator.output();
        operators.push(operator);
    }
    Ok(operators)
}

/// Adds every block of a network, and every convolution that its blocks consist of.
pub fn add_network(list: &mut List, net: Net, alpha: f64, size: usize) -> Result<()> {
    let user = format!("{net}-{alpha}");
    for block in blocks(net, alpha, size)? {
        let mut input = block.input;
        for &stage in &block.stages {
            list.add(Operator { stages: vec![stage], shortcut: false, input }, &user);
            input = stage.output(input);
        }
        if block.stages.len() > 1 {
            list.add(block, &user);
        }
    }
    Ok(())
}

/// Planes and channels at which other depthwise convolutions are compared with 3×3 at stride 1.
pub const GENERAL_SIZES: [(usize, usize); 5] = [(112, 32), (56, 128), (28, 256), (14, 512), (7, 1024)];

/// Depthwise convolutions that no MobileNet has, for `channels` channels: 5×5, 7×7, dilation 2, multiplier 2, stride 3,
/// and stride 2×1.
pub const fn general_depthwise(channels: usize) -> [BenchStage; 6] {
    let plain = BenchStage::depthwise(3, 1, channels);
    [
        BenchStage::depthwise(5, 1, channels),
        BenchStage::depthwise(7, 1, channels),
        BenchStage { dilation: 2, ..plain },
        BenchStage { outputs: 2 * channels, ..plain },
        BenchStage::depthwise(3, 3, channels),
        BenchStage { stride: [2, 1], ..plain },
    ]
}

/// Adds the depthwise convolutions that no MobileNet has, and at each size the plain one that they are compared with.
pub fn add_general(list: &mut List) {
    for (plane, channels) in GENERAL_SIZES {
        list.add(Operator::single(BenchStage::depthwise(3, 1, channels), plane), "general");
        for stage in general_depthwise(channels) {
            list.add(Operator::single(stage, plane), "general");
        }
    }
}

#[cfg(test)]
mod tests {
    use sepconv::PlanOptions;

    use super::*;

    #[test]
    fn an_operator_is_what_its_plan_says() {
        let mut list = List::new();
        add_network(&mut list, Net::V1, 0.25, 96).unwrap();
        add_network(&mut list, Net::V2, 0.35, 96).unwrap();
        for (plane, channels) in [(9, 8), (14, 40)] {
            for stage in general_depthwise(channels) {
                list.add(Operator::single(stage, plane), "general");
            }
        }
        let entries = list.into_entries();
        assert!(entries.len() > 60, "{}", entries.len());
        for UsedOperator { operator, .. } in entries {
            let plan = operator.network().unwrap().plan(operator.input, &PlanOptions::new()).unwrap();
            assert_eq!(plan.output_shape(), operator.output(), "{} {}", operator.name(), operator.shape());
            assert_eq!(plan.macs(), operator.macs(), "{} {}", operator.name(), operator.shape());
        }
    }

    #[test]
    fn blocks_add_up_to_the_network() {
        for (net, alpha, size) in [(Net::V1, 1.0, 224), (Net::V2, 1.0, 224), (Net::V2, 0.25, 96)] {
            let architecture = net.architecture(alpha).unwrap();
            let blocks = blocks(net, alpha, size).unwrap();
            let head = architecture.convolutions().last().unwrap();
            let parameters: usize = blocks.iter().map(Operator::parameters).sum();
            assert_eq!(parameters as u64 + head.parameters(), architecture.parameters());
            assert_eq!(blocks.last().unwrap().output().c, head.inputs);
        }
    }

    #[test]
    fn names_tell_operators_apart() {
        let v2 = blocks(Net::V2, 1.0, 224).unwrap();
        let names: Vec<_> = v2[..3].iter().map(|b| (b.name(), b.shape())).collect();
        let expected = [
            ("stem+inverted-s1", "224x224 3-32-16"),
            ("inverted-s2", "112x112 16-96-24"),
            ("inverted-s1+skip", "56x56 24-144-24"),
        ];
        assert_eq!(names, expected.map(|(name, shape)| (name.to_owned(), shape.to_owned())));
        let names = general_depthwise(8).map(|s| s.to_string());
        assert_eq!(names, ["dw5x5s1", "dw7x7s1", "dw3x3s1d2", "dw3x3s1m2", "dw3x3s3", "dw3x3s2x1"]);
    }
}
