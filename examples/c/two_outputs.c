/*
 * A graph with two outputs: a small backbone whose features are pooled for a classifier, and enlarged beside an earlier map for a
 * detector. It is built value by value, planned, run, and checked against naive loops.
 *
 *   image 32x24x3 -- stem, 3x3 at stride 2 -- a -- depthwise 3x3, 1x1 -- + -- b -- 2x2 maximum -- 1x1 -- c -- mean -- dense -- scores
 *                                              \_______________________/    \                          \
 *                                                                            \__________ concat _ resize by 2
 *                                                                                          |
 *                                                                                         map
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sepconv.h"

/* Sizes of the planes, and the channels of the image, of a and b, of c, and of the scores. */
enum { IMAGE_H = 32, IMAGE_W = 24, H = 16, W = 12, RGB = 3, NARROW = 16, WIDE = 40, CLASSES = 10 };

static void check(sepconv_status status)
{
    if (status != SEPCONV_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", sepconv_status_name(status), sepconv_last_error());
        exit(EXIT_FAILURE);
    }
}

static float *floats(size_t count)
{
    float *values = (float *)malloc(count * sizeof *values);
    if (values == NULL) {
        fprintf(stderr, "no memory for %zu values\n", count);
        exit(EXIT_FAILURE);
    }
    return values;
}

