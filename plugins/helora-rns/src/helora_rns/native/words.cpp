// Polynomials modulo 2^64·q₁: rows of words, of coefficients, beside rows of residues, of values. Long, since what makes, answers
// and reads them shares how they are laid out and packed.
#include "words.hpp"
#include "helora_rns.h"

namespace {
#include "word_rows.hpp"

void gemm(u64 *out, const u64 *a, const i64 *weights, u64 rows, u64 terms, u64 columns, bool add, u64 *) {
    for (u64 i = 0; i < rows * columns && !add; i++) out[i] = 0;
    for (u64 row = 0; row < rows; row++)
        for (u64 k = 0; k < terms; k++) {
            const u64 w = (u64)weights[row * terms + k], *from = a + k * columns;
            for (u64 c = 0; c < columns; c++) out[row * columns + c] += w * from[c];
        }
}

// Where the weight of row i stands among a group's: the first half in even places, the second in odd ones.
HR_INLINE u64 place(u64 i) { return i % (WORD_GROUP / 2) * 2 + i / (WORD_GROUP / 2); }

void apply(u64 *out, const u64 *a, const int32_t *weights, u64 groups, u64 terms, u64 tokens, u64 *) {
    for (u64 t = 0; t < tokens; t++)
        for (u64 g = 0; g < groups; g++) {
            u64 sums[WORD_GROUP] = {};
            for (u64 k = 0; k < terms; k++)
                for (u64 i = 0; i < WORD_GROUP; i++)
                    sums[i] += a[t * terms + k] * (u64)(i64)weights[(g * terms + k) * WORD_GROUP + place(i)];
            for (u64 i = 0; i < WORD_GROUP; i++) out[(t * groups + g) * WORD_GROUP + i] = sums[i];
        }
}

const WordRows *words_of(u32 isa) {
#if defined(__x86_64__)
    if (isa == HR_AVX2) return &avx2_words;
    if (isa == HR_AVX512IFMA) return &avx512_words;
#endif
    (void)isa;
    return &scalar_words;
}

const WordRows *words_of(const Ring *r) {
#if defined(__x86_64__)
    if (r->rows == &avx2_rows) return &avx2_words;
    if (r->rows == &avx512ifma_rows) return &avx512_words;
#endif
    (void)r;
    return &scalar_words;
}

// Rows are joined in pieces that stay in the first cache.
const u64 STRIP = 1024;

// The second digit of mixed radix (Garner): (x_2 − x_1)/p_1 modulo p_2, for p_1 < p_2.
void second_digit(const Ring *r, const u32 *basis, u64 *out, const u64 *first, const u64 *second, u64 n) {
    const Prime *p = r->primes + basis[1];
    p->rows->sub_times(p, out, second, first, r->inverses[basis[0] * r->count + basis[1]], n);
}

// The integers of least size with these values modulo the first two primes, as words; ``values`` is overwritten.
void words_of_pair(const Ring *r, const WordRows *w, u64 *out, u64 *values) {
    const u32 pair[2] = {0, 1};
    for (u64 i = 0; i < 2; i++) r->primes[i].rows->inverse(r, r->primes + i, values + i * r->n);
    alignas(64) u64 digit[STRIP];
    for (u64 at = 0; at < r->n; at += STRIP) {
        const u64 n = r->n - at < STRIP ? r->n - at : STRIP;
        second_digit(r, pair, digit, values + at, values + r->n + at, n);
        w->of_digits(out + at, values + at, digit, r->primes[0].q, r->primes[1].q, n);
    }
}

// Words times values modulo the first two primes.
void product(const Ring *r, const WordRows *w, u64 *out, const u64 *a, const u64 *values, u64 *scratch) {
    for (u64 i = 0; i < 2; i++) {
        const Prime *p = r->primes + i;
        u64 *row = scratch + i * r->n;
        p->rows->forward_words(r, p, row, a);
        p->rows->multiply(p, row, row, values + i * r->n, r->n);
    }
    words_of_pair(r, w, out, scratch);
}

} // namespace

