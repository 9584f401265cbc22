// Eight integers of 52 bits, primes below 2^50: Shoup's products with a quotient of 52 bits, as in the scalar policy.
//
// times(x, w) is in [0, 2q) for x below 2^52; forward butterflies keep values below 4q < 2^52, inverse ones below 2q.
//
// Primes below 2^46 are *light*: 64q is below 2^52. Their transforms work modulo 2^52: products read the lowest 52 bits of
// their operands alone, so that what is above them need not be cleared, as long as the number meant is within 52 bits.
// Forward, values grow by 2q a stage and are not reduced, to 33q after 16 stages. Inverse, sums double: from 2q to 16q in
// three stages, at whose end they are reduced; differences have added what they may be short of, 2q to 8q.
struct Policy {
    static constexpr int W = 8;
    static constexpr int STAGES = 3;
    static constexpr int TAIL_WORDS = 2;
    using V = __m512i;
    struct T {
        V w, quotient;
    };
    const Prime &p;
    V q, twice, zero, mask, minus, ones; // minus: 2^52 − q; ones: ⌊2^52/q⌋

    static HR_INLINE V all(u64 x) { return _mm512_set1_epi64((long long)x); }
    HR_INLINE explicit Policy(const Prime &prime)
        : p(prime), q(all(prime.q)), twice(all(2 * prime.q)), zero(_mm512_setzero_si512()), mask(all(((u64)1 << 52) - 1)),
          minus(all(((u64)1 << 52) - prime.q)), ones(all(((u64)1 << 52) / prime.q)) {}

    static HR_INLINE bool light(const Prime &prime, u64) { return prime.q < (u64)1 << 46; }

