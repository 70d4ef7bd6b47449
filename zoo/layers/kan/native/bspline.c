/* B-splines over evenly spaced knots, for tiles of a few thousand inputs: the optional compiled backend of a KAN layer.

   x       (rows, features), its rows a step apart
   knots   (1, count + 1) or (features, count + 1), evenly spaced; own != 0: a row for each feature
   tile    (rows, bases, features), bases = count - order

   In cell c, g_c <= x < g_{c+1}, only the functions c - order ... c differ from 0; outside all are 0, NaN gives NaN.
   The file is compiled once for float and once for double, see the end of it. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST 10 /* order + 1 */
#define STRIP 64

#define REAL float
#define NAME(f) f##_float
#include "bspline.c"
#undef REAL
#undef NAME
#define REAL double
#define NAME(f) f##_double
#include "bspline.c"

#else

/* Where the inputs of a strip lie: their cells and how far they are in them, from 0 to 1; -1 for the cell of an input
   outside all cells. In double, for a fine grid leaves few digits of a float. */
static void NAME(locate)(const REAL *x, int n, const REAL *knots, int64_t own, int64_t count, int64_t order,
                         int32_t *cell, REAL *f)
{
    double start = knots[0], per_unit = (double)count / ((double)knots[count] - start);
    for (int i = 0; i < n; ++i) {
        if (own) {
            start = knots[i * own];
            per_unit = (double)count / ((double)knots[i * own + count] - start);
        }
        double t = ((double)x[i] - start) * per_unit;
        int inside = (t >= 0) & (t < (double)count); /* not NaN */
        double c = inside ? floor(t) : 0;
        f[i] = (REAL)(t - c);
        cell[i] = inside ? (int32_t)c : -1;
    }
    /* Slopes of order 1 jump at a knot, so which side an input lies on must not depend on rounding. */
    for (int i = 0; i < n && order == 1; ++i) {
        const REAL *g = knots + i * own;
        int32_t c = cell[i];
        if (c < 0 && (x[i] < g[0] || !(x[i] < g[count])))
            continue; /* NaN too */
        c = c < 0 ? (x[i] < g[1] ? 0 : (int32_t)count - 1) : c;
        c += c + 1 < count && x[i] >= g[c + 1];
        c -= c > 0 && x[i] < g[c];
        cell[i] = x[i] < g[0] || x[i] >= g[count] ? -1 : c;
        f[i] = (x[i] - g[c]) / (g[c + 1] - g[c]);
    }
}

/* value[m][i]: function number cell - order + m, by the recursion. */
static void NAME(values)(const REAL *f, int n, int order, REAL value[MOST][STRIP])
{
    for (int i = 0; i < n; ++i)
        value[0][i] = 1;
    for (int d = 1; d <= order; ++d) {
        REAL part = (REAL)1 / d;
        for (int i = 0; i < n; ++i)
            value[d][i] = f[i] * value[d - 1][i] * part;
        for (int m = d - 1; m > 0; --m)
            for (int i = 0; i < n; ++i)
                value[m][i] = ((f[i] + d - m) * value[m - 1][i] + (m + 1 - f[i]) * value[m][i]) * part;
        for (int i = 0; i < n; ++i)
            value[0][i] *= (1 - f[i]) * part;
    }
}

/* The derivatives with respect to f. */
static void NAME(slopes)(const REAL *f, int n, int order, REAL slope[MOST][STRIP])
{
    REAL lower[MOST][STRIP];
    NAME(values)(f, n, order - 1, lower);
    for (int m = 0; m <= order; ++m)
        for (int i = 0; i < n; ++i)
            slope[m][i] = (m > 0 ? lower[m - 1][i] : 0) - (m < order ? lower[m][i] : 0);
}

/* The cubic bell at s - 2 = d from its middle, and its slope. */
static inline REAL NAME(bell)(REAL d)
{
    REAL a = d < 0 ? -d : d, two = 2 - a, one = 1 - a;
    two = two < 0 ? 0 : two; /* NaN stays */
    one = one < 0 ? 0 : one;
    return (two * two * two - 4 * one * one * one) * ((REAL)1 / 6);
}

static inline REAL NAME(bell_slope)(REAL d)
{
    REAL a = d < 0 ? -d : d, two = 2 - a, one = 1 - a;
    two = two < 0 ? 0 : two; /* NaN stays */
    one = one < 0 ? 0 : one;
    REAL size = 2 * one * one - (REAL)0.5 * two * two;
    return d < 0 ? -size : size;
}

/* Cells from the first knot on; an input outside lies far from every bell. */
static inline REAL NAME(place)(REAL f, int32_t cell)
{
    return cell >= 0 ? f + (REAL)cell : f != f ? f : (REAL)-9;
}

/* The few functions of a coarse cubic grid are all computed, without a branch; of others those of the cell alone. */
#define COARSE(order, bases) ((order) == 3 && (bases) <= 16)

void NAME(bspline_fill)(const REAL *x, int64_t step, int64_t rows, int64_t features, const REAL *knots, int64_t own,
                        int64_t count, int64_t order, REAL *tile)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], value[MOST][STRIP];
    own = own ? count + 1 : 0;
    if (!COARSE(order, bases))
        memset(tile, 0, (size_t)(rows * bases * features) * sizeof(REAL));
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            REAL *to = tile + row * bases * features + first;
            NAME(locate)(x + row * step + first, n, knots + first * own, own, count, order, cell, f);
            if (COARSE(order, bases)) {
                for (int i = 0; i < n; ++i)
                    f[i] = NAME(place)(f[i], cell[i]);
                for (int64_t j = 0; j < bases; ++j, to += features)
                    for (int i = 0; i < n; ++i)
                        to[i] = NAME(bell)(f[i] - (REAL)(j + 2));
                continue;
            }
            NAME(values)(f, n, (int)order, value);
            for (int i = 0; i < n; ++i) {
                int64_t place = cell[i] - order;
                for (int m = 0; cell[i] >= 0 && m <= order; ++m)
                    if (place + m >= 0 && place + m < bases)
                        to[(place + m) * features + i] = value[m][i];
                for (int64_t j = 0; f[i] != f[i] && j < bases; ++j)
                    to[j * features + i] = NAN;
            }
        }
}