#if defined(HR_CLIENT)
extern const WordRows scalar_words = {of_digits, with_message, nullptr, nullptr, nullptr, nullptr,
                                      centred,   of_residues,  rounded, nullptr, nullptr};
#else
extern const WordRows scalar_words = {of_digits, with_message, quotient, joined, masked, dot,
                                      centred,   of_residues,  rounded,  gemm,   apply};
#endif

uint64_t hr_words_gemm_words(uint64_t rows) { return WORD_DEPTH * WORD_COLUMNS * 3 / 2 + rows * WORD_DEPTH; }

void hr_words_gemm(const Ring *r, uint64_t *out, const uint64_t *a, const int64_t *weights, uint64_t rows,
                   uint64_t terms, uint64_t columns, uint32_t add, uint64_t *scratch) {
    words_of(r)->gemm(out, a, (const i64 *)weights, rows, terms, columns, add != 0, scratch);
}

namespace {

// A polynomial in bytes: its words, and residues in as many bits as their primes have.
u64 bytes_of(u64 n, u64 bits) { return (n * bits + 7) / 8; }

} // namespace

uint32_t hr_words_unpack(const Ring *r, uint64_t limbs, uint64_t *out, uint64_t *values, const uint8_t *a) {
    const u64 n = r->n;
    __builtin_memcpy(out, a, 8 * n);
    a += 8 * n;
    u64 signs = 0;
    for (u64 j = 0; j < limbs; j++, values += n) {
        const u64 bits = r->primes[j].bits, most = r->primes[j].q - 1;
        hr_unpack(values, a, n, (u32)bits);
        for (u64 i = 0; i < n; i++) signs |= most - values[i];
        a += bytes_of(n, bits);
    }
    return !(signs >> 63);
}

void hr_words_encrypted(const Ring *r, uint64_t limbs, uint8_t *packed, const uint64_t *a, const uint64_t *a_values,
                        const uint64_t *random, const uint64_t *numbers, uint64_t q1, const uint64_t *minus,
                        uint64_t *scratch) {
    const u64 n = r->n;
    u64 *out = scratch + 3 * n;
    const WordRows *w = words_of(r);
    double *errors = (double *)(scratch + 2 * n);
    product(r, w, out, a, minus, scratch);
    r->rows->binomial(errors, random, n);
    w->with_message(out, out, errors, numbers, q1, n);
    __builtin_memcpy(packed, out, 8 * n);
    packed += 8 * n;
    for (u64 j = 0; j < limbs; j++) {
        const Prime *p = r->primes + j;
        p->rows->forward_doubles(r, p, out, errors);
        p->rows->multiply_add(p, out, a_values + j * n, minus + j * n, out, n);
        hr_pack(packed, out, n, (u32)p->bits);
        packed += bytes_of(n, p->bits);
    }
}

void hr_words_randomised(const Ring *r, uint64_t limbs, uint64_t *out, uint64_t *rows, const uint64_t *sums,
                         const uint64_t *sum_values, const uint64_t *key, const uint64_t *key_values, const double *u,
                         const uint64_t *random, uint64_t *scratch) {
    const u64 n = r->n;
    const WordRows *w = words_of(r);
    u64 *values = scratch + 2 * n;
    double *errors = (double *)scratch;
    alignas(64) u64 strip[STRIP];
    for (u64 i = 0; i < 2; i++) {
        const Prime *p = r->primes + i;
        p->rows->forward_doubles(r, p, values + i * n, u);
    }
    for (u64 k = 0; k < 2; k++, out += n, sums += n, random += n, key += 2 * n) {
        for (u64 i = 0; i < 2; i++) {
            const Prime *p = r->primes + i;
            p->rows->multiply(p, scratch + i * n, key + i * n, values + i * n, n);
        }
        words_of_pair(r, w, out, scratch);
        r->rows->binomial(errors, random, n);
        w->with_message(out, out, errors, sums, 1, n);
        for (u64 j = 0; j < limbs; j++, rows += n, key_values += n, sum_values += n) {
            const Prime *p = r->primes + j;
            p->rows->multiply_add(p, rows, key_values, values + j * n, sum_values, n);
            p->rows->inverse(r, p, rows);
            for (u64 at = 0; at < n; at += STRIP) {
                const u64 count = n - at < STRIP ? n - at : STRIP;
                p->rows->of_doubles(p, strip, errors + at, count);
                p->rows->add(p, rows + at, rows + at, strip, count);
            }
        }
    }
}

