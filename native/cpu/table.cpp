#include "kernels.h"
extern "C" __attribute__((visibility("default"))) const kt_table* lapidary_cpu_kernels(void) {
    static const kt_table table = {1, sizeof(kt_table)};
    return &table;
}
