// Threads that help with work cut into pieces, for kernels of some 20 us of which decoding runs hundreds for a token.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kt {

// Who calls run() works too and waits for no thread that has not begun: one that the system runs late costs its help, no more.
// Between pieces of work a helper watches for a short while, then sleeps. One caller at a time.
class Team {
  public:
    // As many helpers as the system gives, at most that many.
    explicit Team(int helpers);
    ~Team();

    // Calls work(argument, p) once for every p of [0, pieces), and returns when all calls have.
    void run(void (*work)(const void*, int64_t), const void* argument, int64_t pieces);

  private:
    void help();
    void take_pieces();
    bool enter(uint64_t& seen);
    bool is_new(uint64_t gate, uint64_t seen) const { return (gate & kOpen) != 0 && gate / kOnce != seen; }

    // The gate: how many helpers are inside, whether another may enter, and the number of the work. What they read is written
    // while the gate is closed and nobody inside.
    static constexpr uint64_t kOpen = 1 << 16;
    static constexpr uint64_t kOnce = 1 << 17;
    alignas(64) std::atomic<uint64_t> gate_{0};
    alignas(64) std::atomic<int64_t> next_{0};
    void (*work_)(const void*, int64_t) = nullptr;
    const void* argument_ = nullptr;
    int64_t pieces_ = 0;

    alignas(64) std::atomic<int> asleep_{0};
    std::atomic<bool> closing_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> helpers_;
};

}  // namespace kt
