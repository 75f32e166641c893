// take_turns with up to more threads than there are rows of a weight: every index belongs to one piece, no piece is empty or longer
// than it may be, and they are the same every time.
#include "context.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

namespace {

using Pieces = std::vector<std::pair<int64_t, int64_t>>;

Pieces pieces_of(kt_ctx* ctx, int64_t n, int64_t least, int64_t most) {
    Pieces pieces;
    std::mutex mutex;
    kt::take_turns(ctx, n, least, most, [&](int64_t begin, int64_t end) {
        const std::lock_guard<std::mutex> lock(mutex);
        pieces.emplace_back(begin, end);
    });
    std::sort(pieces.begin(), pieces.end());
    return pieces;
}

int check(kt_ctx* ctx, int64_t n, int64_t least, int64_t most) {
    const Pieces pieces = pieces_of(ctx, n, least, most);
    int failures = pieces != pieces_of(ctx, n, least, most);
    failures += pieces.size() > 1024;
    const bool alone = ctx->threads == 1 || n <= least;
    // What a thread may have to do while the others wait at the end, and what a thousand pieces need at least.
    const int64_t longest = std::max(std::min(n / (2 * ctx->threads), most), (n + 1023) / 1024) + least - 1;
    int64_t end = 0, before = n;
    for (const auto& [from, to] : pieces) {
        failures += from != end || to <= from;
        failures += !alone && (to - from > longest || to - from > before || (to < n && (to - from) % least != 0));
        end = to;
        before = to - from;
    }
    failures += end != n || (alone && n > 0 && pieces.size() != 1);
    if (failures) {
        std::printf("%d threads, n %lld, least %lld, most %lld: %d failures\n", ctx->threads, static_cast<long long>(n),
                    static_cast<long long>(least), static_cast<long long>(most), failures);
    }
    return failures;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    int failures = 0;
    for (const int threads : {1, 2, 3, 64, 96, 192}) {
        kt_ctx ctx{};
        ctx.threads = threads;
        // A table of the vocabulary, a narrow matrix, fewer than there are threads, one, none.
        for (const int64_t n : {262144, 640, 50, 1, 0}) failures += check(&ctx, n, 4, 1024);
        for (int i = 0; i < 60; i++) {
            const int64_t least = 1 + random() % (i % 2 == 0 ? 4 : 64);
            const int64_t most = least * (1 + random() % (i % 3 == 0 ? 2 : 200));
            failures += check(&ctx, random() % (i % 5 == 0 ? 300000 : 3000), least, most);
        }
        delete ctx.team;
    }
    std::printf("%d failures\n", failures);
    return failures != 0;
}
