//! Graphs through C: the same bits as the same graph in Rust, and an error for each value, count and tensor that is wrong.

use sepconv_test_support::DenseTensor;
use sepconv_test_support::graphs::{GraphCase, GraphOp, graphs};
use sepconv_test_support::naive::PooledAs;

use super::*;

type Graph = Owned<sepconv_graph>;
type Network = Owned<sepconv_network>;

fn new_graph() -> Graph {
    // SAFETY: a place for a handle.
    make(sepconv_graph_free, |graph| unsafe { sepconv_graph_new(graph) }).unwrap()
}

/// What a function adds to a graph. One that fails must leave the out-parameter as it was.
fn value(add: impl FnOnce(*mut sepconv_value) -> sepconv_status) -> Result<sepconv_value, Failed> {
    let mut value = 0x5ea0;
    let result = done(add(&mut value));
    assert_eq!(result.is_err(), value == 0x5ea0, "{result:?}");
    result.map(|()| value)
}

fn input(graph: &Graph, channels: usize) -> sepconv_value {
    // SAFETY: a graph that lives.
    value(|v| unsafe { sepconv_graph_input(graph.handle, channels, v) }).unwrap()
}

fn layer(graph: &Graph, x: sepconv_value, operator: &Operator) -> Result<sepconv_value, Failed> {
    // SAFETY: a graph and an operator that live.
    value(|v| unsafe { sepconv_graph_operator(graph.handle, x, operator.handle, v) })
}

fn add(graph: &Graph, x: sepconv_value, y: sepconv_value) -> Result<sepconv_value, Failed> {
    let linear = sepconv_activation::Linear as i32;
    // SAFETY: a graph that lives.
    value(|v| unsafe { sepconv_graph_add(graph.handle, x, y, linear, 0.0, 0.0, 0.0, v) })
}

fn concat(graph: &Graph, values: &[sepconv_value]) -> Result<sepconv_value, Failed> {
    // SAFETY: a graph that lives, and a slice.
    value(|v| unsafe { sepconv_graph_concat(graph.handle, values.as_ptr(), values.len(), v) })
}

fn output(graph: &Graph, value: sepconv_value) -> Result<(), Failed> {
    // SAFETY: a graph that lives.
    done(unsafe { sepconv_graph_output(graph.handle, value) })
}

fn build(graph: &Graph) -> Result<Network, Failed> {
    // SAFETY: a graph that lives.
    make(sepconv_network_free, |network| unsafe { sepconv_graph_build(graph.handle, network) })
}

fn plan_all(network: &Network, shapes: &[sepconv_shape], options: &sepconv_plan_options) -> Result<Plan, Failed> {
    // SAFETY: a network and options that live, and a slice.
    make(sepconv_plan_free, |plan| unsafe {
        sepconv_network_plan_all(network.handle, shapes.as_ptr(), shapes.len(), options, plan)
    })
}

fn window_pool() -> sepconv_window_pool_desc {
    let mut desc = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which but padding are written.
    unsafe {
        done(sepconv_window_pool_desc_init(desc.as_mut_ptr(), size_of::<sepconv_window_pool_desc>())).unwrap();
        desc.assume_init()
    }
}

/// A maximum of 2×2.
fn maximum() -> sepconv_window_pool_desc {
    let kind = sepconv_window_pool_kind::Maximum as i32;
    sepconv_window_pool_desc { kind, kernel_h: 2, kernel_w: 2, ..window_pool() }
}

fn window_pool_operator(desc: &sepconv_window_pool_desc) -> Result<Operator, Failed> {
    // SAFETY: a description.
    make(sepconv_operator_free, |op| unsafe { sepconv_window_pool_new(desc, op) })
}

fn resize(factors: [usize; 2]) -> Result<Operator, Failed> {
    // SAFETY: numbers.
    make(sepconv_operator_free, |op| unsafe { sepconv_resize_new(factors[0], factors[1], op) })
}

fn mean(channels: usize) -> Operator {
    // SAFETY: a number.
    make(sepconv_operator_free, |op| unsafe { sepconv_global_average_pool_new(channels, op) }).unwrap()
}

/// Two inputs of 4 channels; outputs are their sum, and the means of the sum.
fn two_of_each() -> Network {
    let graph = new_graph();
    let (x, y) = (input(&graph, 4), input(&graph, 4));
    let sum = add(&graph, x, y).unwrap();
    let means = layer(&graph, sum, &mean(4)).unwrap();
    output(&graph, sum).unwrap();
    output(&graph, means).unwrap();
    build(&graph).unwrap()
}

