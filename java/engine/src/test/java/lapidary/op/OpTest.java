package lapidary.op;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Random;
import java.util.function.Function;
import java.util.function.Supplier;
import lapidary.DeviceTest;
import lapidary.autograd.Gradients;
import lapidary.autograd.Op;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;

/** What op tests share: a frame per test, random inputs, tolerances, and the empty pool afterwards. */
abstract class OpTest extends DeviceTest {

    OpTest(Device device) {
        super(device);
    }

    /** Normal values, rounded to what the dtype can hold. */
    static float[] random(int seed, DType dtype, int n) {
        Random random = new Random(seed);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = dtype == DType.BF16 ? bf16((float) random.nextGaussian()) : (float) random.nextGaussian();
        }
        return values;
    }

    static float bf16(float x) {
        int bits = Float.floatToRawIntBits(x);
        return Float.intBitsToFloat((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
    }

    /** Host values as a tensor of the dtype. */
    Tensor tensor(DType dtype, float[] values, long... axes) {
        return tensor(frame, dtype, values, axes);
    }

    /** A copy that begins an element behind what is aligned, or {@code x} itself where not {@code shifted}. */
    Tensor shifted(boolean shifted, Tensor x) {
        if (!shifted) {
            return x;
        }
        Tensor y = frame.zeros(x.dtype(), x.elements() + 1)
                .slice(1, x.elements() + 1)
                .reshape(x.shape().toArray());
        frame.kernels().convert(y, x, 1);
        return y;
    }

    static Tensor tensor(Frame frame, DType dtype, float[] values, long... axes) {
        Tensor f32 = frame.of(values, axes);
        if (dtype == DType.F32) {
            return f32;
        }
        Tensor y = frame.empty(dtype, Shape.of(axes));
        frame.kernels().convert(y, f32, 1);
        return y;
    }

    /**
     * Half the spacing of the dtype at 1, for values that are rounded once after an F32 computation whose reductions run
     * over {@code length} terms.
     */
    static double tolerance(DType dtype, long length) {
        double f32 = 0x1p-24 * 4 * Math.sqrt(Math.max(length, 1));
        return dtype == DType.BF16 ? 0x1p-8 + f32 : f32;
    }

    /** Every element within {@code tolerance * (scale + |expected|)}. */
    static void assertClose(double[] expected, float[] actual, double tolerance, double scale, String what) {
        assertEquals(expected.length, actual.length, what + " length");
        for (int i = 0; i < expected.length; i++) {
            double limit = tolerance * (scale + Math.abs(expected[i]));
            assertTrue(
                    Math.abs(expected[i] - actual[i]) <= limit,
                    what + "[" + i + "] is " + actual[i] + ", expected " + expected[i] + " within " + limit);
        }
    }

    /**
     * What an op says that refuses the values of its indices, when it runs or when its result is read: a GPU finds them out
     * after the call has returned.
     */
    static String refusal(Supplier<Tensor> op) {
        return assertThrows(IllegalArgumentException.class, () -> op.get().toFloats())
                .getMessage();
    }

    static double[] widen(float[] x) {
        double[] y = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            y[i] = x[i];
        }
        return y;
    }

    /**
     * Runs an op on F32 inputs and compares the gradient of {@code sum(y * r)}, r random, with central differences, for
     * every input in turn; inputs not named get none.
     *
     * @param make builds the op from the inputs
     */
    void checkGradients(Function<List<Tensor>, Op> make, List<float[]> values, List<long[]> shapes, int... trained) {
        List<Tensor> inputs = new java.util.ArrayList<>();
        for (int i = 0; i < values.size(); i++) {
            inputs.add(frame.of(values.get(i), shapes.get(i)));
        }
        for (int index : trained) {
            Tensor x = inputs.get(index);
            float[] r;
            float[] analytic;
            try (Frame step = frame.child("step");
                    Gradients grads = new Gradients(step, List.of(x))) {
                Tape tape = Tape.recording(step.child("tape"), List.of(x));
                Tensor y = tape.run(make.apply(inputs));
                r = random(99, DType.F32, (int) y.elements());
                Tensor loss = tape.run(new Dot(y, step.of(r, y.shape().toArray())));
                tape.backward(loss, grads);
                analytic = grads.of(x).toFloats();
                assertEquals(1, grads.all().size(), "gradients of frozen inputs");
                tape.frame().close();
            }
            float[] base = values.get(index);
            for (int i = 0; i < base.length; i += Math.max(1, base.length / 37)) {
                float h = 1e-2f * Math.max(1, Math.abs(base[i]));
                double up = value(make, inputs, index, base, i, h, r);
                double down = value(make, inputs, index, base, i, -h, r);
                double numeric = (up - down) / (2.0 * h);
                double limit = 2e-3 * Math.max(1, Math.abs(numeric)) * Math.sqrt(r.length) / 4 + 2e-3;
                assertTrue(
                        Math.abs(numeric - analytic[i]) <= limit,
                        "input " + index + " [" + i + "]: backward " + analytic[i] + ", differences " + numeric
                                + " within " + limit);
            }
        }
    }

    private double value(
            Function<List<Tensor>, Op> make, List<Tensor> inputs, int index, float[] base, int i, float h, float[] r) {
        try (Frame step = frame.child("difference")) {
            float[] moved = base.clone();
            moved[i] += h;
            List<Tensor> changed = new java.util.ArrayList<>(inputs);
            changed.set(index, step.of(moved, inputs.get(index).shape().toArray()));
            float[] y = Tape.notRecording(step).run(make.apply(changed)).toFloats();
            double sum = 0;
            for (int j = 0; j < y.length; j++) {
                sum += (double) y[j] * r[j];
            }
            return sum;
        }
    }

    /** {@code sum(x * r)} in the tests, so that every output element carries its own weight. */
    record Dot(Tensor x, Tensor r) implements Op {
        @Override
        public List<Tensor> inputs() {
            return List.of(x);
        }

        @Override
        public Tensor forward(Frame frame) {
            float[] a = x.toFloats();
            float[] b = r.toFloats();
            double sum = 0;
            for (int i = 0; i < a.length; i++) {
                sum += (double) a[i] * b[i];
            }
            return frame.of(new float[] {(float) sum}, 1);
        }

        @Override
        public void backward(Tensor dy, Frame frame, Gradients grads) {
            Tensor dx = frame.empty(x.dtype(), x.shape());
            frame.kernels().convert(dx, r, dy.item());
            grads.add(x, dx);
        }
    }
}
