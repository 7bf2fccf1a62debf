//! How much longer a run takes where its values are denormal: the table of docs/numbers.md.
//!
//! `cargo run --release -q -p sepconv-bench --bin denormals`
#![allow(clippy::print_stdout, reason = "a program, whose output is its purpose")]

use std::time::Duration;

use sepconv::{
    ConvDesc, DepthwiseConv2d, Filter, Isa, Layer, Network, PlanOptions, PointwiseConv2d, Result, SeparableConv2d,
    Shape, View, ViewMut,
};
use sepconv_bench::timing;

const PLANE: Shape = Shape::new(1, 28, 28, CHANNELS);
const CHANNELS: usize = 96;

/// How long each run is timed.
const DURATION: Duration = Duration::from_millis(30);

/// What makes a number of −1…1 denormal.
const DENORMAL: f32 = 1e-39;
/// What keeps two numbers of −1…1 normal, and makes their product denormal.
const SMALL: f32 = 1e-20;

/// Numbers of −1…1, by which inputs and weights are made.
struct Numbers {
    taps: Vec<f32>,
    matrix: Vec<f32>,
    input: Vec<f32>,
}

impl Numbers {
    fn new() -> Numbers {
        let mut rng = fastrand::Rng::with_seed(10);
        let [taps, matrix, input] = [9 * CHANNELS, CHANNELS * CHANNELS, PLANE.h * PLANE.w * CHANNELS]
            .map(|len| (0..len).map(|_| rng.f32() * 2.0 - 1.0).collect());
        Numbers { taps, matrix, input }
    }

    /// The operators of the table, with their weights scaled.
    fn layers(&self, scale: f32) -> Result<[(&'static str, Layer); 3]> {
        let (taps, matrix) = (scaled(&self.taps, scale), scaled(&self.matrix, scale));
        let depthwise = || ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, CHANNELS]));
        let pointwise = || ConvDesc::new(Filter::io(&matrix, [CHANNELS, CHANNELS]));
        Ok([
            ("depthwise", DepthwiseConv2d::new(depthwise())?.into()),
            ("pointwise", PointwiseConv2d::new(pointwise())?.into()),
            ("separable", SeparableConv2d::new(depthwise(), pointwise())?.into()),
        ])
    }

    /// The shortest run in microseconds, with the input scaled.
    fn time(&self, isa: Isa, layer: Layer, scale: f32) -> Result<f64> {
        let plan = Network::new(vec![layer])?.plan(PLANE, &PlanOptions::new().max_isa(isa))?;
        let output = plan.output_shape();
        let (x, mut y) = (scaled(&self.input, scale), vec![0.0; output.n * output.h * output.w * output.c]);
        let mut scratch = plan.scratch()?;
        let timing =
            timing::time(DURATION, || plan.run(View::new(&x, PLANE)?, ViewMut::new(&mut y, output)?, &mut scratch))?;
        Ok(timing.best.as_secs_f64() * 1e6)
    }
}

fn scaled(values: &[f32], by: f32) -> Vec<f32> {
    values.iter().map(|v| v * by).collect()
}

fn main() -> Result<()> {
    let numbers = Numbers::new();
    println!("| operator | level | normal µs | denormal input | denormal weights | denormal products |");
    println!("|---|---|---|---|---|---|");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let [normal, denormal, small] = [1.0, DENORMAL, SMALL].map(|scale| numbers.layers(scale));
        for (((name, normal), (_, denormal)), (_, small)) in normal?.into_iter().zip(denormal?).zip(small?) {
            let alone = numbers.time(isa, normal.clone(), 1.0)?;
            let input = numbers.time(isa, normal, DENORMAL)? / alone;
            let weights = numbers.time(isa, denormal, 1.0)? / alone;
            let products = numbers.time(isa, small, SMALL)? / alone;
            println!("| {name} | {isa} | {alone:.0} | {input:.2}× | {weights:.2}× | {products:.2}× |");
        }
    }
    Ok(())
}
