// CUDA on a CPU: enough of CUDA to compile the project's kernels as plain C++ and run them in tests without a GPU.
//
// Blocks run one after another. The threads of a block are fibers; each runs until it needs the others. A warp operation
// (shuffle, ldmatrix, mma) is carried out once, for all lanes, by the last lane that arrives. The order in which fibers run,
// and the moment at which asynchronous copies land, are chosen by set_order(): a kernel with a race gives a wrong
// result in at least one of them. Nothing here knows about speed: no caches, no bank conflicts, no occupancy.
//
// Errors (a barrier that not every thread reaches, lanes at different operations, a misaligned copy ...) end the launch,
// which returns cudaErrorLaunchFailure; cudaGetErrorString then says which threads waited at which line.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
// Thread-local, because then all shared arrays of this library lie in one segment (its TLS block), which the emulator fills
// with NaN before every block, and because launches from two host threads do not meet. AddressSanitizer guards the ends
// of ordinary static arrays only, so under it the array is one.
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

// ---- types ------------------------------------------------------------------------------------------------------------------

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {} };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
using std::max;
using std::min;

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidDevice = 101,
    cudaErrorLaunchFailure = 719
};
using cudaStream_t = struct CUstream_st*;
const char* cudaGetErrorString(cudaError_t);  // for cudaErrorLaunchFailure: what the emulator found in this host thread

// Of the runtime, what the library of kernels calls. One device; every stream is done with its work when a call returns;
// device memory is the host's, of exactly the size asked for, full of NaN, and named to the race check.
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
constexpr unsigned cudaHostAllocMapped = 2;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int);
cudaError_t cudaMallocAsync(void**, size_t bytes, cudaStream_t);
cudaError_t cudaFreeAsync(void*, cudaStream_t);
cudaError_t cudaHostAlloc(void**, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaMemsetAsync(void*, int value, size_t bytes, cudaStream_t);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaGetLastError();  // the last failure of this host thread's calls, which is forgotten then

template <class To, class From> inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float f) { return bits_as<unsigned>(f); }
inline float __uint_as_float(unsigned u) { return bits_as<float>(u); }

