//! Times every operator that MobileNetV1 and V2 consist of, and says how near each comes to its roofline.
//!
//! ```sh
//! cargo run --release -q -p sepconv-bench --bin operators -- --filter dw
//! cargo run --release -q -p sepconv-bench --bin operators -- --fusion
//! cargo run --release -q -p sepconv-bench --bin operators -- --layout
//! cargo run --release -q -p sepconv-bench --bin operators -- --planning
//! cargo run --release -q -p sepconv-bench --bin operators -- --cliffs
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, whose output is its purpose")]

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use sepconv::models::Weights;
use sepconv::{Error, Fusion, Isa, Layout, MAX_THREADS, PlanOptions, Result, Schedule, Shape};
use sepconv_bench::cliffs;
use sepconv_bench::roofline::{Limit, Roofline};
use sepconv_bench::rounds::{self, Budget, Figure, Moment};
use sepconv_bench::shapes::{self, BenchStage, Family, List, Net, Operator, UsedOperator};
use sepconv_bench::subject::{Buffers, CacheState, Subject, plan_options};

/// Times operators, and compares them with a roofline that is measured in the same process: `max(FLOPs / FMA peak,
/// bytes / copy bandwidth)`, where the bandwidth is that of a copy over as much memory as the operator goes over.
///
/// Times are medians of rounds that go over all operators. The spread is the range of the middle half of the rounds
/// over their median; above 10 % it is marked by a `?`.
#[derive(Parser, Debug)]
#[command(name = "operators", version)]
struct OperatorsOptions {
    /// Only operators of which name, shape, or a network that has them contains one of these, such as dw, pw,
    /// separable, 112x112 or v2-1.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// The networks: V1, V2, and depthwise convolutions that neither has.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "v1,v2,general")]
    net: Vec<NetOption>,
    /// The widths of both networks: V1's are 0.25, 0.5 and 1, V2's are 0.35, 0.5, 1 and 1.4, if not given; with
    /// --fusion 1.
    #[arg(long, value_delimiter = ',')]
    alpha: Vec<f64>,
    /// Rows and columns of the image: 224 if not given; with --fusion 224, 160 and 96.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=8192))]
    size: Vec<u64>,
    /// Threads that share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS as u64))]
    threads: u64,
    /// The instruction set, avx512, avx2, sse42, neon or scalar: the best of this CPU if not given.
    #[arg(long)]
    isa: Option<Isa>,
    /// Whether inputs and outputs are at the same place in each run (warm), or go over twice the last cache (cold).
    #[arg(long, value_enum, default_value_t = CacheOption::Warm)]
    cache: CacheOption,
    /// How long is measured in all.
    #[arg(long, default_value_t = 30.0, value_parser = up_to_3600)]
    seconds: f64,
    /// How often each operator is timed; the figure is the median.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Compare fused with unfused, for every block, and what the plan takes with the best.
    #[arg(long, conflicts_with = "planning")]
    fusion: bool,
    /// Compare NCHW input and output with NHWC, for every operator, and the ratio with what it may be.
    #[arg(long, conflicts_with_all = ["planning", "fusion"])]
    layout: bool,
    /// Time how long it takes to make and plan the networks.
    #[arg(long)]
    planning: bool,
    /// Compare shapes beside those of MobileNet with fast ones, and the ratio with what it may be: fails where one is over. On one
    /// thread.
    #[arg(long, conflicts_with_all = ["planning", "fusion", "layout", "net", "alpha", "size", "threads", "cache", "rounds"])]
    cliffs: bool,
    /// Times its bound that a ratio of --cliffs may be: machines are noisy.
    #[arg(long, requires = "cliffs", default_value_t = 1.0, value_parser = up_to_3600)]
    slack: f64,
    /// Print an object of JSON a line.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum NetOption {
    /// MobileNetV1.
    V1,
    /// MobileNetV2.
    V2,
    /// 5×5, 7×7, dilation 2, multiplier 2, stride 3, stride 2×1.
    General,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum CacheOption {
    /// In the nearest cache that holds it all.
    Warm,
    /// In memory, but for weights.
    Cold,
}

impl CacheOption {
    fn name(self) -> &'static str {
        match self {
            CacheOption::Warm => "warm",
            CacheOption::Cold => "cold",
        }
    }
}

