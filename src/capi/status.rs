//! What a function returns, the text of the last error, and the line that no panic crosses.

use core::any::Any;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::pointer::TextBuffer;
use crate::Error;

/// What every function that can fail returns. Where it is neither `SEPCONV_STATUS_OK` nor `SEPCONV_STATUS_PANIC`, nothing was
/// written to any out-parameter or output; `sepconv_last_error` tells more.
///
/// Later versions may add codes.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_status {
    /// Done.
    Ok = 0,
    /// A pointer that must not be NULL is.
    NullPointer = 1,
    /// A pointer that is not aligned as its type asks for.
    MisalignedPointer = 2,
    /// An integer that is none of its enum's values.
    UnknownCode = 3,
    /// A `struct_size` that no version of the struct has, or fields set that this version of the library does not know.
    StructSize = 4,
    /// Two of input, output and the memory of a run have a byte in common, or the strides of an output put two values at one place.
    Overlap = 5,
    /// Scratch that a run on another thread is using.
    ScratchInUse = 6,
    /// Threads of a pool that could not be started.
    ThreadsNotStarted = 7,
    /// A mistake of the library's: it panicked. An output may be half written; everything else is as it was.
    Panic = 8,
    /// Rows, columns, channels, a kernel, stride or dilation of zero, one that is too large, a plane that the kernel does not
    /// fit into, or a shape that is not the one expected. More or fewer inputs or outputs than a network has.
    Size = 9,
    /// A filter, bias or other vector of a wrong length, or a length that no memory has.
    Length = 10,
    /// An input or output that is shorter than its shape and strides ask for.
    BufferTooShort = 11,
    /// A tensor whose channels do not lie together, where the plan is for NHWC.
    Layout = 12,
    /// A number of channels that does not fit what stands before.
    Channels = 13,
    /// A filter in an order that the operator does not take.
    FilterOrder = 14,
    /// A value outside its range, such as an epsilon that is not a number.
    Value = 15,
    /// Scratch, or memory of the caller's for a run, with fewer bytes than the plan needs.
    SmallScratch = 16,
    /// Memory that the allocator did not give.
    OutOfMemory = 17,
    /// Scratch out of proportion to what a stage reads and writes.
    ScratchTooLarge = 18,
    /// An instruction set that cannot be had, or an environment variable `SEPCONV_MAX_ISA` that names none.
    Isa = 19,
    /// Fusion or a schedule that was demanded and cannot be had.
    Fusion = 20,
    /// A network without layers, or with one where it cannot stand. A graph without inputs or outputs, with a tensor that nothing reads,
    /// or that was built before; a value that is none of its graph.
    Network = 21,
    /// A file of weights that is malformed, or a tensor in it that is missing or of a wrong shape or type.
    Weights = 22,
}

use sepconv_status as Status;

/// An argument: its name, or that of a struct and of a field in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    of: &'static str,
    field: &'static str,
    /// The place in an array.
    index: Option<usize>,
}

impl Name {
    pub(super) const fn field(of: &'static str, field: &'static str) -> Name {
        Name { of, field, index: None }
    }

    pub(super) const fn element(of: &'static str, index: usize) -> Name {
        Name { of, field: "", index: Some(index) }
    }

    /// A field of the struct that has this name.
    pub(super) const fn with(self, field: &'static str) -> Name {
        Name { field, ..self }
    }
}

impl From<&'static str> for Name {
    fn from(of: &'static str) -> Name {
        Name { of, field: "", index: None }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        if self.field.is_empty() { Ok(()) } else { write!(f, ".{}", self.field) }
    }
}

