/* The C ABI of helora-rns: polynomials modulo x^N + 1 and word-sized primes.
 *
 * A polynomial is an array of limbs, a limb a row of N residues modulo one prime: uint64, canonical (below the prime),
 * aligned to 64 bytes, one row after another. Several polynomials follow each other: [count][limbs][N]. ``basis`` gives
 * for each limb the index of its prime in the ring. *Values* means the transform's, in bit-reversed order: value i is
 * the polynomial at psi^(2 rev(i) + 1); sums, products and automorphisms are taken of values.
 *
 * Nothing here allocates, throws, prints or keeps state: memory belongs to the caller, and a ring is read-only once it
 * is made, so that threads may share it. Arguments are not checked.
 */
#ifndef HELORA_RNS_H
#define HELORA_RNS_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#if defined(_WIN32)
#define HR_API __declspec(dllexport)
#else
#define HR_API __attribute__((visibility("default")))
#endif

typedef struct Ring Ring;

enum { HR_SCALAR = 0, HR_AVX2 = 1, HR_AVX512IFMA = 2 };

HR_API uint32_t hr_abi(void);        /* 5: raised when anything below changes */
HR_API uint32_t hr_supported(void);  /* bit i: kernel set i runs on this CPU and system */

/* A ring in ``bytes`` of memory that hr_ring_bytes asks for. ``powers``: for each prime psi^rev(i), N of them. */
HR_API uint64_t hr_ring_bytes(uint64_t n, uint64_t primes, uint32_t isa);
HR_API void hr_ring_make(Ring *ring, uint64_t n, uint64_t primes, const uint64_t *moduli, const uint64_t *powers,
                         uint32_t isa);

/* In place, coefficients to values and back. */
HR_API void hr_forward(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *x);
HR_API void hr_inverse(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *x);

/* Place by place. ``out`` may be an operand. ``b`` has ``b_count`` polynomials, and is begun again when they end. */
HR_API void hr_add(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
                   const uint64_t *a, const uint64_t *b);
HR_API void hr_sub(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
                   const uint64_t *a, const uint64_t *b);
HR_API void hr_negate(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
                      const uint64_t *a);
HR_API void hr_multiply(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t b_count,
                        uint64_t *out, const uint64_t *a, const uint64_t *b);
HR_API void hr_multiply_add(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t b_count,
                            uint64_t *out, const uint64_t *a, const uint64_t *b, const uint64_t *c);
/* out = a times constants[limb] */
HR_API void hr_times(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
                     const uint64_t *a, const uint64_t *constants);
/* out = sum of a[i] b[i], 256 terms or fewer; each a[i] has ``count`` polynomials, each b[i] one */
HR_API void hr_dot(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *out,
                   const uint64_t *const *a, const uint64_t *const *b, uint64_t terms);
/* out[i] = sum over k of weights[limb][i·terms + k] a[k], for ``rows`` outputs: a matrix of integers of size q/2 or less
 * for each limb, or the same one; with ``add``, added to what the outputs hold. Each a[k] and out[i] has ``count``
 * polynomials; no output is an operand. Scratch: as many words as hr_gemm_words says. */
HR_API uint64_t hr_gemm_words(uint64_t rows, uint64_t terms);
HR_API void hr_gemm(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t count, uint64_t *const *out,
                    const uint64_t *const *a, const int64_t *const *weights, uint64_t rows, uint64_t terms,
                    uint32_t add, uint64_t *scratch);
/* out[i] = a[index[i]] in every row: the automorphism that the index belongs to. Not in place. */
HR_API void hr_permute(const Ring *, uint64_t rows, uint64_t *out, const uint64_t *a, const uint32_t *index);

/* Integers in doubles, below 2^99 in size, as coefficients; and the integers of least size back, ``a`` being overwritten. */
HR_API void hr_of_doubles(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *a);
/* The first, as values. */
HR_API void hr_values_of_doubles(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *a);
HR_API void hr_to_doubles(const Ring *, const uint32_t *basis, uint64_t limbs, double *out, uint64_t *a,
                          uint64_t *scratch);

