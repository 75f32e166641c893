// Attention over a packed batch, tile by tile, with the softmax of each query kept up to date as its keys go by; forward
// leaves one number a query and head (lse) from which backward makes the probabilities again. No score matrix is stored.
//
// Forward: the unit of work is one query tile of one head; a thread packs the keys and values of a row and head once for
// the tiles that it owns. Backward: the unit is one head of one row, walked by key tiles, which own dk and dv, while dq
// adds up beside them. Every sum therefore has one order, whatever the number of threads.
#include "attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <type_traits>
#include <vector>

#include "context.h"
#include "table.h"

namespace kt {
namespace {

using attention::kKeys;
using attention::kPad;
using attention::kPanel;
using attention::kQueries;
using attention::kStrip;
using attention::round_up;
using attention::Softmax;

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// ---- who sees whom -----------------------------------------------------------------------------------------------

struct Batch {
    const int32_t* starts;
    const int32_t* spans;  // or null
    int64_t tokens, rows, heads, kv_heads, head_dim;
    bool causal;
    int64_t window;           // 0 for none
    int64_t first_query = 0;  // of the only row: tokens before it are keys alone, and q and y begin with it

    int64_t group() const { return heads / kv_heads; }
    bool same_image(int64_t a, int64_t b) const { return spans[a] >= 0 && spans[a] == spans[b]; }
};

// One query tile: its tokens and the keys between which all that it sees lies, as token numbers.
struct Tile {
    int64_t begin, end;
    int64_t first_key, last_key;  // [first_key, last_key)
};

struct Row {
    int64_t begin, end;
    bool scattered;  // whether an image's tokens do not all follow each other
    int64_t pairs;   // of query and key in tiles that are computed, for one head
    std::vector<Tile> tiles;

    int64_t tokens() const { return end - begin; }
};

struct Plan {
    Batch batch;
    std::vector<Row> rows;
    std::vector<int32_t> last;   // per token: one past the last key it sees
    std::vector<int32_t> first;  // per token: the first query that sees it, window apart
    int64_t longest = 0;         // row, in tokens
    int64_t pairs = 0;           // of all rows

    explicit Plan(const Batch& of)
        : batch(of), last(static_cast<size_t>(of.tokens)), first(static_cast<size_t>(of.tokens)) {
        rows.reserve(static_cast<size_t>(batch.rows));
        for (int64_t r = 0; r < batch.rows; r++) add_row(batch.starts[r], batch.starts[r + 1]);
    }

    // Whether each of the queries sees each of the keys, by what holds without looking at images.
    bool all_visible(int64_t query, int64_t query_end, int64_t key, int64_t key_end) const {
        return (!batch.causal || key_end <= query + 1) && (batch.window == 0 || key > query_end - 1 - batch.window);
    }

  private:
    void add_row(int64_t begin, int64_t end) {
        Row row{begin, end, mark_images(begin, end), 0, {}};
        for (int64_t q = begin + batch.first_query; q < end; q += kQueries) {
            Tile tile{q, std::min(q + kQueries, end), begin, end};
            if (batch.window > 0) tile.first_key = std::max(begin, q - batch.window + 1);
            if (batch.causal) tile.last_key = *std::max_element(last.begin() + tile.begin, last.begin() + tile.end);
            row.pairs += (tile.end - tile.begin) * (tile.last_key - tile.first_key);
            row.tiles.push_back(tile);
        }
        pairs += row.pairs;
        longest = std::max(longest, end - begin);
        rows.push_back(std::move(row));
    }

