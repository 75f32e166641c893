"""Teaches a random tiny checkpoint to caption shape pictures, training every weight, and writes it as a hub snapshot.

  pretrain.py --model w/tiny --out w/tiny-base --steps 500

The captions are worded unlike the answers of the fine-tuning data, so the result sees shapes but cannot answer yet.
"""
import argparse, math, random, shutil, time
from pathlib import Path

import tvfix  # noqa: F401
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from make_data import NUMBERS, scene

ap = argparse.ArgumentParser()
ap.add_argument("--model", type=Path, required=True)
ap.add_argument("--out", type=Path, required=True)
ap.add_argument("--steps", type=int, default=1500)
ap.add_argument("--batch", type=int, default=64)
ap.add_argument("--lr", type=float, default=2e-3)
ap.add_argument("--seconds", type=float, default=1e9)
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--threads", type=int, default=2)
a = ap.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
rng = random.Random(a.seed)

model = AutoModelForImageTextToText.from_pretrained(a.model, dtype=torch.float32, attn_implementation="sdpa")
proc = AutoProcessor.from_pretrained(a.model)
tok = proc.tokenizer
px = model.config.vision_config.image_size
image_id = model.config.image_token_index
soft = "<image_soft_token>" * model.config.mm_tokens_per_image
head = ("<bos><start_of_turn>user\n\n\n<start_of_image>" + soft + "<end_of_image>\n\ncaption<end_of_turn>\n"
        "<start_of_turn>model\n")


def caption(f):
    s = "s" if f["n"] > 1 else ""
    return f"{f['colour']} {f['kind']}{s} {NUMBERS[f['n'] - 1]} " + " ".join(sorted(f["places"]))


def batch(r, n):
    pics, texts = [], []
    for _ in range(n):
        im, f = scene(r, (px, px))
        pics.append(np.asarray(im, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)
        texts.append(caption(f))
    rows = [tok(head + t + "<end_of_turn>", add_special_tokens=False)["input_ids"] for t in texts]
    start = len(tok(head, add_special_tokens=False)["input_ids"])
    width = max(map(len, rows))
    ids = torch.tensor([x + [0] * (width - len(x)) for x in rows])
    labels = torch.where((ids == 0) | (torch.arange(width) < start), -100, ids)
    return dict(input_ids=ids, attention_mask=(ids != 0).long(), token_type_ids=(ids == image_id).long(),
                pixel_values=torch.from_numpy(np.stack(pics)), labels=labels)


def exact(n=128):
    model.eval()
    b = batch(random.Random(10 ** 6), n)
    with torch.no_grad():
        guess = model(**{k: v for k, v in b.items() if k != "labels"}).logits[:, :-1].argmax(-1)
    want = b["labels"][:, 1:]
    model.train()
    return ((guess == want) | (want == -100)).all(1).float().mean().item()


model.train()
opt = torch.optim.AdamW(model.parameters(), lr=a.lr, betas=(0.9, 0.98), weight_decay=0.01)
t0, step = time.time(), 0
for step in range(1, a.steps + 1):
    lr = a.lr * min(1, step / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / a.steps)))
    opt.param_groups[0]["lr"] = lr
    loss = model(**batch(rng, a.batch)).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad()
    if step % 50 == 0:
        print(f"step {step} loss {loss.item():.4f} exact {exact():.3f} {time.time() - t0:.0f}s", flush=True)
    if time.time() - t0 > a.seconds:
        break

a.out.mkdir(parents=True, exist_ok=True)
for f in a.model.glob("*.json"):
    shutil.copy(f, a.out / f.name)
rename = (("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower.vision_model."),
          ("model.multi_modal_projector.", "multi_modal_projector."))
out = {}
for n, p in model.named_parameters():
    for x, y in rename:
        if n.startswith(x):
            out[y + n[len(x):]] = p.detach().to(torch.bfloat16).contiguous()
save_file(out, a.out / "model.safetensors", metadata={"format": "pt"})
