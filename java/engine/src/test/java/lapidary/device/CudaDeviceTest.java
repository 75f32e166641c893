package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import lapidary.autograd.Gradients;
import lapidary.ffi.kernels.KernelTable;
import lapidary.op.LoraLinear;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * {@link CudaDevice} on the CUDA for tests, which is stricter than a GPU: host access to device memory ends the process,
 * copies happen as late as they may, memory that nobody wrote holds NaN.
 */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
final class CudaDeviceTest {
    private static final long MIB = 1 << 20;
    private static final List<String> FAILING = List.of(
            "cudaGetDeviceCount",
            "cudaMallocAsync",
            "cudaStreamSynchronize",
            "cudaMemcpyAsync",
            "cudaSetDevice",
            "cudaEventDestroy",
            "cudaFreeAsync",
            "sum_rows",
            "rms_norm_backward",
            "adamw");

    private CudaDevice device;
    private Frame frame;

    @BeforeAll
    void open() {
        device = FakeCuda.open();
    }

    @AfterAll
    void close() {
        device.close();
    }

    @BeforeEach
    void openFrame() {
        frame = Frame.root(device, "test");
    }

    @AfterEach
    void closeFrame() {
        FAILING.forEach(function -> FakeCuda.fail(function, 0, 0, false));
        FakeCuda.limit(8L << 30);
        frame.close();
    }

    private static float[] random(int seed, int n) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private Tensor tensor(DType dtype, float[] values, long... axes) {
        Tensor x = frame.of(values, axes);
        if (dtype == DType.F32) {
            return x;
        }
        Tensor y = frame.empty(dtype, axes);
        frame.kernels().convert(y, x, 1);
        return y;
    }

    @Test
    void closesOnce() {
        CudaDevice other = FakeCuda.open();
        other.close();
        other.close();
    }

