// Products with matrices for avx512ifma, in doubles too. The compiler may fuse operations here: all of them are exact.
#if defined(__x86_64__)
#include "gemm.hpp"
#define HR_GEMM_LANES 8
#define HR_GEMM_ROWS 12 // 24 sums of 32 registers

namespace {
#include "gemm_tiles.hpp"
} // namespace

void gemm_avx512ifma(const Gemm &g) { run_gemm(g); }
#endif
