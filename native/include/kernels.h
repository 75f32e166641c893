/*
 * The kernel table: the one contract between the Java engine and its backends.
 *
 * A backend library exports one symbol that returns its table. Every member returns a status, 0 for success, and leaves
 * a text in last_error otherwise. Order of arguments: context, outputs, inputs, saved values, sizes, scalars, dtype.
 *
 * Unless said otherwise: matrices are row-major and dense, outputs must not alias inputs, outputs are overwritten,
 * arithmetic and sums run in F32 with one rounding at the end, the order of every reduction is fixed by the sizes and
 * the number of threads, and any size from 0 up is handled. "T" is the dtype argument (KT_F32 or KT_BF16).
 * BF16 values round to nearest, ties to even.
 *
 * A batch is packed: its rows (sequences) follow each other without padding. tokens is their total length.
 *
 * A pointer to pointers is an array of the host, each of whose pointers is an operand; so is an array of int64_t.
 */
#ifndef LAPIDARY_KERNELS_H
#define LAPIDARY_KERNELS_H

#include <stdint.h>

#define KT_ABI 8

#define KT_OK 0
#define KT_BAD_ARGUMENT 1
#define KT_OUT_OF_MEMORY 2
#define KT_FAILED 3

#define KT_F32 0
#define KT_BF16 1
#define KT_I32 2
#define KT_I16 3
#define KT_U8 4
#define KT_F16 5

typedef struct kt_ctx kt_ctx;