// Storage types without operators: kernels convert and compute in float, as the project's numerics demand.
struct __nv_bfloat16 { uint16_t bits; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
struct __half { uint16_t bits; };
struct alignas(4) __half2 { __half x, y; };

inline float __bfloat162float(__nv_bfloat16 b) { return bits_as<float>(uint32_t(b.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) {      // to nearest even; every NaN becomes 0x7fff, as on the device
    uint32_t u = bits_as<uint32_t>(f);
    if ((u & 0x7fffffff) > 0x7f800000) return {0x7fff};
    return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 b) { return {__bfloat162float(b.x), __bfloat162float(b.y)}; }

inline float __half2float(__half h) {
    uint32_t sign = uint32_t(h.bits & 0x8000) << 16, rest = h.bits & 0x7fff;
    if (rest >= 0x7c00) return bits_as<float>(rest > 0x7c00 ? 0x7fffffff : sign | 0x7f800000);
    float magnitude = rest < 0x400 ? float(rest) * 0x1p-24f : bits_as<float>((rest << 13) + 0x38000000);
    return sign ? -magnitude : magnitude;
}
inline __half __float2half_rn(float f) {
    uint32_t u = bits_as<uint32_t>(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff, h;
    if (a > 0x7f800000) return {0x7fff};
    if (a >= 0x477ff000) h = 0x7c00;                                                     // 65520 and above: infinity
    else if (a >= 0x38800000) h = (a + 0xfff + (a >> 13 & 1) - 0x38000000) >> 13;        // normal
    else h = bits_as<uint32_t>(bits_as<float>(a) + 0.5f) - 0x3f000000;                   // subnormal: 0.5 has the ulp 2^-24, so the addition rounds
    return {uint16_t(sign | h)};
}

// ---- execution model --------------------------------------------------------------------------------------------------------

namespace emu {

struct Where { const char* file; int line; };                                           // a call site, for messages
inline Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

// Plain: ascending, copies land when they are waited for. Reversed: descending, copies land at once. Shuffled: by seed, both.
enum class Order { plain, reversed, shuffled };
void set_order(Order, unsigned seed = 0);         // for this host thread; a new one starts with $CUDA_ON_CPU_ORDER, else plain

// Names the global memory that kernels may touch; once some is named, the race check reports an access anywhere else.
void name_memory(void*, size_t bytes);
void forget_memory(void*);

struct Registers { uint3 thread, block, block_size, grid_size; struct Machine* machine; };   // of the fiber that runs now
extern thread_local Registers registers;

cudaError_t run(dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* context);
cudaError_t note(cudaError_t);                                                          // for cudaGetLastError
[[noreturn]] void fail(Where, const char* format, ...);                                 // ends the launch; called in a fiber
void* shared_bytes();                                                                   // dynamic shared memory of this block
void barrier(Where);
int lane();
void copy_async(void* shared, const void* global, int bytes, Where);                    // 16 bytes; the rest becomes zero
void commit_copies();
void wait_copies(int pending);                                                          // groups that may still be under way
void check_aligned(const void*, int bytes, Where);
void load_for(int lane, void* to, const void* shared, int bytes, Where);                // a read on behalf of that lane of this warp

// Hopper's matrix products of four warps: each warp carries out its 16 rows, when the product is waited for or at once, as copies.
struct Product {
    float (*d)[4];
    uint32_t a[4];                                                                      // where the left operand is in registers
    uint64_t left, right;                                                               // descriptors; left: 0 for registers
    int columns;
    bool add;
};
void multiply(Product, Where);
void commit_products(Where);
void wait_products(int pending, Where);

// One lane's part in a warp operation. `perform` runs once, in the last lane of the mask, with everyone's operands.
using Perform = void (*)(void* const operands[32], unsigned mask, Where);
void warp_operation(const char* name, unsigned mask, Perform, void* operands, Where);

struct Shuffle { uint64_t in, out; int source; };
inline void perform_shuffle(void* const operands[32], unsigned mask, Where at) {
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        auto& mine = *static_cast<Shuffle*>(operands[i]);
        if (!(mask >> mine.source & 1)) fail(at, "lane %d shuffles from lane %d, which is not in the mask", i, mine.source);
        mine.out = static_cast<Shuffle*>(operands[mine.source])->in;
    }
}
template <class T> T shuffle(const char* name, unsigned mask, T value, int source, Where at) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    Shuffle s{0, 0, source};
    std::memcpy(&s.in, &value, sizeof value);
    warp_operation(name, mask, perform_shuffle, &s, at);
    std::memcpy(&value, &s.out, sizeof value);
    return value;
}

struct Vote { bool in; unsigned out; };
inline void perform_ballot(void* const operands[32], unsigned mask, Where) {
    unsigned ballot = 0;
    for (int i = 0; i < 32; ++i) if (mask >> i & 1 && static_cast<Vote*>(operands[i])->in) ballot |= 1u << i;
    for (int i = 0; i < 32; ++i) if (mask >> i & 1) static_cast<Vote*>(operands[i])->out = ballot;
}

}  // namespace emu

#define threadIdx (emu::registers.thread)
#define blockIdx (emu::registers.block)
#define blockDim (emu::registers.block_size)
#define gridDim (emu::registers.grid_size)
constexpr int warpSize = 32;

// <<<>>> is not C++, so every launch goes through this function; device.cuh has the same one for nvcc.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t, Arguments... arguments) {
    std::tuple<Parameters...> parameters(static_cast<Parameters>(arguments)...);
    auto body = [&] { std::apply(kernel, parameters); };
    emu::note(emu::run(grid, block, shared, [](void* b) { (*static_cast<decltype(body)*>(b))(); }, &body));
    return cudaGetLastError();  // as with nvcc: of an earlier call, too, whose failure nobody has taken note of
}

template <class T> T* dynamic_shared() { return static_cast<T*>(emu::shared_bytes()); }

inline void __syncthreads(emu::Where at = emu::here()) { emu::barrier(at); }
void __syncwarp(unsigned mask = 0xffffffff, emu::Where at = emu::here());

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, emu::Where at = emu::here()) {
    return emu::shuffle("__shfl_sync", mask, value, (emu::lane() & -width) | (source & (width - 1)), at);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emu::Where at = emu::here()) {
    int lane = emu::lane(), source = lane ^ bits;
    return emu::shuffle("__shfl_xor_sync", mask, value, source >= (lane & -width) + width ? lane : source, at);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Where at = emu::here()) {
    int lane = emu::lane(), source = lane + int(delta);
    return emu::shuffle("__shfl_down_sync", mask, value, source >= (lane & -width) + width ? lane : source, at);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Where at = emu::here()) {
    int lane = emu::lane(), source = lane - int(delta);
    return emu::shuffle("__shfl_up_sync", mask, value, source < (lane & -width) ? lane : source, at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emu::Where at = emu::here()) {
    emu::Vote vote{predicate != 0, 0};
    emu::warp_operation("__ballot_sync", mask, emu::perform_ballot, &vote, at);
    return vote.out;
}
inline int __any_sync(unsigned mask, int predicate, emu::Where at = emu::here()) { return __ballot_sync(mask, predicate, at) != 0; }
inline int __all_sync(unsigned mask, int predicate, emu::Where at = emu::here()) { return __ballot_sync(mask, predicate, at) == mask; }

// ---- memory and arithmetic --------------------------------------------------------------------------------------------------

template <class T> inline T __ldg(const T* p) { return *p; }

// Fibers change places only inside the functions above, so a plain read, change and write is atomic. Out of line in
// cuda_on_cpu.cpp, which the race check does not look into.
float atomicAdd(float*, float);
double atomicAdd(double*, double);
int atomicAdd(int*, int);
unsigned atomicAdd(unsigned*, unsigned);
unsigned long long atomicAdd(unsigned long long*, unsigned long long);
int atomicMax(int*, int);
unsigned atomicMax(unsigned*, unsigned);
unsigned long long atomicMin(unsigned long long*, unsigned long long);
unsigned atomicCAS(unsigned*, unsigned expected, unsigned desired);
inline void __threadfence() {}

// More exact than the device's approximations: a test must not depend on their error.
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
float __fmul_rn(float x, float y);  // out of line: never contracted to a fused multiply-add
float __fadd_rn(float x, float y);
float __fsub_rn(float x, float y);
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

// ---- the PTX instructions that kernels use, by their documentation ----------------------------------------------------------

namespace emu {

struct Mma { float* d; const uint32_t *a, *b; };
// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": group = lane / 4, t = lane % 4. A register holds the
// two columns (A, C) or rows (B) 2t and 2t + 1, low half first. The sum's order is not specified; here: ascending k, in float.
inline void perform_mma(void* const operands[32], unsigned, Where) {
    float a[16][16], b[16][8], d[16][8];
    auto low = [](uint32_t r) { return bits_as<float>(r << 16); };
    auto high = [](uint32_t r) { return bits_as<float>(r & 0xffff0000); };
    for (int i = 0; i < 32; ++i) {
        auto& m = *static_cast<Mma*>(operands[i]);
        int g = i / 4, t = i % 4 * 2;
        for (int r = 0; r < 4; ++r) {              // a0: row g, k 0-7; a1: row g + 8, k 0-7; a2: row g, k 8-15; a3: row g + 8, k 8-15
            int row = g + r % 2 * 8, k = t + r / 2 * 8;
            a[row][k] = low(m.a[r]), a[row][k + 1] = high(m.a[r]);
        }
        for (int r = 0; r < 2; ++r) b[t + r * 8][g] = low(m.b[r]), b[t + r * 8 + 1][g] = high(m.b[r]);
        for (int r = 0; r < 4; ++r) d[g + r / 2 * 8][t + r % 2] = m.d[r];
    }
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 16; ++k)
            for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    for (int i = 0; i < 32; ++i)
        for (int r = 0; r < 4; ++r) static_cast<Mma*>(operands[i])->d[r] = d[i / 4 + r / 2 * 8][i % 4 * 2 + r % 2];
}

struct LoadMatrix { uint32_t* out; const void* row; bool transposed; };
// PTX ISA, ldmatrix: lane 8 m + r names row r of the 8 x 8 matrix m; register m of lane l gets row l / 4, columns 2 (l % 4)
// and the next one; with .trans the same of the transposed matrix.
inline void perform_ldmatrix(void* const operands[32], unsigned, Where at) {
    uint16_t matrix[4][8][8];
    for (int i = 0; i < 32; ++i) load_for(i, matrix[i / 8][i % 8], static_cast<LoadMatrix*>(operands[i])->row, 16, at);
    for (int i = 0; i < 32; ++i) {
        auto& m = *static_cast<LoadMatrix*>(operands[i]);
        int r = i / 4, c = i % 4 * 2;
        for (int n = 0; n < 4; ++n)
            m.out[n] = m.transposed ? matrix[n][c][r] | uint32_t(matrix[n][c + 1][r]) << 16 : matrix[n][r][c] | uint32_t(matrix[n][r][c + 1]) << 16;
    }
}

}  // namespace emu

