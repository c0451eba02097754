// How does a call of the core leave the GIL, and what becomes of it when the process ends meanwhile?
#pragma once

#include <pybind11/pybind11.h>

namespace dialo {

// The GIL is free while one lives; made and destroyed by a thread that holds it otherwise.
//
// Daemon threads may be in here when the interpreter ends. Python before 3.14 ends a thread that then asks for the GIL
// by unwinding its stack, which no destructor and no frame of pybind11 survives: the process would abort. So a hook at
// exit waits until the calls that run have ended, and from then on the threads that made them, and any that call
// anew, sleep for good: only the thread that ends the process goes on.
class ReleasedGil {
 public:
  ReleasedGil();
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

using Free = pybind11::call_guard<ReleasedGil>;

// Python's atexit runs the hook: after those of whoever registers later, who may still rely on running calls.
void watch_exit();

}  // namespace dialo