    // An image is seen as far as its number occurs in the row, so each token's reach is found from the number's ends.
    // Whether some number's tokens are scattered.
    bool mark_images(int64_t begin, int64_t end) {
        struct Image {
            int32_t span, first, last, tokens;
        };
        std::vector<Image> images;
        const auto find = [&](int64_t t) {
            return std::find_if(images.rbegin(), images.rend(), [&](const Image& i) { return i.span == batch.spans[t]; });
        };
        for (int64_t t = begin; t < end; t++) {
            first[t] = static_cast<int32_t>(batch.causal ? t : begin);
            last[t] = static_cast<int32_t>(batch.causal ? t + 1 : end);
            if (!batch.causal || !batch.spans || batch.spans[t] < 0) continue;
            const auto image = find(t);
            if (image == images.rend()) {
                images.push_back({batch.spans[t], first[t], last[t], 1});
            } else {
                image->last = last[t];
                image->tokens++;
            }
        }
        if (images.empty()) return false;
        for (int64_t t = begin; t < end; t++) {
            if (batch.spans[t] < 0) continue;
            const auto image = find(t);
            first[t] = image->first;
            last[t] = image->last;
        }
        return std::any_of(images.begin(), images.end(), [](const Image& i) { return i.last - i.first != i.tokens; });
    }
};

void fill(float* s, int64_t n) {
    if (n > 0) std::fill(s, s + n, kMasked);
}

// Scores [queries, width] of keys from key on: those that a query does not see, and the padding, become -inf.
void mask_scores(const Plan& plan, const Row& row, const Tile& tile, float* s, int64_t ld, int64_t key, int64_t width) {
    const Batch& batch = plan.batch;
    for (int64_t q = tile.begin; q < tile.end; q++, s += ld) {
        const int64_t from = batch.window > 0 ? std::max(row.begin, q - batch.window + 1) : row.begin;
        const int64_t to = plan.last[q];
        fill(s, std::min(from - key, width));
        const int64_t end = std::clamp<int64_t>(to - key, 0, width);
        fill(s + end, width - end);
        if (!row.scattered) continue;
        for (int64_t k = std::max(q + 1, key); k < std::min(to, key + width); k++) {
            if (!batch.same_image(q, k)) s[k - key] = kMasked;
        }
    }
}

// The same for scores transposed, [keys, width] of keys [key, key + keys); padding rows, too.
void mask_transposed(const Plan& plan, const Row& row, const Tile& tile, float* s, int64_t ld, int64_t key, int64_t keys,
                     int64_t width) {
    const Batch& batch = plan.batch;
    for (int64_t k = key; k < key + keys; k++, s += ld) {
        if (k >= row.end) {
            fill(s, width);
            continue;
        }
        const int64_t from = plan.first[k];
        const int64_t to = batch.window > 0 ? std::min(row.end, k + batch.window) : row.end;
        fill(s, std::min(from - tile.begin, width));
        const int64_t end = std::clamp<int64_t>(to - tile.begin, 0, width);
        fill(s + end, width - end);
        if (!row.scattered) continue;
        for (int64_t q = std::max(from, tile.begin); q < std::min({k, tile.end, to}); q++) {
            if (!batch.same_image(q, k)) s[q - tile.begin] = kMasked;
        }
    }
}

// ---- memory and plain loops --------------------------------------------------------------------------------------

// Cuts buffers from a block of memory, or only counts what it would have to hold where there is none yet.
class Workspace {
  public:
    explicit Workspace(void* memory) : start_(reinterpret_cast<uintptr_t>(memory)), next_(start_) {}

    template <typename E>
    E* take(int64_t n) {
        const uintptr_t at = next_;
        next_ += static_cast<uintptr_t>(round_up(n * static_cast<int64_t>(sizeof(E)), 64));
        return reinterpret_cast<E*>(at);
    }

    int64_t bytes() const { return static_cast<int64_t>(next_ - start_); }

  private:
    uintptr_t start_, next_;
};

// A Scratch for each thread, from one block of the context's, with shared bytes behind them. Throws std::bad_alloc.
template <typename Scratch, typename... Args>
std::vector<Scratch> scratches(kt_ctx* ctx, int64_t threads, int64_t shared_bytes, void** shared, const Args&... args) {
    Workspace count(nullptr);
    Scratch(count, args...);
    char* memory = static_cast<char*>(scratch(ctx, count.bytes() * threads + shared_bytes));
    if (!memory) throw std::bad_alloc();
    std::vector<Scratch> all;
    for (int64_t i = 0; i < threads; i++) {
        Workspace workspace(memory + i * count.bytes());
        all.emplace_back(workspace, args...);
    }
    *shared = memory + threads * count.bytes();
    return all;
}

// How the sizes of one head look to the tiles.
template <typename Tiles>
struct Widths {
    int64_t dim;      // of a head
    int64_t depth;    // dim as the depth of a product
    int64_t cols;     // dim as the columns of one
    int64_t ld;       // of rows
    int64_t longest;  // row of the batch

    explicit Widths(const Plan& plan)
        : dim(plan.batch.head_dim),
          depth(round_up(dim, Tiles::kDepth)),
          cols(round_up(dim, kPanel)),
          ld(round_up(dim, kPad)),
          longest(round_up(plan.longest, kPad)) {}

    // Distances of panels: of operands whose columns are tokens, and whose depth is tokens.
    int64_t across() const { return depth * kPanel; }
    int64_t along() const { return longest * kPanel; }
};

// Rows of a head as operands: where they lie, if they are ones already, else copied to memory.
template <typename E>
struct Rows {
    const E* x;
    int64_t ld;
};

template <typename Tiles, typename T>
Rows<typename Tiles::Element> rows_of(typename Tiles::Element* memory, const Widths<Tiles>& w, const T* x, int64_t stride,
                                      int64_t rows, int64_t padded, float factor) {
    if constexpr (std::is_same_v<T, typename Tiles::Element>) {
        if (factor == 1 && w.dim == w.ld && rows == padded) return {x, stride};
    }
    Tiles::rows(memory, w.ld, x, stride, rows, w.dim, padded, factor);
    return {memory, w.ld};
}

// A negative scale turns into the sign of the queries, which is exact, so that the largest score is that of the largest
// product; a scale of 0 into queries of 0.
struct Scale {
    float sign, factor;