void hr_words_quotient(const Ring *r, uint64_t limbs, uint64_t *out, const uint64_t *a, const uint64_t *rows,
                       uint64_t inverse, const uint64_t *mask, uint32_t bits) {
    const u32 basis[2] = {0, 1};
    const WordRows *w = words_of(r);
    alignas(64) u64 digit[STRIP];
    for (u64 at = 0; at < r->n; at += STRIP) {
        const u64 n = r->n - at < STRIP ? r->n - at : STRIP;
        if (limbs > 1) second_digit(r, basis, digit, rows + at, rows + r->n + at, n);
        w->quotient(out + at, a + at, rows + at, limbs > 1 ? digit : nullptr, r->primes[0].q, inverse,
                    mask ? mask + at : nullptr, 64 - bits, n);
    }
}

namespace {

// An error is at most 21 in size. Where c is no closer to a multiple of q_1, its quotient is the same without one.
const u64 ERROR = 21;

// ⌊c/q_1⌋ of one polynomial for two primes. Of P = key·u, an integer, and R = c mod q_1, z = (P − R) mod q_1 is all that
// is transformed back: P is below margin·p_1 in size, so that P − R is z − q_1 unless z is that close to 0 or q_1. For
// those few z, of least size, P − R is z if P is z or more, and z − q_1 otherwise; the errors of P in doubles are below
// 2^38. Returns whether P was closer to z than that.
bool joined_row(const Ring *r, const WordRows *w, u64 *out, const u64 *sums, const u64 *sum_values, const u64 *key,
                const double *turned, const u64 *values, const double *u, u64 margin, u64 inverse, u64 *scratch) {
    const u64 n = r->n, p1 = r->primes[0].q, p2 = r->primes[1].q;
    const u32 pair[2] = {0, 1};
    for (u64 i = 0; i < 2; i++) {
        const Prime *p = r->primes + i;
        u64 *row = scratch + i * n;
        p->rows->multiply(p, row, key + i * n, values + i * n, n);
        p->rows->sub(p, row, row, sum_values + i * n, n);
        p->rows->inverse(r, p, row);
    }
    u32 *close = (u32 *)(scratch + 2 * n);
    u64 found = 0;
    for (u64 at = 0; at < n; at += STRIP) {
        const u64 count = n - at < STRIP ? n - at : STRIP;
        u64 *digit = scratch + n + at;
        second_digit(r, pair, digit, scratch + at, digit, count);
        found += w->joined(out + at, sums + at, scratch + at, digit, p1, p2, p1 * p2, inverse, margin, (u32)at,
                           close + found, count);
    }
    if (found > n / 8) return true; // chosen so: one by one they would take longer than the long way
    bool is_close = false;
    for (u64 i = 0; i < found; i++) {
        const u64 at = close[i], digit = scratch[n + at];
        const double z = (double)(i64)least(digit, p2) * r->primes[0].qd + (double)scratch[at];
        const double difference = w->dot(u, turned + n - 1 - at, n) - z;
        is_close |= difference < 0x1p38 && difference > -0x1p38;
        if (digit < p2 / 2)
            out[at] += difference >= 0.0;
        else
            out[at] -= difference < 0.0;
    }
    return is_close;
}

// The same for one prime, where P has two of its own.
bool divided_row(const Ring *r, const WordRows *w, u64 *out, const u64 *sums, const u64 *sum_values, const u64 *key,
                 const u64 *key_values, const u64 *values, u64 inverse, u64 *scratch) {
    const u64 n = r->n;
    const Prime *p = r->primes;
    u64 *rest = scratch + 2 * n;
    for (u64 i = 0; i < 2; i++) {
        const Prime *each = r->primes + i;
        each->rows->multiply(each, scratch + i * n, key + i * n, values + i * n, n);
    }
    words_of_pair(r, w, scratch, scratch);
    p->rows->multiply_add(p, rest, key_values, values, sum_values, n);
    p->rows->inverse(r, p, rest);
    u64 signs = 0;
    for (u64 i = 0; i < n; i++) {
        out[i] = (scratch[i] + sums[i] - rest[i]) * inverse;
        signs |= (rest[i] - ERROR) | (p->q - ERROR - 1 - rest[i]);
    }
    return signs >> 63;
}

} // namespace

