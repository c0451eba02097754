#include "model/config.h"

#include <stdexcept>

#include "model/activation.h"

namespace dialo {
namespace {

void in_range(const char* name, int value, int low, int high) {
  if (value >= low && value <= high) return;
  throw std::invalid_argument("expected " + std::string(name) + " from " + std::to_string(low) + " to " +
                              std::to_string(high) + ", found " + std::to_string(value));
}

}  // namespace

void Config::validate() const {
  in_range("vocab_size", vocab_size, 1, 1 << 24);
  in_range("n_positions", n_positions, 1, 1 << 20);
  // An int8 product over K inputs stays below 2^31 up to K = 66,000.
  in_range("n_embd", n_embd, 1, 1 << 16);
  in_range("n_inner", n_inner, 1, 1 << 16);
  in_range("n_layer", n_layer, 1, 1 << 12);
  in_range("n_head", n_head, 1, n_embd);
  in_range("num_labels", num_labels, 0, 1 << 16);
  if (n_embd % n_head != 0) {
    throw std::invalid_argument("expected n_embd to be a multiple of n_head (" + std::to_string(n_head) + "), found " +
                                std::to_string(n_embd));
  }
  if (!(layer_norm_epsilon > 0 && layer_norm_epsilon < 1)) {
    throw std::invalid_argument("expected layer_norm_epsilon between 0 and 1, found " +
                                std::to_string(layer_norm_epsilon));
  }
  activation_of(activation_function);
}

}  // namespace dialo
