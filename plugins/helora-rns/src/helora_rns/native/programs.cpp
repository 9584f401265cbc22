// Whole programs: steps over a table of buffers, prepared by programs/lowering.py.
//
// Steps that work row by row are run a row at a time, all of them, before the next row: what one makes is still in the
// cache when another reads it. Of several runs, each step does all before the next step: a key's row is read once.
#include "helora_rns.h"
#include "ring.hpp"

namespace {

const u64 MOST_OPERANDS = 256;
const u64 PAIRS = 16; // operands that both polynomials are multiplied by at once

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

    void whole(const HrStep &step, u64 *const *table) const {
        u32 basis[64];
        const u64 special = step.kind == HR_RESCALE ? 0 : program->special, all = step.limbs + special;
        for (u64 j = 0; j < all; j++) basis[j] = (u32)row_prime(step, j);
        const HrRef *refs = program->refs + step.first;
        u64 *out = start(table, refs[0]);
        const u64 *in = start(table, refs[1]);
        if (step.kind == HR_DECOMPOSE) hr_decompose(ring, basis, step.limbs, special, out, in, scratch);
        if (step.kind == HR_DIVIDE) hr_mod_down(ring, basis, step.limbs, special, 1, out, in, scratch);
        if (step.kind == HR_RESCALE) hr_mod_down(ring, basis, step.limbs - 1, 1, 1, out, in, scratch);
    }
};

bool is_by_row(const HrStep &step) { return step.kind >= HR_ROTATE; }

} // namespace

void hr_run(const Ring *ring, const HrProgram *program, uint64_t runs, uint64_t *const *tables, uint64_t *scratch) {
    const Work work{ring, program, scratch};
    for (u64 at = 0, end; at < program->count; at = end) {
        const HrStep *steps = program->steps;
        end = at + 1;
        if (!is_by_row(steps[at])) {
            for (u64 run = 0; run < runs; run++) work.whole(steps[at], tables + run * program->slots);
            continue;
        }
        u64 rows = steps[at].rows;
        for (; end < program->count && is_by_row(steps[end]) && steps[end].limbs == steps[at].limbs; end++)
            rows = steps[end].rows > rows ? steps[end].rows : rows;
        for (u64 j = 0; j < rows; j++)
            for (u64 i = at; i < end; i++)
                for (u64 run = 0; run < runs && j < steps[i].rows; run++)
                    work.by_row(steps[i], tables + run * program->slots, j);
    }
}
