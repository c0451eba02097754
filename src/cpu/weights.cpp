#include "cpu/weights.h"

#include <stdexcept>

#include "base/buffer.h"
#include "kernels/kernels.h"

namespace dialo {
namespace {

std::string shown(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

const char* type_name(ElementType type) {
  switch (type) {
    case ElementType::kF32: return "float32";
    case ElementType::kF16: return "float16";
    case ElementType::kI8: return "int8";
    case ElementType::kI32: return "int32";
  }
  return "";
}

int element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kF32:
    case ElementType::kI32: return 4;
    case ElementType::kF16: return 2;
    case ElementType::kI8: return 1;
  }
  return 0;
}

class Reader {
 public:
  explicit Reader(const Arrays& arrays) : arrays_(arrays) {}

  const Array& get(const std::string& name) const {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw std::invalid_argument("The tensor " + name + " is missing.");
    return found->second;
  }

  template <class T>
  const T* view(const std::string& name, ElementType type, const std::vector<int64_t>& shape) const {
    const Array& array = get(name);
    if (array.type != type || array.shape != shape) {
      throw std::invalid_argument("The tensor " + name + " must be " + type_name(type) + " " + shown(shape) +
                                  ", but is " + type_name(array.type) + " " + shown(array.shape) + ".");
    }
    return static_cast<const T*>(array.data);
  }

  const float* vector(const std::string& name, int n) const {
    return view<float>(name, ElementType::kF32, {round_up(n, kLanes)});
  }

  NormWeights norm(const std::string& name, int C) const {
    return {vector(name + ".weight", C), vector(name + ".bias", C)};
  }

  LinearWeights linear(const std::string& name, int K, int N, bool has_bias) const {
    LinearWeights w;
    w.K = K;
    w.N = N;
    const int64_t blocks = round_up(N, kLanes) / kLanes, groups = round_up(K, kGroup) / kGroup;
    const std::string weight = name + ".weight";
    if (get(weight).type == ElementType::kI8) {
      w.i8 = view<int8_t>(weight, ElementType::kI8, {blocks, groups, kLanes, kGroup});
      w.scale = vector(weight + "_scale", N);
      w.sum = view<int32_t>(weight + "_sum", ElementType::kI32, {blocks * kLanes});
    } else if (get(weight).type == ElementType::kF16) {
      w.f16 = view<uint16_t>(weight, ElementType::kF16, {blocks, K, kLanes});
    } else {
      w.f32 = view<float>(weight, ElementType::kF32, {blocks, K, kLanes});
    }
    if (has_bias) w.bias = vector(name + ".bias", N);
    return w;
  }

 private:
  const Arrays& arrays_;
};

}  // namespace

Weights::Weights(Config config, Arrays arrays) : config_(std::move(config)), arrays_(std::move(arrays)) {
  config_.validate();
  const Reader read(arrays_);
  const int V = config_.vocab_size, C = config_.n_embd, I = config_.n_inner;
  wte = read.linear("wte", C, V, false);
  if (config_.num_labels > 0) {
    head = read.linear("score", C, config_.num_labels, false);
  } else {
    head = config_.tie_word_embeddings ? wte : read.linear("lm_head", C, V, false);
  }
  wpe = read.view<float>("wpe.weight", ElementType::kF32, {config_.n_positions, round_up(C, kLanes)});
  for (int layer = 0; layer < config_.n_layer; ++layer) {
    const std::string h = "h." + std::to_string(layer);
    blocks.push_back({
        .ln_1 = read.norm(h + ".ln_1", C),
        .ln_2 = read.norm(h + ".ln_2", C),
        .c_attn = read.linear(h + ".attn.c_attn", C, 3 * C, true),
        .attn_proj = read.linear(h + ".attn.c_proj", C, C, true),
        .c_fc = read.linear(h + ".mlp.c_fc", C, I, true),
        .mlp_proj = read.linear(h + ".mlp.c_proj", I, C, true),
    });
  }
  ln_f = read.norm("ln_f", C);
  for (const auto& [name, array] : arrays_) {
    int64_t size = element_bytes(array.type);
    for (const int64_t extent : array.shape) size *= extent;
    bytes_ += size;
  }
}

}  // namespace dialo
