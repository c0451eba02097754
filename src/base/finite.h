// Is every number of a row finite? A damaged weight shows itself here.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace dialo {

// No exit from the loop: that is what lets the compiler use vectors.
inline bool all_finite(std::span<const float> row) {
  bool damaged = false;
  for (const float x : row) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    damaged |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  return !damaged;
}

}  // namespace dialo
