//! Plans: what they say of themselves, their scratch, and the run.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::fmt::Write as _;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use super::describe::sepconv_shape;
use super::options::{sepconv_isa, sepconv_plan_options};
use super::pointer::{Out, TextBuffer, check_slice, free, shared};
use super::status::{CallFailure, Result, boundary, sepconv_status};
use super::threads::read_threads;
use super::versioned;
use crate::{Arithmetic, Error, Plan, Scratch, Shape, Strides, Threads, View, ViewMut};

/// An operator or a network, planned for one input shape. Any number of threads may use one at once, each with a scratch of
/// its own.
pub struct sepconv_plan {
    pub(super) plan: Plan,
}

/// How a step `sum + x * w` is rounded. It decides the bits of every result.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum sepconv_arithmetic {
    /// Once, as `fmaf` does.
    Fused = 0,
    /// Twice: a product, then a sum. SSE4.2 and scalar, unless `common_bits` are asked for.
    Separate = 1,
}

/// The shape that a plan is for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_input_shape(
    plan: *const sepconv_plan,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "shape", shape, |plan| plan.input_shape().into()) }
}

/// The shape of what it computes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_output_shape(
    plan: *const sepconv_plan,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "shape", shape, |plan| plan.output_shape().into()) }
}

/// The instruction set that it runs on, never `SEPCONV_ISA_BEST`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_isa(plan: *const sepconv_plan, isa: *mut sepconv_isa) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "isa", isa, |plan| plan.isa().into()) }
}

/// How it rounds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_arithmetic(
    plan: *const sepconv_plan,
    arithmetic: *mut sepconv_arithmetic,
) -> sepconv_status {
    let of = |plan: &Plan| match plan.arithmetic() {
        Arithmetic::Fused => sepconv_arithmetic::Fused,
        Arithmetic::Separate => sepconv_arithmetic::Separate,
        other => unreachable!("the header has no code for {other:?}"),
    };
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "arithmetic", arithmetic, of) }
}

/// Multiply-accumulate operations of a run, padding counted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_macs(plan: *const sepconv_plan, macs: *mut u64) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "macs", macs, Plan::macs) }
}

/// Bytes of a scratch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_scratch_bytes(plan: *const sepconv_plan, bytes: *mut usize) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "bytes", bytes, Plan::scratch_bytes) }
}

/// Answers a question about a plan.
///
/// # Safety
/// The contract of all functions.
unsafe fn ask<T>(
    plan: *const sepconv_plan,
    name: &'static str,
    answer: *mut T,
    of: impl FnOnce(&Plan) -> T,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, plan) = unsafe { (Out::new(name, answer)?, shared("plan", plan)?) };
        out.write(of(&plan.plan));
        Ok(())
    })
}

/// What was decided and why, as text of several lines: kernels, schedules, work and memory of each step. UTF-8.
///
/// Writes as `snprintf` does: at most `capacity` bytes with the NUL, cut between characters, and to `length` the bytes that
/// all of it takes without the NUL. `buffer` may be NULL where `capacity` is 0, `length` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_explain(
    plan: *const sepconv_plan,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let plan = unsafe { shared("plan", plan) }?;
        if capacity > 0 {
            check_slice("buffer", buffer, capacity)?;
        }
        let out = if length.is_null() {
            None
        } else {
            // SAFETY: the contract of all functions.
            Some(unsafe { Out::new("length", length) }?)
        };
        // SAFETY: the contract of all functions.
        let mut text = unsafe { TextBuffer::new(buffer.cast(), capacity) };
        // there is no error: what does not fit is left out
        let _ = write!(text, "{}", plan.plan.explain());
        let len = text.finish();
        if let Some(out) = out {
            out.write(len);
        }
        Ok(())
    })
}

/// Frees a plan. Scratch of it may be freed before or after. NULL is no plan, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_free(plan: *mut sepconv_plan) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(plan) };
        Ok(())
    });
}

/// The memory of a run, for one run at a time: a run that finds it in use fails.
pub struct sepconv_scratch {
    in_use: AtomicBool,
    scratch: UnsafeCell<Scratch>,
}

/// Whoever holds it is the one run that uses the scratch.
struct InUse<'a>(&'a sepconv_scratch);

