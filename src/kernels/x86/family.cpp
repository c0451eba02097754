// Which rungs do x86 processors have, and how is one asked what it can do?
#include "kernels/isa.h"

#if defined(DIALO_X86)
#include <cpuid.h>

namespace dialo {

namespace avx2 {
Overlay overlay;
}
namespace avxvnni {
Overlay overlay;
}
namespace avx512vnni {
Overlay overlay;
}

namespace x86 {
namespace {

enum Bit : uint32_t {
  kAvx2 = 1u << 0,
  kFma = 1u << 1,
  kF16c = 1u << 2,
  kAvxVnni = 1u << 3,
  kAvx512f = 1u << 4,
  kAvx512bw = 1u << 5,
  kAvx512dq = 1u << 6,
  kAvx512vl = 1u << 7,
  kAvx512Vnni = 1u << 8,
};

constexpr uint32_t kBase = kAvx2 | kFma | kF16c;
constexpr uint32_t kBase512 = kBase | kAvx512f | kAvx512bw | kAvx512dq | kAvx512vl;

// In climbing order. One that the CPU lacks is skipped and does not stop the climb: AVX-VNNI and AVX-512 VNNI do not
// imply each other. A new one is a line here, its overlay's name above, and one file beside this one.
constexpr Rung kRungs[] = {
    {"avx2", "256-bit vectors with FMA; int8 products by maddubs", kBase, avx2::overlay},
    {"avxvnni", "avx2 with 256-bit int8 dot products (VEX)", kBase | kAvxVnni, avxvnni::overlay},
    {"avx512vnni", "512-bit vectors with int8 dot products", kBase512 | kAvx512Vnni, avx512vnni::overlay},
};

constexpr FeatureName kFeatures[] = {
    {kAvx2, "avx2"},         {kFma, "fma"},           {kF16c, "f16c"},
    {kAvxVnni, "avx_vnni"},  {kAvx512f, "avx512f"},   {kAvx512bw, "avx512bw"},
    {kAvx512dq, "avx512dq"}, {kAvx512vl, "avx512vl"}, {kAvx512Vnni, "avx512_vnni"},
};

// What the operating system saves at a context switch, as bits of XCR0; without it the registers must not be touched.
constexpr uint32_t kYmm = 0x6, kZmm = 0xe6;

// Where CPUID says it: a leaf, a register (0 to 3: eax, ebx, ecx, edx) and a bit of it.
struct Place {
  uint32_t feature;
  uint32_t leaf, subleaf;
  int reg, bit;
  uint32_t state;
};

constexpr Place kPlaces[] = {
    {kFma, 1, 0, 2, 12, kYmm},      {kF16c, 1, 0, 2, 29, kYmm},     {kAvx2, 7, 0, 1, 5, kYmm},
    {kAvx512f, 7, 0, 1, 16, kZmm},  {kAvx512dq, 7, 0, 1, 17, kZmm}, {kAvx512bw, 7, 0, 1, 30, kZmm},
    {kAvx512vl, 7, 0, 1, 31, kZmm}, {kAvx512Vnni, 7, 0, 2, 11, kZmm}, {kAvxVnni, 7, 1, 0, 4, kYmm},
};

bool says(uint32_t leaf, uint32_t subleaf, int reg, int bit) {
  uint32_t regs[4];
  if (!__get_cpuid_count(leaf, subleaf, &regs[0], &regs[1], &regs[2], &regs[3])) return false;
  return regs[reg] >> bit & 1;
}

uint32_t saved_state() {
  if (!says(1, 0, 2, 27)) return 0;  // OSXSAVE: the instruction below exists
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

uint32_t detect() {
  const uint32_t state = saved_state();
  uint32_t features = 0;
  for (const Place& p : kPlaces) {
    if ((state & p.state) == p.state && says(p.leaf, p.subleaf, p.reg, p.bit)) features |= p.feature;
  }
  return features;
}

}  // namespace

Family family() { return {kRungs, kFeatures, detect}; }

}  // namespace x86
}  // namespace dialo

#endif
