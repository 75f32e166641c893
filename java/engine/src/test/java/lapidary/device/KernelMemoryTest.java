package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What a CUDA kernel needs beside its operands, where there is none. */
final class KernelMemoryTest {
    private static final int ROWS = 200;
    private static final int COLUMNS = 5;

    @AfterEach
    void lift() {
        EmulatedDevice.limit(1L << 40);
    }

    /** And is forgotten: the runtime would report it again at the next launch. */
    @Test
    void wantOfScratchMemoryIsToldOnceAndWithTheArithmetic() {
        try (Device device = EmulatedDevice.open();
                Frame frame = Frame.root(device, "test")) {
            float[] ones = new float[ROWS * COLUMNS];
            Arrays.fill(ones, 1);
            Tensor dy = frame.of(ones, ROWS, COLUMNS);
            Tensor sums = frame.zeros(DType.F32, COLUMNS); // of four pieces, whose sums take memory
            Kernels kernels = frame.kernels();
            EmulatedDevice.limit(16);
            OutOfMemoryException error = assertThrows(OutOfMemoryException.class, () -> kernels.sumRows(sums, dy));
            assertTrue(error.getMessage().contains("bytes of scratch memory: out of memory"), error.getMessage());
            assertEquals(device.pool().inUse(), error.inUse());
            EmulatedDevice.limit(1L << 40);
            kernels.add(dy, dy, dy);
            kernels.sumRows(sums, dy);
            assertEquals(2 * ROWS, sums.toFloats()[COLUMNS - 1]);
        }
    }
}
