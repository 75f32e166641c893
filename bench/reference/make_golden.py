"""Writes the golden values that the model's tests compare with: what Transformers and PEFT compute on two small models.

  make_golden.py --out java/engine/src/test/resources/golden

OUT/multimodal and OUT/text each hold
  config.json, model.safetensors    a random checkpoint in the hub's layout (bf16; a float32 run reads the same file)
  init/                             the adapter that training starts from, as PEFT writes it; both factors nonzero, and
                                    lm_head and embed_tokens differ from the checkpoint's table
  batch.json                        rows: ids, types (1 = image), labels, images (how many)
  pixels.safetensors                pixel_values [images, 3, side, side], in the order of the rows
  float32.*, bfloat16.*             values (.safetensors) and losses (.json) of a run at that precision

Values are packed: rows follow each other without padding, [sum of the rows' lengths, ...], though the reference ran a
padded batch. hidden.00 is what enters the first layer, hidden.NN what leaves layer NN - 1, normed what enters the head.
mask.<kind>.<row> is [queries, keys], 1 where a query may attend. grad.<key> is the gradient of the loss of the first step
before clipping, after.<key> (float32 only) the adapter after ten steps. bfloat16 runs as TRL's do: autocast, LoRA in float32, both
tables in bfloat16.
"""
import argparse, json, os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tvfix  # noqa: F401
import peft, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from make_model import dump, tensors

BOI, EOI, SOFT = 169, 170, 171
STEPS, LR = 10, 1e-3

# Odd sizes on purpose; the image block (16) is longer than the window (6), so the window cuts inside it.
MULTIMODAL = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "boi_token_index": BOI,
    "eoi_token_index": EOI, "image_token_index": SOFT, "eos_token_id": [1, 11], "initializer_range": 0.02,
    "mm_tokens_per_image": 16, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
    "text_config": {
        "model_type": "gemma3_text", "vocab_size": 176, "hidden_size": 56, "intermediate_size": 120,
        "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
        "query_pre_attn_scalar": 20, "sliding_window": 6, "sliding_window_pattern": 3,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 44, "intermediate_size": 92, "num_hidden_layers": 3,
        "num_attention_heads": 4, "patch_size": 7, "image_size": 56, "vision_use_head": False}}

TEXT = {
    "_sliding_window_pattern": 6, "architectures": ["Gemma3ForCausalLM"], "attention_bias": False,
    "attention_dropout": 0.0, "attn_logit_softcapping": None, "bos_token_id": 2, "eos_token_id": 1,
    "final_logit_softcapping": None, "head_dim": 40, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 72,
    "initializer_range": 0.02, "intermediate_size": 104,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "max_position_embeddings": 32768,
    "model_type": "gemma3_text", "num_attention_heads": 3, "num_hidden_layers": 3, "num_key_value_heads": 1,
    "pad_token_id": 0, "query_pre_attn_scalar": 40, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": 9, "torch_dtype": "bfloat16",
    "transformers_version": "4.55.0.dev0", "use_bidirectional_attention": False, "use_cache": True, "vocab_size": 187}


def rows_of(g, layout, limit):
    """Rows from a layout such as "5t p i 9t": counts of random text ids, p for a pad token in the text, i for an image."""
    rows = []
    for parts in layout:
        ids, images = [2], 0
        for part in parts.split():
            if part == "i":
                ids += [13, BOI, *[SOFT] * 16, EOI, 13]
                images += 1
            elif part == "p":                              # its row of the table has no gradient
                ids.append(0)
            else:
                ids += torch.randint(14, limit, (int(part[:-1]),), generator=g).tolist()
        types = [int(i == SOFT) for i in ids]
        rows.append({"ids": ids, "types": types, "labels": [-100 if i in (0, SOFT) else i for i in ids],
                     "images": images})
    row = rows[-1]                                         # the last row is trained on its second half only
    half = len(row["ids"]) // 2
    row["labels"] = [-100] * half + row["labels"][half:]
    return rows


def padded(rows, pixels):
    width = max(len(r["ids"]) for r in rows)
    fill = lambda key, v: torch.tensor([r[key] + [v] * (width - len(r["ids"])) for r in rows])
    b = {"input_ids": fill("ids", 0), "labels": fill("labels", -100)}
    b["attention_mask"] = torch.tensor([[1] * len(r["ids"]) + [0] * (width - len(r["ids"])) for r in rows])
    if pixels is not None:
        b |= {"token_type_ids": fill("types", 0), "pixel_values": pixels}
    return b


def adapted(folder, dtype):
    auto = AutoModelForImageTextToText if (folder / "pixels.safetensors").exists() else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", target_modules="all-linear",
                                            task_type="CAUSAL_LM", modules_to_save=["lm_head", "embed_tokens"]))


def short(name):
    return name.replace(".default", "").replace(".modules_to_save", "")


