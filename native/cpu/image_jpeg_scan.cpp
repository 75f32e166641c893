// Huffman-coded coefficients, sequential and progressive: ITU-T T.81, annexes F.2 and G.2.
#include <cstring>

#include "image_context.h"

namespace im {

const uint8_t kNatural[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                              41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                              30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

namespace {

// The bits of a scan. Bytes are taken in as long as there is room for one, so where reading has come to at a fault is
// the same in whatever way they are taken.
struct Bits {
    const uint8_t* data;
    int64_t position, end;
    uint64_t bits;  // the next bit is the highest of the lower count
    int32_t count;
    int32_t invented;  // zero bits put behind the data's end
    int32_t end_of_band_run;
    im_scan* scan;

    void fill() {
        if (end - position >= 8) {
            uint64_t next;
            std::memcpy(&next, data + position, 8);
            if (((next & ~(next + 0x0101010101010101)) & 0x8080808080808080) == 0) {  // none of them is 0xff
                const int bytes = (56 - count) >> 3;
                bits = bits << (8 * bytes) | __builtin_bswap64(next) >> (64 - 8 * bytes);
                count += 8 * bytes;
                position += bytes;
                return;
            }
        }
        while (count <= 48) {
            uint64_t next = 0;
            if (position < end && data[position] != 0xff) {
                next = data[position++];
            } else if (position + 1 < end && data[position + 1] == 0) {
                next = 0xff;
                position += 2;
            } else {
                invented += 8;  // at a marker or the end: it shows if these bits are ever used
            }
            bits = bits << 8 | next;
            count += 8;
        }
    }

    int32_t peek(int width) const { return static_cast<int32_t>(bits >> (count - width)) & ((1 << width) - 1); }

    int32_t receive(int width) {
        if (count < width) fill();
        count -= width;
        return static_cast<int32_t>(bits >> count) & ((1 << width) - 1);
    }

    bool fault(int32_t kind, int32_t value) {
        scan->fault = kind;
        scan->value = value;
        return false;
    }

    // A code longer than the look, of at least 16 bits that are there; -1 where the table has none.
    int32_t long_code(const Codes& codes) {
        for (int length = Codes::kLook + 1; length <= 16; length++) {
            const int32_t code = peek(length);
            if (code <= codes.last[length]) {
                count -= length;
                return codes.symbols[(code + codes.offset[length]) & 255];
            }
        }
        fault(IM_UNKNOWN_CODE, 0);
        return -1;
    }

    int32_t symbol(const Codes& codes) {
        if (count < 16) fill();
        const Codes::Look look = codes.look[peek(Codes::kLook)];
        if (look.length == 0) return long_code(codes);
        count -= look.length - (look.whole() ? look.symbol & 15 : 0);
        return look.symbol;
    }
};

// A number of size bits, of which the negative ones are below half the range.
int32_t extended(int32_t bits, int32_t size) { return size == 0 ? 0 : bits - (bits < 1 << (size - 1) ? (1 << size) - 1 : 0); }

bool dc_first(Bits& in, Component& c, const Codes& codes, int16_t* block) {
    const int32_t size = in.symbol(codes);
    if (size < 0) return false;
    if (size > 15) return in.fault(IM_DC_BITS, size);
    c.prediction = static_cast<int32_t>(static_cast<uint32_t>(c.prediction) + static_cast<uint32_t>(extended(in.receive(size), size)));
    block[0] = static_cast<int16_t>(static_cast<uint32_t>(c.prediction) << in.scan->low);
    return true;
}

// Index of the last coefficient that is not zero, 64 at a fault. This is where decoding spends its time.
int32_t sequential_ac(Bits& in, const Codes& codes, int16_t* block) {
    int32_t last = 0;
    for (int k = 1; k < 64; k++) {
        if (in.count < 32) in.fill();  // a code and what follows it have 31 at most
        const Codes::Look look = codes.look[in.peek(Codes::kLook)];
        int32_t symbol = look.symbol;
        if (look.whole()) {
            in.count -= look.length;
            k += symbol >> 4;
            if (k > 63) {
                in.fault(IM_LONG_RUN, 0);
                return 64;
            }
            block[kNatural[k]] = look.value;
            last = k;
            continue;
        }
        if (look.length != 0) {
            in.count -= look.length;
        } else {
            symbol = in.long_code(codes);
            if (symbol < 0) return 64;
        }
        const int32_t size = symbol & 15;
        if (size == 0) {
            if (symbol != 0xf0) break;
            k += 15;
            continue;
        }
        k += symbol >> 4;
        if (k > 63) {
            in.fault(IM_LONG_RUN, 0);
            return 64;
        }
        in.count -= size;
        const int32_t bits = static_cast<int32_t>(in.bits >> in.count) & ((1 << size) - 1);
        block[kNatural[k]] = static_cast<int16_t>(extended(bits, size));
        last = k;
    }
    return last;
}

bool ac_first(Bits& in, const Codes& codes, int16_t* block) {
    const im_scan& scan = *in.scan;
    if (in.end_of_band_run > 0) {
        in.end_of_band_run--;
        return true;
    }
    for (int k = scan.first; k <= scan.last; k++) {
        const int32_t symbol = in.symbol(codes);
        if (symbol < 0) return false;
        const int32_t run = symbol >> 4;
        const int32_t size = symbol & 15;
        if (size != 0) {
            k += run;
            if (k > scan.last) return in.fault(IM_LONG_RUN, 0);
            const int32_t value = extended(in.receive(size), size);
            block[kNatural[k]] = static_cast<int16_t>(static_cast<uint32_t>(value) << scan.low);
        } else if (run == 15) {
            k += 15;
        } else {
            in.end_of_band_run = (1 << run) - 1 + in.receive(run);
            return true;
        }
    }
    return true;
}

void refine(Bits& in, int16_t& coefficient) {
    const int32_t plus = 1 << in.scan->low;
    if (in.receive(1) != 0 && (coefficient & plus) == 0) {
        coefficient = static_cast<int16_t>(coefficient + (coefficient >= 0 ? plus : -plus));
    }
}

bool ac_refine(Bits& in, const Codes& codes, int16_t* block) {
    const im_scan& scan = *in.scan;
    const int32_t plus = 1 << scan.low;
    int k = scan.first;
    if (in.end_of_band_run == 0) {
        for (; k <= scan.last; k++) {
            const int32_t symbol = in.symbol(codes);
            if (symbol < 0) return false;
            int32_t run = symbol >> 4;
            const int32_t size = symbol & 15;
            int32_t value = 0;
            if (size != 0) {
                if (size != 1) return in.fault(IM_REFINED_BITS, size);
                value = in.receive(1) != 0 ? plus : -plus;
            } else if (run != 15) {
                in.end_of_band_run = (1 << run) + in.receive(run);
                break;
            }
            // passes the coefficients that are known, with a bit for each, and run that are zero
            for (; k <= scan.last; k++) {
                int16_t& known = block[kNatural[k]];
                if (known != 0) {
                    refine(in, known);
                } else if (--run < 0) {
                    break;
                }
            }
            if (value != 0) {
                if (k > scan.last) return in.fault(IM_LONG_RUN, 0);
                block[kNatural[k]] = static_cast<int16_t>(value);
            }
        }
    }
    if (in.end_of_band_run > 0) {
        for (; k <= scan.last; k++) {
            int16_t& known = block[kNatural[k]];
            if (known != 0) refine(in, known);
        }
        in.end_of_band_run--;
    }
    return true;
}

// One component's part in the scan.
struct Part {
    Component* component;
    const Codes* dc;
    const Codes* ac;
};

struct Sequential {
    static bool block(Bits& in, const Part& part, int64_t x, int64_t y) {
        Component& c = *part.component;
        alignas(64) int16_t block[64] = {};
        if (!dc_first(in, c, *part.dc, block)) return false;
        const int32_t last = sequential_ac(in, *part.ac, block);
        if (last > 63) return false;
        if (last == 0) {
            inverse_transform_flat(block[0], c.quantisers, c.block_samples(x, y), c.stride());
        } else {
            inverse_transform(block, c.quantisers, c.block_samples(x, y), c.stride());
        }
        return true;
    }
};

struct Progressive {
    static bool block(Bits& in, const Part& part, int64_t x, int64_t y) {
        Component& c = *part.component;
        const im_scan& scan = *in.scan;
        int16_t* block = c.coefficients + 64 * (y * c.padded_across + x);
        if (scan.first > 0) return scan.high == 0 ? ac_first(in, *part.ac, block) : ac_refine(in, *part.ac, block);
        if (scan.high == 0) return dc_first(in, c, *part.dc, block);
        if (in.receive(1) != 0) block[0] = static_cast<int16_t>(block[0] | 1 << scan.low);
        return true;
    }
};

// At a restart interval's end: skips to the marker, which has to be the next, and starts afresh.
bool restart(Bits& in, int64_t done, const Part* parts) {
    im_scan& scan = *in.scan;
    int32_t marker = 0;
    while (marker == 0) {
        int32_t byte = 0;
        while (byte != 0xff) {
            if (in.position >= in.end) return in.fault(IM_ENDS_IN_MARKER, 0);
            byte = in.data[in.position++];
        }
        while (byte == 0xff) {
            if (in.position >= in.end) return in.fault(IM_ENDS_IN_MARKER, 0);
            byte = in.data[in.position++];
        }
        marker = byte;
    }
    scan.expected = static_cast<int32_t>(0xd0 + (done / scan.restart_interval - 1) % 8);
    if (marker != scan.expected) return in.fault(IM_OTHER_MARKER, marker);
    in.bits = 0;
    in.count = 0;
    in.invented = 0;
    in.end_of_band_run = 0;
    for (int i = 0; i < scan.components; i++) parts[i].component->prediction = 0;
    return true;
}

bool overrun(Bits& in, int64_t row) {
    if (in.invented <= in.count) return false;
    in.scan->row = static_cast<int32_t>(row);
    in.fault(IM_ENDS_IN_PIXELS, 0);
    return true;
}

bool restart_if_due(Bits& in, int64_t done, const Part* parts) {
    const int64_t interval = in.scan->restart_interval;
    return interval == 0 || done == 0 || done % interval != 0 || restart(in, done, parts);
}

template <typename Kind>
bool one_component(Bits& in, const Part& part) {
    const Component& c = *part.component;
    int64_t done = 0;
    for (int64_t y = 0; y < c.blocks_down; y++) {
        for (int64_t x = 0; x < c.blocks_across; x++, done++) {
            if (!restart_if_due(in, done, &part) || !Kind::block(in, part, x, y) || overrun(in, 8 * y)) return false;
        }
    }
    return true;
}

template <typename Kind>
bool interleaved(Bits& in, const im_ctx& ctx, const Part* parts) {
    const int64_t units_across = (ctx.frame.width + 8 * ctx.across - 1) / (8 * ctx.across);
    const int64_t units_down = (ctx.frame.height + 8 * ctx.down - 1) / (8 * ctx.down);
    int64_t done = 0;
    for (int64_t y = 0; y < units_down; y++) {
        for (int64_t x = 0; x < units_across; x++, done++) {
            if (!restart_if_due(in, done, parts)) return false;
            for (int p = 0; p < in.scan->components; p++) {
                const Component& c = *parts[p].component;
                for (int64_t v = 0; v < c.down; v++) {
                    for (int64_t h = 0; h < c.across; h++) {
                        if (!Kind::block(in, parts[p], x * c.across + h, y * c.down + v)) return false;
                    }
                }
            }
            if (overrun(in, 8 * ctx.down * y)) return false;
        }
    }
    return true;
}

// Whether the frame has what the scan is of, and the context what it needs; fills in the parts.
bool valid(im_ctx* ctx, const im_scan& scan, Part* parts) {
    const bool progressive = ctx->frame.progressive != 0;
    if (scan.components < 1 || scan.components > ctx->components || scan.position < 0 || scan.position > ctx->length ||
        scan.restart_interval < 0 || scan.low < 0 || scan.low > IM_MAX_LOW || scan.high < 0 || scan.first < 0 ||
        scan.last < scan.first || scan.last > 63) {
        return false;
    }
    if (!progressive && (scan.first != 0 || scan.last != 63 || scan.high != 0 || scan.low != 0)) return false;
    if (progressive && (scan.first == 0 ? scan.last != 0 : scan.components != 1)) return false;
    for (int i = 0; i < scan.components; i++) {
        const int32_t number = scan.component[i];
        if (number < 0 || number >= ctx->components || scan.dc_table[i] < 0 || scan.dc_table[i] > 3 ||
            scan.ac_table[i] < 0 || scan.ac_table[i] > 3) {
            return false;
        }
        parts[i] = {&ctx->component[number], &ctx->codes[0][scan.dc_table[i]], &ctx->codes[1][scan.ac_table[i]]};
        for (int j = 0; j < i; j++) {
            if (scan.component[j] == number) return false;
        }
        if ((scan.first == 0 && scan.high == 0 && !parts[i].dc->present) || (scan.last > 0 && !parts[i].ac->present) ||
            (!progressive && !parts[i].component->quantised)) {
            return false;
        }
    }
    return true;
}

}  // namespace

int32_t jpeg_scan(im_ctx* ctx, im_scan* scan) {
    Part parts[4];
    scan->fault = 0;
    if (!ctx->components || !valid(ctx, *scan, parts)) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_scan: coefficients %d to %d, bits %d to %d of %d components at byte %lld",
                    scan->first, scan->last, scan->high, scan->low, scan->components, static_cast<long long>(scan->position));
    }
    for (int i = 0; i < scan->components; i++) parts[i].component->prediction = 0;
    Bits in{ctx->data, scan->position, ctx->length, 0, 0, 0, 0, scan};
    bool good;
    if (ctx->frame.progressive) {
        good = scan->components == 1 ? one_component<Progressive>(in, parts[0]) : interleaved<Progressive>(in, *ctx, parts);
    } else {
        good = scan->components == 1 ? one_component<Sequential>(in, parts[0]) : interleaved<Sequential>(in, *ctx, parts);
    }
    scan->position = in.position;
    return good ? IM_OK : fail(ctx, IM_DAMAGED, "jpeg_scan: fault %d near byte %lld", scan->fault, static_cast<long long>(in.position));
}

}  // namespace im
