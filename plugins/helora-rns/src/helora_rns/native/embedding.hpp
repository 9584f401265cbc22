// The complex transform between N/2 coefficients m_k + i·m_(k + N/2) and slots: the same butterflies over complex
// numbers, with powers of ζ = exp(iπ/N). Real and imaginary parts stand apart. Products are written out and nothing is
// fused, so that every kernel set gives the same bits whatever its vectors' width.
#pragma once

static constexpr int LANES = HR_LANES;
typedef double Doubles __attribute__((vector_size(8 * LANES), aligned(8 * LANES)));

struct Complex {
    Doubles re, im;
};

static HR_INLINE Doubles all_of(double x) { return x - Doubles{}; }
static HR_INLINE Complex at(const double *re, const double *im, u64 i) {
    return {*(const Doubles *)(re + i), *(const Doubles *)(im + i)};
}
static HR_INLINE void put(double *re, double *im, u64 i, const Complex &x) {
    *(Doubles *)(re + i) = x.re;
    *(Doubles *)(im + i) = x.im;
}
static HR_INLINE Complex power(const double *powers, u64 half_n, u64 i) {
    return {all_of(powers[i]), all_of(powers[half_n + i])};
}
static HR_INLINE void turn(Complex &x, Complex &y, const Complex &w) {
    const Complex t = {y.re * w.re - y.im * w.im, y.re * w.im + y.im * w.re};
    y = {x.re - t.re, x.im - t.im};
    x = {x.re + t.re, x.im + t.im};
}
static HR_INLINE void turn_back(Complex &x, Complex &y, const Complex &w) {
    const Complex d = {x.re - y.re, x.im - y.im};
    x = {x.re + y.re, x.im + y.im};
    y = {d.re * w.re + d.im * w.im, d.im * w.re - d.re * w.im};
}

// Two stages of four values.
template <bool BACK>
static HR_INLINE void four(Complex (&v)[4], const Complex &w, const Complex &left, const Complex &right) {
    if constexpr (BACK) {
        turn_back(v[0], v[1], left);
        turn_back(v[2], v[3], right);
        turn_back(v[0], v[2], w);
        turn_back(v[1], v[3], w);
    } else {
        turn(v[0], v[2], w);
        turn(v[1], v[3], w);
        turn(v[0], v[1], left);
        turn(v[2], v[3], right);
    }
}

template <bool BACK>
static HR_INLINE void single_stage(u64 half_n, double *re, double *im, const double *powers, u64 groups) {
    const u64 span = half_n / groups / 2;
    for (u64 block = 0; block < groups; block++) {
        const Complex w = power(powers, half_n, groups + block);
        for (u64 i = 2 * span * block; i < 2 * span * block + span; i += LANES) {
            Complex x = at(re, im, i), y = at(re, im, i + span);
            BACK ? turn_back(x, y, w) : turn(x, y, w);
            put(re, im, i, x);
            put(re, im, i + span, y);
        }
    }
}

// Two stages at a time: ``groups`` blocks in the coarser one.
template <bool BACK>
static HR_INLINE void double_stage(u64 half_n, double *re, double *im, const double *powers, u64 groups) {
    const u64 span = half_n / groups / 4;
    for (u64 block = 0; block < groups; block++) {
        const Complex w = power(powers, half_n, groups + block);
        const Complex left = power(powers, half_n, 2 * (groups + block));
        const Complex right = power(powers, half_n, 2 * (groups + block) + 1);
        for (u64 i = 4 * span * block; i < 4 * span * block + span; i += LANES) {
            Complex v[4];
            unroll<4>([&](auto k) HR_INLINED { v[decltype(k)::value] = at(re, im, i + decltype(k)::value * span); });
            four<BACK>(v, w, left, right);
            unroll<4>([&](auto k) HR_INLINED { put(re, im, i + decltype(k)::value * span, v[decltype(k)::value]); });
        }
    }
}

