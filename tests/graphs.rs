//! Graphs of layers: every output equals a naive interpreter, bit for bit, on every instruction set, by every schedule, on one thread and on
//! several; and the steps are those of the blocks that a graph holds.

use sepconv::models::{Config, MobileNetV1, MobileNetV2, Weights};
use sepconv::{
    Activation, ChannelActivation, ConvDesc, Error, Filter, Fusion, InvertedResidual, InvertedResidualDesc, Network,
    Padding, PlanOptions, Schedule, Shape, Shortcut, View, ViewMut, WindowPoolDesc,
};
use sepconv_example_graphs::{Interpreter, NamedTensors, pyramid, resnet18};
use sepconv_test_support::graphs::{GraphCase, GraphOp, check_graph, check_network, graphs};
use sepconv_test_support::{
    DenseTensor, Rng, Runs, SCHEDULES, ValueKind, assert_required_levels, for_each_case, limits, runs,
};

#[test]
fn graphs_equal_the_interpreter() {
    for_each_case(200, &(graphs(9), runs()), |(case, runs)| check_graph(&case, &SCHEDULES[..2], runs));
    assert_required_levels();
}

/// What the builder makes of a ResNet-18 of so many channels behind the stem.
fn resnet18_network(base: usize) -> Network {
    let mut graph = Network::builder();
    resnet18(&mut graph, &NamedTensors::Seeded, base).unwrap();
    graph.build().unwrap()
}

/// What the builder makes of a MobileNetV2 of a width with a pyramid of so many channels.
fn pyramid_network(alpha: f64, channels: usize) -> Network {
    let mut graph = Network::builder();
    pyramid(&mut graph, &NamedTensors::Seeded, alpha, channels).unwrap();
    graph.build().unwrap()
}

const IMAGE: Shape = Shape::new(1, 64, 64, 3);

#[test]
fn backbones_equal_the_interpreter() {
    let image = DenseTensor::random(&mut Rng(1), IMAGE, ValueKind::Plain);
    let check = |name: &str, network: &Network, describe: &dyn Fn(&mut Interpreter)| {
        let expected = |arithmetic| {
            let mut interpreter = Interpreter::new(vec![image.clone()], arithmetic);
            describe(&mut interpreter);
            interpreter.outputs()
        };
        let inputs = std::slice::from_ref(&image);
        check_network(&name, network, inputs, expected, &SCHEDULES[..2], Runs::on(3)).unwrap();
    };
    let tensors = NamedTensors::Seeded;
    check("resnet18", &resnet18_network(8), &|graph| resnet18(graph, &tensors, 8).unwrap());
    check("pyramid", &pyramid_network(0.35, 16), &|graph| pyramid(graph, &tensors, 0.35, 16).unwrap());
}

#[test]
fn a_sum_that_ends_by_channel_is_a_residual() {
    let (weights, slopes) = ([0.1; 24 * 24], core::array::from_fn::<f32, 24, _>(|i| i as f32 / 8.0 - 1.0));
    let prelu = ChannelActivation::PRelu { slopes: &slopes };
    let conv = ConvDesc::new(Filter::io(&weights, [24, 24]));
    let shape = Shape::new(1, 5, 6, 24);
    for (desc, fused) in
        [(conv, true), (conv.activation(Activation::Relu), false), (conv.activation_by_channel(prelu), false)]
    {
        let mut graph = Network::builder();
        let x = graph.input(24);
        let y = graph.conv(x, desc).unwrap();
        let sum = graph.add_by_channel(y, x, prelu).unwrap();
        graph.output(sum);
        let plan = graph.build().unwrap().plan(shape, &PlanOptions::new()).unwrap();
        let explain = plan.explain();
        let last = explain.stages.last().unwrap();
        assert_eq!((explain.stages.len() == 1, last.shortcut), (fused, fused), "{explain}");
        assert_eq!(last.activations, ["PReLU"], "{explain}");
        assert!(explain.to_string().contains("; PReLU"), "{explain}");
    }
}

