// From decoded components to RGB: chroma upsampled by libjpeg's triangle filter, colours by its 16-bit fixed point (JFIF 1.02).
#include <cstring>

#include "image_context.h"

namespace im {
namespace {

constexpr int kPlaces = 16;
constexpr int32_t kHalf = 1 << (kPlaces - 1);

constexpr int32_t fixed(double value) { return static_cast<int32_t>(value * (1 << kPlaces) + 0.5); }

inline int32_t clamp(int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

// ---- one row of one component, at the picture's width ------------------------------------------------------------

KT_CLONES void repeat(uint8_t* __restrict out, const uint8_t* __restrict samples, int64_t width, int32_t times) {
    if (times == 1) {
        std::memcpy(out, samples, static_cast<size_t>(width));
        return;
    }
    for (int64_t x = 0; x < width; x++) out[x] = samples[x / times];
}

KT_CLONES void double_down(uint8_t* __restrict out, const uint8_t* __restrict near, const uint8_t* __restrict far,
                           int64_t width, int32_t bias) {
    for (int64_t x = 0; x < width; x++) out[x] = static_cast<uint8_t>((3 * near[x] + far[x] + bias) >> 2);
}

KT_CLONES void widen(uint16_t* __restrict sums, const uint8_t* __restrict samples, int64_t n) {
    for (int64_t x = 0; x < n; x++) sums[x] = samples[x];
}

KT_CLONES void mix(uint16_t* __restrict sums, const uint8_t* __restrict near, const uint8_t* __restrict far, int64_t n) {
    for (int64_t x = 0; x < n; x++) sums[x] = static_cast<uint16_t>(3 * near[x] + far[x]);
}

// Three quarters of the near sum, one of the far; rounding leans left and right in turn. Reads one sum before and behind.
KT_CLONES void double_across(uint8_t* __restrict out, const uint16_t* __restrict sums, int64_t n, uint16_t even,
                             uint16_t odd, int32_t shift) {
    for (int64_t x = 0; x < n; x++) {
        const uint16_t near = static_cast<uint16_t>(3 * sums[x]);
        out[2 * x] = static_cast<uint8_t>(static_cast<uint16_t>(near + sums[x - 1] + even) >> shift);
        out[2 * x + 1] = static_cast<uint8_t>(static_cast<uint16_t>(near + sums[x + 1] + odd) >> shift);
    }
}

// The row that is a quarter of row y: above for an even y, below for an odd one; at the edges, its own.
const uint8_t* neighbour(const Component& c, int64_t y) {
    const int64_t row = y / 2 + (y % 2 == 0 ? -1 : 1);
    return c.samples + std::max<int64_t>(0, std::min<int64_t>(c.height - 1, row)) * c.stride();
}

// out has room for width + 1; sums for the component's width, one before and one behind.
void upsample(const im_ctx& ctx, const Component& c, int64_t y, uint8_t* out, uint16_t* sums) {
    const int32_t h = ctx.across / c.across;
    const int32_t v = ctx.down / c.down;
    const int64_t width = ctx.frame.width;
    const uint8_t* row = c.samples + y / v * c.stride();
    if (h == 1 && v == 2) {
        double_down(out, row, neighbour(c, y), width, y % 2 == 0 ? 1 : 2);
    } else if (h == 2 && v <= 2 && c.width > 2) {
        if (v == 1) {
            widen(sums, row, c.width);
        } else {
            mix(sums, row, neighbour(c, y), c.width);
        }
        sums[-1] = sums[0];
        sums[c.width] = sums[c.width - 1];
        double_across(out, sums, c.width, v == 1 ? 1 : 8, v == 1 ? 2 : 7, v == 1 ? 2 : 4);
    } else {
        repeat(out, row, width, h);
    }
}

// ---- one row of pixels ---------------------------------------------------------------------------------------------

KT_CLONES void interleave(uint8_t* __restrict rgb, const uint8_t* __restrict red, const uint8_t* __restrict green,
                          const uint8_t* __restrict blue, int64_t width) {
    for (int64_t x = 0; x < width; x++) {
        rgb[3 * x] = red[x];
        rgb[3 * x + 1] = green[x];
        rgb[3 * x + 2] = blue[x];
    }
}

// Brightness and two differences of colour to red, green and blue, which may not be the same memory.
KT_CLONES void colours(uint8_t* __restrict red, uint8_t* __restrict green, uint8_t* __restrict blue,
                       const uint8_t* __restrict brightness, const uint8_t* __restrict cb, const uint8_t* __restrict cr,
                       int64_t width) {
    for (int64_t x = 0; x < width; x++) {
        const int32_t y = brightness[x];
        const int32_t b = cb[x] - 128;
        const int32_t r = cr[x] - 128;
        red[x] = static_cast<uint8_t>(clamp(y + ((fixed(1.40200) * r + kHalf) >> kPlaces)));
        green[x] = static_cast<uint8_t>(clamp(y + ((-fixed(0.34414) * b - fixed(0.71414) * r + kHalf) >> kPlaces)));
        blue[x] = static_cast<uint8_t>(clamp(y + ((fixed(1.77200) * b + kHalf) >> kPlaces)));
    }
}

// Pillow's CMYK to RGB: what the ink leaves of the white that black leaves. invert is 0, or 255 for what is stored as
// 255 minus the ink.
KT_CLONES void inks(uint8_t* __restrict colour, const uint8_t* __restrict white, int64_t width, int32_t invert) {
    for (int64_t x = 0; x < width; x++) {
        const int32_t product = (colour[x] ^ invert) * white[x] + 128;
        colour[x] = static_cast<uint8_t>(clamp(white[x] - (((product >> 8) + product) >> 8)));
    }
}

bool is_flat(const int16_t* block) {
    int any = 0;
    for (int k = 1; k < 64; k++) any |= block[k];
    return any == 0;
}

}  // namespace

int32_t jpeg_pixels(im_ctx* ctx, uint8_t* rgb, int64_t bytes, int32_t space) {
    const int64_t width = ctx->frame.width;
    const int64_t height = ctx->frame.height;
    const int32_t expected = space == IM_GREY ? 1 : space == IM_RGB || space == IM_YCC ? 3 : 4;
    if (!ctx->components || ctx->components != expected || space < IM_GREY || space > IM_YCCK ||
        bytes != 3 * width * height) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_pixels: space %d of %d components into %lld bytes", space, ctx->components,
                    static_cast<long long>(bytes));
    }
    const int64_t padded = width + 64;  // of a row
    uint8_t* rows = static_cast<uint8_t*>(allocate(ctx, 7 * padded));
    uint16_t* sums = static_cast<uint16_t*>(allocate(ctx, 2 * padded));
    if (!rows || !sums) return fail(ctx, IM_OUT_OF_MEMORY, "jpeg_pixels: the system has no memory for a row");
    for (int i = 0; i < ctx->components; i++) {
        Component& c = ctx->component[i];
        if (!c.quantised) return fail(ctx, IM_BAD_ARGUMENT, "jpeg_pixels: component %d has no quantisers", i);
        for (int64_t y = 0; c.coefficients && y < c.blocks_down; y++) {
            for (int64_t x = 0; x < c.blocks_across; x++) {
                const int16_t* block = c.coefficients + 64 * (y * c.padded_across + x);
                if (is_flat(block)) {
                    inverse_transform_flat(block[0], c.quantisers, c.block_samples(x, y), c.stride());
                } else {
                    inverse_transform(block, c.quantisers, c.block_samples(x, y), c.stride());
                }
            }
        }
    }
    uint8_t* row[4];
    for (int i = 0; i < 4; i++) row[i] = rows + i * padded;
    uint8_t* red = rows + 4 * padded;
    uint8_t* green = rows + 5 * padded;
    uint8_t* blue = rows + 6 * padded;
    for (int64_t y = 0; y < height; y++) {
        for (int i = 0; i < ctx->components; i++) upsample(*ctx, ctx->component[i], y, row[i], sums + 1);
        uint8_t* to = rgb + 3 * width * y;
        switch (space) {
            case IM_GREY:
                interleave(to, row[0], row[0], row[0], width);
                break;
            case IM_RGB:
                interleave(to, row[0], row[1], row[2], width);
                break;
            case IM_YCC:
                colours(red, green, blue, row[0], row[1], row[2], width);
                interleave(to, red, green, blue, width);
                break;
            case IM_CMYK:
                for (int i = 0; i < 3; i++) inks(row[i], row[3], width, 255);
                interleave(to, row[0], row[1], row[2], width);
                break;
            default:  // the colour equations give 255 minus the stored ink, that is the ink
                colours(red, green, blue, row[0], row[1], row[2], width);
                for (uint8_t* ink : {red, green, blue}) inks(ink, row[3], width, 0);
                interleave(to, red, green, blue, width);
        }
    }
    return IM_OK;
}

}  // namespace im
