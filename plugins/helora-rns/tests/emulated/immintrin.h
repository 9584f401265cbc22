// The few AVX-512 intrinsics that policy_avx512ifma.hpp uses, one lane after another: so that its arithmetic can be
// tested where no CPU has them. Written from Intel's description of each.
#pragma once
#include <stdint.h>

struct __m512i {
    uint64_t lane[8];
};
struct __m512d {
    double lane[8];
};
struct __m256i {
    uint32_t lane[8];
};
typedef uint8_t __mmask8;
enum { _CMP_LT_OQ = 17 };

static const uint64_t EMULATED_52 = ((uint64_t)1 << 52) - 1;

#define EMULATED(TYPE, NAME, ARGUMENTS, EXPRESSION)                \
    static inline TYPE NAME ARGUMENTS {                            \
        TYPE result;                                               \
        for (int i = 0; i < 8; i++) result.lane[i] = (EXPRESSION); \
        return result;                                             \
    }

static inline uint64_t emulated_bits(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, 8);
    return bits;
}
static inline double emulated_double(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, 8);
    return x;
}
static inline unsigned __int128 emulated_product(uint64_t a, uint64_t b) {
    return (unsigned __int128)(a & EMULATED_52) * (b & EMULATED_52);
}

EMULATED(__m512i, _mm512_set1_epi64, (long long x), (uint64_t)x)
EMULATED(__m512d, _mm512_set1_pd, (double x), x)
EMULATED(__m512i, _mm512_setzero_si512, (), 0)
EMULATED(__m512d, _mm512_setzero_pd, (), 0.0)
EMULATED(__m512i, _mm512_add_epi64, (__m512i a, __m512i b), a.lane[i] + b.lane[i])
EMULATED(__m512i, _mm512_sub_epi64, (__m512i a, __m512i b), a.lane[i] - b.lane[i])
EMULATED(__m512i, _mm512_min_epu64, (__m512i a, __m512i b), a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED(__m512i, _mm512_and_si512, (__m512i a, __m512i b), a.lane[i] & b.lane[i])
EMULATED(__m512i, _mm512_xor_si512, (__m512i a, __m512i b), a.lane[i] ^ b.lane[i])
EMULATED(__m512i, _mm512_srli_epi64, (__m512i a, unsigned n), n < 64 ? a.lane[i] >> n : 0)
EMULATED(__m512i, _mm512_sllv_epi64, (__m512i a, __m512i n), n.lane[i] < 64 ? a.lane[i] << n.lane[i] : 0)
EMULATED(__m512i, _mm512_madd52lo_epu64, (__m512i c, __m512i a, __m512i b),
         c.lane[i] + ((uint64_t)emulated_product(a.lane[i], b.lane[i]) & EMULATED_52))
EMULATED(__m512i, _mm512_madd52hi_epu64, (__m512i c, __m512i a, __m512i b),
         c.lane[i] + (uint64_t)(emulated_product(a.lane[i], b.lane[i]) >> 52))
EMULATED(__m512i, _mm512_mask_blend_epi64, (__mmask8 k, __m512i a, __m512i b), k >> i & 1 ? b.lane[i] : a.lane[i])
EMULATED(__m512i, _mm512_mask_sub_epi64, (__m512i from, __mmask8 k, __m512i a, __m512i b),
         k >> i & 1 ? a.lane[i] - b.lane[i] : from.lane[i])
EMULATED(__m512d, _mm512_mask_sub_pd, (__m512d from, __mmask8 k, __m512d a, __m512d b),
         k >> i & 1 ? a.lane[i] - b.lane[i] : from.lane[i])
EMULATED(__m512d, _mm512_add_pd, (__m512d a, __m512d b), a.lane[i] + b.lane[i])
EMULATED(__m512d, _mm512_mul_pd, (__m512d a, __m512d b), a.lane[i] * b.lane[i])
EMULATED(__m512d, _mm512_fnmadd_pd, (__m512d a, __m512d b, __m512d c),
         __builtin_fma(-a.lane[i], b.lane[i], c.lane[i]))
EMULATED(__m512d, _mm512_abs_pd, (__m512d a), a.lane[i] < 0 ? -a.lane[i] : a.lane[i])
EMULATED(__m512d, _mm512_roundscale_pd, (__m512d a, int), __builtin_rint(a.lane[i]))
EMULATED(__m512d, _mm512_cvtepu64_pd, (__m512i a), (double)a.lane[i])
EMULATED(__m512i, _mm512_cvtepu32_epi64, (__m256i a), a.lane[i])
EMULATED(__m512i, _mm512_castpd_si512, (__m512d a), emulated_bits(a.lane[i]))
EMULATED(__m512d, _mm512_castsi512_pd, (__m512i a), emulated_double(a.lane[i]))
EMULATED(__m512i, _mm512_load_si512, (const void *p), ((const uint64_t *)p)[i])
EMULATED(__m512d, _mm512_load_pd, (const double *p), p[i])
EMULATED(__m256i, _mm256_load_si256, (const __m256i *p), ((const uint32_t *)p)[i])
EMULATED(__m512i, _mm512_permutexvar_epi64, (__m512i index, __m512i a), a.lane[index.lane[i] & 7])
EMULATED(__m512i, _mm512_unpacklo_epi64, (__m512i a, __m512i b), i & 1 ? b.lane[i - 1] : a.lane[i])
EMULATED(__m512i, _mm512_unpackhi_epi64, (__m512i a, __m512i b), i & 1 ? b.lane[i] : a.lane[i + 1])
EMULATED(__m512i, _mm512_shuffle_i64x2, (__m512i a, __m512i b, int control),
         (i < 4 ? a : b).lane[2 * (control >> (2 * (i / 2)) & 3) + i % 2])

static inline void _mm512_store_si512(void *p, __m512i a) { __builtin_memcpy(p, a.lane, 64); }
static inline void _mm512_store_pd(void *p, __m512d a) { __builtin_memcpy(p, a.lane, 64); }
static inline __mmask8 _mm512_cmpgt_epu64_mask(__m512i a, __m512i b) {
    unsigned mask = 0;
    for (int i = 0; i < 8; i++) mask |= (unsigned)(a.lane[i] > b.lane[i]) << i;
    return (__mmask8)mask;
}
static inline __mmask8 _mm512_cmp_pd_mask(__m512d a, __m512d b, int) { // less than: the only one that is used
    unsigned mask = 0;
    for (int i = 0; i < 8; i++) mask |= (unsigned)(a.lane[i] < b.lane[i]) << i;
    return (__mmask8)mask;
}
