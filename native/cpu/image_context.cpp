#include "image_context.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace im {
namespace {

struct Block {
    Block* next;
    alignas(64) unsigned char bytes[64];
};

// The memory that a thread's last picture had, for its next one: a first touch of a page is dear where the machine is
// virtual (10 us were measured), and a picture has thousands. Freed with its thread.
struct Spare {
    unsigned char* memory = nullptr;
    int64_t bytes = 0;
    ~Spare() { std::free(memory); }
};
thread_local Spare spare;

constexpr int64_t kMaxSpare = int64_t{32} << 20;

int32_t context_create(im_ctx** out) {
    im_ctx* ctx = static_cast<im_ctx*>(std::malloc(sizeof(im_ctx)));
    if (!ctx) return IM_OUT_OF_MEMORY;
    ctx->error[0] = 0;
    ctx->blocks = nullptr;
    ctx->region = spare.memory;
    ctx->region_bytes = spare.bytes;
    ctx->used = 0;
    spare.memory = nullptr;
    spare.bytes = 0;
    ctx->data = nullptr;
    ctx->length = 0;
    ctx->components = 0;
    for (auto& kind : ctx->codes) {
        for (Codes& codes : kind) codes.present = false;
    }
    *out = ctx;
    return IM_OK;
}

int32_t context_destroy(im_ctx* ctx) {
    for (Block* block = static_cast<Block*>(ctx->blocks); block;) {
        Block* next = block->next;
        std::free(block);
        block = next;
    }
    if (ctx->used > ctx->region_bytes && ctx->used <= kMaxSpare) {
        std::free(ctx->region);
        ctx->region = static_cast<unsigned char*>(std::aligned_alloc(64, static_cast<size_t>(ctx->used)));
        ctx->region_bytes = ctx->region ? ctx->used : 0;
    }
    std::free(spare.memory);
    spare.memory = ctx->region;
    spare.bytes = ctx->region_bytes;
    std::free(ctx);
    return IM_OK;
}

const char* last_error(im_ctx* ctx) { return ctx->error; }

int32_t allocate_for_caller(im_ctx* ctx, void** out, int64_t bytes) {
    *out = bytes < 0 ? nullptr : allocate(ctx, bytes);
    return *out ? IM_OK
                : fail(ctx, bytes < 0 ? IM_BAD_ARGUMENT : IM_OUT_OF_MEMORY, "allocate: the system has no %lld bytes",
                       static_cast<long long>(bytes));
}

int32_t jpeg_file(im_ctx* ctx, const uint8_t* data, int64_t length) {
    if (!data || length < 0 || ctx->data) return fail(ctx, IM_BAD_ARGUMENT, "jpeg_file: no data, or a second file");
    ctx->data = data;
    ctx->length = length;
    return IM_OK;
}

// What the code with that many bits has behind it, within the look.
void complete(Codes::Look& look, int index, int length, int symbol) {
    const int size = symbol & 15;
    look = {0, static_cast<uint8_t>(length), static_cast<uint8_t>(symbol)};
    if (size == 0 || length + size > Codes::kLook) return;
    const int bits = (index >> (Codes::kLook - length - size)) & ((1 << size) - 1);
    look.value = static_cast<int16_t>(bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits);
    look.length = static_cast<uint8_t>(length + size);
}

int32_t jpeg_codes(im_ctx* ctx, int32_t ac, int32_t number, int64_t position) {
    if (ac < 0 || ac > 1 || number < 0 || number > 3 || position < 0 || position > ctx->length - 16) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_codes: table %d of kind %d at byte %lld of %lld", number, ac,
                    static_cast<long long>(position), static_cast<long long>(ctx->length));
    }
    Codes& codes = ctx->codes[ac][number];
    codes.present = false;
    const uint8_t* counts = ctx->data + position;
    int sum = 0;
    for (int i = 0; i < 16; i++) sum += counts[i];
    if (sum > 256 || position + 16 + sum > ctx->length) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_codes: %d symbols at byte %lld of %lld", sum,
                    static_cast<long long>(position), static_cast<long long>(ctx->length));
    }
    std::memcpy(codes.symbols, counts + 16, static_cast<size_t>(sum));
    std::memset(codes.look, 0, sizeof codes.look);
    int code = 0;
    int index = 0;
    for (int length = 1; length <= 16; length++) {
        const int count = counts[length - 1];
        if (code + count > 1 << length) return fail(ctx, IM_BAD_ARGUMENT, "jpeg_codes: too many codes of %d bits", length);
        codes.offset[length] = index - code;
        for (int i = 0; i < count; i++, code++, index++) {
            const int free = Codes::kLook - length;
            for (int j = 0; free >= 0 && j < 1 << free; j++) {
                const int at = (code << free) + j;
                complete(codes.look[at], at, length, codes.symbols[index]);
            }
        }
        codes.last[length] = count > 0 ? code - 1 : -1;
        code <<= 1;
    }
    codes.present = true;
    return IM_OK;
}

