// Every kernel, as one program for the GPU. build.rs compiles this file to PTX.

#include "pointwise.cu"
#include "channels.cu"
#include "reduce.cu"
#include "norm.cu"
#include "conv.cu"
#include "pool.cu"
#include "train.cu"
#include "fake.cu"
#include "qat.cu"
