#include "table.h"

#include "cuda_kernels.h"

namespace {

kt_table make_table() {
    kt_table table{};
    table.abi = KT_ABI;
    table.bytes = sizeof(kt_table);
    kt::add_context(table);
    kt::add_rms_norm(table);
    return table;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const kt_table* lapidary_cuda_kernels(void) {
    static const kt_table table = make_table();
    return &table;
}
