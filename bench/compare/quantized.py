"""Whether Transformers and bitsandbytes read what `engine quantize` wrote: python bench/compare/quantized.py [MODEL ...]

Each model (default: the golden ones of the tests) is quantised by the engine, with and without double quantisation. The
checkpoint that it wrote, loaded by Transformers as it is, must give the logits of the plain one quantised by bitsandbytes
while it is loaded, to the bit. Needs target/engine.jar and bitsandbytes as bench/reference/README.md describes.
"""
import os, subprocess, sys, tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["TORCHDYNAMO_DISABLE"] = "1"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reference"))
import tvfix  # noqa: F401
import bitsandbytes, torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig

ROOT = HERE.parent.parent
GOLDEN = ROOT / "java/engine/src/test/resources/golden"
JAVA = os.environ.get("JAVA", "java")


def load(folder, dtype, **options):
    multimodal = AutoConfig.from_pretrained(folder).model_type == "gemma3"
    auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager", device_map="cpu", **options)


def logits(model):
    torch.manual_seed(0)
    config = model.config.get_text_config()
    ids = torch.randint(12, config.vocab_size - 12, (2, 24))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.model_type == "gemma3":
        vision = model.config.vision_config
        ids[0, 2:2 + model.config.mm_tokens_per_image] = model.config.image_token_id
        batch["token_type_ids"] = (ids == model.config.image_token_id).long()
        batch["pixel_values"] = torch.randn(1, 3, vision.image_size, vision.image_size)
    with torch.no_grad():
        return model(**batch).logits.float()


failed = False
print(f"bitsandbytes {bitsandbytes.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
for folder in [Path(p) for p in sys.argv[1:]] or [GOLDEN / "multimodal", GOLDEN / "text"]:
    for nested in (False, True):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "nf4"
            subprocess.run([JAVA, "-jar", str(ROOT / "target/engine.jar"), "quantize", "--model_name_or_path", str(folder),
                            "--output_dir", str(out), "--use_bnb_nested_quant", str(nested).lower()],
                           check=True, stdout=subprocess.DEVNULL)
            dtype = torch.bfloat16
            ours = logits(load(out, dtype))
            theirs = logits(load(folder, dtype, quantization_config=BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested,
                bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_storage=torch.uint8)))
            plain = logits(load(folder, dtype))
            difference = (ours - theirs).abs().max().item()
            failed |= difference != 0 or not ours.isfinite().all()
            print(f"{folder.name}, double quantisation {nested}: largest difference of {ours.numel()} logits {difference:g}"
                  f" (NF4 itself moves them by up to {(theirs - plain).abs().max().item():.3g})")
sys.exit(failed)