/* Divide by the product P of the primes of the last ``dropped`` limbs, and round: [count][kept + dropped][N] to
 * [count][kept][N], values both. Scratch: two rows, and one for each dropped. */
HR_API void hr_mod_down(const Ring *, const uint32_t *basis, uint64_t kept, uint64_t dropped, uint64_t count,
                        uint64_t *out, const uint64_t *a, uint64_t *scratch);

/* Key switching. The digits of a polynomial of ``limbs`` limbs: [limbs][limbs + special][N] values, digit i the residue
 * modulo prime i, centred, modulo all. ``basis`` has limbs + special entries. Scratch: a row. */
HR_API void hr_decompose(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t special, uint64_t *digits,
                         const uint64_t *a, uint64_t *scratch);
/* out[0], out[1] = sum of digits[i] key[i][0], key[i][1], each [limbs + special][N], with ``added``, of ``limbs`` limbs,
 * on the first, permuted by ``index``, whose inverse is ``places``. The key is the ring's: one block for each of its
 * primes, [N/8][key_digits][2][8], so that it is read in one stream. */
HR_API void hr_rotate(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t special, uint64_t key_digits,
                      uint64_t *out, const uint64_t *digits, const uint64_t *key, const uint64_t *added,
                      const uint32_t *index, const uint32_t *places);

/* Whole programs. A run has a table of buffers; a reference names a row of one: row ``row`` + j of its slot for the j-th
 * prime, ``row`` itself for every prime if it is local to a row's work, and zero for j of ``rows`` and above. Primes are
 * the first ``limbs`` of the ring's ``data`` ones, and behind them the ``special`` ones. Steps and their references:
 *   DECOMPOSE  digits, polynomial                              as hr_decompose
 *   DIVIDE     out, polynomial                                 by the special primes
 *   RESCALE    out, polynomial                                 by the last of ``limbs`` primes
 *   ROTATE     out, out', digits, key, index, inverse index, added: as hr_rotate; added to what is there if
 *              ``accumulate``
 *   DOT        out, out', then for each of ``terms``: a, a', b: sums of a b and of a' b
 *   SUM        out, then ``terms`` polynomials; added to what is there if ``accumulate``
 *   RAISE      out, polynomial                                 times the product of the special primes
 * ROTATE and those below work row by row, on ``rows`` rows. Scratch as for hr_mod_down. */
enum { HR_DECOMPOSE = 0, HR_DIVIDE, HR_RESCALE, HR_ROTATE, HR_DOT, HR_SUM, HR_RAISE };
typedef struct {
    uint32_t slot, row, rows, local;
} HrRef;
typedef struct {
    uint32_t kind, limbs, rows, terms, first, accumulate;
} HrStep;
typedef struct {
    uint64_t data, special, slots, count;
    const HrStep *steps;
    const HrRef *refs;
} HrProgram;
/* Threads that run the same call together, each with scratch of its own, and with tables that differ in where local rows
 * are. ``next`` and ``done`` begin at zero; ``give_way`` (or null) lets another thread run. */
typedef struct {
    uint64_t next, beside[7], done, workers;
    void (*give_way)(void);
} HrTeam;
/* ``team``: null for one thread. */
HR_API void hr_run(const Ring *, const HrProgram *program, uint64_t runs, uint64_t *const *tables, uint64_t *scratch,
                   HrTeam *team);

/* Samples of a stream of random words. Uniform: words masked to the prime's bits, those beyond it left out; ``out``
 * gets up to n, *used words of ``available`` are gone through; returns how many were found. Errors: centred binomial,
 * the ones in bits 0-20 less those in bits 21-41 of each word, as doubles. */
HR_API uint64_t hr_uniform(const Ring *, uint32_t prime, uint64_t *out, uint64_t n, const uint64_t *words,
                           uint64_t available, uint64_t *used);
HR_API void hr_binomial(const Ring *, double *out, const uint64_t *words, uint64_t n);

/* Samples for sanitising. Normal variates: n, an even number, of as many words. Integers of the words' highest ``bits``
 * bits, 52 or fewer. Ternary: -1, 0 or 1 for each two bits, from the lowest on, that are not both set; returns how many
 * were found, up to n. */
