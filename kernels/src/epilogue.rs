//! The epilogue: what a kernel does with a sum that is complete, as data.
//!
//! ```text
//!   sum ──▶ [+ residual] ──▶ activation ──▶ store        or, with `residual_last`:
//!   sum ──▶ clamp ──▶ + residual ──▶ store
//! ```
//!
//! | part | type | kernels that take it |
//! |---|---|---|
//! | residual | [`Residual`], or none | pointwise |
//! | activation | [`Epilogue`] | all that multiply floats; of quantized values, [`Requantize`] |
//! | store | [`Store`] | pointwise; a depthwise kernel stores rows, which its arguments list |
//!
//! A kernel reads the clamp to registers ([`EpilogueVectors`]) outside of the loops that multiply. These know nothing of it. Every other
//! activation goes over what the kernel has stored (`activation.rs`), and the clamp has infinite bounds then.
//!
//! Two activations have parameters for each channel. A call has a pointer to those of its first channel, beside the epilogue.
//!
//! Another activation is a variant of [`Nonlinearity`]. The compiler then asks for its arm in `activation.rs`, and in no kernel.

use crate::BLOCK;
use crate::int8::Requantize;
use crate::simd::Vector;

/// What the pointers of a kernel's arguments point to: floats, or bytes of quantized values.
pub trait Pointee: Copy + core::fmt::Debug + 'static {
    /// What becomes of a complete sum.
    type Epilogue: Copy + core::fmt::Debug;
    /// What becomes of a sum of the pointwise kernel, which may be partial.
    type PointwiseEpilogue: Copy + core::fmt::Debug;
}

impl Pointee for f32 {
    type Epilogue = Epilogue;
    type PointwiseEpilogue = Epilogue;
}

impl Pointee for u8 {
    type Epilogue = Requantize;
    /// None of a partial sum.
    type PointwiseEpilogue = Option<Requantize>;
}

/// What every kernel does with its sums before it stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epilogue {
    activation: Nonlinearity,
    /// Those of the clamp; of another activation, infinities.
    bounds: [f32; 2],
    residual_last: bool,
}

/// A function of one value. `docs/numbers.md` has the steps of each, and how far they are from the exact function.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// `min(max(lo, v), hi)`, of the lower and the upper bound. NaN passes, and −0 passes a bound of +0.
    Clamp([f32; 2]),
    /// `v × clamp(v + 3, 0, 6) / 6`.
    HardSwish,
    /// `clamp(v + 3, 0, 6) / 6`.
    HardSigmoid,
    /// `1 / (1 + e^−v)`.
    Sigmoid,
    /// `v / (1 + e^−v)`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `v / 2 × (1 + tanh(√(2/π) × (v + 0.044715 v³)))`.
    Gelu,
    /// `v`, where it is negative times this slope.
    LeakyRelu(f32),
    /// `v`, where it is negative times the slope of its channel: the first of its [parameters](Nonlinearity::of_channel).
    PRelu,
    /// `min(max(lo, v), hi)`, of the bounds of its channel.
    ClampByChannel,
}

/// Values that an activation by channel has for 16 channels: 16 first parameters, then 16 second ones.
pub const CHANNEL_PARAMS: usize = 2 * BLOCK;

impl Nonlinearity {
    /// The value as it is.
    pub const NONE: Nonlinearity = Nonlinearity::Clamp([f32::NEG_INFINITY, f32::INFINITY]);

