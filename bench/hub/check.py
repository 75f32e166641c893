"""The real huggingface_hub client and the engine, against one server that speaks the Hub's HTTP (the tests' own).

    mvn -q -DskipTests package && python bench/hub/check.py [uploads] [downloads] [together] [killed] [tokens]

Needs huggingface_hub (checked with 1.33.0) and, for the last step, transformers. Checks that

* both upload the same folder to the same tree, with large files in one piece and in parts, and that each takes the
  other's upload for unchanged;
* both download the same snapshot into the same cache layout, over a connection that is cut twice;
* each reads, without a network, the cache that the other one wrote, and resumes in it;
* several of both at once in one cache do not disturb each other, and a killed download goes on where it was;
* each finds the token that the other one stored.
"""

import filecmp
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
JAR = TOP / "target/engine.jar"
CLASSES = TOP / "java/engine/target/test-classes"
DEMO = TOP / "java/engine/src/main/resources/lapidary/demo"
SMALL = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model"]
done = 0


def check(what, holds, detail=""):
    global done
    if not holds:
        sys.exit(f"FAILED: {what} {detail}")
    done += 1
    print(f"ok: {what}", flush=True)


def java():
    for folder in filter(None, [os.environ.get("JAVA_HOME"), *sorted(map(str, Path("/usr/lib/jvm").glob("*")), reverse=True)]):
        release = Path(folder, "release")
        if release.is_file() and 'JAVA_VERSION="2' in release.read_text() and Path(folder, "bin/java").exists():
            return str(Path(folder, "bin/java"))
    return "java"


JAVA = java()


