//! The arguments of the pointwise kernel.

use crate::{Pointee, Residual, Store};

/// What [`Pointwise`](crate::Pointwise) computes on, and, with pointers to bytes, [`Int8Pointwise`](crate::Int8Pointwise). Offsets and
/// distances are counted in values, and `w_panel` in `T`.
#[derive(Clone, Copy, Debug)]
pub struct PointwiseArgs<T: Pointee = f32> {
    /// Pixels.
    pub m: usize,
    /// Input channels, all taps of a standard convolution counted; of int8 a multiple of the values that a step multiplies.
    pub k: usize,
    /// Output channels, from the first of `w`.
    pub n: usize,
    /// The input.
    pub x: *const T,
    /// Where each of the `m` pixels begins, from `x`.
    pub x_pixels: *const usize,
    /// Values of `k` that lie together; the last segment may be shorter.
    pub segment: usize,
    /// From one segment to the next.
    pub x_segment: usize,
    /// The first weight of the first panel: 16 values for each of `k`.
    pub w: *const T,
    /// From one panel to the next, in `w` and in `bias`. An int8 panel has 16 biases, 16 multipliers and its weights.
    pub w_panel: usize,
    /// The bias of the first panel.
    pub bias: *const T,
    /// Partial sums that the tile starts from in place of the bias, or null. Pixel `i` lies at `16 × i`.
    pub partial: *const T,
    /// From one panel of partial sums to the next.
    pub partial_panel: usize,
    /// What is added to the sums, of `m` pixels.
    pub residual: Option<Residual<T>>,
    /// What becomes of a sum then.
    pub epilogue: T::PointwiseEpilogue,
    /// Of an activation by channel, the parameters of the first panel: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
    /// Where the results of the `m` pixels go.
    pub store: Store<T>,
}
