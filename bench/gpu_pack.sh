#!/bin/sh
# gpu_pack.sh [FOLDER]: builds, and puts into FOLDER (.gpu, which git ignores) what bench/gpu.sh needs on a machine with a GPU
# and no Java: a jlinked runtime, the engine with its CUDA kernels, the tests with JUnit, the kernel timings (of attention beside each
# other, too), and where CUPTI is the tracer. Needs Maven, a JDK >= 22 and nvcc. What is made fits into 64 MiB together with the checkout.
# ROWS=FOLDER that compare_gpu/make_rows.py wrote goes along, for a machine whose Python cannot make them.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
pack=${1:-$top/.gpu}
jdk=${JDK:-}
if [ -z "$jdk" ]; then
    for jdk in "${JAVA_HOME:-}" /usr/lib/jvm/*; do
        [ -x "$jdk/bin/jlink" ] || continue
        version=$("$jdk/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
        [ "${version:-0}" -ge 22 ] && break
    done
fi
[ -x "$jdk/bin/jlink" ] || { echo "no JDK >= 22 with jlink: set JDK" >&2; exit 1; }
cd "$top"
[ -n "${SKIP_BUILD:-}" ] || mvn -q -DskipTests package
unzip -l target/engine.jar | grep -q lapidary/native/liblapidary_cuda.so || {
    echo "target/engine.jar carries no CUDA kernels: build where nvcc is" >&2
    exit 1
}
rm -rf "$pack"
mkdir -p "$pack/lib"
# oneDNN and the other platforms' compressors stay here: 60 MB that a run on the GPU does not load.
cp target/engine.jar "$pack/engine.jar"
zip -q -d "$pack/engine.jar" 'org/bytedeco/*' 'aix/*' 'darwin/*' 'freebsd/*' 'win/*' 'linux/aarch64/*' 'linux/arm/*' \
    'linux/i386/*' 'linux/loongarch64/*' 'linux/mips64/*' 'linux/ppc64/*' 'linux/ppc64le/*' 'linux/riscv64/*' \
    'linux/s390x/*' || [ $? -eq 12 ]
(cd java/engine/target/test-classes && zip -q -r "$pack/tests.jar" lapidary)
(cd bench/target/classes && zip -q -r "$pack/bench.jar" lapidary/bench/DeviceKernels.class lapidary/bench/Inputs.class)
mvn -q -pl java/engine dependency:build-classpath -DincludeScope=test -Dmdep.outputFile="$pack/classpath"
tr ':' '\n' <"$pack/classpath" | grep -E '/(junit-|opentest4j|apiguardian|jspecify)' | while read -r jar; do cp "$jar" "$pack/lib/"; done
rm "$pack/classpath"
# What jdeps --print-module-deps names of engine.jar, without java.desktop and jdk.incubator.vector, which Jackson and hardwood do
# without, and what the JDK looks up by name: zipfs, the certificates' curves, compiler and naming for JUnit and the logs.
modules=java.base,java.compiler,java.logging,java.management,java.naming,java.net.http,java.sql,java.xml
modules=$modules,jdk.crypto.ec,jdk.httpserver,jdk.jfr,jdk.management,jdk.unsupported,jdk.zipfs
"$jdk/bin/jlink" --add-modules "$modules" \
    --strip-debug --no-header-files --no-man-pages --output "$pack/runtime"
tar -C "$pack" -cJf "$pack/runtime.tar.xz" runtime
rm -rf "$pack/runtime"
nvcc -O2 -std=c++17 -arch=all-major -Inative/include -Inative/cuda bench/gpu_attention.cu -o "$pack/gpu_attention" -ldl
cupti=$(find -L "${CUDA_HOME:-/usr/local/cuda}" -name cupti.h 2>/dev/null | head -n 1)
if [ -n "$cupti" ]; then
    g++ -O2 -shared -fPIC -I"$(dirname "$cupti")" bench/gpu_trace.cpp -o "$pack/gpu_trace.so" \
        -L"$(dirname "$(find -L "${CUDA_HOME:-/usr/local/cuda}" -name libcupti.so | head -n 1)")" -lcupti
fi
[ -z "${ROWS:-}" ] || cp -r "$ROWS" "$pack/rows"
du -sh "$pack"
echo "On the machine with the GPU, with this folder beside the checkout's files: sh bench/gpu.sh ${pack#"$top"/} OUT"
