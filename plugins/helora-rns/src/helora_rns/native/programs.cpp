// Whole programs: steps over a table of buffers, prepared by programs/lowering.py.
//
// Steps that work row by row are run a row at a time, all of them, before the next row: what one makes is still in the
// cache when another reads it. Of several runs, each step does all before the next step: a key's row is read once.
//
// Several threads may run one program: each takes what nobody has taken of a group of steps, and goes on to the next group
// when all of this one is done. Who comes late finds less to do, and who does not come is not waited for.
#include "helora_rns.h"
#include "polynomials.hpp"

namespace {

const u64 MOST_OPERANDS = 256;
const u64 PATIENCE = 2000; // looks at what others do before the system is asked to let another thread run
const u64 PAIRS = 64; // operands that both polynomials are multiplied by at once

struct Work {
    const Ring *ring;
    const HrProgram *program;
    u64 *scratch;

    u64 row_prime(const HrStep &step, u64 j) const {
        return j < step.limbs ? j : program->data + (j - step.limbs);
    }
    // Where a row of an operand is, or null if it has none: then it is zero.
    u64 *row(u64 *const *table, const HrRef &ref, u64 j) const {
        return j < ref.rows ? table[ref.slot] + (ref.row + (ref.local ? 0 : j)) * ring->n : nullptr;
    }
    u64 *start(u64 *const *table, const HrRef &ref) const { return table[ref.slot] + ref.row * ring->n; }

    void zero(u64 *out) const {
        for (u64 k = 0; k < ring->n; k++) out[k] = 0;
    }

    void rotate(const Prime *p, const HrStep &step, const HrRef *refs, u64 *const *table, u64 j) const {
        const u64 *digits[64], n = ring->n, all = step.limbs + program->special;
        for (u64 i = 0; i < step.limbs; i++) digits[i] = start(table, refs[2]) + (i * all + j) * n;
        const u64 *key = table[refs[3].slot] + 2 * n * program->data * row_prime(step, j);
        p->rows->rotate(p, row(table, refs[0], j), row(table, refs[1], j), digits, key, step.limbs, program->data,
                        row(table, refs[6], j), (const u32 *)table[refs[4].slot], (const u32 *)table[refs[5].slot],
                        step.accumulate, n);
    }

    // Both polynomials at once; false if there are too many terms for it, or terms of one polynomial alone.
    bool dot_pair(const Prime *p, const HrStep &step, const HrRef *refs, u64 *const *table, u64 j) const {
        const u64 *first[PAIRS], *second[PAIRS], *right[PAIRS];
        u64 terms = 0;
        if (step.terms > PAIRS) return false;
        for (u64 i = 0; i < step.terms; i++) {
            const HrRef *term = refs + 2 + 3 * i;
            const u64 *a = row(table, term[0], j), *b = row(table, term[1], j);
            if (!a != !b) return false;
            if (!a) continue;
            first[terms] = a;
            second[terms] = b;
            right[terms++] = row(table, term[2], j);
        }
        if (!terms) return false;
        p->rows->dot_pair(p, row(table, refs[0], j), row(table, refs[1], j), first, second, right, terms, ring->n);
        return true;
    }

    void dot(const Prime *p, const HrStep &step, const HrRef *refs, u64 *const *table, u64 j, u64 polynomial) const {
        const u64 *left[MOST_OPERANDS], *right[MOST_OPERANDS];
        u64 terms = 0, *out = row(table, refs[polynomial], j);
        bool begun = false;
        for (u64 i = 0; i < step.terms; i++) {
            const HrRef *term = refs + 2 + 3 * i;
            const u64 *a = row(table, term[polynomial], j);
            if (a) {
                left[terms] = a;
                right[terms++] = row(table, term[2], j);
            }
            if (terms == MOST_OPERANDS || (i + 1 == step.terms && terms)) {
                p->rows->dot(p, begun ? scratch : out, left, right, terms, ring->n);
                if (begun) p->rows->add(p, out, out, scratch, ring->n);
                begun = true;
                terms = 0;
            }
        }
        if (!begun) zero(out);
    }

    void sum(const Prime *p, const HrStep &step, const HrRef *refs, u64 *const *table, u64 j) const {
        u64 *out = row(table, refs[0], j);
        const u64 *first = nullptr;
        bool begun = step.accumulate;
        for (u64 i = 1; i <= step.terms; i++) {
            const u64 *a = row(table, refs[i], j);
            if (!a) continue;
            if (begun)
                p->rows->add(p, out, out, a, ring->n);
            else if (first)
                p->rows->add(p, out, first, a, ring->n), begun = true;
            else
                first = a;
        }
        if (begun) return;
        if (first)
            __builtin_memcpy(out, first, 8 * ring->n);
        else
            zero(out);
    }

    void raise(const Prime *p, const HrRef *refs, u64 *const *table, u64 j) const {
        u64 product = 1;
        for (u64 i = 0; i < program->special; i++)
            product = (u64)((u128)product * (ring->primes[program->data + i].q % p->q) % p->q);
        p->rows->times(p, row(table, refs[0], j), row(table, refs[1], j), product, ring->n);
    }

