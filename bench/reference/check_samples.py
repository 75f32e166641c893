"""Compares every sample that `engine check --compat trl --dump FILE` wrote with the reference processor's under the guide's collator:
input_ids, token_type_ids, labels and pixel_values, each of which must be equal.

    python check_samples.py --model MODEL --data DIR/vsft --dump FILE            # llava-style: messages and images
    python check_samples.py --model MODEL --data DIR/mmiu --dump FILE --mmiu     # the guide's multi-image preparation
"""
import tvfix  # noqa: F401  (before transformers)
import argparse
import io
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from transformers import AutoProcessor



ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True)
ap.add_argument("--data", type=Path, required=True)
ap.add_argument("--split", default="train")
ap.add_argument("--dump", required=True)
ap.add_argument("--mmiu", action="store_true")
ap.add_argument("--pan_and_scan", action="store_true")
a = ap.parse_args()

processor = AutoProcessor.from_pretrained(a.model)
processor.tokenizer.padding_side = "right"
pad, image = processor.tokenizer.pad_token_id, processor.tokenizer.convert_tokens_to_ids("<image_soft_token>")


def vsft():
    for file in sorted((a.data / "data").glob(f"{a.split}-*.parquet")):
        for row in pq.read_table(file).to_pylist():
            # as datasets' Image feature decodes: turned as EXIF says
            yield row["messages"], [ImageOps.exif_transpose(Image.open(io.BytesIO(i["bytes"]))) for i in row["images"]]


def mmiu():
    zips = {z.stem: zipfile.ZipFile(z) for z in a.data.glob("*.zip")}
    for row in pq.read_table(a.data / "all.parquet").to_pylist():
        images = []
        for path in row["input_image_path"]:
            folder, entry = path.removeprefix("./").split("/", 1)
            images.append(Image.open(io.BytesIO(zips[folder].read(entry))))
        parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": row["question"]}]
        yield [{"role": "system", "content": [{"type": "text", "text": row["context"]}]},
               {"role": "user", "content": parts},
               {"role": "assistant", "content": [{"type": "text", "text": row["output"]}]}], images


n = 0
with safe_open(a.dump, "pt") as dump:
    for i, (messages, images) in enumerate(mmiu() if a.mmiu else vsft()):
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=False).strip()
        want = processor(text=[text], images=[[x.convert("RGB") for x in images]] if images else None,
                         return_tensors="pt", padding=True, do_pan_and_scan=a.pan_and_scan)
        labels = want["input_ids"].clone()
        labels[labels == pad] = -100
        labels[labels == image] = -100
        got = {k: dump.get_tensor(f"sample.{i}.{k}") for k in ("input_ids", "token_type_ids", "labels", "pixel_values")}
        assert torch.equal(got["input_ids"], want["input_ids"][0]), (i, "input_ids")
        assert torch.equal(got["token_type_ids"], want["token_type_ids"][0]), (i, "token_type_ids")
        assert torch.equal(got["labels"], labels[0]), (i, "labels")
        if images:
            assert torch.equal(got["pixel_values"], want["pixel_values"]), (i, "pixel_values")
        n += 1
    assert len(dump.keys()) == 4 * n, (len(dump.keys()), n)
print(f"{n} samples are equal: ids, types, labels, pixels")