fn up_to_3600(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number above 0 and at most 3600".into()),
    }
}

/// A spread above this makes a figure unsure.
const UNSURE: f64 = 0.1;

impl OperatorsOptions {
    /// The networks at each of their widths.
    fn networks(&self) -> Vec<(Net, f64)> {
        let nets = [(NetOption::V1, Net::V1), (NetOption::V2, Net::V2)];
        let nets = nets.into_iter().filter(|(option, _)| self.net.contains(option));
        nets.flat_map(|(_, net)| {
            let alphas = match net {
                _ if !self.alpha.is_empty() => self.alpha.clone(),
                _ if self.fusion || self.planning => vec![1.0],
                Net::V1 => vec![0.25, 0.5, 1.0],
                Net::V2 => vec![0.35, 0.5, 1.0, 1.4],
            };
            alphas.into_iter().map(move |alpha| (net, alpha))
        })
        .collect()
    }

    fn sizes(&self) -> Vec<usize> {
        match self.size.as_slice() {
            [] if self.fusion => vec![224, 160, 96],
            [] => vec![224],
            sizes => sizes.iter().map(|&size| size as usize).collect(),
        }
    }

    fn keeps(&self, entry: &UsedOperator) -> bool {
        let text = format!("{} {} {}", entry.operator.name(), entry.operator.shape(), entry.used_by.join(" "));
        self.filter.is_empty() || self.filter.iter().any(|part| text.contains(&part.to_ascii_lowercase()))
    }

    fn operators(&self) -> Result<Vec<UsedOperator>> {
        let mut list = List::new();
        for (net, alpha) in self.networks() {
            for size in self.sizes() {
                if self.fusion {
                    for block in shapes::blocks(net, alpha, size)?.into_iter().filter(|b| b.stages.len() > 1) {
                        list.add(block, &format!("{net}-{alpha}"));
                    }
                } else {
                    shapes::add_network(&mut list, net, alpha, size)?;
                }
            }
        }
        if self.net.contains(&NetOption::General) && !self.fusion {
            shapes::add_general(&mut list);
        }
        let mut entries = list.into_entries();
        entries.retain(|entry| self.keeps(entry));
        entries.sort_by_key(|entry| entry.operator.family());
        if entries.is_empty() {
            return Err(Error::Network(format!("no operator is left by --filter {}", self.filter.join(","))));
        }
        Ok(entries)
    }

    fn cache_state(&self) -> CacheState {
        match self.cache {
            CacheOption::Warm => CacheState::Warm,
            CacheOption::Cold => CacheState::Cold,
        }
    }

    fn budget(&self, subjects: usize) -> Budget {
        Budget::of(Duration::from_secs_f64(self.seconds), subjects, self.rounds as usize)
    }
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:3} %, {eta} left");
    ProgressBar::new(steps as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Times subjects in turn, the roofline anew in each round.
fn measure(
    options: &OperatorsOptions,
    subjects: &mut [Subject],
    buffers: &mut Buffers,
    roofline: &mut Roofline,
) -> Result<Vec<Figure>> {
    let budget = options.budget(subjects.len());
    let bar = progress(subjects.len() * budget.rounds);
    let count = subjects.len();
    let subjects = RefCell::new(subjects);
    let figures = rounds::interleave(
        count,
        budget,
        |i| subjects.borrow_mut()[i].run(buffers),
        |moment| {
            match moment {
                Moment::Round(_) => {
                    roofline.sample().ok_or_else(|| Error::Isa("it does not run on this CPU".into()))?;
                    Subject::renew_scratch(&mut subjects.borrow_mut())?;
                }
                Moment::Subject(_) => bar.inc(1),
            }
            Ok(())
        },
    );
    bar.finish_and_clear();
    figures
}

fn heading(isa: Isa, options: &OperatorsOptions, roofline: &Roofline) {
    let curve = roofline.curve();
    println!("{isa}, threads: {}, {} caches, {} rounds", options.threads, options.cache.name(), options.rounds);
    println!("FMA peak: {:.1} GFLOP/s (median of the rounds)", roofline.peak());
    let of = |kib: u64| {
        format!(
            "{:.0} at {}",
            curve.at(kib << 10),
            if kib < 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib >> 10) }
        )
    };
    println!("copies, GB/s: {}\n", [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 128 << 10].map(of).join(", "));
}

