/*
 * sepconv: separable convolutions for CPUs. docs/c.md shows how to build, link and call it.
 *
 * Written by cbindgen from src/capi/: cargo run -p sepconv-header.
 *
 * - Functions that can fail return a sepconv_status. Unless it is SEPCONV_STATUS_OK, nothing was written to any out-parameter or
 *   output (but by a panic, which SEPCONV_STATUS_PANIC tells), and sepconv_last_error() tells more.
 * - What a function named _new, _plan, _build or of a network hands out belongs to the caller, who gives it back to the _free of its type,
 *   once. What was made of it lives on: operators may be freed when a network or a plan of them is there, and so on.
 * - Structs begin with their size. Call their _init function first, and set what differs.
 * - Pointers must not be NULL unless it is said that they may; what they point to is only used during the call.
 * - Operators, networks, plans, plan caches and pools may be used by many threads at once, a scratch by one run at a time, a graph by one call
 *   at a time. Nothing may be freed while a call uses it.
 * - Lengths and strides are counted in values, not in bytes.
 */

#ifndef SEPCONV_H
#define SEPCONV_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of the ABI that this header describes. It changes when a program that was compiled with an older header no
 * longer runs as it did.
 */
#define SEPCONV_ABI_VERSION 1

/**
 * What `sepconv_plan_run_in` uses of the caller's memory begins at a multiple of this number of bytes.
 */
#define SEPCONV_SCRATCH_ALIGNMENT 64

/**
 * What every function that can fail returns. Where it is neither `SEPCONV_STATUS_OK` nor `SEPCONV_STATUS_PANIC`, nothing was
 * written to any out-parameter or output; `sepconv_last_error` tells more.
 *
 * Later versions may add codes.
 */
enum sepconv_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    SEPCONV_STATUS_OK = 0,
    /**
     * A pointer that must not be NULL is.
     */
    SEPCONV_STATUS_NULL_POINTER = 1,
    /**
     * A pointer that is not aligned as its type asks for.
     */
    SEPCONV_STATUS_MISALIGNED_POINTER = 2,
    /**
     * An integer that is none of its enum's values.
     */
    SEPCONV_STATUS_UNKNOWN_CODE = 3,
    /**
     * A `struct_size` that no version of the struct has, or fields set that this version of the library does not know.
     */
    SEPCONV_STATUS_STRUCT_SIZE = 4,
    /**
     * Two of input, output and the memory of a run have a byte in common, or the strides of an output put two values at one place.
     */
    SEPCONV_STATUS_OVERLAP = 5,
    /**
     * Scratch that a run on another thread is using.
     */
    SEPCONV_STATUS_SCRATCH_IN_USE = 6,
    /**
     * Threads of a pool that could not be started.
     */
    SEPCONV_STATUS_THREADS_NOT_STARTED = 7,
    /**
     * A mistake of the library's: it panicked. An output may be half written; everything else is as it was.
     */
    SEPCONV_STATUS_PANIC = 8,
    /**
     * Rows, columns, channels, a kernel, stride or dilation of zero, one that is too large, a plane that the kernel does not
     * fit into, or a shape that is not the one expected. More or fewer inputs or outputs than a network has.
     */
    SEPCONV_STATUS_SIZE = 9,
    /**
     * A filter, bias or other vector of a wrong length, or a length that no memory has.
     */
    SEPCONV_STATUS_LENGTH = 10,
    /**
     * An input or output that is shorter than its shape and strides ask for.
     */
    SEPCONV_STATUS_BUFFER_TOO_SHORT = 11,
    /**
     * A tensor whose channels do not lie together, where the plan is for NHWC.
     */
    SEPCONV_STATUS_LAYOUT = 12,
    /**
     * A number of channels that does not fit what stands before.
     */
    SEPCONV_STATUS_CHANNELS = 13,
    /**
     * A filter in an order that the operator does not take.
     */
    SEPCONV_STATUS_FILTER_ORDER = 14,
    /**
     * A value outside its range, such as an epsilon that is not a number.
     */
    SEPCONV_STATUS_VALUE = 15,
    /**
     * Scratch, or memory of the caller's for a run, with fewer bytes than the plan needs.
     */
    SEPCONV_STATUS_SMALL_SCRATCH = 16,
    /**
     * Memory that the allocator did not give.
     */
    SEPCONV_STATUS_OUT_OF_MEMORY = 17,
    /**
     * Scratch out of proportion to what a stage reads and writes.
     */
    SEPCONV_STATUS_SCRATCH_TOO_LARGE = 18,
    /**
     * An instruction set that cannot be had, or an environment variable `SEPCONV_MAX_ISA` that names none.
     */
    SEPCONV_STATUS_ISA = 19,
    /**
     * Fusion or a schedule that was demanded and cannot be had.
     */
    SEPCONV_STATUS_FUSION = 20,
    /**
     * A network without layers, or with one where it cannot stand. A graph without inputs or outputs, with a tensor that nothing reads,
     * or that was built before; a value that is none of its graph.
     */
    SEPCONV_STATUS_NETWORK = 21,
    /**
     * A file of weights that is malformed, or a tensor in it that is missing or of a wrong shape or type.
     */
    SEPCONV_STATUS_WEIGHTS = 22,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_status sepconv_status;
#else
typedef int32_t sepconv_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * An instruction set.
 */
enum sepconv_isa
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As an option: the best that the CPU has.
     */
    SEPCONV_ISA_BEST = 0,
    /**
     * x86-64 with AVX-512: F, BW, CD, DQ and VL.
     */
    SEPCONV_ISA_AVX512 = 1,
    /**
     * x86-64 with AVX2 and FMA.
     */
    SEPCONV_ISA_AVX2 = 2,
    /**
     * x86-64 with SSE4.2.
     */
    SEPCONV_ISA_SSE42 = 3,
    /**
     * 64-bit ARM with Advanced SIMD.
     */
    SEPCONV_ISA_NEON = 4,
    /**
     * Any CPU.
     */
    SEPCONV_ISA_SCALAR = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_isa sepconv_isa;
#else
typedef int32_t sepconv_isa;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a step `sum + x * w` is rounded. It decides the bits of every result.
 */
enum sepconv_arithmetic
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Once, as `fmaf` does.
     */
    SEPCONV_ARITHMETIC_FUSED = 0,
    /**
     * Twice: a product, then a sum. SSE4.2 and scalar, unless `common_bits` are asked for.
     */
    SEPCONV_ARITHMETIC_SEPARATE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_arithmetic sepconv_arithmetic;
#else
typedef int32_t sepconv_arithmetic;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The order in which the values of a filter lie, the last index fastest. There is no default: orders are not guessed.
 */
