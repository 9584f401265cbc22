// What is known of a ring: its primes with their constants, and the row kernels that compute modulo each.
#pragma once
#include "base.hpp"

// Elements of a chunk: the unit in which the digits of a key are interleaved. One cache line.
static const int CHUNK = 8;

struct RowKernels;

struct Prime {
    u64 q;
    u64 bits;        // of q
    double qd, qinv; // q and 1/q as doubles
    u64 barrett;     // ⌊2^(bits + 63) / q⌋, for scalars; q is no power of two, so that it fits
    u64 barrett52;   // ⌊2^(bits + 51) / q⌋, for IFMA
    u64 two52;       // 2^52 mod q
    u64 ninv;        // 1/N mod q
    u64 last;        // ψ^(N/2)/N mod q, for the last stage of the inverse
    u64 light;       // short enough for its rows' transforms to reduce less
    const RowKernels *rows;
    const u64 *block; // powers of ψ, one for a block, in the format of ``rows``
    const u64 *tail;  // the same for the last stages, a vector of them at a time
};

struct Ring {
    u64 n, log_n, count;
    const RowKernels *rows; // of primes that are not too long for them; each prime says which it has
    const u64 *inverses;    // [i·count + j]: 1/prime i modulo prime j
    Prime primes[1];
};

// Kernels on one row of N residues modulo one prime. Rows are aligned to 64 bytes and canonical unless said otherwise;
// ``out`` may be an operand.
struct RowKernels {
    u64 width; // lanes of a vector
    u64 (*table_words)(u64 n);
    void (*fill)(const Ring *, Prime *, const u64 *powers, u64 *table);
    void (*forward)(const Ring *, const Prime *, u64 *x);
    void (*inverse)(const Ring *, const Prime *, u64 *x);
    void (*add)(const Prime *, u64 *out, const u64 *a, const u64 *b, u64 n);
    void (*sub)(const Prime *, u64 *out, const u64 *a, const u64 *b, u64 n);
    void (*negate)(const Prime *, u64 *out, const u64 *a, u64 n);
    void (*multiply)(const Prime *, u64 *out, const u64 *a, const u64 *b, u64 n);
    // out = a·b + c
    void (*multiply_add)(const Prime *, u64 *out, const u64 *a, const u64 *b, const u64 *c, u64 n);
    // out = a·constant
    void (*times)(const Prime *, u64 *out, const u64 *a, u64 constant, u64 n);
    // out = (a − b)·constant
    void (*sub_times)(const Prime *, u64 *out, const u64 *a, const u64 *b, u64 constant, u64 n);
    // out = Σ a[i]·b[i]
    void (*dot)(const Prime *, u64 *out, const u64 *const *a, const u64 *const *b, u64 terms, u64 n);
    // out0 = Σ a0[i]·b[i] and out1 = Σ a1[i]·b[i], which are no operands
    void (*dot_pair)(const Prime *, u64 *out0, u64 *out1, const u64 *const *a0, const u64 *const *a1,
                     const u64 *const *b, u64 terms, u64 n);
    // out0 = Σ digits[i]·key[i][0] plus ``added``, if any, and out1 = Σ digits[i]·key[i][1], moved by the automorphism of
    // ``index``, whose inverse is ``places``; added to the results where ``accumulate`` says so. The key's digits are
    // interleaved, ``key_digits`` of them.
    void (*rotate)(const Prime *, u64 *out0, u64 *out1, const u64 *const *digits, const u64 *key, u64 terms,
                   u64 key_digits, const u64 *added, const u32 *index, const u32 *places, u64 accumulate, u64 n);
    // out[i] = a[index[i]], where ``index`` maps aligned groups of ``CHUNK`` to such groups; not in place
    void (*permute)(u64 *out, const u64 *a, const u32 *index, u64 n);
    // The integers of least size that are ``a`` modulo the prime ``from``, modulo this one
    void (*lift)(const Prime *, const Prime *from, u64 *out, const u64 *a, u64 n);
    // Doubles below 2^99 in size that are integers, modulo the prime
    void (*of_doubles)(const Prime *, u64 *out, const double *a, u64 n);
    // Up to n of the words, masked to the prime's bits, that are below it; returns how many, of the *used first words
    u64 (*uniform)(const Prime *, u64 *out, u64 n, const u64 *words, u64 available, u64 *used);
    // The ones in bits 0 to 20 of each word less those in bits 21 to 41
    void (*binomial)(double *out, const u64 *words, u64 n);
    // The integers of least size that are ``a`` modulo the prime, plus ``scale`` times what is in out: a Horner step
    void (*horner)(const Prime *, double *out, const u64 *a, double scale, u64 n);
    // As hr_slots_to_coefficients and hr_coefficients_to_slots
    void (*slots_to_coefficients)(u64 half_n, double *out, const double *slots, u64 count, u64 parts,
                                  const u32 *places, const double *powers, double factor);
    void (*coefficients_to_slots)(u64 half_n, double *out, double *coefficients, const u32 *places,
                                  const double *powers, double factor);
    // ``of_doubles``, transformed; signed words, of primes above 2^32; ``lift``; and (b − that)·constant. ``x`` is no
    // operand.
    void (*forward_doubles)(const Ring *, const Prime *, u64 *x, const double *a);
    void (*forward_words)(const Ring *, const Prime *, u64 *x, const u64 *a);
    void (*forward_lifted)(const Ring *, const Prime *, const Prime *from, u64 *x, const u64 *a);
    void (*forward_lifted_from)(const Ring *, const Prime *, const Prime *from, u64 *x, const u64 *a, const u64 *b,
                                u64 constant);
};

extern const RowKernels scalar_rows;
extern const RowKernels avx2_rows;
extern const RowKernels avx512ifma_rows;
