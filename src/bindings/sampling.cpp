// How do the rules of one request enter the core? By name, one row of a table each.
#include "engine/sampling.h"

#include <pybind11/stl.h>

#include <functional>
#include <string>

#include "bindings/register.h"

namespace dialo {
namespace {

namespace py = pybind11;

struct Field {
  const char* name;
  std::function<void(Sampling&, const py::handle&)> set;
};

template <class T>
Field field(const char* name, T Sampling::*member) {
  return {name, [member](Sampling& rules, const py::handle& value) { rules.*member = value.cast<T>(); }};
}

const std::vector<Field>& fields() {
  static const std::vector<Field> table = {
      field("do_sample", &Sampling::do_sample),
      field("temperature", &Sampling::temperature),
      field("top_k", &Sampling::top_k),
      field("top_p", &Sampling::top_p),
      field("repetition_penalty", &Sampling::repetition_penalty),
      field("no_repeat_ngram_size", &Sampling::no_repeat_ngram_size),
      field("min_new_tokens", &Sampling::min_new_tokens),
      field("eos_token_ids", &Sampling::eos_token_ids),
      field("seed", &Sampling::seed),
      field("reply_start", &Sampling::reply_start),
      field("penalty_start", &Sampling::penalty_start),
  };
  return table;
}

void set(Sampling& rules, const std::string& name, const py::handle& value) {
  for (const Field& f : fields()) {
    if (name != f.name) continue;
    try {
      return f.set(rules, value);
    } catch (const py::cast_error&) {
      throw py::type_error(name + " cannot be " + std::string(py::repr(value)) + ": wrong type, or beyond its range.");
    }
  }
  throw py::type_error("There is no sampling rule '" + name + "'.");
}

std::shared_ptr<Sampling> make_sampling(const py::kwargs& values) {
  auto rules = std::make_shared<Sampling>();
  for (const auto& [name, value] : values) set(*rules, name.cast<std::string>(), value);
  rules->validate();
  return rules;
}

}  // namespace

void register_sampling(py::module_& m) {
  py::class_<Sampling, std::shared_ptr<Sampling>>(m, "Sampling").def(py::init(&make_sampling));
}

}  // namespace dialo