/// Why a function fails: an error of the library's, or of what only C can get wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailure {
    #[error("{0}: must not be NULL")]
    Null(Name),
    #[error("{name}: expected an address that is a multiple of {expected}")]
    Misaligned { name: Name, expected: usize },
    #[error("{name}: {got} is no value of {of}")]
    Code { name: Name, of: &'static str, got: i32 },
    #[error("{name}.struct_size: expected {least} to {most} bytes in steps of {step}, got {got}; was it initialised?")]
    StructSize { name: Name, step: usize, least: usize, most: usize, got: usize },
    #[error("{name}: has fields set behind the {known} bytes that this version of the library knows")]
    UnknownFields { name: Name, known: usize },
    #[error("{name}: {got} values are more than memory holds")]
    Length { name: Name, got: usize },
    #[error("{what}: has memory in common with {}{with}", if with.index.is_some() { "" } else { "the " })]
    Overlap { what: Name, with: Name },
    #[error("{name}: {got} is no value of this graph")]
    GraphValue { name: Name, got: u64 },
    #[error("graph: it was built already, or a panic broke it off; all that is left is to free it")]
    GraphUsedUp,
    #[error("scratch: a run on another thread is using it")]
    ScratchInUse,
    #[cfg(feature = "rayon")]
    #[error("pool: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    #[error("panic: {}", text_of(.0.as_ref()))]
    Panic(Box<dyn Any + Send>),
    #[error(transparent)]
    Library(#[from] Error),
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "of no message",
    }
}

impl CallFailure {
    fn status(&self) -> Status {
        match self {
            CallFailure::Null(_) => Status::NullPointer,
            CallFailure::Misaligned { .. } => Status::MisalignedPointer,
            CallFailure::Code { .. } => Status::UnknownCode,
            CallFailure::StructSize { .. } | CallFailure::UnknownFields { .. } => Status::StructSize,
            CallFailure::Length { .. } => Status::Length,
            CallFailure::Overlap { .. } => Status::Overlap,
            CallFailure::GraphValue { .. } | CallFailure::GraphUsedUp => Status::Network,
            CallFailure::ScratchInUse => Status::ScratchInUse,
            #[cfg(feature = "rayon")]
            CallFailure::Threads(_) => Status::ThreadsNotStarted,
            CallFailure::Panic(_) => Status::Panic,
            CallFailure::Library(error) => match error.without_layers() {
                Error::ZeroSize { .. }
                | Error::ZeroWindow { .. }
                | Error::Window { .. }
                | Error::TooLarge { .. }
                | Error::InputTooSmall { .. }
                | Error::Part { .. }
                | Error::ShapeMismatch { .. }
                | Error::Count { .. }
                | Error::Shortcut { .. } => Status::Size,
                // `without_layers` leaves none
                Error::Layer { .. } => Status::Network,
                Error::PixelStride { .. } | Error::Layout { .. } => Status::Layout,
                Error::Overlap { .. } => Status::Overlap,
                Error::Length { .. } => Status::Length,
                Error::Buffer { .. } => Status::BufferTooShort,
                Error::Channels { .. } => Status::Channels,
                Error::SmallScratch { .. } => Status::SmallScratch,
                Error::FilterOrder { .. } => Status::FilterOrder,
                Error::Value { .. } => Status::Value,
                Error::Allocation { .. } => Status::OutOfMemory,
                Error::Scratch { .. } => Status::ScratchTooLarge,
                Error::Isa(_) => Status::Isa,
                Error::Fusion(_) => Status::Fusion,
                Error::Network(_) => Status::Network,
                Error::Weights(_) => Status::Weights,
            },
        }
    }
}

pub(super) type Result<T, E = CallFailure> = core::result::Result<T, E>;

/// Room for the text of an error. Fixed, so that the one which says that memory ran out needs none.
const ROOM: usize = 1024;

thread_local! {
    /// The text of this thread's last error, and a NUL. Without a destructor, so that a library can be unloaded, and a thread
    /// ask while it ends.
    static LAST: UnsafeCell<[u8; ROOM]> = const { UnsafeCell::new([0; ROOM]) };
}

fn remember(failure: &CallFailure) {
    LAST.with(|last| {
        // SAFETY: `last` is this thread's, and nothing refers into it but pointers that C has, which an error may write to.
        let mut text = unsafe { TextBuffer::new(last.get().cast(), ROOM) };
        // there is no error: what does not fit is left out
        let _ = write!(text, "{failure}");
        text.finish();
    });
}