enum sepconv_filter_order
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * `[kernel_h][kernel_w][input_channels][output_channels]`: TensorFlow's convolution; with a kernel of 1x1 its dense layer.
     */
    SEPCONV_FILTER_ORDER_HWIO = 1,
    /**
     * `[output_channels][input_channels][kernel_h][kernel_w]`: PyTorch's and ONNX's convolution; with a kernel of 1x1 the
     * dense layer of PyTorch.
     */
    SEPCONV_FILTER_ORDER_OIHW = 2,
    /**
     * `[output_channels][kernel_h][kernel_w][input_channels]`: TensorFlow Lite's convolution.
     */
    SEPCONV_FILTER_ORDER_OHWI = 3,
    /**
     * Depthwise, `[kernel_h][kernel_w][input_channels][multiplier]`: TensorFlow's. The multiplier is output over input
     * channels; with 1 it is also TensorFlow Lite's.
     */
    SEPCONV_FILTER_ORDER_DEPTHWISE_HWCM = 4,
    /**
     * Depthwise, `[output_channels][1][kernel_h][kernel_w]`: PyTorch's convolution with as many groups as input channels.
     */
    SEPCONV_FILTER_ORDER_DEPTHWISE_C1HW = 5,
    /**
     * `[kernel_h][kernel_w][output_channels][input_channels]`: TensorFlow's transposed convolution.
     */
    SEPCONV_FILTER_ORDER_HWOI = 6,
    /**
     * `[input_channels][output_channels][kernel_h][kernel_w]`: PyTorch's and ONNX's transposed convolution.
     */
    SEPCONV_FILTER_ORDER_IOHW = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_filter_order sepconv_filter_order;
#else
typedef int32_t sepconv_filter_order;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a plane is padded before the window slides over it. What is added reads as 0.
 */
enum sepconv_padding
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * TensorFlow's `SAME`: the output has `ceil(input / stride)` rows and columns, an odd pixel goes to the bottom and to
     * the right.
     */
    SEPCONV_PADDING_SAME = 0,
    /**
     * Nothing is added: the output shrinks.
     */
    SEPCONV_PADDING_VALID = 1,
    /**
     * `pad_top` and so on: as PyTorch's `padding`, which is the same at opposite sides.
     */
    SEPCONV_PADDING_EXPLICIT = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_padding sepconv_padding;
#else
typedef int32_t sepconv_padding;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What is applied to a sum before it is stored. NaN passes.
 */
enum sepconv_activation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The sum as it is.
     */
    SEPCONV_ACTIVATION_LINEAR = 0,
    /**
     * `max(0, x)`.
     */
    SEPCONV_ACTIVATION_RELU = 1,
    /**
     * `min(max(0, x), 6)`.
     */
    SEPCONV_ACTIVATION_RELU6 = 2,
    /**
     * `min(max(clamp_min, x), clamp_max)`.
     */
    SEPCONV_ACTIVATION_CLAMP = 3,
    /**
     * `x * min(max(0, x + 3), 6) / 6`.
     */
    SEPCONV_ACTIVATION_HARD_SWISH = 4,
    /**
     * `min(max(0, x + 3), 6) / 6`.
     */
    SEPCONV_ACTIVATION_HARD_SIGMOID = 5,
    /**
     * `1 / (1 + exp(-x))`.
     */
    SEPCONV_ACTIVATION_SIGMOID = 6,
    /**
     * `x / (1 + exp(-x))`, which is Swish.
     */
    SEPCONV_ACTIVATION_SILU = 7,
    /**
     * `tanh(x)`.
     */
    SEPCONV_ACTIVATION_TANH = 8,
    /**
     * `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`: GELU in its tanh form.
     */
    SEPCONV_ACTIVATION_GELU = 9,
    /**
     * `x`, where it is negative times `leaky_slope`.
     */
    SEPCONV_ACTIVATION_LEAKY_RELU = 10,
    /**
     * `x`, where it is negative times the slope of its channel.
     */
    SEPCONV_ACTIVATION_PRELU = 11,
    /**
     * `min(max(lower, x), upper)`, of the bounds of its channel.
     */
    SEPCONV_ACTIVATION_CHANNEL_CLAMP = 12,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_activation sepconv_activation;
#else
typedef int32_t sepconv_activation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The threads that do the work of a run.
 *
 * A run executes nothing but its own work on the calling thread, and waits for no thread that has not begun: where all others are busy,
 * the calling thread does the work alone.
 */
enum sepconv_threads
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The calling thread alone.
     */
    SEPCONV_THREADS_SERIAL = 0,
    /**
     * The calling thread and a pool that all of the process shares, started with a thread for each core by the first plan that
     * asks for it. The environment variable `RAYON_NUM_THREADS` sets the number of its threads.
     */
    SEPCONV_THREADS_GLOBAL = 1,
    /**
     * The calling thread and the `pool` of the options.
     */
    SEPCONV_THREADS_POOL = 2,
    /**
     * The threads behind `parallel_for` of the options.
     */
    SEPCONV_THREADS_CUSTOM = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_threads sepconv_threads;
#else
typedef int32_t sepconv_threads;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether the stages of a block run as one, the tensor between them never going to memory as a whole.
 */
enum sepconv_fusion
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The plan decides.
     */
    SEPCONV_FUSION_AUTO = 0,
    /**
     * Every stage on its own.
     */
    SEPCONV_FUSION_NEVER = 1,
    /**
     * By a ring of a few rows of all channels, or an error where that cannot be had.
     */
    SEPCONV_FUSION_ROW_RING = 2,
    /**
     * The whole plane, some channels at a time, or an error where that cannot be had.
     */
    SEPCONV_FUSION_CHANNEL_SLABS = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_fusion sepconv_fusion;
#else
typedef int32_t sepconv_fusion;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The order of the axes of a tensor in memory, the last one fastest. A `sepconv_shape` names the sizes of both.
 */
enum sepconv_layout
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Images, rows, pixels, channels: the channels of a pixel lie together.
     */
    SEPCONV_LAYOUT_NHWC = 0,
    /**
     * Images, channels, rows, pixels: each channel is a plane.
     */
    SEPCONV_LAYOUT_NCHW = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_layout sepconv_layout;
#else
typedef int32_t sepconv_layout;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The order in which the filters of a file of weights lie. There is no default: orders are not guessed.
 */
enum sepconv_weight_order
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * TensorFlow's and Keras's: `[h, w, i, o]`, depthwise `[h, w, c, 1]` or `[h, w, c]`, pointwise and dense `[1, 1, i, o]` or
     * `[i, o]`.
     */
    SEPCONV_WEIGHT_ORDER_HWIO = 1,
    /**
     * PyTorch's and ONNX's: `[o, i, h, w]`, depthwise `[c, 1, h, w]`, pointwise and dense `[o, i, 1, 1]` or `[o, i]`.
     */
    SEPCONV_WEIGHT_ORDER_OIHW = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_weight_order sepconv_weight_order;
#else
typedef int32_t sepconv_weight_order;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How planes are padded where the stride is 2.
 */