    explicit Scale(float scale) : sign(scale == 0 ? 0 : std::copysign(1.0f, scale)), factor(scale == 0 ? 1 : std::fabs(scale)) {}
};

template <typename T>
[[gnu::always_inline]] inline void store_loop(T* y, const float* x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) y[i] = store<T>(x[i] * factor);
}

KT_CLONES void store_row(float* y, const float* x, int64_t n, float factor) { store_loop(y, x, n, factor); }
KT_CLONES void store_row(bf16* y, const float* x, int64_t n, float factor) { store_loop(y, x, n, factor); }

// y[c, r] = x[r, c] * factor.
template <typename T>
[[gnu::always_inline]] inline void store_transposed_loop(T* y, int64_t stride, const float* x, int64_t ld, int64_t rows,
                                                         int64_t cols, float factor) {
    for (int64_t c = 0; c < cols; c++) {
        for (int64_t r = 0; r < rows; r++) y[c * stride + r] = store<T>(x[r * ld + c] * factor);
    }
}

KT_CLONES void store_transposed(float* y, int64_t stride, const float* x, int64_t ld, int64_t rows, int64_t cols,
                                float factor) {
    store_transposed_loop(y, stride, x, ld, rows, cols, factor);
}

KT_CLONES void store_transposed(bf16* y, int64_t stride, const float* x, int64_t ld, int64_t rows, int64_t cols,
                                float factor) {
    store_transposed_loop(y, stride, x, ld, rows, cols, factor);
}

KT_CLONES void scale_row(float* x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

KT_CLONES void copy_row(float* y, const float* x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
}

KT_CLONES void add_row(float* y, const float* x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

// y = the sum of so many rows, stride elements apart, in their order; it is left in the first.
template <typename T>
void store_sum(T* y, float* x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t r = 1; r < rows; r++) add_row(x, x + r * stride, n);
    store_row(y, x, n, 1);
}

template <typename T>
[[gnu::always_inline]] inline float dot_loop(const T* a, const T* b, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += load(a[i]) * load(b[i]);
    return sum;
}

KT_CLONES float dot(const float* a, const float* b, int64_t n) { return dot_loop(a, b, n); }
KT_CLONES float dot(const bf16* a, const bf16* b, int64_t n) { return dot_loop(a, b, n); }

// Work below this many multiplications is not worth waking a second thread: about 20 us.
constexpr int64_t kSmall = 1 << 20;

int64_t threads_for(const kt_ctx* ctx, const Plan& plan) {
    return plan.pairs * plan.batch.heads * plan.batch.head_dim < kSmall ? 1 : ctx->threads;
}

// ---- forward -----------------------------------------------------------------------------------------------------

template <typename Tiles>
class Forward {
  public:
    using T = typename Tiles::Input;
    using E = typename Tiles::Element;

    Forward(const Plan& plan, T* y, float* lse, const T* q, const T* k, const T* v, float scale)
        : plan_(plan), batch_(plan.batch), y_(y), lse_(lse), q_(q), k_(k), v_(v), scale_(scale), widths_(plan) {}

    void run(kt_ctx* ctx) const {
        const int64_t threads = threads_for(ctx, plan_);
        void* nothing;
        std::vector<Scratch> scratch = scratches<Scratch>(ctx, threads, 0, &nothing, widths_);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static)
        for (int64_t i = 0; i < threads; i++) run_share(scratch[static_cast<size_t>(i)], i, threads);
    }

  private:
    struct Scratch {
        E *rows, *keys, *values, *queries, *p;
        float *s, *out;
        Softmax softmax[kQueries / kStrip];

        Scratch(Workspace& memory, const Widths<Tiles>& w)
            : rows(memory.take<E>(kKeys * w.ld)),
              keys(memory.take<E>(w.longest * w.depth)),
              values(memory.take<E>(w.longest * w.cols)),
              queries(memory.take<E>(kQueries * w.ld)),
              p(memory.take<E>(kQueries * kKeys)),
              s(memory.take<float>(kStrip * kKeys)),
              out(memory.take<float>(kQueries * w.cols)) {}
    };

    // The tiles whose middle, with tiles weighed by their pairs, lies in one of several equal shares of the work.
    void run_share(Scratch& scratch, int64_t share, int64_t shares) const {
        Tiles::begin();
        const double total = static_cast<double>(plan_.pairs) * static_cast<double>(batch_.heads);
        double done = 0;
        for (const Row& row : plan_.rows) {
            int64_t packed = -1;  // the key head that scratch holds
            for (int64_t head = 0; head < batch_.heads; head++) {
                for (const Tile& tile : row.tiles) {
                    const auto pairs = static_cast<double>((tile.end - tile.begin) * (tile.last_key - tile.first_key));
                    const auto owner = static_cast<int64_t>((done + pairs / 2) / total * static_cast<double>(shares));
                    done += pairs;
                    if (std::min(owner, shares - 1) != share) continue;
                    const int64_t kv_head = head / batch_.group();
                    if (packed != kv_head) pack(scratch, row, kv_head);
                    packed = kv_head;
                    run_tile(scratch, row, tile, head);
                }
            }
        }
        Tiles::end();
    }

    void pack(Scratch& scratch, const Row& row, int64_t kv_head) const {
        const int64_t stride = batch_.kv_heads * widths_.dim;
        for (int64_t t = 0; t < row.tokens(); t += kKeys) {
            const int64_t tokens = std::min(kKeys, row.tokens() - t);
            const int64_t padded = round_up(tokens, kPad);
            const int64_t at = (row.begin + t) * stride + kv_head * widths_.dim;
            const auto keys = rows_of<Tiles>(scratch.rows, widths_, k_ + at, stride, tokens, padded, 1);
            Tiles::panels_transposed(scratch.keys + t * widths_.depth, widths_.across(), keys.x, keys.ld, widths_.depth, padded);
            const auto values = rows_of<Tiles>(scratch.rows, widths_, v_ + at, stride, tokens, padded, 1);
            Tiles::panels(scratch.values + t * kPanel, widths_.along(), values.x, values.ld, padded, widths_.cols);
        }
    }

    void run_tile(Scratch& scratch, const Row& row, const Tile& tile, int64_t head) const {
        const int64_t stride = batch_.heads * widths_.dim;
        const int64_t at = (tile.begin - batch_.first_query) * stride + head * widths_.dim;
        const int64_t queries = tile.end - tile.begin;
        const int64_t padded = round_up(queries, kPanel);
        Tiles::rows(scratch.queries, widths_.ld, q_ + at, stride, queries, widths_.dim, padded, scale_.sign);
        for (Softmax& softmax : scratch.softmax) {
            std::fill(softmax.max, softmax.max + kStrip, attention::kLowest);
            std::fill(softmax.sum[0], softmax.sum[kStrip], 0.0f);
        }
        const int64_t first = row.begin + (tile.first_key - row.begin) / kPad * kPad;
        for (int64_t key = first; key < tile.last_key; key += kKeys) {
            const int64_t width = round_up(std::min(kKeys, tile.last_key - key), kPad);
            for (int64_t r = 0; r < queries; r += kStrip) {
                const Tile strip{tile.begin + r, std::min(tile.begin + r + kStrip, tile.end), 0, 0};
                run_strip(scratch, row, strip, r, key, width, key > first);
            }
            Tiles::multiply(scratch.out, widths_.cols, scratch.p, kKeys, scratch.values + (key - row.begin) * kPanel,
                            widths_.along(), padded, widths_.cols, width, key > first);
        }
        for (int64_t r = 0; r < queries; r++) {
            const Softmax& softmax = scratch.softmax[r / kStrip];
            const int64_t i = r % kStrip;
            const float sum = std::accumulate(softmax.sum[i], softmax.sum[i + 1], 0.0f);
            store_row(y_ + at + r * stride, scratch.out + r * widths_.cols, widths_.dim, 1 / sum);
            if (lse_) lse_[(tile.begin + r) * batch_.heads + head] = softmax.max[i] * scale_.factor + std::log(sum);
        }
    }

    // The probabilities of a strip of queries, row r of the tile on, of width keys; what was summed up before is rescaled.
    void run_strip(Scratch& scratch, const Row& row, const Tile& strip, int64_t r, int64_t key, int64_t width,
                   bool rescale) const {
        const int64_t queries = strip.end - strip.begin;
        Tiles::multiply(scratch.s, kKeys, scratch.queries + r * widths_.ld, widths_.ld,
                        scratch.keys + (key - row.begin) * widths_.depth, widths_.across(), round_up(queries, kPanel), width,
                        widths_.depth, false);
        if (key + width > row.end || !plan_.all_visible(strip.begin, strip.end, key, key + width)) {
            mask_scores(plan_, row, strip, scratch.s, kKeys, key, width);
        }
        Softmax& softmax = scratch.softmax[r / kStrip];
        Tiles::softmax(scratch.p + r * kKeys, kKeys, scratch.s, kKeys, queries, width, scale_.factor, softmax);
        if (!rescale) return;
        for (int64_t i = 0; i < queries; i++) {
            if (softmax.rescale[i] != 1) scale_row(scratch.out + (r + i) * widths_.cols, widths_.cols, softmax.rescale[i]);
        }
    }

    const Plan& plan_;
    const Batch& batch_;
    T* y_;
    float* lse_;
    const T *q_, *k_, *v_;
    Scale scale_;
    Widths<Tiles> widths_;
};

// ---- backward ----------------------------------------------------------------------------------------------------

template <typename Tiles>
class Backward {
  public:
    using T = typename Tiles::Input;
    using E = typename Tiles::Element;

