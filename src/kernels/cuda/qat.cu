// Training with fake quantization: the twins of kernels/float/fake*.rs and conv_bn.rs, and of what exec/float/learned.rs
// derives.

#include "common.cuh"

// Levels are [scale, zero point, least, most].
struct Rounder {
    float inverse, scale, low, high;
};

static __device__ float limited(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

static __device__ Rounder rounder(float scale, float zero_point, float smallest, float largest) {
    Rounder r = {1.f / scale, scale, smallest - zero_point, largest - zero_point};
    return r;
}

static __device__ Rounder rounder(const float *levels) { return rounder(levels[0], levels[1], levels[2], levels[3]); }

static __device__ float level(Rounder r, float x) { return rintf(limited(x * r.inverse, r.low - 1.f, r.high + 1.f)); }

static __device__ float on_grid(Rounder r, float x) { return limited(level(r, x), r.low, r.high) * r.scale; }

static __device__ float grid_slope(Rounder r, float x) {
    const float l = level(r, x);
    return l >= r.low && l <= r.high ? 1.f : 0.f;
}

static __device__ float slope_by_step(Rounder r, float x) {
    const float l = level(r, x), inside = limited(l, r.low, r.high);
    return l == inside ? inside - x * r.inverse : inside;
}

KERNEL(to_grid)(const float *x, const float *levels, float *y, unsigned n) {
    EACH(t, n);
    y[t] = on_grid(rounder(levels), x[t]);
}

KERNEL(to_grid_grad)(const float *x, const float *dy, const float *levels, float *dx, unsigned relu, unsigned n) {
    EACH(t, n);
    const float slope = grid_slope(rounder(levels), x[t]);
    dx[t] = x[t] > (relu ? 0.f : -INFINITY) ? dy[t] * slope : 0.f;
}

// Each part's share of the step size's gradient.
KERNEL(step_grad_rows)
(const float *x, const float *dy, const float *levels, float *out, unsigned rows, unsigned per, unsigned n) {
    EACH(t, n);
    const Rounder r = rounder(levels);
    const unsigned first = t * per, last = first + per < rows ? first + per : rows;
    float sum = 0.f;
    for (unsigned i = first; i < last; i++) sum += dy[i] * slope_by_step(r, x[i]);
    out[t] = sum;
}

// y = sum / sqrt(count * most)
KERNEL(step_grad_scale)(const float *sums, const float *most, float *y, float count, unsigned n) {
    EACH(t, n);
    y[t] = sums[t] / sqrtf(count * most[0]);
}

// Extremes of x, or of x * factor, per column, NaN passed over: out is [parts, 2, columns]. With `pairs` x is such an out.
KERNEL(extremes_rows)
(const float *x, const float *factors, float *out, unsigned with_factors, unsigned pairs, unsigned rows,
 unsigned columns, unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned c = t % columns, part = t / columns;
    const unsigned first = part * per, last = first + per < rows ? first + per : rows;
    const float factor = with_factors ? factors[c] : 1.f;
    float lo = INFINITY, hi = -INFINITY;
    for (unsigned r = first; r < last; r++) {
        const float a = pairs ? x[2 * r * columns + c] : x[r * columns + c] * factor;
        const float b = pairs ? x[(2 * r + 1) * columns + c] : a;
        lo = a < lo ? a : lo;
        hi = b > hi ? b : hi;
    }
    out[2 * part * columns + c] = lo;
    out[(2 * part + 1) * columns + c] = hi;
}

// [2, columns] to [columns, 2]: the pairs of one column.
KERNEL(pair_up)(const float *x, float *out, unsigned n) {
    EACH(t, n);
    out[2 * t] = x[t];
    out[2 * t + 1] = x[n + t];
}

// The extremes of each channel after its scale and shift and ReLU, as pairs: those of z are rows 2 and 3 of `statistics`.
KERNEL(output_extremes)(const float *statistics, const float *affine, float *out, unsigned relu, unsigned n) {
    EACH(t, n);
    const float edge = relu ? 0.f : -INFINITY;
    const float a = fmaf(statistics[2 * n + t], affine[t], affine[n + t]);
    const float b = fmaf(statistics[3 * n + t], affine[t], affine[n + t]);
    const float a0 = fmaxf(a, edge), b0 = fmaxf(b, edge);
    out[2 * t] = fminf(a0, b0);
    out[2 * t + 1] = fmaxf(a0, b0);
}

// range and seen are [2, n]: least values, then largest.
KERNEL(observe)(float *range, const float *seen, unsigned averages, float averaging, unsigned n) {
    EACH(t, n);
    const float lo = range[t], hi = range[n + t], new_lo = seen[t], new_hi = seen[n + t];
    if (new_lo > new_hi) return;
    if (lo > hi) {
        range[t] = new_lo;
        range[n + t] = new_hi;
    } else if (averages) {
        range[t] = lo + averaging * (new_lo - lo);
        range[n + t] = hi + averaging * (new_hi - hi);
    }
}

static __device__ float lifted(float scale) {
    if (scale == 0.f || isinf(1.f / scale)) return 0.1f;
    return scale > 6.1e-5f ? scale : 6.1e-5f;
}

// An output's levels from its range, or with the step size that was learnt, where it is above 0.
KERNEL(activation_levels)
(const float *range, const float *step, float *out, unsigned with_step, unsigned affine, unsigned largest, unsigned n) {
    EACH(t, n);
    const float lo = range[0] < 0.f ? range[0] : 0.f, hi = range[1] > 0.f ? range[1] : 0.f;
    const double levels = (double)largest;
    float scale, zero_point;
    if (affine) {
        scale = (float)(((double)hi - (double)lo) / levels);
        const double z = scale == 0.f ? 0. : rint(-(double)lo / (double)scale);
        zero_point = (float)(z < 0. ? 0. : z > levels ? levels : z);
    } else {
        scale = (float)((double)(hi > -lo ? hi : -lo) / (levels / 2.));
        zero_point = (float)(largest / 2 + 1);
    }
    scale = lifted(scale);
    out[0] = with_step && step[0] > 0.f ? step[0] : scale;
    out[1] = zero_point;
    out[2] = 0.f;
    out[3] = (float)largest;
}

KERNEL(copy)(float *to, const float *from, unsigned n) {
    EACH(t, n);
    to[t] = from[t];
}

KERNEL(scale_columns)(const float *x, const float *factors, float *y, unsigned columns, unsigned n) {
    EACH(t, n);
    y[t] = x[t] * factors[t % columns];
}

// A weight's levels: [factors, scales, zero points], [channels] each, then the limits. `kind` 0: around zero; 1: affine;
// 2: around zero where there are both signs, else affine.
KERNEL(weight_levels)
(const float *range, const float *factors, const float *step, float *out, unsigned with_step, unsigned groups,
 unsigned kind, float half, unsigned n) {
    EACH(t, n);
    const unsigned g = groups == 1 ? 0 : t;
    const float min = range[g], max = range[groups + g], smallest = -half, largest = half - 1.f;
    float scale, zero_point;
    if (kind == 0 || (kind == 2 && min < 0.f && max > 0.f)) {
        const float a = min / smallest, b = max / largest;
        const float wider = a > b ? a : b;
        scale = lifted(wider > 0.f ? wider : 0.f);
        zero_point = 0.f;
    } else {
        const float lo = min < 0.f ? min : 0.f, hi = max > 0.f ? max : 0.f;
        scale = (float)(((double)hi - (double)lo) / (double)(largest - smallest));
        const float z = scale == 0.f ? smallest : smallest - (float)rint((double)lo / (double)scale);
        zero_point = limited(z, smallest, largest);
        scale = lifted(scale);
    }
    out[t] = factors[t];
    out[n + t] = with_step && step[g] > 0.f ? step[g] : scale;
    out[2 * n + t] = zero_point;
    if (t == 0) {
        out[3 * n] = smallest;
        out[3 * n + 1] = largest;
    }
}

static __device__ Rounder channel_rounder(const float *levels, unsigned c, unsigned channels) {
    return rounder(levels[channels + c], levels[2 * channels + c], levels[3 * channels], levels[3 * channels + 1]);
}

KERNEL(weight_to_grid)(const float *w, const float *levels, float *out, unsigned channels, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    out[t] = on_grid(channel_rounder(levels, c, channels), w[t] * levels[c]);
}

KERNEL(weight_to_grid_grad)
(const float *dq, const float *w, const float *levels, float *dw, unsigned channels, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    dw[t] = dq[t] * grid_slope(channel_rounder(levels, c, channels), w[t] * levels[c]) * levels[c];
}

// Each part's share of the gradient by the channel's factor; without `graded` the weight was only scaled.
KERNEL(weight_factor_rows)
(const float *dq, const float *w, const float *levels, float *out, unsigned graded, unsigned rows, unsigned channels,
 unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, part = t / channels;
    const unsigned first = part * per, last = first + per < rows ? first + per : rows;
    float sum = 0.f;
    for (unsigned r = first; r < last; r++) {
        const unsigned at = r * channels + c;
        const float slope = graded ? grid_slope(channel_rounder(levels, c, channels), w[at] * levels[c]) : 1.f;
        sum += dq[at] * slope * w[at];
    }
    out[t] = sum;
}

KERNEL(weight_step_rows)
(const float *dq, const float *w, const float *levels, float *out, unsigned rows, unsigned channels, unsigned per,
 unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, part = t / channels;
    const unsigned first = part * per, last = first + per < rows ? first + per : rows;
    const Rounder r = channel_rounder(levels, c, channels);
    float sum = 0.f;
    for (unsigned i = first; i < last; i++) {
        const unsigned at = i * channels + c;
        sum += dq[at] * slope_by_step(r, w[at] * levels[c]);
    }
    out[t] = sum;
}

// By what a convolution's weight is multiplied; 1 where that would be 0, and for a layer left in float.
KERNEL(norm_factors)
(const float *gamma, const float *variance, float *f, float eps, unsigned scaled, unsigned n) {
    EACH(t, n);
    const float factor = gamma[t] / sqrtf(variance[t] + eps);
    f[t] = scaled && factor != 0.f ? factor : 1.f;
}

// The rows of kernels/float/conv_bn.rs: scale, shift, mean, slope, factor, by gamma, left.
KERNEL(conv_bn_coefficients)
(const float *statistics, const float *own, const float *factors, float *out, float eps, unsigned of_batch,
 unsigned scaled, unsigned n) {
    EACH(t, n);
    const float gamma = own[t], beta = own[n + t], running_mean = own[2 * n + t], running_var = own[3 * n + t];
    const float bias = own[4 * n + t], f = factors[t];
    const float mean = of_batch ? statistics[t] : (running_mean - bias) * f;
    const float variance = of_batch ? statistics[n + t] / (f * f) : running_var;
    const float inverse = 1.f / sqrtf(variance + eps), slope = inverse / f;
    const float by_gamma = 1.f / sqrtf(running_var + eps);
    out[t] = gamma * slope;
    out[n + t] = beta - mean * (gamma * slope);
    out[2 * n + t] = mean;
    out[3 * n + t] = slope;
    out[4 * n + t] = f;
    out[5 * n + t] = scaled && gamma * by_gamma != 0.f ? by_gamma : 0.f;
    out[6 * n + t] = eps * inverse * inverse;
}

// Mean and variance of what the convolution would be with its own weight and bias.
KERNEL(output_moments)(const float *statistics, const float *bias, const float *factors, float *out, unsigned n) {
    EACH(t, n);
    const float f = factors[t];
    out[t] = statistics[t] / f + bias[t];
    out[n + t] = statistics[n + t] / (f * f);
}

// k is the coefficients with the output's levels behind them.
KERNEL(norm_to_grid)(const float *z, const float *k, float *y, unsigned relu, unsigned channels, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    const float v = fmaf(z[t], k[c], k[channels + c]);
    y[t] = on_grid(rounder(k + 7 * channels), relu && v < 0.f ? 0.f : v);
}

// `dy` where neither the ReLU nor the levels' limits stop it; `graded`: whether there are levels.
static __device__ float passed(float v, float dy, unsigned relu, unsigned graded, Rounder r) {
    if (relu && !(v > 0.f)) return 0.f;
    return graded ? (v > -INFINITY ? dy * grid_slope(r, v) : 0.f) : dy;
}

KERNEL(conv_bn_grad_rows)
(const float *z, const float *dy, const float *k, float *out, unsigned relu, unsigned graded, unsigned rows,
 unsigned channels, unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels, part = t / channels;
    const unsigned first = part * per, last = first + per < rows ? first + per : rows;
    const float scale = k[c], shift = k[channels + c], mean = k[2 * channels + c];
    const Rounder r = rounder(k + 7 * channels);
    float sum = 0.f, dot = 0.f;
    for (unsigned i = first; i < last; i++) {
        const float v = z[i * channels + c];
        const float g = passed(fmaf(v, scale, shift), dy[i * channels + c], relu, graded, r);
        sum += g;
        dot += g * (v - mean);
    }
    out[2 * part * channels + c] = sum;
    out[(2 * part + 1) * channels + c] = dot;
}

// [a, b] of dz = scale * g - a - b * z; zeros where the statistics are constants.
KERNEL(conv_bn_constants)(const float *sums, const float *k, float *out, float count, unsigned of_batch, unsigned n) {
    EACH(t, n);
    const float scale = k[t], mean = k[2 * n + t], slope = k[3 * n + t];
    const float b = of_batch ? scale * slope * slope * sums[n + t] / count : 0.f;
    out[t] = of_batch ? scale * sums[t] / count - b * mean : 0.f;
    out[n + t] = b;
}

// `all` is [a, b] and then the coefficients with the levels.
KERNEL(conv_bn_input_grad)
(const float *z, const float *dy, const float *all, float *dz, unsigned relu, unsigned graded, unsigned channels,
 unsigned n) {
    EACH(t, n);
    const unsigned c = t % channels;
    const float *k = all + 2 * channels;
    const float scale = k[c];
    const float g = passed(fmaf(z[t], scale, k[channels + c]), dy[t], relu, graded, rounder(k + 7 * channels));
    dz[t] = scale * g - all[c] - all[channels + c] * z[t];
}

KERNEL(conv_bn_gamma_grad)
(const float *sums, const float *k, const float *by_factor, float *out, unsigned of_batch, unsigned n) {
    EACH(t, n);
    const float scale = k[t], mean = k[2 * n + t], slope = k[3 * n + t], f = k[4 * n + t];
    const float left = of_batch ? sums[n + t] * k[6 * n + t] : sums[n + t] + mean * sums[t];
    const float divided = -scale * left / f;
    out[t] = sums[n + t] * slope + (by_factor[t] + divided) * k[5 * n + t];
}

KERNEL(conv_bn_bias_grad)(const float *sums, const float *k, float *out, unsigned of_batch, unsigned n) {
    EACH(t, n);
    out[t] = of_batch ? 0.f : k[4 * n + t] * k[t] * sums[t];
}
