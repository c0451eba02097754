// Every kernel of every rung as a numpy function, so that one Python test covers them all.
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "base/buffer.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "bindings/arrays.h"
#include "bindings/register.h"
#include "bindings/released_gil.h"
#include "cpu/kv_cache.h"
#include "kernels/kernels.h"
#include "model/activation.h"
#include "sampling/sampler.h"

namespace dialo {
namespace {

using I8Array = py::array_t<int8_t, py::array::c_style>;
using I32Array = py::array_t<int32_t, py::array::c_style>;
using U8Array = py::array_t<uint8_t, py::array::c_style>;
using U16Array = py::array_t<uint16_t, py::array::c_style>;

const float* optional_data(const std::optional<F32Array>& array) { return array ? array->data() : nullptr; }

// x (M, K), packed (N/16, K, 16), bias (N) or None, `onto` (M, N) or None -> (M, N), N a multiple of 16.
template <class T>
py::array_t<float> gemm_float(void (*kernel)(const GemmFloat<T>&, int, int, int, int), const F32Array& x, const T* packed,
                              int blocks, const std::optional<F32Array>& bias, const std::optional<F32Array>& onto) {
  const int M = int(x.shape(0));
  py::array_t<float> out({M, blocks * kLanes});
  std::fill_n(out.mutable_data(), out.size(), -7.0f);
  if (onto) std::copy_n(onto->data(), out.size(), out.mutable_data());
  const GemmFloat<T> gemm{x.data(), x.shape(1), packed, optional_data(bias), out.mutable_data(),
                          out.shape(1), int(x.shape(1)), onto.has_value()};
  kernel(gemm, 0, M, 0, blocks);
  return out;
}

py::array_t<float> gemm_f32(const std::string& isa, const F32Array& x, const F32Array& packed,
                            const std::optional<F32Array>& bias, const std::optional<F32Array>& onto) {
  return gemm_float<float>(kernels_of(isa.c_str()).gemm_f32, x, packed.data(), int(packed.shape(0)), bias, onto);
}

// The same; `packed` holds the bits of halves.
py::array_t<float> gemm_f16(const std::string& isa, const F32Array& x, const U16Array& packed,
                            const std::optional<F32Array>& bias, const std::optional<F32Array>& onto) {
  return gemm_float<uint16_t>(kernels_of(isa.c_str()).gemm_f16, x, packed.data(), int(packed.shape(0)), bias, onto);
}

// x (M, K) -> its quantised rows (M, K padded to 4), one scale and one zero a row.
py::tuple quantize_rows(const std::string& isa, const F32Array& x) {
  const int M = int(x.shape(0)), K = int(x.shape(1)), width = int(round_up(K, kGroup));
  U8Array out({M, width});
  py::array_t<float> scale(M);
  I32Array zero(M);
  Buffer<uint8_t> tile(std::size_t(width) * kTileRows);
  for (int row = 0; row < M; row += kTileRows) {
    const int rows = std::min(kTileRows, M - row);
    kernels_of(isa.c_str()).quantize_tile(x.data() + int64_t(row) * K, K, rows, K, tile.data(), scale.mutable_data() + row,
                                          zero.mutable_data() + row);
    for (int r = 0; r < rows; ++r) {
      for (int k = 0; k < width; ++k) {
        *out.mutable_data(row + r, k) = tile.data()[(k / kGroup * rows + r) * kGroup + k % kGroup];
      }
    }
  }
  return py::make_tuple(out, scale, zero);
}

// Quantised rows (M, K), K a multiple of 4, in the tiles that the product reads.
Buffer<uint8_t> packed_tiles(const U8Array& a) {
  const int M = int(a.shape(0)), K = int(a.shape(1));
  Buffer<uint8_t> packed(std::size_t(M) * K);
  for (int m = 0; m < M; ++m) {
    const int tile = m / kTileRows * kTileRows, rows = std::min(kTileRows, M - tile);
    for (int k = 0; k < K; ++k) {
      packed.data()[tile * K + (k / kGroup * rows + m - tile) * kGroup + k % kGroup] = *a.data(m, k);
    }
  }
  return packed;
}

// The exact integer sums (M, N).
I32Array gemm_i8_raw(const std::string& isa, const U8Array& a, const I32Array& zero, const I8Array& packed,
                     const I32Array& sum) {
  const int M = int(a.shape(0)), blocks = int(packed.shape(0));
  const Buffer<uint8_t> tiles = packed_tiles(a);
  I32Array out({M, blocks * kLanes});
  const GemmI8 gemm{.a = tiles.data(),
                    .a_scale = nullptr,
                    .a_zero = zero.data(),
                    .weight = packed.data(),
                    .w_scale = nullptr,
                    .w_sum = sum.data(),
                    .bias = nullptr,
                    .out = nullptr,
                    .ldo = out.shape(1),
                    .groups = int(packed.shape(1)),
                    .accumulate = false,
                    .raw = out.mutable_data()};
  kernels_of(isa.c_str()).gemm_i8(gemm, M, 0, M, 0, blocks);
  return out;
}

py::array_t<float> gemm_i8(const std::string& isa, const U8Array& a, const F32Array& a_scale, const I32Array& a_zero,
                           const I8Array& packed, const F32Array& w_scale, const I32Array& sum,
                           const std::optional<F32Array>& bias, const std::optional<F32Array>& onto) {
  const int M = int(a.shape(0)), blocks = int(packed.shape(0));
  const Buffer<uint8_t> tiles = packed_tiles(a);
  py::array_t<float> out({M, blocks * kLanes});
  std::fill_n(out.mutable_data(), out.size(), -7.0f);
  if (onto) std::copy_n(onto->data(), out.size(), out.mutable_data());
  const GemmI8 gemm{.a = tiles.data(),
                    .a_scale = a_scale.data(),
                    .a_zero = a_zero.data(),
                    .weight = packed.data(),
                    .w_scale = w_scale.data(),
                    .w_sum = sum.data(),
                    .bias = optional_data(bias),
                    .out = out.mutable_data(),
                    .ldo = out.shape(1),
                    .groups = int(packed.shape(1)),
                    .accumulate = onto.has_value(),
                    .raw = nullptr};
  kernels_of(isa.c_str()).gemm_i8(gemm, M, 0, M, 0, blocks);
  return out;
}

// q, k, v (T, D), fed in pieces of the given lengths -> (T, D): causal attention over a paged cache.
py::array_t<float> attention(const std::string& isa, const F32Array& q, const F32Array& k, const F32Array& v, float scale,
                             bool half, const std::vector<int>& pieces) {
  const int T = int(q.shape(0)), D = int(q.shape(1));
  const Kernels table = kernels_of(isa.c_str());
  auto pool = std::make_shared<PagePool>(head_page_elements(D) * (half ? 2 : 4), int64_t{1} << 30);
  PagedCache cache(pool);
  py::array_t<float> out({T, D});
  Buffer<float> scratch(attention_scratch(D));
  int position = 0;
  for (const int rows : pieces) {
    cache.reserve(position, rows);
    const int64_t at = int64_t(position) * D;
    (half ? table.attention_f16 : table.attention_f32)({.q = q.data() + at,
                                                        .k = k.data() + at,
                                                        .v = v.data() + at,
                                                        .ld = D,
                                                        .out = out.mutable_data() + at,
                                                        .ldo = D,
                                                        .rows = rows,
                                                        .first_position = position,
                                                        .pages = cache.pages(),
                                                        .page_offset = 0,
                                                        .D = D,
                                                        .scale = scale,
                                                        .scratch = scratch.data()});
    position += rows;
  }
  return out;
}

py::array_t<float> layer_norm(const std::string& isa, const F32Array& x, const F32Array& gain, const F32Array& bias,
                              float eps) {
  py::array_t<float> out(x.size());
  kernels_of(isa.c_str()).layer_norm(x.data(), int(x.size()), gain.data(), bias.data(), eps, out.mutable_data());
  return out;
}

py::array_t<float> activate(const std::string& isa, const std::string& function, const F32Array& x) {
  py::array_t<float> out(x.size());
  kernels_of(isa.c_str()).activate(activation_of(function), x.data(), int(x.size()), out.mutable_data());
  return out;
}

py::tuple exp_sum(const std::string& isa, const F32Array& x, float shift) {
  py::array_t<float> out(x.size());
  const float sum = kernels_of(isa.c_str()).exp_sum(x.data(), int(x.size()), shift, out.mutable_data());
  return py::make_tuple(out, sum);
}

std::vector<float> distribution(const SamplingParams& rules, const std::vector<int32_t>& tokens, const F32Array& logits,
                                const std::vector<int32_t>& bans) {
  std::vector<float> copy(logits.data(), logits.data() + logits.size());
  return Sampler(kernels()).distribution(rules, tokens, copy, bans);
}

int32_t choose_once(const SamplingParams& rules, const std::vector<int32_t>& tokens, const F32Array& logits,
               const std::vector<int32_t>& bans) {
  if (logits.ndim() != 1 || logits.size() == 0) {
    throw std::invalid_argument("expected one row of logits (V,), found " + std::to_string(logits.ndim()) +
                                " dimensions and " + std::to_string(logits.size()) + " values");
  }
  for (const int32_t id : tokens) {
    if (id >= 0 && id < logits.size()) continue;
    throw std::invalid_argument("expected tokens from 0 to " + std::to_string(logits.size() - 1) +
                                ", as there are logits, found " + std::to_string(id));
  }
  if (std::size_t(rules.reply_start) > tokens.size()) {
    throw std::invalid_argument("expected tokens up to reply_start (" + std::to_string(rules.reply_start) + "), found " +
                                std::to_string(tokens.size()));
  }
  std::vector<float> copy(logits.data(), logits.data() + logits.size());
  const ReleasedGil free;
  return Sampler(kernels()).choose(rules, tokens, copy, bans);
}

// The token chosen for each of the seeds.
std::vector<int32_t> choose(SamplingParams rules, const std::vector<int32_t>& tokens, const F32Array& logits,
                            const std::vector<uint64_t>& seeds) {
  Sampler sampler(kernels());
  std::vector<int32_t> chosen;
  std::vector<float> copy(logits.size());
  for (const uint64_t seed : seeds) {
    std::copy_n(logits.data(), logits.size(), copy.begin());
    rules.seed = seed;
    chosen.push_back(sampler.choose(rules, tokens, copy));
  }
  return chosen;
}

// [(id, score), …]
std::vector<std::pair<int32_t, float>> pairs(const std::vector<TokenScore>& candidates) {
  std::vector<std::pair<int32_t, float>> out;
  for (const TokenScore& c : candidates) out.emplace_back(c.id, c.score);
  return out;
}

std::vector<std::pair<int32_t, float>> n_best(const SamplingParams& rules, const std::vector<int32_t>& tokens,
                                              const F32Array& logits, int n, const std::vector<int32_t>& bans) {
  std::vector<float> copy(logits.data(), logits.data() + logits.size());
  return pairs(Sampler(kernels()).n_best(rules, tokens, copy, n, bans));
}

std::vector<std::pair<int32_t, float>> top_logprobs(const F32Array& logits, int n) {
  std::vector<TokenScore> best;
  Sampler(kernels()).top_logprobs({logits.data(), std::size_t(logits.size())}, n, best);
  return pairs(best);
}

// How often each item of a loop was run. An item of `failing` throws CapacityError, or std::bad_alloc if `memory`.
std::vector<int> pool_loop(ThreadPool& pool, int items, const std::vector<int>& failing, bool memory) {
  std::vector<int> runs(items);
  pool.parallel_for(items, [&](int item, int) {
    ++runs[item];
    if (std::find(failing.begin(), failing.end(), item) == failing.end()) return;
    if (memory) throw std::bad_alloc();
    throw CapacityError("item " + std::to_string(item));
  });
  return runs;
}

// A loop in which the caller and a worker are both inside an item when one of them throws.
void pool_fail(ThreadPool& pool, bool in_worker) {
  if (pool.size() < 2) throw std::invalid_argument("expected a pool with a worker, found a pool of one thread");
  std::atomic<bool> worker_inside{false}, thrown{false};
  pool.parallel_for(4 * pool.size(), [&](int, int thread) {
    const bool is_worker = thread != 0;
    if (is_worker) {
      worker_inside = true;
      worker_inside.notify_all();
    } else {
      worker_inside.wait(false);
    }
    if (is_worker != in_worker) return thrown.wait(false);
    thrown = true;
    thrown.notify_all();
    throw CapacityError(is_worker ? "worker" : "caller");
  });
}

}  // namespace

void register_testing(py::module_& m) {
  using namespace pybind11::literals;
  m.def("gemm_f32", &gemm_f32, "isa"_a, "x"_a, "packed"_a, "bias"_a = py::none(), "onto"_a = py::none());
  m.def("gemm_f16", &gemm_f16, "isa"_a, "x"_a, "packed"_a, "bias"_a = py::none(), "onto"_a = py::none());
  m.def("quantize_rows", &quantize_rows, "isa"_a, "x"_a);
  m.def("gemm_i8_raw", &gemm_i8_raw, "isa"_a, "a"_a, "zero"_a, "packed"_a, "sum"_a);
  m.def("gemm_i8", &gemm_i8, "isa"_a, "a"_a, "a_scale"_a, "a_zero"_a, "packed"_a, "w_scale"_a, "sum"_a, "bias"_a = py::none(),
        "onto"_a = py::none());
  m.def("attention", &attention, "isa"_a, "q"_a, "k"_a, "v"_a, "scale"_a, "half"_a, "pieces"_a);
  m.def("layer_norm", &layer_norm, "isa"_a, "x"_a, "gain"_a, "bias"_a, "eps"_a);
  m.def("activate", &activate, "isa"_a, "function"_a, "x"_a);
  m.def("exp_sum", &exp_sum, "isa"_a, "x"_a, "shift"_a);
  m.def("peak_i8", [](const std::string& isa, int rounds) { return kernels_of(isa.c_str()).peak_i8(rounds); }, "isa"_a,
        "rounds"_a);
  m.def("peak_f32", [](const std::string& isa, int rounds) { return kernels_of(isa.c_str()).peak_f32(rounds); }, "isa"_a,
        "rounds"_a);
  m.def("distribution", &distribution, "rules"_a, "tokens"_a, "logits"_a, "bans"_a = std::vector<int32_t>());
  m.def("choose", &choose, "rules"_a, "tokens"_a, "logits"_a, "seeds"_a);
  m.def("choose_once", &choose_once, "rules"_a, "tokens"_a, "logits"_a, "bans"_a = std::vector<int32_t>());
  m.def("n_best", &n_best, "rules"_a, "tokens"_a, "logits"_a, "n"_a, "bans"_a = std::vector<int32_t>());
  m.def("top_logprobs", &top_logprobs, "logits"_a, "n"_a);
  m.def("uniform", &uniform, "seed"_a, "position"_a);
  py::class_<ThreadPool>(m, "ThreadPool")
      .def(py::init<int>(), "num_threads"_a)
      .def("loop", &pool_loop, "items"_a, "failing"_a = std::vector<int>(), "memory"_a = false,
           Free())
      .def("fail", &pool_fail, "in_worker"_a, Free());
}

}  // namespace dialo
