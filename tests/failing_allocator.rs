//! Memory that runs out is an error, at every single allocation on the way from a description to a result: no abort,
//! nothing leaked. An allocator of this test's own fails at the n-th allocation, for each n, once or from then on.
//!
//! Out of its reach: rayon's and gemm's own allocations, the parser of a safetensors header, text of errors about wrong
//! arguments, and [`Plan::explain`], which copies its reports.

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::sync::Arc;

use sepconv::models::{Config, MobileNetV1, MobileNetV2, WeightOrder, Weights};
use sepconv::{
    Activation, BatchNorm, ChannelActivation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Error, Filter, Fusion,
    GlobalAveragePool, InvertedResidual, InvertedResidualDesc, Network, Plan, PlanCache, PlanOptions, PointwiseConv2d,
    Result, SeparableConv2d, Shape, Shortcut, Threads, View, ViewMut,
};
use sepconv_test_support::{LEVELS, OnCaller, Rng, SCHEDULES, ValueKind};

/// What the allocator does on this thread.
#[derive(Clone, Copy, Default)]
struct Watch {
    on: bool,
    /// Allocations till the one that fails.
    left: usize,
    /// Whether all fail after it.
    for_good: bool,
    failed: usize,
    /// Bytes allocated and not freed again.
    live: isize,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch { on: false, left: 0, for_good: false, failed: 0, live: 0 }) };
}

/// Counts an allocation, and says whether it is to fail.
fn fails(bytes: isize) -> bool {
    // a thread that is going away is not watched any more
    WATCH
        .try_with(|watch| {
            let mut w = watch.get();
            if !w.on {
                return false;
            }
            let fails = if w.failed > 0 { w.for_good } else { w.left == 0 };
            w.left = w.left.saturating_sub(1);
            if fails {
                w.failed += 1;
            } else {
                w.live += bytes;
            }
            watch.set(w);
            fails
        })
        .unwrap_or(false)
}

fn frees(bytes: usize) {
    let _ = WATCH.try_with(|watch| {
        let mut w = watch.get();
        if w.on {
            w.live -= bytes as isize;
            watch.set(w);
        }
    });
}

struct Failing;