def initial_adapter(folder, g):
    model = adapted(folder, torch.float32)
    for n, p in sorted(model.named_parameters()):
        if p.requires_grad:
            if "lora_A" in n:
                p.data.copy_((torch.rand(p.shape, generator=g) * 2 - 1) * p.shape[1] ** -0.5)
            elif "lora_B" in n:
                p.data.copy_(torch.randn(p.shape, generator=g) * 0.05)
            else:
                p.data.add_(torch.randn(p.shape, generator=g) * 0.02)
            p.data.copy_(p.data.bfloat16())                # the same start at both precisions
    model.peft_config["default"].target_modules = sorted(model.peft_config["default"].target_modules)
    model.save_pretrained(folder / "init")
    (folder / "init" / "README.md").unlink()
    config = json.loads((folder / "init" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    dump(folder / "init" / "adapter_config.json", config)


def run(folder, rows, pixels, dtype):
    model = adapted(folder, dtype)
    init = load_file(folder / "init" / "adapter_model.safetensors")
    train = {short(n): p for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(init) == sorted(train)
    for n, p in train.items():
        p.data.copy_(init[n])
    model.train()
    b = padded(rows, pixels)
    lengths = [len(r["ids"]) for r in rows]
    pack = lambda t: torch.cat([t[i, :n] for i, n in enumerate(lengths)])
    values = {}

    def put(name, t):
        t = t.detach()
        values[name] = t.to(dtype if t.is_floating_point() else t.dtype).contiguous().clone()

    base = model.get_base_model()
    vision = pixels is not None
    layers = (base.model.language_model if vision else base.model).layers
    kinds = (base.config.text_config if vision else base.config).layer_types
    masks, hidden, tower, hooks = {}, {}, [], []
    for i, layer in enumerate(layers):
        hooks.append(layer.self_attn.register_forward_pre_hook(
            lambda m, args, kw, i=i: masks.update({kinds[i]: kw["attention_mask"]}), with_kwargs=True))
        hooks.append(layer.register_forward_pre_hook(lambda m, args, i=i: hidden.update({i: args[0]})))
    hooks.append(layers[-1].register_forward_hook(lambda m, args, out: hidden.update({len(layers): out})))
    hooks.append((base.model.language_model if vision else base.model).norm.register_forward_hook(
        lambda m, args, out: hidden.update(normed=out)))
    if vision:
        v = base.model.vision_tower
        hooks.append(v.embeddings.register_forward_hook(lambda m, args, out: tower.append(out)))
        hooks += [l.register_forward_hook(lambda m, args, out: tower.append(out[0] if isinstance(out, tuple) else out))
                  for l in v.encoder.layers]
    forward = lambda: model(**b, use_cache=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = forward()
    for h in hooks:
        h.remove()
    for i, t in enumerate(tower):
        put(f"vision.{i:02d}", t)
    if vision:
        put("vision.features", out.image_hidden_states)
    for i in (0, 1, len(layers) // 2 + 1, len(layers)):
        put(f"hidden.{i:02d}", pack(hidden[i]))
    put("normed", pack(hidden["normed"]))
    put("logits", pack(out.logits))
    for kind, m in masks.items():
        allowed = m if m.dtype == torch.bool else m == 0
        for i, n in enumerate(lengths):
            put(f"mask.{kind.split('_')[0]}.{i}", allowed[i, 0, :n, :n].to(torch.uint8))
    out.loss.backward()
    for n, p in train.items():
        values["grad." + n] = p.grad.clone()
    entropy = torch.distributions.Categorical(logits=out.logits[:, :-1].float()).entropy()
    target = b["labels"][:, 1:]
    counted = target != -100
    facts = {"loss": out.loss.item(), "trained_tokens": int(counted.sum()),
             "entropy": entropy[counted].mean().item(),
             "mean_token_accuracy": (out.logits[:, :-1].argmax(-1) == target)[counted].float().mean().item()}

    opt = torch.optim.AdamW(list(train.values()), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    steps = []
    for s in range(STEPS):
        opt.param_groups[0]["lr"] = LR * (STEPS - s) / STEPS
        opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = forward().loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(train.values()), 1.0)
        opt.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": opt.param_groups[0]["lr"]})
    if dtype == torch.float32:
        values |= {"after." + n: p.detach().clone() for n, p in train.items()}
    name = str(dtype).removeprefix("torch.")
    save_file(values, folder / f"{name}.safetensors")
    dump(folder / f"{name}.json", {
        **facts, "steps": steps, "max_grad_norm": 1.0,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}})
    print(f"{folder.name} {name}: {len(values)} tensors, loss {facts['loss']:.6f}, then",
          " ".join(f"{s['loss']:.4f}" for s in steps))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--seed", type=int, default=11)
    a = ap.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    for name, config, layout in (
            ("multimodal", MULTIMODAL, ["4t i 9t", "i 3t i 7t", "11t p 12t", "1t i", "6t i 5t"]),
            ("text", TEXT, ["41t", "9t p 7t", "1t", "30t"])):
        folder = a.out / name
        folder.mkdir(parents=True, exist_ok=True)
        text, vision = config.get("text_config", config), config.get("vision_config")
        g = torch.Generator().manual_seed(a.seed)
        dump(folder / "config.json", config)
        save_file(tensors(text, vision, text["vocab_size"], a.seed), folder / "model.safetensors",
                  metadata={"format": "pt"})
        rows = rows_of(g, layout, BOI if vision else text["vocab_size"])
        dump_rows = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
        (folder / "batch.json").write_text(dump_rows)
        pixels = None
        if vision:
            side = vision["image_size"]
            pixels = torch.rand(sum(r["images"] for r in rows), 3, side, side, generator=g) * 2 - 1
            pixels = ((pixels + 1) * 127.5).round() / 127.5 - 1      # as from 8-bit levels
            save_file({"pixel_values": pixels}, folder / "pixels.safetensors")
        initial_adapter(folder, g)
        for dtype in (torch.float32, torch.bfloat16):
            run(folder, rows, pixels, dtype)


if __name__ == "__main__":
    main()
