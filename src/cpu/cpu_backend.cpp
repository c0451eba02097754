#include "cpu/cpu_backend.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/finite.h"
#include "cpu/kv_cache.h"
#include "cpu/linear.h"
#include "kernels/kernels.h"
#include "model/activation.h"

namespace dialo {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(std::shared_ptr<const Weights> weights, std::shared_ptr<ThreadPool> pool, int64_t kv_cache_bytes,
             ElementType kv_type)
      : weights_(std::move(weights)),
        config_(weights_->config()),
        pool_(std::move(pool)),
        linear_{kernels(), *pool_},
        activation_(activation_of(config_.activation_function)),
        attention_(kernels().*kv_format(kv_type).attention),
        head_page_bytes_(kv_format(kv_type).head_page_bytes(config_.head_size())),
        pages_(std::make_shared<PagePool>(head_page_bytes_ * config_.n_layer * config_.n_head, kv_cache_bytes)) {}

  const Config& config() const override { return config_; }
  std::unique_ptr<Cache> new_cache() override { return std::make_unique<PagedCache>(pages_); }
  int64_t logits_stride() const override { return round_up(config_.outputs(), kLanes); }
  int64_t cache_bytes_in_use() const override { return pages_->bytes_in_use(); }

  void forward(const Batch& batch, float* logits) override {
    const int M = reserve(batch);
    const int C = config_.n_embd;
    const Rows x = rows(x_, M, C), qkv = rows(qkv_, M, 3 * C), y = rows(y_, M, C), h = rows(h_, M, config_.n_inner);
    embed(batch, x);
    for (int layer = 0; layer < config_.n_layer; ++layer) {
      const BlockWeights& w = weights_->blocks[layer];
      w.c_attn->multiply(linear_, norm(w.ln_1), x, qkv, false);
      attend(batch, layer, qkv, y);
      w.attn_proj->multiply(linear_, {}, y, x, true);
      w.c_fc->multiply(linear_, norm(w.ln_2), x, h, false);
      w.mlp_proj->multiply(linear_, {.kind = RowOp::kActivate, .activation = activation_}, h, x, true);
    }
    check_finite(x);
    const int asked = int(batch.wanted.size());
    const Rows last = rows(y_, asked, C);  // y is free again
    for (int i = 0; i < asked; ++i) {
      std::memcpy(last.data + i * last.stride, x.data + batch.wanted[i] * x.stride, C * sizeof(float));
    }
    weights_->head->multiply(linear_, norm(weights_->ln_f), last, {logits, logits_stride(), asked}, false);
  }

 private:
  static Rows rows(Buffer<float>& buffer, int M, int n) {
    const int64_t stride = round_up(n, kLanes);
    return {buffer.grow(stride * M), stride, M};
  }

  RowOp norm(const NormWeights& weights) const {
    return {.kind = RowOp::kNorm, .norm = weights, .epsilon = config_.layer_norm_epsilon};
  }

  // Every kernel answers what is not finite with what is not finite, and x only ever adds: one look at its end sees
  // damage in any weight that was used.
  void check_finite(const Rows& x) const {
    for (int row = 0; row < x.M; ++row) {
      if (all_finite({x.data + row * x.stride, std::size_t(config_.n_embd)})) continue;
      throw BackendError("expected finite numbers in the model, found NaN or infinity: its weights are damaged; "
                         "download them again");
    }
  }

  // Makes room for every segment or, on an error, for none; returns the number of rows.
  static int reserve(const Batch& batch) {
    int M = 0;
    try {
      for (const Segment& s : batch.segments) {
        static_cast<PagedCache*>(s.cache)->reserve(s.first_position, s.rows);
        M += s.rows;
      }
    } catch (...) {
      for (const Segment& s : batch.segments) s.cache->truncate(s.first_position);
      throw;
    }
    return M;
  }

  // x = wte[token] + wpe[position]
  void embed(const Batch& batch, const Rows& x) {
    float* out = x.data;
    for (const Segment& s : batch.segments) {
      for (int r = 0; r < s.rows; ++r, out += x.stride) {
        const float* position = weights_->wpe + (s.first_position + r) * x.stride;
        weights_->wte->gather(s.tokens[r], out);
        for (int c = 0; c < config_.n_embd; ++c) out[c] += position[c];
      }
    }
  }

  // y = attention(qkv), each head of each segment on its own; appends the keys and values on the way.
  void attend(const Batch& batch, int layer, const Rows& qkv, const Rows& y) {
    const int H = config_.n_head, D = config_.head_size(), C = config_.n_embd;
    const int64_t scratch = round_up(attention_scratch(D), kLanes);
    float* scratches = scratch_.grow(scratch * pool_->size());
    float scale = config_.scale_attn_weights ? 1.0f / std::sqrt(float(D)) : 1.0f;
    if (config_.scale_attn_by_inverse_layer_idx) scale /= float(layer + 1);
    first_rows_.clear();
    for (int row = 0; const Segment& s : batch.segments) {
      first_rows_.push_back(row);
      row += s.rows;
    }
    pool_->parallel_for(int(batch.segments.size()) * H, [&](int item, int thread) {
      const Segment& s = batch.segments[item / H];
      const int head = item % H;
      const float* q = qkv.data + first_rows_[item / H] * qkv.stride + head * D;
      attention_({.q = q,
                  .k = q + C,
                  .v = q + 2 * C,
                  .ld = qkv.stride,
                  .out = y.data + first_rows_[item / H] * y.stride + head * D,
                  .ldo = y.stride,
                  .rows = s.rows,
                  .first_position = s.first_position,
                  .pages = static_cast<const PagedCache*>(s.cache)->pages(),
                  .page_offset = (int64_t(layer) * H + head) * head_page_bytes_,
                  .D = D,
                  .scale = scale,
                  .scratch = scratches + thread * scratch});
    });
  }

  std::shared_ptr<const Weights> weights_;
  const Config& config_;
  std::shared_ptr<ThreadPool> pool_;
  LinearContext linear_;
  const Activation activation_;
  void (*const attention_)(const AttentionHead&);
  const int64_t head_page_bytes_;
  const std::shared_ptr<PagePool> pages_;
  Buffer<float> x_, qkv_, y_, h_, scratch_;  // (M, C), (M, 3C), (M, C), (M, n_inner); one scratch a thread
  std::vector<int> first_rows_;              // of each segment
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Weights> weights, std::shared_ptr<ThreadPool> pool,
                                          int64_t kv_cache_bytes, ElementType kv_type) {
  return std::make_unique<CpuBackend>(std::move(weights), std::move(pool), kv_cache_bytes, kv_type);
}

}  // namespace dialo
