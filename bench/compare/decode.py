"""Decoding beside Transformers and llama.cpp, in turn in one run: tokens/s of 64 tokens behind a prompt of about 512, batch 1 and 8.

    mvn -q -DskipTests package && python bench/compare/decode.py --work DIR --node DIR [--sizes small 270m] [--batches 1 8] [--repeats 1]

Models are made and exported in the work folder. The engine runs BF16 and NF4 (lapidary.bench.DecodeSpeed), Transformers generates
greedily in BF16 with 2 threads, llama.cpp reads the engine's own BF16 and Q8_0 exports with 2 threads. It is that of an npm package
which brings a build for each kind of processor, in the folder --node:

    npm i --omit=optional --ignore-scripts node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1

Prints a table of medians of the rounds, with the bytes that one step reads (weights, and what is cached of the tokens so far) over
the memory's bandwidth, which the engine's rounds measure before and after themselves: what share of it decoding reaches. Nothing
else should run.
"""
import argparse, json, os, re, statistics, subprocess, sys, time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
NEW = 64
ROUNDS = 3
PROMPT = 512


def java():
    for folder in filter(None, [os.environ.get("JAVA_HOME"), *sorted(map(str, Path("/usr/lib/jvm").glob("*")), reverse=True)]):
        release = Path(folder, "release")
        if release.is_file() and 'JAVA_VERSION="2' in release.read_text() and Path(folder, "bin/java").exists():
            return str(Path(folder, "bin/java"))
    return "java"


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-2000:]}")
    return done.stdout


def bench(classpath, name, *args, flags=()):
    return run(java(), *flags, "--enable-native-access=ALL-UNNAMED", "-cp", classpath, "lapidary.bench." + name, *args)


def engine(args, model, form, batch):
    """(tokens/s, GB/s of memory) of each round, as ./engine generate runs."""
    text = bench(args.classpath, "DecodeSpeed", model, form, batch, flags=("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms2g"))
    return [tuple(map(float, round)) for round in re.findall(r"decode ([\d.]+) tokens/s, memory ([\d.]+) GB/s", text)]


def transformers(model, batch):
    sys.path.insert(0, str(TOP / "bench/reference"))
    import tvfix  # noqa: F401
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    torch.set_num_threads(2)
    text_only = json.loads(Path(model, "config.json").read_text())["model_type"] == "gemma3_text"
    auto = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    loaded = auto.from_pretrained(model, dtype=torch.bfloat16).eval()
    ids = torch.randint(10, 3000, (batch, PROMPT), generator=torch.Generator().manual_seed(1))

    def seconds(new):
        begun = time.perf_counter()
        with torch.inference_mode():
            loaded.generate(input_ids=ids, attention_mask=torch.ones_like(ids), min_new_tokens=new, max_new_tokens=new, do_sample=False)
        return time.perf_counter() - begun

    seconds(2)
    first = min(seconds(1) for _ in range(2))
    return [batch * NEW / (seconds(NEW + 1) - first) for _ in range(ROUNDS)]


def llama(args, model, batch, prompt):
    out = run("node", HERE / "decode.mjs", model, batch, NEW, prompt, Path(args.node, "node_modules"))
    return json.loads([line for line in out.splitlines() if line.startswith("RESULT ")][-1][7:])["speeds"]


def bytes_read(model, form, batch):
    """By a step in the middle of the answers: weights (all but the vision tower, a tied table once) and cached keys and values."""
    from safetensors import safe_open
    total = 0
    for file in Path(model).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                if "vision_tower" in name or "multi_modal_projector" in name:
                    continue
                n = 1
                for axis in tensors.get_slice(name).get_shape():
                    n *= axis
                linear = "_proj." in name
                total += n * {"bf16": 2, "nf4": 0.5625 if linear else 2, "q8_0": 34 / 32}[form]
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(model)
    text = getattr(config, "text_config", config)
    for kind in text.layer_types:
        tokens = PROMPT + NEW // 2 if kind == "full_attention" else min(text.sliding_window, PROMPT + NEW // 2)
        total += batch * tokens * 2 * text.num_key_value_heads * text.head_dim * 2
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--node")
    parser.add_argument("--sizes", nargs="*", default=["small", "270m"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--classpath", default=str(TOP / "target/benchmarks.jar"))
    parser.add_argument("--transformers", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.transformers:
        print(json.dumps(transformers(args.transformers[0], int(args.transformers[1]))))
        return
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    prompt = work / "prompt.txt"
    prompt.write_text(" ".join(f"the quick brown fox {i}" for i in range(10, 74)))
    for size in args.sizes:
        model = work / "models" / size
        if not model.exists():
            run(sys.executable, TOP / "bench/reference/make_model.py", "--size", size, "--out", model)
        for form in ("bf16", "q8_0") if args.node else ():
            if not (work / "gguf" / f"{size}-{form}").exists():
                run(java(), "--enable-native-access=ALL-UNNAMED", "-jar", TOP / "target/engine.jar", "export", "--format", "gguf",
                    "--outtype", form, "--model_name_or_path", model, "--output_dir", work / "gguf" / f"{size}-{form}")
    rounds = {}                                                          # of (tokens/s, GB/s or None)
    for _ in range(args.repeats):
        for size in args.sizes:
            model = work / "models" / size
            for batch in args.batches:
                sides = {"engine BF16": ("bf16", lambda: engine(args, model, "bf16", batch)),
                         "engine NF4": ("nf4", lambda: engine(args, model, "nf4", batch)),
                         "Transformers BF16": ("bf16", lambda: [(speed, None) for speed in json.loads(run(
                             sys.executable, __file__, "--work", work, "--transformers", model, batch).splitlines()[-1])])}
                for form in ("bf16", "q8_0") if args.node else ():
                    gguf = work / "gguf" / f"{size}-{form}" / f"{size}-{form}.gguf"
                    sides["llama.cpp " + form.upper()] = (
                        form, lambda gguf=gguf: [(speed, None) for speed in llama(args, gguf, batch, prompt)])
                for side, (form, measure) in sides.items():
                    measured = measure()
                    rounds.setdefault((size, batch, side, form), []).extend(measured)
                    print(size, batch, side, *(f"{s:.1f}" + (f" ({m:.1f})" if m else "") for s, m in measured), flush=True)
    print("\n| model, batch | | tokens/s | engine BF16 / it | MB a step | memory, GB/s | share |\n|---|---|---:|---:|---:|---:|---:|")
    for (size, batch, side, form), measured in rounds.items():
        speed = statistics.median(s for s, _ in measured)
        ours = statistics.median(s for s, _ in rounds[size, batch, "engine BF16", "bf16"])
        read = bytes_read(work / "models" / size, form, batch)
        shares = [read * s / batch / m / 1e9 for s, m in measured if m]
        memory = f"{statistics.median(m for _, m in measured):.1f} | {statistics.median(shares):.2f}" if shares else " | "
        print(f"| {size}, {batch} | {side} | {speed:.1f} | {ours / speed:.2f} | {read / 1e6:.0f} | {memory} |")


main()
