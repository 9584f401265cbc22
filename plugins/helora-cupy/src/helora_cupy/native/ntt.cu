// Transforms of one policy and ring degree: compile with -DPOLICY=Fma50 -DDEGREE_LOG=13, for LOGE 3, 4 and 5.
#define SHIM_HERE
#include "ntt.cuh"

// Registers limit how many blocks share a multiprocessor: at most 64 a thread for LOGE 3 and 4 (1024 threads of 65 536
// registers), 128 for LOGE 5; 32-bit words need fewer.
#define THREADS_TOGETHER(E) ((sizeof(POLICY::T) == 4 ? 1536 : 1024) >> (E > 4))
#define TOGETHER(E) ((THREADS_TOGETHER(E) << E) >> DEGREE_LOG ? (THREADS_TOGETHER(E) << E) >> DEGREE_LOG : 1)
#define TRANSFORMS(E)                                                                                                \
  KERNEL_TOGETHER((1 << DEGREE_LOG) >> E, TOGETHER(E))                                                               \
  forward_##E(const POLICY::Word* in, POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) {      \
    ntt_forward<POLICY, DEGREE_LOG, E>(in, out, table, mods, primes);                                                \
  }                                                                                                                  \
  KERNEL_TOGETHER((1 << DEGREE_LOG) >> E, TOGETHER(E))                                                               \
  inverse_##E(const POLICY::Word* in, POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) {      \
    ntt_inverse<POLICY, DEGREE_LOG, E>(in, out, table, mods, primes);                                                \
  }

#if DEGREE_LOG - 3 <= 10
TRANSFORMS(3)
#endif
TRANSFORMS(4)
TRANSFORMS(5)

#define IN_HALVES(E)                                                                                                 \
  KERNEL((Halves<DEGREE_LOG, E>::Columns::THREADS_OF))                                                               \
  columns_##E(const POLICY::Word* in, POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) {      \
    ntt_columns<POLICY, DEGREE_LOG, E>(in, out, table, mods, primes);                                                \
  }                                                                                                                  \
  KERNEL((Halves<DEGREE_LOG, E>::Rows::THREADS_OF))                                                                  \
  rows_##E(POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) {                                 \
    ntt_rows<POLICY, DEGREE_LOG, E>(out, table, mods, primes);                                                       \
  }                                                                                                                  \
  KERNEL((Halves<DEGREE_LOG, E>::Rows::THREADS_OF))                                                                  \
  inverse_rows_##E(const POLICY::Word* in, POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) { \
    inverse_rows<POLICY, DEGREE_LOG, E>(in, out, table, mods, primes);                                               \
  }                                                                                                                  \
  KERNEL((Halves<DEGREE_LOG, E>::Columns::THREADS_OF))                                                               \
  inverse_columns_##E(POLICY::Word* out, const POLICY::W* table, const u64* mods, int primes) {                      \
    inverse_columns<POLICY, DEGREE_LOG, E>(out, table, mods, primes);                                                \
  }

IN_HALVES(3)
