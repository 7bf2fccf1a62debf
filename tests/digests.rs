//! The same bits everywhere: a digest of the result of each of a fixed set of cases, checked against
//! `tests/digests.txt` on every instruction set that this CPU has.
//!
//! The file has two digests a case: of the fused bits, which AVX-512, AVX2 and NEON give, and scalar by the
//! option for common bits; and of the bits of SSE4.2's and scalar's own arithmetic. What equals the reference here and
//! what equals it on another machine is thereby known to be equal, without both machines at hand.
//!
//! `SEPCONV_WRITE_DIGESTS=1 cargo test --all-features --test digests` writes the file anew. It is to change with the
//! cases alone: a change in a kernel that changes a digest is a change of the contract in `docs/numbers.md`.

use std::fmt::Write as _;
use std::path::Path;

use sepconv::models::{Config, MobileNetV1, MobileNetV2, StridePadding, Weights};
use sepconv::{
    Activation, Arithmetic, BatchNorm, ChannelActivation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Filter, Fusion,
    GlobalAveragePool, InvertedResidual, InvertedResidualDesc, Isa, Layout, Network, Padding, Plan, PlanOptions,
    PointwiseConv2d, Result, SeparableConv2d, Shape, Shortcut, TransposedConv2d, View, ViewMut,
};
use sepconv_test_support::{
    DenseTensor, Frame, LEVELS, PlanLevel, Rng, SCHEDULES, ValueKind, assert_required_isa_ran, threads,
};

