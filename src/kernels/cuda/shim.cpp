// Runs the kernels as plain C++, thread after thread: for tests on a machine without a GPU. KERNELS is defined by the test as
// one RUN(name) for each kernel in the text.

#include <cmath>
#include <cstring>
#include <utility>

#define __global__
#define __device__

struct Index {
    unsigned x;
};
static thread_local Index blockIdx, blockDim, threadIdx;

static void atomicAdd(unsigned *at, unsigned more) { *at += more; }
using std::isinf;
using std::isnan;

#include "kernels.cu"

template <class... Args, std::size_t... I>
static void run(void (*kernel)(Args...), void **args, unsigned threads, std::index_sequence<I...>) {
    blockDim.x = 256;
    for (unsigned first = 0; first < threads; first += blockDim.x)
        for (unsigned i = 0; i < blockDim.x; i++) {
            blockIdx.x = first / blockDim.x;
            threadIdx.x = i;
            kernel(*(Args *)args[I]...);
        }
}

template <class... Args>
static int run(void (*kernel)(Args...), void **args, unsigned count, unsigned threads) {
    if (sizeof...(Args) != count) return 2;
    run(kernel, args, threads, std::index_sequence_for<Args...>());
    return 0;
}

// Each argument is pointed to, as cuLaunchKernel wants it. 1: no such kernel; 2: another number of arguments.
extern "C" int octet_launch(const char *name, void **args, unsigned count, unsigned threads) {
#define RUN(kernel) \
    if (std::strcmp(name, #kernel) == 0) return run(kernel, args, count, threads);
    KERNELS
    return 1;
}
