// How do the rules of one request enter the core? By name, one row of a table each; and the choice by itself.
#include "sampling/sampling.h"

#include <pybind11/stl.h>

#include <functional>
#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/register.h"
#include "sampling/sampler.h"

namespace dialo {
namespace {

struct Field {
  const char* name;
  std::function<void(Sampling&, const py::handle&)> set;
};

template <class T>
Field field(const char* name, T Sampling::*member) {
  return {name, [member](Sampling& rules, const py::handle& value) { rules.*member = value.cast<T>(); }};
}

// [(ids, bias), …]
void set_sequence_bias(Sampling& rules, const py::handle& value) {
  rules.sequence_bias.clear();
  for (auto& [ids, bias] : value.cast<std::vector<std::pair<std::vector<int32_t>, double>>>()) {
    rules.sequence_bias.push_back({std::move(ids), float(bias)});
  }
}

const std::vector<Field>& fields() {
  static const std::vector<Field> table = {
      field("do_sample", &Sampling::do_sample),
      {"sequence_bias", &set_sequence_bias},
      field("repetition_penalty", &Sampling::repetition_penalty),
      field("presence_penalty", &Sampling::presence_penalty),
      field("frequency_penalty", &Sampling::frequency_penalty),
      field("no_repeat_ngram_size", &Sampling::no_repeat_ngram_size),
      field("bad_words_ids", &Sampling::bad_words_ids),
      field("min_new_tokens", &Sampling::min_new_tokens),
      field("forced_eos_token_ids", &Sampling::forced_eos_token_ids),
      field("suppress_tokens", &Sampling::suppress_tokens),
      field("begin_suppress_tokens", &Sampling::begin_suppress_tokens),
      field("temperature", &Sampling::temperature),
      field("top_k", &Sampling::top_k),
      field("top_p", &Sampling::top_p),
      field("min_p", &Sampling::min_p),
      field("typical_p", &Sampling::typical_p),
      field("epsilon_cutoff", &Sampling::epsilon_cutoff),
      field("eta_cutoff", &Sampling::eta_cutoff),
      field("eos_token_ids", &Sampling::eos_token_ids),
      field("seed", &Sampling::seed),
      field("reply_start", &Sampling::reply_start),
      field("penalty_start", &Sampling::penalty_start),
      field("max_length", &Sampling::max_length),
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

int32_t choose(const Sampling& rules, const std::vector<int32_t>& tokens, const F32Array& logits,
               const std::vector<int32_t>& bans) {
  if (logits.ndim() != 1 || logits.size() == 0) {
    throw std::invalid_argument("logits must be one row (V,), but has " + std::to_string(logits.ndim()) +
                                " dimensions and " + std::to_string(logits.size()) + " values.");
  }
  for (const int32_t id : tokens) {
    if (id >= 0 && id < logits.size()) continue;
    throw std::invalid_argument("tokens must be from 0 to " + std::to_string(logits.size() - 1) +
                                ", as there are logits, but one is " + std::to_string(id) + ".");
  }
  if (std::size_t(rules.reply_start) > tokens.size()) {
    throw std::invalid_argument("tokens must reach up to reply_start (" + std::to_string(rules.reply_start) +
                                "), but there are " + std::to_string(tokens.size()) + ".");
  }
  std::vector<float> copy(logits.data(), logits.data() + logits.size());
  const py::gil_scoped_release free;
  return Sampler(kernels()).choose(rules, tokens, copy, bans);
}

int32_t draw(const Sampling& rules, int64_t position, const F32Array& scores) {
  if (scores.ndim() != 1 || scores.size() == 0) {
    throw std::invalid_argument("scores must be one row (V,), but has " + std::to_string(scores.ndim()) + " dimensions and " +
                                std::to_string(scores.size()) + " values.");
  }
  const std::span<const float> row(scores.data(), scores.size());
  const py::gil_scoped_release free;
  return Sampler(kernels()).draw(rules, position, row);
}

}  // namespace

void register_sampling(py::module_& m) {
  using namespace pybind11::literals;
  py::class_<Sampling, std::shared_ptr<Sampling>>(m, "Sampling").def(py::init(&make_sampling));
  m.def("choose", &choose, "sampling"_a, "tokens"_a, "logits"_a, "bans"_a = std::vector<int32_t>());
  m.def("draw", &draw, "sampling"_a, "position"_a, "scores"_a);
}

}  // namespace dialo
