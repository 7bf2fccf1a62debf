//! Arbitrary descriptions and shapes into `new` and `plan`: an operator or an error, never a panic, and never memory
//! out of proportion to the weights or, of scratch, to what [`sepconv::Plan::scratch_bytes`] documents.

use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use sepconv::testing::Thresholds;
use sepconv::{
    Activation, BatchNorm, ChannelActivation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Error, Filter, Fusion,
    GlobalAveragePool, InvertedResidual, InvertedResidualDesc, Isa, Layer, Layout, Network, Padding, Plan, PlanOptions,
    PointwiseConv2d, Schedule, SeparableConv2d, Shape, Shortcut, Strides, Threads, View, ViewMut,
};

use sepconv_test_support::asked::asked;

/// Values for every filter and vector: ones, and what is not finite, negative or zero.
static ONES: [f32; 1 << 14] = [1.0; 1 << 14];
static ODD: [f32; 1 << 14] = {
    let some = [1.0, f32::NAN, -1.0, 0.0, f32::INFINITY, 2.0, 1e-40, -0.0];
    let mut values = [0.0; 1 << 14];
    let mut i = 0;
    while i < values.len() {
        values[i] = some[i % some.len()];
        i += 1;
    }
    values
};

/// Most often small, now and then where sums and products overflow.
fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=15u8)? {
        0..=8 => u.int_in_range(1..=8)?,
        9 | 10 => u.int_in_range(0..=64)?,
        11 => u.int_in_range(0..=1 << 20)?,
        12 => (1usize << u.int_in_range(0..=63u32)?).wrapping_add(u.int_in_range(0..=2)?).wrapping_sub(1),
        13 => usize::MAX >> u.int_in_range(0..=63u32)?,
        14 => 1,
        _ => u.arbitrary()?,
    })
}

/// Of a window: most often 1.
fn step(u: &mut Unstructured<'_>) -> Result<usize> {
    if u.ratio(1, 2)? { Ok(1) } else { size(u) }
}

/// `len` values where there are as many and the bytes are not after a wrong length.
fn values(u: &mut Unstructured<'_>, len: usize) -> Result<&'static [f32]> {
    let from = if u.ratio(1, 16)? { &ODD } else { &ONES };
    let len = if u.ratio(1, 24)? { u.int_in_range(0..=64)? } else { len.min(from.len()) };
    Ok(&from[..len])
}

/// What a description took, to know what memory is in proportion to it.
struct Described {
    desc: ConvDesc<'static>,
    values: usize,
    multiplier: usize,
    outputs: usize,
}

/// A convolution, most often of the order that its operator takes and of the channels that come to it.
fn describe(u: &mut Unstructured<'_>, channels: usize, depthwise: bool, pointwise: bool) -> Result<Described> {
    let point = pointwise && !u.ratio(1, 16)?;
    let [h, w] = if point { [1, 1] } else { [step(u)?, step(u)?] };
    let i = if u.ratio(1, 12)? { size(u)? } else { channels };
    let o = size(u)?;
    let depthwise = depthwise != u.ratio(1, 24)?;
    let o = if depthwise && u.ratio(2, 3)? { 1 } else { o };
    let len = [h, w, i, o].iter().fold(1usize, |len, &size| len.saturating_mul(size));
    let data = values(u, len)?;
    let filter = match (depthwise, u.int_in_range(0..=2u8)?) {
        (false, 0) => Filter::hwio(data, [h, w, i, o]),
        (false, 1) => Filter::oihw(data, [o, i, h, w]),
        (false, _) => Filter::ohwi(data, [o, h, w, i]),
        (true, 0) => Filter::depthwise_hwcm(data, [h, w, i, o]),
        (true, _) => Filter::depthwise_c1hw(data, [i, h, w], o),
    };
    let mut desc = ConvDesc::new(filter);
    if !point {
        desc = desc.strides([step(u)?, step(u)?]).dilations([step(u)?, step(u)?]).padding(padding(u)?);
    }
    desc = desc.activation(match u.int_in_range(0..=7u8)? {
        0 | 1 => Activation::Linear,
        2 => Activation::Relu,
        3 => Activation::Relu6,
        4 => Activation::Clamp { min: u.arbitrary()?, max: u.arbitrary()? },
        5 => Activation::LeakyRelu { slope: u.arbitrary()? },
        6 => Activation::Gelu,
        _ => Activation::Clamp { min: -0.0, max: f32::INFINITY },
    });
    let outputs = filter.outputs();
    let mut used = data.len();
    let mut vector = |u: &mut Unstructured<'_>| {
        let vector = values(u, outputs)?;
        used += vector.len();
        Ok(vector)
    };
    if u.arbitrary()? {
        desc = desc.bias(vector(u)?);
    }
    if u.ratio(1, 6)? {
        desc = desc.activation_by_channel(if u.arbitrary()? {
            ChannelActivation::PRelu { slopes: vector(u)? }
        } else {
            ChannelActivation::Clamp { min: vector(u)?, max: vector(u)? }
        });
    }
    if u.ratio(1, 4)? {
        desc = desc.batch_norm(BatchNorm {
            gamma: if u.arbitrary()? { Some(vector(u)?) } else { None },
            beta: if u.arbitrary()? { Some(vector(u)?) } else { None },
            mean: vector(u)?,
            variance: vector(u)?,
            epsilon: if u.ratio(1, 4)? { u.arbitrary()? } else { 1e-3 },
        });
    }
    Ok(Described { desc, values: used, multiplier: if depthwise { o } else { 1 }, outputs })
}

