// Four doubles with FMA, primes below 2^50. Values are integers, held exactly: below 2^53 in size.
//
// times(y, w) = y·w − q·rint(y·w/q), from the product's two halves h = fl(y·w) and l = y·w − h (exact by FMA). Twiddles
// are centred, |w| ≤ q/2. The quotient comes of y·fl(w/q), rounded by adding 1.5·2^52, which needs |y·w/q| ≤ 2^51, that
// is |y| ≤ 2^52; it is off by ½ + |y|·2^−54 at most. With β for |y|/q the result is below ½ + β·q/2^54 in the same unit:
// ½ + β/16 for primes of 50 bits and ½ + β/32 for those of 49. (A tile's quotients are y·fl(w·fl(1/q)): twice the error.)
//
// Forward, x ± times(y, w) grows by that each stage, from β = 1. Primes below 2^49 (β ≤ 8 is allowed) take 11 stages
// without a reduction: 1, 1.53, 2.08, … 7.85; those below 2^48 (β ≤ 16) take 15, to 9.7. One reduction follows, of x in
// a tile's first stage, and two stages: at most 2.1. Primes of 50 bits (β ≤ 4) reduce x in the first of every two
// stages: with b for what comes in, 1 + b/16, then 17/16·β + ½, which keeps b below 1.7, and a tile's end below 2.
//
// Inverse, (x + y, (y − x)·w) doubles the sums. They are reduced in the second of every two stages: sums of 1, 2,
// differences of 2, 4; and what comes out is at most 1 again.
//
// Two stages at a time, not three: what limits it is how many operations wait for their operands, and four vectors leave
// registers for their twiddles.
struct Policy {
    static constexpr int W = 4;
    static constexpr int STAGES = 2;
    static constexpr int TAIL_WORDS = 1;
    using V = __m256d;
    struct T {
        V w, quotient;
    };
    const Prime &p;
    V q, qinv, magic;

    HR_INLINE explicit Policy(const Prime &prime)
        : p(prime), q(_mm256_set1_pd(prime.qd)), qinv(_mm256_set1_pd(prime.qinv)), magic(_mm256_set1_pd(0x1.8p52)) {}

