// What can go wrong in the core? Messages say what was expected, what was found and what to do.
// A caller's mistake is std::invalid_argument. The core never prints, exits or aborts.
#pragma once

#include <stdexcept>
#include <string>

namespace dialo {

// A limit was reached: positions, or memory for the KV cache. Nothing was changed.
struct CapacityError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// This machine cannot do what was asked: an instruction set or a device is missing.
struct BackendError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace dialo
