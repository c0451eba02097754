#include "cpu/linear.h"

#include <algorithm>

namespace dialo {
namespace {

// Few enough that what a thread fetches ahead is mostly its own next blocks, and more than one, so that a thread which is
// held up leaves something to the others.
constexpr int kPiecesPerThread = 2;

// Splits blocks of 16 outputs (and, for many rows, the rows too) into pieces for the pool.
template <class Product>
void split(ThreadPool& pool, int M, int N, const Product& product) {
  const int blocks = int(round_up(N, kLanes) / kLanes);
  // Six blocks: the largest register tile of every ISA divides it.
  const int width = std::max<int>(6, int(round_up(blocks, 6 * pool.size() * kPiecesPerThread) /
                                         (pool.size() * kPiecesPerThread)));
  const int height = 256;  // rows whose activations stay in the cache while the blocks pass
  const int columns = (blocks + width - 1) / width, bands = (M + height - 1) / height;
  pool.parallel_for(columns * bands, [&](int piece, int) {
    const int row = piece / columns * height, block = piece % columns * width;
    product(row, std::min(row + height, M), block, std::min(block + width, blocks));
  });
}

}  // namespace

void LinearRunner::apply(const RowOp& op, const float* x, int n, float* out) const {
  switch (op.kind) {
    case RowOp::kNone: return;
    case RowOp::kNorm: return kernels_.layer_norm(x, n, op.norm.gain, op.norm.bias, op.epsilon, out);
    case RowOp::kActivate: return kernels_.activate(op.activation, x, n, out);
  }
}

void LinearRunner::operator()(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out,
                              bool accumulate) {
  if (x.M == 0) return;
  w.i8 ? run_i8(w, op, x, out, accumulate) : run_float(w, op, x, out, accumulate);
}

void LinearRunner::run_float(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out,
                             bool accumulate) {
  Rows in = x;
  if (op.kind != RowOp::kNone) {
    in.stride = round_up(w.K, kLanes);
    in.data = prepared_.grow(in.stride * x.M);
    pool_.parallel_for((x.M + kTileRows - 1) / kTileRows, [&](int tile, int) {
      for (int row = tile * kTileRows; row < std::min(x.M, (tile + 1) * kTileRows); ++row) {
        apply(op, x.data + row * x.stride, w.K, in.data + row * in.stride);
      }
    });
  }
  const GemmF32 f32{in.data, in.stride, w.f32, w.bias, out.data, out.stride, w.K, accumulate};
  const GemmF16 f16{in.data, in.stride, w.f16, w.bias, out.data, out.stride, w.K, accumulate};
  split(pool_, x.M, w.N, [&](int row0, int row1, int block0, int block1) {
    w.f16 ? kernels_.gemm_f16(f16, row0, row1, block0, block1) : kernels_.gemm_f32(f32, row0, row1, block0, block1);
  });
}

void LinearRunner::run_i8(const LinearWeights& w, const RowOp& op, const Rows& x, const Rows& out, bool accumulate) {
  const int groups = int(round_up(w.K, kGroup) / kGroup);
  const int64_t row_bytes = int64_t(groups) * kGroup, stride = round_up(w.K, kLanes);
  uint8_t* packed = packed_.grow(row_bytes * x.M);
  float* scales = scales_.grow(x.M);
  int32_t* zeros = zeros_.grow(x.M);
  float* prepared = prepared_.grow(stride * kTileRows * pool_.size());
  pool_.parallel_for((x.M + kTileRows - 1) / kTileRows, [&](int tile, int thread) {
    const int row = tile * kTileRows, rows = std::min(kTileRows, x.M - row);
    const float* from = x.data + row * x.stride;
    int64_t from_stride = x.stride;
    if (op.kind != RowOp::kNone) {  // through the thread's own tile, which stays in its cache
      float* own = prepared + thread * stride * kTileRows;
      for (int r = 0; r < rows; ++r) apply(op, from + r * x.stride, w.K, own + r * stride);
      from = own;
      from_stride = stride;
    }
    kernels_.quantize_tile(from, from_stride, rows, w.K, packed + row * row_bytes, scales + row, zeros + row);
  });
  const GemmI8 gemm{.a = packed,
                    .a_scale = scales,
                    .a_zero = zeros,
                    .weight = w.i8,
                    .w_scale = w.scale,
                    .w_sum = w.sum,
                    .bias = w.bias,
                    .out = out.data,
                    .ldo = out.stride,
                    .groups = groups,
                    .accumulate = accumulate,
                    .raw = nullptr};
  split(pool_, x.M, w.N, [&](int row0, int row1, int block0, int block1) {
    kernels_.gemm_i8(gemm, x.M, row0, row1, block0, block1);
  });
}

}  // namespace dialo
