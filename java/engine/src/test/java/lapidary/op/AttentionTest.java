package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import lapidary.autograd.Gradients;
import lapidary.autograd.Tape;
import lapidary.device.AttentionShape;
import lapidary.device.CpuLevel;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#attention")
final class AttentionTest extends OpTest {
    AttentionTest(Device device) {
        super(device);
    }

    /** A packed batch: lengths of rows, and images as "row number:first:length" in tokens of the row. */
    record Layout(int[] starts, int[] spans) {
        static Layout of(String lengths, String images) {
            int[] starts = new int[lengths.split(" ").length + 1];
            for (int r = 1; r < starts.length; r++) {
                starts[r] = starts[r - 1] + Integer.parseInt(lengths.split(" ")[r - 1]);
            }
            int[] spans = new int[starts[starts.length - 1]];
            Arrays.fill(spans, -1);
            int image = 0;
            for (String text : images.isBlank() ? new String[0] : images.split(" ")) {
                String[] parts = text.split(":");
                int first = starts[Integer.parseInt(parts[0])] + Integer.parseInt(parts[1]);
                Arrays.fill(spans, first, first + Integer.parseInt(parts[2]), image++);
            }
            return new Layout(starts, spans);
        }

        /** Rows of 0 to 200 tokens with up to three images that may touch. */
        static Layout random(Random random) {
            int[] starts = new int[2 + random.nextInt(4)];
            for (int r = 1; r < starts.length; r++) {
                starts[r] = starts[r - 1] + (random.nextInt(4) == 0 ? random.nextInt(3) : random.nextInt(201));
            }
            int[] spans = new int[starts[starts.length - 1]];
            Arrays.fill(spans, -1);
            int image = 0;
            for (int r = 1; r < starts.length; r++) {
                int at = starts[r - 1];
                for (int i = random.nextInt(4); i > 0 && at < starts[r]; i--) {
                    int first = at + random.nextInt(2) * random.nextInt(starts[r] - at);
                    at = Math.min(starts[r], first + 1 + random.nextInt(90));
                    Arrays.fill(spans, first, at, image++);
                }
            }
            return new Layout(starts, spans);
        }

        int tokens() {
            return spans.length;
        }

        Segments segments(Frame frame) {
            return new Segments(frame.of(starts, starts.length), frame.of(spans, spans.length));
        }
    }

    /** Host values of q, k, v and dy for a layout. */
    record Values(float[] q, float[] k, float[] v, float[] dy) {
        static Values random(int seed, DType dtype, int tokens, AttentionShape shape) {
            int wide = tokens * shape.heads() * shape.headDim();
            int narrow = tokens * shape.kvHeads() * shape.headDim();
            return new Values(
                    OpTest.random(seed, dtype, wide),
                    OpTest.random(seed + 1, dtype, narrow),
                    OpTest.random(seed + 2, dtype, narrow),
                    OpTest.random(seed + 3, dtype, wide));
        }

        /** Those of tokens [from, to). */
        Values slice(int from, int to, AttentionShape shape) {
            int wide = shape.heads() * shape.headDim();
            int narrow = shape.kvHeads() * shape.headDim();
            return new Values(
                    Arrays.copyOfRange(q, from * wide, to * wide),
                    Arrays.copyOfRange(k, from * narrow, to * narrow),
                    Arrays.copyOfRange(v, from * narrow, to * narrow),
                    Arrays.copyOfRange(dy, from * wide, to * wide));
        }
    }

    record Result(float[] y, float[] dq, float[] dk, float[] dv) {}

