// The int8 dot product in 256-bit VEX form: client CPUs since Alder Lake and Zen 5. Everything else stays avx2's.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_X86)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avxvnni")
#endif

namespace dialo::avxvnni {
namespace {

#include "kernels/x86/vec_avx2.inl"
#include "kernels/x86/acc_avx2.inl"

using Act = __m256i;
constexpr int kOffset = 0;

DIALO_INLINE Act act_broadcast(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}
DIALO_INLINE Acc dot(Acc sum, Act act, Weight w) {
  return {Acc8(_mm256_dpbusd_avx_epi32(__m256i(sum.lo), act, w.lo)),
          Acc8(_mm256_dpbusd_avx_epi32(__m256i(sum.hi), act, w.hi))};
}

// 8 accumulators hide the instruction's latency; two registers of weights, one of activations.
constexpr int kI8Rows = 4, kI8Blocks = 1, kI8RowBlocks = 6;
constexpr bool kTileAhead = false;  // as on avx2

#include "kernels/body/tile.inl"
#include "kernels/body/broadcast.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/peak.inl"

// The sum is also both operands: the values do not matter, and no register is spent on others.
struct PeakI8 {
  using Link = __m256i;
  static constexpr int kProducts = 32;
  DIALO_INLINE void advance(Link& a) {
    a = _mm256_dpbusd_avx_epi32(a, a, a);
    asm volatile("" : "+x"(a));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k.gemm_i8 = gemm_i8;
  k.peak_i8 = peak_i8;
}

}  // namespace dialo::avxvnni

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
