//! The arguments of the depthwise kernels.

use crate::Pointee;
use crate::pack::RowLayout;
#[cfg(doc)]
use crate::{DwConv, DwConv3x3};

/// What the depthwise kernels compute on; with pointers to bytes, those of int8. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseArgs<T: Pointee = f32> {
    /// Channels.
    pub channels: usize,
    /// Output pixels of a row.
    pub width: usize,
    /// Output rows, 1 for [`DwConv`].
    pub rows_out: usize,
    /// Pointers to input rows, at the first tap of the first output pixel, or behind it where `edges` lack that column.
    /// [`DwConv3x3`] takes the `(rows_out − 1) × stride + 3` that its taps meet, [`DwConv`] one for each kernel row.
    pub rows: *const *const T,
    /// Where the values of a row lie. [`DwConv3x3`] without `edges` takes pixels that are 16 values apart.
    pub x: RowLayout,
    /// None where rows have all columns that windows meet. Else rows are NHWC, of a multiple of
    /// [`edge_channels`](crate::Kernels::edge_channels), and so many of these columns are lacking before and behind: they are zeros.
    /// [`DwConv3x3`] takes at most 1, and
    /// [`DwConv`] windows of at most [`EDGE_TAPS`](crate::EDGE_TAPS).
    pub edges: Option<[usize; 2]>,
    /// 16 zeros. With `edges` as many as channels, and a row whose pointer is this is all zeros.
    pub zeros: *const T,
    /// Weights: for each channel block 16 of bias, then 16 for each tap. An int8 block has 16 multipliers behind the biases.
    pub w: *const T,
    /// Pointers to the output rows.
    pub out: *const *mut T,
    /// From one channel block of an output row to the next.
    pub out_block: usize,
    /// From one output pixel to the next.
    pub out_pixel: usize,
    /// Whether the last block of `out` has room for 16 channels whatever `channels` is.
    pub whole_blocks: bool,
    /// Rows and columns of the kernel; [`DwConv3x3`] knows its own.
    pub kernel: [usize; 2],
    /// Pixels from one output pixel's window to the next; [`DwConv3x3`] knows its own.
    pub stride: usize,
    /// For each column of the kernel, from the first tap of a row to that one, in values; [`DwConv3x3`] knows its own.
    pub taps: *const usize,
    /// Pixels from one tap to the next in a row. [`DwConv3x3`] has 1, and [`DwConv`] reads it with `edges` alone.
    pub dilation: usize,
    /// What becomes of a sum before it is stored.
    pub epilogue: T::Epilogue,
    /// Of an activation by channel, the parameters of the first channel: [`CHANNEL_PARAMS`](crate::CHANNEL_PARAMS) for each 16 channels. Of any other it
    /// is not read.
    pub params: *const f32,
}