#if HR_LANES == 4
static HR_INLINE void transpose(Doubles (&v)[4]) {
    const Doubles a = __builtin_shufflevector(v[0], v[1], 0, 4, 2, 6), b = __builtin_shufflevector(v[0], v[1], 1, 5, 3, 7);
    const Doubles c = __builtin_shufflevector(v[2], v[3], 0, 4, 2, 6), d = __builtin_shufflevector(v[2], v[3], 1, 5, 3, 7);
    v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    v[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

// The last two stages, in blocks of four: four blocks are transposed, so that lanes are blocks.
template <bool BACK>
static HR_INLINE void last_stages(u64 half_n, double *re, double *im, const double *powers) {
    for (u64 i = 0; i < half_n; i += 16) {
        Doubles r[4], m[4];
        unroll<4>([&](auto k) HR_INLINED {
            const Complex v = at(re, im, i + 4 * decltype(k)::value);
            r[decltype(k)::value] = v.re, m[decltype(k)::value] = v.im;
        });
        transpose(r), transpose(m);
        Complex v[4];
        unroll<4>([&](auto k) HR_INLINED { v[decltype(k)::value] = {r[decltype(k)::value], m[decltype(k)::value]}; });
        const Complex w = at(powers, powers + half_n, half_n / 4 + i / 4);
        const u64 finer = half_n / 2 + i / 2;
        const Complex p = at(powers, powers + half_n, finer), q = at(powers, powers + half_n, finer + 4);
        const Complex left = {__builtin_shufflevector(p.re, q.re, 0, 2, 4, 6),
                              __builtin_shufflevector(p.im, q.im, 0, 2, 4, 6)};
        const Complex right = {__builtin_shufflevector(p.re, q.re, 1, 3, 5, 7),
                               __builtin_shufflevector(p.im, q.im, 1, 3, 5, 7)};
        four<BACK>(v, w, left, right);
        unroll<4>([&](auto k) HR_INLINED {
            r[decltype(k)::value] = v[decltype(k)::value].re, m[decltype(k)::value] = v[decltype(k)::value].im;
        });
        transpose(r), transpose(m);
        unroll<4>([&](auto k) HR_INLINED {
            put(re, im, i + 4 * decltype(k)::value, {r[decltype(k)::value], m[decltype(k)::value]});
        });
    }
}
#elif HR_LANES == 2
// The last two stages, in blocks of four: two blocks are transposed, so that lanes are blocks.
static HR_INLINE Doubles even(const Doubles &a, const Doubles &b) { return __builtin_shufflevector(a, b, 0, 2); }
static HR_INLINE Doubles odd(const Doubles &a, const Doubles &b) { return __builtin_shufflevector(a, b, 1, 3); }

template <bool BACK>
static HR_INLINE void last_stages(u64 half_n, double *re, double *im, const double *powers) {
    for (u64 i = 0; i < half_n; i += 8) {
        Complex v[4];
        unroll<2>([&](auto k) HR_INLINED {
            constexpr int j = 2 * decltype(k)::value;
            const Complex a = at(re, im, i + j), b = at(re, im, i + 4 + j);
            v[j] = {even(a.re, b.re), even(a.im, b.im)};
            v[j + 1] = {odd(a.re, b.re), odd(a.im, b.im)};
        });
        const Complex w = at(powers, powers + half_n, half_n / 4 + i / 4);
        const u64 finer = half_n / 2 + i / 2;
        const Complex p = at(powers, powers + half_n, finer), q = at(powers, powers + half_n, finer + 2);
        four<BACK>(v, w, {even(p.re, q.re), even(p.im, q.im)}, {odd(p.re, q.re), odd(p.im, q.im)});
        unroll<2>([&](auto k) HR_INLINED {
            constexpr int j = 2 * decltype(k)::value;
            put(re, im, i + j, {even(v[j].re, v[j + 1].re), even(v[j].im, v[j + 1].im)});
            put(re, im, i + 4 + j, {odd(v[j].re, v[j + 1].re), odd(v[j].im, v[j + 1].im)});
        });
    }
}
#else
template <bool BACK>
static HR_INLINE void last_stages(u64 half_n, double *re, double *im, const double *powers) {
    double_stage<BACK>(half_n, re, im, powers, half_n / 4);
}
#endif

// ``half_n`` is 16 at least; stages that are left over come first, or last on the way back.
static HR_INLINE void embed(u64 half_n, double *re, double *im, const double *powers) {
    u64 groups = 1;
    if (__builtin_ctzll(half_n) & 1) single_stage<false>(half_n, re, im, powers, groups), groups = 2;
    for (; groups < half_n / 4; groups *= 4) double_stage<false>(half_n, re, im, powers, groups);
    last_stages<false>(half_n, re, im, powers);
}

static HR_INLINE void unembed(u64 half_n, double *re, double *im, const double *powers) {
    u64 groups = half_n / 4;
    last_stages<true>(half_n, re, im, powers);
    for (; groups >= 4; groups /= 4) double_stage<true>(half_n, re, im, powers, groups / 4);
    if (groups == 2) single_stage<true>(half_n, re, im, powers, 1);
}

// Integers next to doubles, halves to even ones: what adding 2^52 does to doubles below it, and others are integers.
static HR_INLINE double rounded_to_integer(double x) {
    const double anchor = x < 0 ? -0x1p52 : 0x1p52, sum = x + anchor;
    return x < 0x1p52 && x > -0x1p52 ? sum - anchor : x;
}

static void slots_to_coefficients(u64 half_n, double *out, const double *slots, u64 count, u64 parts, const u32 *places,
                                  const double *powers, double factor) {
    double *im = out + half_n;
    for (u64 i = 0; i < 2 * half_n; i++) out[i] = 0.0;
    for (u64 j = 0; j < count; j++) out[places[j]] = slots[parts * j];
    for (u64 j = 0; parts == 2 && j < count; j++) im[places[j]] = slots[2 * j + 1];
    unembed(half_n, out, im, powers);
    for (u64 i = 0; i < 2 * half_n; i++) out[i] = rounded_to_integer(out[i] * factor);
}

static void coefficients_to_slots(u64 half_n, double *out, double *coefficients, const u32 *places, const double *powers,
                                  double factor) {
    embed(half_n, coefficients, coefficients + half_n, powers);
    for (u64 j = 0; j < half_n; j++) {
        out[2 * j] = coefficients[places[j]] * factor;
        out[2 * j + 1] = coefficients[half_n + places[j]] * factor;
    }
}