    Backward(const Plan& plan, T* dq, T* dk, T* dv, const T* dy, const T* q, const T* k, const T* v, const T* y,
             const float* lse, float scale)
        : plan_(plan),
          batch_(plan.batch),
          dq_(dq),
          dk_(dk),
          dv_(dv),
          dy_(dy),
          q_(q),
          k_(k),
          v_(v),
          y_(y),
          lse_(lse),
          scale_(scale),
          widths_(plan) {}

    // Where there are enough of them, a unit is all heads of a row that share a key head, else a single head; in any order,
    // as none shares an output with another. Either way the dk and dv of heads are added in the order of the heads.
    void run(kt_ctx* ctx) const {
        const int64_t threads = threads_for(ctx, plan_);
        const bool by_group = batch_.group() == 1 || batch_.rows * batch_.kv_heads >= 2 * threads;
        const int64_t group = by_group ? batch_.group() : 1;  // heads of a unit
        const int64_t units = batch_.rows * batch_.heads / group;
        const int64_t parts = by_group ? 0 : batch_.tokens * batch_.heads * widths_.dim;
        void* shared;
        std::vector<Scratch> scratch =
            scratches<Scratch>(ctx, threads, 2 * parts * static_cast<int64_t>(sizeof(float)), &shared, widths_);
        const Sums all{static_cast<float*>(shared), static_cast<float*>(shared) + parts, batch_.heads * widths_.dim};
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(dynamic, 1)
        for (int64_t unit = 0; unit < units; unit++) {
            Scratch& own = scratch[static_cast<size_t>(omp_get_thread_num())];
            const Row& row = plan_.rows[static_cast<size_t>(unit * group / batch_.heads)];
            const int64_t head = unit * group % batch_.heads;
            if (by_group) {
                run_group(own, row, head);
            } else {
                run_head(own, row, head, all.at(row.begin, head * widths_.dim), false);
            }
        }
        if (by_group) return;
        const int64_t per_group = batch_.group() * widths_.dim;
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static)
        for (int64_t i = 0; i < batch_.tokens * batch_.kv_heads; i++) {
            store_sum(dk_ + i * widths_.dim, all.dk + i * per_group, widths_.dim, batch_.group(), widths_.dim);
            store_sum(dv_ + i * widths_.dim, all.dv + i * per_group, widths_.dim, batch_.group(), widths_.dim);
        }
    }

