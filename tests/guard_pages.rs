//! No read and no write outside of what a plan was given or made for itself, by a single byte: input, output, packed
//! weights and scratch of every operator, both blocks and networks beside guard pages, on every instruction set and
//! number of threads.
//!
//! Input and output lie so in every test that goes through [`sepconv_test_support::check`]. Here an allocator of this test's own does
//! the same for packed weights and scratch, which the library makes for itself: they are what is allocated on a cache
//! line.

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use sepconv::testing::Cases;
use sepconv::{ConvDesc, Filter, Fusion, Network, PlanOptions, PointwiseConv2d, Shape};
use sepconv_test_support::guard::{PAGE, assert_touches};
use sepconv_test_support::{
    Placement, SCHEDULES, assert_required_levels, chain, check, for_each_case, input, layers, note, reference,
};

thread_local! {
    /// Whether memory on a cache line is fenced.
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// What aligned-vec aligns to at least, and nothing of the tests does.
const LINE: usize = 64;

/// Addresses that fenced memory is taken from, one after the other; none is used twice, so that what is freed stays out
/// of reach.
const REGION: usize = 64 << 30;
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static START: AtomicUsize = AtomicUsize::new(0);

/// What the part of the pages that nobody asked for is filled with.
const FILL: u8 = 0xa5;

struct Fencing;

/// The region, mapped when it is first asked for. Threads may race for it; the first wins.
fn region() -> *mut u8 {
    let start = START.load(Ordering::Acquire);
    if start != 0 {
        return start as *mut u8;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a mapping of its own.
    let new = unsafe { libc::mmap(core::ptr::null_mut(), REGION, libc::PROT_NONE, flags, -1, 0) };
    assert!(new != libc::MAP_FAILED, "no addresses");
    match START.compare_exchange(0, new as usize, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new.cast(),
        Err(other) => other as *mut u8,
    }
}

/// The pages of memory of this layout within the region: where they start, and their bytes.
fn pages(ptr: *mut u8, layout: MemoryLayout) -> (*mut u8, usize) {
    let page = *PAGE;
    let start = (ptr as usize - region() as usize) / page * page;
    (region().wrapping_add(start), layout.size().div_ceil(page).max(1) * page)
}

fn fenced(layout: MemoryLayout) -> *mut u8 {
    let page = *PAGE;
    let bytes = layout.size().div_ceil(page).max(1) * page;
    // the page behind it stays out of reach, and so does the one before, which is the one behind of another
    let at = TAKEN.fetch_add(bytes + page, Ordering::Relaxed) + page;
    assert!(at + bytes + page <= REGION, "more memory than the region has");
    let start = region().wrapping_add(at);
    // SAFETY: pages of the region that nobody else was given.
    unsafe {
        assert_eq!(libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE), 0);
        start.write_bytes(FILL, bytes);
    }
    match Placement::current() {
        Placement::Start => start,
        // as far to the end as the alignment lets it
        Placement::End => start.wrapping_add((bytes - layout.size()) / layout.align() * layout.align()),
    }
}

/// # Safety
/// `ptr` is memory of [`fenced`] with this layout.
unsafe fn release(ptr: *mut u8, layout: MemoryLayout) {
    let (start, bytes) = pages(ptr, layout);
    // SAFETY: the pages are accessible until here.
    unsafe {
        let before = core::slice::from_raw_parts(start, ptr as usize - start as usize);
        let after = ptr.add(layout.size());
        let after = core::slice::from_raw_parts(after, start as usize + bytes - after as usize);
        if before.iter().chain(after).any(|&b| b != FILL) {
            // a panic may not leave an allocator
            let message = b"\nwrote beside packed weights or scratch\n";
            libc::write(2, message.as_ptr().cast(), message.len());
            libc::abort();
        }
        libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED);
        libc::mprotect(start.cast(), bytes, libc::PROT_NONE);
    }
}

// SAFETY: memory is the system's, or pages of the region that are given out once.
unsafe impl GlobalAlloc for Fencing {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        if layout.align() >= LINE && FENCED.try_with(Cell::get).unwrap_or(false) {
            return fenced(layout);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: MemoryLayout) {
        let start = START.load(Ordering::Acquire);
        if start != 0 && (start..start + REGION).contains(&(ptr as usize)) {
            // SAFETY: only `fenced` gives out memory of the region.
            return unsafe { release(ptr, layout) };
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Fencing = Fencing;

/// Runs `body` with packed weights and scratch fenced.
fn with_fences<T>(body: impl FnOnce() -> T) -> T {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            FENCED.set(false);
        }
    }
    FENCED.set(true);
    let _off = Off;
    body()
}

#[test]
fn packed_weights_and_scratch_lie_beside_guard_pages() {
    let weights = [1.0; 40 * 24];
    let input = Shape::new(1, 5, 5, 40);
    for placement in Placement::ALL {
        let before = TAKEN.load(Ordering::SeqCst);
        placement.with(|| {
            let (plan, mut scratch) = with_fences(|| {
                let op = PointwiseConv2d::new(ConvDesc::new(Filter::io(&weights, [40, 24]))).unwrap();
                let plan = op.plan(input, &PlanOptions::new()).unwrap();
                let scratch = plan.scratch().unwrap();
                (plan, scratch)
            });
            assert!(TAKEN.load(Ordering::SeqCst) > before, "nothing was fenced");
            let memory = scratch.as_mut_slice();
            assert_eq!(size_of_val(memory), plan.scratch_bytes());
            let outside = match placement {
                Placement::Start => memory.as_ptr().wrapping_sub(1),
                // behind the last line, to which memory is aligned
                Placement::End => memory.as_ptr().wrapping_add(memory.len() + 2 * LINE - 1),
            };
            let what = format!("scratch at the {placement:?}");
            note(&what);
            assert_touches(&what, || {
                // SAFETY: not sound, which is the point: it ends the child.
                let _ = unsafe { outside.read_volatile() };
            });
        });
    }
}

fn every_case_stays_inside(count: u32, cases: Cases, fusions: &[Fusion]) {
    for_each_case(count, &chain(cases), |case| {
        let problem = case.problem();
        for placement in Placement::ALL {
            placement.with(|| {
                with_fences(|| {
                    let network = Network::new(layers(&problem)).unwrap();
                    let plan = |options: &PlanOptions| network.plan(case.case.input, options);
                    let expected = |arithmetic| reference(&problem, arithmetic);
                    check(plan, fusions, &input(&problem), expected, case.case.macs(), case.runs)
                })
            })?;
        }
        Ok(())
    });
    assert_required_levels();
}

const ALONE: [Fusion; 1] = [Fusion::Auto];

#[test]
fn conv2d() {
    every_case_stays_inside(300, Cases::conv2d(), &ALONE);
}

#[test]
fn depthwise() {
    every_case_stays_inside(500, Cases::depthwise(), &ALONE);
}

#[test]
fn pointwise() {
    every_case_stays_inside(300, Cases::pointwise(), &ALONE);
}

#[test]
fn average_pool() {
    every_case_stays_inside(100, Cases::average_pool(), &ALONE);
}

#[test]
fn dense() {
    every_case_stays_inside(200, Cases::dense(), &ALONE);
}

#[test]
fn separable() {
    every_case_stays_inside(300, Cases::separable(), &SCHEDULES);
}

#[test]
fn inverted_residual() {
    every_case_stays_inside(400, Cases::inverted_residual(), &SCHEDULES);
}

#[test]
fn networks() {
    every_case_stays_inside(300, Cases::chain(), &[Fusion::Auto, Fusion::Never]);
}
