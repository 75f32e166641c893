// Where blocks come from: fresh ones are zero, and cost no memory until they are written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace kt {

// Blocks of one context, 64-byte aligned. A first touch of a page is dear where the machine is virtual (10 us were measured),
// so middle-sized blocks, of which a step has thousands, lie side by side in regions of huge pages.
class Memory {
  public:
    ~Memory();

    // Null where the system has none left.
    void* allocate(size_t bytes);

    // Takes back what allocate gave for as many bytes; the pages of all but small blocks go back to the system at once.
    void release(void* block, size_t bytes);

  private:
    void* page_block(size_t bytes);

    struct Region {
        char* begin;
        size_t bytes;
    };
    std::vector<Region> regions_;
    char* next_ = nullptr;      // where the newest region is still unused
    size_t left_ = 0;           // bytes from there on
    std::map<size_t, std::vector<void*>> free_;  // by whole size; their pages are the system's again
};

}  // namespace kt
