// ChaCha20 (RFC 8439), for clients whose platform has no synchronous one: four blocks at a time, a lane each.
#include "client.h"
#include "base.hpp"

namespace {

#if defined(__wasm_simd128__)
typedef u32 Lanes __attribute__((vector_size(16)));
constexpr int BLOCKS = 4;

template <int BITS>
HR_INLINE Lanes turned(Lanes x) {
    return x << BITS | x >> (32 - BITS);
}
#else
typedef u32 Lanes;
constexpr int BLOCKS = 1;

template <int BITS>
HR_INLINE Lanes turned(Lanes x) {
    return __builtin_rotateleft32(x, BITS);
}
#endif

HR_INLINE void quarter(Lanes &a, Lanes &b, Lanes &c, Lanes &d) {
    a += b, d = turned<16>(d ^ a);
    c += d, b = turned<12>(b ^ c);
    a += b, d = turned<8>(d ^ a);
    c += d, b = turned<7>(b ^ c);
}

HR_INLINE Lanes all(u32 x) { return x - Lanes{}; }

} // namespace

// Key stream of whole groups of blocks.
void hr_chacha20(uint32_t *out, const uint32_t *key, const uint32_t *nonce, uint32_t counter, uint32_t blocks) {
    Lanes start[16] = {all(0x61707865), all(0x3320646e), all(0x79622d32), all(0x6b206574)};
    for (int i = 0; i < 8; i++) start[4 + i] = all(key[i]);
    for (int i = 0; i < 3; i++) start[13 + i] = all(nonce[i]);
    for (u32 block = 0; block < blocks; block += BLOCKS, out += 16 * BLOCKS) {
        start[12] = all(counter + block);
#if defined(__wasm_simd128__)
        start[12] += (Lanes){0, 1, 2, 3};
#endif
        Lanes x[16];
        for (int i = 0; i < 16; i++) x[i] = start[i];
        for (int i = 0; i < 10; i++) {
            quarter(x[0], x[4], x[8], x[12]);
            quarter(x[1], x[5], x[9], x[13]);
            quarter(x[2], x[6], x[10], x[14]);
            quarter(x[3], x[7], x[11], x[15]);
            quarter(x[0], x[5], x[10], x[15]);
            quarter(x[1], x[6], x[11], x[12]);
            quarter(x[2], x[7], x[8], x[13]);
            quarter(x[3], x[4], x[9], x[14]);
        }
#if defined(__wasm_simd128__)
        unroll<4>([&](auto each) HR_INLINED { // four words of each block stand together
            constexpr int k = 4 * decltype(each)::value;
            const Lanes a = x[k] + start[k], b = x[k + 1] + start[k + 1];
            const Lanes c = x[k + 2] + start[k + 2], d = x[k + 3] + start[k + 3];
            const Lanes ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const Lanes ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            *(Lanes *)(out + k) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(Lanes *)(out + 16 + k) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(Lanes *)(out + 32 + k) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
            *(Lanes *)(out + 48 + k) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
        });
#else
        for (int i = 0; i < 16; i++) out[i] = x[i] + start[i];
#endif
    }
}
