// Batch norm: the twins of kernels/float/norm.rs and of the few sums per channel around it.

#include "common.cuh"

// y = f(x * scale + shift): k is [2 or more, channels], scale and shift first.
KERNEL(scale_shift)(const float *x, const float *k, float *y, unsigned function, unsigned channels, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    y[t] = value(function, fmaf(x[t], k[c], k[channels + c]));
}

// From the batch's [mean, variance]: [scale, shift, mean, 1 / deviation].
KERNEL(norm_coefficients)
(const float *statistics, const float *weight, const float *bias, float *out, float eps, unsigned n) {
    EACH(t, n);
    const float inverse = 1.f / sqrtf(statistics[n + t] + eps), scale = weight[t] * inverse;
    out[t] = scale;
    out[n + t] = bias[t] - statistics[t] * scale;
    out[2 * n + t] = statistics[t];
    out[3 * n + t] = inverse;
}

// running = (1 - momentum) * running + momentum * factor * fresh
KERNEL(move_running)(float *running, const float *fresh, float momentum, float factor, unsigned n) {
    EACH(t, n);
    running[t] = (1.f - momentum) * running[t] + momentum * (fresh[t] * factor);
}

KERNEL(evaluation_scale)(const float *weight, const float *variance, float *scale, float eps, unsigned n) {
    EACH(t, n);
    scale[t] = 1.f / sqrtf(variance[t] + eps) * weight[t];
}

KERNEL(evaluation_shift)(const float *bias, const float *mean, const float *scale, float *shift, unsigned n) {
    EACH(t, n);
    shift[t] = fmaf(-mean[t], scale[t], bias[t]);
}

// With g = dy * f'(x * scale + shift), the sums of g and of g * (x - mean) of each part of the rows: out is
// [parts, 2, channels]; k is [scale, shift, mean, ...].
KERNEL(norm_grad_rows)
(const float *x, const float *dy, const float *k, float *out, unsigned function, unsigned rows, unsigned channels,
 unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, part = t / channels;
    const unsigned first = part * per, last = first + per < rows ? first + per : rows;
    const float scale = k[c], shift = k[channels + c], mean = k[2 * channels + c];
    float sum = 0.f, dot = 0.f;
    for (unsigned r = first; r < last; r++) {
        const float v = x[r * channels + c], g = dy[r * channels + c] * slope(function, fmaf(v, scale, shift));
        sum += g;
        dot += g * (v - mean);
    }
    out[2 * part * channels + c] = sum;
    out[(2 * part + 1) * channels + c] = dot;
}

// The weight's gradient from the sums [g, g * (x - mean)] and the coefficients.
KERNEL(norm_weight_grad)(const float *sums, const float *k, float *dw, unsigned n) {
    EACH(t, n);
    dw[t] = sums[n + t] * k[3 * n + t];
}

// The constants of norm_input_grad: [scale, shift, a, b].
KERNEL(norm_constants)(const float *sums, const float *k, float *out, float rows, unsigned n) {
    EACH(t, n);
    const float scale = k[t], mean = k[2 * n + t], inverse = k[3 * n + t];
    const float b = scale * inverse * inverse * sums[n + t] / rows;
    out[t] = scale;
    out[n + t] = k[n + t];
    out[2 * n + t] = scale * sums[t] / rows - b * mean;
    out[3 * n + t] = b;
}

// dx = scale * g - a - b * x
KERNEL(norm_input_grad)
(const float *x, const float *dy, const float *k, float *dx, unsigned function, unsigned channels, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    const float scale = k[c], g = dy[t] * slope(function, fmaf(x[t], scale, k[channels + c]));
    dx[t] = scale * g - k[2 * channels + c] - k[3 * channels + c] * x[t];
}
