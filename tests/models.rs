//! MobileNetV1, V2 and V3: channels, parameters and MACs as published, every bit of the output as the reference's, whatever
//! the padding, the order of filters and the way a batch norm comes.

use std::borrow::Cow;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sepconv::models::{
    Architecture, Block, Config, ConvKind, MobileNetV1, MobileNetV2, MobileNetV3, ModelOutput, StridePadding, V3Size,
    WeightOrder, Weights,
};
use sepconv::{Activation, Arithmetic, Error, Network, Plan, PlanOptions, Result, Shape, View, ViewMut};
use sepconv_kernels::{Epilogue, Join, reference};
use sepconv_test_support::{DenseTensor, LEVELS, Rng, SCHEDULES, ValueKind, same_bits, threads};

#[derive(Clone, Copy, Debug, PartialEq)]
enum MobileNet {
    V1,
    V2,
    V3(V3Size),
}

impl MobileNet {
    fn architecture(self, config: &Config) -> Result<Architecture> {
        match self {
            MobileNet::V1 => MobileNetV1::architecture(config),
            MobileNet::V2 => MobileNetV2::architecture(config),
            MobileNet::V3(size) => MobileNetV3::architecture(size, config),
        }
    }

    fn network(self, config: &Config, weights: &Weights<'_>) -> Result<Network> {
        match self {
            MobileNet::V1 => MobileNetV1::network(config, weights),
            MobileNet::V2 => MobileNetV2::network(config, weights),
            MobileNet::V3(size) => MobileNetV3::network(size, config, weights),
        }
    }

    fn plan(self, config: &Config, size: usize) -> Plan {
        let weights = Weights::seeded(&self.architecture(config).unwrap(), 0).unwrap();
        let network = self.network(config, &weights).unwrap();
        network.plan(Shape::new(1, size, size, 3), &PlanOptions::new()).unwrap()
    }
}

/// Output channels of the layers that decide on them: all but expansions and depthwise convolutions.
fn channels(net: MobileNet, alpha: f64) -> Vec<usize> {
    let architecture = net.architecture(&Config::new().alpha(alpha)).unwrap();
    let mut channels: Vec<usize> = architecture
        .convolutions()
        .filter(|layer| layer.kind != ConvKind::Depthwise && !layer.name.ends_with("expand") && layer.name != "head")
        .map(|layer| layer.outputs)
        .collect();
    channels.dedup();
    channels
}

#[test]
fn channels_are_rounded_as_in_the_papers_code() {
    // V1: cut, at least 8
    assert_eq!(channels(MobileNet::V1, 1.0), [32, 64, 128, 256, 512, 1024]);
    assert_eq!(channels(MobileNet::V1, 0.75), [24, 48, 96, 192, 384, 768]);
    assert_eq!(channels(MobileNet::V1, 0.25), [8, 16, 32, 64, 128, 256]);
    assert_eq!(channels(MobileNet::V1, 0.33), [10, 21, 42, 84, 168, 337]);
    assert_eq!(channels(MobileNet::V1, 0.1), [8, 12, 25, 51, 102]);
    assert_eq!(channels(MobileNet::V1, 1e-300), [8]);
    // V2: multiples of 8, never more than a tenth down; the widths are those of the published checkpoints
    assert_eq!(channels(MobileNet::V2, 1.0), [32, 16, 24, 32, 64, 96, 160, 320, 1280]);
    assert_eq!(channels(MobileNet::V2, 0.75), [24, 16, 24, 48, 72, 120, 240, 1280]);
    assert_eq!(channels(MobileNet::V2, 0.5), [16, 8, 16, 32, 48, 80, 160, 1280]);
    assert_eq!(channels(MobileNet::V2, 0.35), [16, 8, 16, 24, 32, 56, 112, 1280]);
    assert_eq!(channels(MobileNet::V2, 1.3), [40, 24, 32, 40, 80, 128, 208, 416, 1664]);
    assert_eq!(channels(MobileNet::V2, 1.4), [48, 24, 32, 48, 88, 136, 224, 448, 1792]);
    assert_eq!(channels(MobileNet::V2, 1e-300), [8, 1280]);
}

