//! What is known of the machine that a figure comes from.

use std::fs;

use serde::{Deserialize, Serialize};

/// The cache of a core, or the one that it shares with others.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// How much it holds.
    pub bytes: u64,
}

/// Caches that hold data, by level. Where the system does not tell, those of an ordinary core are assumed: 32 KiB, 1 MiB and
/// 32 MiB.
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
