//! Times of many subjects, taken in turn, again and again.
//!
//! A machine has slow spells, of milliseconds and of seconds. So each subject is timed once a round, and a round goes
//! over all of them: what is compared within a round saw the same spell. The figure of a round is the median of its
//! batches, and the figure of a subject is the median of its rounds.

use std::time::{Duration, Instant};

/// Runs that are timed together take at least this long: reading the clock is then lost in it.
const BATCH: Duration = Duration::from_micros(100);

/// How much time there is.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// How often each subject is timed.
    pub rounds: usize,
    /// How long each subject is timed in a round, warm-up not counted: at least one batch.
    pub slot: Duration,
}

impl Budget {
    /// Rounds in which `subjects` subjects take about `total` in all, warm-up counted.
    pub fn of(total: Duration, subjects: usize, rounds: usize) -> Budget {
        Budget { rounds, slot: total.mul_f64(0.75) / (subjects.max(1) * rounds) as u32 }
    }
}

/// The times of one subject.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Seconds of a run: the median of each round.
    pub rounds: Vec<f64>,
    /// Seconds of a run in the fastest batch.
    pub best: f64,
    /// Runs that were timed.
    pub runs: usize,
}

impl Figure {
    /// Seconds of a run: the median of the rounds.
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// How far rounds lie apart: the range of their middle half over their median.
    pub fn spread(&self) -> f64 {
        spread(&self.rounds)
    }

    /// How many times as long as `other` it takes: the median over rounds in which both were timed.
    pub fn ratio(&self, other: &Figure) -> f64 {
        median(&self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

/// The value in the middle; of an even number the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The range of the middle half over the median.
pub fn spread(values: &[f64]) -> f64 {
    (quantile(values, 0.75) - quantile(values, 0.25)) / median(values)
}

/// The value that a share of all lies below, on a straight line between neighbours. NaN of none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = sorted[place.floor() as usize];
    below + (sorted[place.ceil() as usize] - below) * place.fract()
}

/// Times subjects `0..count`, where `run(subject)` runs one once. `between` is told of each round before it begins, and
/// of each subject that has been timed. The first error ends it.
pub fn interleave<E>(
    count: usize,
    budget: Budget,
    mut run: impl FnMut(usize) -> Result<(), E>,
    mut between: impl FnMut(Moment) -> Result<(), E>,
) -> Result<Vec<Figure>, E> {
    let mut figures = vec![Figure { rounds: Vec::new(), best: f64::INFINITY, runs: 0 }; count];
    for round in 0..budget.rounds {
        between(Moment::Round(round))?;
        for i in 0..count {
            // every second round goes backwards, so that no subject always follows the same one
            let subject = if round % 2 == 0 { i } else { count - 1 - i };
            let figure = &mut figures[subject];
            let times = batches(budget.slot, || run(subject))?;
            figure.rounds.push(median(&times.seconds));
            figure.best = times.seconds.iter().copied().fold(figure.best, f64::min);
            figure.runs += times.runs;
            between(Moment::Subject(subject))?;
        }
    }
    Ok(figures)
}

/// Where a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before this round.
    Round(usize),
    /// After this subject was timed in a round.
    Subject(usize),
}

struct Batches {
    /// Seconds of a run, of each batch.
    seconds: Vec<f64>,
    runs: usize,
}

/// Warms up for a fifth of the slot, then times batches until it is over.
fn batches<E>(slot: Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<Batches, E> {
    let (start, mut warm_up) = (Instant::now(), 0u32);
    let once = loop {
        run()?;
        warm_up += 1;
        let elapsed = start.elapsed();
        if elapsed >= slot / 5 {
            break elapsed / warm_up;
        }
    };
    let size = BATCH.as_nanos().div_ceil(once.as_nanos().max(1)) as usize;
    let (start, mut batches) = (Instant::now(), Batches { seconds: Vec::new(), runs: 0 });
    while batches.seconds.is_empty() || start.elapsed() < slot {
        let before = Instant::now();
        for _ in 0..size {
            run()?;
        }
        batches.seconds.push(before.elapsed().as_secs_f64() / size as f64);
        batches.runs += size;
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_timed_in_every_round() {
        let mut moments = Vec::new();
        let mut runs = [0; 3];
        let budget = Budget { rounds: 4, slot: Duration::from_micros(300) };
        let run = |subject: usize| {
            runs[subject] += 1;
            std::thread::sleep(Duration::from_micros(50));
            Ok::<_, ()>(())
        };
        let figures = interleave(3, budget, run, |moment| {
            moments.push(moment);
            Ok(())
        });
        for (figure, runs) in figures.unwrap().iter().zip(runs) {
            assert_eq!(figure.rounds.len(), 4);
            assert!(figure.best >= 50e-6 && figure.median() >= figure.best && figure.runs < runs, "{figure:?}, {runs}");
        }
        let subjects = |r: usize| (0..3).map(move |i| Moment::Subject(if r.is_multiple_of(2) { i } else { 2 - i }));
        let expected: Vec<_> = (0..4).flat_map(|r| std::iter::once(Moment::Round(r)).chain(subjects(r))).collect();
        assert_eq!(moments, expected);
    }

    #[test]
    fn an_error_ends_it() {
        let mut runs = 0;
        let budget = Budget { rounds: 4, slot: Duration::ZERO };
        let run = |_| {
            runs += 1;
            if runs == 3 { Err(runs) } else { Ok(()) }
        };
        assert_eq!(interleave(2, budget, run, |_| Ok(())).unwrap_err(), 3);
    }

    #[test]
    fn medians_spreads_and_ratios() {
        let figure = |rounds: &[f64]| Figure { rounds: rounds.to_vec(), best: 0.0, runs: 0 };
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!((figure(&[1.0, 2.0, 3.0, 4.0, 100.0]).spread() - 2.0 / 3.0).abs() < 1e-12);
        // a slow round that both saw does not count
        assert_eq!(figure(&[2.0, 4.0, 60.0]).ratio(&figure(&[1.0, 2.0, 30.0])), 2.0);
        assert!(median(&[]).is_nan());
    }
}
