// 512-bit vectors with the int8 dot product: servers since Cascade Lake, Zen 4 and later.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_X86)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

namespace dialo::avx512vnni {
namespace {

#include "kernels/x86/vec_avx512.inl"

// Not __m512i: that type may alias everything, and GCC then stores every sum to memory in every step beside keeping it
// in a register.
typedef int32_t Acc __attribute__((vector_size(64)));
using Act = __m512i;
using Weight = __m512i;
constexpr int kOffset = 0;

DIALO_INLINE Acc acc_load(const int32_t* p) { return Acc(_mm512_loadu_si512(p)); }
DIALO_INLINE void acc_store(int32_t* p, Acc a) { _mm512_storeu_si512(p, __m512i(a)); }
DIALO_INLINE Acc acc_sub(Acc a, Acc b) { return a - b; }
DIALO_INLINE Acc acc_times(Acc a, int32_t factor) { return a * factor; }
DIALO_INLINE Vec acc_float(Acc a) { return {_mm512_cvtepi32_ps(__m512i(a))}; }
DIALO_INLINE Act act_broadcast(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}
DIALO_INLINE Weight weight_load(const int8_t* w) { return _mm512_loadu_si512(w); }
DIALO_INLINE Acc dot(Acc sum, Act act, Weight w) { return Acc(_mm512_dpbusd_epi32(__m512i(sum), act, w)); }

// 32 registers: 24 accumulators, three of weights, one of activations.
constexpr int kF32Rows = 8, kF32Blocks = 3, kF32RowBlocks = 6;
constexpr int kI8Rows = 8, kI8Blocks = 3, kI8RowBlocks = 6;
constexpr bool kTileAhead = true;
constexpr int kAttentionRows = 8, kAttentionWidth = 2, kAttentionPages = 4;

#include "kernels/body/rows.inl"
#include "kernels/body/tile.inl"
#include "kernels/body/gemm_f32.inl"
#include "kernels/body/broadcast.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/attention.inl"
#include "kernels/body/peak.inl"

// The sum is also both operands: the values do not matter, and no register is spent on others.
struct PeakI8 {
  using Link = __m512i;
  static constexpr int kProducts = 64;
  DIALO_INLINE void advance(Link& a) {
    a = _mm512_dpbusd_epi32(a, a, a);
    asm volatile("" : "+v"(a));
  }
};
struct PeakF32 {
  using Link = __m512;
  static constexpr int kProducts = 16;
  DIALO_INLINE void advance(Link& a) {
    a = _mm512_fmadd_ps(a, a, a);
    asm volatile("" : "+v"(a));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }
static int64_t peak_f32(int rounds) { return run_chains<PeakF32>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k = {gemm_f32, gemm_f16, gemm_i8, quantize_tile, attention_f32, attention_f16, layer_norm, activate, exp_sum, peak_i8,
       peak_f32};
}

}  // namespace dialo::avx512vnni

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
