"""Times torch's attention at the shapes of AttentionBenchmark: scaled_dot_product_attention and the eager form (bf16 scores,
additive mask, F32 softmax), forward and backward, in microseconds, best of several. Usage: attention_torch.py [threads]"""
import sys, time
import torch
import torch.nn.functional as F

CASES = [  # name, rows, length, heads, key heads, head size, causal, window
    ("SIGLIP_4096", 1, 4096, 16, 16, 72, False, 0),
    ("PATCHES_8X256", 8, 256, 6, 6, 64, False, 0),
    ("TEXT_4B_1100_GLOBAL", 1, 1100, 8, 4, 256, True, 0),
    ("TEXT_4B_1100_WINDOW_512", 1, 1100, 8, 4, 256, True, 512),
    ("TEXT_4B_4X300", 4, 300, 8, 4, 256, True, 1024),
    ("TEXT_270M_2X500", 2, 500, 4, 1, 256, True, 512),
]


def eager(q, k, v, mask, scale):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(2, 3) * scale
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v


def sdpa(q, k, v, mask, scale):
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def best(f, seconds=2.0):
    f()
    least, total = 1e9, 0.0
    for _ in range(30):
        start = time.perf_counter()
        f()
        took = time.perf_counter() - start
        least, total = min(least, took), total + took
        if total > seconds:
            break
    return least * 1e6


torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
for name, rows, n, heads, kv_heads, d, causal, window in CASES:
    for dtype in (torch.bfloat16, torch.float32):
        make = lambda h: torch.randn(rows, h, n, d, dtype=dtype, requires_grad=True)
        q, k, v = make(heads), make(kv_heads), make(kv_heads)
        mask = None
        if causal:
            i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
            seen = (j <= i) & ((j > i - window) if window else True)
            mask = torch.zeros(n, n, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        for form in (sdpa, eager):
            y = form(q, k, v, mask, d**-0.5)
            dy = torch.randn_like(y)
            with torch.no_grad():
                forward = best(lambda: form(q, k, v, mask, d**-0.5))
            backward = best(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
            print(f"{name} {str(dtype)[6:]} {form.__name__} forward {forward:.0f} backward {backward:.0f}", flush=True)
