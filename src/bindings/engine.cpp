#include "engine/engine.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/register.h"
#include "bindings/released_gil.h"
#include "engine/build.h"

namespace dialo {
namespace {

namespace py = pybind11;

std::shared_ptr<Engine> engine_of(std::shared_ptr<Weights> weights, int num_threads, int64_t kv_cache_bytes,
                                  const std::optional<std::string>& kv_dtype) {
  EngineOptions options{.num_threads = num_threads, .kv_cache_bytes = kv_cache_bytes, .kv_type = {}};
  if (kv_dtype) options.kv_type = element_type_of("kv_dtype", *kv_dtype);
  return make_engine(std::move(weights), options);
}

py::array_t<float> logits_of(Engine& engine, const std::vector<int32_t>& tokens) {
  py::array_t<float> out({int64_t(tokens.size()), int64_t(engine.config().outputs())});
  float* data = out.mutable_data();
  {
    const ReleasedGil free;
    engine.logits(tokens, data);
  }
  return out;
}

py::array_t<float> logprobs_of(Engine& engine, const std::vector<int32_t>& tokens) {
  py::array_t<float> out(tokens.empty() ? 0 : int64_t(tokens.size()) - 1);
  float* data = out.mutable_data();
  {
    const ReleasedGil free;
    engine.logprobs(tokens, data);
  }
  return out;
}

}  // namespace

void register_engine(py::module_& m) {
  using namespace pybind11::literals;

  py::class_<Sequence, std::shared_ptr<Sequence>>(m, "Sequence")
      .def("__len__", &Sequence::length, Free())
      .def_property_readonly("tokens", py::cpp_function(&Sequence::tokens, Free()))
      .def("fork",
           [](const Sequence& s, std::optional<int64_t> length) { return s.fork(length ? *length : s.length()); },
           "length"_a = py::none(), Free())
      .def("truncate", &Sequence::truncate, "length"_a, Free());

  py::class_<Work>(m, "Work")
      .def(py::init([](std::shared_ptr<Sequence> sequence, std::vector<int32_t> tokens, std::shared_ptr<SamplingParams> sampling,
                       std::vector<int32_t> bans, int n_best, int top_logprobs, int scored, bool logits) {
             return Work{.sequence = std::move(sequence),
                         .tokens = std::move(tokens),
                         .sampling = std::move(sampling),
                         .bans = std::move(bans),
                         .n_best = n_best,
                         .top_logprobs = top_logprobs,
                         .scored = scored,
                         .logits = logits};
           }),
           "sequence"_a, "tokens"_a, "sampling"_a = py::none(), py::kw_only(),
           "bans"_a = std::vector<int32_t>(), "n_best"_a = 0, "top_logprobs"_a = -1,
           "scored"_a = 0, "logits"_a = false)
      .def("__len__", [](const Work& w) { return w.tokens.size(); });

  py::class_<TokenScore>(m, "TokenScore").def_readonly("id", &TokenScore::id).def_readonly("score", &TokenScore::score);

  py::class_<Outcome>(m, "Outcome")
      .def_readonly("token", &Outcome::token)
      .def_readonly("logprob", &Outcome::logprob)
      .def_readonly("best", &Outcome::best)
      .def_readonly("logprobs", &Outcome::logprobs)
      .def_property_readonly("logits", [](const Outcome& o) { return py::array_t<float>(o.logits.size(), o.logits.data()); });

  py::class_<Engine, std::shared_ptr<Engine>>(m, "Engine")
      .def(py::init(&engine_of), "weights"_a.none(false), "num_threads"_a, "kv_cache_bytes"_a, py::kw_only(),
           "kv_dtype"_a = py::none())
      .def("sequence", &Engine::sequence)
      .def("step", [](Engine& engine, const std::vector<Work>& work) { return engine.step(work); }, "work"_a, Free())
      .def("logits", &logits_of, "tokens"_a)
      .def("logprobs", &logprobs_of, "tokens"_a)
      .def_property_readonly("num_threads", &Engine::num_threads)
      .def_property_readonly("kv_bytes_in_use", &Engine::kv_bytes_in_use);
}

}  // namespace dialo