  private:
    // Where the dk and dv of a row's tokens are summed up, stride elements from token to token.
    struct Sums {
        float *dk, *dv;
        int64_t stride;

        Sums at(int64_t token, int64_t element) const {
            return {dk + token * stride + element, dv + token * stride + element, stride};
        }
    };

    struct Scratch {
        E* rows;  // [kKeys, ld]
        // Of the whole row: queries and dy as the right side of products over dim, and over tokens; dq transposed.
        E *queries_across, *queries_along, *dy_across, *dy_along;
        float *lse2, *delta, *dq, *dk_sum, *dv_sum;
        // Of one key tile.
        E *keys, *values, *keys_transposed, *p, *ds, *ds_panels;
        float *s, *dp, *dk, *dv;

        Scratch(Workspace& memory, const Widths<Tiles>& w)
            : rows(memory.take<E>(kKeys * w.ld)),
              queries_across(memory.take<E>(w.longest * w.depth)),
              queries_along(memory.take<E>(w.longest * w.cols)),
              dy_across(memory.take<E>(w.longest * w.depth)),
              dy_along(memory.take<E>(w.longest * w.cols)),
              lse2(memory.take<float>(w.longest)),
              delta(memory.take<float>(w.longest)),
              dq(memory.take<float>(w.cols * ld_dq(w))),
              dk_sum(memory.take<float>(w.longest * w.dim)),
              dv_sum(memory.take<float>(w.longest * w.dim)),
              keys(memory.take<E>(kKeys * w.ld)),
              values(memory.take<E>(kKeys * w.ld)),
              keys_transposed(memory.take<E>(w.ld * kKeys)),
              p(memory.take<E>(kKeys * kQueries)),
              ds(memory.take<E>(kKeys * kQueries)),
              ds_panels(memory.take<E>(kKeys * kQueries)),
              s(memory.take<float>(kStrip * kQueries)),
              dp(memory.take<float>(kStrip * kQueries)),
              dk(memory.take<float>(kKeys * w.cols)),
              dv(memory.take<float>(kKeys * w.cols)) {}
    };

