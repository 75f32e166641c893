"""Runs TRL and the engine in turn on the same model, data, seed and cores, and compares them.

  compare.py speed  --work DIR [--settings small small-nf4 270m-lora ...] [--repeats 3] [--steps 12] [--json OUT.json]
  compare.py parity --work DIR [--sizes tiny small] [--seeds 101 102] [--data vsft mmiu chat texts talks]
                     [--dtypes float32 bfloat16] [--steps 10] [--losses] [--plant] [--json OUT.json]

speed prints tokens/s, step time, peak resident memory and the time from the command to the first logged step.
parity compares ids and labels of each row, and prints how far losses, first-step gradients and trained adapters are apart, and fails where a limit is passed:
float32: first loss 1e-5, each gradient 1e-4 (norm of the difference over norm), ten losses 1e-4, loss of the saved
adapter read by PEFT 1e-5; bfloat16: losses 1e-2. With --plant it has a difference to find, and is to fail.
The engine is started as users start it, by ./engine; JAVA_HOME may name its JDK.
Needs the environment of bench/reference/requirements.txt, and target/engine.jar. DIR keeps models and data.
"""
import argparse, itertools, json, os, platform, shutil, statistics, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REFERENCE, TOP = HERE.parent / "reference", HERE.parent.parent
TABLES = ["lm_head", "embed_tokens"]
# batch, accumulation, data, saved tables, gradient checkpointing
SETTINGS = {
    "small": dict(model="small", data="vsft", batch=2, tables=True),
    "small-nf4": dict(model="small", data="vsft", batch=2, tables=True, nf4=True),
    "small-gc": dict(model="small", data="vsft", batch=2, tables=True, checkpointing=True),
    "270m-lora": dict(model="270m", data="chat", batch=2, tables=False),
    "270m-lora-gc": dict(model="270m", data="chat", batch=2, tables=False, checkpointing=True),
    "270m-tables": dict(model="270m", data="chat", batch=2, tables=True),
    "270m-tables-gc": dict(model="270m", data="chat", batch=2, tables=True, checkpointing=True),
}


def launch(a, command, watch=None):
    """Runs a command on the first cores; returns its wall seconds, peak RSS in MiB, exit code, output, and when a first
    line stood in the file to watch. This process stays small: Linux starts a child's peak at its parent's."""
    log = a.work / "last.log"
    env = dict(os.environ, TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    with open(log, "wb") as out:
        start = time.time()
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, env=env,
                                 preexec_fn=lambda: os.sched_setaffinity(0, cores(a)))
        first = None
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if first is None and watch and watch.exists() and b"\n" in watch.read_bytes():
                first = time.time() - start
            if pid:
                break
            time.sleep(0.005)
        child.returncode = os.waitstatus_to_exitcode(status)
    return dict(start=start, wall=time.time() - start, cpu=usage.ru_utime + usage.ru_stime, code=child.returncode,
                peak_mib=usage.ru_maxrss / 1024, first=first, output=log.read_text(errors="replace"))


def cores(a):
    allowed = sorted(os.sched_getaffinity(0))
    assert len(allowed) >= a.threads, f"{a.threads} threads asked for, {len(allowed)} cores here"
    return allowed[: a.threads]


def checked(run):
    if run["code"] != 0:
        raise SystemExit(f"exit code {run['code']}:\n{run['output'][-3000:]}")
    return run


def material(a, size, seed, plain=False):
    """A checkpoint and its data, made when they are not there yet."""
    model, data = a.work / f"{size}-{seed}", a.work / f"data-{'plain-' if plain else ''}{seed}"
    if not (model / "config.json").exists():
        checked(launch(a, [a.python, REFERENCE / "make_model.py", "--size", size, "--out", model, "--seed", seed,
                           "--shards", 3 if size == "small" else 1]))
    if not (data / "texts").exists():
        checked(launch(a, [a.python, REFERENCE / "make_data.py", "--out", data, "--seed", seed, "--chat", 64, "--mmiu", 60]
                       + (["--plain"] if plain else [])))
    return model, data


