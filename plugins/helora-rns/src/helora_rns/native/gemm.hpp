// Products of a matrix of numbers with polynomials, one limb at a time: what the tiles of each kernel set are given.
#pragma once
#include "ring.hpp"

// Terms whose operands stand together in the caches, and columns of them.
static const u64 GEMM_DEPTH = 256, GEMM_COLUMNS = 128;
static const u64 GEMM_MOST_PARTS = 3;

// One limb of count polynomials: out[i] = Σ weights[i·terms + k]·a[k], each a row of n residues at ``offset``.
struct Gemm {
    const Prime *p;
    u64 *const *out;
    const u64 *const *a;
    const i64 *weights; // of size q/2 or less
    u64 rows, terms, n, offset;
    bool add; // to what ``out`` holds
    u64 *scratch;
    // Residues are cut into ``parts`` signed digits of ``shift`` bits, weights into ``weight_parts``, so that
    // ``settle`` products of digits have an exact sum in a double.
    u64 parts, weight_parts, shift, settle;
};

// Primes below 2^50 only.
void gemm_lanes2(const Gemm &);
void gemm_avx2(const Gemm &);
void gemm_avx512ifma(const Gemm &);
