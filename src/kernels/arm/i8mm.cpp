// int8 dot products of mixed signs and 2 × 2 matrix products: Neoverse V1, N2, Cortex-A510, Apple M2 and later.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_ARM64)
#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

namespace dialo::i8mm {
namespace {

#include "kernels/arm/vec_neon.inl"
#include "kernels/arm/acc_neon.inl"

constexpr int kOffset = 0;

template <int R>
DIALO_INLINE Rows<R> rows_for_dot(const uint8_t* a) {
  return rows_load<R>(a);
}
template <int Lane>
DIALO_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t w, uint8x16_t rows) {
  return vsudotq_laneq_s32(sum, w, rows, Lane);
}

#include "kernels/arm/lanes.inl"

// 32 registers: 16 accumulators, of 8 rows × 8 outputs in two passes over a block or of 4 rows × 16; four of weights, four
// of activations, and what they are zipped from. With 8 rows each zipped register of weights serves four products.
constexpr int kI8Rows = 8, kI8Blocks = 1, kI8RowBlocks = 2;
constexpr bool kTileAhead = false;

#include "kernels/body/tile.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/arm/tile_i8mm.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/peak.inl"

// The sum is also both operands: the values do not matter. Two registers a link: four pipes of latency 4 want 16 at work.
struct PeakI8 {
  struct Link {
    int32x4_t a, b;
  };
  static constexpr int kProducts = 64;
  DIALO_INLINE void advance(Link& link) {
    link.a = vusmmlaq_s32(link.a, vreinterpretq_u8_s32(link.a), vreinterpretq_s8_s32(link.a));
    link.b = vusmmlaq_s32(link.b, vreinterpretq_u8_s32(link.b), vreinterpretq_s8_s32(link.b));
    asm volatile("" : "+w"(link.a), "+w"(link.b));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k.gemm_i8 = gemm_i8;
  k.peak_i8 = peak_i8;
}

}  // namespace dialo::i8mm

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
