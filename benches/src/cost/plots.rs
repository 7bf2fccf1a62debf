//! The plots of a report, as SVG and as PNG.
//!
//! Colours are those of Okabe and Ito, which colour-blind readers can tell apart; each series has a marker or a dash of
//! its own too, so that a grey print is enough. Legends stand above the data, never on it.

use std::error::Error;
use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use super::report::{Measurement, Report, ReportError, Section};
use super::sections::{
    BOTTLENECK, DEPTHWISE, EXPANSION_SIZE, IM2COL, INVERTED, INVERTED_FUSED, INVERTED_UNFUSED, POINTWISE, SEPARABLE,
    SEPARABLE_FUSED, SEPARABLE_UNFUSED, STANDARD, SWEEP_INPUTS, SWEEP_OUTPUTS, SWEEP_PLANE,
};

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its files.
    pub name: &'static str,
    /// The part that it belongs to.
    pub section: Section,
    /// What it shows, for those who cannot see it.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

const BLACK_: RGBColor = RGBColor(0, 0, 0);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const SKY: RGBColor = RGBColor(86, 180, 233);
const GREEN_: RGBColor = RGBColor(0, 158, 115);
const BLUE_: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(222, 222, 222);

const SIZE: (u32, u32) = (860, 540);
const TEXT: u32 = 14;

#[derive(Clone, Copy, Debug)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

/// How points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    None,
    Solid,
    /// Pixels drawn, and left out.
    Dashed(u32, u32),
}

const DASHES: Line = Line::Dashed(8, 5);

#[derive(Clone, Debug)]
struct Point {
    x: f64,
    y: f64,
    unsure: bool,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    colour: RGBColor,
    marker: Option<Marker>,
    line: Line,
    points: Vec<Point>,
}

/// How an axis is divided.
#[derive(Clone, Debug)]
enum AxisScale {
    Linear,
    Log,
    /// Evenly, a label of some lines each.
    Categories(Vec<Vec<String>>),
}

#[derive(Clone, Debug)]
struct Axis {
    label: String,
    scale: AxisScale,
    /// Where labels stand; those that fit the range if none are given.
    ticks: Vec<f64>,
    /// What the range has to hold besides the data.
    include: Vec<f64>,
}

impl Axis {
    fn new(label: &str, scale: AxisScale) -> Axis {
        Axis { label: label.into(), scale, ticks: Vec::new(), include: Vec::new() }
    }

    fn ticks(mut self, ticks: impl IntoIterator<Item = f64>) -> Axis {
        self.ticks = ticks.into_iter().collect();
        self
    }

    fn include(mut self, value: f64) -> Axis {
        self.include.push(value);
        self
    }

    /// A value's place on a straight scale.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            AxisScale::Log => value.log10(),
            AxisScale::Linear | AxisScale::Categories(_) => value,
        }
    }

    /// The places where the axis begins and ends, with a little room around the data.
    fn range(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        if let AxisScale::Categories(names) = &self.scale {
            return (-0.5, names.len() as f64 - 0.5);
        }
        let values = values.chain(self.include.iter().copied()).chain(self.ticks.iter().copied());
        let (lo, hi) = values.map(|v| self.place(v)).fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let room = ((hi - lo) * 0.05).max(1e-9);
        // an axis that begins at zero begins there
        (if matches!(self.scale, AxisScale::Linear) && lo == 0.0 { 0.0 } else { lo - room }, hi + room)
    }

    /// The values to label within a range of places.
    fn labels(&self, (lo, hi): (f64, f64)) -> Vec<f64> {
        if !self.ticks.is_empty() {
            return self.ticks.clone();
        }
        let within = |v: &f64| (lo..=hi).contains(&self.place(*v));
        match &self.scale {
            AxisScale::Categories(names) => (0..names.len()).map(|i| i as f64).collect(),
            AxisScale::Log => {
                let steps: &[f64] = if hi - lo > 2.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = lo.floor() as i32..=hi.ceil() as i32;
                decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d))).filter(within).collect()
            }
            AxisScale::Linear => {
                let rough = (hi - lo) / 6.0;
                let decade = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * decade).find(|&s| s >= rough).unwrap_or(rough);
                let first = (lo / step).ceil() as i64;
                (first..=(hi / step).floor() as i64).map(|i| i as f64 * step).collect()
            }
        }
    }
}

