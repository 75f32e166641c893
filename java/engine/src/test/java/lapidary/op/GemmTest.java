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

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class GemmTest extends OpTest {
    private static final float[] NOTHING = {};

    GemmTest(Device device) {
        super(device);
    }

    private record Case(DType in, DType out, int m, int n, int k, boolean ta, boolean tb) {
        long[] shapeA() {
            return ta ? new long[] {k, m} : new long[] {m, k};
        }

        long[] shapeB() {
            return tb ? new long[] {n, k} : new long[] {k, n};
        }
    }

    private void check(Case t, boolean bias, float factor, boolean accumulate) {
        float[] a = random(1, t.in, t.m * t.k);
        float[] b = random(2, t.in, t.k * t.n);
        float[] d = bias ? random(3, t.in, t.n) : NOTHING;
        float[] c = accumulate ? random(4, t.out, t.m * t.n) : NOTHING;
        double[] expected = GemmReference.multiply(t.m, t.n, t.k, a, t.ta, b, t.tb, d, factor, c);
        Tensor y = accumulate ? tensor(t.out, c, t.m, t.n) : frame.empty(t.out, t.m, t.n);
        frame.gemm()
                .multiply(
                        y,
                        tensor(t.in, a, t.shapeA()),
                        t.ta,
                        tensor(t.in, b, t.shapeB()),
                        t.tb,
                        bias ? tensor(t.in, d, t.n) : Tensor.NONE,
                        factor,
                        accumulate);
        // Products of normal values: the sum's error grows with the root of its length, beside values of that size.
        double scale = Math.sqrt(t.k) * Math.max(1, Math.abs(factor));
        double[] rounded = new double[expected.length];
        for (int i = 0; i < rounded.length && t.out == DType.BF16; i++) {
            rounded[i] = rounded(expected[i], bias ? d[i % t.n] : 0, accumulate ? c[i] : 0);
        }
        String what = t + " bias=" + bias + " factor=" + factor + " accumulate=" + accumulate;
        assertClose(expected, y.toFloats(), tolerance(DType.F32, t.k), scale, rounded, what);
    }

    /**
     * The sum of what is rounded to c's dtype on the way to a result. On CUDA, as {@code Gemm} says, that may be more than
     * the result: the product before anything is added, and its sum with the old c, or with the bias, before the other is.
     */
    private double rounded(double expected, double bias, double old) {
        double product = device.name().equals("cuda") && (bias != 0 || old != 0) ? expected - bias - old : 0;
        double sum = device.name().equals("cuda") && bias != 0 && old != 0
                ? Math.max(Math.abs(expected - bias), Math.abs(expected - old))
                : 0;
        return Math.abs(expected) + Math.abs(product) + sum;
    }

    /** Within the F32 error of the sum, and half the spacing of BF16 at what is rounded to it. */
    private static void assertClose(
            double[] expected, float[] actual, double tolerance, double scale, double[] rounded, String what) {
        for (int i = 0; i < expected.length; i++) {
            double limit = tolerance * (scale + Math.abs(expected[i])) + 0x1p-8 * rounded[i];
            assertTrue(
                    Math.abs(expected[i] - actual[i]) <= limit,
                    what + "[" + i + "] is " + actual[i] + ", expected " + expected[i] + " within " + limit);
        }
    }

    @ParameterizedTest
    @CsvSource({
        "1,1,1",
        "1,7,3",
        "3,1,5",
        "2,3,64",
        "17,33,65",
        "64,64,64",
        "129,70,130",
        "40,260,1",
        "100,16,640",
        "200,128,97",
        "1024,24,40"
    })
    void everyKindMatchesReference(int m, int n, int k) {
        for (int bits = 0; bits < 32; bits++) {
            DType in = (bits & 1) == 0 ? DType.F32 : DType.BF16;
            DType out = (bits & 3) == 1 ? DType.BF16 : DType.F32;
            Case t = new Case(in, out, m, n, k, (bits & 4) != 0, (bits & 8) != 0);
            check(t, (bits & 16) != 0, 1, false);
            check(t, (bits & 16) != 0, 1, true);
            check(t, false, -0.37f, (bits & 16) != 0);
        }
    }

    /** More weights than one primitive for every length serves, and the cut of a long F32 sum. */
    @ParameterizedTest
    @CsvSource({"70,2100,2011,false", "2050,2049,70,true", "30,40,1099,true"})
    void largeOnesMatchReference(int m, int n, int k, boolean ta) {
        for (DType dtype : new DType[] {DType.F32, DType.BF16}) {
            check(new Case(dtype, DType.F32, m, n, k, ta, !ta), false, 2, true);
        }
    }

    @Test
    void noTermsLeaveBiasAndSum() {
        for (DType dtype : new DType[] {DType.F32, DType.BF16}) {
            Case t = new Case(dtype, dtype, 3, 5, 0, false, true);
            check(t, false, 1, false);
            check(t, true, 1, false);
            check(t, true, 1, true);
            check(t, false, 2, true);
        }
    }

    @Test
    void nothingToComputeIsFine() {
        check(new Case(DType.F32, DType.F32, 0, 5, 3, false, true), false, 1, false);
        check(new Case(DType.F32, DType.F32, 3, 0, 3, false, true), true, 1, true);
        check(new Case(DType.BF16, DType.F32, 0, 5, 3, true, false), false, 1, true);
    }

    @Test
    void strictlyF32() {
        // (1 + 2^-20) - 1: nothing is left where a factor is rounded to BF16, TF32 or F16.
        int k = 128;
        float[] a = new float[64 * k];
        float[] b = new float[64 * k];
        for (int i = 0; i < 64; i++) {
            a[i * k] = 1 + 0x1p-20f;
            a[i * k + 1] = -1;
            b[i * k] = 1;
            b[i * k + 1] = 1;
        }
        Tensor y = frame.empty(DType.F32, 64, 64);
        frame.gemm().linear(y, frame.of(a, 64, k), frame.of(b, 64, k), Tensor.NONE);
        for (float value : y.toFloats()) {
            assertEquals(0x1p-20f, value);
        }
    }

    @ParameterizedTest
    @CsvSource({"BF16,1080,640,2048", "BF16,77,2048,640", "F32,77,300,640", "BF16,16,640,1080"})
    void repeatsBitForBit(DType dtype, int m, int n, int k) {
        Tensor a = tensor(dtype, random(5, dtype, m * k), m, k);
        Tensor b = tensor(dtype, random(6, dtype, n * k), n, k);
        Tensor y = frame.empty(DType.F32, m, n);
        frame.gemm().linear(y, a, b, Tensor.NONE);
        float[] first = y.toFloats();
        for (int i = 0; i < 5; i++) {
            frame.gemm().linear(y, a, b, Tensor.NONE);
            assertArrayEquals(first, y.toFloats(), 0, "run " + i);
        }
    }

    /** The lengths of a training run: more shapes than are kept. */
    @Test
    void manyShapes() {
        for (int m = 1; m < 1200; m++) {
            Tensor y = frame.empty(DType.F32, 3, 2);
            float[] a = random(m, DType.F32, m * 3);
            float[] b = random(-m, DType.F32, m * 2);
            frame.gemm().multiply(y, frame.of(a, 3, m), false, frame.of(b, m, 2), false, Tensor.NONE, 1, false);
            double[] expected = GemmReference.multiply(3, 2, m, a, false, b, false, NOTHING, 1, NOTHING);
            assertClose(expected, y.toFloats(), tolerance(DType.F32, m), Math.sqrt(m), "depth " + m);
        }
    }

    @Test
    void mistakesNameBothOperands() {
        Tensor a = frame.empty(DType.F32, 4, 8);
        Tensor w = frame.empty(DType.F32, 6, 7);
        Tensor w8 = frame.empty(DType.F32, 6, 8);
        Tensor half = frame.empty(DType.BF16, 6, 8);
        Tensor y = frame.empty(DType.F32, 4, 6);
        Tensor y5 = frame.empty(DType.F32, 4, 5);
        Tensor yHalf = frame.empty(DType.BF16, 4, 6);
        Tensor ids = frame.empty(DType.I32, 4, 8);
        mistake(y, a, w, Tensor.NONE, 1, "[4, 8]", "[6, 7]", "8 and 7");
        mistake(y5, a, w8, Tensor.NONE, 1, "[4, 5]", "[4, 6]");
        mistake(y, a, half, Tensor.NONE, 1, "F32 [4, 8]", "BF16 [6, 8]");
        mistake(y, ids, ids, Tensor.NONE, 1, "I32 [4, 8]");
        mistake(yHalf, a, w8, Tensor.NONE, 1, "BF16 [4, 6]", "F32");
        mistake(y, a, w8, frame.empty(DType.F32, 5), 1, "[5]", "[6]");
        mistake(y, a, w8, frame.empty(DType.BF16, 6), 1, "BF16 [6]", "F32 [6]");
        mistake(y, a, w8, frame.empty(DType.F32, 6), 2, "factor 1", "2.0");
        mistake(y, a, Tensor.NONE, Tensor.NONE, 1, "left out");
    }

    private void mistake(Tensor y, Tensor a, Tensor b, Tensor bias, float factor, String... parts) {
        var error = assertThrows(
                IllegalArgumentException.class, () -> frame.gemm().multiply(y, a, false, b, true, bias, factor, false));
        for (String part : parts) {
            assertTrue(error.getMessage().contains(part), error.getMessage());
        }
    }
}
