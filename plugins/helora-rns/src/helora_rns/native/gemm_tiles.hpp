// The tiles: HR_GEMM_ROWS rows by two vectors of HR_GEMM_LANES doubles stay in registers while terms are added to them.
//
// All numbers are integers below 2^53 in size, so that every operation is exact, fused or not. A residue modulo q of b
// bits is centred, so that it is 2^(b−1) at most, and cut into signed digits of s bits, each 2^(s−1) at most; weights
// alike. Digits i and j stand for 2^(s(i+j)), and the sum is taken by Horner's rule from the highest i + j down, modulo
// q between. ``settle`` products add up to 2^52 at most, and what was settled before is about q/2 <= 2^49.
#pragma once

typedef double Vector __attribute__((vector_size(8 * HR_GEMM_LANES), may_alias));
typedef u64 Words __attribute__((vector_size(8 * HR_GEMM_LANES), may_alias));

static const u64 WIDTH = 2 * HR_GEMM_LANES;
static const u64 AHEAD = 12; // terms whose residues are fetched early: blocks are too short for the hardware to notice
static const u64 EXPONENT = 0x4330000000000000; // of 2^52: under it, an integer below 2^52 is a double

static HR_INLINE Vector all(double x) {
    Vector v;
    for (int i = 0; i < HR_GEMM_LANES; i++) v[i] = x;
    return v;
}

// Integers below 2^52 as doubles.
static HR_INLINE Vector number(Words integers) { return (Vector)(integers | EXPONENT) - 0x1p52; }

static HR_INLINE Vector rounded(Vector x, double factor) { return (x * factor + 0x1.8p52) - 0x1.8p52; }

struct Modulus {
    double q, inverse, power, power_over_q, high, low;

    explicit Modulus(const Gemm &g) : q(g.p->qd), inverse(g.p->qinv) {
        power = (double)((u64)1 << g.shift);
        power_over_q = power * inverse;
        high = (double)(g.p->q >> 25 << 25);
        low = q - high;
    }
    HR_INLINE Vector reduced(Vector x) const { return x - rounded(x, inverse) * q; }
    // x·2^s for x that is reduced: the quotient is below 2^25, so that both its products are exact, and both differences.
    HR_INLINE Vector shifted(Vector x) const {
        const Vector quotient = rounded(x, power_over_q);
        return (x * power - quotient * high) - quotient * low;
    }
    HR_INLINE Vector centred(Vector x) const { return x - (Vector)((Words)(x > q * 0.5) & (Words)all(q)); }
    HR_INLINE Vector canonical(Vector x) const {
        const Vector r = reduced(x);
        return r + (Vector)((Words)(r < 0.0) & (Words)all(q));
    }
};

// R rows of a tile over ``depth`` terms. ``a``: [digit][term][R], ``b``: [digit][term][WIDTH]. Between blocks of terms
// the rows of ``out`` hold doubles.
template <int R>
static void tile(const Gemm &g, const Modulus &m, const double *a, const double *b, u64 depth, u64 *const *out, u64 at,
                 bool first, bool last) {
    Vector sums[R][2];
    unroll<R>([&](auto row) HR_INLINED { sums[row.value][0] = sums[row.value][1] = all(0.0); });
    const u64 top = g.parts + g.weight_parts - 2;
    bool clean = true;
    const auto each = [&](auto f) HR_INLINED {
        unroll<R>([&](auto row) HR_INLINED {
            sums[row.value][0] = f(sums[row.value][0]);
            sums[row.value][1] = f(sums[row.value][1]);
        });
    };
    for (u64 d = top + 1; d-- > 0;) {
        if (d < top) {
            each([&](Vector x) HR_INLINED { return m.shifted(m.reduced(x)); });
            clean = true;
        }
        for (u64 i = d < g.weight_parts ? 0 : d - g.weight_parts + 1; i <= d && i < g.parts; i++) {
            const double *left = a + (d - i) * depth * R, *right = b + i * depth * WIDTH;
            for (u64 start = 0; start < depth; start += g.settle) {
                if (!clean) each([&](Vector x) HR_INLINED { return m.reduced(x); });
                clean = false;
                const u64 end = start + g.settle < depth ? start + g.settle : depth;
                for (u64 k = start; k < end; k++) {
                    const Vector x = *(const Vector *)(right + k * WIDTH);
                    const Vector y = *(const Vector *)(right + k * WIDTH + HR_GEMM_LANES);
                    unroll<R>([&](auto row) HR_INLINED {
                        const double w = left[k * R + row.value];
                        sums[row.value][0] += x * w;
                        sums[row.value][1] += y * w;
                    });
                }
            }
        }
    }
    unroll<R>([&](auto row) HR_INLINED {
        for (int v = 0; v < 2; v++) {
            Vector *to = (Vector *)(out[row.value] + at + v * HR_GEMM_LANES);
            Vector sum = sums[row.value][v];
            if (!first)
                sum += *to;
            else if (g.add)
                sum += m.centred(number(*(const Words *)to));
            if (last)
                *(Words *)to = (Words)(m.canonical(sum) + 0x1p52) ^ (Words)all(0x1p52);
            else
                *to = m.reduced(sum);
        }
    });
}

