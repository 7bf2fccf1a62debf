/*
 * The C ABI seen from C, and from C++: header and library fit together, results have the bits of a naive loop, errors are told, and
 * what was made is freed. .ci/capi.sh builds and runs it, also with the sanitizers of the C compiler and under Valgrind.
 *
 *   capi            all of it
 *   capi isa        SEPCONV_MAX_ISA names no instruction set
 *
 * tests/capi.rs holds the larger part: every pointer that is NULL, every code out of range, every operator.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef __cplusplus
#include <pthread.h>
#endif

#include "sepconv.h"

static void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s; last error: %s\n", file, line, what, sepconv_last_error());
    exit(EXIT_FAILURE);
}

#define HOLDS(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))
#define OK(call) HOLDS((call) == SEPCONV_STATUS_OK)
#define FAILS(status, call) HOLDS((call) == (status))

static float *floats(size_t count)
{
    float *values = (float *)malloc(count * sizeof *values);
    HOLDS(values != NULL);
    return values;
}

/* Values from -1 to 1, the same on every machine. */
static float *random_floats(size_t count, uint32_t *state)
{
    float *values = floats(count);
    size_t i;
    for (i = 0; i < count; i++) {
        *state = *state * 1664525u + 1013904223u;
        values[i] = (float)(*state >> 8) / 8388608.0f - 1.0f;
    }
    return values;
}

/* One step of a sum, as a plan rounds it. */
static float step(sepconv_arithmetic arithmetic, float x, float w, float sum)
{
    volatile float product; /* rounded here, whatever the compiler would like to contract */
    if (arithmetic == SEPCONV_ARITHMETIC_FUSED) {
        return fmaf(x, w, sum);
    }
    product = x * w;
    return product + sum;
}

static float relu6(float v)
{
    v = 0.0f > v ? 0.0f : v;
    return 6.0f < v ? 6.0f : v;
}

/* The tensors of the block that is computed: depthwise 3x3 at stride 2 with a bias, ReLU6, pointwise with a bias. */
enum { N = 2, H = 11, W = 14, C = 19, K = 37, OUT_H = 6, OUT_W = 7, GAP = 3 };

/* docs/numbers.md as code. Padding SAME adds a row at both ends of 11 rows, and of 14 columns one after the last. */
static void naive(sepconv_arithmetic arithmetic, const float *x, const float *taps, const float *tap_bias, const float *matrix,
                  const float *bias, float *out)
{
    float middle[C];
    int n, y, xx, kh, kw, c, k;
    for (n = 0; n < N; n++) {
        for (y = 0; y < OUT_H; y++) {
            for (xx = 0; xx < OUT_W; xx++) {
                for (c = 0; c < C; c++) {
                    float sum = tap_bias[c];
                    for (kh = 0; kh < 3; kh++) {
                        for (kw = 0; kw < 3; kw++) {
                            int row = 2 * y + kh - 1, column = 2 * xx + kw;
                            int inside = row >= 0 && row < H && column < W;
                            float value = inside ? x[((n * H + row) * W + column) * C + c] : 0.0f;
                            sum = step(arithmetic, value, taps[(kh * 3 + kw) * C + c], sum);
                        }
                    }
                    middle[c] = relu6(sum);
                }
                for (k = 0; k < K; k++) {
                    float sum = bias[k];
                    for (c = 0; c < C; c++) {
                        sum = step(arithmetic, middle[c], matrix[c * K + k], sum);
                    }
                    out[((n * OUT_H + y) * OUT_W + xx) * K + k] = sum;
                }
            }
        }
    }
}