/// FNV-1a, 64 bits. Every NaN counts as one: sign and payload of a NaN are not defined.
fn digest(values: &[f32]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for value in values {
        let bits = if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
        for byte in bits.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// Plans by options, for one input.
type Planner = Box<dyn Fn(&PlanOptions) -> Result<Plan>>;

/// A case: its name in the file, its input, how it is planned, and whether it can be fused.
struct DigestCase {
    name: String,
    input: DenseTensor,
    plan: Planner,
    fusions: &'static [Fusion],
}

/// What a convolution's description is made of. Integers decide it all, so that it is the same on every machine.
struct Parts {
    weights: Vec<f32>,
    bias: Vec<f32>,
    norm: [Vec<f32>; 4],
    with_norm: bool,
    activation: Activation,
    /// Slopes, or lower and upper bounds.
    by_channel: Option<[Vec<f32>; 2]>,
}

impl Parts {
    fn new(rng: &mut Rng, weights: usize, outputs: usize, values: ValueKind) -> Parts {
        let positive = |rng: &mut Rng| (0..outputs).map(|_| rng.float().abs() + 0.5).collect();
        Parts {
            weights: rng.values(weights, values),
            bias: rng.values(outputs, values),
            norm: [
                positive(rng),
                rng.values(outputs, ValueKind::Plain),
                rng.values(outputs, ValueKind::Plain),
                positive(rng),
            ],
            with_norm: rng.chance(3),
            activation: rng.pick(&[
                Activation::Linear,
                Activation::Relu,
                Activation::Relu6,
                Activation::Clamp { min: -0.25, max: 0.5 },
            ]),
            by_channel: None,
        }
    }

    /// The same with slopes, or with bounds, of each channel.
    fn by_channel(self, rng: &mut Rng, slopes: bool) -> Parts {
        let pairs: Vec<[f32; 2]> = self.bias.iter().map(|_| [rng.float(), rng.float()]).collect();
        let of = |pick: fn(&[f32; 2]) -> f32| pairs.iter().map(pick).collect::<Vec<f32>>();
        let by_channel =
            if slopes { [of(|p| 2.0 * p[0]), vec![]] } else { [of(|p| p[0].min(p[1])), of(|p| p[0].max(p[1]))] };
        Parts { by_channel: Some(by_channel), ..self }
    }

    fn channel_activation(&self) -> Option<ChannelActivation<'_>> {
        self.by_channel.as_ref().map(|[first, second]| match &**second {
            [] => ChannelActivation::PRelu { slopes: first },
            max => ChannelActivation::Clamp { min: first, max },
        })
    }

    fn desc<'a>(&'a self, filter: Filter<'a>) -> ConvDesc<'a> {
        let desc = ConvDesc::new(filter).bias(&self.bias).activation(self.activation);
        let desc = self.channel_activation().map_or(desc, |activation| desc.activation_by_channel(activation));
        let [gamma, beta, mean, variance] = &self.norm;
        if self.with_norm {
            desc.batch_norm(BatchNorm { gamma: Some(gamma), beta: Some(beta), mean, variance, epsilon: 1e-3 })
        } else {
            desc
        }
    }
}

const CHANNELS: [usize; 12] = [1, 3, 4, 7, 8, 12, 15, 16, 17, 24, 33, 48];

fn values(rng: &mut Rng) -> ValueKind {
    rng.pick(&[ValueKind::Plain, ValueKind::Plain, ValueKind::Plain, ValueKind::Tiny, ValueKind::Special])
}

fn padding(rng: &mut Rng) -> Padding {
    rng.pick(&[
        Padding::Same,
        Padding::Valid,
        Padding::all(1),
        Padding::Explicit { top: 2, bottom: 0, left: 0, right: 3 },
    ])
}

/// Cases of every operator and both blocks, from one seed each.
fn operators() -> Vec<DigestCase> {
    let mut cases = Vec::new();
    for i in 0..12 {
        let rng = &mut Rng(0xd16e57 + i);
        let values = values(rng);
        let (h, w) = (5 + rng.below(9), 5 + rng.below(12));
        let (c, outputs) = (rng.pick(&CHANNELS), rng.pick(&CHANNELS));
        let shape = Shape::new(1 + rng.below(2), h, w, c);
        let mut case = |name: &str, input: Shape, fusions: &'static [Fusion], plan: Planner| {
            let input = DenseTensor::random(&mut Rng(0x1a9e + i), input, values);
            cases.push(DigestCase { name: format!("{name} {i}"), input, plan, fusions });
        };
        const ALONE: &[Fusion] = &[Fusion::Auto];

        let kernel = rng.pick(&[[3, 3], [3, 3], [1, 1], [2, 5]]);
        let (stride, pad) = (1 + rng.below(2), padding(rng));
        let parts = Parts::new(rng, kernel[0] * kernel[1] * c * outputs, outputs, values);
        let filter = Filter::hwio(&parts.weights, [kernel[0], kernel[1], c, outputs]);
        let op = Conv2d::new(parts.desc(filter).stride(stride).padding(pad)).unwrap();
        case("conv2d", shape, ALONE, Box::new(move |options| op.plan(shape, options)));

        for stride in [1, 2] {
            let pad = padding(rng);
            let parts = Parts::new(rng, 9 * c, c, values);
            let desc = parts.desc(Filter::depthwise_hwc(&parts.weights, [3, 3, c])).stride(stride).padding(pad);
            let op = DepthwiseConv2d::new(desc).unwrap();
            case(&format!("depthwise3x3s{stride}"), shape, ALONE, Box::new(move |options| op.plan(shape, options)));
        }

        let kernel = [1 + rng.below(5), 1 + rng.below(5)];
        let (multiplier, dilation) = (1 + rng.below(3), 1 + rng.below(2));
        let strides = [1 + rng.below(3), 1 + rng.below(3)];
        let parts = Parts::new(rng, kernel[0] * kernel[1] * c * multiplier, c * multiplier, values);
        let filter = Filter::depthwise_hwcm(&parts.weights, [kernel[0], kernel[1], c, multiplier]);
        let desc = parts.desc(filter).strides(strides).dilation(dilation).padding(Padding::Same);
        let op = DepthwiseConv2d::new(desc).unwrap();
        case("depthwise", shape, ALONE, Box::new(move |options| op.plan(shape, options)));

        let parts = Parts::new(rng, c * outputs, outputs, values);
        let op = PointwiseConv2d::new(parts.desc(Filter::io(&parts.weights, [c, outputs]))).unwrap();
        case("pointwise", shape, ALONE, Box::new(move |options| op.plan(shape, options)));

        let pixel = Shape::new(1 + rng.below(3), 1, 1, c * 3);
        let parts = Parts::new(rng, c * 3 * outputs, outputs, values);
        let op = Dense::new(parts.desc(Filter::io(&parts.weights, [c * 3, outputs]))).unwrap();
        case("dense", pixel, ALONE, Box::new(move |options| op.plan(pixel, options)));

        let op = GlobalAveragePool::new(c).unwrap();
        case("average_pool", shape, ALONE, Box::new(move |options| op.plan(shape, options)));

        let stride = 1 + rng.below(2);
        let [depthwise, pointwise] = [(9 * c, c), (c * outputs, outputs)].map(|(n, o)| Parts::new(rng, n, o, values));
        let op = SeparableConv2d::new(
            depthwise.desc(Filter::depthwise_hwc(&depthwise.weights, [3, 3, c])).stride(stride).padding(Padding::Same),
            pointwise.desc(Filter::io(&pointwise.weights, [c, outputs])),
        )
        .unwrap();
        case("separable", shape, &SCHEDULES, Box::new(move |options| op.plan(shape, options)));

        // every second block takes its shortcut
        let (stride, outputs) = if i % 2 == 0 { (1, c) } else { (1 + rng.below(2), outputs) };
        let wide = c * (1 + rng.below(4));
        let [expand, depthwise, project] =
            [(c * wide, wide), (9 * wide, wide), (wide * outputs, outputs)].map(|(n, o)| Parts::new(rng, n, o, values));
        let desc = InvertedResidualDesc::new(
            depthwise
                .desc(Filter::depthwise_hwc(&depthwise.weights, [3, 3, wide]))
                .stride(stride)
                .padding(Padding::Same),
            project.desc(Filter::io(&project.weights, [wide, outputs])),
        )
        .expand(expand.desc(Filter::io(&expand.weights, [c, wide])))
        .shortcut(Shortcut::IfShapesAllow);
        let op = InvertedResidual::new(desc).unwrap();
        case("inverted_residual", shape, &SCHEDULES, Box::new(move |options| op.plan(shape, options)));
    }
    cases
}

