//! Aligned memory, allocated fallibly.

use aligned_vec::{ABox, AVec};

use crate::{Error, Result};

/// Memory that starts on a cache line.
pub(crate) type Aligned = ABox<[f32]>;

/// `len` zeros, or an error where the allocator has none.
pub(crate) fn zeros(what: &'static str, len: usize) -> Result<Aligned> {
    let failed = Error::Allocation { what, bytes: len.saturating_mul(size_of::<f32>()) };
    // beyond this an allocator need not be asked
    if len > isize::MAX as usize / size_of::<f32>() - 4096 {
        return Err(failed);
    }
    let mut memory = AVec::new(0);
    memory.try_reserve_exact(len).map_err(|_| failed)?;
    memory.resize(len, 0.0);
    Ok(memory.into_boxed_slice())
}

/// Deals out parts of one region, each beginning on a cache line; only their places are computed here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carver {
    end: usize,
}

/// Values of a cache line.
const LINE: usize = 16;

impl Carver {
    /// The place of the next `len` values.
    pub(crate) fn floats(&mut self, len: usize) -> Result<usize> {
        let at = self.end;
        self.end = len
            .checked_next_multiple_of(LINE)
            .and_then(|len| at.checked_add(len))
            .filter(|&end| end <= isize::MAX as usize / size_of::<f32>())
            .ok_or(Error::Allocation { what: "scratch", bytes: usize::MAX })?;
        Ok(at)
    }

    /// The place of the next `len` offsets or pointers.
    pub(crate) fn words(&mut self, len: usize) -> Result<usize> {
        self.floats(len.saturating_mul(size_of::<usize>() / size_of::<f32>()))
    }

    /// The length of the region so far.
    pub(crate) fn len(&self) -> usize {
        self.end
    }
}

/// The product, or an error that calls it scratch: sizes of tables and buffers go through here.
pub(crate) fn product(factors: &[usize]) -> Result<usize> {
    factors
        .iter()
        .try_fold(1usize, |product, &factor| product.checked_mul(factor))
        .filter(|&v| v <= isize::MAX as usize / size_of::<f32>())
        .ok_or(Error::Allocation { what: "scratch", bytes: usize::MAX })
}
