#!/bin/sh
# gpu.sh PACK OUT [tests] [sanitize] [kernels] [compare]: on a machine with an NVIDIA GPU, with what gpu_pack.sh made and no
# Java. Runs the named parts, all of them by default, and never stops at a part that fails: OUT/summary.txt says which.
#   tests     every device test on CUDA
#   sanitize  op tests under compute-sanitizer: memcheck, then racecheck and initcheck on a few of them
#   kernels   the kernels of a step at the guide's shapes, and torch's scaled dot product attention at the same
#   compare   the guide's settings beside Transformers and PEFT (bench/compare_gpu)
# TESTS='RmsNormTest AttentionTest' are the op tests that `tests` and `sanitize` run instead of all: for a short while.
# SIZE=tiny makes `compare` short; DEVICE=cpu tries the script where there is no GPU (its tests then need the whole
# engine.jar). Writes OUT/<device>-<date>.json, which belongs into bench/results.
set -u
pack=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
parts=${*:-tests sanitize kernels compare}
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

java_tests() { # run where the tests look for their files
    cd "$top/java/engine" && "$@"
}

wants() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$out/gpu.txt" 2>&1 || echo "no GPU" >"$out/gpu.txt"
cat "$out/gpu.txt"
# shellcheck disable=SC2086
"$java" $options -jar "$pack/engine.jar" info | tee "$out/info.txt"

ops="ElementwiseTest GeluTest RmsNormTest LayerNormTest EmbeddingTest RowsTest RopeTest DropoutTest VisionTest GemmTest LinearTest
     LoraLinearTest Nf4LinearTest AttentionTest CachedAttentionTest LinearCrossEntropyTest"
ops=${TESTS:-$ops}
names=
for test in $ops; do names="$names lapidary.op.$test"; done
all="$names lapidary.autograd.TapeTest lapidary.quant.Nf4KernelsTest lapidary.optim.OptimizerTest
     lapidary.optim.OptimizerGoldenTest lapidary.train.GoldenRunTest"

if wants tests; then
    # shellcheck disable=SC2086
    step "device tests on $device" tests.log java_tests "$java" $options -Dtest.devices="$device" -cp "$classpath" lapidary.RunTests $all
fi
if wants sanitize; then
    if command -v compute-sanitizer >/dev/null; then
        for test in $names; do
            # shellcheck disable=SC2086
            step "memcheck $test" "memcheck-${test##*.}.log" java_tests timeout 400 compute-sanitizer --tool memcheck --error-exitcode 9 \
                "$java" $options -Dtest.devices="$device" -cp "$classpath" lapidary.RunTests "$test"
        done
        for tool in racecheck initcheck; do
            for test in lapidary.op.RmsNormTest lapidary.op.AttentionTest lapidary.op.Nf4LinearTest; do
                # shellcheck disable=SC2086
                step "$tool $test" "$tool-${test##*.}.log" java_tests timeout 400 compute-sanitizer --tool "$tool" --error-exitcode 9 \
                    "$java" $options -Dtest.devices="$device" -cp "$classpath" lapidary.RunTests "$test"
            done
        done
    else
        note "sanitize: left out, no compute-sanitizer"
    fi
fi
if wants kernels; then
    # shellcheck disable=SC2086
    step "kernels" kernels.jsonl "$java" $options -cp "$classpath" lapidary.bench.DeviceKernels "$device" ${DIVISOR:-1}
    step "torch's kernels" torch_kernels.jsonl python3 "$top/bench/compare_gpu/torch_kernels.py" --divisor "${DIVISOR:-1}"
fi
if wants compare; then
    step "compare" compare.log python3 "$top/bench/compare_gpu/compare_gpu.py" --work "${WORK:-/tmp/compare_gpu}" \
        --size "${SIZE:-guide}" --device "$device" --java "$java" --jar "$pack/engine.jar" --json "$out/compare.json"
fi
python3 "$top/bench/compare_gpu/collect.py" "$out"
cat "$out/summary.txt"
! grep -q FAILED "$out/summary.txt"
