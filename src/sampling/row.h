// How is a row of V scores looked through quickly? Most of it is passed over a block at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace dialo {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

// No exit from the loop: that is what lets the compiler use vectors.
inline bool any_at_least(const float* x, std::size_t n, float threshold) {
  int any = 0;
  for (std::size_t i = 0; i < n; ++i) any |= x[i] >= threshold;
  return any != 0;
}

// use(id, score) in the order of ids for each score ≥ threshold; `use` may raise `threshold`.
template <class Use>
void for_each_at_least(std::span<const float> row, float& threshold, const Use& use) {
  constexpr std::size_t kBlock = 64;
  for (std::size_t first = 0; first < row.size(); first += kBlock) {
    const std::size_t n = std::min(kBlock, row.size() - first);
    const bool any = n == kBlock ? any_at_least(row.data() + first, kBlock, threshold) : true;
    if (!any) continue;
    for (std::size_t i = first; i < first + n; ++i) {
      if (row[i] >= threshold) use(int32_t(i), row[i]);
    }
  }
}

// The largest score's id; of equals the first.
inline int32_t argmax(std::span<const float> row) {
  float highest = kBanned;
  int32_t best = 0;
  for_each_at_least(row, highest, [&](int32_t id, float score) {
    if (score > highest) highest = score, best = id;
  });
  return best;
}

}  // namespace dialo
