#!/bin/sh
# gpu.sh PACK OUT [tests] [sanitize] [losses] [kernels] [attention] [compare] [trace]: on a machine with an NVIDIA GPU, with what
# gpu_pack.sh made and no Java. Runs the named parts, all of them by default, and never stops at a part that fails:
# OUT/summary.txt says which.
#   tests     every device test on CUDA
#   sanitize  op tests under compute-sanitizer: memcheck, then racecheck and initcheck on a few of them
#   losses    ten steps of a small random model in float32 and bfloat16: compare_gpu/losses.py holds them against the same of
#             another device (DEVICE=cpu with the whole engine.jar)
#   kernels   the kernels of a step at the guide's shapes, and torch's scaled dot product attention at the same
#   attention the kernels of attention of the card beside those for every card (gpu_attention.cu): times, and how far apart
#   compare   the guide's settings beside Transformers and PEFT (bench/compare_gpu); ONLY=engine or python for one side,
#             STEPS=2 for short
#   trace     the kernels of two steps of the guide's single-image setting by their share of the time (gpu_trace.cpp)
# TESTS='RmsNormTest AttentionTest' are the op tests that `tests` and `sanitize` run instead of all: for a short while.
# SIZE=tiny makes `compare` short, SMALL=tiny `losses`; DEVICE=cpu tries the script where there is no GPU (with the whole
# engine.jar in PACK). Writes OUT/<device>-<date>.json, which belongs into bench/results.
set -u
pack=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
parts=${*:-tests sanitize losses kernels attention compare trace}
top=$(cd "$(dirname "$0")/.." && pwd)
device=${DEVICE:-cuda}
if [ -f "$pack/runtime.tar.xz" ]; then
    run=$(mktemp -d)
    trap 'rm -rf "$run"' EXIT
    # A bare machine may have no xz; Python, which the comparison needs anyway, unpacks without one.
    tar -C "$run" -xJf "$pack/runtime.tar.xz" 2>/dev/null ||
        python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$pack/runtime.tar.xz" "$run"
    java=$run/runtime/bin/java
else
    java=java
