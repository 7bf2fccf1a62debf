//! The layouts of `pack`: what goes in comes out, and nothing else is written.

mod common;

use common::{CANARY, Guarded, Rng, Values, is_canary};
use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::{RowLayout, block_row, dense_row, depthwise_len, pack, pointwise_len};

#[test]
fn lengths_overflow_to_none() {
    assert_eq!(pointwise_len(3, 17), Some(2 * 4 * BLOCK));
    assert_eq!(depthwise_len(9, 16), Some(10 * BLOCK));
    assert_eq!(pointwise_len(usize::MAX, 1), None);
    assert_eq!(pointwise_len(usize::MAX / BLOCK, 1), None);
    assert_eq!(pointwise_len(usize::MAX / 64, 64), None);
}

#[test]
fn weights_lie_in_panels_and_channels_past_the_last_are_zero() {
    for (k, n) in [(1, 1), (3, 16), (2, 17), (5, 40)] {
        let mut packed = Guarded::new(pointwise_len(k, n).unwrap());
        pack(k, n, packed.slice_mut(), |o, row| (1 + o * 100 + row) as f32);
        for (i, &v) in packed.slice().iter().enumerate() {
            let (panel, row, lane) = (i / ((k + 1) * BLOCK), i / BLOCK % (k + 1), i % BLOCK);
            let o = panel * BLOCK + lane;
            assert_eq!(v, if o < n { (1 + o * 100 + row) as f32 } else { 0.0 }, "{k}×{n}, value {i}");
        }
        packed.assert_zones_untouched("pack");
    }
}

/// A row of `width` pixels in a layout, and what value `(pixel, channel)` of it is.
fn row(rng: &mut Rng, width: usize, channels: usize, blocks: bool) -> (RowLayout, Guarded, Vec<f32>) {
    let layout = if blocks {
        RowLayout { block: (width + rng.below(3)) * BLOCK, pixel: BLOCK }
    } else {
        RowLayout { block: BLOCK, pixel: channels + rng.below(3) }
    };
    let at = |p: usize, c: usize| c / BLOCK * layout.block + p * layout.pixel + c % BLOCK;
    let values = rng.values(width * channels, Values::Plain);
    let last = (0..channels).map(|c| at(width - 1, c)).max().unwrap();
    let mut memory = Guarded::new(last + 1);
    for p in 0..width {
        for c in 0..channels {
            memory.slice_mut()[at(p, c)] = values[p * channels + c];
        }
    }
    (layout, memory, values)
}

#[test]
fn channels_of_rows_go_into_blocks() {
    let rng = &mut Rng(7);
    for width in [1, 2, 9] {
        for channels in [1, 3, 15, 16, 17, 32, 35] {
            for multiplier in 1..=4 {
                for blocks in [false, true] {
                    let (layout, memory, values) = row(rng, width, channels, blocks);
                    let outputs = channels * multiplier;
                    for first in 0..outputs.div_ceil(BLOCK) {
                        for last in first..outputs.div_ceil(BLOCK) {
                            let range = first * BLOCK..outputs.min((last + 1) * BLOCK);
                            let out_block = (width + rng.below(2)) * BLOCK;
                            let mut out = Guarded::new((last - first) * out_block + width * BLOCK);
                            let to = out.as_mut_ptr();
                            // SAFETY: both memories have the lengths of their layouts.
                            unsafe {
                                let from = memory.as_ptr();
                                block_row(from, layout, to, out_block, width, range.clone(), multiplier);
                            }
                            for p in 0..width {
                                for o in range.clone() {
                                    let block = o / BLOCK - first;
                                    assert_eq!(
                                        out.slice()[block * out_block + p * BLOCK + o % BLOCK],
                                        values[p * channels + o / multiplier],
                                        "{width} × {channels} × {multiplier}, {range:?}: pixel {p}, channel {o}"
                                    );
                                }
                            }
                            for (i, &v) in out.slice().iter().enumerate() {
                                assert!(i % out_block < width * BLOCK || is_canary(v), "wrote between blocks");
                            }
                            out.assert_zones_untouched("block_row");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_become_dense() {
    let rng = &mut Rng(8);
    for width in [1, 2, 5] {
        for channels in [1, 3, 16, 17, 40] {
            for blocks in [false, true] {
                let (layout, memory, values) = row(rng, width, channels, blocks);
                let mut out = Guarded::new(width * channels);
                // SAFETY: both memories have the lengths of their layouts.
                unsafe { dense_row(memory.as_ptr(), layout, out.as_mut_ptr(), width, channels) };
                assert_eq!(out.slice(), values);
                out.assert_zones_untouched("dense_row");
            }
        }
    }
    assert!(CANARY.is_nan());
}
