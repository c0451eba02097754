// What is a vector without vector instructions? 16 floats and a loop: the definition that every ISA must equal.

struct Vec {
  float f[kLanes];
};
struct VecI {
  int32_t i[kLanes];
};

#define DIALO_EACH for (int l = 0; l < kLanes; ++l)

// a·b + c with one rounding.  Where the CPU has no such instruction: the product is exact in double, the sum is rounded
// to odd there, and the last rounding to float is then the only one (Boldo & Melquiond 2008).
DIALO_INLINE float fma1(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, b, c);
#else
  const double p = double(a) * double(b), z = double(c);
  const double s = p + z;
  const double t = s - p;
  const double error = (p - (s - t)) + (z - t);
  int64_t bits;
  __builtin_memcpy(&bits, &s, sizeof bits);
  const int64_t away = (error > 0) == (s > 0) ? 1 : -1;  // towards the exact sum, in the order of the bit patterns
  const bool inexact = error > 0 || error < 0;
  bits += (inexact && !(bits & 1)) ? away : 0;
  double odd;
  __builtin_memcpy(&odd, &bits, sizeof odd);
  return float(odd);
#endif
}

DIALO_INLINE Vec vset1(float x) { Vec r; DIALO_EACH r.f[l] = x; return r; }
DIALO_INLINE Vec vload(const float* p) { Vec r; DIALO_EACH r.f[l] = p[l]; return r; }
DIALO_INLINE Vec vload(const uint16_t* p) { Vec r; DIALO_EACH r.f[l] = half_to_float(p[l]); return r; }
DIALO_INLINE void vstore(float* p, Vec a) { DIALO_EACH p[l] = a.f[l]; }
DIALO_INLINE void vstore(uint16_t* p, Vec a) { DIALO_EACH p[l] = float_to_half(a.f[l]); }
DIALO_INLINE Vec vadd(Vec a, Vec b) { DIALO_EACH a.f[l] += b.f[l]; return a; }
DIALO_INLINE Vec vsub(Vec a, Vec b) { DIALO_EACH a.f[l] -= b.f[l]; return a; }
DIALO_INLINE Vec vmul(Vec a, Vec b) { DIALO_EACH a.f[l] *= b.f[l]; return a; }
DIALO_INLINE Vec vdiv(Vec a, Vec b) { DIALO_EACH a.f[l] /= b.f[l]; return a; }
DIALO_INLINE Vec vfma(Vec a, Vec b, Vec c) { DIALO_EACH c.f[l] = fma1(a.f[l], b.f[l], c.f[l]); return c; }
// As x86 defines them: the second operand when one is not a number.
DIALO_INLINE Vec vmax(Vec a, Vec b) { DIALO_EACH a.f[l] = a.f[l] > b.f[l] ? a.f[l] : b.f[l]; return a; }
DIALO_INLINE Vec vmin(Vec a, Vec b) { DIALO_EACH a.f[l] = a.f[l] < b.f[l] ? a.f[l] : b.f[l]; return a; }
DIALO_INLINE Vec vabs(Vec a) { DIALO_EACH a.f[l] = __builtin_fabsf(a.f[l]); return a; }
// x < limit ? yes : no
DIALO_INLINE Vec vselect_lt(Vec x, Vec limit, Vec yes, Vec no) {
  DIALO_EACH no.f[l] = x.f[l] < limit.f[l] ? yes.f[l] : no.f[l];
  return no;
}
// Lanes below `n` from `a`, the others from `b`.
DIALO_INLINE Vec vfirst(int n, Vec a, Vec b) { DIALO_EACH b.f[l] = l < n ? a.f[l] : b.f[l]; return b; }

// To the nearest integer, ties to even, for |x| < 2^22: adding 1.5·2^23 leaves the integer in the low bits.
DIALO_INLINE VecI vround(Vec a) {
  VecI r;
  DIALO_EACH {
    const float shifted = a.f[l] + 12582912.0f;
    __builtin_memcpy(&r.i[l], &shifted, sizeof shifted);
    r.i[l] -= 0x4b400000;
  }
  return r;
}
DIALO_INLINE Vec vfloat(VecI a) { Vec r; DIALO_EACH r.f[l] = float(a.i[l]); return r; }
// x · 2^n, for a normal result.
DIALO_INLINE Vec vscale2(Vec x, VecI n) {
  DIALO_EACH {
    const int32_t bits = (n.i[l] + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, sizeof power);
    x.f[l] *= power;
  }
  return x;
}
// Each lane + zero as a byte, saturated.
DIALO_INLINE void vstore_bytes(uint8_t* p, VecI a, int32_t zero) {
  DIALO_EACH {
    const int32_t q = a.i[l] + zero;
    p[l] = uint8_t(q < 0 ? 0 : q > 255 ? 255 : q);
  }
}

DIALO_INLINE float vsum(Vec a) {
  for (int half = kLanes / 2; half; half /= 2) {
    for (int l = 0; l < half; ++l) a.f[l] += a.f[l + half];
  }
  return a.f[0];
}
DIALO_INLINE float vhighest(Vec a) {
  for (int half = kLanes / 2; half; half /= 2) {
    for (int l = 0; l < half; ++l) a.f[l] = a.f[l] > a.f[l + half] ? a.f[l] : a.f[l + half];
  }
  return a.f[0];
}