/// Blocks and single convolutions with activations that are no clamp.
fn activations() -> Vec<DigestCase> {
    let all = [
        ("hard_swish", Activation::HardSwish),
        ("hard_sigmoid", Activation::HardSigmoid),
        ("sigmoid", Activation::Sigmoid),
        ("silu", Activation::Silu),
        ("tanh", Activation::Tanh),
        ("gelu", Activation::Gelu),
        ("leaky_relu", Activation::LeakyRelu { slope: 0.1 }),
    ];
    let mut cases = Vec::new();
    for (i, (name, activation)) in all.into_iter().enumerate() {
        let rng = &mut Rng(0xac7 + i as u64);
        let (c, wide) = ([8, 17, 12][i % 3], [24, 33, 48][i / 3]);
        let (shape, stride) = (Shape::new(2, 11, 13, c), 1 + i % 2);
        let mut part = |weights, outputs| Parts { activation, ..Parts::new(rng, weights, outputs, ValueKind::Plain) };
        let (stem, expand) = (part(9 * c * wide, wide), part(c * wide, wide));
        let (depthwise, project) = (part(9 * wide, wide), part(wide * c, c));
        let mut case = |operator: &str, fusions: &'static [Fusion], plan: Planner| {
            let input = DenseTensor::random(&mut Rng(0xf0 + i as u64), shape, ValueKind::Plain);
            cases.push(DigestCase { name: format!("{operator} {name}"), input, plan, fusions });
        };
        let desc = stem.desc(Filter::hwio(&stem.weights, [3, 3, c, wide])).stride(stride);
        let op = Conv2d::new(desc).unwrap();
        case("conv2d", &[Fusion::Auto], Box::new(move |options| op.plan(shape, options)));
        let op = InvertedResidual::new(
            InvertedResidualDesc::new(
                depthwise.desc(Filter::depthwise_hwc(&depthwise.weights, [3, 3, wide])).stride(stride),
                project.desc(Filter::io(&project.weights, [wide, c])),
            )
            .expand(expand.desc(Filter::io(&expand.weights, [c, wide])))
            .shortcut(Shortcut::IfShapesAllow),
        )
        .unwrap();
        case("inverted_residual", &SCHEDULES, Box::new(move |options| op.plan(shape, options)));
    }
    cases
}

