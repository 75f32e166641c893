// What a process does on the GPU, kernel by kernel: a library that CUDA loads into it, over CUPTI's activity records.
//
//   g++ -O2 -shared -fPIC -I$CUDA/include bench/gpu_trace.cpp -o gpu_trace.so -L$CUDA/lib64 -lcupti
//   CUDA_INJECTION64_PATH=$PWD/gpu_trace.so GPU_TRACE=trace.tsv java -jar engine.jar train ...
//
// At the end of the process GPU_TRACE holds a line for each kernel, copy and fill: start and end in ns, bytes, name.
// bench/gpu_trace.py makes a table of it.
#include <cupti.h>
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Record {
    uint64_t start, end, bytes;
    uint32_t name;
};

std::mutex lock;
std::vector<Record> records;
std::vector<std::string> names;
std::unordered_map<std::string, uint32_t> numbers;

uint32_t number_of(const char* name) {
    auto found = numbers.find(name);
    if (found != numbers.end()) {
        return found->second;
    }
    int status = 0;
    char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    names.push_back(status == 0 ? plain : name);
    std::free(plain);
    return numbers[name] = static_cast<uint32_t>(names.size() - 1);
}

const char* copy_name(uint8_t kind) {
    switch (kind) {
        case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: return "copy to the device";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: return "copy to the host";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD: return "copy on the device";
        default: return "copy";
    }
}

void CUPTIAPI give(uint8_t** buffer, size_t* size, size_t* most) {
    *size = size_t{8} << 20;
    *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, *size));
    *most = 0;
}

void CUPTIAPI take(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t filled) {
    const std::lock_guard<std::mutex> held(lock);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, filled, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            auto* k = reinterpret_cast<CUpti_ActivityKernel10*>(record);
            records.push_back({k->start, k->end, 0, number_of(k->name)});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            auto* m = reinterpret_cast<CUpti_ActivityMemcpy6*>(record);
            records.push_back({m->start, m->end, m->bytes, number_of(copy_name(m->copyKind))});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            auto* m = reinterpret_cast<CUpti_ActivityMemset4*>(record);
            records.push_back({m->start, m->end, m->bytes, number_of("fill")});
        }
    }
    std::free(buffer);
}

void write() {
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    const char* path = std::getenv("GPU_TRACE");
    FILE* out = std::fopen(path != nullptr ? path : "gpu_trace.tsv", "w");
    if (out == nullptr) {
        std::perror("gpu_trace");
        return;
    }
    const std::lock_guard<std::mutex> held(lock);
    for (const Record& r : records) {
        std::fprintf(out, "%llu\t%llu\t%llu\t%s\n", static_cast<unsigned long long>(r.start),
                     static_cast<unsigned long long>(r.end), static_cast<unsigned long long>(r.bytes),
                     names[r.name].c_str());
    }
    std::fclose(out);
}

}  // namespace

extern "C" int InitializeInjection() {
    if (cuptiActivityRegisterCallbacks(give, take) != CUPTI_SUCCESS) {
        std::fprintf(stderr, "gpu_trace: CUPTI takes no callbacks\n");
        return 1;
    }
    for (CUpti_ActivityKind kind :
         {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET}) {
        if (cuptiActivityEnable(kind) != CUPTI_SUCCESS) {
            std::fprintf(stderr, "gpu_trace: CUPTI does not record kind %d\n", static_cast<int>(kind));
        }
    }
    std::atexit(write);
    return 1;
}
