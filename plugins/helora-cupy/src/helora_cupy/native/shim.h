// One source for two compilers. NVRTC and nvcc see CUDA; any C++17 compiler for the CPU sees loops over the threads of
// a block, so that a test without a card runs the same arithmetic and the same indexing.
//
// Rules for a kernel: code that depends on a thread stands in THREADS(tid) { … }; barriers stand between such blocks;
// what a thread keeps over a barrier is PER_THREAD and read through MINE. A kernel takes integers and pointers only, 18 at
// most. On the CPU each THREADS block is a loop, which is fast, and hides a missing barrier. With -DSHIM_FIBERS each
// thread runs by itself from barrier to barrier, in random order: there a missing barrier changes results.
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
#define UNROLL_BY_2 _Pragma("unroll 2")
#define ATOMIC_ADD(where, value) atomicAdd(where, value)
#define TOWARDS_ZERO
#define TO_NEAREST

DEVICE u64 high64(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE u32 high32(u32 a, u32 b) { return __umulhi(a, b); }
DEVICE double fma_nearest(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVICE double fma_to_zero(double a, double b, double c) { return __fma_rz(a, b, c); }
DEVICE double times(double a, double b) { return __dmul_rn(a, b); }
DEVICE double plus(double a, double b) { return __dadd_rn(a, b); }
DEVICE u32 reversed(u32 x, int bits) { return __brev(x) >> (32 - bits); }
DEVICE double ratio(double a, double b) { return __ddiv_rn(a, b); }
DEVICE double root(double a) { return __dsqrt_rn(a); }
DEVICE int ones(u64 x) { return __popcll(x); }
DEVICE u64 bits_of(double a) { return (u64)__double_as_longlong(a); }
DEVICE double of_bits(u64 a) { return __longlong_as_double((i64)a); }

#else  // the CPU: compile with -ffp-contract=off -frounding-math

#include <cfenv>
#include <cmath>
#include <cstring>

#define DEVICE inline
#define KERNEL(threads) extern "C" void
#define KERNEL_TOGETHER(threads, blocks) extern "C" void
extern "C" int shim_block[3], shim_threads, shim_thread;
extern "C" unsigned char shim_shared[];
extern "C" void shim_wait(int warp);
#ifdef SHIM_FIBERS
#define THREADS(tid) for (int tid = shim_thread, once_ = 1; once_; once_ = 0)
#if SHIM_FORGETS == 1  // that it shows: nothing, 1 barriers of a block, 2 those of a warp
#define BARRIER
#else
#define BARRIER shim_wait(0)
#endif
#if SHIM_FORGETS == 2
#define WARP_BARRIER
#else
#define WARP_BARRIER shim_wait(1)
#endif
#define PER_THREAD(type, name, count) type name[count]
#define MINE(name) name
#else
#define THREADS(tid) for (int tid = 0; tid < shim_threads; ++tid)
#define BARRIER
#define WARP_BARRIER
#define PER_THREAD(type, name, count) static type name[1024][count]
#define MINE(name) name[tid]
#endif
#define BLOCK_X shim_block[0]
#define BLOCK_Y shim_block[1]
#define BLOCK_Z shim_block[2]
#define BLOCK_THREADS shim_threads
#define SHARED(type, name) type* name = (type*)shim_shared
#define HOST_TOO
#define UNROLL
#define UNROLL_BY_4
#define UNROLL_BY_2
#define ATOMIC_ADD(where, value) (*(where) += (value))
// Around code that uses fma_to_zero, in which nothing else rounds.
#define TOWARDS_ZERO std::fesetround(FE_TOWARDZERO)
#define TO_NEAREST std::fesetround(FE_TONEAREST)

DEVICE u64 high64(u64 a, u64 b) { return (u64)(((unsigned __int128)a * b) >> 64); }
DEVICE u32 high32(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }
DEVICE double fma_nearest(double a, double b, double c) { return std::fma(a, b, c); }
DEVICE double fma_to_zero(double a, double b, double c) { return std::fma(a, b, c); }
DEVICE double ratio(double a, double b) { return a / b; }
DEVICE double root(double a) { return std::sqrt(a); }
DEVICE int ones(u64 x) { return __builtin_popcountll(x); }
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
#include "shim_run.h"
#endif
#endif

DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }
