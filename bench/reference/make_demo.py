"""Makes what `train --demo` carries in its jar.

  make_demo.py --out java/engine/src/main/resources/lapidary/demo --work DIR [--threads 2]

OUT/base           a tiny Gemma 3, random but for having learnt to caption drawn shapes ("red circles two bottom left top
                   right"): it sees, but knows neither the questions nor the form of the answers. bf16, in shards
OUT/data           train and held-out rows as llava-style Parquet; held-out pictures are drawn from another seed
OUT/index.txt      every other file's path, one a line, since a jar cannot be listed
No file reaches 2 MB. WORK keeps the pretrained model, so that a second call only makes the files again.
"""
import argparse, random, shutil, subprocess, sys
from pathlib import Path

from safetensors.torch import load_file

from make_data import VSFT, vsft_row, write_parquet
from make_model import save_tensors

HERE = Path(__file__).parent
LIMIT = 2_000_000


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--train", type=int, default=800)
    ap.add_argument("--test", type=int, default=200)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    python = lambda script, *args: subprocess.run([sys.executable, HERE / script, *map(str, args)], check=True)
    random_model, halfway, trained = (a.work / n for n in ("tiny", "captions-500", "captions-900"))
    if not trained.exists():                # 98 % of fresh pictures captioned without a mistake
        python("make_model.py", "--size", "tiny", "--out", random_model, "--seed", a.seed)
        python("pretrain.py", "--model", random_model, "--out", halfway, "--steps", 500, "--threads", a.threads)
        python("pretrain.py", "--model", halfway, "--out", trained, "--steps", 400, "--lr", "1e-3", "--seed", 2,
               "--threads", a.threads)

    shutil.rmtree(a.out, ignore_errors=True)
    base = a.out / "base"
    base.mkdir(parents=True)
    for f in sorted(trained.glob("*.json")):
        shutil.copy(f, base / f.name)
    save_tensors(load_file(trained / "model.safetensors"), base, 2)
    for split, n in (("train", a.train), ("test", a.test)):
        rng = random.Random(f"demo/{a.seed}/{split}")
        write_parquet([vsft_row(rng, i, True) for i in range(n)], VSFT, a.out / "data" / f"{split}-00000-of-00001.parquet")
    for f in base.iterdir():
        f.chmod(0o644)
    files = sorted(f.relative_to(a.out).as_posix() for f in a.out.rglob("*") if f.is_file())
    (a.out / "index.txt").write_text("".join(f + "\n" for f in files))
    sizes = {f: (a.out / f).stat().st_size for f in files}
    assert max(sizes.values()) < LIMIT, sizes
    print(f"{len(files)} files, {sum(sizes.values()):,} bytes, the largest {max(sizes.values()):,}")


if __name__ == "__main__":
    main()
