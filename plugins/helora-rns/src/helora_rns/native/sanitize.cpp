// Samples for re-randomising and flooding: ternary secrets, normal variates, random bits, and integers of several parts.
//
// No function of a C library is called, and nothing is contracted to a fused operation, so that all targets give the
// same bits. Loops are plain ones, for compilers to vectorise.
#include "helora_rns.h"
#include "ring.hpp"

namespace {

// Rows are made in pieces that stay in the first cache.
const u64 STRIP = 1024;

HR_INLINE double as_double(u64 bits) {
    double out;
    __builtin_memcpy(&out, &bits, 8);
    return out;
}

HR_INLINE u64 as_bits(double value) {
    u64 out;
    __builtin_memcpy(&out, &value, 8);
    return out;
}

// An integer below 2^52: under that power's exponent it is a double.
HR_INLINE double of_integer(u64 integer) { return as_double(integer | 0x4330000000000000) - 0x1p52; }

// log x for x in (0, 1], normal: x = 2^e·m with m from 1/√2 to √2, log m = 2·artanh((m − 1)/(m + 1)).
HR_INLINE double logarithm(double x) {
    const u64 bits = as_bits(x) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
    const double e = of_integer(bits >> 52) - 1023.0;
    const double m = as_double((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double sum = 1.0 / 21;
    sum = sum * z + 1.0 / 19;
    sum = sum * z + 1.0 / 17;
    sum = sum * z + 1.0 / 15;
    sum = sum * z + 1.0 / 13;
    sum = sum * z + 1.0 / 11;
    sum = sum * z + 1.0 / 9;
    sum = sum * z + 1.0 / 7;
    sum = sum * z + 1.0 / 5;
    sum = sum * z + 1.0 / 3;
    return e * 0x1.62e42fefa39efp-1 + (s + s) * (sum * z + 1.0);
}

// A pair of normal variates by Box and Muller's method: a radius of the word a, an angle of the word b.
HR_INLINE void normal_pair(double *cosine, double *sine, u64 a, u64 b) {
    const double radius = __builtin_sqrt(-2.0 * logarithm((of_integer(a >> 12) + 1.0) * 0x1p-52));
    const u64 quarter = b >> 62; // of the circle, and within it from −1/8 to 1/8 of it
    const double t = (of_integer((b << 2) >> 12) * 0x1p-52 - 0.5) * 0x1.921fb54442d18p+0, z = t * t;
    double s = -0x1.ae7f3e733b81fp-41; // −1/15!
    s = s * z + 0x1.6124613a86d09p-33;
    s = s * z - 0x1.ae64567f544e4p-26;
    s = s * z + 0x1.71de3a556c734p-19;
    s = s * z - 0x1.a01a01a01a01ap-13;
    s = s * z + 0x1.1111111111111p-7;
    s = s * z - 0x1.5555555555555p-3;
    s = t + t * (z * s);
    double c = 0x1.ae7f3e733b81fp-45; // 1/16!
    c = c * z - 0x1.93974a8c07c9dp-37;
    c = c * z + 0x1.1eed8eff8d898p-29;
    c = c * z - 0x1.27e4fb7789f5cp-22;
    c = c * z + 0x1.a01a01a01a01ap-16;
    c = c * z - 0x1.6c16c16c16c17p-10;
    c = c * z + 0x1.5555555555555p-5;
    c = 1.0 + z * (z * c - 0.5);
    // An odd quarter exchanges the two, and bits of the quarter are their signs: all four turns are as likely.
    const u64 swap = 0 - (quarter & 1), difference = (as_bits(s) ^ as_bits(c)) & swap, sign = (quarter >> 1) << 63;
    *cosine = radius * as_double((as_bits(c) ^ difference) ^ sign);
    *sine = radius * as_double((as_bits(s) ^ difference) ^ sign);
}

// First all cosines, then all sines.
HR_INLINE void normal(double *__restrict out, const u64 *__restrict words, u64 n) {
    const u64 half = n / 2;
    for (u64 i = 0; i < half; i++) normal_pair(out + i, out + half + i, words[i], words[half + i]);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void normal_avx2(double *__restrict out, const u64 *__restrict words, u64 n) {
    normal(out, words, n);
}
__attribute__((target("avx512f,avx512dq"))) void normal_avx512(double *__restrict out, const u64 *__restrict words,
                                                              u64 n) {
    normal(out, words, n);
}
#endif

} // namespace

void hr_normal(const Ring *r, double *out, const uint64_t *words, uint64_t n) {
#if defined(__x86_64__)
    if (r->rows == &avx512ifma_rows) return normal_avx512(out, words, n);
    if (r->rows == &avx2_rows) return normal_avx2(out, words, n);
#endif
    (void)r;
    normal(out, words, n);
}

void hr_random_bits(double *out, const uint64_t *words, uint64_t n, uint32_t bits) {
    for (u64 i = 0; i < n; i++) out[i] = of_integer(words[i] >> (64 - bits));
}

#if !defined(HR_CLIENT) // which make few, and go without 8 KB of tables
namespace {

// For each byte, what its four pairs of bits give, and how many of them give something.
struct Ternary {
    double values[256][4];
    unsigned char count[256];

    constexpr Ternary() : values(), count() {
        for (int byte = 0; byte < 256; byte++)
            for (int k = 0; k < 4; k++) {
                const int pair = byte >> (2 * k) & 3;
                if (pair != 3) values[byte][count[byte]++] = pair - 1.0;
            }
    }
};

constexpr Ternary TERNARY;

} // namespace
#endif

uint64_t hr_ternary(double *out, uint64_t n, const uint64_t *words, uint64_t available) {
    u64 found = 0;
    for (u64 i = 0; i < available; i++) {
        u64 word = words[i];
#if !defined(HR_CLIENT)
        if (n - found >= 32) {
            for (int k = 0; k < 8; k++, word >>= 8) {
                __builtin_memcpy(out + found, TERNARY.values[word & 255], 32);
                found += TERNARY.count[word & 255];
            }
            continue;
        }
#endif
        for (int k = 0; k < 32 && found < n; k++, word >>= 2) {
            if ((word & 3) != 3) out[found++] = of_integer(word & 3) - 1.0;
        }
    }
    return found;
}

void hr_of_parts(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *const *parts,
                 const uint64_t *factors, uint64_t count) {
    alignas(64) u64 part[STRIP];
    for (u64 j = 0; j < limbs; j++) {
        const Prime *p = r->primes + basis[j];
        for (u64 at = 0; at < r->n; at += STRIP) {
            const u64 n = r->n - at < STRIP ? r->n - at : STRIP;
            u64 *row = out + j * r->n + at;
            p->rows->of_doubles(p, row, parts[0] + at, n);
            for (u64 i = 1; i < count; i++) {
                p->rows->times(p, row, row, factors[(i - 1) * limbs + j], n);
                p->rows->of_doubles(p, part, parts[i] + at, n);
                p->rows->add(p, row, row, part, n);
            }
        }
    }
}
