#include "table.h"

namespace {

kt_table make_table() {
    kt_table table{};
    table.abi = KT_ABI;
    table.bytes = sizeof(kt_table);
    kt::add_context(table);
    kt::add_rms_norm(table);
    kt::add_cross_entropy(table);
    kt::add_linear_cross_entropy(table);
    kt::add_adamw(table);
    kt::add_adamw_8bit(table);
    kt::add_sgd(table);
    kt::add_elementwise(table);
    kt::add_rows_kernels(table);
    kt::add_vision(table);
    kt::add_dropout(table);
    kt::add_lora_down(table);
    kt::add_layer_norm(table);
    kt::add_rms_norm_rope(table);
    kt::add_gelu(table);
    kt::add_attention(table);
    kt::add_attention_decode(table);
    kt::add_linear_few(table);
    kt::add_nf4(table);
    kt::add_nf4_linear(table);
    return table;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const kt_table* lapidary_cpu_kernels(void) {
    static const kt_table table = make_table();
    return &table;
}
