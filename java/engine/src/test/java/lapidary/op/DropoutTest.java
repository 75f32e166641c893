package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The dropout kernel; its op is the LoRA layer's. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#levels")
final class DropoutTest extends OpTest {
    DropoutTest(Device device) {
        super(device);
    }

    /** The known answers that Random123 1.09 carries in its kat_vectors for philox4x32 with 10 rounds. */
    @Test
    void oracleGivesTheKnownAnswers() {
        assertArrayEquals(
                new int[] {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                Philox.draw(new int[] {0, 0, 0, 0}, new int[] {0, 0}));
        assertArrayEquals(
                new int[] {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                Philox.draw(new int[] {-1, -1, -1, -1}, new int[] {-1, -1}));
        assertArrayEquals(
                new int[] {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
                Philox.draw(
                        new int[] {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                        new int[] {0xa4093822, 0x299f31d0}));
    }

    @ParameterizedTest
    @CsvSource({
        "F32,0,0.5,1,2",
        "F32,1,0.5,1,2",
        "F32,3,0.05,1,2",
        "F32,257,0.5,-1,-1",
        "F32,70003,0.1,123456789012345,98765432109876",
        "BF16,5,0.5,7,8",
        "BF16,1023,0.05,0,0",
        "BF16,70003,0.9,-3,4"
    })
    void matchesOracle(DType dtype, int n, float p, long seed, long stream) {
        float[] x = random(1, dtype, n);
        Tensor tx = tensor(dtype, x, n);
        Tensor y = frame.emptyLike(tx);
        frame.kernels().dropout(y, tx, p, seed, stream);
        float[] expected = new float[n];
        for (int i = 0; i < n; i++) {
            boolean keep = Philox.half(i, seed, stream) * 0x1p-16f >= multipleOf16Bits(p);
            float value = keep ? x[i] * (1 / (1 - multipleOf16Bits(p))) : 0;
            expected[i] = dtype == DType.BF16 ? bf16(value) : value;
        }
        assertArrayEquals(expected, y.toFloats());
        frame.kernels().dropout(tx, tx, p, seed, stream);
        assertArrayEquals(expected, tx.toFloats(), "in place");
    }

    private static float multipleOf16Bits(float p) {
        return (float) Math.rint(p * 65536) / 65536;
    }

    /** The mean of n draws of keep is 1 - p within five standard deviations. */
    @ParameterizedTest
    @CsvSource({"0.05", "0.5", "0.9"})
    void keepsTheShareItShould(float p) {
        int n = 1 << 18;
        float[] ones = new float[n];
        java.util.Arrays.fill(ones, 1);
        Tensor y = frame.of(ones, n);
        frame.kernels().dropout(y, y, p, 11, 12);
        int kept = 0;
        for (float value : y.toFloats()) {
            kept += value == 0 ? 0 : 1;
            assertTrue(value == 0 || value == 1 / (1 - multipleOf16Bits(p)), "value " + value);
        }
        assertEquals(1 - p, kept / (double) n, 5 * Math.sqrt(p * (1 - p) / n));
    }

    @Test
    void streamsAndSeedsDiffer() {
        int n = 1000;
        float[][] masks = new float[3][];
        long[][] keys = {{1, 1}, {1, 2}, {2, 1}};
        for (int k = 0; k < 3; k++) {
            float[] ones = new float[n];
            java.util.Arrays.fill(ones, 1);
            Tensor y = frame.of(ones, n);
            frame.kernels().dropout(y, y, 0.5f, keys[k][0], keys[k][1]);
            masks[k] = y.toFloats();
            for (int before = 0; before < k; before++) {
                int equal = 0;
                for (int i = 0; i < n; i++) {
                    equal += masks[k][i] == masks[before][i] ? 1 : 0;
                }
                assertEquals(n / 2.0, equal, 5 * Math.sqrt(n) / 2);
            }
        }
    }

    @Test
    void extremesOfP() {
        float[] x = random(2, DType.F32, 9);
        Tensor tx = frame.of(x, 9);
        Tensor y = frame.of(new float[] {9, 9, 9, 9, 9, 9, 9, 9, 9}, 9);
        frame.kernels().dropout(y, tx, 1, 1, 1);
        assertArrayEquals(new float[9], y.toFloats());
        frame.kernels().dropout(y, tx, 0, 1, 1);
        assertArrayEquals(x, y.toFloats());
        for (float bad : new float[] {-0.1f, 1.1f, Float.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> frame.kernels().dropout(y, tx, bad, 1, 1));
        }
    }
}
