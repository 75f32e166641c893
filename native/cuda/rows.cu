// Rows chosen by an index: embedding, gather, scatter; and tables added to rows. A block owns a row.
#include "column_sums.cuh"
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kThreads = 256;

__device__ inline void report(unsigned long long* fault, int64_t at, int32_t index) {
    atomicMin(fault, static_cast<unsigned long long>(at) << 32 | static_cast<uint32_t>(index));
}

// y[i,:] = x[index[i],:] * scale.
template <typename T>
__global__ void __launch_bounds__(kThreads) gather_kernel(T* y, const T* x, const int32_t* index, int64_t x_rows,
                                                          int64_t cols, float scale, bool aligned,
                                                          unsigned long long* fault) {
    const int64_t i = blockIdx.x;
    const int32_t from = index[i];
    if (from < 0 || from >= x_rows) {
        if (threadIdx.x == 0) report(fault, i, from);
        return;
    }
    x += from * cols;
    y += i * cols;
    for (int64_t c = int64_t(threadIdx.x) * 8; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8];
        load8(v, x + c, count, aligned);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] *= scale;
        store8(y + c, v, count, aligned);
    }
}

// y[index[i],:] = x[i,:], or zeros.
template <typename T>
__global__ void __launch_bounds__(kThreads) scatter_kernel(T* y, const T* x, const int32_t* index, int64_t y_rows,
                                                           int64_t cols, bool aligned, unsigned long long* fault) {
    const int64_t i = blockIdx.x;
    const int32_t to = index[i];
    if (to < 0 || to >= y_rows) {
        if (threadIdx.x == 0) report(fault, i, to);
        return;
    }
    y += to * cols;
    for (int64_t c = int64_t(threadIdx.x) * 8; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8] = {};
        if (x) load8(v, x + i * cols + c, count, aligned);
        store8(y + c, v, count, aligned);
    }
}

// drows[slot[t],:] += dy[t,:] * scale. A block owns a slot; it goes through all tokens, kThreads at a time, and adds those
// of its own in their order.
template <typename T>
__global__ void __launch_bounds__(kThreads) add_slots_kernel(float* drows, const T* dy, const int32_t* slot, int64_t tokens,
                                                             int64_t slots, int64_t cols, float scale,
                                                             unsigned long long* fault) {
    __shared__ unsigned mine[kThreads / 32];
    const int64_t own = blockIdx.x;
    drows += own * cols;
    for (int64_t from = 0; from < tokens; from += kThreads) {
        const int64_t t = from + threadIdx.x;
        const int32_t s = t < tokens ? slot[t] : -1;
        if (own == 0 && s >= slots) report(fault, t, s);
        const unsigned found = __ballot_sync(kWarp, s == own);
        if (threadIdx.x % 32 == 0) mine[threadIdx.x / 32] = found;
        __syncthreads();
        for (int w = 0; w < kThreads / 32; w++) {
            for (unsigned rest = mine[w]; rest != 0; rest &= rest - 1) {
                const T* row = dy + (from + w * 32 + __ffs(static_cast<int>(rest)) - 1) * cols;
                for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
                    drows[c] = __fadd_rn(drows[c], __fmul_rn(load(row[c]), scale));
                }
            }
        }
        __syncthreads();  // the next round writes `mine` again
    }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) add_table_kernel(T* y, const T* x, const T* table, int64_t table_rows,
                                                             int64_t cols, bool aligned) {
    const int64_t row = blockIdx.x;
    x += row * cols;
    y += row * cols;
    table += row % table_rows * cols;
    for (int64_t c = int64_t(threadIdx.x) * 8; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8], w[8];
        load8(v, x + c, count, aligned);
        load8(w, table + c, count, aligned);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] += w[j];
        store8(y + c, v, count, aligned);
    }
}

// dy as a matrix whose rows are whole tables; the last may be short.
template <typename T>
struct TableTerm {
    const T* dy;
    int64_t width, n;

    __device__ float operator()(int64_t row, int64_t c) const {
        const int64_t i = row * width + c;
        return i < n ? load(dy[i]) : 0.0f;
    }
};

int32_t gather(kt_ctx* ctx, const char* op, Checked entry, void* y, const void* x, const int32_t* index, int64_t n,
               int64_t x_rows, int64_t cols, float scale, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, op, gather_kernel<T>, blocks_of(n, 1), kThreads, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), index, x_rows, cols, scale, cols % 8 == 0 && aligned16(y, x),
                       fault_word(ctx, entry, x_rows));
    });
    if (!known) return bad_dtype(ctx, op, dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t embedding_forward(kt_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t tokens, int64_t vocab,
                          int64_t cols, float scale, int32_t dtype) {
    return gather(ctx, "embedding_forward", Checked::embedding_forward, y, table, ids, tokens, vocab, cols, scale, dtype);
}

int32_t embedding_backward(kt_ctx* ctx, float* drows, const void* dy, const int32_t* slot, int64_t tokens, int64_t slots,
                           int64_t cols, float scale, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "embedding_backward", add_slots_kernel<T>, blocks_of(slots, 1), kThreads, 0, drows,
                       static_cast<const T*>(dy), slot, tokens, slots, cols, scale,
                       fault_word(ctx, Checked::embedding_backward, slots));
    });
    if (!known) return bad_dtype(ctx, "embedding_backward", dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t gather_rows(kt_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t x_rows, int64_t cols,
                    int32_t dtype) {
    return gather(ctx, "gather_rows", Checked::gather_rows, y, x, index, n, x_rows, cols, 1.0f, dtype);
}

int32_t scatter_rows(kt_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t y_rows, int64_t cols,
                     int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "scatter_rows", scatter_kernel<T>, blocks_of(n, 1), kThreads, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), index, y_rows, cols, cols % 8 == 0 && aligned16(y, x),
                       fault_word(ctx, Checked::scatter_rows, y_rows));
    });
    if (!known) return bad_dtype(ctx, "scatter_rows", dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t add_rows(kt_ctx* ctx, void* y, const void* x, const void* table, int64_t rows, int64_t table_rows, int64_t cols,
                 int32_t dtype) {
    if (table_rows < 1 && rows > 0) return fail(ctx, KT_BAD_ARGUMENT, "add_rows: the table has no rows");
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "add_rows", add_table_kernel<T>, blocks_of(rows, 1), kThreads, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), static_cast<const T*>(table), table_rows, cols,
                       cols % 8 == 0 && aligned16(y, x, table));
    });
    return known ? status : bad_dtype(ctx, "add_rows", dtype);
}

int32_t sum_rows(kt_ctx* ctx, float* dtable, const void* dy, int64_t rows, int64_t table_rows, int64_t cols,
                 int32_t dtype) {
    if (table_rows < 1 && rows > 0) return fail(ctx, KT_BAD_ARGUMENT, "sum_rows: the table has no rows");
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const int64_t tables = (rows + std::max<int64_t>(table_rows, 1) - 1) / std::max<int64_t>(table_rows, 1);
        status = column_sums(ctx, "sum_rows", dtable, tables, table_rows * cols,
                             TableTerm<T>{static_cast<const T*>(dy), table_rows * cols, rows * cols});
    });
    return known ? status : bad_dtype(ctx, "sum_rows", dtype);
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
