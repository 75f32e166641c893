"""OpenAI's own clients drive `engine serve`: Python's `openai` and, where node finds it, npm's.

    mvn -q -DskipTests package && python bench/serve/check.py [--npm FOLDER_WITH_NODE_MODULES]

Needs the package openai (checked with 3.22.1); for npm's, a folder in which `npm i openai` was run (checked with 6.49.0).
The server is started on the demo's model with two adapters; prints a line a check, and ends with 1 where one fails.
"""

import argparse
import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import openai

TOP = Path(__file__).resolve().parents[2]
MODEL = TOP / "java/engine/src/main/resources/lapidary/demo/base"
GOLDEN = TOP / "java/engine/src/test/resources/lapidary/infer"
QUESTION = "How many shapes are there?"
PICTURE = "data:image/png;base64," + base64.b64encode((GOLDEN / "pictures/0.png").read_bytes()).decode()
MESSAGES = [{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": QUESTION}]}]
WORDS = [{"role": "user", "content": "Go on"}]
failed = []


def check(name, good, shown=""):
    print(("ok      " if good else "FAILED  ") + name + (f": {shown}" if shown != "" else ""), flush=True)
    if not good:
        failed.append(name)


def raises(name, error, call):
    try:
        call()
        check(name, False, "no error")
    except error as e:
        check(name, True, f"{type(e).__name__}, {e.status_code}, {e.body['message'][:70]}")
    except Exception as e:
        check(name, False, f"{type(e).__name__}: {e}")


def python(url, key):
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    print(f"Python openai {openai.__version__}")
    check("models", [m.id for m in client.models.list()] == ["tiny", "counts", "same"])
    check("model", client.models.retrieve("counts").id == "counts")

    def ask(model, messages=MESSAGES, **options):
        return client.chat.completions.create(
            model=model, messages=messages, temperature=0, **{"max_tokens": 24, **options})

    plain = ask("counts")
    check("plain, image, adapter", plain.choices[0].message.content == "Four.", plain.choices[0].message.content)
    check("usage", plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens > 0,
          plain.usage.total_tokens)
    base = ask("tiny")
    check("base answers otherwise", base.choices[0].message.content != "Four.", base.choices[0].message.content)
    chunks = list(ask("tiny", stream=True, stream_options={"include_usage": True}))
    words = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check("stream is the plain answer", words == base.choices[0].message.content, f"{len(chunks)} chunks")
    check("stream's usage", chunks[-1].usage.completion_tokens == base.usage.completion_tokens)
    check("max_completion_tokens", ask("tiny", WORDS, max_completion_tokens=2).choices[0].finish_reason == "length")
    stop = base.choices[0].message.content[4:8]
    check("stop", ask("tiny", stop=stop).choices[0].message.content == base.choices[0].message.content[:4].split(stop)[0])
    drawn = [client.chat.completions.create(model="tiny", messages=WORDS, temperature=1.5, seed=7, max_tokens=16)
             .choices[0].message.content for _ in range(2)]
    check("seed", drawn[0] == drawn[1])
    answers = [None] * 32

    def one(i):
        answers[i] = ask(["tiny", "counts"][i % 2]).choices[0].message.content

    threads = [threading.Thread(target=one, args=(i,)) for i in range(32)]
    begun = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("32 at once, two models", answers == [base.choices[0].message.content, "Four."] * 16,
          f"{time.time() - begun:.1f} s")
    stream = client.chat.completions.create(
        model="tiny", messages=WORDS, temperature=2, max_tokens=2000, stream=True)
    next(iter(stream))
    stream.close()
    check("leaving a stream, and asking again", ask("counts").choices[0].message.content == "Four.")
    raises("unknown model", openai.NotFoundError, lambda: ask("dogs"))
    bad = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}]}]
    raises("bad base64", openai.BadRequestError, lambda: ask("tiny", bad))
    far = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]}]
    raises("a picture elsewhere", openai.BadRequestError, lambda: ask("tiny", far))
    raises("tools", openai.BadRequestError, lambda: ask("tiny", tools=[
        {"type": "function", "function": {"name": "f", "parameters": {}}}]))
    raises("two choices", openai.BadRequestError, lambda: ask("tiny", n=2))
    raises("40 MB", openai.APIStatusError, lambda: ask("tiny", [{"role": "user", "content": "a" * 40_000_000}]))
    raises("wrong key", openai.AuthenticationError,
           lambda: openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list())


NODE = """
import OpenAI, { toFile } from 'openai';
import { readFileSync } from 'node:fs';
const [url, key, messages] = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const options = { model: 'counts', messages, temperature: 0, max_tokens: 24 };
const check = (name, good, shown = '') => {
  console.log((good ? 'ok      ' : 'FAILED  ') + name + (shown === '' ? '' : ': ' + shown));
  if (!good) process.exitCode = 1;
};
const plain = await client.chat.completions.create(options);
check('plain, image, adapter', plain.choices[0].message.content === 'Four.', plain.choices[0].message.content);
let words = '', last;
for await (const chunk of await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } })) {
  words += chunk.choices[0]?.delta?.content ?? '';
  last = chunk;
}
check('stream', words === 'Four.' && last.usage.total_tokens === plain.usage.total_tokens);
const left = await client.chat.completions.create({ ...options, model: 'tiny', temperature: 2, max_tokens: 2000, stream: true });
for await (const chunk of left) { left.controller.abort(); break; }
const many = await Promise.all(Array.from({ length: 32 }, () => client.chat.completions.create(options)));
check('32 at once, after leaving a stream', many.every(a => a.choices[0].message.content === 'Four.'));
for (const [name, more, type] of [['unknown model', { model: 'dogs' }, OpenAI.NotFoundError], ['two choices', { n: 2 }, OpenAI.BadRequestError]]) {
  const error = await client.chat.completions.create({ ...options, ...more }).catch(e => e);
  check(name, error instanceof type, error.message);
}
"""


def npm(folder, url, key):
    import json
    version = json.loads((folder / "node_modules/openai/package.json").read_text())["version"]
    print(f"npm openai {version}")
    script = folder / "check_lapidary.mjs"
    script.write_text(NODE)
    try:
        run = subprocess.run(["node", script], input=json.dumps([url, key, MESSAGES]), text=True, cwd=folder)
        if run.returncode != 0:
            failed.append("npm")
    finally:
        script.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--npm", type=Path)
    parser.add_argument("--java", nargs=argparse.REMAINDER, default=[str(TOP / "engine")], help="what starts the engine, to the end of the line")
    arguments = parser.parse_args()
    key = "key-of-the-check"
    with tempfile.TemporaryFile("w+") as out:
        server = subprocess.Popen(
            [*arguments.java, "serve", "--model_name_or_path", MODEL, "--served_model_name", "tiny", "--dtype", "float32",
             "--adapter", f"counts={GOLDEN / 'adapter'}", "--adapter", f"same={GOLDEN / 'adapter'}", "--port", "0"],
            stdout=out, env={**os.environ, "LAPIDARY_API_KEY": key})
        try:
            url = None
            while url is None:
                if server.poll() is not None:
                    sys.exit("the server did not start")
                time.sleep(0.1)
                out.seek(0)
                url = re.search(r"at (http://\S+/v1)\n", out.read())
            python(url[1], key)
            if arguments.npm:
                npm(arguments.npm, url[1], key)
            server.send_signal(signal.SIGTERM)
            check("SIGTERM ends the server with 0", server.wait(30) == 0, server.returncode)
            out.seek(0)
            check("the key is in no line of the log", key not in out.read())
        finally:
            server.kill()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
