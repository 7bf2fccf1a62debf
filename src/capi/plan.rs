//! Plans: what they say of themselves, their scratch, and the run.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_void};
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};

use super::describe::sepconv_shape;
use super::options::{sepconv_isa, sepconv_plan_options};
use super::pointer::{Out, TextBuffer, check_slice, free, shared};
use super::status::{CallFailure, Result, boundary, sepconv_status};
use super::tensor::{Placed, Region, sepconv_input, sepconv_output};
use super::threads::read_threads;
use super::versioned;
use crate::{Arithmetic, Error, Plan, PlanOptions, Scratch, Shape, Threads, View, ViewMut, memory};

/// An operator or a network, planned for one input shape. Any number of threads may use one at once, each with a scratch of
/// its own.
pub struct sepconv_plan {
    plan: Plan,
    /// Those that the plan was made for.
    threads: Threads,
}

impl sepconv_plan {
    /// A plan that was made by these options.
    pub(super) fn new(plan: Plan, options: &PlanOptions) -> sepconv_plan {
        sepconv_plan { plan, threads: options.threads.clone() }
    }
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

/// The shape that a plan is for: of the first input, where there are several.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_input_shape(
    plan: *const sepconv_plan,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "shape", shape, |plan| plan.input_shape().into()) }
}

/// The shape of what it computes: of the first output, where there are several.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_output_shape(
    plan: *const sepconv_plan,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "shape", shape, |plan| plan.output_shape().into()) }
}

/// How many tensors a run reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_input_count(plan: *const sepconv_plan, count: *mut usize) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "count", count, |plan| plan.input_shapes().len()) }
}

/// How many tensors a run writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_output_count(plan: *const sepconv_plan, count: *mut usize) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { ask(plan, "count", count, |plan| plan.output_shapes().len()) }
}

/// The shape of input `index`, counted from 0 in the order of the network's inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_input_shape_at(
    plan: *const sepconv_plan,
    index: usize,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { shape_at(plan, index, shape, Plan::input_shapes) }
}

/// The shape of output `index`, counted from 0 in the order of the network's outputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_output_shape_at(
    plan: *const sepconv_plan,
    index: usize,
    shape: *mut sepconv_shape,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    unsafe { shape_at(plan, index, shape, Plan::output_shapes) }
}

/// One of the shapes of a plan.
///
/// # Safety
/// The contract of all functions.
unsafe fn shape_at(
    plan: *const sepconv_plan,
    index: usize,
    shape: *mut sepconv_shape,
    of: impl FnOnce(&Plan) -> &[Shape],
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the caller's.
        let (out, plan) = unsafe { (Out::new("shape", shape)?, shared("plan", plan)?) };
        let shapes = of(&plan.plan);
        let Some(&shape) = shapes.get(index) else {
            let (expected, got) = ("an index below the number of tensors", format!("{index} of {}", shapes.len()));
            return Err(CallFailure::Library(Error::Value { what: "index".into(), expected, got }));
        };
        out.write(shape.into());
        Ok(())
    })
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

/// Bytes of a scratch, or of memory for `sepconv_plan_run_in`.
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

/// The memory of a run, for one run at a time: a run that finds it in use fails. It serves each plan that needs no more.
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

/// Memory for one run at a time; keep it and use it again, on any thread, with this plan or with others that need no more. `plan` may
/// be NULL: the scratch has no memory then, until `sepconv_scratch_reserve`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_scratch_new(
    plan: *const sepconv_plan,
    scratch: *mut *mut sepconv_scratch,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        let out = unsafe { Out::new("scratch", scratch) }?;
        let mut scratch = Scratch::new();
        if !plan.is_null() {
            // SAFETY: as above.
            scratch.reserve(&unsafe { shared("plan", plan) }?.plan)?;
        }
        let scratch = UnsafeCell::new(scratch);
        out.hand_over("scratch", sepconv_scratch { in_use: AtomicBool::new(false), scratch })
    })
}

/// Makes room for one more plan: for its bytes, and for its threads. Does nothing where there is room. The scratch serves each plan
/// that it had room for before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_scratch_reserve(
    scratch: *mut sepconv_scratch,
    plan: *const sepconv_plan,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions. Scratch is shared as long as nobody has entered it.
        let (scratch, plan) = unsafe { (shared("scratch", scratch.cast_const())?, shared("plan", plan)?) };
        Ok(scratch.enter()?.scratch().reserve(&plan.plan)?)
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

/// What `sepconv_plan_run_in` uses of the caller's memory begins at a multiple of this number of bytes.
pub const SEPCONV_SCRATCH_ALIGNMENT: usize = 64;
const _: () = assert!(SEPCONV_SCRATCH_ALIGNMENT == Plan::SCRATCH_ALIGNMENT);

