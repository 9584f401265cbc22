// Rows of residues that are not transformed: place by place, moved, lifted, and the steps of a program that work row by row.
//
// Compile with -DWIDE=0 or 1. Grids: x N/256, y rows or runs.
#define SHIM_HERE
#include "residues.cuh"

#include "places.cuh"

enum Operation { ADD, SUB, NEGATE, MULTIPLY, MULTIPLY_ADD, TIMES };

template <class P>
DEVICE u64 multiplied(u64 a, u64 b, const typename P::Mod& m) {
  Sum<P> sum;
  sum.add_product(a, b, m);
  return sum.value(m);
}

// out = a ∘ b (∘ c), rows of the primes basis[row mod limbs]; b has b_rows rows, which begin anew after the last. Of TIMES,
// b has a number for each limb.
KERNEL(256)
pointwise(int operation, u64* out, const u64* a, const u64* b, const u64* c, const int* basis, int limbs, int b_rows,
          int log_n, const u64* mods) {
  const int limb = BLOCK_Y % limbs;
  const u64* row = mods + basis[limb] * MOD_WORDS;
  const u64 at = ((u64)BLOCK_Y << log_n) + (u64)BLOCK_X * 256;
  const u64 b_at = ((u64)(BLOCK_Y % b_rows) << log_n) + (u64)BLOCK_X * 256;
  const u64 q = row[0];
  THREADS(tid) {
    const u64 x = a[at + tid];
    u64 r;
    if (operation == NEGATE) {
      r = x ? q - x : 0;
    } else if (operation < MULTIPLY) {
      const u64 y = operation == ADD ? b[b_at + tid] : q - b[b_at + tid];
      r = least(x + y, x + y - q);
    } else {
      const u64 y = operation == TIMES ? b[limb] : b[b_at + tid];
      BY_POLICY(row, {
        const P::Mod m = P::read(row);
        Sum<P> sum;
        sum.add_product(x, y, m);
        if (operation == MULTIPLY_ADD) sum.add(c[at + tid], m);
        r = sum.value(m);
      });
    }
    out[at + tid] = r;
  }
}

template <class P>
DEVICE u64 dot_at(const u64* a, const u64* b, int terms, u64 at, u64 b_at, const typename P::Mod& m) {
  Sum<P> sum;
  UNROLL_BY_4 for (int i = 0; i < terms; ++i) {
    if (i % 8 == 0) sum.settle(m);
    sum.add_product(((const u64*)a[i])[at], ((const u64*)b[i])[b_at], m);
  }
  return sum.value(m);
}

// out = Σ a[i]·b[i] of arrays at these addresses; each b[i] is one polynomial.
KERNEL(256)
dot(u64* out, const u64* a, const u64* b, int terms, const int* basis, int limbs, int log_n, const u64* mods) {
  const int limb = BLOCK_Y % limbs;
  const u64* row = mods + basis[limb] * MOD_WORDS;
  THREADS(tid) {
    const u64 at = ((u64)BLOCK_Y << log_n) + (u64)BLOCK_X * 256 + tid;
    const u64 b_at = ((u64)limb << log_n) + (u64)BLOCK_X * 256 + tid;
    BY_POLICY(row, out[at] = dot_at<P>(a, b, terms, at, b_at, P::read(row)));
  }
}

// out[…, i] = a[…, index[i]].
KERNEL(256) permute(u64* out, const u64* a, const u32* index, int log_n) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, row = (u64)BLOCK_Y << log_n;
    out[row + i] = a[row + index[i]];
  }
}

// Both polynomials of Σ digits·key at place i; the digits of a row stand `apart` words from each other, those of a key are
// interleaved by eight coefficients: (N/8, digits, 2, 8).
template <class P>
DEVICE void switched_at(u64 (&out)[2], const u64* digits, u64 apart, const u64* key, int limbs, int key_digits, int i,
                        const u64* added, const typename P::Mod& m) {
  Sum<P> first, second;
  if (added) first.add(added[i], m);
  const u64* part = key + (u64)(i >> 3) * key_digits * 16 + (i & 7);
  UNROLL_BY_4 for (int d = 0; d < limbs; ++d) {
    if (d && d % 7 == 0) first.settle(m), second.settle(m);  // seven products and what is added are below 8q
    const u64 x = digits[d * apart + i];
    first.add_product(x, part[d * 16], m);
    second.add_product(x, part[d * 16 + 8], m);
  }
  out[0] = first.value(m);
  out[1] = second.value(m);
}

