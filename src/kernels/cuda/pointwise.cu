// Point-wise functions, sums, products and dropout: the twins of kernels/float/pointwise.rs.

#include "common.cuh"

// The numbers that cuda/pointwise.rs gives to `Function`.
enum { IDENTITY, RELU, RELU6, HARDSWISH, HARDSIGMOID, SIGMOID, SILU };

static __device__ float most(float a, float b) { return a > b ? a : b; }
static __device__ float least(float a, float b) { return a < b ? a : b; }
static __device__ float clamp6(float x) { return least(most(x, 0.f), 6.f); }
static __device__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

static __device__ float value(unsigned function, float x) {
    switch (function) {
    case RELU: return most(x, 0.f);
    case RELU6: return clamp6(x);
    case HARDSWISH: return x * clamp6(x + 3.f) / 6.f;
    case HARDSIGMOID: return clamp6(x + 3.f) / 6.f;
    case SIGMOID: return sigmoid(x);
    case SILU: return x / (1.f + expf(-x));
    default: return x;
    }
}

static __device__ float slope(unsigned function, float x) {
    switch (function) {
    case RELU: return x > 0.f ? 1.f : 0.f;
    case RELU6: return x > 0.f && x < 6.f ? 1.f : 0.f;
    case HARDSWISH: return x < -3.f ? 0.f : x > 3.f ? 1.f : x * (1.f / 3.f) + 0.5f;
    case HARDSIGMOID: return x > -3.f && x < 3.f ? 1.f / 6.f : 0.f;
    case SIGMOID: {
        const float s = sigmoid(x);
        return s * (1.f - s);
    }
    case SILU: {
        const float s = sigmoid(x);
        return s * (1.f + x * (1.f - s));
    }
    default: return 1.f;
    }
}

KERNEL(apply)(const float *x, float *y, unsigned function, unsigned n) {
    EACH(t, n);
    y[t] = value(function, x[t]);
}

KERNEL(apply_grad)(const float *x, const float *dy, float *dx, unsigned function, unsigned n) {
    EACH(t, n);
    dx[t] = dy[t] * slope(function, x[t]);
}

KERNEL(add)(const float *a, const float *b, float *y, unsigned relu, unsigned n) {
    EACH(t, n);
    const float sum = a[t] + b[t];
    y[t] = relu ? most(sum, 0.f) : sum;
}

KERNEL(accumulate)(float *sum, const float *x, unsigned n) {
    EACH(t, n);
    sum[t] += x[t];
}

// `factor` is [images, channels].
KERNEL(mul_channels)(const float *x, const float *factor, float *y, unsigned channels, unsigned image, unsigned n) {
    EACH(t, n);
    y[t] = x[t] * factor[t / image * channels + t % channels];
}

// One factor for each `stretch` values.
KERNEL(scale_samples)(const float *x, const float *factors, float *y, unsigned stretch, unsigned n) {
    EACH(t, n);
    y[t] = x[t] * factors[t / stretch];
}

// y = max(y + bias, 0) or y + bias, per channel.
KERNEL(bias_relu)(float *y, const float *bias, unsigned relu, unsigned channels, unsigned n) {
    EACH(t, n);
    const float sum = y[t] + bias[t % channels];
    y[t] = relu ? most(sum, 0.f) : sum;
}

KERNEL(relu_in_place)(float *y, unsigned n) {
    EACH(t, n);
    y[t] = most(y[t], 0.f);
}