uint32_t hr_words_trimmed(const Ring *r, uint64_t limbs, uint8_t *packed, const uint64_t *sums,
                          const uint64_t *sum_values, const HrPublicKey *key, const double *u, uint64_t inverse,
                          const uint64_t *mask, uint32_t top_bits, uint32_t key_bits, uint64_t *scratch) {
    const u64 n = r->n;
    const WordRows *w = words_of(r);
    u64 *values = scratch + 4 * n;
    for (u64 i = 0; i < 2; i++) r->primes[i].rows->forward_doubles(r, r->primes + i, values + i * n, u);
    bool is_close = false;
    for (u64 k = 0; k < 2; k++) {
        u64 *row = scratch + 6 * n;
        const u64 *own = sums + k * n, *rest = sum_values + k * limbs * n;
        if (limbs == 2)
            is_close |= joined_row(r, w, row, own, rest, key->differences + 2 * k * n, key->turned + 2 * k * n, values,
                                   u, key->margin, inverse, scratch);
        else
            is_close |= divided_row(r, w, row, own, rest, key->words + 2 * k * n, key->values + k * n, values, inverse,
                                    scratch);
        const u32 bits = k ? key_bits : top_bits;
        w->masked(row, row, k ? nullptr : mask, 64 - bits, n);
        hr_pack(packed, row, n, bits);
        packed += bytes_of(n, bits);
    }
    return is_close;
}

namespace {

void opened(const Ring *r, u32 shortest, u64 *out, const u64 *top, u64 *second, const u64 *minus, const u64 *added,
            u32 top_bits, u32 key_bits, u64 *scratch) {
    const u64 n = r->n;
    const WordRows *w = words_of(r);
    w->centred(second, second, key_bits, n);
    if (shortest == UINT32_MAX) {
        product(r, w, second, second, minus, scratch);
    } else {
        const Prime *p = r->primes + shortest;
        p->rows->forward_words(r, p, scratch, second);
        p->rows->multiply(p, scratch, scratch, minus + shortest * n, n);
        p->rows->inverse(r, p, scratch);
        w->of_residues(second, scratch, p->q, n);
    }
    w->rounded(out, top, second, added, 64 - top_bits, 64 - key_bits, n);
}

} // namespace

void hr_words_opened(const Ring *r, uint32_t shortest, uint64_t *out, const uint8_t *packed, uint64_t count,
                     uint64_t stride, const uint64_t *minus, const uint64_t *added, uint32_t top_bits,
                     uint32_t key_bits, uint64_t *scratch) {
    const u64 n = r->n;
    for (u64 i = 0; i < count; i++, packed += stride, out += n) {
        hr_unpack(scratch + 3 * n, packed, n, top_bits);
        hr_unpack(scratch + 2 * n, packed + bytes_of(n, top_bits), n, key_bits);
        opened(r, shortest, out, scratch + 3 * n, scratch + 2 * n, minus, added, top_bits, key_bits, scratch);
    }
}

void hr_words_pack_weights(int32_t *out, const int64_t *weights, uint64_t rows, uint64_t terms) {
    const u64 groups = (rows + WORD_GROUP - 1) / WORD_GROUP;
    for (u64 g = 0; g < groups; g++)
        for (u64 k = 0; k < terms; k++)
            for (u64 i = 0; i < WORD_GROUP; i++) {
                const u64 row = g * WORD_GROUP + i;
                out[(g * terms + k) * WORD_GROUP + place(i)] = row < rows ? (int32_t)weights[row * terms + k] : 0;
            }
}

