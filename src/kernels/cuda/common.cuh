// What all kernels share. One thread computes one value: `t` is its number, and threads from `n` on have nothing to do. No
// kernel uses shared memory or waits for another thread, so each can also be run as plain C++, thread after thread, which
// the tests do where there is no GPU (`shim.cpp`).
//
// Sizes are 32 bits wide: the caller refuses tensors of 2^32 values or more.

#ifndef OCTET_COMMON
#define OCTET_COMMON

#define KERNEL(name) extern "C" __global__ void name
#define EACH(t, n)                                          \
    const unsigned t = blockIdx.x * blockDim.x + threadIdx.x; \
    if (t >= (n)) return

// A convolution's or pooling window's sizes, NHWC.
#define GEOMETRY                                                                                             \
    unsigned height, unsigned width, unsigned out_height, unsigned out_width, unsigned channels,             \
        unsigned kernel_height, unsigned kernel_width, unsigned stride, unsigned pad_top, unsigned pad_left

#endif
