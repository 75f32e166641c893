package lapidary.device;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.fail;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every kernel with every operand left out, of every other dtype and longer by a column, one at a time: what
 * {@code kernels.h} does not allow is an {@link IllegalArgumentException}, never a crash.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
final class KernelsTest {
    private static final AdamwStep STEP = new AdamwStep(1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 1);
    private static final AttentionShape HEADS = new AttentionShape(2, 1, 8, 0.5f, true, 0);

    /** A call that is right, and which of its operands may be otherwise. */
    private final class Call {
        final Object[] args;
        final Set<Integer> optional = new TreeSet<>();
        final Set<Integer> longer = new TreeSet<>();
        final Map<Integer, Set<DType>> dtypes = new HashMap<>();

        Call(Object... args) {
            this.args = args;
        }

        Call mayLack(Integer... operands) {
            optional.addAll(List.of(operands));
            return this;
        }

        Call mayBeLonger(Integer... operands) {
            longer.addAll(List.of(operands));
            return this;
        }

        Call mayBe(int operand, DType... types) {
            dtypes.put(operand, Set.of(types));
            return this;
        }
    }

    private final Map<String, Call> calls = new HashMap<>();
    private CpuDevice device;
    private Frame frame;

    @BeforeAll
    void open() {
        device = CpuDevice.open();
        frame = Frame.root(device, "test");
        elementwise();
        norms();
        rows();
        attention();
        lora();
        vision();
        loss();
        nf4();
        optimisers();
    }

    @AfterAll
    void close() {
        frame.close();
        device.close();
    }

    private void elementwise() {
        calls.put("zero", new Call(f(3, 5)).mayBeLonger(0).mayBe(0, DType.values()));
        calls.put("convert", new Call(f(3, 5), f(3, 5), 1f).mayBe(0, DType.BF16).mayBe(1, DType.BF16));
        calls.put("add", new Call(f(3, 5), f(3, 5), f(3, 5)));
        calls.put("accumulate", new Call(f(3, 5), f(3, 5)).mayBe(0, DType.BF16).mayBe(1, DType.BF16));
        calls.put("dropout", new Call(f(3, 5), f(3, 5), 0.5f, 1L, 2L));
        calls.put("geluForward", new Call(f(3, 5), f(3, 5)));
        calls.put("geluBackward", new Call(f(3, 5), f(3, 5), f(3, 5)));
        calls.put("gegluForward", new Call(f(3, 5), f(3, 5), f(3, 5)));
        calls.put("gegluBackward", new Call(f(3, 5), f(3, 5), f(3, 5), f(3, 5), f(3, 5)));
    }

    private void norms() {
        calls.put("rmsNormForward", new Call(f(3, 5), f(3), f(3, 5), f(5), 1e-6f).mayLack(0, 1));
        calls.put("rmsNormAddForward", new Call(f(3, 5), f(3), f(3, 5), f(5), f(3, 5), 1e-6f).mayLack(1));
        calls.put("rmsNormBackward", new Call(f(3, 5), f(5), f(3, 5), f(3, 5), f(5), f(3), false).mayLack(0, 1));
        calls.put("layerNormForward", new Call(f(3, 5), f(3), f(3), f(3, 5), f(5), f(5), 1e-6f));
        calls.put(
                "layerNormBackward",
                new Call(f(3, 5), f(5), f(5), f(3, 5), f(3, 5), f(5), f(3), f(3)).mayLack(0, 1, 2));
    }

    private void rows() {
        calls.put("embeddingForward", new Call(f(3, 5), f(4, 5), i(3), 1f));
        calls.put("embeddingBackward", new Call(f(2, 5), f(3, 5), i(3), 1f).mayBe(1, DType.BF16));
        calls.put("gatherRows", new Call(f(3, 5), f(4, 5), i(3)));
        calls.put("scatterRows", new Call(f(4, 5), f(1, 5), i(1)).mayLack(1));
        calls.put("addRows", new Call(f(4, 5), f(4, 5), f(2, 5)));
        calls.put("sumRows", new Call(f(2, 5), f(4, 5)).mayBe(1, DType.BF16));
    }

