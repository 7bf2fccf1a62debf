//! Memory, allocated fallibly: an allocator that has none left makes an error and no abort. So nothing on the way to a
//! result allocates by `Arc::new`, `Box::new`, `format!`, `collect` or a `push` without room.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use std::alloc::{Layout, alloc, dealloc};

use aligned_vec::{ABox, AVec};

use crate::tensor::{Element, ElementType};
use crate::{Error, Result};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Bytes that start on a cache line.
pub(crate) type Aligned = ABox<[u8]>;

/// `len` bytes of zeros, or an error where the allocator has none.
pub(crate) fn zeros(what: &'static str, len: usize) -> Result<Aligned> {
    let failed = Error::Allocation { what, bytes: len };
    // beyond this an allocator need not be asked
    if len > isize::MAX as usize - (4096 * LINE) {
        return Err(failed);
    }
    let mut memory = AVec::new(0);
    memory.try_reserve_exact(len).map_err(|_| failed)?;
    memory.resize(len, 0);
    Ok(memory.into_boxed_slice())
}

/// Packed weights: elements of one type, as bytes that start on a cache line.
pub(crate) struct Packed {
    bytes: Aligned,
    element: ElementType,
}

impl Packed {
    /// `len` zeros, which `fill` overwrites.
    pub(crate) fn new<T: Element>(len: usize, fill: impl FnOnce(&mut [T])) -> Result<Packed> {
        let mut bytes = zeros("packed weights", len.saturating_mul(size_of::<T>()))?;
        // SAFETY: the bytes start on a cache line, are as many as `len` elements have, and zeros are elements of each type.
        fill(unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<T>(), len) });
        Ok(Packed { bytes, element: T::TYPE })
    }

    /// Elements, those of padding counted.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes()
    }

    /// Bytes, those of padding counted.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All elements.
    pub(crate) fn values<T: Element>(&self) -> &[T] {
        assert_eq!(T::TYPE, self.element, "type of packed weights");
        // SAFETY: the bytes are so many elements of that type, and begin on a cache line.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The first element.
    pub(crate) fn as_ptr<T: Element>(&self) -> *const T {
        debug_assert_eq!(T::TYPE, self.element);
        self.bytes.as_ptr().cast()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values of {:?}", self.len(), self.element)
    }
}

/// Deals out parts of one region, each beginning on a cache line; only their places are computed here, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carver {
    end: usize,
}

impl Carver {
    /// The place of the next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<usize> {
        let at = self.end;
        self.end = len
            .checked_next_multiple_of(LINE)
            .and_then(|len| at.checked_add(len))
            .filter(|&end| end <= isize::MAX as usize)
            .ok_or(Error::Allocation { what: "scratch", bytes: usize::MAX })?;
        Ok(at)
    }

    /// The place of the next `len` values of `T`.
    pub(crate) fn values<T>(&mut self, len: usize) -> Result<usize> {
        self.bytes(len.saturating_mul(size_of::<T>()))
    }

    /// Bytes of the region so far.
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

/// `std`'s [`Arc`](std::sync::Arc), but for its constructor, which `std` has only on nightly, and without weak
/// references.
pub(crate) struct Arc<T> {
    inner: NonNull<Counted<T>>,
}

struct Counted<T> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: owners on several threads share the value, and the last of them, on whichever thread, drops it.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    pub(crate) fn try_new(what: &'static str, value: T) -> Result<Arc<T>> {
        let layout = Layout::new::<Counted<T>>();
        // SAFETY: the layout is of at least the count's size.
        let inner = NonNull::new(unsafe { alloc(layout) }.cast::<Counted<T>>())
            .ok_or(Error::Allocation { what, bytes: layout.size() })?;
        // SAFETY: fresh memory of this layout.
        unsafe { inner.write(Counted { owners: AtomicUsize::new(1), value }) };
        Ok(Arc { inner })
    }
}

