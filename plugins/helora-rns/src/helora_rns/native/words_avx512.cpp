// Rows of words for avx512ifma: AVX-512 DQ multiplies words modulo 2^64 by itself.
#if defined(__x86_64__)
#define _MM_MALLOC_H_INCLUDED
#include <immintrin.h>
#include "words.hpp"

namespace {
#include "word_rows.hpp"

typedef __m512i V;

HR_INLINE V load(const void *x) { return _mm512_loadu_si512(x); }
HR_INLINE V times(V a, V b) { return _mm512_mullo_epi64(a, b); }
HR_INLINE V plus(V a, V b) { return _mm512_add_epi64(a, b); }

const int ROWS = 8, VECTORS = 2; // sixteen sums
const u64 SLIVER = 8 * VECTORS;  // columns of a tile

// R rows of C vectors. ``w``: [term][R], ``b``: [term][SLIVER].
template <int R, int C>
HR_INLINE void tile(u64 *out, u64 columns, const i64 *w, const u64 *b, u64 depth, bool add) {
    V sums[R][C];
    unroll<R>([&](auto row) HR_INLINED {
        unroll<C>([&](auto c) HR_INLINED {
            sums[row.value][c.value] = add ? load(out + row.value * columns + 8 * c.value) : _mm512_setzero_si512();
        });
    });
    for (u64 k = 0; k < depth; k++, w += R, b += SLIVER) {
        V x[C];
        unroll<C>([&](auto c) HR_INLINED { x[c.value] = load(b + 8 * c.value); });
        unroll<R>([&](auto row) HR_INLINED {
            const V weight = _mm512_set1_epi64(w[row.value]);
            unroll<C>([&](auto c) HR_INLINED {
                sums[row.value][c.value] = plus(sums[row.value][c.value], times(x[c.value], weight));
            });
        });
    }
    unroll<R>([&](auto row) HR_INLINED {
        unroll<C>([&](auto c) HR_INLINED {
            _mm512_storeu_si512(out + row.value * columns + 8 * c.value, sums[row.value][c.value]);
        });
    });
}

template <int R>
HR_INLINE void tiles(u64 *out, u64 columns, u64 width, const i64 *w, const u64 *b, u64 depth, bool add) {
    u64 c = 0;
    for (; c + SLIVER <= width; c += SLIVER) tile<R, VECTORS>(out + c, columns, w, b + c * depth, depth, add);
    if (c < width) tile<R, 1>(out + c, columns, w, b + c * depth, depth, add);
}

void gemm(u64 *out, const u64 *a, const i64 *weights, u64 rows, u64 terms, u64 columns, bool add, u64 *scratch) {
    i64 *packed = (i64 *)(scratch + WORD_DEPTH * WORD_COLUMNS);
    for (u64 block = 0; block < terms; block += WORD_DEPTH) {
        const u64 depth = terms - block < WORD_DEPTH ? terms - block : WORD_DEPTH;
        i64 *w = packed;
        for (u64 row = 0; row < rows; row += ROWS) {
            const u64 count = rows - row < ROWS ? rows - row : ROWS;
            for (u64 k = 0; k < depth; k++)
                for (u64 i = 0; i < count; i++) *w++ = weights[(row + i) * terms + block + k];
        }
        for (u64 column = 0; column < columns; column += WORD_COLUMNS) {
            const u64 width = columns - column < WORD_COLUMNS ? columns - column : WORD_COLUMNS;
            for (u64 k = 0; k < depth; k++) {
                const u64 *row = a + (block + k) * columns + column;
                for (u64 c = 0; c < width; c += 8)
                    _mm512_storeu_si512(scratch + (c / SLIVER * depth + k) * SLIVER + c % SLIVER, load(row + c));
            }
            w = packed;
            for (u64 row = 0; row < rows; row += ROWS) {
                const u64 count = rows - row < ROWS ? rows - row : ROWS;
                u64 *to = out + row * columns + column;
                const bool more = add || block;
                if (count == 8) tiles<8>(to, columns, width, w, scratch, depth, more);
                if (count == 7) tiles<7>(to, columns, width, w, scratch, depth, more);
                if (count == 6) tiles<6>(to, columns, width, w, scratch, depth, more);
                if (count == 5) tiles<5>(to, columns, width, w, scratch, depth, more);
                if (count == 4) tiles<4>(to, columns, width, w, scratch, depth, more);
                if (count == 3) tiles<3>(to, columns, width, w, scratch, depth, more);
                if (count == 2) tiles<2>(to, columns, width, w, scratch, depth, more);
                if (count == 1) tiles<1>(to, columns, width, w, scratch, depth, more);
                w += count * depth;
            }
        }
    }
}

// G groups of eight rows of weights for T tokens.
template <int G, int T>
HR_INLINE void apply_groups(u64 *out, u64 stride, const u64 *a, const int32_t *w, u64 terms) {
    V sums[G][T];
    unroll<G>([&](auto g) HR_INLINED {
        unroll<T>([&](auto t) HR_INLINED { sums[g.value][t.value] = _mm512_setzero_si512(); });
    });
    for (u64 k = 0; k < terms; k++) {
        V x[T];
        unroll<T>([&](auto t) HR_INLINED { x[t.value] = _mm512_set1_epi64((long long)a[t.value * terms + k]); });
        unroll<G>([&](auto g) HR_INLINED {
            const __m256i *from = (const __m256i *)(w + (g.value * terms + k) * WORD_GROUP);
            const V weights = _mm512_cvtepi32_epi64(_mm256_loadu_si256(from));
            unroll<T>([&](auto t) HR_INLINED {
                sums[g.value][t.value] = plus(sums[g.value][t.value], times(x[t.value], weights));
            });
        });
    }
    const V places = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7); // as weights are packed
    unroll<G>([&](auto g) HR_INLINED {
        unroll<T>([&](auto t) HR_INLINED {
            _mm512_storeu_si512(out + t.value * stride + g.value * WORD_GROUP,
                                _mm512_permutexvar_epi64(places, sums[g.value][t.value]));
        });
    });
}

template <int T>
HR_INLINE void apply_tokens(u64 *out, u64 stride, const u64 *a, const int32_t *w, u64 groups, u64 terms) {
    u64 g = 0;
    for (; g + 4 <= groups; g += 4) apply_groups<4, T>(out + g * WORD_GROUP, stride, a, w + g * terms * WORD_GROUP, terms);
    for (; g + 2 <= groups; g += 2) apply_groups<2, T>(out + g * WORD_GROUP, stride, a, w + g * terms * WORD_GROUP, terms);
    for (; g < groups; g++) apply_groups<1, T>(out + g * WORD_GROUP, stride, a, w + g * terms * WORD_GROUP, terms);
}

void apply(u64 *out, const u64 *a, const int32_t *weights, u64 groups, u64 terms, u64 tokens, u64 *) {
    const u64 stride = groups * WORD_GROUP;
    u64 t = 0;
    for (; t + 4 <= tokens; t += 4) apply_tokens<4>(out + t * stride, stride, a + t * terms, weights, groups, terms);
    for (; t < tokens; t++) apply_tokens<1>(out + t * stride, stride, a + t * terms, weights, groups, terms);
}

} // namespace

extern const WordRows avx512_words = {of_digits, with_message, quotient, joined, masked, dot, centred, of_residues, rounded, gemm, apply};
#endif
