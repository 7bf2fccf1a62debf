//! The arguments of the pointwise kernel.

use crate::{Epilogue, Residual, Store};

/// What [`Pointwise`](crate::Pointwise) computes on. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct PointwiseArgs {
    /// Pixels.
    pub m: usize,
    /// Input channels, all taps of a standard convolution counted.
    pub k: usize,
    /// Output channels, from the first of `w`.
    pub n: usize,
    /// The input.
    pub x: *const f32,
    /// Where each of the `m` pixels begins, from `x`.
    pub x_pixels: *const usize,
    /// Values of `k` that lie together; the last segment may be shorter.
    pub segment: usize,
    /// From one segment to the next.
    pub x_segment: usize,
    /// The first weight of the first panel: 16 values for each of `k`.
    pub w: *const f32,
    /// From one panel to the next, in `w` and in `bias`.
    pub w_panel: usize,
    /// The bias of the first panel.
    pub bias: *const f32,
    /// Partial sums that the tile starts from in place of the bias, or null. Pixel `i` lies at `16 × i`.
    pub partial: *const f32,
    /// From one panel of partial sums to the next.
    pub partial_panel: usize,
    /// What is added to the sums, of `m` pixels.
    pub residual: Option<Residual>,
    /// What becomes of a sum then.
    pub epilogue: Epilogue,
    /// Of an activation by channel, the parameters of the first panel: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
    /// Where the results of the `m` pixels go.
    pub store: Store,
}
