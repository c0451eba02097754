#include "model/activation.h"

#include <stdexcept>
#include <vector>

#include "model/config.h"

namespace dialo {
namespace {

struct Entry {
  const char* name;
  ActivationKind kind;
};

constexpr Entry kTable[] = {
    {"gelu_new", ActivationKind::kGeluTanh},          {"gelu", ActivationKind::kGeluErf},
    {"gelu_fast", ActivationKind::kGeluTanh},         {"gelu_pytorch_tanh", ActivationKind::kGeluTanh},
    {"quick_gelu", ActivationKind::kQuickGelu},       {"relu", ActivationKind::kRelu},
    {"silu", ActivationKind::kSilu},                  {"swish", ActivationKind::kSilu},
    {"tanh", ActivationKind::kTanh},                  {"gelu_python", ActivationKind::kGeluErf},
    {"gelu_python_tanh", ActivationKind::kGeluTanh},  {"gelu_accurate", ActivationKind::kGeluTanh},
};

}  // namespace

ActivationKind activation_of(const std::string& name) {
  std::string known;
  for (const Entry& entry : kTable) {
    if (name == entry.name) return entry.kind;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw std::invalid_argument("activation_function must be one of " + known + ", but is '" + name + "'.");
}

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kTable) names.emplace_back(entry.name);
  return names;
}

}  // namespace dialo
