//! What is written of a run: its data, as JSON that has a schema and as CSV.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::roofline::RooflineBound;

/// A spread above this makes a figure unsure.
pub const UNSURE: f64 = 0.1;

/// The form of the JSON: it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// Its schema.
pub const SCHEMA: &str = include_str!("../../cost.schema.json");

/// The parts of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Each layer of MobileNetV1 as a standard and as a separable convolution.
    Layers,
    /// The gain by output channels, kernel and plane.
    Sweeps,
    /// MobileNetV2's block against a standard bottleneck, by widths and factor of expansion.
    Blocks,
    /// Both networks by width and resolution.
    Multipliers,
    /// Every operator under the roofline.
    Roofline,
}

impl Section {
    /// All of them, in the order of the report.
    pub const ALL: [Section; 5] =
        [Section::Layers, Section::Sweeps, Section::Blocks, Section::Multipliers, Section::Roofline];

    /// The name, as in the data and in `--only`.
    pub const fn name(self) -> &'static str {
        match self {
            Section::Layers => "layers",
            Section::Sweeps => "sweeps",
            Section::Blocks => "blocks",
            Section::Multipliers => "multipliers",
            Section::Roofline => "roofline",
        }
    }
}

/// One thing that was timed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Measurement {
    /// The part of the report.
    pub section: Section,
    /// What is compared: within a case there is one measurement for each variant.
    pub case: String,
    /// What was done for it: `standard`, `separable fused`, …
    pub variant: String,
    /// Operators and shapes.
    pub shape: String,
    /// Rows and columns of the input.
    pub plane: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output, the N of the papers.
    pub outputs: usize,
    /// Rows and columns of the kernel, the Dk of the papers.
    pub kernel: usize,
    /// The factor of expansion of a block.
    pub expansion: Option<usize>,
    /// The width multiplier of a network.
    pub alpha: Option<f64>,
    /// Multiply-accumulate operations, padding counted.
    pub macs: u64,
    /// Weights and biases.
    pub parameters: u64,
    /// Bytes that have to be moved at the least: input, output and parameters.
    pub bytes: u64,
    /// Bytes of activations: input, output and scratch.
    pub memory: u64,
    /// Microseconds: the median of the rounds.
    pub us: f64,
    /// Microseconds of the fastest batch.
    pub us_best: f64,
    /// The range of the middle half of the rounds over their median.
    pub spread: f64,
    /// Whether the spread is above 10 %.
    pub unsure: bool,
    /// Runs that were timed.
    pub runs: usize,
    /// Billion floating-point operations a second; a MAC is two.
    pub gflops: f64,
    /// The share of the multiply-add peak.
    pub peak_share: f64,
    /// The share of the roofline: the least time that peak and copy bandwidth leave, over the time.
    pub roofline: f64,
    /// What sets that least time.
    pub bound: RooflineBound,
    /// The kernels that it ran on.
    pub kernels: String,
}

/// Two variants of one case, held against each other.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Comparison {
    /// The part of the report.
    pub section: Section,
    /// The case.
    pub case: String,
    /// The variant that is divided.
    pub variant: String,
    /// The variant that it is divided by.
    pub over: String,
    /// The ratio of the times: the median over the rounds.
    pub time: f64,
    /// The range of the middle half of the rounds' ratios over their median.
    pub spread: f64,
    /// Whether that is above 10 %.
    pub unsure: bool,
    /// The ratio of the MACs.
    pub macs: f64,
    /// The ratio of the parameters.
    pub parameters: f64,
    /// The ratio of the memory of activations.
    pub memory: f64,
    /// `1/N + 1/Dk²`, where the comparison is that of separable with standard convolution.
    pub formula: Option<f64>,
    /// Where the time leaves the formula, and why.
    pub why: Option<String>,
}

/// A bandwidth of copies.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Bandwidth {
    /// `L1`, `L2`, `L3`, `memory`.
    pub level: String,
    /// Bytes that the copies went over, read and written ones together.
    pub footprint: u64,
    /// Read and written bytes, in 10⁹ a second.
    pub gbps: f64,
}

/// What the machine can do, measured between the rounds.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MachineLimits {
    /// GFLOP/s of multiply-adds alone.
    pub peak_gflops: f64,
    /// The spread of that.
    pub peak_spread: f64,
    /// Copies out of and into each level of the caches, and memory.
    pub bandwidths: Vec<Bandwidth>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Settings {
    /// Threads that share a run.
    pub threads: usize,
    /// The instruction set.
    pub isa: String,
    /// Whether the run was a short one.
    pub quick: bool,
    /// How often each thing was timed.
    pub rounds: usize,
    /// What was measured.
    pub sections: Vec<Section>,
    /// The command line that measures this again.
    pub command: String,
}

/// A run, written down.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Report {
    /// The form of this: [`VERSION`].
    pub version: u32,
    /// When it was measured, in UTC.
    pub date: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Where it was measured.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Settings,
    /// What the machine can do.
    pub limits: MachineLimits,
    /// What was timed.
    pub measurements: Vec<Measurement>,
    /// What was held against each other.
    pub comparisons: Vec<Comparison>,
}

/// Why a report cannot be read or written.
pub type ReportError = Box<dyn std::error::Error + Send + Sync>;

impl Report {
    /// The measurements of one part.
    pub fn of(&self, section: Section) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |m| m.section == section)
    }

    /// The measurement of a variant of a case.
    pub fn find(&self, section: Section, case: &str, variant: &str) -> Option<&Measurement> {
        self.of(section).find(|m| m.case == case && m.variant == variant)
    }

    /// The comparison of two variants of a case.
    pub fn compare(&self, section: Section, case: &str, variant: &str, over: &str) -> Option<&Comparison> {
        let mut of_section = self.comparisons.iter().filter(|c| c.section == section);
        of_section.find(|c| c.case == case && c.variant == variant && c.over == over)
    }

    /// The cases of a part, in their order.
    pub fn cases(&self, section: Section) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for m in self.of(section) {
            if !cases.contains(&m.case.as_str()) {
                cases.push(&m.case);
            }
        }
        cases
    }

    /// Reads what [`Report::write`] wrote, and holds it against the schema.
    pub fn read(path: &Path) -> Result<Report, ReportError> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| format!("{}: not JSON: {e}", path.display()))?;
        check(&value).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(serde_json::from_value(value).map_err(|e| format!("{}: {e}", path.display()))?)
    }

    /// Writes `cost.json`, `measurements.csv` and `comparisons.csv` into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let value = serde_json::to_value(self)?;
        check(&value)?;
        std::fs::write(folder.join("cost.json"), serde_json::to_string_pretty(self)? + "\n")?;
        let mut csv = csv::Writer::from_path(folder.join("measurements.csv"))?;
        for measurement in &self.measurements {
            csv.serialize(measurement)?;
        }
        csv.flush()?;
        let mut csv = csv::Writer::from_path(folder.join("comparisons.csv"))?;
        for comparison in &self.comparisons {
            csv.serialize(comparison)?;
        }
        Ok(csv.flush()?)
    }
}

/// Holds JSON against the schema; the first places where it does not fit are in the error.
pub fn check(value: &serde_json::Value) -> Result<(), ReportError> {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA)?)?;
    let errors: Vec<String> =
        validator.iter_errors(value).take(3).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(format!("it does not fit the schema: {}", errors.join("; ")).into()) }
}
