"""Holds the losses of two devices against each other: what gpu.sh's part `losses` left in two folders.

  losses.py OUT_OF_CUDA OUT_OF_CPU

Both must have trained the same checkpoint. The limits are the goals of the CUDA device, set before it ran: a step's losses within
1e-3 in float32 and 1e-2 in bfloat16.
"""
import json, sys
from pathlib import Path

LIMITS = {"float32": 1e-3, "bfloat16": 1e-2}
one, two = Path(sys.argv[1]), Path(sys.argv[2])
failed = False
if (one / "losses.sha256").read_text() != (two / "losses.sha256").read_text():
    sys.exit("the two trained different checkpoints: see losses.sha256 of both")


def losses(folder, dtype):
    lines = [json.loads(line) for line in (folder / f"losses-{dtype}.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


for dtype, limit in LIMITS.items():
    a, b = losses(one, dtype), losses(two, dtype)
    off = [abs(x - y) for x, y in zip(a, b)]
    bad = len(a) != len(b) or not a or not all(o <= limit for o in off)
    failed |= bad
    print(f"{dtype}: {len(a)} and {len(b)} steps, apart by at most {max(off, default=0):.2e} of {limit:.2e}{'  FAILED' if bad else ''}")
    for step, (x, y) in enumerate(zip(a, b), 1):
        print(f"  step {step}: {x:.6f} {y:.6f}")
sys.exit(failed)
