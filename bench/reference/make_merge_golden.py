"""Writes what PEFT computes with adapters whose layers differ in rank and scale, for the tests of merging.

  make_merge_golden.py --golden java/engine/src/test/resources/golden

GOLDEN/text/{rslora,patterns} each hold an adapter of PEFT on GOLDEN/text (its two files) and expected.safetensors:
ids, logits [tokens, vocab] of base + adapter in float32, and merged.<key>, weights of the base in bfloat16 after PEFT's
merge_and_unload, for one layer of each kind.
"""
import argparse, json, os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tvfix  # noqa: F401
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from make_model import dump

ADAPTERS = {
    "rslora": dict(r=4, lora_alpha=3, use_rslora=True, modules_to_save=["lm_head"]),
    "patterns": dict(r=4, lora_alpha=8, rank_pattern={"q_proj": 2, "layers.1.mlp.down_proj": 6},
                     alpha_pattern={r"^model\.layers\.0\..*": 3, "o_proj": 5.5}),
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--golden", required=True, type=Path)
    text = p.parse_args().golden / "text"
    g = torch.Generator().manual_seed(11)
    for name, settings in ADAPTERS.items():
        load = lambda dtype: AutoModelForCausalLM.from_pretrained(text, dtype=dtype, attn_implementation="eager")
        model = get_peft_model(load(torch.float32), LoraConfig(lora_dropout=0.0, bias="none", target_modules="all-linear",
                                                               task_type="CAUSAL_LM", **settings))
        for n, w in sorted(model.named_parameters()):
            if w.requires_grad:
                w.data.copy_(torch.randn(w.shape, generator=g) * (0.02 if "lora" not in n else 0.2))
        model.peft_config["default"].target_modules = sorted(model.peft_config["default"].target_modules)
        out = text / name
        model.save_pretrained(out)
        (out / "README.md").unlink(missing_ok=True)
        config = json.loads((out / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = None
        dump(out / "adapter_config.json", config)
        ids = torch.randint(14, 187, (1, 23), generator=g)
        with torch.no_grad():
            logits = model.eval()(input_ids=ids).logits[0]
        merged = PeftModel.from_pretrained(load(torch.bfloat16), out).merge_and_unload()
        merged = {k: v for k, v in merged.state_dict().items() if "layers.1." in k and "proj" in k or k == "lm_head.weight"}
        save_file({"ids": ids[0].int(), "logits": logits.contiguous(),
                   **{f"merged.{k}": v.bfloat16().contiguous() for k, v in merged.items()}}, out / "expected.safetensors")


if __name__ == "__main__":
    main()
