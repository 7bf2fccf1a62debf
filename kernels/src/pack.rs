//! Layouts of weights and activations.
//!
//! ```text
//!   pointwise     [panel of 16 outputs][bias 16 | k × 16]
//!   depthwise     [block of 16 channels][bias 16 | taps × 16]
//!   activations   row by row, each [C/16 blocks][pixels, padding included][16]
//! ```
//!
//! Channels beyond the last are zero in weights. In activations they hold what the kernels left there: nothing reads
//! them but lanes that nobody stores.

use crate::BLOCK;

/// Values that the packed weights of a pointwise convolution take, or `None` where that overflows.
pub const fn pointwise_len(k: usize, n: usize) -> Option<usize> {
    match k.checked_add(1) {
        Some(rows) => match rows.checked_mul(BLOCK) {
            Some(panel) => panel.checked_mul(n.div_ceil(BLOCK)),
            None => None,
        },
        None => None,
    }
}

/// Values that the packed weights of a depthwise convolution take: the same layout, with taps for `k`.
pub const fn depthwise_len(taps: usize, channels: usize) -> Option<usize> {
    pointwise_len(taps, channels)
}

/// Packs `k` rows of weights for `n` outputs, or `k` taps for `n` channels: both layouts are one.
///
/// `value(o, row)` gives what stands for output `o` in a row of its panel: row 0 is the bias, row `1 + k` the weight of
/// `k`.
///
/// # Panics
/// Where `out` is not of the length that [`pointwise_len`] gives.
pub fn pack(k: usize, n: usize, out: &mut [f32], mut value: impl FnMut(usize, usize) -> f32) {
    pack_rows(k, n, out, |first, row, lanes| {
        for (lane, out) in lanes.iter_mut().enumerate() {
            *out = value(first + lane, row);
        }
    });
}

/// The same, row by row: `fill(first, row, lanes)` writes what stands for the outputs from `first` on, at most 16.
///
/// # Panics
/// As [`pack`].
pub fn pack_rows(k: usize, n: usize, out: &mut [f32], mut fill: impl FnMut(usize, usize, &mut [f32])) {
    assert_eq!(Some(out.len()), pointwise_len(k, n), "length of packed weights");
    let panel_len = (k + 1) * BLOCK;
    for (p, panel) in out.chunks_exact_mut(panel_len).enumerate() {
        let first = p * BLOCK;
        let lanes = BLOCK.min(n - first);
        for (row, out) in panel.chunks_exact_mut(BLOCK).enumerate() {
            fill(first, row, &mut out[..lanes]);
            out[lanes..].fill(0.0);
        }
    }
}

/// Where the values of a row lie, counted from its first: channel `c` of pixel `x` is at
/// `(c / 16) × block + x × pixel + c % 16`. NHWC has `block` 16, channel blocks have `pixel` 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// From one block of 16 channels to the next.
    pub block: usize,
    /// From one pixel to the next.
    pub pixel: usize,
}

/// Copies a row of `width` pixels to where the channels of a pixel lie together, pixels `channels` apart.
///
/// # Safety
/// `x` is readable in `channels` channels of `width` pixels, `out` is writable for `width × channels` values; they do
/// not overlap.
pub unsafe fn dense_row(x: *const f32, layout: RowLayout, out: *mut f32, width: usize, channels: usize) {
    // SAFETY: the caller's.
    unsafe {
        if layout.block == BLOCK && layout.pixel == channels {
            core::ptr::copy_nonoverlapping(x, out, width * channels);
            return;
        }
        // of few channels, a loop over them takes longer than the copy
        match channels {
            1 => few_channels::<1>(x, layout.pixel, out, width),
            2 => few_channels::<2>(x, layout.pixel, out, width),
            3 => few_channels::<3>(x, layout.pixel, out, width),
            4 => few_channels::<4>(x, layout.pixel, out, width),
            _ => {
                for p in 0..width {
                    for first in (0..channels).step_by(BLOCK) {
                        let from = x.add(first / BLOCK * layout.block + p * layout.pixel);
                        let (to, count) = (out.add(p * channels + first), BLOCK.min(channels - first));
                        // a copy of known length is no call
                        if count == BLOCK {
                            to.cast::<[f32; BLOCK]>().write(from.cast::<[f32; BLOCK]>().read());
                        } else {
                            core::ptr::copy_nonoverlapping(from, to, count);
                        }
                    }
                }
            }
        }
    }
}

/// The same of `C` channels, at most 16.
///
/// # Safety
/// As [`dense_row`].
unsafe fn few_channels<const C: usize>(x: *const f32, pixel: usize, out: *mut f32, width: usize) {
    for p in 0..width {
        for c in 0..C {
            // SAFETY: the caller's.
            unsafe { *out.add(p * C + c) = *x.add(p * pixel + c) };
        }
    }
}

/// Copies a row as [`dense_row`] does, each of the `channels` channels `times` times.
///
/// # Safety
/// As [`dense_row`], with room for `width × channels × times` values.
pub unsafe fn repeated_row(
    x: *const f32,
    layout: RowLayout,
    out: *mut f32,
    width: usize,
    channels: usize,
    times: usize,
) {
    let mut out = out;
    for p in 0..width {
        for c in 0..channels {
            // SAFETY: the caller's.
            unsafe {
                let value = *x.add(c / BLOCK * layout.block + p * layout.pixel + c % BLOCK);
                for _ in 0..times {
                    out.write(value);
                    out = out.add(1);
                }
            }
        }
    }
}
