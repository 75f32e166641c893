"""The engine's merge of a model that is too large for float32, in Transformers against PEFT's base + adapter.

    mvn -q -DskipTests package && python bench/export/large.py MODEL --work DIR

MODEL is a checkpoint of bench/reference/make_model.py, such as --size guide, of gemma-3-4b-it's shapes. The adapter is PEFT's
with the guide's options (rank 16 on every linear layer, trained copies of lm_head and embed_tokens) and random values. One model
at a time is in memory, its weights in bfloat16. It computes in bfloat16, as Transformers does, and then with activations in
float32, where each weight is widened as it is used: what is left is the merged weights' rounding. Ends with 1 where a figure is
above its limit, those of bench/results/export.md.
"""
import argparse, subprocess, sys, types
from pathlib import Path

import check
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForImageTextToText

ROWS = 1 << 15                       # of a table are widened at a time


def load(checkpoint):
    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.bfloat16, attn_implementation="sdpa",
                                                       output_loading_info=True)


def widen(model):
    """Activations in float32 from now on."""
    def linear(self, x):
        bias = None if self.bias is None else self.bias.float()
        if self.weight.shape[0] <= 2 * ROWS:
            return F.linear(x.float(), self.weight.float(), bias)
        return torch.cat([F.linear(x.float(), part.float()) for part in self.weight.split(ROWS)], -1)

    def embedding(self, ids):
        return F.embedding(ids, self.weight).float() * self.scalar_embed_scale

    for module in model.modules():
        if type(module).__name__ == "Gemma3TextScaledWordEmbedding":
            module.forward = types.MethodType(embedding, module)
        elif type(module) is nn.Linear:
            if module.weight.dtype == torch.bfloat16:
                module.forward = types.MethodType(linear, module)
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()


def batches(model, work):
    return {where: check.inputs(model, text, images) for where, (text, images) in check.prompts(work, model).items()
            if where != "long text"}


@torch.no_grad()
def logprobs(model, batch, dtype):
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}
    return model(**batch).logits[0].float().log_softmax(-1)


def adapter(a):
    torch.manual_seed(5)
    model = get_peft_model(load(a.model)[0], LoraConfig(
        r=16, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM",
        modules_to_save=["lm_head", "embed_tokens"]))
    g = torch.Generator().manual_seed(5)
    for n, p in sorted(model.named_parameters()):
        if p.requires_grad and "lora_B" in n:
            p.data.copy_(torch.randn(p.shape, generator=g) * 0.02)
        elif p.requires_grad and "lora_" not in n:
            p.data.add_((torch.randn(p.shape, generator=g) * (p.std() * 0.2)).to(p.dtype))
    model.save_pretrained(a.work / "adapter")


def peft(a):
    model = PeftModel.from_pretrained(load(a.model)[0], a.work / "adapter").eval()
    asked = batches(a.model, a.work)
    narrow = {where: logprobs(model, batch, torch.bfloat16) for where, batch in asked.items()}
    widen(model)
    kept = {}
    for where, batch in asked.items():
        top = logprobs(model, batch, torch.float32).topk(50, -1)
        kept[where] = {"ids": top.indices, "float32": top.values, "bfloat16": narrow[where].gather(-1, top.indices)}
    torch.save(kept, a.work / "peft.pt")


def merged(a):
    model, info = load(a.work / "merged")
    model.eval()
    strange = sum(len(info[k]) for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    check.row(a.model.name, "merge", "keys that Transformers missed or did not know", strange, 0)
    kept, asked = torch.load(a.work / "peft.pt"), batches(a.model, a.work)
    narrow = {where: logprobs(model, batch, torch.bfloat16).gather(-1, kept[where]["ids"]) for where, batch in asked.items()}
    widen(model)
    for where, batch in asked.items():
        theirs = kept[where]
        wide = logprobs(model, batch, torch.float32).gather(-1, theirs["ids"])
        judge(a.model.name, f"{where}, {len(wide)} tokens", wide, narrow[where], theirs)
    if check.failures:
        sys.exit(f"{len(check.failures)} failed")


def judge(model, where, wide, narrow, theirs):
    """The merged checkpoint's log-probabilities against PEFT's, [tokens, 50] each."""
    off = lambda x, y: (x - y).abs().max().item()
    weights, peft_own = off(wide, theirs["float32"]), off(theirs["bfloat16"], theirs["float32"])
    check.row(model, "merge, activations in float32", where, weights, check.MERGED)
    # Each side's bfloat16 is about as far off its float32 as PEFT's, and these are apart by what the weights are.
    check.row(model, "merge, bfloat16", where, off(narrow, theirs["bfloat16"]), 2 * peft_own + weights,
              f"PEFT's bfloat16 is {peft_own:.3f} off its float32")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model", type=Path)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--step", choices=("adapter", "peft", "merged"))
    a = p.parse_args()
    if a.step:
        return globals()[a.step](a)
    a.work.mkdir(parents=True, exist_ok=True)
    for step in ("adapter", "peft", "merge", "merged"):      # a process each, which gives its memory back
        if step == "merge":
            check.engine("merge", "--model_name_or_path", a.model, "--adapter_name_or_path", a.work / "adapter",
                         "--output_dir", a.work / "merged")
        else:
            subprocess.run([sys.executable, __file__, a.model, "--work", a.work, "--step", step], check=True)


if __name__ == "__main__":
    main()