enum sepconv_stride_padding
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As weights trained with TensorFlow expect: on an even plane a pixel at the bottom and to the right.
     */
    SEPCONV_STRIDE_PADDING_SAME = 0,
    /**
     * As weights trained with PyTorch expect: a pixel at each side.
     */
    SEPCONV_STRIDE_PADDING_SYMMETRIC = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_stride_padding sepconv_stride_padding;
#else
typedef int32_t sepconv_stride_padding;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The layer that a MobileNet ends with. Weights of layers behind it are not asked for.
 */
enum sepconv_model_output
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The global average pool: `Nx1x1xC`.
     */
    SEPCONV_MODEL_OUTPUT_FEATURES = 0,
    /**
     * The dense layer: `Nx1x1xclasses`, before any softmax.
     */
    SEPCONV_MODEL_OUTPUT_LOGITS = 1,
    /**
     * The last convolution: `NxHxWxC`, with a pixel for each 32x32 pixels of the image.
     */
    SEPCONV_MODEL_OUTPUT_FEATURE_MAP = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_model_output sepconv_model_output;
#else
typedef int32_t sepconv_model_output;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The activation of a MobileNet: of every layer but V2's projections and the dense layer, which are linear.
 */
enum sepconv_model_activation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * `min(max(0, x), 6)`: TensorFlow's weights of both networks, and torchvision's of V2.
     */
    SEPCONV_MODEL_ACTIVATION_RELU6 = 0,
    /**
     * `max(0, x)`: V1's paper, and weights that follow it.
     */
    SEPCONV_MODEL_ACTIVATION_RELU = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_model_activation sepconv_model_activation;
#else
typedef int32_t sepconv_model_activation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a pool takes of a window. There is no default.
 */
enum sepconv_window_pool_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The largest value. Padding takes no part. NaN is larger than any number.
     */
    SEPCONV_WINDOW_POOL_KIND_MAXIMUM = 1,
    /**
     * The mean: pixels are added row by row, and their sum is divided by their number.
     */
    SEPCONV_WINDOW_POOL_KIND_AVERAGE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sepconv_window_pool_kind sepconv_window_pool_kind;
#else
typedef int32_t sepconv_window_pool_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A network while it is built, value by value: each layer reads values that are there. It may be used by one call at a time.
 *
 * Functions named `sepconv_graph_…` write the value of what they add to `value`. One that fails adds nothing.
 */
typedef struct sepconv_graph sepconv_graph;

/**
 * Operators planned together, one after the other or as a graph: one scratch, and between two of them the layout that the second one
 * needs. Any number of threads may use one at once.
 */
typedef struct sepconv_network sepconv_network;

/**
 * An operator: checked, its batch norm folded, its weights packed. Any number of threads may use one at once.
 */
typedef struct sepconv_operator sepconv_operator;

/**
 * An operator or a network, planned for one input shape. Any number of threads may use one at once, each with a scratch of
 * its own.
 */
typedef struct sepconv_plan sepconv_plan;

/**
 * Plans of the networks and shapes that ran last, with scratch for each thread that runs. Any number of threads may use one at once: a
 * run holds the lock of the cache only to take a plan and scratch, and to give them back.
 */
typedef struct sepconv_plan_cache sepconv_plan_cache;

/**
 * Threads that runs share. Any number of plans may use one, at the same time too.
 */
typedef struct sepconv_pool sepconv_pool;

/**
 * The memory of a run, for one run at a time: a run that finds it in use fails. It serves each plan that needs no more.
 */
typedef struct sepconv_scratch sepconv_scratch;

/**
 * A convolution: a filter, then a bias, a batch norm or both, then an activation. Call `sepconv_conv_desc_init` first, then set
 * what differs; filter, order, kernel and channels always do.
 *
 * What it points to is only read while an operator is made, and may be freed after.
 */
typedef struct sepconv_conv_desc {
    /**
     * `sizeof(sepconv_conv_desc)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * The values of the filter.
     */
    const float *filter;
    /**
     * How many: `kernel_h * kernel_w * input_channels * output_channels`, of which a convolution in groups has one of `groups` parts;
     * of a depthwise filter `kernel_h * kernel_w * output_channels`.
     */
    size_t filter_len;
    /**
     * Rows of the kernel.
     */
    size_t kernel_h;
    /**
     * Columns of the kernel.
     */
    size_t kernel_w;
    /**
     * Channels that it reads, those of all groups.
     */
    size_t input_channels;
    /**
     * Channels that it writes; of a depthwise convolution a multiple of those it reads.
     */
    size_t output_channels;
    /**
     * The order of the filter. Init leaves 0, which is none.
     */
    sepconv_filter_order filter_order;
    /**
     * The padding. Init: `SEPCONV_PADDING_SAME`.
     */
    sepconv_padding padding;
    /**
     * Rows that the window moves at each step. Init: 1, as for the three that follow.
     */
    size_t stride_h;
    /**
     * Columns that the window moves at each step.
     */
    size_t stride_w;
    /**
     * Rows from one tap to the next.
     */
    size_t dilation_h;
    /**
     * Columns from one tap to the next.
     */
    size_t dilation_w;
    /**
     * Rows added above. The four sides are 0 unless the padding is `SEPCONV_PADDING_EXPLICIT`.
     */
    size_t pad_top;
    /**
     * Rows added below.
     */
    size_t pad_bottom;
    /**
     * Columns added before.
     */
    size_t pad_left;
    /**
     * Columns added after.
     */
    size_t pad_right;
    /**
     * A value for each output channel, added to the sum, or NULL for none.
     */
    const float *bias;
    /**
     * How many: `output_channels`, or 0 where there is no bias.
     */
    size_t bias_len;
    /**
     * Batch norm after sum and bias, `(x - mean) / sqrt(variance + epsilon) * gamma + beta` for each output channel: the
     * scale, or NULL for 1. It is folded into filter and bias. Without it, all four are NULL.
     */
    const float *batch_norm_gamma;
    /**
     * The offset, or NULL for 0.
     */
    const float *batch_norm_beta;
    /**
     * The moving mean.
     */
    const float *batch_norm_mean;
    /**
     * The moving variance.
     */
    const float *batch_norm_variance;
    /**
     * Values in each of the four: `output_channels`, or 0 where there is no batch norm.
     */
    size_t batch_norm_len;
    /**
     * What keeps the root away from zero: 1e-3 in TensorFlow's MobileNets, 1e-5 in PyTorch's. Init: NaN, which is an error
     * with a batch norm.
     */
    double batch_norm_epsilon;
    /**
     * The activation. Init: `SEPCONV_ACTIVATION_LINEAR`.
     */
    sepconv_activation activation;
    /**
     * The lower bound of `SEPCONV_ACTIVATION_CLAMP`, -INFINITY with any other.
     */
    float clamp_min;
    /**
     * The upper bound, INFINITY with any other.
     */
    float clamp_max;
    /**
     * The slope of `SEPCONV_ACTIVATION_LEAKY_RELU`. Init: NaN, which is an error with that activation; any other takes nothing else.
     */
    float leaky_slope;
    /**
     * In how many groups the channels are: each group of outputs reads a group of inputs of its own. The filter's `input_channels`
     * are those of a group: `input_channels / groups`. For `sepconv_conv2d_new` alone. Init: 0, which is 1 as well.
     */
    size_t groups;
    /**
     * The slopes of `SEPCONV_ACTIVATION_PRELU`, one for each output channel. Init: NULL, as any other activation has it; so are the two that
     * follow.
     */
    const float *channel_slopes;
    /**
     * The lower bounds of `SEPCONV_ACTIVATION_CHANNEL_CLAMP`, one for each output channel.
     */
    const float *channel_min;
    /**
     * The upper bounds.
     */
    const float *channel_max;
    /**
     * How many slopes, lower and upper bounds there are: `output_channels`, or 0 where the activation has none. Init: 0.
     */
    size_t channel_len;
} sepconv_conv_desc;

