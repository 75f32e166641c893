// The image table under the address and undefined behaviour sanitizers: JPEGs whole, cut short and with flipped bytes, and
// resizes of odd sizes. What comes out is held against Pillow and torchvision by the tests in Java. Arguments: JPEG files.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "image.h"

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int64_t kMaxPixels = 1 << 16;

// Walks over a file's segments and hands on what they say, however wrong: only what this walk itself reads is checked.
class Walk {
public:
    Walk(const Bytes& file, im_ctx* ctx) : file_(file), ctx_(ctx) {}

    // Whether every call has succeeded, down to the pixels.
    bool decode() {
        const auto length = static_cast<int64_t>(file_.size());
        if (table_->jpeg_file(ctx_, file_.data(), length)) return false;
        bool good = true;
        for (int64_t at = 2; at + 4 <= length;) {
            if (file_[at] != 0xff || file_[at + 1] == 0xff || file_[at + 1] == 0) {
                at++;
                continue;
            }
            const int marker = file_[at + 1];
            const int64_t from = at + 4;
            const int64_t end = at + 2 + wide(at + 2);
            if (marker == 0xd9) break;
            if (end > length || end < from) return false;
            at = end;
            if (marker == 0xc4) good &= codes(from, end);
            if (marker == 0xdb) quantisers(from, end);
            if (marker == 0xdd && end - from >= 2) interval_ = wide(from);
            if (marker >= 0xc0 && marker <= 0xc2) good &= frame(marker, from, end);
            if (marker == 0xda) good &= scan(from, end, at);
        }
        // Also of a scan that failed: what has been read until then.
        if (!frame_.components) return false;
        Bytes rgb(static_cast<size_t>(3 * frame_.width * frame_.height));
        const int32_t space = frame_.components == 1 ? IM_GREY : frame_.components == 3 ? IM_YCC : IM_CMYK;
        return !table_->jpeg_pixels(ctx_, rgb.data(), static_cast<int64_t>(rgb.size()), space) && good;
    }

private:
    int wide(int64_t at) const { return file_[at] << 8 | file_[at + 1]; }

    bool codes(int64_t at, int64_t end) {
        while (at + 17 <= end) {
            if (table_->jpeg_codes(ctx_, file_[at] >> 4, file_[at] & 15, at + 1)) return false;
            int64_t next = at + 17;
            for (int i = 1; i <= 16; i++) next += file_[at + i];
            at = next;
        }
        return true;
    }

    void quantisers(int64_t at, int64_t end) {
        while (at < end) {
            tables_[file_[at] & 3] = {at + 1, file_[at] >> 4};
            at += file_[at] >> 4 ? 129 : 65;
        }
    }

    bool frame(int marker, int64_t at, int64_t end) {
        if (end - at < 6 || end - at < 6 + 3 * file_[at + 5]) return false;
        im_frame f{};
        f.height = wide(at + 1);
        f.width = wide(at + 3);
        f.components = file_[at + 5];
        f.progressive = marker == 0xc2;
        if (int64_t{f.width} * f.height > kMaxPixels) return false;
        for (int i = 0; i < f.components && i < 4; i++) {
            id_[i] = file_[at + 6 + 3 * i];
            f.across[i] = file_[at + 7 + 3 * i] >> 4;
            f.down[i] = file_[at + 7 + 3 * i] & 15;
            number_[i] = file_[at + 8 + 3 * i] & 3;
        }
        if (table_->jpeg_frame(ctx_, &f)) return false;
        frame_ = f;
        return true;
    }

