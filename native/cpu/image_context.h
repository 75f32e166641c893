// What the image members share: the memory of one picture's way, errors, and a JPEG as far as it has been read.
#pragma once

#include <cstdint>
#include <cstdio>

#include "context.h"
#include "image.h"

namespace im {

// Bytes behind every allocation that may be read, so that a loop can load a whole vector where a row ends.
constexpr int64_t kSlack = 64;

constexpr int64_t kMaxSide = 65535;

// Codes of a Huffman table; most are no longer than kLook bits and found in one look.
struct Codes {
    static constexpr int kLook = 10;

    // What the next kLook bits say: a code alone, or a code with the number that follows it.
    struct Look {
        int16_t value;   // of a coefficient, where the number is within the look
        uint8_t length;  // bits: the code's, or the code's and the number's; 0 where the code is longer than the look
        uint8_t symbol;  // run of zeros << 4 | bits of the number
        bool whole() const { return value != 0; }
    };

    Look look[1 << kLook];
    int32_t last[17];    // code of each length, -1 where there is none
    int32_t offset[17];  // symbol's index minus code, of each length
    uint8_t symbols[256];
    bool present;
};

// One colour component.
struct Component {
    int32_t across, down;                // sampling factors
    int32_t width, height;               // samples that belong to the picture
    int32_t blocks_across, blocks_down;  // of 8 x 8, that cover them
    int32_t padded_across, padded_down;  // and that whole MCUs of the frame have
    int32_t prediction;                  // of the scan's next DC coefficient
    bool quantised;
    int32_t quantisers[64];  // in a block's own order, row by row
    uint8_t* samples;        // [8 padded_down, 8 padded_across]
    int16_t* coefficients;   // [padded_down, padded_across, 64] row by row, of a progressive frame

    int64_t stride() const { return int64_t{8} * padded_across; }
    uint8_t* block_samples(int64_t x, int64_t y) const { return samples + 8 * (y * stride() + x); }
};

// Place of each zigzag index in a block of rows.
extern const uint8_t kNatural[64];

// Dequantises a block that has more than its first coefficient, transforms it, and writes its 8 x 8 samples.
void inverse_transform(const int16_t* block, const int32_t* quantisers, uint8_t* samples, int64_t stride);

// The same of a block that has its first coefficient alone.
void inverse_transform_flat(int16_t dc, const int32_t* quantisers, uint8_t* samples, int64_t stride);

}  // namespace im

struct im_ctx {
    char error[256];
    void* blocks;  // a list of what was allocated beside the region
    unsigned char* region;
    int64_t region_bytes;
    int64_t used;  // of the region, or what would be if it were large enough

    const uint8_t* data;
    int64_t length;
    im_frame frame;
    int32_t components;  // 0 before the frame
    int32_t across, down;  // largest sampling factors
    im::Component component[4];
    im::Codes codes[2][4];  // of DC and of AC coefficients
};

namespace im {

template <typename... Args>
int32_t fail(im_ctx* ctx, int32_t status, const char* format, Args... args) {
    std::snprintf(ctx->error, sizeof ctx->error, format, args...);
    return status;
}

// Null where the system has none left.
void* allocate(im_ctx* ctx, int64_t bytes);

int32_t jpeg_scan(im_ctx*, im_scan*);
int32_t jpeg_pixels(im_ctx*, uint8_t*, int64_t, int32_t);
int32_t resize(im_ctx*, uint8_t*, const uint8_t*, int64_t, int64_t, int64_t, int64_t, int32_t);
int32_t normalise(im_ctx*, float*, const uint8_t*, int64_t, double, float, float);

}  // namespace im
