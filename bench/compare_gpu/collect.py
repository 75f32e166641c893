"""Puts what gpu.sh left in a folder into one file, <device>-<date>.json, and prints the kernels beside torch's.

  collect.py OUT
"""
import json, re, sys, time
from pathlib import Path

out = Path(sys.argv[1])


def lines(name):
    path = out / name
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def text(name):
    return (out / name).read_text().strip() if (out / name).exists() else ""


ours, torchs = lines("kernels.jsonl"), {(k["kernel"], k["shape"]): k for k in lines("torch_kernels.jsonl") if "kernel" in k}
copy = next((k["gbytes"] for k in ours if k.get("kernel") == "copy"), 0)
print("| kernel | shape | ms | TFLOP/s | GB/s | share of copy | torch ms | torch / ours |\n|---|---|---|---|---|---|---|---|")
for k in ours:
    if "kernel" in k:
        t = torchs.get((k["kernel"], k["shape"]))
        share = f"{k['gbytes'] / copy:.2f}" if copy and k["gbytes"] else ""
        print(f"| {k['kernel']} | {k['shape']} | {k['ms']:.3f} | {k['gflops'] / 1e3:.1f} | {k['gbytes']:.0f} | {share} | "
              + (f"{t['ms']:.3f} | {t['ms'] / k['ms']:.2f} |" if t else "| |"))
compare = json.loads(text("compare.json")) if text("compare.json") else None
name = re.sub(r"[^A-Za-z0-9]+", "-", text("gpu.txt").split(",")[0]).strip("-").lower() or "no-gpu"
# What the engine says of itself, without where things lie on that machine.
engine = [re.sub(r" \(/[^)]*\)", "", line) for line in text("info.txt").splitlines() if not line.strip().startswith("/")]
path = out / f"{name}-{time.strftime('%Y-%m-%d')}.json"
path.write_text(json.dumps({"gpu": text("gpu.txt"), "engine": engine, "summary": text("summary.txt").splitlines(),
                            "kernels": ours, "torch": list(torchs.values()), "compare": compare}, indent=1))
print(path)
