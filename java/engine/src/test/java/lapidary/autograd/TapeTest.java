package lapidary.autograd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import lapidary.DeviceTest;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
final class TapeTest extends DeviceTest {
    private final List<String> backwards = new ArrayList<>();

    TapeTest(Device device) {
        super(device);
    }

    /** y = a * b elementwise, on the host: enough of an op to test the tape with. */
    private final class Times implements Op {
        private final Tensor a;
        private final Tensor b;

        Times(Tensor a, Tensor b) {
            this.a = a;
            this.b = b;
        }

        @Override
        public List<Tensor> inputs() {
            return List.of(a, b);
        }

        @Override
        public Tensor forward(Frame owner) {
            return owner.of(product(a, b), a.shape().toArray());
        }

        @Override
        public void backward(Tensor dy, Frame owner, Gradients grads) {
            backwards.add((grads.wants(a) ? "a" : "") + (grads.wants(b) ? "b" : ""));
            grads.add(a, grads.wants(a) ? owner.of(product(dy, b), a.shape().toArray()) : Tensor.NONE);
            grads.add(b, grads.wants(b) ? owner.of(product(dy, a), b.shape().toArray()) : Tensor.NONE);
        }
    }

    /** Sum of all elements, a scalar; hands the same dy on. */
    private record Sum(Tensor x) implements Op {
        @Override
        public List<Tensor> inputs() {
            return List.of(x);
        }

        @Override
        public Tensor forward(Frame owner) {
            float sum = 0;
            for (float value : x.toFloats()) {
                sum += value;
            }
            return owner.of(new float[] {sum}, 1);
        }

        @Override
        public void backward(Tensor dy, Frame owner, Gradients grads) {
            float[] dx = new float[(int) x.elements()];
            java.util.Arrays.fill(dx, dy.item());
            grads.add(x, owner.of(dx, x.shape().toArray()));
        }
    }

    /** y = x, giving its dy away as dx: what an addition does. */
    private record Pass(Tensor x, Tensor same) implements Op {
        @Override
        public List<Tensor> inputs() {
            return List.of(x, same);
        }

        @Override
        public Tensor forward(Frame owner) {
            float[] a = x.toFloats();
            float[] b = same.toFloats();
            for (int i = 0; i < a.length; i++) {
                a[i] += b[i];
            }
            return owner.of(a, x.shape().toArray());
        }

        @Override
        public void backward(Tensor dy, Frame owner, Gradients grads) {
            grads.add(x, dy);
            grads.add(same, dy);
        }
    }

    private static float[] product(Tensor a, Tensor b) {
        float[] x = a.toFloats();
        float[] y = b.toFloats();
        for (int i = 0; i < x.length; i++) {
            x[i] *= y[i];
        }
        return x;
    }

