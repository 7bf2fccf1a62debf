//! The C ABI, called as C would: results to the bit, and an error for everything that can be told to be wrong, with nothing
//! written. What needs a C compiler is `.ci/capi.sh`.
#![cfg(feature = "capi")]

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use sepconv::capi::*;
use sepconv::models::{
    Architecture, Config, MobileNetV1, MobileNetV2, ModelOutput, StridePadding, WeightOrder, Weights,
};
use sepconv::testing::{Cases, FilterOrder, Layout, Op, Problem, Stage, StageKind};
use sepconv::{
    Activation, Arithmetic, ChannelActivation, ConvDesc, Filter, Isa, Padding, Shape, Strides, View, ViewMut,
};
use sepconv_test_support::{
    CANARY, Frame, LEVELS, Rng, ValueKind, for_each_case, has_common_bits, is_canary, reference, same_bits,
};

/// A handle, freed in the end.
struct Owned<T> {
    handle: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a handle {:?}", self.handle)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: of `make`, and nobody uses it any more.
        unsafe { (self.free)(self.handle) };
    }
}

type Failed = (sepconv_status, String);

fn last_error() -> String {
    // SAFETY: text with a NUL, copied before the next call.
    unsafe { CStr::from_ptr(sepconv_last_error()) }.to_str().unwrap().into()
}

fn done(status: sepconv_status) -> Result<(), Failed> {
    if status == sepconv_status::Ok { Ok(()) } else { Err((status, last_error())) }
}

/// What a function hands over. One that fails must leave the out-parameter as it was.
fn make<T>(
    free: unsafe extern "C" fn(*mut T),
    new: impl FnOnce(*mut *mut T) -> sepconv_status,
) -> Result<Owned<T>, Failed> {
    let before = std::ptr::without_provenance_mut::<T>(0x5ea0);
    let mut handle = before;
    let result = done(new(&mut handle));
    assert_eq!(result.is_err(), handle == before, "{result:?}");
    result.map(|()| Owned { handle, free })
}

/// The status of an error; a panic is never one that is expected.
fn status<T: fmt::Debug>(result: Result<T, Failed>) -> sepconv_status {
    let (status, text) = result.unwrap_err();
    assert_ne!(status, sepconv_status::Panic, "{text}");
    assert!(!text.is_empty());
    status
}

fn conv_desc() -> sepconv_conv_desc {
    let mut desc = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which are written.
    unsafe {
        done(sepconv_conv_desc_init(desc.as_mut_ptr(), size_of::<sepconv_conv_desc>())).unwrap();
        desc.assume_init()
    }
}

fn plan_options() -> sepconv_plan_options {
    let mut options = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which are written.
    unsafe {
        done(sepconv_plan_options_init(options.as_mut_ptr(), size_of::<sepconv_plan_options>())).unwrap();
        options.assume_init()
    }
}

/// A depthwise 3×3 over 4 channels.
fn depthwise(filter: &[f32]) -> sepconv_conv_desc {
    sepconv_conv_desc {
        filter: filter.as_ptr(),
        filter_len: filter.len(),
        filter_order: sepconv_filter_order::DepthwiseHwcm as i32,
        kernel_h: 3,
        kernel_w: 3,
        input_channels: 4,
        output_channels: 4,
        ..conv_desc()
    }
}

/// A pointwise convolution of 4 channels to 5.
fn pointwise(filter: &[f32]) -> sepconv_conv_desc {
    sepconv_conv_desc {
        filter: filter.as_ptr(),
        filter_len: filter.len(),
        filter_order: sepconv_filter_order::Hwio as i32,
        kernel_h: 1,
        kernel_w: 1,
        input_channels: 4,
        output_channels: 5,
        ..conv_desc()
    }
}

const TAPS: [f32; 36] = [0.5; 36];
const NANS: [f32; 4] = [f32::NAN; 4];
const LARGE: [f32; 4] = [1e9; 4];
const MATRIX: [f32; 20] = [0.25; 20];

type Operator = Owned<sepconv_operator>;
type Plan = Owned<sepconv_plan>;

type NewOfOne = unsafe extern "C" fn(*const sepconv_conv_desc, *mut *mut sepconv_operator) -> sepconv_status;

fn operator(new: NewOfOne, desc: &sepconv_conv_desc) -> Result<Operator, Failed> {
    // SAFETY: the description points to what it says.
    make(sepconv_operator_free, |op| unsafe { new(desc, op) })
}

fn separable() -> Operator {
    let (depthwise, pointwise) = (depthwise(&TAPS), pointwise(&MATRIX));
    // SAFETY: the descriptions point to what they say.
    make(sepconv_operator_free, |op| unsafe { sepconv_separable_conv2d_new(&depthwise, &pointwise, op) }).unwrap()
}

/// What [`separable`] reads in these tests, and what it writes.
const INPUT: sepconv_shape = sepconv_shape { n: 1, h: 6, w: 7, c: 4 };
const OUTPUT: sepconv_shape = sepconv_shape { c: 5, ..INPUT };
const INPUT_LEN: usize = 6 * 7 * 4;
const OUTPUT_LEN: usize = 6 * 7 * 5;

fn plan(operator: &Operator, shape: sepconv_shape, options: *const sepconv_plan_options) -> Result<Plan, Failed> {
    // SAFETY: the operator lives, and so do options.
    make(sepconv_plan_free, |plan| unsafe { sepconv_operator_plan(operator.handle, shape, options, plan) })
}

fn scratch(plan: &Plan) -> Owned<sepconv_scratch> {
    // SAFETY: the plan lives.
    make(sepconv_scratch_free, |scratch| unsafe { sepconv_scratch_new(plan.handle, scratch) }).unwrap()
}

/// A dense NHWC tensor to read.
fn input_at(data: *const f32, len: usize) -> sepconv_input {
    let mut input = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which but padding are written.
    unsafe {
        done(sepconv_input_init(input.as_mut_ptr(), size_of::<sepconv_input>(), data, len)).unwrap();
        input.assume_init()
    }
}

/// A dense NHWC tensor to write.
fn output_at(data: *mut f32, len: usize) -> sepconv_output {
    let mut output = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which but padding are written.
    unsafe {
        done(sepconv_output_init(output.as_mut_ptr(), size_of::<sepconv_output>(), data, len)).unwrap();
        output.assume_init()
    }
}

const DENSE: sepconv_strides = sepconv_strides { image: 0, row: 0, pixel: 0, channel: 0 };

fn by_pixel(pixel: usize) -> sepconv_strides {
    sepconv_strides { pixel, ..DENSE }
}

/// Runs on NHWC slices, the pixel strides 0 for dense.
fn run(
    plan: &Plan,
    (input, input_stride): (&[f32], usize),
    (output, output_stride): (&mut [f32], usize),
    scratch: &Owned<sepconv_scratch>,
) -> Result<(), Failed> {
    let from = sepconv_input { strides: by_pixel(input_stride), ..input_at(input.as_ptr(), input.len()) };
    let to = sepconv_output { strides: by_pixel(output_stride), ..output_at(output.as_mut_ptr(), output.len()) };
    // SAFETY: slices, and handles that live.
    done(unsafe { sepconv_plan_run(plan.handle, &from, &to, scratch.handle) })
}

fn shape(Shape { n, h, w, c }: Shape) -> sepconv_shape {
    sepconv_shape { n, h, w, c }
}