    @Test
    void copiesComeBackAsTheyWent() {
        // 40 MiB pass through the ring in pieces; many copies wait in it at once.
        float[] large = random(1, 10 << 20);
        List<float[]> values = new ArrayList<>();
        List<Tensor> tensors = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            Tensor x = frame.of(large, large.length);
            for (int i = 0; i < 200; i++) {
                float[] small = random(i, 1 + 37 * i);
                tensors.add(frame.of(small, small.length));
                values.add(small.clone());
                java.util.Arrays.fill(small, Float.NaN); // the caller's memory is its own again
            }
            assertArrayEquals(large, x.toFloats());
        }
        for (int i = 0; i < values.size(); i++) {
            assertArrayEquals(values.get(i), tensors.get(i).toFloats());
        }
    }

    /** Longer than the ring: its parts are not written to again before the device has read them. */
    @Test
    void aCopyLongerThanTheRingIsWhole() {
        float[] values = new float[20 << 20];
        for (int i = 0; i < values.length; i++) {
            values[i] = i;
        }
        assertArrayEquals(values, frame.of(values, values.length).toFloats());
    }

    @Test
    void anEmptyTensorIsCopiedToo() {
        assertEquals(0, frame.of(new float[0], 0).toFloats().length);
    }

    @ParameterizedTest
    @CsvSource({"F32,F32,3,5,7", "BF16,BF16,17,9,33", "BF16,F32,4,31,2", "F32,F32,1,1,1", "BF16,BF16,64,128,96"})
    void productsMatchPlainSums(DType in, DType out, int m, int n, int k) {
        for (int variant = 0; variant < 16; variant++) {
            boolean ta = (variant & 1) != 0;
            boolean tb = (variant & 2) != 0;
            boolean accumulate = (variant & 4) != 0;
            boolean hasBias = (variant & 8) != 0;
            Tensor a = tensor(in, random(1, m * k), ta ? k : m, ta ? m : k);
            Tensor b = tensor(in, random(2, n * k), tb ? n : k, tb ? k : n);
            Tensor bias = hasBias ? tensor(in, random(3, n), n) : Tensor.NONE;
            Tensor c = accumulate ? tensor(out, random(4, m * n), m, n) : frame.empty(out, m, n);
            float[] before = accumulate ? c.toFloats() : new float[m * n];
            float factor = hasBias ? 1 : 0.5f;
            frame.gemm().multiply(c, a, ta, b, tb, bias, factor, accumulate);
            float[] av = a.toFloats();
            float[] bv = b.toFloats();
            float[] actual = c.toFloats();
            float[] biases = hasBias ? bias.toFloats() : new float[n];
            double tolerance = (out == DType.BF16 ? 0x1p-8 : 0x1p-22) * (4 * Math.sqrt(k) + 4);
            for (int i = 0; i < m; i++) {
                for (int j = 0; j < n; j++) {
                    double sum = 0;
                    for (int p = 0; p < k; p++) {
                        sum += (double) av[ta ? p * m + i : i * k + p] * bv[tb ? j * k + p : p * n + j];
                    }
                    double expected = factor * sum + biases[j] + before[i * n + j];
                    assertEquals(expected, actual[i * n + j], tolerance, "variant " + variant + " at " + i + "," + j);
                }
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"F32,F32", "BF16,BF16", "BF16,F32"})
    void aProductOverNoTermsIsTheBias(DType in, DType out) {
        Tensor a = frame.empty(in, 3, 0);
        Tensor b = frame.empty(in, 2, 0);
        Tensor bias = tensor(in, new float[] {1, -2}, 2);
        Tensor c = frame.empty(out, 3, 2);
        frame.gemm().multiply(c, a, false, b, true, bias, 1, false);
        assertArrayEquals(new float[] {1, -2, 1, -2, 1, -2}, c.toFloats());
        frame.gemm().multiply(c, a, false, b, true, bias, 1, true);
        assertArrayEquals(new float[] {2, -4, 2, -4, 2, -4}, c.toFloats());
        frame.gemm().multiply(c, a, false, b, true, Tensor.NONE, 1, false);
        assertArrayEquals(new float[6], c.toFloats());
    }

    /** An algorithm for aligned rows must not be taken for a slice that begins anywhere. */
    @Test
    void slicesOfAnyAlignmentAreMultiplied() {
        Tensor all = tensor(DType.BF16, random(1, 9 * 3), 9, 3);
        Tensor w = tensor(DType.BF16, random(2, 4 * 3), 4, 3);
        float[] whole = product(all, w).toFloats();
        for (int from = 0; from < 8; from++) {
            float[] part = product(all.slice(from, from + 1), w).toFloats();
            assertArrayEquals(java.util.Arrays.copyOfRange(whole, from * 4, from * 4 + 4), part);
        }
    }

    private Tensor product(Tensor x, Tensor w) {
        Tensor y = frame.empty(x.dtype(), x.rows(), w.rows());
        frame.gemm().linear(y, x, w, Tensor.NONE);
        return y;
    }

    /** An adapter's output and gradients: y, dx, da, db. */
    private static List<float[]> adapter(Device on, float dropout) {
        try (Frame frame = Frame.root(on, "adapter")) {
            Tensor x = frame.empty(DType.BF16, 96, 256);
            frame.kernels().convert(x, frame.of(random(5, 96 * 256), 96, 256), 1);
            Tensor w = frame.empty(DType.BF16, 24, 256);
            frame.kernels().convert(w, frame.of(random(6, 24 * 256), 24, 256), 0.1f);
            Tensor a = frame.of(random(7, 8 * 256), 8, 256);
            Tensor b = frame.of(random(8, 24 * 8), 24, 8);
            Tensor dy = frame.empty(DType.BF16, 96, 24);
            frame.kernels().convert(dy, frame.of(random(9, 96 * 24), 96, 24), 1);
            LoraLinear op = new LoraLinear(x, w, Tensor.NONE, new LoraLinear.Adapter(a, b, 0.5f, dropout, 3, 4));
            try (Gradients grads = new Gradients(frame, List.of(x, a, b))) {
                on.pool().restartPeak();
                Tensor y = op.forward(frame);
                op.backward(dy, frame, grads);
                return List.of(
                        y.toFloats(),
                        grads.of(x).toFloats(),
                        grads.of(a).toFloats(),
                        grads.of(b).toFloats());
            }
        }
    }

    /** An adapter gives what it gives of a dropped copy, and needs no memory for one. */
    @Test
    void adaptersDropInsideTheirProducts() {
        adapter(device, 0);
        long withoutDropout = device.pool().peak();
        List<float[]> actual = adapter(device, 0.3f);
        assertEquals(withoutDropout, device.pool().peak(), "peak with dropout");
        List<float[]> expected;
        try (CpuDevice cpu = CpuDevice.open()) {
            expected = adapter(cpu, 0.3f);
        }
        for (int k = 0; k < expected.size(); k++) {
            double largest = 0;
            for (float value : expected.get(k)) {
                largest = Math.max(largest, Math.abs(value));
            }
            // Sums in another order, so that a few intermediate values round the other way.
            assertArrayEquals(expected.get(k), actual.get(k), (float) (0x1p-7 * largest), "result " + k);
        }
    }

    @Test
    void zerosAreZeroInUsedMemoryToo() {
        frame.release(frame.of(random(1, 1000), 1000));
        assertArrayEquals(new float[1000], frame.zeros(DType.F32, 1000).toFloats());
    }

    @Test
    void sameStepsAllocateNothingFromTheDriver() {
        long before = 0;
        for (int step = 0; step < 4; step++) {
            if (step == 2) {
                before = FakeCuda.calls("cudaMallocAsync") + FakeCuda.calls("cudaHostAlloc");
            }
            try (Frame inner = frame.child("step")) {
                Tensor x = inner.of(random(step, 4096), 64, 64);
                Tensor y = inner.zeros(DType.F32, 64, 64);
                inner.gemm().multiply(y, x, false, x, true, Tensor.NONE, 1, true);
            }
        }
        assertEquals(before, FakeCuda.calls("cudaMallocAsync") + FakeCuda.calls("cudaHostAlloc"));
    }

    @Test
    void onlyReadingWaits() {
        long before = FakeCuda.calls("cudaStreamSynchronize");
        Tensor x = frame.of(random(1, 4096), 64, 64);
        Tensor y = frame.zeros(DType.F32, 64, 64);
        frame.gemm().multiply(y, x, false, x, true, Tensor.NONE, 1, true);
        frame.kernels().add(y, y, x);
        assertEquals(before, FakeCuda.calls("cudaStreamSynchronize"));
        y.toFloats();
        assertEquals(before + 1, FakeCuda.calls("cudaStreamSynchronize"));
    }

    /** Of which a copy that was not waited for, as its wait had failed, would end the process here. */
    @Test
    void closingWaitsForWhatIsQueued() {
        try (CudaDevice other = FakeCuda.open();
                Frame inner = Frame.root(other, "other")) {
            Tensor x = inner.of(new float[1], 1);
            FakeCuda.fail("cudaStreamSynchronize", 0, 999, true);
            assertThrows(DeviceException.class, x::item);
        }
    }

    /** And the failure that came first is told. */
    @ParameterizedTest
    @ValueSource(strings = {"cudaStreamSynchronize", "cudaEventDestroy", "cudaFreeAsync"})
    void closingFreesWhatCanBeFreed(String failing) {
        long held = FakeCuda.calls("cudaMallocAsync") - FakeCuda.calls("cudaFreeAsync");
        CudaDevice other = FakeCuda.open();
        try (Frame inner = Frame.root(other, "other")) {
            inner.empty(DType.U8, 3 * MIB);
            inner.of(new float[1], 1); // a copy, which takes an event
            inner.of(new float[1], 1);
        }
        long events = FakeCuda.calls("cudaEventDestroy");
        long pinned = FakeCuda.calls("cudaFreeHost");
        long streams = FakeCuda.calls("cudaStreamDestroy");
        FakeCuda.fail(failing, 0, 999, false);
        DeviceException error = assertThrows(DeviceException.class, other::close);
        String first =
                switch (failing) {
                    case "cudaEventDestroy" -> "destroy an event";
                    case "cudaFreeAsync" -> "free memory";
                    default -> "wait for the device";
                };
        assertTrue(error.getMessage().contains("could not " + first), error.getMessage());
        assertTrue(error.getSuppressed().length > 0, "the others stand beside it");
        assertEquals(held, FakeCuda.calls("cudaMallocAsync") - FakeCuda.calls("cudaFreeAsync"), "blocks");
        assertEquals(events + 2, FakeCuda.calls("cudaEventDestroy"), "events");
        assertEquals(pinned + 1, FakeCuda.calls("cudaFreeHost"), "pinned memory");
        assertEquals(streams + 1, FakeCuda.calls("cudaStreamDestroy"), "streams");
        FakeCuda.fail(failing, 0, 0, false);
        other.close();
    }

    /** Of one that may be called again: the driver has back what the pool held. */
    @ParameterizedTest
    @ValueSource(strings = {"sum_rows", "rms_norm_backward"})
    void aKernelThatWantsMemoryIsCalledAgain(String kernel) {
        Tensor x = frame.of(random(1, 12), 3, 4);
        Tensor w = frame.zeros(DType.F32, 4);
        Tensor rstd = frame.of(new float[] {1, 2, 3}, 3);
        Tensor sums = frame.empty(DType.F32, 4);
        Tensor dx = frame.empty(DType.F32, 3, 4);
        frame.release(frame.empty(DType.U8, 2 * MIB));
        Runnable call = () -> {
            if (kernel.equals("sum_rows")) {
                frame.kernels().sumRows(sums, x);
            } else {
                frame.kernels().rmsNormBackward(dx, sums, x, x, w, rstd, false);
            }
        };
        long trims = FakeCuda.calls("cudaMemPoolTrimTo");
        long calls = FakeCuda.calls(kernel);
        FakeCuda.fail(kernel, 0, KernelTable.KT_OUT_OF_MEMORY(), true);
        call.run();
        assertEquals(calls + 2, FakeCuda.calls(kernel));
        assertTrue(FakeCuda.calls("cudaMemPoolTrimTo") > trims, "trimmed");

        FakeCuda.fail(kernel, 0, KernelTable.KT_OUT_OF_MEMORY(), false);
        OutOfMemoryException error = assertThrows(OutOfMemoryException.class, call::run);
        assertEquals(calls + 4, FakeCuda.calls(kernel));
        String expected = "out of memory: " + device.pool().inUse() + " in use, peak "
                + device.pool().peak() + "; [" + kernel + "] on cuda: " + kernel + ": as the test wants it";
        assertEquals(expected, error.getMessage());
        FakeCuda.fail(kernel, 0, KernelTable.KT_FAILED(), false);
        DeviceException other = assertThrows(DeviceException.class, call::run);
        assertEquals(DeviceException.class, other.getClass());
        assertEquals(calls + 5, FakeCuda.calls(kernel), "for want of memory alone");
    }

    /** Of tensors of which some may have made their step already. */
    @Test
    void aStepOfTheOptimiserIsNotTriedAgain() {
        Tensor x = frame.of(random(1, 4), 4);
        AdamwTensor tensor = new AdamwTensor(x, Tensor.NONE, x, x, x);
        AdamwStep step = new AdamwStep(1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 1);
        long calls = FakeCuda.calls("adamw");
        FakeCuda.fail("adamw", 0, KernelTable.KT_OUT_OF_MEMORY(), false);
        assertThrows(OutOfMemoryException.class, () -> frame.kernels().adamw(List.of(tensor), step));
        assertEquals(calls + 1, FakeCuda.calls("adamw"));
    }

    @Test
    void exhaustedMemoryIsToldWithItsArithmetic() {
        FakeCuda.limit(128 * MIB);
        try (Frame inner = frame.child("step 1")) {
            inner.empty(DType.U8, 40 * MIB);
            var error = assertThrows(OutOfMemoryException.class, () -> inner.empty(DType.BF16, 32, MIB));
            String text = error.getMessage();
            assertTrue(text.contains((64 * MIB) + " bytes requested"), text);
            assertTrue(text.contains("are free of " + 128 * MIB), text);
            assertTrue(text.contains("for BF16 [32, 1048576] in frame test/step 1"), text);
            assertFalse(text.contains("\n"), text);
            assertEquals(64 * MIB, error.requested());
        }
        assertEquals(0, frame.of(new float[1], 1).item(), "the device is as good as before");
    }

    @Test
    void freedBlocksMakeRoom() {
        FakeCuda.limit(128 * MIB);
        try (Frame first = frame.child("first")) {
            first.empty(DType.U8, 60 * MIB);
        }
        try (Frame second = frame.child("second")) {
            second.empty(DType.U8, 80 * MIB);
        }
    }

    @Test
    void aLostDeviceIsToldInOneLine() {
        Tensor x = frame.of(new float[] {1}, 1);
        FakeCuda.fail("cudaStreamSynchronize", 0, 700, false);
        var error = assertThrows(DeviceException.class, x::item);
        assertEquals(
                "CUDA could not wait for the device: an illegal memory access was encountered (cudaErrorIllegalAddress,"
                        + " 700); the device is lost for this process and what it held with it, so start the run again;"
                        + " if this happens again, look into the system's log for NVRM: Xid lines",
                error.getMessage());
    }

    @Test
    void aLostDeviceIsNotWantOfMemory() {
        frame.empty(DType.U8, 40 * MIB); // from the pool below
        FakeCuda.fail("cudaMallocAsync", 0, 700, false);
        var error = assertThrows(DeviceException.class, () -> frame.empty(DType.U8, 400 * MIB));
        assertEquals(DeviceException.class, error.getClass());
        assertTrue(error.getMessage().startsWith("CUDA could not allocate "), error.getMessage());
        assertTrue(error.getMessage().contains("the device is lost"), error.getMessage());
    }

    @ParameterizedTest
    @ValueSource(ints = {35, 100, 999})
    void withoutADeviceOpeningSaysWhy(int status) {
        FakeCuda.fail("cudaGetDeviceCount", 0, status, false);
        var error = assertThrows(DeviceException.class, FakeCuda::open);
        String expected =
                switch (status) {
                    case 35 -> "the NVIDIA driver supports CUDA 13.0 and this build needs 13.0: update the driver";
                    case 100 -> "the NVIDIA driver shows no device";
                    default -> "CUDA could not count devices";
                };
        assertTrue(error.getMessage().startsWith("no CUDA device: " + expected), error.getMessage());
    }

    @Test
    void kernelsWithoutCodeForTheGpuAreToldWhenItIsOpened() {
        FakeCuda.fail("cudaStreamSynchronize", 0, 209, true);
        var error = assertThrows(DeviceException.class, FakeCuda::open);
        assertTrue(error.getMessage().contains("no kernels for this device's architecture"), error.getMessage());
    }
}
