// 16 lanes as one 512-bit register.

struct Vec {
  __m512 v;
};
struct VecI {
  __m512i v;
};

DIALO_INLINE Vec vset1(float x) { return {_mm512_set1_ps(x)}; }
DIALO_INLINE Vec vload(const float* p) { return {_mm512_loadu_ps(p)}; }
DIALO_INLINE Vec vload(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
DIALO_INLINE void vstore(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
DIALO_INLINE void vstore(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
DIALO_INLINE Vec vadd(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
DIALO_INLINE Vec vsub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
DIALO_INLINE Vec vmul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
DIALO_INLINE Vec vdiv(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
DIALO_INLINE Vec vfma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
DIALO_INLINE Vec vmax(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
DIALO_INLINE Vec vmin(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
DIALO_INLINE Vec vabs(Vec a) { return {_mm512_abs_ps(a.v)}; }
DIALO_INLINE Vec vselect_lt(Vec x, Vec limit, Vec yes, Vec no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ), no.v, yes.v)};
}
DIALO_INLINE Vec vfirst(int n, Vec a, Vec b) {
  const __mmask16 mask = n >= 16 ? 0xffff : n <= 0 ? 0 : __mmask16((1u << n) - 1);
  return {_mm512_mask_blend_ps(mask, b.v, a.v)};
}
DIALO_INLINE VecI vround(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }
DIALO_INLINE Vec vfloat(VecI a) { return {_mm512_cvtepi32_ps(a.v)}; }
DIALO_INLINE Vec vscale2(Vec x, VecI n) {
  const __m512i power = _mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23);
  return {_mm512_mul_ps(x.v, _mm512_castsi512_ps(power))};
}
DIALO_INLINE void vstore_bytes(uint8_t* p, VecI a, int32_t zero) {
  const __m512i q = _mm512_max_epi32(_mm512_add_epi32(a.v, _mm512_set1_epi32(zero)), _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(q));
}
// The tree of the definition, which _mm512_reduce_add_ps does not promise.
DIALO_INLINE float vsum(Vec a) {
  const __m256 eight = _mm256_add_ps(_mm512_extractf32x8_ps(a.v, 0), _mm512_extractf32x8_ps(a.v, 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
DIALO_INLINE float vhighest(Vec a) {
  const __m256 eight = _mm256_max_ps(_mm512_extractf32x8_ps(a.v, 0), _mm512_extractf32x8_ps(a.v, 1));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
DIALO_INLINE float fma1(float a, float b, float c) { return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))); }
