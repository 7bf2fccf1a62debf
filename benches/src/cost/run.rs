//! Measuring, and what follows from the figures.

use std::time::{Duration, Instant};

use sepconv::{Error, Isa, PlanOptions, Result, Threads};

use super::report::{Bandwidth, Comparison, MachineLimits, Measurement, Report, Section, Settings, UNSURE, VERSION};
use super::sections::{DEPTHWISE, IM2COL, POINTWISE, Pair, Plans, SEPARABLE, Task};
use crate::machine::Machine;
use crate::roofline::{Roofline, RooflineBound};
use crate::rounds::{self, Budget, Figure, Moment, median, spread};
use crate::subject::{Buffers, CacheState, plan_options, pool};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request {
    /// The parts.
    pub sections: Vec<Section>,
    /// Threads that share a run.
    pub threads: usize,
    /// The instruction set, or the best.
    pub isa: Option<Isa>,
    /// A short run.
    pub quick: bool,
    /// The command line that measures this again.
    pub command: String,
}

impl Request {
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// Seconds of measuring for a part.
    fn seconds(&self, section: Section) -> f64 {
        let seconds = match section {
            Section::Layers => 24.0,
            Section::Sweeps => 34.0,
            Section::Blocks => 20.0,
            Section::Multipliers => 22.0,
            Section::Roofline => 16.0,
        };
        if self.quick { seconds / 10.0 } else { seconds }
    }

    /// About how long the whole takes, in seconds: planning, peak and bandwidth come on top of the measuring.
    pub fn estimate(&self) -> f64 {
        let limits = if self.quick { 0.5 } else { 0.5 * self.rounds() as f64 };
        self.sections.iter().map(|&section| self.seconds(section) + limits + 0.7).sum()
    }
}

/// What everything is planned with.
#[derive(Debug)]
pub struct Bench {
    request: Request,
    options: PlanOptions,
    threads: Threads,
    isa: Isa,
}

impl Bench {
    /// Finds out whether the machine can do what is asked for.
    pub fn new(request: Request) -> Result<Bench> {
        let options = plan_options(request.isa, 1)?;
        let (threads, isa) = (pool(request.threads)?, options.isa()?);
        Ok(Bench { options: options.threads(threads.clone()), threads, isa, request })
    }

    /// Measures. `progress` is told the share of the work that was just done, of 1 in all, and what comes next.
    pub fn run(&self, progress: &mut dyn FnMut(f64, &str)) -> Result<Report> {
        let start = Instant::now();
        let request = &self.request;
        let mut roofline = Roofline::new(self.isa, request.threads, 0);
        let mut measured = Vec::new();
        let total: f64 = request.sections.iter().map(|&section| request.seconds(section)).sum();
        for &section in &request.sections {
            progress(0.0, section.name());
            let mut plans = Plans::new(section, &self.options, &self.threads)?;
            let share = request.seconds(section) / total / (plans.subjects() * request.rounds()) as f64;
            let figures = self.figures(&mut plans, &mut roofline, &mut || progress(share, section.name()))?;
            measured.push((plans, figures));
        }

        let limits = MachineLimits {
            peak_gflops: roofline.peak(),
            peak_spread: roofline.peak_spread(),
            bandwidths: roofline
                .levels()
                .into_iter()
                .map(|(level, footprint, gbps)| Bandwidth { level, footprint, gbps })
                .collect(),
        };
        let (mut measurements, mut comparisons) = (Vec::new(), Vec::new());
        for (plans, figures) in &measured {
            let of_section: Vec<_> =
                plans.tasks.iter().map(|t| measurement(plans.section, t, &figures[t.subject], &roofline)).collect();
            comparisons.extend(plans.pairs.iter().filter_map(|pair| comparison(plans, pair, figures, &of_section)));
            measurements.extend(of_section);
        }
        Ok(Report {
            version: VERSION,
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            seconds: start.elapsed().as_secs_f64(),
            machine: Machine::this(),
            settings: Settings {
                threads: request.threads,
                isa: self.isa.name().into(),
                quick: request.quick,
                rounds: request.rounds(),
                sections: request.sections.clone(),
                command: request.command.clone(),
            },
            limits,
            measurements,
            comparisons,
        })
    }

