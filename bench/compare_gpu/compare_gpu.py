"""The guide's two settings for the engine and for Transformers + PEFT (+ bitsandbytes where it is installed), on one GPU and a
random checkpoint of gemma-3-4b-it's exact shape that is made on the spot: nothing is downloaded.

  compare_gpu.py --work /tmp/w [--size guide] [--device cuda] [--jar target/engine.jar] [--java java] [--json OUT.json]

Prints a table: samples/s, tokens/s over unpadded tokens, useful MFU, peak memory. Useful are 4 FLOPs a weight and token (forward,
and the gradient of the input; frozen weights have none), 4 a weight of the vision tower and patch; recomputation and attention's
scores count nothing. Memory is what nvidia-smi shows beyond what was in use before (without a GPU the process's peak).
--size tiny --device cpu tries all of it on a small machine.
"""
import argparse, json, os, re, resource, subprocess, sys, threading, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Dense bf16 TFLOP/s of the vendor's data sheets, by what nvidia-smi calls the card.
PEAK = {"H100 NVL": 835, "H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "B200": 2250}
SETTINGS = {"single": dict(batch=8, accum=4, images=1), "multi": dict(batch=1, accum=1, images=4)}

ap = argparse.ArgumentParser()
ap.add_argument("--work", type=Path, required=True)
ap.add_argument("--size", default="guide", choices=["guide", "small", "tiny"])
ap.add_argument("--device", default="cuda")
ap.add_argument("--jar", default=str(HERE.parent.parent / "target" / "engine.jar"))
ap.add_argument("--java", default="java")
ap.add_argument("--python", default=sys.executable)
ap.add_argument("--settings", nargs="+", default=list(SETTINGS))
ap.add_argument("--steps", type=int, default=4, help="optimiser steps of the single-image setting; the other takes 8 times as many")
ap.add_argument("--lora-only", action="store_true", help="leave the two tables frozen on both sides")
ap.add_argument("--only", choices=["engine", "python"])
ap.add_argument("--json", type=Path)
a = ap.parse_args()
a.work.mkdir(parents=True, exist_ok=True)


def smi(query):
    try:
        out = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"], capture_output=True, text=True)
        return out.stdout.splitlines()[0].strip() if out.returncode == 0 and out.stdout else ""
    except FileNotFoundError:
        return ""


def ready(path, *command):
    if not path.exists():
        print("+", " ".join(map(str, command)), flush=True)
        subprocess.run([a.python, *map(str, command)], check=True)
    return path


def measured(log, command):
    """Runs a command; returns its exit code, seconds, and the most memory it took, MiB."""
    before = float(smi("memory.used") or 0)
    peak, done = [0.0], threading.Event()

    def watch():
        while not done.wait(0.1):
            peak[0] = max(peak[0], float(smi("memory.used") or 0) - before)

    watcher = threading.Thread(target=watch)
    if a.device == "cuda":
        watcher.start()
    start = time.time()
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    done.set()
    if a.device == "cuda":
        watcher.join()
    return os.waitstatus_to_exitcode(status), time.time() - start, peak[0] if a.device == "cuda" else usage.ru_maxrss / 1024


def flops_per(model):
    """Useful FLOPs of a token and of a picture."""
    weights = {"text": 0, "vision": 0, "projector": 0}
    patches = 0
    config = json.loads((model / "config.json").read_text())
    for file in model.glob("*.safetensors"):
        with open(file, "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        for name, entry in header.items():
            if name == "__metadata__" or len(entry["shape"]) < 2:
                continue
            n = 1
            for axis in entry["shape"]:
                n *= axis
            # The embedding is looked up; tied, it is the output head, which every token is multiplied with.
            kind = "vision" if "vision_tower" in name else "projector" if "projector" in name else "text"
            weights[kind] += 0 if "position_embedding" in name else n
    vision = config["vision_config"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return 4 * weights["text"], 4 * (weights["vision"] * patches + weights["projector"] * config["mm_tokens_per_image"])


def engine(name, setting, model, data):
    out = a.work / f"engine-{name}"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    steps = a.steps * (1 if setting["batch"] > 1 else 8)
    command = [a.java, "--enable-native-access=ALL-UNNAMED", "-Xmx8g", "-jar", a.jar, "train", "--model_name_or_path", str(model),
               "--dataset_name", str(data), "--output_dir", str(out), "--device", a.device, "--load_in_4bit", "--max_steps", str(steps),
               "--per_device_train_batch_size", str(setting["batch"]), "--gradient_accumulation_steps", str(setting["accum"]),
               "--lora_r", "16", "--lora_alpha", "16", "--lora_dropout", "0.05", "--learning_rate", "2e-5", "--logging_steps", "1"]
    if not a.lora_only:
        command += ["--lora_modules_to_save", "lm_head", "embed_tokens"]
    code, seconds, memory = measured(a.work / f"engine-{name}.log", command)
    if code != 0:
        return {"what": "engine NF4", "failed": (a.work / f"engine-{name}.log").read_text()[-500:].strip()}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "step_seconds" in line]
    steady = lines[1:] or lines
    spent = sum(line["step_seconds"] for line in steady)
    samples = setting["batch"] * setting["accum"] * len(steady)
    return {"what": "engine NF4", "samples_per_second": samples / spent,
            "tokens_per_second": sum(line["tokens_per_second"] * line["step_seconds"] for line in steady) / spent,
            "images_per_second": samples * setting["images"] / spent, "peak_mib": memory, "seconds": seconds,
            "losses": [line["loss"] for line in lines]}


def python(name, setting, model, data):
    report = a.work / f"python-{name}.json"
    report.unlink(missing_ok=True)
    steps = a.steps * (1 if setting["batch"] > 1 else 8)
    command = [a.python, str(HERE / "train_hf.py"), "--model", str(model), "--data", str(data), "--batch", str(setting["batch"]),
               "--accum", str(setting["accum"]), "--steps", str(steps), "--device", a.device, "--json", str(report)]
    if not a.lora_only:
        command += ["--tables"]
    code, seconds, memory = measured(a.work / f"python-{name}.log", command)
    if code != 0:
        return {"what": "Transformers + PEFT", "failed": (a.work / f"python-{name}.log").read_text()[-500:].strip()}
    return {**json.loads(report.read_text()), "peak_mib": memory, "seconds": seconds}


model = a.work / f"model-{a.size}"
ready(model / "config.json", HERE.parent / "reference" / "make_model.py", "--size", a.size, "--out", model, "--shards", 4 if a.size == "guide" else 1,
      "--device", a.device)
rows = a.work / "rows"
ready(rows, HERE / "make_rows.py", "--out", rows, "--rows", 32 * (a.steps + 1))
gpu = smi("name")
peak = next((tflops for key, tflops in PEAK.items() if key in gpu), None)
per_token, per_image = flops_per(model)
results = {"gpu": gpu or None, "driver": smi("driver_version") or None, "size": a.size, "device": a.device,
           "date": time.strftime("%Y-%m-%d"), "peak_tflops": peak, "useful_flops": {"token": per_token, "picture": per_image},
           "settings": {}}
print(f"{gpu or 'no GPU'}, {a.size}: {per_token / 1e9:.2f} useful GFLOPs a token, {per_image / 1e9:.1f} a picture\n")
print("| setting | | samples/s | tokens/s | useful TFLOP/s | useful MFU | peak MiB |\n|---|---|---|---|---|---|---|")
failed = False
for name in a.settings:
    setting = SETTINGS[name]
    sides = results["settings"][name] = {}
    for side, run in (("engine", engine), ("python", python)):
        if a.only in (None, side):
            r = sides[side] = run(name, setting, model, rows / name)
            if "failed" in r:
                failed = True
                last = re.sub(r"\s+", " ", r["failed"])[-300:]
                print(f"| {name} | {r['what']} | failed: {last} | | | | |", flush=True)
                continue
            useful = (r["tokens_per_second"] * per_token + r["images_per_second"] * per_image) / 1e12
            r["useful_tflops"], r["mfu"] = useful, useful / peak if peak else None
            mfu = f"{100 * r['mfu']:.1f} %" if peak else "-"
            print(f"| {name} | {r['what']} | {r['samples_per_second']:.2f} | {r['tokens_per_second']:.0f} | {useful:.3g} | {mfu} | "
                  f"{r['peak_mib']:.0f} |", flush=True)
    if all("samples_per_second" in sides.get(s, {}) for s in ("engine", "python")):
        e, p = sides["engine"], sides["python"]
        print(f"| {name} | engine / Python | {e['samples_per_second'] / p['samples_per_second']:.2f} | "
              f"{e['tokens_per_second'] / p['tokens_per_second']:.2f} | | | {e['peak_mib'] / p['peak_mib']:.2f} |", flush=True)
if a.json:
    a.json.write_text(json.dumps(results, indent=1))
sys.exit(1 if failed else 0)
