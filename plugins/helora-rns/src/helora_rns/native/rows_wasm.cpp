// The row kernels for browsers. A build has one set, which stands where others have the scalar one, and which takes
// primes below 2^50.
#if defined(__wasm__)
#include "ring.hpp"
#if defined(__wasm_simd128__)
#define HR_LANES 2
#else
#define HR_LANES 1
#endif

namespace {
#if defined(__wasm_relaxed_simd__)
#include "policy_relaxed.hpp"
#else
#include "policy_quotients.hpp"
#endif
#include "embedding.hpp"
#include "rows.hpp"
#include "transform.hpp"
} // namespace

extern const RowKernels scalar_rows = HR_ROWS;
#endif
