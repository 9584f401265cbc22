// Polynomials of several limbs, made of the row kernels that each limb's prime has.
#include "helora_rns.h"
#include "polynomials.hpp"

namespace {

template <class F>
HR_INLINE void each_row(const Ring *r, const u32 *basis, u64 limbs, u64 count, F f) {
    for (u64 i = 0; i < count; i++)
        for (u64 j = 0; j < limbs; j++) {
            const Prime *p = r->primes + basis[j];
            f(p, p->rows, (i * limbs + j) * r->n, j);
        }
}

// The residues modulo ``from`` that are least in size, modulo p: vectors do it if both primes are short enough.
void lift(const Prime *p, const Prime *from, u64 *out, const u64 *a, u64 n) {
    (from->rows == p->rows ? p->rows : &scalar_rows)->lift(p, from, out, a, n);
}

} // namespace

void hr_forward(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *x) {
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64) { rows->forward(r, p, x + at); });
}

void hr_inverse(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *x) {
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64) { rows->inverse(r, p, x + at); });
}

void hr_add(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out, const uint64_t *a,
            const uint64_t *b) {
    each_row(r, basis, limbs, count,
             [&](auto p, auto rows, u64 at, u64) { rows->add(p, out + at, a + at, b + at, r->n); });
}

void hr_sub(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out, const uint64_t *a,
            const uint64_t *b) {
    each_row(r, basis, limbs, count,
             [&](auto p, auto rows, u64 at, u64) { rows->sub(p, out + at, a + at, b + at, r->n); });
}

void hr_negate(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
               const uint64_t *a) {
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64) { rows->negate(p, out + at, a + at, r->n); });
}

void hr_multiply(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t b_count,
                 uint64_t *out, const uint64_t *a, const uint64_t *b) {
    const u64 period = b_count * limbs * r->n;
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64) {
        rows->multiply(p, out + at, a + at, b + at % period, r->n);
    });
}

void hr_multiply_add(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t b_count,
                     uint64_t *out, const uint64_t *a, const uint64_t *b, const uint64_t *c) {
    const u64 period = b_count * limbs * r->n;
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64) {
        rows->multiply_add(p, out + at, a + at, b + at % period, c + at, r->n);
    });
}

void hr_times(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out, const uint64_t *a,
              const uint64_t *constants) {
    each_row(r, basis, limbs, count,
             [&](auto p, auto rows, u64 at, u64 j) { rows->times(p, out + at, a + at, constants[j], r->n); });
}

void hr_dot(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
            const uint64_t *const *a, const uint64_t *const *b, uint64_t terms) {
    const u64 *left[256], *right[256];
    each_row(r, basis, limbs, count, [&](auto p, auto rows, u64 at, u64 j) {
        for (u64 i = 0; i < terms; i++) {
            left[i] = a[i] + at;
            right[i] = b[i] + j * r->n;
        }
        rows->dot(p, out + at, left, right, terms, r->n);
    });
}

void hr_permute(const Ring *r, uint64_t rows, uint64_t *out, const uint64_t *a, const uint32_t *index) {
    for (u64 i = 0; i < rows; i++) r->rows->permute(out + i * r->n, a + i * r->n, index, r->n);
}

void hr_of_doubles(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *a) {
    each_row(r, basis, limbs, 1, [&](auto p, auto rows, u64 at, u64) { rows->of_doubles(p, out + at, a, r->n); });
}

void hr_values_of_doubles(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *a) {
    each_row(r, basis, limbs, 1, [&](auto p, auto rows, u64 at, u64) { rows->forward_doubles(r, p, out + at, a); });
}

namespace {

// Digits of least size in mixed radix (Garner), in place: x = a_0 + p_0·(a_1 + p_1·(a_2 + …)), which is of least size too.
void mixed_radix(const Ring *r, const u32 *basis, u64 limbs, u64 *a, u64 *scratch) {
    const u64 n = r->n;
    for (u64 j = 1; j < limbs; j++) {
        const Prime *p = r->primes + basis[j];
        for (u64 i = 0; i < j; i++) {
            lift(p, r->primes + basis[i], scratch, a + i * n, n);
            p->rows->sub_times(p, a + j * n, a + j * n, scratch, r->inverses[basis[i] * r->count + basis[j]], n);
        }
    }
}

// The number that such digits are, modulo p.
void of_mixed_radix(const Ring *r, const u32 *basis, u64 limbs, const Prime *p, u64 *out, const u64 *a, u64 *scratch) {
    const u64 n = r->n;
    lift(p, r->primes + basis[limbs - 1], out, a + (limbs - 1) * n, n);
    for (u64 i = limbs - 1; i-- > 0;) {
        const Prime *from = r->primes + basis[i];
        p->rows->times(p, out, out, from->q % p->q, n);
        lift(p, from, scratch, a + i * n, n);
        p->rows->add(p, out, out, scratch, n);
    }
}

} // namespace

