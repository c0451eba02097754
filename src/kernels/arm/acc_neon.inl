// 16 int32 sums as four 128-bit registers.

struct Acc {
  int32x4_t a, b, c, d;
};
struct Weight {  // 64 bytes: four inputs of each of the 16 outputs
  int8x16_t a, b, c, d;
};

// Volatile keeps GCC from pairing the loads: one LDP of two such registers holds Cortex-A55's load pipe for six cycles,
// two LDR for two.
DIALO_INLINE int8x16_t load16(const int8_t* p) {
  typedef int8x16_t Unaligned __attribute__((aligned(1), may_alias));
  return *reinterpret_cast<const volatile Unaligned*>(p);
}
DIALO_INLINE Weight weight_load(const int8_t* p) { return {load16(p), load16(p + 16), load16(p + 32), load16(p + 48)}; }
DIALO_INLINE Acc acc_load(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}; }
DIALO_INLINE void acc_store(int32_t* p, Acc s) {
  vst1q_s32(p, s.a);
  vst1q_s32(p + 4, s.b);
  vst1q_s32(p + 8, s.c);
  vst1q_s32(p + 12, s.d);
}
DIALO_INLINE Acc acc_sub(Acc x, Acc y) {
  return {vsubq_s32(x.a, y.a), vsubq_s32(x.b, y.b), vsubq_s32(x.c, y.c), vsubq_s32(x.d, y.d)};
}
DIALO_INLINE Acc acc_times(Acc x, int32_t n) {
  return {vmulq_n_s32(x.a, n), vmulq_n_s32(x.b, n), vmulq_n_s32(x.c, n), vmulq_n_s32(x.d, n)};
}
DIALO_INLINE Vec acc_float(Acc x) {
  return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}

// `R` rows' four bytes each, row r in the 32-bit lane r % 4 of register r / 4; the rest of the last register is anything.
template <int R>
struct Rows {
  uint8x16_t q[(R + 3) / 4];
};
template <int R>
DIALO_INLINE Rows<R> rows_load(const uint8_t* a) {
  if constexpr (R == 4) return {{vld1q_u8(a)}};
  if constexpr (R == 8) return {{vld1q_u8(a), vld1q_u8(a + 16)}};
  if constexpr (R == 2) return {{vcombine_u8(vld1_u8(a), vdup_n_u8(0))}};
  if constexpr (R > 4) {
    const uint8x16_t rest = rows_load<R - 4>(a + 16).q[0];
    return {{vld1q_u8(a), rest}};
  }
  int32_t last;  // the odd row's
  __builtin_memcpy(&last, a + (R - 1) * kGroup, kGroup);
  int32x4_t q = vdupq_n_s32(last);
  if constexpr (R == 3) q = vcombine_s32(vreinterpret_s32_u8(vld1_u8(a)), vget_low_s32(q));
  return {{vreinterpretq_u8_s32(q)}};
}