#[test]
fn versions() {
    // SAFETY: static text.
    let version = unsafe { CStr::from_ptr(sepconv_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    assert_eq!(sepconv_abi_version(), SEPCONV_ABI_VERSION);
}

/// The first version of each struct, where pointers have 64 bits: programs that were compiled with it rely on these numbers.
#[test]
#[cfg(target_pointer_width = "64")]
fn the_layout_of_structs_stays() {
    macro_rules! offsets {
        ($of:ident: $($field:ident)*) => { [$((stringify!($field), offset_of!($of, $field))),*] };
    }
    let conv = offsets!(sepconv_conv_desc: struct_size filter filter_len kernel_h kernel_w input_channels output_channels
        filter_order padding stride_h stride_w dilation_h dilation_w pad_top pad_bottom pad_left pad_right bias bias_len
        batch_norm_gamma batch_norm_beta batch_norm_mean batch_norm_variance batch_norm_len batch_norm_epsilon activation
        clamp_min clamp_max groups);
    let expected = [
        0, 8, 16, 24, 32, 40, 48, 56, 60, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176, 184,
        192, 196, 200, 208,
    ];
    assert_eq!(conv.map(|(_, offset)| offset), expected, "{conv:?}");
    let options = offsets!(sepconv_plan_options: struct_size pool threads max_isa fusion spins common_bits parallel_for
        parallel_context parallel_threads max_threads input_layout output_layout);
    let expected = [0, 8, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 76];
    assert_eq!(options.map(|(_, offset)| offset), expected, "{options:?}");
    let input = offsets!(sepconv_input: struct_size data len layout strides);
    assert_eq!(input.map(|(_, offset)| offset), [0, 8, 16, 24, 32], "{input:?}");
    let output = offsets!(sepconv_output: struct_size data len layout strides);
    assert_eq!(output.map(|(_, offset)| offset), [0, 8, 16, 24, 32], "{output:?}");
    let strides = offsets!(sepconv_strides: image row pixel channel);
    assert_eq!(strides.map(|(_, offset)| offset), [0, 8, 16, 24], "{strides:?}");
    assert_eq!([size_of::<sepconv_input>(), size_of::<sepconv_output>(), size_of::<sepconv_strides>()], [64, 64, 32]);
    let config = offsets!(sepconv_mobilenet_config: struct_size classes alpha epsilon stride_padding output activation);
    assert_eq!(config.map(|(_, offset)| offset), [0, 8, 16, 24, 32, 36, 40], "{config:?}");
    let pool = offsets!(sepconv_window_pool_desc: struct_size kind padding kernel_h kernel_w stride_h stride_w pad_top
        pad_bottom pad_left pad_right count_padding);
    assert_eq!(pool.map(|(_, offset)| offset), [0, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80], "{pool:?}");
    assert_eq!([size_of::<sepconv_shape>(), size_of::<sepconv_value>()], [32, 8]);
}

/// Reads `SEPCONV_X_Y = 3,` from the header.
#[test]
fn codes_are_named_as_in_the_header() {
    let header = include_str!("../src/capi/sepconv.h");
    let codes = |of: &str| -> Vec<(String, i32)> {
        let constants = header.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
        let named = constants.filter(|(name, _)| name.starts_with(of));
        named.map(|(name, code)| (name.into(), code.parse().unwrap())).collect()
    };
    // SAFETY: static text.
    let text = |name| unsafe { CStr::from_ptr(name) }.to_str().unwrap();
    let statuses = codes("SEPCONV_STATUS_");
    assert_eq!(statuses.len(), 23);
    for (name, code) in &statuses {
        assert_eq!(text(sepconv_status_name(*code)), name);
    }
    let isas = codes("SEPCONV_ISA_");
    assert_eq!(isas.len(), 1 + Isa::ALL.len());
    for (name, code) in &isas {
        assert_eq!(format!("SEPCONV_ISA_{}", text(sepconv_isa_name(*code)).to_uppercase()), *name);
    }
    for code in [-1, 23, 6, i32::MIN, i32::MAX] {
        assert_eq!(text(sepconv_isa_name(code)), "unknown");
        assert_eq!(text(sepconv_status_name(code)) == "unknown", code != 6);
    }
}

/// Calls of which one argument is NULL, or leads to a pointer that is: each tells the name of it.
macro_rules! assert_null_is_told {
    ($($name:literal: $call:expr,)*) => {
        $(assert_eq!(($call, last_error()), (sepconv_status::NullPointer, format!("{}: must not be NULL", $name)));)*
    };
}

#[test]
fn null_is_told_where_operators_and_networks_are_made() {
    let (dw, pw) = (depthwise(&TAPS), pointwise(&MATRIX));
    let operator = separable();
    let operators = [operator.handle.cast_const()];
    // SAFETY: one operator.
    let network = make(sepconv_network_free, |n| unsafe { sepconv_network_new(operators.as_ptr(), 1, n) }).unwrap();
    let mut op = null_mut();
    let op = &raw mut op;
    let (mut net, mut planned) = (null_mut(), null_mut());
    let mut shape = OUTPUT;
    let shape = &raw mut shape;
    let (h, n) = (operator.handle.cast_const(), network.handle.cast_const());
    let file = [0; 8];
    let no_filter = sepconv_conv_desc { filter: null(), ..pw };
    let no_mean = sepconv_conv_desc { batch_norm_variance: TAPS.as_ptr(), batch_norm_len: 5, ..pw };
    let no_variance = sepconv_conv_desc { batch_norm_gamma: TAPS.as_ptr(), batch_norm_mean: TAPS.as_ptr(), ..no_mean };
    let no_variance = sepconv_conv_desc { batch_norm_variance: null(), ..no_variance };
    // a length without values
    let no_bias = sepconv_conv_desc { bias_len: 5, ..pw };
    let no_norm = sepconv_conv_desc { batch_norm_len: 5, ..pw };
    let no_pool = sepconv_plan_options { threads: sepconv_threads::Pool as i32, ..plan_options() };
    let hole = [h, null()];
    // SAFETY: what is not NULL is what it should be.
    unsafe {
        assert_null_is_told! {
            "desc": sepconv_conv_desc_init(null_mut(), size_of::<sepconv_conv_desc>()),
            "options": sepconv_plan_options_init(null_mut(), size_of::<sepconv_plan_options>()),
            "config": sepconv_mobilenet_config_init(null_mut(), size_of::<sepconv_mobilenet_config>()),
            "desc": sepconv_conv2d_new(null(), op),
            "op": sepconv_conv2d_new(&pw, null_mut()),
            "desc": sepconv_depthwise_conv2d_new(null(), op),
            "op": sepconv_depthwise_conv2d_new(&dw, null_mut()),
            "desc": sepconv_pointwise_conv2d_new(null(), op),
            "op": sepconv_pointwise_conv2d_new(&pw, null_mut()),
            "desc": sepconv_dense_new(null(), op),
            "op": sepconv_dense_new(&pw, null_mut()),
            "depthwise": sepconv_separable_conv2d_new(null(), &pw, op),
            "pointwise": sepconv_separable_conv2d_new(&dw, null(), op),
            "op": sepconv_separable_conv2d_new(&dw, &pw, null_mut()),
            "depthwise": sepconv_inverted_residual_new(null(), null(), &pw, 1, op),
            "project": sepconv_inverted_residual_new(null(), &dw, null(), 1, op),
            "op": sepconv_inverted_residual_new(null(), &dw, &pw, 1, null_mut()),
            "op": sepconv_global_average_pool_new(4, null_mut()),
            "desc.filter": sepconv_pointwise_conv2d_new(&no_filter, op),
            "pointwise.filter": sepconv_separable_conv2d_new(&dw, &no_filter, op),
            "desc.bias": sepconv_pointwise_conv2d_new(&no_bias, op),
            "desc.batch_norm_mean": sepconv_pointwise_conv2d_new(&no_norm, op),
            "desc.batch_norm_mean": sepconv_pointwise_conv2d_new(&no_mean, op),
            "desc.batch_norm_variance": sepconv_pointwise_conv2d_new(&no_variance, op),
            "op": sepconv_operator_output_shape(null(), INPUT, shape),
            "output": sepconv_operator_output_shape(h, INPUT, null_mut()),
            "op": sepconv_operator_plan(null(), INPUT, null(), &mut planned),
            "plan": sepconv_operator_plan(h, INPUT, null(), null_mut()),
            "options.pool": sepconv_operator_plan(h, INPUT, &no_pool, &mut planned),
            "operators": sepconv_network_new(null(), 0, &mut net),
            "operators[1]": sepconv_network_new(hole.as_ptr(), 2, &mut net),
            "network": sepconv_network_new(operators.as_ptr(), 1, null_mut()),
            "network": sepconv_network_output_shape(null(), INPUT, shape),
            "output": sepconv_network_output_shape(n, INPUT, null_mut()),
            "network": sepconv_network_plan(null(), INPUT, null(), &mut planned),
            "plan": sepconv_network_plan(n, INPUT, null(), null_mut()),
            "file": sepconv_network_mobilenet_v1(null(), null(), 8, 1, &mut net),
            "network": sepconv_network_mobilenet_v1(null(), file.as_ptr(), 8, 1, null_mut()),
            "file": sepconv_network_mobilenet_v2(null(), null(), 8, 1, &mut net),
            "network": sepconv_network_mobilenet_v2(null(), file.as_ptr(), 8, 1, null_mut()),
            "pool": sepconv_pool_new(1, null_mut()),
        }
        // nothing was written
        assert_eq!((op.read(), shape.read()), (null_mut(), OUTPUT));
    }
    assert_eq!((net, planned), (null_mut(), null_mut()));
}

#[test]
fn null_is_told_where_plans_are_asked() {
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let mut shape = OUTPUT;
    let shape = &raw mut shape;
    let (mut isa, mut arithmetic) = (sepconv_isa::Best, sepconv_arithmetic::Fused);
    let (mut macs, mut bytes, mut length, mut text) = (7, 8, 9, [1; 8]);
    let (p, s) = (plan.handle.cast_const(), scratch.handle);
    // SAFETY: what is not NULL is what it should be.
    unsafe {
        assert_null_is_told! {
            "plan": sepconv_plan_input_shape(null(), shape),
            "shape": sepconv_plan_input_shape(p, null_mut()),
            "plan": sepconv_plan_output_shape(null(), shape),
            "shape": sepconv_plan_output_shape(p, null_mut()),
            "plan": sepconv_plan_isa(null(), &mut isa),
            "isa": sepconv_plan_isa(p, null_mut()),
            "plan": sepconv_plan_arithmetic(null(), &mut arithmetic),
            "arithmetic": sepconv_plan_arithmetic(p, null_mut()),
            "plan": sepconv_plan_macs(null(), &mut macs),
            "macs": sepconv_plan_macs(p, null_mut()),
            "plan": sepconv_plan_scratch_bytes(null(), &mut bytes),
            "bytes": sepconv_plan_scratch_bytes(p, null_mut()),
            "plan": sepconv_plan_explain(null(), text.as_mut_ptr(), 8, &mut length),
            "buffer": sepconv_plan_explain(p, null_mut(), 8, &mut length),
            "scratch": sepconv_scratch_new(p, null_mut()),
            "scratch": sepconv_scratch_reserve(null_mut(), p),
            "plan": sepconv_scratch_reserve(s, null()),
        }
        // nothing was written
        assert_eq!(shape.read(), OUTPUT);
    }
    assert_eq!((isa, arithmetic), (sepconv_isa::Best, sepconv_arithmetic::Fused));
    assert_eq!((macs, bytes, length, text), (7, 8, 9, [1; 8]));
}

#[test]
fn null_is_told_by_runs() {
    let (network, cache) = cached(1);
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let (input, mut output, mut memory) = ([1.0; INPUT_LEN], [CANARY; OUTPUT_LEN], vec![0u8; 1 << 20]);
    let (from, to) = (input_at(input.as_ptr(), INPUT_LEN), output_at(output.as_mut_ptr(), OUTPUT_LEN));
    let (from_nowhere, to_nowhere) = (input_at(null(), INPUT_LEN), output_at(null_mut(), OUTPUT_LEN));
    let (from, from_nowhere) = (&raw const from, &raw const from_nowhere);
    let (to, to_nowhere) = (&raw const to, &raw const to_nowhere);
    let (from_size, to_size) = (size_of::<sepconv_input>(), size_of::<sepconv_output>());
    let (room, room_len) = (memory.as_mut_ptr().cast::<c_void>(), memory.len());
    let no_loop = sepconv_plan_options { threads: sepconv_threads::Custom as i32, ..plan_options() };
    let no_pool = sepconv_plan_options { threads: sepconv_threads::Pool as i32, ..plan_options() };
    let serial = plan_options();
    let (mut made, mut len) = (null_mut(), 7);
    let (n, p, s, k) =
        (network.handle.cast_const(), plan.handle.cast_const(), scratch.handle, cache.handle.cast_const());
    // SAFETY: what is not NULL is what it should be.
    unsafe {
        assert_null_is_told! {
            "input": sepconv_input_init(null_mut(), from_size, null(), 0),
            "output": sepconv_output_init(null_mut(), to_size, null_mut(), 0),
            "plan": sepconv_plan_run(null(), from, to, s),
            "input": sepconv_plan_run(p, null(), to, s),
            "input.data": sepconv_plan_run(p, from_nowhere, to, s),
            "output": sepconv_plan_run(p, from, null(), s),
            "output.data": sepconv_plan_run(p, from, to_nowhere, s),
            "options": sepconv_plan_run_on(p, null(), from, to, s),
            "options.parallel_for": sepconv_plan_run_on(p, &no_loop, from, to, s),
            "plan": sepconv_plan_run_on(null(), &serial, from, to, s),
            "input": sepconv_plan_run_on(p, &serial, null(), to, s),
            "output": sepconv_plan_run_on(p, &serial, from, null(), s),
            "scratch": sepconv_plan_run_on(p, &serial, from, to, null_mut()),
            "plan": sepconv_plan_run_in(null(), null(), from, to, room, room_len),
            "options.parallel_for": sepconv_plan_run_in(p, &no_loop, from, to, room, room_len),
            "input": sepconv_plan_run_in(p, null(), null(), to, room, room_len),
            "output": sepconv_plan_run_in(p, null(), from, null(), room, room_len),
            "memory": sepconv_plan_run_in(p, null(), from, to, null_mut(), 1),
            "cache": sepconv_plan_cache_new(null(), 1, null_mut()),
            "options.pool": sepconv_plan_cache_new(&no_pool, 1, &mut made),
            "cache": sepconv_plan_cache_run(null(), n, INPUT, from, to),
            "network": sepconv_plan_cache_run(k, null(), INPUT, from, to),
            "input": sepconv_plan_cache_run(k, n, INPUT, null(), to),
            "input.data": sepconv_plan_cache_run(k, n, INPUT, from_nowhere, to),
            "output": sepconv_plan_cache_run(k, n, INPUT, from, null()),
            "output.data": sepconv_plan_cache_run(k, n, INPUT, from, to_nowhere),
            "cache": sepconv_plan_cache_len(null(), &mut len),
            "len": sepconv_plan_cache_len(k, null_mut()),
            "cache": sepconv_plan_cache_clear(null()),
            "scratch": sepconv_plan_run(p, from, to, null_mut()),
        }
    }
    // nothing was written
    assert_eq!((made, len, cache_len(&cache)), (null_mut(), 7, 0));
    assert!(output.iter().all(|&v| is_canary(v)));
}

#[test]
fn null_may_be_freed() {
    // SAFETY: NULL, and a pool that nobody uses.
    unsafe {
        sepconv_operator_free(null_mut());
        sepconv_network_free(null_mut());
        sepconv_plan_free(null_mut());
        sepconv_scratch_free(null_mut());
        sepconv_pool_free(null_mut());
        sepconv_plan_cache_free(null_mut());
    }
}

#[test]
fn misaligned_pointers_are_told() {
    use sepconv_status::MisalignedPointer;
    let operator = separable();
    let plan = plan(&operator, INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let (input, mut output) = ([1.0; INPUT_LEN + 1], [CANARY; OUTPUT_LEN + 1]);
    let off = |pointer: *const f32| pointer.cast::<u8>().wrapping_add(2).cast::<f32>();
    let (p, s) = (plan.handle, scratch.handle);
    let mut macs = [7u64; 2];
    let (from, to) = (input.as_ptr(), output.as_mut_ptr());
    let desc = sepconv_conv_desc { filter: off(MATRIX.as_ptr()), filter_len: 19, ..pointwise(&MATRIX) };
    let whole = [pointwise(&MATRIX), pointwise(&MATRIX)];
    let askew = whole.as_ptr().cast::<u8>().wrapping_add(4).cast::<sepconv_conv_desc>();
    let mut op = null_mut();
    // SAFETY: misaligned pointers are not followed, the others are what they should be.
    unsafe {
        let run = |from, to| sepconv_plan_run(p, &input_at(from, INPUT_LEN), &output_at(to, OUTPUT_LEN), s);
        assert_eq!(run(off(from), to), MisalignedPointer);
        assert_eq!(last_error(), "input.data: expected an address that is a multiple of 4");
        let tensors = [input_at(from, INPUT_LEN); 2];
        let tensor_askew = tensors.as_ptr().cast::<u8>().wrapping_add(4).cast::<sepconv_input>();
        assert_eq!(sepconv_plan_run(p, tensor_askew, &output_at(to, OUTPUT_LEN), s), MisalignedPointer);
        let size = size_of::<sepconv_input>();
        assert_eq!(sepconv_input_init(tensor_askew.cast_mut(), size, from, INPUT_LEN), MisalignedPointer);
        assert_eq!(run(from, off(to).cast_mut()), MisalignedPointer);
        assert_eq!(sepconv_plan_macs(p, macs.as_mut_ptr().cast::<u8>().add(4).cast()), MisalignedPointer);
        assert_eq!(sepconv_plan_macs(p.cast::<u8>().wrapping_add(1).cast(), macs.as_mut_ptr()), MisalignedPointer);
        assert_eq!(sepconv_pointwise_conv2d_new(&desc, &mut op), MisalignedPointer);
        assert_eq!(sepconv_pointwise_conv2d_new(askew, &mut op), MisalignedPointer);
        assert_eq!(sepconv_conv_desc_init(askew.cast_mut(), size_of::<sepconv_conv_desc>()), MisalignedPointer);
        assert_eq!(run(from, to), sepconv_status::Ok);
    }
    assert_eq!((macs, op), ([7; 2], null_mut()));
}

#[test]
fn codes_out_of_range_are_told() {
    let pw = pointwise(&MATRIX);
    let refused = |desc: sepconv_conv_desc, what: &str| {
        let (status, text) = operator(sepconv_pointwise_conv2d_new, &desc).unwrap_err();
        assert_eq!((status, text.as_str()), (sepconv_status::UnknownCode, what));
    };
    for code in [-1, 0, 8, i32::MIN, i32::MAX] {
        let desc = sepconv_conv_desc { filter_order: code, ..pw };
        refused(desc, &format!("desc.filter_order: {code} is no value of sepconv_filter_order"));
    }
    for code in [-1, 3, i32::MIN, i32::MAX] {
        let desc = sepconv_conv_desc { padding: code, ..pw };
        refused(desc, &format!("desc.padding: {code} is no value of sepconv_padding"));
    }
    for code in [-1, 13, i32::MIN, i32::MAX] {
        let desc = sepconv_conv_desc { activation: code, ..pw };
        refused(desc, &format!("desc.activation: {code} is no value of sepconv_activation"));
    }
    let operator = separable();
    for (options, what) in [
        (sepconv_plan_options { threads: 4, ..plan_options() }, "options.threads: 4 is no value of sepconv_threads"),
        (sepconv_plan_options { threads: -1, ..plan_options() }, "options.threads: -1 is no value of sepconv_threads"),
        (sepconv_plan_options { max_isa: 6, ..plan_options() }, "options.max_isa: 6 is no value of sepconv_isa"),
        (sepconv_plan_options { max_isa: -7, ..plan_options() }, "options.max_isa: -7 is no value of sepconv_isa"),
        (sepconv_plan_options { fusion: 4, ..plan_options() }, "options.fusion: 4 is no value of sepconv_fusion"),
        (sepconv_plan_options { fusion: -1, ..plan_options() }, "options.fusion: -1 is no value of sepconv_fusion"),
        (
            sepconv_plan_options { input_layout: 2, ..plan_options() },
            "options.input_layout: 2 is no value of sepconv_layout",
        ),
        (
            sepconv_plan_options { output_layout: -1, ..plan_options() },
            "options.output_layout: -1 is no value of sepconv_layout",
        ),
    ] {
        let (status, text) = plan(&operator, INPUT, &options).unwrap_err();
        assert_eq!((status, text.as_str()), (sepconv_status::UnknownCode, what));
    }
    let plan = plan(&operator, INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let (values, mut written) = ([1.0; INPUT_LEN], [CANARY; OUTPUT_LEN]);
    let (from, to) = (input_at(values.as_ptr(), INPUT_LEN), output_at(written.as_mut_ptr(), OUTPUT_LEN));
    for layout in [-1, 2, i32::MIN, i32::MAX] {
        let (from_wrong, to_wrong) = (sepconv_input { layout, ..from }, sepconv_output { layout, ..to });
        for (from, to, what) in [(&from_wrong, &to, "input"), (&from, &to_wrong, "output")] {
            // SAFETY: slices, and handles that live.
            let refused = unsafe { sepconv_plan_run(plan.handle, from, to, scratch.handle) };
            assert_eq!(refused, sepconv_status::UnknownCode);
            assert_eq!(last_error(), format!("{what}.layout: {layout} is no value of sepconv_layout"));
        }
    }
    assert!(written.iter().all(|&v| is_canary(v)));
    let file = [0; 8];
    for order in [-1, 0, 3] {
        // SAFETY: 8 bytes.
        let network = make(sepconv_network_free, |n| unsafe {
            sepconv_network_mobilenet_v2(null(), file.as_ptr(), file.len(), order, n)
        });
        assert_eq!(status(network), sepconv_status::UnknownCode);
    }
    let mut config = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which are written.
    let config: sepconv_mobilenet_config = unsafe {
        done(sepconv_mobilenet_config_init(config.as_mut_ptr(), size_of::<sepconv_mobilenet_config>())).unwrap();
        config.assume_init()
    };
    for (config, what) in [
        (
            sepconv_mobilenet_config { stride_padding: 2, ..config },
            "config.stride_padding: 2 is no value of sepconv_stride_padding",
        ),
        (sepconv_mobilenet_config { output: 3, ..config }, "config.output: 3 is no value of sepconv_model_output"),
        (sepconv_mobilenet_config { output: -1, ..config }, "config.output: -1 is no value of sepconv_model_output"),
        (
            sepconv_mobilenet_config { activation: 2, ..config },
            "config.activation: 2 is no value of sepconv_model_activation",
        ),
    ] {
        // SAFETY: 8 bytes.
        let network = make(sepconv_network_free, |n| unsafe {
            sepconv_network_mobilenet_v1(&config, file.as_ptr(), file.len(), 1, n)
        });
        let (status, text) = network.map(drop).unwrap_err();
        assert_eq!((status, text.as_str()), (sepconv_status::UnknownCode, what));
    }
}

#[test]
fn a_struct_that_was_not_initialised_is_told() {
    let operator_of = |desc: &sepconv_conv_desc| operator(sepconv_pointwise_conv2d_new, desc);
    let whole = size_of::<sepconv_conv_desc>();
    let before_the_least = offset_of!(sepconv_conv_desc, clamp_max);
    for struct_size in [0, 8, before_the_least, whole - 1, whole + 1, 4097, usize::MAX] {
        let desc = sepconv_conv_desc { struct_size, ..pointwise(&MATRIX) };
        assert_eq!(status(operator_of(&desc)), sepconv_status::StructSize, "{struct_size}");
    }
    // one of a later version, which asks for nothing new, or for something
    #[repr(C)]
    struct Later(sepconv_conv_desc, u64);
    for (new, expected) in [(0, Ok(())), (1, Err(sepconv_status::StructSize))] {
        let mut desc = Later(pointwise(&MATRIX), new);
        desc.0.struct_size = size_of::<Later>();
        // SAFETY: as long as it says.
        let op =
            make(sepconv_operator_free, |op| unsafe { sepconv_pointwise_conv2d_new((&raw const desc).cast(), op) });
        assert_eq!(op.map(drop).map_err(|(status, _)| status), expected);
    }
    // a description of a program that knows no groups
    let struct_size = offset_of!(sepconv_conv_desc, groups);
    assert!(operator_of(&sepconv_conv_desc { struct_size, groups: 7, ..pointwise(&MATRIX) }).is_ok());
    // a description of a program whose header has no values for each channel
    let struct_size = offset_of!(sepconv_conv_desc, channel_slopes);
    assert!(operator_of(&sepconv_conv_desc { struct_size, channel_len: 7, ..pointwise(&MATRIX) }).is_ok());
    // options of a program that knows no layouts
    let struct_size = offset_of!(sepconv_plan_options, input_layout);
    let options = sepconv_plan_options { struct_size, input_layout: -1, output_layout: -1, ..plan_options() };
    assert!(plan(&separable(), INPUT, &options).is_ok());
    // zeros are no description
    let zeros = sepconv_conv_desc { stride_h: 0, ..pointwise(&MATRIX) };
    assert_eq!(status(operator(sepconv_conv2d_new, &zeros)), sepconv_status::Size);
}

#[test]
fn errors_of_the_library_have_their_status() {
    use sepconv_status as Status;
    let (dw, pw) = (depthwise(&TAPS), pointwise(&MATRIX));
    let depthwise = |desc: sepconv_conv_desc| status(operator(sepconv_depthwise_conv2d_new, &desc));
    let pointwise = |desc: sepconv_conv_desc| status(operator(sepconv_pointwise_conv2d_new, &desc));
    let explicit = sepconv_padding::Explicit as i32;

    assert_eq!(depthwise(sepconv_conv_desc { kernel_h: 0, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { input_channels: 0, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { output_channels: 0, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { dilation_w: 0, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { dilation_w: 1 << 30, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { padding: explicit, pad_left: usize::MAX, ..dw }), Status::Size);
    assert_eq!(depthwise(sepconv_conv_desc { filter_len: 35, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { kernel_h: usize::MAX, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { filter_len: usize::MAX, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { filter_len: isize::MAX as usize / 4 + 1, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { bias: TAPS.as_ptr(), bias_len: 3, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { bias: TAPS.as_ptr(), bias_len: usize::MAX / 4, ..dw }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { output_channels: 6, ..dw }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { filter_order: 1, ..dw }), Status::FilterOrder);
    let square = sepconv_conv_desc { filter_order: 5, filter_len: 4, output_channels: 4, ..pw };
    assert_eq!(pointwise(square), Status::FilterOrder);
    assert_eq!(pointwise(sepconv_conv_desc { stride_h: 2, ..pw }), Status::Value);
    // what was set and would not count
    assert_eq!(depthwise(sepconv_conv_desc { pad_top: 1, ..dw }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { clamp_max: 6.0, ..dw }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { clamp_min: f32::NAN, ..dw }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { leaky_slope: 0.1, ..dw }), Status::Value);
    let leaky = sepconv_conv_desc { activation: sepconv_activation::LeakyRelu as i32, ..dw };
    assert_eq!(depthwise(leaky), Status::Value, "a slope that was forgotten");
    assert!(operator(sepconv_depthwise_conv2d_new, &sepconv_conv_desc { leaky_slope: 0.1, ..leaky }).is_ok());
    let prelu = sepconv_conv_desc { activation: sepconv_activation::Prelu as i32, ..dw };
    let slopes = sepconv_conv_desc { channel_slopes: TAPS.as_ptr(), channel_len: 4, ..prelu };
    assert!(operator(sepconv_depthwise_conv2d_new, &slopes).is_ok());
    assert_eq!(depthwise(prelu), Status::NullPointer, "slopes that were forgotten");
    assert_eq!(depthwise(sepconv_conv_desc { channel_len: 3, ..slopes }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { channel_len: 0, ..slopes }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { channel_len: usize::MAX, ..slopes }), Status::Length);
    assert_eq!(depthwise(sepconv_conv_desc { channel_slopes: NANS.as_ptr(), ..slopes }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { channel_min: TAPS.as_ptr(), ..slopes }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { leaky_slope: 0.1, ..slopes }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { clamp_min: 0.0, ..slopes }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { activation: dw.activation, ..slopes }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { channel_len: 4, ..dw }), Status::Value);
    let bounds = sepconv_conv_desc {
        activation: sepconv_activation::ChannelClamp as i32,
        channel_min: TAPS.as_ptr(),
        channel_max: TAPS.as_ptr(),
        channel_len: 4,
        ..dw
    };
    assert!(operator(sepconv_depthwise_conv2d_new, &bounds).is_ok());
    assert_eq!(depthwise(sepconv_conv_desc { channel_max: null(), ..bounds }), Status::NullPointer);
    assert_eq!(depthwise(sepconv_conv_desc { channel_min: null(), ..bounds }), Status::NullPointer);
    assert_eq!(depthwise(sepconv_conv_desc { channel_min: LARGE.as_ptr(), ..bounds }), Status::Value);
    assert_eq!(depthwise(sepconv_conv_desc { channel_slopes: TAPS.as_ptr(), ..bounds }), Status::Value);
    let clamp = sepconv_conv_desc { activation: sepconv_activation::Clamp as i32, ..dw };
    assert_eq!(depthwise(sepconv_conv_desc { clamp_min: 2.0, clamp_max: 1.0, ..clamp }), Status::Value);
    let norm = sepconv_conv_desc {
        batch_norm_mean: TAPS.as_ptr(),
        batch_norm_variance: TAPS.as_ptr(),
        batch_norm_len: 4,
        ..dw
    };
    assert_eq!(depthwise(norm), Status::Value, "an epsilon that was forgotten");
    assert_eq!(depthwise(sepconv_conv_desc { batch_norm_len: 5, batch_norm_epsilon: 1e-3, ..norm }), Status::Length);
    let norm = sepconv_conv_desc { batch_norm_epsilon: 1e-3, ..norm };
    assert!(operator(sepconv_depthwise_conv2d_new, &norm).is_ok());
    let wide = sepconv_conv_desc { input_channels: 5, output_channels: 4, ..pw };
    // SAFETY: descriptions that point to what they say.
    let separable_of_wide = make(sepconv_operator_free, |op| unsafe { sepconv_separable_conv2d_new(&dw, &wide, op) });
    assert_eq!(status(separable_of_wide), Status::Channels);
    // SAFETY: no operators are read; a number of channels.
    unsafe {
        let none = [null::<sepconv_operator>()];
        let network = make(sepconv_network_free, |n| sepconv_network_new(none.as_ptr(), 0, n));
        assert_eq!(status(network), Status::Network);
        let network = make(sepconv_network_free, |n| sepconv_network_new(none.as_ptr(), usize::MAX, n));
        assert_eq!(status(network), Status::Length);
        // 4 channels to 5, and 4 again: the status is that of the layer's error, the text names the layer
        let five = operator(sepconv_pointwise_conv2d_new, &pw).unwrap();
        let operators = [five.handle.cast_const(); 2];
        let network = make(sepconv_network_free, |n| sepconv_network_new(operators.as_ptr(), 2, n));
        let (status_of, text) = network.unwrap_err();
        let expected = "layer 1 (pointwise convolution): input: expected 4 channels, got 5";
        assert_eq!((status_of, text.as_str()), (Status::Channels, expected));
        let network = make(sepconv_network_free, |n| sepconv_network_new(operators.as_ptr(), 1, n)).unwrap();
        let none = sepconv_shape { h: 0, ..INPUT };
        let plan = make(sepconv_plan_free, |p| sepconv_network_plan(network.handle, none, null(), p));
        assert_eq!(status(plan), Status::Size);
        let pool = make(sepconv_operator_free, |op| sepconv_global_average_pool_new(0, op));
        assert_eq!(status(pool), Status::Size);
        for threads in [0, 65, usize::MAX] {
            assert_eq!(status(make(sepconv_pool_free, |pool| sepconv_pool_new(threads, pool))), Status::Value);
        }
        let file = b"12345678 is no safetensors file";
        let network =
            make(sepconv_network_free, |n| sepconv_network_mobilenet_v1(null(), file.as_ptr(), file.len(), 1, n));
        assert_eq!(status(network), Status::Weights);
    }
}

#[test]
fn errors_of_plans_have_their_status() {
    use sepconv_status as Status;
    let (dw, operator) = (depthwise(&TAPS), separable());
    let planned = |shape, options: sepconv_plan_options| status(plan(&operator, shape, &options));
    assert_eq!(planned(sepconv_shape { w: 0, ..INPUT }, plan_options()), Status::Size);
    assert_eq!(planned(sepconv_shape { n: usize::MAX / 8, ..INPUT }, plan_options()), Status::Size);
    assert_eq!(planned(sepconv_shape { c: 5, ..INPUT }, plan_options()), Status::Channels);
    let mut written = OUTPUT;
    // SAFETY: an operator, and a shape.
    unsafe {
        let wrong = sepconv_operator_output_shape(operator.handle, OUTPUT, &mut written);
        assert_eq!((wrong, written), (Status::Channels, OUTPUT));
        done(sepconv_operator_output_shape(operator.handle, sepconv_shape { n: 9, ..INPUT }, &mut written)).unwrap();
        assert_eq!(written, sepconv_shape { n: 9, ..OUTPUT });
    }
    // a pool without being asked for
    // SAFETY: a number.
    let pool = make(sepconv_pool_free, |pool| unsafe { sepconv_pool_new(1, pool) }).unwrap();
    assert_eq!(planned(INPUT, sepconv_plan_options { pool: pool.handle, ..plan_options() }), Status::Value);
    // one stage, which no schedule fuses, and one whose taps lie far apart
    let alone = |desc| self::operator(sepconv_depthwise_conv2d_new, &desc).unwrap();
    for fusion in [sepconv_fusion::RowRing, sepconv_fusion::ChannelSlabs] {
        let options = sepconv_plan_options { fusion: fusion as i32, ..plan_options() };
        assert_eq!(status(plan(&alone(dw), INPUT, &options)), Status::Fusion);
    }
    // more taps than are read in place on any instruction set
    let (far, taps) = (1 << 24, [1.0; 5 * 5 * 4]);
    let explicit = sepconv_padding::Explicit as i32;
    let many = sepconv_conv_desc { filter: taps.as_ptr(), filter_len: taps.len(), kernel_h: 5, kernel_w: 5, ..dw };
    let apart = sepconv_conv_desc { dilation_h: far, dilation_w: far, padding: explicit, ..many };
    let far = 2 * far;
    let apart = sepconv_conv_desc { pad_top: far, pad_bottom: far, pad_left: far, pad_right: far, ..apart };
    let pixel = sepconv_shape { n: 1, h: 1, w: 1, c: 4 };
    assert_eq!(status(plan(&alone(apart), pixel, null())), Status::ScratchTooLarge);
}

fn explain(plan: &Plan) -> String {
    let mut length = 0;
    // SAFETY: a plan, and room for so many bytes.
    unsafe {
        done(sepconv_plan_explain(plan.handle, null_mut(), 0, &mut length)).unwrap();
        let mut text = vec![1u8; length + 1];
        done(sepconv_plan_explain(plan.handle, text.as_mut_ptr().cast(), text.len(), null_mut())).unwrap();
        assert_eq!(text.pop(), Some(0));
        String::from_utf8(text).unwrap()
    }
}

#[test]
fn a_plan_explains_itself_into_any_buffer() {
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let whole = explain(&plan);
    assert!(whole.contains("depthwise") && whole.contains('×') && whole.ends_with('\n'), "{whole}");
    for capacity in 0..whole.len() + 3 {
        let (mut text, mut length) = (vec![1u8; capacity + 1], 0);
        // SAFETY: a plan, and room for so many bytes.
        unsafe {
            let buffer = text.as_mut_ptr().cast();
            done(sepconv_plan_explain(plan.handle, buffer, capacity, &mut length)).unwrap();
        }
        assert_eq!((length, text[capacity]), (whole.len(), 1), "the byte behind the buffer");
        if capacity > 0 {
            let cut = CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap();
            assert!(whole.starts_with(cut));
            assert!(cut.len() + 4 >= capacity.min(whole.len() + 1), "{} of {capacity}", cut.len());
        }
    }
}

#[test]
fn a_plan_answers() {
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let (mut from, mut to) = (OUTPUT, INPUT);
    let (mut isa, mut arithmetic, mut macs, mut bytes) = (sepconv_isa::Best, sepconv_arithmetic::Fused, 0, 0);
    // SAFETY: a plan, and places for the answers.
    unsafe {
        done(sepconv_plan_input_shape(plan.handle, &mut from)).unwrap();
        done(sepconv_plan_output_shape(plan.handle, &mut to)).unwrap();
        done(sepconv_plan_isa(plan.handle, &mut isa)).unwrap();
        done(sepconv_plan_arithmetic(plan.handle, &mut arithmetic)).unwrap();
        done(sepconv_plan_macs(plan.handle, &mut macs)).unwrap();
        done(sepconv_plan_scratch_bytes(plan.handle, &mut bytes)).unwrap();
    }
    assert_eq!((from, to), (INPUT, OUTPUT));
    assert_eq!(macs, 6 * 7 * (9 * 4 + 4 * 5));
    assert!((1..1 << 20).contains(&bytes), "{bytes}");
    // SAFETY: static text.
    let name = unsafe { CStr::from_ptr(sepconv_isa_name(isa as i32)) }.to_str().unwrap();
    let expected = sepconv::PlanOptions::new().isa().unwrap();
    assert_eq!(name, expected.name());
    let separate = expected.arithmetic() == Arithmetic::Separate;
    assert_eq!(arithmetic == sepconv_arithmetic::Separate, separate);
}

#[test]
fn options_reach_the_plan() {
    let operator = separable();
    let planned = |options: sepconv_plan_options| explain(&plan(&operator, INPUT, &options).unwrap());
    // slabs that are not all channels
    let (taps, matrix) = ([0.5; 9 * 256], [0.5; 256 * 5]);
    let dw = sepconv_conv_desc { input_channels: 256, output_channels: 256, ..depthwise(&taps) };
    let pw = sepconv_conv_desc { input_channels: 256, ..pointwise(&matrix) };
    // SAFETY: the descriptions point to what they say.
    let wide = make(sepconv_operator_free, |op| unsafe { sepconv_separable_conv2d_new(&dw, &pw, op) }).unwrap();
    let fused = |fusion: sepconv_fusion| {
        let options = sepconv_plan_options { fusion: fusion as i32, ..plan_options() };
        explain(&plan(&wide, sepconv_shape { n: 1, h: 60, w: 60, c: 256 }, &options).unwrap())
    };
    assert!(fused(sepconv_fusion::RowRing).contains("; row ring, "), "{}", fused(sepconv_fusion::RowRing));
    let slabs = fused(sepconv_fusion::ChannelSlabs);
    assert!(slabs.contains("; channel slabs of "), "{slabs}");
    assert!(fused(sepconv_fusion::Never).contains(" not fused: "));
    for (common_bits, arithmetic) in [(0, "Separate"), (1, "Fused"), (-1, "Fused")] {
        let options = sepconv_plan_options { max_isa: sepconv_isa::Scalar as i32, common_bits, ..plan_options() };
        if common_bits != 0 && !has_common_bits(Isa::Scalar) {
            assert_eq!(plan(&operator, INPUT, &options).unwrap_err().0, sepconv_status::Isa);
            continue;
        }
        let text = planned(options);
        assert!(text.starts_with(&format!("scalar ({arithmetic} arithmetic), 1 thread,")), "{text}");
    }
    // work enough for two
    let large = sepconv_shape { h: 200, w: 200, ..INPUT };
    // SAFETY: a number.
    let pool = make(sepconv_pool_free, |pool| unsafe { sepconv_pool_new(2, pool) }).unwrap();
    let options = plan_options();
    let of_pool = sepconv_plan_options { threads: sepconv_threads::Pool as i32, pool: pool.handle, ..options };
    assert!(explain(&plan(&operator, large, &of_pool).unwrap()).contains("), 2 threads,"));
    assert!(explain(&plan(&operator, large, &options).unwrap()).contains("), 1 thread,"));
    let global = sepconv_plan_options { threads: sepconv_threads::Global as i32, ..options };
    let threads = sepconv::Threads::Global.count();
    let expected = if threads == 1 { "), 1 thread,".into() } else { format!("), {threads} threads,") };
    assert!(explain(&plan(&operator, large, &global).unwrap()).contains(&expected));
}

#[test]
fn memory_in_common_is_refused_before_anything_is_written() {
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let mut memory = vec![CANARY; 1000];
    // one pointer for both, as in C
    let start = memory.as_mut_ptr();
    let run = |from: usize, from_stride: usize, to: usize, to_stride: usize, lens: [usize; 2]| {
        // SAFETY: places within the memory.
        unsafe {
            let input = sepconv_input { strides: by_pixel(from_stride), ..input_at(start.add(from), lens[0]) };
            let output = sepconv_output { strides: by_pixel(to_stride), ..output_at(start.add(to), lens[1]) };
            sepconv_plan_run(plan.handle, &input, &output, scratch.handle)
        }
    };
    let exact = [INPUT_LEN, OUTPUT_LEN];
    let untouched = || {
        // SAFETY: the memory, which no call uses.
        let memory = unsafe { std::slice::from_raw_parts(start, 1000) };
        memory.iter().all(|&v| is_canary(v))
    };
    for (from, to) in [(0, 0), (0, INPUT_LEN - 1), (OUTPUT_LEN - 1, 0), (20, 10), (10, 20)] {
        assert_eq!(run(from, 0, to, 0, exact), sepconv_status::Overlap, "{from}, {to}");
    }
    // the channels of a concatenation, input and output between each other
    let span = |c: usize| 41 * 9 + c;
    assert_eq!(run(0, 9, 4, 9, [span(4), span(5)]), sepconv_status::Overlap);
    assert_eq!(run(5, 9, 0, 9, [span(4), span(5)]), sepconv_status::Overlap);
    assert_eq!(last_error(), "output: has memory in common with the input");
    assert!(untouched());
    // too short, strides too small, lengths that no memory has
    for (lens, strides, status) in [
        ([INPUT_LEN - 1, OUTPUT_LEN], [0, 0], sepconv_status::BufferTooShort),
        ([INPUT_LEN, OUTPUT_LEN - 1], [0, 0], sepconv_status::BufferTooShort),
        ([span(4) - 1, OUTPUT_LEN], [9, 0], sepconv_status::BufferTooShort),
        ([0, OUTPUT_LEN], [0, 0], sepconv_status::BufferTooShort),
        ([INPUT_LEN, OUTPUT_LEN], [0, 4], sepconv_status::Overlap),
        ([usize::MAX, OUTPUT_LEN], [0, 0], sepconv_status::Length),
        ([INPUT_LEN, isize::MAX as usize / 4 + 1], [0, 0], sepconv_status::Length),
        ([INPUT_LEN, OUTPUT_LEN], [usize::MAX, 0], sepconv_status::Size),
        ([INPUT_LEN, OUTPUT_LEN], [0, usize::MAX / 64], sepconv_status::Size),
    ] {
        assert_eq!(run(0, strides[0], 500, strides[1], lens), status, "{lens:?}, {strides:?}");
    }
    assert!(untouched());
    // next to each other is not in common, and memory behind the last value does not count; an input may lie upon itself
    assert_eq!(run(0, 3, 41 * 3 + 4, 0, [41 * 3 + 4, OUTPUT_LEN]), sepconv_status::Ok);
    assert_eq!(run(0, 0, INPUT_LEN, 0, exact), sepconv_status::Ok);
    assert_eq!(run(OUTPUT_LEN, 0, 0, 0, [1000 - OUTPUT_LEN, 1000]), sepconv_status::Ok);
}

#[test]
fn a_batch_of_no_images_may_lie_nowhere() {
    let empty = sepconv_shape { n: 0, ..INPUT };
    let plan = plan(&separable(), empty, null()).unwrap();
    let scratch = scratch(&plan);
    let mut output = [CANARY; 8];
    let to = output.as_mut_ptr();
    let run = |input: *const f32, input_len: usize, output: *mut f32, output_len: usize, stride: usize| {
        let to = sepconv_output { strides: by_pixel(stride), ..output_at(output, output_len) };
        // SAFETY: NULL, or memory of these lengths.
        unsafe { sepconv_plan_run(plan.handle, &input_at(input, input_len), &to, scratch.handle) }
    };
    let input = [1.0; 4];
    let from = input.as_ptr();
    assert_eq!(run(null(), 0, null_mut(), 0, 0), sepconv_status::Ok);
    assert_eq!(run(from, 0, to, 0, 0), sepconv_status::Ok);
    assert_eq!(run(from, 4, to, 8, 9), sepconv_status::Ok);
    assert_eq!(run(to, 8, to, 8, 0), sepconv_status::Ok, "nothing is in common");
    // no values of no pixels lie at one place
    assert_eq!(run(from, 4, to, 8, 4), sepconv_status::Ok);
    // a length that is not 0 is a promise
    assert_eq!(run(null(), 1, to, 0, 0), sepconv_status::NullPointer);
    assert_eq!(run(from, 4, null_mut(), 1, 0), sepconv_status::NullPointer);
    assert_eq!(run(from.cast::<u8>().wrapping_add(2).cast(), 0, to, 8, 0), sepconv_status::MisalignedPointer);
    let (mut shape, mut bytes) = (INPUT, 1);
    // SAFETY: a plan, and places for the answers.
    unsafe {
        done(sepconv_plan_output_shape(plan.handle, &mut shape)).unwrap();
        done(sepconv_plan_scratch_bytes(plan.handle, &mut bytes)).unwrap();
        assert!(output.iter().all(|&v| is_canary(v)));
    }
    assert_eq!((shape, bytes), (sepconv_shape { n: 0, ..OUTPUT }, 0));
    assert!(!explain(&plan).is_empty());
}

#[test]
fn scratch_serves_every_plan_that_needs_no_more() {
    let operator = separable();
    let [one, small] = [INPUT, sepconv_shape { h: 1, ..INPUT }].map(|shape| plan(&operator, shape, null()).unwrap());
    let (input, mut output) = ([1.0; INPUT_LEN], [CANARY; OUTPUT_LEN]);
    let refused = run(&one, (&input, 0), (&mut output, 0), &scratch(&small));
    assert_eq!(status(refused), sepconv_status::SmallScratch);
    assert!(output.iter().all(|&v| is_canary(v)));
    run(&small, (&input, 0), (&mut output, 0), &scratch(&one)).unwrap();
    assert!(!is_canary(output[0]));
}

#[test]
fn scratch_makes_room_for_one_plan_after_the_other() {
    let operator = separable();
    let plans = [1, 6, 3].map(|h| plan(&operator, sepconv_shape { h, ..INPUT }, null()).unwrap());
    // SAFETY: NULL is no plan yet.
    let scratch = make(sepconv_scratch_free, |s| unsafe { sepconv_scratch_new(null(), s) }).unwrap();
    let input = [1.0; INPUT_LEN];
    let run_all = |plans: &[Plan]| -> Vec<Result<(), Failed>> {
        plans.iter().map(|plan| run(plan, (&input, 0), (&mut [CANARY; OUTPUT_LEN], 0), &scratch)).collect()
    };
    for refused in run_all(&plans) {
        assert_eq!(status(refused), sepconv_status::SmallScratch);
    }
    for at in [0, 1, 2] {
        // SAFETY: handles that live.
        done(unsafe { sepconv_scratch_reserve(scratch.handle, plans[at].handle) }).unwrap();
        assert!(run_all(&plans[..=at]).iter().all(Result::is_ok));
    }
    assert!(run_all(&plans).iter().all(Result::is_ok));
}

/// The block of [`separable`] by the Rust API.
fn separable_of_rust() -> sepconv::SeparableConv2d {
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&TAPS, [3, 3, 4]));
    sepconv::SeparableConv2d::new(depthwise, ConvDesc::new(Filter::io(&MATRIX, [4, 5]))).unwrap()
}

/// Parts of larger tensors, as Rust's views have them and as C describes them.
#[test]
fn layouts_and_strides_are_those_of_rust() {
    // the whole tensors; the tensors are rows 1 to 6 and columns 2 to 8 of the images 1 and 2, from channel 1 on
    let [whole_in, whole_out] = [Shape::new(4, 9, 11, 7), Shape::new(4, 9, 11, 8)];
    let part = sepconv_shape { n: 2, ..INPUT };
    let first = |Strides { image, row, pixel, channel }| image + row + 2 * pixel + channel;
    let values = Rng(4).values(whole_in.len().unwrap(), ValueKind::Plain);
    for [from_layout, to_layout] in
        [Layout::Nhwc, Layout::Nchw].map(|a| [[a, Layout::Nhwc], [a, Layout::Nchw]]).concat()
    {
        let options = sepconv::PlanOptions::new().input_layout(from_layout).output_layout(to_layout);
        let rust = separable_of_rust().plan(Shape::new(2, 6, 7, 4), &options).unwrap();
        let (from, to) = (Strides::dense(from_layout, whole_in), Strides::dense(to_layout, whole_out));
        let mut expected = vec![CANARY; whole_out.len().unwrap()];
        let view = View::with_strides(&values, whole_in, from).unwrap();
        let view = view.images(1..3).unwrap().crop(1..7, 2..9).unwrap().channels(1..5).unwrap();
        let to_view = ViewMut::with_strides(&mut expected, whole_out, to).unwrap();
        let to_view = to_view.images(1..3).unwrap().crop(1..7, 2..9).unwrap().channels(1..6).unwrap();
        rust.run(view, to_view, &mut rust.scratch().unwrap()).unwrap();

        let options = sepconv_plan_options {
            input_layout: layout_code(from_layout),
            output_layout: layout_code(to_layout),
            ..plan_options()
        };
        let plan = plan(&separable(), part, &options).unwrap();
        let c = |Strides { image, row, pixel, channel }| sepconv_strides { image, row, pixel, channel };
        let mut got = vec![CANARY; expected.len()];
        let input = input_at(values[first(from)..].as_ptr(), values.len() - first(from));
        let input = sepconv_input { strides: c(from), ..input };
        let output = output_at(got[first(to)..].as_mut_ptr(), expected.len() - first(to));
        let output = sepconv_output { strides: c(to), ..output };
        // SAFETY: slices, and handles that live.
        done(unsafe { sepconv_plan_run(plan.handle, &input, &output, scratch(&plan).handle) }).unwrap();
        let same = got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{from_layout:?} to {to_layout:?}");
        let written = got.iter().filter(|&&v| !is_canary(v)).count();
        assert_eq!(written, 2 * OUTPUT_LEN);

        // strides that lead beyond any memory, or to one place twice; one value too few
        let refuse = |input: sepconv_input, output: sepconv_output, expected, what: &str| {
            // SAFETY: slices, and handles that live.
            let got = unsafe { sepconv_plan_run(plan.handle, &input, &output, scratch(&plan).handle) };
            assert_eq!(got, expected, "{what}: {}", last_error());
        };
        let far = sepconv_strides { row: usize::MAX / 2, ..c(from) };
        refuse(sepconv_input { strides: far, ..input }, output, sepconv_status::Size, "a far row");
        for strides in [
            sepconv_strides { row: to.pixel, pixel: to.pixel, ..c(to) },
            sepconv_strides { image: 1, ..c(to) },
            sepconv_strides { image: 8, row: 8, pixel: 8, channel: 1 },
        ] {
            refuse(input, sepconv_output { strides, ..output }, sepconv_status::Overlap, "two values at one place");
        }
        let [from_span, to_span] =
            [from.span(Shape::new(2, 6, 7, 4)).unwrap(), to.span(Shape::new(2, 6, 7, 5)).unwrap()];
        refuse(sepconv_input { len: from_span - 1, ..input }, output, sepconv_status::BufferTooShort, "input");
        refuse(input, sepconv_output { len: to_span - 1, ..output }, sepconv_status::BufferTooShort, "output");
        refuse(
            sepconv_input { len: from_span, ..input },
            sepconv_output { len: to_span, ..output },
            sepconv_status::Ok,
            "no value too few",
        );
    }
}

/// A plan for NHWC takes no planes, and tells so before it writes; a plan for NCHW takes pixels.
#[test]
fn a_plan_for_nhwc_takes_no_planes() {
    let operator = separable();
    let values = [1.0; INPUT_LEN];
    let (plane, pixel) = (layout_code(Layout::Nchw), layout_code(Layout::Nhwc));
    for (of_plan, of_input, of_output, expected) in [
        (pixel, plane, pixel, Err("input")),
        (pixel, pixel, plane, Err("output")),
        (plane, pixel, pixel, Ok(())),
        (plane, pixel, plane, Ok(())),
    ] {
        let options = sepconv_plan_options { input_layout: of_plan, output_layout: of_plan, ..plan_options() };
        let plan = plan(&operator, INPUT, &options).unwrap();
        let mut written = [CANARY; OUTPUT_LEN];
        let input = sepconv_input { layout: of_input, ..input_at(values.as_ptr(), INPUT_LEN) };
        let output = sepconv_output { layout: of_output, ..output_at(written.as_mut_ptr(), OUTPUT_LEN) };
        // SAFETY: slices, and handles that live.
        let got = done(unsafe { sepconv_plan_run(plan.handle, &input, &output, scratch(&plan).handle) });
        match expected {
            Ok(()) => got.unwrap(),
            Err(what) => {
                let (status, text) = got.unwrap_err();
                assert_eq!(status, sepconv_status::Layout);
                assert!(text.starts_with(&format!("{what}: the plan is for Nhwc")), "{text}");
                assert!(written.iter().all(|&v| is_canary(v)));
            }
        }
    }
}

#[test]
fn tensors_that_were_not_initialised_are_told() {
    let plan = plan(&separable(), INPUT, null()).unwrap();
    let scratch = scratch(&plan);
    let (values, mut written) = ([1.0; INPUT_LEN], [CANARY; OUTPUT_LEN]);
    let (from, to) = (input_at(values.as_ptr(), INPUT_LEN), output_at(written.as_mut_ptr(), OUTPUT_LEN));
    assert_eq!((from.data, from.len, from.layout, from.strides), (values.as_ptr(), INPUT_LEN, 0, DENSE));
    assert_eq!((to.len, to.layout, to.strides), (OUTPUT_LEN, 0, DENSE));
    for struct_size in [0, 8, 56, 63, 65, 4104] {
        for (from, to) in [(sepconv_input { struct_size, ..from }, to), (from, sepconv_output { struct_size, ..to })] {
            // SAFETY: slices, and handles that live.
            let refused = unsafe { sepconv_plan_run(plan.handle, &from, &to, scratch.handle) };
            assert_eq!(refused, sepconv_status::StructSize, "{struct_size}");
        }
    }
    assert!(written.iter().all(|&v| is_canary(v)));
    let mut short = from;
    // SAFETY: a struct, which is left as it is.
    let refused = unsafe { sepconv_input_init(&mut short, 56, null(), 7) };
    assert_eq!((refused, short.data, short.len), (sepconv_status::StructSize, from.data, INPUT_LEN));
}

#[test]
fn runs_take_memory_of_the_caller() {
    let (operator, input) = (separable(), Rng(3).values(INPUT_LEN, ValueKind::Plain));
    let small = plan(&operator, INPUT, null()).unwrap();
    let mut expected = [0.0; OUTPUT_LEN];
    run(&small, (&input, 0), (&mut expected, 0), &scratch(&small)).unwrap();
    let mut bytes = 0;
    // SAFETY: a plan, and a place for the answer.
    done(unsafe { sepconv_plan_scratch_bytes(small.handle, &mut bytes) }).unwrap();
    assert!(bytes > 0 && bytes.is_multiple_of(SEPCONV_SCRATCH_ALIGNMENT));
    // one piece for all, as an engine has it: memory, input, output
    let values = bytes / 4 + 64;
    let mut arena = vec![CANARY; values + INPUT_LEN + OUTPUT_LEN];
    let start = arena.as_mut_ptr();
    let skip = start.cast::<u8>().align_offset(SEPCONV_SCRATCH_ALIGNMENT);
    // SAFETY: places within the arena.
    let (from, to) = unsafe {
        start.add(values).copy_from_nonoverlapping(input.as_ptr(), INPUT_LEN);
        (input_at(start.add(values), INPUT_LEN), output_at(start.add(values + INPUT_LEN), OUTPUT_LEN))
    };
    let in_memory = |at: usize, len: usize| {
        let memory = start.cast::<u8>().wrapping_add(at).cast::<c_void>();
        // SAFETY: the arena, of which a run that is refused uses nothing.
        unsafe { sepconv_plan_run_in(small.handle, null(), &from, &to, memory, len) }
    };
    let output = || -> Vec<f32> {
        // SAFETY: the output, which no call uses.
        unsafe { std::slice::from_raw_parts(to.data.cast_const(), OUTPUT_LEN) }.to_vec()
    };
    let untouched = || output().into_iter().all(is_canary);
    // too short, from an aligned address and from one that is not
    assert_eq!(in_memory(skip, bytes - 1), sepconv_status::SmallScratch);
    assert_eq!(in_memory(skip + 1, bytes), sepconv_status::SmallScratch);
    assert_eq!(in_memory(skip + 1, bytes + 62), sepconv_status::SmallScratch);
    assert_eq!(in_memory(skip, 0), sepconv_status::SmallScratch);
    assert_eq!(in_memory(skip, usize::MAX), sepconv_status::Length);
    assert_eq!(in_memory(skip, isize::MAX as usize + 1), sepconv_status::Length);
    // SAFETY: NULL with no bytes.
    let nowhere = unsafe { sepconv_plan_run_in(small.handle, null(), &from, &to, null_mut(), 0) };
    assert_eq!(nowhere, sepconv_status::SmallScratch);
    // over the first byte of the input, over its last, over all of both, inside of the output
    for (at, len, with) in [
        (0, values * 4 + 1, "input"),
        ((values + INPUT_LEN) * 4 - 1, 1, "input"),
        (0, arena.len() * 4, "input"),
        ((values + INPUT_LEN) * 4, 64, "output"),
        ((values + INPUT_LEN + OUTPUT_LEN) * 4 - 1, 1, "output"),
    ] {
        assert_eq!(in_memory(at, len), sepconv_status::Overlap);
        assert_eq!(last_error(), format!("memory: has memory in common with the {with}"));
    }
    assert!(untouched());
    for (at, len) in [(skip, bytes), (skip + 1, bytes + 63), (skip + 63, bytes + 1), (0, values * 4)] {
        assert_eq!(in_memory(at, len), sepconv_status::Ok, "{at}, {len}");
        assert_eq!(output(), expected);
        // SAFETY: the output, which no call uses.
        unsafe { std::slice::from_raw_parts_mut(to.data, OUTPUT_LEN) }.fill(CANARY);
    }
    // a batch of no images needs no memory
    let empty = plan(&operator, sepconv_shape { n: 0, ..INPUT }, null()).unwrap();
    let (from, to) = (input_at(null(), 0), output_at(null_mut(), 0));
    // SAFETY: NULL with no bytes.
    done(unsafe { sepconv_plan_run_in(empty.handle, null(), &from, &to, null_mut(), 0) }).unwrap();
    // threads of the plan, and others
    // SAFETY: a number.
    let pool = make(sepconv_pool_free, |pool| unsafe { sepconv_pool_new(2, pool) }).unwrap();
    let threads = sepconv_threads::Pool as i32;
    let of_pool = sepconv_plan_options { threads, pool: pool.handle, max_threads: 2, ..plan_options() };
    let mut calls = AtomicUsize::new(0);
    let custom = sepconv_plan_options {
        threads: sepconv_threads::Custom as i32,
        parallel_for: Some(scoped),
        parallel_context: (&raw mut calls).cast(),
        parallel_threads: 2,
        ..plan_options()
    };
    let large = sepconv_shape { h: 100, w: 100, ..INPUT };
    let values = Rng(7).values(40_000, ValueKind::Plain);
    let mut expected = vec![0.0; 50_000];
    let serial = plan(&operator, large, null()).unwrap();
    run(&serial, (&values, 0), (&mut expected, 0), &scratch(&serial)).unwrap();
    let shared = plan(&operator, large, &of_pool).unwrap();
    for options in [null(), &raw const custom, &raw const of_pool] {
        let mut got = vec![CANARY; 50_000];
        run_in(&shared, options, &input_at(values.as_ptr(), 40_000), &output_at(got.as_mut_ptr(), 50_000)).unwrap();
        assert!(got == expected);
    }
    assert!(calls.into_inner() > 0);
}

/// A network of [`separable`] and a pool, and a cache.
fn cached(plans: usize) -> (Owned<sepconv_network>, Owned<sepconv_plan_cache>) {
    let operator = separable();
    // SAFETY: operators that live; default options.
    unsafe {
        let layers = [operator.handle.cast_const()];
        let network = make(sepconv_network_free, |n| sepconv_network_new(layers.as_ptr(), 1, n)).unwrap();
        (network, make(sepconv_plan_cache_free, |cache| sepconv_plan_cache_new(null(), plans, cache)).unwrap())
    }
}

fn cache_len(cache: &Owned<sepconv_plan_cache>) -> usize {
    let mut len = usize::MAX;
    // SAFETY: a cache, and a place for the answer.
    done(unsafe { sepconv_plan_cache_len(cache.handle, &mut len) }).unwrap();
    len
}

#[test]
fn threads_share_a_plan_cache() {
    struct SharedCache<'a>(&'a Owned<sepconv_network>, &'a Owned<sepconv_plan_cache>);
    // SAFETY: what the header promises.
    unsafe impl Sync for SharedCache<'_> {}
    let (network, cache) = cached(3);
    let shared = &SharedCache(&network, &cache);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let &SharedCache(network, cache) = shared;
                let rng = &mut Rng(thread);
                for i in 0..40 {
                    let shape = sepconv_shape { n: 1, h: 1 + i % 5, w: 3 + i % 2, c: 4 };
                    let layouts = [i / 2, i / 4].map(|i| [Layout::Nhwc, Layout::Nchw][i % 2]);
                    let (in_shape, out_shape) =
                        (Shape::new(1, shape.h, shape.w, 4), Shape::new(1, shape.h, shape.w, 5));
                    let rust = separable_of_rust().plan(in_shape, &sepconv::PlanOptions::new()).unwrap();
                    let (values, mut expected) = (rng.values(shape.h * shape.w * 4, ValueKind::Plain), [0.0; 125]);
                    rust.run(
                        View::new(&values, in_shape).unwrap(),
                        ViewMut::new(&mut expected, out_shape).unwrap(),
                        &mut rust.scratch().unwrap(),
                    )
                    .unwrap();
                    let frames = layouts.map(Frame::of);
                    let placed = frames[0].write(&values, in_shape);
                    let mut got = vec![CANARY; shape.h * shape.w * 5];
                    let [layout, to_layout] = layouts.map(layout_code);
                    let from = sepconv_input { layout, ..input_at(placed.as_ptr(), placed.len()) };
                    let to = sepconv_output { layout: to_layout, ..output_at(got.as_mut_ptr(), got.len()) };
                    // SAFETY: slices, and handles that live.
                    done(unsafe { sepconv_plan_cache_run(cache.handle, network.handle, shape, &from, &to) }).unwrap();
                    assert_eq!(frames[1].read(&got, out_shape), expected[..got.len()]);
                    // 0 where another thread has cleared it since
                    assert!(cache_len(cache) <= 3);
                    if i % 16 == 15 {
                        // SAFETY: a cache, which others run by.
                        done(unsafe { sepconv_plan_cache_clear(cache.handle) }).unwrap();
                    }
                }
            });
        }
    });
    // SAFETY: a cache.
    done(unsafe { sepconv_plan_cache_clear(cache.handle) }).unwrap();
    assert_eq!(cache_len(&cache), 0);
}

#[test]
fn a_plan_cache_checks_its_arguments() {
    let (network, cache) = cached(0);
    let (values, mut written) = ([1.0; INPUT_LEN], [CANARY; OUTPUT_LEN]);
    let (from, to) = (input_at(values.as_ptr(), INPUT_LEN), output_at(written.as_mut_ptr(), OUTPUT_LEN));
    let run = |shape, from: &sepconv_input, to: &sepconv_output| {
        // SAFETY: slices, and handles that live.
        unsafe { sepconv_plan_cache_run(cache.handle, network.handle, shape, from, to) }
    };
    assert_eq!(run(sepconv_shape { c: 5, ..INPUT }, &from, &to), sepconv_status::Channels);
    assert_eq!(run(sepconv_shape { h: 0, ..INPUT }, &from, &to), sepconv_status::Size);
    assert_eq!(run(sepconv_shape { h: 7, ..INPUT }, &from, &to), sepconv_status::BufferTooShort);
    assert_eq!(run(INPUT, &from, &sepconv_output { len: OUTPUT_LEN - 1, ..to }), sepconv_status::BufferTooShort);
    let twice = sepconv_output { strides: by_pixel(4), ..to };
    assert_eq!(run(INPUT, &from, &twice), sepconv_status::Overlap);
    assert_eq!(run(INPUT, &input_at(to.data, INPUT_LEN), &to), sepconv_status::Overlap);
    assert_eq!(cache_len(&cache), 0, "no plan for what is refused");
    // SAFETY: the output, which no call uses.
    assert!(unsafe { std::slice::from_raw_parts(to.data.cast_const(), OUTPUT_LEN) }.iter().all(|&v| is_canary(v)));
    assert_eq!(run(INPUT, &from, &to), sepconv_status::Ok);
    assert_eq!(run(sepconv_shape { h: 2, ..INPUT }, &from, &to), sepconv_status::Ok);
    assert_eq!(cache_len(&cache), 1, "a cache of 0 plans holds one");
    let nothing = (input_at(null(), 0), output_at(null_mut(), 0));
    assert_eq!(run(sepconv_shape { n: 0, ..INPUT }, &nothing.0, &nothing.1), sepconv_status::Ok);
    // options are read when the cache is made
    let wrong = sepconv_plan_options { fusion: 9, ..plan_options() };
    // SAFETY: options.
    let refused = make(sepconv_plan_cache_free, |c| unsafe { sepconv_plan_cache_new(&wrong, 1, c) });
    assert_eq!(status(refused), sepconv_status::UnknownCode);
}

/// What was made of something lives on without it; a plan is run by many threads at once.
#[test]
fn owners_may_go_in_any_order_and_threads_share_a_plan() {
    let rng = &mut Rng(1);
    let (taps, matrix) = (rng.values(36, ValueKind::Plain), rng.values(20, ValueKind::Plain));
    let (dw, pw) = (depthwise(&taps), pointwise(&matrix));
    // SAFETY: descriptions that point to what they say; operators that live.
    let (plan, scratches) = unsafe {
        let op = make(sepconv_operator_free, |op| sepconv_separable_conv2d_new(&dw, &pw, op)).unwrap();
        let pool_op = make(sepconv_operator_free, |op| sepconv_global_average_pool_new(5, op)).unwrap();
        let layers = [op.handle.cast_const(), pool_op.handle.cast_const()];
        let network = make(sepconv_network_free, |n| sepconv_network_new(layers.as_ptr(), 2, n)).unwrap();
        drop((op, pool_op));
        let pool = make(sepconv_pool_free, |pool| sepconv_pool_new(3, pool)).unwrap();
        let threads = sepconv_threads::Pool as i32;
        let options = sepconv_plan_options { pool: pool.handle, threads, ..plan_options() };
        let plan = make(sepconv_plan_free, |p| sepconv_network_plan(network.handle, INPUT, &options, p)).unwrap();
        drop((network, pool));
        let scratches = [(); 4].map(|()| scratch(&plan));
        (plan, scratches)
    };
    let input = rng.values(INPUT_LEN, ValueKind::Plain);
    let mut once = [0.0; 5];
    run(&plan, (&input, 0), (&mut once, 0), &scratches[0]).unwrap();

    // a plan may be shared, and a scratch handed over
    struct SharedPlan<'a>(&'a Plan, &'a Owned<sepconv_scratch>);
    // SAFETY: what the header promises.
    unsafe impl Send for SharedPlan<'_> {}
    std::thread::scope(|scope| {
        for scratch in &scratches {
            let (shared, input) = (SharedPlan(&plan, scratch), &input);
            scope.spawn(move || {
                let SharedPlan(plan, scratch) = { shared };
                for _ in 0..50 {
                    let mut output = [CANARY; 5];
                    run(plan, (input, 0), (&mut output, 0), scratch).unwrap();
                    assert_eq!(output.map(f32::to_bits), once.map(f32::to_bits));
                }
            });
        }
    });
    drop(plan);
    drop(scratches);
}

/// A description in C of a stage of a problem.
fn describe(stage: &Stage, order: FilterOrder, filter: &[f32]) -> sepconv_conv_desc {
    let ([kernel_h, kernel_w], [stride_h, stride_w]) = (stage.kernel(), stage.strides());
    let [dilation_h, dilation_w] = stage.dilations();
    let filter_order = match order {
        FilterOrder::Hwio if stage.kind() == StageKind::Depthwise => sepconv_filter_order::DepthwiseHwcm,
        _ if stage.kind() == StageKind::Depthwise => sepconv_filter_order::DepthwiseC1hw,
        FilterOrder::Hwio => sepconv_filter_order::Hwio,
        FilterOrder::Oihw => sepconv_filter_order::Oihw,
        _ => sepconv_filter_order::Ohwi,
    };
    let mut desc = sepconv_conv_desc {
        filter: filter.as_ptr(),
        filter_len: filter.len(),
        filter_order: filter_order as i32,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        input_channels: stage.input_shape().c,
        output_channels: stage.output_shape().c,
        ..conv_desc()
    };
    match stage.case().padding {
        Padding::Same => desc.padding = sepconv_padding::Same as i32,
        Padding::Valid => desc.padding = sepconv_padding::Valid as i32,
        Padding::Explicit { top, bottom, left, right } => {
            desc.padding = sepconv_padding::Explicit as i32;
            (desc.pad_top, desc.pad_bottom, desc.pad_left, desc.pad_right) = (top, bottom, left, right);
        }
        other => panic!("no padding of C: {other:?}"),
    }
    match stage.activation() {
        Activation::Linear => desc.activation = sepconv_activation::Linear as i32,
        Activation::Relu => desc.activation = sepconv_activation::Relu as i32,
        Activation::Relu6 => desc.activation = sepconv_activation::Relu6 as i32,
        Activation::Clamp { min, max } => {
            desc.activation = sepconv_activation::Clamp as i32;
            (desc.clamp_min, desc.clamp_max) = (min, max);
        }
        Activation::HardSwish => desc.activation = sepconv_activation::HardSwish as i32,
        Activation::HardSigmoid => desc.activation = sepconv_activation::HardSigmoid as i32,
        Activation::Sigmoid => desc.activation = sepconv_activation::Sigmoid as i32,
        Activation::Silu => desc.activation = sepconv_activation::Silu as i32,
        Activation::Tanh => desc.activation = sepconv_activation::Tanh as i32,
        Activation::Gelu => desc.activation = sepconv_activation::Gelu as i32,
        Activation::LeakyRelu { slope } => {
            desc.activation = sepconv_activation::LeakyRelu as i32;
            desc.leaky_slope = slope;
        }
        other => panic!("no activation of C: {other:?}"),
    }
    set_by_channel(&mut desc, stage.channel_activation());
    if let Some(bias) = stage.bias() {
        (desc.bias, desc.bias_len) = (bias.as_ptr(), bias.len());
    }
    if let Some(norm) = stage.batch_norm() {
        desc.batch_norm_gamma = norm.gamma.map_or(null(), <[f32]>::as_ptr);
        desc.batch_norm_beta = norm.beta.map_or(null(), <[f32]>::as_ptr);
        desc.batch_norm_mean = norm.mean.as_ptr();
        desc.batch_norm_variance = norm.variance.as_ptr();
        desc.batch_norm_len = norm.mean.len();
        desc.batch_norm_epsilon = norm.epsilon;
    }
    desc
}

/// Sets an activation by channel.
fn set_by_channel(desc: &mut sepconv_conv_desc, activation: Option<ChannelActivation<'_>>) {
    match activation {
        None => {}
        Some(ChannelActivation::PRelu { slopes }) => {
            desc.activation = sepconv_activation::Prelu as i32;
            (desc.channel_slopes, desc.channel_len) = (slopes.as_ptr(), slopes.len());
        }
        Some(ChannelActivation::Clamp { min, max }) => {
            desc.activation = sepconv_activation::ChannelClamp as i32;
            (desc.channel_min, desc.channel_max, desc.channel_len) = (min.as_ptr(), max.as_ptr(), min.len());
        }
        other => panic!("no activation of C: {other:?}"),
    }
}

/// The operators of a problem, through C.
fn operators(problem: &Problem) -> Result<Vec<Operator>, Failed> {
    const ORDERS: [FilterOrder; 3] = [FilterOrder::Hwio, FilterOrder::Oihw, FilterOrder::Ohwi];
    let stages = problem.stages();
    let at = Cell::new(0);
    // a description, and the values that it points to
    let next = || {
        let stage = &stages[at.replace(at.get() + 1)];
        let order = ORDERS[stage.case().seed as usize % if stage.case().depthwise { 2 } else { 3 }];
        let filter = stage.filter(order);
        (describe(stage, order, &filter), filter)
    };
    let of_one = |new: NewOfOne| {
        let (desc, _filter) = next();
        operator(new, &desc)
    };
    let ops = problem.case().ops().map(|op| match op {
        Op::Conv2d(_) => of_one(sepconv_conv2d_new),
        Op::Depthwise(_) => of_one(sepconv_depthwise_conv2d_new),
        Op::Pointwise(_) => of_one(sepconv_pointwise_conv2d_new),
        Op::Dense(_) => of_one(sepconv_dense_new),
        Op::Separable { .. } => {
            let [(depthwise, _a), (pointwise, _b)] = [next(), next()];
            // SAFETY: descriptions that point to what they say.
            make(sepconv_operator_free, |op| unsafe { sepconv_separable_conv2d_new(&depthwise, &pointwise, op) })
        }
        Op::InvertedResidual { expand, shortcut, .. } => {
            let expand = expand.as_ref().map(|_| next());
            let [(depthwise, _a), (project, _b)] = [next(), next()];
            let expand = expand.as_ref().map_or(null(), |(desc, _)| &raw const *desc);
            let shortcut = i32::from(*shortcut);
            // SAFETY: descriptions that point to what they say.
            make(sepconv_operator_free, |op| unsafe {
                sepconv_inverted_residual_new(expand, &depthwise, &project, shortcut, op)
            })
        }
        Op::AveragePool => {
            let channels = stages[at.replace(at.get() + 1)].input_shape().c;
            // SAFETY: a number.
            make(sepconv_operator_free, |op| unsafe { sepconv_global_average_pool_new(channels, op) })
        }
        other => panic!("an operator that the library does not have: {other:?}"),
    });
    ops.collect()
}

/// A loop of the caller's over threads of its own. The context counts its calls.
unsafe extern "C" fn scoped(context: *mut c_void, count: usize, task: sepconv_task, task_context: *mut c_void) {
    struct SharedTask(*mut c_void);
    // SAFETY: the library says that tasks may be called from any thread.
    unsafe impl Sync for SharedTask {}
    let shared = &SharedTask(task_context);
    // SAFETY: the context of the options.
    unsafe { &*context.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for i in 0..count {
            // SAFETY: the context that came with the task, which has not returned.
            scope.spawn(move || unsafe { task.unwrap()(shared.0, i) });
        }
    });
}

/// A way to run: a level, a fusion that can always be had, threads, how tensors lie, and whether in memory of the caller's.
type Way = (usize, i32, usize, [Frame; 2], bool);

/// The strides of a frame, 0 where there is no gap.
fn strides_of(frame: Frame, shape: Shape) -> (i32, sepconv_strides) {
    let layout = if frame.order == Frame::NCHW { sepconv_layout::Nchw } else { sepconv_layout::Nhwc };
    let Strides { image, row, pixel, channel } = frame.strides(shape);
    let mut strides = [image, row, pixel, channel];
    frame.order.into_iter().zip(frame.gaps).filter(|&(_, gap)| gap == 0).for_each(|(axis, _)| strides[axis] = 0);
    let [image, row, pixel, channel] = strides;
    (layout as i32, sepconv_strides { image, row, pixel, channel })
}

fn layout_code(layout: Layout) -> i32 {
    match layout {
        Layout::Nhwc => sepconv_layout::Nhwc as i32,
        Layout::Nchw => sepconv_layout::Nchw as i32,
        other => panic!("no layout of C: {other:?}"),
    }
}

/// Runs a plan in memory of the caller's that begins anywhere, and has as many bytes as it needs to.
fn run_in(
    plan: &Plan,
    options: *const sepconv_plan_options,
    from: &sepconv_input,
    to: &sepconv_output,
) -> Result<(), Failed> {
    let mut bytes = 0;
    // SAFETY: a plan, descriptions and options of the caller's, and memory of this function's.
    unsafe {
        done(sepconv_plan_scratch_bytes(plan.handle, &mut bytes))?;
        let mut memory = vec![0xffu8; bytes + SEPCONV_SCRATCH_ALIGNMENT - 1];
        done(sepconv_plan_run_in(plan.handle, options, from, to, memory.as_mut_ptr().cast(), memory.len()))
    }
}

/// Runs a problem through C in every way that is drawn, and compares bits with the reference.
fn equals_the_reference(
    problem: &Problem,
    (level, fusion, threads, frames, in_memory): Way,
) -> Result<(), TestCaseError> {
    let fail = |(status, text): Failed| TestCaseError::fail(format!("{status:?}: {text}"));
    let operators = operators(problem).map_err(fail)?;
    let handles: Vec<_> = operators.iter().map(|op| op.handle.cast_const()).collect();
    let level = LEVELS[level % LEVELS.len()];
    // SAFETY: a number.
    let pool = make(sepconv_pool_free, |pool| unsafe { sepconv_pool_new(threads, pool) }).map_err(fail)?;
    let mut options = plan_options();
    options.max_isa = 1 + Isa::ALL.iter().position(|isa| *isa == level.isa).unwrap() as i32;
    options.common_bits = i32::from(level.common_bits);
    options.fusion = fusion;
    options.max_threads = threads;
    [options.input_layout, options.output_layout] = frames.map(|frame| layout_code(frame.layout()));
    let mut calls = AtomicUsize::new(0);
    match threads {
        1 => {}
        2 => (options.threads, options.pool) = (sepconv_threads::Pool as i32, pool.handle),
        _ => {
            options.threads = sepconv_threads::Custom as i32;
            options.parallel_for = Some(scoped);
            (options.parallel_context, options.parallel_threads) = ((&raw mut calls).cast(), threads);
        }
    }
    let (from, to) = (shape(problem.input_shape()), shape(problem.output_shape()));
    // SAFETY: operators and options that live.
    let plan = unsafe {
        let network = make(sepconv_network_free, |n| sepconv_network_new(handles.as_ptr(), handles.len(), n));
        let network = network.map_err(fail)?;
        let (mut made, mut planned) = (from, from);
        done(sepconv_network_output_shape(network.handle, from, &mut made)).map_err(fail)?;
        let plan = make(sepconv_plan_free, |plan| sepconv_network_plan(network.handle, from, &options, plan));
        let plan = plan.map_err(fail)?;
        done(sepconv_plan_output_shape(plan.handle, &mut planned)).map_err(fail)?;
        prop_assert_eq!((made, planned), (to, to));
        let mut isa = sepconv_isa::Best;
        done(sepconv_plan_isa(plan.handle, &mut isa)).map_err(fail)?;
        prop_assert_eq!(isa as i32, options.max_isa);
        plan
    };
    let expected = reference(problem, level.arithmetic).data;
    let [input_shape, output_shape] = [problem.input_shape(), problem.output_shape()];
    let input = frames[0].write(problem.input(), input_shape);
    let mut output = vec![CANARY; frames[1].strides(output_shape).span(output_shape).unwrap()];
    let ((layout, strides), (to_layout, to_strides)) =
        (strides_of(frames[0], input_shape), strides_of(frames[1], output_shape));
    let from = sepconv_input { layout, strides, ..input_at(input.as_ptr(), input.len()) };
    let to = output_at(output.as_mut_ptr(), output.len());
    let to = sepconv_output { layout: to_layout, strides: to_strides, ..to };
    if in_memory {
        run_in(&plan, null(), &from, &to).map_err(fail)?;
    } else {
        // SAFETY: slices, and handles that live.
        done(unsafe { sepconv_plan_run(plan.handle, &from, &to, scratch(&plan).handle) }).map_err(fail)?;
    }
    let got = frames[1].read(&output, output_shape);
    for (at, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
        prop_assert!(same_bits(got, expected), "{}: expected {:e}, got {:e}\n{}", at, expected, got, explain(&plan));
    }
    let written = output.iter().filter(|&&v| !is_canary(v)).count();
    prop_assert_eq!(written, got.len(), "values beside the output are left alone");
    Ok(())
}

fn ways() -> impl Strategy<Value = Way> {
    let gap = || prop_oneof![3 => Just(0usize), 1 => 1usize..=3];
    // the channels of a pixel mostly lie together, and so do the pixels of a row of planes
    let gaps = (prop_oneof![9 => Just(0usize), 1 => 1usize..=2], gap(), gap(), gap());
    let order = prop_oneof![Just(Frame::NHWC), Just(Frame::NCHW)];
    let frame = (order, gaps).prop_map(|(order, (a, b, c, d))| Frame { offset: 0, order, gaps: [a, b, c, d] });
    (0..8usize, 0..2, 1..=3usize, [frame.clone(), frame], proptest::bool::ANY)
}

#[test]
fn bits_are_those_of_the_reference() {
    for (cases, many) in [
        (Cases::conv2d(), 128),
        (Cases::depthwise(), 192),
        (Cases::pointwise(), 128),
        (Cases::dense(), 64),
        (Cases::separable(), 192),
        (Cases::inverted_residual(), 192),
        (Cases::average_pool(), 32),
        (Cases::chain(), 128),
    ] {
        let strategy = (cases.max_macs(200_000), ways());
        for_each_case(many, &strategy, |(case, ways)| {
            equals_the_reference(&Problem::new(&case, Layout::Nhwc).unwrap(), ways)
        });
    }
}

type NewMobilenet = unsafe extern "C" fn(
    *const sepconv_mobilenet_config,
    *const u8,
    usize,
    i32,
    *mut *mut sepconv_network,
) -> sepconv_status;

/// The model's weights as a file of floats of every type, with a batch norm behind each bias, so that its epsilon counts.
fn file_of_weights(architecture: &Architecture) -> Vec<u8> {
    use safetensors::Dtype;
    let narrowed = |dtype, v: f32| match dtype {
        Dtype::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    };
    let weights = Weights::seeded(architecture, 3).unwrap();
    let mut tensors = Vec::new();
    for (name, shape) in weights.tensors() {
        let values = weights.values(name).unwrap();
        let mut push = |name: String, values: &[f32]| {
            let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][tensors.len() % 3];
            let bytes: Vec<u8> = values.iter().flat_map(|&v| narrowed(dtype, v)).collect();
            tensors.push((name, dtype, shape.to_vec(), bytes));
        };
        push(name.to_string(), &values);
        if let Some(layer) = name.strip_suffix("bias") {
            push(format!("{layer}mean"), &values);
            push(format!("{layer}variance"), &vec![1e-4; values.len()]);
        }
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn mobilenets_from_a_file_are_those_of_rust() {
    let config = Config::new().alpha(0.1).classes(7).epsilon(1e-5).padding(StridePadding::Symmetric);
    let mut c = MaybeUninit::uninit();
    // SAFETY: so many bytes, all of which are written.
    let mut c: sepconv_mobilenet_config = unsafe {
        done(sepconv_mobilenet_config_init(c.as_mut_ptr(), size_of::<sepconv_mobilenet_config>())).unwrap();
        c.assume_init()
    };
    assert_eq!((c.classes, c.alpha, c.epsilon, c.stride_padding), (1000, 1.0, 1e-3, 0));
    assert_eq!((c.output, c.activation), (sepconv_model_output::Logits as i32, sepconv_model_activation::Relu6 as i32));
    (c.alpha, c.classes, c.epsilon, c.stride_padding) = (0.1, 7, 1e-5, 1);
    let hwio = sepconv_weight_order::Hwio as i32;
    let image = Shape::new(1, 40, 33, 3);
    let input = Rng(5).values(image.len().unwrap(), ValueKind::Plain);
    for v1 in [true, false] {
        let architecture = |config: &Config| {
            if v1 { MobileNetV1::architecture(config) } else { MobileNetV2::architecture(config) }.unwrap()
        };
        let new: NewMobilenet = if v1 { sepconv_network_mobilenet_v1 } else { sepconv_network_mobilenet_v2 };
        let file = file_of_weights(&architecture(&config));
        let outputs = [
            (ModelOutput::Features, sepconv_model_output::Features, Shape::new(1, 1, 1, if v1 { 102 } else { 1280 })),
            (ModelOutput::Logits, sepconv_model_output::Logits, Shape::new(1, 1, 1, 7)),
            (
                ModelOutput::FeatureMap,
                sepconv_model_output::FeatureMap,
                Shape::new(1, 2, 2, if v1 { 102 } else { 1280 }),
            ),
        ];
        let activations =
            [(Activation::Relu6, sepconv_model_activation::Relu6), (Activation::Relu, sepconv_model_activation::Relu)];
        for ((output, output_code, made), (activation, activation_code)) in
            outputs.into_iter().flat_map(|output| activations.map(|activation| (output, activation)))
        {
            let rust = architecture(&config.clone().output(output).activation(activation));
            let network = rust.network(&Weights::from_safetensors(&file, WeightOrder::Hwio).unwrap()).unwrap();
            let plan = network.plan(image, &sepconv::PlanOptions::new()).unwrap();
            assert_eq!(plan.output_shape(), made);
            let mut expected = vec![0.0; made.len().unwrap()];
            plan.run(
                View::new(&input, image).unwrap(),
                ViewMut::new(&mut expected, made).unwrap(),
                &mut plan.scratch().unwrap(),
            )
            .unwrap();

            let mut c =
                sepconv_mobilenet_config { output: output_code as i32, activation: activation_code as i32, ..c };
            if activation == Activation::Relu6 {
                // a program of the first version, whose struct ends before the activation
                c.struct_size = offset_of!(sepconv_mobilenet_config, activation);
                c.activation = -1;
            }
            // SAFETY: the file, and what lives.
            let plan = unsafe {
                let network = make(sepconv_network_free, |n| new(&c, file.as_ptr(), file.len(), hwio, n)).unwrap();
                make(sepconv_plan_free, |p| sepconv_network_plan(network.handle, shape(image), null(), p)).unwrap()
            };
            let mut got = vec![0.0; expected.len()];
            run(&plan, (&input, 0), (&mut got, 0), &scratch(&plan)).unwrap();
            let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
            assert_eq!(bits(&got), bits(&expected), "{output:?} {activation:?}");
        }
        // another order, and another width
        // SAFETY: the file.
        unsafe {
            let oihw = sepconv_weight_order::Oihw as i32;
            let other = make(sepconv_network_free, |n| new(&c, file.as_ptr(), file.len(), oihw, n));
            assert_eq!(status(other), sepconv_status::Weights);
            let other = make(sepconv_network_free, |n| new(null(), file.as_ptr(), file.len(), hwio, n));
            assert_eq!(status(other), sepconv_status::Weights);
            let wide = sepconv_mobilenet_config { alpha: f64::NAN, ..c };
            let other = make(sepconv_network_free, |n| new(&wide, file.as_ptr(), file.len(), hwio, n));
            assert_eq!(status(other), sepconv_status::Value);
        }
    }
}

#[path = "capi/graphs.rs"]
mod graphs;