/// Convolutions with parameters of their activation for each channel, and a graph of several of them and a sum.
fn activations_by_channel() -> Vec<DigestCase> {
    let mut cases = Vec::new();
    for (i, name) in ["prelu", "channel_clamp"].into_iter().enumerate() {
        let rng = &mut Rng(0xc4a + i as u64);
        let (c, wide, shape) = (6, 34, Shape::new(2, 11, 13, 6));
        let mut part = |weights, outputs| Parts::new(rng, weights, outputs, ValueKind::Plain).by_channel(rng, i == 0);
        let (stem, few) = (part(9 * c * wide, wide), part(25 * c, c));
        let (expand, depthwise, project) = (part(c * wide, wide), part(9 * wide, wide), part(wide * c, c));
        let (grouped, transposed, sum) = (part(9 * c / 2 * wide, wide), part(4 * wide * c, c), part(0, c));
        let mut case = |operator: &str, fusions: &'static [Fusion], plan: Planner| {
            let input = DenseTensor::random(&mut Rng(0xf8 + i as u64), shape, ValueKind::Plain);
            cases.push(DigestCase { name: format!("{operator} {name}"), input, plan, fusions });
        };
        let op = Conv2d::new(stem.desc(Filter::hwio(&stem.weights, [3, 3, c, wide])).stride(2)).unwrap();
        case("conv2d", &[Fusion::Auto], Box::new(move |options| op.plan(shape, options)));
        let op = DepthwiseConv2d::new(few.desc(Filter::depthwise_hwc(&few.weights, [5, 5, c]))).unwrap();
        case("depthwise", &[Fusion::Auto], Box::new(move |options| op.plan(shape, options)));
        let op = InvertedResidual::new(
            InvertedResidualDesc::new(
                depthwise.desc(Filter::depthwise_hwc(&depthwise.weights, [3, 3, wide])),
                project.desc(Filter::io(&project.weights, [wide, c])),
            )
            .expand(expand.desc(Filter::io(&expand.weights, [c, wide])))
            .shortcut(Shortcut::Required),
        )
        .unwrap();
        case("inverted_residual", &SCHEDULES, Box::new(move |options| op.plan(shape, options)));
        let mut graph = Network::builder();
        let x = graph.input(c);
        let desc = grouped.desc(Filter::hwio(&grouped.weights, [3, 3, c / 2, wide])).groups(2).stride(2);
        let y = graph.conv(x, desc).unwrap();
        let desc = transposed.desc(Filter::hwoi(&transposed.weights, [2, 2, c, wide])).stride(2);
        let y = graph.layer(y, TransposedConv2d::new(desc).unwrap()).unwrap();
        let y = graph.add_by_channel(y, y, sum.channel_activation().unwrap()).unwrap();
        graph.output(y);
        let network = graph.build().unwrap();
        case("graph", &[Fusion::Auto], Box::new(move |options| network.plan(shape, options)));
    }
    cases
}

/// Both networks at a quarter of their width, on seeded weights.
fn networks() -> Vec<DigestCase> {
    let config = Config::new().alpha(0.25).classes(10).padding(StridePadding::Symmetric);
    let shape = Shape::new(1, 40, 40, 3);
    [("v1 0.25", MobileNetV1::architecture(&config)), ("v2 0.25", MobileNetV2::architecture(&config))]
        .map(|(name, architecture)| {
            let architecture = architecture.unwrap();
            let weights = Weights::seeded(&architecture, 7).unwrap();
            let network: Network = architecture.network(&weights).unwrap();
            DigestCase {
                name: name.into(),
                input: DenseTensor::random(&mut Rng(0x1a9e), shape, ValueKind::Plain),
                plan: Box::new(move |options| network.plan(shape, options)),
                fusions: &[Fusion::Auto, Fusion::Never],
            }
        })
        .into()
}

