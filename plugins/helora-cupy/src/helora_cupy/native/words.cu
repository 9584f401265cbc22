// Polynomials modulo 2^64·q₁, as helora_rns.correlations has them: words beside residues. Each kernel takes many at once.
//
// p: the rows of the two primes of the ring's pair, as arith.cuh has them. Grids: x N/256, y polynomials or rows.
#define SHIM_HERE
#define WIDE 0
#include "residues.cuh"

DEVICE u64 word_of(double x) { return (u64)(i64)x; }

// Words as integers of least size, of `bits` bits, modulo primes: row y is word polynomial y / limbs modulo basis[y % limbs].
KERNEL(256) of_words(u64* out, const u64* words, const int* basis, int limbs, int bits, int log_n, const u64* mods) {
  const Prime p(mods + basis[BLOCK_Y % limbs] * MOD_WORDS);
  const u64 from = (u64)(BLOCK_Y / limbs) << log_n, to = (u64)BLOCK_Y << log_n;
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    out[to + i] = p.of_signed((i64)(words[from + i] << (64 - bits)) >> (64 - bits));
  }
}

// Small integers in doubles modulo primes; added to what is there if `adds`.
KERNEL(256) of_small(u64* out, const double* values, const int* basis, int limbs, int adds, int log_n, const u64* mods) {
  const Prime p(mods + basis[BLOCK_Y % limbs] * MOD_WORDS);
  const u64 from = (u64)(BLOCK_Y / limbs) << log_n, to = (u64)BLOCK_Y << log_n;
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    const u64 r = p.of_signed((i64)values[from + i]);
    out[to + i] = adds ? p.add(out[to + i], r) : r;
  }
}

// (x₂ − x₁)/p₁ modulo p₂, of residues modulo a pair of primes: the second digit of mixed radix (Garner).
DEVICE u64 second_digit(u64 x1, u64 x2, const Prime& second, u64 inverse) {
  return second.multiply(second.sub(x2, second.reduce(x1)), inverse);
}

// The integers of least size that rows (count, 2, N) are modulo the pair, as words, and more: out = added + integer +
// errors + factor·numbers, where what is not given is zero. The errors of polynomial y begin at y·N.
KERNEL(256)
joined(u64* out, const u64* rows, const u64* added, const double* errors, const u64* numbers, u64 factor, u64 inverse,
       int log_n, const u64* mods) {
  const Prime first(mods), second(mods + MOD_WORDS);
  const u64 at = (u64)BLOCK_Y << log_n, n = 1ull << log_n;
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, x = rows[2 * at + i];
    u64 sum = x + first.q * (u64)second.centred(second_digit(x, rows[2 * at + n + i], second, inverse));
    if (added) sum += added[at + i];
    if (errors) sum += word_of(errors[at + i]);
    if (numbers) sum += factor * numbers[at + i];
    out[at + i] = sum;
  }
}

// ⌊c/q₁⌋ less masks, which polynomials 0, masked, 2·masked, … have, shifted down by `lost` bits for those and by `missing`
// for the others. words (count, N), rows (count, limbs, N). `close`, if given, counts for each polynomial the coefficients
// that are 21 or less from a multiple of q₁.
KERNEL(256)
quotients(u64* out, const u64* words, const u64* rows, const u64* masks, int limbs, int masked, int lost, int missing,
          u64 inverse_of_q1, u64 inverse, u64* close, int log_n, const u64* mods) {
  const Prime first(mods), second(mods + MOD_WORDS);
  const u64 at = (u64)BLOCK_Y << log_n, n = 1ull << log_n;
  const bool has_mask = masks && BLOCK_Y % masked == 0;
  const u64* mask = masks + (has_mask ? (u64)(BLOCK_Y / masked) << log_n : 0);
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid, x = rows[limbs * at + i];
    const u64 digit = limbs == 2 ? second_digit(x, rows[limbs * at + n + i], second, inverse) : 0;
    const u64 last = limbs == 2 ? second.q - 1 : 0;
    if (close && ((digit == 0 && x <= 21) || (digit == last && x >= first.q - 21))) ATOMIC_ADD(close + BLOCK_Y, 1ull);
    u64 quotient = (words[at + i] - x - first.q * digit) * inverse_of_q1;
    if (has_mask) quotient -= mask[i];
    out[at + i] = quotient >> (BLOCK_Y % masked == 0 ? lost : missing);
  }
}

// ((top << lost) + half a unit + added − (product << missing)) >> lost; `added` is one polynomial's.
KERNEL(256)
opened(u64* out, const u64* top, const u64* product, const u64* added, int lost, int missing, int log_n) {
  const u64 half = lost ? 1ull << (lost - 1) : 0, at = (u64)BLOCK_Y << log_n;
  THREADS(tid) {
    const u64 i = (u64)BLOCK_X * 256 + tid;
    out[at + i] = ((top[at + i] << lost) + half + added[i] - (product[at + i] << missing)) >> lost;
  }
}
