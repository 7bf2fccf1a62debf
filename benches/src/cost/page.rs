//! The page: everything in one file, that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::compare::Change;
use super::plots::Plot;
use super::report::{Report, Section};
use super::tables::{self, Table};
use crate::machine::bytes;

const STYLE: &str = "
:root { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; color-scheme: light; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 1px solid #bbb; padding-bottom: .3rem; }
nav a { margin-right: 1rem; }
figure { margin: 1.5rem 0; break-inside: avoid; } figure svg { width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { color: #444; font-size: .9rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: bottom; }
td { vertical-align: top; white-space: nowrap; } td.long { white-space: normal; min-width: 38rem; }
th { background: #f3f3f3; } td.n, th.n { text-align: right; } tfoot td { font-weight: 600; border-top: 2px solid #888; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit; }
th[aria-sort=ascending] button::after { content: ' \\25B2'; } th[aria-sort=descending] button::after { content: ' \\25BC'; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; } dt { color: #555; } dd { margin: 0; }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere; }
.warn { border-left: 4px solid #d55e00; padding: .2rem .8rem; background: #fdf3ec; }
@media print { nav, details { display: none; } th button::after { content: '' !important; } td, th { padding: .1rem .3rem; } }
";

const SCRIPT: &str = "
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)], [m, n] = [parseFloat(x), parseFloat(y)];
      return row_numbers(table, column) ? m - n : x.localeCompare(y, undefined, { numeric: true });
    };
    const rows = [...table.tBodies[0].rows].sort(compare);
    if (down) rows.reverse();
    table.tBodies[0].append(...rows);
  }));
}
function row_numbers(table, column) { return table.tHead.rows[0].cells[column].classList.contains('n'); }
";

fn table(table: &Table) -> Markup {
    let class = |i: usize| match table.is_number(i) {
        true => Some("n"),
        false => (table.columns[i] == "why" || table.columns[i] == "kernels").then_some("long"),
    };
    let row = |cells: &Vec<tables::Cell>| {
        html! {
            tr {
                @for (i, cell) in cells.iter().enumerate() {
                    td class=[class(i)] data-v=[cell.value] { (cell.text) }
                }
            }
        }
    };
    html! {
        div.scroll {
            table {
                thead { tr { @for (i, column) in table.columns.iter().enumerate() {
                    th class=[class(i)] scope="col" { button type="button" { (column) } }
                } } }
                tbody { @for cells in &table.rows { (row(cells)) } }
                @if let Some(total) = &table.total { tfoot { (row(total)) } }
            }
        }
    }
}

fn title(section: Section) -> &'static str {
    match section {
        Section::Layers => "1. The layers of MobileNetV1",
        Section::Sweeps => "2. Sweeps: where the gain leaves the formula",
        Section::Blocks => "3. The blocks of MobileNetV2",
        Section::Multipliers => "4. The two multipliers",
        Section::Roofline => "5. Roofline",
    }
}

fn introduction(section: Section) -> &'static str {
    match section {
        Section::Layers => {
            "Each separable layer of MobileNetV1 at 224×224, and the standard 3×3 convolution that it stands for: on our own kernels, \
             and as a matrix of windows (im2col) on the gemm crate. By MACs, separable costs 1/N + 1/Dk² of standard, N being the \
             output channels and Dk the kernel. “Separable” is what the plan takes, fused or not; where it does either, that \
             variant's figure is shown in its place too."
        }
        Section::Sweeps => {
            "One size after the other is varied. What a MAC costs differs: a depthwise convolution has one multiply-add for each \
             value that it loads, and a pointwise one has hundreds. So the gain stays below the formula where the depthwise half \
             weighs most: with few outputs, or large kernels."
        }
        Section::Blocks => {
            "MobileNetV2's inverted residual (narrow, wide, narrow, with a depthwise 3×3 in the wide middle) beside the bottleneck of \
             a residual block of the same two widths (wide, narrow, wide, with a standard 3×3 in the narrow middle; its shortcut is \
             left out, in its favour). t is the factor between the widths. Memory is that of input, output, and everything between \
             them, weights not counted."
        }
        Section::Multipliers => {
            "Whole networks on one image, over the widths α and resolutions of the papers. MACs count padding, parameters are \
             filters and biases with batch norms folded in. The papers print 569 M / 4.2 M for V1 and 300 M / 3.4 M for V2 at width \
             1 and 224. For V2 at width 1.4 its table prints 6.9 million parameters, and the list of the authors' checkpoints 6.06; \
             the latter is what the architecture comes to."
        }
        Section::Roofline => {
            "Every operator of both networks at width 1 and 224×224. A point under a slanted line could be limited by that level's \
             bandwidth, one under the flat line by multiply-adds. Lines are measured: multiply-adds alone, and copies within half of \
             each cache, read and written bytes added. “Of roofline” takes the bandwidth at the footprint of the operator itself."
        }
    }
}