fn padding(u: &mut Unstructured<'_>) -> Result<Padding> {
    let side = |u: &mut Unstructured<'_>| if u.ratio(3, 4)? { u.int_in_range(0..=3) } else { size(u) };
    Ok(match u.int_in_range(0..=3u8)? {
        0 | 1 => Padding::Same,
        2 => Padding::Valid,
        _ => Padding::Explicit { top: side(u)?, bottom: side(u)?, left: side(u)?, right: side(u)? },
    })
}

/// Makes an operator over `channels` channels: its name, what came of it, and the channels that it writes.
fn layer(u: &mut Unstructured<'_>, channels: usize) -> Result<(&'static str, sepconv::Result<Layer>, usize)> {
    // packed weights are whole blocks of 16 outputs, a bias and folded batch norms beside them; the rest is a node
    let check = |name, (made, bytes): (sepconv::Result<Layer>, usize), parts: &[&Described], repeat: usize| {
        let values = parts.iter().fold(0usize, |sum, part| sum + part.values);
        let limit = values.saturating_mul(200).saturating_mul(repeat.max(1)).saturating_add(8 << 10);
        assert!(bytes <= limit, "{name} of {values} values took {bytes} bytes");
        (name, made, parts.last().map_or(0, |part| part.outputs))
    };
    Ok(match u.int_in_range(0..=6u8)? {
        0 => {
            let conv = describe(u, channels, false, false)?;
            check("conv2d", asked(|| Conv2d::new(conv.desc).map(Layer::from)), &[&conv], 1)
        }
        1 => {
            let conv = describe(u, channels, true, false)?;
            check("depthwise", asked(|| DepthwiseConv2d::new(conv.desc).map(Layer::from)), &[&conv], 1)
        }
        2 => {
            let conv = describe(u, channels, false, true)?;
            check("pointwise", asked(|| PointwiseConv2d::new(conv.desc).map(Layer::from)), &[&conv], 1)
        }
        3 => {
            let conv = describe(u, channels, false, true)?;
            check("dense", asked(|| Dense::new(conv.desc).map(Layer::from)), &[&conv], 1)
        }
        4 => {
            let depthwise = describe(u, channels, true, false)?;
            let pointwise = describe(u, depthwise.outputs, false, true)?;
            let made = asked(|| SeparableConv2d::new(depthwise.desc, pointwise.desc).map(Layer::from));
            check("separable", made, &[&depthwise, &pointwise], 1)
        }
        5 => {
            let pointwise = !u.ratio(1, 3)?;
            let expand = if u.arbitrary()? { Some(describe(u, channels, false, pointwise)?) } else { None };
            let depthwise = describe(u, expand.as_ref().map_or(channels, |e| e.outputs), true, false)?;
            let project = describe(u, depthwise.outputs, false, true)?;
            let shortcut = *u.choose(&[Shortcut::None, Shortcut::Required, Shortcut::IfShapesAllow])?;
            let mut desc = InvertedResidualDesc::new(depthwise.desc, project.desc).shortcut(shortcut);
            if let Some(expand) = &expand {
                desc = desc.expand(expand.desc);
            }
            let made = asked(|| InvertedResidual::new(desc).map(Layer::from));
            let parts: Vec<&Described> = expand.iter().chain([&depthwise, &project]).collect();
            // an expansion is computed as often as the depthwise stage reads it
            check("inverted", made, &parts, depthwise.multiplier)
        }
        _ => {
            let c = if u.ratio(1, 12)? { size(u)? } else { channels };
            ("pool", GlobalAveragePool::new(c).map(Layer::from), c)
        }
    })
}

