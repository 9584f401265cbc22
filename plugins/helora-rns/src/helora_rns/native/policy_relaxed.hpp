// Two doubles with FMA, for WebAssembly's relaxed vectors: policy_avx2.hpp with half of its lanes, and its bounds. A
// transform has one stage more before its tiles: 12 at N = 8192, so that primes of 49 bits are light to N = 4096.
//
// ``relaxed_madd`` may round twice, where a machine has no FMA, and then everything here is wrong: hr_fused tells.
typedef double Pair __attribute__((vector_size(16)));
typedef i64 Integers __attribute__((vector_size(16)));

struct Policy {
    static constexpr int W = 2;
    static constexpr int STAGES = 2;
    static constexpr int TAIL_WORDS = 1;
    using V = Pair;
    struct T {
        V w, quotient;
    };
    const Prime &p;
    V q, qinv, magic;

    static HR_INLINE V all(double x) { return (V){x, x}; }
    static HR_INLINE V fused(V a, V b, V c) { return __builtin_wasm_relaxed_madd_f64x2(a, b, c); }
    static HR_INLINE V fused_less(V a, V b, V c) { return __builtin_wasm_relaxed_nmadd_f64x2(a, b, c); } // c − a·b
    static HR_INLINE V nearest(V x) { return __builtin_wasm_nearest_f64x2(x); }

    HR_INLINE explicit Policy(const Prime &prime)
        : p(prime), q(all(prime.qd)), qinv(all(prime.qinv)), magic(all(0x1.8p52)) {}

    static HR_INLINE bool light(const Prime &prime, u64 log_n) {
        return prime.q < (u64)1 << 48 || (prime.q < (u64)1 << 49 && log_n <= 12);
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
        return {all(entries[0]), all(entries[1])};
    }
    HR_INLINE T lanes(const u64 *vectors, u64 i) const {
        const V w = *(const V *)(vectors + 2 * i);
        return {w, w * qinv};
    }
    HR_INLINE T constant(u64 w) const {
        const double centred = centred_scalar(p, w);
        return {all(centred), all(centred / p.qd)};
    }
    // Integers below 2^52 become doubles by putting them under the exponent of 2^52, and back.
    static HR_INLINE V of_integers(Integers x) {
        return (V)(x | (i64)0x4330000000000000) - all(0x1p52);
    }
    HR_INLINE V load(const u64 *x) const { return of_integers(*(const Integers *)x); }
    HR_INLINE void store(u64 *x, V v) const { *(Integers *)x = (Integers)(v + all(0x1p52)) ^ (i64)0x4330000000000000; }
    HR_INLINE V raw(const u64 *x) const { return *(const V *)x; }
    HR_INLINE void store_raw(u64 *x, V v) const { *(V *)x = v; }

    HR_INLINE V rounded(V x, V factor) const { return fused(x, factor, magic) - magic; }
    HR_INLINE V reduce(V x) const { return fused_less(rounded(x, qinv), q, x); }
    HR_INLINE V positive(V x) const { return x + (V)((Integers)(x < all(0.0)) & (Integers)q); }
    HR_INLINE V canonical(V x) const { return positive(reduce(x)); }
    HR_INLINE V settled(V x, bool = false) const { return reduce(x); }
    HR_INLINE void store_settled(u64 *x, V v) const { store(x, positive(v)); }
    HR_INLINE V product(V x, V y, V quotient) const {
        const V high = x * y, low = fused(x, y, -high);
        return fused_less(quotient, q, high) + low;
    }
    HR_INLINE V times(V y, T t) const { return product(y, t.w, rounded(y, t.quotient)); }
    HR_INLINE V times_exact(V y, T t) const { return positive(times(y, t)); }

    HR_INLINE void forward(V &x, V &y, T t, bool reduced, bool) const {
        const V a = reduced ? reduce(x) : x, b = times(y, t);
        x = a + b;
        y = a - b;
    }
    HR_INLINE void inverse(V &x, V &y, T t, bool reduced, bool, int) const {
        const V sum = x + y, difference = y - x;
        x = reduced ? reduce(sum) : sum;
        y = times(difference, t);
    }
    HR_INLINE void inverse_last(V &x, V &y, T n, T t, bool, int) const {
        const V sum = x + y, difference = y - x;
        x = canonical(times(sum, n));
        y = canonical(times(difference, t));
    }
    HR_INLINE void transpose(V (&v)[2]) const {
        const V a = __builtin_shufflevector(v[0], v[1], 0, 2);
        v[1] = __builtin_shufflevector(v[0], v[1], 1, 3);
        v[0] = a;
    }

    HR_INLINE V add(V a, V b) const { return positive(a + b - q); }
    HR_INLINE V difference(V a, V b) const { return a - b; }
    HR_INLINE V sub(V a, V b) const { return positive(a - b); }
    // Of canonical operands the quotient is off by ¾ at most, since h/q < 2^50.
    HR_INLINE V multiply(V a, V b) const {
        const V high = a * b, low = fused(a, b, -high);
        return positive(fused_less(rounded(high, qinv), q, high) + low);
    }
    HR_INLINE V centred(V a, const Prime &from) const {
        return reduce(a - (V)((Integers)(a > all(from.qd * 0.5)) & (Integers)all(from.qd)));
    }
    static HR_INLINE void permute(u64 *out, const u64 *a, const u32 *index) {
        out[0] = a[index[0]];
        out[1] = a[index[1]];
    }
    HR_INLINE V of_double(const double *x, T two50) const {
        const V v = *(const V *)x, top = nearest(v * all(0x1p-50));
        return times(top, two50) + reduce(fused_less(top, all(0x1p50), v)); // β is below 1.1
    }
    // A signed word of primes above 2^32: h·2^32 + l, both signed, of which l is below q/2. β is below 1.1.
    HR_INLINE V of_word(const u64 *x, T two32) const {
        const Integers carried = *(const Integers *)x + (i64)0x80000000;
        const Integers low = carried & (i64)0xffffffff, high = (carried >> 32) + (i64)0x80000000;
        return times(of_integers(high) - all(0x1p31), two32) + (of_integers(low) - all(0x1p31));
    }
    HR_INLINE void horner(double *out, const u64 *a, double scale) const {
        const V v = load(a), digit = v - (V)((Integers)(v > all(p.qd * 0.5)) & (Integers)q);
        *(V *)out = *(V *)out * all(scale) + digit;
    }
};
