"""Writes what Transformers, PEFT and bitsandbytes compute on make_golden.py's models in NF4.

  make_nf4_golden.py --out java/engine/src/test/resources/golden      (after make_golden.py, whose models it reads)

OUT/multimodal_nf4 (double quantisation, bfloat16 storage) and OUT/text_nf4 (F32 scales, uint8 storage) each hold
  config.json, model.safetensors    the checkpoint quantised and saved by Transformers with bitsandbytes, in bfloat16
  float32.*, bfloat16.*             normed, logits, gradients of the first step (float32), ten losses, the
                                    adapter after them (float32): from the
                                    bf16 checkpoint, loaded and quantised at that dtype, with the plain model's adapter,
                                    rows and pictures

Run it with bitsandbytes' pure Python backend, see nf4_golden.py, and TORCHDYNAMO_DISABLE=1.
"""
import argparse, json, os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tvfix  # noqa: F401
import bitsandbytes, peft, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig

from make_golden import LR, STEPS, padded, short
from make_model import dump

FORMS = {"multimodal": (True, torch.bfloat16), "text": (False, torch.uint8)}


def quantised(folder, dtype):
    nested, storage = FORMS[folder.name]
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested,
                                bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_storage=storage)
    auto = AutoModelForImageTextToText if folder.name == "multimodal" else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager", quantization_config=config,
                                device_map="cpu")


def run(folder, out, dtype):
    model = get_peft_model(quantised(folder, dtype), LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, bias="none", target_modules="all-linear", task_type="CAUSAL_LM",
        modules_to_save=["lm_head", "embed_tokens"]))
    init = load_file(folder / "init" / "adapter_model.safetensors")
    train = {short(n): p for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(init) == sorted(train)
    for n, p in train.items():
        p.data.copy_(init[n])
    model.train()
    rows = json.loads((folder / "batch.json").read_text())
    pixels = folder / "pixels.safetensors"
    b = padded(rows, load_file(pixels)["pixel_values"] if pixels.exists() else None)
    lengths = [len(r["ids"]) for r in rows]
    pack = lambda t: torch.cat([t[i, :n] for i, n in enumerate(lengths)]).detach().to(dtype).contiguous()
    base = model.get_base_model()
    norm = (base.model.language_model if pixels.exists() else base.model).norm
    values = {}
    hook = norm.register_forward_hook(lambda m, args, out: values.update(normed=pack(out)))
    autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    with autocast():
        y = model(**b, use_cache=False)
    hook.remove()
    values["logits"] = pack(y.logits)
    y.loss.backward()
    values |= {"grad." + n: p.grad.clone() for n, p in train.items()}
    facts = {"loss": y.loss.item(), "trained_tokens": int((b["labels"][:, 1:] != -100).sum())}
    opt = torch.optim.AdamW(list(train.values()), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    steps = []
    for s in range(STEPS):
        opt.param_groups[0]["lr"] = LR * (STEPS - s) / STEPS
        opt.zero_grad()
        with autocast():
            loss = model(**b, use_cache=False).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(train.values()), 1.0)
        opt.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": opt.param_groups[0]["lr"]})
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float32:
        values |= {"after." + n: p.detach().clone() for n, p in train.items()}
    else:
        values = {k: v for k, v in values.items() if not k.startswith("grad.")}
    save_file(values, out / f"{name}.safetensors")
    dump(out / f"{name}.json", {**facts, "steps": steps, "max_grad_norm": 1.0, "versions": {
        m.__name__: m.__version__ for m in (torch, transformers, peft, bitsandbytes)}})
    print(f"{out.name} {name}: loss {facts['loss']:.6f}, then", " ".join(f"{s['loss']:.4f}" for s in steps))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True)
    a = ap.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    for name in FORMS:
        out = a.out / f"{name}_nf4"
        quantised(a.out / name, torch.bfloat16).save_pretrained(out)
        (out / "generation_config.json").unlink(missing_ok=True)
        for dtype in (torch.float32, torch.bfloat16):
            run(a.out / name, out, dtype)


if __name__ == "__main__":
    main()
