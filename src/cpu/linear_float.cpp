// How are weights stored as floats? In float32 or, exactly as many blocks, in half precision: [N/16][K][16].
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/half.h"
#include "cpu/linear.h"

namespace dialo {
namespace {

float widened(float x) { return x; }
float widened(uint16_t x) { return half_to_float(x); }

template <ElementType kType>
std::vector<PackedPart> parts(int64_t K, int64_t N) {
  return {{"", kType, {round_up(N, kLanes) / kLanes, K, kLanes}}};
}

template <class T, class Convert>
void pack_as(const Matrix& w, T* out, const Convert& convert) {
  for (int64_t block = 0; block < round_up(w.N, kLanes); block += kLanes) {
    const int64_t used = std::min<int64_t>(kLanes, w.N - block);
    for (int64_t k = 0; k < w.K; ++k, out += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) out[l] = l < used ? convert(w.at(k, block + l)) : T{0};
    }
  }
}

void pack_float32(const Matrix& w, std::span<void* const> parts) {
  pack_as(w, static_cast<float*>(parts[0]), [](float x) { return x; });
}

// Rounded to nearest, ties to even.
void pack_float16(const Matrix& w, std::span<void* const> parts) {
  bool fits = true;
  pack_as(w, static_cast<uint16_t*>(parts[0]), [&](float x) {
    const bool fine = std::fabs(x) < 65520.0f;
    fits &= fine;
    return fine ? float_to_half(x) : uint16_t{0};
  });
  if (!fits) throw std::invalid_argument("expected weights below 65520 for float16, found a larger one; use float32");
}

// T as it is stored; Product is the kernel's argument.
template <class T, class Product, auto kKernel>
class FloatLinear final : public Linear {
 public:
  FloatLinear(int K, int N, const T* weight, const float* bias) : K_(K), N_(N), weight_(weight), bias_(bias) {}

  void multiply(LinearContext& context, const RowOp& op, const Rows& x, const Rows& out,
                bool accumulate) const override {
    const Rows in = op.kind == RowOp::kNone ? x : prepared(context, op, x);
    const Product product{in.data, in.stride, weight_, bias_, out.data, out.stride, K_, accumulate};
    const auto kernel = context.kernels.*kKernel;
    context.split(x.M, N_, [&](int row0, int row1, int block0, int block1) {
      kernel(product, row0, row1, block0, block1);
    });
  }

  void gather(int output, float* out) const override {
    const T* w = weight_ + int64_t(output / kLanes) * K_ * kLanes + output % kLanes;
    for (int k = 0; k < K_; ++k) out[k] = widened(w[int64_t(k) * kLanes]);
  }

 private:
  Rows prepared(LinearContext& context, const RowOp& op, const Rows& x) const {
    const int64_t stride = round_up(K_, kLanes);
    const Rows out{context.prepared.grow(stride * x.M), stride, x.M};
    context.pool.parallel_for((x.M + kTileRows - 1) / kTileRows, [&](int tile, int) {
      for (int row = tile * kTileRows; row < std::min(x.M, (tile + 1) * kTileRows); ++row) {
        context.apply(op, x.data + row * x.stride, K_, out.data + row * stride);
      }
    });
    return out;
  }

  const int K_, N_;
  const T* const weight_;
  const float* const bias_;
};

template <class T, class Product, auto kKernel>
std::unique_ptr<Linear> view(int K, int N, std::span<const void* const> parts, const float* bias) {
  return std::make_unique<FloatLinear<T, Product, kKernel>>(K, N, static_cast<const T*>(parts[0]), bias);
}

}  // namespace

extern const LinearFormat kFloat32Format{
    "float32",           ElementType::kF32, ElementType::kF32, parts<ElementType::kF32>, pack_float32,
    view<float, GemmF32, &Kernels::gemm_f32>};

extern const LinearFormat kFloat16Format{
    "float16",           ElementType::kF16, ElementType::kF32, parts<ElementType::kF16>, pack_float16,
    view<uint16_t, GemmF16, &Kernels::gemm_f16>};

}  // namespace dialo
