// Each file of ops puts its kernels into the table.
#pragma once

#include "kernels.h"

namespace kt {

void add_context(kt_table&);
void add_rms_norm(kt_table&);
void add_cross_entropy(kt_table&);
void add_linear_cross_entropy(kt_table&);
void add_adamw(kt_table&);
void add_adamw_8bit(kt_table&);
void add_sgd(kt_table&);
void add_elementwise(kt_table&);
void add_rows_kernels(kt_table&);
void add_vision(kt_table&);
void add_dropout(kt_table&);
void add_lora_down(kt_table&);
void add_layer_norm(kt_table&);
void add_rms_norm_rope(kt_table&);
void add_gelu(kt_table&);
void add_attention(kt_table&);
void add_attention_decode(kt_table&);
void add_linear_few(kt_table&);
void add_nf4(kt_table&);
void add_nf4_linear(kt_table&);

}  // namespace kt
