// Which rungs do 64-bit ARM processors have, and how is one asked what it can do? By the operating system: no instruction
// may ask.
#include "kernels/isa.h"

#if defined(DIALO_ARM64)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#elif defined(_WIN32)
#include <windows.h>
#endif

namespace dialo {

namespace neon {
Overlay overlay;
}
namespace dotprod {
Overlay overlay;
}
namespace i8mm {
Overlay overlay;
}

namespace arm {
namespace {

enum Bit : uint32_t {
  kAsimd = 1u << 0,
  kAsimdDp = 1u << 1,
  kI8mm = 1u << 2,
};

// In climbing order.
constexpr Rung kRungs[] = {
    {"neon", "128-bit vectors with FMA; int8 products by widening multiplies", kAsimd, neon::overlay},
    {"dotprod", "neon with int8 dot products", kAsimd | kAsimdDp, dotprod::overlay},
    {"i8mm", "dotprod with mixed signs and 2 x 2 matrix products", kAsimd | kAsimdDp | kI8mm, i8mm::overlay},
};

constexpr FeatureName kFeatures[] = {{kAsimd, "asimd"}, {kAsimdDp, "asimddp"}, {kI8mm, "i8mm"}};

#if defined(__linux__)

// Bits as Linux's <asm/hwcap.h> numbers them: older headers do not name the last ones.
uint32_t detect() {
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  return (hwcap >> 1 & 1 ? kAsimd : 0u) | (hwcap >> 20 & 1 ? kAsimdDp : 0u) | (hwcap2 >> 13 & 1 ? kI8mm : 0u);
}

#elif defined(__APPLE__)

bool has(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

uint32_t detect() {
  return kAsimd | (has("hw.optional.arm.FEAT_DotProd") ? kAsimdDp : 0u) |
         (has("hw.optional.arm.FEAT_I8MM") ? kI8mm : 0u);
}

#elif defined(_WIN32)

// PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE of winnt.h.
uint32_t detect() {
  return kAsimd | (IsProcessorFeaturePresent(43) ? kAsimdDp : 0u) | (IsProcessorFeaturePresent(66) ? kI8mm : 0u);
}

#else

uint32_t detect() { return kAsimd; }  // every AArch64 CPU has it, and nobody says more here

#endif

}  // namespace

Family family() { return {kRungs, kFeatures, detect}; }

}  // namespace arm
}  // namespace dialo
#endif
