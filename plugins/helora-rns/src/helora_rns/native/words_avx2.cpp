// Rows of words for avx2.
//
// A product modulo 2^64 of a word x and a weight w of 32 bits, both signed: with x = h·2^32 + l, l signed, it is
// l·w + (h·w mod 2^32)·2^32. The first product is exact in 64 bits, and all sums wrap around as they should. h of eight
// words fits one vector: h of the first four in its even halves, of the next four in its odd ones.
#if defined(__x86_64__)
#define _MM_MALLOC_H_INCLUDED
#include <immintrin.h>
#include "words.hpp"

namespace {
#include "word_rows.hpp"

typedef __m256i V;

HR_INLINE V load(const void *x) { return _mm256_loadu_si256((const V *)x); }
HR_INLINE void store(void *x, V v) { _mm256_storeu_si256((V *)x, v); }

// The upper halves h of eight words.
HR_INLINE V upper(V x, V y) {
    const V carry = _mm256_set1_epi64x(0x80000000);
    return _mm256_blend_epi32(_mm256_srli_epi64(_mm256_add_epi64(x, carry), 32), _mm256_add_epi64(y, carry), 0xaa);
}

// Sums of products for eight words: of the low halves of four and of four, and of the upper ones of all.
enum { FIRST, SECOND, UPPER, SUMS };

HR_INLINE void clear(V (&sums)[SUMS]) { sums[FIRST] = sums[SECOND] = sums[UPPER] = _mm256_setzero_si256(); }

// x, y and h are of the words, w and v of their weights, or the other way round; w serves x and h, and v serves y.
HR_INLINE void add_product(V (&sums)[SUMS], V x, V y, V h, V w, V v) {
    sums[FIRST] = _mm256_add_epi64(sums[FIRST], _mm256_mul_epi32(x, w));
    sums[SECOND] = _mm256_add_epi64(sums[SECOND], _mm256_mul_epi32(y, v));
    sums[UPPER] = _mm256_add_epi32(sums[UPPER], _mm256_mullo_epi32(h, w));
}

HR_INLINE V first_words(const V (&sums)[SUMS]) {
    return _mm256_add_epi64(sums[FIRST], _mm256_slli_epi64(sums[UPPER], 32));
}

HR_INLINE V second_words(const V (&sums)[SUMS]) {
    return _mm256_add_epi64(sums[SECOND], _mm256_slli_epi64(_mm256_srli_epi64(sums[UPPER], 32), 32));
}

const int ROWS = 4; // twelve sums, and four registers for operands
const u64 SLIVER = 12; // words of a term's operands: eight words, and their upper halves

// R rows of eight columns. ``w``: [term][R], ``b``: [term][SLIVER].
template <int R>
HR_INLINE void tile(u64 *out, u64 columns, const int32_t *w, const u64 *b, u64 depth, bool add) {
    V sums[R][SUMS];
    unroll<R>([&](auto row) HR_INLINED { clear(sums[row.value]); });
    for (u64 k = 0; k < depth; k++, w += R, b += SLIVER) {
        const V x = load(b), y = load(b + 4), h = load(b + 8);
        unroll<R>([&](auto row) HR_INLINED {
            const V both = _mm256_set1_epi32(w[row.value]);
            add_product(sums[row.value], x, y, h, both, both);
        });
    }
    unroll<R>([&](auto row) HR_INLINED {
        u64 *to = out + row.value * columns;
        V first = first_words(sums[row.value]), second = second_words(sums[row.value]);
        if (add) {
            first = _mm256_add_epi64(first, load(to));
            second = _mm256_add_epi64(second, load(to + 4));
        }
        store(to, first);
        store(to + 4, second);
    });
}

void gemm(u64 *out, const u64 *a, const i64 *weights, u64 rows, u64 terms, u64 columns, bool add, u64 *scratch) {
    int32_t *packed = (int32_t *)(scratch + WORD_DEPTH * WORD_COLUMNS / 8 * SLIVER);
    for (u64 block = 0; block < terms; block += WORD_DEPTH) {
        const u64 depth = terms - block < WORD_DEPTH ? terms - block : WORD_DEPTH;
        int32_t *w = packed;
        for (u64 row = 0; row < rows; row += ROWS) {
            const u64 count = rows - row < ROWS ? rows - row : ROWS;
            for (u64 k = 0; k < depth; k++)
                for (u64 i = 0; i < count; i++) *w++ = (int32_t)weights[(row + i) * terms + block + k];
        }
        for (u64 column = 0; column < columns; column += WORD_COLUMNS) {
            const u64 width = columns - column < WORD_COLUMNS ? columns - column : WORD_COLUMNS;
            for (u64 k = 0; k < depth; k++) {
                const u64 *row = a + (block + k) * columns + column;
                for (u64 c = 0; c < width; c += 8) {
                    u64 *to = scratch + (c / 8 * depth + k) * SLIVER;
                    const V x = load(row + c), y = load(row + c + 4);
                    store(to, x);
                    store(to + 4, y);
                    store(to + 8, upper(x, y));
                }
            }
            w = packed;
            for (u64 row = 0; row < rows; row += ROWS) {
                const u64 count = rows - row < ROWS ? rows - row : ROWS;
                for (u64 c = 0; c < width; c += 8) {
                    u64 *to = out + row * columns + column + c;
                    const u64 *b = scratch + c / 8 * depth * SLIVER;
                    if (count == 4) tile<4>(to, columns, w, b, depth, add || block);
                    if (count == 3) tile<3>(to, columns, w, b, depth, add || block);
                    if (count == 2) tile<2>(to, columns, w, b, depth, add || block);
                    if (count == 1) tile<1>(to, columns, w, b, depth, add || block);
                }
                w += count * depth;
            }
        }
    }
}

// G groups of eight rows of weights for T tokens: a word is the same for all rows, and weights take turns as the even
// and the odd halves: those of the second four are one place on.
template <int G, int T>
HR_INLINE void apply_groups(u64 *out, u64 stride, const u64 *a, const int32_t *high, const int32_t *w, u64 terms) {
    V sums[G][T][SUMS];
    unroll<G>([&](auto g) HR_INLINED { unroll<T>([&](auto t) HR_INLINED { clear(sums[g.value][t.value]); }); });
    for (u64 k = 0; k < terms; k++) {
        V x[T], h[T];
        unroll<T>([&](auto t) HR_INLINED {
            x[t.value] = _mm256_set1_epi64x((long long)a[t.value * terms + k]);
            h[t.value] = _mm256_set1_epi32(high[t.value * terms + k]);
        });
        unroll<G>([&](auto g) HR_INLINED {
            const int32_t *from = w + (g.value * terms + k) * WORD_GROUP;
            const V even = load(from), odd = load(from + 1);
            unroll<T>([&](auto t) HR_INLINED {
                add_product(sums[g.value][t.value], x[t.value], x[t.value], h[t.value], even, odd);
            });
        });
    }
    unroll<G>([&](auto g) HR_INLINED {
        unroll<T>([&](auto t) HR_INLINED {
            u64 *to = out + t.value * stride + g.value * WORD_GROUP;
            store(to, first_words(sums[g.value][t.value]));
            store(to + 4, second_words(sums[g.value][t.value]));
        });
    });
}

template <int T>
HR_INLINE void apply_tokens(u64 *out, u64 stride, const u64 *a, const int32_t *high, const int32_t *w, u64 groups,
                            u64 terms) {
    constexpr int G = 4 / T; // twelve sums
    u64 g = 0;
    for (; g + G <= groups; g += G) apply_groups<G, T>(out + g * WORD_GROUP, stride, a, high, w + g * terms * WORD_GROUP, terms);
    for (; g < groups; g++) apply_groups<1, T>(out + g * WORD_GROUP, stride, a, high, w + g * terms * WORD_GROUP, terms);
}

void apply(u64 *out, const u64 *a, const int32_t *weights, u64 groups, u64 terms, u64 tokens, u64 *scratch) {
    int32_t *high = (int32_t *)scratch;
    for (u64 k = 0; k < tokens * terms; k++) high[k] = (int32_t)((a[k] + 0x80000000) >> 32);
    const u64 stride = groups * WORD_GROUP;
    u64 t = 0;
    for (; t + 2 <= tokens; t += 2) apply_tokens<2>(out + t * stride, stride, a + t * terms, high + t * terms, weights, groups, terms);
    if (t < tokens) apply_tokens<1>(out + t * stride, stride, a + t * terms, high + t * terms, weights, groups, terms);
}

} // namespace

extern const WordRows avx2_words = {of_digits, with_message, quotient, joined, masked, dot, centred, of_residues, rounded, gemm, apply};
#endif
