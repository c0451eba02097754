// The Python module dialocpp._core: one registering function a topic.
#include <pybind11/pybind11.h>

#include "base/error.h"
#include "bindings/register.h"
#include "bindings/released_gil.h"

namespace py = pybind11;

namespace {

// The core's errors as the package's own classes, looked up when one is thrown.
void raise_as(const char* name, const char* message) {
  py::set_error(py::module_::import("dialocpp.errors").attr(name), message);
}

// An instance comes from its constructor or from the core: T.__new__(T) would make one with nothing in it, which no
// method could tell from a real one. Python refuses __new__ where a type's own tp_new is not that of its base.
void forbid_bare_new(const py::module_& m) {
  for (const auto& [name, value] : m.attr("__dict__").cast<py::dict>()) {
    if (!PyType_Check(value.ptr())) continue;
    reinterpret_cast<PyTypeObject*>(value.ptr())->tp_new = [](PyTypeObject* type, PyObject*, PyObject*) {
      return py::detail::make_new_instance(type);
    };
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of dialocpp: arrays and token ids in, token ids out.";
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const dialo::CapacityError& e) {
      raise_as("CapacityError", e.what());
    } catch (const dialo::BackendError& e) {
      raise_as("BackendError", e.what());
    }
  });
  dialo::watch_exit();
  dialo::register_cpu(m);
  dialo::register_model(m);
  dialo::register_sampling(m);
  dialo::register_engine(m);
  forbid_bare_new(m);
  py::module_ testing = m.def_submodule("testing", "Every kernel of every instruction set as a numpy function.");
  dialo::register_testing(testing);
}