/// Times several ways to run operators, which are held against each other, and prints the heading of their table.
fn compare(options: &OperatorsOptions, isa: Isa, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut buffers = Buffers::for_all(&*subjects, options.cache_state());
    let mut roofline = Roofline::new(isa, options.threads as usize, 0);
    let figures = measure(options, subjects, &mut buffers, &mut roofline)?;
    if !options.json {
        heading(isa, options, &roofline);
    }
    Ok(figures)
}

/// The default: every operator on its own.
fn operators(options: &OperatorsOptions, entries: &[UsedOperator], plan_options: &PlanOptions) -> Result<()> {
    let isa = plan_options.isa()?;
    let mut subjects = entries
        .iter()
        .map(|UsedOperator { operator, .. }| Subject::new(&operator.network()?, operator.input, plan_options))
        .collect::<Result<Vec<_>>>()?;
    let mut buffers = Buffers::for_all(&subjects, options.cache_state());
    let largest = subjects.iter().map(|s| buffers.footprint(s)).max().unwrap_or(0);
    let mut roofline = Roofline::new(isa, options.threads as usize, largest);
    let figures = measure(options, &mut subjects, &mut buffers, &mut roofline)?;

    if !options.json {
        heading(isa, options, &roofline);
        println!(
            "{:<19} {:<20} {:>9} {:>7} {:>8} {:>7} {:>9}  {:<9}  kernel",
            "operator", "shape", "µs", "spread", "GFLOP/s", "GB/s", "roofline", "bound"
        );
    }
    let mut worst: Vec<(Family, f64, String)> = Vec::new();
    for ((UsedOperator { operator, used_by }, subject), figure) in entries.iter().zip(&subjects).zip(&figures) {
        let (name, shape, median) = (operator.name(), operator.shape(), figure.median());
        let footprint = match options.cache_state() {
            CacheState::Warm => operator.bytes(),
            CacheState::Cold => buffers.footprint(subject),
        };
        let limit = roofline.limit(operator.macs(), operator.bytes(), footprint);
        let gflops = 2.0 * operator.macs() as f64 / median / 1e9;
        let gbps = operator.bytes() as f64 / median / 1e9;
        let share = limit.seconds / median;
        let ratio = per_mac(entries, &figures, operator, figure);
        worst.push((operator.family(), share, format!("{name} {shape}")));
        if options.json {
            let Limit { bound, gbps: copy_gbps, .. } = limit;
            println!(
                "{}",
                serde_json::json!({
                    "op": name,
                    "shape": shape,
                    "us": median * 1e6,
                    "us_best": figure.best * 1e6,
                    "spread": figure.spread(),
                    "unsure": figure.spread() > UNSURE,
                    "runs": figure.runs,
                    "gflops": gflops,
                    "gbps": gbps,
                    "roofline": share,
                    "bound": bound,
                    "peak_gflops": roofline.peak(),
                    "peak_share": gflops / roofline.peak(),
                    "copy_gbps": copy_gbps,
                    "macs": operator.macs(),
                    "bytes": operator.bytes(),
                    "footprint": footprint,
                    "k": operator.depth(),
                    "time_per_mac_over_3x3": ratio,
                    "kernel": subject.kernels(),
                    "isa": isa.name(),
                    "threads": options.threads,
                    "cache": options.cache.name(),
                    "networks": used_by,
                })
            );
        } else {
            println!(
                "{name:<19} {shape:<20} {:>9.1} {:>5.1} %{} {gflops:>7.1} {gbps:>7.1} {:>7.1} %  {:<9}  {}{}",
                median * 1e6,
                100.0 * figure.spread(),
                if figure.spread() > UNSURE { '?' } else { ' ' },
                100.0 * share,
                limit.bound,
                subject.kernels(),
                ratio.map_or(String::new(), |ratio| format!("  ({ratio:.2}× the time per MAC of 3×3)")),
            );
        }
    }
    if !options.json {
        println!();
        worst.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for of_family in worst.chunk_by(|a, b| a.0 == b.0) {
            let shares: Vec<f64> = of_family.iter().map(|w| w.1).collect();
            println!(
                "{:<19} median {:.1} % of the roofline, worst {:.1} %: {}",
                format!("{:?}", of_family[0].0),
                100.0 * rounds::median(&shares),
                100.0 * shares[0],
                of_family[0].2
            );
        }
    }
    Ok(())
}

