"""Rows of the guide's two kinds, drawn on the spot, as the data sets on the Hub have them:

  make_rows.py --out DIR --rows 128 [--photo 640x480]

writes DIR/single (one picture and a talk of about 300 tokens, as llava-instruct-mix-vsft) and DIR/multi (four pictures and a
question, as MMIU), each data/train-00000-of-00001.parquet with `messages` and `images`.
"""
import argparse, random, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference"))
from make_data import VSFT, encode, scene, turns, write_parquet  # noqa: E402


def content(*parts):
    return [{"index": p if isinstance(p, int) else None, "text": None if isinstance(p, int) else p,
             "type": "image" if isinstance(p, int) else "text"} for p in parts]


def row(rng, pictures, size, words):
    scenes = [scene(rng, size) for _ in range(pictures)]
    messages = []
    first = True
    length = 0
    while first or length < words:
        for question, answer in turns(rng, scenes[0][1]):
            images = list(range(pictures)) if first else []
            messages.append({"role": "user", "content": content(*images, question)})
            messages.append({"role": "assistant", "content": content(answer)})
            length += len(question.split()) + len(answer.split())
            first = False
            if length >= words:
                break
    return {"messages": messages, "images": [{"bytes": encode(rng, im, "jpeg"), "path": f"{i}.jpg"} for i, (im, _) in enumerate(scenes)]}


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--rows", type=int, default=128)
    ap.add_argument("--photo", default="640x480")
    a = ap.parse_args()
    size = tuple(int(x) for x in a.photo.split("x"))
    for kind, pictures, words in (("single", 1, 200), ("multi", 4, 40)):
        rng = random.Random(kind)
        rows = [row(rng, pictures, size, words) for _ in range(a.rows)]
        write_parquet(rows, VSFT, a.out / kind / "data" / "train-00000-of-00001.parquet")
