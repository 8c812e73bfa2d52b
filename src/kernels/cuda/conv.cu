// Patches for convolutions as matrix products, and depthwise convolution: the twins of kernels/float/conv.rs and
// depthwise.rs.

#include "common.cuh"

// Patches of some images, [pixels, kernel_height, kernel_width, channels]; zeros outside.
KERNEL(gather)(const float *x, float *patches, GEOMETRY, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, kx = t / channels % kernel_width, ky = t / (channels * kernel_width) % kernel_height;
    const unsigned pixel = t / (channels * kernel_width * kernel_height);
    const unsigned ox = pixel % out_width, oy = pixel / out_width % out_height, image = pixel / (out_width * out_height);
    // Left of or above the image wraps to a number beyond its size.
    const unsigned y = oy * stride + ky - pad_top, column = ox * stride + kx - pad_left;
    patches[t] = y < height && column < width ? x[((image * height + y) * width + column) * channels + c] : 0.f;
}

// The transpose of gather: each input value sums what its patches got.
KERNEL(scatter)(const float *patches, float *dx, GEOMETRY, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, column = t / channels % width, y = t / (channels * width) % height;
    const unsigned image = t / (channels * width * height);
    float sum = 0.f;
    for (unsigned ky = 0; ky < kernel_height; ky++) {
        const unsigned from = y + pad_top - ky, oy = from / stride;
        if (y + pad_top < ky || from % stride != 0 || oy >= out_height) continue;
        for (unsigned kx = 0; kx < kernel_width; kx++) {
            const unsigned left = column + pad_left - kx, ox = left / stride;
            if (column + pad_left < kx || left % stride != 0 || ox >= out_width) continue;
            const unsigned pixel = (image * out_height + oy) * out_width + ox;
            sum += patches[((pixel * kernel_height + ky) * kernel_width + kx) * channels + c];
        }
    }
    dx[t] = sum;
}

KERNEL(depthwise)
(const float *x, const float *weight, const float *bias, float *out, unsigned with_bias, unsigned relu, GEOMETRY,
 unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, ox = t / channels % out_width, oy = t / (channels * out_width) % out_height;
    const unsigned image = t / (channels * out_width * out_height);
    float sum = with_bias ? bias[c] : 0.f;
    for (unsigned ky = 0; ky < kernel_height; ky++) {
        const unsigned y = oy * stride + ky - pad_top;
        if (y >= height) continue;
        for (unsigned kx = 0; kx < kernel_width; kx++) {
            const unsigned column = ox * stride + kx - pad_left;
            if (column >= width) continue;
            sum = fmaf(x[((image * height + y) * width + column) * channels + c],
                       weight[(ky * kernel_width + kx) * channels + c], sum);
        }
    }
    out[t] = relu ? most(sum, 0.f) : sum;
}

KERNEL(depthwise_input_grad)(const float *dy, const float *weight, float *dx, GEOMETRY, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, column = t / channels % width, y = t / (channels * width) % height;
    const unsigned image = t / (channels * width * height);
    float sum = 0.f;
    for (unsigned ky = 0; ky < kernel_height; ky++) {
        const unsigned from = y + pad_top - ky, oy = from / stride;
        if (y + pad_top < ky || from % stride != 0 || oy >= out_height) continue;
        for (unsigned kx = 0; kx < kernel_width; kx++) {
            const unsigned left = column + pad_left - kx, ox = left / stride;
            if (column + pad_left < kx || left % stride != 0 || ox >= out_width) continue;
            sum = fmaf(dy[((image * out_height + oy) * out_width + ox) * channels + c],
                       weight[(ky * kernel_width + kx) * channels + c], sum);
        }
    }
    dx[t] = sum;
}

// Each part of the output pixels: out is [parts, kernel_height * kernel_width * channels].
KERNEL(depthwise_weight_grad)
(const float *x, const float *dy, float *out, GEOMETRY, unsigned pixels, unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, kx = t / channels % kernel_width, ky = t / (channels * kernel_width) % kernel_height;
    const unsigned first = t / (channels * kernel_width * kernel_height) * per;
    const unsigned last = first + per < pixels ? first + per : pixels;
    float sum = 0.f;
    for (unsigned pixel = first; pixel < last; pixel++) {
        const unsigned ox = pixel % out_width, oy = pixel / out_width % out_height;
        const unsigned image = pixel / (out_width * out_height);
        const unsigned y = oy * stride + ky - pad_top, column = ox * stride + kx - pad_left;
        if (y >= height || column >= width) continue;
        sum = fmaf(x[((image * height + y) * width + column) * channels + c], dy[pixel * channels + c], sum);
    }
    out[t] = sum;
}