impl<T> Arc<T> {
    /// Whether both share one value.
    pub(crate) fn is(&self, other: &Arc<T>) -> bool {
        self.inner == other.inner
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        // SAFETY: `self` is an owner, so the count is there.
        let before = unsafe { self.inner.as_ref() }.owners.fetch_add(1, Ordering::Relaxed);
        // no memory holds as many owners: they were forgotten, and the count must not come round to zero
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Arc { inner: self.inner }
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        // SAFETY: `self` is an owner, so the count is there.
        if unsafe { self.inner.as_ref() }.owners.fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        // what other owners did with the value comes before its end
        fence(Ordering::Acquire);
        // SAFETY: no owner is left, and the memory is that of `try_new`.
        unsafe {
            self.inner.drop_in_place();
            dealloc(self.inner.as_ptr().cast(), Layout::new::<Counted<T>>());
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `self` is an owner, so the value is there; nobody has it mutably.
        &unsafe { self.inner.as_ref() }.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// `Box::new`, fallibly.
pub(crate) fn boxed<T>(what: &'static str, value: T) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0, "an allocator is not asked for nothing") };
    let layout = Layout::new::<T>();
    // SAFETY: the layout is of at least a byte.
    let place =
        NonNull::new(unsafe { alloc(layout) }.cast::<T>()).ok_or(Error::Allocation { what, bytes: layout.size() })?;
    // SAFETY: fresh memory of the layout that a box of `T` frees.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place.as_ptr()))
    }
}

/// Makes room for `more` values, or says that there is none.
pub(crate) fn reserve<T>(what: &'static str, values: &mut Vec<T>, more: usize) -> Result<()> {
    let bytes = values.len().saturating_add(more).saturating_mul(size_of::<T>());
    values.try_reserve(more).map_err(|_| Error::Allocation { what, bytes })
}

/// Appends a value, or says that there is no room for it.
pub(crate) fn push<T>(what: &'static str, values: &mut Vec<T>, value: T) -> Result<()> {
    reserve(what, values, 1)?;
    values.push(value);
    Ok(())
}

/// All values of an iterator.
pub(crate) fn collect<T>(what: &'static str, from: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut from = from.into_iter();
    let mut values = Vec::new();
    let least = from.size_hint().0;
    values
        .try_reserve_exact(least)
        .map_err(|_| Error::Allocation { what, bytes: least.saturating_mul(size_of::<T>()) })?;
    values.extend(from.by_ref().take(least));
    for value in from {
        push(what, &mut values, value)?;
    }
    Ok(values)
}

/// `format!`, for values that format themselves without allocating.
pub(crate) fn text(args: fmt::Arguments<'_>) -> Result<String> {
    struct FallibleText(String);

    impl fmt::Write for FallibleText {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0.try_reserve(s.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(s);
            Ok(())
        }
    }

    let mut text = FallibleText(String::new());
    fmt::write(&mut text, args).map_err(|_| Error::Allocation { what: "text", bytes: text.0.len() })?;
    Ok(text.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Arc, collect, push, text};

    #[test]
    fn a_shared_value_is_dropped_once_by_its_last_owner() {
        struct Counts<'a>(&'a AtomicUsize);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let drops = AtomicUsize::new(0);
        let first = Arc::try_new("value", Counts(&drops)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let owner = first.clone();
                scope.spawn(move || {
                    let owners: Vec<_> = (0..100).map(|_| owner.clone()).collect();
                    assert!(owners.iter().all(|o| o.0.load(Ordering::SeqCst) == 0));
                });
            }
        });
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(first);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn values_and_text_come_out_as_they_went_in() {
        #[repr(align(256))]
        struct Wide(u8);
        let wide = Arc::try_new("value", Wide(7)).unwrap();
        assert_eq!((wide.0, (&raw const *wide).addr() % 256), (7, 0));
        let mut values = collect("values", 0..5).unwrap();
        push("values", &mut values, 9).unwrap();
        assert_eq!(values, [0, 1, 2, 3, 4, 9]);
        assert_eq!(text(format_args!("{}×{:?}", 3, Some("a"))).unwrap(), "3×Some(\"a\")");
    }
}