#[test]
fn parameters_are_those_of_the_published_models() {
    // Keras's applications count four values a channel for each batch norm, of which folding leaves one
    let keras = |net: MobileNet, alpha| {
        let architecture = net.architecture(&Config::new().alpha(alpha)).unwrap();
        let normed: usize = architecture.convolutions().filter(|l| l.name != "head").map(|l| l.outputs).sum();
        architecture.parameters() + 3 * normed as u64
    };
    assert_eq!(keras(MobileNet::V1, 1.0), 4_253_864);
    assert_eq!(keras(MobileNet::V2, 1.0), 3_538_984);
    // torchvision's count two values a channel, and none of layers of squeeze-and-excite and behind the pool
    let torchvision = |size| {
        let architecture = MobileNetV3::architecture(size, &Config::new()).unwrap();
        let normed: usize = architecture.convolutions().filter(|l| l.kind != ConvKind::Dense).map(|l| l.outputs).sum();
        architecture.parameters() + normed as u64
    };
    assert_eq!(torchvision(V3Size::Large), 5_483_032);
    assert_eq!(torchvision(V3Size::Small), 2_542_856);
    // in millions: the papers' tables, V1 6 and 9, V2 4; but V2's 6.9 at width 1.4 is not what the authors' code
    // builds, whose README says 6.06
    for (net, alpha, millions) in [
        (MobileNet::V1, 1.0, 4.2),
        (MobileNet::V1, 0.75, 2.6),
        (MobileNet::V1, 0.5, 1.32),
        (MobileNet::V1, 0.25, 0.47),
        (MobileNet::V2, 1.0, 3.47),
        (MobileNet::V2, 1.4, 6.1),
        (MobileNet::V3(V3Size::Large), 1.0, 5.4),
        (MobileNet::V3(V3Size::Small), 1.0, 2.5),
    ] {
        let parameters = net.architecture(&Config::new().alpha(alpha)).unwrap().parameters() as f64 / 1e6;
        assert!((parameters / millions - 1.0).abs() < 0.02, "{net:?} {alpha}: {parameters} million");
    }
}

#[test]
fn macs_are_those_of_the_papers() {
    let macs = |net: MobileNet, alpha, size| net.plan(&Config::new().alpha(alpha), size).macs();
    assert_eq!(macs(MobileNet::V1, 1.0, 224), 568_740_352);
    assert_eq!(macs(MobileNet::V2, 1.0, 224), 300_774_272);
    // in millions: V1 tables 6, 7 and 9, V2 table 4
    for (net, alpha, size, millions) in [
        (MobileNet::V1, 1.0, 224, 569.0),
        (MobileNet::V1, 0.75, 224, 325.0),
        (MobileNet::V1, 0.5, 224, 149.0),
        (MobileNet::V1, 0.25, 224, 41.0),
        (MobileNet::V1, 1.0, 192, 418.0),
        (MobileNet::V1, 1.0, 160, 290.0),
        (MobileNet::V1, 1.0, 128, 186.0),
        (MobileNet::V1, 0.5, 160, 76.0),
        (MobileNet::V2, 1.0, 224, 300.0),
        (MobileNet::V2, 1.4, 224, 585.0),
        // V3 table 3
        (MobileNet::V3(V3Size::Large), 1.0, 224, 219.0),
        (MobileNet::V3(V3Size::Small), 1.0, 224, 56.0),
    ] {
        let got = macs(net, alpha, size) as f64 / 1e6;
        assert!((got / millions - 1.0).abs() < 0.015, "{net:?} {alpha} at {size}: {got} million");
    }
}

/// The networks once more, layer after layer by the naive reference, from tables of their own.
struct Forward<'a> {
    weights: &'a Weights<'a>,
    padding: StridePadding,
    clamp: [f32; 2],
    arithmetic: Arithmetic,
    macs: u64,
}

const LINEAR: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

fn dims(shape: Shape) -> [usize; 4] {
    [shape.n, shape.h, shape.w, shape.c]
}

fn tensor(dense: &DenseTensor) -> reference::Tensor<'_, f32> {
    reference::Tensor { data: &dense.data, shape: dims(dense.shape), pixel_stride: dense.shape.c }
}

