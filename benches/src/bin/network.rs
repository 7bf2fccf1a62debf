//! Times MobileNetV1, V2 or V3 on seeded weights or those of a file, and says how near it comes to the peak of the machine.
//!
//! `cargo run --release -q -p sepconv-bench --bin network -- --net v2 --alpha 1.0 --size 224 --threads 1`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, whose output is its purpose")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use sepconv::models::{
    Architecture, Config, MobileNetV1, MobileNetV2, MobileNetV3, StridePadding, V3Size, WeightOrder, Weights,
};
use sepconv::{
    Activation, Error, Fusion, Isa, Layout, MAX_THREADS, Network, Plan, PlanOptions, Schedule, Scratch, Shape, Strides,
    Threads, View, ViewMut,
};
use sepconv_bench::described::by_convolutions;
use sepconv_bench::peak;
use sepconv_bench::timing::{self, Timing};

/// Times whole runs of a MobileNet on one image and compares them with the peak measured in the same process.
#[derive(Parser, Debug)]
#[command(name = "network", version)]
struct NetworkOptions {
    /// The network.
    #[arg(long, value_enum)]
    net: NetworkName,
    /// How the network is described to the planner. Both, parted by a comma, are timed in turns, and compared with the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "blocks")]
    describe: Vec<DescriptionOption>,
    /// Its width multiplier.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    alpha: f64,
    /// Rows of the image, and columns.
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u64).range(1..=8192))]
    size: u64,
    /// Threads that share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS as u64))]
    threads: u64,
    /// The instruction set, avx512, avx2, sse42, neon or scalar: the best of this CPU if not given. Several, parted by
    /// commas, or `all` that there are, are timed in turns, and compared with the first.
    #[arg(long, value_delimiter = ',', value_parser = isas)]
    isa: Vec<Isas>,
    /// The layout of the image. Both, parted by a comma, are timed in turns, and compared with the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nhwc")]
    layout: Vec<LayoutOption>,
    /// Whether and how the stages of a block run as one.
    #[arg(long, value_enum, default_value_t = FusionOption::Auto)]
    fusion: FusionOption,
    /// How planes are padded at stride 2.
    #[arg(long, value_enum, default_value_t = PaddingOption::Symmetric)]
    padding: PaddingOption,
    /// ReLU in place of ReLU6, as in V1's paper. Of V1 and V2 alone.
    #[arg(long)]
    relu: bool,
    /// How long runs are timed; ten of them at the least.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// A safetensors file of weights, with PyTorch's order of filters, in place of seeded ones.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Where to write the logits of one plan, as little-endian floats. The image is the same in every run.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Print the plan before anything is timed.
    #[arg(long)]
    explain: bool,
    /// Print the figures as one JSON object, on the last line.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum NetworkName {
    /// MobileNetV1.
    V1,
    /// MobileNetV2.
    V2,
    /// MobileNetV3, large.
    V3l,
    /// MobileNetV3, small.
    V3s,
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetworkName::V1 => "v1",
            NetworkName::V2 => "v2",
            NetworkName::V3l => "v3l",
            NetworkName::V3s => "v3s",
        })
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum DescriptionOption {
    /// MobileNet's blocks.
    Blocks,
    /// Single convolutions and sums; V1 and V2 alone.
    Convs,
}

impl fmt::Display for DescriptionOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DescriptionOption::Blocks => "blocks",
            DescriptionOption::Convs => "convs",
        })
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum LayoutOption {
    /// Pixels of three channels.
    Nhwc,
    /// Three planes.
    Nchw,
}

impl LayoutOption {
    fn layout(self) -> Layout {
        match self {
            LayoutOption::Nhwc => Layout::Nhwc,
            LayoutOption::Nchw => Layout::Nchw,
        }
    }
}

/// The layout of the image of a plan, as the option names it.
fn layout_of(plan: &Plan) -> String {
    format!("{:?}", plan.layouts()[0]).to_lowercase()
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

/// What a name given for `--isa` stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Isas {
    One(Isa),
    All,
}

