// Which kernel sets the CPU has, and the making of a ring: constants and tables of each prime.
#include "helora_rns.h"
#include "ring.hpp"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const RowKernels *set_of(u32 isa) {
#if defined(__x86_64__)
    if (isa == HR_AVX2) return &avx2_rows;
    if (isa == HR_AVX512IFMA) return &avx512ifma_rows;
#endif
    (void)isa;
    return &scalar_rows;
}

uint32_t hr_abi(void) { return 5; }

uint32_t hr_supported(void) {
    u32 found = 1u << HR_SCALAR;
#if defined(__x86_64__)
    u32 a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return found;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); // what the system saves of the registers
    const bool fma = c & bit_FMA, avx = c & bit_AVX;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    const u32 avx_state = 0x6, avx512_state = 0xe6;
    if (avx && fma && (b & bit_AVX2) && (low & avx_state) == avx_state) found |= 1u << HR_AVX2;
    const u32 wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512VL | bit_AVX512BW | bit_AVX512IFMA;
    if ((b & wanted) == wanted && (low & avx512_state) == avx512_state) found |= 1u << HR_AVX512IFMA;
#endif
    return found;
}

static u64 inverse_of(u64 a, u64 q) {
    u64 result = 1;
    for (u64 exponent = q - 2, base = a % q; exponent; exponent >>= 1, base = multiply_mod(base, base, q))
        if (exponent & 1) result = multiply_mod(result, base, q);
    return result;
}

static void make_prime(Ring *ring, Prime *p, u64 q, u64 w1, const RowKernels *rows) {
    p->q = q;
    p->bits = 64 - (u64)__builtin_clzll(q);
    p->qd = (double)q;
    p->qinv = 1.0 / (double)q;
#if !defined(HR_CLIENT) // whose rows do without
    p->barrett = (u64)(((u128)1 << (p->bits + 63)) / q);
    p->barrett52 = p->bits <= 50 ? (u64)(((u128)1 << (p->bits + 51)) / q) : 0;
#endif
    p->two52 = ((u64)1 << 52) % q;
    p->ninv = inverse_of(ring->n, q);
    p->last = multiply_mod(p->ninv, w1, q);
    p->rows = q < (u64)1 << 50 ? rows : &scalar_rows;
}

static u64 words_of_header(u64 primes) { return (sizeof(Ring) + sizeof(Prime) * primes) / 8 + primes * primes + 16; }

static u64 rounded_up(u64 words) { return (words + 7) / 8 * 8; }

uint64_t hr_ring_bytes(uint64_t n, uint64_t primes, uint32_t isa) {
    const u64 fast = set_of(isa)->table_words(n), slow = scalar_rows.table_words(n);
    return 8 * (rounded_up(words_of_header(primes)) + primes * rounded_up(fast > slow ? fast : slow));
}

void hr_ring_make(Ring *ring, uint64_t n, uint64_t primes, const uint64_t *moduli, const uint64_t *powers,
                  uint32_t isa) {
    const RowKernels *rows = set_of(isa);
    ring->n = n;
    ring->log_n = (u64)__builtin_ctzll(n);
    ring->count = primes;
    ring->rows = rows;
    u64 *inverses = (u64 *)(ring->primes + primes);
    ring->inverses = inverses;
    for (u64 i = 0; i < primes; i++)
        for (u64 j = 0; j < primes; j++) inverses[i * primes + j] = i == j ? 0 : inverse_of(moduli[i], moduli[j]);
    u64 *table = (u64 *)ring + rounded_up(words_of_header(primes));
    for (u64 i = 0; i < primes; i++) {
        Prime *p = ring->primes + i;
        make_prime(ring, p, moduli[i], powers[i * n + 1], rows);
        p->rows->fill(ring, p, powers + i * n, table);
        table += rounded_up(p->rows->table_words(n));
    }
}

void hr_slots_to_coefficients(const Ring *r, double *out, const double *slots, uint64_t count, uint64_t parts,
                              const uint32_t *places, const double *powers, double factor) {
    r->rows->slots_to_coefficients(r->n / 2, out, slots, count, parts, places, powers, factor);
}

void hr_coefficients_to_slots(const Ring *r, double *out, double *coefficients, const uint32_t *places,
                              const double *powers, double factor) {
    r->rows->coefficients_to_slots(r->n / 2, out, coefficients, places, powers, factor);
}