impl Forward<'_> {
    fn values(&self, name: &str) -> Cow<'_, [f32]> {
        self.weights.values(name).unwrap()
    }

    /// Output pixels of a 5×5, 3×3 or 1×1 window along an axis, and the pixels of padding before it.
    fn axis(&self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match (kernel, stride, self.padding) {
            (1, ..) => (size, 0),
            (_, 1, _) => (size, kernel / 2),
            (.., StridePadding::Symmetric) => ((size - 1) / 2 + 1, kernel / 2),
            // of 3×3, an even plane needs one more pixel, after it; an odd one needs two
            (.., StridePadding::Same) => (size.div_ceil(2), (kernel - 3) / 2 + size % 2),
            (.., other) => panic!("a padding that no test expects: {other:?}"),
        }
    }

    fn layer(
        &mut self,
        name: &str,
        x: &DenseTensor,
        stride: usize,
        clamp: [f32; 2],
        residual: Option<&DenseTensor>,
    ) -> DenseTensor {
        let kernel = if name.ends_with("depthwise") || name == "stem" { 3 } else { 1 };
        self.convolution(name, x, [kernel, stride], Epilogue::clamp(clamp), residual)
    }

    fn convolution(
        &mut self,
        name: &str,
        x: &DenseTensor,
        [kernel, stride]: [usize; 2],
        epilogue: Epilogue,
        residual: Option<&DenseTensor>,
    ) -> DenseTensor {
        let (filter, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let depthwise = name.ends_with("depthwise");
        let ((h, top), (w, left)) = (self.axis(x.shape.h, kernel, stride), self.axis(x.shape.w, kernel, stride));
        let shape = Shape::new(x.shape.n, h, w, bias.len());
        let mut y = DenseTensor { shape, data: vec![0.0; shape.len().unwrap()] };
        let window =
            reference::Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], before: [top, left] };
        let conv = reference::Conv { window, filter: &filter, bias: &bias, epilogue, params: &[] };
        let output = reference::TensorMut { data: &mut y.data, shape: dims(shape), pixel_stride: shape.c };
        if depthwise {
            reference::depthwise(&conv, tensor(x), output, self.arithmetic);
        } else {
            reference::conv(&conv, tensor(x), residual.map(tensor), output, self.arithmetic);
        }
        let macs = shape.pixels() * filter.len();
        drop((filter, bias));
        self.macs += macs as u64;
        y
    }

    fn v1(&mut self, image: &DenseTensor) -> DenseTensor {
        let mut x = self.layer("stem", image, 2, self.clamp, None);
        for (stride, block) in [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1].into_iter().zip(1..) {
            x = self.layer(&format!("block{block}.depthwise"), &x, stride, self.clamp, None);
            x = self.layer(&format!("block{block}.pointwise"), &x, 1, self.clamp, None);
        }
        x
    }

    fn v2(&mut self, image: &DenseTensor) -> DenseTensor {
        let mut x = self.layer("stem", image, 2, self.clamp, None);
        for (stride, block) in [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1].into_iter().zip(0..) {
            let project = format!("block{block}.project");
            let expanded = (block > 0).then(|| self.layer(&format!("block{block}.expand"), &x, 1, self.clamp, None));
            let y = self.layer(
                &format!("block{block}.depthwise"),
                expanded.as_ref().unwrap_or(&x),
                stride,
                self.clamp,
                None,
            );
            let same = stride == 1 && x.shape.c == self.values(&format!("{project}.bias")).len();
            x = self.layer(&project, &y, 1, LINEAR, same.then_some(&x));
        }
        self.layer("last", &x, 1, self.clamp, None)
    }

    /// The mean of each channel.
    fn mean(x: &DenseTensor) -> DenseTensor {
        let shape = Shape::new(x.shape.n, 1, 1, x.shape.c);
        let mut mean = DenseTensor { shape, data: vec![0.0; shape.len().unwrap()] };
        let output = reference::TensorMut { data: &mut mean.data, shape: dims(shape), pixel_stride: shape.c };
        reference::average_pool(tensor(x), output);
        mean
    }

    fn v3(&mut self, size: V3Size, image: &DenseTensor) -> DenseTensor {
        let [relu, swish, gate] =
            [Activation::Relu, Activation::HardSwish, Activation::HardSigmoid].map(|f| Epilogue::of(f.into()));
        let mut x = self.convolution("stem", image, [3, 2], swish, None);
        // kernel and stride of each block, and from which blocks on they have hard-swish
        let (windows, swishes): (&[[usize; 2]], usize) = match size {
            V3Size::Large => (
                &[
                    [3, 1],
                    [3, 2],
                    [3, 1],
                    [5, 2],
                    [5, 1],
                    [5, 1],
                    [3, 2],
                    [3, 1],
                    [3, 1],
                    [3, 1],
                    [3, 1],
                    [3, 1],
                    [5, 2],
                    [5, 1],
                    [5, 1],
                ],
                6,
            ),
            _ => (&[[3, 2], [3, 2], [3, 1], [5, 2], [5, 1], [5, 1], [5, 1], [5, 1], [5, 2], [5, 1], [5, 1]], 3),
        };
        for (block, &window) in windows.iter().enumerate() {
            let activation = if block < swishes { relu } else { swish };
            let name = |layer: &str| format!("block{block}.{layer}");
            let is_there =
                |forward: &Self, layer: &str| forward.weights.values(&name(&format!("{layer}.bias"))).is_ok();
            let mut y = x.clone();
            if is_there(self, "expand") {
                y = self.convolution(&name("expand"), &y, [1, 1], activation, None);
            }
            y = self.convolution(&name("depthwise"), &y, window, activation, None);
            if is_there(self, "excite.reduce") {
                let mean = Forward::mean(&y);
                let reduced = self.convolution(&name("excite.reduce"), &mean, [1, 1], relu, None);
                let scale = self.convolution(&name("excite.expand"), &reduced, [1, 1], gate, None);
                let from = y.clone();
                let output =
                    reference::TensorMut { data: &mut y.data, shape: dims(from.shape), pixel_stride: from.shape.c };
                let product = (Join::Product, Epilogue::NONE, &[][..]);
                reference::join(product, tensor(&from), tensor(&scale), output, self.arithmetic);
            }
            let same = window[1] == 1 && x.shape.c == self.values(&name("project.bias")).len();
            x = self.convolution(&name("project"), &y, [1, 1], Epilogue::NONE, same.then_some(&x));
        }
        self.convolution("last", &x, [1, 1], swish, None)
    }

    /// The feature map, the features and the logits.
    fn run(&mut self, net: MobileNet, image: &DenseTensor) -> [DenseTensor; 3] {
        let x = match net {
            MobileNet::V1 => self.v1(image),
            MobileNet::V2 => self.v2(image),
            MobileNet::V3(size) => self.v3(size, image),
        };
        let features = Forward::mean(&x);
        let hidden = matches!(net, MobileNet::V3(_)).then(|| {
            let swish = Epilogue::of(Activation::HardSwish.into());
            self.convolution("hidden", &features, [1, 1], swish, None)
        });
        let logits = self.layer("head", hidden.as_ref().unwrap_or(&features), 1, LINEAR, None);
        [x, features, logits]
    }
}

