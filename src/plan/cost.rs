//! Every threshold that decides the way of a plan, as fields of one struct.
//!
//! Thresholds choose between ways that compute the same bits: which stages run as one step, by which schedule, in which
//! portions, and on how many threads. No threshold may make a plan unsound: the code that reads one clamps it, or
//! returns an error. Tests set thresholds to tiny and to huge values, so that small cases take every way.

use sepconv_kernels::Isa;

/// Output rows of one call of a depthwise kernel that goes down a caller's pixels in strips.
///
/// Pixels whose distance is a multiple of 1 KiB fall into few sets of an L1. The prefetcher follows a strip down its rows,
/// and evicts lines that it brought before, the sooner where input and output share those sets, as two large allocations
/// do (28×28×256: 60 µs with all rows, 42 with four at a time).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "public in the module `testing`"))]
#[non_exhaustive]
pub struct StripRows {
    /// The stride of the convolutions that this entry is for.
    pub stride: usize,
    /// The entry is for channels that are a multiple of this number.
    pub channels: usize,
    /// The entry is for pieces of more rows than this number.
    pub above: usize,
    /// The most rows of one call; 0 counts as 1.
    pub rows: usize,
}

/// Each line is a threshold: its documentation and its name.
macro_rules! thresholds {
    ($($(#[$doc:meta])* $field:ident)*) => {
        /// Thresholds of the planner, for tests: whatever they are, a plan computes the same bits, or planning is an error.
        ///
        /// ```
        /// use sepconv::testing::Thresholds;
        /// use sepconv::{Isa, PlanOptions};
        /// let mut thresholds = Thresholds::of(Isa::Scalar);
        /// thresholds.slab_pixels = 0;
        /// let options = PlanOptions::new().thresholds(thresholds);
        /// # let _ = options;
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "public in the module `testing`"))]
        #[non_exhaustive]
        pub struct Thresholds {
            $($(#[$doc])* pub $field: usize,)*
            /// Rows of a call that goes down a caller's pixels in strips. The first entry that fits decides; where none
            /// does, one call takes all rows of a piece.
            pub strip_rows: [StripRows; 4],
            /// Whether one call of a depthwise 3×3 kernel takes all rows of a piece, so that it can go down strips of
            /// columns. `None` lets the kernels decide.
            pub strips: Option<bool>,
        }

        impl Thresholds {
            /// Calls `change` with the name and the value of each number.
            #[cfg(feature = "testing")]
            pub fn each(&mut self, mut change: impl FnMut(&'static str, &mut usize)) {
                $(change(stringify!($field), &mut self.$field);)*
                for entry in &mut self.strip_rows {
                    change("strip_rows.stride", &mut entry.stride);
                    change("strip_rows.channels", &mut entry.channels);
                    change("strip_rows.above", &mut entry.above);
                    change("strip_rows.rows", &mut entry.rows);
                }
            }
        }
    };
}

thresholds! {
    /// Values. A tensor of at most so many costs nothing at a border between two steps: its reader finds it in L2, or L3
    /// is quick enough. Of larger tensors, the planner sets borders between stages where they pass fewest values.
    near_border
    /// Values. A depthwise convolution on the caller's input whose output has at most so many is not fused with a
    /// pointwise convolution of more than [`tail_weights`](Self::tail_weights): to write the output to L2 and to read it
    /// costs less than these weights.
    near_tensor
    /// Weights of a pointwise convolution that stay in L2 from one group of rows to the next.
    tail_weights
    /// Output pixels. Planes of at most so many go by slabs of channels: every weight is then read once, and the whole plane of a
    /// slab fits the cache. Threads may share such planes by channels.
    ///
    /// Larger planes go by slabs as well where a slab of three blocks fits [`slab_values`](Self::slab_values), and all
    /// channels not even [`ring_values`](Self::ring_values) by half of the rows at a time: 32-192-32 takes 2 to 9 % less
    /// at 16×16 to 20×20 then (AVX2), 16-96-16 would take up to 12 % more, 24-144-24 7 % at 24×24 and 18 to 28 % beyond.
    slab_pixels
    /// Values of a slab, ring and depthwise rows, that stay in L2 with room for weights. 160 KiB of the 512 that the L2 of a
    /// CPU without AVX-512 may have. With AVX-512 it is 1 MiB or more but for a few clients': 384 KiB took 2 to 3 % off
    /// V2 there, and 512 KiB gained no more.
    slab_values
    /// The same of a group of rows of all channels.
    ring_values
    /// The same where the tail has more than [`tail_weights`](Self::tail_weights), which come from L3 for every group: they
    /// come less often.
    ring_values_heavy
    /// Values of a ring of all channels: 32 MiB, beyond any L2 and most L3, where nothing is won by keeping rows. Longer
    /// rows go by some channels at a time.
    long_rows
    /// Values that a step reads and keeps for two output rows, from which on it goes by sections of columns: half a megabyte, which is the
    /// L2 of a CPU without AVX-512. A section then has as many columns as [`ring_values`](Self::ring_values) allows.
    section_values
    /// Times. Parts of a row, in sections and in calls, have at least so many times the columns that two of them read: a window may reach over
    /// far more columns than a part would have, and each part copies or computes them again.
    part_overlaps
    /// The fewest columns of a section. Narrower ones compute many columns twice, and fill no tile.
    section_columns
    /// Values of the ring of a depthwise convolution alone: 20 KiB, which leaves room for weights and output in an L1 of
    /// 32 KiB.
    near_ring
    /// Values of input that one call of the pointwise kernel goes over to fill a ring.
    head_values
    /// Values of input that one call of the pointwise kernel goes over in a convolution of its own: they stay in L2 while
    /// panel after panel passes.
    group_values
    /// Values of input and output of one call of the pointwise kernel where one of them is transposed from planes or to planes: both
    /// are in scratch then, and stay in L2.
    staged_values
    /// Percent of the channels of a depthwise convolution that lanes of its blocks are, from which on its rows go flat. The kernel is the same, and
    /// loads that cross cache lines cost a part of what empty lanes do.
    flat_lanes
    /// The same of a 3×3 that blocks have a kernel of its own for, which is more than twice as fast.
    flat_lanes_3x3
    /// Pixels, each of as many lanes as weights of flat rows repeat after, from which on a tile goes along a flat row, and not down rows: it has
    /// as many sums, which hide the latency of a multiply-add.
    flat_pixels
    /// The most pixels of a window that is copied, for each tap: beyond that taps are gathered, since most of what is copied is read by none.
    far_taps
    /// Workers, of those that have nothing to do, for each that has: from that on a plane is cut into sections, so that all have a part.
    idle_workers
    /// Taps of the largest window, other than 3×3, that a depthwise convolution reads from a caller's pixels where they lie. Larger
    /// windows take so long that a copy of their rows costs little, and read it faster.
    pixel_taps
    /// The most columns of a plane of one channel, in NHWC, that goes as a plane does. Longer rows would take more scratch than flat rows do.
    one_channel_width
    /// Output columns from which a depthwise 3×3 goes from planes to planes, a channel at a time. Narrower planes are transposed: their
    /// rows fill few lanes.
    planes_width
    /// The same where the kernel copies the rows that it reads: such planes must fill vectors to win.
    copied_planes_width
    /// Offsets of the longest table of pixels that is written when a step is planned: 64 KiB, and no step has more than
    /// five. No group of pixels of a MobileNet has as many. Longer tables are written at each run.
    planned_offsets
    /// Columns of zeros that a tensor may have beside its rows, if it has fewer columns itself. Padding can be far wider
    /// than a plane: then it is cheaper to copy rows than to keep it in memory.
    padding_columns
    /// Multiply-adds. A step of fewer runs on one thread: they take a microsecond, and lines that go from core to core as
    /// long; threads meet behind it in any case. With 200,000 V2 0.35 96 took 3 % longer on two threads.
    worth_sharing
    /// Multiply-adds. A part of a layer of fewer, head and depthwise stage or the tail, gains no more by an exchange than it
    /// costs to meet once more: it counts as if one thread ran it. 24-144-24 at 6×6 takes as long by rows, 56-336-56 at
    /// 3×3 a third longer.
    worth_meeting
    /// Percent of the work by channels. Threads share a small plane by channels where the work by rows is more: so much
    /// more work weighs as much as an exchange of the tensor between. On cores that share a cache the exchange costs
    /// nothing, on cores that do not it took 1.4 times the even share of an inverted residual. V1's last two layers, where
    /// rows are an eighth to a third more, gained up to 7 % of a network on the ones; on the others up to 7 where it is
    /// wide, and lost up to 4 where it is narrow.
    worth_exchanging
    /// Times. A signal along H is planned as one along W, where the busiest worker then has at most so many times the work: threads share
    /// the rows of a plane, and a signal along W has one row, of which some steps have no sections. 0 for never.
    swap_gain
    /// Multiply-adds of the convolutions beside a depthwise one, of a pixel. Where they do more, a signal along H is not planned as one along W
    /// if the row between them is longer than [`near_border`](Self::near_border): the row would come from L3.
    swap_macs
    /// Multiply-adds that take as long as a pool's addition, which reads its value from memory.
    pool_macs
    /// Output pixels of a plane from which on the stages of a block are fused in a batch of several images.
    batch_pixels
    /// Pixels of a caller's plane that a pool transposes before it adds them up. Larger planes have a call of the kernel each.
    staged_plane
    /// Bytes of scratch that a worker may need for any stage.
    scratch_least
    /// Bytes of scratch that a worker may need, for each byte that a stage reads and writes, weights counted. Channel blocks
    /// take up to 16 times a tensor of one channel; what is far beyond that comes of windows that reach over next to nothing
    /// but padding, and of rows longer than any cache or memory was made for.
    scratch_per_byte
    /// Bytes of scratch that a worker may need at the most.
    scratch_most
}

impl Thresholds {
    /// The thresholds of plans for an instruction set.
    #[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "public in the module `testing`"))]
    pub const fn of(isa: Isa) -> Thresholds {
        let [slab_values, ring_values, ring_values_heavy] = match isa {
            Isa::Avx512 => [96 << 10, 96 << 10, 96 << 10],
            _ => [40 << 10, 48 << 10, 56 << 10],
        };
        Thresholds {
            near_border: 256 << 10,
            near_tensor: 128 << 10,
            tail_weights: 96 << 10,
            slab_pixels: 14 * 14,
            slab_values,
            ring_values,
            ring_values_heavy,
            long_rows: 8 << 20,
            section_values: 128 << 10,
            part_overlaps: 4,
            section_columns: 16,
            near_ring: 5 << 10,
            head_values: 32 << 10,
            group_values: 64 << 10,
            staged_values: 32 << 10,
            flat_lanes: 130,
            flat_lanes_3x3: 250,
            flat_pixels: 4,
            far_taps: 4,
            idle_workers: 1,
            pixel_taps: 16,
            one_channel_width: 4096,
            planes_width: 4,
            copied_planes_width: 12,
            planned_offsets: 8 << 10,
            padding_columns: 16,
            worth_sharing: 40_000,
            worth_meeting: 150_000,
            worth_exchanging: 112,
            swap_gain: 2,
            swap_macs: 2 << 10,
            pool_macs: 4,
            batch_pixels: 24,
            staged_plane: 1024,
            scratch_least: 64 << 20,
            scratch_per_byte: 64,
            scratch_most: 1 << 30,
            strip_rows: [
                StripRows { stride: 1, channels: 512, above: 0, rows: 2 },
                StripRows { stride: 1, channels: 256, above: 0, rows: 4 },
                StripRows { stride: 2, channels: 256, above: 0, rows: 3 },
                StripRows { stride: 2, channels: 128, above: 7, rows: 3 },
            ],
            strips: None,
        }
    }

    /// Output rows of one call that goes over a caller's pixels in strips, of at most `rows` rows.
    pub(super) fn strip_rows(&self, stride: usize, channels: usize, rows: usize) -> usize {
        let fits = |entry: &&StripRows| {
            entry.stride == stride && channels.is_multiple_of(entry.channels) && rows > entry.above
        };
        self.strip_rows.iter().find(fits).map_or(rows, |entry| entry.rows.clamp(1, rows))
    }

    /// The most bytes of scratch that a worker may need for a stage that reads and writes `bytes` bytes, weights counted.
    pub(super) fn scratch_limit(&self, bytes: u64) -> usize {
        let limit = (self.scratch_least as u64)
            .saturating_add(bytes.saturating_mul(self.scratch_per_byte as u64))
            .min(self.scratch_most as u64);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}
