// The row kernels for scalar. Everything is in a namespace without a name, so that no other set's code can be taken for it.

#include "ring.hpp"
#define HR_LANES 1 // of the embedding's vectors

namespace {
#include "policy_scalar.hpp"
#include "embedding.hpp"
#include "rows.hpp"
#include "transform.hpp"
} // namespace

extern const RowKernels scalar_rows = HR_ROWS;

