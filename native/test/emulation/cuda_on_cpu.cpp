// The machine behind cuda_on_cpu.h: fibers, their order, barriers, warp operations, asynchronous copies, error reports.
// Compiled without -fsanitize=thread, also in the race-check build: see race_check.cpp.
#include "cuda_on_cpu.h"
#include "machine.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <malloc.h>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__) || defined(CUDA_ON_CPU_UCONTEXT)
#include <ucontext.h>
#define USE_UCONTEXT
#endif

namespace emu {

thread_local Registers registers;
void (*access_hook)(Access, int thread, const void*, int bytes, Where, const void* pc);

Text place(Where at) {
    Text t;
    const char* slash = std::strrchr(at.file, '/');
    snprintf(t.text, sizeof t.text, at.line ? "%s:%d" : "%s", slash ? slash + 1 : at.file, at.line);
    return t;
}

namespace {

constexpr size_t kStack = 256 << 10;              // address space only: a page is taken when touched; sanitizer reports need much
constexpr size_t kGuard = 4096;
#ifdef __SANITIZE_ADDRESS__
constexpr bool kAsan = true;
#else
constexpr bool kAsan = false;
#endif
// For tests: contexts that are created from now on are of a device of this compute capability, 8 for Ampere's, 9 for Hopper's.
int emulated_capability = 8;
std::atomic<size_t> most_bytes{size_t{1} << 40};  // of all memory at a time; for tests
std::atomic<size_t> used_bytes{0};
std::atomic<bool> memset_fails{false};            // the next one; for tests
// Once a test has asked for a Hopper, all blocks may have its shared memory; before that, what sm_89 and sm_120 allow.
size_t most_shared() { return size_t(emulated_capability == 9 ? 227 : 99) << 10; }

// ---- switching stacks ----

struct Context {
    char* bottom = nullptr;                         // for AddressSanitizer, which must know the stack that it looks at
    size_t size = 0;
    void* fake = nullptr;
#ifdef USE_UCONTEXT
    ucontext_t saved;
#else
    void* saved = nullptr;
#endif
};

#ifndef USE_UCONTEXT
// Saves what the System V ABI lets a callee keep, and returns on the other stack. A barrier costs a thread 40 ns with it and 470
// with swapcontext, which also asks the system for the signal mask.
__attribute__((naked, noinline)) void swap_stacks(void** /* rdi */, void* /* rsi */) {
    asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
            "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
            "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}
#endif

void switch_context(Context& from, Context& to, [[maybe_unused]] bool for_good = false) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake, to.bottom, to.size);
#endif
#ifdef USE_UCONTEXT
    swapcontext(&from.saved, &to.saved);
#else
    swap_stacks(&from.saved, to.saved);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#endif
}

void fiber_main();

void start_context(Context& c) {
#ifdef USE_UCONTEXT
    getcontext(&c.saved);
    c.saved.uc_stack.ss_sp = c.bottom, c.saved.uc_stack.ss_size = c.size, c.saved.uc_link = nullptr;
    makecontext(&c.saved, fiber_main, 0);
#else
    auto top = reinterpret_cast<void**>(c.bottom + c.size);
    *--top = nullptr;                               // fiber_main's return address; leaves the stack aligned as after a call
    *--top = reinterpret_cast<void*>(&fiber_main);
    c.saved = top - 6;                              // six registers, whatever they hold
#endif
}

// ---- the state of a block ----

enum class State : uint8_t { ready, at_barrier, in_warp, exited };

struct Copy { void* to; uint4 data; int group; bool landed; Where at; };

struct Fiber {
    Context context;
    uint3 index{};
    State state = State::ready;
    const char* what = "";                          // what it waits in, and where
    Where at{};
    Perform perform = nullptr;
    void* operands = nullptr;
    unsigned mask = 0;
    std::vector<Copy> copies;
    int group = 0;                                  // the group that cp.async joins now
};

struct Pending { Product lanes[32]; int group; Where at; };

struct Warp {
    unsigned lanes, arrived;
    uint32_t epoch;
    std::vector<Pending> products;                  // of all lanes, not yet carried out
    int group = 0;                                  // the group that products join now
};

struct Range {
    char *begin = nullptr, *end = nullptr;
    bool holds(const char* p, int bytes) const { return p >= begin && p + bytes <= end; }
};

}  // namespace