/// The page of a report.
pub fn page(report: &Report, plots: &[Plot], change: Option<&Change<'_>>) -> String {
    let Report { machine, settings, limits, .. } = report;
    let unsure = report.measurements.iter().filter(|m| m.unsure).count();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "What separability buys" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "What separability buys, on this machine" }
                nav {
                    @for &section in &settings.sections { a href={ "#" (section.name()) } { (title(section)) } " " }
                    @if change.is_some() { a href="#baseline" { "Against the baseline" } }
                }
                @if !machine.optimised {
                    p.warn { "This was measured by a program that was compiled without optimisation: the times mean nothing." }
                }
                dl {
                    dt { "machine" } dd { (machine.summary()) " (" (machine.arch) ", " (machine.os) ")" }
                    dt { "measured" } dd { (report.date) ", in " (format!("{:.0}", report.seconds)) " s, " (settings.rounds) " rounds" }
                    dt { "with" } dd { "threads: " (settings.threads) ", " (settings.isa) ", f32, batch 1" }
                    dt { "versions" } dd { "sepconv " (machine.sepconv) ", gemm " (machine.gemm) ", " (machine.rustc) }
                    dt { "peak" } dd { (format!("{:.1}", limits.peak_gflops)) " GFLOP/s of multiply-adds" }
                    dt { "copies" } dd {
                        @for (i, b) in limits.bandwidths.iter().enumerate() {
                            @if i > 0 { ", " }
                            (b.level) " " (format!("{:.0}", b.gbps)) " GB/s (" (bytes(b.footprint)) ")"
                        }
                    }
                    dt { "again" } dd { code { (settings.command) } }
                }
                p {
                    "Times are medians over rounds that go over all variants in turn, on buffers that stay in place; “spread” is the \
                     range of the middle half of the rounds over their median. A figure whose spread is over 10 % is marked “?”, and \
                     drawn hollow: " (unsure) " of " (report.measurements.len()) ". Tables sort by a click on a column's head."
                }
                @for &section in &settings.sections {
                    h2 id=(section.name()) { (title(section)) }
                    p { (introduction(section)) }
                    ul { @for line in tables::summary(report, section) { li { (line) } } }
                    @for plot in plots.iter().filter(|plot| plot.section == section) {
                        figure {
                            (PreEscaped(inline(plot)))
                            figcaption { (plot.caption) }
                        }
                    }
                    (table(&tables::main(report, section)))
                    @if section != Section::Roofline {
                        details {
                            summary { "Every measurement of this part" }
                            (table(&tables::measurements(report, section)))
                        }
                    }
                }
                @if let Some(change) = change {
                    h2 #baseline { "Against the baseline" }
                    p {
                        "A time moved where it differs by more than the spreads of both together, and by 3 % at the least."
                    }
                    ul { @for line in change.lines() { li { (line) } } }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// A plot's SVG for use within a page: it scales, and says what it shows.
fn inline(plot: &Plot) -> String {
    let start = plot.svg.find("<svg").map_or(0, |at| at + 4);
    let caption = html! { (plot.caption) }.into_string();
    format!("<svg role=\"img\" aria-label=\"{caption}\"{}", &plot.svg[start..])
}
