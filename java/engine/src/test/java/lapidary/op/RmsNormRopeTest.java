package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class RmsNormRopeTest extends OpTest {
    private static final float EPS = 1e-6f;

    RmsNormRopeTest(Device device) {
        super(device);
    }

    private static float rounded(float x, DType dtype) {
        return dtype == DType.BF16 ? bf16(x) : x;
    }

    /** Every product and sum is rounded, in F32 too, so kernel and loop are equal bit for bit. */
    private static float[] rotated(float[] x, RopeTable table, int[] pos, float sign, DType dtype) {
        int d = table.headDim();
        int half = d / 2;
        int heads = x.length / Math.max(1, pos.length) / d;
        float[] cos = table.cos().toFloats();
        float[] sin = table.sin().toFloats();
        float[] y = new float[x.length];
        for (int t = 0; t < pos.length; t++) {
            for (int h = 0; h < heads; h++) {
                for (int j = 0; j < half; j++) {
                    int a = (t * heads + h) * d + j;
                    int b = a + half;
                    float c = cos[pos[t] * half + j];
                    float s = sign * sin[pos[t] * half + j];
                    y[a] = rounded(rounded(x[a] * c, dtype) - rounded(x[b] * s, dtype), dtype);
                    y[b] = rounded(rounded(x[b] * c, dtype) + rounded(x[a] * s, dtype), dtype);
                }
            }
        }
        return y;
    }

    /**
     * The norm's kernel and a loop that rotates, one after the other, are equal bit for bit to the two in one, forward and
     * backward: nothing is rounded in another place.
     */
    @ParameterizedTest
    @CsvSource({
        "F32,0,1,4",
        "F32,1,1,2",
        "F32,5,3,6",
        "F32,30,4,32",
        "F32,3,2,1040",
        "BF16,5,3,6",
        "BF16,70,4,256",
        "BF16,7,1,72",
        "BF16,9,2,80",
        "BF16,2,1,1030"
    })
    void isTheNormAndThenTheRotation(DType dtype, int tokens, int heads, int headDim) {
        RopeTable table = RopeTable.of(frame, dtype, 500, headDim, 1e4, 1);
        int[] pos = new java.util.Random(1).ints(tokens, 0, 500).toArray();
        Tensor x = tensor(dtype, random(2, dtype, tokens * heads * headDim), tokens, (long) heads * headDim);
        Tensor w = tensor(dtype, random(3, dtype, headDim), headDim);
        Tensor rows = x.reshape((long) tokens * heads, headDim);
        Tensor tpos = frame.of(pos, tokens);
        Tensor n = frame.emptyLike(rows);
        Tensor rstd = frame.empty(DType.F32, (long) tokens * heads);
        frame.kernels().rmsNormForward(n, rstd, rows, w, EPS);
        Tensor y = Tape.notRecording(frame).run(new RmsNormRope(x, w, EPS, table, tpos));
        assertArrayEquals(rotated(n.toFloats(), table, pos, 1, dtype), y.toFloats());

        float[] dy = random(4, dtype, tokens * heads * headDim);
        Tensor tdy = tensor(dtype, dy, tokens, (long) heads * headDim);
        Tensor dn = tensor(dtype, rotated(dy, table, pos, -1, dtype), (long) tokens * heads, headDim);
        Tensor[] dx = {frame.emptyLike(rows), frame.emptyLike(x), frame.emptyLike(x)};
        Tensor[] dw = {frame.empty(DType.F32, headDim), frame.empty(DType.F32, headDim)};
        frame.kernels().rmsNormBackward(dx[0], dw[0], dn, rows, w, rstd, false);
        frame.kernels().rmsNormRopeBackward(dx[1], Tensor.NONE, tdy, x, w, table.cos(), table.sin(), tpos, rstd);
        frame.kernels().rmsNormRopeBackward(dx[2], dw[1], tdy, x, w, table.cos(), table.sin(), tpos, rstd);
        assertArrayEquals(dx[0].toFloats(), dx[1].toFloats(), "dx alone");
        assertArrayEquals(dx[0].toFloats(), dx[2].toFloats(), "dx");
        assertArrayEquals(dw[0].toFloats(), dw[1].toFloats(), "dw");
    }

    @ParameterizedTest
    @CsvSource({"F32,5,3,6", "F32,30,4,32", "F32,2,2,1040", "BF16,70,4,256", "BF16,7,1,72"})
    void matchesReference(DType dtype, int tokens, int heads, int headDim) {
        RopeTable table = RopeTable.of(frame, dtype, 500, headDim, 1e4, 1);
        int[] pos = new java.util.Random(5).ints(tokens, 0, 500).toArray();
        float[] x = random(6, dtype, tokens * heads * headDim);
        float[] w = random(7, dtype, headDim);
        Tensor y = Tape.notRecording(frame)
                .run(new RmsNormRope(
                        tensor(dtype, x, tokens, (long) heads * headDim),
                        tensor(dtype, w, headDim),
                        EPS,
                        table,
                        frame.of(pos, tokens)));
        double[] expected = Reference.rope(
                Reference.rmsNorm(widen(x), widen(w), EPS),
                widen(table.cos().toFloats()),
                widen(table.sin().toFloats()),
                pos,
                headDim);
        // Both of a pair count, and what is normalised is rounded before products and sum are: three roundings of each.
        assertClose(expected, y.toFloats(), 4 * tolerance(dtype, headDim), 1, "rms_norm_rope");
    }

    /** Each operand in turn at an address that is no multiple of 16 bytes: the same bits. */
    @ParameterizedTest
    @CsvSource({"F32,48", "BF16,48", "BF16,1040"})
    void operandsMayBeginAnywhere(DType dtype, int headDim) {
        RopeTable table = RopeTable.of(frame, dtype, 9, headDim, 1e4, 1);
        Tensor pos = frame.of(new int[] {8, 3, 0}, 3);
        Tensor x = tensor(dtype, random(1, dtype, 3 * headDim), 3, headDim);
        Tensor w = tensor(dtype, random(2, dtype, headDim), headDim);
        List<float[]> expected = new ArrayList<>();
        for (int odd = 0; odd <= 10; odd++) {
            Tensor y = shifted(odd == 1, frame.zeros(dtype, 3, headDim));
            Tensor sx = shifted(odd == 2, x);
            Tensor sw = shifted(odd == 3, w);
            Tensor cos = shifted(odd == 4, table.cos());
            Tensor sin = shifted(odd == 5, table.sin());
            Tensor dx = shifted(odd == 6, frame.zeros(dtype, 3, headDim));
            Tensor rstd = shifted(odd == 8, frame.zeros(DType.F32, 3));
            Tensor dw = shifted(odd == 9, frame.zeros(DType.F32, headDim));
            Tensor spos = odd == 10 ? frame.of(new int[] {5, 8, 3, 0}, 4).slice(1, 4) : pos;
            frame.kernels().rmsNormRopeForward(y, rstd, sx, sw, cos, sin, spos, EPS);
            frame.kernels().rmsNormRopeBackward(dx, dw, shifted(odd == 7, x), sx, sw, cos, sin, spos, rstd);
            List<Tensor> actual = List.of(y, dx, rstd, dw);
            for (int i = 0; i < actual.size(); i++) {
                if (odd == 0) {
                    expected.add(actual.get(i).toFloats());
                }
                assertArrayEquals(expected.get(i), actual.get(i).toFloats(), "result " + i + ", operand " + odd);
            }
        }
    }

    @Test
    void gradientMatchesDifferences() {
        RopeTable table = RopeTable.of(frame, DType.F32, 20, 6, 1e4, 1);
        Tensor pos = frame.of(new int[] {0, 7, 19}, 3);
        checkGradients(
                in -> new RmsNormRope(in.get(0), in.get(1), EPS, table, pos),
                List.of(random(3, DType.F32, 36), random(4, DType.F32, 6)),
                List.of(new long[] {3, 12}, new long[] {6}),
                0,
                1);
    }

    /** Tables of Transformers' Gemma3RotaryEmbedding; see bench/reference/rope_golden.py. */
    @ParameterizedTest
    @CsvSource({"F32", "BF16"})
    void tableMatchesTransformers(DType dtype) throws IOException {
        int values = 0;
        int different = 0;
        RopeTable table = null;
        String key = "";
        float[] cos = {};
        float[] sin = {};
        for (String line : lines("/lapidary/op/rope.txt")) {
            String[] f = line.split(" ");
            if (!key.equals(f[0] + f[1] + f[2])) {
                key = f[0] + f[1] + f[2];
                int positions = Integer.parseInt(f[3]) + 1;
                table = RopeTable.of(
                        frame,
                        dtype,
                        positions,
                        Integer.parseInt(f[2]),
                        Double.parseDouble(f[0]),
                        Double.parseDouble(f[1]));
                cos = table.cos().toFloats();
                sin = table.sin().toFloats();
            }
            int half = table.headDim() / 2;
            int position = Integer.parseInt(f[4]);
            for (int j = 0; j < half; j++) {
                double frequency =
                        Math.pow(Double.parseDouble(f[0]), -2.0 * j / table.headDim()) / Double.parseDouble(f[1]);
                // torch's power is off by up to one place of F32, and so is every angle made from it.
                double limit = (dtype == DType.BF16 ? 0x1p-8 : 0x1p-23) + position * frequency * 0x1p-22;
                for (int k = 0; k < 2; k++) {
                    float golden =
                            rounded(Float.intBitsToFloat(Integer.parseUnsignedInt(f[5 + k * half + j], 16)), dtype);
                    float actual = (k == 0 ? cos : sin)[position * half + j];
                    assertEquals(golden, actual, limit, key + " position " + position + " frequency " + j);
                    different += golden == actual ? 0 : 1;
                    values++;
                }
            }
        }
        assertTrue(values > 3000, values + " values");
        // Measured: 144 of 3960 in F32, none in BF16.
        assertTrue(different <= (dtype == DType.BF16 ? 0 : values / 20), different + " of " + values + " differ");
    }

    private static List<String> lines(String resource) throws IOException {
        try (InputStream in = RmsNormRopeTest.class.getResourceAsStream(resource)) {
            return new String(in.readAllBytes(), StandardCharsets.US_ASCII)
                    .lines()
                    .toList();
        }
    }

    @Test
    void badOperandsAreNamed() {
        RopeTable table = RopeTable.of(frame, DType.F32, 4, 6, 1e4, 1);
        Tensor x = frame.zeros(DType.F32, 2, 12);
        Tensor w = frame.zeros(DType.F32, 6);
        Tensor pos = frame.of(new int[] {0, 1}, 2);
        Tensor wide = frame.zeros(DType.F32, 2, 13);
        var error = assertThrows(IllegalArgumentException.class, () -> new RmsNormRope(wide, w, EPS, table, pos));
        assertEquals("[rms_norm_rope x] is [2, 13], expected [2, 12]", error.getMessage());
        Tensor narrow = frame.zeros(DType.F32, 4);
        assertThrows(IllegalArgumentException.class, () -> new RmsNormRope(x, narrow, EPS, table, pos));
        assertThrows(
                IllegalArgumentException.class, () -> new RmsNormRope(x, w, EPS, table, frame.of(new int[] {0}, 1)));
        assertThrows(
                IllegalArgumentException.class,
                () -> new RmsNormRope(x, w, EPS, table, frame.of(new float[] {0, 1}, 2)));
        Tensor rstd = frame.zeros(DType.F32, 4);
        for (int bad : new int[] {4, -1}) {
            Tensor badPos = frame.of(new int[] {0, bad}, 2);
            RmsNormRope outside = new RmsNormRope(x, w, EPS, table, badPos);
            String refusal = refusal(() -> Tape.notRecording(frame).run(outside));
            assertTrue(refusal.contains("position " + bad + " of token 1"), refusal);
            for (Tensor dx : new Tensor[] {frame.emptyLike(x), Tensor.NONE}) {
                Tensor dw = dx.isNone() ? frame.empty(DType.F32, 6) : Tensor.NONE;
                refusal = refusal(() -> {
                    frame.kernels().rmsNormRopeBackward(dx, dw, x, x, w, table.cos(), table.sin(), badPos, rstd);
                    return rstd;
                });
                assertTrue(refusal.contains("position " + bad + " of token 1"), refusal);
            }
        }
        error = assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                .rmsNormRopeForward(x, rstd, x, w, table.cos(), table.sin(), w, EPS));
        assertEquals("[rms_norm_rope_forward pos] is F32 [6], expected I32", error.getMessage());
        error = assertThrows(IllegalArgumentException.class, () -> frame.kernels()
                .rmsNormRopeBackward(x, Tensor.NONE, x, x, narrow, table.cos(), table.sin(), pos, rstd));
        assertEquals("[rms_norm_rope_backward weight] is F32 [4], expected F32 [6]", error.getMessage());
        assertThrows(IllegalArgumentException.class, () -> RopeTable.of(frame, DType.F32, 4, 5, 1e4, 1));
        assertThrows(IllegalArgumentException.class, () -> RopeTable.of(frame, DType.F32, 4, 6, 0, 1));
        assertThrows(IllegalArgumentException.class, () -> RopeTable.of(frame, DType.F32, 4, 6, 1e4, Double.NaN));
    }
}
