// How do the rules of one request enter the core? By name, one row of a table each; and the draw by itself.
#include "sampling/sampling.h"

#include <pybind11/stl.h>

#include <functional>
#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/register.h"
#include "bindings/released_gil.h"
#include "sampling/sampler.h"

namespace dialo {
namespace {

struct Field {
  const char* name;
  std::function<void(SamplingParams&, const py::handle&)> set;
};

template <class T>
Field field(const char* name, T SamplingParams::*member) {
  return {name, [member](SamplingParams& rules, const py::handle& value) { rules.*member = value.cast<T>(); }};
}

// [(ids, bias), …]
void set_sequence_bias(SamplingParams& rules, const py::handle& value) {
  rules.sequence_bias.clear();
  for (auto& [ids, bias] : value.cast<std::vector<std::pair<std::vector<int32_t>, double>>>()) {
    rules.sequence_bias.push_back({std::move(ids), float(bias)});
  }
}

const std::vector<Field>& fields() {
  static const std::vector<Field> table = {
      field("do_sample", &SamplingParams::do_sample),
      {"sequence_bias", &set_sequence_bias},
      field("repetition_penalty", &SamplingParams::repetition_penalty),
      field("presence_penalty", &SamplingParams::presence_penalty),
      field("frequency_penalty", &SamplingParams::frequency_penalty),
      field("no_repeat_ngram_size", &SamplingParams::no_repeat_ngram_size),
      field("bad_words_ids", &SamplingParams::bad_words_ids),
      field("min_new_tokens", &SamplingParams::min_new_tokens),
      field("forced_eos_token_ids", &SamplingParams::forced_eos_token_ids),
      field("suppress_tokens", &SamplingParams::suppress_tokens),
      field("begin_suppress_tokens", &SamplingParams::begin_suppress_tokens),
      field("temperature", &SamplingParams::temperature),
      field("top_k", &SamplingParams::top_k),
      field("top_p", &SamplingParams::top_p),
      field("min_p", &SamplingParams::min_p),
      field("typical_p", &SamplingParams::typical_p),
      field("epsilon_cutoff", &SamplingParams::epsilon_cutoff),
      field("eta_cutoff", &SamplingParams::eta_cutoff),
      field("eos_token_ids", &SamplingParams::eos_token_ids),
      field("seed", &SamplingParams::seed),
      field("reply_start", &SamplingParams::reply_start),
      field("penalty_start", &SamplingParams::penalty_start),
      field("max_length", &SamplingParams::max_length),
  };
  return table;
}

void set(SamplingParams& rules, const std::string& name, const py::handle& value) {
  for (const Field& f : fields()) {
    if (name != f.name) continue;
    try {
      return f.set(rules, value);
    } catch (const py::cast_error&) {
      throw py::type_error("expected another type or range for " + name + ", found " + std::string(py::repr(value)));
    }
  }
  throw py::type_error("expected the name of a sampling rule, found '" + name + "'");
}

std::shared_ptr<SamplingParams> make_sampling(const py::kwargs& values) {
  auto rules = std::make_shared<SamplingParams>();
  for (const auto& [name, value] : values) set(*rules, name.cast<std::string>(), value);
  rules->validate();
  return rules;
}

int32_t draw(const SamplingParams& rules, int64_t position, const F32Array& scores) {
  if (scores.ndim() != 1 || scores.size() == 0) {
    throw std::invalid_argument("expected one row of scores (V,), found " + std::to_string(scores.ndim()) +
                                " dimensions and " + std::to_string(scores.size()) + " values");
  }
  const std::span<const float> row(scores.data(), scores.size());
  const ReleasedGil free;
  return Sampler(kernels()).draw(rules, position, row);
}

}  // namespace

void register_sampling(py::module_& m) {
  using namespace pybind11::literals;
  py::class_<SamplingParams, std::shared_ptr<SamplingParams>>(m, "SamplingParams").def(py::init(&make_sampling));
  m.def("draw", &draw, "sampling"_a, "position"_a, "scores"_a);
}

}  // namespace dialo