/// The layer of a drawn graph, added through C.
fn add_op(graph: &Graph, op: &GraphOp, values: &[sepconv_value], shapes: &[Shape]) -> sepconv_value {
    let read = op.reads();
    let (x, c) = (values[read[0]], shapes[read[0]].c);
    let [weights, bias] = op.weights(c);
    let (activation, params) = (op.activation(), op.params(op.shape(shapes).c));
    let by_channel = activation.by_channel(&params);
    let conv = |order: sepconv_filter_order, [kernel_h, kernel_w]: [usize; 2], stride, outputs| {
        let (activation, [clamp_min, clamp_max], leaky_slope) = activation_code(activation.alike());
        let mut desc = sepconv_conv_desc {
            filter: weights.as_ptr(),
            filter_len: weights.len(),
            filter_order: order as i32,
            kernel_h,
            kernel_w,
            stride_h: stride,
            stride_w: stride,
            input_channels: c,
            output_channels: outputs,
            bias: bias.as_ptr(),
            bias_len: bias.len(),
            activation,
            clamp_min,
            clamp_max,
            leaky_slope,
            ..conv_desc()
        };
        set_by_channel(&mut desc, by_channel);
        desc
    };
    let of = |new: NewOfOne, desc: sepconv_conv_desc| layer(graph, x, &operator(new, &desc).unwrap());
    let (hwio, hwoi) = (sepconv_filter_order::Hwio, sepconv_filter_order::Hwoi);
    let added = match *op {
        GraphOp::Conv { kernel, stride, outputs, .. } => of(sepconv_conv2d_new, conv(hwio, kernel, stride, outputs)),
        GraphOp::Depthwise { kernel, stride, multiplier, .. } => {
            let order = sepconv_filter_order::DepthwiseHwcm;
            of(sepconv_depthwise_conv2d_new, conv(order, kernel, stride, c * multiplier))
        }
        GraphOp::Grouped { kernel, stride, groups, outputs, .. } => {
            let desc = conv(hwio, kernel, stride, groups * outputs);
            of(sepconv_conv2d_new, sepconv_conv_desc { groups, ..desc })
        }
        GraphOp::Transposed { kernel: [kh, kw], outputs, .. } => {
            let desc = conv(hwoi, [kh, kw], kh, outputs);
            of(sepconv_transposed_conv2d_new, sepconv_conv_desc { stride_w: kw, ..desc })
        }
        GraphOp::Mean { .. } => layer(graph, x, &mean(c)),
        GraphOp::Add { y, .. } => {
            let (y, graph) = (values[y], graph.handle);
            match by_channel {
                Some(ChannelActivation::PRelu { slopes }) => {
                    let (slopes, channels) = (slopes.as_ptr(), slopes.len());
                    // SAFETY: a graph that lives, and so many slopes.
                    value(|v| unsafe { sepconv_graph_add_prelu(graph, x, y, slopes, channels, v) })
                }
                Some(ChannelActivation::Clamp { min, max }) => {
                    let (min, max, channels) = (min.as_ptr(), max.as_ptr(), min.len());
                    // SAFETY: a graph that lives, and so many bounds.
                    value(|v| unsafe { sepconv_graph_add_channel_clamp(graph, x, y, min, max, channels, v) })
                }
                _ => {
                    let (code, bounds, slope) = activation_code(activation.alike());
                    let is_clamp = matches!(activation.alike(), Activation::Clamp { .. });
                    let [min, max] = if is_clamp { bounds } else { [0.0; 2] };
                    let slope = if slope.is_nan() { 0.0 } else { slope };
                    // SAFETY: a graph that lives.
                    value(|v| unsafe { sepconv_graph_add(graph, x, y, code, min, max, slope, v) })
                }
            }
        }
        // SAFETY: as above.
        GraphOp::Scale { y, .. } => value(|v| unsafe { sepconv_graph_scale(graph.handle, x, values[y], v) }),
        GraphOp::Concat { .. } => concat(graph, &read.iter().map(|&read| values[read]).collect::<Vec<_>>()),
        GraphOp::Pool { kernel, stride, padding, of, .. } => {
            let (kind, count_padding) = match of {
                PooledAs::Maximum => (sepconv_window_pool_kind::Maximum, 0),
                PooledAs::Mean => (sepconv_window_pool_kind::Average, 0),
                PooledAs::MeanOfAll => (sepconv_window_pool_kind::Average, 1),
            };
            let desc = sepconv_window_pool_desc {
                kind: kind as i32,
                kernel_h: kernel[0],
                kernel_w: kernel[1],
                stride_h: stride,
                stride_w: stride,
                padding: sepconv_padding::Explicit as i32,
                pad_top: padding[0],
                pad_bottom: padding[0],
                pad_left: padding[1],
                pad_right: padding[1],
                count_padding,
                ..window_pool()
            };
            // SAFETY: a graph that lives, and a description.
            value(|v| unsafe { sepconv_graph_window_pool(graph.handle, x, &desc, v) })
        }
        GraphOp::Resize { factors: [rows, columns], .. } => {
            // SAFETY: a graph that lives.
            value(|v| unsafe { sepconv_graph_resize(graph.handle, x, rows, columns, v) })
        }
    };
    added.unwrap()
}

/// The code of an activation, and the bounds and the slope that a description has with it.
fn activation_code(activation: Activation) -> (i32, [f32; 2], f32) {
    let (mut bounds, mut slope) = ([f32::NEG_INFINITY, f32::INFINITY], f32::NAN);
    let code = match activation {
        Activation::Linear => sepconv_activation::Linear,
        Activation::Relu => sepconv_activation::Relu,
        Activation::Relu6 => sepconv_activation::Relu6,
        Activation::Clamp { min, max } => {
            bounds = [min, max];
            sepconv_activation::Clamp
        }
        Activation::HardSwish => sepconv_activation::HardSwish,
        Activation::HardSigmoid => sepconv_activation::HardSigmoid,
        Activation::Silu => sepconv_activation::Silu,
        Activation::Sigmoid => sepconv_activation::Sigmoid,
        Activation::Tanh => sepconv_activation::Tanh,
        Activation::Gelu => sepconv_activation::Gelu,
        Activation::LeakyRelu { slope: drawn } => {
            slope = drawn;
            sepconv_activation::LeakyRelu
        }
        other => panic!("an activation that no graph draws: {other:?}"),
    };
    (code as i32, bounds, slope)
}

