// Channels moved about: the twins of kernels/float/channels.rs and of the layout changes in stats.rs.

#include "common.cuh"

// `n` is rows * width.
KERNEL(copy_channels)
(const float *from, float *to, unsigned from_channels, unsigned from_first, unsigned to_channels, unsigned to_first,
 unsigned width, unsigned n) {
    EACH(t, n);
    const unsigned row = t / width, i = t % width;
    to[row * to_channels + to_first + i] = from[row * from_channels + from_first + i];
}

KERNEL(add_channels)(float *to, const float *from, unsigned width, unsigned to_channels, unsigned to_first, unsigned n) {
    EACH(t, n);
    to[t / width * to_channels + to_first + t % width] += from[t];
}

// Channel g * (channels / groups) + i goes to i * groups + g.
KERNEL(shuffle)(const float *x, float *y, unsigned channels, unsigned groups, unsigned n) {
    EACH(t, n);
    const unsigned row = t / channels, to = t % channels;
    y[t] = x[row * channels + to % groups * (channels / groups) + to / groups];
}

// [batch, channels, pixels] to [batch, pixels, channels].
KERNEL(to_nhwc)(const float *x, float *y, unsigned channels, unsigned pixels, unsigned n) {
    EACH(t, n);
    const unsigned image = t / (channels * pixels), pixel = t / channels % pixels, c = t % channels;
    y[t] = x[(image * channels + c) * pixels + pixel];
}