namespace {

// Tokens that are answered together.
const u64 TOKENS = 16;

// As hr_pack; numbers of whole bytes, of which the next one overwrites what is written too much.
void pack_whole(uint8_t *out, const u64 *a, u64 n, u32 bits) {
    u64 i = 0;
    if (bits % 8 == 0 && bits <= 56)
        for (; i + 8 <= n; i++, out += bits / 8) __builtin_memcpy(out, a + i, 8);
    hr_pack(out, a + i, n - i, bits);
}

u64 largest(const HrMatrix *matrices, u64 count) {
    u64 most = 0;
    for (u64 i = 0; i < count; i++) {
        if (matrices[i].terms > most) most = matrices[i].terms;
        if (matrices[i].groups * WORD_GROUP > most) most = matrices[i].groups * WORD_GROUP;
    }
    return (most + 7) / 8 * 8;
}

} // namespace

uint64_t hr_words_answer_words(const HrMatrices *all) { return 3 * TOKENS * largest(all->matrices, all->count); }

void hr_words_answer(const HrMatrices *all, uint8_t *packed, const uint64_t *y, const uint64_t *masks, uint64_t tokens,
                     uint32_t bits, uint64_t *scratch) {
    const WordRows *w = words_of((u32)all->isa);
    const HrMatrix *matrices = all->matrices;
    const u64 count = all->count, rows = all->rows;
    const u64 size = TOKENS * largest(matrices, count), shift = 64 - bits;
    u64 *results[2] = {scratch, scratch + size};
    for (u64 start = 0; start < tokens; start += TOKENS) {
        const u64 some = tokens - start < TOKENS ? tokens - start : TOKENS;
        const u64 *from = y + start * matrices[0].terms;
        for (u64 i = 0; i < count; i++) {
            const HrMatrix &m = matrices[i];
            w->apply(results[i % 2], from, m.weights, m.groups, m.terms, some, scratch + 2 * size);
            from = results[i % 2];
        }
        u64 *top = results[count % 2]; // in one piece, without rows that are missing
        const u64 stride = matrices[count - 1].groups * WORD_GROUP;
        for (u64 t = 0; t < some; t++)
            for (u64 i = 0; i < rows; i++)
                top[t * rows + i] = (from[t * stride + i] + masks[(start + t) * rows + i]) >> shift;
        // 16 tokens are whole bytes of any number of bits
        pack_whole(packed, top, some * rows, bits);
        packed += bytes_of(some * rows, bits);
    }
}

void hr_words_padded(uint64_t *out, const double *x, const double *factors, const uint64_t *pads, uint64_t tokens,
                     uint64_t inputs) {
    for (u64 t = 0; t < tokens; t++, out += inputs, x += inputs, pads += inputs)
        for (u64 i = 0; i < inputs; i++) out[i] = word_of(x[i] * factors[t]) - pads[i];
}

void hr_words_revealed(double *out, const uint8_t *answers, const uint8_t *results, const double *factors,
                       uint64_t tokens, uint64_t outputs, uint32_t answer_bits, uint32_t result_bits) {
    const u64 up = 64 - answer_bits, left = 64 - result_bits;
    const u64 half = ((u64)1 << up >> 1) + ((u64)1 << left >> 1);
    u64 *words = (u64 *)out; // answers first, and then what they come to
    hr_unpack(words, answers, tokens * outputs, answer_bits);
    alignas(64) u64 strip[STRIP];
    for (u64 t = 0; t < tokens; t++, words += outputs, results += bytes_of(outputs, result_bits))
        for (u64 at = 0; at < outputs; at += STRIP) {
            const u64 n = outputs - at < STRIP ? outputs - at : STRIP;
            hr_unpack(strip, results + at * result_bits / 8, n, result_bits);
            for (u64 i = 0; i < n; i++)
                words[at + i] = bits_of((double)(i64)((words[at + i] << up) + (strip[i] << left) + half) * factors[t]);
        }
}
