// Fake quantization: the twin of kernels/fake.rs.

#include "common.cuh"

// To the nearest of the levels least..=most (the zero point already subtracted), ties to even; NaN stays NaN.
KERNEL(fake_quantize)(const float *x, float *y, float scale, float inverse, float lowest, float highest, unsigned n) {
    EACH(t, n);
    const float level = x[t] * inverse;
    const float clamped = level < lowest ? lowest : level > highest ? highest : level;
    y[t] = rintf(clamped) * scale;
}

// Averages of `pixels` values on levels, on the same levels, rounded as int8 does: of the integers, or of the values.
KERNEL(fake_average)(const float *x, float *y, float scale, float inverse, unsigned values, unsigned pixels,
                     unsigned channels, unsigned n) {
    EACH(t, n);
    const float *from = x + t / channels * channels * pixels + t % channels;
    float sum = 0;
    for (unsigned pixel = 0; pixel < pixels; pixel++) {
        const float value = from[pixel * channels];
        sum += values ? value : rintf(value * inverse);
    }
    const float average = sum / (float)pixels;
    y[t] = rintf(values ? average * inverse : average) * scale;
}
