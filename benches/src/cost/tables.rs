//! The tables of a report, for the page, for the terminal and for the documentation.

use super::report::{Comparison, Measurement, Report, Section};
use super::sections::{
    BOTTLENECK, DEPTHWISE, IM2COL, INVERTED, INVERTED_FUSED, INVERTED_UNFUSED, POINTWISE, SEPARABLE, SEPARABLE_FUSED,
    SEPARABLE_UNFUSED, STANDARD,
};

/// What stands in one place of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What is read.
    pub text: String,
    /// What rows are sorted by, where it is a number.
    pub value: Option<f64>,
}

impl Cell {
    fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), value: None }
    }

    fn number(value: f64, digits: usize) -> Cell {
        Cell { text: format!("{value:.digits$}"), value: Some(value) }
    }

    /// A number that may be unsure.
    fn figure(value: f64, digits: usize, unsure: bool) -> Cell {
        let mark = if unsure { "?" } else { "" };
        Cell { text: format!("{value:.digits$}{mark}"), value: Some(value) }
    }

    fn percent(value: f64) -> Cell {
        Cell { text: format!("{:.0} %", 100.0 * value), value: Some(value) }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The heads of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
    /// A last row that stays where it is.
    pub total: Option<Vec<Cell>>,
}

impl Table {
    fn new(columns: &[&str]) -> Table {
        Table { columns: columns.iter().map(|&c| c.into()).collect(), rows: Vec::new(), total: None }
    }

    /// Only some of its columns.
    pub fn only(&self, columns: &[&str]) -> Table {
        let places: Vec<usize> = columns.iter().filter_map(|&c| self.columns.iter().position(|n| n == c)).collect();
        let pick = |row: &Vec<Cell>| places.iter().map(|&i| row[i].clone()).collect::<Vec<_>>();
        Table {
            columns: places.iter().map(|&i| self.columns[i].clone()).collect(),
            rows: self.rows.iter().map(pick).collect(),
            total: self.total.as_ref().map(pick),
        }
    }

    fn all_rows(&self) -> impl Iterator<Item = &Vec<Cell>> {
        self.rows.iter().chain(&self.total)
    }

