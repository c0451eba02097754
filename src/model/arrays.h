// What does a host hand to a backend? Arrays of numbers, in whoever's memory they are.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace dialo {

enum class ElementType { kF32, kF16, kI8, kI32 };

// numpy's name.
const char* name_of(ElementType type);
// std::invalid_argument with the list of names when `name` is none of them; `what` says whose element type it is.
ElementType element_type_of(const std::string& what, const std::string& name);
int64_t bytes_of(ElementType type, const std::vector<int64_t>& shape);
// "float32 (3, 4)"
std::string shown(ElementType type, const std::vector<int64_t>& shape);

// Contiguous, rows first; `owner` keeps the memory alive.
struct Array {
  ElementType type;
  std::vector<int64_t> shape;
  const void* data;
  std::shared_ptr<const void> owner;
};
using Arrays = std::map<std::string, Array>;

}  // namespace dialo
