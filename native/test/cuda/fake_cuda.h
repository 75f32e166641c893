// A CUDA for tests on machines without a GPU: a runtime whose device memory is apart from the host's, a cuBLASLt of plain
// loops, and the CPU's kernels behind the kernel table of a CUDA library. Meant to be stricter than the real one:
//
// - Device memory is unreadable but while a kernel, a product or a copy runs, so that any other access of the host's ends
//   the process. Fresh and freed memory holds NaN.
// - Copies to the device happen as late as they may: at the next work or wait. Copies from it arrive at the next wait.
//   So host memory that is used again too early, or read too early, gives wrong numbers.
// - A kernel's operand that is not device memory, and a copy that is not between pinned and device memory, is an error.
//
// Each call may be told to fail; variables and fake_cuda_fail say how.
#pragma once

#include <cstddef>
#include <cstdint>

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

// Runs what is queued and opens the device's memory; every open has its close. Opens nest.
FAKE_EXPORT void fake_cuda_open();
FAKE_EXPORT void fake_cuda_close();
// Whether [memory, memory + bytes) lies in one live allocation.
FAKE_EXPORT int fake_cuda_is_device(const void* memory, size_t bytes);

// From its `after`-th next call on (0: the next) a function of the runtime, or a member of the kernel table, returns that status,
// once or for good. A status of 0 ends it.
FAKE_EXPORT void fake_cuda_fail(const char* function, int64_t after, int32_t status, int32_t once);
// Bytes that the device has from now on.
FAKE_EXPORT void fake_cuda_limit(int64_t bytes);
// How often a function of the runtime or a member of the kernel table was called.
FAKE_EXPORT int64_t fake_cuda_calls(const char* function);
// Counts a call of a function that is not the runtime's own. The status that it is told to fail with, else 0.
FAKE_EXPORT int32_t fake_cuda_begin(const char* function);

namespace fake {

struct Open {
    Open() { fake_cuda_open(); }
    ~Open() { fake_cuda_close(); }
};

}  // namespace fake