int32_t ceil_div(int64_t a, int64_t b) { return static_cast<int32_t>((a + b - 1) / b); }

int32_t jpeg_frame(im_ctx* ctx, const im_frame* frame) {
    const im_frame& f = *frame;
    bool good = !ctx->components && f.width >= 1 && f.width <= kMaxSide && f.height >= 1 && f.height <= kMaxSide &&
                (f.components == 1 || f.components == 3 || f.components == 4);
    int32_t across = 0;
    int32_t down = 0;
    for (int i = 0; good && i < f.components; i++) {
        good = f.across[i] >= 1 && f.across[i] <= 4 && f.down[i] >= 1 && f.down[i] <= 4;
        across = std::max(across, f.across[i]);
        down = std::max(down, f.down[i]);
    }
    for (int i = 0; good && i < f.components; i++) good = across % f.across[i] == 0 && down % f.down[i] == 0;
    if (!good) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_frame: %d x %d pixels of %d components, or their sampling factors", f.width,
                    f.height, f.components);
    }
    ctx->across = across;
    ctx->down = down;
    for (int i = 0; i < f.components; i++) {
        Component& c = ctx->component[i];
        c.across = f.across[i];
        c.down = f.down[i];
        c.width = ceil_div(int64_t{f.width} * c.across, ctx->across);
        c.height = ceil_div(int64_t{f.height} * c.down, ctx->down);
        c.blocks_across = ceil_div(c.width, 8);
        c.blocks_down = ceil_div(c.height, 8);
        c.padded_across = ceil_div(f.width, 8 * ctx->across) * c.across;
        c.padded_down = ceil_div(f.height, 8 * ctx->down) * c.down;
        c.quantised = false;
        const int64_t samples = int64_t{64} * c.padded_across * c.padded_down;
        c.samples = static_cast<uint8_t*>(allocate(ctx, samples));
        c.coefficients = f.progressive ? static_cast<int16_t*>(allocate(ctx, 2 * samples)) : nullptr;
        if (!c.samples || (f.progressive && !c.coefficients)) {
            return fail(ctx, IM_OUT_OF_MEMORY, "jpeg_frame: the system has no memory for %d x %d pixels", f.width, f.height);
        }
        if (f.progressive) std::memset(c.coefficients, 0, static_cast<size_t>(2 * samples));
    }
    ctx->frame = f;
    ctx->components = f.components;
    return IM_OK;
}

int32_t jpeg_quantisers(im_ctx* ctx, int32_t component, int64_t position, int32_t wide) {
    const int64_t bytes = wide ? 128 : 64;
    if (component < 0 || component >= ctx->components || position < 0 || position > ctx->length - bytes) {
        return fail(ctx, IM_BAD_ARGUMENT, "jpeg_quantisers: component %d of %d, byte %lld of %lld", component, ctx->components,
                    static_cast<long long>(position), static_cast<long long>(ctx->length));
    }
    Component& c = ctx->component[component];
    const uint8_t* at = ctx->data + position;
    for (int k = 0; k < 64; k++) c.quantisers[kNatural[k]] = wide ? at[2 * k] << 8 | at[2 * k + 1] : at[k];
    c.quantised = true;
    return IM_OK;
}

}  // namespace

void* allocate(im_ctx* ctx, int64_t bytes) {
    if (bytes < 0 || bytes > int64_t{1} << 40) return nullptr;  // no system has as much, and sums stay in range
    const int64_t whole = (bytes + kSlack + 63) / 64 * 64;
    ctx->used += whole;
    if (ctx->used <= ctx->region_bytes) return ctx->region + ctx->used - whole;
    Block* block = static_cast<Block*>(std::aligned_alloc(64, sizeof(Block) + static_cast<size_t>(whole)));
    if (!block) return nullptr;
    block->next = static_cast<Block*>(ctx->blocks);
    ctx->blocks = block;
    return block->bytes;
}

}  // namespace im

extern "C" __attribute__((visibility("default"))) const im_table* lapidary_images(void) {
    static const im_table table = {
        IM_ABI,
        sizeof(im_table),
        im::context_create,
        im::context_destroy,
        im::last_error,
        im::allocate_for_caller,
        im::jpeg_file,
        im::jpeg_codes,
        im::jpeg_frame,
        im::jpeg_quantisers,
        im::jpeg_scan,
        im::jpeg_pixels,
        im::resize,
        im::normalise,
    };
    return &table;
}
