"""Writes java/engine/src/test/resources/lapidary/optim/adamw.safetensors: steps of torch's fused CPU AdamW, each tensor
and its state after every step. The metadata says what each case is. Made with torch 2.13.0 on a processor with AVX-512:

    python adamw_golden.py adamw.safetensors
"""
import json
import sys

import torch
from safetensors.torch import save_file

N, STEPS = 192, 6
CASES = {
    "f32": dict(dtype="float32", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    "f32-decay": dict(dtype="float32", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    "f32-betas": dict(dtype="float32", lr=3e-4, betas=(0.4, 0.95), eps=1e-6, weight_decay=0.01),
    "bf16": dict(dtype="bfloat16", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    "bf16-decay": dict(dtype="bfloat16", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
}

tensors, metadata = {}, {}
for seed, (name, case) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    options = {k: v for k, v in case.items() if k != "dtype"}
    parameter = torch.nn.Parameter((torch.randn(N) * 0.02).to(getattr(torch, case["dtype"])))
    optimizer = torch.optim.AdamW([parameter], fused=True, **options)
    tensors[f"{name}.start"] = parameter.detach().clone()
    # Magnitudes from 1e-6 to 1, and zeros.
    grads = torch.randn(STEPS, N) * 10 ** (torch.rand(N) * 6 - 6)
    grads[torch.rand(STEPS, N) < 0.05] = 0
    grads = grads.to(parameter.dtype)
    after = {"param": [], "exp_avg": [], "exp_avg_sq": []}
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
        state = optimizer.state[parameter]
        after["param"].append(parameter.detach().clone())
        after["exp_avg"].append(state["exp_avg"].clone())
        after["exp_avg_sq"].append(state["exp_avg_sq"].clone())
    tensors[f"{name}.grads"] = grads
    for key, values in after.items():
        tensors[f"{name}.{key}"] = torch.stack(values)
    metadata[name] = json.dumps(case)
save_file(tensors, sys.argv[1], metadata=metadata)