impl sepconv_scratch {
    fn enter(&self) -> Result<InUse<'_>> {
        // acquired: what the run before wrote comes before this one
        if self.in_use.swap(true, Ordering::Acquire) { Err(CallFailure::ScratchInUse) } else { Ok(InUse(self)) }
    }
}

impl InUse<'_> {
    fn scratch(&mut self) -> &mut Scratch {
        // SAFETY: only one of this type is there at a time, and it is borrowed for as long.
        unsafe { &mut *self.0.scratch.get() }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.in_use.store(false, Ordering::Release);
    }
}

/// Memory for one run of this plan at a time; keep it and use it again, on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_scratch_new(
    plan: *const sepconv_plan,
    scratch: *mut *mut sepconv_scratch,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let (out, plan) = unsafe { (Out::new("scratch", scratch)?, shared("plan", plan)?) };
        let scratch = UnsafeCell::new(plan.plan.scratch()?);
        out.hand_over("scratch", sepconv_scratch { in_use: AtomicBool::new(false), scratch })
    })
}

/// Frees a scratch. NULL is no scratch, and nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_scratch_free(scratch: *mut sepconv_scratch) {
    let _ = boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { free(scratch) };
        Ok(())
    });
}

/// Computes `output` from `input`, which have the shapes of the plan.
///
/// Lengths are in values, and may be more than needed: with `n * h * w` pixels the last value is at
/// `(pixels - 1) * pixel_stride + c - 1`. A pixel stride of 0 stands for a dense tensor. Values between the pixels of the output
/// are left as they are. The memory from the first to the last value of the input must not overlap with that of the output, even
/// where their values lie between each other.
///
/// With a batch of 0 images nothing is read or written; input and output may then be NULL, with a length of 0.
///
/// Everything is checked before anything is written. Many threads may run one plan at once, each with a scratch of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run(
    plan: *const sepconv_plan,
    input: *const f32,
    input_len: usize,
    input_pixel_stride: usize,
    output: *mut f32,
    output_len: usize,
    output_pixel_stride: usize,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    let arguments =
        Arguments { plan, input, input_len, input_pixel_stride, output, output_len, output_pixel_stride, scratch };
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { run(&arguments, None) })
}

/// As `sepconv_plan_run`, on the threads that `options` choose, in place of those that the plan was made for. At most as many as the
/// plan is for take part. Of the options only the threads count. Results are the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_on(
    plan: *const sepconv_plan,
    options: *const sepconv_plan_options,
    input: *const f32,
    input_len: usize,
    input_pixel_stride: usize,
    output: *mut f32,
    output_len: usize,
    output_pixel_stride: usize,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    let arguments =
        Arguments { plan, input, input_len, input_pixel_stride, output, output_len, output_pixel_stride, scratch };
    boundary(|| {
        // SAFETY: the contract of all functions.
        let options = unsafe { versioned::read("options", options) }?;
        // SAFETY: as above.
        unsafe { run(&arguments, Some(read_threads(&options)?)) }
    })
}

/// The arguments of a run.
struct Arguments {
    plan: *const sepconv_plan,
    input: *const f32,
    input_len: usize,
    input_pixel_stride: usize,
    output: *mut f32,
    output_len: usize,
    output_pixel_stride: usize,
    scratch: *mut sepconv_scratch,
}

/// Checks the arguments of a run, and runs: on the threads of the plan unless others are named.
///
/// # Safety
/// The contract of all functions.
unsafe fn run(arguments: &Arguments, threads: Option<Threads>) -> Result<()> {
    let &Arguments { input, output, .. } = arguments;
    // SAFETY: the caller's. Scratch is shared as long as nobody has entered it.
    let (plan, scratch) =
        unsafe { (shared("plan", arguments.plan)?, shared("scratch", arguments.scratch.cast_const())?) };
    let plan = &plan.plan;
    let (from_len, from_stride) = (arguments.input_len, arguments.input_pixel_stride);
    let from = CallerTensor::new("input", input, from_len, plan.input_shape(), from_stride)?;
    let (to_len, to_stride) = (arguments.output_len, arguments.output_pixel_stride);
    let to = CallerTensor::new("output", output.cast_const(), to_len, plan.output_shape(), to_stride)?;
    let (read, written) = (from.bytes(), to.bytes());
    if read.start < written.end && written.start < read.end {
        return Err(CallFailure::Overlap);
    }
    let mut scratch = scratch.enter()?;
    // SAFETY: the caller's, for `span` values, which are no more than the caller said to be there. The two do not overlap.
    let (input, output): (&[f32], &mut [f32]) = unsafe {
        (
            if from.span == 0 { &[] } else { core::slice::from_raw_parts(input, from.span) },
            if to.span == 0 { &mut [] } else { core::slice::from_raw_parts_mut(output, to.span) },
        )
    };
    let input = View::with_pixel_stride(input, from.shape, from.pixel_stride)?;
    let output = ViewMut::with_pixel_stride(output, to.shape, to.pixel_stride)?;
    match threads {
        Some(threads) => Ok(plan.run_on(&threads, input, output, scratch.scratch())?),
        None => Ok(plan.run(input, output, scratch.scratch())?),
    }
}