static void describe(sepconv_conv_desc *depthwise, sepconv_conv_desc *pointwise, const float *taps, const float *tap_bias,
                     const float *matrix, const float *bias)
{
    memset(depthwise, 0xff, sizeof *depthwise);
    OK(sepconv_conv_desc_init(depthwise, sizeof *depthwise));
    /* what Rust wrote is where C reads it */
    HOLDS(depthwise->struct_size == sizeof *depthwise && depthwise->filter == NULL && depthwise->filter_order == 0);
    HOLDS(depthwise->padding == SEPCONV_PADDING_SAME && depthwise->stride_h == 1 && depthwise->dilation_w == 1);
    HOLDS(depthwise->pad_right == 0 && depthwise->bias == NULL && depthwise->batch_norm_variance == NULL);
    HOLDS(isnan(depthwise->batch_norm_epsilon) && depthwise->activation == SEPCONV_ACTIVATION_LINEAR);
    HOLDS(isinf(depthwise->clamp_min) && depthwise->clamp_min < 0 && isinf(depthwise->clamp_max) && depthwise->clamp_max > 0);
    depthwise->filter = taps;
    depthwise->filter_len = 9 * C;
    depthwise->filter_order = SEPCONV_FILTER_ORDER_DEPTHWISE_HWCM;
    depthwise->kernel_h = depthwise->kernel_w = 3;
    depthwise->input_channels = depthwise->output_channels = C;
    depthwise->stride_h = depthwise->stride_w = 2;
    depthwise->bias = tap_bias;
    depthwise->bias_len = C;
    depthwise->activation = SEPCONV_ACTIVATION_RELU6;
    OK(sepconv_conv_desc_init(pointwise, sizeof *pointwise));
    pointwise->filter = matrix;
    pointwise->filter_len = (size_t)C * K;
    pointwise->filter_order = SEPCONV_FILTER_ORDER_HWIO;
    pointwise->kernel_h = pointwise->kernel_w = 1;
    pointwise->input_channels = C;
    pointwise->output_channels = K;
    pointwise->bias = bias;
    pointwise->bias_len = K;
}

/* What a thread needs to run a plan. */
struct work {
    const sepconv_plan *plan;
    const float *input;
    const float *expected;
};

enum { INPUT_LEN = N * H * W * C, PIXELS = N * OUT_H * OUT_W, OUTPUT_LEN = PIXELS * K, WIDE_LEN = PIXELS * (K + GAP) };

/* Runs dense, and with a gap between pixels, which stays as it was. */
static void *run(void *argument)
{
    const struct work *work = (const struct work *)argument;
    float *output = floats(OUTPUT_LEN), *wide = floats(WIDE_LEN);
    sepconv_scratch *scratch = NULL;
    int p, k, round;
    OK(sepconv_scratch_new(work->plan, &scratch));
    for (round = 0; round < 3; round++) {
        memset(output, 0xff, OUTPUT_LEN * sizeof *output);
        memset(wide, 0x55, WIDE_LEN * sizeof *wide);
        OK(sepconv_plan_run(work->plan, work->input, INPUT_LEN, 0, output, OUTPUT_LEN, 0, scratch));
        OK(sepconv_plan_run(work->plan, work->input, INPUT_LEN, C, wide, WIDE_LEN, K + GAP, scratch));
        HOLDS(memcmp(output, work->expected, OUTPUT_LEN * sizeof *output) == 0);
        for (p = 0; p < PIXELS; p++) {
            const float *pixel = wide + (size_t)p * (K + GAP);
            HOLDS(memcmp(pixel, work->expected + (size_t)p * K, K * sizeof *pixel) == 0);
            for (k = 0; k < GAP * (int)sizeof *pixel; k++) {
                HOLDS(((const unsigned char *)(pixel + K))[k] == 0x55);
            }
        }
    }
    sepconv_scratch_free(scratch);
    free(output);
    free(wide);
    return NULL;
}

/* A loop of the caller's: calls its tasks backwards, and counts its own calls. */
static void backwards(void *context, size_t count, sepconv_task task, void *task_context)
{
    ++*(int *)context;
    while (count > 0) {
        task(task_context, --count);
    }
}

/* Runs of a plan on other threads than it was made for: the same result. */
static void run_on(const struct work *work, const sepconv_plan_options *options)
{
    float *output = floats(OUTPUT_LEN);
    sepconv_scratch *scratch = NULL;
    OK(sepconv_scratch_new(work->plan, &scratch));
    memset(output, 0xff, OUTPUT_LEN * sizeof *output);
    OK(sepconv_plan_run_on(work->plan, options, work->input, INPUT_LEN, 0, output, OUTPUT_LEN, 0, scratch));
    HOLDS(memcmp(output, work->expected, OUTPUT_LEN * sizeof *output) == 0);
    sepconv_scratch_free(scratch);
    free(output);
}

