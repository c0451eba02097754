// What does the Python module consist of?
#pragma once

#include <pybind11/pybind11.h>

namespace dialo {

void register_cpu(pybind11::module_& m);      // features, the ladder, threads
void register_model(pybind11::module_& m);    // config, tensors, packing, weights
void register_sampling(pybind11::module_& m);  // the rules of one request, and the draw by itself
void register_engine(pybind11::module_& m);   // sequences, steps
void register_testing(pybind11::module_& m);  // kernels one by one

}  // namespace dialo