/// Runs the body of a function: its status, whatever happens in it.
pub(super) fn boundary(body: impl FnOnce() -> Result<()>) -> Status {
    // No function leaves anything of the library's half written: out-parameters are written last, scratch means nothing
    // between runs, a graph is used up by a panic, and all else is immutable.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(failure)) => refuse(&failure),
        Err(payload) => refuse(&CallFailure::Panic(payload)),
    }
}

/// Keeps the text of a failure; returns its status. Outside of `boundary`, of which the library has a copy for each body.
#[cold]
#[inline(never)]
fn refuse(failure: &CallFailure) -> Status {
    remember(failure);
    failure.status()
}

/// Text about the last call of this thread that failed: what was expected, and what came instead. It is never NULL; before
/// any error it is empty. UTF-8, at most 1023 bytes.
///
/// It stays as it is until the next call of this thread that fails; a call that succeeds does not touch it. Copy it if it
/// must live longer. Where threads are not the program's own to hold on to (goroutines, fibers), ask before anything else
/// can run on the thread.
#[unsafe(no_mangle)]
pub extern "C" fn sepconv_last_error() -> *const c_char {
    LAST.with(|last| last.get().cast_const().cast())
}

/// The name of a status, such as `SEPCONV_STATUS_OK`; `unknown` for an integer that is none. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn sepconv_status_name(status: StatusCode) -> *const c_char {
    let name: &CStr = STATUSES.iter().find(|(code, _)| *code as i32 == status).map_or(c"unknown", |(_, name)| name);
    name.as_ptr()
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type StatusCode = i32;

