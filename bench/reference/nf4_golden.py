"""Golden values of NF4 from bitsandbytes' pure Python backend: python nf4_golden.py OUT.safetensors

Run it with a bitsandbytes that has no compiled library for this machine, e.g. a checkout of its sources on PYTHONPATH: the
compiled CPU library restarts blocks in every row, which is wrong where a row is no multiple of 64 long.
"""
import sys

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)  # the mean of the block maxima depends on it beyond 32768 blocks
g = torch.Generator().manual_seed(20)


def normal(*shape, scale=0.03):
    return torch.randn(shape, generator=g) * scale


def ties():
    """Blocks whose largest value is 1, filled with midpoints between codes and their neighbours, both signs."""
    code = F.get_4bit_type("nf4", device="cpu")
    mid = (code[:-1] + code[1:]) / 2
    one = torch.ones(4)
    up, down = torch.nextafter(mid, one[:1]), torch.nextafter(mid, -one[:1])
    return torch.stack([torch.cat([t, code, -t, one, t[:14]]) for t in (mid, up, down)])


def extremes():
    rows = [normal(64, scale=s) for s in (1e-45, 1e-40, 2e-38, 1e-30, 1e30, 5e36)]
    rows.append(torch.cat([torch.zeros(63), torch.full((1,), 1e-45)]))
    rows.append(torch.cat([torch.full((32,), -3e38), torch.full((32,), 3e38)]) * torch.rand(64, generator=g))
    return torch.stack(rows)


def zero_blocks():
    w = normal(6, 64)
    w[1] = 0
    w[4] = -0.0
    return w


def short_edges():
    """A short block that shows that its values are divided by its maximum, where whole blocks multiply by a reciprocal."""
    code = F.get_4bit_type("nf4", device="cpu")
    mid = (code[:-1] + code[1:]) / 2
    while True:
        a = torch.rand(1, generator=g) + 0.5
        w = torch.cat([a, mid * a])
        if not torch.equal(torch.bucketize(w / a, mid), torch.bucketize(w * (1 / a), mid)):
            return w.reshape(1, -1)


# name: values as stored, dtype of the weight
cases = {
    "wide": (normal(96, 192).bfloat16(), torch.bfloat16),
    "cols4304": (normal(5, 4304).bfloat16(), torch.bfloat16),
    "whole_nested": (normal(128, 128).bfloat16(), torch.bfloat16),
    "short": (normal(3, 21).bfloat16(), torch.bfloat16),
    "odd": (normal(7, 13), torch.float32),
    "one": (normal(1, 1), torch.float32),
    "zeros": (torch.zeros(4, 64).bfloat16(), torch.bfloat16),
    "short_zeros": (torch.zeros(2, 40).bfloat16(), torch.bfloat16),
    "zero_blocks": (zero_blocks().bfloat16(), torch.bfloat16),
    "ties": (ties(), torch.float32),
    "short_edges": (short_edges(), torch.float32),
    "extremes": (extremes(), torch.float32),
    "extremes_bf16": (extremes().bfloat16(), torch.bfloat16),
    "f32": (normal(40, 72), torch.float32),
    "f32_to_bf16": (normal(40, 72), torch.bfloat16),
    "f16": (normal(24, 80, scale=1e-4).half(), torch.bfloat16),
    "f16_to_f32": (normal(24, 80, scale=1e-6).half(), torch.float32),
    "bf16_to_f32": (normal(24, 80).bfloat16(), torch.float32),
}
out = {"code": F.get_4bit_type("nf4", device="cpu"), "map": F.create_dynamic_map()}
for name, (x, dtype) in cases.items():
    w = x.to(dtype)
    tag = f"{name}/{'bf16' if dtype == torch.bfloat16 else 'f32'}"
    packed, plain = F.quantize_4bit(w, compress_statistics=False, quant_type="nf4")
    again, nested = F.quantize_4bit(w, compress_statistics=True, quant_type="nf4")
    assert torch.equal(packed, again)
    plain.dtype = nested.dtype = torch.float32
    out |= {f"{tag}/x": x, f"{tag}/packed": packed.flatten(), f"{tag}/absmax": plain.absmax,
            f"{tag}/f32": F.dequantize_4bit(packed, plain), f"{tag}/codes": nested.absmax,
            f"{tag}/nested_absmax": nested.state2.absmax, f"{tag}/offset": nested.offset.reshape(1),
            f"{tag}/nested_f32": F.dequantize_4bit(packed, nested)}
    nested.dtype = torch.bfloat16
    out[f"{tag}/nested_bf16"] = F.dequantize_4bit(packed, nested)
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1])
