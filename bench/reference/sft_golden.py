"""Whole TRL runs of the demo's model, which lapidary.train.Sft follows step by step under --compat trl.

  sft_golden.py java/engine/src/main/resources/lapidary/demo java/engine/src/test/resources/lapidary/train/sft

Writes nine rows of the demo's data, the adapter that the runs start from, what they log (every step, every second
step) and the adapter that they end with. Nine rows in batches of two leave a short batch and a short group of batches
at the end of each epoch. Then a run with SGD, whose steps need no state, that is evaluated on five more rows: its log, and of
its checkpoint-2, as TRL wrote it, adapter and trainer_state.json. `sft_golden.py DEMO OUT evaluated` writes this run alone.
"""
import json, os, shutil, sys, tempfile
from pathlib import Path

import tvfix  # noqa: F401
import pyarrow.parquet as pq
import torch
from datasets import load_dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, set_seed
from trl import SFTConfig, SFTTrainer

demo, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)
rows = out / "rows.parquet"
pq.write_table(pq.read_table(demo / "data" / "train-00000-of-00001.parquet").slice(0, 9), rows)
processor = AutoProcessor.from_pretrained(demo / "base")
processor.tokenizer.padding_side = "right"


def collate(examples):
    texts = [processor.apply_chat_template(e["messages"], tokenize=False, add_generation_prompt=False).strip()
             for e in examples]
    batch = processor(text=texts, images=[[i.convert("RGB") for i in e["images"]] for e in examples],
                      return_tensors="pt", padding=True)
    labels = batch["input_ids"].clone()
    labels[torch.isin(labels, torch.tensor([processor.tokenizer.pad_token_id, 704]))] = -100
    batch["labels"] = labels
    return batch


def run(logging_steps):
    set_seed(42)
    model = AutoModelForImageTextToText.from_pretrained(demo / "base", dtype=torch.float32, attn_implementation="eager")
    lora = LoraConfig(lora_alpha=8, lora_dropout=0.0, r=4, bias="none", target_modules="all-linear",
                      task_type="CAUSAL_LM", modules_to_save=["lm_head", "embed_tokens"])
    with tempfile.TemporaryDirectory() as work:
        args = SFTConfig(
            output_dir=work, num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
            gradient_checkpointing=False, optim="adamw_torch_fused", save_strategy="no", learning_rate=2e-3,
            lr_scheduler_type="linear", warmup_steps=2, weight_decay=0.1, bf16=False, report_to="none",
            dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, logging_steps=logging_steps,
            disable_tqdm=True, use_cpu=True, seed=42, dataloader_pin_memory=False)
        trainer = SFTTrainer(model=model, args=args, data_collator=collate, processing_class=processor, peft_config=lora,
                             train_dataset=load_dataset("parquet", data_files=str(rows), cache_dir=work)["train"])
        init = out / "init"
        if not init.exists():
            g = torch.Generator().manual_seed(7)
            for name, p in sorted(trainer.model.named_parameters()):
                if "lora_B" in name:
                    p.data.copy_(torch.randn(p.shape, generator=g) * 0.05)
            trainer.model.save_pretrained(init)
            (init / "README.md").unlink(missing_ok=True)
            config = json.loads((init / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = None
            config["target_modules"] = sorted(config["target_modules"])
            (init / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
        wrong = set_peft_model_state_dict(trainer.model, load_file(init / "adapter_model.safetensors")).unexpected_keys
        assert not wrong, wrong
        trainer.train()
        state = {"log_history": trainer.state.log_history, "epoch": trainer.state.epoch,
                 "global_step": trainer.state.global_step}
        (out / f"every_{logging_steps}.json").write_text(json.dumps(state, indent=1) + "\n")
        print(json.dumps(state["log_history"], indent=1))
        if logging_steps == 1:
            trainer.save_model(work)
            shutil.copy(Path(work) / "adapter_model.safetensors", out / "final.safetensors")


def evaluated():
    eval_rows = out / "eval.parquet"
    pq.write_table(pq.read_table(next((demo / "data").glob("test-*.parquet"))).slice(0, 5), eval_rows)
    set_seed(42)
    model = AutoModelForImageTextToText.from_pretrained(demo / "base", dtype=torch.float32, attn_implementation="eager")
    lora = LoraConfig(lora_alpha=8, lora_dropout=0.0, r=2, bias="none", target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as work:
        args = SFTConfig(
            output_dir=work, num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
            gradient_checkpointing=False, optim="sgd", save_strategy="steps", save_steps=2, learning_rate=1.0,
            lr_scheduler_type="linear", weight_decay=0.0, bf16=False, report_to="none", eval_strategy="steps", eval_steps=2,
            per_device_eval_batch_size=2, dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False,
            logging_steps=1, disable_tqdm=True, use_cpu=True, seed=42, dataloader_pin_memory=False)
        data = load_dataset("parquet", data_files={"train": str(rows), "eval": str(eval_rows)}, cache_dir=work)
        trainer = SFTTrainer(model=model, args=args, data_collator=collate, processing_class=processor, peft_config=lora,
                             train_dataset=data["train"], eval_dataset=data["eval"])
        trainer.train()
        golden = out / "evaluated"
        golden.mkdir(exist_ok=True)
        (golden / "log_history.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
        checkpoint = golden / "checkpoint-2"
        checkpoint.mkdir(exist_ok=True)
        for name in ("adapter_model.safetensors", "trainer_state.json"):
            shutil.copy(Path(work) / "checkpoint-2" / name, checkpoint)
        config = json.loads((Path(work) / "checkpoint-2/adapter_config.json").read_text())
        config["base_model_name_or_path"] = None
        config["target_modules"] = sorted(config["target_modules"])
        (checkpoint / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
        print(sorted(os.listdir(Path(work) / "checkpoint-2")))
        print(json.dumps(trainer.state.log_history, indent=1))


if sys.argv[3:] != ["evaluated"]:
    run(1)
    run(2)
evaluated()