    fn figures(&self, plans: &mut Plans, roofline: &mut Roofline, step: &mut dyn FnMut()) -> Result<Vec<Figure>> {
        let (rounds, subjects) = (self.request.rounds(), plans.subjects());
        let seconds = Duration::from_secs_f64(self.request.seconds(plans.section));
        let mut buffers = Buffers::new(plans.values(), CacheState::Warm);
        rounds::interleave(
            subjects,
            Budget::of(seconds, subjects, rounds),
            |subject| plans.run(subject, &mut buffers),
            |moment| {
                match moment {
                    Moment::Round(round) if round > 0 && self.request.quick => {}
                    Moment::Round(_) => {
                        let missing = || Error::Isa(format!("{} does not run on this CPU", self.isa));
                        roofline.sample().ok_or_else(missing)?;
                    }
                    Moment::Subject(_) => step(),
                }
                Ok(())
            },
        )
    }
}

fn measurement(section: Section, task: &Task, figure: &Figure, roofline: &Roofline) -> Measurement {
    let Task { macs, parameters, memory, expansion, alpha, .. } = *task;
    let [inputs, outputs] = task.channels;
    // the least that is moved; activations in between can stay in a cache
    let bytes = task.bytes;
    let limit = roofline.limit(macs, bytes, bytes);
    let (seconds, spread) = (figure.median(), figure.spread());
    let gflops = 2.0 * macs as f64 / seconds / 1e9;
    Measurement {
        section,
        case: task.case.clone(),
        variant: task.variant.clone(),
        shape: task.shape.clone(),
        plane: task.plane,
        inputs,
        outputs,
        kernel: task.kernel,
        expansion,
        alpha,
        macs,
        parameters,
        bytes,
        memory,
        us: seconds * 1e6,
        us_best: figure.best * 1e6,
        spread,
        unsure: spread > UNSURE,
        runs: figure.runs,
        gflops,
        peak_share: gflops / roofline.peak(),
        roofline: limit.seconds / seconds,
        bound: limit.bound,
        kernels: task.kernels.clone(),
    }
}

fn comparison(plans: &Plans, pair: &Pair, figures: &[Figure], measurements: &[Measurement]) -> Option<Comparison> {
    let find = |variant: &str| {
        let of_case = plans.tasks.iter().zip(measurements).filter(|(task, _)| task.case == pair.case);
        of_case.filter(|(task, _)| task.variant == variant).map(|(task, m)| (&figures[task.subject], m)).next()
    };
    let ((figure, a), (over, b)) = (find(pair.variant)?, find(pair.over)?);
    let ratios: Vec<f64> = figure.rounds.iter().zip(&over.rounds).map(|(a, b)| a / b).collect();
    let spread = spread(&ratios);
    let ratio = |value: fn(&Measurement) -> u64| value(a) as f64 / value(b) as f64;
    let parts = || Some([a, b, find(DEPTHWISE)?.1, find(POINTWISE)?.1]);
    let why = match (pair.formula, parts()) {
        (Some(formula), Some(parts)) if pair.over != IM2COL && pair.variant == SEPARABLE => {
            Some(why(formula / median(&ratios), parts))
        }
        _ => None,
    };
    Some(Comparison {
        section: plans.section,
        case: pair.case.clone(),
        variant: pair.variant.into(),
        over: pair.over.into(),
        time: median(&ratios),
        spread,
        unsure: spread > UNSURE,
        macs: ratio(|m| m.macs),
        parameters: ratio(|m| m.parameters),
        memory: ratio(|m| m.memory),
        formula: pair.formula,
        why,
    })
}