/// How [`run_all`] runs.
#[derive(Clone, Copy, Debug)]
enum RoomOfRun<'a> {
    Scratch,
    ScratchOn(&'a sepconv_plan_options),
    Memory,
    MemoryOn(&'a sepconv_plan_options),
}

/// Runs a plan with these tensors.
fn run_all(plan: &Plan, from: &[sepconv_input], to: &[sepconv_output], room: RoomOfRun<'_>) -> Result<(), Failed> {
    let inputs: Vec<_> = from.iter().map(|input| &raw const *input).collect();
    let outputs: Vec<_> = to.iter().map(|output| &raw const *output).collect();
    let (i, o, p) = (inputs.as_ptr(), outputs.as_ptr(), plan.handle);
    let mut bytes = 0;
    // SAFETY: a plan that lives, memory of this function's, and what the caller described.
    done(unsafe {
        done(sepconv_plan_scratch_bytes(p, &mut bytes)).unwrap();
        let mut memory = vec![0xffu8; bytes + SEPCONV_SCRATCH_ALIGNMENT - 1];
        let (first, bytes) = (memory.as_mut_ptr().cast(), memory.len());
        match room {
            RoomOfRun::Scratch => sepconv_plan_run_all(p, i, from.len(), o, to.len(), scratch(plan).handle),
            RoomOfRun::ScratchOn(options) => {
                sepconv_plan_run_all_on(p, options, i, from.len(), o, to.len(), scratch(plan).handle)
            }
            RoomOfRun::Memory => sepconv_plan_run_all_in(p, null(), i, from.len(), o, to.len(), first, bytes),
            RoomOfRun::MemoryOn(options) => {
                sepconv_plan_run_all_in(p, options, i, from.len(), o, to.len(), first, bytes)
            }
        }
    })
}

/// The shapes of a plan's inputs or outputs, by all the functions that tell them.
fn shapes_of(plan: &Plan, of_inputs: bool) -> Vec<sepconv_shape> {
    let (mut count, mut first) = (0, OUTPUT);
    // SAFETY: a plan that lives, and places for the answers.
    unsafe {
        if of_inputs {
            done(sepconv_plan_input_count(plan.handle, &mut count)).unwrap();
            done(sepconv_plan_input_shape(plan.handle, &mut first)).unwrap();
        } else {
            done(sepconv_plan_output_count(plan.handle, &mut count)).unwrap();
            done(sepconv_plan_output_shape(plan.handle, &mut first)).unwrap();
        }
    }
    let at = if of_inputs { sepconv_plan_input_shape_at } else { sepconv_plan_output_shape_at };
    let shapes: Vec<_> = (0..count)
        .map(|index| {
            let mut shape = OUTPUT;
            // SAFETY: as above.
            done(unsafe { at(plan.handle, index, &mut shape) }).unwrap();
            shape
        })
        .collect();
    assert_eq!(shapes[0], first);
    for index in [count, usize::MAX] {
        let mut shape = OUTPUT;
        // SAFETY: as above.
        assert_eq!(unsafe { at(plan.handle, index, &mut shape) }, sepconv_status::Value);
        assert_eq!(
            last_error(),
            format!("index: expected an index below the number of tensors, got {index} of {count}")
        );
        assert_eq!(shape, OUTPUT);
    }
    shapes
}

fn equals_rust(case: &GraphCase, threads: usize, layout: Layout) {
    let inputs: Vec<DenseTensor> = case.input_tensors();
    let options = sepconv::PlanOptions::new().layout(layout).threads(sepconv_test_support::threads(threads));
    let rust = case.network().unwrap().plan_all(&case.inputs, &options).unwrap();
    let strides = |shape: Shape| Strides::dense(layout, shape);
    let views: Vec<_> = (inputs.iter())
        .map(|input| View::with_strides(&input.data, input.shape, strides(input.shape)).unwrap())
        .collect();
    let mut expected: Vec<Vec<f32>> = rust.output_shapes().iter().map(|s| vec![CANARY; s.len().unwrap()]).collect();
    let mut to: Vec<_> = (expected.iter_mut().zip(rust.output_shapes()))
        .map(|(out, &shape)| ViewMut::with_strides(out, shape, strides(shape)).unwrap())
        .collect();
    rust.run_all(&views, &mut to, &mut rust.scratch().unwrap()).unwrap();

    let (graph, shapes) = (new_graph(), case.shapes());
    let mut values: Vec<_> = case.inputs.iter().map(|shape| input(&graph, shape.c)).collect();
    for op in &case.ops {
        values.push(add_op(&graph, op, &values, &shapes));
    }
    case.outputs.iter().for_each(|&value| output(&graph, values[value]).unwrap());
    let network = build(&graph).unwrap();
    drop(graph);

    let shapes: Vec<_> = case.inputs.iter().map(|&s| shape(s)).collect();
    let made: Vec<_> = rust.output_shapes().iter().map(|&s| shape(s)).collect();
    let (mut counts, mut told) = ([0; 2], vec![INPUT; made.len()]);
    // SAFETY: a network that lives, slices, and a number.
    let pool = unsafe {
        done(sepconv_network_input_count(network.handle, &mut counts[0])).unwrap();
        done(sepconv_network_output_count(network.handle, &mut counts[1])).unwrap();
        let (from, to) = (shapes.as_ptr(), told.as_mut_ptr());
        done(sepconv_network_output_shapes(network.handle, from, shapes.len(), to, made.len())).unwrap();
        make(sepconv_pool_free, |pool| sepconv_pool_new(threads, pool)).unwrap()
    };
    assert_eq!((counts, &told), ([shapes.len(), made.len()], &made));
    let layout = layout_code(layout);
    let serial = sepconv_plan_options { input_layout: layout, output_layout: layout, ..plan_options() };
    let of_pool = sepconv_plan_options { threads: sepconv_threads::Pool as i32, pool: pool.handle, ..serial };
    let plan = plan_all(&network, &shapes, if threads == 1 { &serial } else { &of_pool }).unwrap();
    assert_eq!((shapes_of(&plan, true), shapes_of(&plan, false)), (shapes, made));
    let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
    for room in [RoomOfRun::Scratch, RoomOfRun::ScratchOn(&serial), RoomOfRun::Memory, RoomOfRun::MemoryOn(&serial)] {
        let mut got: Vec<Vec<f32>> = expected.iter().map(|out| vec![CANARY; out.len()]).collect();
        let from: Vec<_> = (inputs.iter())
            .map(|input| sepconv_input { layout, ..input_at(input.data.as_ptr(), input.data.len()) })
            .collect();
        let to: Vec<_> =
            (got.iter_mut()).map(|out| sepconv_output { layout, ..output_at(out.as_mut_ptr(), out.len()) }).collect();
        run_all(&plan, &from, &to, room).unwrap();
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(bits(got), bits(expected), "output {i}, {room:?}\n{case:?}");
        }
    }
}

#[test]
fn graphs_have_the_bits_of_rust() {
    let layout = prop_oneof![Just(Layout::Nhwc), Just(Layout::Nchw)];
    for_each_case(96, &(graphs(9), 1..=2usize, layout), |(case, threads, layout)| {
        equals_rust(&case, threads, layout);
        Ok(())
    });
}

