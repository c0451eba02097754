// How are weights stored as bytes? Symmetric, with one scale for each output: w[n] = scale[n] · q, |q| ≤ 127, packed
// [N/16][K/4][16][4]. Rows are quantised to bytes too, each with a scale and a zero of its own, and the sums are exact.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cpu/linear.h"

namespace dialo {
namespace {

int64_t groups_of(int64_t K) { return round_up(K, kGroup) / kGroup; }

std::vector<PackedPart> parts(int64_t K, int64_t N) {
  const int64_t outputs = round_up(N, kLanes);
  return {{"", ElementType::kI8, {outputs / kLanes, groups_of(K), kLanes, kGroup}},
          {"_scale", ElementType::kF32, {outputs}},
          {"_sum", ElementType::kI32, {outputs}}};  // Σ_k q[n][k]: what each unit of a row's zero adds to a product
}

// Of up to kLanes outputs from `first` on, the largest magnitude of each.
void find_highest(const Matrix& w, int64_t first, int64_t used, float* highest) {
  bool finite = true;
  for (int64_t k = 0; k < w.K; ++k) {
    for (int64_t l = 0; l < used; ++l) {
      const float magnitude = std::fabs(w.at(k, first + l));
      finite &= std::isfinite(magnitude);
      highest[l] = std::max(highest[l], magnitude);
    }
  }
  if (finite) return;
  throw std::invalid_argument("expected finite weights, found NaN or infinity in outputs " + std::to_string(first) +
                              " to " + std::to_string(first + used - 1));
}

void pack(const Matrix& w, std::span<void* const> parts) {
  int8_t* out = static_cast<int8_t*>(parts[0]);
  float* scale = static_cast<float*>(parts[1]);
  int32_t* sum = static_cast<int32_t*>(parts[2]);
  for (int64_t block = 0; block < round_up(w.N, kLanes); block += kLanes) {
    const int64_t used = std::min<int64_t>(kLanes, w.N - block);
    float highest[kLanes] = {}, inverse[kLanes] = {};
    find_highest(w, block, used, highest);
    for (int64_t l = 0; l < kLanes; ++l) {
      const bool silent = highest[l] < 1e-35f;
      scale[block + l] = silent ? 0.0f : highest[l] / 127.0f;
      inverse[l] = silent ? 0.0f : 127.0f / highest[l];
      sum[block + l] = 0;
    }
    for (int64_t g = 0; g < groups_of(w.K); ++g) {
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

class Int8Linear final : public Linear {
 public:
  Int8Linear(int K, int N, const int8_t* weight, const float* scale, const int32_t* sum, const float* bias)
      : K_(K), N_(N), groups_(int(groups_of(K))), weight_(weight), scale_(scale), sum_(sum), bias_(bias) {}

  void multiply(LinearContext& context, const RowOp& op, const Rows& x, const Rows& out,
                bool accumulate) const override {
    quantise(context, op, x);
    const GemmI8 product{.a = context.quantised.data(),
                         .a_scale = context.scales.data(),
                         .a_zero = context.zeros.data(),
                         .weight = weight_,
                         .w_scale = scale_,
                         .w_sum = sum_,
                         .bias = bias_,
                         .out = out.data,
                         .ldo = out.stride,
                         .groups = groups_,
                         .accumulate = accumulate,
                         .raw = nullptr};
    context.split(x.M, N_, [&](int row0, int row1, int block0, int block1) {
      context.kernels.gemm_i8(product, x.M, row0, row1, block0, block1);
    });
  }

  void gather(int output, float* out) const override {
    const int8_t* q = weight_ + (int64_t(output / kLanes) * groups_ * kLanes + output % kLanes) * kGroup;
    const float scale = scale_[output];
    for (int k = 0; k < K_; ++k) out[k] = float(q[k / kGroup * kLanes * kGroup + k % kGroup]) * scale;
  }

 private:
  // The context's bytes, scales and zeros = op(x).
  void quantise(LinearContext& context, const RowOp& op, const Rows& x) const {
    const int64_t row_bytes = int64_t(groups_) * kGroup, stride = round_up(K_, kLanes);
    uint8_t* quantised = context.quantised.grow(row_bytes * x.M);
    float* scales = context.scales.grow(x.M);
    int32_t* zeros = context.zeros.grow(x.M);
    float* prepared = context.prepared.grow(stride * kTileRows * context.pool.size());
    context.pool.parallel_for((x.M + kTileRows - 1) / kTileRows, [&](int tile, int thread) {
      const int row = tile * kTileRows, rows = std::min(kTileRows, x.M - row);
      const float* from = x.data + row * x.stride;
      int64_t from_stride = x.stride;
      if (op.kind != RowOp::kNone) {  // through the thread's own tile, which stays in its cache
        float* own = prepared + thread * stride * kTileRows;
        for (int r = 0; r < rows; ++r) context.apply(op, from + r * x.stride, K_, own + r * stride);
        from = own;
        from_stride = stride;
      }
      context.kernels.quantize_tile(from, from_stride, rows, K_, quantised + row * row_bytes, scales + row, zeros + row);
    });
  }

  const int K_, N_, groups_;
  const int8_t* const weight_;
  const float* const scale_;
  const int32_t* const sum_;
  const float* const bias_;
};

std::unique_ptr<Linear> view(int K, int N, std::span<const void* const> parts, const float* bias) {
  return std::make_unique<Int8Linear>(K, N, static_cast<const int8_t*>(parts[0]), static_cast<const float*>(parts[1]),
                                      static_cast<const int32_t*>(parts[2]), bias);
}

}  // namespace

extern const LinearFormat kInt8Format{"int8", ElementType::kI8, ElementType::kF16, parts, pack, view};

}  // namespace dialo