struct Machine {
    Order order = Order::plain;
    std::minstd_rand random;
    std::vector<Fiber> fibers;
    char* stacks = nullptr;
    Context scheduler;
    std::vector<Warp> warps;
    Range dynamic, fixed;                           // shared memory: of the launch; of all __shared__ arrays
    Range image, caller;                            // this library's constants; the frame of launch(), with the parameters
    int threads = 0, waiting = 0, running = -1;     // running: the fiber, or -1 in the scheduler
    uint64_t block = 0, first_block = 0;            // counted over all launches
    uint32_t epoch = 0;                             // barriers so far
    void (*body)(void*) = nullptr;
    void* context = nullptr;
    std::string error;
    cudaError_t failed = cudaSuccess;               // for cudaGetLastError

    Fiber& current() { return fibers[running]; }
    void park() { switch_context(current().context, scheduler); }
    void resume(int t) {
        running = t;
        registers.thread = fibers[t].index;
        switch_context(scheduler, fibers[t].context);
        running = -1;
    }
    std::vector<int> ordered(int n) {
        std::vector<int> v(n);
        std::iota(v.begin(), v.end(), 0);
        if (order == Order::reversed) std::reverse(v.begin(), v.end());
        if (order == Order::shuffled) std::shuffle(v.begin(), v.end(), random);
        return v;
    }
    bool early_copy() { return order == Order::reversed || (order == Order::shuffled && random() % 2); }

    void prepare(dim3 block_dim);
    void start_block();
    void run_block();
    bool run_warp(int w, const std::vector<int>& lanes);
    std::string stuck();
};

namespace {

Machine& machine() {
    if (!registers.machine) {
        registers.machine = new Machine;
        if (const char* order = std::getenv("CUDA_ON_CPU_ORDER")) {
            std::string o = order;
            set_order(o == "plain" ? Order::plain : o == "reversed" ? Order::reversed : Order::shuffled, unsigned(std::atoi(order)));
        }
    }
    return *registers.machine;
}

bool same(Where a, Where b) { return a.line == b.line && !std::strcmp(a.file, b.file); }

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    auto& s = registers.machine->scheduler;
    __sanitizer_finish_switch_fiber(nullptr, const_cast<const void**>(reinterpret_cast<void**>(&s.bottom)), &s.size);
#endif
    Machine& m = *registers.machine;
    m.body(m.context);
    Fiber& f = m.current();
    if (!f.copies.empty()) fail(f.copies[0].at, "a thread exits and has not waited for this asynchronous copy");
    const auto& products = m.warps[m.running / 32].products;
    if (!products.empty()) fail(products[0].at, "a thread exits and has not waited for this product");
    f.state = State::exited;
    switch_context(f.context, m.scheduler, true);
}

// Finds this library: its image, and its TLS block in this host thread, which holds all __shared__ arrays and `registers`.
int find_library(dl_phdr_info* info, size_t, void* out) {
    Machine& m = *static_cast<Machine*>(out);
    Range image, fixed;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        auto& h = info->dlpi_phdr[i];
        char* begin = reinterpret_cast<char*>(info->dlpi_addr + h.p_vaddr);
        if (h.p_type == PT_LOAD) image = {image.begin ? image.begin : begin, begin + h.p_memsz};
        if (h.p_type == PT_TLS) fixed = {static_cast<char*>(info->dlpi_tls_data), static_cast<char*>(info->dlpi_tls_data) + h.p_memsz};
    }
    if (!fixed.holds(reinterpret_cast<char*>(&registers), sizeof registers)) return 0;
    m.image = image, m.fixed = fixed;
    return 1;
}

}  // namespace