/// An axis as plotters takes it: places, some of which have a label.
struct PlacedAxis {
    range: (f64, f64),
    labels: Vec<(f64, String)>,
}

impl PlacedAxis {
    fn new(axis: &Axis, range: (f64, f64)) -> PlacedAxis {
        // labels of categories have several lines, and are drawn elsewhere
        let text = |value| if matches!(axis.scale, AxisScale::Categories(_)) { String::new() } else { number(value) };
        PlacedAxis { range, labels: axis.labels(range).into_iter().map(|v| (axis.place(v), text(v))).collect() }
    }
}

impl Ranged for PlacedAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (place - self.range.0) / (self.range.1 - self.range.0);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.labels.iter().map(|label| label.0).collect(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for PlacedAxis {
    fn format_ext(&self, place: &f64) -> String {
        let label = self.labels.iter().find(|label| label.0 == *place);
        label.map_or(String::new(), |label| label.1.clone())
    }
}

/// A number with no more digits than a label needs.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 9999.5 => {
            let thousands = format!("{:.0}", value / 1000.0);
            format!("{thousands} 000")
        }
        v if v >= 10.0 || v.fract() < 1e-9 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}").trim_end_matches('0').to_owned(),
    }
}

struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

type Drawn<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    fn draw(&self) -> Drawn<String> {
        let (mut svg, mut dashed) = (String::new(), String::new());
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw_on(&root, &mut dashed).map_err(|e| e.to_string())?;
            root.present().map_err(|e| e.to_string())?;
        }
        let end = svg.rfind("</svg>").ok_or("a picture without an end")?;
        svg.insert_str(end, &dashed);
        Ok(svg)
    }

    fn draw_on(&self, root: &Area<'_>, dashed: &mut String) -> Result<(), Box<dyn Error>> {
        root.fill(&WHITE)?;
        let title = ("sans-serif", 19).into_font().style(FontStyle::Bold).color(&BLACK_);
        root.draw(&Text::new(self.title.clone(), (16, 14), title))?;
        let below = self.legend(root, 46, dashed)?;
        // what the axis counts stands above it, where it is read without turning the head
        let font = ("sans-serif", TEXT).into_font().color(&BLACK_);
        root.draw(&Text::new(self.y.label.clone(), (16, below), font.clone()))?;
        let below = below + 18;

        let points = || self.series.iter().flat_map(|s| &s.points);
        let (x, y) = (self.x.range(points().map(|p| p.x)), self.y.range(points().map(|p| p.y)));
        let (x_places, y_places) = (PlacedAxis::new(&self.x, x), PlacedAxis::new(&self.y, y));
        let categories = if let AxisScale::Categories(names) = &self.x.scale { names.as_slice() } else { &[] };
        let lines = categories.iter().map(Vec::len).max().unwrap_or(1) as u32;
        let (_, chart_area) = root.split_vertically(below);
        let mut chart = ChartBuilder::on(&chart_area)
            .margin_right(24)
            .margin_top(8)
            .margin_bottom(6)
            .x_label_area_size(44 + 17 * lines - 17)
            .y_label_area_size(72)
            .build_cartesian_2d(x_places, y_places)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GREY)
            .label_style(font.clone())
            .draw()?;

        for series in &self.series {
            let placed: Vec<(f64, f64)> =
                series.points.iter().map(|p| (self.x.place(p.x), self.y.place(p.y))).collect();
            let pixels: Vec<(i32, i32)> = placed.iter().map(|p| chart.backend_coord(p)).collect();
            stroke(root, &pixels, series, dashed)?;
            for (&(x, y), point) in pixels.iter().zip(&series.points) {
                if let Some(marker) = series.marker {
                    mark(root, (x, y), marker, series.colour, point.unsure)?;
                }
            }
        }

        // what stands below the axis is drawn by hand, as labels of categories have several lines
        let middle = font.pos(Pos::new(HPos::Center, VPos::Top));
        for (i, lines) in categories.iter().enumerate() {
            let (px, py) = chart.backend_coord(&(i as f64, y.0));
            for (row, line) in (0..).zip(lines) {
                root.draw(&Text::new(line.clone(), (px, py + 8 + 17 * row), middle.clone()))?;
            }
        }
        let (left, right) = (chart.backend_coord(&(x.0, y.0)), chart.backend_coord(&(x.1, y.0)));
        root.draw(&Text::new(self.x.label.clone(), ((left.0 + right.0) / 2, SIZE.1 as i32 - 21), middle))?;
        Ok(())
    }

    /// Draws the legend in rows from `top` on, and tells where it ends.
    fn legend(&self, root: &Area<'_>, top: i32, dashed: &mut String) -> Result<i32, Box<dyn Error>> {
        const ROW: i32 = 21;
        let font = ("sans-serif", TEXT).into_font().color(&BLACK_).pos(Pos::new(HPos::Left, VPos::Center));
        let unsure = self.series.iter().any(|s| s.marker.is_some() && s.points.iter().any(|p| p.unsure));
        let hollow = "hollow: unsure, spread above 10 %".to_owned();
        let names: Vec<_> = self.series.iter().map(|s| &s.name).chain(unsure.then_some(&hollow)).collect();
        let (mut x, mut y) = (16, top);
        for (i, name) in names.into_iter().enumerate() {
            // a letter is about half as wide as the font is high
            let width = 42 + (name.chars().count() as f64 * f64::from(TEXT) * 0.5) as i32 + 16;
            if x > 16 && x + width > SIZE.0 as i32 - 10 {
                (x, y) = (16, y + ROW);
            }
            match self.series.get(i) {
                Some(series) => {
                    stroke(root, &[(x, y), (x + 34, y)], series, dashed)?;
                    if let Some(marker) = series.marker {
                        mark(root, (x + 17, y), marker, series.colour, false)?;
                    }
                }
                None => mark(root, (x + 17, y), Marker::Circle, GREY, true)?,
            }
            root.draw(&Text::new(name.clone(), (x + 42, y), font.clone()))?;
            x += width;
        }
        Ok(y + 14)
    }
}

