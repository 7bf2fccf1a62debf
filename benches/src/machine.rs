//! What is known of the machine that a figure comes from.

use std::fs;

use sepconv::Isa;
use serde::{Deserialize, Serialize};

/// The cache of a core, or the one that it shares with others.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// How much it holds.
    pub bytes: u64,
}

/// Caches that hold data, by level. Where the system does not tell, those of an ordinary core are assumed: 32 KiB, 1
/// MiB and 32 MiB.
pub fn caches() -> Vec<Cache> {
    let read = |index: u32, what: &str| {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}"))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    let mut caches: Vec<Cache> = (0..8)
        .filter_map(|index| {
            let level = read(index, "level")?.parse().ok()?;
            let kind = read(index, "type")?;
            let size = read(index, "size")?;
            let kib: u64 = size.strip_suffix('K')?.parse().ok()?;
            (kind != "Instruction").then_some(Cache { level, bytes: kib << 10 })
        })
        .collect();
    if caches.is_empty() {
        caches = [(1, 32 << 10), (2, 1 << 20), (3, 32 << 20)].map(|(level, bytes)| Cache { level, bytes }).into();
    }
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// Bytes of the largest cache.
pub fn last_level_cache() -> u64 {
    caches().iter().map(|cache| cache.bytes).max().unwrap_or(32 << 20)
}

/// A machine, and the versions of what was measured on it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Machine {
    /// The CPU's name, as the system gives it.
    pub cpu: String,
    /// The architecture that the program was compiled for.
    pub arch: String,
    /// The system.
    pub os: String,
    /// Threads that the machine can run at once.
    pub cores: usize,
    /// Instruction sets that kernels are there for, the best first.
    pub isas: Vec<String>,
    /// Caches of the first core.
    pub caches: Vec<Cache>,
    /// The version of this library.
    pub sepconv: String,
    /// The version of the crate `gemm`.
    pub gemm: String,
    /// The compiler.
    pub rustc: String,
    /// Whether the program was compiled with optimisation and without checks of overflow: figures mean nothing if not.
    pub optimised: bool,
}

impl Machine {
    /// This machine.
    pub fn this() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
        Machine {
            cpu: model.map_or("unknown CPU", str::trim).to_owned(),
            arch: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            isas: Isa::ALL.iter().filter(|isa| isa.is_available()).map(|isa| isa.name().into()).collect(),
            caches: caches(),
            sepconv: env!("CARGO_PKG_VERSION").into(),
            gemm: env!("GEMM_VERSION").into(),
            rustc: env!("RUSTC_VERSION").into(),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// One line of it: `AMD EPYC, 2 cores, L1 32 KiB, L2 512 KiB, L3 32 MiB`.
    pub fn summary(&self) -> String {
        let caches: Vec<_> = self.caches.iter().map(|c| format!("L{} {}", c.level, bytes(c.bytes))).collect();
        let cores = if self.cores == 1 { "core" } else { "cores" };
        format!("{}, {} {cores}, {}", self.cpu, self.cores, caches.join(", "))
    }
}

/// Bytes in the largest unit that leaves at least one: `512 KiB`, `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (bytes as f64 / 1024.0, "KiB"),
        1_048_576..1_073_741_824 => (bytes as f64 / 1_048_576.0, "MiB"),
        _ => (bytes as f64 / 1_073_741_824.0, "GiB"),
    };
    if value.fract() < 0.05 || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.caches.is_sorted_by_key(|c| c.level) && last_level_cache() >= 1024, "{machine:?}");
        assert!(machine.rustc.starts_with("rustc 1.") && machine.gemm.starts_with("0."), "{machine:?}");
        assert!(machine.summary().contains("L1"), "{}", machine.summary());
    }

    #[test]
    fn bytes_are_readable() {
        let readable = [1, 1536, 524_288, 33_554_432, 1_234_567, 150 << 20].map(bytes);
        assert_eq!(readable, ["1 B", "1.5 KiB", "512 KiB", "32 MiB", "1.2 MiB", "150 MiB"]);
    }
}
