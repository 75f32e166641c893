#include "context.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/syscall.h>
#include <unistd.h>

#include "table.h"

namespace kt {
namespace {

#if defined(__x86_64__)

// Linux gives a process the tiles' registers when it asks.
bool request_tiles() {
    constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Processor find_processor() {
    const bool avx512 = __builtin_cpu_supports("x86-64-v4");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    // Intel's dot products of BF16 are slower than its products of F32 (98 to 240 GFLOP/s); AMD's are twice as fast.
    return {avx512 ? Vectors::avx512 : __builtin_cpu_supports("x86-64-v3") ? Vectors::avx2 : Vectors::scalar,
            bf16 && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && request_tiles(),
            bf16 && !__builtin_cpu_is("intel")};
}

#else

Processor find_processor() { return {Vectors::scalar, false, false}; }

#endif

constexpr int64_t kZeroGrain = 1 << 20;  // bytes that one thread writes sooner than two

int32_t context_create(kt_ctx** out, int32_t threads) {
    kt_ctx* ctx = new (std::nothrow) kt_ctx{};
    if (!ctx) return KT_OUT_OF_MEMORY;
    ctx->threads = threads > 0 ? threads : omp_get_num_procs();
    const Processor& has = processor();
    const char* vectors = has.vectors == Vectors::avx512 ? "avx512" : has.vectors == Vectors::avx2 ? "avx2" : "scalar";
    std::snprintf(ctx->description, sizeof ctx->description, "%s%s, %d threads", vectors,
                  has.amx_bf16 ? " with amx-bf16" : has.bf16_dot_products ? " with avx512bf16" : "", ctx->threads);
    *out = ctx;
    return KT_OK;
}

int32_t context_destroy(kt_ctx* ctx) {
    std::free(ctx->scratch);
    delete ctx->team;
    delete ctx;
    return KT_OK;
}

const char* last_error(kt_ctx* ctx) { return ctx->error; }

const char* describe(kt_ctx* ctx) { return ctx->description; }

int32_t memory_allocate(kt_ctx* ctx, void** out, int64_t bytes) {
    *out = ctx->memory.allocate(static_cast<size_t>(bytes));
    return *out ? KT_OK
                : fail(ctx, KT_OUT_OF_MEMORY, "memory_allocate: the system has no %lld bytes", static_cast<long long>(bytes));
}

int32_t memory_free(kt_ctx* ctx, void* memory, int64_t bytes) {
    ctx->memory.release(memory, static_cast<size_t>(bytes));
    return KT_OK;
}

int32_t memory_zero(kt_ctx* ctx, void* memory, int64_t bytes) {
    parallel_for(ctx, bytes, kZeroGrain, [=](int64_t begin, int64_t end) {
        std::memset(static_cast<char*>(memory) + begin, 0, static_cast<size_t>(end - begin));
    });
    return KT_OK;
}

}  // namespace

const Processor& processor() {
    static const Processor found = find_processor();
    return found;
}

void* scratch(kt_ctx* ctx, int64_t bytes) {
    bytes = std::max<int64_t>(bytes, 1);  // none is not null
    if (bytes > ctx->scratch_bytes) {
        std::free(ctx->scratch);
        ctx->scratch = std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64));
        ctx->scratch_bytes = ctx->scratch ? bytes : 0;
    }
    return ctx->scratch;
}

Team* team_of(kt_ctx* ctx) {
    if (!ctx->team) ctx->team = new (std::nothrow) Team(ctx->threads - 1);
    return ctx->team;
}

void add_context(kt_table& table) {
    table.context_create = context_create;
    table.context_destroy = context_destroy;
    table.last_error = last_error;
    table.describe = describe;
    table.memory_allocate = memory_allocate;
    table.memory_free = memory_free;
    table.memory_zero = memory_zero;
}

}  // namespace kt