fn run(network: &Network, image: &DenseTensor, options: &PlanOptions) -> DenseTensor {
    let plan = network.plan(image.shape, options).unwrap();
    let shape = plan.output_shape();
    let mut y = DenseTensor { shape, data: vec![f32::NAN; shape.len().unwrap()] };
    let mut scratch = plan.scratch().unwrap();
    scratch.as_mut_slice().fill(0xFF);
    plan.run(image.view(), ViewMut::new(&mut y.data, shape).unwrap(), &mut scratch).unwrap();
    y
}

fn assert_same(got: &DenseTensor, expected: &DenseTensor, what: &str) {
    assert_eq!(got.shape, expected.shape, "{what}");
    for (i, (&g, &e)) in got.data.iter().zip(&expected.data).enumerate() {
        assert!(same_bits(g, e), "{what}: value {i}: expected {e:e}, got {g:e}");
    }
}

/// Every level whose step is not a call, every schedule, one to three threads, every output.
fn assert_network_is_the_reference(net: MobileNet, alpha: f64, padding: StridePadding, image: [usize; 3]) {
    let config = Config::new().alpha(alpha).classes(11).padding(padding);
    assert_config_is_the_reference(net, &config, padding, Activation::Relu6, image);
}

/// `config` has this padding and this activation.
fn assert_config_is_the_reference(
    net: MobileNet,
    config: &Config,
    padding: StridePadding,
    activation: Activation,
    [n, h, w]: [usize; 3],
) {
    sepconv_test_support::assert_required_levels();
    let architecture = net.architecture(config).unwrap();
    let weights = Weights::seeded(&architecture, 3).unwrap();
    let image = DenseTensor::random(&mut Rng(5), Shape::new(n, h, w, 3), ValueKind::Plain);
    let networks = [ModelOutput::FeatureMap, ModelOutput::Features, ModelOutput::Logits]
        .map(|output| (output, net.network(&config.clone().output(output), &weights).unwrap()));
    for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
        let clamp = activation.bounds().unwrap();
        let mut forward = Forward { weights: &weights, padding, clamp, arithmetic: level.arithmetic, macs: 0 };
        let expected = forward.run(net, &image);
        assert_eq!(networks[2].1.plan(image.shape, &level.options()).unwrap().macs(), forward.macs);
        for fusion in SCHEDULES {
            for count in 1..=3 {
                let options = level.options().fusion(fusion).threads(threads(count));
                for ((output, network), expected) in networks.iter().zip(&expected) {
                    let what =
                        format!("{net:?} {config:?} at {h}×{w}, {level:?}, {fusion:?}, {count} threads, {output:?}");
                    assert_same(&run(network, &image, &options), expected, &what);
                }
            }
        }
    }
}

#[test]
fn v1_is_the_reference_bit_for_bit() {
    assert_network_is_the_reference(MobileNet::V1, 0.25, StridePadding::Same, [1, 64, 48]);
    assert_network_is_the_reference(MobileNet::V1, 0.25, StridePadding::Symmetric, [2, 64, 48]);
    assert_network_is_the_reference(MobileNet::V1, 0.33, StridePadding::Same, [1, 33, 47]);
    assert_network_is_the_reference(MobileNet::V1, 1.0, StridePadding::Symmetric, [1, 32, 33]);
}

#[test]
fn v2_is_the_reference_bit_for_bit() {
    assert_network_is_the_reference(MobileNet::V2, 0.35, StridePadding::Same, [1, 64, 48]);
    assert_network_is_the_reference(MobileNet::V2, 0.35, StridePadding::Symmetric, [2, 64, 48]);
    assert_network_is_the_reference(MobileNet::V2, 0.75, StridePadding::Same, [1, 33, 47]);
    assert_network_is_the_reference(MobileNet::V2, 1.0, StridePadding::Symmetric, [1, 32, 33]);
}

#[test]
fn v3_is_the_reference_bit_for_bit() {
    let large = MobileNet::V3(V3Size::Large);
    assert_network_is_the_reference(large, 0.35, StridePadding::Same, [1, 64, 48]);
    assert_network_is_the_reference(large, 0.5, StridePadding::Symmetric, [2, 33, 47]);
    let small = MobileNet::V3(V3Size::Small);
    assert_network_is_the_reference(small, 1.0, StridePadding::Same, [1, 64, 48]);
    assert_network_is_the_reference(small, 0.35, StridePadding::Symmetric, [2, 33, 47]);
}

