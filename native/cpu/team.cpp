#include "team.h"

#include <chrono>
#include <exception>

namespace kt {
namespace {

// Longer than what lies between the products of one token and the next, shorter than anybody notices: to wake
// one that sleeps takes up to 100 us.
constexpr auto kWatch = std::chrono::microseconds(1000);

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

Team::Team(int helpers) {
    try {
        helpers_.reserve(helpers > 0 ? helpers : 0);
        for (int i = 0; i < helpers; i++) helpers_.emplace_back([this] { help(); });
    } catch (const std::exception&) {
        // The work gets done with those that there are.
    }
}

Team::~Team() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
}

void Team::run(void (*work)(const void*, int64_t), const void* argument, int64_t pieces) {
    work_ = work;
    argument_ = argument;
    pieces_ = pieces;
    next_.store(0, std::memory_order_relaxed);
    gate_.store((gate_.load(std::memory_order_relaxed) / kOnce + 1) * kOnce + kOpen);
    if (asleep_.load() > 0) {
        { const std::lock_guard<std::mutex> lock(mutex_); }  // whoever has looked at the gate in vain waits by now
        wake_.notify_all();
    }
    take_pieces();
    gate_.fetch_sub(kOpen);
    for (int i = 0; gate_.load(std::memory_order_acquire) % kOpen != 0; i++) {
        if (i < 4096) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

void Team::take_pieces() {
    for (int64_t p = next_.fetch_add(1, std::memory_order_relaxed); p < pieces_; p = next_.fetch_add(1, std::memory_order_relaxed)) {
        work_(argument_, p);
    }
}

bool Team::enter(uint64_t& seen) {
    uint64_t gate = gate_.load();
    while (is_new(gate, seen)) {
        if (gate_.compare_exchange_weak(gate, gate + 1)) {
            seen = gate / kOnce;
            return true;
        }
    }
    return false;
}

void Team::help() {
    uint64_t seen = 0;
    while (!closing_.load(std::memory_order_relaxed)) {
        const auto until = std::chrono::steady_clock::now() + kWatch;
        bool entered = enter(seen);
        while (!entered && std::chrono::steady_clock::now() < until) {
            for (int i = 0; i < 16 && !entered; i++) {
                pause();
                entered = enter(seen);
            }
        }
        if (entered) {
            take_pieces();
            gate_.fetch_sub(1, std::memory_order_release);
            continue;
        }
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1);
        wake_.wait(lock, [&] { return closing_.load() || is_new(gate_.load(), seen); });
        asleep_.fetch_sub(1);
    }
}

}  // namespace kt