#[test]
fn null_is_told_by_graphs() {
    let (graph, network, operator) = (new_graph(), two_of_each(), mean(4));
    let x = input(&graph, 4);
    let (pool, transposed) = (maximum(), conv_desc());
    let plan = plan_all(&network, &[INPUT; 2], &plan_options()).unwrap();
    let scratch = scratch(&plan);
    let (values, mut written) = ([1.0; INPUT_LEN], [[CANARY; INPUT_LEN], [CANARY; INPUT_LEN]]);
    let from = input_at(values.as_ptr(), INPUT_LEN);
    let to = written.each_mut().map(|out| output_at(out.as_mut_ptr(), INPUT_LEN));
    let nowhere = (input_at(null(), INPUT_LEN), output_at(null_mut(), INPUT_LEN));
    let (f, to) = (&raw const from, to.each_ref().map(|to| &raw const *to));
    let (inputs, hole, at_null) = ([f, f], [f, null()], [f, &raw const nowhere.0]);
    let (to_hole, to_null) = ([to[0], null()], [to[0], &raw const nowhere.1]);
    let (i, o) = (inputs.as_ptr(), to.as_ptr());
    let (mut added, mut net, mut planned, mut op, mut count) = (7, null_mut(), null_mut(), null_mut(), 9);
    let v = &raw mut added;
    let (mut shape, mut memory) = (OUTPUT, vec![0u8; 1 << 16]);
    let shape = &raw mut shape;
    let (g, n, p, s) = (graph.handle, network.handle.cast_const(), plan.handle.cast_const(), scratch.handle);
    let (room, bytes) = (memory.as_mut_ptr().cast::<c_void>(), memory.len());
    let no_pool = sepconv_plan_options { threads: sepconv_threads::Pool as i32, ..plan_options() };
    // SAFETY: what is not NULL is what it should be.
    unsafe {
        assert_null_is_told! {
            "graph": sepconv_graph_new(null_mut()),
            "graph": sepconv_graph_input(null_mut(), 4, v),
            "value": sepconv_graph_input(g, 4, null_mut()),
            "graph": sepconv_graph_operator(null_mut(), x, operator.handle, v),
            "op": sepconv_graph_operator(g, x, null(), v),
            "value": sepconv_graph_operator(g, x, operator.handle, null_mut()),
            "graph": sepconv_graph_add(null_mut(), x, x, 0, 0.0, 0.0, 0.0, v),
            "value": sepconv_graph_add(g, x, x, 0, 0.0, 0.0, 0.0, null_mut()),
            "graph": sepconv_graph_add_prelu(null_mut(), x, x, TAPS.as_ptr(), 4, v),
            "slopes": sepconv_graph_add_prelu(g, x, x, null(), 4, v),
            "value": sepconv_graph_add_prelu(g, x, x, TAPS.as_ptr(), 4, null_mut()),
            "graph": sepconv_graph_add_channel_clamp(null_mut(), x, x, TAPS.as_ptr(), TAPS.as_ptr(), 4, v),
            "min": sepconv_graph_add_channel_clamp(g, x, x, null(), TAPS.as_ptr(), 4, v),
            "max": sepconv_graph_add_channel_clamp(g, x, x, TAPS.as_ptr(), null(), 4, v),
            "value": sepconv_graph_add_channel_clamp(g, x, x, TAPS.as_ptr(), TAPS.as_ptr(), 4, null_mut()),
            "graph": sepconv_graph_scale(null_mut(), x, x, v),
            "value": sepconv_graph_scale(g, x, x, null_mut()),
            "graph": sepconv_graph_concat(null_mut(), &x, 1, v),
            "values": sepconv_graph_concat(g, null(), 1, v),
            "values": sepconv_graph_concat(g, null(), 0, v),
            "value": sepconv_graph_concat(g, &x, 1, null_mut()),
            "graph": sepconv_graph_window_pool(null_mut(), x, &pool, v),
            "desc": sepconv_graph_window_pool(g, x, null(), v),
            "value": sepconv_graph_window_pool(g, x, &pool, null_mut()),
            "graph": sepconv_graph_resize(null_mut(), x, 2, 2, v),
            "value": sepconv_graph_resize(g, x, 2, 2, null_mut()),
            "graph": sepconv_graph_output(null_mut(), x),
            "graph": sepconv_graph_build(null_mut(), &mut net),
            "network": sepconv_graph_build(g, null_mut()),
            "desc": sepconv_window_pool_desc_init(null_mut(), size_of::<sepconv_window_pool_desc>()),
            "desc": sepconv_window_pool_new(null(), &mut op),
            "op": sepconv_window_pool_new(&pool, null_mut()),
            "op": sepconv_resize_new(2, 2, null_mut()),
            "desc": sepconv_transposed_conv2d_new(null(), &mut op),
            "op": sepconv_transposed_conv2d_new(&transposed, null_mut()),
            "network": sepconv_network_layer_count(null(), &mut count),
            "count": sepconv_network_layer_count(n, null_mut()),
            "network": sepconv_network_input_count(null(), &mut count),
            "count": sepconv_network_input_count(n, null_mut()),
            "network": sepconv_network_output_count(null(), &mut count),
            "count": sepconv_network_output_count(n, null_mut()),
            "network": sepconv_network_output_shapes(null(), [INPUT; 2].as_ptr(), 2, shape, 1),
            "inputs": sepconv_network_output_shapes(n, null(), 2, shape, 1),
            "outputs": sepconv_network_output_shapes(n, [INPUT; 2].as_ptr(), 2, null_mut(), 2),
            "network": sepconv_network_plan_all(null(), [INPUT; 2].as_ptr(), 2, null(), &mut planned),
            "inputs": sepconv_network_plan_all(n, null(), 2, null(), &mut planned),
            "options.pool": sepconv_network_plan_all(n, [INPUT; 2].as_ptr(), 2, &no_pool, &mut planned),
            "plan": sepconv_network_plan_all(n, [INPUT; 2].as_ptr(), 2, null(), null_mut()),
            "plan": sepconv_plan_input_count(null(), &mut count),
            "count": sepconv_plan_input_count(p, null_mut()),
            "plan": sepconv_plan_output_count(null(), &mut count),
            "count": sepconv_plan_output_count(p, null_mut()),
            "plan": sepconv_plan_input_shape_at(null(), 0, shape),
            "shape": sepconv_plan_input_shape_at(p, 0, null_mut()),
            "plan": sepconv_plan_output_shape_at(null(), 0, shape),
            "shape": sepconv_plan_output_shape_at(p, 0, null_mut()),
            "plan": sepconv_plan_run_all(null(), i, 2, o, 2, s),
            "inputs": sepconv_plan_run_all(p, null(), 2, o, 2, s),
            "inputs[1]": sepconv_plan_run_all(p, hole.as_ptr(), 2, o, 2, s),
            "inputs[1].data": sepconv_plan_run_all(p, at_null.as_ptr(), 2, o, 2, s),
            "outputs": sepconv_plan_run_all(p, i, 2, null(), 2, s),
            "outputs[1]": sepconv_plan_run_all(p, i, 2, to_hole.as_ptr(), 2, s),
            "outputs[1].data": sepconv_plan_run_all(p, i, 2, to_null.as_ptr(), 2, s),
            "scratch": sepconv_plan_run_all(p, i, 2, o, 2, null_mut()),
            "options": sepconv_plan_run_all_on(p, null(), i, 2, o, 2, s),
            "options.pool": sepconv_plan_run_all_on(p, &no_pool, i, 2, o, 2, s),
            "plan": sepconv_plan_run_all_in(null(), null(), i, 2, o, 2, room, bytes),
            "options.pool": sepconv_plan_run_all_in(p, &no_pool, i, 2, o, 2, room, bytes),
            "memory": sepconv_plan_run_all_in(p, null(), i, 2, o, 2, null_mut(), 1),
        }
        sepconv_graph_free(null_mut());
        // nothing was written
        assert_eq!((v.read(), shape.read()), (7, OUTPUT));
    }
    assert_eq!((net, planned, op, count), (null_mut(), null_mut(), null_mut(), 9));
    assert!(written.iter().flatten().all(|&v| is_canary(v)));
    // and nothing was added: the one input is all that is there
    output(&graph, x).unwrap();
    build(&graph).unwrap();
}

#[test]
fn values_that_are_none_are_told() {
    let (graph, other, operator) = (new_graph(), new_graph(), mean(4));
    let x = input(&graph, 4);
    let (_, foreign) = (input(&other, 4), input(&other, 4));
    let (g, pool) = (graph.handle, maximum());
    let mut added = 7;
    let v = &raw mut added;
    for none in [0, 1, foreign, x + 1, x - 1, x ^ (1 << 32), u64::MAX] {
        let refused = |name: &str, status: sepconv_status| {
            assert_eq!(status, sepconv_status::Network);
            assert_eq!(last_error(), format!("{name}: {none} is no value of this graph"));
        };
        // SAFETY: handles that live, and places for values.
        unsafe {
            refused("x", sepconv_graph_operator(g, none, operator.handle, v));
            refused("x", sepconv_graph_add(g, none, x, 0, 0.0, 0.0, 0.0, v));
            refused("y", sepconv_graph_add(g, x, none, 0, 0.0, 0.0, 0.0, v));
            refused("x", sepconv_graph_scale(g, none, x, v));
            refused("y", sepconv_graph_scale(g, x, none, v));
            refused("values[2]", sepconv_graph_concat(g, [x, x, none].as_ptr(), 3, v));
            refused("x", sepconv_graph_window_pool(g, none, &pool, v));
            refused("x", sepconv_graph_resize(g, none, 2, 2, v));
            refused("value", sepconv_graph_output(g, none));
        }
    }
    // SAFETY: a place for a value.
    assert_eq!(unsafe { v.read() }, 7);
    // the graph is as it was
    output(&graph, x).unwrap();
    build(&graph).unwrap();
}