/// A dashed line as SVG.
struct Dashes<'a> {
    pixels: &'a [(i32, i32)],
    series: &'a Series,
}

impl fmt::Display for Dashes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line::Dashed(on, off) = self.series.line else { return Ok(()) };
        let RGBColor(r, g, b) = self.series.colour;
        write!(f, "<polyline fill=\"none\" stroke=\"#{r:02X}{g:02X}{b:02X}\" stroke-width=\"2\" ")?;
        write!(f, "stroke-dasharray=\"{on} {off}\" points=\"")?;
        for (x, y) in self.pixels {
            write!(f, "{x},{y} ")?;
        }
        writeln!(f, "\"/>")
    }
}

/// Draws a series' line; a dashed one is written to `dashed`.
fn stroke(root: &Area<'_>, pixels: &[(i32, i32)], series: &Series, dashed: &mut String) -> Result<(), Box<dyn Error>> {
    match series.line {
        Line::None => {}
        Line::Solid => root.draw(&PathElement::new(pixels.to_vec(), series.colour.stroke_width(2)))?,
        // plotters' own dashes begin and end at whole pixels, which makes slanted lines wobble: SVG has its own
        Line::Dashed(..) => {
            let _ = write!(dashed, "{}", Dashes { pixels, series });
        }
    }
    Ok(())
}