/// A tensor of the caller's, before any reference to it is made.
struct CallerTensor {
    first: *const f32,
    /// From the first to the last value.
    span: usize,
    shape: Shape,
    pixel_stride: usize,
}

impl CallerTensor {
    fn new(
        what: &'static str,
        first: *const f32,
        len: usize,
        shape: Shape,
        pixel_stride: usize,
    ) -> Result<CallerTensor> {
        // an empty tensor is often nowhere
        if !(shape.is_empty() && first.is_null() && len == 0) {
            check_slice(what, first, len)?;
        }
        let pixel_stride = if pixel_stride == 0 { shape.c } else { pixel_stride };
        let span = shape.span(pixel_stride)?;
        if len < span {
            let strides = Strides::with_pixel_stride(shape, pixel_stride);
            return Err(CallFailure::Library(Error::Buffer { what, shape, strides, expected: span, got: len }));
        }
        Ok(CallerTensor { first, span, shape, pixel_stride })
    }

    /// The addresses of its values. They do not wrap: a slice that holds them was checked.
    fn bytes(&self) -> Range<usize> {
        self.first.addr()..self.first.addr() + self.span * size_of::<f32>()
    }
}

// What C passes is an integer, which the header calls by the name of its enum (see cbindgen.toml).
type IsaCode = i32;

/// The name of an instruction set in lower case, such as `avx2`; `unknown` for an integer that is none. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn sepconv_isa_name(isa: IsaCode) -> *const c_char {
    const NAMES: [(sepconv_isa, &CStr); 6] = [
        (sepconv_isa::Best, c"best"),
        (sepconv_isa::Avx512, c"avx512"),
        (sepconv_isa::Avx2, c"avx2"),
        (sepconv_isa::Sse42, c"sse42"),
        (sepconv_isa::Neon, c"neon"),
        (sepconv_isa::Scalar, c"scalar"),
    ];
    NAMES.iter().find(|(code, _)| *code as i32 == isa).map_or(c"unknown", |(_, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use core::ptr::{null, null_mut};

    use super::super::{sepconv_global_average_pool_new, sepconv_operator_free, sepconv_operator_plan};
    use super::*;

    #[test]
    fn scratch_is_for_one_run_at_a_time() {
        let pixel = sepconv_shape { n: 1, h: 1, w: 1, c: 1 };
        let (mut op, mut plan, mut scratch) = (null_mut(), null_mut(), null_mut());
        // SAFETY: handles of the functions before, and a pixel to read and one to write.
        unsafe {
            assert_eq!(sepconv_global_average_pool_new(1, &mut op), sepconv_status::Ok);
            assert_eq!(sepconv_operator_plan(op, pixel, null(), &mut plan), sepconv_status::Ok);
            assert_eq!(sepconv_scratch_new(plan, &mut scratch), sepconv_status::Ok);
            let mut output = 7.0;
            let mut run = || {
                let status = sepconv_plan_run(plan, &3.0, 1, 0, &mut output, 1, 0, scratch);
                (status, output)
            };
            let other = (*scratch).enter().unwrap();
            assert_eq!(run(), (sepconv_status::ScratchInUse, 7.0));
            drop(other);
            assert_eq!(run(), (sepconv_status::Ok, 3.0));
            assert_eq!(run(), (sepconv_status::Ok, 3.0), "a run gives it back");
            sepconv_scratch_free(scratch);
            sepconv_plan_free(plan);
            sepconv_operator_free(op);
        }
    }
}