/// With ReLU, with bounds that cut off most values, and with none.
#[test]
fn another_activation_is_the_reference_bit_for_bit() {
    for (net, alpha) in [(MobileNet::V1, 0.25), (MobileNet::V2, 0.35)] {
        for activation in [Activation::Relu, Activation::Clamp { min: -0.5, max: 0.25 }, Activation::Linear] {
            let config = Config::new().alpha(alpha).classes(11).activation(activation);
            assert_config_is_the_reference(net, &config, StridePadding::Same, activation, [1, 33, 35]);
        }
    }
}

/// V1 and V2 as ports to PyTorch have them, whose weights were trained with ReLU. Every layer has it but projections and the dense layer.
#[test]
fn relu_networks_are_the_reference_bit_for_bit() {
    for (net, alpha) in [(MobileNet::V1, 0.5), (MobileNet::V2, 0.5)] {
        let padding = StridePadding::Symmetric;
        let config = Config::new().alpha(alpha).classes(11).padding(padding).epsilon(1e-5).activation(Activation::Relu);
        assert_config_is_the_reference(net, &config, padding, Activation::Relu, [2, 40, 33]);
        for layer in net.architecture(&config).unwrap().convolutions() {
            let is_linear = layer.name == "head" || layer.name.ends_with("project");
            let expected = if is_linear { Activation::Linear } else { Activation::Relu };
            assert_eq!(layer.activation, expected, "{net:?} {}", layer.name);
        }
    }
}

/// Weights that make sums above 6: ReLU and ReLU6 give different logits, and ReLU6 is the default.
#[test]
fn the_activation_decides_on_the_result() {
    for net in [MobileNet::V1, MobileNet::V2] {
        let (config, weights, image, _) = sample(net);
        let loud = changed(&weights, WeightOrder::Hwio, |name, shape, values| {
            vec![(name.into(), shape.to_vec(), values.iter().map(|v| v * 2.0).collect())]
        });
        let logits = |config: &Config| run(&net.network(config, &loud).unwrap(), &image, &PlanOptions::new());
        let (relu, relu6) = (config.clone().activation(Activation::Relu), config.clone().activation(Activation::Relu6));
        assert_same(&logits(&relu6), &logits(&config), &format!("{net:?}"));
        assert_ne!(logits(&relu), logits(&config), "{net:?}");
    }
}

#[test]
fn an_output_ends_a_network_where_it_says() {
    for (net, channels) in [(MobileNet::V1, 1024), (MobileNet::V2, 1280)] {
        let shape = |output: ModelOutput, [h, w]: [usize; 2]| {
            let config = Config::new().output(output);
            let architecture = net.architecture(&config).unwrap();
            // weights of the layers that are there: those behind them are not asked for
            let weights = Weights::seeded(&architecture, 1).unwrap();
            let made = architecture.network(&weights).unwrap().output_shape(Shape::new(2, h, w, 3)).unwrap();
            assert_eq!(architecture.outputs(), made.c);
            made
        };
        assert_eq!(shape(ModelOutput::Logits, [224, 224]), Shape::new(2, 1, 1, 1000));
        assert_eq!(shape(ModelOutput::Features, [224, 224]), Shape::new(2, 1, 1, channels));
        assert_eq!(shape(ModelOutput::FeatureMap, [224, 224]), Shape::new(2, 7, 7, channels));
        assert_eq!(shape(ModelOutput::FeatureMap, [97, 32]), Shape::new(2, 4, 1, channels));
    }
}

#[test]
fn the_smallest_images_and_the_narrowest_networks_are_the_reference_bit_for_bit() {
    for net in [MobileNet::V1, MobileNet::V2] {
        for padding in [StridePadding::Same, StridePadding::Symmetric] {
            for plane in [[1, 1, 1], [1, 2, 1], [1, 5, 8]] {
                assert_network_is_the_reference(net, 0.01, padding, plane);
            }
        }
    }
}

#[test]
fn a_shortcut_is_taken_where_stride_and_channels_say_so_and_not_where_shapes_happen_to_agree() {
    let shortcuts = |alpha: f64| -> Vec<usize> {
        let architecture = MobileNetV2::architecture(&Config::new().alpha(alpha)).unwrap();
        let blocks = architecture.blocks().iter().filter_map(|block| match block {
            Block::InvertedResidual { shortcut, .. } => Some(*shortcut),
            _ => None,
        });
        blocks.enumerate().filter_map(|(i, shortcut)| shortcut.then_some(i)).collect()
    };
    assert_eq!(shortcuts(1.0), [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]);
    // stem and first block have 8 channels each: the block adds the stem's output
    assert_eq!(shortcuts(0.25), [0, 2, 4, 5, 7, 8, 9, 11, 12, 14, 15]);
    // every block has 8 channels: only those at stride 2 have none
    assert_eq!(shortcuts(0.01), [0, 2, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 16]);
    // block 13 takes 1×1×16 to 1×1×16 at stride 2
    assert_network_is_the_reference(MobileNet::V2, 0.1, StridePadding::Same, [1, 16, 16]);
}