/* grad_x = sum_j pulled_j B_j'(x), and 0 outside the knots; the rows of grad_x are to_step apart. */
void NAME(bspline_gather)(const REAL *x, int64_t step, int64_t rows, int64_t features, const REAL *knots, int64_t own,
                          int64_t count, int64_t order, int64_t to_step, const REAL *pulled, REAL *grad_x)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], slope[MOST][STRIP], sum[STRIP];
    own = own ? count + 1 : 0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            const REAL *from = pulled + row * bases * features + first, *g = knots + first * own;
            REAL *to = grad_x + row * to_step + first;
            NAME(locate)(x + row * step + first, n, g, own, count, order, cell, f);
            memset(sum, 0, sizeof sum);
            if (COARSE(order, bases)) {
                for (int i = 0; i < n; ++i)
                    f[i] = NAME(place)(f[i], cell[i]);
                for (int64_t j = 0; j < bases; ++j, from += features)
                    for (int i = 0; i < n; ++i)
                        sum[i] += from[i] * NAME(bell_slope)(f[i] - (REAL)(j + 2));
            } else {
                NAME(slopes)(f, n, (int)order, slope);
                for (int i = 0; i < n; ++i) {
                    int64_t place = cell[i] - order;
                    for (int m = 0; cell[i] >= 0 && m <= order; ++m)
                        if (place + m >= 0 && place + m < bases)
                            sum[i] += from[(place + m) * features + i] * slope[m][i];
                    sum[i] = f[i] != f[i] ? (REAL)NAN : sum[i];
                }
            }
            for (int i = 0; i < n; ++i)
                to[i] = sum[i] * ((REAL)count / (g[i * own + count] - g[i * own]));
        }
}

/* out (rows, outs) += sum_i sum_j B_j(x_i) weight[i, j, :], weight (features, bases, outs): for many functions and few
   outputs, where filling a tile with zeros would cost more than the sums. */
void NAME(bspline_sum)(const REAL *x, int64_t step, int64_t rows, int64_t features, const REAL *knots, int64_t own,
                       int64_t count, int64_t order, int64_t outs, const REAL *weight, REAL *out)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], value[MOST][STRIP];
    own = own ? count + 1 : 0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            REAL *to = out + row * outs;
            NAME(locate)(x + row * step + first, n, knots + first * own, own, count, order, cell, f);
            NAME(values)(f, n, (int)order, value);
            for (int i = 0; i < n; ++i) {
                int64_t place = cell[i] - order;
                const REAL *w = weight + ((first + i) * bases + place) * outs;
                for (int64_t o = 0; f[i] != f[i] && o < outs; ++o)
                    to[o] = NAN;
                if (cell[i] < 0)
                    continue;
                if (order == 3 && place >= 0 && place + 4 <= bases) { /* one pass over the outputs */
                    REAL a = value[0][i], b = value[1][i], c = value[2][i], d = value[3][i];
                    for (int64_t o = 0; o < outs; ++o)
                        to[o] += a * w[o] + b * w[o + outs] + c * w[o + 2 * outs] + d * w[o + 3 * outs];
                    continue;
                }
                for (int m = 0; m <= order; ++m)
                    if (place + m >= 0 && place + m < bases)
                        for (int64_t o = 0; o < outs; ++o)
                            to[o] += value[m][i] * w[o + m * outs];
            }
        }
}

/* packed (outs, bases, features) = weight (outs, features, bases) * scale (outs, features), the latter two parts of
   larger matrices with rows a step apart; scale may be NULL. */
void NAME(bspline_pack)(const REAL *weight, int64_t step, const REAL *scale, int64_t scale_step, int64_t outs,
                        int64_t features, int64_t bases, REAL *packed)
{
    for (int64_t o = 0; o < outs; ++o, weight += step, packed += bases * features)
        for (int64_t i = 0; i < features; ++i) {
            REAL s = scale ? scale[o * scale_step + i] : 1;
            for (int64_t j = 0; j < bases; ++j)
                packed[j * features + i] = weight[i * bases + j] * s;
        }
}

/* The way back: grad_weight = total * scale, grad_scale = sum_j total_j * weight_j. What is NULL is left out. */
void NAME(bspline_unpack)(const REAL *total, const REAL *weight, int64_t step, const REAL *scale, int64_t scale_step,
                          int64_t outs, int64_t features, int64_t bases, int64_t grad_step, REAL *grad_weight,
                          int64_t grad_scale_step, REAL *grad_scale)
{
    for (int64_t o = 0; o < outs; ++o, weight += step, total += bases * features)
        for (int64_t i = 0; i < features; ++i) {
            REAL s = scale ? scale[o * scale_step + i] : 1, sum = 0;
            for (int64_t j = 0; j < bases; ++j)
                sum += total[j * features + i] * weight[i * bases + j];
            for (int64_t j = 0; grad_weight && j < bases; ++j)
                grad_weight[o * grad_step + i * bases + j] = total[j * features + i] * s;
            if (grad_scale)
                grad_scale[o * grad_scale_step + i] = sum;
        }
}

#endif