    void by_row(const HrStep &step, u64 *const *table, u64 j) const {
        const Prime *p = ring->primes + row_prime(step, j);
        const HrRef *refs = program->refs + step.first;
        if (step.kind == HR_ROTATE) rotate(p, step, refs, table, j);
        if (step.kind == HR_DOT && !dot_pair(p, step, refs, table, j))
            dot(p, step, refs, table, j, 0), dot(p, step, refs, table, j, 1);
        if (step.kind == HR_SUM) sum(p, step, refs, table, j);
        if (step.kind == HR_RAISE) raise(p, refs, table, j);
    }

    void basis_of(const HrStep &step, u32 *basis) const {
        for (u64 j = 0; j < step.limbs + program->special; j++) basis[j] = (u32)row_prime(step, j);
    }

    void decompose(const HrStep &step, u64 *const *table, u64 digit) const {
        u32 basis[64];
        basis_of(step, basis);
        const HrRef *refs = program->refs + step.first;
        decompose_digit(ring, basis, step.limbs, program->special, start(table, refs[0]), start(table, refs[1]), scratch,
                        digit);
    }

    // One of ``parts`` parts of the rows.
    void divide(const HrStep &step, u64 *const *table, u64 part, u64 parts) const {
        u32 basis[64];
        basis_of(step, basis);
        const HrRef *refs = program->refs + step.first;
        const u64 dropped = step.kind == HR_RESCALE ? 1 : program->special, kept = kept_by(step);
        mod_down_rows(ring, basis, kept, dropped, start(table, refs[0]), start(table, refs[1]), scratch,
                      kept * part / parts, kept * (part + 1) / parts);
    }

    static u64 kept_by(const HrStep &step) { return step.kind == HR_RESCALE ? step.limbs - 1 : step.limbs; }
};

bool is_by_row(const HrStep &step) { return step.kind >= HR_ROTATE; }

// Whether a step is of the group that begins with ``first``: as Lowered.groups has it.
bool is_with(const HrStep &first, const HrStep &step) {
    const bool alike = is_by_row(first) ? is_by_row(step) : first.kind == step.kind && first.kind != HR_RESCALE;
    return alike && first.limbs == step.limbs;
}

HR_INLINE void breathe() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// What one thread of a team has seen done.
struct Shares {
    HrTeam *team;
    u64 before = 0;

    u64 workers() const { return team ? team->workers : 1; }

    // f(0), …, f(count − 1), each by one thread; returns when all are done.
    template <class F>
    void each(u64 count, F f) {
        if (!team) {
            for (u64 i = 0; i < count; i++) f(i);
            return;
        }
        const u64 end = before + count;
        u64 next = __atomic_load_n(&team->next, __ATOMIC_RELAXED);
        while (next < end) {
            if (!__atomic_compare_exchange_n(&team->next, &next, next + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                continue;
            f(next - before);
            __atomic_fetch_add(&team->done, 1, __ATOMIC_RELEASE);
            next = __atomic_load_n(&team->next, __ATOMIC_RELAXED);
        }
        for (u64 waited = 0; __atomic_load_n(&team->done, __ATOMIC_ACQUIRE) < end; waited++) {
            breathe();
            if (waited >= PATIENCE && team->give_way) team->give_way();
        }
        before = end;
    }
};

} // namespace

void hr_run(const Ring *ring, const HrProgram *program, uint64_t runs, uint64_t *const *tables, uint64_t *scratch,
            HrTeam *team) {
    const Work work{ring, program, scratch};
    Shares shares{team};
    for (u64 at = 0, end; at < program->count; at = end) {
        const HrStep *steps = program->steps + at;
        u64 rows = steps->rows;
        for (end = at + 1; end < program->count && is_with(*steps, program->steps[end]); end++)
            rows = program->steps[end].rows > rows ? program->steps[end].rows : rows;
        const u64 count = end - at, polynomials = count * runs;
        auto table = [&](u64 run) HR_INLINED { return tables + run * program->slots; };
        if (is_by_row(*steps)) {
            shares.each(rows, [&](u64 j) {
                for (u64 i = 0; i < count; i++)
                    for (u64 run = 0; run < runs && j < steps[i].rows; run++) work.by_row(steps[i], table(run), j);
            });
        } else if (steps->kind == HR_DECOMPOSE) {
            shares.each(polynomials * steps->limbs, [&](u64 k) {
                const u64 which = k / steps->limbs;
                work.decompose(steps[which / runs], table(which % runs), k % steps->limbs);
            });
        } else {
            // Each part transforms what is dropped by itself: parts are made only where threads would have nothing to do.
            const u64 kept = Work::kept_by(*steps), most = shares.workers() < kept ? shares.workers() : kept;
            const u64 parts = polynomials < shares.workers() ? most : 1;
            shares.each(polynomials * parts, [&](u64 k) {
                const u64 which = k / parts;
                work.divide(steps[which / runs], table(which % runs), k % parts, parts);
            });
        }
    }
}
