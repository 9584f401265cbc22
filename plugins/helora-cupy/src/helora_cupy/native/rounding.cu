// Quotients by a power of two.
#define SHIM_HERE
#include "shim.h"

// x over 2^bits, rounded to the nearest, ties to even quotients; above `most` it is zero. Grid: x numbers/256.
KERNEL(256) round_off(u64* a, u64 count, int bits, u64 most) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    if (i < count) {
      const u64 x = a[i], quotient = (x + ((x >> bits) & 1) + ((1ull << (bits - 1)) - 1)) >> bits;
      a[i] = quotient > most ? 0 : quotient;
    }
  }
}