// As Kernels.rotated; grid y: rows.
KERNEL_TOGETHER(256, 3)
rotated(u64* out, const u64* digits, const u64* key, const u64* added, const u32* index, const int* basis, int limbs,
        int width, int key_digits, int log_n, const u64* mods) {
  const int j = BLOCK_Y;
  const u64* row = mods + basis[j] * MOD_WORDS;
  const u64 n = 1ull << log_n;
  key += (u64)basis[j] * 2 * key_digits * n;
  THREADS(tid) {
    const int i = BLOCK_X * 256 + tid;
    u64 both[2];
    BY_POLICY(row, switched_at<P>(both, digits + j * n, width * n, key, limbs, key_digits, (int)index[i],
                                  j < limbs ? added + j * n : nullptr, P::read(row)));
    out[j * n + i] = both[0];
    out[((u64)width + j) * n + i] = both[1];
  }
}

// Steps of a program that work row by row, as helora_rns.programs.steps has them, for many runs. Tasks do not read what
// others of the launch make; a task's steps follow each other at each place. `program`: for each task where it begins and
// ends; there, steps: kind, limbs, rows, terms, whether it adds, and three integers for each of its operands: slot, row,
// rows. Grid: x N/256, y runs, z rows × tasks: tasks on one row follow each other, so that L2 keeps what they all read.
enum Kind { ROTATE = 3, DOT, SUMS, RAISE };

struct Row {
  const Place& place;
  int log_n, j;
  u64 i;
  // Where the operand's place is, or null if it has no such row: then it is zero.
  DEVICE u64* operator()(const int* ref) const { return j < ref[2] ? place.at(ref[0], ref[1] + j, log_n) + i : nullptr; }
};

template <class P>
DEVICE void dotted(const Row& at, const int* refs, int terms, const typename P::Mod& m) {
  Sum<P> first, second;
  UNROLL_BY_4 for (int t = 0; t < terms; ++t) {
    const int* term = refs + 6 + 9 * t;
    if (t % 8 == 0) first.settle(m), second.settle(m);
    const u64 *a = at(term), *b = at(term + 3), *w = at(term + 6);
    const u64 y = a || b ? *w : 0;
    if (a) first.add_product(*a, y, m);
    if (b) second.add_product(*b, y, m);
  }
  *at(refs) = first.value(m);
  *at(refs + 3) = second.value(m);
}

template <class P>
DEVICE void step_at(const Place& place, const int* step, int j, int prime, int data, int specials, int log_n, int i,
                    const u64* mods, const u64* row) {
  const typename P::Mod m = P::read(row);
  const int kind = step[0], limbs = step[1], terms = step[3], *refs = step + 5;
  const Row at = {place, log_n, j, (u64)i};
  const u64 q = row[0];
  if (kind == ROTATE) {
    u64 both[2];
    const int from = (int)((const u32*)place.start(refs[12]))[i];
    const u64* added = j < refs[20] ? place.at(refs[18], refs[19] + j, log_n) : nullptr;
    const u64* key = place.start(refs[9]) + ((u64)prime * 2 * data << log_n);
    switched_at<P>(both, place.at(refs[6], refs[7] + j, log_n), (u64)(limbs + specials) << log_n, key, limbs, data, from,
                   added, m);
    for (int p = 0; p < 2; ++p) {
      u64* out = at(refs + 3 * p);
      const u64 sum = both[p] + (step[4] ? *out : 0);
      *out = least(sum, sum - q);
    }
  } else if (kind == DOT) {
    dotted<P>(at, refs, terms, m);
  } else if (kind == SUMS) {
    u64 sum = step[4] ? *at(refs) : 0;
    UNROLL_BY_4 for (int t = 1; t <= terms; ++t) {
      const u64* a = at(refs + 3 * t);
      sum += a ? *a : 0;
      sum = least(sum, sum - q);
    }
    *at(refs) = sum;
  } else {
    u64 x = *at(refs + 3);
    for (int k = 0; k < specials; ++k) x = multiplied<P>(x, reduced(mods[(data + k) * MOD_WORDS], q, row[1]), m);
    *at(refs) = x;
  }
}

