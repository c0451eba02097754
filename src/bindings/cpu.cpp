#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "base/cpu_count.h"
#include "bindings/register.h"
#include "bindings/released_gil.h"
#include "kernels/kernels.h"
#include "kernels/roofs.h"

namespace dialo {
namespace {

std::vector<std::tuple<std::string, std::string, std::vector<std::string>>> isa_ladder() {
  std::vector<std::tuple<std::string, std::string, std::vector<std::string>>> rungs;
  for (const Rung& rung : ladder()) {
    rungs.emplace_back(rung.name, rung.sentence, feature_names(rung.needs & ~cpu_features()));
  }
  return rungs;
}

// (bytes, int8 operations, float32 operations) a second.
std::tuple<double, double, double> roofs(int num_threads, int64_t read_bytes) {
  ThreadPool pool(num_threads);
  return {read_bandwidth(pool, read_bytes, 5), peak_int8(pool, kernels()), peak_float32(pool, kernels())};
}

}  // namespace

void register_cpu(pybind11::module_& m) {
  using namespace pybind11::literals;
  m.def("cpu_features", [] { return feature_names(cpu_features()); });
  m.def("isa_ladder", isa_ladder);
  m.def("chosen_isa", [] { return std::string(chosen_rung().name); });
  m.def("default_num_threads", default_num_threads);
  m.def("roofs", &roofs, "num_threads"_a, "read_bytes"_a, Free());
}

}  // namespace dialo
