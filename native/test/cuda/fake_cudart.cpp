// The runtime of the CUDA for tests: see fake_cuda.h. Variables: FAKE_CUDA_DRIVER and FAKE_CUDA_CAPABILITY, as CUDA counts
// (13000, 90), FAKE_CUDA_NAME of the card, FAKE_CUDA_MEMORY in bytes, FAKE_CUDA_FAIL as function:after:status.
#include "fake_cuda.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace {

constexpr size_t kReserved = size_t{16} << 30;  // addresses, not memory
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kAlignment = 256;
constexpr int kInvalidValue = 1;
constexpr int kOutOfMemory = 2;

struct Failure {
    int64_t after;
    int32_t status;
    bool once;
};

struct Copy {
    enum Kind { in, out, zero } kind;
    char* device;
    char* host;
    size_t bytes;
};

struct Event {
    bool recorded;
};

int64_t variable(const char* name, int64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoll(text) : otherwise;
}

struct State {
    std::mutex mutex;
    char* base;
    size_t high = 0;
    int opened = 0;
    int64_t limit = variable("FAKE_CUDA_MEMORY", int64_t{8} << 30);
    int64_t used = 0;
    std::map<char*, size_t> live;               // by address
    std::multimap<size_t, char*> free;          // by size, for good: the driver's pool
    std::map<char*, size_t> pinned;
    std::deque<Copy> queue;
    std::vector<std::pair<char*, std::vector<char>>> arriving;
    std::map<std::string, Failure> failures;
    std::map<std::string, int64_t> calls;

    State() {
        void* memory = mmap(nullptr, kReserved + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        // Huge pages: their protection changes several hundred times faster.
        base = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage);
        madvise(base, kReserved, MADV_HUGEPAGE);
        if (const char* text = std::getenv("FAKE_CUDA_FAIL")) {
            char name[64];
            long long after;
            int status;
            if (std::sscanf(text, "%63[^:]:%lld:%d", name, &after, &status) == 3) failures[name] = {after, status, false};
        }
    }

    void protect(int how) {
        const size_t pages = (high + kHugePage - 1) / kHugePage * kHugePage;
        if (pages > 0 && mprotect(base, pages, how) != 0) std::abort();
    }

    void open() {
        if (opened++ == 0) protect(PROT_READ | PROT_WRITE);
    }

    void close() {
        if (--opened == 0) protect(PROT_NONE);
    }

    void run_queue() {
        if (queue.empty()) return;
        open();
        for (const Copy& copy : queue) {
            switch (copy.kind) {
                case Copy::in: std::memcpy(copy.device, copy.host, copy.bytes); break;
                case Copy::out: arriving.emplace_back(copy.host, std::vector<char>(copy.device, copy.device + copy.bytes)); break;
                case Copy::zero: std::memset(copy.device, 0, copy.bytes); break;
            }
        }
        queue.clear();
        close();
    }

    void arrive() {
        run_queue();
        for (auto& [host, bytes] : arriving) std::memcpy(host, bytes.data(), bytes.size());
        arriving.clear();
    }

    bool is_device(const void* memory, size_t bytes) {
        auto after = live.upper_bound(static_cast<char*>(const_cast<void*>(memory)));
        if (after == live.begin()) return false;
        auto block = std::prev(after);
        const char* end = block->first + block->second;
        return static_cast<const char*>(memory) + bytes <= end && (static_cast<const char*>(memory) < end || bytes == 0);
    }

    bool is_pinned(const void* memory, size_t bytes) {
        auto after = pinned.upper_bound(static_cast<char*>(const_cast<void*>(memory)));
        if (after == pinned.begin()) return false;
        auto block = std::prev(after);
        return static_cast<const char*>(memory) + bytes <= block->first + block->second;
    }

    char* take(size_t bytes) {
        const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;  // a gap behind each block
        if (used + static_cast<int64_t>(bytes) > limit) return nullptr;
        char* memory;
        auto fit = free.lower_bound(size);
        if (fit != free.end() && fit->first == size) {
            memory = fit->second;
            free.erase(fit);
        } else {
            if (high + size > kReserved) return nullptr;
            memory = base + high;
            high += size;
            if (opened > 0) protect(PROT_READ | PROT_WRITE);
        }
        used += static_cast<int64_t>(bytes);
        live[memory] = bytes;
        open();
        std::memset(memory, 0xff, size);
        close();
        return memory;
    }