def trl(a, model, data, steps, batch, accum, dtype, lr, dropout, tables, checkpointing=False, seed=42, extra=()):
    report = a.work / "trl.json"
    run = checked(launch(a, [
        a.python, REFERENCE / "train_trl.py", "--model", model, "--data", data, "--json", report, "--work", a.work / "trl",
        "--steps", steps, "--batch", batch, "--accum", accum, "--dtype", dtype, "--lr", lr, "--dropout", dropout,
        "--seed", seed, "--threads", a.threads, "--modules-to-save", *(TABLES if tables else ["none"]),
        *(["--gradient-checkpointing"] if checkpointing else []), *extra]))
    rows = json.loads(report.read_text())["steps"]
    return dict(run, first=rows[0]["logged_at"] - run["start"], rows=[
        dict(r, tokens=r["tokens"]["real"]) for r in rows])


def split(data):
    return "test" if data.name == "mmiu" else "train"      # as the benchmark has it


def engine(a, model, data, steps, batch, accum, dtype, lr, dropout, tables, checkpointing=False, seed=42, extra=(),
           out=None):
    out = out or a.work / "engine-out"
    shutil.rmtree(out, ignore_errors=True)
    metrics = out / "metrics.jsonl"
    run = launch(a, [
        TOP / "engine", "train", "--model_name_or_path", model, "--dataset_name", data,
        "--dataset_train_split", split(data), "--output_dir", out, "--max_steps", steps,
        "--per_device_train_batch_size", batch, "--gradient_accumulation_steps", accum,
        "--gradient_checkpointing", str(checkpointing).lower(), "--learning_rate", lr, "--lr_scheduler_type", "linear",
        "--warmup_steps", 0, "--weight_decay", 0, "--lora_dropout", dropout,
        *([] if "--init_adapter" in extra else [    # which says these itself
            "--lora_r", 16, "--lora_alpha", 16, "--lora_target_modules", "all-linear",
            *(["--lora_modules_to_save", *TABLES] if tables else [])]),
        "--dtype", dtype, "--seed", seed, "--logging_steps", 1, "--compat", "trl", "--device", "cpu", *extra], metrics)
    rows, seen = [json.loads(line) for line in checked(run) and metrics.read_text().splitlines()], 0
    for r in rows:
        r["tokens"], seen = r["num_tokens"] - seen, r["num_tokens"]
        r["seconds"] = r["step_seconds"]
    return dict(run, rows=rows)


# --- speed -----------------------------------------------------------------------------------------------------
def figures(run, skip):
    rows = run["rows"][skip:]
    return {"tokens_per_second": sum(r["tokens"] for r in rows) / sum(r["seconds"] for r in rows),
            "step_seconds": statistics.median(r["seconds"] for r in rows),
            "fastest_step_seconds": min(r["seconds"] for r in rows), "peak_mib": run["peak_mib"],
            "first_step_seconds": run["first"], "command_seconds": run["wall"], "cpu_seconds": run["cpu"]}


def speed(a):
    results = {}
    for name in a.settings:
        s = dict(SETTINGS[name])
        model, data = material(a, s.pop("model"), a.seed)
        s = dict(model=model, data=data / s.pop("data"), accum=1, dtype="bfloat16", lr=2e-5, dropout=0.05,
                 steps=a.steps, **s)
        # TRL keeps its BF16 run: bitsandbytes' CPU kernels are as fast and no smaller where they exist at all.
        nf4 = ("--load_in_4bit", "true", "--use_bnb_nested_quant", "true") if s.pop("nf4", False) else ()
        extra = {"trl": (), "engine": nf4}
        runs = {"trl": [], "engine": []}
        for i in range(a.repeats):
            for who, go in (("trl", trl), ("engine", engine)):
                if a.only in (None, who):
                    run = go(a, extra=extra[who], **s)
                    runs[who].append(figures(run, a.skip))
                    counts = [r["tokens"] for r in run["rows"]]
                    losses = " ".join(f"{r['loss']:.4f}" for r in run["rows"][:5])
                    print(f"  {name} {who:6} {i + 1}/{a.repeats}: load {os.getloadavg()[0]:.1f}, "
                          f"{sum(counts)} tokens in {len(counts)} steps, losses {losses}", flush=True)
        results[name] = {w: {k: statistics.median(f[k] for f in fs) for k in fs[0]} for w, fs in runs.items() if fs}
        table({name: results[name]})
    machine = f"{cpu()}, {a.threads} threads, {time.strftime('%Y-%m-%d')}, median of {a.repeats}, steps after the first {a.skip}"
    print("\n" + machine)
    table(results)
    save(a, {"machine": machine, "results": results})