HR_API void hr_normal(const Ring *, double *out, const uint64_t *words, uint64_t n);
HR_API void hr_random_bits(double *out, const uint64_t *words, uint64_t n, uint32_t bits);
HR_API uint64_t hr_ternary(double *out, uint64_t n, const uint64_t *words, uint64_t available);
/* Integers too long for doubles, as coefficients: by Horner's rule parts[i], as for hr_of_doubles, and before each but
 * the first a product with factors[(i - 1) limbs + limb]. */
HR_API void hr_of_parts(const Ring *, const uint32_t *basis, uint64_t limbs, uint64_t *out, const double *const *parts,
                        const uint64_t *factors, uint64_t count);

/* n numbers of ``bits`` bits each (64 or fewer), one after another from the lowest bit on: (n bits + 7) / 8 bytes. */
HR_API void hr_pack(uint8_t *out, const uint64_t *a, uint64_t n, uint32_t bits);
HR_API void hr_unpack(uint64_t *out, const uint8_t *a, uint64_t n, uint32_t bits);

/* Machine words beside primes. A polynomial modulo 2^64·q_1 is a row of N words, its coefficients modulo 2^64, and
 * ``limbs`` rows of values modulo q_1's primes, which are the first one or two of the ring, ascending and above 2^32. A
 * product of words (signed) and of a polynomial of coefficients -1, 0 and 1 is an integer that the first two primes of
 * the ring hold. Errors are made of N random words a row, as hr_binomial does. Scratch: 4 rows. */
/* out[i] = sum over k of weights[i·terms + k] a[k] modulo 2^64, with ``add`` added to what it holds: rows of ``columns``
 * words, a multiple of 8; weights are below 2^31 in size. Scratch: as many words as hr_words_gemm_words says. */
HR_API uint64_t hr_words_gemm_words(uint64_t rows);
HR_API void hr_words_gemm(const Ring *, uint64_t *out, const uint64_t *a, const int64_t *weights, uint64_t rows,
                          uint64_t terms, uint64_t columns, uint32_t add, uint64_t *scratch);
/* In bytes: words, little-endian, and behind them for each prime values in as many bits as it has. Whether all values
 * are below their primes. */
HR_API uint32_t hr_words_unpack(const Ring *, uint64_t limbs, uint64_t *out, uint64_t *values, const uint8_t *a);
/* a·minus + q1·numbers + errors, in such bytes. */
HR_API void hr_words_encrypted(const Ring *, uint64_t limbs, uint8_t *packed, const uint64_t *a,
                               const uint64_t *a_values, const uint64_t *random, const uint64_t *numbers, uint64_t q1,
                               const uint64_t *minus, uint64_t *scratch);
/* Two polynomials, sums + key·u + errors, as coefficients: [2][N] words to ``out``, [2][limbs][N] residues to ``rows``.
 * ``key``: values of the key's words modulo the first two primes, [2][2][N]. ``random``: [2][N]. */
HR_API void hr_words_randomised(const Ring *, uint64_t limbs, uint64_t *out, uint64_t *rows, const uint64_t *sums,
                                const uint64_t *sum_values, const uint64_t *key, const uint64_t *key_values,
                                const double *u, const uint64_t *random, uint64_t *scratch);
/* The highest ``bits`` bits, shifted down, of c/q_1 rounded down, modulo 2^64, less ``mask`` if there is one, for
 * coefficients c: words ``a`` and ``limbs`` rows of residues. ``inverse``: of q_1 modulo 2^64. */
HR_API void hr_words_quotient(const Ring *, uint64_t limbs, uint64_t *out, const uint64_t *a, const uint64_t *rows,
                              uint64_t inverse, const uint64_t *mask, uint32_t bits);
/* A public key for hr_words_trimmed, each for two polynomials. For one prime: values of its words modulo the first two
 * primes of the ring, [2][2][N], and its values, [2][N]. For two: values of its words less its values, [2][2][N]; its
 * words, signed, backwards and then negated and backwards, in doubles, [2][2N]; and a bound on the integers words·u
 * over the first prime. */
