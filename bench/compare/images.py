"""Pictures a second from 640x480 JPEG files to normalised tensors of 896x896, on the same cores: the engine's pipeline beside
Transformers' two processors (Pillow's, and torchvision's after Pillow has decoded).

    python bench/compare/images.py WORK [--threads 2] [--seconds 10] [--repeats 3]

Python gets a process a core with one thread each, as a DataLoader would have them. Needs target/benchmarks.jar; JAVA names another java.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference"))
import argparse, io, multiprocessing, os, statistics, subprocess, time


def make(folder):
    """Pictures with what photographs have: soft ground, edges, grain."""
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(32):
        y, x = np.mgrid[0:480, 0:640]
        f = rng.uniform(20, 90, (3, 2))
        im = np.stack([127 + 90 * np.sin(x / f[c, 0] + i) * np.cos(y / f[c, 1]) for c in range(3)], -1)
        for _ in range(12):
            cx, cy, r = rng.integers(0, 640), rng.integers(0, 480), rng.integers(20, 120)
            im[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.integers(0, 255, 3)
        im += rng.normal(0, 6, im.shape)
        Image.fromarray(im.clip(0, 255).astype("uint8")).save(folder / f"{i:02d}.jpg", quality=90)


def work(kind, folder, seconds, out):
    import tvfix  # noqa: F401
    import torch
    from PIL import Image
    torch.set_num_threads(1)
    from transformers.models.gemma3.image_processing_gemma3 import Gemma3ImageProcessor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    processor = (Gemma3ImageProcessorPil if kind == "pillow" else Gemma3ImageProcessor)(
        size={"height": 896, "width": 896}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    files = sorted(folder.iterdir())

    def one(i):
        image = Image.open(io.BytesIO(files[i % len(files)].read_bytes())).convert("RGB")
        pixels = processor(images=[image], return_tensors="pt")["pixel_values"]
        assert tuple(pixels.shape[-3:]) == (3, 896, 896)

    for i in range(4):
        one(i)
    begun, n = time.time(), 0
    while time.time() - begun < seconds:
        one(n)
        n += 1
    out.put(n / (time.time() - begun))


def python(kind, folder, threads, seconds):
    out = multiprocessing.get_context("spawn").Queue()
    all_ = [multiprocessing.get_context("spawn").Process(target=work, args=(kind, folder, seconds, out)) for _ in range(threads)]
    [p.start() for p in all_]
    total = sum(out.get() for _ in all_)
    [p.join() for p in all_]
    return total


def engine(folder, threads, seconds):
    jar = Path(__file__).resolve().parent.parent.parent / "target" / "benchmarks.jar"
    return float(subprocess.check_output([os.environ.get("JAVA", "java"), "-Xmx1g", "-XX:+UseTransparentHugePages", "-cp", jar, "lapidary.bench.ImageSpeed", folder,
                                          str(threads), str(seconds)], text=True))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("work", type=Path)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seconds", type=float, default=10)
    ap.add_argument("--repeats", type=int, default=3)
    a = ap.parse_args()
    folder = a.work / "jpeg-640x480"
    if not folder.exists():
        make(folder)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: a.threads])
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = {"engine": [], "pillow": [], "torchvision": []}
    for _ in range(a.repeats):
        rows["engine"].append(engine(folder, a.threads, a.seconds))
        for kind in ("pillow", "torchvision"):
            rows[kind].append(python(kind, folder, a.threads, a.seconds))
    ours = statistics.median(rows["engine"])
    for name, values in rows.items():
        middle = statistics.median(values)
        print(f"{name:12} {middle:7.1f} images/s  ({', '.join(f'{v:.1f}' for v in values)})  engine / it {ours / middle:.2f}")