    @Test
    void gradientsOfATensorUsedTwiceAddUp() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            tape.backward(tape.run(new Sum(tape.run(new Times(w, w)))), grads);
            assertArrayEquals(new float[] {4, 6}, grads.of(w).toFloats());
        }
    }

    @Test
    void aGradientHandedOnToTwoInputsIsNotShared() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        Tensor u = frame.of(new float[] {5, 7}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w, u));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w, u));
            Tensor x = tape.run(new Times(w, u));
            Tensor y = tape.run(new Pass(x, tape.run(new Times(x, u))));
            tape.backward(tape.run(new Sum(y)), grads); // y = w u + w u^2
            assertArrayEquals(new float[] {5 + 25, 7 + 49}, grads.of(w).toFloats());
            assertArrayEquals(new float[] {2 + 20, 3 + 42}, grads.of(u).toFloats());
        }
    }

    @Test
    void frozenTensorsGetNoGradientAndCostNoMemory() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        Tensor frozen = frame.of(new float[] {5, 7}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            Tensor x = tape.run(new Times(w, frozen));
            Tensor untracked = tape.run(new Times(frozen, frozen));
            tape.backward(tape.run(new Sum(tape.run(new Times(x, untracked)))), grads);
            assertTrue(grads.of(frozen).isNone());
            assertFalse(grads.wants(frozen));
            assertEquals(List.of("a", "a"), backwards);
            assertEquals(1, grads.all().size());
        }
    }

    @Test
    void aCheckpointedBlockGivesTheSameGradients() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        Tensor u = frame.of(new float[] {5, 7}, 2);
        float[] plain = gradientThrough(w, u, false);
        assertArrayEquals(plain, gradientThrough(w, u, true));
        assertArrayEquals(new float[] {3 * 4 * 5, 3 * 9 * 7}, plain); // w^3 u
    }

    private float[] gradientThrough(Tensor w, Tensor u, boolean checkpointing) {
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            Tensor x = tape.run(new Times(w, u));
            Tensor y = checkpointing
                    ? tape.checkpoint("block", x, List.of(w), (t, in) -> block(t, in, w))
                    : block(tape, x, w);
            tape.backward(tape.run(new Sum(y)), grads);
            return grads.of(w).toFloats();
        }
    }

    private Tensor block(Tape tape, Tensor x, Tensor w) {
        return tape.run(new Times(tape.run(new Times(x, w)), w));
    }

    /** y = a * b, which checkpoints keep, or run again without its output where nobody reads that. */
    private final class Noted implements Op {
        private final Times times;
        private final boolean keeps;
        private final List<String> runs;
        private Tensor y;

        Noted(Tensor a, Tensor b, boolean keeps, List<String> runs) {
            times = new Times(a, b);
            this.keeps = keeps;
            this.runs = runs;
        }

        @Override
        public List<Tensor> inputs() {
            return times.inputs();
        }

        @Override
        public Tensor forward(Frame owner) {
            runs.add("forward");
            y = times.forward(owner);
            return y;
        }

        @Override
        public Tensor forwardUnread(Frame owner) {
            runs.add("unread");
            return owner.of(new float[] {Float.NaN, Float.NaN}, 2);
        }

        @Override
        public List<Tensor> kept() {
            return keeps ? List.of(y) : List.of();
        }

        @Override
        public Tensor resume(List<Tensor> kept) {
            runs.add("resume");
            return kept.get(0);
        }

        @Override
        public void backward(Tensor dy, Frame owner, Gradients grads) {
            times.backward(dy, owner, grads);
        }
    }

    /** Of {@code second + first}, {@code first = x w} and {@code second = first w}: w^2 u and w^3 u. */
    private List<String> runsOf(boolean keeps, boolean sumReads) {
        List<String> runs = new ArrayList<>();
        Tensor w = frame.of(new float[] {2, 3}, 2);
        Tensor u = frame.of(new float[] {5, 7}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            Tensor x = tape.run(new Times(w, u));
            Tensor y = tape.checkpoint("block", x, List.of(w), (t, in) -> {
                Tensor first = t.run(new Noted(in, w, keeps, runs));
                Tensor second = t.run(new Noted(first, w, keeps, runs));
                return t.run(sumReads ? new Pass(second, first) : new Blind(second, first));
            });
            assertArrayEquals(new float[] {4 * 5 + 8 * 5, 9 * 7 + 27 * 7}, y.toFloats());
            Tensor loss = tape.run(new Sum(y));
            frame.kernels().zero(grads.accumulator(w).sum());
            long before = device.pool().inUse();
            tape.backward(loss, grads);
            // Each kept product is given back at once; x's gradient is not kept, y stays readable.
            assertEquals(before - (keeps ? 2 * blockOf(x) : 0), device.pool().inUse());
            assertArrayEquals(new float[] {4 * 5 + 8 * 5, 9 * 7 + 27 * 7}, y.toFloats());
            assertArrayEquals(
                    new float[] {2 * 2 * 5 + 3 * 4 * 5, 2 * 3 * 7 + 3 * 9 * 7},
                    grads.of(w).toFloats());
        }
        return runs;
    }

    /** Bytes that the pool hands out for a tensor like that. */
    private long blockOf(Tensor x) {
        try (Frame probe = Frame.root(device, "probe")) {
            long before = device.pool().inUse();
            probe.emptyLike(x);
            return device.pool().inUse() - before;
        }
    }

    /** As {@link Pass}, which does not read its inputs' values in backward. */
    private record Blind(Tensor x, Tensor same) implements Op {
        @Override
        public List<Tensor> inputs() {
            return List.of(x, same);
        }

        @Override
        public Tensor forward(Frame owner) {
            return new Pass(x, same).forward(owner);
        }

        @Override
        public Tensor forwardUnread(Frame owner) {
            return owner.of(new float[] {Float.NaN, Float.NaN}, 2);
        }

        @Override
        public boolean backwardReadsInputs() {
            return false;
        }

        @Override
        public void backward(Tensor dy, Frame owner, Gradients grads) {
            new Pass(x, same).backward(dy, owner, grads);
        }
    }

    @Test
    void aSecondRunLeavesOutWhatNoBackwardReads() {
        assertEquals(List.of("forward", "forward", "forward", "unread"), runsOf(false, false));
        assertEquals(List.of("forward", "forward", "forward", "forward"), runsOf(false, true));
    }

    @Test
    void whatAnOpKeepsIsNotComputedAgain() {
        assertEquals(List.of("forward", "forward", "resume", "resume"), runsOf(true, false));
    }

    @Test
    void aCheckpointInsideAnotherIsRefused() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            IllegalStateException failure = assertThrows(
                    IllegalStateException.class,
                    () -> tape.checkpoint(
                            "outer", w, List.of(w), (t, in) -> t.checkpoint("inner", in, List.of(w), (u, x) -> x)));
            assertTrue(failure.getMessage().contains("inner is inside another"), failure.getMessage());
        }
    }

    @Test
    void aBlockThatRunsOtherOpsTheSecondTimeIsNoticed() {
        for (int extra : new int[] {-1, 1}) {
            int[] ops = {2};
            Tensor w = frame.of(new float[] {2, 3}, 2);
            try (Gradients grads = new Gradients(frame, List.of(w));
                    Frame step = frame.child("step")) {
                Tape tape = Tape.recording(step, List.of(w));
                Tensor y = tape.checkpoint("block", w, List.of(w), (t, in) -> {
                    Tensor h = in;
                    for (int i = 0; i < ops[0]; i++) {
                        h = t.run(new Times(h, w));
                    }
                    ops[0] += extra;
                    return h;
                });
                Tensor loss = tape.run(new Sum(y));
                IllegalStateException failure =
                        assertThrows(IllegalStateException.class, () -> tape.backward(loss, grads));
                assertTrue(failure.getMessage().contains("2 ops"), failure.getMessage());
            }
        }
    }

    @Test
    void aCheckpointedBlockOnAnUntrackedInputTrainsWhatIsInside() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        Tensor pixels = frame.of(new float[] {5, 7}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            Tensor y = tape.checkpoint("block", pixels, List.of(w), (t, in) -> block(t, in, w));
            tape.backward(tape.run(new Sum(y)), grads);
            assertArrayEquals(new float[] {2 * 2 * 5, 2 * 3 * 7}, grads.of(w).toFloats());
        }
    }

    @Test
    void passesIntoTheSameGradientsAddUp() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w))) {
            for (int pass = 0; pass < 3; pass++) {
                try (Frame step = frame.child("micro-batch " + pass)) {
                    Tape tape = Tape.recording(step, List.of(w));
                    tape.backward(tape.run(new Sum(tape.run(new Times(w, w)))), grads);
                }
            }
            assertArrayEquals(new float[] {12, 18}, grads.of(w).toFloats());
        }
    }

    @Test
    void notRecordingKeepsNothing() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Frame step = frame.child("step")) {
            Tape tape = Tape.notRecording(step);
            tape.run(new Sum(tape.run(new Times(w, w))));
            assertFalse(tape.isRecording());
        }
    }

    @Test
    void backwardStartsAtAScalar() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w));
                Frame step = frame.child("step")) {
            Tape tape = Tape.recording(step, List.of(w));
            Tensor y = tape.run(new Times(w, w));
            assertThrows(IllegalArgumentException.class, () -> tape.backward(y, grads));
        }
    }

    @Test
    void aGradientOfTheWrongLengthIsRefused() {
        Tensor w = frame.of(new float[] {2, 3}, 2);
        try (Gradients grads = new Gradients(frame, List.of(w))) {
            Tensor dw = frame.empty(DType.F32, 3);
            assertThrows(IllegalArgumentException.class, () -> grads.add(w, dw));
            assertThrows(IllegalArgumentException.class, () -> grads.add(w.slice(0, 1), frame.empty(DType.F32, 1)));
        }
    }
}
