//! The least time that the machine leaves to an operator: that of its multiply-adds, or that of moving its bytes.

use std::fmt;

use sepconv::Isa;
use serde::{Deserialize, Serialize};

use crate::rounds::{median, spread};
use crate::shapes::Operator;
use crate::{bandwidth, machine, peak};

/// Peak and bandwidths of one instruction set and number of threads, measured again in each round of a run.
#[derive(Clone, Debug)]
pub struct Roofline {
    isa: Isa,
    threads: usize,
    footprints: Vec<u64>,
    peaks: Vec<f64>,
    bandwidths: Vec<Vec<f64>>,
}

/// What bounds an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RooflineBound {
    /// Its multiply-adds.
    Compute,
    /// The bytes that it moves.
    Bandwidth,
}

impl fmt::Display for RooflineBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RooflineBound::Compute => "compute",
            RooflineBound::Bandwidth => "bandwidth",
        })
    }
}

/// The least time of an operator.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Seconds.
    pub seconds: f64,
    /// What they are spent on.
    pub bound: RooflineBound,
    /// GB/s that a copy reaches over as much memory.
    pub gbps: f64,
}

impl Roofline {
    /// Nothing is measured yet. Footprints go from half of L1 to four times the last cache, where `largest` bytes, if
    /// more, come on top.
    pub fn new(isa: Isa, threads: usize, largest: u64) -> Roofline {
        let top = (4 * machine::last_level_cache()).max(largest);
        let mut footprints = Vec::new();
        let mut footprint = 8 << 10;
        while footprint < top {
            // the caches end at powers of two, so there is one point on each side of an end and one at half the way
            footprints.extend([footprint, footprint * 3 / 2]);
            footprint *= 2;
        }
        footprints.retain(|&f| f < top);
        footprints.push(top);
        Roofline { isa, threads, footprints, peaks: Vec::new(), bandwidths: Vec::new() }
    }

    /// Measures everything once more. `None` where this CPU lacks the instruction set.
    pub fn sample(&mut self) -> Option<()> {
        self.peaks.push(peak::measure(self.isa, self.threads)?);
        self.bandwidths.push(bandwidth::measure(self.isa, self.threads, &self.footprints));
        Some(())
    }

    /// GFLOP/s of multiply-adds alone: the median of the samples.
    pub fn peak(&self) -> f64 {
        median(&self.peaks)
    }

    /// How far the samples of the peak lie apart: the range of their middle half over their median.
    pub fn peak_spread(&self) -> f64 {
        spread(&self.peaks)
    }

    /// Copies out of and into each cache and memory: half of a cache, of which each thread has its own up to the second
    /// level.
    pub fn levels(&self) -> Vec<(String, u64, f64)> {
        let (curve, caches) = (self.curve(), machine::caches());
        let mut levels: Vec<(String, u64)> = caches
            .iter()
            .map(|cache| {
                let threads = if cache.level <= 2 { self.threads as u64 } else { 1 };
                (format!("L{}", cache.level), cache.bytes / 2 * threads)
            })
            .collect();
        levels.push(("memory".into(), 4 * machine::last_level_cache()));
        levels.into_iter().map(|(name, footprint)| (name, footprint, curve.at(footprint))).collect()
    }

    /// GB/s of copies by footprint: the median of the samples.
    pub fn curve(&self) -> bandwidth::Curve {
        let of = |i| median(&self.bandwidths.iter().map(|sample| sample[i]).collect::<Vec<_>>());
        bandwidth::Curve::new(self.footprints.iter().enumerate().map(|(i, &footprint)| (footprint, of(i))))
    }

    /// The least time of `macs` multiply-adds and `bytes` bytes that lie in a working set of `footprint` bytes.
    pub fn limit(&self, macs: u64, bytes: u64, footprint: u64) -> Limit {
        let gbps = self.curve().at(footprint);
        let compute = 2.0 * macs as f64 / self.peak() / 1e9;
        let moving = bytes as f64 / gbps / 1e9;
        let bound = if compute >= moving { RooflineBound::Compute } else { RooflineBound::Bandwidth };
        Limit { seconds: compute.max(moving), bound, gbps }
    }

    /// The least time of an operator whose buffers stay where they are: its working set is what it moves.
    pub fn limit_of(&self, operator: &Operator) -> Limit {
        self.limit(operator.macs(), operator.bytes(), operator.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_both_is_the_limit() {
        let mut roofline = Roofline::new(Isa::best(), 1, 0);
        roofline.peaks = vec![90.0, 100.0, 200.0];
        roofline.bandwidths = vec![vec![50.0; roofline.footprints.len()]];
        let limit = roofline.limit(100_000_000, 1_000_000, 1 << 20);
        assert_eq!((limit.bound, (limit.seconds * 1e6).round()), (RooflineBound::Compute, 2000.0));
        let limit = roofline.limit(100_000, 1_000_000, 1 << 20);
        assert_eq!((limit.bound, (limit.seconds * 1e6).round()), (RooflineBound::Bandwidth, 20.0));
        assert!(roofline.footprints.is_sorted_by(|a, b| a < b));
    }
}
