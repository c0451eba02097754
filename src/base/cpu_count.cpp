#include "base/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace dialo {
namespace {

#if defined(__linux__)

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Cores of which this process may use at least one hardware thread; 0 when the system does not tell.
int physical_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string siblings =
        first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  return int(cores.size());
}

double quota_in(const std::string& folder) {  // cores, or infinity
  const std::string limit = first_line(folder + "/cpu.max");  // cgroup v2: "200000 100000" or "max 100000"
  try {
    if (!limit.empty() && limit[0] != 'm') {
      const std::size_t space = limit.find(' ');
      return std::stod(limit) / std::stod(limit.substr(space + 1));
    }
    const std::string quota = first_line(folder + "/cpu.cfs_quota_us");  // cgroup v1: microseconds, or -1
    if (!quota.empty() && quota[0] != '-') return std::stod(quota) / std::stod(first_line(folder + "/cpu.cfs_period_us"));
  } catch (const std::exception&) {
    // not a number: no quota that we understand
  }
  return INFINITY;
}

// The tightest quota on the way from this process's cgroup to the root.
double cgroup_quota() {
  double quota = quota_in("/sys/fs/cgroup/cpu");  // v1 as containers see it
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    for (std::string path = line.substr(3);; path.resize(path.rfind('/'))) {
      quota = std::min(quota, quota_in("/sys/fs/cgroup" + path));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return quota;
}

#else

int physical_cores() { return 0; }
double cgroup_quota() { return INFINITY; }

#endif

}  // namespace

int default_num_threads() {
  int count = physical_cores();
  if (count == 0) count = int(std::thread::hardware_concurrency());
  return int(std::max(1.0, std::min<double>(count, std::floor(cgroup_quota() + 0.001))));
}

}  // namespace dialo
