//! The cost lab: what separability buys on this machine, measured, drawn and written down.
//!
//! `cargo run --release -p sepconv-bench --bin cost`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, whose output is its purpose")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sepconv::{Isa, MAX_THREADS};
use sepconv_bench::cost::compare::{Change, compare};
use sepconv_bench::cost::report::{Report, ReportError, Section};
use sepconv_bench::cost::run::{Bench, Request};
use sepconv_bench::cost::{docs, page, plots, tables};

/// Measures what depthwise-separable convolution saves over standard convolution on this machine, and writes a report.
///
/// In about two and a half minutes: MobileNetV1's layers, sweeps over sizes, MobileNetV2's blocks, both networks over
/// width and resolution, and a roofline. The report is a page (cost.html) with the plots as SVG and PNG, and the data
/// as JSON and CSV.
#[derive(Parser, Debug)]
#[command(name = "cost", version)]
struct CostOptions {
    /// Only these parts of the report, parted by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Threads that share a run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS as u64))]
    threads: u64,
    /// The instruction set, avx512, avx2, sse42, neon or scalar: the best of this CPU if not given.
    #[arg(long)]
    isa: Option<Isa>,
    /// The folder that the report is written to.
    #[arg(long, default_value = "target/cost")]
    out: PathBuf,
    /// Measure for about 20 seconds in all. Figures are less sure.
    #[arg(long)]
    quick: bool,
    /// Compare with the cost.json of an earlier run, and tell what moved beyond the noise.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Also write the tables and plots of the documentation: the folder that holds cost.md.
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    /// Measure nothing: write the report of an earlier run's cost.json again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "threads", "isa", "quick"])]
    from: Option<PathBuf>,
    /// Measure nothing: check that a cost.json fits its schema.
    #[arg(long, value_name = "FILE", exclusive = true)]
    check: Option<PathBuf>,
}

impl CostOptions {
    fn request(&self) -> Request {
        let sections = Section::ALL.into_iter().filter(|s| self.only.is_empty() || self.only.contains(s)).collect();
        let mut command = "cargo run --release -p sepconv-bench --bin cost".to_owned();
        let mut arguments = Vec::new();
        if !self.only.is_empty() {
            let names: Vec<_> = Section::ALL.iter().filter(|s| self.only.contains(s)).map(|s| s.name()).collect();
            arguments.push(format!("--only {}", names.join(",")));
        }
        if self.threads > 1 {
            arguments.push(format!("--threads {}", self.threads));
        }
        arguments.extend(self.isa.map(|isa| format!("--isa {isa}")));
        arguments.extend(self.quick.then(|| "--quick".to_owned()));
        arguments.extend(self.docs.as_ref().map(|_| "--docs docs".to_owned()));
        if !arguments.is_empty() {
            command += &format!(" -- {}", arguments.join(" "));
        }
        Request { sections, threads: self.threads as usize, isa: self.isa, quick: self.quick, command }
    }
}

/// Where a report comes from.
enum Source {
    /// An earlier run.
    Written(Box<Report>),
    /// A run of now.
    Machine(Bench),
}

/// Everything that can be wrong is found here, before anything is measured.
fn prepare(options: &CostOptions) -> Result<(Source, Option<Report>), ReportError> {
    let source = match &options.from {
        Some(file) => Source::Written(Box::new(Report::read(file)?)),
        None => Source::Machine(Bench::new(options.request())?),
    };
    let baseline = options.baseline.as_deref().map(Report::read).transpose()?;
    if let Some(folder) = &options.docs {
        let all = match &source {
            Source::Written(report) => report.settings.sections.len() == Section::ALL.len(),
            Source::Machine(_) => options.only.is_empty(),
        };
        if !all {
            return Err("--docs needs every part of the report".into());
        }
        docs::check(folder)?;
    }
    writable(&options.out)?;
    Ok((source, baseline))
}

