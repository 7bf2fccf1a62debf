//! A report held against an earlier one.

use super::report::{Measurement, Report};

/// A change below this is never told: two runs of the same program differ by as much.
const LEAST: f64 = 0.03;

/// A measurement of which the time moved.
#[derive(Clone, Debug)]
pub struct Moved<'a> {
    /// How it was.
    pub before: &'a Measurement,
    /// How it is.
    pub now: &'a Measurement,
}

impl Moved<'_> {
    /// Time now over time before.
    pub fn ratio(&self) -> f64 {
        self.now.us / self.before.us
    }

    /// How far the ratio can be from 1 by noise alone: the spreads of both together.
    pub fn noise(&self) -> f64 {
        (self.now.spread + self.before.spread).max(LEAST)
    }
}

/// What two reports say of the same things.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Measurements that both have.
    pub both: usize,
    /// Those that moved beyond the noise, the greatest loss first.
    pub moved: Vec<Moved<'a>>,
    /// What makes the two hard to compare: another machine, another number of threads.
    pub differences: Vec<String>,
    /// Measurements that only one of them has.
    pub missing: usize,
}

/// Holds `now` against `before`.
pub fn compare<'a>(before: &'a Report, now: &'a Report) -> Change<'a> {
    let mut change = Change::default();
    for (what, a, b) in [
        ("CPU", before.machine.summary(), now.machine.summary()),
        ("instruction set", before.settings.isa.clone(), now.settings.isa.clone()),
        ("threads", before.settings.threads.to_string(), now.settings.threads.to_string()),
        ("compiler", before.machine.rustc.clone(), now.machine.rustc.clone()),
        ("optimised", before.machine.optimised.to_string(), now.machine.optimised.to_string()),
    ] {
        if a != b {
            change.differences.push(format!("{what}: {a} before, {b} now"));
        }
    }
    let (a, b) = (before.limits.peak_gflops, now.limits.peak_gflops);
    if !(0.97..=1.03).contains(&(b / a)) {
        change.differences.push(format!("multiply-add peak: {a:.1} GFLOP/s before, {b:.1} now"));
    }
    for now in &now.measurements {
        match before.find(now.section, &now.case, &now.variant) {
            Some(before) => {
                change.both += 1;
                let moved = Moved { before, now };
                // a time that is longer by a share, or that the earlier one is longer by
                if moved.ratio().max(1.0 / moved.ratio()) > 1.0 + moved.noise() {
                    change.moved.push(moved);
                }
            }
            None => change.missing += 1,
        }
    }
    let sections = &now.settings.sections;
    let of_sections = before.measurements.iter().filter(|m| sections.contains(&m.section));
    change.missing += of_sections.filter(|m| now.find(m.section, &m.case, &m.variant).is_none()).count();
    change.moved.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    change
}

impl Change<'_> {
    /// As lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.differences.iter().map(|d| format!("not alike — {d}")).collect();
        lines.push(format!("{} of {} times moved beyond the noise", self.moved.len(), self.both));
        if self.missing > 0 {
            lines.push(format!("{} measurements are in one of both alone", self.missing));
        }
        for moved in &self.moved {
            let Moved { before, now } = moved;
            let (ratio, word) = match moved.ratio() {
                slower if slower > 1.0 => (slower, "slower"),
                faster => (1.0 / faster, "faster"),
            };
            lines.push(format!(
                "{ratio:.2} × {word}: {}, {}, {}: {:.1} µs → {:.1} µs (noise {:.0} %)",
                now.section.name(),
                now.case,
                now.variant,
                before.us,
                now.us,
                100.0 * moved.noise()
            ));
        }
        lines
    }
}
