// 256-bit vectors with FMA and F16C: any x86 since 2013.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_X86)
#include <immintrin.h>

// The target begins after the includes: what they define stays baseline code (see DESIGN: ISA dispatch).
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace dialo::avx2 {
namespace {

#include "kernels/x86/vec_avx2.inl"
#include "kernels/x86/acc_avx2.inl"

struct Act {
  __m256i magnitude, sign;
};
constexpr int kOffset = 128;

DIALO_INLINE Act act_broadcast(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  // Flipped after the broadcast: a broadcast from memory is one instruction, from a changed scalar it is four.
  const __m256i a = _mm256_xor_si256(_mm256_set1_epi32(four), _mm256_set1_epi8(int8_t(0x80)));
  return {_mm256_abs_epi8(a), a};
}
// maddubs adds two products in 16 bits and saturates. With the sign moved to the weights the factors are at most 128 and
// 127, and 2 · 128 · 127 fits: exact.
DIALO_INLINE Acc8 dot8(Acc8 sum, Act act, __m256i q) {
  const __m256i pairs = _mm256_maddubs_epi16(act.magnitude, _mm256_sign_epi8(q, act.sign));
  return sum + Acc8(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
DIALO_INLINE Acc dot(Acc sum, Act act, Weight w) { return {dot8(sum.lo, act, w.lo), dot8(sum.hi, act, w.hi)}; }

// 16 registers: 12 accumulators (6 × 1 × 2), two of weights, one of activations.
constexpr int kF32Rows = 6, kF32Blocks = 1, kF32RowBlocks = 6;
// 8 accumulators; the others hold two activations' halves, weights and intermediate products.
constexpr int kI8Rows = 4, kI8Blocks = 1, kI8RowBlocks = 6;
constexpr bool kTileAhead = false;  // a tile of 4 rows × 1 block is slow enough for the CPU's own prefetch
constexpr int kAttentionRows = 2, kAttentionWidth = 2, kAttentionPages = 4;

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
  using Link = __m256i;
  static constexpr int kProducts = 32;
  DIALO_INLINE void advance(Link& a) {
    a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), a));
    asm volatile("" : "+x"(a));
  }
};
struct PeakF32 {
  using Link = __m256;
  static constexpr int kProducts = 8;
  DIALO_INLINE void advance(Link& a) {
    a = _mm256_fmadd_ps(a, a, a);
    asm volatile("" : "+x"(a));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }
static int64_t peak_f32(int rounds) { return run_chains<PeakF32>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k = {gemm_f32, gemm_f16, gemm_i8, quantize_tile, attention_f32, attention_f16, layer_norm, activate, exp_sum, peak_i8,
       peak_f32};
}

}  // namespace dialo::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