/// The time that a depthwise convolution takes per multiply-add, over that of 3×3 at stride 1 on the same input.
fn per_mac(entries: &[UsedOperator], figures: &[Figure], operator: &Operator, figure: &Figure) -> Option<f64> {
    if operator.family() != Family::GeneralDepthwise {
        return None;
    }
    let plain = Operator::single(BenchStage::depthwise(3, 1, operator.input.c), operator.input.h);
    let place = entries.iter().position(|entry| entry.operator == plain)?;
    Some(figure.ratio(&figures[place]) * plain.macs() as f64 / operator.macs() as f64)
}

/// Fused against unfused.
fn fusion(options: &OperatorsOptions, entries: &[UsedOperator], plan_options: &PlanOptions) -> Result<()> {
    const WAYS: [(&str, Fusion); 3] = [
        ("unfused", Fusion::Never),
        ("ring", Fusion::Require(Schedule::RowRing)),
        ("slabs", Fusion::Require(Schedule::ChannelSlabs)),
    ];
    let isa = plan_options.isa()?;
    let mut subjects = Vec::new();
    // where each way of a block is among the subjects, and the way that the plan takes
    let mut blocks: Vec<([usize; 3], usize)> = Vec::new();
    for UsedOperator { operator, .. } in entries {
        let network = operator.network()?;
        let subject = |fusion| Subject::new(&network, operator.input, &plan_options.clone().fusion(fusion));
        let mut ways = [0; 3];
        for (way, (_, fusion)) in ways.iter_mut().zip(WAYS) {
            *way = subjects.len();
            subjects.push(subject(fusion)?);
        }
        let auto = subject(Fusion::Auto)?;
        let same = ways.into_iter().find(|&way| subjects[way].decisions() == auto.decisions());
        blocks.push((ways, same.unwrap_or(subjects.len())));
        if same.is_none() {
            subjects.push(auto);
        }
    }
    let figures = compare(options, isa, &mut subjects)?;
    if !options.json {
        println!(
            "{:<19} {:<20} {:>10} {:>10} {:>10}  {:<8} {:>10} {:>12} {:>14}",
            "block",
            "shape",
            "unfused µs",
            "ring µs",
            "slabs µs",
            "taken",
            "taken µs",
            "taken / best",
            "unfused / best"
        );
    }
    let mut worst: Option<(f64, String)> = None;
    for (UsedOperator { operator, used_by }, &(ways, taken)) in entries.iter().zip(&blocks) {
        let (name, shape) = (operator.name(), operator.shape());
        let best =
            ways.into_iter().min_by(|&a, &b| figures[a].median().total_cmp(&figures[b].median())).unwrap_or(taken);
        let over_best = figures[taken].ratio(&figures[best]);
        let unfused_over_best = figures[ways[0]].ratio(&figures[best]);
        let taken_name = ways.iter().position(|&way| way == taken).map_or("other", |way| WAYS[way].0);
        let us = |subject: usize| figures[subject].median() * 1e6;
        let spread = ways.into_iter().chain([taken]).map(|way| figures[way].spread()).fold(0.0, f64::max);
        if worst.as_ref().is_none_or(|w| over_best > w.0) {
            worst = Some((over_best, format!("{name} {shape}")));
        }
        if options.json {
            println!(
                "{}",
                serde_json::json!({
                    "op": name,
                    "shape": shape,
                    "unfused_us": us(ways[0]),
                    "ring_us": us(ways[1]),
                    "slabs_us": us(ways[2]),
                    "taken": taken_name,
                    "taken_us": us(taken),
                    "taken_over_best": over_best,
                    "unfused_over_best": unfused_over_best,
                    "spread": spread,
                    "unsure": spread > UNSURE,
                    "scratch_bytes": {
                        "unfused": subjects[ways[0]].plan.scratch_bytes(),
                        "ring": subjects[ways[1]].plan.scratch_bytes(),
                        "slabs": subjects[ways[2]].plan.scratch_bytes(),
                        "taken": subjects[taken].plan.scratch_bytes(),
                    },
                    "decisions": subjects[taken].decisions(),
                    "isa": isa.name(),
                    "threads": options.threads,
                    "cache": options.cache.name(),
                    "networks": used_by,
                })
            );
        } else {
            println!(
                "{name:<19} {shape:<20} {:>10.1} {:>10.1} {:>10.1}  {taken_name:<8} {:>10.1} {over_best:>12.3}{} \
                 {unfused_over_best:>13.2}",
                us(ways[0]),
                us(ways[1]),
                us(ways[2]),
                us(taken),
                if spread > UNSURE { '?' } else { ' ' },
            );
        }
    }
    if let Some((ratio, block)) = worst.filter(|_| !options.json) {
        println!("\nworst choice: {ratio:.3} × the best of the three, {block}");
    }
    Ok(())
}