    // One panel more than a row's tokens, so that the rows of a tile of dq do not all fall into one set of the cache.
    static int64_t ld_dq(const Widths<Tiles>& w) { return w.longest + kPanel; }

    void run_group(Scratch& scratch, const Row& row, int64_t first_head) const {
        const Sums sums{scratch.dk_sum, scratch.dv_sum, widths_.dim};
        for (int64_t h = 0; h < batch_.group(); h++) run_head(scratch, row, first_head + h, sums, h > 0);
        for (int64_t t = 0; t < row.tokens(); t++) {
            const int64_t to = ((row.begin + t) * batch_.kv_heads + first_head / batch_.group()) * widths_.dim;
            store_row(dk_ + to, sums.dk + t * sums.stride, widths_.dim, 1);
            store_row(dv_ + to, sums.dv + t * sums.stride, widths_.dim, 1);
        }
    }

    // dq of a head of a row, and its dk and dv, stored or added to sums.
    void run_head(Scratch& scratch, const Row& row, int64_t head, const Sums& sums, bool add) const {
        Tiles::begin();
        pack_queries(scratch, row, head);
        std::fill(scratch.dq, scratch.dq + widths_.cols * ld_dq(widths_), 0.0f);
        for (int64_t key = row.begin; key < row.end; key += kKeys) {
            const int64_t keys = std::min(kKeys, row.end - key);
            pack_keys(scratch, key, keys, head / batch_.group());
            std::fill(scratch.dk, scratch.dk + kKeys * widths_.cols, 0.0f);
            std::fill(scratch.dv, scratch.dv + kKeys * widths_.cols, 0.0f);
            for (const Tile& tile : row.tiles) {
                if (tile.first_key < key + keys && tile.last_key > key) run_tile(scratch, row, tile, key, keys);
            }
            store_keys(scratch, sums.at(key - row.begin, 0), keys, add);
        }
        const int64_t stride = batch_.heads * widths_.dim;
        for (int64_t t = 0; t < row.tokens(); t += kPanel) {
            for (int64_t c = 0; c < widths_.dim; c += kPanel) {
                store_transposed(dq_ + (row.begin + t) * stride + head * widths_.dim + c, stride,
                                 scratch.dq + c * ld_dq(widths_) + t, ld_dq(widths_), std::min(kPanel, widths_.dim - c),
                                 std::min(kPanel, row.tokens() - t), scale_.factor * scale_.sign);
            }
        }
        Tiles::end();
    }

    void pack_queries(Scratch& scratch, const Row& row, int64_t head) const {
        const int64_t stride = batch_.heads * widths_.dim;
        for (int64_t t = 0; t < row.tokens(); t += kKeys) {
            const int64_t tokens = std::min(kKeys, row.tokens() - t);
            const int64_t padded = round_up(tokens, kPad);
            const int64_t at = (row.begin + t) * stride + head * widths_.dim;
            pack_both(scratch.queries_across, scratch.queries_along,
                      rows_of<Tiles>(scratch.rows, widths_, q_ + at, stride, tokens, padded, scale_.sign), t, padded);
            pack_both(scratch.dy_across, scratch.dy_along,
                      rows_of<Tiles>(scratch.rows, widths_, dy_ + at, stride, tokens, padded, 1), t, padded);
            for (int64_t i = 0; i < padded; i++) {
                const bool real = i < tokens;
                scratch.lse2[t + i] = real ? lse_[(row.begin + t + i) * batch_.heads + head] * attention::kLog2E : 0;
                scratch.delta[t + i] = real ? dot(dy_ + at + i * stride, y_ + at + i * stride, widths_.dim) : 0;
            }
        }
    }

    void pack_both(E* across, E* along, const Rows<E>& rows, int64_t t, int64_t padded) const {
        Tiles::panels_transposed(across + t * widths_.depth, widths_.across(), rows.x, rows.ld, widths_.depth, padded);
        Tiles::panels(along + t * kPanel, widths_.along(), rows.x, rows.ld, padded, widths_.cols);
    }

    void pack_keys(Scratch& scratch, int64_t key, int64_t keys, int64_t kv_head) const {
        const int64_t stride = batch_.kv_heads * widths_.dim;
        const int64_t at = key * stride + kv_head * widths_.dim;
        const int64_t padded = round_up(keys, kPad);
        Tiles::rows(scratch.keys, widths_.ld, k_ + at, stride, keys, widths_.dim, padded, 1);
        Tiles::rows(scratch.values, widths_.ld, v_ + at, stride, keys, widths_.dim, padded, 1);
        Tiles::transpose(scratch.keys_transposed, kKeys, scratch.keys, widths_.ld, padded, widths_.cols);
    }

