/* What clients in browsers have beside helora_rns.h: what there are Python, NumPy and OpenSSL for elsewhere. */
#ifndef HELORA_RNS_CLIENT_H
#define HELORA_RNS_CLIENT_H
#include "helora_rns.h"
#ifdef __cplusplus
extern "C" {
#endif

/* 1 if products and sums are rounded once where the kernels need it: otherwise this build gives wrong results here. */
HR_API uint32_t hr_fused(void);
/* The key stream of ChaCha20 (RFC 8439) from a block on; ``blocks``: a multiple of 4. ``out`` is aligned to 16 bytes. */
HR_API void hr_chacha20(uint32_t *out, const uint32_t *key, const uint32_t *nonce, uint32_t counter, uint32_t blocks);
/* psi^rev(i) for i below n: psi is the least base's primitive 2n-th root of unity modulo q, below 2^50. Returns 0 if there
 * is none among the bases below 1000. */
HR_API uint32_t hr_root_powers(uint64_t *out, uint32_t n, uint64_t q);
/* Integers next to numbers times a scale, halves to even ones; zeros from ``count`` to n. */
HR_API void hr_scaled(double *out, const double *numbers, uint32_t count, uint32_t n, double scale);
/* The largest size. */
HR_API double hr_largest(const double *a, uint32_t n);
/* a[i] += b[i] */
HR_API void hr_add_doubles(double *a, const double *b, uint32_t n);
/* out = a / divisor */
HR_API void hr_quotients(double *out, const double *a, uint32_t n, double divisor);
/* Whether all are below a bound. */
HR_API uint32_t hr_are_below(const uint64_t *a, uint32_t n, uint64_t bound);
/* a[i] <<= bits */
HR_API void hr_shift(uint64_t *a, uint32_t n, uint32_t bits);
#ifdef __cplusplus
}
#endif
#endif
