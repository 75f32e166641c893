// The layout of AMX tiles that the BF16 kernels share: all eight are 16 rows of 64 bytes.
#pragma once

#include <cstdint>

namespace kt {

struct alignas(64) TileConfig {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline constexpr TileConfig kTileConfig;

}  // namespace kt
