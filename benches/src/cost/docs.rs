//! The part of the documentation that a run writes: tables between two marks, and plots.

use std::path::Path;

use super::plots::Plot;
use super::report::{Report, ReportError, Section};
use super::tables;
use crate::machine::bytes;

/// The plots that the documentation shows.
pub const PLOTS: [&str; 2] = ["layers-gain", "multipliers-time"];

const BEGIN: &str = "<!-- written by `cost --docs`: begin -->\n";
const END: &str = "<!-- written by `cost --docs`: end -->";

/// What a document says of a report.
type DocumentText = fn(&Report) -> String;

/// The documents that a run writes into, in the folder of the documentation and beside it.
const DOCUMENTS: [(&str, DocumentText); 2] = [("cost.md", in_full), ("../README.md", in_short)];

/// Whether the folder has what is written into: found out before anything is measured.
pub fn check(folder: &Path) -> Result<(), ReportError> {
    for (name, _) in DOCUMENTS {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        replaced(&text, "")
            .ok_or_else(|| format!("{}: the marks that a table goes between are missing", path.display()))?;
    }
    Ok(())
}

/// Writes tables and plots.
pub fn write(report: &Report, plots: &[Plot], folder: &Path) -> Result<(), ReportError> {
    for (name, text) in DOCUMENTS {
        let path = folder.join(name);
        let document = std::fs::read_to_string(&path)?;
        let document = replaced(&document, &text(report)).ok_or("the marks that a table goes between are missing")?;
        std::fs::write(&path, document)?;
    }
    std::fs::create_dir_all(folder.join("cost"))?;
    for plot in plots.iter().filter(|plot| PLOTS.contains(&plot.name)) {
        std::fs::write(folder.join(format!("cost/{}.svg", plot.name)), &plot.svg)?;
    }
    Ok(())
}

fn replaced(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{text}{END}{after}"))
}

fn origin(report: &Report) -> String {
    let Report { machine, settings, limits, .. } = report;
    let bandwidths: Vec<_> = limits.bandwidths.iter().map(|b| format!("{} {:.0}", b.level, b.gbps)).collect();
    format!(
        "One run on {}, threads: {}, {}, {}; multiply-add peak {:.0} GFLOP/s, copies {} GB/s; {}:\n\n```sh\n{}\n```\n",
        machine.summary(),
        settings.threads,
        settings.isa,
        machine.rustc.split(" (").next().unwrap_or("rustc"),
        limits.peak_gflops,
        bandwidths.join(", "),
        report.date.split('T').next().unwrap_or(""),
        settings.command,
    )
}

const SHORT: [&str; 9] = [
    "layers",
    "plane",
    "channels",
    "im2col + gemm, µs",
    "standard, µs",
    "separable, µs",
    "gain over im2col + gemm",
    "gain",
    "gain by MACs",
];

fn in_short(report: &Report) -> String {
    format!("\n{}\n", tables::layers(report).only(&SHORT).markdown())
}

fn in_full(report: &Report) -> String {
    let mut text = format!("\n{}\n", origin(report));
    let heading = |text: &mut String, heading: &str, section: Section| {
        *text += &format!("### {heading}\n\n");
        for line in tables::summary(report, section) {
            *text += &format!("- {line}\n");
        }
        *text += "\n";
    };
    heading(&mut text, "The layers of MobileNetV1", Section::Layers);
    let columns = [
        "layers",
        "plane",
        "channels",
        "MACs standard, M",
        "MACs separable, M",
        "im2col + gemm, µs",
        "standard, µs",
        "depthwise, µs",
        "pointwise, µs",
        "unfused, µs",
        "fused, µs",
        "time ratio",
        "1/N + 1/Dk²",
        "gain",
        "gain by MACs",
    ];
    text += &tables::layers(report).only(&columns).markdown();
    text += "\n![The gain on each layer: what MACs promise, and what was measured](cost/layers-gain.svg)\n\n";
    heading(&mut text, "Where the gain leaves the formula", Section::Sweeps);
    let columns = ["N", "Dk", "plane", "standard, µs", "separable, µs", "gain", "gain by MACs", "reached", "why"];
    let mut sweeps = tables::sweeps(report).only(&columns);
    // every second point tells the story
    let keep = |n: Option<f64>| n.is_some_and(|n| [8.0, 32.0, 128.0, 512.0].contains(&n));
    sweeps.rows.retain(|row| keep(row[0].value));
    text += &sweeps.markdown();
    text += "\n";
    heading(&mut text, "The blocks of MobileNetV2", Section::Blocks);
    let columns = [
        "plane",
        "narrow",
        "t",
        "MACs bottleneck, M",
        "MACs inverted, M",
        "bottleneck, µs",
        "unfused, µs",
        "fused, µs",
        "time inverted / bottleneck",
        "memory bottleneck, KiB",
        "memory unfused, KiB",
        "memory fused, KiB",
    ];
    text += &tables::blocks(report).only(&columns).markdown();
    text += "\n";
    heading(&mut text, "The two multipliers", Section::Multipliers);
    text += "![Time against MACs of both networks](cost/multipliers-time.svg)\n\n";
    heading(&mut text, "The operators under the roofline", Section::Roofline);
    let caches: Vec<_> =
        report.limits.bandwidths.iter().map(|b| format!("{} {}", b.level, bytes(b.footprint))).collect();
    text += &format!("Copies went over {}.\n\n", caches.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let new = format!("before\n{BEGIN}new\n{END}\nafter\n");
        assert_eq!(replaced(&document, "new\n"), Some(new));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
