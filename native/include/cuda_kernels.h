/*
 * The CUDA backend: the kernel table of kernels.h on an NVIDIA GPU, and what the host needs beside it.
 *
 * Pointers in the table's arguments are device memory, except those that return a value of the backend itself
 * (context_create's, memory_allocate's, linear_cross_entropy_supported's out). Kernels are queued on the context's stream
 * and run after the call has returned. So two things differ from the CPU:
 *
 * - What is wrong with indices that lie in device memory (ids, targets, positions) is found by the kernel itself, which
 *   leaves their rows out. The call that finds it recorded, which is a later one or lapidary_cuda_check, returns
 *   KT_BAD_ARGUMENT, and the context is good again. Only nf4_quantize and nf4_quantize_absmax wait for their own result.
 * - The order of a sum is fixed by its sizes alone.
 *
 * context_create's second argument is the number of the device instead of threads. The runtime is linked statically; its
 * streams and memory are those of any other CUDA runtime in the process.
 */
#ifndef LAPIDARY_CUDA_KERNELS_H
#define LAPIDARY_CUDA_KERNELS_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The table of the CUDA backend. Touches no driver. */
const kt_table* lapidary_cuda_kernels(void);

/* From now on kernels run on this cudaStream_t of the context's device; NULL, as after context_create, is its legacy default
   stream. The caller owns the stream, and ends its use of the context before it destroys it. */
int32_t lapidary_cuda_use_stream(kt_ctx*, void* stream);

/* KT_OK, or the failure that kernels recorded since the last call that returned one: a bad index, with its text in last_error.
   Does not wait: call it after the stream is known to be done. */
int32_t lapidary_cuda_check(kt_ctx*);

#ifdef __cplusplus
}
#endif
#endif
