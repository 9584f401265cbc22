// The negacyclic number-theoretic transform: one template, of which each policy makes its kernel.
//
// Forward: Cooley and Tukey's butterflies with powers of ψ in bit-reversed order, from coefficients to values, value i
// at ψ^(2·rev(i) + 1). The stages go two or three at a time, whose four or eight vectors stay in registers, until blocks
// are W long. W of them make a tile, which is transposed, finished across its vectors, and transposed back. Inverse: the
// same backwards. The inverse power for block i of G is minus the forward one for block G − 1 − i, so that one table
// serves both; the lanes of a tile's vectors are mirrored by loading its rows in reverse.
#pragma once

static constexpr int log2_of(int w) { return w <= 1 ? 0 : 1 + log2_of(w / 2); }

static constexpr int LOG_W = log2_of(Policy::W);
static constexpr int TILE = Policy::W * Policy::W;

// Vectors of twiddles that a tile needs after its transposition: 1 + 2 + … + W/2.
static constexpr int TAIL_VECTORS = Policy::W - 1;

static u64 table_words(u64 n) {
    return 2 * (n / Policy::W) + (n / TILE) * TAIL_VECTORS * Policy::W * Policy::TAIL_WORDS + 8;
}

static void fill(const Ring *ring, Prime *p, const u64 *powers, u64 *table) {
    const int W = Policy::W;
    const u64 n = ring->n;
    p->light = Policy::light(*p, ring->log_n);
    p->block = table;
    for (u64 i = 0; i < n / W; i++) Policy::entry(*p, powers[i], table + 2 * i, 0);
    u64 *tail = table + 2 * (n / W);
    tail += (8 - ((u64)(tail - table) & 7)) & 7;
    p->tail = tail;
    for (u64 tile = 0; tile < n / TILE; tile++) {
        for (int s = W / 2; s >= 1; s /= 2) {
            for (int j = 0; j < W / (2 * s); j++) {
                u64 both[2];
                for (int lane = 0; lane < W; lane++) {
                    u64 block = tile * (TILE / (2 * s)) + (u64)lane * (W / (2 * s)) + j;
                    Policy::entry(*p, powers[n / (2 * s) + block], both, 0);
                    for (int word = 0; word < Policy::TAIL_WORDS; word++) tail[word * W + lane] = both[word];
                }
                tail += Policy::TAIL_WORDS * W;
            }
        }
    }
}

// R stages from ``groups`` blocks on. ``load(at)`` gives the values that come in, and what goes out is stored raw in x.
template <int R, bool LIGHT, class Load>
static HR_INLINE void forward_pass(const Policy &f, const Prime &p, Load load, u64 *x, u64 n, u64 groups) {
    constexpr int COUNT = 1 << R;
    const u64 length = n / groups, step = length >> R;
    for (u64 block = 0; block < groups; block++) {
        Policy::T t[COUNT - 1];
        unroll<R>([&](auto stage) HR_INLINED {
            constexpr int a = decltype(stage)::value;
            unroll<(1 << a)>([&](auto each) HR_INLINED {
                constexpr int k = decltype(each)::value;
                t[(1 << a) - 1 + k] = Policy::twiddle(p.block, ((groups + block) << a) + k);
            });
        });
        for (u64 i = block * length; i < block * length + step; i += Policy::W) {
            Policy::V v[COUNT];
            unroll<COUNT>([&](auto each) HR_INLINED { v[decltype(each)::value] = load(i + decltype(each)::value * step); });
            unroll<R>([&](auto stage) HR_INLINED {
                constexpr int a = decltype(stage)::value, span = COUNT >> (a + 1);
                unroll<COUNT / 2>([&](auto each) HR_INLINED {
                    constexpr int k = decltype(each)::value, b = k / span, low = 2 * span * b + k % span;
                    f.forward(v[low], v[low + span], t[(1 << a) - 1 + b], a == 0 && !LIGHT, LIGHT);
                });
            });
            unroll<COUNT>([&](auto each) HR_INLINED {
                constexpr int k = decltype(each)::value;
                f.store_raw(x + i + k * step, v[k]);
            });
        }
    }
}

// The last log W stages of a tile. ``store(at, v)`` takes them settled: less than q in size.
template <bool LIGHT, class Store>
static HR_INLINE void forward_tile(const Policy &f, const Prime &p, u64 *x, u64 tile, Store store) {
    constexpr int W = Policy::W;
    Policy::V v[W];
    unroll<W>([&](auto each) HR_INLINED { v[decltype(each)::value] = f.raw(x + tile * TILE + decltype(each)::value * W); });
    f.transpose(v);
    const u64 *tail = p.tail + tile * (TAIL_VECTORS * W * Policy::TAIL_WORDS);
    unroll<LOG_W>([&](auto stage) HR_INLINED {
        constexpr int a = decltype(stage)::value, span = W >> (a + 1);
        unroll<(1 << a)>([&](auto block) HR_INLINED {
            constexpr int b = decltype(block)::value;
            const auto t = f.lanes(tail, (1 << a) - 1 + b);
            unroll<span>([&](auto each) HR_INLINED {
                constexpr int low = 2 * span * b + decltype(each)::value;
                f.forward(v[low], v[low + span], t, a == 0, LIGHT);
            });
        });
    });
    f.transpose(v);
    unroll<W>([&](auto each) HR_INLINED {
        constexpr int k = decltype(each)::value;
        store(tile * TILE + k * W, f.settled(v[k], LIGHT));
    });
}