/// The most times that NCHW may take of NHWC, or `None` where no bound was set.
fn layout_bound(operator: &Operator) -> Option<f64> {
    let (stage, side) = (&operator.stages[0], operator.input.h);
    let bounded = match operator.family() {
        Family::Pointwise => stage.inputs.min(stage.outputs) >= 64,
        Family::Depthwise => side >= 28,
        Family::Standard => true,
        _ => false,
    };
    bounded.then_some(1.25)
}

/// NCHW against NHWC.
fn layout(options: &OperatorsOptions, entries: &[UsedOperator], plan_options: &PlanOptions) -> Result<()> {
    let isa = plan_options.isa()?;
    let mut subjects = Vec::new();
    for UsedOperator { operator, .. } in entries {
        let network = operator.network()?;
        for layout in [Layout::Nhwc, Layout::Nchw] {
            subjects.push(Subject::new(&network, operator.input, &plan_options.clone().layout(layout))?);
        }
    }
    let figures = compare(options, isa, &mut subjects)?;
    if !options.json {
        println!(
            "{:<19} {:<20} {:>10} {:>10} {:>10}  {:>8}",
            "operator", "shape", "NHWC µs", "NCHW µs", "ratio", "at most"
        );
    }
    let (mut bounded, mut within) = (0, 0);
    for (i, UsedOperator { operator, used_by }) in entries.iter().enumerate() {
        let (nhwc, nchw) = (&figures[2 * i], &figures[2 * i + 1]);
        let (name, shape, bound) = (operator.name(), operator.shape(), layout_bound(operator));
        let (ratio, spread) = (nchw.ratio(nhwc), nhwc.spread().max(nchw.spread()));
        bounded += usize::from(bound.is_some());
        within += usize::from(bound.is_some_and(|bound| ratio <= bound));
        let [nhwc_us, nchw_us] = [nhwc, nchw].map(|figure| figure.median() * 1e6);
        if options.json {
            println!(
                "{}",
                serde_json::json!({
                    "op": name,
                    "shape": shape,
                    "nhwc_us": nhwc_us,
                    "nchw_us": nchw_us,
                    "ratio": ratio,
                    "bound": bound,
                    "spread": spread,
                    "unsure": spread > UNSURE,
                    "isa": isa.name(),
                    "threads": options.threads,
                    "cache": options.cache.name(),
                    "networks": used_by,
                })
            );
        } else {
            let bound = bound.map_or_else(|| "-".into(), |bound| format!("{bound:.2}"));
            let mark = if spread > UNSURE { '?' } else { ' ' };
            println!("{name:<19} {shape:<20} {nhwc_us:>10.1} {nchw_us:>10.1} {ratio:>10.3}{mark} {bound:>8}");
        }
    }
    if !options.json {
        println!("\n{within} of {bounded} with a bound are within it");
    }
    Ok(())
}

