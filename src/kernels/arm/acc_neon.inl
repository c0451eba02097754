// 16 int32 sums as four 128-bit registers.

struct Acc {
  int32x4_t a, b, c, d;
};
struct Weight {  // 64 bytes: four inputs of each of the 16 outputs
  int8x16_t a, b, c, d;
};

DIALO_INLINE Weight weight_load(const int8_t* p) { return {vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}; }
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

// `R` rows' four bytes each, row r in the 32-bit lane r % 4 of register r / 4; the rest of the last register is 0.
template <int R>
struct Rows {
  uint8x16_t q[(R + 3) / 4];
};
template <int R>
DIALO_INLINE Rows<R> rows_load(const uint8_t* a) {
  Rows<R> rows{};
  __builtin_memcpy(&rows, a, R * kGroup);
  return rows;
}