// ---- running a block ----

void Machine::prepare(dim3 block_dim) {
    threads = int(block_dim.x * block_dim.y * block_dim.z);
    if (!stacks) {
        dl_iterate_phdr(find_library, this);
        stacks = static_cast<char*>(mmap(nullptr, 1024 * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (stacks == MAP_FAILED) std::abort();
        for (int t = 0; t < 1024; ++t) mprotect(stacks + t * kStack, kGuard, PROT_NONE);      // an overflow faults
    }
    fibers.resize(threads);
    for (int t = 0; t < threads; ++t) {
        Fiber& f = fibers[t];
        f.index = {t % block_dim.x, t / block_dim.x % block_dim.y, t / block_dim.x / block_dim.y};
        f.context.bottom = stacks + t * kStack + kGuard;
        f.context.size = kStack - kGuard - t % 32 * 320;      // tops differ, or all compete for the same cache sets (a quarter slower)
    }
}

void Machine::start_block() {
    std::memset(dynamic.begin, 0xff, dynamic.end - dynamic.begin);                          // a NaN in float, bf16 and half
    Registers keep = registers;
    std::memset(fixed.begin, 0xff, fixed.end - fixed.begin);
    registers = keep;
    for (Fiber& f : fibers) {
        start_context(f.context);
        f.state = State::ready, f.copies.clear(), f.group = 0;
    }
    warps.assign((threads + 31) / 32, Warp{0xffffffff, 0, 0, {}, 0});
    if (threads % 32) warps.back().lanes = (1u << threads % 32) - 1;
    waiting = 0, epoch = 0, ++block;
}

bool Machine::run_warp(int w, const std::vector<int>& lanes) {
    bool ran = false;
    for (int lane : lanes) {
        int t = w * 32 + lane;
        if (t >= threads || fibers[t].state != State::ready) continue;
        resume(t);
        ran = true;
        if (!error.empty()) return false;
    }
    return ran;
}

// A warp goes on for as long as it can before the next one starts, so that one that runs ahead meets data not yet there;
// shuffled, it stops at any moment.
void Machine::run_block() {
    start_block();
    auto lanes = ordered(32);
    for (bool ran = true; ran && error.empty();) {
        ran = false;
        for (int w : ordered(int(warps.size()))) {
            while (run_warp(w, lanes)) {
                ran = true;
                if (order != Order::shuffled) continue;
                lanes = ordered(32);
                if (random() % 4 == 0) break;
            }
            if (!error.empty()) return;
        }
    }
    for (Fiber& f : fibers) if (f.state != State::exited) { error = stuck(); return; }
}

std::string Machine::stuck() {
    std::map<std::string, std::pair<int, int>> groups;      // what is waited for: how many threads, the first of them
    for (int t = 0; t < threads; ++t) {
        Fiber& f = fibers[t];
        auto name = f.state == State::exited ? "have exited" : "wait in " + std::string(f.what) + " at " + place(f.at).text;
        ++groups.emplace(name, std::pair(0, t)).first->second.first;
    }
    auto& b = registers.block;
    std::string text = "block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + ", " + std::to_string(b.z) + ") cannot go on:";
    for (auto& [name, g] : groups) text += " " + std::to_string(g.first) + " threads (first " + std::to_string(g.second) + ") " + name + ";";
    text.pop_back();
    return text;
}

std::atomic<int64_t> launches{0};                   // that ran

cudaError_t run(dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* context) {
    Machine& m = machine();
    uint64_t threads = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
    if (threads == 0 || threads > 1024 || blocks == 0 || grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
    if (shared > most_shared()) return cudaErrorInvalidValue;
    launches++;
    static std::mutex checked;                      // under AddressSanitizer and the race check, launches of other host threads wait:
    std::unique_lock lock(checked, std::defer_lock);    // there __shared__ arrays, or the shadow, exist once
    if (kAsan || access_hook) lock.lock();
    m.error.clear();
    m.body = body, m.context = context, m.first_block = m.block + 1;
    m.prepare(block);
    m.caller.begin = static_cast<char*>(__builtin_frame_address(0)), m.caller.end = m.caller.begin + (64 << 10);
    void* memory;                                   // of exactly this size, so that AddressSanitizer sees a step beyond it
    if (posix_memalign(&memory, 128, std::max<size_t>(shared, 1))) std::abort();
    m.dynamic.begin = static_cast<char*>(memory), m.dynamic.end = m.dynamic.begin + shared;
    registers.block_size = {block.x, block.y, block.z}, registers.grid_size = {grid.x, grid.y, grid.z};
    for (int b : m.ordered(int(blocks))) {
        registers.block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        m.run_block();
        if (!m.error.empty()) break;
    }
    free(memory);
    m.dynamic = {};
#ifdef __SANITIZE_ADDRESS__
    if (!m.error.empty()) __asan_unpoison_memory_region(m.stacks, 1024 * kStack);           // frames left behind
#endif
    return m.error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

void set_order(Order order, unsigned seed) {
    machine().order = order;
    machine().random.seed(seed + 1);
}

// The stack is left as it is and never returned to, so nothing on it may own memory.
void fail(Where at, const char* format, ...) {
    Machine& m = machine();
    auto &b = registers.block, &t = m.current().index;
    char text[1000];
    int n = snprintf(text, sizeof text, "%s: block (%u, %u, %u) thread (%u, %u, %u): ", place(at).text, b.x, b.y, b.z, t.x, t.y, t.z);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + n, sizeof text - n, format, arguments);
    va_end(arguments);
    m.error = text;
    m.park();
    std::abort();
}

// ---- what fibers call ----

void* shared_bytes() { return machine().dynamic.begin; }
int lane() { return machine().running % 32; }

void barrier(Where at) {
    Machine& m = machine();
    Fiber& f = m.current();
    f.what = "__syncthreads", f.at = at;
    if (++m.waiting < m.threads) {
        f.state = State::at_barrier;
        m.park();
        return;
    }
    for (Fiber& other : m.fibers) if (!same(other.at, at)) fail(at, "threads of this block wait at another barrier, %s", place(other.at).text);
    for (Fiber& other : m.fibers) other.state = State::ready;
    m.waiting = 0, ++m.epoch;
}

void warp_operation(const char* name, unsigned mask, Perform perform, void* operands, Where at) {
    Machine& m = machine();
    Fiber& f = m.current();
    Warp& w = m.warps[m.running / 32];
    int first = m.running / 32 * 32;
    unsigned mine = 1u << m.running % 32;
    if (!(mask & mine) || mask & ~w.lanes) fail(at, "%s: the mask %08x lacks this lane, or names lanes that the block does not have", name, mask);
    f.what = name, f.at = at, f.perform = perform, f.operands = operands, f.mask = mask;
    w.arrived |= mine;
    if ((w.arrived & mask) != mask) {
        f.state = State::in_warp;
        m.park();
        return;
    }
    void* all[32] = {};
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        Fiber& other = m.fibers[first + i];
        if (std::strcmp(other.what, name) || other.perform != perform || other.mask != mask || !same(other.at, at))
            fail(at, "%s: lane %d is in %s at %s with the mask %08x", name, i, other.what, place(other.at).text, other.mask);
        all[i] = other.operands;
    }
    perform(all, mask, at);
    w.arrived &= ~mask;
    for (int i = 0; i < 32; ++i) if (mask >> i & 1) m.fibers[first + i].state = State::ready;
}

void check_aligned(const void* p, int bytes, Where at) {
    if (reinterpret_cast<uintptr_t>(p) % bytes) fail(at, "address %p is not a multiple of %d", p, bytes);
}

void load_for(int lane, void* to, const void* shared, int bytes, Where at) {
    Machine& m = machine();
    if (access_hook) access_hook(Access::read, m.running / 32 * 32 + lane, shared, bytes, at, nullptr);
    std::memcpy(to, shared, bytes);
}

// The source is read now, the destination written now or when the copy is waited for: PTX promises nothing in between.
void copy_async(void* shared, const void* global, int bytes, Where at) {
    Machine& m = machine();
    check_aligned(shared, 16, at);
    if (bytes) check_aligned(global, 16, at);
    if (space_of(shared, 16) != Space::shared) fail(at, "cp.async writes to %p, which is not shared memory", shared);
#ifdef __SANITIZE_ADDRESS__
    if (__asan_region_is_poisoned(shared, 16)) fail(at, "cp.async writes beyond shared memory");
#endif
    if (access_hook && bytes) access_hook(Access::read, m.running, global, bytes, at, nullptr);
    if (access_hook) access_hook(Access::copy_begin, m.running, shared, 16, at, nullptr);
    Copy copy{shared, {}, m.current().group, m.early_copy(), at};
    std::memcpy(&copy.data, global, bytes);
    if (copy.landed) std::memcpy(shared, &copy.data, 16);
    m.current().copies.push_back(copy);
}
void commit_copies() { ++machine().current().group; }
void wait_copies(int pending) {
    Machine& m = machine();
    Fiber& f = m.current();
    auto rest = std::find_if(f.copies.begin(), f.copies.end(), [&](Copy& c) { return c.group >= f.group - pending; });
    for (auto c = f.copies.begin(); c != rest; ++c) {
        if (access_hook) access_hook(Access::copy_end, m.running, c->to, 16, c->at, nullptr);
        if (!c->landed) std::memcpy(c->to, &c->data, 16);
    }
    f.copies.erase(f.copies.begin(), rest);
}

// ---- products of four warps: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate", shared memory without swizzle ----

namespace {

// Element [outer, k] of a matrix of pieces of 8 rows of 16 bytes. By columns, a row holds eight k; by rows, eight outer.
struct Matrix {
    uint64_t descriptor;
    bool by_rows;
    const char* piece(int outer, int k) const {     // the 16 bytes that the element is in
        const auto field = [&](int bit) { return size_t(descriptor >> bit & 0x3fff) << 4; };
        const size_t leading = field(16), stride = field(32), row = size_t(by_rows ? k : outer) % 8;
        return machine().dynamic.begin + field(0) + k / 8 * leading + outer / 8 * stride + row * 16;
    }
};

void read_matrix(const Matrix& x, int first, int outer, float (*out)[16], Where at) {
    for (int line = 0; line < (x.by_rows ? 16 : outer); ++line) {
        for (int at_once = 0; at_once < (x.by_rows ? outer : 16); at_once += 8) {
            uint16_t eight[8];
            const char* from = x.by_rows ? x.piece(first + at_once, line) : x.piece(first + line, at_once);
            if (space_of(from, 16) != Space::shared) fail(at, "wgmma reads %p, which is not shared memory", static_cast<const void*>(from));
            load_for(line % 32, eight, from, 16, at);
            for (int i = 0; i < 8; ++i) (x.by_rows ? out[at_once + i][line] : out[line][at_once + i]) = bits_as<float>(uint32_t(eight[i]) << 16);
        }
    }
}

// Fragments as those of mma.m16n8k16: perform_mma.
void carry_out(const Pending& p) {
    float a[16][16], b[256][16];
    const Product& any = p.lanes[0];
    if (any.left) {
        read_matrix({any.left, false}, machine().running / 32 % 4 * 16, 16, a, p.at);
    } else {
        for (int i = 0; i < 32; ++i) {
            for (int r = 0; r < 4; ++r) {
                const uint32_t two = p.lanes[i].a[r];
                float* to = &a[i / 4 + r % 2 * 8][i % 4 * 2 + r / 2 * 8];
                to[0] = bits_as<float>(two << 16), to[1] = bits_as<float>(two & 0xffff0000);
            }
        }
    }
    read_matrix({any.right, !any.left}, 0, any.columns, b, p.at);
    for (int i = 0; i < 32; ++i) {
        for (int n = 0; n < any.columns / 8; ++n) {
            for (int r = 0; r < 4; ++r) {
                const int row = i / 4 + r / 2 * 8, column = n * 8 + i % 4 * 2 + r % 2;
                float sum = any.add ? p.lanes[i].d[n][r] : 0;
                for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
                p.lanes[i].d[n][r] = sum;
            }
        }
    }
}

}  // namespace

void multiply(Product mine, Where at) {
    if (machine().threads % 128) fail(at, "wgmma: the block's threads are no whole groups of four warps");
    warp_operation("wgmma", 0xffffffff, [](void* const operands[32], unsigned, Where where) {
        Machine& m = machine();
        Warp& w = m.warps[m.running / 32];
        Pending p{{}, w.group, where};
        for (int i = 0; i < 32; ++i) {
            p.lanes[i] = *static_cast<Product*>(operands[i]);
            if (p.lanes[i].left != p.lanes[0].left || p.lanes[i].right != p.lanes[0].right) fail(where, "wgmma: lane %d has another descriptor", i);
        }
        if (w.products.empty() && m.early_copy()) carry_out(p);
        else w.products.push_back(p);
    }, &mine, at);
}

void commit_products(Where at) {
    warp_operation("wgmma.commit_group", 0xffffffff, [](void* const*, unsigned, Where) {
        ++machine().warps[machine().running / 32].group;
    }, nullptr, at);
}

void wait_products(int pending, Where at) {
    warp_operation("wgmma.wait_group", 0xffffffff, [](void* const operands[32], unsigned, Where) {
        Warp& w = machine().warps[machine().running / 32];
        const int still = *static_cast<int*>(operands[0]);
        while (!w.products.empty() && w.products.front().group < w.group - still) {
            carry_out(w.products.front());
            w.products.erase(w.products.begin());
        }
    }, &pending, at);
}

// ---- for the race check ----

Moment moment(int thread) {
    Machine& m = machine();
    return {m.block, m.epoch, m.warps[thread / 32].epoch, thread};
}
uint64_t first_block_of_launch() { return machine().first_block; }
int running_thread() { return registers.machine ? registers.machine->running : -1; }

namespace {
std::map<uintptr_t, size_t> named;                // global memory that tests have named
std::mutex named_lock;
}

void name_memory(void* p, size_t bytes) {
    std::lock_guard lock(named_lock);
    named[reinterpret_cast<uintptr_t>(p)] = bytes;
}
void forget_memory(void* p) {
    std::lock_guard lock(named_lock);
    named.erase(reinterpret_cast<uintptr_t>(p));
}

Space space_of(const void* p, int bytes) {
    Machine& m = machine();
    auto a = static_cast<const char*>(p);
    auto own = reinterpret_cast<const char*>(&registers);
    if (a >= m.stacks && a < m.stacks + 1024 * kStack) return Space::own;
    if (a >= own && a < own + sizeof registers) return Space::own;
    if (m.dynamic.holds(a, bytes) || m.fixed.holds(a, bytes)) return Space::shared;
#ifdef __SANITIZE_ADDRESS__
    return Space::shared;                           // __shared__ arrays are ordinary statics there
#endif
    std::lock_guard lock(named_lock);
    auto next = named.upper_bound(reinterpret_cast<uintptr_t>(p));
    if (next != named.begin() && reinterpret_cast<uintptr_t>(p) + bytes <= std::prev(next)->first + std::prev(next)->second) return Space::global;
    return m.caller.holds(a, bytes) || m.image.holds(a, bytes) ? Space::own : named.empty() ? Space::global : Space::unknown;
}

}  // namespace emu

