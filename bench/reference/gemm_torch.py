"""Times torch's matrix products at the shapes of GemmBenchmark: python gemm_torch.py [threads]."""
import sys
import time

import torch

PRODUCTS = """nt 2048 2048 2048|nt 512 6912 1152|nt 200 2048 640|nt 547 2048 640|nt 1080 2048 640|nt 1080 640 2048
nt 1080 1024 640|nt 1080 640 1024|nt 1080 256 640|nn 1080 640 2048|nn 1080 2048 640|nt 1080 16 640|nt 1080 2048 16
tn 16 640 1080|tn 2048 16 1080|nt 547 10240 2560|nt 547 2560 10240|nt 4096 1152 1152|nt 256 262144 640"""

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
for dtype in (torch.float32, torch.bfloat16):
    for product in PRODUCTS.replace("\n", "|").split("|"):
        kind, m, n, k = product.split()
        m, n, k = int(m), int(n), int(k)
        a = torch.rand(k, m, dtype=dtype).t() if kind[0] == "t" else torch.rand(m, k, dtype=dtype)
        b = torch.rand(n, k, dtype=dtype).t() if kind[1] == "t" else torch.rand(k, n, dtype=dtype)
        for _ in range(3):
            a @ b
        times = []
        start = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < 0.6:
            before = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - before)
        times.sort()
        print(f"{dtype} {product}: {2e-9 * m * n * k / times[len(times) // 2]:.0f} GFLOP/s, "
              f"median {times[len(times) // 2] * 1e6:.0f} us, best {times[0] * 1e6:.0f} us", flush=True)