// Stages that are left over come first, or last in the inverse.
static HR_INLINE int stages_of(const Ring *ring) { return (int)ring->log_n - LOG_W; }
static HR_INLINE int odd_stages(int stages) { return stages % Policy::STAGES ? stages % Policy::STAGES : Policy::STAGES; }

#if defined(HR_CLIENT)
// All that comes after the first pass, which is where transforms differ: pages have this code once.
template <bool LIGHT>
__attribute__((noinline)) static void forward_rest(const Ring *ring, const Prime &p, u64 *x, int done) {
    constexpr int R = Policy::STAGES;
    const Policy f(p);
    const u64 n = ring->n;
    for (const int stages = stages_of(ring); done < stages; done += R)
        forward_pass<R, LIGHT>(f, p, [&](u64 at) HR_INLINED { return f.raw(x + at); }, x, n, (u64)1 << done);
    for (u64 tile = 0; tile < n / TILE; tile++)
        forward_tile<LIGHT>(f, p, x, tile, [&](u64 at, auto v) HR_INLINED { f.store_settled(x + at, v); });
}
#endif

template <bool LIGHT, class Load, class Store>
static HR_INLINE void forward_all(const Ring *ring, const Policy &f, const Prime &p, u64 *x, Load load, Store store) {
    constexpr int R = Policy::STAGES;
    const u64 n = ring->n;
    const int stages = stages_of(ring), first = odd_stages(stages);
    if (first == R) forward_pass<R, LIGHT>(f, p, load, x, n, 1);
    if (R > 1 && first == R - 1) forward_pass<(R > 1 ? R - 1 : 1), LIGHT>(f, p, load, x, n, 1);
    if (R > 2 && first == R - 2) forward_pass<(R > 2 ? R - 2 : 1), LIGHT>(f, p, load, x, n, 1);
#if defined(HR_CLIENT)
    forward_rest<LIGHT>(ring, p, x, first);
    (void)store;
#else
    for (int done = first; done < stages; done += R)
        forward_pass<R, LIGHT>(f, p, [&](u64 at) HR_INLINED { return f.raw(x + at); }, x, n, (u64)1 << done);
    for (u64 tile = 0; tile < n / TILE; tile++) forward_tile<LIGHT>(f, p, x, tile, store);
#endif
}

template <class Load, class Store>
static HR_INLINE void forward_by(const Ring *ring, const Policy &f, const Prime &p, u64 *x, Load load, Store store) {
    if (p.light)
        forward_all<true>(ring, f, p, x, load, store);
    else
        forward_all<false>(ring, f, p, x, load, store);
}

static void forward(const Ring *ring, const Prime *p, u64 *x) {
    const Policy f(*p);
    forward_by(ring, f, *p, x, [&](u64 at) HR_INLINED { return f.load(x + at); }, [&](u64 at, auto v) HR_INLINED { f.store_settled(x + at, v); });
}

// Coefficients that are integers in doubles, as values.
static void forward_doubles(const Ring *ring, const Prime *p, u64 *x, const double *a) {
    const Policy f(*p);
    const auto two50 = f.constant(((u64)1 << 50) % p->q);
    forward_by(ring, f, *p, x, [&](u64 at) HR_INLINED { return f.of_double(a + at, two50); },
               [&](u64 at, auto v) HR_INLINED { f.store_settled(x + at, v); });
}

// Coefficients that are signed words, as values.
static void forward_words(const Ring *ring, const Prime *p, u64 *x, const u64 *a) {
    const Policy f(*p);
    const auto two32 = f.constant(((u64)1 << 32) % p->q);
    forward_by(ring, f, *p, x, [&](u64 at) HR_INLINED { return f.of_word(a + at, two32); },
               [&](u64 at, auto v) HR_INLINED { f.store_settled(x + at, v); });
}

#if !defined(HR_CLIENT)
// Residues of another prime, those of least size, as values.
static void forward_lifted(const Ring *ring, const Prime *p, const Prime *from, u64 *x, const u64 *a) {
    const Policy f(*p);
    forward_by(ring, f, *p, x, [&](u64 at) HR_INLINED { return f.centred(f.load(a + at), *from); },
               [&](u64 at, auto v) HR_INLINED { f.store_settled(x + at, v); });
}