/// A marker of about nine pixels; a hollow one says that the figure is unsure.
fn mark(root: &Area<'_>, at: (i32, i32), marker: Marker, colour: RGBColor, hollow: bool) -> Result<(), Box<dyn Error>> {
    let (x, y) = at;
    let outline = |corners: &[(i32, i32)]| {
        let mut corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        if hollow {
            root.draw(&Polygon::new(corners.clone(), WHITE.filled()))?;
        } else {
            root.draw(&Polygon::new(corners.clone(), colour.filled()))?;
        }
        corners.push(corners[0]);
        root.draw(&PathElement::new(corners, colour.stroke_width(2)))
    };
    match marker {
        Marker::Circle => {
            let fill = if hollow { WHITE.filled() } else { colour.filled() };
            root.draw(&Circle::new(at, 5, fill))?;
            root.draw(&Circle::new(at, 5, colour.stroke_width(2)))?;
        }
        Marker::Square => outline(&[(-4, -4), (4, -4), (4, 4), (-4, 4)])?,
        Marker::Triangle => outline(&[(0, -5), (5, 4), (-5, 4)])?,
        Marker::Diamond => outline(&[(0, -6), (6, 0), (0, 6), (-6, 0)])?,
        Marker::Cross => {
            let width = if hollow { 1 } else { 3 };
            for (from, to) in [((-5, -5), (5, 5)), ((-5, 5), (5, -5))] {
                let path = vec![(x + from.0, y + from.1), (x + to.0, y + to.1)];
                root.draw(&PathElement::new(path, colour.stroke_width(width)))?;
            }
        }
    }
    Ok(())
}

impl Series {
    fn new(name: impl Into<String>, colour: RGBColor, marker: Marker, line: Line) -> Series {
        Series { name: name.into(), colour, marker: Some(marker), line, points: Vec::new() }
    }

    /// A line without markers.
    fn line(name: impl Into<String>, colour: RGBColor, line: Line, points: &[(f64, f64)]) -> Series {
        let points = points.iter().map(|&(x, y)| Point { x, y, unsure: false }).collect();
        Series { name: name.into(), colour, marker: None, line, points }
    }

    fn with(mut self, points: impl IntoIterator<Item = (f64, f64, bool)>) -> Series {
        self.points.extend(points.into_iter().map(|(x, y, unsure)| Point { x, y, unsure }));
        self
    }
}