    /// The name that plans print.
    pub const fn name(self) -> &'static str {
        match self {
            Nonlinearity::Clamp(_) => "clamp",
            Nonlinearity::HardSwish => "HardSwish",
            Nonlinearity::HardSigmoid => "HardSigmoid",
            Nonlinearity::Sigmoid => "Sigmoid",
            Nonlinearity::Silu => "SiLU",
            Nonlinearity::Tanh => "Tanh",
            Nonlinearity::Gelu => "GELU",
            Nonlinearity::LeakyRelu(_) => "LeakyReLU",
            Nonlinearity::PRelu => "PReLU",
            Nonlinearity::ClampByChannel => "clamp by channel",
        }
    }

    /// Whether each channel has parameters of its own, which come beside the [`Epilogue`].
    #[inline(always)]
    pub const fn is_by_channel(self) -> bool {
        matches!(self, Nonlinearity::PRelu | Nonlinearity::ClampByChannel)
    }

    /// The function of a channel with these parameters: the slope and any number, or the lower and the upper bound. An activation that is
    /// not by channel is itself.
    #[inline(always)]
    pub const fn of_channel(self, params: [f32; 2]) -> Nonlinearity {
        match self {
            Nonlinearity::PRelu => Nonlinearity::LeakyRelu(params[0]),
            Nonlinearity::ClampByChannel => Nonlinearity::Clamp(params),
            other => other,
        }
    }
}

impl Epilogue {
    /// The sum as it is: the end of a partial sum.
    pub const NONE: Epilogue = Epilogue::of(Nonlinearity::NONE);

    /// An activation.
    pub const fn of(activation: Nonlinearity) -> Epilogue {
        let bounds = match activation {
            Nonlinearity::Clamp(bounds) => bounds,
            _ => [f32::NEG_INFINITY, f32::INFINITY],
        };
        Epilogue { activation, bounds, residual_last: false }
    }

    /// A clamp between the lower and the upper bound.
    pub const fn clamp(bounds: [f32; 2]) -> Epilogue {
        Epilogue::of(Nonlinearity::Clamp(bounds))
    }

    /// Whether a residual is added behind the activation and not before it. The activation must be a clamp then.
    pub const fn residual_last(self, residual_last: bool) -> Epilogue {
        Epilogue { residual_last, ..self }
    }

    /// The function that is stored of a sum.
    pub const fn activation(&self) -> Nonlinearity {
        self.activation
    }

    /// Whether tiles do all of it.
    #[inline(always)]
    pub(crate) fn is_clamp(&self) -> bool {
        matches!(self.activation, Nonlinearity::Clamp(_))
    }

    /// Whether a residual is added behind the clamp.
    #[inline(always)]
    pub(crate) fn adds_last(&self) -> bool {
        self.residual_last
    }

    /// Whether a tile stores a sum as it is. By the derived comparison, LLVM reads a pointer of the AVX2 tile again in the loop over `k`.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        let [lo, hi] = self.bounds;
        lo == f32::NEG_INFINITY && hi == f32::INFINITY
    }

    /// The clamp in registers.
    #[inline(always)]
    pub(crate) fn vectors<S: Vector>(&self, simd: S) -> EpilogueVectors<S> {
        let [lo, hi] = self.bounds;
        EpilogueVectors { lo: simd.splat_f32s(lo), hi: simd.splat_f32s(hi) }
    }
}

/// The clamp of an [`Epilogue`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct EpilogueVectors<S: Vector> {
    lo: S::f32s,
    hi: S::f32s,
}

impl<S: Vector> EpilogueVectors<S> {
    /// What is stored of a vector of sums.
    #[inline(always)]
    pub(crate) fn apply(self, simd: S, sums: S::f32s) -> S::f32s {
        simd.clamp(sums, self.lo, self.hi)
    }
}

/// Values that are added to the sums of some pixels, before the activation or behind it. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct Residual<T = f32> {
    /// The values.
    pub ptr: *const T,
    /// Where each pixel begins, from `ptr`.
    pub pixels: *const usize,
    /// From one panel to the next.
    pub panel: usize,
    /// Whether the last panel has 16 channels whatever the number of channels is.
    pub whole: bool,
}

/// Where the results of some pixels are stored. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct Store<T = f32> {
    /// The output.
    pub ptr: *mut T,
    /// Where each pixel begins, from `ptr`.
    pub pixels: *const usize,
    /// From one panel to the next.
    pub panel: usize,
    /// Whether the last panel has room for 16 channels whatever the number of channels is.
    pub whole: bool,
}
