// The int8 dot product of ARMv8.2: Cortex-A55, A75, A76 (Raspberry Pi 5), Neoverse N1 and later. Everything else stays
// neon's.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_ARM64)
#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace dialo::dotprod {
namespace {

#include "kernels/arm/vec_neon.inl"
#include "kernels/arm/acc_neon.inl"

// SDOT takes signed bytes on both sides.
constexpr int kOffset = 128;

template <int R>
DIALO_INLINE Rows<R> rows_for_dot(const uint8_t* a) {
  Rows<R> rows = rows_load<R>(a);
  for (uint8x16_t& q : rows.q) q = veorq_u8(q, vdupq_n_u8(0x80));
  return rows;
}
template <int Lane>
DIALO_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t w, uint8x16_t rows) {
  return vdotq_laneq_s32(sum, w, vreinterpretq_s8_u8(rows), Lane);
}

#include "kernels/arm/lanes.inl"

// 32 registers: 16 accumulators (4 × 1 × 4), more than latency × throughput of the dot product; eight of weights and two
// of activations, two groups of inputs. Four rows divide the packed tile of eight: six would leave two. One row alone
// waits for memory, not for registers: 8 accumulators hide the latency.
constexpr int kI8Rows = 4, kI8Blocks = 1, kI8RowBlocks = 2;
constexpr bool kTileAhead = false;

#include "kernels/body/tile.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/peak.inl"

// The sum is also both operands: the values do not matter. Two registers a link: four pipes of latency 4 want 16 at work.
struct PeakI8 {
  struct Link {
    int32x4_t a, b;
  };
  static constexpr int kProducts = 32;
  DIALO_INLINE void advance(Link& link) {
    link.a = vdotq_s32(link.a, vreinterpretq_s8_s32(link.a), vreinterpretq_s8_s32(link.a));
    link.b = vdotq_s32(link.b, vreinterpretq_s8_s32(link.b), vreinterpretq_s8_s32(link.b));
    asm volatile("" : "+w"(link.a), "+w"(link.b));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k.gemm_i8 = gemm_i8;
  k.peak_i8 = peak_i8;
}

}  // namespace dialo::dotprod

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