/**
 * A pool over a window. Call `sepconv_window_pool_desc_init` first, then set what differs; kind and kernel always do.
 */
typedef struct sepconv_window_pool_desc {
    /**
     * `sizeof(sepconv_window_pool_desc)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * What it takes of a window. Init leaves 0, which is none.
     */
    sepconv_window_pool_kind kind;
    /**
     * The padding. A window has to meet a pixel of the plane. Init: `SEPCONV_PADDING_VALID`.
     */
    sepconv_padding padding;
    /**
     * Rows of the window.
     */
    size_t kernel_h;
    /**
     * Columns of the window.
     */
    size_t kernel_w;
    /**
     * Rows that the window moves at each step. Init: 0, the rows of the window.
     */
    size_t stride_h;
    /**
     * Columns that the window moves at each step. Init: 0, the columns of the window.
     */
    size_t stride_w;
    /**
     * Rows added above. The four sides are 0 unless the padding is `SEPCONV_PADDING_EXPLICIT`.
     */
    size_t pad_top;
    /**
     * Rows added below.
     */
    size_t pad_bottom;
    /**
     * Columns added before.
     */
    size_t pad_left;
    /**
     * Columns added after.
     */
    size_t pad_right;
    /**
     * Not 0: a mean is over all pixels of the window, those of padding too, which are 0. It is PyTorch's `count_include_pad`. 0 with
     * `SEPCONV_WINDOW_POOL_KIND_MAXIMUM`. Init: 0.
     */
    int32_t count_padding;
} sepconv_window_pool_desc;

/**
 * Images, rows, columns and channels of a tensor, whatever its layout. Rows, columns and channels are at least 1. A batch of 0 images
 * is planned and run as any other, and its output is empty.
 */
typedef struct sepconv_shape {
    /**
     * Images in the batch.
     */
    size_t n;
    /**
     * Rows of an image.
     */
    size_t h;
    /**
     * Columns of an image, in pixels.
     */
    size_t w;
    /**
     * Channels of a pixel.
     */
    size_t c;
} sepconv_shape;

/**
 * A task of a run: call it with the context that came with it, and the index of the call.
 */
typedef void (*sepconv_task)(void *task_context, size_t index);

/**
 * A parallel loop of the caller's: calls `task(task_context, i)` for each `i` below `count`, and returns when all calls have returned.
 *
 * Calls may come in any order, on any threads, side by side or all on the calling thread. A task that is called late does not
 * hold the others up: they do its work. No task waits for one that has not begun. The loop must be callable from any thread that
 * calls a run, must not throw, and must not keep `task_context` after it returned.
 */
typedef void (*sepconv_parallel_for)(void *context,
                                     size_t count,
                                     sepconv_task task,
                                     void *task_context);

/**
 * The options of a plan. Call `sepconv_plan_options_init` first, then set what differs.
 */
typedef struct sepconv_plan_options {
    /**
     * `sizeof(sepconv_plan_options)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * The pool of `SEPCONV_THREADS_POOL`, NULL with any other. The plan, or the plan cache, keeps it alive.
     */
    const struct sepconv_pool *pool;
    /**
     * Who does the work. Init: `SEPCONV_THREADS_SERIAL`.
     */
    sepconv_threads threads;
    /**
     * Caps the instruction set, as the environment variable `SEPCONV_MAX_ISA` does; one that the CPU does not have takes the
     * next one down. Init: `SEPCONV_ISA_BEST`, no cap.
     */
    sepconv_isa max_isa;
    /**
     * Whether blocks are fused. Init: `SEPCONV_FUSION_AUTO`.
     */
    sepconv_fusion fusion;
    /**
     * Polls of a worker that waits for others between two steps, before it sleeps, some 20 ns a poll. Init: 20000. 0 suits
     * a machine that must not burn any core.
     */
    uint32_t spins;
    /**
     * Not 0: the bits of a fused multiply-add also where there is none: scalar kernels emulate it, some fifty times slower.
     * Init: 0.
     */
    int32_t common_bits;
    /**
     * The loop of `SEPCONV_THREADS_CUSTOM`, NULL with any other. It must stay callable while the plan lives, or the plan
     * cache of these options.
     */
    sepconv_parallel_for parallel_for;
    /**
     * The first argument of each call of `parallel_for`. Any pointer; the library does not use what it points to.
     */
    void *parallel_context;
    /**
     * Threads that can run tasks of `parallel_for` at the same time, the calling one counted. Init: 0, which is 1.
     */
    size_t parallel_threads;
    /**
     * The most threads that a run may take. Init: 0, as many as the CPUs that this process may use.
     */
    size_t max_threads;
    /**
     * The layout of the input of a run. Init: `SEPCONV_LAYOUT_NHWC`. A plan for NCHW takes any strides, more slowly where neither
     * channels nor pixels lie together.
     */
    sepconv_layout input_layout;
    /**
     * The layout of the output of a run. Init: `SEPCONV_LAYOUT_NHWC`.
     */
    sepconv_layout output_layout;
} sepconv_plan_options;

/**
 * A tensor of a graph that is being built: an input, or what a layer computes. It is a number that stands for nothing outside of its
 * graph. 0 is never a value.
 */
typedef uint64_t sepconv_value;

/**
 * Distances, counted in values, between two values of a tensor that are neighbours along an axis. Value `(n, y, x, c)` is at
 * `n * image + y * row + x * pixel + c * channel`.
 *
 * A stride of 0 stands for no gap: it becomes the stride of the next inner axis times the length of that axis. The stride of the
 * innermost axis becomes 1. The layout says which axis is inside which. Each stride may be 0 or not, whatever the others are:
 *
 * - all 0: a dense tensor;
 * - NHWC, `pixel` set: some channels of a tensor of more channels. A row is then `w * pixel`, an image `h * w * pixel`;
 * - NCHW, `row` set: planes with padded rows. A plane is then `h * row`, an image `c * h * row`;
 * - a crop: `row` and `image` of the whole tensor, and in NCHW its `channel`. `data` is the first value of the crop.
 *
 * The stride of an axis of length 1 leads nowhere. But a stride of 0 of the axis around it is computed from it. So no stride makes an
 * axis repeat one value.
 */
typedef struct sepconv_strides {
    /**
     * From one image to the next.
     */
    size_t image;
    /**
     * From one row to the next.
     */
    size_t row;
    /**
     * From one pixel of a row to the next.
     */
    size_t pixel;
    /**
     * From one channel of a pixel to the next.
     */
    size_t channel;
} sepconv_strides;

/**
 * A tensor to read. Call `sepconv_input_init` first, which describes a dense NHWC tensor, and set what differs.
 *
 * Several values may lie at one place, as those of windows that overlap.
 */
typedef struct sepconv_input {
    /**
     * `sizeof(sepconv_input)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * The first value. It may be NULL where a batch has no images and `len` is 0.
     */
    const float *data;
    /**
     * How many values there are from the first one on: at least up to the last one of the tensor. More are not read.
     */
    size_t len;
    /**
     * The order of the axes. Init: `SEPCONV_LAYOUT_NHWC`.
     */
    sepconv_layout layout;
    /**
     * The distances between values. Init: 0 for all, a dense tensor.
     */
    struct sepconv_strides strides;
} sepconv_input;

/**
 * A tensor to write. Call `sepconv_output_init` first, which describes a dense NHWC tensor, and set what differs.
 *
 * No two values may lie at one place. Values between those of the tensor are left as they are.
 */
typedef struct sepconv_output {
    /**
     * `sizeof(sepconv_output)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * The first value. It may be NULL where a batch has no images and `len` is 0.
     */
    float *data;
    /**
     * How many values there are from the first one on: at least up to the last one of the tensor. More are not written.
     */
    size_t len;
    /**
     * The order of the axes. Init: `SEPCONV_LAYOUT_NHWC`.
     */
    sepconv_layout layout;
    /**
     * The distances between values. Init: 0 for all, a dense tensor.
     */
    struct sepconv_strides strides;
} sepconv_output;

/**
 * The options of a MobileNet. Call `sepconv_mobilenet_config_init` first, then set what differs.
 *
 * A file of weights does not say with which activation, padding and epsilon it was trained. Another one than the training's
 * is no error: the network computes slightly wrong results.
 */
typedef struct sepconv_mobilenet_config {
    /**
     * `sizeof(sepconv_mobilenet_config)`, as the init function sets it.
     */
    size_t struct_size;
    /**
     * How many classes the logits are for, 1 to 16777216; not used with another output. Init: 1000.
     */
    size_t classes;
    /**
     * The width multiplier, above 0 and at most 1024. Init: 1.
     */
    double alpha;
    /**
     * What is added to the variance of a batch norm, at least 0: 1e-3 in TensorFlow's weights, 1e-5 in PyTorch's. Init: 1e-3.
     */
    double epsilon;
    /**
     * How planes are padded at stride 2. Init: `SEPCONV_STRIDE_PADDING_SAME`.
     */
    sepconv_stride_padding stride_padding;
    /**
     * The layer that the network ends with. Init: `SEPCONV_MODEL_OUTPUT_LOGITS`.
     */
    sepconv_model_output output;
    /**
     * The activation. Init: `SEPCONV_MODEL_ACTIVATION_RELU6`.
     */
    sepconv_model_activation activation;
} sepconv_mobilenet_config;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the ABI of the library that is linked: `SEPCONV_ABI_VERSION`, where header and library belong together.
 */
uint32_t sepconv_abi_version(void);

/**
 * The version of the library that is linked, such as `0.1.0`. The text is static.
 */
const char *sepconv_version(void);

/**
 * Text about the last call of this thread that failed: what was expected, and what came instead. It is never NULL; before
 * any error it is empty. UTF-8, at most 1023 bytes.
 *
 * It stays as it is until the next call of this thread that fails; a call that succeeds does not touch it. Copy it if it
 * must live longer. Where threads are not the program's own to hold on to (goroutines, fibers), ask before anything else
 * can run on the thread.
 */
const char *sepconv_last_error(void);

/**
 * The name of a status, such as `SEPCONV_STATUS_OK`; `unknown` for an integer that is none. The text is static.
 */
const char *sepconv_status_name(sepconv_status status);

/**
 * Writes the defaults to `desc`; `size` is `sizeof(sepconv_conv_desc)`, which tells this library how long the caller's
 * struct is.
 */
sepconv_status sepconv_conv_desc_init(struct sepconv_conv_desc *desc,
                                      size_t size);

/**
 * Writes the defaults to `desc`; `size` is `sizeof(sepconv_window_pool_desc)`, which tells this library how long the caller's
 * struct is.
 */
sepconv_status sepconv_window_pool_desc_init(struct sepconv_window_pool_desc *desc,
                                             size_t size);

/**
 * A standard convolution. Takes a filter of any order that is not depthwise, and groups.
 */
sepconv_status sepconv_conv2d_new(const struct sepconv_conv_desc *desc,
                                  struct sepconv_operator **op);

/**
 * A depthwise convolution. Takes a depthwise filter.
 */
sepconv_status sepconv_depthwise_conv2d_new(const struct sepconv_conv_desc *desc,
                                            struct sepconv_operator **op);

/**
 * A pointwise convolution: 1x1, at stride 1, without padding. Takes a filter of any order that is not depthwise.
 */
sepconv_status sepconv_pointwise_conv2d_new(const struct sepconv_conv_desc *desc,
                                            struct sepconv_operator **op);

/**
 * A depthwise convolution and a pointwise one behind it: MobileNetV1's block.
 */
sepconv_status sepconv_separable_conv2d_new(const struct sepconv_conv_desc *depthwise,
                                            const struct sepconv_conv_desc *pointwise,
                                            struct sepconv_operator **op);

/**
 * Expand, depthwise, project: MobileNetV2's block. `expand` may be NULL for none, and may be any standard convolution,
 * such as the stem of a network. With `shortcut` (0 or not 0) the input is added to the output where their shapes are equal;
 * the activation of `project`, which MobileNetV2 does not have, comes after.
 */
sepconv_status sepconv_inverted_residual_new(const struct sepconv_conv_desc *expand,
                                             const struct sepconv_conv_desc *depthwise,
                                             const struct sepconv_conv_desc *project,
                                             int32_t shortcut,
                                             struct sepconv_operator **op);

/**
 * A dense layer: `Nx1x1xC` to `Nx1x1xK`, or the same for every pixel of a plane. Takes a filter of any order that is not depthwise,
 * with a kernel of 1x1.
 */
sepconv_status sepconv_dense_new(const struct sepconv_conv_desc *desc,
                                 struct sepconv_operator **op);

/**
 * The mean of each of `channels` channels over the plane.
 */
sepconv_status sepconv_global_average_pool_new(size_t channels, struct sepconv_operator **op);