    bool give_back(char* memory) {
        auto block = live.find(memory);
        if (block == live.end()) return false;
        run_queue();
        const size_t size = (block->second + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
        open();
        std::memset(memory, 0xff, size);
        close();
        used -= static_cast<int64_t>(block->second);
        free.emplace(size, memory);
        live.erase(block);
        return true;
    }

    // The status of a call that is told to fail, else 0.
    int begin(const char* name) {
        calls[name]++;
        auto failure = failures.find(name);
        if (failure == failures.end() || failure->second.after-- > 0) return 0;
        const int status = failure->second.status;
        if (failure->second.once) {
            failures.erase(failure);
        } else {
            failure->second.after = 0;
        }
        return status;
    }
};

State& state() {
    static State* all = new State;
    return *all;
}

}  // namespace

#define BEGIN                                                                      \
    State& s = state();                                                            \
    std::lock_guard<std::mutex> lock(s.mutex);                                     \
    if (int status = s.begin(__func__)) return status

FAKE_EXPORT void fake_cuda_open() {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    s.run_queue();
    s.open();
}

FAKE_EXPORT void fake_cuda_close() {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    s.close();
}

FAKE_EXPORT int fake_cuda_is_device(const void* memory, size_t bytes) {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    return s.is_device(memory, bytes);
}

FAKE_EXPORT void fake_cuda_fail(const char* function, int64_t after, int32_t status, int32_t once) {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    if (status == 0) {
        s.failures.erase(function);
    } else {
        s.failures[function] = {after, status, once != 0};
    }
}

FAKE_EXPORT void fake_cuda_limit(int64_t bytes) {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    s.limit = bytes;
}

FAKE_EXPORT int64_t fake_cuda_calls(const char* function) {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    return s.calls[function];
}

FAKE_EXPORT int32_t fake_cuda_begin(const char* function) {
    State& s = state();
    std::lock_guard<std::mutex> lock(s.mutex);
    return s.begin(function);
}

// ---- the runtime's own functions ------------------------------------------------------------------------------------

FAKE_EXPORT int cudaGetDeviceCount(int* count) {
    BEGIN;
    *count = 1;
    return 0;
}

FAKE_EXPORT int cudaSetDevice(int device) {
    BEGIN;
    return device == 0 ? 0 : 101;
}

FAKE_EXPORT int cudaDriverGetVersion(int* version) {
    BEGIN;
    *version = static_cast<int>(variable("FAKE_CUDA_DRIVER", 13000));
    return 0;
}

FAKE_EXPORT int cudaRuntimeGetVersion(int* version) {
    BEGIN;
    *version = 13000;
    return 0;
}

FAKE_EXPORT int cudaDeviceGetAttribute(int* value, int attribute, int) {
    BEGIN;
    const int capability = static_cast<int>(variable("FAKE_CUDA_CAPABILITY", 90));
    switch (attribute) {
        case 75: *value = capability / 10; return 0;
        case 76: *value = capability % 10; return 0;
        case 115: *value = 1; return 0;  // cudaDevAttrMemoryPoolsSupported
        default: *value = 1; return 0;
    }
}

FAKE_EXPORT int cudaGetDeviceProperties(void* properties, int) {
    BEGIN;
    const char* name = std::getenv("FAKE_CUDA_NAME");
    std::strcpy(static_cast<char*>(properties), name ? name : "Test GPU");
    return 0;
}

FAKE_EXPORT const char* cudaGetErrorName(int status) {
    switch (status) {
        case 2: return "cudaErrorMemoryAllocation";
        case 35: return "cudaErrorInsufficientDriver";
        case 100: return "cudaErrorNoDevice";
        case 209: return "cudaErrorNoKernelImageForDevice";
        case 700: return "cudaErrorIllegalAddress";
        default: return "cudaErrorOfTest";
    }
}

FAKE_EXPORT const char* cudaGetErrorString(int status) {
    return status == 700 ? "an illegal memory access was encountered" : "as the test wants it";
}

