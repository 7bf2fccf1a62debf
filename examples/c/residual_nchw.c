/*
 * A block of MobileNetV2 on NCHW tensors, as an engine of its own would run it: an inverted residual with its shortcut, planned for
 * planes, run in the engine's memory, then by a plan cache for images of two sizes. A naive loop checks each result.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sepconv.h"

/* The block: from 24 channels to 144, depthwise 3x3, and back to 24. */
enum { CHANNELS = 24, EXPANDED = 144 };

static void check(sepconv_status status)
{
    if (status != SEPCONV_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", sepconv_status_name(status), sepconv_last_error());
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* So many values from -scale to scale. */
static float *random_floats(size_t count, float scale)
{
    static uint32_t state = 1;
    float *values = (float *)allocate(count * sizeof *values);
    size_t i;
    for (i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = scale * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return values;
}

/* Weights in the order of PyTorch and ONNX, with batch norms folded to biases. */
struct weights {
    float *expand, *expand_bias;       /* [EXPANDED][CHANNELS] */
    float *depthwise, *depthwise_bias; /* [EXPANDED][3][3] */
    float *project, *project_bias;     /* [CHANNELS][EXPANDED] */
};

/* A pointwise convolution from `in` channels to `out`, without an activation. */
static void describe_pointwise(sepconv_conv_desc *desc, const float *matrix, const float *bias, size_t in, size_t out)
{
    check(sepconv_conv_desc_init(desc, sizeof *desc));
    desc->filter = matrix;
    desc->filter_len = out * in;
    desc->filter_order = SEPCONV_FILTER_ORDER_OIHW;
    desc->kernel_h = desc->kernel_w = 1;
    desc->input_channels = in;
    desc->output_channels = out;
    desc->bias = bias;
    desc->bias_len = out;
}

static sepconv_operator *make_block(const struct weights *w)
{
    sepconv_conv_desc expand, depthwise, project;
    sepconv_operator *block;

    describe_pointwise(&expand, w->expand, w->expand_bias, CHANNELS, EXPANDED);
    expand.activation = SEPCONV_ACTIVATION_RELU6;

    check(sepconv_conv_desc_init(&depthwise, sizeof depthwise));
    depthwise.filter = w->depthwise;
    depthwise.filter_len = EXPANDED * 3 * 3;
    depthwise.filter_order = SEPCONV_FILTER_ORDER_DEPTHWISE_C1HW;
    depthwise.kernel_h = depthwise.kernel_w = 3;
    depthwise.input_channels = depthwise.output_channels = EXPANDED;
    depthwise.bias = w->depthwise_bias;
    depthwise.bias_len = EXPANDED;
    depthwise.activation = SEPCONV_ACTIVATION_RELU6;

    describe_pointwise(&project, w->project, w->project_bias, EXPANDED, CHANNELS);

    check(sepconv_inverted_residual_new(&expand, &depthwise, &project, 1, &block));
    return block;
}

static float relu6(float v)
{
    return v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v;
}

/* One pointwise convolution of planes: from `in` planes to `out`. */
static void naive_pointwise(const float *x, size_t in, size_t out, size_t pixels, const float *matrix, const float *bias, float *y)
{
    size_t o, i, p;
    for (o = 0; o < out; o++) {
        for (p = 0; p < pixels; p++) {
            float sum = bias[o];
            for (i = 0; i < in; i++) {
                sum += x[i * pixels + p] * matrix[o * in + i];
            }
            y[o * pixels + p] = sum;
        }
    }
}

/* The sum of the taps that lie within a plane, around the pixel at row y and column x. */
static float naive_window(const float *plane, int h, int w, int y, int x, const float *taps, float sum)
{
    int i, j;
    for (i = y - 1; i <= y + 1; i++) {
        for (j = x - 1; j <= x + 1; j++) {
            if (i >= 0 && i < h && j >= 0 && j < w) {
                sum += plane[i * w + j] * taps[(i - y + 1) * 3 + j - x + 1];
            }
        }
    }
    return sum;
}

/*
 * Exits where an output is not that of the block. The bits may differ: the library adds in the order of docs/numbers.md, and rounds a
 * product and a sum once or twice as the CPU can. The loops here add in an order of their own, and are rounded as the compiler likes.
 * tests/c/capi.c has loops of which each bit is that of the library.
 */
static void check_output(const struct weights *w, sepconv_shape shape, const float *input, const float *output)
{
    const int rows = (int)shape.h, columns = (int)shape.w;
    const size_t pixels = shape.h * shape.w;
    float *expanded = (float *)allocate(EXPANDED * pixels * sizeof *expanded);
    float *filtered = (float *)allocate(EXPANDED * pixels * sizeof *filtered);
    float *expected = (float *)allocate(CHANNELS * pixels * sizeof *expected);
    float most = 0.0f;
    size_t c, i;
    int y, x, wrong = 0;

    naive_pointwise(input, CHANNELS, EXPANDED, pixels, w->expand, w->expand_bias, expanded);
    for (i = 0; i < EXPANDED * pixels; i++) {
        expanded[i] = relu6(expanded[i]);
    }
    for (c = 0; c < EXPANDED; c++) {
        for (y = 0; y < rows; y++) {
            for (x = 0; x < columns; x++) {
                const float sum =
                    naive_window(expanded + c * pixels, rows, columns, y, x, w->depthwise + c * 9, w->depthwise_bias[c]);
                filtered[c * pixels + (size_t)(y * columns + x)] = relu6(sum);
            }
        }
    }
    naive_pointwise(filtered, EXPANDED, CHANNELS, pixels, w->project, w->project_bias, expected);
    for (i = 0; i < CHANNELS * pixels; i++) {
        const float difference = fabsf(expected[i] + input[i] - output[i]);
        /* so written, a NaN is wrong */
        if (!(difference < 1e-4f)) {
            wrong = 1;
        }
        if (difference > most) {
            most = difference;
        }
    }
    free(expanded);
    free(filtered);
    free(expected);
    printf("  the largest difference from a naive loop is %g\n", (double)most);
    if (wrong) {
        fprintf(stderr, "a wrong result\n");
        exit(EXIT_FAILURE);
    }
}

/* Plans for planes, and runs in memory of our own: nothing is allocated by a run. */
static void run_by_plan(const sepconv_operator *block, const struct weights *w, sepconv_shape shape)
{
    const size_t len = shape.n * shape.h * shape.w * shape.c;
    float *image = random_floats(len, 1.0f), *result = random_floats(len, 1.0f);
    sepconv_plan_options options;
    sepconv_plan *plan;
    sepconv_input input;
    sepconv_output output;
    size_t bytes;
    void *memory;
    clock_t began, ticks;
    int runs = 0;

    check(sepconv_plan_options_init(&options, sizeof options));
    options.input_layout = options.output_layout = SEPCONV_LAYOUT_NCHW;
    check(sepconv_operator_plan(block, shape, &options, &plan));

    /* memory of any alignment, with room for the next address that is aligned */
    check(sepconv_plan_scratch_bytes(plan, &bytes));
    bytes += SEPCONV_SCRATCH_ALIGNMENT - 1;
    memory = allocate(bytes);

    /* a description says where a tensor lies; strides are 0, so both are dense */
    check(sepconv_input_init(&input, sizeof input, image, len));
    check(sepconv_output_init(&output, sizeof output, result, len));
    input.layout = output.layout = SEPCONV_LAYOUT_NCHW;
    began = clock();
    do {
        check(sepconv_plan_run_in(plan, NULL, &input, &output, memory, bytes));
        runs++;
        ticks = clock() - began;
    } while (ticks < CLOCKS_PER_SEC / 10);
    printf("by a plan: %.1f microseconds a run, in %zu bytes\n", 1e6 * (double)ticks / CLOCKS_PER_SEC / runs, bytes);
    check_output(w, shape, image, result);

    sepconv_plan_free(plan);
    free(memory);
    free(image);
    free(result);
}

/* Images of any size: the cache plans what it did not see before, and has its own scratch. */
static void run_by_cache(const sepconv_plan_cache *cache, const sepconv_network *network, const struct weights *w,
                         sepconv_shape shape)
{
    const size_t len = shape.n * shape.h * shape.w * shape.c;
    float *image = random_floats(len, 1.0f), *result = random_floats(len, 1.0f);
    sepconv_input input;
    sepconv_output output;

    check(sepconv_input_init(&input, sizeof input, image, len));
    check(sepconv_output_init(&output, sizeof output, result, len));
    input.layout = output.layout = SEPCONV_LAYOUT_NCHW;
    check(sepconv_plan_cache_run(cache, network, shape, &input, &output));
    printf("by the cache: %zux%zu\n", shape.h, shape.w);
    check_output(w, shape, image, result);
    free(image);
    free(result);
}

int main(void)
{
    const sepconv_shape small = {1, 28, 28, CHANNELS}, large = {1, 40, 52, CHANNELS};
    struct weights w;
    sepconv_operator *block;
    const sepconv_operator *layers[1];
    sepconv_network *network;
    sepconv_plan_cache *cache;
    size_t plans;

    w.expand = random_floats(EXPANDED * CHANNELS, 0.2f);
    w.expand_bias = random_floats(EXPANDED, 1.0f);
    w.depthwise = random_floats(EXPANDED * 3 * 3, 0.3f);
    w.depthwise_bias = random_floats(EXPANDED, 1.0f);
    w.project = random_floats(CHANNELS * EXPANDED, 0.1f);
    w.project_bias = random_floats(CHANNELS, 1.0f);

    block = make_block(&w);
    run_by_plan(block, &w, small);

    layers[0] = block;
    check(sepconv_network_new(layers, 1, &network));
    check(sepconv_plan_cache_new(NULL, 8, &cache));
    run_by_cache(cache, network, &w, small);
    run_by_cache(cache, network, &w, large);
    run_by_cache(cache, network, &w, small);
    check(sepconv_plan_cache_len(cache, &plans));
    printf("the cache holds %zu plans\n", plans);

    sepconv_plan_cache_free(cache);
    sepconv_network_free(network);
    sepconv_operator_free(block);
    free(w.expand);
    free(w.expand_bias);
    free(w.depthwise);
    free(w.depthwise_bias);
    free(w.project);
    free(w.project_bias);
    return EXIT_SUCCESS;
}