#[test]
fn a_sum_behind_an_activation_is_a_residual() {
    let plan = pyramid_network(0.35, 16).plan(IMAGE, &PlanOptions::new()).unwrap();
    let stages = plan.explain().stages;
    // ten blocks with a shortcut, and three laterals of ReLU and then a sum
    assert_eq!(stages.iter().filter(|stage| stage.shortcut).count(), 10 + 3);
    assert!(stages.iter().all(|stage| stage.name != "add"));
}

#[test]
fn sums_of_a_resnet_are_residuals() {
    let plan = resnet18_network(8).plan(IMAGE, &PlanOptions::new()).unwrap();
    let stages = plan.explain().stages;
    assert_eq!(stages.iter().filter(|stage| stage.shortcut).count(), 8);
    // the stem, a pool, two convolutions a block, three shortcuts, the mean and the classes
    assert_eq!(stages.len(), 2 + 16 + 3 + 2);
}

/// No way to place tensors takes less than those that are alive at one step, so nothing that a search finds is smaller.
#[test]
fn arenas_are_as_small_as_can_be() {
    let config = Config::new();
    let weights = |architecture| Weights::seeded(&architecture, 1).unwrap();
    let networks = [
        ("V1", MobileNetV1::network(&config, &weights(MobileNetV1::architecture(&config).unwrap())).unwrap()),
        ("V2", MobileNetV2::network(&config, &weights(MobileNetV2::architecture(&config).unwrap())).unwrap()),
        ("ResNet-18", resnet18_network(64)),
        ("pyramid", pyramid_network(1.0, 64)),
    ];
    for (name, network) in networks {
        for fusion in SCHEDULES {
            for threads in [1, 2, 8] {
                let options = PlanOptions::new().fusion(fusion).threads(sepconv_test_support::threads(threads));
                let Ok(plan) = network.plan(Shape::new(1, 224, 224, 3), &options.max_threads(8)) else { continue };
                let explain = plan.explain();
                let (bytes, least) = (explain.arena_bytes, explain.arena_least_bytes);
                assert!(bytes as f64 <= least as f64 * 1.05, "{name}, {fusion:?}, {threads}: {bytes} of {least}");
            }
        }
    }
}

#[test]
fn drawn_graphs_take_every_way() {
    let rng = &mut Rng(5);
    let mut ways = std::collections::BTreeMap::new();
    for _ in 0..300 {
        let case = GraphCase::draw(rng, 9);
        let plan = case.network().unwrap().plan_all(&case.inputs, &PlanOptions::new()).unwrap();
        let explain = plan.explain();
        let mut count = |way: &'static str, times: usize| *ways.entry(way).or_insert(0) += times;
        count("axes swapped", usize::from(explain.axes_swapped));
        count("several inputs", usize::from(case.inputs.len() > 1));
        count("several outputs", usize::from(case.outputs.len() > 1));
        let concatenated = case.ops.iter().filter_map(|op| match op {
            GraphOp::Concat { values } => Some(values.len()),
            _ => None,
        });
        let copies =
            explain.stages.iter().filter(|stage| stage.why.starts_with("a tensor of the caller's, or one")).count();
        count("concatenated in place", concatenated.sum::<usize>().saturating_sub(copies));
        for stage in &explain.stages {
            count(stage.name, 1);
            count("a sum as a residual", usize::from(stage.shortcut && stage.name != "add"));
        }
    }
    let expected = [
        "add",
        "scale",
        "copy",
        "resize",
        "max pool",
        "average pool of windows",
        "average pool",
        "axes swapped",
        "several inputs",
        "several outputs",
        "concatenated in place",
        "a sum as a residual",
        "convolution",
        "pointwise",
        "depthwise",
        "depthwise → pointwise",
        "pointwise → depthwise → pointwise",
    ];
    for way in expected {
        let times = ways.get(way).copied().unwrap_or_default();
        assert!(times >= 5, "{way}: {times} times, of {ways:?}");
    }
}

#[test]
fn large_graphs_equal_the_interpreter() {
    for_each_case(24, &(graphs(30), runs()), |(case, runs)| check_graph(&case, &SCHEDULES[..1], runs));
}

#[test]
fn graphs_equal_the_interpreter_by_all_thresholds() {
    for_each_case(100, &(graphs(9), runs(), limits()), |(case, runs, limits)| {
        check_graph(&case, &SCHEDULES, Runs { limits, ..runs })
    });
}

