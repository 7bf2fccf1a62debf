//! Memory beside pages that nobody may touch: a read or a write outside of it, by a single byte, ends the test with the
//! name of the case that did it.
//!
//! ```text
//!   Start   │ no access │data          canaries│ no access │
//!   End     │ no access │canaries          data│ no access │
//! ```
//!
//! Memory cannot be flush with a page at both ends, so tests go through both placements. What lies on the other side
//! within the page is canaries, which show a stray write there.
//!
//! Miri knows of no pages. It knows the bounds of every allocation, so there memory is an allocation of its exact length.

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{LazyLock, Once};

/// Which end of memory is flush with a page of no access.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Placement {
    /// The first value.
    Start,
    /// The last value.
    End,
}

impl Placement {
    /// Both.
    pub const ALL: [Placement; 2] = [Placement::Start, Placement::End];

    /// That of the memory which this thread makes next.
    pub fn current() -> Placement {
        PLACEMENT.get()
    }

    /// Runs `body` with its memory placed so.
    pub fn with<T>(self, body: impl FnOnce() -> T) -> T {
        let before = PLACEMENT.replace(self);
        let result = body();
        PLACEMENT.set(before);
        result
    }
}

/// What is printed where a page of no access is touched.
#[derive(Clone, Copy)]
struct Note {
    text: [u8; 1024],
    len: usize,
}

thread_local! {
    static PLACEMENT: Cell<Placement> = const { Cell::new(Placement::End) };
    static NOTE: Cell<Note> = const { Cell::new(Note { text: [0; 1024], len: 0 }) };
    /// Memory that is not in use, by its number of pages.
    static FREE: RefCell<HashMap<usize, Vec<Pages>>> = RefCell::default();
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of a page.
pub static PAGE: LazyLock<usize> = LazyLock::new(|| {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the size of a page")
});

/// Says which case runs on this thread, for the message where it touches what it may not.
pub fn note(case: &str) {
    if cfg!(miri) {
        return;
    }
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: the handler only copies from its thread's own memory and writes it out.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = touched as *const () as usize;
            // once: then the default, which ends the process at the same instruction
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            for signal in [libc::SIGSEGV, libc::SIGBUS] {
                assert_eq!(libc::sigaction(signal, &raw const action, core::ptr::null_mut()), 0);
            }
        }
    });
    let mut note = Note { text: [0; 1024], len: case.len().min(1024) };
    note.text[..note.len].copy_from_slice(&case.as_bytes()[..note.len]);
    NOTE.set(note);
}

extern "C" fn touched(_signal: libc::c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let note = NOTE.get();
    for text in [b"\ntouched memory that is not its own: ", &note.text[..note.len], b"\n"] {
        // SAFETY: `text` is readable in its length.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
}

/// Pages of access between two of none; under Miri an allocation.
struct Pages {
    start: *mut u8,
    bytes: usize,
    align: usize,
}

impl Pages {
    /// At least so many bytes, of exactly as many under Miri.
    fn new(bytes: usize, align: usize) -> Pages {
        if cfg!(miri) {
            let layout = Layout::from_size_align(bytes.max(1), align).expect("a size of memory");
            // SAFETY: the size is not zero.
            let start = unsafe { std::alloc::alloc(layout) };
            assert!(!start.is_null(), "no memory");
            return Pages { start, bytes, align };
        }
        let pages = bytes.div_ceil(*PAGE).max(1);
        let kept = FREE.with_borrow_mut(|free| free.get_mut(&pages).and_then(Vec::pop));
        kept.unwrap_or_else(|| {
            let bytes = pages * *PAGE;
            // SAFETY: a new mapping, of which the middle becomes accessible.
            unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let all = libc::mmap(core::ptr::null_mut(), bytes + 2 * *PAGE, libc::PROT_NONE, flags, -1, 0);
                assert!(all != libc::MAP_FAILED, "no memory");
                let start = all.cast::<u8>().add(*PAGE);
                assert_eq!(libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE), 0);
                Pages { start, bytes, align }
            }
        })
    }

    /// Keeps pages for this thread's next memory, and frees an allocation, so that Miri sees what is read later.
    fn put_back(self) {
        if cfg!(miri) {
            let layout = Layout::from_size_align(self.bytes.max(1), self.align).expect("a size of memory");
            // SAFETY: allocated by `new` with this layout.
            unsafe { std::alloc::dealloc(self.start, layout) };
            return;
        }
        // where the thread is going away, so are its pages
        let _ = FREE.try_with(|free| free.borrow_mut().entry(self.bytes / *PAGE).or_default().push(self));
    }
}

