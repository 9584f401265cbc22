// Randomness: words of ChaCha20 (RFC 8439), and what is drawn from them, with the bits that helora_rns draws.
//
// Rejection keeps the order of the words: one block goes through a stream, 8192 words at a time, and its threads agree by a
// sum over their counts where each one's finds go.
#define SHIM_HERE
#include "shim.h"

#define BLOCK 1024

DEVICE u32 turned(u32 x, int by) { return x << by | x >> (32 - by); }

DEVICE void quarter(u32& a, u32& b, u32& c, u32& d) {
  a += b, d = turned(d ^ a, 16);
  c += d, b = turned(b ^ c, 12);
  a += b, d = turned(d ^ a, 8);
  c += d, b = turned(b ^ c, 7);
}

// A block of the key stream as eight words; of `key`: eight words of 32 bits, then three of the nonce.
DEVICE void chacha20(u64 (&out)[8], const u32* key, u32 counter) {
  u32 s[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1], key[2], key[3],
               key[4],     key[5],     key[6],     key[7],     counter, key[8], key[9], key[10]};
  u32 x[16];
  UNROLL for (int i = 0; i < 16; ++i) x[i] = s[i];
  for (int round = 0; round < 10; ++round) {
    UNROLL for (int i = 0; i < 4; ++i) quarter(x[i], x[4 + i], x[8 + i], x[12 + i]);
    UNROLL for (int i = 0; i < 4; ++i) quarter(x[i], x[4 + (i + 1) % 4], x[8 + (i + 2) % 4], x[12 + (i + 3) % 4]);
  }
  UNROLL for (int i = 0; i < 8; ++i) out[i] = (u64)(x[2 * i + 1] + s[2 * i + 1]) << 32 | (u32)(x[2 * i] + s[2 * i]);
}

// Words `start` to `start + count` of a stream. Grid: x blocks of the key stream that these are in, /256.
KERNEL(256) stream_words(u64* out, u64 k0, u64 k1, u64 k2, u64 k3, u64 n0, u64 n1, u64 start, u64 count) {
  const u32 key[11] = {(u32)k0, (u32)(k0 >> 32), (u32)k1, (u32)(k1 >> 32), (u32)k2, (u32)(k2 >> 32),
                       (u32)k3, (u32)(k3 >> 32), (u32)n0, (u32)(n0 >> 32), (u32)n1};
  THREADS(tid) {
    const u64 block = start / 8 + (u64)BLOCK_X * 256 + tid;
    u64 words[8];
    if (block * 8 < start + count) {
      chacha20(words, key, (u32)block);
      UNROLL for (int i = 0; i < 8; ++i) {
        const u64 at = block * 8 + i;
        if (at >= start && at < start + count) out[at - start] = words[i];
      }
    }
  }
}

// Sums of the counts of threads before each one: groups of 32 are summed first.
struct Scan {
  int count[BLOCK], group[33], total;
  u64 end;
  DEVICE int before(int tid) const {
    int sum = group[tid >> 5];
    for (int t = tid & ~31; t < tid; ++t) sum += count[t];
    return sum;
  }
};

DEVICE void scanned(Scan* scan) {
  BARRIER;
  THREADS(tid) {
    if (tid < BLOCK / 32) {
      int sum = 0;
      for (int t = 32 * tid; t < 32 * tid + 32; ++t) sum += scan->count[t];
      scan->group[tid + 1] = sum;
    }
  }
  BARRIER;
  THREADS(tid) {
    if (tid == 0) {
      scan->group[0] = 0;
      for (int g = 1; g <= BLOCK / 32; ++g) scan->group[g] += scan->group[g - 1];
      scan->total = scan->group[BLOCK / 32];
    }
  }
  BARRIER;
}

// As Kernels.uniform, of one block; told: how many were found and how many words were gone through.
KERNEL(BLOCK) uniform(u64* out, u64 size, const u64* words, u64 available, u64 mask, u64 q, u64* told) {
  SHARED(Scan, scan);
  PER_THREAD(u64, held, 8);
  u64 found = 0, used = available;
  for (u64 at = 0; at < available && found < size; at += 8 * BLOCK) {
    THREADS(tid) {
      int count = 0;
      UNROLL for (int i = 0; i < 8; ++i) {
        const u64 place = at + 8 * tid + i;
        MINE(held)[i] = place < available ? words[place] & mask : ~0ull;
        count += place < available && MINE(held)[i] < q;
      }
      scan->count[tid] = count;
    }
    scanned(scan);
    THREADS(tid) {
      u64 to = found + scan->before(tid);
      UNROLL for (int i = 0; i < 8; ++i) {
        if (MINE(held)[i] < q && at + 8 * tid + i < available) {
          if (to < size) out[to] = MINE(held)[i];
          if (++to == size) scan->end = at + 8 * tid + i + 1;
        }
      }
    }
    found += scan->total;
    BARRIER;
    if (found >= size) used = scan->end;
  }
  THREADS(tid) {
    if (tid == 0) {
      told[0] = found < size ? found : size;
      told[1] = used;
    }
  }
}

