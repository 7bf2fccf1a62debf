//! How much longer a block takes with each activation than with ReLU6: the table of docs/kernels/activation.md.
//!
//! `cargo run --release -q -p sepconv-bench --bin activations [seconds for a block]`
#![allow(clippy::print_stdout, reason = "a program, whose output is its purpose")]

use std::time::Duration;

use sepconv::{
    Activation, ConvDesc, Filter, InvertedResidual, InvertedResidualDesc, Padding, Plan, PlanOptions, Result, Shape,
    Shortcut, View, ViewMut,
};
use sepconv_bench::rounds::{Budget, interleave};

/// An inverted residual block: its plane, its channels, those between its convolutions, and those that come out; kernel and stride.
struct Sizes(&'static str, usize, [usize; 3], usize, usize);

/// Those of MobileNetV2 and V3-Large whose input has 28×28 pixels or more.
const BLOCKS: [Sizes; 11] = [
    Sizes("V2", 112, [32, 32, 16], 3, 1),
    Sizes("V2", 112, [16, 96, 24], 3, 2),
    Sizes("V2", 56, [24, 144, 24], 3, 1),
    Sizes("V2", 56, [24, 144, 32], 3, 2),
    Sizes("V2", 28, [32, 192, 32], 3, 1),
    Sizes("V2", 28, [32, 192, 64], 3, 2),
    Sizes("V3", 112, [16, 64, 24], 3, 2),
    Sizes("V3", 56, [24, 72, 24], 3, 1),
    Sizes("V3", 56, [24, 72, 40], 5, 2),
    Sizes("V3", 28, [40, 120, 40], 5, 1),
    Sizes("V3", 28, [40, 240, 80], 3, 2),
];

/// The first is what the others are held against.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("ReLU6", Activation::Relu6),
    ("HardSwish", Activation::HardSwish),
    ("HardSigmoid", Activation::HardSigmoid),
    ("Sigmoid", Activation::Sigmoid),
    ("SiLU", Activation::Silu),
    ("Tanh", Activation::Tanh),
    ("GELU", Activation::Gelu),
    ("LeakyReLU", Activation::LeakyRelu { slope: 0.01 }),
];

impl Sizes {
    fn input(&self) -> Shape {
        let &Sizes(_, side, [c, ..], ..) = self;
        Shape::new(1, side, side, c)
    }

    fn plan(&self, activation: Activation, options: &PlanOptions) -> Result<Plan> {
        let &Sizes(_, _, [c, wide, outputs], kernel, stride) = self;
        let mut rng = fastrand::Rng::with_seed(10);
        // sums of some units, so that every part of an activation is met
        let mut weights = |len: usize, inputs: usize| -> Vec<f32> {
            let size = 2.0 * (3.0 / inputs as f32).sqrt();
            (0..len).map(|_| (rng.f32() * 2.0 - 1.0) * size).collect()
        };
        let taps = kernel * kernel;
        let [expand, depthwise, project] =
            [(c * wide, c), (taps * wide, taps), (wide * outputs, wide)].map(|(len, inputs)| weights(len, inputs));
        let middle = ConvDesc::new(Filter::depthwise_hwc(&depthwise, [kernel, kernel, wide]))
            .stride(stride)
            .padding(Padding::Same)
            .activation(activation);
        let desc = InvertedResidualDesc::new(middle, ConvDesc::new(Filter::io(&project, [wide, outputs])));
        let desc = match wide > c {
            true => desc.expand(ConvDesc::new(Filter::io(&expand, [c, wide])).activation(activation)),
            false => desc,
        };
        InvertedResidual::new(desc.shortcut(Shortcut::IfShapesAllow))?.plan(self.input(), options)
    }
}

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let names: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
    println!("| block | kernel | {} µs | {} |", names[0], names[1..].join(" | "));
    println!("|---|---|{}", "--:|".repeat(names.len()));
    for block in &BLOCKS {
        let options = PlanOptions::new();
        let plans: Vec<Plan> =
            ACTIVATIONS.iter().map(|&(_, activation)| block.plan(activation, &options)).collect::<Result<_>>()?;
        let (shape, output) = (plans[0].input_shape(), plans[0].output_shape());
        let mut rng = fastrand::Rng::with_seed(11);
        let x: Vec<f32> = (0..shape.h * shape.w * shape.c).map(|_| rng.f32() * 2.0 - 1.0).collect();
        let mut y = vec![0.0; output.h * output.w * output.c];
        let mut scratch = plans.iter().map(Plan::scratch).collect::<Result<Vec<_>>>()?;
        let run =
            |i: usize| plans[i].run(View::new(&x, shape)?, ViewMut::new(&mut y, output)?, &mut scratch[i]).map(|_| ());
        let figures =
            interleave(plans.len(), Budget::of(Duration::from_secs(seconds), plans.len(), 20), run, |_| Ok(()))?;
        let ratios: Vec<String> = figures[1..].iter().map(|f| format!("{:.2}", f.ratio(&figures[0]))).collect();
        let &Sizes(net, side, [c, wide, outputs], kernel, stride) = block;
        let micros = figures[0].median() * 1e6;
        println!(
            "| {net} {side}×{side}, {c} → {wide} → {outputs} | {kernel}×{kernel}, stride {stride} | {micros:.0} | {} |",
            ratios.join(" | ")
        );
    }
    Ok(())
}
