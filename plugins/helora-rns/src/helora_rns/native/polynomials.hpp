// Parts of operations on polynomials of several limbs, for threads that share one.
#pragma once
#include "ring.hpp"

// Digit i of hr_decompose.
void decompose_digit(const Ring *r, const u32 *basis, u64 limbs, u64 special, u64 *digits, const u64 *a, u64 *scratch,
                     u64 i);
// Rows ``begin`` to ``end`` of one polynomial's hr_mod_down.
void mod_down_rows(const Ring *r, const u32 *basis, u64 kept, u64 dropped, u64 *out, const u64 *a, u64 *scratch,
                   u64 begin, u64 end);