    private Result run(DType dtype, Values values, Layout layout, AttentionShape shape) {
        try (Frame step = frame.child("step")) {
            int tokens = layout.tokens();
            Tensor q = tensor(step, dtype, values.q, tokens, (long) shape.heads() * shape.headDim());
            Tensor k = tensor(step, dtype, values.k, tokens, (long) shape.kvHeads() * shape.headDim());
            Tensor v = tensor(step, dtype, values.v, tokens, (long) shape.kvHeads() * shape.headDim());
            Tensor dy = tensor(step, dtype, values.dy, tokens, (long) shape.heads() * shape.headDim());
            Attention op = new Attention(q, k, v, layout.segments(step), shape);
            Tensor y = op.forward(step);
            try (Gradients grads = new Gradients(step, List.of(q, k, v))) {
                try (Frame scratch = step.child("backward")) {
                    op.backward(dy, scratch, grads);
                }
                return new Result(
                        y.toFloats(),
                        grads.of(q).toFloats(),
                        grads.of(k).toFloats(),
                        grads.of(v).toFloats());
            }
        }
    }

    /**
     * Compares everything with the reference. In BF16 the probabilities and their gradients are rounded, too, before the
     * products with v, k, q and dy: one more half ulp of each term, so of a sum of as many terms as a row has.
     */
    private void check(DType dtype, int seed, Layout layout, AttentionShape shape) {
        Values values = Values.random(seed, dtype, layout.tokens(), shape);
        AttentionReference reference = new AttentionReference(layout.starts, layout.spans, shape);
        Result actual = run(dtype, values, layout, shape);
        double[] q = widen(values.q);
        double[] k = widen(values.k);
        double[] v = widen(values.v);
        double[] dy = widen(values.dy);
        double tolerance = 2 * tolerance(dtype, layout.tokens() + shape.headDim());
        assertClose(reference.forward(q, k, v), actual.y, tolerance, 1, "y");
        AttentionReference.Gradient gradient = reference.backward(dy, q, k, v);
        assertClose(gradient.dq(), actual.dq, tolerance, scale(gradient.dq()), "dq");
        assertClose(gradient.dk(), actual.dk, tolerance, scale(gradient.dk()), "dk");
        assertClose(gradient.dv(), actual.dv, tolerance, scale(gradient.dv()), "dv");
    }

