#include "cpu/weights.h"

#include <stdexcept>
#include <string>

namespace dialo {
namespace {

class Reader {
 public:
  explicit Reader(const Arrays& arrays) : arrays_(arrays) {}

  const Array& get(const std::string& name) const {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw std::invalid_argument("expected the tensor " + name + ", found none");
    return found->second;
  }

  const void* view(const std::string& name, ElementType type, const std::vector<int64_t>& shape) const {
    const Array& array = get(name);
    if (array.type == type && array.shape == shape) return array.data;
    throw std::invalid_argument("expected the tensor " + name + " to be " + shown(type, shape) + ", found " +
                                shown(array.type, array.shape));
  }

  const float* vector(const std::string& name, int n) const {
    return static_cast<const float*>(view(name, ElementType::kF32, {round_up(n, kLanes)}));
  }

  NormWeights norm(const std::string& name, int C) const {
    return {vector(name + ".weight", C), vector(name + ".bias", C)};
  }

  const LinearFormat& format(const std::string& name) const {
    const ElementType type = get(name + ".weight").type;
    for (const LinearFormat* format : linear_formats()) {
      if (format->weight == type) return *format;
    }
    throw std::invalid_argument("expected the tensor " + name + ".weight in a weight format, found " + name_of(type));
  }

  std::unique_ptr<Linear> linear(const std::string& name, int K, int N, bool has_bias) const {
    std::vector<const void*> parts;
    for (const PackedPart& part : format(name).parts(K, N)) {
      parts.push_back(view(name + ".weight" + part.suffix, part.type, part.shape));
    }
    return format(name).view(K, N, parts, has_bias ? vector(name + ".bias", N) : nullptr);
  }

 private:
  const Arrays& arrays_;
};

}  // namespace

Weights::Weights(Config config, Arrays arrays) : config_(std::move(config)), arrays_(std::move(arrays)) {
  config_.validate();
  const Reader read(arrays_);
  const int V = config_.vocab_size, C = config_.n_embd, I = config_.n_inner;
  format_ = &read.format("wte");
  wte = read.linear("wte", C, V, false);
  if (config_.num_labels > 0) {
    head = read.linear("score", C, config_.num_labels, false);
  } else {
    head = config_.tie_word_embeddings ? wte : read.linear("lm_head", C, V, false);
  }
  wpe = static_cast<const float*>(
      read.view("wpe.weight", ElementType::kF32, {config_.n_positions, round_up(C, kLanes)}));
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
  for (const auto& [name, array] : arrays_) bytes_ += bytes_of(array.type, array.shape);
}

}  // namespace dialo
