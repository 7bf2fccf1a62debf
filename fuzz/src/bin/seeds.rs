//! Makes the seeds of every fuzz target, in `fuzz/corpus/`:
//!
//! ```sh
//! cargo +nightly fuzz run -O seeds
//! ```
//!
//! It is no target itself: built and run as the targets are, it takes no kernels of its own to compile.
//!
//! For descriptions and for small cases it throws dice, and keeps each string of bytes that comes to an end no string
//! before it came to. For files of weights it writes whole files of both models, and then spoils them. The dice are
//! seeded: every run makes the same files.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::tensor::Dtype;
use sepconv::models::{WeightOrder, Weights};
use sepconv_fuzz::{describe, network_weights, run_differential};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll() as u8).collect()
    }
}

fn write(target: &str, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    for (i, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed{i:04}")), seed)?;
    }
    println!("{target}: {} seeds", seeds.len());
    Ok(())
}

/// Of `tries` strings of bytes, those that come to a new end.
fn distinct(tries: u64, len: impl Fn(u64) -> usize, check: impl Fn(&[u8]) -> String) -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    let mut ends = BTreeSet::new();
    let mut seeds = Vec::new();
    for i in 0..tries {
        let mut bytes = dice.bytes(len(i));
        bytes[0] = i as u8;
        if ends.insert(check(&bytes)) {
            seeds.push(bytes);
        }
    }
    seeds
}

/// The bytes of a value in a file.
fn narrowed(dtype: Dtype, value: f32) -> Vec<u8> {
    match dtype {
        Dtype::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

/// Whole files of both models in both orders, with biases and with batch norms, of floats of each type and of all three,
/// then the same with a byte or a part missing. At last what draws a file.
fn files() -> Vec<Vec<u8>> {
    let mut dice = Dice(2);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for architecture in network_weights::architectures() {
        let seeded = Weights::seeded(&architecture, 1).expect("memory for a small network");
        for (code, norms) in [(0u8, false), (0, true), (1, false), (1, true)] {
            let order = if code == 0 { WeightOrder::Hwio } else { WeightOrder::Oihw };
            let tensors = network_weights::listed(&architecture, order, norms);
            use Dtype::{BF16, F16, F32};
            for dtypes in [&[F32][..], &[F16], &[BF16], &[F32, F16, BF16]] {
                let file = network_weights::file_of(&tensors, |at, name, len| {
                    // a filter is in another order than its values, where for this purpose any values will do
                    let values = seeded.values(name).map_or_else(|_| vec![1.0; len], |values| values.to_vec());
                    let dtype = dtypes[at % dtypes.len()];
                    (dtype, values.iter().flat_map(|&v| narrowed(dtype, v)).collect())
                });
                let seed = [vec![code], file].concat();
                let end = network_weights::check(&seed);
                assert!(end.contains("v1 ") || end.contains("v2 "), "a whole file, yet no network: {end}");
                seeds.push(seed);
            }
        }
    }
    for file in seeds.clone() {
        let cut = file.len() - 1 - dice.roll() as usize % 64;
        seeds.push(file[..cut].to_vec());
        for _ in 0..4 {
            let mut spoiled = file.clone();
            let at = 1 + dice.roll() as usize % 4000.min(file.len() - 1);
            spoiled[at] = dice.roll() as u8;
            seeds.push(spoiled);
        }
    }
    for first in (0..16).filter(|first| first & 2 != 0) {
        seeds.extend([1, 40, 1000].map(|len| [vec![first], dice.bytes(len)].concat()));
    }
    for seed in &seeds {
        network_weights::check(seed);
    }
    seeds
}

fn main() -> std::io::Result<()> {
    write("describe", &distinct(20_000, |i| 24 + i as usize % 7 * 40, describe::check))?;
    write("run_differential", &distinct(300, |i| 64 << (i % 6), run_differential::check))?;
    write("network_weights", &files())
}
