// Finds data races, reads of shared memory that nobody wrote, and reads of asynchronous copies under way, in any order of
// execution. Kernels compiled with -fsanitize=thread call __tsan_read4(p) and the like before each access; linked without that
// option, the calls come here instead of to ThreadSanitizer, which knows nothing of barriers and fibers.
//
// Two accesses of different threads, one a write, race unless a __syncthreads lies between them, or a __syncwarp of their
// whole warp. Shuffles and mma do not order memory. Threads of different blocks are never ordered. Atomics are not looked at.
#include "machine.h"

#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <unordered_map>

namespace emu {
namespace {

enum class Who : uint8_t { thread, warp, block, grid };          // whom an event stands for

struct Event {
    uint64_t block = 0;                                            // 0: none
    uint32_t epoch = 0, warp_epoch = 0;
    int thread = 0;
    Who who = Who::thread;
    Where at{};                                                    // of an emulated instruction, else pc tells
    const void* pc = nullptr;
};
struct Cell { Event write, read; bool copying = false; };        // of one byte
struct Page { Cell cells[4096]; };

struct Shadow {
    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    uint64_t launch = 0;
    uintptr_t last_number = 0;
    Page* last = nullptr;
};
// Not thread_local: that would lie among the shared arrays. Tests under the race check launch from one thread.
Shadow shadow;

Cell& cell(uintptr_t address) {
    if (shadow.launch != first_block_of_launch()) shadow.pages.clear(), shadow.last = nullptr, shadow.launch = first_block_of_launch();
    const uintptr_t number = address / 4096;
    if (!shadow.last || shadow.last_number != number) {
        auto& page = shadow.pages[number];
        if (!page) page = std::make_unique<Page>();
        shadow.last = page.get(), shadow.last_number = number;
    }
    return shadow.last->cells[address % 4096];
}

bool ordered(const Event& before, const Moment& now) {
    if (before.block != now.block || before.who == Who::grid) return false;
    if (before.epoch < now.epoch) return true;
    if (before.who == Who::thread && before.thread == now.thread) return true;
    return before.who != Who::block && before.thread / 32 == now.thread / 32 && before.warp_epoch < now.warp_epoch;
}

// Where an access stands in the source: the emulated instruction says it, for another addr2line (of binutils) does.
Text place(const Event& e) {
    if (e.at.file) return emu::place(e.at);
    Text t{"?"};
    Dl_info info;
    char command[400];
    if (!dladdr(e.pc, &info)) return t;
    snprintf(command, sizeof command, "addr2line -s -i -e '%s' %#zx", info.dli_fname, size_t(static_cast<const char*>(e.pc) - static_cast<char*>(info.dli_fbase) - 1));
    if (FILE* out = popen(command, "r")) {
        // Innermost frame first; what was inlined from the standard library (min, max) is not where the mistake is.
        while (fgets(t.text, sizeof t.text, out) && !strncmp(t.text, "stl_", 4)) {}
        t.text[strcspn(t.text, " \n")] = 0;
        pclose(out);
    }
    return t;
}

[[noreturn]] void report_race(const char* memory, const Event& now, const char* does, const Event& before, const char* did) {
    fail({"race", 0}, "%s memory: %s %s what thread %d of %s block %s at %s, and nothing orders them", memory, place(now).text, does, before.thread,
              before.block == now.block ? "this" : "another", did, place(before).text);
}

void check(Access access, int thread, const void* p, int bytes, Where at, const void* pc) {
    const Space space = space_of(p, bytes);
    if (space == Space::own) return;
    const Moment now = moment(thread);
    const Event event{now.block, now.epoch, now.warp_epoch, thread, Who::thread, at, pc};
    const bool write = access != Access::read;
    if (space == Space::unknown) fail({"memory", 0}, "%s %s %d bytes outside of every buffer", place(event).text, write ? "writes" : "reads", bytes);
    const char* memory = space == Space::shared ? "shared" : "global";
    for (int i = 0; i < bytes; ++i) {
        Cell& c = cell(reinterpret_cast<uintptr_t>(p) + i);
        if (space == Space::shared && c.write.block != now.block) {  // what another block left: shared memory begins anew
            c = Cell{};
            if (!write) fail({"memory", 0}, "%s reads shared memory that no thread of this block has written", place(event).text);
        }
        if (!write && c.copying) fail({"cp.async", 0}, "%s reads what the copy begun by thread %d at %s has yet to write", place(event).text, c.write.thread, place(c.write).text);
        if (c.write.block && !ordered(c.write, now)) report_race(memory, event, write ? "writes" : "reads", c.write, "wrote");
        if (write && c.read.block && !ordered(c.read, now)) report_race(memory, event, "writes", c.read, "read");
        if (write) {
            c.write = event, c.copying = access == Access::copy_begin;
            continue;
        }
        // Readers that nothing orders are remembered together.
        Who who = Who::thread;
        if (c.read.block && !ordered(c.read, now))
            who = c.read.block != now.block ? Who::grid : std::max(c.read.who, c.read.thread / 32 == thread / 32 ? Who::warp : Who::block);
        c.read = event, c.read.who = who;
    }
}

[[maybe_unused]] const bool installed = (access_hook = check, true);

inline void instrumented(Access access, const void* p, int bytes, const void* pc) {
    if (running_thread() >= 0) check(access, running_thread(), p, bytes, {}, pc);
}

}  // namespace
}  // namespace emu

#define HOOKS(n)                                                                                                                  \
    void __tsan_read##n(void* p) { emu::instrumented(emu::Access::read, p, n, __builtin_return_address(0)); }                       \
    void __tsan_write##n(void* p) { emu::instrumented(emu::Access::write, p, n, __builtin_return_address(0)); }
extern "C" {
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void* p, long n) { emu::instrumented(emu::Access::read, p, int(n), __builtin_return_address(0)); }
void __tsan_write_range(void* p, long n) { emu::instrumented(emu::Access::write, p, int(n), __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
}
