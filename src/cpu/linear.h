// How do M rows pass through a linear layer? Prepare each row (norm, activation, quantisation), then one product.
#pragma once

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "cpu/weights.h"
#include "kernels/kernels.h"

namespace dialo {

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

class LinearRunner {
 public:
  LinearRunner(const Kernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  // out = RowOp(x) · weightᵀ + bias, or out += the same.
  void operator()(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out, bool accumulate);

 private:
  void run_float(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out, bool accumulate);
  void run_i8(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out, bool accumulate);
  void apply(const RowOp& op, const float* x, int n, float* out) const;

  const Kernels& kernels_;
  ThreadPool& pool_;
  Buffer<float> prepared_;    // rows behind their RowOp
  Buffer<uint8_t> packed_;    // and quantised
  Buffer<float> scales_;      // one a row
  Buffer<int32_t> zeros_;     // one a row
};

}  // namespace dialo
