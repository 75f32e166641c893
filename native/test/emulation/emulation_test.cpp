// The emulation itself: what its instructions compute, by a second source where there is one, and that mistakes are reported.
#include "check.h"
#include "device.cuh"
#include "machine.h"

#define CHECK(condition) ((condition) ? void(++passed) : fail_case(#condition, "line " + std::to_string(__LINE__)))

namespace {

std::string error_of(cudaError_t e) { return e == cudaSuccess ? "" : cudaGetErrorString(e); }
bool says(cudaError_t e, const std::string& text) {
    if (error_of(e).find(text) != std::string::npos) return true;
    printf("  said: %s\n", error_of(e).c_str());
    return false;
}

// ---- warp operations ----

__global__ void shuffles(int* out) {               // [5, 32]
    const int lane = threadIdx.x;
    int scan = lane + 1;
    for (int d = 1; d < 32; d *= 2) {
        int below = __shfl_up_sync(0xffffffff, scan, d);
        if (lane >= d) scan += below;
    }
    out[lane] = scan;
    out[32 + lane] = __shfl_sync(0xffffffff, lane, 11, 8);
    out[64 + lane] = __shfl_down_sync(0xffffffff, lane, 3, 16);
    out[96 + lane] = __shfl_xor_sync(0xffffffff, lane, 5);
    out[128 + lane] = lane < 20 ? int(__ballot_sync(0x000fffff, lane % 3 == 0)) : 0;
}

// The layouts that CUTLASS (CuTe, MMA_Traits of SM80_16x8x16) states for this instruction: an independent description.
struct Index { int row, column; };
Index a_index(int lane, int v) { int i = lane % 4 * 32 + lane / 4 + v % 2 * 16 + v / 2 % 2 * 8 + v / 4 * 128; return {i % 16, i / 16}; }      // m, k
Index b_index(int lane, int v) { int i = lane % 4 * 16 + lane / 4 + v % 2 * 8 + v / 2 * 64; return {i % 8, i / 8}; }                           // n, k
Index c_index(int lane, int v) { int i = lane % 4 * 32 + lane / 4 + v % 2 * 16 + v / 2 * 8; return {i % 16, i / 16}; }                         // m, n

struct Matrices { bf16 a[16][16], b[8][16]; float c[16][8]; };
__global__ void mma_from_registers(float* d, const Matrices* m) {
    const int lane = threadIdx.x;
    uint32_t a[4], b[2];
    float c[4];
    for (int v = 0; v < 8; v += 2) {
        Index low = a_index(lane, v), high = a_index(lane, v + 1);
        a[v / 2] = m->a[low.row][low.column].bits | uint32_t(m->a[high.row][high.column].bits) << 16;
    }
    for (int v = 0; v < 4; v += 2) {
        Index low = b_index(lane, v), high = b_index(lane, v + 1);
        b[v / 2] = m->b[low.row][low.column].bits | uint32_t(m->b[high.row][high.column].bits) << 16;
    }
    for (int v = 0; v < 4; ++v) c[v] = m->c[c_index(lane, v).row][c_index(lane, v).column];
    mma_m16n8k16_bf16(c, a, b);
    for (int v = 0; v < 4; ++v) d[c_index(lane, v).row * 8 + c_index(lane, v).column] = c[v];
}
__global__ void mma_from_shared(float* d, const Matrices* m, bool transposed) {
    struct alignas(16) Tile { bf16 a[16][16], b[16][16]; };
    auto& t = *dynamic_shared<Tile>();
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) {
        t.a[i / 16][i % 16] = m->a[i / 16][i % 16];
        const int n = i / 16, k = i % 16;                // b twice: rows n + 8 repeat n
        (transposed ? t.b[k][n] : t.b[n][k]) = m->b[n % 8][k];
    }
    __syncwarp();
    uint32_t a[4], b[4];
    ldmatrix_x4(a, &t.a[lane % 16][lane / 16 * 8]);
    if (transposed) ldmatrix_x4_trans(b, &t.b[lane % 16][lane / 16 * 8]);
    else ldmatrix_x4(b, &t.b[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
    float c[2][4];
    for (int n = 0; n < 2; ++n) {
        for (int v = 0; v < 4; ++v) c[n][v] = m->c[c_index(lane, v).row][c_index(lane, v).column];
        mma_m16n8k16_bf16(c[n], a, b + 2 * n);
    }
    for (int v = 0; v < 4; ++v) d[c_index(lane, v).row * 8 + c_index(lane, v).column] = c[0][v] == c[1][v] ? c[0][v] : NAN;
}

void test_warp_operations() {
    auto out = buffer<int>(160);
    CHECK(launch(shuffles, 1, 32, 0, nullptr, out.data()) == cudaSuccess);
    bool good = true;
    for (int i = 0; i < 32; ++i)
        good = good && out[i] == (i + 1) * (i + 2) / 2 && out[32 + i] == i / 8 * 8 + 3 && out[64 + i] == (i % 16 + 3 < 16 ? i + 3 : i) && out[96 + i] == (i ^ 5) &&
                      out[128 + i] == (i < 20 ? 0b01001001001001001001 : 0);
    CHECK(good);

    auto m = buffer<Matrices>(1);
    auto d = buffer<float>(128);
    for (auto& row : m[0].a) for (auto& x : row) set(x, float(int(generator() % 17) - 8));
    for (auto& row : m[0].b) for (auto& x : row) set(x, float(int(generator() % 17) - 8));
    for (auto& row : m[0].c) for (auto& x : row) x = float(generator() % 100);
    auto equal = [&] {                                 // small integers: every sum is exact
        for (int i = 0; i < 16; ++i)
            for (int j = 0; j < 8; ++j) {
                double sum = m[0].c[i][j];
                for (int k = 0; k < 16; ++k) sum += value(m[0].a[i][k]) * value(m[0].b[j][k]);
                if (d[i * 8 + j] != sum) return false;
            }
        return true;
    };
    CHECK(launch(mma_from_registers, 1, 32, 0, nullptr, d.data(), m.data()) == cudaSuccess && equal());
    CHECK(launch(mma_from_shared, 1, 32, 1024, nullptr, d.data(), m.data(), false) == cudaSuccess && equal());
    CHECK(launch(mma_from_shared, 1, 32, 1024, nullptr, d.data(), m.data(), true) == cudaSuccess && equal());
}

// ---- products of four warps ----

struct WideMatrices { bf16 a[64][16], b[64][16], v[16][64]; };
struct WidePieces { alignas(128) bf16 a[8][2][8][8], b[8][2][8][8], v[2][8][8][8]; };     // of 8 rows of 16 bytes
// d[64, 64] = 2 a b' from shared memory, or = a v with a in registers; `waits`: as it must.
__global__ void products(float* d, const WideMatrices* m, bool registers, bool waits) {
    auto& s = *dynamic_shared<WidePieces>();
    const int t = threadIdx.x, lane = t % 32, warp = t / 32;
    for (int k = 0; t < 64 && k < 16; k++) s.a[t / 8][k / 8][t % 8][k % 8] = m->a[t][k], s.b[t / 8][k / 8][t % 8][k % 8] = m->b[t][k];
    for (int n = 0; t < 16 && n < 64; n++) s.v[t / 8][n / 8][t % 8][n % 8] = m->v[t][n];
    fence_for_products();
    __syncthreads();
    float c[8][4] = {};
    uint32_t a[4];
    for (int r = 0; r < 4; r++) {
        const Index i = a_index(lane, 2 * r);           // and the next column
        a[r] = m->a[warp * 16 + i.row][i.column].bits | uint32_t(m->a[warp * 16 + i.row][i.column + 1].bits) << 16;
    }
    products_begin();
    if (registers) {
        multiply_registers<64>(c, a, matrix_descriptor(&s.v, 8 * 128, 128));
    } else {
        multiply_shared<false>(c, matrix_descriptor(&s.a, 128, 2 * 128), matrix_descriptor(&s.b, 128, 2 * 128));
        multiply_shared<true>(c, matrix_descriptor(&s.a, 128, 2 * 128), matrix_descriptor(&s.b, 128, 2 * 128));
    }
    products_commit();
    if (waits) products_wait<0>();
    for (int n = 0; n < 8; n++) {
        for (int r = 0; r < 4; r++) {
            const Index i = c_index(lane, r);
            d[(warp * 16 + i.row) * 64 + n * 8 + i.column] = c[n][r];
        }
    }
}

void test_products() {
    auto m = buffer<WideMatrices>(1);
    for (auto* x = &m[0].a[0][0]; x < &m[0].a[0][0] + sizeof(WideMatrices) / sizeof(bf16); ++x) set(*x, float(int(generator() % 33) - 16));
    auto d = buffer<float>(64 * 64);
    for (bool registers : {false, true}) {
        CHECK(launch(products, 1, 128, sizeof(WidePieces), nullptr, d.data(), m.data(), registers, true) == cudaSuccess);
        for (int i = 0; i < 64; ++i) {
            for (int j = 0; j < 64; ++j) {
                double sum = 0;
                for (int k = 0; k < 16; ++k) sum += value(m[0].a[i][k]) * (registers ? value(m[0].v[k][j]) : 2 * value(m[0].b[j][k]));
                if (d[i * 64 + j] != sum) return fail_case("products", std::to_string(i) + ", " + std::to_string(j));
            }
        }
        ++passed;
    }
    const cudaError_t e = launch(products, 1, 128, sizeof(WidePieces), nullptr, d.data(), m.data(), false, false);
    CHECK(e == cudaSuccess ? std::strcmp(order_name, "plain") != 0 : says(e, "has not waited for this product"));
}

// ---- shared memory and copies ----

template <int N> __device__ float* static_array() {
    __shared__ float array[N];
    return array;
}
__global__ void first_values(float* out) {           // of a static array, of one in a template, of dynamic shared memory
    __shared__ float array[8];
    out[blockIdx.x * 3] = array[7];
    out[blockIdx.x * 3 + 1] = static_array<5>()[4];
    out[blockIdx.x * 3 + 2] = dynamic_shared<float>()[3];
    array[7] = static_array<5>()[4] = dynamic_shared<float>()[3] = 1;      // must not be there in the next block
}
__global__ void copies(float* out, const float* in) {
    auto s = dynamic_shared<float4>();
    cp_async_16(&s[0], in, true);
    cp_async_commit();
    cp_async_16(&s[1], in, false);
    cp_async_commit();
    cp_async_wait<1>();
    out[0] = s[0].w;
    cp_async_wait<0>();
    out[1] = s[1].w;
}
__global__ void add_all(float* sum) { atomicAdd(sum, float(threadIdx.x)); }

void test_memory() {
    auto out = buffer<float>(9);
    [[maybe_unused]] const cudaError_t e = launch(first_values, 3, 1, 16, nullptr, out.data());
#ifndef __SANITIZE_ADDRESS__                         // there static arrays are not poisoned
    if (emu::access_hook) CHECK(says(e, "reads shared memory that no thread of this block has written"));
    else for (float x : out) CHECK(e == cudaSuccess && std::isnan(x));
#endif
    auto in = buffer<float>(4);
    in[3] = 5;
    CHECK(launch(copies, 1, 1, 32, nullptr, out.data(), in.data()) == cudaSuccess && out[0] == 5 && out[1] == 0);
    out[0] = 0;
    CHECK(launch(add_all, 7, 100, 0, nullptr, out.data()) == cudaSuccess && out[0] == 7 * 4950);
}

// ---- reports ----

__global__ void leaves_before_barrier() { if (threadIdx.x != 3) __syncthreads(); }
__global__ void waits_elsewhere() { if (threadIdx.x < 32) __syncthreads(); else __syncthreads(); }       // the same line, which is allowed
__global__ void waits_at_other_line() {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
__global__ void lanes_part(int* out) {
    int v = threadIdx.x;
    out[v] = v % 2 ? __shfl_xor_sync(0xffffffff, v, 1) : __shfl_down_sync(0xffffffff, v, 1);
}
__global__ void reads_outside_mask(int* out) { if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffff, 1, 20); }
__global__ void misaligned() { uint32_t r[4]; ldmatrix_x4(r, dynamic_shared<char>() + 2); }
__global__ void copy_not_awaited(const float* in) { cp_async_16(dynamic_shared<float>(), in, true); }
__global__ void nothing() {}

// The runtime remembers a failure until somebody asks for it, and every launch asks.
void test_last_error() {
    void* memory = nullptr;
    CHECK(cudaMallocAsync(&memory, size_t{1} << 50, nullptr) == cudaErrorMemoryAllocation);
    CHECK(launch(nothing, 1, 32, 0, nullptr) == cudaErrorMemoryAllocation);
    CHECK(launch(nothing, 1, 32, 0, nullptr) == cudaSuccess);
    CHECK(cudaMallocAsync(&memory, size_t{1} << 50, nullptr) == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    CHECK(launch(nothing, 1, 32, 0, nullptr) == cudaSuccess);
    for (dim3 grid : {dim3(1u << 31), dim3(1, 65536), dim3(1, 1, 65536)}) {
        CHECK(launch(nothing, grid, 32, 0, nullptr) == cudaErrorInvalidConfiguration);
    }
}

// For the race check.
__global__ void neighbour(int* out) {
    __shared__ int s[64];
    s[threadIdx.x] = 1;
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1] + s[threadIdx.x ^ 32];
}
__global__ void neighbour_in_warp(int* out, bool sync) {
    __shared__ int s[64];
    for (int i = 0; i < 3; ++i) {
        s[threadIdx.x] = i;
        if (sync) __syncwarp();
        out[threadIdx.x] = s[threadIdx.x ^ 1];
        if (sync) __syncwarp();
    }
}
__global__ void sum_in_shared(int* out) {            // correct: no report
    __shared__ int s[32];
    const int lane = threadIdx.x;
    s[lane] = lane;
    __syncwarp();
    for (int step = 16; step > 0; step /= 2) {
        const int other = s[(lane + step) % 32];
        __syncwarp();
        s[lane] += other;
        __syncwarp();
    }
    out[lane] = s[lane];
}
__global__ void blocks_meet(int* out) { if (threadIdx.x == 0) out[0] += 1; }
__global__ void beyond(int* out) { out[threadIdx.x] = 1; }
__global__ void beyond_in_min(int* out, const int* in) { out[0] = min(in[64], int(threadIdx.x)); }

void test_reports() {
    auto out = buffer<int>(64);
    auto in = buffer<float>(4);
    CHECK(says(launch(leaves_before_barrier, 1, 64, 0, nullptr), "cannot go on: 1 threads (first 3) have exited; 63 threads (first 0) wait in __syncthreads at emulation_test.cpp:"));
    CHECK(launch(waits_elsewhere, 1, 64, 0, nullptr) == cudaSuccess);
    CHECK(says(launch(waits_at_other_line, 1, 64, 0, nullptr), "wait at another barrier"));
    CHECK(says(launch(lanes_part, 1, 32, 0, nullptr, out.data()), "is in __shfl"));
    CHECK(says(launch(reads_outside_mask, 1, 32, 0, nullptr, out.data()), "shuffles from lane 20, which is not in the mask"));
    CHECK(says(launch(lanes_part, 1, 20, 0, nullptr, out.data()), "names lanes that the block does not have"));
    CHECK(says(launch(misaligned, 1, 32, 64, nullptr), "is not a multiple of 16"));
    CHECK(says(launch(copy_not_awaited, 1, 1, 16, nullptr, in.data()), "has not waited for this asynchronous copy"));
    CHECK(launch(nothing, 1, 1025, 0, nullptr) == cudaErrorInvalidConfiguration);
    CHECK(launch(nothing, 1, 32, 100 << 10, nullptr) == cudaErrorInvalidValue);
    CHECK(launch(nothing, 1, 32, 0, nullptr) == cudaSuccess);          // after all those failures
    if (!emu::access_hook) return;
    CHECK(says(launch(neighbour, 1, 64, 0, nullptr, out.data()), "shared memory"));
    CHECK(says(launch(neighbour_in_warp, 1, 64, 0, nullptr, out.data(), false), "shared memory"));
    CHECK(launch(neighbour_in_warp, 1, 64, 0, nullptr, out.data(), true) == cudaSuccess);
    CHECK(launch(sum_in_shared, 1, 32, 0, nullptr, out.data()) == cudaSuccess && out[5] == 496);
    out[0] = 0;
    CHECK(launch(blocks_meet, 1, 64, 0, nullptr, out.data()) == cudaSuccess);
    CHECK(says(launch(blocks_meet, 2, 64, 0, nullptr, out.data()), "of another block wrote at emulation_test.cpp"));
    CHECK(says(launch(beyond, 1, 65, 0, nullptr, out.data()), "writes 4 bytes outside of every buffer"));
    CHECK(says(launch(beyond_in_min, 1, 1, 0, nullptr, out.data(), out.data()), "emulation_test.cpp:"));       // not the library's line
}

// ---- conversions; conversions_exhaustive.cpp compares all 2^32 floats with CUDA's headers ----

void test_conversions() {
    auto b = [](float f) { return __float2bfloat16_rn(f).bits; };
    auto h = [](float f) { return __float2half_rn(f).bits; };
    CHECK(b(1.00390625f) == 0x3f80 && b(1.01171875f) == 0x3f82 && b(1.0040f) == 0x3f81);       // ties to even; above a tie
    CHECK(b(3.4e38f) == 0x7f80 && b(-INFINITY) == 0xff80 && b(NAN) == 0x7fff && b(-0.0f) == 0x8000);
    CHECK(h(65519) == 0x7bff && h(65520) == 0x7c00 && h(0x1p-24f) == 1 && h(0x1p-25f) == 0 && h(0x1.8p-24f) == 2 && h(-0x1p-14f) == 0x8400);
    for (int i = 0; i < 65536; ++i) {
        __half x{uint16_t(i)};
        if ((i & 0x7fff) <= 0x7c00 && h(__half2float(x)) != i) return fail_case("half round trip", std::to_string(i));
    }
    ++passed;
}

}  // namespace

int main(int argc, char** argv) {
    return run_orders(argc, argv, [] {
        test_last_error();
        test_warp_operations();
        test_products();
        test_memory();
        test_reports();
        test_conversions();
    });
}
