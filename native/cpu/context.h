// What every CPU kernel shares: the context, errors, threads and the choice of instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <omp.h>

#include "kernels.h"
#include "memory.h"
#include "team.h"

// One function body compiled for AVX-512, AVX2 and the platform's base; the loader picks the best one for this machine.
// Goes on functions of plain loops, which the compiler vectorises; never on one that opens a parallel region itself.
#if defined(__x86_64__)
#define KT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KT_CLONES
#endif

struct kt_ctx {
    int threads;
    char error[512];
    char description[128];
    void* scratch;
    int64_t scratch_bytes;
    kt::Memory memory;
    kt::Team* team;
};

namespace kt {

// What this processor has, and the system lets this process use, of the instructions that kernels choose between.
enum class Vectors { scalar, avx2, avx512 };  // the levels of KT_CLONES: x86-64-v3 with FMA, x86-64-v4

struct Processor {
    Vectors vectors;
    bool amx_bf16;           // products of BF16 tiles
    bool bf16_dot_products;  // AVX512_BF16, where it is faster than F32
};

const Processor& processor();

template <typename... Args>
int32_t fail(kt_ctx* ctx, int32_t status, const char* format, Args... args) {
    std::snprintf(ctx->error, sizeof ctx->error, format, args...);
    return status;
}

inline int32_t bad_dtype(kt_ctx* ctx, const char* op, int32_t dtype) {
    return fail(ctx, KT_BAD_ARGUMENT, "%s: dtype %d is not supported", op, static_cast<int>(dtype));
}

inline int32_t bad_dtypes(kt_ctx* ctx, const char* op, int32_t y_dtype, int32_t x_dtype) {
    return fail(ctx, KT_BAD_ARGUMENT, "%s: dtypes %d and %d are not supported", op, static_cast<int>(y_dtype),
                static_cast<int>(x_dtype));
}

// Memory for one kernel's own use until it returns, at a multiple of 64 bytes and of unspecified content; the context keeps
// the largest that was asked for. Null where there is none. An entry asks before it adds anything to an operand: where there is
// none it is called again, once others have given back theirs.
void* scratch(kt_ctx* ctx, int64_t bytes);
inline int32_t no_scratch(kt_ctx* ctx, const char* op, int64_t bytes) {
    return fail(ctx, KT_OUT_OF_MEMORY, "%s: %lld bytes of scratch memory: the system has none", op,
                static_cast<long long>(bytes));
}

// The context's helpers, made when they are first asked for; null where there is no memory for them.
Team* team_of(kt_ctx* ctx);

// Runs body(begin, end) over [0, n) in contiguous pieces, at most one a thread and none below grain. Which piece an
// index falls into depends on n, grain and the number of threads alone, so results are repeatable.
template <typename Body>
void parallel_for(const kt_ctx* ctx, int64_t n, int64_t grain, const Body& body) {
    const int64_t pieces = std::min<int64_t>(ctx->threads, n / std::max<int64_t>(grain, 1));
    if (pieces <= 1) {
        if (n > 0) body(int64_t{0}, n);
        return;
    }
#pragma omp parallel for num_threads(static_cast<int>(pieces)) schedule(static)
    for (int64_t p = 0; p < pieces; p++) body(n * p / pieces, n * (p + 1) / pieces);
}

// Runs body(begin, end) over [0, n) in pieces, each by the thread of the context's team that is free first: for work whose results
// do not depend on who does it. Pieces are multiples of least, the last one apart: a fourth of what is left for two threads, an
// eighth for four, but `most` at most and where that makes no more than a thousand. Long ones come first, as long streams are read
// fastest, and short ones last, as one thread waits for another at the end. They are the same every time.
template <typename Body>
void take_turns(kt_ctx* ctx, int64_t n, int64_t least, int64_t most, const Body& body) {
    constexpr int64_t kPieces = 1024;
    Team* team = n > least && ctx->threads > 1 ? team_of(ctx) : nullptr;
    if (!team) {
        if (n > 0) body(int64_t{0}, n);
        return;
    }
    int64_t ends[kPieces];
    int64_t pieces = 0;
    for (int64_t end = 0; end < n; pieces++) {
        const int64_t left = n - end, places = kPieces - pieces;
        const int64_t share = std::max(std::min(left / (2 * ctx->threads), most), (left + places - 1) / places);
        end = std::min(n, end + (share + least - 1) / least * least);
        ends[pieces] = end;
    }
    const auto work = [&](int64_t p) { body(p == 0 ? 0 : ends[p - 1], ends[p]); };
    team->run([](const void* w, int64_t p) { (*static_cast<const decltype(work)*>(w))(p); }, &work, pieces);
}

// Elements that one thread must have before a second is worth waking: about 10 us of streaming.
constexpr int64_t kGrain = 16384;

inline int64_t rows_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(cols, 1)); }

}  // namespace kt