/// What a builder makes of these values, run once.
fn outputs(network: &Network, input: &[f32], shape: Shape) -> Vec<Vec<f32>> {
    let plan = network.plan(shape, &PlanOptions::new()).unwrap();
    let mut memory: Vec<Vec<f32>> =
        plan.output_shapes().iter().map(|shape| vec![f32::NAN; shape.len().unwrap()]).collect();
    let mut views: Vec<ViewMut<'_>> = memory
        .iter_mut()
        .zip(plan.output_shapes())
        .map(|(memory, &shape)| ViewMut::new(memory, shape).unwrap())
        .collect();
    plan.run_all(&[View::new(input, shape).unwrap()], &mut views, &mut plan.scratch().unwrap()).unwrap();
    memory
}

/// MobileNetV2's block of 8 channels, as three convolutions and a sum.
struct V2Block {
    expand: Vec<f32>,
    depthwise: Vec<f32>,
    project: Vec<f32>,
}

impl V2Block {
    fn new() -> V2Block {
        let rng = &mut Rng(3);
        let mut values = |len| (0..len).map(|_| rng.float()).collect();
        V2Block { expand: values(8 * 48), depthwise: values(9 * 48), project: values(48 * 8) }
    }

    fn descs(&self) -> [ConvDesc<'_>; 3] {
        [
            ConvDesc::new(Filter::io(&self.expand, [8, 48])).activation(Activation::Relu6),
            ConvDesc::new(Filter::depthwise_hwc(&self.depthwise, [3, 3, 48])).activation(Activation::Relu6),
            ConvDesc::new(Filter::io(&self.project, [48, 8])),
        ]
    }

    fn by_convolutions(&self) -> Network {
        let mut graph = Network::builder();
        let x = graph.input(8);
        let y = self.descs().into_iter().fold(x, |y, desc| graph.conv(y, desc).unwrap());
        let sum = graph.add(x, y, Activation::Linear).unwrap();
        graph.output(sum);
        graph.build().unwrap()
    }

    fn by_block(&self) -> Network {
        let [expand, depthwise, project] = self.descs();
        let desc = InvertedResidualDesc::new(depthwise, project).expand(expand).shortcut(Shortcut::Required);
        Network::new(vec![InvertedResidual::new(desc).unwrap().into()]).unwrap()
    }
}

#[test]
fn convolutions_and_sums_are_planned_as_blocks() {
    let block = V2Block::new();
    let (by_convs, by_block) = (block.by_convolutions(), block.by_block());
    for side in [3, 14, 40] {
        let shape = Shape::new(1, side, side, 8);
        for fusion in SCHEDULES {
            let options = PlanOptions::new().fusion(fusion);
            let [a, b] = [&by_convs, &by_block].map(|network| network.plan(shape, &options).unwrap());
            // but for the reason why a stage is alone: single layers describe no block
            let steps = |plan: &sepconv::Plan| {
                let mut explain = plan.explain();
                explain.stages.iter_mut().for_each(|stage| stage.why.clear());
                explain.to_string()
            };
            assert_eq!(steps(&a), steps(&b), "{side} {fusion:?}");
            assert_eq!(a.scratch_bytes(), b.scratch_bytes());
        }
    }
}

#[test]
fn a_concatenation_is_written_in_place() {
    let weights = [0.5; 16 * 32];
    let mut graph = Network::builder();
    let x = graph.input(16);
    let conv = |outputs| ConvDesc::new(Filter::io(&weights[..16 * outputs], [16, outputs]));
    // whole blocks of channels, and parts of them
    for outputs in [[16, 32], [5, 3]] {
        let parts = outputs.map(|outputs| graph.conv(x, conv(outputs)).unwrap());
        let whole = graph.concat(&parts).unwrap();
        let pooled = graph.window_pool(whole, WindowPoolDesc::max([2, 2])).unwrap();
        graph.output(pooled);
    }
    let plan = graph.build().unwrap().plan(Shape::new(1, 6, 6, 16), &PlanOptions::new()).unwrap();
    let names: Vec<&str> = plan.explain().stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["pointwise", "pointwise", "max pool", "pointwise", "pointwise", "max pool"]);
}

