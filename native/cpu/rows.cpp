#include <cstring>

#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// ---- pieces of one thread ----------------------------------------------------------------------------------------

template <typename T>
[[gnu::always_inline]] inline void scaled_rows(T* y, const T* table, const int32_t* ids, int64_t begin, int64_t end,
                                               int64_t cols, float scale) {
    for (int64_t t = begin; t < end; t++) {
        const T* row = table + ids[t] * cols;
        T* yt = y + t * cols;
#pragma omp simd
        for (int64_t c = 0; c < cols; c++) yt[c] = store<T>(load(row[c]) * scale);
    }
}

KT_CLONES void embedding_rows(float* y, const float* table, const int32_t* ids, int64_t begin, int64_t end, int64_t cols,
                              float scale) {
    scaled_rows(y, table, ids, begin, end, cols, scale);
}
KT_CLONES void embedding_rows(bf16* y, const bf16* table, const int32_t* ids, int64_t begin, int64_t end, int64_t cols,
                              float scale) {
    scaled_rows(y, table, ids, begin, end, cols, scale);
}

// Columns [begin, end) of all rows: a thread owns columns, so that rows add up in the order of t.
template <typename T>
[[gnu::always_inline]] inline void add_slots(float* drows, const T* dy, const int32_t* slot, int64_t tokens, int64_t cols,
                                             int64_t begin, int64_t end, float scale) {
    for (int64_t t = 0; t < tokens; t++) {
        if (slot[t] < 0) continue;
        float* row = drows + slot[t] * cols;
        const T* dyt = dy + t * cols;
#pragma omp simd
        for (int64_t c = begin; c < end; c++) row[c] += load(dyt[c]) * scale;
    }
}

KT_CLONES void embedding_columns(float* drows, const float* dy, const int32_t* slot, int64_t tokens, int64_t cols,
                                 int64_t begin, int64_t end, float scale) {
    add_slots(drows, dy, slot, tokens, cols, begin, end, scale);
}
KT_CLONES void embedding_columns(float* drows, const bf16* dy, const int32_t* slot, int64_t tokens, int64_t cols,
                                 int64_t begin, int64_t end, float scale) {
    add_slots(drows, dy, slot, tokens, cols, begin, end, scale);
}

template <typename T>
[[gnu::always_inline]] inline void add_table(T* y, const T* x, const T* table, int64_t begin, int64_t end,
                                             int64_t table_rows, int64_t cols) {
    for (int64_t r = begin; r < end; r++) {
        const T* xr = x + r * cols;
        const T* row = table + r % table_rows * cols;
        T* yr = y + r * cols;
#pragma omp simd
        for (int64_t c = 0; c < cols; c++) yr[c] = store<T>(load(xr[c]) + load(row[c]));
    }
}

KT_CLONES void add_table_rows(float* y, const float* x, const float* table, int64_t begin, int64_t end, int64_t table_rows,
                              int64_t cols) {
    add_table(y, x, table, begin, end, table_rows, cols);
}
KT_CLONES void add_table_rows(bf16* y, const bf16* x, const bf16* table, int64_t begin, int64_t end, int64_t table_rows,
                              int64_t cols) {
    add_table(y, x, table, begin, end, table_rows, cols);
}

// Columns [begin, end) of one row of the table. Groups of rows are summed before they join the total: the error grows
// with the length of a group and their number instead of their product.
template <typename T>
[[gnu::always_inline]] inline void sum_columns(float* dtable, const T* dy, int64_t rows, int64_t step, int64_t cols,
                                               int64_t begin, int64_t end) {
    constexpr int64_t kGroup = 64;
    constexpr int64_t kBlock = 1024;
    float sum[kBlock];
    for (int64_t first = begin; first < end; first += kBlock) {
        const int64_t n = std::min(kBlock, end - first);
        float* total = dtable + first;
        std::memset(total, 0, static_cast<size_t>(n) * sizeof(float));
        for (int64_t group = 0; group < rows; group += kGroup * step) {
            std::memset(sum, 0, sizeof sum);
            for (int64_t r = group; r < std::min(rows, group + kGroup * step); r += step) {
                const T* row = dy + r * cols + first;
#pragma omp simd
                for (int64_t c = 0; c < n; c++) sum[c] += load(row[c]);
            }
#pragma omp simd
            for (int64_t c = 0; c < n; c++) total[c] += sum[c];
        }
    }
}

KT_CLONES void sum_row(float* dtable, const float* dy, int64_t rows, int64_t step, int64_t cols, int64_t begin,
                       int64_t end) {
    sum_columns(dtable, dy, rows, step, cols, begin, end);
}
KT_CLONES void sum_row(float* dtable, const bf16* dy, int64_t rows, int64_t step, int64_t cols, int64_t begin,
                       int64_t end) {
    sum_columns(dtable, dy, rows, step, cols, begin, end);
}

