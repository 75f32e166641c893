"""Writes java/engine/src/test/resources/lapidary/optim/optimizers.safetensors: steps of torch's fused CPU AdamW, of its SGD
and of bitsandbytes' block-wise 8-bit AdamW, each tensor and its state after every step. The metadata says what each case
is. Made with torch 2.13.0 on a processor with AVX-512 and bitsandbytes 0.50.2.dev0 (commit 95f9af3), which has to be a
checkout of its sources on PYTHONPATH: without a compiled library it computes in torch.

    python optimizer_golden.py optimizers.safetensors
"""
import json
import sys

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
STEPS = 6
ADAM = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
# 1124 is four whole blocks of 256 and a short one.
CASES = {
    "f32": dict(ADAM, n=192, dtype="float32"),
    "f32-decay": dict(ADAM, n=192, dtype="float32", weight_decay=0.1),
    "f32-betas": dict(ADAM, n=192, dtype="float32", lr=3e-4, betas=(0.4, 0.95), eps=1e-6, weight_decay=0.01),
    "bf16": dict(ADAM, n=192, dtype="bfloat16"),
    "bf16-decay": dict(ADAM, n=192, dtype="bfloat16", weight_decay=0.1),
    "8bit": dict(ADAM, n=1124, dtype="float32"),
    "8bit-decay": dict(ADAM, n=1124, dtype="float32", weight_decay=0.1),
    "8bit-betas": dict(ADAM, n=1124, dtype="float32", lr=3e-4, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01),
    "8bit-bf16": dict(ADAM, n=1124, dtype="bfloat16", weight_decay=0.1),
    "sgd": dict(n=192, dtype="float32", lr=1e-2, weight_decay=0.0),
    "sgd-decay": dict(n=192, dtype="float32", lr=1e-2, weight_decay=0.1),
    "sgd-bf16": dict(n=192, dtype="bfloat16", lr=1e-2, weight_decay=0.1),
}
MAPS = {"map1": F.create_dynamic_map(signed=True), "map2": F.create_dynamic_map(signed=False)}


def adamw(parameter, grads, options):
    optimizer = torch.optim.AdamW([parameter], fused=True, **options)
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
        state = optimizer.state[parameter]
        yield dict(m=state["exp_avg"], v=state["exp_avg_sq"])


def sgd(parameter, grads, options):
    optimizer = torch.optim.SGD([parameter], **options)
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
        yield {}


def adamw_8bit(parameter, grads, options):
    n = parameter.numel()
    state = dict(m=torch.zeros(n, dtype=torch.uint8), v=torch.zeros(n, dtype=torch.uint8),
                 m_absmax=torch.zeros(-(-n // 256)), v_absmax=torch.zeros(-(-n // 256)))
    for step, grad in enumerate(grads, 1):
        F.optimizer_update_8bit_blockwise(
            "adam", grad, parameter.data, state["m"], state["v"], *options["betas"], 0.0, 0.0, options["eps"], step,
            options["lr"], MAPS["map1"], MAPS["map2"], state["m_absmax"], state["v_absmax"], options["weight_decay"])
        yield state


tensors, metadata = dict(MAPS), {}
for seed, (name, case) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    options = {k: v for k, v in case.items() if k not in ("dtype", "n")}
    n = case["n"]
    parameter = torch.nn.Parameter((torch.randn(n) * 0.02).to(getattr(torch, case["dtype"])))
    tensors[f"{name}.start"] = parameter.detach().clone()
    # Magnitudes from 1e-6 to 1, and zeros; the first block of 256 has none but zeros in the first step.
    grads = torch.randn(STEPS, n) * 10 ** (torch.rand(n) * 6 - 6)
    grads[torch.rand(STEPS, n) < 0.05] = 0
    if n > 256:
        grads[0, :256] = 0
    grads = grads.to(parameter.dtype)
    run = {"8bit": adamw_8bit, "sgd": sgd}.get(name.split("-")[0], adamw)
    after = {}
    for state in run(parameter, grads, options):
        for key, value in dict(state, param=parameter.detach()).items():
            after.setdefault(key, []).append(value.clone())
    tensors[f"{name}.grads"] = grads
    for key, values in after.items():
        tensors[f"{name}.{key}"] = torch.stack(values)
    metadata[name] = json.dumps(case)
save_file(tensors, sys.argv[1], metadata=metadata)