#[test]
fn misaligned_pointers_of_graphs_are_told() {
    use sepconv_status::MisalignedPointer;
    let graph = new_graph();
    let x = input(&graph, 4);
    let mut memory = [7u64; 2];
    let askew = memory.as_mut_ptr().cast::<u8>().wrapping_add(4).cast::<sepconv_value>();
    let g = graph.handle;
    // SAFETY: misaligned pointers are not followed, the others are what they should be.
    unsafe {
        assert_eq!(sepconv_graph_input(g, 4, askew), MisalignedPointer);
        assert_eq!(last_error(), "value: expected an address that is a multiple of 8");
        assert_eq!(sepconv_graph_concat(g, askew, 1, memory.as_mut_ptr()), MisalignedPointer);
        assert_eq!(sepconv_graph_output(g.cast::<u8>().wrapping_add(1).cast(), x), MisalignedPointer);
        assert_eq!(sepconv_graph_concat(g, &x, usize::MAX, memory.as_mut_ptr()), sepconv_status::Length);
    }
    assert_eq!(memory, [7; 2]);
}

/// Functions of a graph fail when the graph was built, and also when that failed.
#[test]
fn a_graph_is_built_once() {
    for ends in [true, false] {
        let (graph, operator, pool) = (new_graph(), mean(4), maximum());
        let x = input(&graph, 4);
        if ends {
            output(&graph, x).unwrap();
            build(&graph).unwrap();
        } else {
            let (status, text) = build(&graph).unwrap_err();
            let expected = "network: expected at least one input and one output";
            assert_eq!((status, text.as_str()), (sepconv_status::Network, expected));
        }
        let (g, mut added) = (graph.handle, 7);
        let v = &raw mut added;
        // SAFETY: handles that live, and places for values.
        let all = unsafe {
            [
                sepconv_graph_input(g, 4, v),
                sepconv_graph_operator(g, x, operator.handle, v),
                sepconv_graph_add(g, x, x, 0, 0.0, 0.0, 0.0, v),
                sepconv_graph_add_prelu(g, x, x, TAPS.as_ptr(), 4, v),
                sepconv_graph_add_channel_clamp(g, x, x, TAPS.as_ptr(), TAPS.as_ptr(), 4, v),
                sepconv_graph_scale(g, x, x, v),
                sepconv_graph_concat(g, &x, 1, v),
                sepconv_graph_window_pool(g, x, &pool, v),
                sepconv_graph_resize(g, x, 2, 2, v),
                sepconv_graph_output(g, x),
            ]
        };
        assert_eq!(all, [sepconv_status::Network; 10]);
        assert_eq!(status(build(&graph)), sepconv_status::Network);
        assert!(last_error().starts_with("graph: it was built already"), "{}", last_error());
        // SAFETY: a place for a value.
        assert_eq!(unsafe { v.read() }, 7);
    }
}

#[test]
fn graphs_that_are_wrong_are_told() {
    use sepconv_status as Status;
    let graph = new_graph();
    let (x, y) = (input(&graph, 4), input(&graph, 5));
    let g = graph.handle;
    let sum = |code: i32, min: f32, max: f32| {
        // SAFETY: a graph that lives.
        status(value(|v| unsafe { sepconv_graph_add(g, x, x, code, min, max, 0.0, v) }))
    };
    assert_eq!(status(add(&graph, x, y)), Status::Channels);
    assert_eq!(last_error(), "layer 0 (sum): input: expected 4 channels, got 5");
    assert_eq!(sum(99, 0.0, 0.0), Status::UnknownCode);
    assert_eq!(last_error(), "activation: 99 is no value of sepconv_activation");
    assert_eq!(sum(-1, 0.0, 0.0), Status::UnknownCode);
    let (linear, clamp) = (sepconv_activation::Linear as i32, sepconv_activation::Clamp as i32);
    assert_eq!(sum(linear, 0.0, 6.0), Status::Value, "bounds that would not count");
    assert_eq!(sum(linear, f32::NAN, 0.0), Status::Value);
    assert_eq!(sum(clamp, 1.0, 0.0), Status::Value);
    assert_eq!(sum(clamp, f32::NAN, 0.0), Status::Value);
    assert_eq!(status(layer(&graph, y, &mean(4))), Status::Channels);
    for code in [sepconv_activation::Prelu, sepconv_activation::ChannelClamp] {
        assert_eq!(sum(code as i32, 0.0, 0.0), Status::Value, "values for each channel that are not there");
        assert!(last_error().contains("sepconv_graph_add_prelu"), "{}", last_error());
    }
    let (taps, nan) = (TAPS.as_ptr(), NANS.as_ptr());
    // SAFETY: a graph that lives, and so many values.
    unsafe {
        for channels in [3, 5] {
            assert_eq!(status(value(|v| sepconv_graph_add_prelu(g, x, x, taps, channels, v))), Status::Channels);
            let clamp = value(|v| sepconv_graph_add_channel_clamp(g, x, x, taps, taps, channels, v));
            assert_eq!(status(clamp), Status::Channels);
        }
        assert_eq!(status(value(|v| sepconv_graph_add_prelu(g, x, x, taps, 0, v))), Status::Value);
        assert_eq!(status(value(|v| sepconv_graph_add_prelu(g, x, x, taps, usize::MAX, v))), Status::Length);
        assert_eq!(status(value(|v| sepconv_graph_add_prelu(g, x, x, nan, 4, v))), Status::Value);
        assert_eq!(status(value(|v| sepconv_graph_add_channel_clamp(g, x, x, nan, taps, 4, v))), Status::Value);
        assert_eq!(status(value(|v| sepconv_graph_add_channel_clamp(g, x, x, taps, nan, 4, v))), Status::Value);
    }
    // SAFETY: a graph that lives.
    unsafe {
        assert_eq!(status(value(|v| sepconv_graph_scale(g, y, x, v))), Status::Channels);
        assert_eq!(status(value(|v| sepconv_graph_resize(g, x, 0, 2, v))), Status::Size);
        assert_eq!(status(value(|v| sepconv_graph_resize(g, x, 2, 0, v))), Status::Size);
        assert_eq!(status(value(|v| sepconv_graph_window_pool(g, x, &window_pool(), v))), Status::UnknownCode);
    }
    assert_eq!(status(concat(&graph, &[])), Status::Network);
    // what nothing reads
    output(&graph, x).unwrap();
    assert_eq!(status(build(&graph)), Status::Network);
    assert_eq!(last_error(), "network: input 1: nothing reads it");
}