/// How many of these tensors are outputs of the whole.
fn outputs_among(made: &[Vec<f32>], whole: &[Vec<f32>]) -> usize {
    made.iter().filter(|made| whole.contains(made)).count()
}

/// Both parts of a graph, run one after the other, make what the whole makes.
#[test]
fn parts_of_a_graph_make_the_whole() {
    let network = pyramid_network(0.35, 16);
    let layers = network.layers().len();
    let shape = IMAGE;
    let input = DenseTensor::random(&mut Rng(1), shape, ValueKind::Plain).data;
    let whole = outputs(&network, &input, shape);
    for at in [1, 7, 20, layers - 1] {
        let [first, second] = [network.cut(0..at).unwrap(), network.cut(at..layers).unwrap()];
        assert_eq!((first.inputs(), second.inputs() > 0), (1, true));
        let middle = outputs(&first, &input, shape);
        // outputs of the first part that are outputs of the whole are no inputs of the second
        let shapes = first.output_shapes(&[shape]).unwrap();
        let passed: Vec<usize> = (0..shapes.len()).filter(|&i| !whole.contains(&middle[i])).collect();
        assert_eq!(passed.len(), second.inputs(), "{at}");
        let shapes: Vec<Shape> = passed.iter().map(|&i| shapes[i]).collect();
        let views: Vec<View<'_>> =
            passed.iter().zip(&shapes).map(|(&i, &shape)| View::new(&middle[i], shape).unwrap()).collect();
        let plan = second.plan_all(&shapes, &PlanOptions::new()).unwrap();
        let mut rest: Vec<Vec<f32>> =
            plan.output_shapes().iter().map(|shape| vec![f32::NAN; shape.len().unwrap()]).collect();
        let mut to: Vec<ViewMut<'_>> = (rest.iter_mut().zip(plan.output_shapes()))
            .map(|(rest, &shape)| ViewMut::new(rest, shape).unwrap())
            .collect();
        plan.run_all(&views, &mut to, &mut plan.scratch().unwrap()).unwrap();
        assert!(rest.iter().all(|made| whole.contains(made)), "{at}");
        assert_eq!(rest.len() + outputs_among(&middle, &whole), whole.len(), "{at}");
    }
    for wrong in [0..0, 3..3, 0..layers + 1, layers..layers + 2] {
        assert!(matches!(network.cut(wrong), Err(Error::Part { axis: "layers", .. })));
    }
}

