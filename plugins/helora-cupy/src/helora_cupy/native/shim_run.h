// Runs the blocks of a launch on the CPU, one after another; once in each library, where SHIM_HERE is defined.
//
// With fibers a block's threads wait at barriers and are taken up again in random order. Shared memory is filled with
// rubbish before each block, as a card gives none that is cleared.
#pragma once
#ifdef SHIM_FIBERS
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <vector>
#endif

extern "C" {
int shim_block[3] = {0, 0, 0}, shim_threads = 1, shim_thread = 0;
alignas(64) unsigned char shim_shared[1 << 18];
typedef void (*ShimKernel)(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64);
}

static const u64* shim_arguments;
static ShimKernel shim_kernel;

static void shim_call() {
  const u64* a = shim_arguments;  // arguments that a kernel does not have are not read
  shim_kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15],
              a[16], a[17]);
}

#ifdef SHIM_FIBERS
enum ShimState { SHIM_READY, SHIM_AT_BLOCK, SHIM_AT_WARP, SHIM_DONE };
static std::vector<ucontext_t> shim_contexts(1024);
static std::vector<ShimState> shim_states(1024);
static ucontext_t shim_scheduler;
static u64 shim_random = 88172645463325252ull;

static u64 shim_next() {
  shim_random ^= shim_random << 13;
  shim_random ^= shim_random >> 7;
  shim_random ^= shim_random << 17;
  return shim_random;
}

extern "C" void shim_wait(int warp) {
  const int own = shim_thread;
  shim_states[own] = warp ? SHIM_AT_WARP : SHIM_AT_BLOCK;
  swapcontext(&shim_contexts[own], &shim_scheduler);
}

static void shim_begin() {
  shim_call();
  shim_states[shim_thread] = SHIM_DONE;
}

// Whether all of these wait at the same barrier, who then go on. Threads that have ended wait nowhere.
static bool shim_release(int from, int to, ShimState where) {
  bool any = false;
  for (int t = from; t < to; ++t) {
    if (shim_states[t] == where) any = true;
    else if (shim_states[t] != SHIM_DONE) return false;
  }
  for (int t = from; any && t < to; ++t)
    if (shim_states[t] == where) shim_states[t] = SHIM_READY;
  return any;
}

static void shim_run_block() {
  static std::vector<unsigned char*> stacks(1024, nullptr);
  const size_t size = 192 << 10;
  for (size_t i = 0; i < sizeof shim_shared; ++i) shim_shared[i] = (unsigned char)(0xa5 + i);
  for (int t = 0; t < shim_threads; ++t) {
    if (!stacks[t]) stacks[t] = (unsigned char*)std::malloc(size);
    getcontext(&shim_contexts[t]);
    shim_contexts[t].uc_stack.ss_sp = stacks[t];
    shim_contexts[t].uc_stack.ss_size = size;
    shim_contexts[t].uc_link = &shim_scheduler;
    makecontext(&shim_contexts[t], shim_begin, 0);
    shim_states[t] = SHIM_READY;
  }
  for (std::vector<int> ready;;) {
    ready.clear();
    for (int t = 0; t < shim_threads; ++t)
      if (shim_states[t] == SHIM_READY) ready.push_back(t);
    if (ready.empty()) {
      bool any = shim_release(0, shim_threads, SHIM_AT_BLOCK), left = false;
      for (int w = 0; w < shim_threads; w += 32)
        any |= shim_release(w, w + 32 < shim_threads ? w + 32 : shim_threads, SHIM_AT_WARP);
      for (int t = 0; t < shim_threads; ++t) left |= shim_states[t] != SHIM_DONE;
      if (!left) return;
      if (!any) std::fprintf(stderr, "threads of a block wait at different barriers\n"), std::abort();
      continue;
    }
    for (size_t i = ready.size(); i > 1; --i) std::swap(ready[i - 1], ready[shim_next() % i]);
    for (int t : ready) {
      shim_thread = t;
      swapcontext(&shim_scheduler, &shim_contexts[t]);
    }
  }
}
#else
extern "C" void shim_wait(int) {}
static void shim_run_block() { shim_call(); }
#endif

extern "C" void shim_launch(ShimKernel kernel, int x, int y, int z, int threads, const u64* arguments) {
  shim_kernel = kernel;
  shim_arguments = arguments;
  shim_threads = threads;
  for (int k = 0; k < z; ++k)
    for (int j = 0; j < y; ++j)
      for (int i = 0; i < x; ++i) {
        shim_block[0] = i;
        shim_block[1] = j;
        shim_block[2] = k;
        shim_run_block();
      }
}