/**
 * A transposed convolution whose stride is the size of its kernel: each input pixel makes a window of output pixels of its own, as the
 * necks of detectors enlarge a plane with 2x2 and stride 2. The plane grows by the kernel on both axes. No dilation, and no padding: with
 * windows that do not overlap `SEPCONV_PADDING_SAME` adds none. Takes a filter of any order that is not depthwise.
 */
sepconv_status sepconv_transposed_conv2d_new(const struct sepconv_conv_desc *desc,
                                             struct sepconv_operator **op);

/**
 * The maximum or the mean over a window that slides over the plane. It takes any number of channels.
 */
sepconv_status sepconv_window_pool_new(const struct sepconv_window_pool_desc *desc,
                                       struct sepconv_operator **op);

/**
 * Each pixel `factor_h` times along rows and `factor_w` times along columns, at least once: nearest neighbours. It takes any number of
 * channels.
 */
sepconv_status sepconv_resize_new(size_t factor_h,
                                  size_t factor_w,
                                  struct sepconv_operator **op);

/**
 * The shape that an operator makes of `input`, or why it cannot take it.
 */
sepconv_status sepconv_operator_output_shape(const struct sepconv_operator *op,
                                             struct sepconv_shape input,
                                             struct sepconv_shape *output);

/**
 * Plans an operator for an input shape. `options` may be NULL for the defaults. The plan keeps what it needs of the operator,
 * which may be freed before it.
 */
sepconv_status sepconv_operator_plan(const struct sepconv_operator *op,
                                     struct sepconv_shape input,
                                     const struct sepconv_plan_options *options,
                                     struct sepconv_plan **plan);

/**
 * Frees an operator. NULL is no operator, and nothing is done.
 */
void sepconv_operator_free(struct sepconv_operator *op);

/**
 * A network of `count` operators in the order in which they run. It keeps what it needs of them: they may be freed before it,
 * and one may stand in several networks, or several times in one.
 */
sepconv_status sepconv_network_new(const struct sepconv_operator *const *operators,
                                   size_t count,
                                   struct sepconv_network **network);

/**
 * How many tensors a network reads.
 */
sepconv_status sepconv_network_input_count(const struct sepconv_network *network, size_t *count);

/**
 * How many tensors a network computes.
 */
sepconv_status sepconv_network_output_count(const struct sepconv_network *network, size_t *count);

/**
 * The number of layers of a network.
 */
sepconv_status sepconv_network_layer_count(const struct sepconv_network *network, size_t *count);

/**
 * The network of the layers from `first` on and before `end`, in the order in which they were added. Its inputs are the tensors that these
 * layers read and do not compute. Its outputs are the tensors that other layers read, and outputs of `network`. Both have the order in
 * which they are computed. The part shares the weights: either may be freed first.
 */
sepconv_status sepconv_network_cut(const struct sepconv_network *network,
                                   size_t first,
                                   size_t end,
                                   struct sepconv_network **part);

/**
 * The shape that a network of one input makes of `input`, or why it cannot take it: of the first output, where there are several.
 */
sepconv_status sepconv_network_output_shape(const struct sepconv_network *network,
                                            struct sepconv_shape input,
                                            struct sepconv_shape *output);

/**
 * The shapes that a network makes of `count` inputs, or why it cannot take them: to `outputs`, which has room for `output_count` shapes,
 * as many as `sepconv_network_output_count` says.
 */
sepconv_status sepconv_network_output_shapes(const struct sepconv_network *network,
                                             const struct sepconv_shape *inputs,
                                             size_t count,
                                             struct sepconv_shape *outputs,
                                             size_t output_count);

/**
 * Plans a network for an input shape. `options` may be NULL for the defaults. The plan keeps what it needs of the network,
 * which may be freed before it.
 */
sepconv_status sepconv_network_plan(const struct sepconv_network *network,
                                    struct sepconv_shape input,
                                    const struct sepconv_plan_options *options,
                                    struct sepconv_plan **plan);

/**
 * Plans a network of several inputs, for a shape of each: `count` of them at `inputs`, in the order of the network's inputs, and all of
 * one batch. Otherwise as `sepconv_network_plan`.
 */
sepconv_status sepconv_network_plan_all(const struct sepconv_network *network,
                                        const struct sepconv_shape *inputs,
                                        size_t count,
                                        const struct sepconv_plan_options *options,
                                        struct sepconv_plan **plan);

/**
 * Frees a network. NULL is no network, and nothing is done.
 */
void sepconv_network_free(struct sepconv_network *network);

/**
 * A graph without layers.
 */
sepconv_status sepconv_graph_new(struct sepconv_graph **graph);

/**
 * A tensor of the caller's, of so many channels. Inputs have the order of these calls.
 */
sepconv_status sepconv_graph_input(struct sepconv_graph *graph,
                                   size_t channels,
                                   sepconv_value *value);

/**
 * What an operator computes of `x`. The graph keeps what it needs of the operator: it may be freed before the graph, and may stand in
 * several graphs and networks, or several times in one.
 */
sepconv_status sepconv_graph_operator(struct sepconv_graph *graph,
                                      sepconv_value x,
                                      const struct sepconv_operator *op,
                                      sepconv_value *value);

/**
 * The sum of two tensors, then an activation. `y` has the shape of `x`, or one pixel an image. `clamp_min` and `clamp_max` are the
 * bounds of `SEPCONV_ACTIVATION_CLAMP`, `leaky_slope` is the slope of `SEPCONV_ACTIVATION_LEAKY_RELU`; they are 0 with any other
 * activation.
 */
sepconv_status sepconv_graph_add(struct sepconv_graph *graph,
                                 sepconv_value x,
                                 sepconv_value y,
                                 sepconv_activation activation,
                                 float clamp_min,
                                 float clamp_max,
                                 float leaky_slope,
                                 sepconv_value *value);

/**
 * The sum of two tensors, where it is negative times the slope of its channel. `channels` is the number of slopes, and of channels of both
 * tensors; `y` has the shape of `x`, or one pixel an image. The slopes may be freed after the call.
 */
sepconv_status sepconv_graph_add_prelu(struct sepconv_graph *graph,
                                       sepconv_value x,
                                       sepconv_value y,
                                       const float *slopes,
                                       size_t channels,
                                       sepconv_value *value);

/**
 * The sum of two tensors, `min(max(lower, x + y), upper)` of the bounds of its channel. `channels` is the number of lower and of upper
 * bounds, and of channels of both tensors; `y` has the shape of `x`, or one pixel an image. The bounds may be freed after the call.
 */
sepconv_status sepconv_graph_add_channel_clamp(struct sepconv_graph *graph,
                                               sepconv_value x,
                                               sepconv_value y,
                                               const float *min,
                                               const float *max,
                                               size_t channels,
                                               sepconv_value *value);

/**
 * `x` times `y`, value by value. `y` has the shape of `x`, or one pixel an image: the scale of each channel, as squeeze-and-excite has
 * it.
 */