    static HR_INLINE void entry(const Prime &prime, u64 w, u64 *out, int) {
        out[0] = w;
        out[1] = (u64)(((u128)w << 52) / prime.q);
    }
    static HR_INLINE T twiddle(const u64 *table, u64 i) { return {all(table[2 * i]), all(table[2 * i + 1])}; }
    HR_INLINE T lanes(const u64 *vectors, u64 i) const { return {raw(vectors + 16 * i), raw(vectors + 16 * i + 8)}; }
    HR_INLINE T constant(u64 w) const { return {all(w), all((u64)(((u128)w << 52) / p.q))}; }
    HR_INLINE V raw(const u64 *x) const { return _mm512_load_si512(x); }
    HR_INLINE V load(const u64 *x) const { return raw(x); }
    HR_INLINE void store_raw(u64 *x, V v) const { _mm512_store_si512(x, v); }
    HR_INLINE void store(u64 *x, V v) const { store_raw(x, v); }
    HR_INLINE V less(V x, V bound) const { return _mm512_min_epu64(x, _mm512_sub_epi64(x, bound)); }
    HR_INLINE V high(V a, V b) const { return _mm512_madd52hi_epu64(zero, a, b); }
    // sum + a·b − quotient·q modulo 2^52, in the lowest 52 bits of what may be more
    HR_INLINE V difference_below(V sum, V a, V b, V quotient) const {
        return _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(sum, a, b), quotient, minus);
    }
    HR_INLINE V low_difference(V a, V b, V quotient) const {
        return _mm512_and_si512(difference_below(zero, a, b, quotient), mask);
    }

    HR_INLINE V times_below(V x, T t) const { return difference_below(zero, x, t.w, high(x, t.quotient)); }
    HR_INLINE V times(V x, T t) const { return _mm512_and_si512(times_below(x, t), mask); }
    HR_INLINE V times_exact(V x, T t) const { return less(times(x, t), q); }
    // x modulo q, below 2q, for x below 2^52
    HR_INLINE V reduced_below(V x) const { return _mm512_madd52lo_epu64(x, high(x, ones), minus); }
    HR_INLINE V reduced(V x) const { return less(_mm512_and_si512(reduced_below(x), mask), q); }

    HR_INLINE void forward(V &x, V &y, T t, bool, bool light) const {
        const V a = light ? x : less(x, twice), b = light ? times_below(y, t) : times(y, t);
        x = _mm512_add_epi64(a, b);
        y = _mm512_add_epi64(_mm512_sub_epi64(a, b), twice);
    }
    // At the given stage of a pass, of light primes
    HR_INLINE V difference_at(V y, V x, int stage) const {
        return _mm512_add_epi64(_mm512_sub_epi64(y, x), all(2 * p.q << stage));
    }
    HR_INLINE void inverse(V &x, V &y, T t, bool last, bool light, int stage) const {
        const V sum = _mm512_add_epi64(x, y);
        y = light ? times_below(difference_at(y, x, stage), t) : times(difference_at(y, x, 0), t);
        x = !light ? less(sum, twice) : last ? reduced_below(sum) : sum;
    }
    HR_INLINE void inverse_last(V &x, V &y, T n, T t, bool light, int stage) const {
        const V sum = _mm512_add_epi64(x, y), d = difference_at(y, x, light ? stage : 0);
        x = times_exact(sum, n);
        y = times_exact(d, t);
    }
    HR_INLINE V canonical(V x) const { return less(less(x, twice), q); }
    HR_INLINE V settled(V x, bool light = false) const { return light ? reduced(x) : canonical(x); }
    HR_INLINE void store_settled(u64 *x, V v) const { store(x, v); }
    HR_INLINE void transpose(V (&v)[8]) const {
        V a[8], b[8];
        unroll<4>([&](auto each) HR_INLINED {
            constexpr int k = decltype(each)::value;
            a[2 * k] = _mm512_unpacklo_epi64(v[2 * k], v[2 * k + 1]);
            a[2 * k + 1] = _mm512_unpackhi_epi64(v[2 * k], v[2 * k + 1]);
        });
        unroll<2>([&](auto each) HR_INLINED {
            constexpr int k = 4 * decltype(each)::value;
            b[k] = _mm512_shuffle_i64x2(a[k], a[k + 2], 0x88);
            b[k + 1] = _mm512_shuffle_i64x2(a[k + 1], a[k + 3], 0x88);
            b[k + 2] = _mm512_shuffle_i64x2(a[k], a[k + 2], 0xdd);
            b[k + 3] = _mm512_shuffle_i64x2(a[k + 1], a[k + 3], 0xdd);
        });
        unroll<4>([&](auto each) HR_INLINED {
            constexpr int k = decltype(each)::value;
            v[k] = _mm512_shuffle_i64x2(b[k], b[k + 4], 0x88);
            v[k + 4] = _mm512_shuffle_i64x2(b[k], b[k + 4], 0xdd);
        });
    }

    HR_INLINE V add(V a, V b) const { return less(_mm512_add_epi64(a, b), q); }
    HR_INLINE V difference(V a, V b) const { return _mm512_add_epi64(_mm512_sub_epi64(a, b), q); }
    HR_INLINE V sub(V a, V b) const { return less(difference(a, b), q); }
    // Barrett: h = ⌊a·b / 2^bits⌋, of a shifted to 52 bits; the quotient is at most three short.
    HR_INLINE V multiply(V a, V b) const {
        const V shifted = _mm512_sllv_epi64(a, all(52 - p.bits)), h = high(shifted, b);
        return canonical(low_difference(a, b, high(_mm512_add_epi64(h, h), all(p.barrett52))));
    }

    struct Sum {
        V low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
    };
    static HR_INLINE Sum nothing() { return {}; }
    // ``high`` is below 2^51, at 2^(2·bits − 52) a term, and ``low`` below 2^63, with what was settled before.
    HR_INLINE u64 terms() const { return (u64)1 << (p.bits > 46 ? 103 - 2 * p.bits : 11); }
    HR_INLINE void accumulate(Sum &sum, V a, V b) const {
        sum.low = _mm512_madd52lo_epu64(sum.low, a, b);
        sum.high = _mm512_madd52hi_epu64(sum.high, a, b);
    }
    HR_INLINE void settle(Sum &sum) const {
        sum.low = value(sum);
        sum.high = zero;
    }
    HR_INLINE V value(const Sum &sum) const {
        const V carried = _mm512_add_epi64(sum.high, _mm512_srli_epi64(sum.low, 52));
        const V low = reduced_below(_mm512_and_si512(sum.low, mask));
        const T two52 = constant(p.two52);
        return canonical(_mm512_and_si512(difference_below(low, carried, two52.w, high(carried, two52.quotient)), mask));
    }

    HR_INLINE V centred(V a, const Prime &from) const {
        const __mmask8 above = _mm512_cmpgt_epu64_mask(a, all(from.q / 2));
        const V r = reduced(a);
        return _mm512_mask_blend_epi64(above, r, sub(r, all(from.q % p.q)));
    }
    // Lane i of the result is lane index[i] mod 8.
    static HR_INLINE V shuffle(V v, const u32 *index) {
        return _mm512_permutexvar_epi64(_mm512_cvtepu32_epi64(_mm256_load_si256((const __m256i *)index)), v);
    }
    static HR_INLINE void permute(u64 *out, const u64 *a, const u32 *index) {
        _mm512_store_si512(out, shuffle(_mm512_load_si512(a + (index[0] & ~7u)), index));
    }
    HR_INLINE V residue(__m512d x) const {
        const __mmask8 negative = _mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_LT_OQ);
        const __m512d exponent = _mm512_set1_pd(0x1p52);
        const V size = _mm512_castpd_si512(_mm512_add_pd(_mm512_abs_pd(x), exponent));
        const V r = reduced(_mm512_xor_si512(size, _mm512_castpd_si512(exponent)));
        return _mm512_mask_sub_epi64(r, negative, less(_mm512_sub_epi64(q, r), q), zero);
    }
    HR_INLINE V of_double(const double *x, T two50) const {
        const __m512d v = _mm512_load_pd(x);
        // Most rows are of short integers, without an exception.
        if (_mm512_cmp_pd_mask(_mm512_abs_pd(v), _mm512_set1_pd(0x1p51), _CMP_LT_OQ) == 0xff) return residue(v);
        const __m512d top = _mm512_roundscale_pd(_mm512_mul_pd(v, _mm512_set1_pd(0x1p-50)), 0);
        const __m512d rest = _mm512_fnmadd_pd(top, _mm512_set1_pd(0x1p50), v);
        return add(times_exact(residue(top), two50), residue(rest));
    }
    // A signed word of primes above 2^32.
    HR_INLINE V of_word(const u64 *x, T two32) const {
        const V v = raw(x);
        const __mmask8 negative = _mm512_cmpgt_epu64_mask(v, all(~(u64)0 >> 1));
        const V size = _mm512_mask_sub_epi64(v, negative, zero, v);
        const V rest = _mm512_and_si512(size, all(0xffffffff));
        const V r = add(times_exact(_mm512_srli_epi64(size, 32), two32), rest);
        return _mm512_mask_sub_epi64(r, negative, less(_mm512_sub_epi64(q, r), q), zero);
    }
    HR_INLINE void horner(double *out, const u64 *a, double scale) const {
        const V v = raw(a);
        const __mmask8 above = _mm512_cmpgt_epu64_mask(v, all(p.q / 2));
        const __m512d x = _mm512_cvtepu64_pd(_mm512_mask_sub_epi64(v, above, q, v));
        const __m512d digit = _mm512_mask_sub_pd(x, above, _mm512_setzero_pd(), x);
        _mm512_store_pd(out, _mm512_add_pd(_mm512_mul_pd(_mm512_load_pd(out), _mm512_set1_pd(scale)), digit));
    }
};