/// The same tensors, each changed by `change` from name, shape and values to any number of tensors.
fn changed(
    weights: &Weights<'_>,
    order: WeightOrder,
    mut change: impl FnMut(&str, &[usize], &[f32]) -> Vec<(String, Vec<usize>, Vec<f32>)>,
) -> Weights<'static> {
    let mut out = Weights::new(order);
    for (name, shape) in weights.tensors() {
        for (name, shape, values) in change(name, shape, &weights.values(name).unwrap()) {
            out.insert(name, &shape, values).unwrap();
        }
    }
    out
}

/// `[h, w, i, o]` to `[o, i, h, w]`.
fn to_oihw(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let [h, w, i, o] = shape.try_into().unwrap();
    let mut out = Vec::new();
    for (o_, i_) in (0..o).flat_map(|o_| (0..i).map(move |i_| (o_, i_))) {
        out.extend((0..h * w).map(|tap| values[(tap * i + i_) * o + o_]));
    }
    out
}

/// A network, its weights, an image and what comes out, on the best instruction set of this CPU.
fn sample(net: MobileNet) -> (Config, Weights<'static>, DenseTensor, DenseTensor) {
    let config = Config::new().alpha(0.35).classes(7);
    let weights = Weights::seeded(&net.architecture(&config).unwrap(), 11).unwrap();
    let image = DenseTensor::random(&mut Rng(2), Shape::new(1, 40, 40, 3), ValueKind::Plain);
    let logits = run(&net.network(&config, &weights).unwrap(), &image, &PlanOptions::new());
    (config, weights, image, logits)
}

#[test]
fn the_order_of_filters_does_not_change_a_bit() {
    for net in [MobileNet::V1, MobileNet::V2] {
        let (config, weights, image, logits) = sample(net);
        let check = |weights: &Weights<'_>, what: &str| {
            let got = run(&net.network(&config, weights).unwrap(), &image, &PlanOptions::new());
            assert_same(&got, &logits, &format!("{net:?}, {what}"));
        };
        let is_filter = |shape: &[usize]| shape.len() == 4;
        let squeezed = changed(&weights, WeightOrder::Hwio, |name, shape, values| {
            let shape = match *shape {
                [1, 1, i, o] => vec![i, o],
                [h, w, c, 1] => vec![h, w, c],
                _ => shape.to_vec(),
            };
            vec![(name.into(), shape, values.to_vec())]
        });
        check(&squeezed, "[i, o] and [h, w, c]");
        for squeeze in [false, true] {
            let oihw = changed(&weights, WeightOrder::Oihw, |name, shape, values| {
                if !is_filter(shape) {
                    return vec![(name.into(), shape.to_vec(), values.to_vec())];
                }
                let [h, w, i, o] = shape.try_into().unwrap();
                if name.ends_with("depthwise.weight") {
                    // [h, w, c, 1] holds what [h, w, 1, c] does
                    return vec![(name.into(), vec![i, 1, h, w], to_oihw(&[h, w, 1, i], values))];
                }
                let to = if squeeze && h == 1 { vec![o, i] } else { vec![o, i, h, w] };
                vec![(name.into(), to, to_oihw(shape, values))]
            });
            check(&oihw, if squeeze { "[o, i]" } else { "[o, i, h, w]" });
        }
    }
}