#[test]
fn window_pools_and_resizing_are_checked() {
    use sepconv_status as Status;
    let refused = |desc: sepconv_window_pool_desc| status(window_pool_operator(&desc));
    let max = maximum();
    let average = sepconv_window_pool_desc { kind: sepconv_window_pool_kind::Average as i32, ..max };
    for code in [-1, 0, 3, i32::MIN, i32::MAX] {
        assert_eq!(refused(sepconv_window_pool_desc { kind: code, ..max }), Status::UnknownCode);
        assert_eq!(last_error(), format!("desc.kind: {code} is no value of sepconv_window_pool_kind"));
    }
    assert_eq!(refused(sepconv_window_pool_desc { padding: 3, ..max }), Status::UnknownCode);
    assert_eq!(refused(sepconv_window_pool_desc { kernel_h: 0, ..max }), Status::Size);
    assert_eq!(refused(sepconv_window_pool_desc { kernel_w: usize::MAX, ..max }), Status::Size);
    assert_eq!(refused(sepconv_window_pool_desc { stride_w: usize::MAX, ..max }), Status::Size);
    assert_eq!(refused(sepconv_window_pool_desc { pad_left: 1, ..max }), Status::Value);
    assert_eq!(refused(sepconv_window_pool_desc { count_padding: 1, ..max }), Status::Value);
    let whole = size_of::<sepconv_window_pool_desc>();
    for struct_size in [0, 8, whole - 8, whole - 1, whole + 1, usize::MAX] {
        assert_eq!(refused(sepconv_window_pool_desc { struct_size, ..max }), Status::StructSize, "{struct_size}");
    }
    assert!(window_pool_operator(&sepconv_window_pool_desc { count_padding: 1, ..average }).is_ok());
    assert_eq!(status(resize([0, 1])), Status::Size);

    // alone, and in a list; a stride of 0 is that of a window, and any number of channels will do
    let (pool, twice) = (window_pool_operator(&max).unwrap(), resize([2, 3]).unwrap());
    let shape = sepconv_shape { n: 1, h: 2, w: 4, c: 1 };
    let values = [1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 7.0, 6.0];
    let alone = plan(&pool, shape, null()).unwrap();
    let mut got = [CANARY; 2];
    run(&alone, (&values, 0), (&mut got, 0), &scratch(&alone)).unwrap();
    assert_eq!(got, [5.0, 7.0]);
    let operators = [pool.handle.cast_const(), twice.handle.cast_const()];
    // SAFETY: operators that live.
    let both = unsafe {
        let network = make(sepconv_network_free, |n| sepconv_network_new(operators.as_ptr(), 2, n)).unwrap();
        make(sepconv_plan_free, |p| sepconv_network_plan(network.handle, shape, null(), p)).unwrap()
    };
    let mut got = [CANARY; 12];
    run(&both, (&values, 0), (&mut got, 0), &scratch(&both)).unwrap();
    assert_eq!(got, [5.0, 5.0, 5.0, 7.0, 7.0, 7.0, 5.0, 5.0, 5.0, 7.0, 7.0, 7.0]);
    let odd = sepconv_shape { h: 1, ..shape };
    assert_eq!(status(plan(&pool, odd, null())), Status::Size);
}

