//! A ResNet-18, or a MobileNetV2 with a feature pyramid of four outputs, by the builder of graphs: planned, explained and timed.
//!
//! ```text
//! cargo run --release --example graphs -- resnet18
//! cargo run --release --example graphs -- pyramid --threads 2 --check
//! ```
//!
//! `support/networks.rs` describes the networks.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it measures")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use sepconv::models::{WeightOrder, Weights};
use sepconv::{Network, Plan, PlanOptions, Shape, Threads, ViewMut};
use sepconv_example_graphs::{Describe, Interpreter, NamedTensors, pyramid, resnet18};
use sepconv_test_support::{DenseTensor, same_bits};

/// Plans, explains and times a network that the builder of graphs makes.
#[derive(Parser)]
struct GraphsArgs {
    /// The network.
    #[arg(value_enum)]
    net: GraphName,
    /// Rows of the image, and columns; of the pyramid a multiple of 32.
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u16).range(32..=2048))]
    size: u16,
    /// Threads to share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// How long runs are timed; ten of them at the least.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A safetensors file of weights, with PyTorch's order of filters, in place of seeded ones.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Where to write the outputs: their values in NHWC, one output after the other, as little-endian floats.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Compare every bit of the outputs with those of a naive interpreter, which takes seconds at 224×224.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum GraphName {
    /// ResNet-18.
    Resnet18,
    /// MobileNetV2 with a feature pyramid of 64 channels.
    Pyramid,
}

impl GraphName {
    fn name(self) -> &'static str {
        match self {
            GraphName::Resnet18 => "resnet18",
            GraphName::Pyramid => "pyramid",
        }
    }

    fn describe<G: Describe>(self, graph: &mut G, tensors: &NamedTensors<'_>) -> sepconv::Result<()> {
        match self {
            GraphName::Resnet18 => resnet18(graph, tensors, 64),
            GraphName::Pyramid => pyramid(graph, tensors, 1.0, 64),
        }
    }
}

/// Memory for the outputs of a plan.
struct GraphOutputs {
    values: Vec<Vec<f32>>,
}

impl GraphOutputs {
    fn new(plan: &Plan) -> Result<Self> {
        let values = plan.output_shapes().iter().map(|shape| Ok(vec![0.0; shape.len()?]));
        Ok(GraphOutputs { values: values.collect::<Result<_>>()? })
    }

    fn views(&mut self, plan: &Plan) -> Result<Vec<ViewMut<'_>>> {
        let views = self.values.iter_mut().zip(plan.output_shapes());
        views.map(|(values, &shape)| Ok(ViewMut::new(values, shape)?)).collect()
    }

    fn write(&self, path: &Path) -> Result<()> {
        let bytes: Vec<u8> = self.values.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(path, bytes).with_context(|| path.display().to_string())
    }
}

/// Times of runs, in milliseconds: the median, and the best.
fn time(seconds: f64, mut run: impl FnMut() -> Result<()>) -> Result<[f64; 2]> {
    for _ in 0..5 {
        run()?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 10 || start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        run()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok([milliseconds(times[times.len() / 2]), milliseconds(times[0])])
}

/// An error where the outputs are not those of the interpreter.
fn check(
    args: &GraphsArgs,
    tensors: &NamedTensors<'_>,
    image: DenseTensor,
    plan: &Plan,
    got: &GraphOutputs,
) -> Result<()> {
    let mut interpreter = Interpreter::new(vec![image], plan.arithmetic());
    args.net.describe(&mut interpreter, tensors)?;
    let expected = interpreter.outputs();
    ensure!(got.values.len() == expected.len(), "expected {} outputs, got {}", expected.len(), got.values.len());
    for (i, (got, expected)) in got.values.iter().zip(expected).enumerate() {
        ensure!(got.len() == expected.data.len(), "output {i}: expected {}", expected.shape);
        for (at, (&got, expected)) in got.iter().zip(expected.data).enumerate() {
            ensure!(same_bits(got, expected), "output {i}, value {at}: expected {expected:e}, got {got:e}");
        }
    }
    println!("every bit of the outputs is the interpreter's");
    Ok(())
}

fn run(args: &GraphsArgs) -> Result<()> {
    let file = match &args.weights {
        Some(path) => Some(std::fs::read(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let tensors = match &file {
        Some(file) => NamedTensors::File(Weights::from_safetensors(file, WeightOrder::Oihw)?),
        None => NamedTensors::Seeded,
    };
    let mut graph = Network::builder();
    args.net.describe(&mut graph, &tensors)?;
    let network = graph.build()?;

    let size = args.size.into();
    let shape = Shape::new(1, size, size, 3);
    let threads = match args.threads {
        1 => Threads::Serial,
        n => Threads::Pool(rayon::ThreadPoolBuilder::new().num_threads(n.into()).build()?.into()),
    };
    let plan = network.plan(shape, &PlanOptions::new().threads(threads))?;
    println!("{}", plan.explain());
    let shapes: Vec<String> = plan.output_shapes().iter().map(ToString::to_string).collect();
    println!("{shape} to {}", shapes.join(", "));

    let pixels = (0..shape.len()?).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
    let image = DenseTensor { shape, data: pixels };
    let mut outputs = GraphOutputs::new(&plan)?;
    let mut scratch = plan.scratch()?;
    let [median_ms, best_ms] =
        time(args.seconds, || Ok(plan.run_all(&[image.view()], &mut outputs.views(&plan)?, &mut scratch)?))?;
    if let Some(path) = &args.output {
        outputs.write(path)?;
    }
    if args.check {
        check(args, &tensors, image, &plan, &outputs)?;
    }
    let gflops = 2.0 * plan.macs() as f64 / (median_ms * 1e6);
    println!("median {median_ms:.3} ms, best {best_ms:.3} ms, {gflops:.1} GFLOP/s");
    let figures = serde_json::json!({
        "net": args.net.name(),
        "size": size,
        "threads": args.threads,
        "isa": plan.isa().name(),
        "median_ms": median_ms,
        "best_ms": best_ms,
        "macs": plan.macs(),
        "scratch_bytes": plan.scratch_bytes(),
    });
    println!("{figures}");
    Ok(())
}

fn main() -> ExitCode {
    match run(&GraphsArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