/* The block by one of the ways to run it. */
static void check_block(int32_t threads, int32_t fusion)
{
    uint32_t state = 1;
    float *taps = random_floats(9 * C, &state), *tap_bias = random_floats(C, &state);
    float *matrix = random_floats((size_t)C * K, &state), *bias = random_floats(K, &state);
    float *input = random_floats(INPUT_LEN, &state), *expected = floats(OUTPUT_LEN);
    const sepconv_shape shape = {N, H, W, C};
    sepconv_shape made = {0, 0, 0, 0};
    sepconv_conv_desc depthwise, pointwise;
    sepconv_plan_options options;
    sepconv_operator *block = NULL;
    sepconv_network *network = NULL;
    const sepconv_operator *layers[1];
    sepconv_pool *pool = NULL;
    sepconv_plan *plan = NULL;
    sepconv_arithmetic arithmetic;
    sepconv_isa isa = SEPCONV_ISA_BEST;
    uint64_t macs = 0;
    size_t bytes = 0;
    struct work work;
    static int loops;

    loops = 0;
    describe(&depthwise, &pointwise, taps, tap_bias, matrix, bias);
    OK(sepconv_separable_conv2d_new(&depthwise, &pointwise, &block));
    OK(sepconv_operator_output_shape(block, shape, &made));
    HOLDS(made.n == N && made.h == OUT_H && made.w == OUT_W && made.c == K);

    memset(&options, 0xff, sizeof options);
    OK(sepconv_plan_options_init(&options, sizeof options));
    HOLDS(options.struct_size == sizeof options && options.pool == NULL && options.threads == SEPCONV_THREADS_SERIAL);
    HOLDS(options.max_isa == SEPCONV_ISA_BEST && options.fusion == SEPCONV_FUSION_AUTO && options.spins == 20000);
    HOLDS(options.common_bits == 0);
    options.fusion = (sepconv_fusion)fusion;
    options.threads = (sepconv_threads)threads;
    if (threads == SEPCONV_THREADS_POOL) {
        OK(sepconv_pool_new(2, &pool));
        options.pool = pool;
    }
    HOLDS(options.parallel_for == NULL && options.max_threads == 0);
    options.max_threads = 2;
    if (threads == SEPCONV_THREADS_CUSTOM) {
        options.parallel_for = backwards;
        options.parallel_context = &loops;
        options.parallel_threads = 2;
    }
    layers[0] = block;
    OK(sepconv_network_new(layers, 1, &network));
    OK(sepconv_network_plan(network, shape, &options, &plan));
    /* all that it was made of may go before it */
    sepconv_network_free(network);
    sepconv_operator_free(block);
    sepconv_pool_free(pool);

    OK(sepconv_plan_arithmetic(plan, &arithmetic));
    OK(sepconv_plan_isa(plan, &isa));
    HOLDS(isa != SEPCONV_ISA_BEST && strcmp(sepconv_isa_name(isa), "unknown") != 0);
    OK(sepconv_plan_macs(plan, &macs));
    HOLDS(macs == (uint64_t)PIXELS * (9 * C + C * K));
    OK(sepconv_plan_scratch_bytes(plan, &bytes));
    HOLDS(bytes > 0);
    OK(sepconv_plan_input_shape(plan, &made));
    HOLDS(made.n == N && made.h == H && made.w == W && made.c == C);
    OK(sepconv_plan_output_shape(plan, &made));
    HOLDS(made.n == N && made.h == OUT_H && made.w == OUT_W && made.c == K);

    naive(arithmetic, input, taps, tap_bias, matrix, bias, expected);
    work.plan = plan;
    work.input = input;
    work.expected = expected;
    run(&work);
    if (threads != SEPCONV_THREADS_POOL) { /* that pool is gone but for the plan */
        run_on(&work, &options);
    }
    HOLDS((loops > 0) == (threads == SEPCONV_THREADS_CUSTOM));
    OK(sepconv_plan_options_init(&options, sizeof options));
    run_on(&work, &options);
#ifndef __cplusplus
    if (threads != SEPCONV_THREADS_CUSTOM) { /* its loop counts, on one thread at a time */
        pthread_t others[3];
        int i;
        for (i = 0; i < 3; i++) {
            HOLDS(pthread_create(&others[i], NULL, run, &work) == 0);
        }
        for (i = 0; i < 3; i++) {
            HOLDS(pthread_join(others[i], NULL) == 0);
        }
    }
#endif
    sepconv_plan_free(plan);
    free(taps);
    free(tap_bias);
    free(matrix);
    free(bias);
    free(input);
    free(expected);
}