/// How long making and planning a network takes.
fn planning(options: &OperatorsOptions, plan_options: &PlanOptions) -> Result<()> {
    for (net, alpha) in options.networks() {
        for size in options.sizes() {
            let architecture = net.architecture(alpha)?;
            let weights = Weights::seeded(&architecture, 0)?;
            let (mut new, mut plan) = (Vec::new(), Vec::new());
            let start = Instant::now();
            while new.len() < 5 || (start.elapsed().as_secs_f64() < options.seconds / 10.0 && new.len() < 1000) {
                let before = Instant::now();
                let network = architecture.network(&weights)?;
                new.push(before.elapsed().as_secs_f64());
                let before = Instant::now();
                let planned = network.plan(Shape::new(1, size, size, architecture.inputs()), plan_options)?;
                let _scratch = planned.scratch()?;
                plan.push(before.elapsed().as_secs_f64());
            }
            let both: Vec<f64> = new.iter().zip(&plan).map(|(new, plan)| new + plan).collect();
            let [new_ms, plan_ms, both_ms] = [&new, &plan, &both].map(|times| 1e3 * rounds::median(times));
            let spread = rounds::spread(&both);
            if options.json {
                println!(
                    "{}",
                    serde_json::json!({
                        "net": net.to_string(),
                        "alpha": alpha,
                        "size": size,
                        "threads": options.threads,
                        "new_ms": new_ms,
                        "plan_ms": plan_ms,
                        "new_and_plan_ms": both_ms,
                        "spread": spread,
                        "unsure": spread > UNSURE,
                        "runs": both.len(),
                    })
                );
            } else {
                println!(
                    "{net} {alpha} at {size}: new {new_ms:.2} ms, plan and scratch {plan_ms:.3} ms, together {both_ms:.2} ms \
                     (median of {}, spread {:.1} %)",
                    both.len(),
                    100.0 * spread
                );
            }
        }
    }
    Ok(())
}

/// Shapes beside those of MobileNet against fast ones. Whether all are within their bounds.
fn cliffs(options: &OperatorsOptions, plan_options: &PlanOptions) -> Result<bool> {
    let mut cliffs = cliffs::all(plan_options)?;
    cliffs.retain(|cliff| {
        let text = format!("{} {}", cliff.family, cliff.case).to_lowercase();
        options.filter.is_empty() || options.filter.iter().any(|part| text.contains(&part.to_lowercase()))
    });
    if cliffs.is_empty() {
        return Err(Error::Network(format!("no case is left by --filter {}", options.filter.join(","))));
    }
    let time = Duration::from_secs_f64(options.seconds / cliffs.len() as f64);
    let (mut over, mut family) = (0, "");
    for cliff in &cliffs {
        let (ratio, bound) = (cliff.ratio(time)?, cliff.bound * options.slack);
        over += usize::from(ratio > bound);
        if options.json {
            // JSON has no infinity
            let ratio = ratio.is_finite().then_some(ratio);
            println!(
                "{}",
                serde_json::json!({
                    "family": cliff.family, "case": cliff.case, "against": cliff.against, "ratio": ratio, "bound": bound,
                })
            );
            continue;
        }
        if family != cliff.family {
            family = cliff.family;
            println!("{family}");
        }
        let mark = if ratio > bound { "over" } else { "" };
        println!("  {ratio:>6.2} of {bound:<5.2} {mark:<4} {}, over {}", cliff.case, cliff.against);
    }
    if !options.json {
        println!("\n{} of {} are within their bounds", cliffs.len() - over, cliffs.len());
    }
    Ok(over == 0)
}

fn main() -> ExitCode {
    let options = OperatorsOptions::parse();
    let prepared = plan_options(options.isa, options.threads as usize).and_then(|plan_options| {
        let entries = if options.planning || options.cliffs { Vec::new() } else { options.operators()? };
        Ok((plan_options, entries))
    });
    let (plan_options, entries) = match prepared {
        Ok(prepared) => prepared,
        Err(e) => OperatorsOptions::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    let done = if options.cliffs {
        match cliffs(&options, &plan_options) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(e) => Err(e),
        }
    } else if options.planning {
        planning(&options, &plan_options)
    } else if options.layout {
        layout(&options, &entries, &plan_options)
    } else if options.fusion {
        fusion(&options, &entries, &plan_options)
    } else {
        operators(&options, &entries, &plan_options)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