fi
classpath=$pack/tests.jar:$pack/engine.jar:$pack/bench.jar
for jar in "$pack"/lib/*.jar; do classpath=$classpath:$jar; done
options="--enable-native-access=ALL-UNNAMED -Xmx8g"
EXTRA=${EXTRA:-} # more options for the tests' processes
work=${WORK:-/tmp/compare_gpu}
mkdir -p "$work"
: >"$out/summary.txt"

note() { echo "$1" | tee -a "$out/summary.txt"; }

step() { # NAME LOG COMMAND...: the end of the log and the verdict
    name=$1 log=$out/$2
    shift 2
    start=$(date +%s)
    if "$@" >"$log" 2>&1; then verdict=ok; else verdict="FAILED ($?)"; fi
    tail -n 25 "$log"
    note "$name: $verdict, $(($(date +%s) - start)) s, $(basename "$log")"
}

each() { # NAME LOG COMMAND_BEFORE CLASSES: tests, each class in a process of its own, twelve at a time
    start=$(date +%s)
    rm -f "$out/$2"-*.log "$out/$2.failed"
    # Run where the tests look for their files.
    printf '%s\n' $4 | (cd "$top/java/engine" && LOG=$out/$2 DO="$3 $java --enable-native-access=ALL-UNNAMED -Xmx4g
        -Dtest.devices=$device $EXTRA -cp $classpath lapidary.RunTests" xargs -P 12 -I '{}' sh -c \
        'timeout 400 $DO {} >"$LOG-{}.log" 2>&1 || echo "{} ($?)" >>"$LOG.failed"')
    verdict=ok
    [ ! -f "$out/$2.failed" ] || verdict="FAILED: $(tr '\n' ' ' <"$out/$2.failed")"
    grep -hE '^FAILED|^ {7}|passed +[0-9]+ failed|ERROR SUMMARY' "$out/$2"-*.log | cut -c 1-300
    note "$1: $verdict, $(($(date +%s) - start)) s"
}

losses() { # of the small model, into OUT
    python3 "$top/bench/reference/make_model.py" --size "${SMALL:-small}" --out "$work/small" || return 1
    (cd "$work/small" && sha256sum ./*.safetensors) >"$out/losses.sha256"
    for dtype in float32 bfloat16; do
        "$java" $options -jar "$pack/engine.jar" train --model_name_or_path "$work/small" --dataset_name "$work/rows/single" \
            --output_dir "$work/small-$dtype" --overwrite_output_dir --device "$device" --dtype "$dtype" --max_steps 10 \
            --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --lora_r 16 --lora_alpha 16 \
            --learning_rate 2e-4 --logging_steps 1 || return 1
        cp "$work/small-$dtype/metrics.jsonl" "$out/losses-$dtype.jsonl"
    done
}

compare() { # ARGUMENT...: the guide's settings
    python3 "$top/bench/compare_gpu/compare_gpu.py" --work "$work" --size "${SIZE:-guide}" --device "$device" --java "$java" \
        --jar "$pack/engine.jar" "$@"
}

attention() {
    python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("lapidary/native/liblapidary_cuda.so", sys.argv[2])' \
        "$pack/engine.jar" "$work" && "$pack/gpu_attention" "$work/lapidary/native/liblapidary_cuda.so"
}

trace() {
    rm -f "$work/trace.tsv" # of another run
    tracer=$pack/gpu_trace.so
    toolkit=${CUDA_HOME:-/usr/local/cuda}
    header=$(find -L "$toolkit" -name cupti.h 2>/dev/null | head -n 1)
    library=$(find -L "$toolkit" /opt -name 'libcupti.so.1*' 2>/dev/null | head -n 1)
    if [ -n "$header" ] && [ -n "$library" ] && command -v g++ >/dev/null; then
        tracer=$work/gpu_trace.so
        g++ -O2 -shared -fPIC -I"$(dirname "$header")" "$top/bench/gpu_trace.cpp" -o "$tracer" "$library" || return 1
    fi
    # Every process with CUDA writes the file at its end; the engine's is the last.
    CUDA_INJECTION64_PATH=$tracer GPU_TRACE=$work/trace.tsv LD_LIBRARY_PATH=$(dirname "$library"):${LD_LIBRARY_PATH:-} \
        compare --settings single --only engine --steps 2 || return 1
    gzip -c "$work/trace.tsv" >"$out/trace.tsv.gz"
    python3 "$top/bench/gpu_trace.py" "$work/trace.tsv" | tee "$out/trace.md"
}

wants() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$out/gpu.txt" 2>&1 || echo "no GPU" >"$out/gpu.txt"
cat "$out/gpu.txt"
# shellcheck disable=SC2086
"$java" $options -jar "$pack/engine.jar" info | tee "$out/info.txt"

ops="ElementwiseTest GeluTest RmsNormTest LayerNormTest EmbeddingTest RowsTest RmsNormRopeTest DropoutTest VisionTest GemmTest LinearTest
     LoraLinearTest LoraDownTest Nf4LinearTest AttentionTest CachedAttentionTest LinearCrossEntropyTest"
ops=${TESTS:-$ops}
names=
for test in $ops; do names="$names lapidary.op.$test"; done
all=$names
[ -n "${TESTS:-}" ] || all="$all lapidary.autograd.TapeTest lapidary.quant.Nf4KernelsTest lapidary.optim.OptimizerTest
     lapidary.optim.OptimizerGoldenTest lapidary.train.GoldenRunTest"

if wants losses || wants compare || wants trace; then
    if [ -d "$pack/rows" ] && [ ! -d "$work/rows" ]; then cp -r "$pack/rows" "$work/rows"; fi
    [ -d "$work/rows" ] || python3 "$top/bench/compare_gpu/make_rows.py" --out "$work/rows" --rows 160
fi
if wants tests; then
    each "device tests on $device" tests "" "$all"
fi
if wants sanitize; then
    if command -v compute-sanitizer >/dev/null; then
        each memcheck memcheck "compute-sanitizer --tool memcheck --error-exitcode 9" "$names"
        for tool in racecheck initcheck; do
            each "$tool" "$tool" "compute-sanitizer --tool $tool --error-exitcode 9" \
                "lapidary.op.RmsNormTest lapidary.op.AttentionTest lapidary.op.Nf4LinearTest lapidary.op.LoraDownTest"
        done
    else
        note "sanitize: left out, no compute-sanitizer"
    fi
fi
if wants losses; then
    step "losses of the small model" losses.log losses
fi
if wants kernels; then
    # shellcheck disable=SC2086
    step "kernels" kernels.jsonl "$java" $options -cp "$classpath" lapidary.bench.DeviceKernels "$device" ${DIVISOR:-1}
    step "torch's kernels" torch_kernels.jsonl python3 "$top/bench/compare_gpu/torch_kernels.py" --divisor "${DIVISOR:-1}"
fi
if wants attention; then
    step "attention" attention.log attention
fi
if wants compare; then
    step "compare" compare.log compare --steps "${STEPS:-4}" ${ONLY:+--only "$ONLY"} --json "$out/compare.json"
    cp "$work"/engine-*.log "$work"/python-*.log "$out" 2>/dev/null
fi
if wants trace; then
    step "trace" trace.log trace
fi
python3 "$top/bench/compare_gpu/collect.py" "$out"
cat "$out/summary.txt"
! grep -q FAILED "$out/summary.txt"
