// The first rung: plain C++. It is what every other rung must equal, bit for bit.
#include <utility>

#include "base/half.h"
#include "kernels/isa.h"
#include "kernels/kernels.h"

namespace dialo::scalar {
namespace {

#include "kernels/vec_scalar.inl"

struct Acc {
  int32_t i[kLanes];
};
struct Act {
  int32_t a[kGroup];
};
using Weight = const int8_t*;
constexpr int kOffset = 128;

DIALO_INLINE Acc acc_load(const int32_t* p) { Acc r; DIALO_EACH r.i[l] = p[l]; return r; }
DIALO_INLINE void acc_store(int32_t* p, Acc a) { DIALO_EACH p[l] = a.i[l]; }
DIALO_INLINE Acc acc_sub(Acc a, Acc b) { DIALO_EACH a.i[l] -= b.i[l]; return a; }
DIALO_INLINE Acc acc_times(Acc a, int32_t factor) { DIALO_EACH a.i[l] *= factor; return a; }
DIALO_INLINE Vec acc_float(Acc a) { Vec r; DIALO_EACH r.f[l] = float(a.i[l]); return r; }
DIALO_INLINE Act act_broadcast(const uint8_t* p) {
  return {{p[0] - 128, p[1] - 128, p[2] - 128, p[3] - 128}};
}
DIALO_INLINE Weight weight_load(const int8_t* w) { return w; }
DIALO_INLINE Acc dot(Acc sum, Act act, Weight w) {
  DIALO_EACH {
    const int8_t* q = w + l * kGroup;
    sum.i[l] += act.a[0] * q[0] + act.a[1] * q[1] + act.a[2] * q[2] + act.a[3] * q[3];
  }
  return sum;
}

constexpr int kF32Rows = 2, kF32Blocks = 1, kF32RowBlocks = 1;
constexpr int kI8Rows = 2, kI8Blocks = 1, kI8RowBlocks = 1;
constexpr bool kTileAhead = false;
constexpr int kAttentionRows = 2, kAttentionWidth = 1, kAttentionPages = 4;

#include "kernels/body/rows.inl"
#include "kernels/body/tile.inl"
#include "kernels/body/gemm_f32.inl"
#include "kernels/body/broadcast.inl"
#include "kernels/body/dot_i8.inl"
#include "kernels/body/gemm_i8.inl"
#include "kernels/body/attention.inl"

// Plain C++ names no instruction whose chain could be timed: its peak is what its own product does with operands in the
// first cache. They are zeros that the compiler cannot see through.
constexpr int kPeakK = 256, kPeakBlocks = 2;
alignas(64) const char peak_zeros[kTileRows * kPeakK * sizeof(float) + kPeakBlocks * kLanes * kPeakK * sizeof(float)] = {};

template <class T>
DIALO_INLINE const T* opaque_zeros() {
  const void* zeros = peak_zeros;
  asm volatile("" : "+r"(zeros));
  return static_cast<const T*>(zeros);
}

constexpr int64_t kPeakProducts = int64_t{kTileRows} * kPeakBlocks * kLanes * kPeakK;

static int64_t peak_i8(int rounds) {
  float out[kTileRows * kPeakBlocks * kLanes];
  const float* scales = opaque_zeros<float>();
  const int32_t* sums = opaque_zeros<int32_t>();
  const GemmI8 gemm{opaque_zeros<uint8_t>(), scales, sums, opaque_zeros<int8_t>(), scales, sums, nullptr, out,
                    kPeakBlocks * kLanes, kPeakK / kGroup, false, nullptr};
  for (int round = 0; round < rounds; ++round) gemm_i8(gemm, kTileRows, 0, kTileRows, 0, kPeakBlocks);
  return kPeakProducts * rounds;
}

static int64_t peak_f32(int rounds) {
  float out[kTileRows * kPeakBlocks * kLanes];
  const GemmF32 gemm{opaque_zeros<float>(), kPeakK, opaque_zeros<float>(), nullptr, out, kPeakBlocks * kLanes, kPeakK,
                     false};
  for (int round = 0; round < rounds; ++round) gemm_f32(gemm, 0, kTileRows, 0, kPeakBlocks);
  return kPeakProducts * rounds;
}

}  // namespace

void overlay(Kernels& k) {
  k = {gemm_f32, gemm_f16, gemm_i8, quantize_tile, attention_f32, attention_f16, layer_norm, activate, exp_sum, peak_i8,
       peak_f32};
}

}  // namespace dialo::scalar
