// How do numpy arrays enter the core without a copy?
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "model/arrays.h"

namespace dialo {

namespace py = pybind11;

using F32Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

// A Python object that C++ keeps alive; released with the GIL, from whichever thread lets go last.
inline std::shared_ptr<const void> keep_alive(py::object object) {
  return std::shared_ptr<const void>(object.release().ptr(), [](const void* p) {
    const py::gil_scoped_acquire gil;
    py::handle(static_cast<PyObject*>(const_cast<void*>(p))).dec_ref();
  });
}

// std::invalid_argument unless the array is C-contiguous, aligned and of an ElementType in native byte order.
inline Array to_array(const std::string& name, const py::array& array) {
  Array out{};
  out.type = element_type_of("the tensor " + name, py::str(array.dtype()));
  const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % std::size_t(array.itemsize()) == 0;
  if (!(array.flags() & py::array::c_style) || !aligned) {
    throw std::invalid_argument("expected the tensor " + name +
                                " to be contiguous and aligned, found one that is not; pass numpy.ascontiguousarray(it)");
  }
  out.shape.assign(array.shape(), array.shape() + array.ndim());
  out.data = array.data();
  out.owner = keep_alive(array);
  return out;
}

}  // namespace dialo