    private void attention() {
        Tensor starts = frame.of(new int[] {0, 3}, 2);
        calls.put(
                "rmsNormRopeForward",
                new Call(f(3, 16), f(6), f(3, 16), f(8), f(4, 4), f(4, 4), i(3), 1e-6f).mayLack(1));
        calls.put(
                "rmsNormRopeBackward",
                new Call(f(3, 16), f(8), f(3, 16), f(3, 16), f(8), f(4, 4), f(4, 4), i(3), f(6)).mayLack(0, 1));
        calls.put(
                "attentionForward",
                new Call(f(3, 16), f(3, 2), f(3, 16), f(3, 8), f(3, 8), starts, i(3), HEADS).mayLack(1, 6));
        Object[] backward = {
            f(3, 16), f(3, 8), f(3, 8), f(3, 16), f(3, 16), f(3, 8), f(3, 8), f(3, 16), f(3, 2), starts, i(3), HEADS
        };
        calls.put("attentionBackward", new Call(backward).mayLack(10));
        calls.put("attentionExtend", new Call(f(2, 16), f(2, 16), f(3, 8), f(3, 8), i(3), HEADS).mayLack(4));
        List<Tensor> caches = List.of(f(4, 8));
        calls.put(
                "attentionDecode",
                new Call(f(1, 16), caches, caches, new long[] {3}, f(1, 16), f(1, 8), f(1, 8), HEADS));
        calls.put("linearFew", new Call(f(2, 5), f(2, 3), f(5, 3), f(5), false).mayLack(3));
    }

    private void lora() {
        calls.put("loraDownForward", new Call(f(3, 2), f(3, 5), f(2, 5), 0.5f, 1L, 2L));
        calls.put("loraDownBackwardWeight", new Call(f(2, 5), f(3, 2), f(3, 5), 0.5f, 1L, 2L, false));
        calls.put("loraDownBackwardInput", new Call(f(3, 5), f(3, 2), f(2, 5), 0.5f, 1L, 2L));
    }

    private void vision() {
        calls.put("patchUnfold", new Call(f(4, 12), f(3, 4, 4), 1L, 3L, 4L, 2L).mayBe(0, DType.BF16));
        calls.put("averagePoolForward", new Call(f(4, 5), f(16, 5), 1L, 4L, 2L));
        calls.put("averagePoolBackward", new Call(f(16, 5), f(4, 5), 1L, 4L, 2L));
    }

    private void loss() {
        calls.put(
                "crossEntropy",
                new Call(f(3), f(3), i(3), f(3, 7), i(3), 1f, 0f, true)
                        .mayBeLonger(3)
                        .mayBe(3, DType.BF16));
        calls.put("hasLinearCrossEntropy", new Call(b(3, 64)).mayBeLonger(0).mayBe(0, DType.values()));
        calls.put(
                "linearCrossEntropy",
                new Call(f(3), f(3), i(3), b(3, 64), f(7, 64), b(3, 64), b(7, 64), i(3), 1f).mayLack(3, 4));
    }

    private void nf4() {
        Tensor none = Tensor.NONE;
        Nf4Operand w = new Nf4Operand(of(DType.U8, 480), f(15), none, none, none, 0, 32, 30);
        calls.put("nf4Quantize", new Call(of(DType.U8, 8), f(1), f(3, 5), DType.F32).mayBe(2, DType.BF16, DType.F16));
        calls.put("nf4QuantizeAbsmax", new Call(of(DType.U8, 3), f(1), f(1), f(3), f(256)));
        calls.put("nf4Dequantize", new Call(f(32, 30), w, 0L).mayBe(0, DType.BF16));
        calls.put("nf4Scales", new Call(f(15), w, 0L));
        calls.put("nf4LinearForward", new Call(f(3, 32), f(3, 30), w, f(32)).mayLack(3));
        calls.put("nf4LinearBackward", new Call(f(3, 30), f(3, 32), w, true));
    }

