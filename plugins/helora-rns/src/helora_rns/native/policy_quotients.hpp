// Signed integers of 64 bits, HR_LANES of them, with quotients in doubles, and no FMA: for WebAssembly's plain vectors and
// scalars, primes below 2^50. Values are below 2^51 in size, which doubles under the exponent of 2^52 hold.
//
// times(y, w) = y·w − q·k modulo 2^64, k the integer next to fl(y·fl(w/q)), |w| ≤ q/2: off by ½ + |y|·2^−53 at most. With β
// for |y|/q the result is below ½ + β·q/2^53 in the same unit: ½ + β/8 for primes of 50 bits, ½ + β/64 for those of 47.
//
// Forward, x ± times(y, w) grows by that each stage, from β = 1. Primes below 2^47 (β ≤ 16 is allowed) take 16 stages
// without a reduction, to 10.4; those below 2^48 (β ≤ 8) take 11. The others reduce x in the first of every two stages:
// with b for what comes in, 1 + b/8, then 9/8·β + ½, which keeps b below 1.9, and the longest primes allow 2.
//
// Inverse, (x + y, (y − x)·w) doubles the sums. Light primes reduce them in the second of every two stages: sums of 1, 2,
// differences of 2, 4. The others reduce every sum.
#if HR_LANES == 1
typedef double Reals;
typedef i64 Integers;
#else
typedef double Reals __attribute__((vector_size(8 * HR_LANES)));
typedef i64 Integers __attribute__((vector_size(8 * HR_LANES)));
#endif

struct Policy {
    static constexpr int W = HR_LANES;
    static constexpr int STAGES = 2;
    static constexpr int TAIL_WORDS = 2;
    using V = Integers;
    struct T {
        V w;
        Reals quotient;
    };
    static constexpr double MAGIC = 0x1.8p52;
    static constexpr i64 UNDER = 0x4338000000000000; // its bits
    const Prime &p;
    V q;
    Reals qinv;

    static HR_INLINE V all(i64 x) { return x - V{}; }
    static HR_INLINE Reals all(double x) { return x - Reals{}; }
    static HR_INLINE V bits(Reals x) {
        V out;
        __builtin_memcpy(&out, &x, sizeof out);
        return out;
    }
    static HR_INLINE Reals reals(V x) {
        Reals out;
        __builtin_memcpy(&out, &x, sizeof out);
        return out;
    }
#if HR_LANES == 1
    static HR_INLINE V where(bool condition, V x) { return condition ? x : 0; }
    static HR_INLINE Reals to_reals(V x) { return (double)x; }
#else
    static HR_INLINE V where(V condition, V x) { return condition & x; }
    static HR_INLINE Reals to_reals(V x) { return reals(x + UNDER) - MAGIC; }
#endif
    // The integer next to a double below 2^51.
    static HR_INLINE V nearest(Reals x) { return bits(x + MAGIC) - UNDER; }

    HR_INLINE explicit Policy(const Prime &prime) : p(prime), q(all((i64)prime.q)), qinv(all(prime.qinv)) {}

    static HR_INLINE bool light(const Prime &prime, u64 log_n) {
        return prime.q < (u64)1 << 47 || (prime.q < (u64)1 << 48 && log_n < (u64)(12 + W / 2));
    }
    static HR_INLINE i64 centred_scalar(const Prime &prime, u64 w) {
        return w > prime.q / 2 ? (i64)(w - prime.q) : (i64)w;
    }
    static HR_INLINE void entry(const Prime &prime, u64 w, u64 *out, int) {
        const i64 centred = centred_scalar(prime, w);
        const double quotient = (double)centred / prime.qd;
        __builtin_memcpy(out, &centred, 8);
        __builtin_memcpy(out + 1, &quotient, 8);
    }
    static HR_INLINE T twiddle(const u64 *table, u64 i) {
        return {all((i64)table[2 * i]), all(((const double *)table)[2 * i + 1])};
    }
    HR_INLINE T lanes(const u64 *vectors, u64 i) const {
        return {*(const V *)(vectors + 2 * W * i), *(const Reals *)(vectors + 2 * W * i + W)};
    }
    HR_INLINE T constant(u64 w) const {
        const i64 centred = centred_scalar(p, w);
        return {all(centred), all((double)centred / p.qd)};
    }
    HR_INLINE V load(const u64 *x) const { return *(const V *)x; }
    HR_INLINE void store(u64 *x, V v) const { *(V *)x = v; }
    HR_INLINE V raw(const u64 *x) const { return load(x); }
    HR_INLINE void store_raw(u64 *x, V v) const { store(x, v); }