    // Only strips of keys in which the tile sees any are computed, and take part in the sums.
    void run_tile(Scratch& scratch, const Row& row, const Tile& tile, int64_t key, int64_t keys) const {
        const int64_t t = tile.begin - row.begin;
        const int64_t queries = round_up(tile.end - tile.begin, kPad);
        const int64_t from = std::max<int64_t>(tile.first_key - key, 0) / kStrip * kStrip;
        const int64_t to = round_up(std::min(tile.last_key - key, keys), kStrip);
        for (int64_t r = from; r < to; r += kStrip) {
            Tiles::multiply(scratch.s, kQueries, scratch.keys + r * widths_.ld, widths_.ld,
                            scratch.queries_across + t * widths_.depth, widths_.across(), kStrip, queries, widths_.depth, false);
            Tiles::multiply(scratch.dp, kQueries, scratch.values + r * widths_.ld, widths_.ld,
                            scratch.dy_across + t * widths_.depth, widths_.across(), kStrip, queries, widths_.depth, false);
            if (r + kStrip > keys || !plan_.all_visible(tile.begin, tile.end, key + r, key + r + kStrip)) {
                mask_transposed(plan_, row, tile, scratch.s, kQueries, key + r, kStrip, queries);
            }
            Tiles::gradient(scratch.p + r * kQueries, scratch.ds + r * kQueries, kQueries, scratch.ds_panels + r * kPanel,
                            kKeys * kPanel, scratch.s, scratch.dp, kQueries, kStrip, queries, scratch.lse2 + t,
                            scratch.delta + t, scale_.factor);
        }
        Tiles::multiply(scratch.dv + from * widths_.cols, widths_.cols, scratch.p + from * kQueries, kQueries,
                        scratch.dy_along + t * kPanel, widths_.along(), to - from, widths_.cols, queries, true);
        Tiles::multiply(scratch.dk + from * widths_.cols, widths_.cols, scratch.ds + from * kQueries, kQueries,
                        scratch.queries_along + t * kPanel, widths_.along(), to - from, widths_.cols, queries, true);
        Tiles::multiply(scratch.dq + t, ld_dq(widths_), scratch.keys_transposed + from, kKeys,
                        scratch.ds_panels + from * kPanel, kKeys * kPanel, widths_.cols, queries, to - from, true);
    }

    void store_keys(const Scratch& scratch, const Sums& sums, int64_t keys, bool add) const {
        for (int64_t r = 0; r < keys; r++) {
            float* dk = scratch.dk + r * widths_.cols;
            scale_row(dk, widths_.dim, scale_.factor);
            const auto store = add ? add_row : copy_row;
            store(sums.dk + r * sums.stride, dk, widths_.dim);
            store(sums.dv + r * sums.stride, scratch.dv + r * widths_.cols, widths_.dim);
        }
    }

    const Plan& plan_;
    const Batch& batch_;
    T *dq_, *dk_, *dv_;
    const T *dy_, *q_, *k_, *v_, *y_;
    const float* lse_;
    Scale scale_;
    Widths<Tiles> widths_;
};

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t check(kt_ctx* ctx, const char* op, const Batch& batch) {
    if (batch.tokens < 0 || batch.tokens > std::numeric_limits<int32_t>::max() || batch.rows < 0 || batch.heads < 1 ||
        batch.kv_heads < 1 || batch.heads % batch.kv_heads != 0 || batch.head_dim < 1 || batch.head_dim > 256 ||
        batch.window < 0) {
        return fail(ctx, KT_BAD_ARGUMENT,
                    "%s: %lld tokens in %lld rows, %lld heads and %lld key heads of %lld, window %lld; heads must be a "
                    "multiple of key heads, of 256 at most",
                    op, static_cast<long long>(batch.tokens), static_cast<long long>(batch.rows),
                    static_cast<long long>(batch.heads), static_cast<long long>(batch.kv_heads),
                    static_cast<long long>(batch.head_dim), static_cast<long long>(batch.window));
    }
    int64_t end = 0;
    for (int64_t r = 0; r <= batch.rows; r++) {
        const int64_t start = batch.starts[r];
        if (start < end || start > batch.tokens || (r == 0 && start != 0) || (r == batch.rows && start != batch.tokens)) {
            return fail(ctx, KT_BAD_ARGUMENT, "%s: starts[%lld] is %lld; starts go from 0 to %lld without going back", op,
                        static_cast<long long>(r), static_cast<long long>(start), static_cast<long long>(batch.tokens));
        }
        end = start;
    }
    return KT_OK;
}

