//! How long something takes, when it is done again and again.

use std::time::{Duration, Instant};

/// Times of many runs.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The shortest.
    pub best: Duration,
    /// The one in the middle.
    pub median: Duration,
    /// How many were timed.
    pub runs: usize,
}

/// Runs that are timed at the least.
const MIN_RUNS: usize = 10;

/// Times whole runs for about `duration`, and ten of them at the least, after a warm-up of a fifth of that and five
/// runs at the least. The first error ends it.
pub fn time<E>(duration: Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<Timing, E> {
    let warm_up = Instant::now();
    let mut runs = 0;
    while runs < 5 || warm_up.elapsed() < duration / 5 {
        run()?;
        runs += 1;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < MIN_RUNS || start.elapsed() < duration {
        let before = Instant::now();
        run()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 0 { (times[middle - 1] + times[middle]) / 2 } else { times[middle] };
    Ok(Timing { best: times[0], median, runs: times.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_runs_are_timed_at_the_least() {
        let mut runs = 0;
        let timing = time(Duration::ZERO, || {
            runs += 1;
            Ok::<_, ()>(())
        });
        let timing = timing.unwrap();
        assert_eq!((timing.runs, runs), (10, 15));
        assert!(timing.best <= timing.median);
    }

    #[test]
    fn an_error_ends_it() {
        let mut runs = 0;
        let timing = time(Duration::ZERO, || {
            runs += 1;
            if runs == 7 { Err(runs) } else { Ok(()) }
        });
        assert_eq!((timing.unwrap_err(), runs), (7, 7));
    }
}
