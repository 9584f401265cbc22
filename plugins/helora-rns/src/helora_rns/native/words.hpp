// Machine words beside primes: the rows of the limb that wraps around, and what joins it with the others.
#pragma once
#include "ring.hpp"

// Numbers that stand together in packed weights.
static const u64 WORD_GROUP = 8;
// Terms and columns of words that stand together in the caches.
static const u64 WORD_DEPTH = 256, WORD_COLUMNS = 64;

// Kernels on rows of n words. ``out`` may be an operand where nothing else is said.
struct WordRows {
    // x_1 + p_1·d, d modulo p_2 in least size: the integer of least size that is x_1 modulo p_1 and has digit d
    void (*of_digits)(u64 *out, const u64 *first, const u64 *digit, u64 p1, u64 p2, u64 n);
    // a + e + factor·m, for integers e in doubles
    void (*with_message)(u64 *out, const u64 *a, const double *e, const u64 *m, u64 factor, u64 n);
    // (a − first − p_1·digit)·inverse − mask, less its lowest bits; ``digit`` and ``mask`` may be null
    void (*quotient)(u64 *out, const u64 *a, const u64 *first, const u64 *digit, u64 p1, u64 inverse, const u64 *mask,
                     u64 shift, u64 n);
    // (a + first + p_1·digit − whole)·inverse; returns how many digits are not from margin to p_2 − margin − 1, whose
    // places go to ``close``
    u64 (*joined)(u64 *out, const u64 *a, const u64 *first, const u64 *digit, u64 p1, u64 p2, u64 whole, u64 inverse,
                  u64 margin, u32 start, u32 *close, u64 n);
    // (a − mask) >> shift
    void (*masked)(u64 *out, const u64 *a, const u64 *mask, u64 shift, u64 n);
    // Σ a[i]·b[i], in doubles, in any order; b need not be aligned
    double (*dot)(const double *a, const double *b, u64 n);
    // Integers of ``bits`` bits of least size, shifted up to be words
    void (*centred)(u64 *out, const u64 *a, u64 bits, u64 n);
    // Residues of least size modulo q, as words
    void (*of_residues)(u64 *out, const u64 *a, u64 q, u64 n);
    // ((top << lost) + added − (product << missing) + half a unit) >> lost
    void (*rounded)(u64 *out, const u64 *top, const u64 *product, const u64 *added, u64 lost, u64 missing, u64 n);
    // out[i] = Σ weights[i·terms + k]·a[k], with ``add`` added to what it holds, rows of ``columns`` words; scratch as hr_words_gemm_words says
    void (*gemm)(u64 *out, const u64 *a, const i64 *weights, u64 rows, u64 terms, u64 columns, bool add, u64 *scratch);
    // out[t] = weights·a[t], of packed weights of ``groups`` groups of rows; ``a``: [token][terms]. Scratch: terms words
    // a token, rounded up to whole lines.
    void (*apply)(u64 *out, const u64 *a, const int32_t *weights, u64 groups, u64 terms, u64 tokens, u64 *scratch);
};

extern const WordRows scalar_words;
extern const WordRows avx2_words;
extern const WordRows avx512_words;