// Uniform polynomials, each block of one stream, one after another. Row r is of words masked by bounds[r][0] that are not
// beyond bounds[r][1], into out0 for r < split, into out1 from there on. With a budget, so many words are drawn for each
// polynomial, N more for each row of out1 that is not complete when they are used up, and the rest of them is left out.
KERNEL(BLOCK)
uniform_streams(u64* out0, u64 stride0, u64* out1, u64 stride1, int split, const u32* keys, const u64* bounds, int rows,
                int each, int count, u64 budget, int log_n) {
  SHARED(Scan, scan);
  PER_THREAD(u64, held, 8);
  const u32* key = keys + BLOCK_X * 11;
  const u64 n = 1ull << log_n;
  u64 at = 0, made = ~0ull;  // `made`: the first of the 8192 words that are held
  for (int p = BLOCK_X * each; p < count && p < (BLOCK_X + 1) * each; ++p) {
    u64 drawn = at + budget;
    for (int r = 0; r < rows; ++r) {
      u64* out = r < split ? out0 + p * stride0 + r * n : out1 + p * stride1 + (r - split) * n;
      const u64 mask = bounds[2 * r], most = bounds[2 * r + 1];
      for (u64 found = 0; found < n;) {
        const u64 begin = at & ~7ull;
        const bool anew = made == ~0ull || at >= made + 8 * BLOCK;
        if (anew) made = begin;
        THREADS(tid) {
          u64 words[8];
          if (anew) chacha20(words, key, (u32)(made / 8 + tid));
          int hits = 0;
          UNROLL for (int i = 0; i < 8; ++i) {
            if (anew) MINE(held)[i] = words[i];
            hits += made + 8 * tid + i >= at && (MINE(held)[i] & mask) <= most;
          }
          scan->count[tid] = hits;
        }
        scanned(scan);
        THREADS(tid) {
          u64 to = found + scan->before(tid);
          UNROLL for (int i = 0; i < 8; ++i) {
            const u64 word = MINE(held)[i] & mask;
            if (made + 8 * tid + i >= at && word <= most) {
              if (to < n) out[to] = word;
              if (++to == n) scan->end = made + 8 * tid + i + 1;
            }
          }
        }
        found += scan->total;
        BARRIER;
        at = found < n ? made + 8 * BLOCK : scan->end;
      }
      for (; budget && at > drawn;) drawn += (u64)(rows - r) * n;
    }
    if (budget) at = drawn;
  }
}

// Pairs of bits that are not both set, the lowest first, less one; as Kernels.ternary.
KERNEL(BLOCK) ternary(double* out, u64 size, const u64* words, u64 available, u64* told) {
  SHARED(Scan, scan);
  u64 found = 0;
  for (u64 at = 0; at < available && found < size; at += BLOCK) {
    THREADS(tid) {
      const u64 word = at + tid < available ? words[at + tid] : ~0ull;
      scan->count[tid] = 32 - ones(word & word >> 1 & 0x5555555555555555ull);
    }
    scanned(scan);
    THREADS(tid) {
      u64 to = found + scan->before(tid), word = at + tid < available ? words[at + tid] : ~0ull;
      for (int k = 0; k < 32; ++k, word >>= 2) {
        if ((word & 3) != 3 && to < size) out[to++] = (double)(int)(word & 3) - 1.0;
      }
    }
    found += scan->total;
    BARRIER;
  }
  THREADS(tid) {
    if (tid == 0) told[0] = found < size ? found : size;
  }
}

