// One source for two compilers. NVRTC and nvcc see CUDA; any C++17 compiler for the CPU sees loops over the threads of
// a block, so that a test without a card runs the same arithmetic and the same indexing.
//
// Rules for a kernel: code that depends on a thread stands in THREADS(tid) { … }; barriers stand between such blocks;
// what a thread keeps over a barrier is PER_THREAD and read through MINE. On the CPU a block's threads run one after
// another up to each barrier, so a missing barrier is not seen there: compute-sanitizer's racecheck looks for those.
#pragma once

typedef unsigned long long u64;
typedef unsigned int u32;
typedef long long i64;

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

#define DEVICE __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#define KERNEL_TOGETHER(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define THREADS(tid) for (int tid = threadIdx.x, once_ = 1; once_ && tid >= 0; once_ = 0)
#define BARRIER __syncthreads()
#define WARP_BARRIER __syncwarp()
#define BLOCK_X ((int)blockIdx.x)
#define BLOCK_Y ((int)blockIdx.y)
#define BLOCK_Z ((int)blockIdx.z)
#define BLOCK_THREADS ((int)blockDim.x)
#define SHARED(type, name)                              \
  extern __shared__ __align__(16) unsigned char raw_[]; \
  type* name = (type*)raw_
#define PER_THREAD(type, name, count) type name[count]
#define MINE(name) name
#define HOST_TOO __host__ __device__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_4 _Pragma("unroll 4")
#define ATOMIC_ADD(where, value) atomicAdd(where, value)

DEVICE u64 high64(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE u32 high32(u32 a, u32 b) { return __umulhi(a, b); }
DEVICE double fma_nearest(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVICE double fma_to_zero(double a, double b, double c) { return __fma_rz(a, b, c); }
DEVICE double times(double a, double b) { return __dmul_rn(a, b); }
DEVICE double plus(double a, double b) { return __dadd_rn(a, b); }
DEVICE u32 reversed(u32 x, int bits) { return __brev(x) >> (32 - bits); }
DEVICE u64 bits_of(double a) { return (u64)__double_as_longlong(a); }
DEVICE double of_bits(u64 a) { return __longlong_as_double((i64)a); }

#else  // the CPU: compile with -ffp-contract=off -frounding-math

#include <cfenv>
#include <cmath>
#include <cstring>

#define DEVICE inline
#define KERNEL(threads) extern "C" void
#define KERNEL_TOGETHER(threads, blocks) extern "C" void
extern "C" int shim_block[3], shim_threads;
extern "C" unsigned char shim_shared[];
#define THREADS(tid) for (int tid = 0; tid < shim_threads; ++tid)
#define BARRIER
#define WARP_BARRIER
#define BLOCK_X shim_block[0]
#define BLOCK_Y shim_block[1]
#define BLOCK_Z shim_block[2]
#define BLOCK_THREADS shim_threads
#define SHARED(type, name) type* name = (type*)shim_shared
#define PER_THREAD(type, name, count) static type name[1024][count]
#define MINE(name) name[tid]
#define HOST_TOO
#define UNROLL
#define UNROLL_BY_4
#define ATOMIC_ADD(where, value) (*(where) += (value))

DEVICE u64 high64(u64 a, u64 b) { return (u64)(((unsigned __int128)a * b) >> 64); }
DEVICE u32 high32(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }
DEVICE double fma_nearest(double a, double b, double c) { return std::fma(a, b, c); }
DEVICE double fma_to_zero(double a, double b, double c) {
  std::fesetround(FE_TOWARDZERO);
  volatile double x = a, y = b, z = c;
  volatile double result = std::fma(x, y, z);
  std::fesetround(FE_TONEAREST);
  return result;
}
DEVICE u32 reversed(u32 x, int bits) {
  u32 r = 0;
  for (int i = 0; i < bits; ++i) r |= ((x >> i) & 1) << (bits - 1 - i);
  return r;
}
DEVICE double times(double a, double b) { return a * b; }
DEVICE double plus(double a, double b) { return a + b; }
DEVICE u64 bits_of(double a) {
  u64 b;
  std::memcpy(&b, &a, 8);
  return b;
}
DEVICE double of_bits(u64 a) {
  double b;
  std::memcpy(&b, &a, 8);
  return b;
}

#ifdef SHIM_HERE
extern "C" {
int shim_block[3] = {0, 0, 0}, shim_threads = 1;
alignas(64) unsigned char shim_shared[1 << 18];
void shim_set(int x, int y, int z, int threads) {
  shim_block[0] = x;
  shim_block[1] = y;
  shim_block[2] = z;
  shim_threads = threads;
}
}
#endif
#endif

DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }
