"""LoRA fine-tuning with TRL on the CPU, as Google's guide "Fine-Tune Gemma for Vision Tasks" does it, measured.

  train_trl.py --model DIR --data DIR/vsft --steps 6 [--dtype bfloat16] --json OUT.json
  train_trl.py --model DIR --data DIR/chat ...   # talks in words alone
  train_trl.py --model DIR --data DIR/mmiu ...   # several images a row, which the guide puts into the messages
  train_trl.py --model DIR --data DIR/texts ...  # prompt and completion, or DIR/talks: TRL prepares these itself

The collator is the guide's, mistakes included: two <bos>, <start_of_image> is trained on, the prompt too. Prompt and completion
have TRL's own, with its default of completion_only_loss.
"""
import argparse, io, json, os, resource, statistics, time, zipfile
from pathlib import Path

import tvfix  # noqa: F401
import torch
from datasets import Features, Image as ImageFeature, Value
from peft import LoraConfig, set_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer,
                          TrainerCallback, set_seed)
from trl import SFTConfig, SFTTrainer

from refdata import load


def arguments():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True)
    ap.add_argument("--data", required=True, help="folder with Parquet files as the hub repository has them")
    ap.add_argument("--json", type=Path, required=True)
    ap.add_argument("--work", type=Path, default=Path("trl-run"))
    ap.add_argument("--steps", type=int, default=6)
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--accum", type=int, default=4)
    ap.add_argument("--lr", type=float, default=2e-5)
    ap.add_argument("--warmup", type=float, default=0, help="steps; below 1 a share of all steps")
    ap.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    ap.add_argument("--attn", choices=["eager", "sdpa"], default="eager")
    ap.add_argument("--loss", choices=["chunked_nll", "nll"], default="chunked_nll")
    ap.add_argument("--gradient-checkpointing", action="store_true")
    ap.add_argument("--dropout", type=float, default=0.05)
    ap.add_argument("--modules-to-save", nargs="+", default=["lm_head", "embed_tokens"], help="'none' for LoRA alone")
    ap.add_argument("--save", type=Path)
    ap.add_argument("--save-init", type=Path, help="write the adapter that the run starts from, as PEFT files")
    ap.add_argument("--init-adapter", type=Path, help="start from this adapter's values")
    ap.add_argument("--save-grads", type=Path, help="write the first step's gradients, before clipping, under PEFT's keys")
    ap.add_argument("--save-batches", type=Path, help="write ids, attention mask and labels of each micro-batch")
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--threads", type=int, default=2)
    return ap.parse_args()


a = arguments()
torch.set_num_threads(a.threads)
set_seed(a.seed)
dtype = getattr(torch, a.dtype)


def rss_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- data ------------------------------------------------------------------------------------------------------
def several_images(samples):
    """The guide's format_data for MMIU: a system turn, pictures before the question, the answer."""
    talks = []
    for i in range(len(samples["question"])):
        images = []
        for path in samples["input_image_path"][i]:
            folder, entry = path.removeprefix("./").split("/", 1)
            picture = Image.open(io.BytesIO(zips[folder].read(entry))).convert("RGB")
            images.append({"type": "image", "image": picture, "text": None})
        text = lambda key: {"type": "text", "text": samples[key][i], "image": None}
        talks.append([{"role": "system", "content": [text("context")]},
                      {"role": "user", "content": [*images, text("question")]},
                      {"role": "assistant", "content": [text("output")]}])
    return {"messages": talks}


splits = load(a.data)
train = splits.get("train", splits.get("test"))
several = "question" in train.column_names
parted = "prompt" in train.column_names
if several:
    zips = {z.stem: zipfile.ZipFile(z) for z in Path(a.data).glob("*.zip")}
    # Without stated features datasets 5 stores such content as JSON and the pictures' pixels are lost.
    shape = Features({"messages": [{"role": Value("string"), "content": [
        {"type": Value("string"), "text": Value("string"), "image": ImageFeature()}]}]})
    train = train.map(several_images, batched=True, batch_size=4, features=shape, remove_columns=train.column_names,
                      load_from_cache_file=False)

# --- model -----------------------------------------------------------------------------------------------------
rss_before = rss_mib()
text_only = AutoConfig.from_pretrained(a.model).model_type == "gemma3_text"
model_class, processor_class = ((AutoModelForCausalLM, AutoTokenizer) if text_only else
                                (AutoModelForImageTextToText, AutoProcessor))
model = model_class.from_pretrained(a.model, device_map="cpu", dtype=dtype, attn_implementation=a.attn)
processor = processor_class.from_pretrained(a.model)
tokenizer = processor if text_only else processor.tokenizer
tokenizer.padding_side = "right"
peft_config = LoraConfig(lora_alpha=16, lora_dropout=a.dropout, r=16, bias="none", target_modules="all-linear",
                         task_type="CAUSAL_LM", modules_to_save=None if a.modules_to_save == ["none"] else a.modules_to_save)
training_args = SFTConfig(
    output_dir=str(a.work / "out"),
    max_steps=a.steps,                       # the guide: num_train_epochs=1
    per_device_train_batch_size=a.batch,
    gradient_accumulation_steps=a.accum,
    gradient_checkpointing=a.gradient_checkpointing,
    optim="adamw_torch_fused",
    save_strategy="no",
    learning_rate=a.lr,
    warmup_steps=a.warmup,
    bf16=a.dtype == "bfloat16",
    push_to_hub=False,                       # no hub here
    report_to="none",
    gradient_checkpointing_kwargs={"use_reentrant": False},
    **({} if parted else {"dataset_kwargs": {"skip_prepare_dataset": True}, "remove_unused_columns": False}),
    loss_type=a.loss,
    logging_steps=1, disable_tqdm=True, use_cpu=True, seed=a.seed, dataloader_pin_memory=False,
)

# --- collator --------------------------------------------------------------------------------------------------
tokens = {"real": 0, "padded": 0, "trained": 0}
masked = [tokenizer.pad_token_id]
if not text_only:                            # the guide also names <start_of_image>, in a way that masks nothing
    masked.append(model.config.image_token_index)


def collate_fn(examples):
    texts = [processor.apply_chat_template(e["messages"], tokenize=False, add_generation_prompt=False).strip()
             for e in examples]
    images = {}
    if "images" in examples[0]:
        images["images"] = [[img.convert("RGB") for img in e["images"]] for e in examples]
    elif several:
        images["images"] = [[part["image"].convert("RGB") for m in e["messages"] for part in m["content"]
                             if part["type"] == "image"] for e in examples]
    batch = processor(text=texts, **images, return_tensors="pt", padding=True)
    labels = batch["input_ids"].clone()
    labels[torch.isin(labels, torch.tensor(masked))] = -100
    batch["labels"] = labels
    return batch


batches = []


def peft_key(name):
    return name.replace(".default", "").replace(".modules_to_save", "")


class CountingTrainer(SFTTrainer):
    """Counts a batch when it is trained on: the collator runs one batch ahead."""

    def training_step(self, model, inputs, *args, **kw):
        tokens["real"] += int(inputs["attention_mask"].sum())
        tokens["padded"] += inputs["attention_mask"].numel()
        tokens["trained"] += int((inputs["labels"][:, 1:] != -100).sum())
        if a.save_batches:
            batches.append({k: inputs[k].clone() for k in ("input_ids", "attention_mask", "labels")})
        loss = super().training_step(model, inputs, *args, **kw)
        if a.save_grads and self.state.global_step == 0:      # the last micro-batch leaves the sum
            save_file({peft_key(n): p.grad.clone() for n, p in self.model.named_parameters()
                       if p.grad is not None}, a.save_grads)          # a vision tower has none without pictures
        return loss


class Clock(TrainerCallback):
    def __init__(self):
        self.rows, self.last, self.seen = [], None, dict(tokens)

    def on_train_begin(self, *_, **__):
        self.last, self.cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **kw):
        now, cpu = time.perf_counter(), time.process_time()
        self.rows.append({"step": state.global_step, "seconds": now - self.last, "cpu_seconds": cpu - self.cpu,
                          "tokens": {k: tokens[k] - self.seen[k] for k in tokens}})
        self.last, self.cpu, self.seen = now, cpu, dict(tokens)

    def on_log(self, args, state, control, logs=None, **kw):
        if logs and "loss" in logs:
            self.rows[-1]["logged_at"] = time.time()
            self.rows[-1].update({k: float(logs[k]) for k in
                                  ("loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy") if k in logs})


clock = Clock()
trainer = CountingTrainer(model=model, args=training_args, data_collator=None if parted else collate_fn, train_dataset=train,
                          processing_class=processor, peft_config=peft_config, callbacks=[clock])
params = {}
for n, p in trainer.model.named_parameters():
    if p.requires_grad:
        kind = "lora" if "lora_" in n else "modules_to_save"
        e = params.setdefault(f"{kind}/{str(p.dtype)[6:]}", [0, 0])
        e[0] += 1
        e[1] += p.numel()
if a.init_adapter:
    wrong = set_peft_model_state_dict(trainer.model, load_file(a.init_adapter / "adapter_model.safetensors")).unexpected_keys
    assert not wrong, wrong
if a.save_init:
    trainer.model.save_pretrained(a.save_init)
rss_ready = rss_mib()
trainer.train()
if a.save:
    trainer.save_model(str(a.save))

if a.save_batches:
    save_file({f"{i}.{k}": v.contiguous() for i, b in enumerate(batches) for k, v in b.items()}, a.save_batches)

rows = clock.rows
steady = rows[1:] or rows
med = statistics.median(r["seconds"] for r in steady)
report = {
    "args": {k: str(v) if isinstance(v, Path) else v for k, v in vars(a).items()},
    "trainable": params, "parameters": sum(p.numel() for p in trainer.model.parameters()),
    "rss_mib": {"before_model": round(rss_before), "before_training": round(rss_ready), "peak": round(rss_mib())},
    "median_step_seconds": med, "fastest_step_seconds": min(r["seconds"] for r in steady),
    "median_step_cpu_seconds": statistics.median(r["cpu_seconds"] for r in steady), "load": os.getloadavg()[0],
    "samples_per_second": a.batch * a.accum * len(steady) / sum(r["seconds"] for r in steady),
    "tokens_per_second": sum(r["tokens"]["real"] for r in steady) / sum(r["seconds"] for r in steady),
    "steps": rows,
}
a.json.parent.mkdir(parents=True, exist_ok=True)
a.json.write_text(json.dumps(report, indent=1))
print(json.dumps({k: v for k, v in report.items() if k not in ("args", "steps")}),
      [round(r.get("loss", float("nan")), 4) for r in rows])
