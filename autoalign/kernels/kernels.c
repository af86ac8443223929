// Elementwise parts of a training step in bfloat16 on a CPU, each in one pass over memory.
// Plain C with OpenMP: `library.py` compiles it, `ops.py` calls it. Every sum runs in float32.

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float wide(bf16 value) {
    uint32_t bits = (uint32_t)value << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

// Round to nearest, ties to even, as PyTorch does; NaN stays NaN.
static inline bf16 narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (bits & 0x7fffffffu) > 0x7f800000u ? (bf16)0x7fc0u : (bf16)rounded;
}

// exp(x) to 2 units in the last place, without a table, so that the compiler can vectorise it:
// x = n ln 2 + r, exp(r) by its Taylor polynomial on [-ln 2 / 2, ln 2 / 2], times 2^n.
static inline float expo(float x) {
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t power = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return p * scale;
}

// weight * hidden / sqrt(mean(hidden^2) + eps) of each row; `is_given`: `inverse` holds 1 / sqrt(...) already.
void rms_norm(const bf16 *hidden, const bf16 *weight, float eps, int is_given, long rows, long width,
              bf16 *out, float *inverse) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *x = hidden + row * width;
        bf16 *y = out + row * width;
        if (!is_given) {
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (long i = 0; i < width; i++) {
                float v = wide(x[i]);
                sum += v * v;
            }
            inverse[row] = 1.0f / sqrtf(sum / width + eps);
        }
        float scale = inverse[row];
#pragma omp simd
        for (long i = 0; i < width; i++) y[i] = narrow(wide(narrow(wide(x[i]) * scale)) * wide(weight[i]));
    }
}

// Gradients of `rms_norm`. `grad_weight`: (parts, width) float32 zeros, one row for each of `parts` ranges of rows.
void rms_norm_backward(const bf16 *grad, const bf16 *hidden, const bf16 *weight, const float *inverse, long rows,
                       long width, long parts, bf16 *grad_hidden, float *grad_weight) {
#pragma omp parallel for schedule(static)
    for (long part = 0; part < parts; part++) {
        float *total = grad_weight + part * width;
        for (long row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
            const bf16 *x = hidden + row * width, *g = grad + row * width;
            bf16 *out = grad_hidden + row * width;
            float scale = inverse[row], share = 0;
#pragma omp simd reduction(+ : share)
            for (long i = 0; i < width; i++) {
                float unit = wide(x[i]) * scale, given = wide(g[i]);
                total[i] += given * unit;
                share += unit * given * wide(weight[i]);
            }
            share /= width;
#pragma omp simd
            for (long i = 0; i < width; i++)
                out[i] = narrow((wide(g[i]) * wide(weight[i]) - wide(x[i]) * scale * share) * scale);
        }
    }
}

// silu(gate) * up.
void swiglu(const bf16 *gate, const bf16 *up, long count, bf16 *out) {
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < count; i++) {
        float x = wide(gate[i]);
        out[i] = narrow(wide(narrow(x / (1.0f + expo(-x)))) * wide(up[i]));
    }
}

void swiglu_backward(const bf16 *grad, const bf16 *gate, const bf16 *up, long count, bf16 *grad_gate,
                     bf16 *grad_up) {
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < count; i++) {
        float x = wide(gate[i]), g = wide(grad[i]), sigmoid = 1.0f / (1.0f + expo(-x));
        grad_up[i] = narrow(g * x * sigmoid);
        grad_gate[i] = narrow(g * wide(up[i]) * sigmoid * (1.0f + x * (1.0f - sigmoid)));
    }
}

// Rotary embedding of (heads, tokens, width) with the strides given; `cosine`, `sine`: (tokens, width).
// `direction` -1 is the transposed rotation: the gradient.
void rotate(const bf16 *in, long in_head, long in_token, const bf16 *cosine, const bf16 *sine, int direction,
            long heads, long tokens, long width, bf16 *out, long out_head, long out_token) {
    long half = width / 2;
#pragma omp parallel for schedule(static)
    for (long token = 0; token < tokens; token++) {
        const bf16 *c = cosine + token * width, *s = sine + token * width;
        for (long head = 0; head < heads; head++) {
            const bf16 *x = in + head * in_head + token * in_token;
            bf16 *y = out + head * out_head + token * out_token;
            if (direction > 0) {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    float a = wide(x[i]), b = wide(x[i + half]);
                    y[i] = narrow(a * wide(c[i]) - b * wide(s[i]));
                    y[i + half] = narrow(b * wide(c[i + half]) + a * wide(s[i + half]));
                }
            } else {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    float a = wide(x[i]), b = wide(x[i + half]);
                    y[i] = narrow(a * wide(c[i]) + b * wide(s[i + half]));
                    y[i + half] = narrow(b * wide(c[i + half]) - a * wide(s[i]));
                }
            }
        }
    }
}

// log softmax(logits)[target] of each row. With `factors`, the row becomes factor * (one-hot - softmax).
void softmax_rows(bf16 *logits, const int64_t *targets, const float *factors, long rows, long vocab,
                  float *logps) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        bf16 *x = logits + row * vocab;
        float top = -INFINITY, sum = 0, wanted = wide(x[targets[row]]);
#pragma omp simd reduction(max : top)
        for (long i = 0; i < vocab; i++) {
            float v = wide(x[i]);
            top = v > top ? v : top;
        }
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < vocab; i++) sum += expo(wide(x[i]) - top);
        if (logps) logps[row] = wanted - top - logf(sum);
        if (!factors) continue;
        float factor = factors[row], scale = -factor / sum;
#pragma omp simd
        for (long i = 0; i < vocab; i++) x[i] = narrow(expo(wide(x[i]) - top) * scale);
        x[targets[row]] = narrow(factor + expo(wanted - top) * scale);
    }
}