/// The same weights in every order of a standard convolution, in groups and transposed.
#[test]
fn filters_of_every_order_are_the_same() {
    let orders = [
        (sepconv_filter_order::Hwio, [0, 1, 2, 3]),
        (sepconv_filter_order::Oihw, [3, 2, 0, 1]),
        (sepconv_filter_order::Ohwi, [3, 0, 1, 2]),
        (sepconv_filter_order::Hwoi, [0, 1, 3, 2]),
        (sepconv_filter_order::Iohw, [2, 3, 0, 1]),
    ];
    let shape = sepconv_shape { n: 1, h: 3, w: 4, c: 6 };
    let rng = &mut Rng(8);
    let input = rng.values(3 * 4 * 6, ValueKind::Plain);
    for (new, groups) in
        [(sepconv_conv2d_new as NewOfOne, 0), (sepconv_conv2d_new, 3), (sepconv_transposed_conv2d_new, 1)]
    {
        // HWIO
        let sizes: [usize; 4] = [2, 2, 6 / groups.max(1), 9];
        let hwio = rng.values(sizes.iter().product(), ValueKind::Plain);
        let made = |(order, axes): (sepconv_filter_order, [usize; 4])| {
            let mut filter = vec![0.0; hwio.len()];
            for (at, &weight) in hwio.iter().enumerate() {
                let index = [at / (sizes[3] * sizes[2] * 2), at / (sizes[3] * sizes[2]) % 2, at / 9 % sizes[2], at % 9];
                let place = axes.iter().fold(0, |place, &axis| place * sizes[axis] + index[axis]);
                filter[place] = weight;
            }
            let desc = sepconv_conv_desc {
                filter: filter.as_ptr(),
                filter_len: filter.len(),
                filter_order: order as i32,
                kernel_h: 2,
                kernel_w: 2,
                stride_h: 2,
                stride_w: 2,
                input_channels: 6,
                output_channels: 9,
                groups,
                ..conv_desc()
            };
            let plan = plan(&operator(new, &desc).unwrap(), shape, null()).unwrap();
            let made = shapes_of(&plan, false)[0];
            let mut output = vec![CANARY; made.h * made.w * made.c];
            run(&plan, (&input, 0), (&mut output, 0), &scratch(&plan)).unwrap();
            output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let [first, others @ ..] = orders.map(made);
        assert!(others.iter().all(|other| *other == first), "{groups} groups");
    }
}

#[test]
fn groups_and_transposed_convolutions_are_checked() {
    use sepconv_status as Status;
    let weights = [0.5; 2 * 2 * 2 * 6];
    let desc = sepconv_conv_desc {
        filter: weights.as_ptr(),
        filter_len: weights.len(),
        filter_order: sepconv_filter_order::Hwio as i32,
        kernel_h: 2,
        kernel_w: 2,
        input_channels: 4,
        output_channels: 6,
        groups: 2,
        ..conv_desc()
    };
    let refused = |new: NewOfOne, desc: sepconv_conv_desc| status(operator(new, &desc));
    assert!(operator(sepconv_conv2d_new, &desc).is_ok());
    assert_eq!(refused(sepconv_conv2d_new, sepconv_conv_desc { groups: 3, ..desc }), Status::Value);
    assert_eq!(last_error(), "desc.groups: expected a number that divides the input channels, got 3 of 4");
    assert_eq!(refused(sepconv_conv2d_new, sepconv_conv_desc { groups: usize::MAX, ..desc }), Status::Value);
    assert_eq!(refused(sepconv_conv2d_new, sepconv_conv_desc { groups: 1, ..desc }), Status::Length);
    // 4 groups of 6 outputs
    let four = sepconv_conv_desc { groups: 4, filter_len: 24, ..desc };
    assert_eq!(refused(sepconv_conv2d_new, four), Status::Value);
    assert_eq!(
        refused(sepconv_depthwise_conv2d_new, sepconv_conv_desc { groups: 4, ..depthwise(&TAPS) }),
        Status::Value
    );
    let pointwise = sepconv_conv_desc { groups: 2, filter_len: 10, ..pointwise(&MATRIX) };
    for new in [sepconv_pointwise_conv2d_new as NewOfOne, sepconv_dense_new] {
        assert_eq!(refused(new, pointwise), Status::Value);
        assert!(last_error().contains("groups"), "{}", last_error());
    }

    let transposed = sepconv_conv_desc { groups: 0, input_channels: 2, stride_h: 2, stride_w: 2, ..desc };
    let new = sepconv_transposed_conv2d_new;
    assert!(operator(new, &transposed).is_ok());
    assert_eq!(refused(new, sepconv_conv_desc { stride_h: 1, ..transposed }), Status::Value);
    assert_eq!(refused(new, sepconv_conv_desc { dilation_h: 2, ..transposed }), Status::Value);
    assert_eq!(refused(new, sepconv_conv_desc { groups: 2, input_channels: 4, ..transposed }), Status::Value);
    let padded = sepconv_conv_desc { padding: sepconv_padding::Explicit as i32, pad_top: 1, ..transposed };
    assert_eq!(refused(new, padded), Status::Value);
    let depthwise_order = sepconv_filter_order::DepthwiseHwcm as i32;
    let depthwise = sepconv_conv_desc { filter_order: depthwise_order, filter_len: 24, ..transposed };
    assert_eq!(refused(new, depthwise), Status::FilterOrder);
}

#[test]
fn counts_that_are_wrong_are_told() {
    use sepconv_status as Status;
    let (network, options) = (two_of_each(), plan_options());
    let n = network.handle;
    let other_batch = sepconv_shape { n: 2, ..INPUT };
    let other_channels = sepconv_shape { c: 5, ..INPUT };
    let refused = |shapes: &[sepconv_shape]| status(plan_all(&network, shapes, &options));
    for count in [0, 1, 3] {
        assert_eq!(refused(&[INPUT; 3][..count]), Status::Size);
        assert_eq!(last_error(), format!("inputs: expected 2, got {count}"));
    }
    assert_eq!(refused(&[INPUT, other_batch]), Status::Size);
    assert_eq!(refused(&[INPUT, other_channels]), Status::Channels);
    let mut shapes = [OUTPUT; 3];
    let made = shapes.as_mut_ptr();
    // SAFETY: a network that lives, and places for the answers.
    unsafe {
        let one = [INPUT; 2];
        for (inputs, outputs) in [(1, 2), (3, 2), (0, 2), (2, 1), (2, 3), (2, 0)] {
            let inputs = &[INPUT; 3][..inputs];
            let got = sepconv_network_output_shapes(n, inputs.as_ptr(), inputs.len(), made, outputs);
            assert_eq!(got, Status::Size);
        }
        assert_eq!(sepconv_network_output_shapes(n, one.as_ptr(), 2, made, usize::MAX), Status::Length);
        // functions of one input and one output
        assert_eq!(sepconv_network_output_shape(n, INPUT, made), Status::Size);
        assert_eq!(status(make(sepconv_plan_free, |p| sepconv_network_plan(n, INPUT, null(), p))), Status::Size);
    }
    assert_eq!(shapes, [OUTPUT; 3]);

    let plan = plan_all(&network, &[INPUT; 2], &options).unwrap();
    let (values, mut written) = ([1.0; INPUT_LEN], [[CANARY; INPUT_LEN]; 3]);
    let from = [input_at(values.as_ptr(), INPUT_LEN); 3];
    let to = written.each_mut().map(|out| output_at(out.as_mut_ptr(), INPUT_LEN));
    for (inputs, outputs, text) in [
        (1, 2, "inputs: expected 2, got 1"),
        (3, 2, "inputs: expected 2, got 3"),
        (0, 2, "inputs: expected 2, got 0"),
        (2, 1, "outputs: expected 2, got 1"),
        (2, 3, "outputs: expected 2, got 3"),
        (2, 0, "outputs: expected 2, got 0"),
    ] {
        for room in [RoomOfRun::Scratch, RoomOfRun::Memory] {
            assert_eq!(status(run_all(&plan, &from[..inputs], &to[..outputs], room)), Status::Size);
            assert_eq!(last_error(), text);
        }
    }
    // SAFETY: slices, and handles that live.
    let one = unsafe { sepconv_plan_run(plan.handle, &from[0], &to[0], scratch(&plan).handle) };
    assert_eq!(one, Status::Size);
    assert!(written.iter().flatten().all(|&v| is_canary(v)));
    run_all(&plan, &from[..2], &to[..2], RoomOfRun::Scratch).unwrap();
    assert!(written[0].iter().chain(&written[1][..4]).all(|&v| v == 2.0));
}

#[test]
fn tensors_of_a_graph_that_overlap_are_refused() {
    let plan = plan_all(&two_of_each(), &[INPUT; 2], &plan_options()).unwrap();
    let mut bytes = 0;
    // SAFETY: a plan, and a place for the answer.
    done(unsafe { sepconv_plan_scratch_bytes(plan.handle, &mut bytes) }).unwrap();
    let room = bytes.div_ceil(4) + 16;
    // the inputs, the outputs, and memory for a run
    let places = [0, INPUT_LEN, 2 * INPUT_LEN, 3 * INPUT_LEN];
    let memory_at = 3 * INPUT_LEN + 4;
    let mut arena = vec![CANARY; memory_at + room];
    let start = arena.as_mut_ptr();
    let run = |[x, y, sum, means]: [usize; 4], memory: usize| {
        // SAFETY: places within the arena.
        let at = |place: usize| unsafe { start.add(place) };
        let from = [x, y].map(|place| input_at(at(place), INPUT_LEN));
        let to = [output_at(at(sum), INPUT_LEN), output_at(at(means), 4)];
        let (inputs, outputs) = (from.each_ref().map(|f| &raw const *f), to.each_ref().map(|t| &raw const *t));
        let (i, o) = (inputs.as_ptr(), outputs.as_ptr());
        let (first, bytes) = (at(memory).cast::<c_void>(), (memory_at + room - memory) * 4);
        // SAFETY: the arena, and a plan that lives.
        done(unsafe { sepconv_plan_run_all_in(plan.handle, null(), i, 2, o, 2, first, bytes) })
    };
    let [x, y, sum, means] = places;
    for (tensors, memory, text) in [
        ([x, y, x, means], memory_at, "outputs[0]: has memory in common with inputs[0]"),
        ([x, y, y + 1, means], memory_at, "outputs[0]: has memory in common with inputs[1]"),
        ([x, y, sum, y + 3], memory_at, "outputs[1]: has memory in common with inputs[1]"),
        ([x, y, sum, sum + 7], memory_at, "outputs[1]: has memory in common with outputs[0]"),
        ([x, y, sum, means], memory_at - 1, "memory: has memory in common with outputs[1]"),
        ([x, y, sum, means], means - 1, "memory: has memory in common with outputs[0]"),
    ] {
        assert_eq!(run(tensors, memory), Err((sepconv_status::Overlap, text.into())), "{tensors:?}");
    }
    // SAFETY: the arena, which no call uses.
    assert!(unsafe { std::slice::from_raw_parts(start, memory_at) }.iter().all(|&v| is_canary(v)));
    // inputs may be one tensor
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(start, INPUT_LEN) }.fill(1.5);
    run([x, x, sum, means], memory_at).unwrap();
    // SAFETY: as above.
    assert!(unsafe { std::slice::from_raw_parts(start.add(sum), INPUT_LEN + 4) }.iter().all(|&v| v == 3.0));
}

