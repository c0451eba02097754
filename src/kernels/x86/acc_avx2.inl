// 16 int32 sums as two 256-bit registers.

// Not __m256i: that type may alias everything, and GCC then stores every sum to memory in every step beside keeping it
// in a register.
typedef int32_t Acc8 __attribute__((vector_size(32)));

struct Acc {
  Acc8 lo, hi;
};
struct Weight {  // 64 bytes: four inputs of each of the 16 outputs
  __m256i lo, hi;
};

DIALO_INLINE __m256i load8(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
DIALO_INLINE Weight weight_load(const int8_t* p) { return {load8(p), load8(p + 32)}; }
DIALO_INLINE Acc acc_load(const int32_t* p) { return {Acc8(load8(p)), Acc8(load8(p + 8))}; }
DIALO_INLINE void acc_store(int32_t* p, Acc a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), __m256i(a.lo));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), __m256i(a.hi));
}
DIALO_INLINE Acc acc_sub(Acc a, Acc b) { return {a.lo - b.lo, a.hi - b.hi}; }
DIALO_INLINE Acc acc_times(Acc a, int32_t factor) { return {a.lo * factor, a.hi * factor}; }
DIALO_INLINE Vec acc_float(Acc a) {
  return {_mm256_cvtepi32_ps(__m256i(a.lo)), _mm256_cvtepi32_ps(__m256i(a.hi))};
}