class Server:
    def __init__(self, part_size, *start):
        command = [JAVA, "-cp", f"{CLASSES}:{JAR}", "lapidary.hub.HubServer", str(part_size), *map(str, start)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def requests(self):
        """Ranges that were asked for so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


def environment(home, endpoint, **more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return clean | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    } | more


def engine(env, *arguments, given=""):
    result = subprocess.run(
        [JAVA, "-jar", str(JAR), *map(str, arguments)], env=env, input=given, capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        sys.exit(f"FAILED: engine {arguments}: {result.stdout}{result.stderr}")
    return result.stdout.strip().splitlines()[-1]


def python(env, script, *arguments):
    """Runs a script in a process of its own, because huggingface_hub reads the environment once; prints JSON."""
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        sys.exit(f"FAILED: python: {result.stdout}{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])


UPLOAD = """
import json, sys
from huggingface_hub import HfApi
api = HfApi()
repo = api.create_repo(sys.argv[1], exist_ok=True)
info = api.upload_folder(repo_id=repo.repo_id, folder_path=sys.argv[2], commit_message="End of training",
                         ignore_patterns=["_*", "checkpoint-*"])
print(json.dumps(info.oid))
"""
NEWEST = """
import json, sys
from huggingface_hub import HfApi
print(json.dumps(HfApi().repo_info(sys.argv[1]).sha))
"""
TREE = """
import json, sys
from huggingface_hub import HfApi
print(json.dumps(sorted([f.path, f.size, f.blob_id, f.lfs.sha256 if f.lfs else None]
                        for f in HfApi().list_repo_tree(sys.argv[1], recursive=True))))
"""
SNAPSHOT = """
import json, sys
from huggingface_hub import snapshot_download
print(json.dumps(snapshot_download(sys.argv[1], repo_type=sys.argv[2], allow_patterns=sys.argv[4:],
                                   local_files_only=sys.argv[3] == "offline")))
"""
SCAN = """
import json
from huggingface_hub import scan_cache_dir
found = scan_cache_dir()
print(json.dumps([[str(w) for w in found.warnings],
                  sorted([r.repo_id, r.repo_type, r.nb_files, sorted(r.refs)] for r in found.repos)]))
"""
TOKEN = """
import json
from huggingface_hub import HfApi, get_token
print(json.dumps([get_token(), HfApi().whoami()["name"]]))
"""
LOGIN = """
import json
from huggingface_hub import login
login("hf_test", add_to_git_credential=False)
print(json.dumps("done"))
"""
TRANSFORMERS = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
config = AutoConfig.from_pretrained(sys.argv[1])
print(json.dumps([config.model_type, len(AutoTokenizer.from_pretrained(sys.argv[1]))]))
"""


def layout(cache, repo):
    """What a cache holds of a repository: references, links and sizes of blobs."""
    home = Path(cache, "hub", repo)
    out = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if name.startswith("trees"):
            continue
        if path.is_symlink():
            out[name] = os.readlink(path)
        elif path.is_file():
            out[name] = path.read_text() if name.startswith("refs") else path.stat().st_size
    return out


def same_content(a, b):
    files = sorted(str(p.relative_to(a)) for p in Path(a).rglob("*") if p.is_file())
    return files == sorted(str(p.relative_to(b)) for p in Path(b).rglob("*") if p.is_file()) and all(
        filecmp.cmp(Path(a, f), Path(b, f), shallow=False) for f in files)


def uploads(folder, scratch):
    for part_size in (0, 100_000):
        with Server(part_size) as server:
            env = environment(scratch / f"up{part_size}", server.endpoint, HF_TOKEN="hf_test")
            python(env, UPLOAD, "me/by-python", folder)
            by_python = python(env, TREE, "me/by-python")
            engine(env, "upload", "me/by-engine", folder)
            check(f"equal trees, parts of {part_size} bytes", by_python == python(env, TREE, "me/by-engine"))
            check("files are all there", len(by_python) > 5 and any(entry[3] for entry in by_python), by_python)
            last = engine(env, "upload", "me/by-python", folder)
            check("the engine finds Python's upload unchanged", last.endswith("/me/by-python"), last)
            newest = python(env, NEWEST, "me/by-engine")
            check("Python finds the engine's upload unchanged", newest == python(env, UPLOAD, "me/by-engine", folder))
    with Server(100_000) as server:  # each the first to send: nothing is in the storage yet
        env = environment(scratch / "first", server.endpoint, HF_TOKEN="hf_test")
        engine(env, "upload", "by-engine", folder)
        check("the engine's parts are the file", by_python == python(env, TREE, "me/by-engine"))


def downloads(folder, scratch):
    data = scratch / "data"
    (data / "data").mkdir(parents=True)
    for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"):
        shutil.copy(DEMO / "data" / name, data / "data" / name)
    with Server(0, "models/org/tiny", folder, "datasets/org/data", data) as server:
        ours = environment(scratch / "ours", server.endpoint)
        theirs = environment(scratch / "theirs", server.endpoint)
        for kind, name, patterns in (("model", "org/tiny", SMALL), ("dataset", "org/data", ["data/train-*"])):
            flags = ["--dataset"] if kind == "dataset" else []
            here = engine(ours, "download", name, *flags)
            there = python(theirs, SNAPSHOT, name, kind, "online", *patterns)
            repo = f"{kind}s--{name.replace('/', '--')}"
            check(f"{kind}: equal content", same_content(here, there), f"{here} {there}")
            check(f"{kind}: equal layout", layout(scratch / "ours", repo) == layout(scratch / "theirs", repo),
                  f"\n{layout(scratch / 'ours', repo)}\n{layout(scratch / 'theirs', repo)}")
    # the server is gone: what follows is read from the caches alone
    for kind, name, patterns in (("model", "org/tiny", SMALL), ("dataset", "org/data", ["data/train-*"])):
        flags = ["--dataset"] if kind == "dataset" else []
        offline = {"HF_HUB_OFFLINE": "1"}
        repo = f"{kind}s--{name.replace('/', '--')}"
        read = python(ours | offline, SNAPSHOT, name, kind, "offline", *patterns)
        check(f"{kind}: Python reads our cache", read.startswith(str(scratch / "ours/hub" / repo)), read)
        read = engine(theirs | offline, "download", name, *flags)
        check(f"{kind}: the engine reads Python's cache", read.startswith(str(scratch / "theirs/hub" / repo)), read)
        read = engine(theirs, "download", name, *flags)
        check(f"{kind}: and when the network fails", read.startswith(str(scratch / "theirs/hub" / repo)), read)
    a, b = python(ours, SCAN), python(theirs, SCAN)
    check("Python's scan finds both caches in order and equal", a == b and a[0] == [], f"\n{a}\n{b}")
    try:
        import transformers  # noqa: F401
    except ImportError:
        print("skipped: transformers is not installed")
        return
    read = python(ours | {"HF_HUB_OFFLINE": "1"}, TRANSFORMERS, "org/tiny")
    check("transformers loads from our cache", read[0] == "gemma3" and read[1] > 100, read)


def together(folder, scratch):
    """Several of both at once in one empty cache: none fails, and what is there is whole."""
    with Server(0, "models/org/tiny", folder) as server:
        env = environment(scratch / "together", server.endpoint)
        commands = [[JAVA, "-jar", str(JAR), "download", "org/tiny"]] * 3
        commands += [[sys.executable, "-c", SNAPSHOT, "org/tiny", "model", "online", *SMALL]] * 2
        running = [subprocess.Popen(c, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
        said = [process.communicate(timeout=300)[0] for process in running]
        check("five at once all succeed", all(process.returncode == 0 for process in running), said)
        snapshot = Path(said[0].strip().splitlines()[-1])
        check("and the files are whole", all(
            filecmp.cmp(path, folder / path.relative_to(snapshot), shallow=False) for path in snapshot.rglob("*") if path.is_file()))
        left = [p.name for p in (scratch / "together").rglob("*") if p.name.endswith((".incomplete", ".tmp", ".part"))]
        check("and nothing unfinished is left", not left, left)


def killed(folder, scratch):
    """A download that is killed goes on from where it was."""
    big = scratch / "big"
    shutil.copytree(folder, big)
    index = json.loads((big / "model.safetensors.index.json").read_text())
    index["weight_map"]["filler"] = "filler.safetensors"
    (big / "model.safetensors.index.json").write_text(json.dumps(index))
    (big / "filler.safetensors").write_bytes(os.urandom(200 << 20))
    with Server(0, "models/org/big", big) as server:
        env = environment(scratch / "killed", server.endpoint)
        blobs = scratch / "killed/hub/models--org--big/blobs"
        process = subprocess.Popen([JAVA, "-jar", str(JAR), "download", "org/big"], env=env, stdout=subprocess.DEVNULL)
        parts = []
        while process.poll() is None and not parts:
            time.sleep(0.02)
            parts = [p for p in blobs.glob("*.incomplete") if p.stat().st_size > 20 << 20]
        process.kill()
        process.wait(30)
        check("a download is killed half-way", parts and parts[0].exists() and parts[0].stat().st_size < 200 << 20)
        begun = parts[0].stat().st_size
        snapshot = Path(engine(env, "download", "org/big"))
        check(f"and goes on after {begun >> 20} of 200 MiB, to the same bytes",
              filecmp.cmp(snapshot / "filler.safetensors", big / "filler.safetensors", shallow=False))
        ranges = [line for line in server.requests() if "bytes=" in line]
        check("by asking for the rest alone", any(f"bytes={begun}-" in line for line in ranges), ranges)


def tokens(_, scratch):
    with Server(0) as server:
        ours = environment(scratch / "login-ours", server.endpoint)
        engine(ours, "login", given="hf_test\n")
        check("Python finds the token that the engine stored", python(ours, TOKEN) == ["hf_test", "me"])
        theirs = environment(scratch / "login-theirs", server.endpoint)
        python(theirs, LOGIN)
        for name in ("token", "stored_tokens"):
            a, b = scratch / "login-ours" / name, scratch / "login-theirs" / name
            check(f"{name} is the same file", a.read_bytes() == b.read_bytes(), f"{a.read_text()!r} {b.read_text()!r}")
            check(f"{name} is for its owner alone", stat.S_IMODE(a.stat().st_mode) == 0o600)
        (scratch / "x").mkdir()
        (scratch / "x/config.json").write_text("{}")
        last = engine(theirs, "upload", "me/x", scratch / "x")
        check("the engine uses the token that Python stored", "/commit/" in last, last)


def main():
    for needed in (JAR, CLASSES / "lapidary/hub/HubServer.class"):
        if not needed.exists():
            sys.exit(f"{needed} is missing; build first: mvn -q -DskipTests package")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        folder = scratch / "model"
        shutil.copytree(DEMO / "base", folder)
        (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n# tiny\n")
        (folder / "empty.txt").write_text("")
        (folder / "runs").mkdir()
        (folder / "runs/a b+c%20é.txt").write_text("odd name")
        steps = {"uploads": uploads, "downloads": downloads, "together": together, "killed": killed, "tokens": tokens}
        for step in sys.argv[1:] or steps:
            print(f"-- {step}", flush=True)
            steps[step](folder, scratch)
    print(f"{done} checks passed")


if __name__ == "__main__":
    main()
