// How do M rows pass through a linear layer? Prepare each row (norm, activation), then multiply. Everything that knows
// how the weights are stored is one LinearFormat, in one file: pack, view, gather and multiply.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/activation.h"
#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/arrays.h"

namespace dialo {

struct NormWeights {
  const float* gain;  // (C)
  const float* bias;  // (C)
};

// What happens to a row before the product.
struct RowOp {
  enum Kind { kNone, kNorm, kActivate } kind = kNone;
  NormWeights norm = {};
  float epsilon = 0;
  Activation activation = {};
};

// M rows of floats, `stride` apart; the space between the row's end and the next multiple of kLanes may be written.
struct Rows {
  float* data;
  int64_t stride;
  int M;
};

// What the linear layers of one backend share: kernels, threads and scratch memory. One product at a time.
struct LinearContext {
  const Kernels& kernels;
  ThreadPool& pool;
  Buffer<float> prepared = {};     // rows after their RowOp
  Buffer<uint8_t> quantised = {};  // the same as bytes, with one scale and one zero a row
  Buffer<float> scales = {};
  Buffer<int32_t> zeros = {};

  // out (n) = op(x (n))
  void apply(const RowOp& op, const float* x, int n, float* out) const;
  // product(row0, row1, block0, block1) on the threads, until M rows and all blocks of kLanes of N outputs are covered.
  void split(int M, int N, const std::function<void(int, int, int, int)>& product);
};

// One weight matrix, K inputs and N outputs, with its bias: a view of packed arrays that somebody else keeps alive.
class Linear {
 public:
  virtual ~Linear() = default;
  // out = op(x) · weightᵀ + bias, or out += the same. x has K columns, out has N.
  virtual void multiply(LinearContext& context, const RowOp& op, const Rows& x, const Rows& out,
                        bool accumulate) const = 0;
  // out (K): the weights of one output. An embedding is a linear of which one row is read.
  virtual void gather(int output, float* out) const = 0;
};

// A matrix of K inputs and N outputs, as checkpoints store it: (K, N) for Conv1D layers, (N, K) for embeddings.
struct Matrix {
  const float* data;
  int64_t K, N;
  bool in_out;  // (K, N)

  float at(int64_t k, int64_t n) const { return in_out ? data[k * N + n] : data[n * K + k]; }
};

// One array of a packed matrix: `X.weight` + suffix. Its first dimension counts blocks of kLanes outputs, or outputs
// when it has no other.
struct PackedPart {
  std::string suffix;
  ElementType type;
  std::vector<int64_t> shape;
};

// One way to store weights.
struct LinearFormat {
  const char* name;
  ElementType weight;       // of the first part, `X.weight`: what the format is recognised by
  ElementType keys_values;  // the cache's element type that loses no more than these weights do
  // `X.weight` first. What lies after K and N in the arrays is zero.
  std::vector<PackedPart> (*parts)(int64_t K, int64_t N);
  // Writes each part. std::invalid_argument when the format cannot hold a weight.
  void (*pack)(const Matrix& matrix, std::span<void* const> parts);
  // `bias`: (N), padded to kLanes, or null.
  std::unique_ptr<Linear> (*view)(int K, int N, std::span<const void* const> parts, const float* bias);
};

// All of them. A new one is a file beside linear_int8.cpp, and a line of the table in linear.cpp.
std::span<const LinearFormat* const> linear_formats();
// std::invalid_argument when there is none of that name.
const LinearFormat& linear_format(const std::string& name);

}  // namespace dialo
