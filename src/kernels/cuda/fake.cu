// Fake quantization: the twin of kernels/fake.rs.

#include "common.cuh"

// To the nearest of the levels least..=most (the zero point already subtracted), ties to even; NaN stays NaN.
KERNEL(fake_quantize)(const float *x, float *y, float scale, float inverse, float lowest, float highest, unsigned n) {
    EACH(t, n);
    const float level = x[t] * inverse;
    const float clamped = level < lowest ? lowest : level > highest ? highest : level;
    y[t] = rintf(clamped) * scale;
}
