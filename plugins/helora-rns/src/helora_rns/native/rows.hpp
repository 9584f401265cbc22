// Kernels on rows that are no transforms, of the policy's vectors; and the table of them all.
#pragma once

#define HR_EACH(body)                                   \
    for (u64 i = 0; i < n; i += Policy::W) {            \
        body;                                           \
    }

static void row_add(const Prime *p, u64 *out, const u64 *a, const u64 *b, u64 n) {
    const Policy f(*p);
    HR_EACH(f.store(out + i, f.add(f.load(a + i), f.load(b + i))))
}

static void row_sub(const Prime *p, u64 *out, const u64 *a, const u64 *b, u64 n) {
    const Policy f(*p);
    HR_EACH(f.store(out + i, f.sub(f.load(a + i), f.load(b + i))))
}

static void row_negate(const Prime *p, u64 *out, const u64 *a, u64 n) {
    for (u64 i = 0; i < n; i++) out[i] = a[i] ? p->q - a[i] : 0;
}

static void row_multiply(const Prime *p, u64 *out, const u64 *a, const u64 *b, u64 n) {
    const Policy f(*p);
    HR_EACH(f.store(out + i, f.multiply(f.load(a + i), f.load(b + i))))
}

static void row_multiply_add(const Prime *p, u64 *out, const u64 *a, const u64 *b, const u64 *c, u64 n) {
    const Policy f(*p);
    HR_EACH(f.store(out + i, f.add(f.multiply(f.load(a + i), f.load(b + i)), f.load(c + i))))
}

static void row_times(const Prime *p, u64 *out, const u64 *a, u64 constant, u64 n) {
    const Policy f(*p);
    const auto t = f.constant(constant);
    HR_EACH(f.store(out + i, f.times_exact(f.load(a + i), t)))
}

static void row_sub_times(const Prime *p, u64 *out, const u64 *a, const u64 *b, u64 constant, u64 n) {
    const Policy f(*p);
    const auto t = f.constant(constant);
    HR_EACH(f.store(out + i, f.times_exact(f.difference(f.load(a + i), f.load(b + i)), t)))
}

#if !defined(HR_CLIENT)
// A page of each operand at a time, a few operands together: as many streams as there are terms, a line of each in turn,
// are no streams to the memory any more, and one alone keeps its sums nowhere but in memory.
static void row_dot(const Prime *p, u64 *out, const u64 *const *a, const u64 *const *b, u64 terms, u64 n) {
    const Policy f(*p);
    constexpr int VECTORS = 2;
    constexpr u64 STRIP = 512, TOGETHER = 4;
    for (u64 start = 0; start < n; start += STRIP) {
        Policy::Sum sums[STRIP / Policy::W];
        for (auto &sum : sums) sum = f.nothing();
        for (u64 first = 0; first < terms; first += TOGETHER) {
            const u64 end = first + TOGETHER < terms ? first + TOGETHER : terms;
            if (first && first % f.terms() == 0)
                for (auto &sum : sums) f.settle(sum);
            for (u64 k = 0; k < STRIP / Policy::W; k += VECTORS) {
                Policy::Sum own[VECTORS];
                unroll<VECTORS>([&](auto each) HR_INLINED { own[decltype(each)::value] = sums[k + decltype(each)::value]; });
                for (u64 term = first; term < end; term++) {
                    unroll<VECTORS>([&](auto each) HR_INLINED {
                        const u64 at = start + (k + decltype(each)::value) * Policy::W;
                        f.accumulate(own[decltype(each)::value], f.load(a[term] + at), f.load(b[term] + at));
                    });
                }
                unroll<VECTORS>([&](auto each) HR_INLINED { sums[k + decltype(each)::value] = own[decltype(each)::value]; });
            }
        }
        for (u64 k = 0; k < STRIP / Policy::W; k++) f.store(out + start + k * Policy::W, f.value(sums[k]));
    }
}