sepconv_status sepconv_graph_scale(struct sepconv_graph *graph,
                                   sepconv_value x,
                                   sepconv_value y,
                                   sepconv_value *value);

/**
 * The channels of `count` tensors of one plane, one after the other. A tensor may come several times.
 */
sepconv_status sepconv_graph_concat(struct sepconv_graph *graph,
                                    const sepconv_value *values,
                                    size_t count,
                                    sepconv_value *value);

/**
 * The maximum or the mean over a window, as an operator of `sepconv_window_pool_new`.
 */
sepconv_status sepconv_graph_window_pool(struct sepconv_graph *graph,
                                         sepconv_value x,
                                         const struct sepconv_window_pool_desc *desc,
                                         sepconv_value *value);

/**
 * Each pixel several times along rows and columns, as an operator of `sepconv_resize_new`.
 */
sepconv_status sepconv_graph_resize(struct sepconv_graph *graph,
                                    sepconv_value x,
                                    size_t factor_h,
                                    size_t factor_w,
                                    sepconv_value *value);

/**
 * Makes a tensor an output. Outputs have the order of these calls. Layers may read an output too.
 */
sepconv_status sepconv_graph_output(struct sepconv_graph *graph, sepconv_value value);

/**
 * The network of all layers. It uses the graph up, also where it fails: all that is left is `sepconv_graph_free`.
 *
 * There is an input and an output, and each tensor is read by a layer or is an output.
 */
sepconv_status sepconv_graph_build(struct sepconv_graph *graph,
                                   struct sepconv_network **network);

/**
 * Frees a graph. NULL is no graph, and nothing is done.
 */
void sepconv_graph_free(struct sepconv_graph *graph);

/**
 * A pool of `threads` threads, 1 to 64. The thread that calls run works too, in place of one of them.
 */
sepconv_status sepconv_pool_new(size_t threads,
                                struct sepconv_pool **pool);

/**
 * Frees a pool: its threads end when the last plan that uses it is freed. NULL is no pool, and nothing is done.
 */
void sepconv_pool_free(struct sepconv_pool *pool);

/**
 * Writes the defaults to `options`; `size` is `sizeof(sepconv_plan_options)`, which tells this library how long the
 * caller's struct is.
 */
sepconv_status sepconv_plan_options_init(struct sepconv_plan_options *options,
                                         size_t size);

/**
 * Describes `len` values from `data` on, a dense NHWC tensor to read; `size` is `sizeof(sepconv_input)`, which tells this library how
 * long the caller's struct is. `data` and `len` are looked at by a run, and not before.
 */
sepconv_status sepconv_input_init(struct sepconv_input *input,
                                  size_t size,
                                  const float *data,
                                  size_t len);

/**
 * Describes `len` values from `data` on, a dense NHWC tensor to write; `size` is `sizeof(sepconv_output)`, which tells this library
 * how long the caller's struct is. `data` and `len` are looked at by a run, and not before.
 */
sepconv_status sepconv_output_init(struct sepconv_output *output,
                                   size_t size,
                                   float *data,
                                   size_t len);

/**
 * The shape that a plan is for: of the first input, where there are several.
 */
sepconv_status sepconv_plan_input_shape(const struct sepconv_plan *plan,
                                        struct sepconv_shape *shape);

/**
 * The shape of what it computes: of the first output, where there are several.
 */
sepconv_status sepconv_plan_output_shape(const struct sepconv_plan *plan,
                                         struct sepconv_shape *shape);

/**
 * How many tensors a run reads.
 */
sepconv_status sepconv_plan_input_count(const struct sepconv_plan *plan, size_t *count);

/**
 * How many tensors a run writes.
 */
sepconv_status sepconv_plan_output_count(const struct sepconv_plan *plan, size_t *count);

/**
 * The shape of input `index`, counted from 0 in the order of the network's inputs.
 */
sepconv_status sepconv_plan_input_shape_at(const struct sepconv_plan *plan,
                                           size_t index,
                                           struct sepconv_shape *shape);

/**
 * The shape of output `index`, counted from 0 in the order of the network's outputs.
 */
sepconv_status sepconv_plan_output_shape_at(const struct sepconv_plan *plan,
                                            size_t index,
                                            struct sepconv_shape *shape);

/**
 * The instruction set that it runs on, never `SEPCONV_ISA_BEST`.
 */
sepconv_status sepconv_plan_isa(const struct sepconv_plan *plan, sepconv_isa *isa);

/**
 * How it rounds.
 */
sepconv_status sepconv_plan_arithmetic(const struct sepconv_plan *plan,
                                       sepconv_arithmetic *arithmetic);

/**
 * Multiply-accumulate operations of a run, padding counted.
 */
sepconv_status sepconv_plan_macs(const struct sepconv_plan *plan, uint64_t *macs);

/**
 * Bytes of a scratch, or of memory for `sepconv_plan_run_in`.
 */
sepconv_status sepconv_plan_scratch_bytes(const struct sepconv_plan *plan, size_t *bytes);

/**
 * What was decided and why, as text of several lines: kernels, schedules, work and memory of each step. UTF-8.
 *
 * Writes as `snprintf` does: at most `capacity` bytes with the NUL, cut between characters, and to `length` the bytes that
 * all of it takes without the NUL. `buffer` may be NULL where `capacity` is 0, `length` may be NULL.
 */
sepconv_status sepconv_plan_explain(const struct sepconv_plan *plan,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *length);

/**
 * Frees a plan. Scratch of it may be freed before or after. NULL is no plan, and nothing is done.
 */
void sepconv_plan_free(struct sepconv_plan *plan);

/**
 * Memory for one run at a time; keep it and use it again, on any thread, with this plan or with others that need no more. `plan` may
 * be NULL: the scratch has no memory then, until `sepconv_scratch_reserve`.
 */
sepconv_status sepconv_scratch_new(const struct sepconv_plan *plan,
                                   struct sepconv_scratch **scratch);

/**
 * Makes room for one more plan: for its bytes, and for its threads. Does nothing where there is room. The scratch serves each plan
 * that it had room for before.
 */
sepconv_status sepconv_scratch_reserve(struct sepconv_scratch *scratch,
                                       const struct sepconv_plan *plan);

/**
 * Frees a scratch. NULL is no scratch, and nothing is done.
 */
void sepconv_scratch_free(struct sepconv_scratch *scratch);

/**
 * Computes `output` from `input`, which have the shapes of the plan, on the threads that the plan was made for.
 *
 * The memory from the first to the last value of the input must not overlap with that of the output, even where their values lie
 * between each other. Where the plan is for `SEPCONV_LAYOUT_NHWC`, the channels of a pixel lie together; a plan for
 * `SEPCONV_LAYOUT_NCHW` takes any strides.
 *
 * With a batch of 0 images nothing is read or written.
 *
 * Everything is checked before anything is written. Many threads may run one plan at once, each with a scratch of its own.
 */