/// Memory of an exact length, flush with a page of no access at the end that [`Placement::current`] said when it was
/// made.
pub struct Guarded<T: Copy = f32> {
    /// Returned to its thread's own where it is dropped.
    pages: Option<Pages>,
    placement: Placement,
    at: *mut T,
    len: usize,
}

/// Canaries on the side that no page guards, where there is room for them.
const ZONE: usize = 67;

impl<T: Copy> Guarded<T> {
    /// `len` times `value`.
    pub fn filled(len: usize, value: T) -> Guarded<T> {
        MADE.set(MADE.get() + 1);
        let bytes = len * size_of::<T>();
        let pages = Pages::new(bytes, align_of::<T>());
        let placement = Placement::current();
        let room = pages.bytes / size_of::<T>();
        let first = pages.start.cast::<T>();
        // SAFETY: `room` values fit the pages, so `len` of them do, and canaries where there is room left.
        unsafe {
            let at = match placement {
                Placement::Start => first,
                Placement::End => first.add(room - len),
            };
            let zone = ZONE.min(room - len);
            let from = if placement == Placement::Start { at } else { at.sub(zone) };
            for i in 0..len + zone {
                from.add(i).write(value);
            }
            Guarded { pages: Some(pages), placement, at, len }
        }
    }

    /// A copy of values, of which there must be one at the least.
    pub fn from(values: &[T]) -> Guarded<T> {
        let Some(&first) = values.first() else { panic!("no values") };
        let mut guarded = Guarded::filled(values.len(), first);
        guarded.slice_mut().copy_from_slice(values);
        guarded
    }

    /// The values.
    pub fn slice(&self) -> &[T] {
        // SAFETY: `len` values, written when it was made.
        unsafe { core::slice::from_raw_parts(self.at, self.len) }
    }

    /// The values, to write.
    pub fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.at, self.len) }
    }

    /// Where the first value is.
    pub fn as_ptr(&self) -> *const T {
        self.at
    }

    /// Where the first value is, to write.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.at
    }

    /// The values of the zone of canaries.
    fn zone(&self) -> &[T] {
        let room = self.pages.as_ref().map_or(0, |pages| pages.bytes / size_of::<T>());
        let zone = ZONE.min(room - self.len);
        // SAFETY: written when it was made, on the side that no page guards.
        unsafe {
            let from = if self.placement == Placement::Start { self.at.add(self.len) } else { self.at.sub(zone) };
            core::slice::from_raw_parts(from, zone)
        }
    }
}

impl Guarded<f32> {
    /// `len` canaries.
    pub fn new(len: usize) -> Guarded {
        Guarded::filled(len, super::CANARY)
    }

    /// Asserts that the canaries beside the values are there. Only of memory that was made of canaries.
    pub fn assert_zones_untouched(&self, what: &str) {
        for v in self.zone() {
            assert!(super::is_canary(*v), "{what}: written outside");
        }
    }
}

impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            pages.put_back();
        }
    }
}

/// How much guarded memory this thread has made so far, counted in pieces.
pub fn made() -> usize {
    MADE.get()
}

/// Asserts that `body` dies of touching a page of no access, and that `expected` is said of it. It runs in a process of
/// its own, and allocates nothing.
pub fn assert_touches(expected: &str, body: impl FnOnce()) {
    let mut ends = [0; 2];
    // SAFETY: a pipe, and a child that writes to it until it ends; only what may follow a fork is called in it.
    let (said, status) = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let child = libc::fork();
        assert!(child >= 0, "no process");
        if child == 0 {
            libc::dup2(ends[1], 2);
            body();
            libc::_exit(0);
        }
        libc::close(ends[1]);
        let (mut said, mut buffer) = (Vec::new(), [0u8; 512]);
        while let Ok(got @ 1..) = usize::try_from(libc::read(ends[0], buffer.as_mut_ptr().cast(), buffer.len())) {
            said.extend_from_slice(&buffer[..got]);
        }
        libc::close(ends[0]);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        (said, status)
    };
    let said = String::from_utf8_lossy(&said);
    assert!(libc::WIFSIGNALED(status), "{expected}: it did not die, status {status:x}: {said}");
    assert!(said.contains(expected), "expected {expected}, got {said}");
}