FAKE_EXPORT int cudaGetLastError() {
    BEGIN;
    return 0;
}

FAKE_EXPORT int cudaMemGetInfo(size_t* free, size_t* total) {
    BEGIN;
    *total = static_cast<size_t>(s.limit);
    *free = static_cast<size_t>(s.limit > s.used ? s.limit - s.used : 0);
    return 0;
}

FAKE_EXPORT int cudaDeviceGetDefaultMemPool(void** pool, int) {
    BEGIN;
    *pool = &s;
    return 0;
}

FAKE_EXPORT int cudaMemPoolSetAttribute(void* pool, int attribute, void* value) {
    BEGIN;
    return pool == &s && attribute == 4 && *static_cast<uint64_t*>(value) == UINT64_MAX ? 0 : kInvalidValue;
}

FAKE_EXPORT int cudaMemPoolTrimTo(void* pool, size_t) {
    BEGIN;
    return pool == &s ? 0 : kInvalidValue;
}

FAKE_EXPORT int cudaMallocAsync(void** memory, size_t bytes, void* stream) {
    BEGIN;
    if (!stream || bytes == 0) return kInvalidValue;
    *memory = s.take(bytes);
    return *memory ? 0 : kOutOfMemory;
}

FAKE_EXPORT int cudaFreeAsync(void* memory, void* stream) {
    BEGIN;
    return stream && s.give_back(static_cast<char*>(memory)) ? 0 : kInvalidValue;
}

FAKE_EXPORT int cudaMemsetAsync(void* memory, int value, size_t bytes, void* stream) {
    BEGIN;
    if (!stream || value != 0 || !s.is_device(memory, bytes)) return kInvalidValue;
    s.queue.push_back({Copy::zero, static_cast<char*>(memory), nullptr, bytes});
    return 0;
}

FAKE_EXPORT int cudaHostAlloc(void** memory, size_t bytes, unsigned) {
    BEGIN;
    *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*memory) return kOutOfMemory;
    s.pinned[static_cast<char*>(*memory)] = bytes;
    return 0;
}

FAKE_EXPORT int cudaFreeHost(void* memory) {
    BEGIN;
    s.run_queue();
    if (s.pinned.erase(static_cast<char*>(memory)) == 0) return kInvalidValue;
    std::free(memory);
    return 0;
}

FAKE_EXPORT int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
    BEGIN;
    const bool in = kind == 1;
    void* device = in ? to : const_cast<void*>(from);
    void* host = in ? const_cast<void*>(from) : to;
    if (!stream || (kind != 1 && kind != 2) || !s.is_device(device, bytes) || !s.is_pinned(host, bytes)) return kInvalidValue;
    s.queue.push_back({in ? Copy::in : Copy::out, static_cast<char*>(device), static_cast<char*>(host), bytes});
    return 0;
}

FAKE_EXPORT int cudaStreamCreateWithFlags(void** stream, unsigned flags) {
    BEGIN;
    if (flags != 1) return kInvalidValue;
    *stream = new char;
    return 0;
}

FAKE_EXPORT int cudaStreamDestroy(void* stream) {
    BEGIN;
    delete static_cast<char*>(stream);
    return 0;
}

FAKE_EXPORT int cudaStreamSynchronize(void*) {
    BEGIN;
    s.arrive();
    return 0;
}

FAKE_EXPORT int cudaEventCreateWithFlags(void** event, unsigned flags) {
    BEGIN;
    if (flags != 2) return kInvalidValue;
    *event = new Event{false};
    return 0;
}

FAKE_EXPORT int cudaEventDestroy(void* event) {
    BEGIN;
    delete static_cast<Event*>(event);
    return 0;
}

FAKE_EXPORT int cudaEventRecord(void* event, void*) {
    BEGIN;
    static_cast<Event*>(event)->recorded = true;
    return 0;
}

FAKE_EXPORT int cudaEventSynchronize(void* event) {
    BEGIN;
    if (!static_cast<Event*>(event)->recorded) return kInvalidValue;
    s.arrive();
    return 0;
}

FAKE_EXPORT int cudaEventQuery(void*) {
    BEGIN;
    return s.queue.empty() ? 0 : 600;
}
