"""What torch gives at the shapes of bench's DeviceKernels: the ceilings (copy, bf16 product) and its scaled dot product
attention, forward and backward: flash where the mask allows it, else the best that it has. A line of JSON each.

  torch_kernels.py [--divisor 1]
"""
import argparse, json, statistics, time

import torch
import torch.nn.functional as F

ap = argparse.ArgumentParser()
ap.add_argument("--divisor", type=int, default=1, help="makes everything smaller, for a try")
a = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"


def wait():
    if dev == "cuda":
        torch.cuda.synchronize()


def measure(kernel, shape, flops, nbytes, call):
    for _ in range(2):
        call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    calls = max(1, min(100, int(0.05 / max(time.perf_counter() - start, 1e-6))))
    batches = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        batches.append((time.perf_counter() - start) / calls)
    t = statistics.median(batches)
    print(json.dumps({"kernel": kernel, "shape": shape, "ms": round(t * 1e3, 4), "gflops": round(flops / t / 1e9, 1),
                      "gbytes": round(nbytes / t / 1e9, 1), "spread": round((max(batches) - min(batches)) / t, 3)}), flush=True)


def random(*shape, grad=False):
    return torch.randn(*shape, device=dev, dtype=torch.bfloat16, requires_grad=grad)


n = (1 << 28) // a.divisor
x, y = torch.randn(n, device=dev), torch.empty(n, device=dev)
measure("copy", f"F32 {n}", 0, 8 * n, lambda: y.copy_(x))
for m, c, k in ((8192, 8192, 8192), (4096, 10240, 2560), (4096, 2560, 10240)):
    m, c = max(1, m // a.divisor), max(1, c // a.divisor)
    u, w = random(m, k), random(c, k)
    measure("gemm", f"BF16 {m}x{c}x{k}", 2.0 * m * c * k, 2 * (m * k + c * k + m * c), lambda: F.linear(u, w))

for name, rows, length, heads, kv, d, causal, window in (
        ("vision", 8, 4096, 16, 16, 72, False, 0), ("text global", 8, 600, 8, 4, 256, True, 0),
        ("text window 1024", 1, 4096, 8, 4, 256, True, 1024), ("text global long", 1, 4096, 8, 4, 256, True, 0)):
    length = max(1, length // a.divisor)
    q, k, v = (random(rows, h, length, d, grad=True) for h in (heads, kv, kv))
    mask = None
    if window:
        i = torch.arange(length, device=dev)
        mask = (i[None] <= i[:, None]) & (i[None] > i[:, None] - window)
    pairs = sum((length if not causal else min(i + 1, window) if window else i + 1) for i in range(length))
    flops = 4.0 * rows * pairs * heads * d
    shape = f"BF16 {rows}x{length} heads {heads}/{kv} of {d}"

    def forward():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=heads != kv)

    with torch.no_grad():
        measure("attention " + name, shape, flops, 0, forward)
    out = forward()
    dy = torch.randn_like(out)
    measure("attention backward " + name, shape, 2.5 * flops, 0,
            lambda: torch.autograd.grad(out, (q, k, v), dy, retain_graph=True))
