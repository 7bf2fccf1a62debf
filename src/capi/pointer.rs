//! From pointers of C to references, slices and handles, and back. What can be checked of a pointer is checked here.

use core::fmt;
use core::mem::MaybeUninit;

use super::status::{CallFailure, Name, Result};
use crate::memory;

fn check<T>(name: Name, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(CallFailure::Null(name));
    }
    if !pointer.is_aligned() {
        return Err(CallFailure::Misaligned { name, expected: align_of::<T>() });
    }
    Ok(())
}

/// What a pointer to `const` points to.
///
/// # Safety
/// If it is neither NULL nor misaligned, a `T` is there that lives and is not written to for as long as `'a`.
pub(super) unsafe fn shared<'a, T>(name: impl Into<Name>, pointer: *const T) -> Result<&'a T> {
    check(name.into(), pointer)?;
    // SAFETY: the caller's; neither NULL nor misaligned.
    Ok(unsafe { &*pointer })
}

/// What a pointer leads to, to be changed.
///
/// # Safety
/// If it is neither NULL nor misaligned, a `T` is there that lives and that nobody else uses for as long as `'a`.
pub(super) unsafe fn exclusive<'a, T>(name: impl Into<Name>, pointer: *mut T) -> Result<&'a mut T> {
    check(name.into(), pointer)?;
    // SAFETY: the caller's; neither NULL nor misaligned.
    Ok(unsafe { &mut *pointer })
}

/// An error where a slice of `len` values cannot begin at `first`.
pub(super) fn check_slice<T>(name: impl Into<Name>, first: *const T, len: usize) -> Result<()> {
    let name = name.into();
    check(name, first)?;
    len.checked_mul(size_of::<T>())
        .filter(|&bytes| bytes <= isize::MAX as usize && first.addr().checked_add(bytes).is_some())
        .map(drop)
        .ok_or(CallFailure::Length { name, got: len })
}

/// `len` values from `first` on.
///
/// # Safety
/// If `first` is neither NULL nor misaligned, `len` values are there that live and are not written to for as long as `'a`.
pub(super) unsafe fn slice<'a, T>(name: impl Into<Name>, first: *const T, len: usize) -> Result<&'a [T]> {
    check_slice(name, first, len)?;
    // SAFETY: the caller's; neither NULL nor misaligned, and no longer than an address space.
    Ok(unsafe { core::slice::from_raw_parts(first, len) })
}

/// An out-parameter, which the caller need not have initialised.
pub(super) struct Out<'a, T>(&'a mut MaybeUninit<T>);

impl<T> Out<'_, T> {
    /// # Safety
    /// If it is neither NULL nor misaligned, memory for a `T` is there that nobody else uses for as long as `'a`.
    pub(super) unsafe fn new(name: impl Into<Name>, pointer: *mut T) -> Result<Self> {
        check(name.into(), pointer)?;
        // SAFETY: the caller's; neither NULL nor misaligned, and any memory holds a `MaybeUninit`.
        Ok(Out(unsafe { &mut *pointer.cast::<MaybeUninit<T>>() }))
    }

    pub(super) fn write(self, value: T) {
        self.0.write(value);
    }
}

impl<T> Out<'_, *mut T> {
    /// Hands a value over to C, which has to give the handle back to [`free`].
    pub(super) fn hand_over(self, what: &'static str, value: T) -> Result<()> {
        self.write(Box::into_raw(memory::boxed(what, value)?));
        Ok(())
    }
}

/// Drops what a handle owns. NULL owns nothing.
///
/// # Safety
/// The handle is NULL or of [`Out::hand_over`], and nobody uses it now or later.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Text on its way to a buffer of C's, cut between characters where the buffer ends.
pub(super) struct TextBuffer {
    buffer: *mut u8,
    /// Bytes of the buffer, of which the last that is used becomes a NUL.
    capacity: usize,
    written: usize,
    /// Whether a character did not fit.
    full: bool,
    /// Bytes of all text so far, whether there was room or not.
    len: usize,
}

impl TextBuffer {
    /// # Safety
    /// `capacity` bytes are writable at `buffer`, and nobody else uses them while this lives.
    pub(super) unsafe fn new(buffer: *mut u8, capacity: usize) -> TextBuffer {
        TextBuffer { buffer, capacity, written: 0, full: false, len: 0 }
    }

    /// Ends the text with a NUL, if there is any room; returns the length that it would have had with room for all.
    pub(super) fn finish(self) -> usize {
        if self.capacity > 0 {
            // SAFETY: text leaves a byte of the buffer.
            unsafe { self.buffer.add(self.written).write(0) };
        }
        self.len
    }
}

impl fmt::Write for TextBuffer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for mut c in s.chars() {
            if c == '\0' {
                c = char::REPLACEMENT_CHARACTER;
            }
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            self.len += bytes.len();
            self.full |= self.capacity.saturating_sub(self.written) <= bytes.len();
            if !self.full {
                // SAFETY: so many bytes of the buffer, and one more, are free behind those that are written.
                unsafe { self.buffer.add(self.written).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                self.written += bytes.len();
            }
        }
        Ok(())
    }
}
