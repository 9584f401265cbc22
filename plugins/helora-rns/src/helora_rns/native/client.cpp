// Loops of a client that elsewhere are NumPy's, and the roots of unity.
#include "client.h"
#include "base.hpp"

uint32_t hr_fused(void) {
#if defined(__wasm_relaxed_simd__)
    typedef double Pair __attribute__((vector_size(16)));
    // (2^27 + 1)² is a bit longer than a double: of the rounded square, less it, the bit is left. What the compiler cannot
    // see it cannot work out.
    volatile double one = 0x1p27 + 1.0, less = -(0x1p54 + 0x1p28);
    const Pair x = {one, one}, y = {less, less};
    const Pair rest = __builtin_wasm_relaxed_madd_f64x2(x, x, y), other = __builtin_wasm_relaxed_nmadd_f64x2(x, x, -y);
    return rest[0] == 1.0 && rest[1] == 1.0 && other[0] == -1.0 && other[1] == -1.0;
#else
    return 1;
#endif
}

namespace {

u64 power(u64 base, u64 exponent, u64 q) {
    u64 result = 1;
    for (; exponent; exponent >>= 1, base = multiply_mod(base, base, q))
        if (exponent & 1) result = multiply_mod(result, base, q);
    return result;
}

} // namespace

uint32_t hr_root_powers(uint64_t *out, uint32_t n, uint64_t q) {
    u64 psi = 0;
    for (u64 base = 2; base < 1000 && !psi; base++) {
        const u64 root = power(base, (q - 1) / (2 * (u64)n), q);
        if (power(root, n, q) == q - 1) psi = root;
    }
    out[0] = 1;
    for (u64 size = 1; size < n; size *= 2) { // index i + size has one bit more, which comes to stand at n/2·size
        const u64 step = power(psi, n / (2 * size), q);
        for (u64 i = 0; i < size; i++) out[size + i] = multiply_mod(out[i], step, q);
    }
    return psi != 0;
}

void hr_scaled(double *out, const double *numbers, uint32_t count, uint32_t n, double scale) {
    for (u64 i = 0; i < count; i++) out[i] = __builtin_rint(numbers[i] * scale);
    for (u64 i = count; i < n; i++) out[i] = 0.0;
}

double hr_largest(const double *a, uint32_t n) {
    double most = 0.0;
    for (u64 i = 0; i < n; i++) {
        const double size = __builtin_fabs(a[i]);
        most = size > most ? size : most;
    }
    return most;
}

void hr_add_doubles(double *a, const double *b, uint32_t n) {
    for (u64 i = 0; i < n; i++) a[i] += b[i];
}

void hr_quotients(double *out, const double *a, uint32_t n, double divisor) {
    for (u64 i = 0; i < n; i++) out[i] = a[i] / divisor;
}

uint32_t hr_are_below(const uint64_t *a, uint32_t n, uint64_t bound) {
    u64 beyond = 0;
    for (u64 i = 0; i < n; i++) beyond |= a[i] >= bound;
    return !beyond;
}

void hr_shift(uint64_t *a, uint32_t n, uint32_t bits) {
    for (u64 i = 0; i < n; i++) a[i] <<= bits;
}
