//! Structs that grow from version to version, and are read whatever the version of the program is.
//!
//! ```text
//!   older program                 this library                newer program
//!   │ struct_size │ a │ b │       │ struct_size │ a │ b │ c │  │ struct_size │ a │ b │ c │ d │
//!                         c is what init writes                                          d must be zero
//! ```
//!
//! The caller says by `struct_size` how long its struct is. Fields that it does not have are those that `init` would have
//! written; fields that only it has must be zero, which stands for what was done before there was such a field. So a newer
//! program that asks for nothing new runs with an older library, and one that does is told.

use core::mem::MaybeUninit;

use super::pointer::{Out, shared};
use super::status::{CallFailure, Name, Result};

/// A struct that begins with its size.
///
/// # Safety
/// The type is `repr(C)`, its first field is `struct_size: usize`, and its fields are integers, floats and raw pointers, so
/// that all bits are values.
pub(super) unsafe trait Versioned: Copy {
    /// What `init` writes.
    const INIT: Self;
    /// The size up to the last field of the first version.
    const LEAST: usize;
}

/// No struct will ever be longer: a size beyond it was never set.
const MOST: usize = 4096;

/// Every size that `sizeof` gives is a multiple of the alignment. Another one would end inside of a field.
fn check_size<T: Versioned>(name: Name, size: usize) -> Result<()> {
    let step = align_of::<T>();
    if (T::LEAST..=MOST).contains(&size) && size.is_multiple_of(step) {
        Ok(())
    } else {
        Err(CallFailure::StructSize { name, step, least: T::LEAST.next_multiple_of(step), most: MOST, got: size })
    }
}

/// Writes the defaults to a caller's struct of `size` bytes.
///
/// # Safety
/// As [`Out::new`], for `size` bytes.
pub(super) unsafe fn init<T: Versioned>(name: &'static str, pointer: *mut T, size: usize) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { init_as(name, pointer, size, T::INIT) }
}

/// Writes a value, but for its size, to a caller's struct of `size` bytes.
///
/// # Safety
/// As [`init`].
pub(super) unsafe fn init_as<T: Versioned>(name: &'static str, pointer: *mut T, size: usize, value: T) -> Result<()> {
    check_size::<T>(name.into(), size)?;
    // SAFETY: the caller's; only its first field is used, which all versions have.
    let first: Out<'_, usize> = unsafe { Out::new(name, pointer.cast::<usize>()) }?;
    if !pointer.is_aligned() {
        return Err(CallFailure::Misaligned { name: name.into(), expected: align_of::<T>() });
    }
    first.write(size);
    // SAFETY: `size` bytes are writable by the caller's promise; the first field, which holds the size, is left alone.
    unsafe {
        let known = size.min(size_of::<T>());
        let (to, from) = (pointer.cast::<u8>(), (&raw const value).cast::<u8>());
        let skip = size_of::<usize>();
        to.add(skip).copy_from_nonoverlapping(from.add(skip), known - skip);
        to.add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// Reads a caller's struct.
///
/// # Safety
/// As [`shared`], for as many bytes as its first field says.
pub(super) unsafe fn read<T: Versioned>(name: impl Into<Name>, pointer: *const T) -> Result<T> {
    let name = name.into();
    // SAFETY: the caller's; its first field is all that is looked at.
    let size = *unsafe { shared(name, pointer.cast::<usize>()) }?;
    if !pointer.is_aligned() {
        return Err(CallFailure::Misaligned { name, expected: align_of::<T>() });
    }
    check_size::<T>(name, size)?;
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::new(T::INIT);
    // SAFETY: `size` bytes are readable by the caller's promise, and `known` of them fit the value, of which all bits are
    // valid.
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(pointer.cast::<u8>(), known);
        if (known..size).any(|at| pointer.cast::<u8>().add(at).read() != 0) {
            return Err(CallFailure::UnknownFields { name, known });
        }
        Ok(value.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The third version of a struct.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Grown {
        struct_size: usize,
        first: usize,
        second: usize,
        third: usize,
    }

    // SAFETY: as it asks for.
    unsafe impl Versioned for Grown {
        const INIT: Grown = Grown { struct_size: 0, first: 10, second: 20, third: 30 };
        const LEAST: usize = 2 * size_of::<usize>();
    }

    const WORD: usize = size_of::<usize>();

    #[test]
    fn structs_of_every_version_are_read() {
        let read = |words: &[usize]| unsafe {
            // SAFETY: as many words as the first says, but for sizes that are refused.
            read("grown", words.as_ptr().cast::<Grown>())
        };
        assert_eq!(
            read(&[2 * WORD, 1]).unwrap(),
            Grown { struct_size: 2 * WORD, first: 1, second: 20, third: 30 },
            "an older program"
        );
        let newer = Grown { struct_size: 6 * WORD, first: 1, second: 2, third: 3 };
        assert_eq!(read(&[6 * WORD, 1, 2, 3, 0, 0]).unwrap(), newer, "a newer program that asks for nothing new");
        assert!(matches!(
            read(&[6 * WORD, 1, 2, 3, 0, 1]),
            Err(CallFailure::UnknownFields { known, .. }) if known == 4 * WORD
        ));
        for size in [0, 1, 2 * WORD - 1, 2 * WORD + 1, 4 * WORD - 1, MOST + 1, usize::MAX] {
            assert!(
                matches!(read(&[size, 1, 2, 3]), Err(CallFailure::StructSize { got, .. }) if got == size),
                "{size}"
            );
        }
    }

    #[test]
    fn defaults_are_written_as_far_as_the_struct_of_the_caller_goes() {
        for words in 2..=6 {
            let mut memory = [7; 8];
            // SAFETY: so many words are there.
            unsafe { init("grown", memory.as_mut_ptr().cast::<Grown>(), words * WORD) }.unwrap();
            let expected = [words * WORD, 10, 20, 30, 0, 0];
            assert_eq!(memory[..words], expected[..words]);
            assert_eq!(memory[words..], [7; 8][words..]);
        }
        let mut memory = [7; 8];
        for size in [0, 2 * WORD - 1, 2 * WORD + 1, MOST + 1] {
            // SAFETY: sizes that are refused.
            let refused = unsafe { init("grown", memory.as_mut_ptr().cast::<Grown>(), size) };
            assert!(matches!(refused, Err(CallFailure::StructSize { .. })));
        }
        assert_eq!(memory, [7; 8], "an error writes nothing");
    }
}