// Both polynomials of a sum of products with the same operands, which are read once. A page of each operand at a time, a few
// operands together, as above; the next page of those that no cache holds is asked for meanwhile.
static void row_dot_pair(const Prime *p, u64 *out0, u64 *out1, const u64 *const *a0, const u64 *const *a1,
                         const u64 *const *b, u64 terms, u64 n) {
    const Policy f(*p);
    constexpr u64 STRIP = 512;
    constexpr int VECTORS = CHUNK / Policy::W;
    const u64 together = terms <= 8 && f.terms() >= 8 ? 8 : 4; // settled before they are more than a sum can hold
    for (u64 start = 0; start < n; start += STRIP) {
        Policy::Sum sums[2 * STRIP / Policy::W];
        for (u64 first = 0; first < terms; first += together) {
            const u64 end = first + together < terms ? first + together : terms;
            for (u64 k = 0; k < STRIP; k += CHUNK) {
                Policy::Sum own[2 * VECTORS], *kept = sums + 2 * k / Policy::W;
                unroll<2 * VECTORS>([&](auto each) HR_INLINED {
                    own[decltype(each)::value] = first ? kept[decltype(each)::value] : f.nothing();
                    if (first && first % f.terms() == 0) f.settle(own[decltype(each)::value]);
                });
                for (u64 term = first; term < end; term++) {
                    __builtin_prefetch(b[term] + start + k + STRIP, 0, 2);
                    unroll<VECTORS>([&](auto each) HR_INLINED {
                        constexpr int v = decltype(each)::value;
                        const u64 at = start + k + v * Policy::W;
                        const auto factor = f.load(b[term] + at);
                        f.accumulate(own[2 * v], factor, f.load(a0[term] + at));
                        f.accumulate(own[2 * v + 1], factor, f.load(a1[term] + at));
                    });
                }
                unroll<VECTORS>([&](auto each) HR_INLINED {
                    constexpr int v = decltype(each)::value;
                    const u64 at = start + k + v * Policy::W;
                    if (end < terms) {
                        kept[2 * v] = own[2 * v];
                        kept[2 * v + 1] = own[2 * v + 1];
                    } else {
                        f.store(out0 + at, f.value(own[2 * v]));
                        f.store(out1 + at, f.value(own[2 * v + 1]));
                    }
                });
            }
        }
    }
}

// Words by which keys are asked for ahead of their use, into the second cache: what the CPU foresees by itself ends with a
// page, and leaves a core waiting for half of the time.
static constexpr u64 AHEAD = 2048;

// Σ digits[i]·key[i], both polynomials of it, for the chunk at i: two sums for each of the chunk's vectors.
template <bool MANY>
static HR_INLINE void chunk_product(const Policy &f, Policy::Sum *sums, const u64 *const *digits, const u64 *key,
                                    u64 ahead, u64 terms, u64 i) {
    unroll<2 * CHUNK / Policy::W>([&](auto each) HR_INLINED { sums[decltype(each)::value] = f.nothing(); });
    for (u64 term = 0; term < terms; term++) {
        const u64 *digit = digits[term] + i, *pair = key + 2 * CHUNK * term;
        __builtin_prefetch(pair + ahead, 0, 2);
        __builtin_prefetch(pair + ahead + CHUNK, 0, 2);
        if (MANY && term && term % f.terms() == 0)
            for (int k = 0; k < 2 * CHUNK / Policy::W; k++) f.settle(sums[k]);
        unroll<CHUNK / Policy::W>([&](auto each) HR_INLINED {
            constexpr int k = decltype(each)::value, at = k * Policy::W;
            const auto d = f.load(digit + at);
            f.accumulate(sums[2 * k], d, f.load(pair + at));
            f.accumulate(sums[2 * k + 1], d, f.load(pair + CHUNK + at));
        });
    }
}

// The key product of one rotation, with ``added`` (if any) on the first polynomial, moved by the automorphism: ``index``
// as in row_permute, ``places`` its inverse. Where groups of lanes go is all that is not in order, in the results.
template <bool MANY, bool ACCUMULATE>
static HR_INLINE void rotate_by(const Policy &f, u64 *out0, u64 *out1, const u64 *const *digits, const u64 *key,
                                u64 terms, u64 key_digits, const u64 *added, const u32 *index, const u32 *places, u64 n) {
    const u64 chunk = 2 * CHUNK * key_digits, ahead = (AHEAD + chunk - 1) / chunk * chunk;
    for (u64 i = 0; i < n; i += CHUNK, key += chunk) {
        Policy::Sum sums[2 * CHUNK / Policy::W];
        chunk_product<MANY>(f, sums, digits, key, ahead, terms, i);
        unroll<CHUNK / Policy::W>([&](auto each) HR_INLINED {
            constexpr int k = decltype(each)::value;
            const u64 from = i + k * Policy::W, to = places[from] & ~(u64)(Policy::W - 1);
            auto first = f.value(sums[2 * k]), second = f.value(sums[2 * k + 1]);
            if (added) first = f.add(first, f.load(added + from));
            first = Policy::shuffle(first, index + to);
            second = Policy::shuffle(second, index + to);
            if (ACCUMULATE) {
                first = f.add(first, f.load(out0 + to));
                second = f.add(second, f.load(out1 + to));
            }
            f.store(out0 + to, first);
            f.store(out1 + to, second);
        });
    }
}

