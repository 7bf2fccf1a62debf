//! What can be wrong with an argument, and what was expected instead.

use crate::{Layout, Shape, Strides};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// A wrong argument, found before any byte of output is written. Each variant says what was expected and what came.
///
/// Variants and fields may be added: a match has a wildcard arm, and a pattern ends in `..`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shape without rows, columns or channels: a window has nothing to slide over, and a mean is of nothing. A batch of
    /// no images is no error, and its result is empty.
    #[error("shape {shape}: rows, columns and channels must be at least 1")]
    #[non_exhaustive]
    ZeroSize {
        /// The shape.
        shape: Shape,
    },
    /// A kernel, stride or dilation of zero.
    #[error("{stage} {what}: must be at least 1, got 0")]
    #[non_exhaustive]
    ZeroWindow {
        /// The stage that has it: `depthwise`, `expand`.
        stage: &'static str,
        /// Which of them.
        what: &'static str,
    },
    /// A size of a window beyond what is supported.
    #[error("{stage} {what}: must be at most {limit}, got {got}")]
    #[non_exhaustive]
    Window {
        /// The stage that has it.
        stage: &'static str,
        /// Which size.
        what: &'static str,
        /// The largest that is taken.
        limit: usize,
        /// The size that came, or `usize::MAX` where it does not fit.
        got: usize,
    },
    /// A tensor or a buffer whose size does not fit the address space.
    #[error("{what} of {shape}: its size overflows")]
    #[non_exhaustive]
    TooLarge {
        /// What it would have been.
        what: &'static str,
        /// The shape asked for.
        shape: Shape,
    },
    /// Pixels that would overlap.
    #[error("pixel stride: must be at least the {expected} channels, got {got}")]
    #[non_exhaustive]
    PixelStride {
        /// Channels of a pixel.
        expected: usize,
        /// The stride asked for.
        got: usize,
    },
    /// A plane, with its padding, that the kernel does not fit into.
    #[error("{stage}: the kernel reaches over {expected} {axis}, the padded input has {got}")]
    #[non_exhaustive]
    InputTooSmall {
        /// The stage whose kernel it is.
        stage: &'static str,
        /// `rows` or `columns`.
        axis: &'static str,
        /// What the kernel covers.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// A filter, bias or vector of a wrong length.
    #[error("{what}: expected {expected} values, got {got}")]
    #[non_exhaustive]
    Length {
        /// What it was, with its sizes: `depthwise filter 3×3×144`.
        what: String,
        /// The length it should have.
        expected: usize,
        /// The length it has.
        got: usize,
    },
    /// A buffer that is shorter than its shape and strides ask for.
    #[error("{what} of {shape} by {strides}: needs {expected} values, the slice has {got}")]
    #[non_exhaustive]
    Buffer {
        /// `input` or `output`.
        what: &'static str,
        /// Its shape.
        shape: Shape,
        /// The distances between its values.
        strides: Strides,
        /// Values it must hold.
        expected: usize,
        /// Values it holds.
        got: usize,
    },
    /// A tensor to write whose strides may put two values at one place.
    #[error("an output of {shape} by {strides}: two values may lie at one place")]
    #[non_exhaustive]
    Overlap {
        /// Its shape.
        shape: Shape,
        /// The distances between its values.
        strides: Strides,
    },
    /// A part of a tensor that the tensor does not have.
    #[error("{axis} {start}..{end} of a tensor that has {len}")]
    #[non_exhaustive]
    Part {
        /// `images`, `rows`, `columns` or `channels`.
        axis: &'static str,
        /// How many there are.
        len: usize,
        /// The first of the part.
        start: usize,
        /// The one behind the last of the part.
        end: usize,
    },
    /// A tensor that does not lie as the plan expects it to.
    #[error("{what}: the plan is for {expected:?}, where the channels of a pixel lie together, got {strides}")]
    #[non_exhaustive]
    Layout {
        /// `input` or `output`.
        what: &'static str,
        /// The layout planned for.
        expected: Layout,
        /// The distances between the values given.
        strides: Strides,
    },
    /// A tensor whose shape is not the one that was planned for.
    #[error("{what}: the plan is for {expected}, got {got}")]
    #[non_exhaustive]
    ShapeMismatch {
        /// `input` or `output`.
        what: &'static str,
        /// The shape planned for.
        expected: Shape,
        /// The shape given.
        got: Shape,
    },
    /// More or fewer tensors than a network or a layer has inputs or outputs.
    #[error("{what}s: expected {expected}, got {got}")]
    #[non_exhaustive]
    Count {
        /// `input` or `output`.
        what: &'static str,
        /// How many there are.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A stage or a layer that reads another number of channels than comes to it. The error of a shortcut has the channels of the
    /// block's input and of its output.
    #[error("{what}: expected {expected} channels, got {got}")]
    #[non_exhaustive]
    Channels {
        /// The stage, `depthwise` or `project`; `input` of a layer of a network; `shortcut`.
        what: &'static str,
        /// The number that it reads, by its filter.
        expected: usize,
        /// The number that comes to it, from the stage or layer before it or from the caller.
        got: usize,
    },
    /// A shortcut that is required, around stages that change the shape.
    #[error("shortcut: needs one shape at both ends, got {input} in and {output} out")]
    #[non_exhaustive]
    Shortcut {
        /// The shape at the beginning.
        input: Shape,
        /// The shape at the end.
        output: Shape,
    },
    /// An error of one layer of a network. [`Error::without_layers`] is the error of its operator.
    #[error("layer {index} ({kind}): {error}")]
    #[non_exhaustive]
    Layer {
        /// The layer's place among the network's layers, from 0.
        index: usize,
        /// The operator that the layer is: `depthwise convolution`.
        kind: &'static str,
        /// The error of that operator.
        error: Box<Error>,
    },
    /// Scratch with fewer bytes than the plan needs.
    #[error("scratch: the plan needs {expected} bytes from a multiple of 64 on, got {got}")]
    #[non_exhaustive]
    SmallScratch {
        /// [`crate::Plan::scratch_bytes`] of the plan.
        expected: usize,
        /// Bytes there are. Of memory of the caller's, those from the first aligned address on.
        got: usize,
    },
    /// A filter in an order that the operator does not take.
    #[error("{operator}: takes a filter of {expected}, got {got}")]
    #[non_exhaustive]
    FilterOrder {
        /// The operator.
        operator: &'static str,
        /// What it takes.
        expected: &'static str,
        /// The order that came.
        got: &'static str,
    },
    /// A value outside its range, such as an epsilon that is not a number.
    #[error("{what}: expected {expected}, got {got}")]
    #[non_exhaustive]
    Value {
        /// What it was.
        what: String,
        /// The values it may have.
        expected: &'static str,
        /// The value that came.
        got: String,
    },
    /// Memory that the allocator did not give.
    #[error("{what}: could not allocate {bytes} bytes")]
    #[non_exhaustive]
    Allocation {
        /// What it was for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// Scratch out of proportion to what a step reads and writes: [`crate::Plan::scratch_bytes`] says what is taken.
    #[error("{stage}: would take {bytes} bytes of scratch on each thread, at most {limit} are taken")]
    #[non_exhaustive]
    Scratch {
        /// The stages of the step: `depthwise → pointwise`.
        stage: &'static str,
        /// Bytes that it would take.
        bytes: usize,
        /// The most that a step on tensors and weights of these sizes may take.
        limit: usize,
    },
    /// An instruction set whose kernels are not there: the CPU, a name in `SEPCONV_MAX_ISA` or a cargo feature stands in the way.
    #[error("instruction set: {0}")]
    Isa(String),
    /// Fusion or a schedule that was demanded and cannot be had.
    #[error("fusion: {0}")]
    Fusion(String),
    /// A network without layers, or with one where it cannot stand.
    #[error("network: {0}")]
    Network(String),
    /// A file of weights that is malformed, or a tensor in it that is missing or of a wrong shape or type.
    #[error("weights: {0}")]
    Weights(String),
}

impl Error {
    /// The error as the operator gave it, where it is one of a network's layers; else the error itself.
    ///
    /// ```
    /// use sepconv::{Error, GlobalAveragePool, Network};
    /// let error = Network::new(vec![GlobalAveragePool::new(8)?.into(), GlobalAveragePool::new(9)?.into()]).unwrap_err();
    /// assert_eq!(error.to_string(), "layer 1 (global average pool): input: expected 9 channels, got 8");
    /// assert!(matches!(error, Error::Layer { index: 1, .. }));
    /// assert!(matches!(error.without_layers(), Error::Channels { expected: 9, got: 8, .. }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn without_layers(&self) -> &Error {
        let mut error = self;
        while let Error::Layer { error: of_layer, .. } = error {
            error = of_layer;
        }
        error
    }

    /// The error of a window that does not fit a plane, with the name of the stage.
    pub(crate) fn in_stage(mut self, name: &'static str) -> Error {
        if let Error::InputTooSmall { stage, .. } | Error::Window { stage, .. } = &mut self {
            *stage = name;
        }
        self
    }
}