// Calls f with the tiles to use for a dtype on this machine.
template <typename F>
bool with_tiles(int32_t dtype, const F& f) {
#if defined(__x86_64__)
    if (dtype == KT_BF16 && processor().amx_bf16) {
        f(attention::Bf16Tiles<true>());
        return true;
    }
    if (dtype == KT_BF16 && processor().bf16_dot_products) {
        f(attention::Bf16Tiles<false>());
        return true;
    }
#endif
    return with_type(dtype, [&](auto type) { f(attention::PlainTiles<decltype(type)>()); });
}

template <typename F>
int32_t run(kt_ctx* ctx, const char* op, Batch batch, int32_t dtype, const F& f) {
    const int32_t status = check(ctx, op, batch);
    if (status != KT_OK) return status;
    if (batch.window >= batch.tokens) batch.window = 0;  // so that adding it to a token's number cannot overflow
    try {
        const Plan plan(batch);
        const bool known = with_tiles(dtype, [&](auto tiles) {
            if (batch.tokens > 0) f(plan, tiles);
        });
        return known ? KT_OK : bad_dtype(ctx, op, dtype);
    } catch (const std::bad_alloc&) {
        return fail(ctx, KT_OUT_OF_MEMORY, "%s: no memory for the tiles of %lld tokens, %lld heads of %lld", op,
                    static_cast<long long>(batch.tokens), static_cast<long long>(batch.heads),
                    static_cast<long long>(batch.head_dim));
    }
}

int32_t attention_forward(kt_ctx* ctx, void* y, float* lse, const void* q, const void* k, const void* v,
                          const int32_t* starts, const int32_t* spans, int64_t tokens, int64_t rows, int64_t heads,
                          int64_t kv_heads, int64_t head_dim, float scale, int32_t causal, int64_t window, int32_t dtype) {
    const Batch batch{starts, spans, tokens, rows, heads, kv_heads, head_dim, causal != 0, window};
    return run(ctx, "attention_forward", batch, dtype, [&](const Plan& plan, auto tiles) {
        using Tiles = decltype(tiles);
        using T = typename Tiles::Input;
        const Forward<Tiles> forward(plan, static_cast<T*>(y), lse, static_cast<const T*>(q), static_cast<const T*>(k),
                                     static_cast<const T*>(v), scale);
        forward.run(ctx);
    });
}

int32_t attention_extend(kt_ctx* ctx, void* y, const void* q, const void* k, const void* v, const int32_t* spans,
                         int64_t q_tokens, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, float scale,
                         int64_t window, int32_t dtype) {
    if (q_tokens > tokens) {
        return fail(ctx, KT_BAD_ARGUMENT, "attention_extend: %lld queries among %lld tokens",
                    static_cast<long long>(q_tokens), static_cast<long long>(tokens));
    }
    const int32_t starts[] = {0, static_cast<int32_t>(tokens)};
    const Batch batch{starts, spans, q_tokens == 0 ? 0 : tokens, 1, heads, kv_heads, head_dim, true, window, tokens - q_tokens};
    return run(ctx, "attention_extend", batch, dtype, [&](const Plan& plan, auto tiles) {
        using Tiles = decltype(tiles);
        using T = typename Tiles::Input;
        const Forward<Tiles> forward(plan, static_cast<T*>(y), nullptr, static_cast<const T*>(q), static_cast<const T*>(k),
                                     static_cast<const T*>(v), scale);
        forward.run(ctx);
    });
}

int32_t attention_backward(kt_ctx* ctx, void* dq, void* dk, void* dv, const void* dy, const void* q, const void* k,
                           const void* v, const void* y, const float* lse, const int32_t* starts, const int32_t* spans,
                           int64_t tokens, int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, float scale,
                           int32_t causal, int64_t window, int32_t dtype) {
    const Batch batch{starts, spans, tokens, rows, heads, kv_heads, head_dim, causal != 0, window};
    return run(ctx, "attention_backward", batch, dtype, [&](const Plan& plan, auto tiles) {
        using Tiles = decltype(tiles);
        using T = typename Tiles::Input;
        const Backward<Tiles> backward(plan, static_cast<T*>(dq), static_cast<T*>(dk), static_cast<T*>(dv),
                                       static_cast<const T*>(dy), static_cast<const T*>(q), static_cast<const T*>(k),
                                       static_cast<const T*>(v), static_cast<const T*>(y), lse, scale);
        backward.run(ctx);
    });
}

}  // namespace

void add_attention(kt_table& table) {
    table.attention_forward = attention_forward;
    table.attention_extend = attention_extend;
    table.attention_backward = attention_backward;
}

}  // namespace kt
