#include <stdint.h>
typedef struct kt_ctx kt_ctx;
typedef struct kt_table { int32_t abi; int32_t bytes; } kt_table;
#ifdef __cplusplus
extern "C" {
#endif
const kt_table* lapidary_cpu_kernels(void);
#ifdef __cplusplus
}
#endif
