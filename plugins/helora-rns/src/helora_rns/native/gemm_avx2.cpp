// Products with matrices for avx2. The compiler may fuse multiplications and additions here: all of them are exact.
#if defined(__x86_64__)
#include "gemm.hpp"
#define HR_GEMM_LANES 4
#define HR_GEMM_ROWS 6 // twelve sums, and three registers for operands

namespace {
#include "gemm_tiles.hpp"
} // namespace

void gemm_avx2(const Gemm &g) { run_gemm(g); }
#endif
