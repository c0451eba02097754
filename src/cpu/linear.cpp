#include "cpu/linear.h"

#include <algorithm>
#include <stdexcept>

namespace dialo {

extern const LinearFormat kFloat32Format, kFloat16Format, kInt8Format;

namespace {

constexpr const LinearFormat* kFormats[] = {&kFloat32Format, &kFloat16Format, &kInt8Format};

// Few enough that what a thread fetches ahead is mostly its own next blocks, and more than one, so that a thread which is
// held up leaves something to the others.
constexpr int kPiecesPerThread = 2;

}  // namespace

std::span<const LinearFormat* const> linear_formats() { return kFormats; }

const LinearFormat& linear_format(const std::string& name) {
  std::string known;
  for (const LinearFormat* format : kFormats) {
    if (name == format->name) return *format;
    known += (known.empty() ? "" : ", ") + std::string(format->name);
  }
  throw std::invalid_argument("expected a weight format of " + known + ", found '" + name + "'");
}

void LinearContext::apply(const RowOp& op, const float* x, int n, float* out) const {
  switch (op.kind) {
    case RowOp::kNone: return;
    case RowOp::kNorm: return kernels.layer_norm(x, n, op.norm.gain, op.norm.bias, op.epsilon, out);
    case RowOp::kActivate: return kernels.activate(op.activation, x, n, out);
  }
}

// In pieces of blocks and, for many rows, of rows too.
void LinearContext::split(int M, int N, const std::function<void(int, int, int, int)>& product) {
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

}  // namespace dialo