    static HR_INLINE bool light(const Prime &prime, u64 log_n) {
        return prime.q < (u64)1 << 48 || (prime.q < (u64)1 << 49 && log_n <= 13);
    }
    static HR_INLINE double centred_scalar(const Prime &prime, u64 w) {
        return w > prime.q / 2 ? -(double)(prime.q - w) : (double)w;
    }
    static HR_INLINE void entry(const Prime &prime, u64 w, u64 *out, int) {
        const double centred = centred_scalar(prime, w), quotient = centred / prime.qd;
        __builtin_memcpy(out, &centred, 8);
        __builtin_memcpy(out + 1, &quotient, 8);
    }
    static HR_INLINE T twiddle(const u64 *table, u64 i) {
        const double *entries = (const double *)table + 2 * i;
        return {_mm256_broadcast_sd(entries), _mm256_broadcast_sd(entries + 1)};
    }
    HR_INLINE T lanes(const u64 *vectors, u64 i) const {
        const V w = _mm256_load_pd((const double *)vectors + 4 * i);
        return {w, _mm256_mul_pd(w, qinv)};
    }
    HR_INLINE T constant(u64 w) const {
        const double centred = centred_scalar(p, w);
        return {_mm256_set1_pd(centred), _mm256_set1_pd(centred / p.qd)};
    }
    // Integers below 2^52 become doubles by putting them under the exponent of 2^52, and back.
    static HR_INLINE V of_integers(__m256i x) {
        const __m256i exponent = _mm256_set1_epi64x(0x4330000000000000);
        return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(x, exponent)), _mm256_castsi256_pd(exponent));
    }
    HR_INLINE V load(const u64 *x) const { return of_integers(_mm256_load_si256((const __m256i *)x)); }
    HR_INLINE void store(u64 *x, V v) const {
        const __m256d exponent = _mm256_castsi256_pd(_mm256_set1_epi64x(0x4330000000000000));
        _mm256_store_pd((double *)x, _mm256_xor_pd(_mm256_add_pd(v, exponent), exponent));
    }
    HR_INLINE V raw(const u64 *x) const { return _mm256_load_pd((const double *)x); }
    HR_INLINE void store_raw(u64 *x, V v) const { _mm256_store_pd((double *)x, v); }

    HR_INLINE V rounded(V x, V factor) const { return _mm256_sub_pd(_mm256_fmadd_pd(x, factor, magic), magic); }
    HR_INLINE V reduce(V x) const { return _mm256_fnmadd_pd(rounded(x, qinv), q, x); }
    HR_INLINE V positive(V x) const { return _mm256_blendv_pd(x, _mm256_add_pd(x, q), x); }
    HR_INLINE V canonical(V x) const { return positive(reduce(x)); }
    HR_INLINE V settled(V x, bool = false) const { return reduce(x); }
    HR_INLINE void store_settled(u64 *x, V v) const { store(x, positive(v)); }
    HR_INLINE V product(V x, V y, V quotient) const {
        const V high = _mm256_mul_pd(x, y), low = _mm256_fmsub_pd(x, y, high);
        return _mm256_add_pd(_mm256_fnmadd_pd(quotient, q, high), low);
    }
    HR_INLINE V times(V y, T t) const { return product(y, t.w, rounded(y, t.quotient)); }
    HR_INLINE V times_exact(V y, T t) const { return positive(times(y, t)); }

    HR_INLINE void forward(V &x, V &y, T t, bool reduced, bool) const {
        const V a = reduced ? reduce(x) : x, b = times(y, t);
        x = _mm256_add_pd(a, b);
        y = _mm256_sub_pd(a, b);
    }
    HR_INLINE void inverse(V &x, V &y, T t, bool reduced, bool, int) const {
        const V sum = _mm256_add_pd(x, y), difference = _mm256_sub_pd(y, x);
        x = reduced ? reduce(sum) : sum;
        y = times(difference, t);
    }
    HR_INLINE void inverse_last(V &x, V &y, T n, T t, bool, int) const {
        const V sum = _mm256_add_pd(x, y), difference = _mm256_sub_pd(y, x);
        x = canonical(times(sum, n));
        y = canonical(times(difference, t));
    }
    HR_INLINE void transpose(V (&v)[4]) const {
        const V a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
        const V c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
        v[0] = _mm256_permute2f128_pd(a, c, 0x20);
        v[1] = _mm256_permute2f128_pd(b, d, 0x20);
        v[2] = _mm256_permute2f128_pd(a, c, 0x31);
        v[3] = _mm256_permute2f128_pd(b, d, 0x31);
    }

    HR_INLINE V add(V a, V b) const { return positive(_mm256_sub_pd(_mm256_add_pd(a, b), q)); }
    HR_INLINE V difference(V a, V b) const { return _mm256_sub_pd(a, b); }
    HR_INLINE V sub(V a, V b) const { return positive(difference(a, b)); }
    // Of canonical operands the quotient is off by ¾ at most, since h/q < 2^50.
    HR_INLINE V multiply_lazily(V a, V b) const {
        const V high = _mm256_mul_pd(a, b), low = _mm256_fmsub_pd(a, b, high);
        return _mm256_add_pd(_mm256_fnmadd_pd(rounded(high, qinv), q, high), low);
    }
    HR_INLINE V multiply(V a, V b) const { return positive(multiply_lazily(a, b)); }

    // A sum of products below q² in two parts. ``high`` is kept around 1.5·2^(52 + e), where doubles are multiples of 2^e:
    // a product is added to it rounded to such a multiple, and what was rounded away, 2^(e − 1) at most, to ``low``.
    // For 2^t terms of primes of b bits e is 2b + t − 51, so that ``high`` keeps its exponent, and ``low`` is exact
    // below 2^53 if t + e − 1 ≤ 52: t = 52 − b, which is 4 terms for the longest primes and 1024 for those of 42 bits.
    struct Sum {
        V high, low;
    };
    HR_INLINE u64 terms() const { return (u64)1 << (p.bits > 42 ? 52 - p.bits : 10); }
    HR_INLINE V around() const {
        const i64 e = 2 * (i64)p.bits + (p.bits > 42 ? 52 - (i64)p.bits : 10) - 51;
        const u64 exponent = (u64)(1023 + 52 + (e > 0 ? e : 0)) << 52 | (u64)1 << 51;
        return _mm256_castsi256_pd(_mm256_set1_epi64x((long long)exponent));
    }
    HR_INLINE Sum nothing() const { return {around(), _mm256_setzero_pd()}; }
    HR_INLINE void accumulate(Sum &sum, V a, V b) const {
        const V before = sum.high;
        sum.high = _mm256_fmadd_pd(a, b, before);
        sum.low = _mm256_add_pd(sum.low, _mm256_fmsub_pd(a, b, _mm256_sub_pd(sum.high, before)));
    }
    HR_INLINE void settle(Sum &sum) const { sum = {around(), value(sum)}; }
    // The quotient of ``high`` is off by 1.5 at most, and what is left and ``low`` are together below 2^53.
    HR_INLINE V value(const Sum &sum) const {
        const V high = _mm256_sub_pd(sum.high, around());
        const V quotient = _mm256_round_pd(_mm256_mul_pd(high, qinv), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        return canonical(_mm256_add_pd(_mm256_fnmadd_pd(quotient, q, high), sum.low));
    }

    HR_INLINE V centred(V a, const Prime &from) const {
        const V above = _mm256_cmp_pd(a, _mm256_set1_pd(from.qd * 0.5), _CMP_GT_OQ);
        return reduce(_mm256_sub_pd(a, _mm256_and_pd(above, _mm256_set1_pd(from.qd))));
    }
    // Lane i of the result is lane index[i] mod 4.
    static HR_INLINE V shuffle(V v, const u32 *index) {
        const __m128i sources = _mm_and_si128(_mm_load_si128((const __m128i *)index), _mm_set1_epi32(3));
        const __m256i doubled = _mm256_slli_epi64(_mm256_cvtepu32_epi64(sources), 1);
        const __m256i odd = _mm256_add_epi64(doubled, _mm256_set1_epi64x(1));
        const __m256i control = _mm256_or_si256(doubled, _mm256_slli_epi64(odd, 32));
        return _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(_mm256_castpd_si256(v), control));
    }
    static HR_INLINE void permute(u64 *out, const u64 *a, const u32 *index) {
        const u64 *group = a + (index[0] & ~3u);
        _mm256_store_pd((double *)out, shuffle(_mm256_load_pd((const double *)group), index));
    }
    HR_INLINE V of_double(const double *x, T two50) const {
        const V v = _mm256_load_pd(x), scaled = _mm256_mul_pd(v, _mm256_set1_pd(0x1p-50));
        const V top = _mm256_round_pd(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const V rest = _mm256_fnmadd_pd(top, _mm256_set1_pd(0x1p50), v);
        return _mm256_add_pd(times(top, two50), reduce(rest)); // β is below 1.1
    }
    // A signed word of primes above 2^32: h·2^32 + l, both signed, of which l is below q/2. β is below 1.1.
    HR_INLINE V of_word(const u64 *x, T two32) const {
        const __m256i carried = _mm256_add_epi64(_mm256_load_si256((const __m256i *)x), _mm256_set1_epi64x(0x80000000));
        const __m256i low = _mm256_and_si256(carried, _mm256_set1_epi64x(0xffffffff));
        const __m256i high = _mm256_xor_si256(_mm256_srli_epi64(carried, 32), _mm256_set1_epi64x(0x80000000));
        const V half = _mm256_set1_pd(0x1p31);
        const V top = _mm256_sub_pd(of_integers(high), half), rest = _mm256_sub_pd(of_integers(low), half);
        return _mm256_add_pd(times(top, two32), rest);
    }
    HR_INLINE void horner(double *out, const u64 *a, double scale) const {
        const V v = load(a), above = _mm256_cmp_pd(v, _mm256_set1_pd(p.qd * 0.5), _CMP_GT_OQ);
        const V digit = _mm256_sub_pd(v, _mm256_and_pd(above, q));
        _mm256_store_pd(out, _mm256_add_pd(_mm256_mul_pd(_mm256_load_pd(out), _mm256_set1_pd(scale)), digit));
    }
};