static void row_rotate(const Prime *p, u64 *out0, u64 *out1, const u64 *const *digits, const u64 *key, u64 terms,
                       u64 key_digits, const u64 *added, const u32 *index, const u32 *places, u64 accumulate, u64 n) {
    const Policy f(*p);
    if (terms > f.terms())
        accumulate ? rotate_by<true, true>(f, out0, out1, digits, key, terms, key_digits, added, index, places, n)
                   : rotate_by<true, false>(f, out0, out1, digits, key, terms, key_digits, added, index, places, n);
    else
        accumulate ? rotate_by<false, true>(f, out0, out1, digits, key, terms, key_digits, added, index, places, n)
                   : rotate_by<false, false>(f, out0, out1, digits, key, terms, key_digits, added, index, places, n);
}
#endif

static void row_permute(u64 *out, const u64 *a, const u32 *index, u64 n) {
    HR_EACH(Policy::permute(out + i, a, index + i))
}

static void row_lift(const Prime *p, const Prime *from, u64 *out, const u64 *a, u64 n) {
    const Policy f(*p);
    HR_EACH(f.store_settled(out + i, f.centred(f.load(a + i), *from)))
}

static void row_of_doubles(const Prime *p, u64 *out, const double *a, u64 n) {
    const Policy f(*p);
    const auto two50 = f.constant(((u64)1 << 50) % p->q);
    HR_EACH(f.store_settled(out + i, f.settled(f.of_double(a + i, two50))))
}

// Words masked and compared a chunk at a time; only a chunk with one too large goes one by one.
static u64 row_uniform(const Prime *p, u64 *__restrict out, u64 n, const u64 *__restrict words, u64 available,
                       u64 *used) {
    const u64 q = p->q, mask = ((u64)1 << p->bits) - 1;
    u64 found = 0, i = 0;
    while (found < n && i < available) {
        if (n - found >= CHUNK && available - i >= CHUNK) {
            u64 beyond = 0;
            for (u64 k = 0; k < CHUNK; k++) {
                const u64 candidate = words[i + k] & mask;
                out[found + k] = candidate;
                beyond |= q - 1 - candidate;
            }
            if (!(beyond >> 63)) {
                found += CHUNK;
                i += CHUNK;
                continue;
            }
        }
        const u64 candidate = words[i++] & mask;
        out[found] = candidate;
        found += candidate < q;
    }
    *used = i;
    return found;
}

static void row_binomial(double *out, const u64 *words, u64 n) {
    const u64 mask = ((u64)1 << 21) - 1;
    for (u64 i = 0; i < n; i++) {
        // Each bit of b set is one of 21 coins: popcount(a) + popcount(~b) − 21 = popcount(a) − popcount(b).
        u64 x = (words[i] & mask) | ((~(words[i] >> 21) & mask) << 32);
        x -= (x >> 1) & 0x5555555555555555;
        x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
        x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
        x += x >> 8;
        x += x >> 16;
        x += x >> 32;
        // Under the exponent of 2^52 an integer is a double.
        const u64 under = (x & 0x7f) | 0x4330000000000000;
        double y;
        __builtin_memcpy(&y, &under, 8);
        out[i] = y - (0x1p52 + 21);
    }
}

static void row_horner(const Prime *p, double *out, const u64 *a, double scale, u64 n) {
    const Policy f(*p);
    HR_EACH(f.horner(out + i, a + i, scale))
}

#undef HR_EACH

// What servers alone do is left out of clients.
#if defined(HR_CLIENT)
#define HR_SUMS nullptr, nullptr, nullptr
#define HR_LIFTED nullptr, nullptr
#else
#define HR_SUMS row_dot, row_dot_pair, row_rotate
#define HR_LIFTED forward_lifted, forward_lifted_from
#endif

#define HR_ROWS                                                                                                    \
    {                                                                                                              \
        Policy::W, table_words, fill, forward, inverse, row_add, row_sub, row_negate, row_multiply,                \
            row_multiply_add, row_times, row_sub_times, HR_SUMS, row_permute,                                      \
            row_lift, row_of_doubles, row_uniform, row_binomial, row_horner, slots_to_coefficients,                \
            coefficients_to_slots, forward_doubles, forward_words, HR_LIFTED                                       \
    }