const STATUSES: [(Status, &CStr); 23] = [
    (Status::Ok, c"SEPCONV_STATUS_OK"),
    (Status::NullPointer, c"SEPCONV_STATUS_NULL_POINTER"),
    (Status::MisalignedPointer, c"SEPCONV_STATUS_MISALIGNED_POINTER"),
    (Status::UnknownCode, c"SEPCONV_STATUS_UNKNOWN_CODE"),
    (Status::StructSize, c"SEPCONV_STATUS_STRUCT_SIZE"),
    (Status::Overlap, c"SEPCONV_STATUS_OVERLAP"),
    (Status::ScratchInUse, c"SEPCONV_STATUS_SCRATCH_IN_USE"),
    (Status::ThreadsNotStarted, c"SEPCONV_STATUS_THREADS_NOT_STARTED"),
    (Status::Panic, c"SEPCONV_STATUS_PANIC"),
    (Status::Size, c"SEPCONV_STATUS_SIZE"),
    (Status::Length, c"SEPCONV_STATUS_LENGTH"),
    (Status::BufferTooShort, c"SEPCONV_STATUS_BUFFER_TOO_SHORT"),
    (Status::Layout, c"SEPCONV_STATUS_LAYOUT"),
    (Status::Channels, c"SEPCONV_STATUS_CHANNELS"),
    (Status::FilterOrder, c"SEPCONV_STATUS_FILTER_ORDER"),
    (Status::Value, c"SEPCONV_STATUS_VALUE"),
    (Status::SmallScratch, c"SEPCONV_STATUS_SMALL_SCRATCH"),
    (Status::OutOfMemory, c"SEPCONV_STATUS_OUT_OF_MEMORY"),
    (Status::ScratchTooLarge, c"SEPCONV_STATUS_SCRATCH_TOO_LARGE"),
    (Status::Isa, c"SEPCONV_STATUS_ISA"),
    (Status::Fusion, c"SEPCONV_STATUS_FUSION"),
    (Status::Network, c"SEPCONV_STATUS_NETWORK"),
    (Status::Weights, c"SEPCONV_STATUS_WEIGHTS"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, Shape, Strides};

    fn last_error() -> String {
        // SAFETY: text with a NUL, which the next error writes to, and that comes later.
        unsafe { CStr::from_ptr(sepconv_last_error()) }.to_str().unwrap().into()
    }

    #[test]
    fn a_panic_is_a_status() {
        assert_eq!(boundary(|| panic!("with {}", "an argument")), Status::Panic);
        assert_eq!(last_error(), "panic: with an argument");
        assert_eq!(boundary(|| panic!("plain")), Status::Panic);
        assert_eq!(last_error(), "panic: plain");
        assert_eq!(boundary(|| std::panic::panic_any(7)), Status::Panic);
        assert_eq!(last_error(), "panic: of no message");
        assert_eq!(boundary(|| Ok(())), Status::Ok);
        assert_eq!(last_error(), "panic: of no message", "a call that succeeds leaves it");
    }

    #[test]
    fn text_of_an_error_is_cut_between_characters_and_holds_no_nul() {
        let long = Error::Network("×".repeat(2 * ROOM));
        assert_eq!(boundary(|| Err(long.into())), Status::Network);
        let text = last_error();
        assert!((ROOM - 2..ROOM).contains(&text.len()), "{}", text.len());
        assert_eq!(text, format!("network: {}", "×".repeat((text.len() - 9) / 2)));

        assert_eq!(boundary(|| Err(Error::Weights("a\0b".into()).into())), Status::Weights);
        assert_eq!(last_error(), "weights: a\u{fffd}b");
    }

    /// The status of an error is a part of the ABI. Some of these errors no call from C meets.
    #[test]
    fn each_error_has_its_status() {
        let (shape, strides) = (Shape::new(1, 2, 3, 4), Strides { image: 24, row: 12, pixel: 4, channel: 1 });
        let (what, stage, expected, got) = ("input", "depthwise", 1, 2);
        let text = || String::from("text");
        let channels = Error::Channels { what, expected, got };
        for (error, status) in [
            (Error::ZeroSize { shape }, Status::Size),
            (Error::ZeroWindow { stage, what }, Status::Size),
            (Error::Window { stage, what, limit: 1, got }, Status::Size),
            (Error::TooLarge { what, shape }, Status::Size),
            (Error::PixelStride { expected, got }, Status::Layout),
            (Error::InputTooSmall { stage, axis: "rows", expected, got }, Status::Size),
            (Error::Length { what: text(), expected, got }, Status::Length),
            (Error::Buffer { what, shape, strides, expected, got }, Status::BufferTooShort),
            (Error::Overlap { shape, strides }, Status::Overlap),
            (Error::Part { axis: "rows", len: 1, start: 1, end: 2 }, Status::Size),
            (Error::Layout { what, expected: Layout::Nhwc, strides }, Status::Layout),
            (Error::ShapeMismatch { what, expected: shape, got: shape }, Status::Size),
            (Error::Count { what, expected, got }, Status::Size),
            (channels.clone(), Status::Channels),
            (Error::Layer { index: 3, kind: "dense layer", error: Box::new(channels) }, Status::Channels),
            (Error::Shortcut { input: shape, output: shape }, Status::Size),
            (Error::SmallScratch { expected, got }, Status::SmallScratch),
            (Error::FilterOrder { operator: stage, expected: "HWC", got: "HWIO" }, Status::FilterOrder),
            (Error::Value { what: text(), expected: "1", got: text() }, Status::Value),
            (Error::Allocation { what, bytes: 1 }, Status::OutOfMemory),
            (Error::Scratch { stage, bytes: 2, limit: 1 }, Status::ScratchTooLarge),
            (Error::Isa(text()), Status::Isa),
            (Error::Fusion(text()), Status::Fusion),
            (Error::Network(text()), Status::Network),
            (Error::Weights(text()), Status::Weights),
        ] {
            let told = error.to_string();
            assert_eq!(boundary(|| Err(error.into())), status, "{told}");
            assert_eq!(last_error(), told);
        }
    }

    #[test]
    fn each_thread_has_its_own() {
        let _ = boundary(|| Err(CallFailure::ScratchInUse));
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
        assert_eq!(last_error(), CallFailure::ScratchInUse.to_string());
    }
}
