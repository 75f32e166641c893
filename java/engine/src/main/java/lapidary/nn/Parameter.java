package lapidary.nn;

import lapidary.tensor.Tensor;

/**
 * Something trained.
 *
 * @param name its key in PEFT's adapter_model.safetensors
 * @param value what the kernels read: F32, or BF16 for a saved table of a bf16 model
 */
public record Parameter(String name, Tensor value) {}
