// How many threads may this process use to good effect?
#pragma once

namespace dialo {

// Physical cores ∩ this process's affinity ∩ its cgroup's CPU quota; at least 1. Hyper-threads share the units that a
// product keeps busy, and a quota that is outrun stops every thread at once.
int default_num_threads();

}  // namespace dialo
