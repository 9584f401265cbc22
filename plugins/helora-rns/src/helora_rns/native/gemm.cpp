// Products of a matrix of numbers with polynomials: how residues are cut, and primes that are too long for doubles.
#include "gemm.hpp"
#include "helora_rns.h"
#define HR_GEMM_LANES 2 // what SSE2 and NEON have
#define HR_GEMM_ROWS 6

namespace {
#include "gemm_tiles.hpp"

// Bits of the largest weight: all are below 2^bits in size.
u64 bits_of(const i64 *weights, u64 count) {
    u64 seen = 0;
    for (u64 i = 0; i < count; i++) seen |= (u64)(weights[i] < 0 ? -weights[i] : weights[i]);
    return seen ? 64 - (u64)__builtin_clzll(seen) : 0;
}

u64 larger(u64 a, u64 b) { return a > b ? a : b; }

// The cheapest way to cut residues of b bits and weights, counting products, and settling as five of them.
void cut(Gemm &g, u64 b, u64 weight_bits) {
    double least = 1e9;
    for (u64 parts = 1; parts <= GEMM_MOST_PARTS; parts++)
        for (u64 weight_parts = 1; weight_parts <= GEMM_MOST_PARTS; weight_parts++) {
            const u64 of_residues = (b + parts - 1) / parts;
            const u64 of_weights = weight_bits / weight_parts + 1;
            const u64 shift = weight_parts == 1 ? of_residues : larger(of_residues, of_weights);
            const u64 product = shift - 1 + (weight_parts == 1 ? weight_bits : shift - 1);
            if (product > 52) continue;
            const u64 settle = (u64)1 << (52 - product);
            const double cost = (double)(parts * weight_parts) * (1.0 + 5.0 / (double)settle);
            if (cost >= least) continue;
            least = cost;
            g.parts = parts;
            g.weight_parts = weight_parts;
            g.shift = shift;
            g.settle = settle < GEMM_DEPTH ? settle : GEMM_DEPTH;
        }
}

// Primes up to 2^61: sums of 64 products below 2^122.
void gemm_wide(const Gemm &g) {
    const u64 q = g.p->q, STRIP = 64;
    for (u64 row = 0; row < g.rows; row++)
        for (u64 start = 0; start < g.n; start += STRIP) {
            u128 sums[STRIP] = {};
            if (g.add)
                for (u64 c = 0; c < STRIP; c++) sums[c] = g.out[row][g.offset + start + c];
            for (u64 k = 0; k < g.terms; k++) {
                const i64 w = g.weights[row * g.terms + k];
                const u64 factor = w < 0 ? q - (u64)-w : (u64)w, *a = g.a[k] + g.offset + start;
                if (k % 64 == 63)
                    for (u64 c = 0; c < STRIP; c++) sums[c] %= q;
                for (u64 c = 0; c < STRIP; c++) sums[c] += (u128)factor * a[c];
            }
            for (u64 c = 0; c < STRIP; c++) g.out[row][g.offset + start + c] = (u64)(sums[c] % q);
        }
}

} // namespace

void gemm_lanes2(const Gemm &g) { run_gemm(g); }

uint64_t hr_gemm_words(uint64_t rows, uint64_t terms) {
    return GEMM_MOST_PARTS * (rows * terms + GEMM_DEPTH * GEMM_COLUMNS) + 8;
}

void hr_gemm(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *const *out,
             const uint64_t *const *a, const int64_t *const *weights, uint64_t rows, uint64_t terms,
             uint32_t add, uint64_t *scratch) {
    for (u64 j = 0; j < limbs; j++) {
        const Prime *p = r->primes + basis[j];
        Gemm g = {p, out, a, (const i64 *)weights[j], rows, terms, r->n, 0, add != 0, scratch, 0, 0, 0, 0};
        void (*run)(const Gemm &) = gemm_lanes2;
        if (p->bits > 50)
            run = gemm_wide;
        else
            cut(g, p->bits, bits_of(g.weights, rows * terms));
#if defined(__x86_64__)
        if (p->rows == &avx2_rows) run = gemm_avx2;
        if (p->rows == &avx512ifma_rows) run = gemm_avx512ifma;
#endif
        for (u64 i = 0; i < count; i++) {
            g.offset = (i * limbs + j) * r->n;
            run(g);
        }
    }
}