// ---- entries -----------------------------------------------------------------------------------------------------

// Whether each index is in [0, rows); leaves the text of the failure where one is not.
bool inside(kt_ctx* ctx, const char* op, const int32_t* index, int64_t n, int64_t rows) {
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= rows) {
            fail(ctx, KT_BAD_ARGUMENT, "%s: index %d at %lld is outside [0, %lld)", op, static_cast<int>(index[i]),
                 static_cast<long long>(i), static_cast<long long>(rows));
            return false;
        }
    }
    return true;
}

int32_t embedding_forward(kt_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t tokens, int64_t vocab,
                          int64_t cols, float scale, int32_t dtype) {
    if (!inside(ctx, "embedding_forward", ids, tokens, vocab)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, tokens, rows_grain(cols), [&](int64_t begin, int64_t end) {
            embedding_rows(static_cast<T*>(y), static_cast<const T*>(table), ids, begin, end, cols, scale);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "embedding_forward", dtype);
}

int32_t embedding_backward(kt_ctx* ctx, float* drows, const void* dy, const int32_t* slot, int64_t tokens, int64_t slots,
                           int64_t cols, float scale, int32_t dtype) {
    for (int64_t t = 0; t < tokens; t++) {
        if (slot[t] >= slots) {
            return fail(ctx, KT_BAD_ARGUMENT, "embedding_backward: slot %d at %lld is outside [0, %lld)",
                        static_cast<int>(slot[t]), static_cast<long long>(t), static_cast<long long>(slots));
        }
    }
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, cols, rows_grain(tokens), [&](int64_t begin, int64_t end) {
            embedding_columns(drows, static_cast<const T*>(dy), slot, tokens, cols, begin, end, scale);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "embedding_backward", dtype);
}

int32_t gather_rows(kt_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t x_rows, int64_t cols,
                    int32_t dtype) {
    if (!inside(ctx, "gather_rows", index, n, x_rows)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, rows_grain(cols), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) {
                std::memcpy(static_cast<T*>(y) + i * cols, static_cast<const T*>(x) + index[i] * cols,
                            static_cast<size_t>(cols) * sizeof(T));
            }
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "gather_rows", dtype);
}

int32_t scatter_rows(kt_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t y_rows, int64_t cols,
                     int32_t dtype) {
    if (!inside(ctx, "scatter_rows", index, n, y_rows)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, rows_grain(cols), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) {
                T* row = static_cast<T*>(y) + index[i] * cols;
                const size_t bytes = static_cast<size_t>(cols) * sizeof(T);
                if (x) {
                    std::memcpy(row, static_cast<const T*>(x) + i * cols, bytes);
                } else {
                    std::memset(row, 0, bytes);
                }
            }
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "scatter_rows", dtype);
}

int32_t add_rows(kt_ctx* ctx, void* y, const void* x, const void* table, int64_t rows, int64_t table_rows, int64_t cols,
                 int32_t dtype) {
    if (table_rows < 1 && rows > 0) return fail(ctx, KT_BAD_ARGUMENT, "add_rows: the table has no rows");
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
            add_table_rows(static_cast<T*>(y), static_cast<const T*>(x), static_cast<const T*>(table), begin, end,
                           table_rows, cols);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "add_rows", dtype);
}

int32_t sum_rows(kt_ctx* ctx, float* dtable, const void* dy, int64_t rows, int64_t table_rows, int64_t cols,
                 int32_t dtype) {
    if (table_rows < 1 && rows > 0) return fail(ctx, KT_BAD_ARGUMENT, "sum_rows: the table has no rows");
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        // A thread owns a stretch of the flattened table.
        const int64_t n = table_rows * cols;
        parallel_for(ctx, n, rows_grain(rows / std::max<int64_t>(table_rows, 1)), [&](int64_t begin, int64_t end) {
            while (begin < end) {
                const int64_t t = begin / cols;
                const int64_t first = begin - t * cols;
                const int64_t last = std::min(cols, first + end - begin);
                sum_row(dtable + t * cols, static_cast<const T*>(dy) + t * cols, std::max<int64_t>(rows - t, 0), table_rows,
                        cols, first, last);
                begin += last - first;
            }
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "sum_rows", dtype);
}

}  // namespace

void add_rows_kernels(kt_table& table) {
    table.embedding_forward = embedding_forward;
    table.embedding_backward = embedding_backward;
    table.gather_rows = gather_rows;
    table.scatter_rows = scatter_rows;
    table.add_rows = add_rows;
    table.sum_rows = sum_rows;
}

}  // namespace kt
