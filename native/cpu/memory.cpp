#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

namespace kt {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kRegion = 16 * kHugePage;
constexpr size_t kPagesFrom = size_t{32} << 10;   // below, a block is the C library's
constexpr size_t kMapFrom = size_t{4} << 20;      // from here on, a block has a mapping of its own
constexpr size_t kHugeUpTo = size_t{64} << 20;    // larger ones are tables, of which a run may touch a row here and there

size_t page() {
    static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

char* map(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}

// Asks for huge pages; a system without them goes on with small ones.
void prefer_huge_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
}

// calloc writes no zeros to pages that the system has just given. What it gave is kept in front of the aligned block.
void* small_block(size_t bytes) {
    char* given = static_cast<char*>(std::calloc(1, bytes + sizeof(void*) + kAlignment - 1));
    if (!given) return nullptr;
    void** block = reinterpret_cast<void**>(rounded(reinterpret_cast<uintptr_t>(given) + sizeof(void*), kAlignment));
    block[-1] = given;
    return block;
}

void* mapped_block(size_t bytes) {
    char* block = map(bytes);
    if (block && bytes <= kHugeUpTo) prefer_huge_pages(block, bytes);
    return block;
}

}  // namespace

Memory::~Memory() {
    for (const Region& region : regions_) munmap(region.begin, region.bytes);
}

void* Memory::allocate(size_t bytes) {
    if (bytes < kPagesFrom) return small_block(bytes);
    if (bytes >= kMapFrom) return mapped_block(bytes);
    try {
        return page_block(rounded(bytes, page()));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void Memory::release(void* block, size_t bytes) {
    if (!block) return;
    if (bytes < kPagesFrom) {
        std::free(static_cast<void**>(block)[-1]);
    } else if (bytes < kMapFrom) {
        const size_t whole = rounded(bytes, page());
        if (madvise(block, whole, MADV_DONTNEED) != 0) std::memset(block, 0, whole);  // the next to get it finds zeros
        try {
            free_[whole].push_back(block);
        } catch (const std::bad_alloc&) {
            // Its addresses are lost, not its memory.
        }
    } else {
        munmap(block, bytes);
    }
}

void* Memory::page_block(size_t bytes) {
    std::vector<void*>& free = free_[bytes];
    if (!free.empty()) {
        void* block = free.back();
        free.pop_back();
        return block;
    }
    if (left_ < bytes) {
        regions_.reserve(regions_.size() + 1);
        char* region = map(kRegion);
        if (!region) return nullptr;
        prefer_huge_pages(region, kRegion);
        regions_.push_back({region, kRegion});
        next_ = region;
        left_ = kRegion;
    }
    void* block = next_;
    next_ += bytes;
    left_ -= bytes;
    return block;
}

}  // namespace kt
