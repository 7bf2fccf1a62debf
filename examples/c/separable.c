/*
 * A block of MobileNetV1 in C: described, planned, run. docs/c.md says how to build it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sepconv.h"

/* What each call returned; a program of your own may do better than to end. */
static void check(sepconv_status status)
{
    if (status != SEPCONV_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", sepconv_status_name(status), sepconv_last_error());
        exit(EXIT_FAILURE);
    }
}

/* So many floats, all of one value. */
static float *filled(size_t count, float value)
{
    float *values = (float *)malloc(count * sizeof *values);
    size_t i;
    if (values == NULL) {
        fprintf(stderr, "no memory for %zu floats\n", count);
        exit(EXIT_FAILURE);
    }
    for (i = 0; i < count; i++) {
        values[i] = value;
    }
    return values;
}

int main(void)
{
    const sepconv_shape input_shape = {1, 112, 112, 32};
    const size_t input_len = (size_t)112 * 112 * 32;
    float *depthwise_filter = filled(3 * 3 * 32, 0.1f);
    float *pointwise_filter = filled(32 * 64, 0.1f);
    float *input = filled(input_len, 1.0f);
    float *output;

    sepconv_conv_desc depthwise, pointwise;
    sepconv_operator *block;
    sepconv_plan *plan;
    sepconv_scratch *scratch;
    sepconv_input from;
    sepconv_output to;
    sepconv_shape shape;
    size_t output_len, explanation_len;
    char *explanation;

    /* Describe. Init writes the defaults: stride 1, padding SAME, no bias, no activation. */
    check(sepconv_conv_desc_init(&depthwise, sizeof depthwise));
    depthwise.filter = depthwise_filter;
    depthwise.filter_len = 3 * 3 * 32;
    depthwise.filter_order = SEPCONV_FILTER_ORDER_DEPTHWISE_HWCM;
    depthwise.kernel_h = depthwise.kernel_w = 3;
    depthwise.input_channels = depthwise.output_channels = 32;
    depthwise.stride_h = depthwise.stride_w = 2;
    depthwise.activation = SEPCONV_ACTIVATION_RELU6;

    check(sepconv_conv_desc_init(&pointwise, sizeof pointwise));
    pointwise.filter = pointwise_filter;
    pointwise.filter_len = 32 * 64;
    pointwise.filter_order = SEPCONV_FILTER_ORDER_HWIO;
    pointwise.kernel_h = pointwise.kernel_w = 1;
    pointwise.input_channels = 32;
    pointwise.output_channels = 64;
    pointwise.activation = SEPCONV_ACTIVATION_RELU6;

    /* Make: the weights are checked and packed, and what they were given in is not needed any more. */
    check(sepconv_separable_conv2d_new(&depthwise, &pointwise, &block));
    free(depthwise_filter);
    free(pointwise_filter);

    /* Plan for one input shape; NULL are the default options: this thread alone, the best instruction set. */
    check(sepconv_operator_plan(block, input_shape, NULL, &plan));
    check(sepconv_plan_explain(plan, NULL, 0, &explanation_len));
    explanation = (char *)malloc(explanation_len + 1);
    if (explanation != NULL) {
        check(sepconv_plan_explain(plan, explanation, explanation_len + 1, NULL));
        fputs(explanation, stdout);
        free(explanation);
    }

    /* Run, as often as there is input. Keep the scratch: a run on one thread allocates nothing. Tensors are dense and NHWC. */
    check(sepconv_plan_output_shape(plan, &shape));
    output_len = shape.n * shape.h * shape.w * shape.c;
    output = filled(output_len, 0.0f);
    check(sepconv_scratch_new(plan, &scratch));
    check(sepconv_input_init(&from, sizeof from, input, input_len));
    check(sepconv_output_init(&to, sizeof to, output, output_len));
    check(sepconv_plan_run(plan, &from, &to, scratch));
    printf("%zux%zux%zux%zu, the first value is %g\n", shape.n, shape.h, shape.w, shape.c, (double)output[0]);

    sepconv_scratch_free(scratch);
    sepconv_plan_free(plan);
    sepconv_operator_free(block);
    free(input);
    free(output);
    return EXIT_SUCCESS;
}
