//! The types that values of a tensor may have.

/// The type of the values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// `f32`
    F32,
}

impl ElementType {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            ElementType::F32 => size_of::<f32>(),
        }
    }
}

/// A type that values of a [`View`](crate::View) may have. Only types of this crate's list implement it.
pub trait Element: sealed::SealedElement + Copy + Send + Sync + 'static {
    /// The type, as a value.
    const TYPE: ElementType;
}

mod sealed {
    /// Types of which every pattern of bytes is a value, and whose alignment is at most a cache line.
    #[allow(unnameable_types, reason = "no other crate implements it")]
    pub trait SealedElement {}
    impl SealedElement for f32 {}
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
}