    bool scan(int64_t from, int64_t end, int64_t& at) {
        const int count = end > from ? file_[from] : 0;
        if (count > 4 || end - from < 4 + 2 * count) return false;
        im_scan s{};
        s.position = end;
        s.components = count;
        for (int i = 0; i < count; i++) {
            int c = 0;
            while (c < 3 && id_[c] != file_[from + 1 + 2 * i]) c++;
            s.component[i] = c;
            s.dc_table[i] = file_[from + 2 + 2 * i] >> 4;
            s.ac_table[i] = file_[from + 2 + 2 * i] & 15;
            table_->jpeg_quantisers(ctx_, c, tables_[number_[c]].position, tables_[number_[c]].wide);
        }
        s.restart_interval = interval_;
        s.first = file_[from + 1 + 2 * count];
        s.last = file_[from + 2 + 2 * count];
        s.high = file_[from + 3 + 2 * count] >> 4;
        s.low = file_[from + 3 + 2 * count] & 15;
        const int32_t status = table_->jpeg_scan(ctx_, &s);
        if (s.position > at) at = s.position;
        return !status;
    }

    struct Quantisers {
        int64_t position;
        int32_t wide;
    };

    const im_table* table_ = lapidary_images();
    const Bytes& file_;
    im_ctx* ctx_;
    im_frame frame_{};
    int id_[4]{};
    int number_[4]{};
    Quantisers tables_[4]{};
    int32_t interval_ = 0;
};

// In a thread of its own: one that has had a picture before gets its memory as a whole, and no sanitizer sees a step over
// the end of a part.
template <typename Do>
void with_context(Do&& something) {
    std::thread([&] {
        const im_table* table = lapidary_images();
        im_ctx* ctx = nullptr;
        if (table->context_create(&ctx)) return;
        something(table, ctx);
        table->context_destroy(ctx);
    }).join();
}

bool decode(const Bytes& file) {
    bool good = false;
    with_context([&](const im_table*, im_ctx* ctx) { good = Walk(file, ctx).decode(); });
    return good;
}

int decode_all(const std::string& path, int& decoded) {
    std::ifstream in(path, std::ios::binary);
    const Bytes file{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (!decode(file)) {
        std::printf("%s: %zu bytes are not decoded\n", path.c_str(), file.size());
        return 1;
    }
    for (size_t length = 0; length < file.size(); length += 97) {
        decoded += decode(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length)));
    }
    for (size_t at = 2; at < file.size(); at += 7) {
        Bytes flipped = file;
        flipped[at] ^= static_cast<uint8_t>(1 << at % 8);
        decoded += decode(flipped);
        flipped[at] = 0xff;
        decoded += decode(flipped);
    }
    return 0;
}

int resize_all() {
    constexpr int64_t sizes[] = {1, 2, 3, 7, 16, 31, 64, 97, 130};
    int failures = 0;
    for (int64_t width : sizes) {
        for (int64_t height : {int64_t{1}, int64_t{5}, int64_t{33}, int64_t{100}}) {
            const Bytes rgb(static_cast<size_t>(3 * width * height), 77);
            for (int64_t to_width : sizes) {
                for (int32_t rounding : {IM_TORCHVISION, IM_PILLOW}) {
                    const int64_t to_height = (to_width * 3 + 1) / 2;
                    Bytes codes(static_cast<size_t>(3 * to_width * to_height));
                    std::vector<float> values(codes.size());
                    with_context([&](const im_table* table, im_ctx* ctx) {
                        failures += table->resize(ctx, codes.data(), rgb.data(), to_width, to_height, width, height, rounding) != 0;
                        const auto n = static_cast<int64_t>(codes.size());
                        failures += table->normalise(ctx, values.data(), codes.data(), n, 1, 0, 1) != 0;
                    });
                    for (float value : values) failures += value != 77;
                }
            }
        }
    }
    if (failures) std::printf("%d resizes or values of one colour are wrong\n", failures);
    return failures;
}

}  // namespace

int main(int count, char** paths) {
    int failures = resize_all();
    int decoded = 0;
    for (int i = 1; i < count; i++) failures += decode_all(paths[i], decoded);
    std::printf("%d JPEGs, %d of their damaged copies decoded\n", count - 1, decoded);
    return failures || count < 2 || decoded == 0;
}