// Ternary polynomials, `each` of one stream: of N missing coefficients, N/24 + 12 words are drawn, until none is.
KERNEL(BLOCK) ternary_streams(double* out, const u32* keys, int each, int count, int log_n) {
  SHARED(Scan, scan);
  PER_THREAD(u64, held, 8);
  const u32* key = keys + BLOCK_X * 11;
  const u64 n = 1ull << log_n;
  u64 at = 0;
  for (int p = BLOCK_X * each; p < count && p < (BLOCK_X + 1) * each; ++p) {
    for (u64 found = 0; found < n;) {
      const u64 end = at + (n - found) / 24 + 12;
      const u64 stop = end < (at & ~7ull) + 8 * BLOCK ? end : (at & ~7ull) + 8 * BLOCK;  // N ≤ 2^17 takes one turn
      THREADS(tid) {
        const u64 first = (at & ~7ull) + 8 * tid;
        int hits = 0;
        if (first < stop) {
          u64 words[8];
          chacha20(words, key, (u32)(first / 8));
          UNROLL for (int i = 0; i < 8; ++i) {
            const u64 word = first + i >= at && first + i < stop ? words[i] : ~0ull;
            MINE(held)[i] = word;
            hits += 32 - ones(word & word >> 1 & 0x5555555555555555ull);
          }
        }
        scan->count[tid] = hits;
      }
      scanned(scan);
      THREADS(tid) {
        u64 to = found + scan->before(tid);
        if ((at & ~7ull) + 8 * tid < stop) {
          UNROLL for (int i = 0; i < 8; ++i) {
            u64 word = MINE(held)[i];
            for (int k = 0; k < 32; ++k, word >>= 2) {
              if ((word & 3) != 3 && to < n) out[((u64)p << log_n) + to++] = (double)(int)(word & 3) - 1.0;
            }
          }
        }
      }
      found += scan->total;
      BARRIER;
      at = stop;
    }
  }
}

// The ones in bits 0 to 20 of each word less those in bits 21 to 41.
KERNEL(256) binomial(double* out, const u64* words, u64 count) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    if (i < count) out[i] = (double)(ones(words[i] & 0x1fffff) - ones(words[i] >> 21 & 0x1fffff));
  }
}

KERNEL(256) random_bits(double* out, const u64* words, u64 count, int bits) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    if (i < count) out[i] = (double)(words[i] >> (64 - bits));
  }
}

// The formulas of helora_rns/native/sanitize.cpp; nothing is contracted.
DEVICE double step(double sum, double z, double next) { return plus(times(sum, z), next); }

DEVICE double logarithm(double x) {
  const u64 bits = bits_of(x) + (0x3ff0000000000000ull - 0x3fe6a09e667f3bcdull);
  const double e = plus((double)(bits >> 52), -1023.0);
  const double m = of_bits((bits & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull);
  const double s = ratio(plus(m, -1.0), plus(m, 1.0)), z = times(s, s);
  double sum = 1.0 / 21;
  sum = step(sum, z, 1.0 / 19), sum = step(sum, z, 1.0 / 17), sum = step(sum, z, 1.0 / 15);
  sum = step(sum, z, 1.0 / 13), sum = step(sum, z, 1.0 / 11), sum = step(sum, z, 1.0 / 9);
  sum = step(sum, z, 1.0 / 7), sum = step(sum, z, 1.0 / 5), sum = step(sum, z, 1.0 / 3);
  return plus(times(e, 0x1.62e42fefa39efp-1), times(plus(s, s), step(sum, z, 1.0)));
}

// Box and Muller's method: first all cosines, then all sines.
KERNEL(256) normal(double* out, const u64* words, u64 half) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    if (i < half) {
      const u64 a = words[i], b = words[half + i], quarter = b >> 62;
      const double x = times(plus((double)(a >> 12), 1.0), 0x1p-52), radius = root(times(-2.0, logarithm(x)));
      const double t = times(plus(times((double)((b << 2) >> 12), 0x1p-52), -0.5), 0x1.921fb54442d18p+0);
      const double z = times(t, t);
      double s = -0x1.ae7f3e733b81fp-41;
      s = step(s, z, 0x1.6124613a86d09p-33), s = step(s, z, -0x1.ae64567f544e4p-26);
      s = step(s, z, 0x1.71de3a556c734p-19), s = step(s, z, -0x1.a01a01a01a01ap-13);
      s = step(s, z, 0x1.1111111111111p-7), s = step(s, z, -0x1.5555555555555p-3);
      s = plus(t, times(t, times(z, s)));
      double c = 0x1.ae7f3e733b81fp-45;
      c = step(c, z, -0x1.93974a8c07c9dp-37), c = step(c, z, 0x1.1eed8eff8d898p-29);
      c = step(c, z, -0x1.27e4fb7789f5cp-22), c = step(c, z, 0x1.a01a01a01a01ap-16);
      c = step(c, z, -0x1.6c16c16c16c17p-10), c = step(c, z, 0x1.5555555555555p-5);
      c = plus(1.0, times(z, plus(times(z, c), -0.5)));
      const double cosine = quarter & 1 ? s : c, sine = quarter & 1 ? c : s;
      const u64 sign = (quarter >> 1) << 63;
      out[i] = times(radius, of_bits(bits_of(cosine) ^ sign));
      out[half + i] = times(radius, of_bits(bits_of(sine) ^ sign));
    }
  }
}

