package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import lapidary.ffi.kernels.KernelTable;
import lapidary.ffi.kernels.kt_table;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What a CUDA kernel needs beside its operands, where there is none. */
final class KernelMemoryTest {
    private static final int ROWS = 200; // of which sums over rows are made in four pieces, whose sums take memory
    private static final int COLUMNS = 5;

    @AfterEach
    void lift() {
        EmulatedDevice.limit(1L << 40);
    }

    private static Tensor ones(Frame frame) {
        float[] ones = new float[ROWS * COLUMNS];
        Arrays.fill(ones, 1);
        return frame.of(ones, ROWS, COLUMNS);
    }

    private static float[] uneven() {
        float[] values = new float[ROWS * COLUMNS];
        for (int i = 0; i < values.length; i++) {
            values[i] = i % 7;
        }
        return values;
    }

    /** And is forgotten: the runtime would report it again at the next launch. */
    @Test
    void wantOfScratchMemoryIsToldOnceAndWithTheArithmetic() {
        try (Device device = EmulatedDevice.open();
                Frame frame = Frame.root(device, "test")) {
            Tensor dy = ones(frame);
            Tensor sums = frame.zeros(DType.F32, COLUMNS);
            Kernels kernels = frame.kernels();
            EmulatedDevice.limit(16);
            OutOfMemoryException error = assertThrows(OutOfMemoryException.class, () -> kernels.sumRows(sums, dy));
            long inUse = device.pool().inUse();
            assertEquals(
                    "out of memory: " + inUse + " in use, peak " + inUse + "; [sum_rows] on emulated: sum_rows: "
                            + 4 * COLUMNS * Float.BYTES + " bytes of scratch memory: out of memory",
                    error.getMessage());
            assertEquals(inUse, error.inUse());
            EmulatedDevice.limit(1L << 40);
            kernels.add(dy, dy, dy);
            kernels.sumRows(sums, dy);
            assertEquals(2 * ROWS, sums.toFloats()[COLUMNS - 1]);
        }
    }

    /** Also where the kernel adds to what an operand holds, which it may do once only. */
    @Test
    void whatThePoolKeepsIsGivenBackForAKernelThatWantsScratchMemory() {
        float[][] expected = null;
        for (boolean isScarce : new boolean[] {false, true}) {
            try (Device device = EmulatedDevice.openKeeping();
                    Frame frame = Frame.root(device, "test")) {
                Kernels kernels = frame.kernels();
                Tensor x = ones(frame);
                Tensor w = frame.zeros(DType.F32, COLUMNS);
                Tensor rstd = frame.empty(DType.F32, ROWS);
                kernels.rmsNormForward(Tensor.NONE, rstd, x, w, 1e-6f);
                Tensor dx = ones(frame);
                Tensor dy = frame.of(uneven(), ROWS, COLUMNS);
                Tensor dw = frame.empty(DType.F32, COLUMNS);
                device.pool().release(device.pool().allocate(1 << 20));
                long used = EmulatedDevice.used();
                if (isScarce) {
                    EmulatedDevice.limit(used);
                }
                kernels.rmsNormBackward(dx, dw, dy, x, w, rstd, true);
                assertEquals(isScarce, EmulatedDevice.used() < used, "given back");
                float[][] actual = {dx.toFloats(), dw.toFloats()};
                if (isScarce) {
                    assertArrayEquals(expected, actual);
                }
                expected = actual;
            }
        }
    }

    /** The runtime would report it again at the next launch, of another context as well. */
    @Test
    void aContextThatCannotBeMadeLeavesNoErrorBehind() {
        MemorySegment table = EmulatedDevice.table();
        try (Device device = EmulatedDevice.open();
                Frame frame = Frame.root(device, "test");
                Arena arena = Arena.ofConfined()) {
            Tensor x = ones(frame);
            MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
            int status = kt_table.context_create.invoke(kt_table.context_create(table), out, 1);
            assertNotEquals(KernelTable.KT_OK(), status, "a second device");
            frame.kernels().add(x, x, x);
            assertEquals(2, x.toFloats()[0]);
        }
    }

    @Test
    void aBlockThatCannotBeClearedGoesBack() {
        try (Device device = EmulatedDevice.open()) {
            long used = EmulatedDevice.used();
            EmulatedDevice.failMemset();
            DeviceException error =
                    assertThrows(DeviceException.class, () -> device.pool().allocate(1 << 20));
            assertTrue(error.getMessage().contains("memory_allocate"), error.getMessage());
            assertEquals(used, EmulatedDevice.used());
        }
    }
}
