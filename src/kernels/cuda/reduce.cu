// Sums over rows, in stages. A stage turns `rows` rows of each group into `parts` of at most `per` rows each; the next takes
// those for its rows. Which stages there are depends on the sizes alone (cuda/reduce.rs), so a sum is the same each time.

#include "common.cuh"

#define PART(t, columns)                                           \
    const unsigned c = t % (columns), part = t / (columns) % parts; \
    const unsigned group = t / ((columns) * parts);                 \
    const unsigned first = part * per, last = first + per < rows ? first + per : rows

// x is [groups, rows, columns], out is [groups, parts, columns]; each sum is multiplied by `scale`.
KERNEL(sum_rows)
(const float *x, float *out, float scale, unsigned rows, unsigned columns, unsigned per, unsigned parts, unsigned n) {
    EACH(t, n);
    PART(t, columns);
    float sum = 0.f;
    for (unsigned r = first; r < last; r++) sum += x[(group * rows + r) * columns + c];
    out[t] = sum * scale;
}

// As sum_rows of x * y.
KERNEL(dot_rows)
(const float *x, const float *y, float *out, float scale, unsigned rows, unsigned columns, unsigned per, unsigned parts,
 unsigned n) {
    EACH(t, n);
    PART(t, columns);
    float sum = 0.f;
    for (unsigned r = first; r < last; r++) {
        const unsigned at = (group * rows + r) * columns + c;
        sum += x[at] * y[at];
    }
    out[t] = sum * scale;
}

// Mean and sum of squared deviations of each part: out is [parts, 2, columns].
KERNEL(moments_rows)
(const float *x, float *out, unsigned rows, unsigned columns, unsigned per, unsigned parts, unsigned n) {
    EACH(t, n);
    PART(t, columns);
    // Deviations from the first value stay small where the values do not.
    const float origin = x[(group * rows + first) * columns + c];
    float sum = 0.f, squares = 0.f;
    for (unsigned r = first; r < last; r++) {
        const float d = x[(group * rows + r) * columns + c] - origin;
        sum += d;
        squares += d * d;
    }
    const float count = (float)(last - first), mean = sum / count;
    const float m2 = squares - sum * mean;
    out[(t / columns * 2) * columns + c] = origin + mean;
    out[(t / columns * 2 + 1) * columns + c] = m2 > 0.f ? m2 : 0.f;
}

// Joins parts of `size` rows each (the last has what is left of `total`) by Chan's formula. On the last stage the sum of
// squares becomes the variance.
KERNEL(join_moments)
(const float *x, float *out, unsigned total, unsigned size, unsigned finish, unsigned rows, unsigned columns,
 unsigned per, unsigned parts, unsigned n) {
    EACH(t, n);
    PART(t, columns);
    double mean = 0., m2 = 0., count = 0.;
    for (unsigned r = first; r < last; r++) {
        const unsigned begin = r * size, end = total - begin < size ? total : begin + size;
        const double more = (double)(end - begin), sum = count + more;
        const double delta = (double)x[(group * rows + r) * 2 * columns + c] - mean;
        mean += delta * more / sum;
        m2 += (double)x[((group * rows + r) * 2 + 1) * columns + c] + delta * delta * count * more / sum;
        count = sum;
    }
    out[(t / columns * 2) * columns + c] = (float)mean;
    out[(t / columns * 2 + 1) * columns + c] = (float)(finish ? m2 / count : m2);
}

// Least and most, NaN where any value is: x is [rows] on the first stage, [rows, 2] after; out is [parts, 2].
KERNEL(min_max_rows)(const float *x, float *out, unsigned pairs, unsigned rows, unsigned per, unsigned n) {
    EACH(t, n);
    const unsigned first = t * per, last = first + per < rows ? first + per : rows;
    float lo = INFINITY, hi = -INFINITY;
    bool nan = false;
    for (unsigned r = first; r < last; r++) {
        const float a = pairs ? x[2 * r] : x[r], b = pairs ? x[2 * r + 1] : a;
        nan |= isnan(a) || isnan(b);
        lo = a < lo ? a : lo;
        hi = b > hi ? b : hi;
    }
    out[2 * t] = nan ? NAN : lo;
    out[2 * t + 1] = nan ? NAN : hi;
}

// Counts as whole numbers, which add up to the same in any order; `counts` starts at zero bits.
KERNEL(histogram)(const float *x, float *counts, float lo, float hi, unsigned bins, unsigned n) {
    EACH(t, n);
    const float v = x[t];
    if (v >= lo && v <= hi) {
        // In this order and precision, without contraction: the edges fall where the CPU's do.
        const unsigned bin = (unsigned)((v - lo) * (float)bins / (hi - lo));
        atomicAdd((unsigned *)counts + (bin < bins ? bin : bins - 1), 1u);
    }
}

KERNEL(counts_to_float)(float *counts, unsigned n) {
    EACH(t, n);
    counts[t] = (float)((unsigned *)counts)[t];
}
