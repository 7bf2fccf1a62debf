//! Times MobileNetV1 or V2 on seeded weights, and says how near it comes to the peak of the machine.
//!
//! `cargo run --release -q -p sepconv-bench --bin network -- --net v2 --alpha 1.0 --size 224 --threads 1`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, whose output is its purpose")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use sepconv::models::{Architecture, Config, MobileNetV1, MobileNetV2, StridePadding, Weights};
use sepconv::{Error, Fusion, Isa, MAX_THREADS, Plan, PlanOptions, Schedule, Shape, Threads, View, ViewMut};
use sepconv_bench::{peak, timing};

/// Times whole runs of a MobileNet on one image and compares them with the peak measured in the same process.
#[derive(Parser, Debug)]
#[command(name = "network", version)]
struct Options {
    /// The network.
    #[arg(long)]
    net: Net,
    /// Its width multiplier.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    alpha: f64,
    /// Rows of the image, and columns.
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u64).range(1..=8192))]
    size: u64,
    /// Threads that share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS as u64))]
    threads: u64,
    /// The instruction set, avx2, sse42, neon or scalar: the best of this CPU if not given.
    #[arg(long)]
    isa: Option<Isa>,
    /// Whether and how the stages of a block run as one.
    #[arg(long, value_enum, default_value_t = FusionOption::Auto)]
    fusion: FusionOption,
    /// How planes are padded at stride 2.
    #[arg(long, value_enum, default_value_t = PaddingOption::Symmetric)]
    padding: PaddingOption,
    /// How long runs are timed; ten of them at the least.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Print the plan before anything is timed.
    #[arg(long)]
    explain: bool,
    /// Print the figures as one JSON object, on the last line.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Net {
    /// MobileNetV1.
    V1,
    /// MobileNetV2.
    V2,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum FusionOption {
    /// The plan decides.
    Auto,
    /// Every stage on its own.
    Never,
    /// A ring of a few rows of all channels.
    Ring,
    /// The whole plane, some channels at a time.
    Slabs,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum PaddingOption {
    /// TensorFlow's.
    Same,
    /// One pixel at each side.
    Symmetric,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number above 0 and at most 3600".into()),
    }
}

impl Options {
    fn architecture(&self) -> Result<Architecture, Error> {
        let config = Config::new().alpha(self.alpha).padding(match self.padding {
            PaddingOption::Same => StridePadding::Same,
            PaddingOption::Symmetric => StridePadding::Symmetric,
        });
        match self.net {
            Net::V1 => MobileNetV1::architecture(&config),
            Net::V2 => MobileNetV2::architecture(&config),
        }
    }

    fn plan_options(&self) -> Result<PlanOptions, Error> {
        let mut options = PlanOptions::new().fusion(match self.fusion {
            FusionOption::Auto => Fusion::Auto,
            FusionOption::Never => Fusion::Never,
            FusionOption::Ring => Fusion::Require(Schedule::RowRing),
            FusionOption::Slabs => Fusion::Require(Schedule::ChannelSlabs),
        });
        if let Some(isa) = self.isa {
            options = options.max_isa(isa);
            let got = options.isa()?;
            if got != isa {
                return Err(Error::Isa(format!("asked for {isa}, but this CPU and SEPCONV_MAX_ISA leave {got}")));
            }
        }
        if self.threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads as usize).build();
            let pool = pool.map_err(|e| Error::Network(format!("a pool of {} threads: {e}", self.threads)))?;
            options = options.threads(Threads::Pool(Arc::new(pool)));
        }
        Ok(options)
    }
}

/// Everything that can be wrong is found here, before anything is timed.
fn prepare(options: &Options) -> Result<Plan, Error> {
    let architecture = options.architecture()?;
    let plan_options = options.plan_options()?;
    let weights = Weights::seeded(&architecture, 0)?;
    let size = options.size as usize;
    architecture.network(&weights)?.plan(Shape::new(1, size, size, architecture.inputs()), &plan_options)
}

fn measure(options: &Options, plan: &Plan) -> Result<(), Error> {
    let (isa, threads) = (plan.isa(), options.threads as usize);
    let input: Vec<f32> = (0..plan.input_shape().len()?).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
    let mut output = vec![0.0; plan.output_shape().len()?];
    let mut scratch = plan.scratch()?;

    // The peak is taken before and after, so that a slow spell of the machine does not pass for a fast network.
    let peak_of = || peak::measure(isa, threads).ok_or_else(|| Error::Isa(format!("{isa} does not run on this CPU")));
    let before = peak_of()?;
    let timing = timing::time(Duration::from_secs_f64(options.seconds), || {
        let input = View::new(&input, plan.input_shape())?;
        plan.run(input, ViewMut::new(&mut output, plan.output_shape())?, &mut scratch)
    })?;
    let peak_gflops = before.max(peak_of()?);

    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (median_ms, best_ms) = (milliseconds(timing.median), milliseconds(timing.best));
    let macs = plan.macs();
    let gflops = 2.0 * macs as f64 / (median_ms * 1e6);
    let net = match options.net {
        Net::V1 => "v1",
        Net::V2 => "v2",
    };
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "net": net,
                "alpha": options.alpha,
                "size": options.size,
                "threads": threads,
                "isa": isa.name(),
                "median_ms": median_ms,
                "best_ms": best_ms,
                "runs": timing.runs,
                "macs": macs,
                "gflops": gflops,
                "peak_gflops": peak_gflops,
                "fma_efficiency": gflops / peak_gflops,
                "arena_bytes": plan.scratch_bytes(),
            })
        );
        return Ok(());
    }
    let size = options.size;
    println!("MobileNet{} {} at {size}×{size}, {isa}, threads: {threads}", net.to_uppercase(), options.alpha);
    println!("  median    {median_ms:9.3} ms of {} runs", timing.runs);
    println!("  best      {best_ms:9.3} ms");
    println!("  work      {:9.1} million MACs", macs as f64 / 1e6);
    println!("  speed     {gflops:9.1} GFLOP/s (a MAC is two operations; median)");
    println!("  peak      {peak_gflops:9.1} GFLOP/s of multiply-adds alone, measured before and after");
    println!("  ratio     {:9.1} %", 100.0 * gflops / peak_gflops);
    println!("  arena     {:9.1} KiB of activations and scratch", plan.scratch_bytes() as f64 / 1024.0);
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let plan = match prepare(&options) {
        Ok(plan) => plan,
        Err(e) => Options::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    if options.explain {
        println!("{}", plan.explain());
    }
    match measure(&options, &plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