def table(results):
    rows = [("tokens/s", "tokens_per_second", 0), ("step s, median", "step_seconds", 3),
            ("step s, fastest", "fastest_step_seconds", 3), ("peak RSS MiB", "peak_mib", 0),
            ("command to first logged step s", "first_step_seconds", 1), ("whole command s", "command_seconds", 1)]
    print("| setting | | TRL | engine | engine / TRL |\n|---|---|---|---|---|")
    for name, r in results.items():
        for title, key, digits in rows:
            t, e = (r[w][key] if w in r else None for w in ("trl", "engine"))
            show = lambda x: "" if x is None else f"{x:.{digits}f}"
            print(f"| {name} | {title} | {show(t)} | {show(e)} | {e / t:.2f} |" if t and e else
                  f"| {name} | {title} | {show(t)} | {show(e)} | |", flush=True)


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [l.split(":", 1)[1].strip() for l in lines if l.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


# --- parity ----------------------------------------------------------------------------------------------------
def parity(a):
    failures, results = [], {}
    for size, seed, kind, dtype in itertools.product(a.sizes, a.seeds, a.data, a.dtypes):
        kind = "chat" if size == "270m" else kind       # which has no images
        name = f"{size} {kind} seed {seed} {dtype}"
        results[name] = one_parity(a, size, kind, seed, dtype, lambda what, value, limit: judge(
            failures, name, what, value, limit))
    save(a, {"machine": cpu(), "date": time.strftime("%Y-%m-%d"), "results": results})
    print(f"{len(failures)} beyond a limit", *failures, sep="\n")
    raise SystemExit(1 if failures else 0)


def judge(failures, name, what, value, limit):
    good = limit is None or value <= limit
    print(f"  {name}: {what} {value:.2e}" + ("" if limit is None else f" (limit {limit:.0e}){'' if good else '  BEYOND'}"),
          flush=True)
    if not good:
        failures.append(f"{name}: {what} {value:.2e} > {limit:.0e}")
    return value


def one_parity(a, size, kind, seed, dtype, judge):
    sys.path.insert(0, str(REFERENCE))
    model, data = material(a, size, seed, a.plain)
    data = data / kind
    batch, accum = (4, 2) if size == "tiny" else (2, 1)
    common = dict(model=model, data=data, batch=batch, accum=accum, dtype=dtype, dropout=0, tables=True, seed=seed)
    steps = a.steps
    init, ours, theirs, grads, batches = (
        a.work / n for n in ("init", "engine-out", "trl-out", "grads.safetensors", "batches.safetensors"))
    for d in (init, theirs):
        shutil.rmtree(d, ignore_errors=True)
    trl(a, steps=1, lr=1e-3, extra=["--save-init", init], **common)
    hot_start(init, seed)                    # B = 0 would leave every gradient of A zero
    engine_init = plant(init, a.work / "planted") if a.plant else init
    full = dtype == "float32"
    t = trl(a, steps=steps, lr=a.lr, extra=["--init-adapter", init, "--save", theirs, "--save-grads", grads,
                                               "--save-batches", batches], **common)
    e = engine(a, steps=steps, lr=a.lr, extra=["--init_adapter", engine_init], **common)
    got = {"samples": judge("rows of TRL's batches whose ids or labels are no sample of the engine's",
                            strangers(a, model, data, batches), 0)}
    close = lambda x, y: abs(x - y) / max(abs(y), 1e-30)
    tr, er = t["rows"], e["rows"]
    if [r["tokens"] for r in tr] != [r["tokens"] for r in er]:
        judge("token counts differ: " + str([(x["tokens"], y["tokens"]) for x, y in zip(tr, er)]), 1.0, 0.0)
    losses = [close(y["loss"], x["loss"]) for x, y in zip(tr, er)]
    got["first loss"] = judge("first loss", losses[0], 1e-5 if full else 1e-2)
    got["losses"] = judge(f"worst of {steps} losses", max(losses), 1e-4 if full else 1e-2)
    for key in ("grad_norm", "learning_rate", "entropy", "mean_token_accuracy"):
        got[key] = judge(f"worst of {steps} {key}", max(close(y[key], x[key]) for x, y in zip(tr, er)), None)
    got["adapter"], worst = adapters(init, theirs, ours)
    judge(f"trained adapter, difference over update, worst tensor {worst}", got["adapter"], None)
    if full and not a.losses:
        again = engine(a, steps=1, lr=a.lr, extra=["--init_adapter", ours], out=a.work / "again", **common)
        peft = trl(a, steps=1, lr=a.lr, extra=["--init-adapter", ours], **common)
        got["saved adapter"] = judge("loss of the engine's saved adapter, engine against PEFT",
                                     close(again["rows"][0]["loss"], peft["rows"][0]["loss"]), 1e-5)
        got["logits"] = judge("logits of the two trained adapters under PEFT, difference over norm",
                              logits(model, theirs, ours), None)
        got["gradients"] = gradients(a, common, engine_init, grads, judge)
    return got


def strangers(a, model, data, batches):
    from safetensors import safe_open
    from safetensors.torch import load_file
    dump = a.work / "samples.safetensors"
    checked(launch(a, [TOP / "engine", "check", "--model_name_or_path", model, "--dataset_name", data, "--dataset_train_split",
                       split(data), "--compat", "trl", "--dump", dump]))
    known = set()
    with safe_open(dump, "pt") as f:
        for key in f.keys():
            if key.endswith(".labels"):
                known.add((tuple(f.get_tensor(key.replace("labels", "input_ids")).tolist()), tuple(f.get_tensor(key).tolist())))
    theirs, wrong = load_file(batches), 0
    count = sum(n.endswith(".labels") for n in theirs)
    assert count and known, f"{count} batches of TRL and {len(known)} samples of the engine: nothing to compare"
    for i in range(count):
        for ids, mask, labels in zip(*(theirs[f"{i}.{k}"] for k in ("input_ids", "attention_mask", "labels"))):
            wrong += (tuple(ids[mask == 1].tolist()), tuple(labels[mask == 1].tolist())) not in known
    return wrong


def hot_start(init, seed):
    import torch
    from safetensors.torch import load_file, save_file
    path, g = init / "adapter_model.safetensors", torch.Generator().manual_seed(seed)
    tensors = load_file(path)
    for n in sorted(tensors):
        if "lora_B" in n:
            tensors[n] = torch.randn(tensors[n].shape, generator=g) * 0.02
    save_file(tensors, path, metadata={"format": "pt"})


def plant(init, planted):
    """The same adapter with lora_alpha 1 % larger: a difference that the limits must notice."""
    shutil.rmtree(planted, ignore_errors=True)
    shutil.copytree(init, planted)
    config = json.loads((planted / "adapter_config.json").read_text())
    config["lora_alpha"] *= 1.01
    (planted / "adapter_config.json").write_text(json.dumps(config))
    return planted


def adapters(init, theirs, ours):
    """The worst tensor's norm of the difference over the norm of what training changed."""
    from safetensors.torch import load_file
    start, x, y = (load_file(d / "adapter_model.safetensors") for d in (init, theirs, ours))
    assert {n: (v.shape, v.dtype) for n, v in x.items()} == {n: (v.shape, v.dtype) for n, v in y.items()}, "keys, shapes or dtypes differ"
    return worst_of({n: ((x[n].double() - y[n].double()).norm().item(), (x[n].double() - start[n].double()).norm().item())
                     for n in x})


def worst_of(pairs):
    return max((d / max(n, 1e-30), name) for name, (d, n) in pairs.items())


def logits(model, theirs, ours):
    import tvfix  # noqa: F401
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    text_only = AutoConfig.from_pretrained(model).model_type == "gemma3_text"
    ids = torch.randint(20, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    out = []
    for adapter in (theirs, ours):
        base = (AutoModelForCausalLM if text_only else AutoModelForImageTextToText).from_pretrained(model, dtype=torch.float32)
        with torch.no_grad():
            out.append(PeftModel.from_pretrained(base, adapter).eval()(input_ids=ids).logits.double())
    return ((out[0] - out[1]).norm() / out[0].norm()).item()


def gradients(a, common, init, grads, judge):
    """The engine's first gradient, read off one AdamW step. Clipping to a tiny norm makes g small beside AdamW's epsilon
    of 1e-8, so the step is u = lr * g / (|g| + 1e-8), which can be solved for g; the large rate lifts u above the
    weights' own rounding."""
    from safetensors.torch import load_file
    lr, eps, clip, out = 1e4, 1e-8, 1e-9, a.work / "gradient"
    run = engine(a, steps=1, lr=lr, out=out, **common, extra=["--init_adapter", init, "--max_grad_norm", clip])
    unclip = (run["rows"][0]["grad_norm"] + 1e-6) / clip
    start, moved, want = (load_file(f) for f in (init / "adapter_model.safetensors", out / "adapter_model.safetensors", grads))
    pairs = {}
    for n, g in want.items():
        g, u = g.double(), start[n].double() - moved[n].double()
        got = u * eps / (lr - u.abs()) * unclip
        pairs[n] = (got - g).norm().item(), g.norm().item()
    value, name = worst_of(pairs)
    return judge(f"gradients, worst of {len(want)}: {name}", value, 1e-4)


def save(a, obj):
    if a.json:
        a.json.write_text(json.dumps(obj, indent=1) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, required=True)
    common.add_argument("--python", default=sys.executable)
    common.add_argument("--threads", type=int, default=2)
    common.add_argument("--json", type=Path)
    s = sub.add_parser("speed", parents=[common])
    s.set_defaults(go=speed)
    s.add_argument("--settings", nargs="+", choices=SETTINGS, default=["small", "270m-lora", "270m-tables"])
    s.add_argument("--repeats", type=int, default=3)
    s.add_argument("--steps", type=int, default=12)
    s.add_argument("--skip", type=int, default=2, help="first steps left out of the figures")
    s.add_argument("--seed", type=int, default=0)
    s.add_argument("--only", choices=["trl", "engine"])
    p = sub.add_parser("parity", parents=[common])
    p.set_defaults(go=parity)
    p.add_argument("--sizes", nargs="+", choices=["tiny", "small", "270m"], default=["tiny", "small"])
    p.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    p.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    p.add_argument("--data", nargs="+", choices=["vsft", "mmiu", "chat", "texts", "talks"], default=["vsft"])
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--losses", action="store_true", help="leave out gradients, and what PEFT makes of the saved adapter")
    p.add_argument("--plain", action="store_true", help="only 112x112 RGB PNG, to tell decoding from the rest")
    p.add_argument("--plant", action="store_true",
                   help="give the engine a lora_alpha that is 1 %% larger, to see the comparison fail")
    a = ap.parse_args()
    a.work = a.work.resolve()
    a.work.mkdir(parents=True, exist_ok=True)
    a.go(a)


if __name__ == "__main__":
    main()