/// Why the gain is what it is, where `reached` is its share of the gain that the formula promises.
///
/// The formula counts multiply-adds. A gain is less where the separable convolution does fewer of them in a second than
/// the standard one, so the time that either half loses against the peak is looked at, as each was timed alone.
fn why(reached: f64, [_, standard, depthwise, pointwise]: [&Measurement; 4]) -> String {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    if reached > 1.1 {
        return format!(
            "more than the formula: the standard convolution reaches only {} of the peak",
            percent(standard.peak_share)
        );
    }
    if reached >= 0.9 {
        return "as the formula says".into();
    }
    let lost = |m: &Measurement| m.us * (1.0 - m.peak_share);
    let alone = depthwise.us + pointwise.us;
    if lost(depthwise) >= lost(pointwise) {
        let (time, work) = (depthwise.us / alone, depthwise.macs as f64 / (depthwise.macs + pointwise.macs) as f64);
        let limit = match depthwise.bound {
            RooflineBound::Bandwidth => "bandwidth: its bytes cannot be moved faster than".to_owned(),
            RooflineBound::Compute => "one multiply-add for each value loaded, at".to_owned(),
        };
        let share = match depthwise.bound {
            RooflineBound::Bandwidth => depthwise.peak_share / depthwise.roofline,
            RooflineBound::Compute => depthwise.peak_share,
        };
        return format!(
            "the depthwise half takes {} of the time for {} of the MACs ({limit} {} of the peak; it reaches {} of its roofline)",
            percent(time),
            percent(work),
            percent(share),
            percent(depthwise.roofline),
        );
    }
    let narrow = if pointwise.outputs < 16 {
        format!(": {} outputs of a panel of 16", pointwise.outputs)
    } else {
        String::new()
    };
    format!("overhead of the pointwise half, which reaches {} of the peak{narrow}", percent(pointwise.peak_share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(us: f64, macs: u64, peak_share: f64, bound: RooflineBound) -> Measurement {
        Measurement {
            section: Section::Sweeps,
            case: "a".into(),
            variant: "b".into(),
            shape: "c".into(),
            plane: 14,
            inputs: 128,
            outputs: 8,
            kernel: 3,
            expansion: None,
            alpha: None,
            macs,
            parameters: 1,
            bytes: 1,
            memory: 1,
            us,
            us_best: us,
            spread: 0.0,
            unsure: false,
            runs: 1,
            gflops: 1.0,
            peak_share,
            roofline: peak_share,
            bound,
            kernels: "k".into(),
        }
    }

    #[test]
    fn reasons_name_what_loses_the_time() {
        let standard = measured(100.0, 1_000_000, 0.5, RooflineBound::Compute);
        let slow_depthwise = measured(30.0, 1000, 0.2, RooflineBound::Compute);
        let moving_depthwise = measured(30.0, 1000, 0.2, RooflineBound::Bandwidth);
        let pointwise = measured(10.0, 3000, 0.9, RooflineBound::Compute);
        let fast_depthwise = measured(1.0, 1000, 0.9, RooflineBound::Compute);
        let slow_pointwise = measured(10.0, 3000, 0.4, RooflineBound::Compute);
        let of = |reached, depthwise, pointwise| why(reached, [&standard, &standard, depthwise, pointwise]);
        assert_eq!(of(1.0, &slow_depthwise, &pointwise), "as the formula says");
        assert!(of(1.2, &slow_depthwise, &pointwise).contains("standard convolution reaches only 50 %"));
        let reason = of(0.5, &slow_depthwise, &pointwise);
        assert!(reason.contains("depthwise half takes 75 % of the time for 25 % of the MACs (one mult"), "{reason}");
        assert!(of(0.5, &moving_depthwise, &pointwise).contains("bandwidth"));
        let reason = of(0.5, &fast_depthwise, &slow_pointwise);
        assert!(reason.contains("pointwise half, which reaches 40 % of the peak: 8 outputs"), "{reason}");
    }
}
