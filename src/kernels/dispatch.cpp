// Which rung of the ladder does this CPU stand on?
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "kernels/isa.h"
#include "kernels/kernels.h"

#if defined(DIALO_X86)
#include <cpuid.h>
#endif

namespace dialo {
namespace {

constexpr FeatureName kFeatures[] = {
    {kAvx2, "avx2"},         {kFma, "fma"},           {kF16c, "f16c"},
    {kAvxVnni, "avx_vnni"},  {kAvx512f, "avx512f"},   {kAvx512bw, "avx512bw"},
    {kAvx512dq, "avx512dq"}, {kAvx512vl, "avx512vl"}, {kAvx512Vnni, "avx512_vnni"},
    {kAsimd, "asimd"},       {kAsimdDp, "asimddp"},   {kI8mm, "i8mm"},
};

// In climbing order; a rung that the CPU lacks is skipped and does not stop the climb.  A new ISA is one line here and
// one file of its family's folder.
constexpr Rung kRungs[] = {
    {"scalar", "plain C++: the definition of every kernel, on any CPU", 0, scalar::overlay},
#if defined(DIALO_X86)
    {"avx2", "256-bit vectors with FMA; int8 products by maddubs", kAvx2 | kFma | kF16c, avx2::overlay},
    {"avxvnni", "avx2 with 256-bit int8 dot products (VEX)", kAvx2 | kFma | kF16c | kAvxVnni, avxvnni::overlay},
    {"avx512vnni", "512-bit vectors with int8 dot products",
     kAvx2 | kFma | kF16c | kAvx512f | kAvx512bw | kAvx512dq | kAvx512vl | kAvx512Vnni, avx512vnni::overlay},
#endif
#if defined(DIALO_ARM64)
    {"neon", "128-bit vectors; int8 products by widening multiplies", kAsimd, neon::overlay},
    {"dotprod", "neon with int8 dot products", kAsimd | kAsimdDp, dotprod::overlay},
    {"i8mm", "neon with int8 dot products of mixed signs and matrix products", kAsimd | kAsimdDp | kI8mm, i8mm::overlay},
#endif
};

#if defined(DIALO_X86)
uint32_t detect() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const bool osxsave = c & (1u << 27);
  if (!osxsave) return 0;
  uint32_t features = 0;
  unsigned xcr0, high;
  // What the operating system saves at a context switch; without it the registers must not be touched.
  asm volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  const bool ymm = (xcr0 & 0x6) == 0x6, zmm = (xcr0 & 0xe6) == 0xe6;
  if (ymm && (c & (1u << 12))) features |= kFma;
  if (ymm && (c & (1u << 29))) features |= kF16c;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  if (ymm && (b & (1u << 5))) features |= kAvx2;
  if (zmm && (b & (1u << 16))) features |= kAvx512f;
  if (zmm && (b & (1u << 17))) features |= kAvx512dq;
  if (zmm && (b & (1u << 30))) features |= kAvx512bw;
  if (zmm && (b & (1u << 31))) features |= kAvx512vl;
  if (zmm && (c & (1u << 11))) features |= kAvx512Vnni;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && ymm && (a & (1u << 4))) features |= kAvxVnni;
  return features;
}
#elif defined(DIALO_ARM64)
uint32_t detect() { return detect_arm(); }
#else
uint32_t detect() { return 0; }
#endif

bool runs_here(const Rung& rung) { return (rung.needs & ~cpu_features()) == 0; }

std::string runnable_names() {
  std::string names;
  for (const Rung& rung : kRungs) {
    if (runs_here(rung)) names += (names.empty() ? "" : ", ") + std::string(rung.name);
  }
  return names;
}

// `name` null: the highest rung that runs here.
const Rung& find(const char* name, const char* who) {
  if (!name || !*name) {
    const Rung* best = &kRungs[0];
    for (const Rung& rung : kRungs) {
      if (runs_here(rung)) best = &rung;
    }
    return *best;
  }
  for (const Rung& rung : kRungs) {
    if (std::strcmp(rung.name, name) != 0) continue;
    if (runs_here(rung)) return rung;
    throw BackendError(std::string(who) + " asks for '" + name + "', which this CPU cannot run; it can run " +
                       runnable_names() + ".");
  }
  throw BackendError(std::string(who) + " asks for '" + name + "', which is no instruction set known here; use one of " +
                     runnable_names() + ".");
}

Kernels climb_to(const Rung& top) {
  Kernels table{};
  for (const Rung& rung : kRungs) {
    if (runs_here(rung)) rung.overlay(table);
    if (&rung == &top) break;
  }
  return table;
}

}  // namespace

const Ladder& ladder() {
  static const Ladder it{kRungs, sizeof(kRungs) / sizeof(kRungs[0]), kFeatures,
                         sizeof(kFeatures) / sizeof(kFeatures[0])};
  return it;
}

uint32_t cpu_features() {
  static const uint32_t features = detect();
  return features;
}

const Rung& chosen_rung() {
  static const Rung& rung = find(std::getenv("DIALOCPP_ISA"), "DIALOCPP_ISA");
  return rung;
}

const Kernels& kernels() {
  static const Kernels table = climb_to(chosen_rung());
  return table;
}

Kernels kernels_of(const char* name) { return climb_to(find(name, "The caller")); }

}  // namespace dialo
