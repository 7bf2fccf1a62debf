//! The peak that a figure is compared with, measured on the machine and in the process that gave the figure.
//!
//! The loop does nothing but the step that every sum is made of, `acc × x + w`, on as many sums at once as hide its
//! latency and still fit into registers:
//!
//! | instruction set | step | sums | registers in use |
//! |---|---|---|---|
//! | AVX-512 | one fused multiply-add | 12 | 14 of 32 |
//! | AVX2 | one fused multiply-add | 12 | 14 of 16 |
//! | SSE4.2 | a product, then a sum | 12 | 15 of 16 |
//! | NEON | one fused multiply-add | 24 | 26 of 32 |
//! | scalar | a product, then a sum | 48 | as the compiler likes |
//!
//! The sum stands where a kernel has an activation, because a product that stays the same would be computed once,
//! before the loop, and half of the work with it. The scalar loop is plain Rust, as the scalar kernels are, and in both
//! the compiler takes what vectors the baseline of the architecture has: with 48 sums it does so on x86-64, where it
//! left 12 of them alone and kernels were faster than the "peak".

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};
use sepconv::{Arithmetic, Isa};

/// How long the peak is looked for at a time, and how often. Windows are shorter than the time that a system gives to
/// one program before it turns to the next: on a busy machine some are then undisturbed.
const WINDOW: Duration = Duration::from_millis(2);
const WINDOWS: usize = 40;

/// Steps of one call, for each sum.
const STEPS: usize = 1 << 14;

struct MulAddLoop<const SUMS: usize> {
    arithmetic: Arithmetic,
}

impl<const SUMS: usize> WithSimd for MulAddLoop<SUMS> {
    /// Floating-point operations done: two for each lane and step.
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        // Sums run towards w / (1 − x) = 1: never a denormal, never an infinity.
        let (x, w) = (simd.splat_f32s(black_box(0.75)), simd.splat_f32s(black_box(0.25)));
        let mut sums = [simd.splat_f32s(black_box(0.5)); SUMS];
        match self.arithmetic {
            Arithmetic::Fused => {
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = simd.mul_add_f32s(*sum, x, w);
                    }
                }
            }
            Arithmetic::Separate => {
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = simd.add_f32s(simd.mul_f32s(*sum, x), w);
                    }
                }
            }
            other => unreachable!("no loop of {other:?}"),
        }
        black_box(sums);
        (2 * STEPS * SUMS * S::F32_LANES) as u64
    }
}

/// One call of the loop, or `None` where this CPU lacks the instruction set.
fn call(isa: Isa) -> Option<u64> {
    let arithmetic = isa.arithmetic();
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(Simd::vectorize(pulp::x86::V4::try_new()?, MulAddLoop::<12> { arithmetic })),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(Simd::vectorize(pulp::x86::V3::try_new()?, MulAddLoop::<12> { arithmetic })),
        #[cfg(target_arch = "x86_64")]
        Isa::Sse42 => Some(Simd::vectorize(pulp::x86::V2::try_new()?, MulAddLoop::<12> { arithmetic })),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(Simd::vectorize(pulp::aarch64::Neon::try_new()?, MulAddLoop::<24> { arithmetic })),
        Isa::Scalar => Some(Simd::vectorize(pulp::Scalar::new(), MulAddLoop::<48> { arithmetic })),
        _ => None,
    }
}

/// The most GFLOP/s that `threads` threads reach together on an instruction set, a multiply-add counted as two
/// operations; the best of a few short windows, about a tenth of a second in all. `None` where this CPU lacks the
/// instruction set.
pub fn measure(isa: Isa, threads: usize) -> Option<f64> {
    call(isa)?;
    let barrier = Barrier::new(threads);
    let rates = || {
        let mut rates = [0.0; WINDOWS];
        for rate in &mut rates {
            barrier.wait();
            let (start, mut operations) = (Instant::now(), 0);
            *rate = loop {
                operations += call(isa).unwrap_or(0);
                let elapsed = start.elapsed();
                if elapsed >= WINDOW {
                    break operations as f64 / elapsed.as_secs_f64() / 1e9;
                }
            };
        }
        rates
    };
    let mut sums = [0.0; WINDOWS];
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(rates)).collect();
        let mut add = |rates: [f64; WINDOWS]| {
            for (sum, rate) in sums.iter_mut().zip(rates) {
                *sum += rate;
            }
        };
        add(rates());
        for helper in helpers {
            add(helper.join().expect("a thread of the loop does not panic"));
        }
    });
    Some(sums.into_iter().fold(0.0, f64::max))
}
