//! The same input gives the same bits: in every one of a hundred runs, on one to eight threads, by both schedules and
//! by none, and however a batch is split. Compared by digest, and for the networks with digests that are written down
//! here, so that machines and versions are compared too.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use sepconv::models::{Config, MobileNetV1, MobileNetV2, Weights};
use sepconv::{
    Activation, Arithmetic, ConvDesc, DepthwiseConv2d, Filter, Fusion, InvertedResidual, InvertedResidualDesc, Network,
    Plan, PlanOptions, Scratch, SeparableConv2d, Shape, Shortcut, Threads, View, ViewMut,
};
use sepconv_test_support::{DenseTensor, LEVELS, Rng, SCHEDULES, ValueKind, assert_required_levels};
use sha2::{Digest, Sha256};

/// The first 8 bytes of the SHA-256 of the values, little-endian.
fn digest(values: &[f32]) -> String {
    let mut hash = Sha256::new();
    for v in values {
        assert!(v.is_finite(), "the bits of a NaN are not defined");
        hash.update(v.to_le_bytes());
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(plan: &Plan, input: &[f32], scratch: &mut Scratch) -> Vec<f32> {
    let mut output = vec![f32::NAN; plan.output_shape().len().unwrap()];
    let to = ViewMut::new(&mut output, plan.output_shape()).unwrap();
    plan.run(View::new(input, plan.input_shape()).unwrap(), to, scratch).unwrap();
    output
}

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// V1, V2, and a block of each with sizes that no tile divides.
fn networks() -> Vec<(&'static str, Network, Shape)> {
    let config = Config::new().alpha(0.25).classes(37);
    let image = Shape::new(1, 65, 67, 3);
    let (v1, v2) = (MobileNetV1::architecture(&config).unwrap(), MobileNetV2::architecture(&config).unwrap());
    let rng = &mut Rng(1);
    let mut values = |len: usize| rng.values(len, ValueKind::Plain);
    let (c, t, n) = (19, 83, 19);
    let [expand, taps, project] = [c * t, 9 * t, t * n].map(&mut values);
    let [separate, mix] = [9 * c, c * 41].map(&mut values);
    let inverted = InvertedResidualDesc::new(
        ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, t])).activation(Activation::Relu6),
        ConvDesc::new(Filter::io(&project, [t, n])),
    )
    .expand(ConvDesc::new(Filter::io(&expand, [c, t])).activation(Activation::Relu6))
    .shortcut(Shortcut::Required);
    let separable = SeparableConv2d::new(
        ConvDesc::new(Filter::depthwise_hwc(&separate, [3, 3, c])).stride(2).activation(Activation::Relu6),
        ConvDesc::new(Filter::io(&mix, [c, 41])),
    );
    let plane = Shape::new(1, 31, 29, c);
    vec![
        ("v1", v1.network(&Weights::seeded(&v1, 1).unwrap()).unwrap(), image),
        ("v2", v2.network(&Weights::seeded(&v2, 1).unwrap()).unwrap(), image),
        ("inverted residual", Network::new(vec![InvertedResidual::new(inverted).unwrap().into()]).unwrap(), plane),
        ("separable", Network::new(vec![separable.unwrap().into()]).unwrap(), plane),
    ]
}

fn input(shape: Shape) -> DenseTensor {
    DenseTensor::random(&mut Rng(2), shape, ValueKind::Plain)
}

/// What each network makes of its input, fused and with products rounded. They change where the contract on numbers
/// does, or the networks above; nothing else may change them.
const DIGESTS: [(&str, [&str; 2]); 4] = [
    ("v1", ["b34493f7a7537151", "ac69a63fa9bab3aa"]),
    ("v2", ["63f9d1cca564afeb", "2a1bd1f6f7869f68"]),
    ("inverted residual", ["2f336546f367a9ae", "1f526349dd8a4ef7"]),
    ("separable", ["7516a75493f9e508", "c4b06b3058d94310"]),
];

#[test]
fn every_machine_has_the_digests_of_the_contract() {
    let mut got = Vec::new();
    for (name, network, shape) in networks() {
        let x = input(shape);
        let digests = [Arithmetic::Fused, Arithmetic::Separate].map(|arithmetic| {
            let mut of = None;
            for level in LEVELS.iter().filter(|level| level.arithmetic == arithmetic) {
                // where a step is a call, the networks would take minutes
                if level.is_emulated() && of.is_some() && network.layers().len() > 1 {
                    continue;
                }
                let plan = network.plan(shape, &level.options()).unwrap();
                let digest = digest(&run(&plan, &x.data, &mut plan.scratch().unwrap()));
                assert_eq!(*of.get_or_insert(digest.clone()), digest, "{name}, {level:?}");
            }
            of.expect("a level of each arithmetic")
        });
        got.push((name, digests));
    }
    assert_eq!(got, DIGESTS.map(|(name, digests)| (name, digests.map(String::from))));
    assert_required_levels();
}

