#include "bindings/released_gil.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace dialo {
namespace {

std::atomic<int> calls{0};  // that have left the GIL and do not have it back
std::atomic<bool> ending{false};
std::thread::id ender;  // written before `ending`

bool is_over() { return ending.load() && std::this_thread::get_id() != ender; }

void leave() {
  if (calls.fetch_sub(1) == 1) calls.notify_all();
}

[[noreturn]] void sleep_for_good() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(24));
}

std::terminate_handler otherwise = nullptr;

// A thread that has the GIL may lose it inside of a frame of C++ as well, where a call of Python's runs Python code. When
// it asks for it again after the end has begun, Python unwinds it, and a frame that may not be unwound comes here. It
// does not hold the GIL; asleep it harms nobody, as with Python 3.14, which lets such threads hang where they are.
void park_or_terminate() {
  if (is_over()) sleep_for_good();
  otherwise();
}

// In the thread that ends the process, which holds the GIL.
void end_calls() {
  ender = std::this_thread::get_id();
  ending.store(true);
  PyThreadState* state = PyEval_SaveThread();  // for those who are on their way back to it
  for (int running; (running = calls.load()) != 0;) calls.wait(running);
  PyEval_RestoreThread(state);
}

}  // namespace

ReleasedGil::ReleasedGil() {
  calls.fetch_add(1);
  state_ = PyEval_SaveThread();
  if (!is_over()) return;
  leave();
  sleep_for_good();
}

ReleasedGil::~ReleasedGil() {
  if (is_over()) {
    leave();
    sleep_for_good();
  }
  PyEval_RestoreThread(state_);  // the interpreter does not end before `leave`
  leave();
}

void watch_exit() {
  otherwise = std::set_terminate(&park_or_terminate);
  pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&end_calls));
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] { calls.store(0); });  // the threads that made them stayed with the parent
#endif
}

}  // namespace dialo