static POOL: LazyLock<Arc<rayon::ThreadPool>> =
    LazyLock::new(|| Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads")));

/// Options, and whether they have thresholds of their own, by which plans take memory in another proportion.
fn options(u: &mut Unstructured<'_>) -> Result<(PlanOptions, bool)> {
    // as many workers as the pool has threads, however many cores there are
    let mut options = PlanOptions::new().common_bits(u.ratio(1, 8)?).max_threads(sepconv::MAX_THREADS);
    let limited = u.ratio(1, 4)?;
    if limited {
        options = options.thresholds(thresholds(u)?);
    }
    if u.arbitrary()? {
        options = options.max_isa(*u.choose(&Isa::ALL)?);
    }
    options = options.threads(match u.int_in_range(0..=2u8)? {
        0 => Threads::Serial,
        1 => Threads::Global,
        _ => Threads::Pool(POOL.clone()),
    });
    let mut layout = || Ok(*u.choose(&[Layout::Nhwc, Layout::Nchw])?);
    options = options.input_layout(layout()?).output_layout(layout()?);
    let options = options.fusion(match u.int_in_range(0..=5u8)? {
        0..=2 => Fusion::Auto,
        3 => Fusion::Never,
        4 => Fusion::Require(Schedule::RowRing),
        _ => Fusion::Require(Schedule::ChannelSlabs),
    });
    Ok((options, limited))
}

/// Any thresholds at all: each is as it was, or of any size.
fn thresholds(u: &mut Unstructured<'_>) -> Result<Thresholds> {
    fn other(u: &mut Unstructured<'_>, value: usize) -> Result<usize> {
        if u.arbitrary()? { size(u) } else { Ok(value) }
    }
    let mut thresholds = Thresholds::of(*u.choose(&Isa::ALL)?);
    let mut failed = None;
    thresholds.each(|name, value| match other(u, *value) {
        // no other limit holds what a plan writes for a table and keeps
        Ok(drawn) if name == "planned_offsets" => *value = drawn.min(1 << 16),
        Ok(drawn) => *value = drawn,
        Err(error) => failed = Some(error),
    });
    thresholds.strips = *u.choose(&[None, Some(false), Some(true)])?;
    failed.map_or(Ok(thresholds), Err)
}

/// The name of an error's variant; of a layer's error, that of the operator's.
fn name(error: &Error) -> String {
    // printed too: no error may fail to say what it is
    assert!(!error.to_string().is_empty());
    let debug = format!("{:?}", error.without_layers());
    debug.split([' ', '(', '{']).next().unwrap_or_default().into()
}

/// A description of up to four layers, an input and options, from bytes.
pub fn check(data: &[u8]) -> String {
    let mut u = Unstructured::new(data);
    // bytes that end early read as zeros
    run(&mut u).unwrap_or_else(|_| "nothing".into())
}

fn run(u: &mut Unstructured<'_>) -> Result<String> {
    let input = Shape::new(step(u)?, size(u)?, size(u)?, size(u)?);
    let count = u.int_in_range(1..=4)?;
    let mut layers = Vec::new();
    let mut channels = input.c;
    let mut outcome = String::new();
    for _ in 0..count {
        let (operator, made, outputs) = layer(u, channels)?;
        channels = outputs;
        outcome += operator;
        outcome.push(' ');
        match made {
            Ok(layer) => layers.push(layer),
            Err(error) => return Ok(outcome + &name(&error)),
        }
    }
    let (options, limited) = options(u)?;
    let network = match Network::new(layers) {
        Ok(network) => network,
        Err(error) => return Ok(outcome + "no network: " + &name(&error)),
    };
    let (plan, bytes) = asked(|| network.plan(input, &options));
    // Tables of offsets: of 64 KiB at most, six for a layer that is not fused. All come again where a plan goes without
    // fusion, and once more where the layer is found whose scratch is too large.
    let tables = 3 * 6 * (64 << 10);
    let most = (2 * count + 1) * (16 << 10) + count * tables;
    assert!(limited || bytes <= most, "a plan of {count} layers took {bytes} bytes");
    let output = network.output_shape(input);
    match plan {
        Ok(plan) => {
            assert_eq!(output, Ok(plan.output_shape()));
            check_plan(&plan, limited);
            let stages = plan.explain().stages;
            Ok(outcome + if stages.iter().any(|s| s.fused) { "fused" } else { "planned" })
        }
        Err(error) => Ok(outcome + "no plan: " + &name(&error)),
    }
}

fn check_plan(plan: &Plan, limited: bool) {
    let explained = plan.explain();
    assert!(!explained.to_string().is_empty());
    let mut worker = 0;
    for stage in &explained.stages {
        let limit = (64u64 << 20).saturating_add(stage.bytes.saturating_mul(64)).min(1 << 30);
        assert!(
            limited || stage.scratch_bytes as u64 <= limit,
            "{} of scratch, at most {limit}: {stage:?}",
            stage.scratch_bytes
        );
        worker = worker.max(stage.scratch_bytes as u128);
    }
    let between = explained.stages.iter().skip(1).fold(0u128, |sum, stage| {
        let Shape { n, h, w, c } = stage.input;
        sum + (n * h) as u128 * (w + w.max(16)) as u128 * c.next_multiple_of(16) as u128 * 4
    });
    let limit = between + explained.threads as u128 * worker + (1 << 12);
    assert!(
        limited || plan.scratch_bytes() as u128 <= limit,
        "{} bytes, at most {limit}\n{explained}",
        plan.scratch_bytes()
    );

    let (from, to) = (plan.input_shape(), plan.output_shape());
    let small = |shape: Shape| shape.len().is_ok_and(|len| len <= 1 << 16);
    if !small(from) || !small(to) || plan.scratch_bytes() > 32 << 20 || plan.macs() > 200_000 {
        return;
    }
    let canary = f32::from_bits(0x7fc0_cafe);
    let x = vec![1.0; from.len().expect("planned")];
    let mut y = vec![canary; to.len().expect("planned")];
    let mut scratch = plan.scratch().expect("a little memory");
    scratch.as_mut_slice().fill(0xFF);
    let strides = [0, 1].map(|end| Strides::dense(plan.layouts()[end], [from, to][end]));
    let from = View::with_strides(&x, from, strides[0]).expect("input");
    let to = ViewMut::with_strides(&mut y, to, strides[1]).expect("output");
    plan.run(from, to, &mut scratch).expect("a run");
    let missing = y.iter().position(|v| v.to_bits() == canary.to_bits());
    assert_eq!(missing, None, "not written\n{explained}");
}
