//! The parts of `std` that the meeting needs. `tests/loom` puts loom's twins in its place.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::{Condvar, Mutex};
pub(super) use std::thread::yield_now;
