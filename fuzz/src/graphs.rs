//! Random graphs, run every way there is: bits equal to the naive interpreter.
//!
//! The graph is that of the property tests, drawn from a number that the bytes hold. The bytes after it say how many layers the graph has,
//! the number of threads, and the thresholds.

use arbitrary::{Result, Unstructured};
use sepconv_test_support::graphs::{GraphCase, check_graph};
use sepconv_test_support::{Frame, Limits, MOST_THREADS, Rng, Runs, SCHEDULES};

fn case(u: &mut Unstructured<'_>) -> Result<(GraphCase, Runs)> {
    let seed: u64 = u.arbitrary()?;
    let layers = u.int_in_range(1..=24)?;
    let mut runs = Runs::on(u.int_in_range(1..=MOST_THREADS)?);
    let mut frame = || -> Result<Frame> {
        let order = if u.arbitrary()? { Frame::NHWC } else { Frame::NCHW };
        let gaps = [0, u.int_in_range(0..=3)?, u.int_in_range(0..=3)?, u.int_in_range(0..=3)?];
        Ok(Frame { offset: u.int_in_range(0..=3)?, order, gaps })
    };
    (runs.input, runs.output) = (frame()?, frame()?);
    runs.limits = match u.int_in_range(0..=2u8)? {
        0 => Limits::Default,
        1 => Limits::Tiny,
        _ => Limits::Mixed(u.arbitrary()?),
    };
    Ok((GraphCase::draw(&mut Rng(seed), layers), runs))
}

/// Panics where a graph's result is not that of the interpreter.
pub fn check(data: &[u8]) -> String {
    let Ok((case, runs)) = case(&mut Unstructured::new(data)) else { return "too few bytes".into() };
    if let Err(failure) = check_graph(&case, &SCHEDULES[..2], runs) {
        panic!("{case:?}\n{runs:?}\n{failure}");
    }
    let kinds: Vec<_> = case.ops.iter().map(std::mem::discriminant).collect();
    format!("{} layers, {kinds:?}", case.ops.len())
}