    /// Whether a column holds numbers.
    pub fn is_number(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row[column].value.is_some())
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(String::as_str).collect());
        let rule = |i| if self.is_number(i) { "---:" } else { "---" };
        out += &line((0..self.columns.len()).map(rule).collect());
        for row in self.all_rows() {
            out += &line(row.iter().map(|cell| cell.text.as_str()).collect());
        }
        out
    }

    /// As plain text, aligned.
    pub fn plain(&self) -> String {
        let width = |i: usize| {
            let texts = self.all_rows().map(|row| row[i].text.as_str()).chain([self.columns[i].as_str()]);
            texts.map(|t| t.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |texts: Vec<&str>| {
            let cells = texts.iter().zip(&widths).enumerate().map(|(i, (text, &width))| {
                if self.is_number(i) { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        let mut out = line(self.columns.iter().map(String::as_str).collect());
        for row in self.all_rows() {
            out += &line(row.iter().map(|cell| cell.text.as_str()).collect());
        }
        out
    }
}

fn millions(value: u64) -> Cell {
    let value = value as f64 / 1e6;
    Cell::number(value, if value < 9.95 { 2 } else { 1 })
}

fn thousands(value: u64) -> Cell {
    Cell::number(value as f64 / 1e3, 1)
}

fn kib(value: u64) -> Cell {
    Cell::number(value as f64 / 1024.0, 0)
}

fn us(m: &Measurement) -> Cell {
    Cell::figure(m.us, if m.us < 99.95 { 1 } else { 0 }, m.unsure)
}

fn gain(c: &Comparison) -> Cell {
    Cell::figure(1.0 / c.time, 2, c.unsure)
}

/// How many layers of V1 a case stands for: five for `7–11 · …`.
pub fn layers_of(case: &str) -> u64 {
    let numbers: Vec<u64> = case.split(' ').next().unwrap_or("").split('–').filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [first, last] => last.saturating_sub(first) + 1,
        _ => 1,
    }
}

/// A value of a variant summed over all layers of V1.
fn all_layers(report: &Report, variant: &str, value: fn(&Measurement) -> f64) -> f64 {
    let of_variant = report.of(Section::Layers).filter(|m| m.variant == variant);
    of_variant.map(|m| layers_of(&m.case) as f64 * value(m)).sum()
}

/// The layers of MobileNetV1.
pub fn layers(report: &Report) -> Table {
    let mut table = Table::new(&[
        "layers",
        "plane",
        "channels",
        "MACs standard, M",
        "MACs separable, M",
        "parameters standard, k",
        "parameters separable, k",
        "bytes standard, KiB",
        "bytes separable, KiB",
        "im2col + gemm, µs",
        "standard, µs",
        "depthwise, µs",
        "pointwise, µs",
        "unfused, µs",
        "fused, µs",
        "separable, µs",
        "time ratio",
        "MACs ratio",
        "1/N + 1/Dk²",
        "gain",
        "gain by MACs",
        "gain over im2col + gemm",
        "standard, of roofline",
        "depthwise, of roofline",
        "pointwise, of roofline",
        "separable, of roofline",
        "why",
    ]);
    for case in report.cases(Section::Layers) {
        let find = |variant| report.find(Section::Layers, case, variant);
        let compare = |over| report.compare(Section::Layers, case, SEPARABLE, over);
        let row = || {
            let [standard, separable] = [find(STANDARD)?, find(SEPARABLE)?];
            let [ours, gemm] = [compare(STANDARD)?, compare(IM2COL)?];
            let mut parts = case.split(" · ");
            let mut part = || Cell::text(parts.next().unwrap_or(""));
            let mut row = vec![part(), part(), part()];
            row.extend([millions(standard.macs), millions(separable.macs)]);
            row.extend([thousands(standard.parameters), thousands(separable.parameters)]);
            row.extend([kib(standard.bytes), kib(separable.bytes), us(find(IM2COL)?), us(standard)]);
            row.extend([us(find(DEPTHWISE)?), us(find(POINTWISE)?)]);
            row.extend([us(find(SEPARABLE_UNFUSED)?), us(find(SEPARABLE_FUSED)?), us(separable)]);
            row.extend([Cell::figure(ours.time, 3, ours.unsure), Cell::number(ours.macs, 3)]);
            row.extend([Cell::number(ours.formula?, 3), gain(ours), Cell::number(1.0 / ours.macs, 2), gain(gemm)]);
            for variant in [STANDARD, DEPTHWISE, POINTWISE, SEPARABLE] {
                row.push(Cell::percent(find(variant)?.roofline));
            }
            row.push(Cell::text(ours.why.as_deref().unwrap_or("")));
            Some(row)
        };
        table.rows.extend(row());
    }
    let sum = |variant, value: fn(&Measurement) -> f64| all_layers(report, variant, value);
    let time = |variant| Cell::number(sum(variant, |m| m.us), 0);
    let macs = |variant| sum(variant, |m| m.macs as f64);
    let (standard, separable) = (sum(STANDARD, |m| m.us), sum(SEPARABLE, |m| m.us));
    let ratio = macs(SEPARABLE) / macs(STANDARD);
    let mut total = vec![Cell::text("1–13"), Cell::default(), Cell::text("all")];
    total.extend([millions(macs(STANDARD) as u64), millions(macs(SEPARABLE) as u64)]);
    for variant in [STANDARD, SEPARABLE] {
        total.push(thousands(sum(variant, |m| m.parameters as f64) as u64));
    }
    for variant in [STANDARD, SEPARABLE] {
        total.push(kib(sum(variant, |m| m.bytes as f64) as u64));
    }
    total.extend([IM2COL, STANDARD, DEPTHWISE, POINTWISE, SEPARABLE_UNFUSED, SEPARABLE_FUSED, SEPARABLE].map(time));
    total.extend([Cell::number(separable / standard, 3), Cell::number(ratio, 3), Cell::default()]);
    total.extend([Cell::number(standard / separable, 2), Cell::number(1.0 / ratio, 2)]);
    total.push(Cell::number(sum(IM2COL, |m| m.us) / separable, 2));
    total.resize(table.columns.len(), Cell::default());
    table.total = Some(total);
    table
}

/// The sweeps.
pub fn sweeps(report: &Report) -> Table {
    let mut table = Table::new(&[
        "N",
        "Dk",
        "plane",
        "MACs standard, M",
        "standard, µs",
        "separable, µs",
        "depthwise alone, µs",
        "pointwise alone, µs",
        "gain",
        "gain by MACs",
        "reached",
        "standard, of peak",
        "depthwise, of peak",
        "pointwise, of peak",
        "why",
    ]);
    for case in report.cases(Section::Sweeps) {
        let find = |variant| report.find(Section::Sweeps, case, variant);
        let row = || {
            let [standard, separable, depthwise, pointwise] =
                [find(STANDARD)?, find(SEPARABLE)?, find(DEPTHWISE)?, find(POINTWISE)?];
            let c = report.compare(Section::Sweeps, case, SEPARABLE, STANDARD)?;
            let mut row = vec![
                Cell::number(separable.outputs as f64, 0),
                Cell::number(separable.kernel as f64, 0),
                Cell::number(separable.plane as f64, 0),
                millions(standard.macs),
                us(standard),
                us(separable),
                us(depthwise),
                us(pointwise),
                gain(c),
                Cell::number(1.0 / c.formula?, 2),
                Cell::percent(c.formula? / c.time),
            ];
            row.extend([standard, depthwise, pointwise].map(|m| Cell::percent(m.peak_share)));
            row.push(Cell::text(c.why.as_deref().unwrap_or("")));
            Some(row)
        };
        table.rows.extend(row());
    }
    table
}

/// The blocks of MobileNetV2.
pub fn blocks(report: &Report) -> Table {
    let mut table = Table::new(&[
        "plane",
        "narrow",
        "t",
        "MACs bottleneck, M",
        "MACs inverted, M",
        "parameters bottleneck, k",
        "parameters inverted, k",
        "bottleneck, µs",
        "unfused, µs",
        "fused, µs",
        "inverted, µs",
        "time inverted / bottleneck",
        "fused / unfused",
        "memory bottleneck, KiB",
        "memory unfused, KiB",
        "memory fused, KiB",
    ]);
    for case in report.cases(Section::Blocks) {
        let find = |variant| report.find(Section::Blocks, case, variant);
        let compare = |variant, over| report.compare(Section::Blocks, case, variant, over);
        let row = || {
            let [bottleneck, inverted] = [find(BOTTLENECK)?, find(INVERTED)?];
            let [unfused, fused] = [find(INVERTED_UNFUSED)?, find(INVERTED_FUSED)?];
            let ratio = |c: &Comparison| Cell::figure(c.time, 2, c.unsure);
            Some(vec![
                Cell::number(inverted.plane as f64, 0),
                Cell::number(inverted.inputs as f64, 0),
                Cell::number(inverted.expansion? as f64, 0),
                millions(bottleneck.macs),
                millions(inverted.macs),
                thousands(bottleneck.parameters),
                thousands(inverted.parameters),
                us(bottleneck),
                us(unfused),
                us(fused),
                us(inverted),
                ratio(compare(INVERTED, BOTTLENECK)?),
                ratio(compare(INVERTED_FUSED, INVERTED_UNFUSED)?),
                kib(bottleneck.memory),
                kib(unfused.memory),
                kib(fused.memory),
            ])
        };
        table.rows.extend(row());
    }
    table
}

/// Both networks by width and resolution.
pub fn multipliers(report: &Report) -> Table {
    let mut table = Table::new(&[
        "network",
        "α",
        "resolution",
        "MACs, M",
        "parameters, M",
        "time, ms",
        "spread",
        "GFLOP/s",
        "of peak",
        "memory, KiB",
    ]);
    for m in report.of(Section::Multipliers) {
        table.rows.push(vec![
            Cell::text(m.case.split(" · ").next().unwrap_or("")),
            m.alpha.map_or(Cell::default(), |alpha| Cell::number(alpha, 2)),
            Cell::number(m.plane as f64, 0),
            millions(m.macs),
            millions(m.parameters),
            Cell::figure(m.us / 1e3, 3, m.unsure),
            Cell { text: format!("{:.1} %", 100.0 * m.spread), value: Some(m.spread) },
            Cell::number(m.gflops, 1),
            Cell::percent(m.peak_share),
            kib(m.memory),
        ]);
    }
    table
}

/// Every measurement of a part, with all that is known of it.
pub fn measurements(report: &Report, section: Section) -> Table {
    let mut table = Table::new(&[
        "case",
        "variant",
        "shape",
        "MACs, M",
        "parameters, k",
        "bytes, KiB",
        "memory, KiB",
        "µs",
        "best, µs",
        "spread",
        "runs",
        "GFLOP/s",
        "of peak",
        "of roofline",
        "bound",
        "kernels",
    ]);
    for m in report.of(section) {
        table.rows.push(vec![
            Cell::text(&m.case),
            Cell::text(&m.variant),
            Cell::text(&m.shape),
            millions(m.macs),
            thousands(m.parameters),
            kib(m.bytes),
            kib(m.memory),
            us(m),
            Cell::number(m.us_best, 1),
            Cell { text: format!("{:.1} %", 100.0 * m.spread), value: Some(m.spread) },
            Cell::number(m.runs as f64, 0),
            Cell::number(m.gflops, 1),
            Cell::percent(m.peak_share),
            Cell::percent(m.roofline),
            Cell::text(m.bound.to_string()),
            Cell::text(&m.kernels),
        ]);
    }
    table
}

/// The main table of a part; of the operators under the roofline that is all of them.
pub fn main(report: &Report, section: Section) -> Table {
    match section {
        Section::Layers => layers(report),
        Section::Sweeps => sweeps(report),
        Section::Blocks => blocks(report),
        Section::Multipliers => multipliers(report),
        Section::Roofline => measurements(report, section).only(&[
            "variant",
            "shape",
            "MACs, M",
            "bytes, KiB",
            "µs",
            "spread",
            "GFLOP/s",
            "of peak",
            "of roofline",
            "bound",
            "kernels",
        ]),
    }
}

/// What a part comes down to, in a few sentences.
pub fn summary(report: &Report, section: Section) -> Vec<String> {
    let mut lines = Vec::new();
    match section {
        Section::Layers => {
            let us = |variant| all_layers(report, variant, |m| m.us);
            let macs = |variant| all_layers(report, variant, |m| m.macs as f64);
            let better: f64 = report
                .cases(section)
                .into_iter()
                .map(|case| {
                    let us = |variant| report.find(section, case, variant).map_or(f64::INFINITY, |m| m.us);
                    layers_of(case) as f64 * us(STANDARD).min(us(IM2COL))
                })
                .sum();
            lines.push(format!(
                "The 13 layers take {:.2} ms as separable convolutions and {:.2} ms as standard ones: {:.1} times as fast, where \
                 {:.1} times fewer MACs are done. Against im2col and the gemm crate ({:.2} ms) it is {:.1} times; against the \
                 better of both on each layer ({:.2} ms) {:.1} times.",
                us(SEPARABLE) / 1e3,
                us(STANDARD) / 1e3,
                us(STANDARD) / us(SEPARABLE),
                macs(STANDARD) / macs(SEPARABLE),
                us(IM2COL) / 1e3,
                us(IM2COL) / us(SEPARABLE),
                better / 1e3,
                better / us(SEPARABLE),
            ));
        }
        Section::Sweeps => {
            let points: Vec<_> = report.comparisons.iter().filter(|c| c.section == section).collect();
            let reached = |c: &Comparison| c.formula.map_or(1.0, |formula| formula / c.time);
            let near = points.iter().filter(|c| (0.9..=1.1).contains(&reached(c))).count();
            let by = |a: &&&Comparison, b: &&&Comparison| reached(a).total_cmp(&reached(b));
            if let (Some(least), Some(most)) = (points.iter().min_by(by), points.iter().max_by(by)) {
                lines.push(format!("The gain is within 10 % of the formula at {near} of {} points.", points.len()));
                // where no point is above the formula, the last one is the nearest below it
                let above = reached(most) > 1.0;
                for (what, c) in [("furthest below", least), (if above { "furthest above" } else { "nearest" }, most)] {
                    lines.push(format!(
                        "{what} (relative to the formula): {}, {:.2} times as fast where {:.2} was promised; {}.",
                        c.case,
                        1.0 / c.time,
                        c.formula.map_or(f64::NAN, f64::recip),
                        c.why.as_deref().unwrap_or("no reason found")
                    ));
                }
            }
        }
        Section::Blocks => {
            let ratios = |variant: &str, over: &str, value: fn(&Comparison) -> f64| {
                let all = report.comparisons.iter().filter(|c| c.section == section);
                let values = all.filter(|c| c.variant == variant && c.over == over).map(value);
                values.fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
            };
            let (lo, hi) = ratios(INVERTED, BOTTLENECK, |c| c.time);
            lines.push(format!(
                "An inverted residual takes {lo:.2} to {hi:.2} times as long as a bottleneck of the same widths."
            ));
            let (lo, hi) = ratios(INVERTED_FUSED, INVERTED_UNFUSED, |c| c.time);
            let (less, more) = ratios(INVERTED_FUSED, INVERTED_UNFUSED, |c| c.memory);
            lines.push(format!(
                "Fused, it takes {lo:.2} to {hi:.2} times as long as unfused, and {less:.2} to {more:.2} times the memory."
            ));
        }
        Section::Multipliers => {
            for (net, alpha, size) in [("V1", 1.0, 224), ("V2", 1.0, 224)] {
                if let Some(m) = report.of(section).find(|m| m.case == format!("{net} · α {alpha} · {size}")) {
                    lines.push(format!(
                        "MobileNet{net} at width 1 and 224×224: {:.2} ms, {:.0} % of the peak, {:.0} million MACs, {:.1} million \
                         parameters, {:.0} KiB of activations (input, output and scratch).",
                        m.us / 1e3,
                        100.0 * m.peak_share,
                        m.macs as f64 / 1e6,
                        m.parameters as f64 / 1e6,
                        m.memory as f64 / 1024.0
                    ));
                }
            }
        }
        Section::Roofline => {
            for variant in [DEPTHWISE, POINTWISE, STANDARD, SEPARABLE, INVERTED] {
                let of_variant = report.of(section).filter(|m| m.variant == variant);
                let shares: Vec<f64> = of_variant.map(|m| m.roofline).collect();
                let worst = shares.iter().copied().fold(f64::MAX, f64::min);
                if !shares.is_empty() {
                    lines.push(format!(
                        "{variant}: {:.0} % of the roofline in the median of {}, {:.0} % at the worst.",
                        100.0 * crate::rounds::median(&shares),
                        shares.len(),
                        100.0 * worst
                    ));
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_in_both_ways() {
        let mut table = Table::new(&["what", "µs", "else"]);
        table.rows.push(vec![Cell::text("a"), Cell::figure(1.25, 1, false), Cell::default()]);
        table.rows.push(vec![Cell::text("longer"), Cell::figure(10.0, 1, true), Cell::default()]);
        table.total = Some(vec![Cell::text("all"), Cell::number(11.25, 2), Cell::default()]);
        let table = table.only(&["what", "µs"]);
        assert_eq!(
            table.markdown(),
            "| what | µs |\n| --- | ---: |\n| a | 1.2 |\n| longer | 10.0? |\n| all | 11.25 |\n"
        );
        assert_eq!(table.plain(), "  what       µs\n  a         1.2\n  longer  10.0?\n  all     11.25\n");
    }

    #[test]
    fn layers_are_counted() {
        assert_eq!([layers_of("7–11 · 14×14 · 512→512"), layers_of("1 · 112×112 · 32→64")], [5, 1]);
    }
}
