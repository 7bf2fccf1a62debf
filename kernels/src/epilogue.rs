//! The epilogue: what a kernel does with a sum that is complete, as data.
//!
//! ```text
//!   sum ──▶ [+ residual] ──▶ activation ──▶ store
//! ```
//!
//! | part | type | kernels that take it |
//! |---|---|---|
//! | residual | [`Residual`], or none | pointwise |
//! | activation | [`Epilogue`] | all that multiply |
//! | store | [`Store`] | pointwise; a depthwise kernel stores rows, which its arguments list |
//!
//! A kernel reads the epilogue to registers ([`EpilogueVectors`]) outside of the loops that multiply. These know nothing of it.
//!
//! Another activation is a variant of [`Nonlinearity`]. The compiler then asks for its arm here, and in no kernel.

use crate::simd::Vector;

/// What every kernel does with its sums before it stores them, and after it adds a residual.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epilogue {
    /// The function that is stored of a sum.
    pub activation: Nonlinearity,
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// `min(max(lo, v), hi)`, of the lower and the upper bound. NaN passes, and −0 passes a bound of +0.
    Clamp([f32; 2]),
}

impl Epilogue {
    /// The sum as it is: the end of a partial sum.
    pub const NONE: Epilogue = Epilogue::clamp([f32::NEG_INFINITY, f32::INFINITY]);

    /// A clamp between the lower and the upper bound.
    pub const fn clamp(bounds: [f32; 2]) -> Epilogue {
        Epilogue { activation: Nonlinearity::Clamp(bounds) }
    }

    /// Whether it stores a sum as it is. By the derived comparison, LLVM reads a pointer of the AVX2 tile again in the loop over `k`.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        let Nonlinearity::Clamp([lo, hi]) = self.activation;
        lo == f32::NEG_INFINITY && hi == f32::INFINITY
    }

    /// The epilogue in registers.
    #[inline(always)]
    pub(crate) fn vectors<S: Vector>(&self, simd: S) -> EpilogueVectors<S> {
        let Nonlinearity::Clamp([lo, hi]) = self.activation;
        EpilogueVectors { lo: simd.splat_f32s(lo), hi: simd.splat_f32s(hi) }
    }
}

/// An [`Epilogue`] in registers.
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

/// Values that are added to the sums of some pixels before the activation. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// The values.
    pub ptr: *const f32,
    /// Where each pixel begins, from `ptr`.
    pub pixels: *const usize,
    /// From one panel to the next.
    pub panel: usize,
    /// Whether the last panel has 16 channels whatever the number of channels is.
    pub whole: bool,
}

/// Where the results of some pixels are stored. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// The output.
    pub ptr: *mut f32,
    /// Where each pixel begins, from `ptr`.
    pub pixels: *const usize,
    /// From one panel to the next.
    pub panel: usize,
    /// Whether the last panel has room for 16 channels whatever the number of channels is.
    pub whole: bool,
}
