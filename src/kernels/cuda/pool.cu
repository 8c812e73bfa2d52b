// Max pooling and the spread of a mean: the twins of kernels/float/pool.rs.

#include "common.cuh"

KERNEL(max_pool)(const float *x, float *out, GEOMETRY, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, ox = t / channels % out_width, oy = t / (channels * out_width) % out_height;
    const unsigned image = t / (channels * out_width * out_height);
    float best = -INFINITY;
    for (unsigned ky = 0; ky < kernel_height; ky++) {
        const unsigned y = oy * stride + ky - pad_top;
        if (y >= height) continue;
        for (unsigned kx = 0; kx < kernel_width; kx++) {
            const unsigned column = ox * stride + kx - pad_left;
            if (column >= width) continue;
            const float v = x[((image * height + y) * width + column) * channels + c];
            // NaN is taken, as on the CPU.
            best = best >= v ? best : v;
        }
    }
    out[t] = best;
}

// Of equal maxima the first in row-major order takes the window's gradient. Each input value asks its windows whether it is
// that one.
KERNEL(max_pool_grad)(const float *x, const float *out, const float *dy, float *dx, GEOMETRY, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, column = t / channels % width, y = t / (channels * width) % height;
    const unsigned image = t / (channels * width * height);
    const float v = x[t];
    float sum = 0.f;
    // Windows from the last tap to the first: output pixels in rising order, as the CPU adds them.
    for (unsigned ky = kernel_height; ky-- > 0;) {
        const unsigned from = y + pad_top - ky, oy = from / stride;
        if (y + pad_top < ky || from % stride != 0 || oy >= out_height) continue;
        for (unsigned kx = kernel_width; kx-- > 0;) {
            const unsigned left = column + pad_left - kx, ox = left / stride;
            if (column + pad_left < kx || left % stride != 0 || ox >= out_width) continue;
            const unsigned at = ((image * out_height + oy) * out_width + ox) * channels + c;
            if (v != out[at]) continue;
            bool first = true;
            for (unsigned i = 0; i < ky * kernel_width + kx && first; i++) {
                const unsigned above = oy * stride + i / kernel_width - pad_top;
                const unsigned before = ox * stride + i % kernel_width - pad_left;
                first = above >= height || before >= width ||
                        x[((image * height + above) * width + before) * channels + c] != v;
            }
            if (first) sum += dy[at];
        }
    }
    dx[t] = sum;
}

KERNEL(mean_pixels_grad)(const float *dy, float *dx, float scale, unsigned channels, unsigned image, unsigned n) {
    EACH(t, n);
    dx[t] = dy[t / image * channels + t % channels] * scale;
}
