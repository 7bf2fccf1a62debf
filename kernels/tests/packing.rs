//! The layouts of `pack`: what goes in comes out, and nothing else is written.

use sepconv_kernels::BLOCK;
use sepconv_kernels::pack::{dense_row, depthwise_len, pack, pointwise_len};
use sepconv_kernels_test_support::{CANARY, Guarded, Rng, row};

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