#[test]
fn a_hundred_runs_are_the_same() {
    for (name, network, shape) in networks() {
        let x = input(shape);
        for threads in [1, 2] {
            let options = PlanOptions::new().threads(Threads::Pool(pool(threads))).max_threads(threads);
            let plan = network.plan(shape, &options).unwrap();
            let mut scratch = plan.scratch().unwrap();
            let expected = digest(&run(&plan, &x.data, &mut scratch));
            for i in 1..100 {
                // scratch as the run before left it, and now and then as nobody left it
                if i % 10 == 0 {
                    scratch.as_mut_slice().fill(0xFF);
                }
                assert_eq!(digest(&run(&plan, &x.data, &mut scratch)), expected, "{name}, {threads} threads, run {i}");
            }
        }
    }
}

#[test]
fn threads_schedules_and_levels_do_not_matter() {
    let pools: Vec<_> = (1..=8).map(pool).collect();
    for (name, network, shape) in networks() {
        // so that threads have images and rows to share out
        let shape = Shape { n: 3, ..shape };
        let x = input(shape);
        for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
            let mut expected = None;
            for pool in &pools {
                for fusion in SCHEDULES {
                    let threads = Threads::Pool(pool.clone());
                    let options = level.options().threads(threads).fusion(fusion);
                    let plan = network.plan(shape, &options).unwrap();
                    let got = digest(&run(&plan, &x.data, &mut plan.scratch().unwrap()));
                    let expected = expected.get_or_insert_with(|| got.clone());
                    assert_eq!(got, *expected, "{name}, {level:?}, {fusion:?}, {} threads", pool.current_num_threads());
                }
            }
        }
    }
    assert_required_levels();
}

/// Seven rows do not halve: then threads share a depthwise convolution by its channels, and what follows by its own.
#[test]
fn threads_share_the_channels_of_small_planes() {
    let (shape, n) = (Shape::new(1, 7, 5, 763), 128);
    let rng = &mut Rng(3);
    let (x, [taps, mix]) = (input(shape), [9 * shape.c, shape.c * n].map(|len| rng.values(len, ValueKind::Plain)));
    let depthwise = || ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, shape.c])).activation(Activation::Relu6);
    for stride in [1, 2] {
        let separate = depthwise().stride(stride);
        let ops: [Network; 2] = [
            Network::new(vec![DepthwiseConv2d::new(separate).unwrap().into()]).unwrap(),
            Network::new(vec![
                SeparableConv2d::new(separate, ConvDesc::new(Filter::io(&mix, [shape.c, n]))).unwrap().into(),
            ])
            .unwrap(),
        ];
        for (stages, network) in (1..).zip(&ops) {
            let mut expected = None;
            for threads in [1, 2, 3, 5, 64] {
                let plan = network
                    .plan(shape, &PlanOptions::new().threads(Threads::Pool(pool(threads))).max_threads(threads))
                    .unwrap();
                let got = digest(&run(&plan, &x.data, &mut plan.scratch().unwrap()));
                assert_eq!(got, *expected.get_or_insert_with(|| got.clone()), "stride {stride}, {threads} threads");
                if stride == 1 && threads > 1 {
                    let run = plan.explain().stages;
                    let names: Vec<_> = run.iter().map(|stage| stage.name).collect();
                    assert_eq!(names, ["depthwise", "pointwise"][..stages], "{threads} threads");
                    let shared = run[0].why.starts_with("threads share its channels");
                    assert_eq!(shared, stages == 2, "{threads} threads: {}", run[0].why);
                }
            }
        }
    }
}

#[test]
fn a_batch_may_be_split_anywhere() {
    for (name, network, shape) in networks() {
        let x = input(Shape { n: 5, ..shape });
        let image = shape.len().unwrap();
        for fusion in [Fusion::Auto, Fusion::Never] {
            for threads in [1, 3] {
                let options =
                    PlanOptions::new().fusion(fusion).threads(Threads::Pool(pool(threads))).max_threads(threads);
                let part = |from: usize, n: usize| {
                    let plan = network.plan(Shape { n, ..shape }, &options).unwrap();
                    run(&plan, &x.data[from * image..][..n * image], &mut plan.scratch().unwrap())
                };
                let whole = digest(&part(0, 5));
                for split in [&[1, 1, 1, 1, 1][..], &[2, 3], &[4, 1], &[1, 3, 1]] {
                    let mut from = 0;
                    let mut parts = Vec::new();
                    for &n in split {
                        parts.extend(part(from, n));
                        from += n;
                    }
                    assert_eq!(digest(&parts), whole, "{name}, {fusion:?}, {threads} threads, split {split:?}");
                }
            }
        }
    }
}
