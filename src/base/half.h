// What is a number in half precision (IEEE binary16), without an instruction for it?
#pragma once

#include <cstdint>
#include <cstring>

namespace dialo {

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, magnitude = h & 0x7fff;
  uint32_t bits;
  if (magnitude >= 0x7c00) {
    bits = 0x7f800000u | (magnitude & 0x3ff) << 13;
  } else if (magnitude >= 0x400) {
    bits = (magnitude << 13) + ((127u - 15u) << 23);
  } else {  // subnormal: magnitude · 2^-24, exact
    const float f = float(int32_t(magnitude)) * 0x1p-24f;
    std::memcpy(&bits, &f, sizeof bits);
  }
  bits |= sign;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// To nearest, ties to even, for |f| < 65520: what is larger has no finite half.
inline uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits < (127 - 14) << 23) {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
    float g;
    std::memcpy(&g, &bits, sizeof g);
    g += 0.5f;
    std::memcpy(&bits, &g, sizeof bits);
    return sign | uint16_t(bits - 0x3f000000u);
  }
  bits -= (127u - 15u) << 23;
  return sign | uint16_t((bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

}  // namespace dialo