    private void optimisers() {
        Tensor low = of(DType.I16, 4, 5);
        calls.put("sumSquares", new Call(f(1), f(3, 5)).mayBeLonger(1).mayBe(1, DType.BF16));
        calls.put(
                "adamw",
                new Call(b(4, 5), low, f(4, 5), f(4, 5), f(4, 5), STEP)
                        .mayLack(1)
                        .mayBe(4, DType.BF16));
        calls.put("adamwRows", new Call(b(4, 5), low, f(4, 5), f(4, 5), f(1, 5), i(4), STEP).mayLack(1));
        Object[] eightBits = {b(4, 5), low, of(DType.U8, 20), f(1), of(DType.U8, 20), f(1), f(4, 5), map(), map(), STEP
        };
        calls.put("adamw8bit", new Call(eightBits).mayLack(1).mayBe(6, DType.BF16));
        calls.put(
                "sgd",
                new Call(b(4, 5), low, f(4, 5), 1e-3, 0.01, 1f).mayLack(1).mayBe(2, DType.BF16));
        calls.put("sgdRows", new Call(b(4, 5), low, f(1, 5), i(4), 1e-3, 0.01, 1f).mayLack(1));
    }

    /** 256 rising numbers. */
    private Tensor map() {
        float[] numbers = new float[256];
        for (int k = 0; k < numbers.length; k++) {
            numbers[k] = k / 255f;
        }
        return frame.of(numbers, numbers.length);
    }

    private Tensor f(long... axes) {
        return of(DType.F32, axes);
    }

    private Tensor b(long... axes) {
        return of(DType.BF16, axes);
    }

    private Tensor i(long... axes) {
        return of(DType.I32, axes);
    }

    private Tensor of(DType dtype, long... axes) {
        return frame.zeros(dtype, axes);
    }

    static Stream<String> methods() {
        return Arrays.stream(Kernels.class.getDeclaredMethods())
                .filter(method -> Modifier.isPublic(method.getModifiers()))
                .filter(method -> Arrays.asList(method.getParameterTypes()).contains(Operand.class)
                        || ofTensors(method.getName()))
                .map(Method::getName)
                .sorted();
    }

    @Test
    void everyMethodIsKnown() {
        assertEquals(new TreeSet<>(methods().toList()), new TreeSet<>(calls.keySet()));
        assertEquals(methods().count(), calls.size(), "overloads");
    }