    HR_INLINE V reduce(V x) const { return x - nearest(to_reals(x) * qinv) * q; }
    HR_INLINE V positive(V x) const { return x + where(x < 0, q); }
    HR_INLINE V canonical(V x) const { return positive(reduce(x)); }
    HR_INLINE V settled(V x, bool = false) const { return reduce(x); }
    HR_INLINE void store_settled(u64 *x, V v) const { store(x, positive(v)); }
    HR_INLINE V times(V y, T t) const { return y * t.w - nearest(to_reals(y) * t.quotient) * q; }
    HR_INLINE V times_exact(V y, T t) const { return positive(times(y, t)); }

    HR_INLINE void forward(V &x, V &y, T t, bool reduced, bool) const {
        const V a = reduced ? reduce(x) : x, b = times(y, t);
        x = a + b;
        y = a - b;
    }
    HR_INLINE void inverse(V &x, V &y, T t, bool reduced, bool light, int) const {
        const V sum = x + y, difference = y - x;
        x = reduced || !light ? reduce(sum) : sum;
        y = times(difference, t);
    }
    HR_INLINE void inverse_last(V &x, V &y, T n, T t, bool, int) const {
        const V sum = x + y, difference = y - x;
        x = canonical(times(sum, n));
        y = canonical(times(difference, t));
    }
    HR_INLINE void transpose(V (&v)[W]) const {
#if HR_LANES == 2
        const V a = __builtin_shufflevector(v[0], v[1], 0, 2);
        v[1] = __builtin_shufflevector(v[0], v[1], 1, 3);
        v[0] = a;
#else
        (void)v;
#endif
    }

    HR_INLINE V add(V a, V b) const { return positive(a + b - q); }
    HR_INLINE V difference(V a, V b) const { return a - b; }
    HR_INLINE V sub(V a, V b) const { return positive(a - b); }
    // Of canonical operands: three roundings of a quotient below 2^50 leave it less than one off.
    HR_INLINE V multiply(V a, V b) const {
        return positive(a * b - nearest(to_reals(a) * to_reals(b) * qinv) * q);
    }
    HR_INLINE V centred(V a, const Prime &from) const {
        return reduce(a - where(a > (i64)(from.q / 2), all((i64)from.q)));
    }
    static HR_INLINE void permute(u64 *out, const u64 *a, const u32 *index) {
        for (int lane = 0; lane < W; lane++) out[lane] = a[index[lane]];
    }
    HR_INLINE V of_double(const double *x, T two50) const {
        // Both parts are exact: a double has 53 bits, and |x| < 2^99. The sum is below 1.1·q in size.
        const Reals v = *(const Reals *)x;
        const V top = nearest(v * 0x1p-50);
        return times(top, two50) + reduce(nearest(v - to_reals(top) * 0x1p50));
    }
    // A signed word of primes above 2^32: h·2^32 + l, both signed, of which l is below q/2.
    HR_INLINE V of_word(const u64 *x, T two32) const {
        const V carried = *(const V *)x + (i64)0x80000000;
        return times(carried >> 32, two32) + ((carried & (i64)0xffffffff) - (i64)0x80000000);
    }
    HR_INLINE void horner(double *out, const u64 *a, double scale) const {
        const V v = load(a);
        *(Reals *)out = *(Reals *)out * scale + to_reals(v - where(v > (i64)(p.q / 2), q));
    }
};