typedef struct {
    const uint64_t *words, *values, *differences;
    const double *turned;
    uint64_t margin;
} HrPublicKey;
/* What hr_words_quotient makes of hr_words_randomised, packed: the highest bits of both polynomials, with the mask on
 * the first. Returns 1 if errors could make a difference to it; otherwise none are needed. Scratch: 7 rows. */
HR_API uint32_t hr_words_trimmed(const Ring *, uint64_t limbs, uint8_t *packed, const uint64_t *sums,
                                 const uint64_t *sum_values, const HrPublicKey *key, const double *u, uint64_t inverse,
                                 const uint64_t *mask, uint32_t top_bits, uint32_t key_bits, uint64_t *scratch);
/* h·2^(64 - top_bits) + added - g·2^(64 - key_bits)·minus, rounded to ``top_bits`` bits and shifted down, of ``count``
 * pairs (h, g) that are packed, ``stride`` bytes from one to the next. Products are taken modulo the ring's prime ``shortest`` if they are below half of it, or the first two if it is
 * UINT32_MAX; ``minus`` are values modulo all primes. */
HR_API void hr_words_opened(const Ring *, uint32_t shortest, uint64_t *out, const uint8_t *packed, uint64_t count,
                            uint64_t stride, const uint64_t *minus, const uint64_t *added, uint32_t top_bits,
                            uint32_t key_bits, uint64_t *scratch);
/* Matrices applied one after another, for hr_words_answer: rows in groups of eight, [group][term][8], with zeros for
 * rows and terms that are missing, and behind all one number more. ``terms`` of all but the first are eight a group of
 * the one before. ``rows``: of the last, without those that are missing. */
typedef struct {
    const int32_t *weights;
    uint64_t groups, terms;
} HrMatrix;
typedef struct {
    const HrMatrix *matrices;
    uint64_t count, rows, isa;
} HrMatrices;
HR_API void hr_words_pack_weights(int32_t *out, const int64_t *weights, uint64_t rows, uint64_t terms);
/* The highest ``bits`` bits of the matrices times y plus masks modulo 2^64, for each token, packed as hr_pack does: y is
 * [tokens][terms], masks are [tokens][rows]. Scratch: as many words as hr_words_answer_words says. */
HR_API uint64_t hr_words_answer_words(const HrMatrices *);
HR_API void hr_words_answer(const HrMatrices *, uint8_t *packed, const uint64_t *y, const uint64_t *masks,
                            uint64_t tokens, uint32_t bits, uint64_t *scratch);
/* The client's side of it. Integers of least distance, to even ones of two, from x times its token's factor, below 2^51
 * in size, less pads: all [tokens][inputs]. And sums of answers, packed, with results, packed row by row to whole bytes,
 * both the highest bits of words and in the middle of what their other bits may be, as signed numbers times their
 * token's factor: [tokens][outputs]. */
HR_API void hr_words_padded(uint64_t *out, const double *x, const double *factors, const uint64_t *pads,
                            uint64_t tokens, uint64_t inputs);
HR_API void hr_words_revealed(double *out, const uint8_t *answers, const uint8_t *results, const double *factors,
                              uint64_t tokens, uint64_t outputs, uint32_t answer_bits, uint32_t result_bits);

/* Slots. ``powers``: zeta^t(i) for the i-th node of embedding.py's tree, N/2 real parts and N/2 imaginary ones;
 * ``places``: where slot j is among the transform's values. N integer coefficients of the polynomial whose first
 * ``count`` slots are these, of one part or two, times factor·N/2; and all N/2 slots, of two parts, of a polynomial's
 * coefficients times a factor, which are overwritten. */
HR_API void hr_slots_to_coefficients(const Ring *, double *out, const double *slots, uint64_t count, uint64_t parts,
                                     const uint32_t *places, const double *powers, double factor);
HR_API void hr_coefficients_to_slots(const Ring *, double *out, double *coefficients, const uint32_t *places,
                                     const double *powers, double factor);
#ifdef __cplusplus
}
#endif
#endif