// ---- CUDA functions ---------------------------------------------------------------------------------------------------------

const char* cudaGetErrorString(cudaError_t e) {
    switch (e) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidValue: return "invalid argument (more shared memory than a block may have)";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorInvalidConfiguration: return "invalid configuration argument";
        default: return emu::machine().error.c_str();
    }
}

void __syncwarp(unsigned mask, emu::Where at) {
    // A full warp's epoch moves on: the race check takes what came before as ordered. A part of a warp is not tracked.
    emu::warp_operation("__syncwarp", mask, [](void* const*, unsigned m, emu::Where) {
        auto& machine = emu::machine();
        auto& warp = machine.warps[machine.running / 32];
        if (m == warp.lanes) ++warp.epoch;
    }, nullptr, at);
}

float __fmul_rn(float x, float y) { return x * y; }
float __fadd_rn(float x, float y) { return x + y; }
float __fsub_rn(float x, float y) { return x - y; }

namespace { template <class T> T add(T* p, T v) { T old = *p; *p = old + v; return old; } }
float atomicAdd(float* p, float v) { return add(p, v); }
double atomicAdd(double* p, double v) { return add(p, v); }
int atomicAdd(int* p, int v) { return add(p, v); }
unsigned atomicAdd(unsigned* p, unsigned v) { return add(p, v); }
unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { return add(p, v); }
int atomicMax(int* p, int v) { int old = *p; *p = std::max(old, v); return old; }
unsigned atomicMax(unsigned* p, unsigned v) { unsigned old = *p; *p = std::max(old, v); return old; }
unsigned atomicCAS(unsigned* p, unsigned expected, unsigned desired) { unsigned old = *p; if (old == expected) *p = desired; return old; }
unsigned long long atomicMin(unsigned long long* p, unsigned long long v) {
    unsigned long long old = *p;
    *p = std::min(old, v);
    return old;
}

extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_capability(int major) { emu::emulated_capability = major; }
extern "C" __attribute__((visibility("default"))) int64_t cuda_on_cpu_launches() { return emu::launches; }
extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_limit(int64_t bytes) { emu::most_bytes = static_cast<size_t>(bytes); }
extern "C" __attribute__((visibility("default"))) int64_t cuda_on_cpu_used() { return static_cast<int64_t>(emu::used_bytes); }
extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_fail_memset() { emu::memset_fails = true; }

cudaError_t emu::note(cudaError_t error) { return error == cudaSuccess ? error : machine().failed = error; }
cudaError_t cudaGetLastError() { return std::exchange(emu::machine().failed, cudaSuccess); }
cudaError_t cudaSetDevice(int device) { return emu::note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    *p = {"emulated", emu::emulated_capability, 0, 4, size_t{1} << 32};
    return cudaSetDevice(device);
}
cudaError_t cudaMallocAsync(void** out, size_t bytes, cudaStream_t) {
    void* memory;  // of exactly this size, so that AddressSanitizer sees a step beyond it
    if (bytes > emu::most_bytes || emu::used_bytes > emu::most_bytes - bytes ||
        posix_memalign(&memory, 256, std::max<size_t>(bytes, 1))) {
        return emu::note(cudaErrorMemoryAllocation);
    }
    emu::used_bytes += malloc_usable_size(memory);
    std::memset(memory, 0xff, bytes);
    emu::name_memory(memory, bytes);
    *out = memory;
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
    emu::forget_memory(memory);
    emu::used_bytes -= malloc_usable_size(memory);
    free(memory);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) { return cudaMallocAsync(out, bytes, nullptr); }
cudaError_t cudaFreeHost(void* memory) { return cudaFreeAsync(memory, nullptr); }
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
    if (emu::memset_fails.exchange(false)) return emu::note(cudaErrorInvalidValue);
    std::memset(to, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
