// Which tensors does a GPT-2 checkpoint hold, and what are their shapes?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace dialo {

enum class TensorKind {
  kConv1d,  // a linear stored (in, out), as GPT-2 stores its own
  kLinear,  // a linear stored (out, in)
  kTable,   // rows that are looked up
  kVector,
};

struct TensorSpec {
  std::string name;  // without the prefix `transformer.`
  std::vector<int64_t> shape;
  TensorKind kind;
};

const char* kind_name(TensorKind kind);

// In the order of use. A classifier has `score.weight` for its head; a language model has `lm_head.weight` only when
// it is not tied to `wte.weight`.
std::vector<TensorSpec> tensor_table(const Config& config);

}  // namespace dialo
