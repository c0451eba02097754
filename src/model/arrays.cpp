#include "model/arrays.h"

#include <stdexcept>

namespace dialo {
namespace {

struct Element {
  ElementType type;
  const char* name;
  int bytes;
};

constexpr Element kElements[] = {
    {ElementType::kF32, "float32", 4},
    {ElementType::kF16, "float16", 2},
    {ElementType::kI8, "int8", 1},
    {ElementType::kI32, "int32", 4},
};

const Element& element(ElementType type) {
  const Element* found = kElements;
  while (found->type != type) ++found;
  return *found;
}

}  // namespace

const char* name_of(ElementType type) { return element(type).name; }

ElementType element_type_of(const std::string& what, const std::string& name) {
  std::string known;
  for (const Element& e : kElements) {
    if (name == e.name) return e.type;
    known += (known.empty() ? "" : ", ") + std::string(e.name);
  }
  throw std::invalid_argument("expected " + what + " to be one of " + known + ", found " + name);
}

int64_t bytes_of(ElementType type, const std::vector<int64_t>& shape) {
  int64_t bytes = element(type).bytes;
  for (const int64_t extent : shape) bytes *= extent;
  return bytes;
}

std::string shown(ElementType type, const std::vector<int64_t>& shape) {
  std::string text = std::string(name_of(type)) + " (";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace dialo