fn isas(text: &str) -> Result<Isas, String> {
    match text {
        "all" => Ok(Isas::All),
        name => name.parse().map(Isas::One).map_err(|e| format!("{e}, or all")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number above 0 and at most 3600".into()),
    }
}

impl NetworkOptions {
    fn padding(&self) -> StridePadding {
        match self.padding {
            PaddingOption::Same => StridePadding::Same,
            PaddingOption::Symmetric => StridePadding::Symmetric,
        }
    }

    fn architecture(&self) -> Result<Architecture, Error> {
        let mut config = Config::new().alpha(self.alpha).padding(self.padding());
        if self.relu {
            if matches!(self.net, NetworkName::V3l | NetworkName::V3s) {
                return Err(Error::Network("V3 has activations of its own: --relu is for V1 and V2".into()));
            }
            config = config.activation(Activation::Relu);
        }
        match self.net {
            NetworkName::V1 => MobileNetV1::architecture(&config),
            NetworkName::V2 => MobileNetV2::architecture(&config),
            NetworkName::V3l => MobileNetV3::architecture(V3Size::Large, &config),
            NetworkName::V3s => MobileNetV3::architecture(V3Size::Small, &config),
        }
    }

    /// The name of the network in the output.
    fn name(&self) -> String {
        format!("{}{}", self.net, if self.relu { "-relu" } else { "" })
    }

    /// The network, described so.
    fn network(&self, description: DescriptionOption) -> Result<Network, Error> {
        let architecture = self.architecture()?;
        let file = self.weights.as_deref().map(read).transpose()?;
        let weights = match &file {
            Some(file) => Weights::from_safetensors(file, WeightOrder::Oihw)?,
            None => Weights::seeded(&architecture, 0)?,
        };
        match (description, self.net) {
            (DescriptionOption::Blocks, _) => architecture.network(&weights),
            (DescriptionOption::Convs, NetworkName::V1 | NetworkName::V2) => {
                by_convolutions(&architecture, &weights, self.padding())
            }
            (DescriptionOption::Convs, _) => Err(Error::Network("V3 is described by blocks alone".into())),
        }
    }

    /// The instruction sets to time, in their order and none twice.
    fn isas(&self) -> Result<Vec<Isa>, Error> {
        let best = PlanOptions::new().isa()?;
        let mut isas = Vec::new();
        for &named in &self.isa {
            let stands_for = match named {
                Isas::One(isa) => vec![isa],
                Isas::All => Isa::ALL.into_iter().filter(|isa| isa.is_at_most(best) && isa.is_available()).collect(),
            };
            for isa in stands_for {
                if !isas.contains(&isa) {
                    isas.push(isa);
                }
            }
        }
        Ok(if isas.is_empty() { vec![best] } else { isas })
    }

    fn plan_options(&self, isa: Isa) -> Result<PlanOptions, Error> {
        let mut options = PlanOptions::new().fusion(match self.fusion {
            FusionOption::Auto => Fusion::Auto,
            FusionOption::Never => Fusion::Never,
            FusionOption::Ring => Fusion::Require(Schedule::RowRing),
            FusionOption::Slabs => Fusion::Require(Schedule::ChannelSlabs),
        });
        options = options.max_isa(isa);
        let got = options.isa()?;
        if got != isa {
            return Err(Error::Isa(format!("asked for {isa}, but this CPU and SEPCONV_MAX_ISA leave {got}")));
        }
        if self.threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads as usize).build();
            let pool = pool.map_err(|e| Error::Network(format!("a pool of {} threads: {e}", self.threads)))?;
            options = options.threads(Threads::Pool(Arc::new(pool)));
        }
        Ok(options)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| Error::Weights(format!("{}: {e}", path.display())))
}

/// Everything that can be wrong is found here, before anything is timed.
fn prepare(options: &NetworkOptions) -> Result<Vec<(Plan, DescriptionOption)>, Error> {
    let architecture = options.architecture()?;
    let isas = options.isas()?;
    let plan_options = isas.into_iter().map(|isa| options.plan_options(isa)).collect::<Result<Vec<_>, _>>()?;
    let size = options.size as usize;
    let input = Shape::new(1, size, size, architecture.inputs());
    let count = plan_options.len() * options.layout.len() * options.describe.len();
    if options.output.is_some() && count > 1 {
        return Err(Error::Network(format!("--output is of one plan, and {count} are asked for")));
    }
    let mut plans = Vec::new();
    for of_isa in &plan_options {
        for layout in &options.layout {
            for &description in &options.describe {
                let options_of_plan = of_isa.clone().input_layout(layout.layout());
                plans.push((options.network(description)?.plan(input, &options_of_plan)?, description));
            }
        }
    }
    Ok(plans)
}

/// A plan and what it runs on.
struct Runner<'p> {
    plan: &'p Plan,
    input: Vec<f32>,
    output: Vec<f32>,
    scratch: Scratch,
}

impl<'p> Runner<'p> {
    fn new(plan: &'p Plan) -> Result<Self, Error> {
        let input = (0..plan.input_shape().len()?).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
        Ok(Runner { plan, input, output: vec![0.0; plan.output_shape().len()?], scratch: plan.scratch()? })
    }