// (b − the same)·constant
static void forward_lifted_from(const Ring *ring, const Prime *p, const Prime *from, u64 *x, const u64 *a, const u64 *b,
                                u64 constant) {
    const Policy f(*p);
    const auto t = f.constant(constant);
    forward_by(ring, f, *p, x, [&](u64 at) HR_INLINED { return f.centred(f.load(a + at), *from); },
               [&](u64 at, auto v) HR_INLINED { f.store(x + at, f.times_exact(f.difference(f.load(b + at), v), t)); });
}
#endif

template <int R, bool LAST, bool LIGHT>
static HR_INLINE void inverse_pass(const Policy &f, const Prime &p, u64 *x, u64 n, u64 groups) {
    constexpr int COUNT = 1 << R;
    const u64 length = n / groups, step = length >> R;
    Policy::T scale, scaled;
    if constexpr (LAST) {
        scale = f.constant(p.ninv);
        scaled = f.constant(p.last);
    }
    for (u64 block = 0; block < groups; block++, x += length) {
        Policy::T t[COUNT - 1];
        unroll<R>([&](auto stage) HR_INLINED {
            constexpr int a = decltype(stage)::value;
            unroll<(1 << a)>([&](auto each) HR_INLINED {
                constexpr int k = decltype(each)::value;
                const u64 mirrored = (groups << a) - 1 - ((block << a) + k);
                t[(1 << a) - 1 + k] = Policy::twiddle(p.block, (groups << a) + mirrored);
            });
        });
        for (u64 i = 0; i < step; i += Policy::W) {
            Policy::V v[COUNT];
            unroll<COUNT>([&](auto each) HR_INLINED {
                constexpr int k = decltype(each)::value;
                v[k] = f.raw(x + i + k * step);
            });
            unroll<R>([&](auto stage) HR_INLINED {
                constexpr int s = decltype(stage)::value, a = R - 1 - s, span = COUNT >> (a + 1);
                unroll<COUNT / 2>([&](auto each) HR_INLINED {
                    constexpr int k = decltype(each)::value, b = k / span, low = 2 * span * b + k % span;
                    if constexpr (LAST && a == 0)
                        f.inverse_last(v[low], v[low + span], scale, scaled, LIGHT, s);
                    else
                        f.inverse(v[low], v[low + span], t[(1 << a) - 1 + b], a == 0, LIGHT, s);
                });
            });
            unroll<COUNT>([&](auto each) HR_INLINED {
                constexpr int k = decltype(each)::value;
                if constexpr (LAST)
                    f.store(x + i + k * step, v[k]);
                else
                    f.store_raw(x + i + k * step, v[k]);
            });
        }
    }
}

template <bool LIGHT>
static HR_INLINE void inverse_tile(const Policy &f, const Prime &p, u64 *x, u64 n, u64 tile) {
    constexpr int W = Policy::W;
    const u64 mirrored_tile = n / TILE - 1 - tile;
    Policy::V v[W];
    unroll<W>([&](auto each) HR_INLINED {
        constexpr int k = decltype(each)::value;
        v[W - 1 - k] = f.load(x + k * W);
    });
    f.transpose(v);
    const u64 *tail = p.tail + mirrored_tile * (TAIL_VECTORS * W * Policy::TAIL_WORDS);
    unroll<LOG_W>([&](auto stage) HR_INLINED {
        constexpr int s = decltype(stage)::value, a = LOG_W - 1 - s, span = W >> (a + 1);
        unroll<(1 << a)>([&](auto block) HR_INLINED {
            constexpr int b = decltype(block)::value;
            const auto t = f.lanes(tail, 2 * (1 << a) - 2 - b);
            unroll<span>([&](auto each) HR_INLINED {
                constexpr int low = 2 * span * b + decltype(each)::value;
                f.inverse(v[low], v[low + span], t, a == 0, LIGHT, s);
            });
        });
    });
    f.transpose(v);
    unroll<W>([&](auto each) HR_INLINED {
        constexpr int k = decltype(each)::value;
        f.store_raw(x + k * W, v[W - 1 - k]);
    });
}

template <bool LIGHT>
static void inverse_all(const Ring *ring, const Prime *p, u64 *x) {
    constexpr int R = Policy::STAGES;
    const Policy f(*p);
    const u64 n = ring->n;
    const int stages = stages_of(ring), first = odd_stages(stages);
    for (u64 tile = 0; tile < n / TILE; tile++) inverse_tile<LIGHT>(f, *p, x + tile * TILE, n, tile);
    for (int left = stages - first; left; left -= R)
        inverse_pass<R, false, LIGHT>(f, *p, x, n, (u64)1 << (first + left - R));
    if (first == R) inverse_pass<R, true, LIGHT>(f, *p, x, n, 1);
    if (R > 1 && first == R - 1) inverse_pass<(R > 1 ? R - 1 : 1), true, LIGHT>(f, *p, x, n, 1);
    if (R > 2 && first == R - 2) inverse_pass<(R > 2 ? R - 2 : 1), true, LIGHT>(f, *p, x, n, 1);
}

static void inverse(const Ring *ring, const Prime *p, u64 *x) {
    p->light ? inverse_all<true>(ring, p, x) : inverse_all<false>(ring, p, x);
}