inline void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, emu::Where at = emu::here()) {
    emu::Mma m{d, a, b};
    emu::warp_operation("mma", 0xffffffff, emu::perform_mma, &m, at);
}
inline void ldmatrix_x4(uint32_t* out, const void* row, emu::Where at = emu::here()) {
    emu::check_aligned(row, 16, at);
    emu::LoadMatrix m{out, row, false};
    emu::warp_operation("ldmatrix", 0xffffffff, emu::perform_ldmatrix, &m, at);
}
inline void ldmatrix_x4_trans(uint32_t* out, const void* row, emu::Where at = emu::here()) {
    emu::check_aligned(row, 16, at);
    emu::LoadMatrix m{out, row, true};
    emu::warp_operation("ldmatrix.trans", 0xffffffff, emu::perform_ldmatrix, &m, at);
}
inline void cp_async_16(void* shared, const void* global, bool inside, emu::Where at = emu::here()) {
    emu::copy_async(shared, global, inside ? 16 : 0, at);
}
inline void cp_async_commit() { emu::commit_copies(); }
template <int Pending> void cp_async_wait() { emu::wait_copies(Pending); }

#define KT_WGMMA 1
inline uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(static_cast<const char*>(p) - static_cast<const char*>(emu::shared_bytes()));
}
inline void fence_for_products() {}  // that it, products_begin or settle is missing is not noticed here, nor descriptors that differ between four warps
inline void products_begin() {}
template <int> void settle(float (*)[4]) {}
template <int> void settle(uint32_t (*)[4]) {}
inline void products_commit(emu::Where at = emu::here()) { emu::commit_products(at); }
template <int Pending> void products_wait(emu::Where at = emu::here()) { emu::wait_products(Pending, at); }
template <bool Add> void multiply_shared(float (*d)[4], uint64_t a, uint64_t b, emu::Where at = emu::here()) {
    emu::multiply({d, {}, a, b, 64, Add}, at);
}
template <int N> void multiply_registers(float (*d)[4], const uint32_t* a, uint64_t b, emu::Where at = emu::here()) {
    emu::multiply({d, {a[0], a[1], a[2], a[3]}, 0, b, N, true}, at);
}
inline float exp2_fast(float x) { return std::exp2(x); }