/// Every plot that the report has data for.
pub fn all(report: &Report) -> Result<Vec<Plot>, ReportError> {
    let mut plots = Vec::new();
    let empty = |chart: &Chart| chart.series.iter().find(|s| s.points.is_empty()).map(|s| s.name.clone());
    for (section, draw) in [
        (Section::Layers, layers as fn(&Report) -> Vec<(&'static str, String, Chart)>),
        (Section::Sweeps, sweeps),
        (Section::Blocks, blocks),
        (Section::Multipliers, multipliers),
        (Section::Roofline, roofline),
    ] {
        if report.of(section).next().is_some() {
            for (name, caption, chart) in draw(report) {
                if let Some(series) = empty(&chart) {
                    return Err(format!("the plot {name} has no data for {series}").into());
                }
                plots.push(Plot { name, section, caption, svg: chart.draw()? });
            }
        }
    }
    Ok(plots)
}

/// How many times as fast a variant is as another one.
fn gain(report: &Report, section: Section, case: &str, variant: &str, over: &str) -> Option<(f64, bool)> {
    report.compare(section, case, variant, over).map(|c| (1.0 / c.time, c.unsure))
}

fn layers(report: &Report) -> Vec<(&'static str, String, Chart)> {
    let cases = report.cases(Section::Layers);
    let names = cases.iter().map(|case| case.split(" · ").map(str::to_owned).collect()).collect();
    let x = || {
        Axis::new(
            "layers of MobileNetV1, their plane (/2: stride 2), and their channels",
            AxisScale::Categories(Vec::clone(&names)),
        )
    };
    let gains = |over: &str| -> Vec<_> {
        let of = |(i, case): (usize, &&str)| {
            gain(report, Section::Layers, case, SEPARABLE, over).map(|(gain, unsure)| (i as f64, gain, unsure))
        };
        cases.iter().enumerate().filter_map(of).collect()
    };
    let formula: Vec<_> = cases
        .iter()
        .enumerate()
        .filter_map(|(i, case)| {
            let c = report.compare(Section::Layers, case, SEPARABLE, STANDARD)?;
            Some((i as f64, 1.0 / c.formula?))
        })
        .collect();
    let gain = Chart {
        title: "How many times as fast is separable as standard convolution?".into(),
        x: x(),
        y: Axis::new("time of standard / time of separable", AxisScale::Linear).include(0.0),
        series: vec![
            Series::line("MACs: 1 / (1/N + 1/Dk²)", BLACK_, DASHES, &formula),
            Series::new("time, standard by im2col + gemm", ORANGE, Marker::Triangle, Line::Solid).with(gains(IM2COL)),
            Series::new("time, standard on our kernels", BLUE_, Marker::Circle, Line::Solid).with(gains(STANDARD)),
        ],
    };
    let times = |variant: &str, aside: f64| -> Vec<_> {
        let of = |(i, case): (usize, &&str)| {
            report.find(Section::Layers, case, variant).map(|m| (i as f64 + aside, m.us, m.unsure))
        };
        cases.iter().enumerate().filter_map(of).collect()
    };
    let series = [
        (IM2COL, ORANGE, Marker::Triangle, -0.3),
        (STANDARD, BLUE_, Marker::Circle, -0.18),
        (SEPARABLE_UNFUSED, VERMILION, Marker::Square, -0.06),
        (SEPARABLE_FUSED, GREEN_, Marker::Diamond, 0.06),
        (POINTWISE, PURPLE, Marker::Cross, 0.18),
        (DEPTHWISE, BLACK_, Marker::Circle, 0.3),
    ];
    let time = Chart {
        title: "Time of each layer".into(),
        x: x(),
        y: Axis::new("µs", AxisScale::Log),
        series: series
            .into_iter()
            .map(|(variant, colour, marker, aside)| {
                Series::new(variant, colour, marker, Line::None).with(times(variant, aside))
            })
            .collect(),
    };
    vec![
        (
            "layers-gain",
            "The gain of depthwise-separable over standard convolution on each layer of MobileNetV1: what the formula promises, \
             and what was measured against our own standard convolution and against im2col on the gemm crate."
                .into(),
            gain,
        ),
        ("layers-time", "The time of each layer of MobileNetV1, done in each way.".into(), time),
    ]
}

/// The separable convolutions of a sweep, by rising size.
fn sweep(report: &Report, keep: impl Fn(&Measurement) -> bool) -> Vec<&Measurement> {
    let mut points: Vec<_> = report.of(Section::Sweeps).filter(|m| m.variant == SEPARABLE && keep(m)).collect();
    points.sort_by_key(|m| (m.kernel, m.plane, m.outputs));
    points
}

fn sweeps(report: &Report) -> Vec<(&'static str, String, Chart)> {
    let of = |m: &Measurement| {
        let c = report.compare(Section::Sweeps, &m.case, SEPARABLE, STANDARD)?;
        Some((1.0 / c.time, 1.0 / c.formula?, c.unsure))
    };
    let outputs = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
    let mut by_outputs = Chart {
        title: format!("The gain by output channels ({SWEEP_PLANE}×{SWEEP_PLANE}, {SWEEP_INPUTS} input channels)"),
        x: Axis::new("output channels N", AxisScale::Log).ticks(outputs),
        y: Axis::new("time of standard / time of separable", AxisScale::Log),
        series: Vec::new(),
    };
    for (kernel, colour, marker) in
        [(7, VERMILION, Marker::Square), (5, BLUE_, Marker::Triangle), (3, GREEN_, Marker::Circle)]
    {
        let points = sweep(report, |m| m.kernel == kernel && m.plane == SWEEP_PLANE);
        let points: Vec<_> = points.into_iter().filter_map(|m| Some((m.outputs as f64, of(m)?))).collect();
        let formula: Vec<_> = points.iter().map(|&(x, (_, formula, _))| (x, formula)).collect();
        by_outputs.series.push(Series::line(format!("MACs, Dk {kernel}"), colour, DASHES, &formula));
        by_outputs.series.push(
            Series::new(format!("time, Dk {kernel}"), colour, marker, Line::Solid)
                .with(points.iter().map(|&(x, (gain, _, unsure))| (x, gain, unsure))),
        );
    }

    let points = sweep(report, |m| m.kernel == 3 && m.outputs == SWEEP_OUTPUTS);
    let points: Vec<_> = points.into_iter().filter_map(|m| Some((m.plane as f64, of(m)?))).collect();
    let formula: Vec<_> = points.iter().map(|&(x, (_, formula, _))| (x, formula)).collect();
    let by_plane = Chart {
        title: format!("The gain by plane (3×3, {SWEEP_INPUTS} → {SWEEP_OUTPUTS} channels)"),
        x: Axis::new("rows and columns of the plane", AxisScale::Log).ticks([7.0, 14.0, 28.0, 56.0, 112.0]),
        y: Axis::new("time of standard / time of separable", AxisScale::Linear).include(0.0),
        series: vec![
            Series::line("MACs: 1 / (1/N + 1/Dk²)", BLACK_, DASHES, &formula),
            Series::new("time", BLUE_, Marker::Circle, Line::Solid)
                .with(points.iter().map(|&(x, (gain, _, unsure))| (x, gain, unsure))),
        ],
    };

    // the halves have a kernel and channels of their own, so they are found by the case that they are part of
    let speeds = |variant: &str| -> Vec<_> {
        sweep(report, |m| m.kernel == 3 && m.plane == SWEEP_PLANE)
            .into_iter()
            .filter_map(|m| Some((m.outputs as f64, report.find(Section::Sweeps, &m.case, variant)?)))
            .map(|(outputs, m)| (outputs, 100.0 * m.peak_share, m.unsure))
            .collect()
    };
    let speed = Chart {
        title: format!("Why: the speed of each part (3×3, {SWEEP_PLANE}×{SWEEP_PLANE}, {SWEEP_INPUTS} input channels)"),
        x: Axis::new("output channels N", AxisScale::Log).ticks(outputs),
        y: Axis::new("share of the multiply-add peak, %", AxisScale::Linear).include(0.0).include(100.0),
        series: vec![
            Series::new(STANDARD, BLUE_, Marker::Circle, Line::Solid).with(speeds(STANDARD)),
            Series::new(POINTWISE, PURPLE, Marker::Triangle, Line::Solid).with(speeds(POINTWISE)),
            Series::new(SEPARABLE, GREEN_, Marker::Diamond, Line::Solid).with(speeds(SEPARABLE)),
            Series::new(DEPTHWISE, BLACK_, Marker::Square, Line::Solid).with(speeds(DEPTHWISE)),
        ],
    };
    vec![
        (
            "sweep-outputs",
            "The gain of separable over standard convolution by output channels, for kernels of 3, 5 and 7: dashed what the \
             formula promises, solid what was measured."
                .into(),
            by_outputs,
        ),
        ("sweep-plane", "The gain by the size of the plane.".into(), by_plane),
        (
            "sweep-speed",
            "The share of the multiply-add peak that each part reaches: where the separable convolution is slower a MAC than the \
             standard one, the gain stays below the formula."
                .into(),
            speed,
        ),
    ]
}

fn blocks(report: &Report) -> Vec<(&'static str, String, Chart)> {
    let (plane, narrow) = EXPANSION_SIZE;
    let chart =
        |title: String, y: Axis, variants: &[(&str, RGBColor, Marker)], value: fn(&Measurement) -> (f64, bool)| {
            let series = variants.iter().map(|&(variant, colour, marker)| {
                let size = format!("{plane}×{plane} · {narrow} ·");
                let of_size = report.of(Section::Blocks).filter(|m| m.case.starts_with(&size));
                let mut points: Vec<_> = of_size
                    .filter(|m| m.variant == variant)
                    .filter_map(|m| {
                        let (y, unsure) = value(m);
                        Some((m.expansion? as f64, y, unsure))
                    })
                    .collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                Series::new(variant, colour, marker, Line::Solid).with(points)
            });
            let x = Axis::new("factor of expansion t", AxisScale::Linear).ticks((1..=10).map(f64::from));
            Chart { title, x, y: y.include(0.0), series: series.collect() }
        };
    let variants = [
        (BOTTLENECK, BLUE_, Marker::Circle),
        (INVERTED_UNFUSED, VERMILION, Marker::Square),
        (INVERTED_FUSED, GREEN_, Marker::Diamond),
    ];
    let size = format!("{plane}×{plane}, {narrow} and t·{narrow} channels");
    vec![
        (
            "blocks-time",
            "The time of MobileNetV2's block by its factor of expansion, beside the bottleneck of a residual block of the same \
             widths."
                .into(),
            chart(format!("Blocks: time ({size})"), Axis::new("µs", AxisScale::Linear), &variants, |m| (m.us, m.unsure)),
        ),
        (
            "blocks-memory",
            "Activations are input, output and scratch: fused, the expanded tensor is never in memory as a whole.".into(),
            chart(
                format!("Blocks: memory of activations ({size})"),
                Axis::new("KiB", AxisScale::Linear),
                &variants,
                |m| (m.memory as f64 / 1024.0, false),
            ),
        ),
    ]
}

fn multipliers(report: &Report) -> Vec<(&'static str, String, Chart)> {
    let nets = [("V1", BLUE_, Marker::Circle), ("V2", VERMILION, Marker::Triangle)];
    let points = |net: &str, value: fn(&Measurement) -> (f64, bool)| -> Vec<_> {
        let of_net = report.of(Section::Multipliers).filter(|m| m.case.starts_with(net));
        let mut points: Vec<_> = of_net
            .map(|m| {
                let (y, unsure) = value(m);
                (m.macs as f64 / 1e6, y, unsure)
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let series = |value: fn(&Measurement) -> (f64, bool)| -> Vec<_> {
        let of = |(net, colour, marker)| {
            Series::new(format!("MobileNet{net}"), colour, marker, Line::None).with(points(net, value))
        };
        nets.into_iter().map(of).collect()
    };
    let all = report.of(Section::Multipliers).map(|m| m.macs as f64 / 1e6);
    let (least, most) = all.fold((f64::MAX, f64::MIN), |(lo, hi), m| (lo.min(m), hi.max(m)));
    let at_peak = [least, most].map(|macs| (macs, 2.0 * macs / report.limits.peak_gflops));
    let name = format!("all MACs at the peak, {:.0} GFLOP/s", report.limits.peak_gflops);
    let mut time = series(|m| (m.us / 1e3, m.unsure));
    time.insert(0, Series::line(name, BLACK_, DASHES, &at_peak));
    let macs = || Axis::new("million MACs", AxisScale::Log);
    let threads = report.settings.threads;
    let on = if threads == 1 { "one thread".into() } else { format!("{threads} threads") };
    vec![
        (
            "multipliers-time",
            "Time against MACs of both networks, over their widths and resolutions.".into(),
            Chart {
                title: format!("Time of whole networks over width and resolution, {on}"),
                x: macs(),
                y: Axis::new("ms", AxisScale::Log),
                series: time,
            },
        ),
        (
            "multipliers-memory",
            "Memory of activations (input, output and scratch) against MACs of both networks; weights are not counted."
                .into(),
            Chart {
                title: "Memory of activations over width and resolution".into(),
                x: macs(),
                y: Axis::new("KiB", AxisScale::Log),
                series: series(|m| (m.memory as f64 / 1024.0, false)),
            },
        ),
    ]
}

fn roofline(report: &Report) -> Vec<(&'static str, String, Chart)> {
    let intensity = |m: &Measurement| 2.0 * m.macs as f64 / m.bytes as f64;
    let peak = report.limits.peak_gflops;
    let all = report.of(Section::Roofline).map(intensity);
    let (least, most) = all.fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let (left, right) = (least / 2.5, most * 1.3);
    let mut series = Vec::new();
    let dashes =
        [Line::Dashed(2, 4), Line::Dashed(5, 4), Line::Dashed(10, 5), Line::Dashed(16, 6), Line::Dashed(24, 6)];
    for (bandwidth, line) in report.limits.bandwidths.iter().zip(dashes) {
        let ridge = (peak / bandwidth.gbps).max(left);
        let name = format!("{} {:.0} GB/s", bandwidth.level, bandwidth.gbps);
        series.push(Series::line(name, GREY, line, &[(left, left * bandwidth.gbps), (ridge, peak)]));
    }
    series.push(Series::line(format!("peak {peak:.0} GFLOP/s"), BLACK_, Line::Solid, &[(left, peak), (right, peak)]));
    for (variant, colour, marker) in [
        (DEPTHWISE, ORANGE, Marker::Circle),
        (POINTWISE, PURPLE, Marker::Cross),
        (STANDARD, BLACK_, Marker::Square),
        (SEPARABLE, SKY, Marker::Triangle),
        (INVERTED, GREEN_, Marker::Diamond),
    ] {
        let of_variant = report.of(Section::Roofline).filter(|m| m.variant == variant);
        series.push(
            Series::new(variant, colour, marker, Line::None)
                .with(of_variant.map(|m| (intensity(m), m.gflops, m.unsure))),
        );
    }
    vec![(
        "roofline",
        "Every operator of both networks at width 1 and 224×224 by its intensity, under the peak and the bandwidths of copies that \
         were measured beside it."
            .into(),
        Chart {
            title: "Roofline of all operators of MobileNetV1 and V2".into(),
            x: Axis::new("FLOP for each byte of input, output and weights", AxisScale::Log),
            y: Axis::new("GFLOP/s", AxisScale::Log),
            series,
        },
    )]
}

/// A plot as PNG, at twice its size: in a font that comes with the program, as a machine may have none.
pub fn png(svg: &str) -> Result<Vec<u8>, ReportError> {
    const SCALE: u32 = 2;
    let mut fonts = usvg::fontdb::Database::new();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        fonts.load_font_data(font.to_vec());
    }
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let mut pixels =
        tiny_skia::Pixmap::new(SIZE.0 * SCALE, SIZE.1 * SCALE).ok_or("a picture of no size cannot be drawn")?;
    let scale = tiny_skia::Transform::from_scale(SCALE as f32, SCALE as f32);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_their_range() {
        let axis = Axis::new("", AxisScale::Linear);
        assert_eq!(axis.labels((0.0, 11.3)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let axis = Axis::new("", AxisScale::Log);
        assert_eq!(axis.labels((0.9, 2.1)), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(axis.labels((-1.1, 2.1)), [0.1, 1.0, 10.0, 100.0]);
        let labels = [0.1, 0.25, 1.0, 2.5, 56.0, 12_000.0].map(number);
        assert_eq!(labels, ["0.1", "0.25", "1", "2.5", "56", "12 000"]);
    }

    #[test]
    fn a_chart_becomes_a_picture() {
        let points = [(1.0, 2.0, false), (10.0, 3.0, true)];
        let chart = Chart {
            title: "A title".into(),
            x: Axis::new("x", AxisScale::Log),
            y: Axis::new("y", AxisScale::Linear).include(0.0),
            series: vec![
                Series::new("measured", BLUE_, Marker::Circle, Line::Solid).with(points),
                Series::line("formula", BLACK_, DASHES, &[(1.0, 1.0), (10.0, 3.5)]),
            ],
        };
        let svg = chart.draw().unwrap();
        assert!(svg.contains("A title") && svg.contains("measured") && svg.contains("hollow"), "{svg}");
        let png = png(&svg).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 5000, "{}", png.len());
    }
}
