// 128-bit vectors: any 64-bit ARM. int8 products by widening multiplies.
#include <utility>

#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_ARM64)
#include <arm_neon.h>

// No target region: these instructions are every AArch64 CPU's.
namespace dialo::neon {
namespace {

#include "kernels/arm/vec_neon.inl"
#include "kernels/arm/acc_neon.inl"

// SMULL multiplies 8 bytes into 16 bits, SMLAL adds the products of the next group of inputs, SADALP adds pairs of them
// to 32 bits. The factors are at most 128 and 127, and 2 · 128 · 127 fits into 16 bits: exact. Two groups at once take
// three instructions for 16 products; one alone would take four.
constexpr int kGroupsAtOnce = 2;
constexpr int kOffset = 128;

struct Sum {  // of each output two lanes: its first two inputs, its last two
  int32x4_t a, b, c, d, e, f, g, h;
};
template <int U>
struct Weights {
  Weight group[U];
};
template <int R, int U>
struct Acts {
  Rows<R> group[U];
};
template <int U>
struct Act {  // one row's four bytes in every lane
  int8x16_t group[U];
};

template <int U>
DIALO_INLINE Weights<U> weights_load(const int8_t* w) {
  if constexpr (U == 1) return {{weight_load(w)}};
  else return {{weight_load(w), weight_load(w + kLanes * kGroup)}};
}
template <int R>
DIALO_INLINE Rows<R> signed_rows(const uint8_t* a) {
  Rows<R> rows = rows_load<R>(a);
  for (uint8x16_t& q : rows.q) q = veorq_u8(q, vdupq_n_u8(0x80));
  return rows;
}
template <int R, int U>
DIALO_INLINE Acts<R, U> acts_load(const uint8_t* a, int64_t step) {
  if constexpr (U == 1) return {{signed_rows<R>(a)}};
  else return {{signed_rows<R>(a), signed_rows<R>(a + step)}};
}
template <int Row, int R>
DIALO_INLINE int8x16_t spread(const Rows<R>& rows) {
  return vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_u8(rows.q[Row / 4]), Row % 4));
}
template <int Row, int R, int U>
DIALO_INLINE Act<U> act_of(const Acts<R, U>& acts) {
  if constexpr (U == 1) return {{spread<Row>(acts.group[0])}};
  else return {{spread<Row>(acts.group[0]), spread<Row>(acts.group[1])}};
}

DIALO_INLINE void dot4(int32x4_t& lo, int32x4_t& hi, const Act<1>& act, int8x16_t w) {
  lo = vpadalq_s16(lo, vmull_s8(vget_low_s8(w), vget_low_s8(act.group[0])));
  hi = vpadalq_s16(hi, vmull_high_s8(w, act.group[0]));
}
DIALO_INLINE void dot4(int32x4_t& lo, int32x4_t& hi, const Act<2>& act, int8x16_t w, int8x16_t w2) {
  const int16x8_t first = vmull_s8(vget_low_s8(w), vget_low_s8(act.group[0]));
  const int16x8_t last = vmull_high_s8(w, act.group[0]);
  lo = vpadalq_s16(lo, vmlal_s8(first, vget_low_s8(w2), vget_low_s8(act.group[1])));
  hi = vpadalq_s16(hi, vmlal_high_s8(last, w2, act.group[1]));
}
DIALO_INLINE Sum dot(Sum s, const Act<1>& act, const Weights<1>& w) {
  dot4(s.a, s.b, act, w.group[0].a);
  dot4(s.c, s.d, act, w.group[0].b);
  dot4(s.e, s.f, act, w.group[0].c);
  dot4(s.g, s.h, act, w.group[0].d);
  return s;
}
DIALO_INLINE Sum dot(Sum s, const Act<2>& act, const Weights<2>& w) {
  dot4(s.a, s.b, act, w.group[0].a, w.group[1].a);
  dot4(s.c, s.d, act, w.group[0].b, w.group[1].b);
  dot4(s.e, s.f, act, w.group[0].c, w.group[1].c);
  dot4(s.g, s.h, act, w.group[0].d, w.group[1].d);
  return s;
}
DIALO_INLINE Acc acc_of(Sum s) {
  return {vpaddq_s32(s.a, s.b), vpaddq_s32(s.c, s.d), vpaddq_s32(s.e, s.f), vpaddq_s32(s.g, s.h)};
}

// 32 registers. float32: 24 accumulators (6 × 1 × 4), four of weights, one of activations; one row alone has 12, more
// than latency × throughput of a multiply-add. int8: 16 accumulators (2 × 1 × 8), four of activations, the weights and
// products of one quarter of a block; one row has 8.
constexpr int kF32Rows = 6, kF32Blocks = 1, kF32RowBlocks = 3;
constexpr int kI8Rows = 2, kI8Blocks = 1, kI8RowBlocks = 1;
constexpr bool kTileAhead = false;  // a tile is slow enough for the CPU's own prefetch
constexpr int kAttentionRows = 2, kAttentionWidth = 2, kAttentionPages = 2;

#include "kernels/body/rows.inl"
#include "kernels/body/tile.inl"
#include "kernels/body/gemm_f32.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/attention.inl"
#include "kernels/body/peak.inl"

DIALO_INLINE int32x4_t peak_step(int32x4_t sum) {
  const int8x16_t q = vreinterpretq_s8_s32(sum);
  return vpadalq_s16(sum, vmlal_s8(vmull_s8(vget_low_s8(q), vget_low_s8(q)), vget_low_s8(q), vget_low_s8(q)));
}

// The sum is also both operands: the values do not matter. Two registers a link: four pipes of latency 4 want 16 at work.
struct PeakI8 {
  struct Link {
    int32x4_t a, b;
  };
  static constexpr int kProducts = 32;
  DIALO_INLINE void advance(Link& link) {
    link.a = peak_step(link.a);
    link.b = peak_step(link.b);
    asm volatile("" : "+w"(link.a), "+w"(link.b));
  }
};
struct PeakF32 {
  struct Link {
    float32x4_t a, b;
  };
  static constexpr int kProducts = 8;
  DIALO_INLINE void advance(Link& link) {
    link.a = vfmaq_f32(link.a, link.a, link.a);
    link.b = vfmaq_f32(link.b, link.b, link.b);
    asm volatile("" : "+w"(link.a), "+w"(link.b));
  }
};
static int64_t peak_i8(int rounds) { return run_chains<PeakI8>(rounds, UpTo<kChains>()); }
static int64_t peak_f32(int rounds) { return run_chains<PeakF32>(rounds, UpTo<kChains>()); }

}  // namespace

void overlay(Kernels& k) {
  k = {gemm_f32, gemm_f16, gemm_i8, quantize_tile, attention_f32, attention_f16, layer_norm, activate, exp_sum, peak_i8,
       peak_f32};
}

}  // namespace dialo::neon
#endif
