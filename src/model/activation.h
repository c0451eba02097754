// What does config.json call the activation functions? Hugging Face's names, as a table.
#pragma once

#include <string>
#include <vector>

#include "base/activation.h"

namespace dialo {

// Several names mean one function: the tanh forms of gelu differ in rounding only.
// std::invalid_argument with the list of names when `name` is none of them.
Activation activation_of(const std::string& name);
std::vector<std::string> activation_names();

}  // namespace dialo