static void check_errors(void)
{
    static const float taps[9 * C] = {0.5f}, matrix[C * K] = {0.25f}, zeros[C * K] = {0.0f};
    const sepconv_shape shape = {1, 4, 4, C};
    sepconv_conv_desc depthwise, pointwise, wrong;
    sepconv_plan_options options;
    sepconv_operator *block = NULL, *none = NULL;
    sepconv_plan *plan = NULL, *other = NULL;
    sepconv_scratch *scratch = NULL, *small = NULL;
    sepconv_network *network = NULL;
    sepconv_pool *pool = NULL;
    const sepconv_operator *hole[1] = {NULL};
    float memory[2 * 4 * 4 * K];
    char text[16];
    size_t length = 0, i;

    describe(&depthwise, &pointwise, taps, zeros, matrix, zeros);
    FAILS(SEPCONV_STATUS_NULL_POINTER, sepconv_separable_conv2d_new(&depthwise, NULL, &none));
    HOLDS(strcmp(sepconv_last_error(), "pointwise: must not be NULL") == 0);
    FAILS(SEPCONV_STATUS_NULL_POINTER, sepconv_separable_conv2d_new(&depthwise, &pointwise, NULL));
    FAILS(SEPCONV_STATUS_NULL_POINTER, sepconv_conv2d_new(NULL, &none));
    FAILS(SEPCONV_STATUS_NULL_POINTER, sepconv_network_new(hole, 1, &network));
    wrong = depthwise;
    wrong.struct_size = 0;
    FAILS(SEPCONV_STATUS_STRUCT_SIZE, sepconv_depthwise_conv2d_new(&wrong, &none));
    FAILS(SEPCONV_STATUS_STRUCT_SIZE, sepconv_conv_desc_init(&wrong, 8));
    wrong = depthwise;
    wrong.padding = (sepconv_padding)77;
    FAILS(SEPCONV_STATUS_UNKNOWN_CODE, sepconv_depthwise_conv2d_new(&wrong, &none));
    wrong = depthwise;
    wrong.filter_len = 1;
    FAILS(SEPCONV_STATUS_LENGTH, sepconv_depthwise_conv2d_new(&wrong, &none));
    wrong = depthwise;
    wrong.kernel_h = 0;
    FAILS(SEPCONV_STATUS_SIZE, sepconv_depthwise_conv2d_new(&wrong, &none));
    FAILS(SEPCONV_STATUS_FILTER_ORDER, sepconv_conv2d_new(&depthwise, &none));
    FAILS(SEPCONV_STATUS_VALUE, sepconv_dense_new(&depthwise, &none));
    FAILS(SEPCONV_STATUS_FILTER_ORDER, sepconv_depthwise_conv2d_new(&pointwise, &none));
    FAILS(SEPCONV_STATUS_CHANNELS, sepconv_inverted_residual_new(&pointwise, &depthwise, &pointwise, 1, &none));
    FAILS(SEPCONV_STATUS_SIZE, sepconv_global_average_pool_new(0, &none));
    FAILS(SEPCONV_STATUS_VALUE, sepconv_pool_new(0, &pool));
    FAILS(SEPCONV_STATUS_WEIGHTS,
          sepconv_network_mobilenet_v1(NULL, (const uint8_t *)"none", 4, SEPCONV_WEIGHT_ORDER_HWIO, &network));
    FAILS(SEPCONV_STATUS_WEIGHTS,
          sepconv_network_mobilenet_v2(NULL, (const uint8_t *)"none", 4, SEPCONV_WEIGHT_ORDER_OIHW, &network));
    HOLDS(none == NULL && network == NULL && pool == NULL);

    /* at stride 1, so that input and output are planes of one size */
    depthwise.stride_h = depthwise.stride_w = 1;
    OK(sepconv_separable_conv2d_new(&depthwise, &pointwise, &block));
    OK(sepconv_plan_options_init(&options, sizeof options));
    options.threads = (sepconv_threads)9;
    FAILS(SEPCONV_STATUS_UNKNOWN_CODE, sepconv_operator_plan(block, shape, &options, &plan));
    options.threads = SEPCONV_THREADS_POOL;
    FAILS(SEPCONV_STATUS_NULL_POINTER, sepconv_operator_plan(block, shape, &options, &plan));
    HOLDS(plan == NULL);
    OK(sepconv_operator_plan(block, shape, NULL, &plan));
    shape.h = 1;
    OK(sepconv_operator_plan(block, shape, NULL, &other));
    OK(sepconv_scratch_new(plan, &scratch));
    OK(sepconv_scratch_new(other, &small));

    memset(memory, 0x55, sizeof memory);
#define RUN(from, from_len, to, to_len, on) sepconv_plan_run(plan, from, from_len, 0, to, to_len, 0, on)
    FAILS(SEPCONV_STATUS_OVERLAP, RUN(memory, 16 * C, memory, 16 * K, scratch));
    FAILS(SEPCONV_STATUS_OVERLAP, RUN(memory + 16 * K - 1, 16 * C, memory, 16 * K, scratch));
    FAILS(SEPCONV_STATUS_BUFFER_TOO_SHORT, RUN(memory + 16 * K, 16 * C, memory, 16 * K - 1, scratch));
    FAILS(SEPCONV_STATUS_BUFFER_TOO_SHORT, RUN(memory + 16 * K, 16 * C - 1, memory, 16 * K, scratch));
    FAILS(SEPCONV_STATUS_LENGTH, RUN(memory + 16 * K, SIZE_MAX, memory, 16 * K, scratch));
    FAILS(SEPCONV_STATUS_MISALIGNED_POINTER, RUN((const float *)((const char *)taps + 1), 16 * C, memory, 16 * K, scratch));
    FAILS(SEPCONV_STATUS_SMALL_SCRATCH, RUN(memory + 16 * K, 16 * C, memory, 16 * K, small));
    FAILS(SEPCONV_STATUS_NULL_POINTER, RUN(memory + 16 * K, 16 * C, memory, 16 * K, NULL));
    for (i = 0; i < sizeof memory; i++) {
        HOLDS(((const unsigned char *)memory)[i] == 0x55);
    }
    OK(RUN(memory + 16 * K, 16 * C, memory, 16 * K, scratch));

    memset(text, 1, sizeof text);
    OK(sepconv_plan_explain(plan, text, sizeof text - 1, &length));
    HOLDS(strlen(text) <= sizeof text - 2 && text[sizeof text - 1] == 1 && length > sizeof text);

    sepconv_scratch_free(small);
    sepconv_plan_free(other);
    sepconv_plan_free(plan);
    sepconv_scratch_free(scratch);
    sepconv_operator_free(block);

    sepconv_operator_free(NULL);
    sepconv_network_free(NULL);
    sepconv_plan_free(NULL);
    sepconv_scratch_free(NULL);
    sepconv_pool_free(NULL);
}

