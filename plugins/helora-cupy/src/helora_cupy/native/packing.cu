// Numbers of any bit length in bytes, and slots in coefficients.
#define SHIM_HERE
#include "shim.h"

// A word of the bytes that numbers of so many bits make, one after another from the lowest bit on. Rows of `count` numbers,
// each to bytes of its own, `stride` apart. Grid: x words/256, y rows.
KERNEL(256) pack(unsigned char* out, u64 stride, const u64* a, u64 count, int bits) {
  const u64 bytes = (count * bits + 7) / 8;
  out += BLOCK_Y * stride;
  a += BLOCK_Y * count;
  THREADS(tid) {
    const u64 word = (u64)BLOCK_X * 256 + tid, from = 64 * word;
    if (8 * word < bytes) {
      u64 held = 0, i = from / bits;
      i64 at = (i64)(i * bits) - (i64)from;  // where the number's lowest bit is, in the word
      for (; i < count && at < 64; ++i, at += bits) held |= at < 0 ? a[i] >> -at : a[i] << at;
      if (8 * word + 8 <= bytes && ((u64)out & 7) == 0) {
        ((u64*)out)[word] = held;
      } else {
        for (int k = 0; k < 8 && 8 * word + k < bytes; ++k) out[8 * word + k] = (unsigned char)(held >> (8 * k));
      }
    }
  }
}

// Undo it. Grid: x numbers/256, y rows.
KERNEL(256) unpack(u64* out, const unsigned char* a, u64 stride, u64 count, int bits) {
  const u64 mask = bits == 64 ? ~0ull : (1ull << bits) - 1, bytes = (count * bits + 7) / 8;
  a += BLOCK_Y * stride;
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, first = i * bits / 8;
    const int shift = (int)(i * bits % 8);
    if (i < count) {
      u64 low = 0;
      for (int k = 0; k < 8 && first + k < bytes; ++k) low |= (u64)a[first + k] << (8 * k);
      u64 value = low >> shift;
      if (shift + bits > 64) value |= (u64)a[first + 8] << (64 - shift);
      out[BLOCK_Y * count + i] = value & mask;
    }
  }
}

// Numbers beyond their row's prime, counted. Grid: x N/256, y rows.
KERNEL(256) beyond(u64* found, const u64* a, const u64* primes, int limbs, int log_n) {
  const u64 q = primes[BLOCK_Y % limbs];
  THREADS(tid) {
    if (a[((u64)BLOCK_Y << log_n) + (u64)BLOCK_X * 256 + tid] >= q) ATOMIC_ADD(found, 1ull);
  }
}

// The complex transform of helora_rns.embedding, a stage a launch; `half` is N/2, of numbers and of powers alike. Real parts
// stand before imaginary ones. Grid: x half/512 or 1, y polynomials.
DEVICE void turn(double* re, double* im, const double* powers, u64 half, u64 groups, u64 k, bool back) {
  const u64 span = half / groups / 2, group = k / span, i = 2 * span * group + k % span, j = i + span;
  const double c = powers[groups + group], s = powers[half + groups + group];
  if (back) {
    const double dr = plus(re[i], -re[j]), di = plus(im[i], -im[j]);
    re[i] = plus(re[i], re[j]);
    im[i] = plus(im[i], im[j]);
    re[j] = plus(times(dr, c), times(di, s));
    im[j] = plus(times(di, c), -times(dr, s));
  } else {
    const double tr = plus(times(re[j], c), -times(im[j], s)), ti = plus(times(re[j], s), times(im[j], c));
    re[j] = plus(re[i], -tr);
    im[j] = plus(im[i], -ti);
    re[i] = plus(re[i], tr);
    im[i] = plus(im[i], ti);
  }
}

KERNEL(256) embedding_stage(double* values, const double* powers, u64 half, u64 groups, int back) {
  double* re = values + BLOCK_Y * 2 * half;
  THREADS(tid) {
    const u64 k = (u64)BLOCK_X * 256 + tid;
    if (k < half / 2) turn(re, re + half, powers, half, groups, k, back);
  }
}

// Stages from `groups` on, up to 1024 numbers apart, on tiles of 1024 that stay in shared memory.
KERNEL(512) embedding_tiles(double* values, const double* powers, u64 half, int back) {
  SHARED(double, tile);
  const u64 size = half < 1024 ? half : 1024, tiles = half / size;
  double* re = values + BLOCK_Y * 2 * half + BLOCK_X * size;
  THREADS(tid) {
    for (u64 i = tid; i < size; i += 512) {
      tile[i] = re[i];
      tile[size + i] = re[half + i];
    }
  }
  for (u64 stage = 0, stages = size; stages > 1; stages /= 2, ++stage) {
    const u64 inner = back ? stages / 2 : 1ull << stage;  // groups of the tile
    BARRIER;
    THREADS(tid) {
      if (tid < (int)(size / 2)) {
        const u64 k = tid, span = size / inner / 2, group = k / span, i = 2 * span * group + k % span, j = i + span;
        const u64 node = (tiles + BLOCK_X) * inner + group;
        const double c = powers[node], s = powers[half + node];
        double *r = tile, *m = tile + size;
        if (back) {
          const double dr = plus(r[i], -r[j]), di = plus(m[i], -m[j]);
          r[i] = plus(r[i], r[j]);
          m[i] = plus(m[i], m[j]);
          r[j] = plus(times(dr, c), times(di, s));
          m[j] = plus(times(di, c), -times(dr, s));
        } else {
          const double tr = plus(times(r[j], c), -times(m[j], s)), ti = plus(times(r[j], s), times(m[j], c));
          r[j] = plus(r[i], -tr);
          m[j] = plus(m[i], -ti);
          r[i] = plus(r[i], tr);
          m[i] = plus(m[i], ti);
        }
      }
    }
  }
  BARRIER;
  THREADS(tid) {
    for (u64 i = tid; i < size; i += 512) {
      re[i] = tile[i];
      re[half + i] = tile[size + i];
    }
  }
}

// Slots to the places where the transform has them; others are zero. `parts` is 2 of complex slots. Grid: x N/512, y
// polynomials. `places` inverted: the slot that a place has.
KERNEL(256) placed(double* out, const double* slots, u64 count, int parts, const u32* slot_of, u64 half) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, at = BLOCK_Y * 2 * half, from = (u64)BLOCK_Y * parts * count;
    if (i < half) {
      const u64 j = slot_of[i];
      out[at + i] = j < count ? slots[from + parts * j] : 0.0;
      out[at + half + i] = j < count && parts == 2 ? slots[from + 2 * j + 1] : 0.0;
    }
  }
}

// Times a factor, to the next integer, halves to even ones; zeros lose their sign.
KERNEL(256) rounded(double* values, u64 count, u64 factor) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    if (i < count) {
      const double x = times(values[i], of_bits(factor)), anchor = x < 0 ? -0x1p52 : 0x1p52;
      const double whole = plus(plus(x, anchor), -anchor);
      values[i] = plus(x < 0x1p52 && x > -0x1p52 ? whole : x, 0.0);
    }
  }
}

// Slots of values, times a factor, as complex numbers.
KERNEL(256) slots_of(double* out, const double* values, const u32* places, u64 half, u64 factor) {
  THREADS(tid) {
    const u64 j = (u64)BLOCK_X * 256 + tid, at = BLOCK_Y * 2 * half;
    if (j < half) {
      out[at + 2 * j] = times(values[at + places[j]], of_bits(factor));
      out[at + 2 * j + 1] = times(values[at + half + places[j]], of_bits(factor));
    }
  }
}