#[test]
fn a_batch_norm_is_folded_into_the_layer_before_it() {
    let epsilon = 1e-3;
    for net in [MobileNet::V1, MobileNet::V2] {
        let (config, weights, image, _) = sample(net);
        // with gamma and beta, and a bias or none before; then without them
        for (learnt, biased) in [(true, false), (true, true), (false, false)] {
            let mut rng = Rng(17);
            let (mut folded, mut separate) = (Weights::new(WeightOrder::Hwio), Weights::new(WeightOrder::Hwio));
            for layer in net.architecture(&config).unwrap().convolutions() {
                let part = |part: &str| format!("{}.{part}", layer.name);
                let (weight, bias) = (part("weight"), part("bias"));
                let shape = weights.tensors().find(|(name, _)| *name == weight).unwrap().1;
                let (w, b) = (weights.values(&weight).unwrap(), weights.values(&bias).unwrap());
                separate.insert(&weight, shape, w.to_vec()).unwrap();
                if layer.name == "head" {
                    folded.insert(weight, shape, w.to_vec()).unwrap();
                    folded.insert(&bias, &[layer.outputs], b.to_vec()).unwrap();
                    separate.insert(bias, &[layer.outputs], b.to_vec()).unwrap();
                    continue;
                }
                let mut vector = |from: f32, to: f32| -> Vec<f32> {
                    let values = rng.values(layer.outputs, ValueKind::Plain);
                    values.into_iter().map(|v| from + (to - from) * (v / 2.0 + 0.5).clamp(0.0, 1.0)).collect()
                };
                let (gamma, beta, mean, variance) =
                    (vector(0.5, 1.5), vector(-0.1, 0.1), vector(-0.2, 0.2), vector(0.3, 1.5));
                for (name, values, is_there) in [
                    ("gamma", &gamma, learnt),
                    ("beta", &beta, learnt),
                    ("mean", &mean, true),
                    ("variance", &variance, true),
                    ("bias", &b.to_vec(), biased),
                ] {
                    if is_there {
                        separate.insert(part(name), &[layer.outputs], values.clone()).unwrap();
                    }
                }
                let scale: Vec<f64> = (0..layer.outputs)
                    .map(|o| {
                        let gamma = if learnt { f64::from(gamma[o]) } else { 1.0 };
                        gamma / (f64::from(variance[o]) + epsilon).sqrt()
                    })
                    .collect();
                let outputs = layer.outputs;
                let w: Vec<f32> =
                    w.iter().enumerate().map(|(i, &w)| (f64::from(w) * scale[i % outputs]) as f32).collect();
                let b: Vec<f32> = (0..outputs)
                    .map(|o| {
                        let before = if biased { f64::from(b[o]) } else { 0.0 };
                        let beta = if learnt { f64::from(beta[o]) } else { 0.0 };
                        ((before - f64::from(mean[o])) * scale[o] + beta) as f32
                    })
                    .collect();
                folded.insert(weight, shape, w).unwrap();
                folded.insert(bias, &[outputs], b).unwrap();
            }
            let run = |weights| {
                run(&net.network(&config.clone().epsilon(epsilon), weights).unwrap(), &image, &PlanOptions::new())
            };
            assert_same(&run(&separate), &run(&folded), &format!("{net:?}, learnt: {learnt}, biased: {biased}"));
            // and epsilon is no ornament
            let other = net.network(&config.clone().epsilon(0.5), &separate).unwrap();
            assert_ne!(self::run(&other, &image, &PlanOptions::new()), run(&folded));
        }
    }
}

/// The values in a file's bytes, and what they are as `f32` by the crate half.
fn narrowed(dtype: Dtype, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let each = |v: f32| match dtype {
        Dtype::F32 => (v.to_le_bytes().to_vec(), v),
        Dtype::F16 => (half::f16::from_f32(v).to_le_bytes().to_vec(), half::f16::from_f32(v).to_f32()),
        Dtype::BF16 => (half::bf16::from_f32(v).to_le_bytes().to_vec(), half::bf16::from_f32(v).to_f32()),
        _ => panic!("{dtype} is no float of a file"),
    };
    let (bytes, wide): (Vec<_>, _) = values.iter().map(|&v| each(v)).unzip();
    (bytes.concat(), wide)
}

