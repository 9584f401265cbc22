// Samples of random words, and numbers of any bit length in bytes.
#include "helora_rns.h"
#include "ring.hpp"

uint64_t hr_uniform(const Ring *r, uint32_t prime, uint64_t *out, uint64_t n, const uint64_t *words,
                    uint64_t available, uint64_t *used) {
    return r->rows->uniform(r->primes + prime, out, n, words, available, used);
}

void hr_binomial(const Ring *r, double *out, const uint64_t *words, uint64_t n) { r->rows->binomial(out, words, n); }

// Little-endian words: the targets are.
static void store64(uint8_t *out, u64 word) { __builtin_memcpy(out, &word, 8); }

static u64 load64(const uint8_t *a) {
    u64 word;
    __builtin_memcpy(&word, a, 8);
    return word;
}

void hr_pack(uint8_t *out, const uint64_t *a, uint64_t n, uint32_t bits) {
    const uint8_t *end = out + (n * bits + 7) / 8;
    u64 held = 0, i = 0;
    u32 filled = 0;
    // Less than a byte is held, so that a number of 56 bits fits, and eight bytes are written whatever of them are whole.
    for (; bits <= 56 && i < n && end - out >= 8; i++) {
        held |= a[i] << filled;
        store64(out, held);
        filled += bits;
        out += filled / 8;
        held >>= filled / 8 * 8;
        filled %= 8;
    }
    for (; i < n; i++) {
        held |= a[i] << filled;
        filled += bits;
        if (filled < 64) continue;
        store64(out, held);
        out += 8;
        filled -= 64;
        held = filled ? a[i] >> (bits - filled) : 0;
    }
    for (; filled; filled -= filled < 8 ? filled : 8, held >>= 8) *out++ = (uint8_t)held;
}

void hr_unpack(uint64_t *__restrict out, const uint8_t *__restrict a, uint64_t n, uint32_t bits) {
    const u64 mask = bits == 64 ? ~(u64)0 : ((u64)1 << bits) - 1, bytes = (n * bits + 7) / 8;
    u64 i = 0;
    // A number of 57 bits is within eight bytes, wherever in a byte it begins; the last few are not followed by so many.
    const u64 whole = bits > 57 || bytes < 8 ? 0 : (8 * (bytes - 8) + 7) / bits + 1, most = whole < n ? whole : n;
    for (u64 at = 0; i < most; i++, at += bits) out[i] = load64(a + at / 8) >> (at % 8) & mask;
    for (u64 at = i * bits; i < n; i++, at += bits) {
        u64 low = 0;
        const u64 first = at / 8, shift = at % 8;
        for (u64 k = 0; k < 8 && first + k < bytes; k++) low |= (u64)a[first + k] << (8 * k);
        const u64 high = shift && first + 8 < bytes ? (u64)a[first + 8] << (64 - shift) : 0;
        out[i] = (low >> shift | high) & mask;
    }
}
