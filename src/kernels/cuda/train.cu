// The loss and the optimizers: the twins of train/loss.rs and train/optimizer.rs.

#include "common.cuh"

// One thread an image. `labels` are whole numbers; out is the gradient of the batch's mean loss, [images, classes], then
// [images, 2]: each image's loss, and 1 where its (first) largest logit is its label's.
KERNEL(cross_entropy)
(const float *logits, const float *labels, float *out, float low, float high, unsigned classes, unsigned n) {
    EACH(t, n);
    const float *row = logits + t * classes;
    const unsigned label = (unsigned)labels[t];
    unsigned best = 0;
    for (unsigned i = 1; i < classes; i++) best = row[i] > row[best] ? i : best;
    float total = 0.f;
    for (unsigned i = 0; i < classes; i++) total += expf(row[i] - row[best]);
    const float log_total = logf(total);
    double loss = 0.;
    for (unsigned i = 0; i < classes; i++) {
        const float target = low + (i == label ? high : 0.f), log_p = row[i] - row[best] - log_total;
        loss -= (double)(target * log_p);
        out[t * classes + i] = (expf(log_p) - target) / (float)n;
    }
    out[n * classes + 2 * t] = (float)loss;
    out[n * classes + 2 * t + 1] = best == label ? 1.f : 0.f;
}

// velocity = kept * velocity + (gradient + decay * parameter)
KERNEL(sgd_velocity)(float *velocity, const float *g, const float *p, float kept, float decay, unsigned n) {
    EACH(t, n);
    velocity[t] = kept * velocity[t] + (g[t] + decay * p[t]);
}

KERNEL(sgd_step)
(float *p, const float *g, const float *velocity, float rate, float momentum, float decay, unsigned nesterov, unsigned n) {
    EACH(t, n);
    const float along = nesterov ? g[t] + decay * p[t] + momentum * velocity[t] : velocity[t];
    p[t] -= rate * along;
}

// moments are [2, n].
KERNEL(adamw_moments)(float *moments, const float *g, float beta1, float beta2, unsigned n) {
    EACH(t, n);
    const float d = g[t];
    moments[t] += (1.f - beta1) * (d - moments[t]);
    moments[n + t] = beta2 * moments[n + t] + (1.f - beta2) * d * d;
}

KERNEL(adamw_step)
(float *p, const float *moments, float rate, float root, float kept, float eps, unsigned relative, unsigned n) {
    EACH(t, n);
    const float left = p[t] * kept, share = relative ? fabsf(left) : 1.f;
    p[t] = left - share * (rate * moments[t] / (sqrtf(moments[n + t]) / root + eps));
}