/// The weights as a file whose tensors are of these types in turn, and the same values as `f32`.
fn narrowed_file(weights: &Weights<'_>, dtypes: &[Dtype]) -> (Vec<u8>, Weights<'static>) {
    let mut wide = Weights::new(weights.order());
    let mut tensors = Vec::new();
    for ((name, shape), &dtype) in weights.tensors().zip(dtypes.iter().cycle()) {
        let (bytes, values) = narrowed(dtype, &weights.values(name).unwrap());
        wide.insert(name, shape, values).unwrap();
        tensors.push((name, dtype, shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    (safetensors::serialize(views, None).unwrap(), wide)
}

#[test]
fn a_file_of_16_bit_floats_gives_the_bits_of_the_same_values_widened_first() {
    use Dtype::{BF16, F16, F32};
    for net in [MobileNet::V1, MobileNet::V2] {
        let (config, weights, image, logits) = sample(net);
        for dtypes in [&[F32][..], &[F16], &[BF16], &[F32, F16, BF16], &[BF16, F16]] {
            let (file, wide) = narrowed_file(&weights, dtypes);
            let narrow = Weights::from_safetensors(&file, WeightOrder::Hwio).unwrap();
            let logits_of = |weights| run(&net.network(&config, weights).unwrap(), &image, &PlanOptions::new());
            assert_same(&logits_of(&narrow), &logits_of(&wide), &format!("{net:?}, {dtypes:?}"));
            assert_eq!(logits_of(&narrow) == logits, dtypes == [F32], "{net:?}, {dtypes:?}: 16 bits keep less");
        }
    }
}

/// Every value of 16 bits, subnormal numbers, infinities and NaN among them.
#[test]
fn every_16_bit_float_of_a_file_is_read_as_itself() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let view = TensorView::new(dtype, vec![1 << 16], &bytes).unwrap();
        let file = safetensors::serialize([("all", view)], None).unwrap();
        let weights = Weights::from_safetensors(&file, WeightOrder::Oihw).unwrap();
        let got = weights.values("all").unwrap();
        assert_eq!(got.len(), 1 << 16);
        for (bits, &got) in (0..=u16::MAX).zip(&*got) {
            let expected = match dtype {
                Dtype::F16 => half::f16::from_bits(bits).to_f32(),
                _ => half::bf16::from_bits(bits).to_f32(),
            };
            assert!(same_bits(got, expected), "{dtype} {bits:#06x}: expected {expected:e}, got {got:e}");
        }
    }
}

#[test]
fn a_file_gives_the_bits_that_went_into_it_at_any_alignment() {
    for net in [MobileNet::V1, MobileNet::V2] {
        let (config, weights, image, logits) = sample(net);
        let (file, _) = narrowed_file(&weights, &[Dtype::F32]);
        for offset in 0..4 {
            let mut memory = vec![0; offset];
            memory.extend(&file);
            let weights = Weights::from_safetensors(&memory[offset..], WeightOrder::Hwio).unwrap();
            assert_eq!(weights.order(), WeightOrder::Hwio);
            let got = run(&net.network(&config, &weights).unwrap(), &image, &PlanOptions::new());
            assert_same(&got, &logits, &format!("{net:?} at offset {offset}"));
        }
    }
}

#[test]
fn seeded_weights_are_the_same_everywhere_and_keep_activations_in_range() {
    let config = Config::new();
    for net in [MobileNet::V1, MobileNet::V2] {
        let architecture = net.architecture(&config).unwrap();
        let weights = Weights::seeded(&architecture, 1).unwrap();
        // the first values of a generator that is written down: SplitMix64 from seed ^ FNV-1a of the name
        let stem = weights.values("stem.weight").unwrap();
        assert_eq!(stem[..3], [0.3862617, -0.2637236, 0.09175178], "{net:?}");
        let other = Weights::seeded(&architecture, 2).unwrap();
        assert_ne!(stem, other.values("stem.weight").unwrap());

        let without = config.clone().output(ModelOutput::Features);
        let image = DenseTensor::random(&mut Rng(8), Shape::new(1, 96, 96, 3), ValueKind::Plain);
        let features = run(&net.network(&without, &weights).unwrap(), &image, &PlanOptions::new());
        let mean = features.data.iter().sum::<f32>() / features.data.len() as f32;
        let bound = features.data.iter().filter(|&&v| v >= 6.0).count();
        assert!((0.05..2.0).contains(&mean), "{net:?}: features are {mean} on average");
        assert!(bound < features.data.len() / 20, "{net:?}: {bound} features meet the bound");
    }
}

#[test]
fn options_out_of_range_are_errors() {
    let of = |config: Config| [MobileNet::V1, MobileNet::V2].map(|net| net.architecture(&config).map(|a| a.outputs()));
    for alpha in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9, 1025.0] {
        for result in of(Config::new().alpha(alpha)) {
            assert!(matches!(&result, Err(Error::Value { what, .. }) if what.contains("alpha")), "{alpha}: {result:?}");
        }
    }
    for classes in [0, Config::MAX_CLASSES + 1, usize::MAX] {
        for result in of(Config::new().classes(classes)) {
            assert!(matches!(&result, Err(Error::Value { what, .. }) if what == "classes"), "{classes}: {result:?}");
        }
    }
    for epsilon in [f64::NAN, f64::INFINITY, -1e-3] {
        for result in of(Config::new().epsilon(epsilon)) {
            assert!(
                matches!(&result, Err(Error::Value { what, .. }) if what.contains("epsilon")),
                "{epsilon}: {result:?}"
            );
        }
    }
    let nan = Activation::Clamp { min: f32::NAN, max: 1.0 };
    for activation in [nan, Activation::Clamp { min: 1.0, max: 0.5 }] {
        for result in of(Config::new().activation(activation)) {
            assert!(matches!(&result, Err(Error::Value { what, .. }) if what == "activation"), "{result:?}");
        }
    }
    // the number of classes is not used without logits
    for output in [ModelOutput::Features, ModelOutput::FeatureMap] {
        assert_eq!(of(Config::new().classes(0).output(output)), [Ok(1024), Ok(1280)]);
    }
    assert_eq!(of(Config::new().alpha(Config::MAX_ALPHA).classes(Config::MAX_CLASSES)), [Ok(1 << 24), Ok(1 << 24)]);
}

#[test]
fn an_image_of_another_depth_is_an_error() {
    let (config, weights, ..) = sample(MobileNet::V2);
    let network = MobileNet::V2.network(&config, &weights).unwrap();
    assert!(network.plan(Shape::new(1, 40, 40, 4), &PlanOptions::new()).is_err());
    assert!(network.plan(Shape::new(1, 0, 40, 3), &PlanOptions::new()).is_err());
    assert_eq!(network.output_shape(Shape::new(2, 300, 7, 3)).unwrap(), Shape::new(2, 1, 1, 7));
    let plan = network.plan(Shape::new(1, 40, 40, 3), &PlanOptions::new()).unwrap();
    let (image, mut logits) = (vec![0.0; 40 * 40 * 3], vec![9.0; 7]);
    let wrong = View::new(&image, Shape::new(1, 40, 39, 3)).unwrap();
    let output = ViewMut::new(&mut logits, Shape::new(1, 1, 1, 7)).unwrap();
    assert!(plan.run(wrong, output, &mut plan.scratch().unwrap()).is_err());
    assert_eq!(logits, [9.0; 7], "nothing is written");
}