/* So many values from -scale to scale. */
static float *random_floats(size_t count, float scale)
{
    static uint32_t state = 1;
    float *values = floats(count);
    size_t i;
    for (i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = scale * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return values;
}

/* Weights in the order of TensorFlow: [kernel_h][kernel_w][inputs][outputs]. */
struct weights {
    float *stem, *depthwise, *pointwise, *widen, *dense;
};

/* An operator of a description that says what is not its default. */
typedef sepconv_status (*new_operator)(const sepconv_conv_desc *, sepconv_operator **);

static sepconv_operator *make(new_operator new_of, sepconv_filter_order order, const float *filter, size_t kernel, size_t stride,
                              size_t in, size_t out, sepconv_activation activation)
{
    sepconv_conv_desc desc;
    sepconv_operator *op;
    check(sepconv_conv_desc_init(&desc, sizeof desc));
    desc.filter = filter;
    desc.filter_len = kernel * kernel * out * (order == SEPCONV_FILTER_ORDER_DEPTHWISE_HWCM ? 1 : in);
    desc.filter_order = order;
    desc.kernel_h = desc.kernel_w = kernel;
    desc.stride_h = desc.stride_w = stride;
    desc.input_channels = in;
    desc.output_channels = out;
    desc.activation = activation;
    check(new_of(&desc, &op));
    return op;
}

/* Adds an operator to the graph. The graph keeps what it needs: the handle is freed here. */
static sepconv_value layer(sepconv_graph *graph, sepconv_value x, sepconv_operator *op)
{
    sepconv_value value;
    check(sepconv_graph_operator(graph, x, op, &value));
    sepconv_operator_free(op);
    return value;
}

static sepconv_network *make_network(const struct weights *w)
{
    const sepconv_filter_order hwio = SEPCONV_FILTER_ORDER_HWIO;
    sepconv_graph *graph;
    sepconv_network *network;
    sepconv_operator *mean;
    sepconv_window_pool_desc pool;
    sepconv_value image, a, b, c, branch, half, twice, scores, map, joined[2];

    check(sepconv_graph_new(&graph));
    check(sepconv_graph_input(graph, RGB, &image));
    a = layer(graph, image, make(sepconv_conv2d_new, hwio, w->stem, 3, 2, RGB, NARROW, SEPCONV_ACTIVATION_RELU6));

    /* a block with a shortcut: the planner fuses its three layers */
    branch = layer(graph, a, make(sepconv_depthwise_conv2d_new, SEPCONV_FILTER_ORDER_DEPTHWISE_HWCM, w->depthwise, 3, 1, NARROW,
                                  NARROW, SEPCONV_ACTIVATION_RELU6));
    branch = layer(graph, branch, make(sepconv_pointwise_conv2d_new, hwio, w->pointwise, 1, 1, NARROW, NARROW,
                                       SEPCONV_ACTIVATION_LINEAR));
    check(sepconv_graph_add(graph, branch, a, SEPCONV_ACTIVATION_LINEAR, 0.0f, 0.0f, 0.0f, &b));

    check(sepconv_window_pool_desc_init(&pool, sizeof pool));
    pool.kind = SEPCONV_WINDOW_POOL_KIND_MAXIMUM;
    pool.kernel_h = pool.kernel_w = 2; /* at a stride of one window */
    check(sepconv_graph_window_pool(graph, b, &pool, &half));
    c = layer(graph, half, make(sepconv_pointwise_conv2d_new, hwio, w->widen, 1, 1, NARROW, WIDE, SEPCONV_ACTIVATION_RELU));

    check(sepconv_global_average_pool_new(WIDE, &mean));
    scores = layer(graph, c, mean);
    scores = layer(graph, scores, make(sepconv_dense_new, hwio, w->dense, 1, 1, WIDE, CLASSES, SEPCONV_ACTIVATION_LINEAR));

    check(sepconv_graph_resize(graph, c, 2, 2, &twice));
    joined[0] = b;
    joined[1] = twice;
    check(sepconv_graph_concat(graph, joined, 2, &map));

    /* the outputs of the network, in this order */
    check(sepconv_graph_output(graph, scores));
    check(sepconv_graph_output(graph, map));
    check(sepconv_graph_build(graph, &network));
    sepconv_graph_free(graph);
    return network;
}

/* A standard convolution of one image, padding SAME; at stride 2 and even sizes a row and a column are added behind. */
static void naive_conv(const float *x, size_t h, size_t w, size_t in, const float *filter, size_t kernel, size_t stride, size_t out,
                       float *y)
{
    const size_t before = stride == 1 ? kernel / 2 : 0;
    size_t row, column, i, j, from, to;
    for (row = 0; row < h / stride; row++) {
        for (column = 0; column < w / stride; column++) {
            for (to = 0; to < out; to++) {
                float sum = 0.0f;
                for (i = 0; i < kernel; i++) {
                    for (j = 0; j < kernel; j++) {
                        const size_t r = row * stride + i, s = column * stride + j;
                        if (r < before || r - before >= h || s < before || s - before >= w) {
                            continue;
                        }
                        for (from = 0; from < in; from++) {
                            sum += x[((r - before) * w + s - before) * in + from] * filter[((i * kernel + j) * in + from) * out + to];
                        }
                    }
                }
                y[(row * (w / stride) + column) * out + to] = sum;
            }
        }
    }
}

static void naive_depthwise(const float *x, size_t h, size_t w, size_t channels, const float *filter, float *y)
{
    size_t row, column, i, j, c;
    for (row = 0; row < h; row++) {
        for (column = 0; column < w; column++) {
            for (c = 0; c < channels; c++) {
                float sum = 0.0f;
                for (i = 0; i < 3; i++) {
                    for (j = 0; j < 3; j++) {
                        const size_t r = row + i, s = column + j;
                        if (r >= 1 && r - 1 < h && s >= 1 && s - 1 < w) {
                            sum += x[((r - 1) * w + s - 1) * channels + c] * filter[(i * 3 + j) * channels + c];
                        }
                    }
                }
                y[(row * w + column) * channels + c] = sum;
            }
        }
    }
}

static void clamp(float *values, size_t count, float most)
{
    size_t i;
    for (i = 0; i < count; i++) {
        values[i] = values[i] < 0.0f ? 0.0f : values[i] > most ? most : values[i];
    }
}

/* Both outputs by loops, layer by layer. */
static void naive(const struct weights *w, const float *image, float *scores, float *map)
{
    float *a = floats(H * W * NARROW), *b = floats(H * W * NARROW), *middle = floats(H * W * NARROW);
    float *half = floats(H / 2 * (W / 2) * NARROW), *c = floats(H / 2 * (W / 2) * WIDE);
    float mean[WIDE];
    size_t i, row, column, channel;

    naive_conv(image, IMAGE_H, IMAGE_W, RGB, w->stem, 3, 2, NARROW, a);
    clamp(a, H * W * NARROW, 6.0f);
    naive_depthwise(a, H, W, NARROW, w->depthwise, middle);
    clamp(middle, H * W * NARROW, 6.0f);
    naive_conv(middle, H, W, NARROW, w->pointwise, 1, 1, NARROW, b);
    for (i = 0; i < H * W * NARROW; i++) {
        b[i] += a[i];
    }
    for (row = 0; row < H / 2; row++) {
        for (column = 0; column < W / 2; column++) {
            for (channel = 0; channel < NARROW; channel++) {
                const float *first = b + (2 * row * W + 2 * column) * NARROW + channel;
                const float above = fmaxf(first[0], first[NARROW]);
                half[(row * (W / 2) + column) * NARROW + channel] = fmaxf(above, fmaxf(first[W * NARROW], first[(W + 1) * NARROW]));
            }
        }
    }
    naive_conv(half, H / 2, W / 2, NARROW, w->widen, 1, 1, WIDE, c);
    clamp(c, H / 2 * (W / 2) * WIDE, INFINITY);

    for (channel = 0; channel < WIDE; channel++) {
        mean[channel] = 0.0f;
        for (i = 0; i < H / 2 * (W / 2); i++) {
            mean[channel] += c[i * WIDE + channel];
        }
        mean[channel] /= (float)(H / 2 * (W / 2));
    }
    naive_conv(mean, 1, 1, WIDE, w->dense, 1, 1, CLASSES, scores);

    for (row = 0; row < H; row++) {
        for (column = 0; column < W; column++) {
            float *pixel = map + (row * W + column) * (NARROW + WIDE);
            for (channel = 0; channel < NARROW; channel++) {
                pixel[channel] = b[(row * W + column) * NARROW + channel];
            }
            for (channel = 0; channel < WIDE; channel++) {
                pixel[NARROW + channel] = c[(row / 2 * (W / 2) + column / 2) * WIDE + channel];
            }
        }
    }
    free(a);
    free(b);
    free(middle);
    free(half);
    free(c);
}

/* Exits where values differ by more than rounding: the library adds in the order of docs/numbers.md, these loops in another one. */
static void compare(const char *what, const float *expected, const float *got, size_t count)
{
    float most = 0.0f;
    size_t i;
    int wrong = 0;
    for (i = 0; i < count; i++) {
        const float difference = fabsf(expected[i] - got[i]);
        /* so written, a NaN is wrong */
        if (!(difference < 1e-4f)) {
            wrong = 1;
        }
        if (difference > most) {
            most = difference;
        }
    }
    printf("%s: %zu values, the largest difference from a naive loop is %g\n", what, count, (double)most);
    if (wrong) {
        fprintf(stderr, "a wrong result\n");
        exit(EXIT_FAILURE);
    }
}

/* What the planner decided, and why. */
static void explain(const sepconv_plan *plan)
{
    size_t length;
    char *text;
    check(sepconv_plan_explain(plan, NULL, 0, &length));
    text = (char *)malloc(length + 1);
    if (text != NULL) {
        check(sepconv_plan_explain(plan, text, length + 1, NULL));
        fputs(text, stdout);
    }
    free(text);
}

int main(void)
{
    const sepconv_shape shape = {1, IMAGE_H, IMAGE_W, RGB};
    float *image = random_floats(IMAGE_H * IMAGE_W * RGB, 1.0f);
    float *expected[2], *got[2];
    struct weights w;
    sepconv_network *network;
    sepconv_plan *plan;
    sepconv_scratch *scratch;
    sepconv_input input;
    sepconv_output output[2];
    const sepconv_input *inputs[1];
    const sepconv_output *outputs[2];
    sepconv_shape made[2];
    size_t count, len[2], i;
    clock_t began, ticks;
    int runs = 0;

    w.stem = random_floats(3 * 3 * RGB * NARROW, 0.5f);
    w.depthwise = random_floats(3 * 3 * NARROW, 0.5f);
    w.pointwise = random_floats(NARROW * NARROW, 0.3f);
    w.widen = random_floats(NARROW * WIDE, 0.3f);
    w.dense = random_floats(WIDE * CLASSES, 0.3f);

    network = make_network(&w);
    check(sepconv_network_output_count(network, &count));
    printf("a network of %zu outputs\n", count);
    check(sepconv_network_plan(network, shape, NULL, &plan));
    explain(plan);
    check(sepconv_scratch_new(plan, &scratch));

    check(sepconv_input_init(&input, sizeof input, image, IMAGE_H * IMAGE_W * RGB));
    inputs[0] = &input;
    for (i = 0; i < count; i++) {
        check(sepconv_plan_output_shape_at(plan, i, &made[i]));
        len[i] = made[i].n * made[i].h * made[i].w * made[i].c;
        expected[i] = floats(len[i]);
        got[i] = floats(len[i]);
        check(sepconv_output_init(&output[i], sizeof output[i], got[i], len[i]));
        outputs[i] = &output[i];
        printf("output %zu: %zux%zux%zux%zu\n", i, made[i].n, made[i].h, made[i].w, made[i].c);
    }
    began = clock();
    do {
        check(sepconv_plan_run_all(plan, inputs, 1, outputs, count, scratch));
        runs++;
        ticks = clock() - began;
    } while (ticks < CLOCKS_PER_SEC / 10);
    printf("%.1f microseconds a run\n", 1e6 * (double)ticks / CLOCKS_PER_SEC / runs);

    naive(&w, image, expected[0], expected[1]);
    compare("scores", expected[0], got[0], len[0]);
    compare("map", expected[1], got[1], len[1]);

    sepconv_scratch_free(scratch);
    sepconv_plan_free(plan);
    sepconv_network_free(network);
    for (i = 0; i < count; i++) {
        free(expected[i]);
        free(got[i]);
    }
    free(w.stem);
    free(w.depthwise);
    free(w.pointwise);
    free(w.widen);
    free(w.dense);
    free(image);
    return EXIT_SUCCESS;
}