#[test]
fn a_part_of_a_network_is_a_network() {
    let network = two_of_each();
    let mut layers = 0;
    // SAFETY: a network that lives.
    done(unsafe { sepconv_network_layer_count(network.handle, &mut layers) }).unwrap();
    assert_eq!(layers, 2);
    let cut = |first, end| {
        // SAFETY: a network that lives.
        make(sepconv_network_free, |part| unsafe { sepconv_network_cut(network.handle, first, end, part) })
    };
    // the sum of both inputs, and the mean behind it
    for (first, inputs, outputs) in [(0, 2, 1), (1, 1, 1)] {
        let part = cut(first, first + 1).unwrap();
        let mut counts = [0; 2];
        // SAFETY: as above.
        unsafe {
            done(sepconv_network_input_count(part.handle, &mut counts[0])).unwrap();
            done(sepconv_network_output_count(part.handle, &mut counts[1])).unwrap();
        }
        assert_eq!(counts, [inputs, outputs]);
    }
    for (first, end) in [(0, 0), (1, 0), (0, 3), (usize::MAX, usize::MAX)] {
        assert_eq!(status(cut(first, end)), sepconv_status::Size);
    }
}

/// Structs of an older or a newer program stand in one array.
#[test]
fn descriptions_of_a_run_may_be_of_any_version() {
    #[repr(C)]
    struct LaterInput(sepconv_input, u64);
    let plan = plan_all(&two_of_each(), &[INPUT; 2], &plan_options()).unwrap();
    let values = [1.0; INPUT_LEN];
    let mut written = [[CANARY; INPUT_LEN]; 2];
    let to = written.each_mut().map(|out| output_at(out.as_mut_ptr(), INPUT_LEN));
    let outputs = to.each_ref().map(|to| &raw const *to);
    for (new, expected) in [(1, sepconv_status::StructSize), (0, sepconv_status::Ok)] {
        let from = input_at(values.as_ptr(), INPUT_LEN);
        let mut later = LaterInput(from, new);
        later.0.struct_size = size_of::<LaterInput>();
        let inputs = [&raw const from, (&raw const later).cast::<sepconv_input>()];
        let scratch = scratch(&plan);
        // SAFETY: as long as they say; handles that live.
        let got = unsafe { sepconv_plan_run_all(plan.handle, inputs.as_ptr(), 2, outputs.as_ptr(), 2, scratch.handle) };
        assert_eq!(got, expected, "{}", last_error());
    }
    assert!(last_error().starts_with("inputs[1]: has fields set behind the 64 bytes"), "{}", last_error());
    assert_eq!(written[0], [2.0; INPUT_LEN]);
}

/// Sizes that no memory has, planes that do not fit, and batches of no images.
#[test]
fn shapes_that_no_graph_can_have_are_told() {
    use sepconv_status as Status;
    let pixel = sepconv_shape { n: 1, h: 1, w: 1, c: 4 };
    let refused =
        |channels: &[usize], shapes: &[sepconv_shape], of: &dyn Fn(&Graph, &[sepconv_value]) -> sepconv_value| {
            let graph = new_graph();
            let inputs: Vec<_> = channels.iter().map(|&channels| input(&graph, channels)).collect();
            let value = of(&graph, &inputs);
            output(&graph, value).unwrap();
            status(plan_all(&build(&graph).unwrap(), shapes, &plan_options()))
        };
    let sum = |graph: &Graph, v: &[sepconv_value]| add(graph, v[0], v[v.len() - 1]).unwrap();
    let twice = |graph: &Graph, v: &[sepconv_value]| concat(graph, &[v[0], v[v.len() - 1]]).unwrap();
    let most = usize::MAX;
    assert_eq!(refused(&[0], &[sepconv_shape { c: 0, ..pixel }], &sum), Status::Size);
    assert_eq!(refused(&[most], &[sepconv_shape { c: most, ..pixel }], &sum), Status::Size);
    assert_eq!(refused(&[most], &[sepconv_shape { c: most, ..pixel }], &twice), Status::Size);
    let half = most / 2 + 1;
    assert_eq!(refused(&[half], &[sepconv_shape { c: half, ..pixel }], &twice), Status::Size);
    assert_eq!(refused(&[4], &[sepconv_shape { n: most, ..pixel }], &twice), Status::Size);
    assert_eq!(refused(&[4, 4], &[INPUT, sepconv_shape { h: 5, ..INPUT }], &sum), Status::Size);
    assert_eq!(refused(&[4, 4], &[INPUT, sepconv_shape { h: 5, ..INPUT }], &twice), Status::Size);
    let layer_of =
        |operator: Operator| move |graph: &Graph, v: &[sepconv_value]| layer(graph, v[0], &operator).unwrap();
    assert_eq!(refused(&[4], &[pixel], &layer_of(window_pool_operator(&maximum()).unwrap())), Status::Size);
    assert_eq!(refused(&[4], &[pixel], &layer_of(resize([most, most]).unwrap())), Status::Size);
    assert_eq!(refused(&[4], &[sepconv_shape { w: 2, ..pixel }], &layer_of(resize([1, half]).unwrap())), Status::Size);

    // no images, which lie nowhere
    let empty = sepconv_shape { n: 0, ..INPUT };
    let plan = plan_all(&two_of_each(), &[empty; 2], &plan_options()).unwrap();
    let (from, to) = ([input_at(null(), 0); 2], [output_at(null_mut(), 0); 2]);
    run_all(&plan, &from, &to, RoomOfRun::Scratch).unwrap();
    run_all(&plan, &from, &to, RoomOfRun::Memory).unwrap();
}
