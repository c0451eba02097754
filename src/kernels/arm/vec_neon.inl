// 16 lanes as four 128-bit registers.

struct Vec {
  float32x4_t a, b, c, d;
};
struct VecI {
  int32x4_t a, b, c, d;
};

DIALO_INLINE Vec vset1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
DIALO_INLINE Vec vload(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
DIALO_INLINE Vec vload(const uint16_t* p) {
  const float16x8_t lo = vreinterpretq_f16_u16(vld1q_u16(p)), hi = vreinterpretq_f16_u16(vld1q_u16(p + 8));
  return {vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo), vcvt_f32_f16(vget_low_f16(hi)), vcvt_high_f32_f16(hi)};
}
DIALO_INLINE void vstore(float* p, Vec v) {
  vst1q_f32(p, v.a);
  vst1q_f32(p + 4, v.b);
  vst1q_f32(p + 8, v.c);
  vst1q_f32(p + 12, v.d);
}
DIALO_INLINE void vstore(uint16_t* p, Vec v) {
  vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.a), v.b)));
  vst1q_u16(p + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.c), v.d)));
}
DIALO_INLINE Vec vadd(Vec x, Vec y) {
  return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
DIALO_INLINE Vec vsub(Vec x, Vec y) {
  return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}
DIALO_INLINE Vec vmul(Vec x, Vec y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
DIALO_INLINE Vec vdiv(Vec x, Vec y) {
  return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}
DIALO_INLINE Vec vfma(Vec x, Vec y, Vec z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
// mask ? yes : no
DIALO_INLINE Vec vselect4(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d, Vec yes, Vec no) {
  return {vbslq_f32(a, yes.a, no.a), vbslq_f32(b, yes.b, no.b), vbslq_f32(c, yes.c, no.c), vbslq_f32(d, yes.d, no.d)};
}
DIALO_INLINE Vec vselect_lt(Vec x, Vec limit, Vec yes, Vec no) {
  return vselect4(vcltq_f32(x.a, limit.a), vcltq_f32(x.b, limit.b), vcltq_f32(x.c, limit.c), vcltq_f32(x.d, limit.d),
                  yes, no);
}
// As x86 defines them, which FMAX and FMIN do not: the second operand when one is not a number.
DIALO_INLINE Vec vmax(Vec x, Vec y) { return vselect_lt(y, x, x, y); }
DIALO_INLINE Vec vmin(Vec x, Vec y) { return vselect_lt(x, y, x, y); }
DIALO_INLINE Vec vabs(Vec x) { return {vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)}; }
DIALO_INLINE Vec vfirst(int n, Vec x, Vec y) {
  alignas(16) static const int32_t lanes[4] = {0, 1, 2, 3};
  const int32x4_t lane = vld1q_s32(lanes);
  return vselect4(vcltq_s32(lane, vdupq_n_s32(n)), vcltq_s32(lane, vdupq_n_s32(n - 4)),
                  vcltq_s32(lane, vdupq_n_s32(n - 8)), vcltq_s32(lane, vdupq_n_s32(n - 12)), x, y);
}
DIALO_INLINE VecI vround(Vec x) {
  return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c), vcvtnq_s32_f32(x.d)};
}
DIALO_INLINE Vec vfloat(VecI x) {
  return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}
DIALO_INLINE float32x4_t vpower(int32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
DIALO_INLINE Vec vscale2(Vec x, VecI n) {
  return {vmulq_f32(x.a, vpower(n.a)), vmulq_f32(x.b, vpower(n.b)), vmulq_f32(x.c, vpower(n.c)),
          vmulq_f32(x.d, vpower(n.d))};
}
DIALO_INLINE void vstore_bytes(uint8_t* p, VecI x, int32_t zero) {
  const int32x4_t z = vdupq_n_s32(zero);
  const uint16x8_t lo = vcombine_u16(vqmovun_s32(vaddq_s32(x.a, z)), vqmovun_s32(vaddq_s32(x.b, z)));
  const uint16x8_t hi = vcombine_u16(vqmovun_s32(vaddq_s32(x.c, z)), vqmovun_s32(vaddq_s32(x.d, z)));
  vst1q_u8(p, vcombine_u8(vqmovn_u16(lo), vqmovn_u16(hi)));
}
// The tree of the definition: vaddvq_f32 adds neighbours instead.
DIALO_INLINE float vsum(Vec x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
DIALO_INLINE float vhighest(Vec x) {
  const Vec eight = vmax({x.a, x.b, x.a, x.b}, {x.c, x.d, x.c, x.d});
  const Vec four = vmax({eight.a, eight.a, eight.a, eight.a}, {eight.b, eight.b, eight.b, eight.b});
  float lane[4];
  vst1q_f32(lane, four.a);
  const float x02 = lane[0] > lane[2] ? lane[0] : lane[2], x13 = lane[1] > lane[3] ? lane[1] : lane[3];
  return x02 > x13 ? x02 : x13;
}
DIALO_INLINE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
