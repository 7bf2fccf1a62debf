//! The bandwidth that a figure is compared with: how fast the machine copies, by how much memory the copy goes over.
//!
//! A copy reads as much as it writes, which is what a depthwise convolution does at the least. Two ways to copy are
//! tried, a loop of vectors and the C library's `memcpy`, which writes past the caches when it is given much; the
//! faster one counts.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use aligned_vec::{AVec, ConstAlign};
use pulp::{Simd, WithSimd};
use sepconv::Isa;

/// How long a copy is repeated at a time, and how often.
const WINDOW: Duration = Duration::from_millis(2);
const WINDOWS: usize = 3;

/// Each window copies this much further on than the one before, and to a place this much further into its page than
/// what it copies: a core takes a load that follows a store at the same place of another page for one that may need the
/// store's value, and the way predictor of some takes two lines for one by a hash of their addresses.
const APART: usize = 1088 / size_of::<f32>();

/// Vectors of one step of the loop.
const STEP: usize = 8;

struct Scaled<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Scaled<'_> {
    type Output = ();

    /// Without the product the compiler would make it a call of `memcpy`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let one = simd.splat_f32s(black_box(1.0));
        let (from, from_tail) = S::as_simd_f32s(self.from);
        let (to, to_tail) = S::as_mut_simd_f32s(self.to);
        let (from, from_rest) = from.as_chunks::<STEP>();
        let (to, to_rest) = to.as_chunks_mut::<STEP>();
        for (to, from) in to.iter_mut().zip(from) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = simd.mul_f32s(from, one);
            }
        }
        to_rest.copy_from_slice(from_rest);
        to_tail.copy_from_slice(from_tail);
    }
}

/// One copy by vectors of an instruction set.
fn scaled(isa: Isa, copy: Scaled<'_>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Simd::vectorize(simd, copy);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, copy);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Sse42 => {
            if let Some(simd) = pulp::x86::V2::try_new() {
                return Simd::vectorize(simd, copy);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            if let Some(simd) = pulp::aarch64::Neon::try_new() {
                return Simd::vectorize(simd, copy);
            }
        }
        _ => {}
    }
    Simd::vectorize(pulp::Scalar::new(), copy);
}

/// Memory of one thread's copies, one half of it for what is read.
struct CopyBuffers {
    from: AVec<f32, ConstAlign<4096>>,
    to: AVec<f32, ConstAlign<4096>>,
}

impl CopyBuffers {
    fn new(values: usize) -> CopyBuffers {
        let zeros = |len| {
            let mut zeros = AVec::with_capacity(4096, len);
            zeros.resize(len, 1.0);
            zeros
        };
        let values = values + WINDOWS * APART;
        CopyBuffers { from: zeros(values), to: zeros(values + WINDOWS * APART) }
    }

    /// GB/s of copies over `values` values, best of a few windows.
    fn copy(&mut self, isa: Isa, values: usize, barrier: &Barrier) -> [[f64; WINDOWS]; 2] {
        let mut rates = [[0.0; WINDOWS]; 2];
        // reading the clock takes as long as a copy within L1
        let repeats = (1 << 14) / values.max(1) + 1;
        for (by_memcpy, rates) in rates.iter_mut().enumerate() {
            for (window, rate) in rates.iter_mut().enumerate() {
                let (from, to) = (window * APART, (2 * window + 1) * APART);
                let (from, to) = (&self.from[from..from + values], &mut self.to[to..to + values]);
                barrier.wait();
                let (start, mut copies) = (Instant::now(), 0);
                *rate = loop {
                    for _ in 0..repeats {
                        if by_memcpy == 1 {
                            black_box(&mut *to).copy_from_slice(black_box(from));
                        } else {
                            scaled(isa, Scaled { from: black_box(from), to: black_box(&mut *to) });
                        }
                    }
                    copies += repeats;
                    let elapsed = start.elapsed();
                    if elapsed >= WINDOW {
                        let bytes = 2 * copies * values * size_of::<f32>();
                        break bytes as f64 / elapsed.as_secs_f64() / 1e9;
                    }
                };
            }
        }
        rates
    }
}

/// GB/s, read and written bytes added, that `threads` threads reach together when each copies within its share of each
/// of `footprints` bytes; half of a footprint is read and half is written.
pub fn measure(isa: Isa, threads: usize, footprints: &[u64]) -> Vec<f64> {
    let share = |footprint: u64| (footprint as usize / threads / 2 / size_of::<f32>()).max(16);
    let largest = footprints.iter().copied().max().map_or(16, share);
    let barrier = Barrier::new(threads);
    let rates = || {
        let mut memory = CopyBuffers::new(largest);
        let rates: Vec<_> = footprints.iter().map(|&f| memory.copy(isa, share(f), &barrier)).collect();
        rates
    };
    let of_threads: Vec<_> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(rates)).collect();
        let mut all = vec![rates()];
        all.extend(helpers.into_iter().map(|helper| helper.join().expect("a thread that copies does not panic")));
        all
    });
    let together = |footprint: usize, way: usize, window: usize| -> f64 {
        of_threads.iter().map(|rates| rates[footprint][way][window]).sum()
    };
    (0..footprints.len())
        .map(|f| (0..2 * WINDOWS).map(|i| together(f, i / WINDOWS, i % WINDOWS)).fold(0.0, f64::max))
        .collect()
}

/// Bandwidth by footprint, between the footprints that were measured.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Bytes and GB/s, by rising bytes.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// From measured points, by rising footprint.
    pub fn new(points: impl IntoIterator<Item = (u64, f64)>) -> Curve {
        Curve { points: points.into_iter().map(|(bytes, gbps)| (bytes as f64, gbps)).collect() }
    }

    /// Bytes and GB/s of each measured point.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// GB/s at a footprint, on a straight line between its neighbours over logarithms; at either end as the last point
    /// says.
    pub fn at(&self, footprint: u64) -> f64 {
        let bytes = footprint as f64;
        let after = self.points.partition_point(|&(b, _)| b < bytes);
        match (after.checked_sub(1).map(|i| self.points[i]), self.points.get(after)) {
            (Some((b0, g0)), Some(&(b1, g1))) => {
                let share = (bytes / b0).ln() / (b1 / b0).ln();
                (g0.ln() + share * (g1 / g0).ln()).exp()
            }
            (Some((_, gbps)), None) | (None, Some(&(_, gbps))) => gbps,
            (None, None) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_meets_its_points_and_lies_between_them() {
        let curve = Curve::new([(1 << 10, 100.0), (1 << 14, 25.0)]);
        for (footprint, gbps) in [(1 << 10, 100.0), (1 << 12, 50.0), (1 << 14, 25.0), (1, 100.0), (1 << 20, 25.0)] {
            assert!((curve.at(footprint) - gbps).abs() < 1e-9, "{footprint}: {}", curve.at(footprint));
        }
    }

    #[test]
    fn copies_are_counted_on_every_instruction_set() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 2] {
                let rates = measure(isa, threads, &[100, 16 << 10]);
                assert!(rates.iter().all(|&gbps| gbps > 0.01 && gbps < 1e5), "{isa}, {threads} threads: {rates:?}");
            }
        }
    }
}
