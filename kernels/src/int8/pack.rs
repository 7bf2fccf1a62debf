//! Packed weights of quantized values.
//!
//! ```text
//!   [panel of 16 outputs][bias 16 × i32 | multiplier 16 × f32 | steps × 16 × STEP]
//! ```
//!
//! Panels of a pointwise convolution and blocks of a depthwise one are packed alike, with taps for `k`. Values of `k` are counted by fours, of
//! which the last may have zeros. Where the values of an instruction set lie, [`Int8Layout`] says.

use super::Int8Layout;
use crate::BLOCK;

/// Bytes of the biases and the multipliers of a panel.
pub(crate) const HEADER: usize = 2 * BLOCK * size_of::<i32>();

impl Int8Layout {
    /// Bytes from one panel to the next, for so many values of `k`, a multiple of 4.
    pub fn panel_len(&self, k: usize) -> Option<usize> {
        k.checked_mul(BLOCK * self.weight)?.checked_add(HEADER)
    }

    /// Bytes from the begin of a panel to its weights.
    pub const WEIGHTS: usize = HEADER;

    /// Packs the weights of `n` outputs. `of_output` gives bias and multiplier of an output, and `weight` what output `o` multiplies value
    /// `k` by. Biases are those of stored values ([`Int8Layout::offset`]).
    ///
    /// # Panics
    /// Where `out` is not of the length of its panels.
    pub fn pack(
        &self,
        k: usize,
        n: usize,
        out: &mut [u8],
        of_output: impl Fn(usize) -> (i32, f32),
        weight: impl Fn(usize, usize) -> i8,
    ) {
        let panel_len = self.panel_len(k).expect("a length");
        assert_eq!(Some(out.len()), panel_len.checked_mul(n.div_ceil(BLOCK)), "length of packed weights");
        out.fill(0);
        let bytes = self.weight;
        for o in 0..n {
            let (panel, c) = (&mut out[o / BLOCK * panel_len..][..panel_len], o % BLOCK);
            let lane = usize::from(self.lanes[c]);
            let (bias, m) = of_output(o);
            panel[4 * lane..][..4].copy_from_slice(&bias.to_ne_bytes());
            panel[4 * (BLOCK + lane)..][..4].copy_from_slice(&m.to_ne_bytes());
            for i in 0..k {
                let place = i / self.step * self.step * BLOCK + usize::from(self.places[c][i % self.step]);
                // of an i16, both bytes
                let value = i16::from(weight(o, i)).to_le_bytes();
                let to = &mut panel[HEADER + place * bytes..][..bytes];
                to.copy_from_slice(&value[..bytes]);
                if bytes == 2 && cfg!(target_endian = "big") {
                    to.reverse();
                }
            }
        }
    }

    /// The value of `k`, among those that a depthwise convolution is packed for, of each tap: `taps[i]` is the tap that value `i` multiplies,
    /// none where the weight is zero.
    pub fn depthwise_tap(kernel: [usize; 2], stride: usize, i: usize) -> Option<usize> {
        let (four, j) = (i / 4, i % 4);
        match (kernel, stride) {
            // for each column, the upper output row and the lower one
            ([3, 3], 1) => j.checked_sub(four % 2).filter(|&ky| ky < 3).map(|ky| ky * 3 + four / 2),
            ([3, 3], 2) => (j < 3).then_some(j * 3 + four),
            ([kh, kw], _) => (i < kh * kw).then_some(i),
        }
    }

    /// Values of `k` that a depthwise convolution is packed for.
    pub fn depthwise_k(kernel: [usize; 2], stride: usize) -> usize {
        super::depthwise::packed_taps(kernel, stride)
    }
}