template <int R, class F>
static HR_INLINE void with_rows(u64 rows, F f) {
    if constexpr (R > 1) {
        if (rows < R) return with_rows<R - 1>(rows, f);
    }
    f(Index<R>{});
}

// Rows in as few and as equal panels as fit registers: f(first row, rows).
template <class F>
static HR_INLINE void each_panel(u64 rows, F f) {
    const u64 panels = (rows + HR_GEMM_ROWS - 1) / HR_GEMM_ROWS;
    for (u64 i = 0, start = 0; i < panels; i++) {
        const u64 count = rows / panels + (i < rows % panels);
        f(start, count);
        start += count;
    }
}

// Weights to [block of terms][panel][digit][term][row of the panel].
static void pack_weights(const Gemm &g, double *out) {
    const i64 half = (i64)1 << (g.shift - 1);
    for (u64 block = 0; block < g.terms; block += GEMM_DEPTH) {
        const u64 depth = g.terms - block < GEMM_DEPTH ? g.terms - block : GEMM_DEPTH;
        each_panel(g.rows, [&](u64 start, u64 count) HR_INLINED {
            for (u64 k = 0; k < depth; k++)
                for (u64 row = 0; row < count; row++) {
                    i64 w = g.weights[(start + row) * g.terms + block + k];
                    for (u64 j = 0; j < g.weight_parts; j++) {
                        const i64 upper = j + 1 == g.weight_parts ? 0 : (w + half) >> g.shift;
                        out[(j * depth + k) * count + row] = (double)(w - upper * ((i64)1 << g.shift));
                        w = upper;
                    }
                }
            out += g.weight_parts * depth * count;
        });
    }
}

// A block of residues to [sliver][digit][term][WIDTH].
static void pack_residues(const Gemm &g, const Modulus &m, double *out, u64 block, u64 depth, u64 column, u64 columns) {
    const double down = 1.0 / m.power;
    for (u64 k = 0; k < depth; k++) {
        const u64 *row = g.a[block + k] + g.offset + column;
        const u64 *later = g.a[block + k + AHEAD < g.terms ? block + k + AHEAD : 0] + g.offset + column;
        for (u64 c = 0; c < columns; c += HR_GEMM_LANES) {
            if (c % 8 == 0) __builtin_prefetch(later + c);
            Vector x = m.centred(number(*(const Words *)(row + c)));
            double *to = out + ((c / WIDTH * g.parts) * depth + k) * WIDTH + c % WIDTH;
            for (u64 i = 1; i < g.parts; i++, to += depth * WIDTH) {
                const Vector upper = rounded(x, down);
                *(Vector *)to = x - upper * m.power;
                x = upper;
            }
            *(Vector *)to = x;
        }
    }
}

static HR_INLINE void run_gemm(const Gemm &g) {
    const Modulus m(g);
    double *weights = (double *)g.scratch;
    double *slivers = weights + (g.weight_parts * g.rows * g.terms + 7) / 8 * 8;
    pack_weights(g, weights);
    u64 *rows[HR_GEMM_ROWS];
    for (u64 column = 0; column < g.n; column += GEMM_COLUMNS) {
        const u64 columns = g.n - column < GEMM_COLUMNS ? g.n - column : GEMM_COLUMNS;
        const double *panel = weights;
        for (u64 block = 0; block < g.terms; block += GEMM_DEPTH) {
            const bool first = block == 0, last = g.terms - block <= GEMM_DEPTH;
            const u64 depth = last ? g.terms - block : GEMM_DEPTH;
            pack_residues(g, m, slivers, block, depth, column, columns);
            each_panel(g.rows, [&](u64 start, u64 count) HR_INLINED {
                for (u64 row = 0; row < count; row++) rows[row] = g.out[start + row] + g.offset;
                with_rows<HR_GEMM_ROWS>(count, [&](auto height) HR_INLINED {
                    for (u64 c = 0; c < columns; c += WIDTH)
                        tile<decltype(height)::value>(g, m, panel, slivers + c * g.parts * depth, depth, rows,
                                                      column + c, first, last);
                });
                panel += g.weight_parts * depth * count;
            });
        }
    }
}