#[test]
fn errors_name_the_layer() {
    let weights = [1.0; 8];
    let mut graph = Network::builder();
    let x = graph.input(2);
    let desc = ConvDesc::new(Filter::io(&weights, [4, 2]));
    assert_eq!(
        graph.conv(x, desc).unwrap_err().to_string(),
        "layer 0 (pointwise convolution): input: expected 4 channels, got 2"
    );
    let y = graph.conv(x, ConvDesc::new(Filter::io(&weights, [2, 4]))).unwrap();
    assert_eq!(
        graph.add(x, y, Activation::Linear).unwrap_err().to_string(),
        "layer 1 (sum): input: expected 2 channels, got 4"
    );
    assert!(matches!(graph.concat(&[]), Err(Error::Layer { index: 1, .. })));
    let bounds = Activation::Clamp { min: 1.0, max: 0.0 };
    assert!(matches!(graph.add(x, x, bounds), Err(Error::Value { .. })));
    // a value of another builder
    let mut other = Network::builder();
    let foreign = other.input(2);
    assert!(matches!(graph.conv(foreign, ConvDesc::new(Filter::io(&weights, [2, 4]))), Err(Error::Network(_))));
    other.output(y);
    assert!(matches!(other.build(), Err(Error::Network(_))));
    // nothing reads `y`
    graph.output(x);
    assert_eq!(
        graph.build().unwrap_err().to_string(),
        "network: layer 0 (pointwise convolution): nothing reads what it computes, and it is no output"
    );
    let mut graph = Network::builder();
    let (x, _) = (graph.input(2), graph.input(3));
    graph.output(x);
    assert_eq!(graph.build().unwrap_err().to_string(), "network: input 1: nothing reads it");
    assert!(Network::builder().build().is_err());
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut graph = Network::builder();
    let (x, y) = (graph.input(2), graph.input(2));
    let sum = graph.add(x, y, Activation::Linear).unwrap();
    let pooled = graph.window_pool(sum, WindowPoolDesc::max([2, 2]).padding(Padding::all(1))).unwrap();
    graph.output(pooled);
    let network = graph.build().unwrap();
    let plan = |shapes: &[Shape]| network.plan_all(shapes, &PlanOptions::new());
    let shape = Shape::new(1, 4, 4, 2);
    assert!(plan(&[shape, shape]).is_ok());
    assert!(plan(&[shape, Shape::new(1, 1, 1, 2)]).is_ok());
    assert!(matches!(plan(&[shape]), Err(Error::Count { what: "input", expected: 2, got: 1, .. })));
    assert!(matches!(plan(&[shape, Shape { n: 2, ..shape }]), Err(Error::ShapeMismatch { what: "batch", .. })));
    assert!(matches!(plan(&[shape, Shape { h: 5, ..shape }]), Err(Error::Layer { index: 0, .. })));
    assert!(matches!(plan(&[Shape { c: 3, ..shape }; 2]), Err(Error::Channels { expected: 2, got: 3, .. })));
    assert!(matches!(network.plan(shape, &PlanOptions::new()), Err(Error::Count { .. })));
    // a window of padding alone
    let mut graph = Network::builder();
    let x = graph.input(2);
    let pooled = graph.window_pool(x, WindowPoolDesc::average([2, 2]).stride(1).padding(Padding::all(2))).unwrap();
    graph.output(pooled);
    assert!(matches!(graph.build().unwrap().plan(shape, &PlanOptions::new()), Err(Error::Layer { .. })));
}

