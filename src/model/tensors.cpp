#include "model/tensors.h"

namespace dialo {

const char* kind_name(TensorKind kind) {
  switch (kind) {
    case TensorKind::kConv1d: return "conv1d";
    case TensorKind::kLinear: return "linear";
    case TensorKind::kTable: return "table";
    case TensorKind::kVector: return "vector";
  }
  return "";
}

std::vector<TensorSpec> tensor_table(const Config& config) {
  const int64_t V = config.vocab_size, T = config.n_positions, C = config.n_embd, I = config.n_inner;
  std::vector<TensorSpec> table;
  const auto norm = [&](const std::string& name) {
    table.push_back({name + ".weight", {C}, TensorKind::kVector});
    table.push_back({name + ".bias", {C}, TensorKind::kVector});
  };
  const auto conv1d = [&](const std::string& name, int64_t in, int64_t out) {
    table.push_back({name + ".weight", {in, out}, TensorKind::kConv1d});
    table.push_back({name + ".bias", {out}, TensorKind::kVector});
  };
  table.push_back({"wte.weight", {V, C}, TensorKind::kLinear});
  table.push_back({"wpe.weight", {T, C}, TensorKind::kTable});
  for (int layer = 0; layer < config.n_layer; ++layer) {
    const std::string h = "h." + std::to_string(layer);
    norm(h + ".ln_1");
    conv1d(h + ".attn.c_attn", C, 3 * C);
    conv1d(h + ".attn.c_proj", C, C);
    norm(h + ".ln_2");
    conv1d(h + ".mlp.c_fc", C, I);
    conv1d(h + ".mlp.c_proj", I, C);
  }
  norm("ln_f");
  if (config.num_labels > 0) {
    table.push_back({"score.weight", {config.num_labels, C}, TensorKind::kLinear});
  } else if (!config.tie_word_embeddings) {
    table.push_back({"lm_head.weight", {V, C}, TensorKind::kLinear});
  }
  return table;
}

}  // namespace dialo