/// Computes `output` from `input`, which have the shapes of the plan, on the threads that the plan was made for.
///
/// The memory from the first to the last value of the input must not overlap with that of the output, even where their values lie
/// between each other. Where the plan is for `SEPCONV_LAYOUT_NHWC`, the channels of a pixel lie together; a plan for
/// `SEPCONV_LAYOUT_NCHW` takes any strides.
///
/// With a batch of 0 images nothing is read or written.
///
/// Everything is checked before anything is written. Many threads may run one plan at once, each with a scratch of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run(
    plan: *const sepconv_plan,
    input: *const sepconv_input,
    output: *const sepconv_output,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { run_one(plan, None, input, output, Room::Scratch(scratch)) })
}

/// As `sepconv_plan_run`, on the threads that `options` choose, in place of those that the plan was made for. At most as many as the
/// plan and the scratch are for take part. Of the options only the threads count. Results are the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_on(
    plan: *const sepconv_plan,
    options: *const sepconv_plan_options,
    input: *const sepconv_input,
    output: *const sepconv_output,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { run_one(plan, Some(&read_threads_of(options)?), input, output, Room::Scratch(scratch)) }
    })
}

/// As `sepconv_plan_run`, in `bytes` bytes of memory of the caller's in place of a scratch. `options` choose the threads as in
/// `sepconv_plan_run_on`; NULL stands for the threads that the plan was made for.
///
/// The run uses the bytes that `sepconv_plan_scratch_bytes` says, from the first address on that is a multiple of
/// `SEPCONV_SCRATCH_ALIGNMENT`. So memory of any alignment has room with `SEPCONV_SCRATCH_ALIGNMENT - 1` bytes more. Its bytes mean
/// nothing before and after the run, which fills them with zeros first. It must not overlap with input or output. It may be NULL where
/// `bytes` is 0.
///
/// A plan of several threads allocates what they share at the first run, and once more for each run at the same time. It keeps that
/// until it is freed. A plan of one thread allocates nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_in(
    plan: *const sepconv_plan,
    options: *const sepconv_plan_options,
    input: *const sepconv_input,
    output: *const sepconv_output,
    memory: *mut c_void,
    bytes: usize,
) -> sepconv_status {
    boundary(|| {
        // SAFETY: the contract of all functions.
        unsafe { run_one(plan, read_optional_threads(options)?.as_ref(), input, output, Room::Memory(memory, bytes)) }
    })
}

/// Computes all outputs of a network from all of its inputs, each in the order in which the network has them: `inputs` and `outputs`
/// are arrays of pointers to descriptions. There are as many as `sepconv_plan_input_count` and `sepconv_plan_output_count` say.
///
/// As `sepconv_plan_run` does with one of each. No output may have memory in common with another one or with an input; inputs may
/// with each other. A run allocates a few words for each tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_all(
    plan: *const sepconv_plan,
    inputs: *const *const sepconv_input,
    input_count: usize,
    outputs: *const *const sepconv_output,
    output_count: usize,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe { run_all(plan, None, (inputs, input_count), (outputs, output_count), Room::Scratch(scratch)) })
}

/// As `sepconv_plan_run_all`, on the threads that `options` choose: see `sepconv_plan_run_on`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_all_on(
    plan: *const sepconv_plan,
    options: *const sepconv_plan_options,
    inputs: *const *const sepconv_input,
    input_count: usize,
    outputs: *const *const sepconv_output,
    output_count: usize,
    scratch: *mut sepconv_scratch,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe {
        let threads = read_threads_of(options)?;
        run_all(plan, Some(&threads), (inputs, input_count), (outputs, output_count), Room::Scratch(scratch))
    })
}

/// As `sepconv_plan_run_all`, in `bytes` bytes of memory of the caller's: see `sepconv_plan_run_in`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sepconv_plan_run_all_in(
    plan: *const sepconv_plan,
    options: *const sepconv_plan_options,
    inputs: *const *const sepconv_input,
    input_count: usize,
    outputs: *const *const sepconv_output,
    output_count: usize,
    memory: *mut c_void,
    bytes: usize,
) -> sepconv_status {
    // SAFETY: the contract of all functions.
    boundary(|| unsafe {
        let threads = read_optional_threads(options)?;
        run_all(plan, threads.as_ref(), (inputs, input_count), (outputs, output_count), Room::Memory(memory, bytes))
    })
}

/// Reads the threads of options, and nothing else of them.
///
/// # Safety
/// The contract of all functions.
unsafe fn read_threads_of(options: *const sepconv_plan_options) -> Result<Threads> {
    // SAFETY: the caller's.
    unsafe { read_threads(&versioned::read("options", options)?) }
}

/// The same of options that may be NULL, for the threads of the plan.
///
/// # Safety
/// The contract of all functions.
unsafe fn read_optional_threads(options: *const sepconv_plan_options) -> Result<Option<Threads>> {
    // SAFETY: the caller's.
    if options.is_null() { Ok(None) } else { unsafe { read_threads_of(options) }.map(Some) }
}

