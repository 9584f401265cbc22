// Samples of random words, and numbers of any bit length in bytes.
#include "helora_rns.h"
#include "ring.hpp"

uint64_t hr_uniform(const Ring *r, uint32_t prime, uint64_t *out, uint64_t n, const uint64_t *words,
                    uint64_t available, uint64_t *used) {
    return r->rows->uniform(r->primes + prime, out, n, words, available, used);
}

void hr_binomial(const Ring *r, double *out, const uint64_t *words, uint64_t n) { r->rows->binomial(out, words, n); }

void hr_pack(uint8_t *out, const uint64_t *a, uint64_t n, uint32_t bits) {
    u128 held = 0;
    u32 filled = 0;
    for (u64 i = 0; i < n; i++) {
        held |= (u128)a[i] << filled;
        for (filled += bits; filled >= 8; filled -= 8, held >>= 8) *out++ = (uint8_t)held;
    }
    if (filled) *out = (uint8_t)held;
}

void hr_unpack(uint64_t *out, const uint8_t *a, uint64_t n, uint32_t bits) {
    const u64 mask = bits == 64 ? ~(u64)0 : ((u64)1 << bits) - 1;
    u128 held = 0;
    u32 filled = 0;
    for (u64 i = 0; i < n; i++, held >>= bits, filled -= bits) {
        for (; filled < bits; filled += 8) held |= (u128)*a++ << filled;
        out[i] = (u64)held & mask;
    }
}
