/* Workload R1 in C, one thread: the yardstick.
 *
 * Projected Newton for f(y) = -0.6 log1p(w.y) + softplus(4 (q - sum a log1p(4y))) / 4
 * + (1-s) p.y + 0.1 |y|^2 on [0, 1]^3, then the leader's utility and its total derivative by the
 * implicit function theorem. Contexts go through in blocks of 64, one loop over the block for each
 * step so that it vectorises; a block stops when its last context has converged.
 */
#include <math.h>

#define B 64
#define D 3

typedef float lane[B];

static float ldl3(float h00, float h10, float h20, float h11, float h21, float h22,
                  float b0, float b1, float b2, float *x0, float *x1, float *x2) {
    float i0 = 1 / h00, l10 = h10 * i0, l20 = h20 * i0;
    float d1 = h11 - l10 * h10, i1 = 1 / d1, m21 = h21 - l20 * h10, l21 = m21 * i1;
    float d2 = h22 - l20 * h20 - l21 * m21;
    float c1 = b1 - l10 * b0, c2 = b2 - l20 * b0 - l21 * c1;
    *x2 = c2 / d2;
    *x1 = c1 * i1 - l21 * *x2;
    *x0 = b0 * i0 - l10 * *x1 - l20 * *x2;
    return d2;
}

/* Steps through all contexts; returns the sum over blocks of the iterations taken. */
long r1(long n, const float *u, const float *x, float *value, float *gradient, float tol) {
    long iterations = 0;
    for (long start = 0; start < n; start += B) {
        long size = n - start < B ? n - start : B;
        lane q, s, w[D], a[D], p[D], y[D], big;
        for (long k = 0; k < B; k++) {
            long row = start + (k < size ? k : size - 1);
            q[k] = u[2 * row];
            s[k] = u[2 * row + 1];
            for (int j = 0; j < D; j++) {
                w[j][k] = x[9 * row + j];
                a[j][k] = x[9 * row + 3 + j];
                p[j][k] = x[9 * row + 6 + j];
                y[j][k] = 0.5f;
            }
        }
        /* The last round only evaluates, at the solution, for the derivative. */
        for (int step = 0, last = 0; step < 50 && !last; step++) {
            float worst = 0;
            if (step)
                for (int k = 0; k < B; k++) worst = fmaxf(worst, big[k]);
            last = step && (worst <= tol || step == 49);
            iterations += !last;
            for (int k = 0; k < B; k++) {
                float sum = w[0][k] * y[0][k] + w[1][k] * y[1][k] + w[2][k] * y[2][k];
                float t0 = 1 + 4 * y[0][k], t1 = 1 + 4 * y[1][k], t2 = 1 + 4 * y[2][k];
                float l0 = logf(t0), l1 = logf(t1), l2 = logf(t2);
                float quality = a[0][k] * l0 + a[1][k] * l1 + a[2][k] * l2;
                float sig = 1 / (1 + expf(-4 * (q[k] - quality)));
                float bend = 4 * sig * (1 - sig), r = 1 / (1 + sum), r2 = 0.6f * r * r;
                float e0 = 4 / t0, e1 = 4 / t1, e2 = 4 / t2;
                float b0 = a[0][k] * e0, b1 = a[1][k] * e1, b2 = a[2][k] * e2;
                float w0 = w[0][k], w1 = w[1][k], w2 = w[2][k], rest = 1 - s[k];
                float g0 = -0.6f * w0 * r - sig * b0 + rest * p[0][k] + 0.2f * y[0][k];
                float g1 = -0.6f * w1 * r - sig * b1 + rest * p[1][k] + 0.2f * y[1][k];
                float g2 = -0.6f * w2 * r - sig * b2 + rest * p[2][k] + 0.2f * y[2][k];
                float f0 = !((y[0][k] <= 0 && g0 > 0) || (y[0][k] >= 1 && g0 < 0));
                float f1 = !((y[1][k] <= 0 && g1 > 0) || (y[1][k] >= 1 && g1 < 0));
                float f2 = !((y[2][k] <= 0 && g2 > 0) || (y[2][k] >= 1 && g2 < 0));
                float h00 = f0 * (r2 * w0 * w0 + bend * b0 * b0 + sig * b0 * e0 + 0.2f) + 1 - f0;
                float h11 = f1 * (r2 * w1 * w1 + bend * b1 * b1 + sig * b1 * e1 + 0.2f) + 1 - f1;
                float h22 = f2 * (r2 * w2 * w2 + bend * b2 * b2 + sig * b2 * e2 + 0.2f) + 1 - f2;
                float h10 = f1 * f0 * (r2 * w1 * w0 + bend * b1 * b0);
                float h20 = f2 * f0 * (r2 * w2 * w0 + bend * b2 * b0);
                float h21 = f2 * f1 * (r2 * w2 * w1 + bend * b2 * b1);
                float d0, d1, d2;
                if (!last) {
                    ldl3(h00, h10, h20, h11, h21, h22, f0 * g0, f1 * g1, f2 * g2, &d0, &d1, &d2);
                    float y0 = fminf(fmaxf(y[0][k] - d0, 0), 1);
                    float y1 = fminf(fmaxf(y[1][k] - d1, 0), 1);
                    float y2 = fminf(fmaxf(y[2][k] - d2, 0), 1);
                    big[k] = fmaxf(fmaxf(fabsf(y0 - y[0][k]), fabsf(y1 - y[1][k])),
                                   fabsf(y2 - y[2][k]));
                    y[0][k] = y0;
                    y[1][k] = y1;
                    y[2][k] = y2;
                } else {
                    float pay = p[0][k] * y[0][k] + p[1][k] * y[1][k] + p[2][k] * y[2][k];
                    float c0 = 1.5f * b0 + 0.3f * w0 * r - s[k] * p[0][k];
                    float c1 = 1.5f * b1 + 0.3f * w1 * r - s[k] * p[1][k];
                    float c2 = 1.5f * b2 + 0.3f * w2 * r - s[k] * p[2][k];
                    ldl3(h00, h10, h20, h11, h21, h22, f0 * c0, f1 * c1, f2 * c2, &d0, &d1, &d2);
                    w[0][k] = 1.5f * quality + 0.3f * logf(1 + sum) - s[k] * pay
                              - 0.1f * q[k] * q[k];
                    w[1][k] = -0.2f * q[k] + bend * (b0 * d0 + b1 * d1 + b2 * d2);
                    w[2][k] = -pay + p[0][k] * d0 + p[1][k] * d1 + p[2][k] * d2;
                }
            }
        }
        for (long k = 0; k < size; k++) {
            value[start + k] = w[0][k];
            gradient[2 * (start + k)] = w[1][k];
            gradient[2 * (start + k) + 1] = w[2][k];
        }
    }
    return iterations;
}
