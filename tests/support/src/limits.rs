//! What the planner of a case decides by: its own thresholds, or others, by which small cases take every way.

use proptest::prelude::*;
use sepconv::testing::Thresholds;
use sepconv::{Error, Isa};

use crate::Rng;

/// The thresholds of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// Those of the library.
    Default,
    /// Small ones, by which a small case is cut, shared and regrouped as a large one is otherwise.
    Tiny,
    /// Each small, large, zero, the largest there is, or that of the library, by this seed.
    Mixed(u64),
}

impl Limits {
    /// The thresholds of a plan for an instruction set, or none where the library has its own.
    pub fn thresholds(self, isa: Isa) -> Option<Thresholds> {
        let default = Thresholds::of(isa);
        match self {
            Limits::Default => None,
            Limits::Tiny => Some(tiny(default)),
            Limits::Mixed(seed) => Some(mixed(default, &mut Rng(seed))),
        }
    }

    /// Whether a plan may be refused by this error: for want of scratch that these allow.
    pub fn may_refuse(self, error: &Error) -> bool {
        matches!(self, Limits::Mixed(_)) && matches!(error.without_layers(), Error::Scratch { .. })
    }
}

fn tiny(mut thresholds: Thresholds) -> Thresholds {
    thresholds.each(|name, value| {
        *value = match name {
            "near_border" => 100,
            "near_tensor" => 2000,
            "tail_weights" => 600,
            "slab_pixels" => 12,
            "slab_values" => 1500,
            "ring_values" => 500,
            "ring_values_heavy" => 1000,
            "long_rows" => 1000,
            "section_values" => 3000,
            "section_columns" => 3,
            "part_overlaps" => 1,
            "near_ring" => 500,
            "head_values" => 60,
            "group_values" => 100,
            "staged_values" => 300,
            "staged_plane" => 20,
            "batch_pixels" => 6,
            "flat_lanes" => 110,
            "flat_lanes_3x3" => 120,
            "flat_pixels" => 2,
            "far_taps" => 1,
            "idle_workers" => 0,
            "pixel_taps" => 4,
            "one_channel_width" => 10,
            "planes_width" => 3,
            "copied_planes_width" => 4,
            "planned_offsets" => 20,
            "padding_columns" => 1,
            "worth_sharing" => 0,
            "worth_meeting" => 300,
            "swap_macs" => 200,
            "strip_rows.channels" => 16,
            "strip_rows.above" => 1,
            // small already, ratios, and the scratch without which there is no plan
            "strip_rows.stride" | "strip_rows.rows" | "worth_exchanging" | "swap_gain" | "pool_macs" => *value,
            "scratch_least" | "scratch_per_byte" | "scratch_most" => *value,
            new => panic!("the threshold {new} has no small value: name it here"),
        };
    });
    thresholds
}

fn mixed(mut thresholds: Thresholds, rng: &mut Rng) -> Thresholds {
    let small = tiny(thresholds);
    let mut smalls = Vec::new();
    { small }.each(|_, value| smalls.push(*value));
    let mut smalls = smalls.into_iter();
    thresholds.each(|name, value| {
        let small = smalls.next().unwrap();
        *value = match (name, rng.below(8)) {
            // where these are small there is no plan at all, but for the smallest of cases
            ("scratch_least", 0) => 1 << (10 + rng.below(8)),
            ("scratch_per_byte", 0) => rng.below(8),
            ("scratch_least" | "scratch_per_byte" | "scratch_most", _) => *value,
            // what a plan writes for a table and keeps has no other limit
            ("planned_offsets", 0) => 1 << 16,
            (_, 0) => usize::MAX,
            (_, 1) => 0,
            (_, 2 | 3) => *value,
            (_, 4) => small,
            _ => 1 << rng.below(14),
        };
    });
    thresholds.strips = [None, Some(false), Some(true)][rng.below(3)];
    thresholds
}

/// As often the library's own as others.
pub fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        2 => Just(Limits::Default),
        1 => Just(Limits::Tiny),
        1 => any::<u64>().prop_map(Limits::Mixed),
    ]
}