#[test]
fn wrong_views_are_errors() {
    let mut graph = Network::builder();
    let x = graph.input(2);
    let twice = graph.add(x, x, Activation::Linear).unwrap();
    graph.output(twice);
    graph.output(x);
    let network = graph.build().unwrap();
    let shape = Shape::new(1, 2, 2, 2);
    let plan = network.plan(shape, &PlanOptions::new()).unwrap();
    let input = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let results = outputs(&network, &input, shape);
    assert_eq!(results[0], input.map(|v| v * 2.0));
    assert_eq!(results[1], input);
    let view = View::new(&input, shape).unwrap();
    let (mut one, mut other) = ([0.0; 8], [0.0; 8]);
    let scratch = &mut plan.scratch().unwrap();
    let count = plan.run_all(&[view], &mut [ViewMut::new(&mut one, shape).unwrap()], scratch).unwrap_err();
    assert_eq!(count.to_string(), "outputs: expected 2, got 1");
    let result = plan.run(view, ViewMut::new(&mut one, shape).unwrap(), scratch);
    assert!(matches!(result, Err(Error::Count { .. })));
    let wrong = Shape::new(1, 2, 1, 2);
    let views = &mut [ViewMut::new(&mut one, shape).unwrap(), ViewMut::new(&mut other[..4], wrong).unwrap()];
    assert!(matches!(plan.run_all(&[view], views, scratch), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(plan.run_all(&[view, view], views, scratch), Err(Error::Count { .. })));
    assert_eq!((one, other), ([0.0; 8], [0.0; 8]), "written before an error");
}

#[test]
fn a_network_of_no_layers_copies_its_input() {
    let mut graph = Network::builder();
    let x = graph.input(1);
    graph.output(x);
    graph.output(x);
    let network = graph.build().unwrap();
    assert_eq!(outputs(&network, &[1.0, 2.0, 3.0], Shape::new(1, 1, 3, 1)), [[1.0, 2.0, 3.0]; 2]);
    // too much scratch for a row that is transposed, and no layer to blame
    let options = PlanOptions::new().layout(sepconv::Layout::Nchw);
    assert!(matches!(network.plan(Shape::new(1, 1, 1 << 24, 1), &options), Err(Error::Scratch { .. })));
}

/// A skip of many channels is not kept for a sum that comes much later: the convolution that narrows it runs early.
#[test]
fn a_convolution_does_not_wait_for_a_sum_that_is_far() {
    let (narrow, first, keep) = ([0.1; 256 * 16], [0.1; 3 * 256], [0.1; 16 * 16]);
    for (layers, waits) in [(2, true), (20, false)] {
        let mut graph = Network::builder();
        let x = graph.input(3);
        let wide = graph.conv(x, ConvDesc::new(Filter::io(&first, [3, 256]))).unwrap();
        let skip = graph.conv(wide, ConvDesc::new(Filter::io(&narrow, [256, 16]))).unwrap();
        let mut y = graph.conv(x, ConvDesc::new(Filter::io(&first[..48], [3, 16]))).unwrap();
        for _ in 0..layers {
            y = graph.conv(y, ConvDesc::new(Filter::io(&keep, [16, 16]))).unwrap();
        }
        // no convolution takes the sum there
        let y = graph.resize(y, [1, 1]).unwrap();
        let sum = graph.add(y, skip, Activation::Linear).unwrap();
        graph.output(sum);
        let plan = graph.build().unwrap().plan(Shape::new(1, 8, 8, 3), &PlanOptions::new()).unwrap();
        let explain = plan.explain();
        assert_eq!(explain.stages.iter().any(|stage| stage.shortcut), waits, "{explain}");
        assert_eq!(explain.stages.iter().any(|stage| stage.name == "add"), !waits, "{explain}");
    }
}

#[test]
fn networks_of_many_layers_are_planned() {
    let keep = [0.01; 16 * 16];
    let mut graph = Network::builder();
    let mut x = graph.input(16);
    let conv = sepconv::PointwiseConv2d::new(ConvDesc::new(Filter::io(&keep, [16, 16]))).unwrap();
    let mut kept = vec![];
    for layer in 0..3000 {
        x = graph.layer(x, conv.clone()).unwrap();
        if layer % 100 == 0 {
            kept.push(x);
        }
    }
    for &value in &kept {
        x = graph.add(x, value, Activation::Relu).unwrap();
    }
    graph.output(x);
    let plan = graph.build().unwrap().plan(Shape::new(1, 2, 2, 16), &PlanOptions::new()).unwrap();
    assert!(plan.explain().stages.len() > 2000);
    // tensors that no memory holds
    let mut graph = Network::builder();
    let x = graph.input(1);
    let large: Vec<_> = (0..9).map(|_| graph.resize(x, [1, 1]).unwrap()).collect();
    let sum = large.iter().skip(1).fold(large[0], |sum, &y| graph.add(sum, y, Activation::Linear).unwrap());
    let mean = graph.global_average_pool(sum).unwrap();
    graph.output(mean);
    let shape = Shape::new(1, 1 << 30, 1 << 29, 1);
    assert!(graph.build().unwrap().plan(shape, &PlanOptions::new()).is_err());
}

#[test]
fn a_batch_of_no_images_has_empty_outputs() {
    let case = GraphCase {
        inputs: vec![Shape::new(0, 3, 3, 2)],
        ops: vec![GraphOp::Add { x: 0, y: 0, activation: Activation::Linear.into(), seed: 0 }],
        outputs: vec![1, 0],
        seed: 0,
    };
    let plan = case.network().unwrap().plan(case.inputs[0], &PlanOptions::new()).unwrap();
    assert_eq!(plan.output_shapes(), [case.inputs[0]; 2]);
    let views = &mut [0, 1].map(|_| ViewMut::new(&mut [], case.inputs[0]).unwrap());
    plan.run_all(&[View::new(&[], case.inputs[0]).unwrap()], views, &mut plan.scratch().unwrap()).unwrap();
}

#[test]
fn single_layers_fuse_by_a_schedule_that_is_asked_for() {
    let network = V2Block::new().by_convolutions();
    let options = PlanOptions::new().fusion(Fusion::Require(Schedule::RowRing));
    let plan = network.plan(Shape::new(1, 9, 9, 8), &options).unwrap();
    assert_eq!(plan.explain().stages.len(), 1);
}