    @ParameterizedTest
    @MethodSource("methods")
    void acceptsOperandsAsDescribed(String name) {
        Call call = calls.get(name);
        if (runs(name)) {
            assertDoesNotThrow(() -> invoke(name, call.args));
            for (int k : call.optional) {
                assertDoesNotThrow(
                        () -> invoke(name, with(call, k, Tensor.NONE)), () -> name + " without operand " + k);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("methods")
    void refusesOperandsLeftOut(String name) {
        Call call = calls.get(name);
        for (int k = 0; k < call.args.length; k++) {
            if (call.args[k] instanceof Tensor && !call.optional.contains(k)) {
                refused(name, with(call, k, Tensor.NONE), "without operand " + k);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("methods")
    void refusesOtherDtypes(String name) {
        Call call = calls.get(name);
        for (int k = 0; k < call.args.length; k++) {
            if (call.args[k] instanceof Tensor x) {
                Set<DType> wrong = EnumSet.allOf(DType.class);
                wrong.remove(x.dtype());
                wrong.removeAll(call.dtypes.getOrDefault(k, Set.of()));
                for (DType dtype : wrong) {
                    Tensor other = of(dtype, x.shape().toArray());
                    refused(name, with(call, k, other), "with operand " + k + " of " + dtype);
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("methods")
    void refusesOtherLengths(String name) {
        Call call = calls.get(name);
        for (int k = 0; k < call.args.length; k++) {
            if (call.args[k] instanceof Tensor x && !call.longer.contains(k)) {
                long[] axes = x.shape().toArray();
                axes[axes.length - 1]++;
                refused(name, with(call, k, of(x.dtype(), axes)), "with a longer operand " + k);
            }
        }
    }

    @Test
    void refusesSizesThatDivideByNothing() {
        Object[] patches = calls.get("patchUnfold").args.clone();
        patches[5] = 0L;
        refused("patchUnfold", patches, "with patch 0");
        for (String pool : List.of("averagePoolForward", "averagePoolBackward")) {
            Object[] cells = calls.get(pool).args.clone();
            cells[4] = 0L;
            refused(pool, cells, "with kernel 0");
        }
    }

    @Test
    void refusesLowHalvesBesideAnF32Parameter() {
        for (String name : List.of("adamw", "adamwRows", "adamw8bit", "sgd", "sgdRows")) {
            refused(name, with(calls.get(name), 0, f(4, 5)), "with low halves of F32");
            Object[] whole = with(calls.get(name), 0, f(4, 5));
            whole[1] = Tensor.NONE;
            assertDoesNotThrow(() -> invoke(name, whole));
        }
    }

    private boolean runs(String name) {
        return !name.equals("linearCrossEntropy") || device.kernels().hasLinearCrossEntropy(b(3, 64));
    }

    private static Object[] with(Call call, int k, Object operand) {
        Object[] args = call.args.clone();
        args[k] = operand;
        return args;
    }

    private void refused(String name, Object[] args, String how) {
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> invoke(name, args), () -> name + " " + how);
        if (!e.getMessage().startsWith("[")) {
            fail(name + " " + how + " says: " + e.getMessage());
        }
    }

    /** Whether a method takes lists of tensors with their state: those of {@link #calls} are such a list's only one. */
    private static boolean ofTensors(String name) {
        return name.equals("adamw") || name.equals("adamw8bit");
    }

    private static Object[] inLists(String name, Object[] args) {
        Tensor[] x = Arrays.stream(args).filter(Tensor.class::isInstance).toArray(Tensor[]::new);
        return switch (name) {
            case "sumSquares" -> new Object[] {x[0], List.of(x[1])};
            case "adamw" -> new Object[] {List.of(new AdamwTensor(x[0], x[1], x[2], x[3], x[4])), STEP};
            case "adamw8bit" -> {
                Adamw8bitTensor tensor = new Adamw8bitTensor(x[0], x[1], x[2], x[3], x[4], x[5], x[6]);
                yield new Object[] {List.of(tensor), x[7], x[8], STEP};
            }
            default -> args;
        };
    }

    @Test
    void refusesListsOfUnlikeTensors() {
        Tensor low = of(DType.I16, 4, 5);
        AdamwTensor split = new AdamwTensor(b(4, 5), low, f(4, 5), f(4, 5), f(4, 5));
        for (AdamwTensor other : List.of(
                new AdamwTensor(b(4, 5), Tensor.NONE, f(4, 5), f(4, 5), f(4, 5)),
                new AdamwTensor(f(4, 5), Tensor.NONE, f(4, 5), f(4, 5), f(4, 5)),
                new AdamwTensor(b(4, 5), low, b(4, 5), b(4, 5), f(4, 5)),
                new AdamwTensor(b(4, 5), low, f(4, 5), f(4, 5), b(4, 5)))) {
            refused("adamw", new Object[] {List.of(split, other), STEP}, "with " + other);
        }
        Tensor codes = of(DType.U8, 20);
        Adamw8bitTensor coded = new Adamw8bitTensor(b(4, 5), low, codes, f(1), codes, f(1), f(4, 5));
        for (Adamw8bitTensor other : List.of(
                new Adamw8bitTensor(b(4, 5), Tensor.NONE, codes, f(1), codes, f(1), f(4, 5)),
                new Adamw8bitTensor(f(4, 5), Tensor.NONE, codes, f(1), codes, f(1), f(4, 5)),
                new Adamw8bitTensor(b(4, 5), low, codes, f(1), codes, f(1), b(4, 5)))) {
            refused("adamw8bit", new Object[] {List.of(coded, other), map(), map(), STEP}, "with " + other);
        }
        refused("sumSquares", new Object[] {f(2), List.of(f(3), b(3))}, "with F32 and BF16");
        refused("sumSquares", new Object[] {f(1), List.of(f(3), f(3))}, "with one sum for two");
        refused("sumSquares", new Object[] {f(0), List.of()}, "of nothing");
        refused("adamw", new Object[] {List.of(), STEP}, "of nothing");
        refused("adamw8bit", new Object[] {List.of(), map(), map(), STEP}, "of nothing");
    }

    private void invoke(String name, Object... operands) throws Throwable {
        Object[] args = Arrays.stream(operands).anyMatch(List.class::isInstance) ? operands : inLists(name, operands);
        Method method = Arrays.stream(Kernels.class.getDeclaredMethods())
                .filter(m -> m.getName().equals(name) && m.getParameterCount() == args.length)
                .findFirst()
                .orElseThrow();
        try {
            method.invoke(device.kernels(), args);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }
}