KERNEL_TOGETHER(256, 3)
by_row(const u64* tables, int slots, const int* program, int tasks, int data, int specials, int log_n,
       const u64* mods) {
  const Place place = {tables, slots, {nullptr, nullptr, nullptr}, {0, 0, 0}};
  const int task = BLOCK_Z % tasks, j = BLOCK_Z / tasks;
  const int from = program[2 * task], to = program[2 * task + 1];
  THREADS(tid) {
    const int i = BLOCK_X * 256 + tid;
    for (const int* step = program + from; step < program + to;) {
      const int kind = step[0], limbs = step[1], terms = step[3];
      if (j < step[2]) {
        const int prime = j < limbs ? j : data + j - limbs;
        const u64* row = mods + prime * MOD_WORDS;
        BY_POLICY(row, step_at<P>(place, step, j, prime, data, specials, log_n, i, mods, row));
      }
      step += 5 + 3 * (kind == ROTATE ? 7 : kind == DOT ? 2 + 3 * terms : kind == SUMS ? 1 + terms : 2);
    }
  }
}

// Mixed radix (Garner) over the primes gone[0 … count): digits of least size.
DEVICE void digits_of(i64* digits, const u64* x, u64 apart, const int* gone, int count, const u64* mods,
                      const u64* inverses, int primes) {
  for (int k = 0; k < count; ++k) {
    const Prime p(mods + gone[k] * MOD_WORDS);
    u64 rest = x[k * apart];
    for (int l = 0; l < k; ++l)
      rest = p.multiply(p.sub(rest, p.of_signed(digits[l])), inverses[gone[l] * primes + gone[k]]);
    digits[k] = p.centred(rest);
  }
}

#define MOST_GONE 8

// What rows modulo several primes say, of least size, modulo another one. A job: [0, 1] slot and row that are read, of the
// first prime, the others follow; [2, 3] those written; [4] the prime; [5] how many; [6 …] which. Grid: z jobs.
KERNEL(256)
lifted_digits(const u64* tables, int slots, u64* a, u64* b, u64* c, u64 stride_a, u64 stride_b, u64 stride_c,
              const int* jobs, const u64* mods, const u64* inverses, int primes, int log_n) {
  const Place place = {tables, slots, {a, b, c}, {stride_a, stride_b, stride_c}};
  const int *job = jobs + BLOCK_Z * (6 + MOST_GONE), count = job[5];
  const Prime to(mods + job[4] * MOD_WORDS);
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    i64 digits[MOST_GONE];
    digits_of(digits, place.at(job[0], job[1], log_n) + i, 1ull << log_n, job + 6, count, mods, inverses, primes);
    u64 total = to.of_signed(digits[count - 1]);
    for (int k = count - 2; k >= 0; --k)
      total = to.add(to.multiply(total, to.reduce(mods[job[6 + k] * MOD_WORDS])), to.of_signed(digits[k]));
    place.at(job[2], job[3], log_n)[i] = total;
  }
}

// The integers of least size in doubles; a: [limbs][N], which is overwritten by the digits.
KERNEL(256)
to_doubles(double* out, u64* a, const int* basis, int limbs, const u64* mods, const u64* inverses, int primes,
           int log_n) {
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    for (int k = 0; k < limbs; ++k) {
      const Prime p(mods + basis[k] * MOD_WORDS);
      u64 rest = a[((u64)k << log_n) + i];
      for (int l = 0; l < k; ++l)
        rest = p.multiply(p.sub(rest, p.of_signed((i64)a[((u64)l << log_n) + i])), inverses[basis[l] * primes + basis[k]]);
      a[((u64)k << log_n) + i] = (u64)p.centred(rest);
    }
    double total = 0;
    for (int k = limbs - 1; k >= 0; --k)
      total = plus(times(total, of_bits(mods[basis[k] * MOD_WORDS + 5])), (double)(i64)a[((u64)k << log_n) + i]);
    out[i] = total;
  }
}

// Integers below 2^99 in doubles, modulo primes: in place of what is in out, or, with factors, one for each limb, added to
// it times that. Grid: y limbs.
KERNEL(256)
of_doubles(u64* out, const double* values, const u64* factors, const int* basis, const u64* mods, int log_n) {
  const Prime p(mods + basis[BLOCK_Y] * MOD_WORDS);
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, at = ((u64)BLOCK_Y << log_n) + i;
    const double x = values[i], size = x < 0 ? -x : x;
    const u64 upper = (u64)times(size, 0x1p-50), lower = (u64)plus(size, -times((double)upper, 0x1p50));
    u64 r = p.add(p.multiply(p.reduce(upper), p.reduce(1ull << 50)), p.reduce(lower));
    if (x < 0) r = p.negate(r);
    out[at] = factors ? p.add(p.multiply(out[at], factors[BLOCK_Y]), r) : r;
  }
}
