// Which functions can stand between the two halves of an MLP? The model names one, the kernels compute it.
#pragma once

namespace dialo {

enum class Activation { kGeluTanh, kGeluErf, kQuickGelu, kRelu, kSilu, kTanh };

}  // namespace dialo