// SAFETY: everything that does not fail is done by the system's allocator; what watches it allocates nothing.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        if fails(layout.size() as isize) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: MemoryLayout) -> *mut u8 {
        if fails(layout.size() as isize) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: MemoryLayout, size: usize) -> *mut u8 {
        if fails(size as isize - layout.size() as isize) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: MemoryLayout) {
        frees(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `body` with an allocation that fails: its result, and what the allocator saw.
fn watched<T>(left: usize, for_good: bool, body: impl FnOnce() -> T) -> (T, Watch) {
    WATCH.set(Watch { on: true, left, for_good, ..Watch::default() });
    let result = body();
    let watch = WATCH.get();
    WATCH.set(Watch::default());
    (result, watch)
}

/// Why the body of a test failed.
#[derive(Debug, PartialEq)]
enum Failed {
    /// Memory that the test itself, or a call of C, asked for in vain.
    OutOfMemory,
    Library(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Library(error)
    }
}

/// Fails `body` at every allocation that it makes. It must drop all that it made.
fn assert_every_allocation_may_fail<E: Into<Failed>>(what: &str, at_least: usize, body: impl Fn() -> Result<(), E>) {
    let body = || body().map_err(E::into);
    // what is set up once in a process, the features of the CPU among it, is not the body's
    body().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    for for_good in [false, true] {
        for n in 0.. {
            let (result, watch) = watched(n, for_good, body);
            let at = format!("{what}, allocation {n}{}", if for_good { " and all after it" } else { "" });
            assert_eq!(watch.live, 0, "{at}: leaked, or freed what was not its own");
            if watch.failed == 0 {
                assert_eq!(result, Ok(()), "{at}");
                assert!(n >= at_least, "{what}: only {n} allocations; did it do anything?");
                break;
            }
            match result {
                Err(Failed::OutOfMemory) => {}
                Err(Failed::Library(error @ Error::Allocation { .. })) => {
                    assert!(error.to_string().contains("could not allocate"), "{at}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_allocator_fails_where_it_is_told_to_and_sees_leaks() {
    let reserve = || Vec::<u8>::new().try_reserve(10).is_ok();
    assert_eq!(watched(1, false, || [reserve(), reserve(), reserve()]).0, [true, false, true]);
    assert_eq!(watched(1, true, || [reserve(), reserve(), reserve()]).0, [true, false, false]);
    let (leaked, watch) = watched(9, false, || Vec::<u8>::with_capacity(100));
    assert_eq!((watch.live, watch.failed), (100, 0));
    drop(leaked);
}

/// Scratch for a plan, and a run; the output must be there.
fn run(plan: &Plan, input: &[f32], output: &mut [f32]) -> Result<()> {
    let to = ViewMut::new(output, plan.output_shape())?;
    plan.run(View::new(input, plan.input_shape())?, to, &mut plan.scratch()?)
}

const PLANE: Shape = Shape::new(2, 9, 7, 20);

#[test]
fn operators_and_blocks() {
    let rng = &mut Rng(1);
    let c = PLANE.c;
    let mut weights = |len: usize| rng.values(len, ValueKind::Plain);
    let (input, mut output) = (weights(PLANE.len().unwrap()), vec![0.0; 1 << 15]);
    let output = Cell::new(&mut output[..]);
    let [dense, taps, five, many, wide, back] = [c * 33, 9 * c, 25 * c, 18 * c, c * 40, 40 * c].map(&mut weights);
    let few = weights(5 * 5 * 3);
    let [middle, variance] = [weights(9 * 40), vec![1.0; 33]];
    let standard = weights(9 * c * 33);
    let norm = BatchNorm { gamma: Some(&variance), beta: None, mean: &variance, variance: &variance, epsilon: 1e-3 };
    let conv = ConvDesc::new(Filter::hwio(&standard, [3, 3, c, 33])).batch_norm(norm).stride(2);
    let dilated = conv.dilation(2);
    let depthwise = ConvDesc::new(Filter::depthwise_hwc(&taps, [3, 3, c])).activation(Activation::Relu6);
    let general = ConvDesc::new(Filter::depthwise_c1hw(&five, [c, 5, 5], 1));
    let multiplied = ConvDesc::new(Filter::depthwise_hwcm(&many, [3, 3, c, 2]));
    let pointwise = ConvDesc::new(Filter::io(&dense, [c, 33])).bias(&variance);
    let expand = ConvDesc::new(Filter::io(&wide, [c, 40]));
    let between = ConvDesc::new(Filter::depthwise_hwc(&middle, [3, 3, 40]));
    let project = ConvDesc::new(Filter::io(&back, [40, c]));
    let slopes: [f32; 33] = core::array::from_fn(|i| i as f32);
    let prelu = |channels| ChannelActivation::PRelu { slopes: &slopes[..channels] };
    let [by_channel, of_pixels] =
        [depthwise.activation_by_channel(prelu(c)), pointwise.activation_by_channel(prelu(33))];

    let run = |plan: &Plan| {
        let out = output.take();
        let result = run(plan, &input, &mut out[..plan.output_shape().len()?]);
        output.set(out);
        result
    };
    let check = |what: &str, at_least: usize, plan: &dyn Fn() -> Result<Plan>| {
        assert_every_allocation_may_fail(what, at_least, || run(&plan()?));
    };
    let levels: Vec<PlanOptions> = LEVELS.iter().map(|level| level.options()).collect();
    for options in &levels {
        check("conv2d", 10, &|| Conv2d::new(conv)?.plan(PLANE, options));
        check("dilated conv2d", 10, &|| Conv2d::new(dilated)?.plan(PLANE, options));
        check("depthwise", 10, &|| DepthwiseConv2d::new(depthwise)?.plan(PLANE, options));
        check("depthwise 5×5", 10, &|| DepthwiseConv2d::new(general)?.plan(PLANE, options));
        check("depthwise, multiplier 2", 10, &|| DepthwiseConv2d::new(multiplied)?.plan(PLANE, options));
        check("pointwise", 10, &|| PointwiseConv2d::new(pointwise)?.plan(PLANE, options));
        check("depthwise, PReLU", 11, &|| DepthwiseConv2d::new(by_channel)?.plan(PLANE, options));
        check("pointwise, PReLU", 11, &|| PointwiseConv2d::new(of_pixels)?.plan(PLANE, options));
        check("dense", 10, &|| Dense::new(pointwise)?.plan(PLANE, options));
        check("average pool", 8, &|| GlobalAveragePool::new(c)?.plan(PLANE, options));
    }
    for fusion in SCHEDULES {
        let options = &PlanOptions::new().fusion(fusion);
        check("separable", 12, &|| SeparableConv2d::new(depthwise, pointwise)?.plan(PLANE, options));
        let block = InvertedResidualDesc::new(between, project).expand(expand).shortcut(Shortcut::Required);
        check("inverted residual", 15, &|| InvertedResidual::new(block)?.plan(PLANE, options));
    }
    // a signal along H is planned as one along W, with stages of its own
    let column = Shape::new(2, 9 * 7, 1, c);
    let taps = ConvDesc::new(Filter::depthwise_hwc(&taps, [9, 1, c]));
    check("a signal along H", 14, &|| SeparableConv2d::new(taps, pointwise)?.plan(column, &PlanOptions::new()));
    // sections are steps over tensors of their own, and flat rows have weights of their own
    let row = Shape::new(1, 1, 126, c);
    let two = PlanOptions::new().threads(Threads::Custom(Arc::new(OnCaller(2))));
    check("sections", 14, &|| SeparableConv2d::new(depthwise, pointwise)?.plan(row, &two));
    let three = ConvDesc::new(Filter::depthwise_hwc(&few, [5, 5, 3]));
    let flat = || DepthwiseConv2d::new(three)?.plan(Shape::new(1, 20, 40, 3), &PlanOptions::new());
    check("flat rows", 8, &flat);
    let three = three.activation_by_channel(prelu(3));
    let flat = || DepthwiseConv2d::new(three)?.plan(Shape::new(1, 20, 40, 3), &PlanOptions::new());
    check("flat rows, PReLU", 9, &flat);
    // several layers keep more than one tensor between them
    assert_every_allocation_may_fail::<Failed>("network", 30, || {
        let block = InvertedResidualDesc::new(between, project).expand(expand).shortcut(Shortcut::Required);
        let block = InvertedResidual::new(block)?;
        let mut layers = Vec::new();
        layers.try_reserve_exact(4).map_err(|_| Failed::OutOfMemory)?;
        layers.extend([block.clone().into(), block.into(), DepthwiseConv2d::new(depthwise)?.into()]);
        layers.push(GlobalAveragePool::new(c)?.into());
        Ok(run(&Network::new(layers)?.plan(PLANE, &PlanOptions::new().fusion(Fusion::Auto))?)?)
    });
}

#[test]
fn models() {
    let config = Config::new().alpha(0.05).classes(5);
    let image = Shape::new(1, 33, 32, 3);
    let input = Rng(2).values(image.len().unwrap(), ValueKind::Plain);
    for (what, at_least, v1) in [("MobileNetV1", 300, true), ("MobileNetV2", 500, false)] {
        let architecture = || if v1 { MobileNetV1::architecture(&config) } else { MobileNetV2::architecture(&config) };
        assert_every_allocation_may_fail(what, at_least, || {
            let architecture = architecture()?;
            let network = architecture.network(&Weights::seeded(&architecture, 1)?)?;
            run(&network.plan(image, &PlanOptions::new())?, &input, &mut [0.0; 5])
        });
        // tensors of a file become floats one at a time
        let seeded = Weights::seeded(&architecture().unwrap(), 1).unwrap();
        let tensors = seeded.tensors().map(|(name, shape)| {
            let bytes: Vec<u8> = seeded.values(name).unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, shape.to_vec(), bytes)
        });
        let tensors: Vec<_> = tensors.collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        let weights = Weights::from_safetensors(&file, WeightOrder::Hwio).unwrap();
        let architecture = architecture().unwrap();
        assert_every_allocation_may_fail(what, at_least / 3, || architecture.network(&weights).map(drop));
    }
}

/// A run by a cache that has no memory to keep the plan, or the scratch, is a run all the same.
#[test]
fn a_cache_keeps_what_it_has_memory_for() {
    let weights = [0.5; 16 * 16];
    let pointwise = || PointwiseConv2d::new(ConvDesc::new(Filter::io(&weights, [16, 16]))).unwrap();
    let network = Network::new(vec![pointwise().into(), pointwise().into()]).unwrap();
    let (shape, input) = (Shape::new(1, 2, 2, 16), [1.0; 64]);
    let run = || {
        let (cache, mut output) = (PlanCache::new(PlanOptions::new(), 2), [0.0; 64]);
        let to = ViewMut::new(&mut output, shape).unwrap();
        cache.run(&network, View::new(&input, shape).unwrap(), to).map(|()| output)
    };
    assert_eq!(run(), Ok([64.0; 64]));
    let mut kept_nothing = 0;
    for for_good in [false, true] {
        for n in 0.. {
            let (result, watch) = watched(n, for_good, run);
            assert_eq!(watch.live, 0, "{n}: leaked, or freed what was not its own");
            match result {
                Ok(output) => assert_eq!(output, [64.0; 64]),
                Err(Error::Allocation { .. }) => assert!(watch.failed > 0),
                Err(other) => panic!("allocation {n}: {other:?}"),
            }
            kept_nothing += usize::from(result.is_ok() && watch.failed > 0);
            if watch.failed == 0 {
                assert!(n > 4, "only {n} allocations; did it do anything?");
                break;
            }
        }
    }
    // the list of plans and that of scratch, for either kind of failure
    assert_eq!(kept_nothing, 4);
}

/// What C gets is handles, which are allocated too.
#[cfg(feature = "capi")]
mod through_c {
    use core::mem::MaybeUninit;
    use core::ptr::{null, null_mut};

    use sepconv::capi::*;

    use super::*;

    /// Handles that are freed in the end, whatever fails.
    struct Handles {
        op: *mut sepconv_operator,
        graph: *mut sepconv_graph,
        network: *mut sepconv_network,
        plan: *mut sepconv_plan,
        scratch: *mut sepconv_scratch,
        cache: *mut sepconv_plan_cache,
    }

    const NONE: Handles = Handles {
        op: null_mut(),
        graph: null_mut(),
        network: null_mut(),
        plan: null_mut(),
        scratch: null_mut(),
        cache: null_mut(),
    };

    impl Drop for Handles {
        fn drop(&mut self) {
            // SAFETY: NULL, or of the library.
            unsafe {
                sepconv_plan_cache_free(self.cache);
                sepconv_scratch_free(self.scratch);
                sepconv_plan_free(self.plan);
                sepconv_network_free(self.network);
                sepconv_graph_free(self.graph);
                sepconv_operator_free(self.op);
            }
        }
    }

    fn done(status: sepconv_status) -> Result<(), Failed> {
        match status {
            sepconv_status::Ok => Ok(()),
            sepconv_status::OutOfMemory => {
                // SAFETY: text with a NUL.
                let text = unsafe { core::ffi::CStr::from_ptr(sepconv_last_error()) };
                assert!(text.to_bytes().windows(19).any(|part| part == b"could not allocate "));
                Err(Failed::OutOfMemory)
            }
            other => panic!("{other:?}"),
        }
    }

    const SHAPE: sepconv_shape = sepconv_shape { n: 1, h: 6, w: 6, c: 4 };
    const LEN: usize = 6 * 6 * 4;

    /// A depthwise 3×3 over 4 channels.
    fn depthwise(filter: &[f32; 36]) -> sepconv_conv_desc {
        let mut desc = MaybeUninit::<sepconv_conv_desc>::uninit();
        // SAFETY: so many bytes, all of which are written.
        unsafe {
            done(sepconv_conv_desc_init(desc.as_mut_ptr(), size_of::<sepconv_conv_desc>())).unwrap();
            sepconv_conv_desc {
                filter: filter.as_ptr(),
                filter_len: filter.len(),
                filter_order: sepconv_filter_order::DepthwiseHwcm as i32,
                kernel_h: 3,
                kernel_w: 3,
                input_channels: 4,
                output_channels: 4,
                ..desc.assume_init()
            }
        }
    }

    #[test]
    fn handles_and_runs() {
        let (filter, input, mut output) = ([0.5; 36], [1.0; LEN], [0.0; LEN]);
        let mut memory = vec![0u8; 1 << 16];
        let desc = depthwise(&filter);
        let output = Cell::new(&mut output[..]);
        let (room, room_len) = (memory.as_mut_ptr().cast(), memory.len());
        assert_every_allocation_may_fail("through C", 20, || {
            let mut handles = NONE;
            let Handles { op, network, plan, scratch, cache, .. } = &mut handles;
            let out = output.take();
            // SAFETY: what the library handed out, and slices.
            let result = unsafe {
                done(sepconv_depthwise_conv2d_new(&desc, op))
                    .and_then(|()| done(sepconv_network_new([op.cast_const(); 2].as_ptr(), 2, network)))
                    .and_then(|()| done(sepconv_network_plan(*network, SHAPE, null(), plan)))
                    .and_then(|()| done(sepconv_scratch_new(*plan, scratch)))
                    .and_then(|()| done(sepconv_plan_cache_new(null(), 1, cache)))
                    .and_then(|()| {
                        let (mut from, mut to) = (MaybeUninit::uninit(), MaybeUninit::uninit());
                        let (from, to) = (from.as_mut_ptr(), to.as_mut_ptr());
                        done(sepconv_input_init(from, size_of::<sepconv_input>(), input.as_ptr(), input.len()))?;
                        done(sepconv_output_init(to, size_of::<sepconv_output>(), out.as_mut_ptr(), out.len()))?;
                        done(sepconv_plan_run(*plan, from, to, *scratch))?;
                        done(sepconv_plan_run_in(*plan, null(), from, to, room, room_len))
                    })
            };
            output.set(out);
            result
        });
    }

    /// The sum of a filtered input and of another one, and that sum beside the second input.
    fn network_of_a_graph(handles: &mut Handles) -> Result<(), Failed> {
        let Handles { op, graph, network, .. } = handles;
        let (filter, slopes, mut values) = ([0.5; 36], [0.5, 0.25, 0.125, 0.0], [0; 5]);
        let [x, y, filtered, sum, joined] = &mut values;
        // SAFETY: what the library handed out.
        unsafe {
            done(sepconv_depthwise_conv2d_new(&depthwise(&filter), op))?;
            done(sepconv_graph_new(graph))?;
            let graph = *graph;
            done(sepconv_graph_input(graph, 4, x))?;
            done(sepconv_graph_input(graph, 4, y))?;
            done(sepconv_graph_operator(graph, *x, *op, filtered))?;
            done(sepconv_graph_add_prelu(graph, *filtered, *y, slopes.as_ptr(), 4, sum))?;
            done(sepconv_graph_concat(graph, [*sum, *y].as_ptr(), 2, joined))?;
            done(sepconv_graph_output(graph, *sum))?;
            done(sepconv_graph_output(graph, *joined))?;
            done(sepconv_graph_build(graph, network))
        }
    }

    #[test]
    fn graphs() {
        let (input, mut memory) = ([1.0; LEN], vec![0u8; 1 << 16]);
        let (mut sum, mut joined) = (vec![0.0; LEN], vec![0.0; 2 * LEN]);
        let (sum, joined) = (sum.as_mut_ptr(), joined.as_mut_ptr());
        let (room, room_len) = (memory.as_mut_ptr().cast(), memory.len());
        // before anything fails: a builder that has no memory for a value says so where it is built
        let mut built = NONE;
        network_of_a_graph(&mut built).unwrap();
        let network = built.network;
        assert_every_allocation_may_fail("a graph through C", 20, || {
            let mut handles = NONE;
            let Handles { graph, plan, scratch, .. } = &mut handles;
            let mut from = [const { MaybeUninit::<sepconv_input>::uninit() }; 2];
            let mut to = [const { MaybeUninit::<sepconv_output>::uninit() }; 2];
            let ([a, b], [c, d]) =
                (from.each_mut().map(MaybeUninit::as_mut_ptr), to.each_mut().map(MaybeUninit::as_mut_ptr));
            let (inputs, outputs) = ([a.cast_const(), b.cast_const()], [c.cast_const(), d.cast_const()]);
            let (i, o) = (inputs.as_ptr(), outputs.as_ptr());
            let (shapes, mut made) = ([SHAPE; 2], [SHAPE; 2]);
            // SAFETY: what the library handed out, and memory of these lengths.
            unsafe {
                done(sepconv_graph_new(graph))?;
                done(sepconv_network_output_shapes(network, shapes.as_ptr(), 2, made.as_mut_ptr(), 2))?;
                done(sepconv_network_plan_all(network, shapes.as_ptr(), 2, null(), plan))?;
                done(sepconv_scratch_new(*plan, scratch))?;
                for from in [a, b] {
                    done(sepconv_input_init(from, size_of::<sepconv_input>(), input.as_ptr(), LEN))?;
                }
                for (to, values, len) in [(c, sum, LEN), (d, joined, 2 * LEN)] {
                    done(sepconv_output_init(to, size_of::<sepconv_output>(), values, len))?;
                }
                done(sepconv_plan_run_all(*plan, i, 2, o, 2, *scratch))?;
                done(sepconv_plan_run_all_in(*plan, null(), i, 2, o, 2, room, room_len))
            }
        });
    }
}