typedef struct kt_table {
    int32_t abi;   /* KT_ABI */
    int32_t bytes; /* sizeof(kt_table) */

    /* ---- context and memory ---------------------------------------------------------------------------------- */

    /* threads: how many to use, 0 for all processors. */
    int32_t (*context_create)(kt_ctx** out, int32_t threads);
    int32_t (*context_destroy)(kt_ctx*);
    /* Text of the last failure on this context; valid until the next call. */
    const char* (*last_error)(kt_ctx*);
    /* What the kernels were chosen for, e.g. "avx512bf16, 2 threads"; lives as long as the context. */
    const char* (*describe)(kt_ctx*);
    /* 64-byte aligned memory whose bytes are zero; fresh pages are not touched, so what is never written costs nothing. */
    int32_t (*memory_allocate)(kt_ctx*, void** out, int64_t bytes);
    int32_t (*memory_free)(kt_ctx*, void* memory, int64_t bytes);
    int32_t (*memory_zero)(kt_ctx*, void* memory, int64_t bytes);

    /* ---- elementwise ----------------------------------------------------------------------------------------- */

    /* y[i] = x[i] * factor, converted from x_dtype to y_dtype. y may be x where the dtypes are equal. */
    int32_t (*convert)(kt_ctx*, void* y, const void* x, int64_t n, float factor, int32_t y_dtype, int32_t x_dtype);
    /* y[i] = a[i] + b[i]. y may alias a or b. */
    int32_t (*add)(kt_ctx*, void* y, const void* a, const void* b, int64_t n, int32_t dtype);
    /* y[i] += x[i], rounded to y_dtype. */
    int32_t (*accumulate)(kt_ctx*, void* y, const void* x, int64_t n, int32_t y_dtype, int32_t x_dtype);
    /* y[i] = keep(i) ? x[i] * (1 / (1 - q)) : 0, q = p rounded to a multiple of 2^-16, keep from Philox4x32-10: counter
       (i / 8, stream), key seed, half i % 8 of its four words, the lower half of each first, as h * 2^-16 >= q. The same
       (seed, stream) draws the same mask again, so it is its own backward. y may alias x. */
    int32_t (*dropout)(kt_ctx*, void* y, const void* x, int64_t n, float p, uint64_t seed, uint64_t stream, int32_t dtype);
    /* y = gelu(x), tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
    int32_t (*gelu_forward)(kt_ctx*, void* y, const void* x, int64_t n, int32_t dtype);
    int32_t (*gelu_backward)(kt_ctx*, void* dx, const void* dy, const void* x, int64_t n, int32_t dtype);
    /* y = gelu(gate) * up; the gelu is rounded to T before the product, as the reference does. */
    int32_t (*geglu_forward)(kt_ctx*, void* y, const void* gate, const void* up, int64_t n, int32_t dtype);
    int32_t (*geglu_backward)(kt_ctx*, void* dgate, void* dup, const void* dy, const void* gate, const void* up, int64_t n,
                              int32_t dtype);

    /* ---- norms ----------------------------------------------------------------------------------------------- */

    /* y[r,c] = x[r,c] * rstd[r] * (1 + w[c]); rstd[r] = 1/sqrt(mean_c x^2 + eps), F32. y or rstd may be
       NULL. */
    int32_t (*rms_norm_forward)(kt_ctx*, void* y, float* rstd, const void* x, const void* w, int64_t rows, int64_t cols,
                                float eps, int32_t dtype);
    /* y = residual + n, n being rms_norm_forward's y of x, rounded to T first. */
    int32_t (*rms_norm_add_forward)(kt_ctx*, void* y, float* rstd, const void* x, const void* w, const void* residual,
                                    int64_t rows, int64_t cols, float eps, int32_t dtype);
    /* dx or dw may be NULL. dw is F32. dx is added, rounded to T first, to what dx holds where accumulate is not 0. */
    int32_t (*rms_norm_backward)(kt_ctx*, void* dx, float* dw, const void* dy, const void* x, const void* w,
                                 const float* rstd, int64_t rows, int64_t cols, int32_t accumulate, int32_t dtype);
    /* y[r,c] = (x[r,c] - mean[r]) * rstd[r] * w[c] + b[c]; variance over n, not n - 1. */
    int32_t (*layer_norm_forward)(kt_ctx*, void* y, float* mean, float* rstd, const void* x, const void* w, const void* b,
                                  int64_t rows, int64_t cols, float eps, int32_t dtype);
    /* Any of dx, dw, db may be NULL. dw and db are F32. */
    int32_t (*layer_norm_backward)(kt_ctx*, void* dx, float* dw, float* db, const void* dy, const void* x, const void* w,
                                   const float* mean, const float* rstd, int64_t rows, int64_t cols, int32_t dtype);

    /* ---- rows ------------------------------------------------------------------------------------------------ */

    /* y[t,:] = table[ids[t],:] * scale. An id outside [0, vocab) is KT_BAD_ARGUMENT. */
    int32_t (*embedding_forward)(kt_ctx*, void* y, const void* table, const int32_t* ids, int64_t tokens, int64_t vocab,
                                 int64_t cols, float scale, int32_t dtype);
    /* drows[slot[t],:] += dy[t,:] * scale, F32; slot[t] < 0 is skipped. Added in the order of t. */
    int32_t (*embedding_backward)(kt_ctx*, float* drows, const void* dy, const int32_t* slot, int64_t tokens, int64_t slots,
                                  int64_t cols, float scale, int32_t dtype);
    /* y[i,:] = x[index[i],:] for i < n; x has x_rows rows. An index outside is KT_BAD_ARGUMENT. */
    int32_t (*gather_rows)(kt_ctx*, void* y, const void* x, const int32_t* index, int64_t n, int64_t x_rows, int64_t cols,
                           int32_t dtype);
    /* y[index[i],:] = x[i,:], the other rows of y keep their values; x NULL writes zeros. Indices are distinct. */
    int32_t (*scatter_rows)(kt_ctx*, void* y, const void* x, const int32_t* index, int64_t n, int64_t y_rows, int64_t cols,
                            int32_t dtype);
    /* y[r,:] = x[r,:] + table[r % table_rows,:]. y may alias x. */
    int32_t (*add_rows)(kt_ctx*, void* y, const void* x, const void* table, int64_t rows, int64_t table_rows, int64_t cols,
                        int32_t dtype);
    /* dtable[t,:] = sum over r % table_rows == t of dy[r,:], F32. With table_rows 1 this is the gradient of a bias. */
    int32_t (*sum_rows)(kt_ctx*, float* dtable, const void* dy, int64_t rows, int64_t table_rows, int64_t cols,
                        int32_t dtype);

    /* ---- attention ------------------------------------------------------------------------------------------- */

    /* RMS norm of every head, then rotary position embedding, halves form. n = rms_norm_forward's y of x [tokens * heads,
       head_dim] and w [head_dim], rounded to T. With n[t,h,:] = [a, b] and c, s = cos, sin [pos[t], 0..head_dim/2):
       y = [a c - b s, b c + a s]; each product and the sum are rounded to T. cos and sin are F32 [positions, head_dim/2]
       (already rounded to T by the caller where T is BF16). rstd, F32 [tokens, heads], may be NULL. */
    int32_t (*rms_norm_rope_forward)(kt_ctx*, void* y, float* rstd, const void* x, const void* w, const float* cos,
                                     const float* sin, const int32_t* pos, int64_t tokens, int64_t heads, int64_t head_dim,
                                     int64_t positions, float eps, int32_t dtype);
    /* With dy = [a, b]: dn = [a c + b s, b c - a s], rounded as above; dx and dw as rms_norm_backward's of dn. dx or dw may
       be NULL. dw is F32. */
    int32_t (*rms_norm_rope_backward)(kt_ctx*, void* dx, float* dw, const void* dy, const void* x, const void* w,
                                      const float* cos, const float* sin, const int32_t* pos, const float* rstd,
                                      int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype);

    /* y[t,h,:] = sum_k softmax_k(q[t,h,:] . k[k,h',:] * scale) v[k,h',:], h' = h / (heads / kv_heads), over the keys that
       t may see. q, y: [tokens, heads, head_dim]; k, v: [tokens, kv_heads, head_dim]; lse: F32 [tokens, heads], the
       logarithm of each softmax sum (NULL where backward will not follow). head_dim up to 256.
       starts: I32 [rows + 1], row r is the tokens [starts[r], starts[r + 1]). spans: I32 [tokens] or NULL; tokens of one
       image share a number >= 0, text is -1. In the same row, with q and k positions:
         (causal == 0 or k <= q or (spans[q] == spans[k] and spans[q] >= 0)) and (window == 0 or k > q - window)
       No score matrix is stored. */
    int32_t (*attention_forward)(kt_ctx*, void* y, float* lse, const void* q, const void* k, const void* v,
                                 const int32_t* starts, const int32_t* spans, int64_t tokens, int64_t rows, int64_t heads,
                                 int64_t kv_heads, int64_t head_dim, float scale, int32_t causal, int64_t window,
                                 int32_t dtype);
    int32_t (*attention_backward)(kt_ctx*, void* dq, void* dk, void* dv, const void* dy, const void* q, const void* k,
                                  const void* v, const void* y, const float* lse, const int32_t* starts,
                                  const int32_t* spans, int64_t tokens, int64_t rows, int64_t heads, int64_t kv_heads,
                                  int64_t head_dim, float scale, int32_t causal, int64_t window, int32_t dtype);

    /* Attention of the last q_tokens of a single row over all its tokens: q, y [q_tokens, heads, head_dim]; k, v [tokens,
       kv_heads, head_dim]; spans I32 [tokens] or NULL. The rest as attention_forward with causal: the first tokens are what
       a cache holds. */
    int32_t (*attention_extend)(kt_ctx*, void* y, const void* q, const void* k, const void* v, const int32_t* spans,
                                int64_t q_tokens, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                float scale, int64_t window, int32_t dtype);
    /* One new token of each of several sequences over what they have cached. k_cache[r], v_cache[r], each [capacity[r],
       kv_heads, head_dim] in the device's memory, hold position p of sequence r at row p % capacity[r]. Row r of k, v [rows,
       kv_heads, head_dim] is stored at positions[r] first; then row r of q, y [rows, heads, head_dim] sees the positions from
       0, or with a window > 0 from positions[r] - window + 1 if that is more, to positions[r]. Those must not be more than
       capacity[r]. What row r becomes does not depend on the other rows. */
    int32_t (*attention_decode)(kt_ctx*, void* y, void* const* k_cache, void* const* v_cache, const int64_t* capacity,
                                const int64_t* positions, const void* q, const void* k, const void* v, int64_t rows,
                                int64_t heads, int64_t kv_heads, int64_t head_dim, float scale, int64_t window,
                                int32_t dtype);

    /* ---- products of few rows -------------------------------------------------------------------------------- */

    /* y = x W' + bias, or with accumulate y += x W', for few rows: W is read once, in the order it lies in. x [rows, in] and
       W [out, in] of dtype, bias [out] of dtype or NULL, y [rows, out] of y_dtype, which is dtype or F32. What row r becomes
       does not depend on the other rows. */
    int32_t (*linear_few)(kt_ctx*, void* y, const void* x, const void* w, const void* bias, int64_t rows, int64_t out,
                          int64_t in, int32_t accumulate, int32_t y_dtype, int32_t dtype);

    /* ---- LoRA ------------------------------------------------------------------------------------------------ */

    /* The products of an adapter with its matrix A [rank, in], the dropped x never written out. dropout(x) is what the kernel
       dropout makes of all of x [rows, in] with p, seed and stream, rounded to T as it does. */

    /* down = dropout(x) A'; down [rows, rank]. */
    int32_t (*lora_down_forward)(kt_ctx*, void* down, const void* x, const void* a, int64_t rows, int64_t in, int64_t rank,
                                 float p, uint64_t seed, uint64_t stream, int32_t dtype);
    /* da = ddown' dropout(x), F32, added to what da holds where accumulate is not 0; ddown [rows, rank]. */
    int32_t (*lora_down_backward_weight)(kt_ctx*, float* da, const void* ddown, const void* x, int64_t rows, int64_t in,
                                         int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t accumulate,
                                         int32_t dtype);
    /* dx = dropout(ddown A), whose product is rounded to T first; dx [rows, in]. */
    int32_t (*lora_down_backward_input)(kt_ctx*, void* dx, const void* ddown, const void* a, int64_t rows, int64_t in,
                                        int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t dtype);

    /* ---- vision ---------------------------------------------------------------------------------------------- */

    /* Non-overlapping patches of images F32 [images, channels, size, size] as rows: y is
       [images * (size/patch)^2, channels * patch * patch], patches row-major, inside a patch channel, row, column. */
    int32_t (*patch_unfold)(kt_ctx*, void* y, const float* pixels, int64_t images, int64_t channels, int64_t size,
                            int64_t patch, int32_t dtype);
    /* x [images, side, side, cols] to y [images, side/kernel, side/kernel, cols], means of kernel x kernel. */
    int32_t (*average_pool_forward)(kt_ctx*, void* y, const void* x, int64_t images, int64_t side, int64_t kernel,
                                    int64_t cols, int32_t dtype);
    int32_t (*average_pool_backward)(kt_ctx*, void* dx, const void* dy, int64_t images, int64_t side, int64_t kernel,
                                     int64_t cols, int32_t dtype);

    /* ---- loss ------------------------------------------------------------------------------------------------ */

    /* Per row of logits [rows, vocab]: loss = logsumexp - logit of target, entropy of the softmax in nats, correct = 1
       where the first largest logit is the target. softcap c > 0 replaces every logit by c tanh(logit / c) first.
       With write_gradient the logits are replaced by (softmax - onehot) * grad_scale (times the softcap's derivative). */
    int32_t (*cross_entropy)(kt_ctx*, float* loss, float* entropy, int32_t* correct, void* logits, const int32_t* targets,
                             int64_t rows, int64_t vocab, float grad_scale, float softcap, int32_t write_gradient,
                             int32_t dtype);

    /* supported[0] = 1 where this machine has linear_cross_entropy for that many columns, else 0. */
    int32_t (*linear_cross_entropy_supported)(kt_ctx*, int32_t* supported, int64_t cols, int32_t dtype);
    /* cross_entropy of logits = hidden headT, rounded to T, that are never stored: hidden [rows, cols], head [vocab, cols].
       dhidden = ((softmax - onehot) * grad_scale) head and dhead += ((softmax - onehot) * grad_scale)T hidden (F32); either
       may be NULL. */
    int32_t (*linear_cross_entropy)(kt_ctx*, float* loss, float* entropy, int32_t* correct, void* dhidden, float* dhead,
                                    const void* hidden, const void* head, const int32_t* targets, int64_t rows,
                                    int64_t vocab, int64_t cols, float grad_scale, int32_t dtype);

    /* ---- NF4 ------------------------------------------------------------------------------------------------- */

    /* An NF4 matrix [out, in] is the six arguments packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset,
       always together and in this order. Its n = out * in values are flattened row by row and cut into blocks of 64, which
       run across the ends of rows; the last block may be short. packed, U8 [ceil(n/2)]: value 2i in the high half of byte
       i, value 2i + 1 in the low half. The scale of block b is absmax[b], F32 [ceil(n/64)], or where absmax is NULL
       nested_map[absmax_codes[b]] * nested_absmax[b / 256] + nested_offset: U8 [ceil(n/64)], F32 [ceil(ceil(n/64)/256)]
       and F32 [256]; product and sum are each rounded to F32. A value is the code's number times the scale, in F32, rounded
       to the dtype that it is read as. See "QLoRA", arXiv:2305.14314. */

    /* packed and absmax of x [n] of x_dtype F32, BF16 or F16, each value rounded to weight_dtype (F32 or BF16) first. A long
       matrix may come in pieces: every piece but the last is a multiple of 64 values. A value that is not finite is
       KT_BAD_ARGUMENT, with its index. Maxima of whole blocks are used as 1 / max(absmax, 1e-38), that of a short block is
       at least 1e-38 and divides, as in bitsandbytes. */
    int32_t (*nf4_quantize)(kt_ctx*, uint8_t* packed, float* absmax, const void* x, int64_t n, int32_t weight_dtype,
                            int32_t x_dtype);
    /* Double quantisation of absmax F32 [n]: nested_offset[0] is its mean, and the differences to it are coded in blocks of
       256 by the nearest entry of nested_map, which rises. A mean that is not finite is KT_BAD_ARGUMENT. */
    int32_t (*nf4_quantize_absmax)(kt_ctx*, uint8_t* absmax_codes, float* nested_absmax, float* nested_offset,
                                   const float* absmax, const float* nested_map, int64_t n);
    /* y[i] = value first + i of the matrix, for i < count, as T. */
    int32_t (*nf4_dequantize)(kt_ctx*, void* y, const uint8_t* packed, const float* absmax, const uint8_t* absmax_codes,
                              const float* nested_absmax, const float* nested_map, float nested_offset, int64_t first,
                              int64_t count, int32_t dtype);
    /* scales[i] = the scale of block first + i, for i < count. */
    int32_t (*nf4_scales)(kt_ctx*, float* scales, const float* absmax, const uint8_t* absmax_codes,
                          const float* nested_absmax, const float* nested_map, float nested_offset, int64_t first,
                          int64_t count);

    /* y = x W' + bias with an NF4 matrix W [out, in]; x [rows, in], y [rows, out], bias [out] or NULL. W's values are rounded
       to T as by nf4_dequantize, but that a BF16 magnitude below 2^-126 may count as zero, and are never all written out; sums
       are F32. */
    int32_t (*nf4_linear_forward)(kt_ctx*, void* y, const void* x, const uint8_t* packed, const float* absmax,
                                  const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                                  float nested_offset, const void* bias, int64_t rows, int64_t out, int64_t in,
                                  int32_t dtype);
    /* dx = dy W, added to what dx holds where accumulate is not 0; dy [rows, out], dx [rows, in]. */
    int32_t (*nf4_linear_backward)(kt_ctx*, void* dx, const void* dy, const uint8_t* packed, const float* absmax,
                                   const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                                   float nested_offset, int64_t rows, int64_t out, int64_t in, int32_t accumulate,
                                   int32_t dtype);

    /* ---- optimiser ------------------------------------------------------------------------------------------- */

    /* out[t] = sum of x[t][i]^2 over i < n[t], summed in F64. Not finite where any x[t] is not. */
    int32_t (*sum_squares)(kt_ctx*, float* out, const void* const* x, const int64_t* n, int64_t tensors, int32_t dtype);
    /* AdamW of several tensors of n[i] elements each, their step t: g = grad * grad_scale; p *= 1 - lr * weight_decay;
       m += (1 - b1) (g - m); v = b2 v + (1 - b2) g^2; p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps). What
       depends on scalars alone is computed in F64 and rounded once; the rest is F32, with the roundings of torch's fused CPU kernel. m and v are used unrounded, then
       stored as moment_dtype. param is param_dtype; low (I16, only with a BF16 param, else NULL) carries the 16 low bits of
       a split F32 master: bits(master) = (bits(param) << 16) + low. correction1 = 1 - b1^t, correction2 = 1 - b2^t. */
    int32_t (*adamw)(kt_ctx*, void* const* param, int16_t* const* low, void* const* m, void* const* v,
                     const void* const* grad, const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps,
                     double weight_decay, double correction1, double correction2, float grad_scale, int32_t param_dtype,
                     int32_t moment_dtype, int32_t grad_dtype);
    /* The same for one table [vocab, cols] whose gradient is row-sparse: slot[r] is the row of grad F32 [slots, cols] that
       belongs to table row r, -1 for a zero gradient, -2 for a row that never had one: its moments are zero, it is only
       decayed. */
    int32_t (*adamw_rows)(kt_ctx*, void* param, int16_t* low, void* m, void* v, const float* grad, const int32_t* slot,
                          int64_t vocab, int64_t cols, double lr, double b1, double b2, double eps, double weight_decay,
                          double correction1, double correction2, float grad_scale, int32_t param_dtype,
                          int32_t moment_dtype);
    /* AdamW of several tensors whose moments are kept in 8 bits, by blocks of 256 elements of which the last may be short:
       element i is map[code[i]] * absmax[i / 256]; m, v U8 [n], m_absmax, v_absmax F32 [ceil(n/256)] of each, m_map, v_map
       F32 [256], rising. m = b1 m + (1 - b1) g, the rest as adamw; the new moments are used unrounded, then coded: absmax is
       their largest magnitude, the code that of the nearest map entry, the lower one of a tie. All zero is a beginning. */
    int32_t (*adamw_8bit)(kt_ctx*, void* const* param, int16_t* const* low, uint8_t* const* m, float* const* m_absmax,
                          uint8_t* const* v, float* const* v_absmax, const void* const* grad, const float* m_map,
                          const float* v_map, const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps,
                          double weight_decay, double correction1, double correction2, float grad_scale,
                          int32_t param_dtype, int32_t grad_dtype);
    /* Gradient descent of one tensor: g = grad * grad_scale + weight_decay * p; p -= lr * g. param and low as in adamw;
       sgd_rows with grad and slot as in adamw_rows, of which any below 0 means a zero gradient. */
    int32_t (*sgd)(kt_ctx*, void* param, int16_t* low, const void* grad, int64_t n, double lr, double weight_decay,
                   float grad_scale, int32_t param_dtype, int32_t grad_dtype);
    int32_t (*sgd_rows)(kt_ctx*, void* param, int16_t* low, const float* grad, const int32_t* slot, int64_t vocab,
                        int64_t cols, double lr, double weight_decay, float grad_scale, int32_t param_dtype);
} kt_table;

#ifdef __cplusplus
extern "C" {
#endif

/* The table of the CPU backend. */
const kt_table* lapidary_cpu_kernels(void);

#ifdef __cplusplus
}
#endif
#endif
