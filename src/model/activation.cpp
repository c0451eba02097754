#include "model/activation.h"

#include <stdexcept>

namespace dialo {
namespace {

struct Entry {
  const char* name;
  Activation activation;
};

constexpr Entry kTable[] = {
    {"gelu_new", Activation::kGeluTanh},    {"gelu", Activation::kGeluErf},
    {"gelu_fast", Activation::kGeluTanh},   {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"quick_gelu", Activation::kQuickGelu}, {"relu", Activation::kRelu},
    {"silu", Activation::kSilu},            {"swish", Activation::kSilu},
    {"tanh", Activation::kTanh},            {"gelu_python", Activation::kGeluErf},
    {"gelu_accurate", Activation::kGeluTanh}, {"gelu_python_tanh", Activation::kGeluTanh},
};

}  // namespace

Activation activation_of(const std::string& name) {
  std::string known;
  for (const Entry& entry : kTable) {
    if (name == entry.name) return entry.activation;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw std::invalid_argument("expected activation_function to be one of " + known + ", found '" + name + "'");
}

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kTable) names.emplace_back(entry.name);
  return names;
}

}  // namespace dialo