    fn time(&mut self, seconds: f64) -> Result<Timing, Error> {
        let Runner { plan, input, output, scratch } = self;
        timing::time(Duration::from_secs_f64(seconds), || {
            let shape = plan.input_shape();
            let input = View::with_strides(input, shape, Strides::dense(plan.layouts()[0], shape))?;
            plan.run(input, ViewMut::new(output, plan.output_shape())?, scratch)
        })
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Turns that each of them gets, so that a slow spell of the machine meets all of them alike.
const TURNS: usize = 5;

/// Times several instruction sets or layouts in turns.
fn compare(options: &NetworkOptions, plans: &[(Plan, DescriptionOption)]) -> Result<(), Error> {
    let mut runners = plans.iter().map(|(plan, _)| Runner::new(plan)).collect::<Result<Vec<_>, _>>()?;
    let mut timings = vec![Vec::new(); plans.len()];
    for _ in 0..TURNS {
        for (runner, timings) in runners.iter_mut().zip(&mut timings) {
            timings.push(runner.time(options.seconds / TURNS as f64)?);
        }
    }
    let medians: Vec<f64> = timings
        .iter_mut()
        .map(|timings| {
            timings.sort_by_key(|timing| timing.median);
            milliseconds(timings[TURNS / 2].median)
        })
        .collect();
    let (net, size, threads) = (options.name(), options.size, options.threads);
    if options.json {
        let isas = plans.iter().zip(&medians).map(|((plan, description), &median_ms)| {
            serde_json::json!({
                "isa": plan.isa().name(),
                "layout": layout_of(plan),
                "describe": description.to_string(),
                "median_ms": median_ms,
                "ratio": median_ms / medians[0],
            })
        });
        let isas: Vec<_> = isas.collect();
        let alpha = options.alpha;
        println!(
            "{}",
            serde_json::json!({ "net": net, "alpha": alpha, "size": size, "threads": threads, "isas": isas })
        );
        return Ok(());
    }
    println!("MobileNet{} {} at {size}×{size}, threads: {threads}, in turns", net.to_uppercase(), options.alpha);
    for (plan, median_ms) in plans.iter().zip(&medians) {
        let name = |(plan, description): &(Plan, DescriptionOption)| {
            format!("{} {} {description}", plan.isa(), layout_of(plan))
        };
        let (name, first, ratio) = (name(plan), name(&plans[0]), median_ms / medians[0]);
        println!("  {name:21} {median_ms:9.3} ms, {ratio:7.3} times as long as {first}");
    }
    Ok(())
}

fn measure(options: &NetworkOptions, plan: &Plan, description: DescriptionOption) -> Result<(), Error> {
    let (isa, threads) = (plan.isa(), options.threads as usize);
    let mut runner = Runner::new(plan)?;

    // The peak is taken before and after, so that a slow spell of the machine does not pass for a fast network.
    let peak_of = || peak::measure(isa, threads).ok_or_else(|| Error::Isa(format!("{isa} does not run on this CPU")));
    let before = peak_of()?;
    let timing = runner.time(options.seconds)?;
    let peak_gflops = before.max(peak_of()?);
    if let Some(path) = &options.output {
        let bytes: Vec<u8> = runner.output.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(path, bytes).map_err(|e| Error::Network(format!("{}: {e}", path.display())))?;
    }

    let (median_ms, best_ms) = (milliseconds(timing.median), milliseconds(timing.best));
    let macs = plan.macs();
    let gflops = 2.0 * macs as f64 / (median_ms * 1e6);
    let net = options.name();
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "net": net,
                "alpha": options.alpha,
                "size": options.size,
                "threads": threads,
                "isa": isa.name(),
                "layout": layout_of(plan),
                "describe": description.to_string(),
                "median_ms": median_ms,
                "best_ms": best_ms,
                "runs": timing.runs,
                "macs": macs,
                "gflops": gflops,
                "peak_gflops": peak_gflops,
                "fma_efficiency": gflops / peak_gflops,
                "scratch_bytes": plan.scratch_bytes(),
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
    println!("  scratch   {:9.1} KiB: the arena, and the memory of each worker", plan.scratch_bytes() as f64 / 1024.0);
    Ok(())
}

fn main() -> ExitCode {
    let options = NetworkOptions::parse();
    let plans = match prepare(&options) {
        Ok(plans) => plans,
        Err(e) => NetworkOptions::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    if options.explain {
        for (plan, _) in &plans {
            println!("{}", plan.explain());
        }
    }
    let done = match plans.as_slice() {
        [(plan, description)] => measure(&options, plan, *description),
        plans => compare(&options, plans),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
