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
    /// Where `k` is no multiple of 4, or `out` is not of the length of its panels.
    pub fn pack(
        &self,
        k: usize,
        n: usize,
        out: &mut [u8],
        of_output: impl Fn(usize) -> (i32, f32),
        weight: impl Fn(usize, usize) -> i8,
    ) {
        assert!(k.is_multiple_of(4), "values of k by fours");
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
}

/// The taps of a depthwise convolution in the order in which a kernel takes them, by fours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthwisePacking {
    /// Of [`Int8DwConv3x3<1>`](crate::Int8DwConv3x3): for each column, the upper output row's and the lower one's.
    TwoRows3x3,
    /// Of [`Int8DwConv3x3<2>`](crate::Int8DwConv3x3): column by column.
    Columns3x3,
    /// Of [`Int8DwConv`](crate::Int8DwConv), for so many rows and columns: row by row.
    AnyWindow([usize; 2]),
}

impl DepthwisePacking {
    /// Values of `k` that weights are packed for, with those that are zero.
    pub const fn values(self) -> usize {
        match self {
            DepthwisePacking::TwoRows3x3 => 24,
            DepthwisePacking::Columns3x3 => 12,
            DepthwisePacking::AnyWindow([kh, kw]) => (kh * kw).next_multiple_of(4),
        }
    }

    /// The tap, counted row by row, that value `i` multiplies; none where the weight is zero.
    pub fn tap(self, i: usize) -> Option<usize> {
        let (four, ky) = (i / 4, i % 4);
        match self {
            DepthwisePacking::TwoRows3x3 => ky.checked_sub(four % 2).filter(|&ky| ky < 3).map(|ky| ky * 3 + four / 2),
            DepthwisePacking::Columns3x3 => (ky < 3).then_some(ky * 3 + four),
            DepthwisePacking::AnyWindow([kh, kw]) => (i < kh * kw).then_some(i),
        }
    }
}
