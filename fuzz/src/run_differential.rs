//! Small cases over every operator, both blocks and networks, run every way there is: bits equal to the reference.
//!
//! The cases are those of the property tests, by the same strategies, which are driven here by the fuzzer's bytes.

#[path = "../../tests/common/mod.rs"]
mod common;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sepconv::{Arithmetic, Fusion, Network};

use common::{Built, ChainCase, Rng, SCHEDULES, alone};

/// Cases above this are left to the property tests: here many small ones say more.
const MACS: u64 = 150_000;

fn strategy(kind: u8) -> BoxedStrategy<ChainCase> {
    match kind % 8 {
        0 => alone(common::conv2d()).boxed(),
        1 => alone(common::depthwise()).boxed(),
        2 => alone(common::pointwise()).boxed(),
        3 => alone(common::separable()).boxed(),
        4 => alone(common::inverted()).boxed(),
        5 => alone(common::pool()).boxed(),
        6 => common::dense_alone().boxed(),
        _ => common::network().boxed(),
    }
}

/// The first byte says which kind of case, the rest is what a random generator would have given.
pub fn check(data: &[u8]) -> String {
    let Some((&kind, choices)) = data.split_first() else { return "nothing".into() };
    // Strategies draw again where a draw is not even; past its end the generator gives zeros, of which they would draw for ever.
    // So behind the fuzzer's bytes come some thousand that are random and always the same.
    let mut rng = Rng(0);
    let rest: Vec<u8> = (0..1024).flat_map(|_| rng.next().to_le_bytes()).collect();
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, &[choices, &rest].concat());
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let Ok(tree) = strategy(kind).new_tree(&mut runner) else { return "no case".into() };
    let case = tree.current();
    if case.macs() > MACS {
        return "too large".into();
    }
    let built = case.build();
    let input = case.input();
    let reference = |arithmetic: Arithmetic| {
        let mut x = built[0].reference(&input, arithmetic);
        for layer in &built[1..] {
            x = layer.reference(&x, arithmetic);
        }
        x
    };
    let network = Network::new(built.iter().map(Built::layer).collect()).expect("layers");
    let blocks = matches!(kind % 8, 3 | 4);
    let fusions: &[Fusion] = if blocks { &SCHEDULES } else { &[Fusion::Auto, Fusion::Never] };
    let plan = |options: &sepconv::PlanOptions| network.plan(case.input, options);
    if let Err(error) = common::check(plan, fusions, &input, reference, case.macs(), case.runs) {
        panic!("{case:#?}\n{error}");
    }
    format!("{} {}", kind % 8, data.len() / 256)
}
