#include "cpu/pack.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "base/buffer.h"
#include "base/half.h"
#include "kernels/kernels.h"

namespace dialo {
namespace {

template <class T, class Convert>
void pack(const Matrix& w, T* out, const Convert& convert) {
  for (int64_t block = 0; block < round_up(w.N, kLanes); block += kLanes) {
    const int64_t used = std::min<int64_t>(kLanes, w.N - block);
    for (int64_t k = 0; k < w.K; ++k, out += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) out[l] = l < used ? convert(w.at(k, block + l)) : T{0};
    }
  }
}

}  // namespace

void pack_f32(const Matrix& w, float* out) {
  pack(w, out, [](float x) { return x; });
}

void pack_f16(const Matrix& w, uint16_t* out) {
  bool fits = true;
  pack(w, out, [&](float x) {
    const bool fine = std::fabs(x) < 65520.0f;
    fits &= fine;
    return fine ? float_to_half(x) : uint16_t{0};
  });
  if (!fits) {
    throw std::invalid_argument("Weights in half precision must be below 65520, but one is larger or no number.");
  }
}

void quantize_i8(const Matrix& w, int8_t* out, float* scale, int32_t* sum) {
  const int64_t groups = round_up(w.K, kGroup) / kGroup;
  for (int64_t block = 0; block < round_up(w.N, kLanes); block += kLanes) {
    const int64_t used = std::min<int64_t>(kLanes, w.N - block);
    float highest[kLanes] = {}, inverse[kLanes] = {};
    bool finite = true;
    for (int64_t k = 0; k < w.K; ++k) {
      for (int64_t l = 0; l < used; ++l) {
        const float magnitude = std::fabs(w.at(k, block + l));
        finite &= std::isfinite(magnitude);
        highest[l] = std::max(highest[l], magnitude);
      }
    }
    if (!finite) {
      throw std::invalid_argument("Weights must be finite numbers, but outputs " + std::to_string(block) + " to " +
                                  std::to_string(block + used - 1) + " hold a NaN or an infinity.");
    }
    for (int64_t l = 0; l < kLanes; ++l) {
      const bool silent = highest[l] < 1e-35f;
      scale[block + l] = silent ? 0.0f : highest[l] / 127.0f;
      inverse[l] = silent ? 0.0f : 127.0f / highest[l];
      sum[block + l] = 0;
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t l = 0; l < kLanes; ++l) {
        for (int64_t j = 0; j < kGroup; ++j) {
          const int64_t k = g * kGroup + j;
          const bool inside = l < used && k < w.K;
          const int q = inside ? int(std::lrint(w.at(k, block + l) * inverse[l])) : 0;
          *out++ = int8_t(q);
          sum[block + l] += q;
        }
      }
    }
  }
}

}  // namespace dialo