    /** What the terms of a gradient's sums are as large as: 1 and its largest element at the least. */
    private static double scale(double[] x) {
        double max = 1;
        for (double value : x) {
            max = Math.max(max, Math.abs(value));
        }
        return max;
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                // lengths | images | heads | key heads | head size | causal | window
                "1          | ''                        | 1 | 1 | 1   | true  | 0",
                "1 0 1      | ''                        | 2 | 1 | 31  | true  | 0",
                "5          | ''                        | 1 | 1 | 24  | true  | 0",
                "64         | ''                        | 2 | 2 | 32  | true  | 0",
                "65 129 1   | ''                        | 4 | 2 | 31  | true  | 0",
                "300        | ''                        | 2 | 1 | 64  | true  | 0",
                "130 7      | ''                        | 2 | 1 | 256 | true  | 0",
                "257        | ''                        | 1 | 1 | 72  | false | 0",
                "196 196    | ''                        | 3 | 3 | 80  | false | 0",
                "100 40     | ''                        | 2 | 1 | 96  | false | 33",
                "200        | ''                        | 3 | 1 | 128 | true  | 1",
                "300        | ''                        | 2 | 2 | 24  | true  | 17",
                "300        | ''                        | 2 | 2 | 24  | true  | 128",
                "300 200    | ''                        | 2 | 2 | 24  | true  | 63",
                "200        | ''                        | 2 | 2 | 24  | false | 95",
                "90 20      | ''                        | 2 | 2 | 24  | true  | 1000",
                "200        | 0:10:100                  | 2 | 1 | 32  | true  | 0",
                "200        | 0:10:100 0:110:50         | 2 | 1 | 32  | true  | 0",
                "300 30     | 0:3:256 1:0:30            | 4 | 1 | 64  | true  | 0",
                "300 30     | 0:3:256 1:0:30            | 4 | 1 | 64  | true  | 40",
                "300        | 0:0:300                   | 1 | 1 | 256 | true  | 1",
                "260 260    | 0:1:128 0:129:128 1:4:256 | 2 | 1 | 31  | true  | 64",
            })
    void matchesReference(
            String lengths, String images, int heads, int kvHeads, int headDim, boolean causal, int window) {
        assumeFalse(CpuLevel.isOf(device), "the cases below have every width and mask, and are quicker");
        float scale = (float) (1 / Math.sqrt(headDim));
        AttentionShape shape = new AttentionShape(heads, kvHeads, headDim, scale, causal, window);
        for (DType dtype : List.of(DType.F32, DType.BF16)) {
            check(dtype, 1, Layout.of(lengths, images), shape);
        }
    }

    /** Every width of tile and every mask, with as few tokens as cross a tile's end: for the slow builds of the emulation. */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "70 5    | 0:3:66 | 2 | 1 | 64  | true  | 0",
                "66      | 0:2:5  | 4 | 2 | 72  | true  | 20",
                "7 61    | ''     | 1 | 1 | 88  | false | 9",
                "66      | ''     | 2 | 2 | 128 | true  | 0",
                "34      | 0:1:32 | 2 | 1 | 248 | true  | 3",
                "40      | ''     | 1 | 1 | 31  | true  | 33",
                "140     | ''     | 1 | 1 | 64  | true  | 2", // the first query of a tile sees the last key of one
                "130     | ''     | 1 | 1 | 64  | true  | 0", // three tiles: the first one's buffer is used again
                "70 5    | 0:3:66 | 2 | 1 | 256 | true  | 0", // heads that share keys, in pairs
                "9 61 66 | 1:8:40 | 4 | 1 | 136 | true  | 20",
                "70      | ''     | 4 | 2 | 256 | false | 9",
                "5 131   | 1:2:70 | 3 | 1 | 256 | true  | 90", // and where they are odd
                "66      | ''     | 2 | 2 | 200 | false | 0",
            })
    void matchesReferenceOnFewTokens(
            String lengths, String images, int heads, int kvHeads, int headDim, boolean causal, int window) {
        AttentionShape shape = new AttentionShape(heads, kvHeads, headDim, 0.2f, causal, window);
        check(DType.BF16, 3, Layout.of(lengths, images), shape);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
    void matchesReferenceOnRandomBatches(int seed) {
        Random random = new Random(seed);
        Layout layout = Layout.random(random);
        int kvHeads = 1 + random.nextInt(2);
        int headDim = List.of(8, 24, 31, 32, 64, 72, 80).get(random.nextInt(7));
        int window = random.nextBoolean() ? 0 : 1 + random.nextInt(150);
        AttentionShape shape = new AttentionShape(
                kvHeads * (1 + random.nextInt(3)), kvHeads, headDim, 0.3f, random.nextInt(4) > 0, window);
        check(DType.F32, seed, layout, shape);
        check(DType.BF16, seed, layout, shape);
    }

    /** The contract goes by numbers: an image's tokens need not follow each other. */
    @ParameterizedTest
    @ValueSource(ints = {0, 9, 100})
    void tokensOfOneImageMayBeScattered(int window) {
        int[] spans = new int[210];
        for (int t = 0; t < spans.length; t++) {
            spans[t] = t % 7 < 3 ? -1 : t % 7 == 3 ? 1000000 : t % 5;
        }
        Layout layout = new Layout(new int[] {0, 150, 210}, spans);
        check(DType.F32, 5, layout, new AttentionShape(2, 1, 24, 0.3f, true, window));
        check(DType.BF16, 5, layout, new AttentionShape(2, 1, 256, 0.0625f, true, window));
    }

    @ParameterizedTest
    @ValueSource(floats = {-0.2f, 0, 3})
    void anyScale(float scale) {
        check(DType.F32, 6, Layout.of("70 200", "1:20:60"), new AttentionShape(2, 1, 24, scale, true, 0));
        check(DType.BF16, 6, Layout.of("70 20", "0:20:40"), new AttentionShape(2, 1, 64, scale / 3, true, 0));
    }

    /** Scores of some hundreds: a softmax that is nearly a choice, sums over which must not overflow. */
    @Test
    void largeScores() {
        AttentionShape shape = new AttentionShape(2, 1, 64, 0.125f, true, 0);
        Layout layout = Layout.of("150", "");
        Values values = Values.random(8, DType.F32, layout.tokens(), shape);
        for (int i = 0; i < values.q.length; i++) {
            values.q[i] *= 100;
        }
        double[] expected = new AttentionReference(layout.starts, layout.spans, shape)
                .forward(widen(values.q), widen(values.k), widen(values.v));
        assertClose(expected, run(DType.F32, values, layout, shape).y, 1e-4, 1, "y");
    }

    @ParameterizedTest
    @CsvSource({"true,0", "true,5", "false,0"})
    void gradientMatchesDifferences(boolean causal, int window) {
        AttentionShape shape = new AttentionShape(2, 1, 6, 0.4f, causal, window);
        Layout layout = Layout.of("9 4", "0:2:4 0:6:2");
        Values values = Values.random(11, DType.F32, layout.tokens(), shape);
        Segments segments = layout.segments(frame);
        checkGradients(
                in -> new Attention(in.get(0), in.get(1), in.get(2), segments, shape),
                List.of(values.q, values.k, values.v),
                List.of(new long[] {13, 12}, new long[] {13, 6}, new long[] {13, 6}),
                0,
                1,
                2);
    }

    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16"})
    void sameTwice(DType dtype) {
        AttentionShape shape = new AttentionShape(4, 2, 72, 0.1f, true, 100);
        Layout layout = Layout.of("333 90", "0:30:140");
        Values values = Values.random(21, dtype, layout.tokens(), shape);
        Result once = run(dtype, values, layout, shape);
        Result again = run(dtype, values, layout, shape);
        assertArrayEquals(once.y, again.y);
        assertArrayEquals(once.dq, again.dq);
        assertArrayEquals(once.dk, again.dk);
        assertArrayEquals(once.dv, again.dv);
    }

    /**
     * Bit for bit: a row's tiles start at the row, and nothing is summed across rows. Only CUDA's tiles of BF16 start where
     * the batch does, so that the order of a sum depends on what lies before it: there within a rounding or two.
     */
    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16"})
    void packedEqualsEachRowAlone(DType dtype) {
        AttentionShape shape = new AttentionShape(4, 1, 64, 0.125f, true, 70);
        Layout layout = Layout.of("77 1 200 0 130", "0:5:64 2:0:128 2:128:20");
        Values values = Values.random(31, dtype, layout.tokens(), shape);
        Result packed = run(dtype, values, layout, shape);
        List<Result> alone = new ArrayList<>();
        for (int r = 0; r + 1 < layout.starts.length; r++) {
            int from = layout.starts[r];
            int to = layout.starts[r + 1];
            Layout row = new Layout(new int[] {0, to - from}, Arrays.copyOfRange(layout.spans, from, to));
            alone.add(run(dtype, values.slice(from, to, shape), row, shape));
        }
        assertSame(join(alone.stream().map(Result::y).toList()), packed.y, dtype);
        assertSame(join(alone.stream().map(Result::dq).toList()), packed.dq, dtype);
        assertSame(join(alone.stream().map(Result::dk).toList()), packed.dk, dtype);
        assertSame(join(alone.stream().map(Result::dv).toList()), packed.dv, dtype);
    }

    private void assertSame(float[] alone, float[] packed, DType dtype) {
        if (dtype == DType.F32 || device.name().equals("cpu") || CpuLevel.isOf(device)) {
            assertArrayEquals(alone, packed);
        } else {
            assertClose(widen(alone), packed, 2 * tolerance(dtype, 200), 1, "packed");
        }
    }

    private static float[] join(List<float[]> parts) {
        float[] all = new float[parts.stream().mapToInt(part -> part.length).sum()];
        int at = 0;
        for (float[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }

    /** What is not a number stays visible, where it is seen and nowhere else. */
    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16"})
    void notANumberReachesItsOwnRowOnly(DType dtype) {
        AttentionShape shape = new AttentionShape(1, 1, 32, 0.2f, true, 0);
        Layout layout = Layout.of("40 40", "");
        Values values = Values.random(41, dtype, layout.tokens(), shape);
        values.q[50 * 32 + 3] = Float.NaN;
        float[] y = run(dtype, values, layout, shape).y;
        for (int i = 0; i < y.length; i++) {
            assertEquals(i / 32 == 50, Float.isNaN(y[i]), "y[" + i + "] is " + y[i]);
        }
    }

    @Test
    void emptyBatch() {
        Tensor none = frame.empty(DType.F32, 0, 8);
        Segments segments = new Segments(frame.of(new int[] {0, 0}, 2), frame.of(new int[0], 0));
        AttentionShape shape = new AttentionShape(1, 1, 8, 1, true, 0);
        assertEquals(
                0,
                Tape.notRecording(frame)
                        .run(new Attention(none, none, none, segments, shape))
                        .elements());
    }

    @Test
    void withoutSpans() {
        AttentionShape shape = new AttentionShape(2, 1, 16, 0.25f, true, 0);
        Layout layout = Layout.of("100", "");
        Values values = Values.random(51, DType.F32, 100, shape);
        Tensor q = frame.of(values.q, 100, 32);
        Tensor k = frame.of(values.k, 100, 16);
        Tensor v = frame.of(values.v, 100, 16);
        Segments segments = new Segments(frame.of(layout.starts, 2), Tensor.NONE);
        assertArrayEquals(
                run(DType.F32, values, layout, shape).y,
                Tape.notRecording(frame)
                        .run(new Attention(q, k, v, segments, shape))
                        .toFloats());
    }

    @Test
    void operandsThatDoNotFitAreNamed() {
        AttentionShape shape = new AttentionShape(4, 2, 8, 1, true, 0);
        Segments segments = new Segments(frame.of(new int[] {0, 5}, 2), Tensor.NONE);
        Tensor q = frame.empty(DType.F32, 5, 32);
        Tensor k = frame.empty(DType.F32, 5, 16);
        refused("attention q", () -> new Attention(k, k, k, segments, shape));
        refused("attention k", () -> new Attention(q, q, k, segments, shape));
        refused("attention v", () -> new Attention(q, k, frame.empty(DType.F32, 4, 16), segments, shape));
        refused("BF16", () -> new Attention(q, k, frame.empty(DType.BF16, 5, 16), segments, shape));
        Segments short4 = new Segments(segments.starts(), frame.of(new int[4], 4));
        refused("attention spans", () -> new Attention(q, k, k, short4, shape));
        refused("starts", () -> new Segments(q, Tensor.NONE));
        refused("spans", () -> new Segments(segments.starts(), q));
    }

    private static void refused(String named, Runnable make) {
        String message = assertThrows(IllegalArgumentException.class, make::run).getMessage();
        assertTrue(message.contains(named), message);
    }

    @ParameterizedTest
    @ValueSource(strings = {"0 4", "0 6", "1 5", "0 5 2 5", "0 -1 5"})
    void startsThatAreNotOnesOfTheBatchAreRefused(String text) {
        int[] starts =
                Arrays.stream(text.split(" ")).mapToInt(Integer::parseInt).toArray();
        Segments segments = new Segments(frame.of(starts, starts.length), Tensor.NONE);
        Tensor x = frame.zeros(DType.F32, 5, 8);
        Attention op = new Attention(x, x, x, segments, new AttentionShape(1, 1, 8, 1, true, 0));
        String message = refusal(() -> op.forward(frame));
        assertTrue(message.contains("starts["), message);
    }
}