/// Where a run has its memory.
#[derive(Clone, Copy)]
enum Room {
    Scratch(*mut sepconv_scratch),
    /// So many bytes.
    Memory(*mut c_void, usize),
}

/// Checks the arguments of a run with one input and one output, and runs. It allocates nothing.
///
/// # Safety
/// The contract of all functions.
unsafe fn run_one(
    plan: *const sepconv_plan,
    threads: Option<&Threads>,
    input: *const sepconv_input,
    output: *const sepconv_output,
    room: Room,
) -> Result<()> {
    // SAFETY: the caller's.
    let plan = unsafe { shared("plan", plan) }?;
    let (shape, made) = (plan.plan.input_shape(), plan.plan.output_shape());
    // SAFETY: as above.
    let [from, to] = unsafe { Placed::read((input, shape), (output, made))? };
    // SAFETY: as above. The two have no byte in common.
    let (inputs, mut outputs) = unsafe { ([from.view()?], [to.view_mut()?]) };
    let threads = threads.unwrap_or(&plan.threads);
    // SAFETY: as above.
    unsafe { execute(&plan.plan, threads, &mut [&from, &to].into_iter(), &inputs, &mut outputs, room) }
}

/// The same with all inputs and outputs of a network: pointers to descriptions, and how many.
///
/// # Safety
/// The contract of all functions.
unsafe fn run_all(
    plan: *const sepconv_plan,
    threads: Option<&Threads>,
    (inputs, input_count): (*const *const sepconv_input, usize),
    (outputs, output_count): (*const *const sepconv_output, usize),
    room: Room,
) -> Result<()> {
    // SAFETY: the caller's.
    let plan = unsafe { shared("plan", plan) }?;
    let (shapes, made) = (plan.plan.input_shapes(), plan.plan.output_shapes());
    // SAFETY: as above.
    let [from, to] = unsafe { Placed::read_all((inputs, input_count, shapes), (outputs, output_count, made))? };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for placed in &from {
        // SAFETY: as above. No output has a byte in common with it.
        memory::push("tensors of a run", &mut inputs, unsafe { placed.view() }?)?;
    }
    for placed in &to {
        // SAFETY: as above. No other tensor has a byte in common with it.
        memory::push("tensors of a run", &mut outputs, unsafe { placed.view_mut() }?)?;
    }
    let threads = threads.unwrap_or(&plan.threads);
    // SAFETY: as above.
    unsafe { execute(&plan.plan, threads, &mut from.iter().chain(&to), &inputs, &mut outputs, room) }
}

/// Checks where a run has its memory, and runs on these threads.
///
/// # Safety
/// The contract of all functions. `tensors` are those of the views.
unsafe fn execute(
    plan: &Plan,
    threads: &Threads,
    tensors: &mut dyn Iterator<Item = &Placed>,
    inputs: &[View<'_>],
    outputs: &mut [ViewMut<'_>],
    room: Room,
) -> Result<()> {
    match room {
        Room::Scratch(scratch) => {
            // SAFETY: the caller's. Scratch is shared as long as nobody has entered it.
            let mut scratch = unsafe { shared("scratch", scratch.cast_const()) }?.enter()?;
            Ok(plan.run_all_on(threads, inputs, outputs, scratch.scratch())?)
        }
        Room::Memory(first, bytes) => {
            let region = Region::of_bytes("memory", first, bytes)?;
            for tensor in tensors {
                region.check_apart(tensor.region())?;
            }
            // what is used of it, which C may never have written
            let used = bytes.min(plan.scratch_bytes().saturating_add(SEPCONV_SCRATCH_ALIGNMENT - 1));
            // SAFETY: the caller's. No tensor has a byte in common with the memory.
            let memory: &mut [u8] = unsafe {
                first.cast::<u8>().write_bytes(0, used);
                if used == 0 { &mut [] } else { core::slice::from_raw_parts_mut(first.cast(), used) }
            };
            Ok(plan.run_all_on_in(threads, inputs, outputs, memory)?)
        }
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

    use super::super::versioned::Versioned;
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
            let value = 3.0;
            let from =
                sepconv_input { struct_size: size_of::<sepconv_input>(), data: &value, len: 1, ..Versioned::INIT };
            let mut run = || {
                let struct_size = size_of::<sepconv_output>();
                let to = sepconv_output { struct_size, data: &mut output, len: 1, ..Versioned::INIT };
                (sepconv_plan_run(plan, &from, &to, scratch), output)
            };
            let other = (*scratch).enter().unwrap();
            assert_eq!(run(), (sepconv_status::ScratchInUse, 7.0));
            assert_eq!(sepconv_scratch_reserve(scratch, plan), sepconv_status::ScratchInUse);
            drop(other);
            assert_eq!(run(), (sepconv_status::Ok, 3.0));
            assert_eq!(run(), (sepconv_status::Ok, 3.0), "a run gives it back");
            sepconv_scratch_free(scratch);
            sepconv_plan_free(plan);
            sepconv_operator_free(op);
        }
    }
}
