//! Sections of columns, run: each as a step of its own.

use super::bind::Memory;
use crate::plan::{SectionsStep, share};

impl SectionsStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (sections, piece) = match self.parts {
            Some(parts) => (share(self.count, parts, piece), 0),
            None => (0..self.count, piece),
        };
        for section in sections {
            let memory = Memory { section: self.at(section), ..*memory };
            // SAFETY: the caller's; sections share no output, and the plan made each for the columns that it has.
            unsafe { self.kind(section).run(&memory, piece, scratch) };
        }
    }
}
