// One residue at a time, primes below 2^61: Shoup's products with a quotient of 64 bits, lazily reduced.
//
// times(x, w) is in [0, 2q) for any x. Forward butterflies keep values below 4q, inverse ones below 2q (Harvey, J.
// Symbolic Computation 60 (2014)), so that 4q < 2^63 never overflows.
struct Policy {
    static constexpr int W = 1;
    static constexpr int STAGES = 3;
    static constexpr int TAIL_WORDS = 2;
    using V = u64;
    struct T {
        u64 w, quotient;
    };
    const Prime &p;
    u64 q, twice;

    HR_INLINE explicit Policy(const Prime &prime) : p(prime), q(prime.q), twice(2 * prime.q) {}

    static HR_INLINE bool light(const Prime &, u64) { return false; }
    static HR_INLINE void entry(const Prime &prime, u64 w, u64 *out, int) {
        out[0] = w;
        out[1] = (u64)(((u128)w << 64) / prime.q);
    }
    static HR_INLINE T twiddle(const u64 *table, u64 i) { return {table[2 * i], table[2 * i + 1]}; }
    HR_INLINE T lanes(const u64 *vectors, u64 i) const { return twiddle(vectors, i); }
    HR_INLINE T constant(u64 w) const {
        u64 both[2];
        entry(p, w, both, 0);
        return twiddle(both, 0);
    }
    HR_INLINE V load(const u64 *x) const { return *x; }
    HR_INLINE void store(u64 *x, V v) const { *x = v; }
    HR_INLINE V raw(const u64 *x) const { return *x; }
    HR_INLINE void store_raw(u64 *x, V v) const { *x = v; }
    HR_INLINE V less(V x, u64 bound) const { return x >= bound ? x - bound : x; }

    HR_INLINE V times(V x, T t) const { return x * t.w - high64(x, t.quotient) * q; }
    HR_INLINE V times_exact(V x, T t) const { return less(times(x, t), q); }
    HR_INLINE void forward(V &x, V &y, T t, bool, bool) const {
        V a = less(x, twice), b = times(y, t);
        x = a + b;
        y = a - b + twice;
    }
    HR_INLINE void inverse(V &x, V &y, T t, bool, bool, int) const {
        V sum = less(x + y, twice), difference = y - x + twice;
        x = sum;
        y = times(difference, t);
    }
    HR_INLINE void inverse_last(V &x, V &y, T n, T t, bool, int) const {
        V sum = x + y, difference = y - x + twice;
        x = times_exact(sum, n);
        y = times_exact(difference, t);
    }
    HR_INLINE void transpose(V (&)[1]) const {}
    HR_INLINE V canonical(V x) const { return less(less(x, twice), q); }
    HR_INLINE V settled(V x, bool = false) const { return canonical(x); }
    HR_INLINE void store_settled(u64 *x, V v) const { store(x, v); }

    HR_INLINE V add(V a, V b) const { return less(a + b, q); }
    HR_INLINE V sub(V a, V b) const { return a >= b ? a - b : a - b + q; }
    HR_INLINE V difference(V a, V b) const { return a - b + q; }
    HR_INLINE V wide_product(u128 c) const {
        // The quotient is at most two short: h and the constant are each rounded down.
        u64 h = (u64)(c >> (p.bits - 1));
        return less(less((u64)c - high64(h, p.barrett) * q, twice), q);
    }
    HR_INLINE V multiply(V a, V b) const { return wide_product((u128)a * b); }

    struct Sum {
        V value = 0;
    };
    HR_INLINE void accumulate(Sum &sum, V a, V b) const { sum.value = add(sum.value, multiply(a, b)); }
    static HR_INLINE Sum nothing() { return {}; }
    static HR_INLINE u64 terms() { return (u64)1 << 20; }
    HR_INLINE void settle(Sum &) const {}
    HR_INLINE V value(const Sum &sum) const { return sum.value; }

    HR_INLINE V centred(V a, const Prime &from) const {
        // a mod q, less ``from`` where a is above half of it
        u64 r = wide_product(a), f = wide_product(from.q);
        return a > from.q / 2 ? sub(r, f) : r;
    }
    struct Permutation {
        u32 source;
    };
    static HR_INLINE void permute(u64 *out, const u64 *a, const u32 *index) { *out = a[*index]; }
    static HR_INLINE V shuffle(V v, const u32 *) { return v; }

    HR_INLINE V of_double(const double *x, T two50) const {
        // Both parts are exact: a double has 53 bits, and |x| < 2^99.
        double top = __builtin_trunc(*x * 0x1p-50), rest = *x - top * 0x1p50;
        u64 t = residue((i64)top), r = residue((i64)rest);
        return add(times_exact(t, two50), r);
    }
    HR_INLINE V of_word(const u64 *x, T) const { return residue((i64)*x); }
    HR_INLINE u64 residue(i64 x) const {
        u64 r = wide_product(x < 0 ? 0 - (u64)x : (u64)x);
        return x < 0 && r ? q - r : r;
    }
    HR_INLINE void horner(double *out, const u64 *a, double scale) const {
        double digit = *a > q / 2 ? -(double)(q - *a) : (double)*a;
        *out = *out * scale + digit;
    }
};