// Digits of least size, so that Horner's sum loses no more than a double's last bits.
void hr_to_doubles(const Ring *r, const uint32_t *basis, uint64_t limbs, double *out, uint64_t *a, uint64_t *scratch) {
    const u64 n = r->n;
    mixed_radix(r, basis, limbs, a, scratch);
    for (u64 k = 0; k < n; k++) out[k] = 0.0;
    for (u64 j = limbs; j-- > 0;) {
        const Prime *p = r->primes + basis[j];
        p->rows->horner(p, out, a + j * n, p->qd, n);
    }
}

void mod_down_rows(const Ring *r, const u32 *basis, u64 kept, u64 dropped, u64 *out, const u64 *a, u64 *scratch,
                   u64 begin, u64 end) {
    const u64 n = r->n;
    const u32 *gone = basis + kept;
    u64 *y = scratch + 2 * n;
    __builtin_memcpy(y, a + kept * n, 8 * n * dropped);
    for (u64 i = 0; i < dropped; i++) r->primes[gone[i]].rows->inverse(r, r->primes + gone[i], y + i * n);
    mixed_radix(r, gone, dropped, y, scratch);
    for (u64 j = begin; j < end; j++) {
        const Prime *p = r->primes + basis[j], *from = r->primes + gone[0];
        u64 inverse = 1;
        for (u64 i = 0; i < dropped; i++) inverse = multiply_mod(inverse, r->inverses[gone[i] * r->count + basis[j]], p->q);
        if (dropped == 1 && from->rows == p->rows) {
            p->rows->forward_lifted_from(r, p, from, out + j * n, y, a + j * n, inverse);
            continue;
        }
        of_mixed_radix(r, gone, dropped, p, scratch, y, scratch + n);
        p->rows->forward(r, p, scratch);
        p->rows->sub_times(p, out + j * n, a + j * n, scratch, inverse, n);
    }
}

void hr_mod_down(const Ring *r, const uint32_t *basis, uint64_t kept, uint64_t dropped, uint64_t count, uint64_t *out,
                 const uint64_t *a, uint64_t *scratch) {
    for (u64 c = 0; c < count; c++, a += (kept + dropped) * r->n, out += kept * r->n)
        mod_down_rows(r, basis, kept, dropped, out, a, scratch, 0, kept);
}

void decompose_digit(const Ring *r, const u32 *basis, u64 limbs, u64 special, u64 *digits, const u64 *a, u64 *scratch,
                     u64 i) {
    const u64 n = r->n, all = limbs + special;
    const Prime *from = r->primes + basis[i];
    __builtin_memcpy(scratch, a + i * n, 8 * n);
    from->rows->inverse(r, from, scratch);
    for (u64 j = 0; j < all; j++) {
        u64 *out = digits + (i * all + j) * n;
        const Prime *p = r->primes + basis[j];
        if (i == j) {
            __builtin_memcpy(out, a + i * n, 8 * n);
        } else if (from->rows == p->rows) {
            p->rows->forward_lifted(r, p, from, out, scratch);
        } else {
            lift(p, from, out, scratch, n);
            p->rows->forward(r, p, out);
        }
    }
}

void hr_decompose(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t special, uint64_t *digits,
                  const uint64_t *a, uint64_t *scratch) {
    for (u64 i = 0; i < limbs; i++) decompose_digit(r, basis, limbs, special, digits, a, scratch, i);
}

void hr_rotate(const Ring *r, const uint32_t *basis, uint64_t limbs, uint64_t special, uint64_t key_digits,
               uint64_t *out, const uint64_t *digits, const uint64_t *key, const uint64_t *added, const uint32_t *index,
               const uint32_t *places) {
    const u64 n = r->n, all = limbs + special;
    const u64 *rows[64];
    for (u64 j = 0; j < all; j++) {
        const Prime *p = r->primes + basis[j];
        for (u64 i = 0; i < limbs; i++) rows[i] = digits + (i * all + j) * n;
        p->rows->rotate(p, out + j * n, out + (all + j) * n, rows, key + 2 * n * key_digits * basis[j], limbs,
                        key_digits, j < limbs ? added + j * n : nullptr, index, places, 0, n);
    }
}
