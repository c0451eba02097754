// Which function stands between the two halves of the MLP? Hugging Face's names, as a table.
#pragma once

#include <string>

namespace dialo {

// What a backend must compute. Several names mean one function: the tanh forms of gelu differ in rounding only.
enum class ActivationKind { kGeluTanh, kGeluErf, kQuickGelu, kRelu, kSilu, kTanh };

// std::invalid_argument with the list of names when `name` is none of them.
ActivationKind activation_of(const std::string& name);

}  // namespace dialo