/// Makes the folder, and a file in it.
fn writable(folder: &Path) -> Result<(), ReportError> {
    let wrong = |e: std::io::Error| format!("cannot write to {}: {e}", folder.display());
    fs::create_dir_all(folder).map_err(wrong)?;
    let probe = folder.join(".cost-probe");
    fs::write(&probe, "").map_err(wrong)?;
    fs::remove_file(&probe).map_err(wrong)?;
    Ok(())
}

fn measure(options: &CostOptions, bench: &Bench) -> Result<Report, ReportError> {
    const STEPS: f64 = 10_000.0;
    let estimate = options.request().estimate();
    eprintln!("This takes about {estimate:.0} seconds. Figures are best while nothing else runs.");
    let bar = ProgressBar::with_draw_target(Some(STEPS as u64), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{msg:<12} {bar:40} {percent:3} %, about {eta} left")?);
    let mut done = 0.0;
    let report = bench.run(&mut |share, part| {
        done += share;
        bar.set_message(part.to_owned());
        bar.set_position((done * STEPS) as u64);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn write(options: &CostOptions, report: &Report, change: Option<&Change<'_>>) -> Result<(), ReportError> {
    let out = &options.out;
    report.write(out)?;
    let plots = plots::all(report)?;
    for plot in &plots {
        fs::write(out.join(format!("{}.svg", plot.name)), &plot.svg)?;
        fs::write(out.join(format!("{}.png", plot.name)), plots::png(&plot.svg)?)?;
    }
    fs::write(out.join("cost.html"), page::page(report, &plots, change))?;
    if let Some(folder) = &options.docs {
        docs::write(report, &plots, folder)?;
    }
    Ok(())
}

fn summary(options: &CostOptions, report: &Report, change: Option<&Change<'_>>) {
    let limits = &report.limits;
    println!("{}; threads: {}, {}", report.machine.summary(), report.settings.threads, report.settings.isa);
    let copies: Vec<_> = limits.bandwidths.iter().map(|b| format!("{} {:.0}", b.level, b.gbps)).collect();
    println!("peak {:.1} GFLOP/s of multiply-adds; copies, GB/s: {}\n", limits.peak_gflops, copies.join(", "));
    for &section in &report.settings.sections {
        println!("{}", section.name());
        if section == Section::Layers {
            let columns =
                ["layers", "plane", "channels", "standard, µs", "separable, µs", "gain", "gain by MACs", "1/N + 1/Dk²"];
            print!("{}", tables::layers(report).only(&columns).plain());
        }
        for line in tables::summary(report, section) {
            println!("  {line}");
        }
        println!();
    }
    if let Some(change) = change {
        println!("against the baseline");
        for line in change.lines() {
            println!("  {line}");
        }
        println!();
    }
    let unsure = report.measurements.iter().filter(|m| m.unsure).count();
    println!("{unsure} of {} figures are unsure: their spread is over 10 %.", report.measurements.len());
    if !report.machine.optimised {
        println!("The program was compiled without optimisation: the times mean nothing. Use cargo run --release.");
    }
    println!("{:.0} seconds; the report is {}", report.seconds, options.out.join("cost.html").display());
}

fn run(options: &CostOptions, source: Source, baseline: Option<&Report>) -> Result<(), ReportError> {
    let report = match source {
        Source::Written(report) => *report,
        Source::Machine(bench) => measure(options, &bench)?,
    };
    let change = baseline.map(|baseline| compare(baseline, &report));
    write(options, &report, change.as_ref())?;
    summary(options, &report, change.as_ref());
    Ok(())
}

fn main() -> ExitCode {
    let options = CostOptions::parse();
    if let Some(file) = &options.check {
        return match Report::read(file) {
            Ok(report) => {
                println!("{} fits the schema: {} measurements", file.display(), report.measurements.len());
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("error: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let (source, baseline) = match prepare(&options) {
        Ok(prepared) => prepared,
        Err(e) => CostOptions::command().error(ErrorKind::ValueValidation, e).exit(),
    };
    match run(&options, source, baseline.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