/// The digest of a case on a level; every schedule, two numbers of threads and both layouts have to agree on it.
fn of(case: &DigestCase, level: PlanLevel) -> u64 {
    let mut found = None;
    for &fusion in case.fusions {
        // emulated CPUs run this file, so each number of threads has one layout
        for (count, layout) in [(1, Layout::Nhwc), (3, Layout::Nchw)] {
            let options = level.options().fusion(fusion).threads(threads(count)).layout(layout);
            let plan = (case.plan)(&options).unwrap();
            assert_eq!((plan.isa(), plan.arithmetic()), (level.isa, level.arithmetic));
            let (frame, from, to) = (Frame::of(layout), plan.input_shape(), plan.output_shape());
            let input = frame.write(&case.input.data, from);
            let mut out = vec![f32::NAN; to.len().unwrap()];
            let view = View::with_strides(&input, from, frame.strides(from)).unwrap();
            let view_mut = ViewMut::with_strides(&mut out, to, frame.strides(to)).unwrap();
            plan.run(view, view_mut, &mut plan.scratch().unwrap()).unwrap();
            let digest = digest(&frame.read(&out, to));
            let first = *found.get_or_insert(digest);
            assert_eq!(digest, first, "{}, {level:?}: {fusion:?}, {count} threads, {layout:?} differs", case.name);
        }
    }
    found.unwrap()
}

/// The lines of the file: name, fused bits, bits of two roundings.
fn lines(file: &str) -> Vec<(String, [u64; 2])> {
    let cases = file.lines().filter(|line| !line.starts_with('#'));
    cases
        .map(|line| {
            let (name, digests) = line.split_once(": ").unwrap();
            let digests: Vec<u64> = digests.split(' ').map(|d| u64::from_str_radix(d, 16).unwrap()).collect();
            (name.to_owned(), digests.try_into().unwrap())
        })
        .collect()
}

#[test]
fn every_level_has_the_bits_of_the_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digests.txt");
    let cases: Vec<DigestCase> =
        operators().into_iter().chain(networks()).chain(activations()).chain(activations_by_channel()).collect();
    if std::env::var_os("SEPCONV_WRITE_DIGESTS").is_some() {
        // from the plainest of code: scalar, with either arithmetic
        let scalar = |arithmetic| {
            let level = LEVELS.iter().find(|l| l.isa == Isa::Scalar && l.arithmetic == arithmetic);
            level.expect("the file is written with the feature `common-bits`")
        };
        let mut file = String::from("# case: fused bits, bits of two roundings. Written by tests/digests.rs.\n");
        for case in &cases {
            let [fused, separate] = [Arithmetic::Fused, Arithmetic::Separate].map(|a| of(case, *scalar(a)));
            writeln!(file, "{}: {fused:016x} {separate:016x}", case.name).unwrap();
        }
        std::fs::write(&path, file).unwrap();
    }

    let lines = lines(&std::fs::read_to_string(&path).unwrap());
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(lines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "cases and lines of {path:?}");

    for &level in LEVELS.iter() {
        let column = match level.arithmetic {
            Arithmetic::Fused => 0,
            Arithmetic::Separate => 1,
            other => panic!("no column of {other:?}"),
        };
        for (case, (name, digests)) in cases.iter().zip(&lines) {
            let got = of(case, level);
            assert_eq!(
                got, digests[column],
                "{name}, {level:?}: got {got:016x}, the file says {:016x}",
                digests[column]
            );
        }
    }
    assert_required_isa_ran(&LEVELS.iter().map(|level| level.isa).collect::<Vec<_>>());
}

#[test]
fn the_two_kinds_of_rounding_are_told_apart() {
    let lines = lines(include_str!("digests.txt"));
    let differing = lines.iter().filter(|(_, [fused, separate])| fused != separate).count();
    // all but means, which have no product, and a few where no product is rounded, or none counts
    assert!(differing * 4 > lines.len() * 3, "{differing} of {}", lines.len());
}
