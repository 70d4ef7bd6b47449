/* B-splines over evenly spaced knots, for tiles of a few thousand inputs: the optional compiled backend of a KAN layer.

   x       (rows, features), contiguous
   knots   (1, count + 1) or (features, count + 1), evenly spaced; own != 0: a row for each feature
   tile    (rows, features, stride), of which the first bases = count - order of each stride are written

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
#include __FILE__
#undef REAL
#undef NAME
#define REAL double
#define NAME(f) f##_double
#include __FILE__

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

/* The four functions of a cell of order 3, and their derivatives. */
typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL))));

static inline NAME(four) NAME(cubic)(REAL u)
{
    const NAME(four) a = {(REAL)1 / 6, (REAL)4 / 6, (REAL)1 / 6, 0}, b = {(REAL)-0.5, 0, (REAL)0.5, 0};
    const NAME(four) c = {(REAL)0.5, -1, (REAL)0.5, 0}, d = {(REAL)-1 / 6, (REAL)0.5, (REAL)-0.5, (REAL)1 / 6};
    return ((d * u + c) * u + b) * u + a;
}

static inline NAME(four) NAME(cubic_slope)(REAL u)
{
    const NAME(four) b = {(REAL)-0.5, 0, (REAL)0.5, 0}, c = {1, -2, 1, 0};
    const NAME(four) d = {(REAL)-0.5, (REAL)1.5, (REAL)-1.5, (REAL)0.5};
    return (d * u + c) * u + b;
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

void NAME(bspline_fill)(const REAL *x, int64_t rows, int64_t features, const REAL *knots, int64_t own, int64_t count,
                        int64_t order, int64_t stride, REAL *tile)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], value[MOST][STRIP];
    own = own ? count + 1 : 0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            NAME(locate)(x + row * features + first, n, knots + first * own, own, count, order, cell, f);
            REAL *to = tile + (row * features + first) * stride;
            if (order != 3)
                NAME(values)(f, n, (int)order, value);
            for (int i = 0; i < n; ++i, to += stride) {
                int64_t place = cell[i] - order;
                if (bases == 8)
                    memset(to, 0, 8 * sizeof(REAL));
                else
                    memset(to, 0, (size_t)bases * sizeof(REAL));
                if (order == 3 && place >= 0 && place + 4 <= bases) {
                    NAME(four) v = NAME(cubic)(f[i]);
                    memcpy(to + place, &v, sizeof v);
                } else if (cell[i] >= 0) {
                    NAME(four) v = NAME(cubic)(f[i]);
                    for (int m = 0; m <= order; ++m)
                        if (place + m >= 0 && place + m < bases)
                            to[place + m] = order == 3 ? v[m] : value[m][i];
                } else if (f[i] != f[i])
                    for (int64_t j = 0; j < bases; ++j)
                        to[j] = NAN;
            }
        }
}

/* grad_x = sum_j grad_tile_j B_j'(x), and 0 outside the knots. */
void NAME(bspline_gather)(const REAL *x, int64_t rows, int64_t features, const REAL *knots, int64_t own, int64_t count,
                          int64_t order, int64_t stride, const REAL *grad_tile, REAL *grad_x)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], slope[MOST][STRIP];
    own = own ? count + 1 : 0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            int64_t at = row * features + first;
            NAME(locate)(x + at, n, knots + first * own, own, count, order, cell, f);
            if (order != 3)
                NAME(slopes)(f, n, (int)order, slope);
            const REAL *from = grad_tile + at * stride, *g = knots + first * own;
            for (int i = 0; i < n; ++i, from += stride, g += own) {
                int64_t place = cell[i] - order;
                NAME(four) s = NAME(cubic_slope)(f[i]), v;
                REAL sum = 0;
                if (order == 3 && place >= 0 && place + 4 <= bases) {
                    memcpy(&v, from + place, sizeof v);
                    v *= s;
                    sum = (v[0] + v[1]) + (v[2] + v[3]);
                } else if (cell[i] >= 0) {
                    for (int m = 0; m <= order; ++m)
                        if (place + m >= 0 && place + m < bases)
                            sum += from[place + m] * (order == 3 ? s[m] : slope[m][i]);
                } else if (f[i] != f[i])
                    sum = NAN;
                grad_x[at + i] = sum * ((REAL)count / (g[count] - g[0]));
            }
        }
}

/* out (rows, outs) += sum_i sum_j B_j(x_i) weight[i, j, :], weight (features, bases, outs): for many functions and few
   outputs, where filling a tile with zeros would cost more than the sums. */
void NAME(bspline_sum)(const REAL *x, int64_t rows, int64_t features, const REAL *knots, int64_t own, int64_t count,
                       int64_t order, int64_t outs, const REAL *weight, REAL *out)
{
    int64_t bases = count - order;
    int32_t cell[STRIP];
    REAL f[STRIP], value[MOST][STRIP];
    own = own ? count + 1 : 0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t first = 0; first < features; first += STRIP) {
            int n = (int)(features - first < STRIP ? features - first : STRIP);
            NAME(locate)(x + row * features + first, n, knots + first * own, own, count, order, cell, f);
            if (order != 3)
                NAME(values)(f, n, (int)order, value);
            REAL *to = out + row * outs;
            for (int i = 0; i < n; ++i) {
                int64_t place = cell[i] - order;
                const REAL *w = weight + ((first + i) * bases + place) * outs;
                NAME(four) v = NAME(cubic)(f[i]);
                if (f[i] != f[i])
                    for (int64_t o = 0; o < outs; ++o)
                        to[o] = NAN;
                if (cell[i] < 0)
                    continue;
                if (order == 3 && place >= 0 && place + 4 <= bases) {
                    for (int64_t o = 0; o < outs; ++o)
                        to[o] += v[0] * w[o] + v[1] * w[o + outs] + v[2] * w[o + 2 * outs] + v[3] * w[o + 3 * outs];
                    continue;
                }
                for (int m = 0; m <= order; ++m)
                    if (place + m >= 0 && place + m < bases)
                        for (int64_t o = 0; o < outs; ++o)
                            to[o] += (order == 3 ? v[m] : value[m][i]) * w[o + m * outs];
            }
        }
}

#endif
