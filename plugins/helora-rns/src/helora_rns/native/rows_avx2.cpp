// The row kernels for avx2. Everything is in a namespace without a name, so that no other set's code can be taken for it.
#if defined(__x86_64__)
#define _MM_MALLOC_H_INCLUDED // GCC 13 would declare malloc by it, which a freestanding library does not have
#include <immintrin.h>
#include "ring.hpp"
#define HR_LANES 4 // of the embedding's vectors

namespace {
#include "policy_avx2.hpp"
#include "embedding.hpp"
#include "rows.hpp"
#include "transform.hpp"
} // namespace

extern const RowKernels avx2_rows = HR_ROWS;
#endif