int main(int argc, char **argv)
{
    HOLDS(sepconv_abi_version() == SEPCONV_ABI_VERSION);
    HOLDS(sepconv_version()[0] != '\0');
    HOLDS(strcmp(sepconv_status_name(SEPCONV_STATUS_OVERLAP), "SEPCONV_STATUS_OVERLAP") == 0);
    HOLDS(sepconv_last_error()[0] == '\0');
    if (argc > 1 && strcmp(argv[1], "isa") == 0) {
        const sepconv_shape pixel = {1, 1, 1, 1};
        sepconv_operator *average = NULL;
        sepconv_plan *plan = NULL;
        OK(sepconv_global_average_pool_new(1, &average));
        FAILS(SEPCONV_STATUS_ISA, sepconv_operator_plan(average, pixel, NULL, &plan));
        HOLDS(strstr(sepconv_last_error(), "SEPCONV_MAX_ISA") != NULL && plan == NULL);
        sepconv_operator_free(average);
        return EXIT_SUCCESS;
    }
    check_block(SEPCONV_THREADS_SERIAL, SEPCONV_FUSION_AUTO);
    check_block(SEPCONV_THREADS_SERIAL, SEPCONV_FUSION_NEVER);
    check_block(SEPCONV_THREADS_SERIAL, SEPCONV_FUSION_ROW_RING);
    check_block(SEPCONV_THREADS_SERIAL, SEPCONV_FUSION_CHANNEL_SLABS);
    check_block(SEPCONV_THREADS_POOL, SEPCONV_FUSION_AUTO);
    check_block(SEPCONV_THREADS_CUSTOM, SEPCONV_FUSION_AUTO);
    check_errors();
    puts("ok");
    return EXIT_SUCCESS;
}
