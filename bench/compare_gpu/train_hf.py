"""The guide's fine-tuning with Transformers and PEFT, without TRL, which a lent machine need not have: bitsandbytes' NF4 where it
is installed, else LoRA beside the bf16 model; the steps are timed, memory is torch's own count.

  train_hf.py --model DIR --data DIR/single --batch 8 --accum 4 --steps 4 --device cuda --json OUT.json
"""
import argparse, importlib.util, io, json, os, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference"))
try:
    import tvfix  # noqa: F401,E402  (a torchvision without its operators, as on some CPU installs)
except Exception:  # a whole torchvision needs no mending
    pass
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor, set_seed  # noqa: E402

ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True)
ap.add_argument("--data", type=Path, required=True)
ap.add_argument("--batch", type=int, default=8)
ap.add_argument("--accum", type=int, default=4)
ap.add_argument("--steps", type=int, default=4)
ap.add_argument("--device", default="cuda")
ap.add_argument("--attn", choices=["eager", "sdpa"], default="eager", help="the guide: eager")
ap.add_argument("--tables", action="store_true", help="train lm_head and embed_tokens too, as the guide does")
ap.add_argument("--json", type=Path, required=True)
a = ap.parse_args()
set_seed(42)
cuda = a.device == "cuda"
quantized = cuda and importlib.util.find_spec("bitsandbytes") is not None
options = {}
if quantized:
    from transformers import BitsAndBytesConfig
    options["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_storage=torch.bfloat16)
model = AutoModelForImageTextToText.from_pretrained(
    a.model, device_map=a.device if cuda else "cpu", dtype=torch.bfloat16, attn_implementation=a.attn, **options)
if quantized:
    model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
else:
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(
    r=16, lora_alpha=16, lora_dropout=0.05, bias="none", target_modules="all-linear", task_type="CAUSAL_LM",
    modules_to_save=["lm_head", "embed_tokens"] if a.tables else None))
model.train()
processor = AutoProcessor.from_pretrained(a.model)
processor.tokenizer.padding_side = "right"
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-5, weight_decay=0, fused=cuda)
rows = pq.read_table(sorted(a.data.glob("data/train-*.parquet"))[0]).to_pylist()
masked = torch.tensor([processor.tokenizer.pad_token_id, model.config.image_token_id])
tokens = {"real": 0, "images": 0}


def batch(first):
    chosen = [rows[(first + i) % len(rows)] for i in range(a.batch)]
    texts = [processor.apply_chat_template(r["messages"], tokenize=False).strip() for r in chosen]
    images = [[Image.open(io.BytesIO(i["bytes"])).convert("RGB") for i in r["images"]] for r in chosen]
    made = processor(text=texts, images=images, return_tensors="pt", padding=True)
    made["labels"] = made["input_ids"].clone()
    made["labels"][torch.isin(made["labels"], masked)] = -100
    tokens["real"] += int(made["attention_mask"].sum())
    tokens["images"] += sum(len(i) for i in images)
    return {k: v.to(a.device) for k, v in made.items()}


def wait():
    if cuda:
        torch.cuda.synchronize()


steps, losses, at = [], [], 0
for step in range(a.steps):
    wait()
    before, start, total = dict(tokens), time.perf_counter(), 0.0
    for _ in range(a.accum):
        with torch.autocast(a.device if cuda else "cpu", dtype=torch.bfloat16):
            loss = model(**batch(at)).loss / a.accum
        loss.backward()
        at += a.batch
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses.append(float(total))
    wait()
    steps.append({"seconds": time.perf_counter() - start, "tokens": tokens["real"] - before["real"],
                  "images": tokens["images"] - before["images"]})
    print(f"step {step + 1}: loss {losses[-1]:.4f}, {steps[-1]['seconds']:.2f} s", flush=True)
steady = steps[1:] or steps
seconds = sum(s["seconds"] for s in steady)
a.json.write_text(json.dumps({
    "what": "Transformers + PEFT" + (" + bitsandbytes NF4" if quantized else ", bf16 LoRA") + f", {a.attn} attention",
    "versions": {m: __import__(m).__version__ for m in ("torch", "transformers", "peft")},
    "samples_per_second": a.batch * a.accum * len(steady) / seconds,
    "tokens_per_second": sum(s["tokens"] for s in steady) / seconds,
    "images_per_second": sum(s["images"] for s in steady) / seconds,
    "peak_allocated_mib": torch.cuda.max_memory_allocated() >> 20 if cuda else None,
    "losses": losses, "steps": steps, "pid": os.getpid()}, indent=1))