sepconv_status sepconv_plan_run(const struct sepconv_plan *plan,
                                const struct sepconv_input *input,
                                const struct sepconv_output *output,
                                struct sepconv_scratch *scratch);

/**
 * As `sepconv_plan_run`, on the threads that `options` choose, in place of those that the plan was made for. At most as many as the
 * plan and the scratch are for take part. Of the options only the threads count. Results are the same.
 */
sepconv_status sepconv_plan_run_on(const struct sepconv_plan *plan,
                                   const struct sepconv_plan_options *options,
                                   const struct sepconv_input *input,
                                   const struct sepconv_output *output,
                                   struct sepconv_scratch *scratch);

/**
 * As `sepconv_plan_run`, in `bytes` bytes of memory of the caller's in place of a scratch. `options` choose the threads as in
 * `sepconv_plan_run_on`; NULL stands for the threads that the plan was made for.
 *
 * The run uses the bytes that `sepconv_plan_scratch_bytes` says, from the first address on that is a multiple of
 * `SEPCONV_SCRATCH_ALIGNMENT`. So memory of any alignment has room with `SEPCONV_SCRATCH_ALIGNMENT - 1` bytes more. Its bytes mean
 * nothing before and after the run, which fills them with zeros first. It must not overlap with input or output. It may be NULL where
 * `bytes` is 0.
 *
 * A plan of several threads allocates what they share at the first run, and once more for each run at the same time. It keeps that
 * until it is freed. A plan of one thread allocates nothing.
 */
sepconv_status sepconv_plan_run_in(const struct sepconv_plan *plan,
                                   const struct sepconv_plan_options *options,
                                   const struct sepconv_input *input,
                                   const struct sepconv_output *output,
                                   void *memory,
                                   size_t bytes);

/**
 * Computes all outputs of a network from all of its inputs, each in the order in which the network has them: `inputs` and `outputs`
 * are arrays of pointers to descriptions. There are as many as `sepconv_plan_input_count` and `sepconv_plan_output_count` say.
 *
 * As `sepconv_plan_run` does with one of each. No output may have memory in common with another one or with an input; inputs may
 * with each other. A run allocates a few words for each tensor.
 */
sepconv_status sepconv_plan_run_all(const struct sepconv_plan *plan,
                                    const struct sepconv_input *const *inputs,
                                    size_t input_count,
                                    const struct sepconv_output *const *outputs,
                                    size_t output_count,
                                    struct sepconv_scratch *scratch);

/**
 * As `sepconv_plan_run_all`, on the threads that `options` choose: see `sepconv_plan_run_on`.
 */
sepconv_status sepconv_plan_run_all_on(const struct sepconv_plan *plan,
                                       const struct sepconv_plan_options *options,
                                       const struct sepconv_input *const *inputs,
                                       size_t input_count,
                                       const struct sepconv_output *const *outputs,
                                       size_t output_count,
                                       struct sepconv_scratch *scratch);

/**
 * As `sepconv_plan_run_all`, in `bytes` bytes of memory of the caller's: see `sepconv_plan_run_in`.
 */
sepconv_status sepconv_plan_run_all_in(const struct sepconv_plan *plan,
                                       const struct sepconv_plan_options *options,
                                       const struct sepconv_input *const *inputs,
                                       size_t input_count,
                                       const struct sepconv_output *const *outputs,
                                       size_t output_count,
                                       void *memory,
                                       size_t bytes);

/**
 * The name of an instruction set in lower case, such as `avx2`; `unknown` for an integer that is none. The text is static.
 */
const char *sepconv_isa_name(sepconv_isa isa);

/**
 * A cache of at most `plans` plans; 0 counts as 1. All plans are made by `options`, which may be NULL for the defaults. The layouts of
 * the options do not count: those of a run do.
 */
sepconv_status sepconv_plan_cache_new(const struct sepconv_plan_options *options,
                                      size_t plans,
                                      struct sepconv_plan_cache **cache);

/**
 * Computes `output` from an `input` of this shape. Where the cache has no plan of the network for the shape and the layouts, it makes
 * one: then the plan that was used longest ago may leave. The output is of the shape that `sepconv_network_output_shape` gives.
 *
 * Tensors are checked as by `sepconv_plan_run`. A plan keeps what it needs of the network, which may be freed before the cache.
 */
sepconv_status sepconv_plan_cache_run(const struct sepconv_plan_cache *cache,
                                      const struct sepconv_network *network,
                                      struct sepconv_shape shape,
                                      const struct sepconv_input *input,
                                      const struct sepconv_output *output);

/**
 * Plans that a cache holds.
 */
sepconv_status sepconv_plan_cache_len(const struct sepconv_plan_cache *cache, size_t *len);

/**
 * Drops all plans and all scratch of a cache. Runs that have begun end as they would.
 */
sepconv_status sepconv_plan_cache_clear(const struct sepconv_plan_cache *cache);

/**
 * Frees a cache with all that it holds. NULL is no cache, and nothing is done.
 */
void sepconv_plan_cache_free(struct sepconv_plan_cache *cache);

/**
 * Writes the defaults to `config`; `size` is `sizeof(sepconv_mobilenet_config)`, which tells this library how long the
 * caller's struct is.
 *
 * Part of libraries built with the feature `models`, as all about MobileNets.
 */
sepconv_status sepconv_mobilenet_config_init(struct sepconv_mobilenet_config *config,
                                             size_t size);

/**
 * MobileNetV1, for images `NxHxWx3`, with the weights of a file in the safetensors format, which is `file_len` bytes at `file`
 * and only read during the call. `config` may be NULL for the defaults.
 *
 * Tensors are of type F32, F16 or BF16, which may be mixed; F16 and BF16 become floats of the same value. Tensors are called
 * `stem.weight`, `block1.depthwise.weight`, `block1.pointwise.weight`, up to `head.weight`. Each layer has a `.bias`, or a batch
 * norm: `.mean` and `.variance`, and `.gamma` and `.beta` where they were learnt. It may have both: the bias is added before the
 * batch norm. Tensors of other names are left alone, whatever their type.
 */
sepconv_status sepconv_network_mobilenet_v1(const struct sepconv_mobilenet_config *config,
                                            const uint8_t *file,
                                            size_t file_len,
                                            sepconv_weight_order order,
                                            struct sepconv_network **network);

/**
 * MobileNetV2, as `sepconv_network_mobilenet_v1`. Tensors are called `stem.weight`, `block0.depthwise.weight`,
 * `block0.project.weight`, `block1.expand.weight`, `block1.depthwise.weight`, up to `block16.project.weight`, then `last.weight`
 * and `head.weight`.
 */
sepconv_status sepconv_network_mobilenet_v2(const struct sepconv_mobilenet_config *config,
                                            const uint8_t *file,
                                            size_t file_len,
                                            sepconv_weight_order order,
                                            struct sepconv_network **network);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SEPCONV_H */
