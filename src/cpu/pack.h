// How does a weight matrix become the packed layout that every ISA reads?
#pragma once

#include <cstdint>

namespace dialo {

// A matrix of K inputs and N outputs, as checkpoints store it: (K, N) for Conv1D layers, (N, K) for embeddings.
struct Matrix {
  const float* data;
  int64_t K, N;
  bool in_out;  // (K, N)

  float at(int64_t k, int64_t n) const { return in_out ? data[k * N + n] : data[n * K + k]; }
};

// out: [N/16][K][16]; outputs behind N are zero.
void pack_f32(const Matrix& w, float* out);

// The same in half precision, rounded to nearest even. std::invalid_argument when a weight is beyond its range.
void pack_f16(const Matrix& w, uint16_t* out);

// out: [N/16][K/4][16][4] with w[n] = scale[n] · q, |q| ≤ 127; sum[n] = Σ_k q[n][k]. What lies behind K and N is
// zero. std::invalid_argument when a weight is not finite.
void quantize_i8(const Matrix& w, int8_t* out, float* scale, int32_t* sum);

}  // namespace dialo
