// Which rung of the ladder does this CPU stand on?
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "kernels/isa.h"
#include "kernels/kernels.h"

namespace dialo {
namespace {

constexpr Rung kScalar{"scalar", "plain C++: the definition of every kernel, on any CPU", 0, scalar::overlay};

Family family() {
#if defined(DIALO_X86)
  return x86::family();
#elif defined(DIALO_ARM64)
  return arm::family();
#else
  return {{}, {}, [] { return uint32_t{0}; }};
#endif
}

bool runs_here(const Rung& rung) { return (rung.needs & ~cpu_features()) == 0; }

std::string runnable_names() {
  std::string names;
  for (const Rung& rung : ladder()) {
    if (runs_here(rung)) names += (names.empty() ? "" : ", ") + std::string(rung.name);
  }
  return names;
}

// `name` null: the highest rung that runs here.
const Rung& find(const char* name, const std::string& who) {
  if (!name || !*name) {
    const Rung* best = &ladder().front();
    for (const Rung& rung : ladder()) {
      if (runs_here(rung)) best = &rung;
    }
    return *best;
  }
  for (const Rung& rung : ladder()) {
    if (std::strcmp(rung.name, name) != 0) continue;
    if (runs_here(rung)) return rung;
    throw BackendError("expected " + who + " to name an instruction set of this CPU (" + runnable_names() + "), found '" +
                       name + "', which it lacks");
  }
  throw BackendError("expected " + who + " to name an instruction set of this CPU (" + runnable_names() + "), found '" +
                     name + "', which is not known here");
}

Kernels climb_to(const Rung& top) {
  Kernels table{};
  for (const Rung& rung : ladder()) {
    if (runs_here(rung)) rung.overlay(table);
    if (&rung == &top) break;
  }
  return table;
}

}  // namespace

std::span<const Rung> ladder() {
  static const std::vector<Rung> rungs = [] {
    std::vector<Rung> all{kScalar};
    all.insert(all.end(), family().rungs.begin(), family().rungs.end());
    return all;
  }();
  return rungs;
}

uint32_t cpu_features() {
  static const uint32_t features = family().detect();
  return features;
}

std::vector<std::string> feature_names(uint32_t bits) {
  std::vector<std::string> names;
  for (const FeatureName& feature : family().features) {
    if (bits & feature.bit) names.emplace_back(feature.name);
  }
  return names;
}

const Rung& chosen_rung() {
  static const Rung& rung = find(std::getenv("DIALOCPP_ISA"), "DIALOCPP_ISA");
  return rung;
}

const Kernels& kernels() {
  static const Kernels table = climb_to(chosen_rung());
  return table;
}

Kernels kernels_of(const char* name) { return climb_to(find(name, "the caller")); }

}  // namespace dialo
