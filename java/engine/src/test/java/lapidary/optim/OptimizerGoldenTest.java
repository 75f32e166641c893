package lapidary.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import lapidary.device.Adamw8bitTensor;
import lapidary.device.AdamwStep;
import lapidary.device.AdamwTensor;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import lapidary.quant.DynamicMap;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Steps of torch's and bitsandbytes' optimisers, from {@code bench/reference/optimizer_golden.py}. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
record OptimizerGoldenTest(Device device) {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/optim/optimizers.safetensors");

    /** One case of the file: its tensors, with a row a step but for the first. */
    private record Case(String name, Safetensors file, JsonNode options, Frame frame) {
        static Case of(String name, Safetensors file, Frame frame) {
            return new Case(
                    name, file, Json.parse(name, file.metadata().get(name)).node(), frame);
        }

        Tensor tensor(String key) {
            TensorEntry entry = file.entry(name + "." + key);
            DType dtype = entry.dtype().equals("U8") ? DType.U8 : entry.dtype().equals("F32") ? DType.F32 : DType.BF16;
            return frame.upload(entry.data(), dtype, Shape.of(entry.shape()));
        }

        double option(String key) {
            return options.path(key).doubleValue();
        }

        AdamwStep step(int t) {
            double beta1 = options.path("betas").path(0).doubleValue();
            double beta2 = options.path("betas").path(1).doubleValue();
            return new AdamwStep(
                    option("lr"),
                    beta1,
                    beta2,
                    option("eps"),
                    option("weight_decay"),
                    1 - Math.pow(beta1, t),
                    1 - Math.pow(beta2, t),
                    1);
        }

        void assertEqualBits(String key, int t, Tensor actual) {
            byte[] expected = tensor(key).slice(t - 1, t).toHost().toArray(ValueLayout.JAVA_BYTE);
            assertArrayEquals(
                    expected, actual.toHost().toArray(ValueLayout.JAVA_BYTE), name + ", step " + t + ", " + key);
        }

        /** Within so many units in the last place of the dtype, for values below the size of a step those of a step. */
        void assertNear(int t, Tensor actual, int ulps) {
            float[] expected = tensor("param").slice(t - 1, t).toFloats();
            float[] values = actual.toFloats();
            float unit = actual.dtype() == DType.BF16 ? 0x1p16f : 1;
            for (int i = 0; i < expected.length; i++) {
                assertEquals(
                        expected[i],
                        values[i],
                        ulps * unit * Math.ulp(Math.max(0.02f, Math.abs(expected[i]))),
                        name + ", step " + t + ", " + i);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"f32", "f32-decay", "f32-betas", "bf16", "bf16-decay"})
    void adamwIsTorchsToTheBit(String name) {
        try (Safetensors file = Safetensors.open(GOLDEN);
                Frame frame = Frame.root(device, "test")) {
            Case golden = Case.of(name, file, frame);
            Tensor param = golden.tensor("start");
            Tensor m = frame.zeros(param.dtype(), param.elements());
            Tensor v = frame.zeros(param.dtype(), param.elements());
            Tensor grads = golden.tensor("grads");
            for (int t = 1; t <= grads.rows(); t++) {
                AdamwTensor tensor = new AdamwTensor(param, Tensor.NONE, m, v, grads.slice(t - 1, t));
                frame.kernels().adamw(List.of(tensor), golden.step(t));
                golden.assertEqualBits("m", t, m);
                golden.assertEqualBits("v", t, v);
                golden.assertEqualBits("param", t, param);
            }
        }
    }

    /** Codes and scales to the bit; torch's square root, which moves the parameters, is not correctly rounded. */
    @ParameterizedTest
    @ValueSource(strings = {"8bit", "8bit-decay", "8bit-betas", "8bit-bf16"})
    void momentsOf8BitsAreBitsandbytes(String name) {
        try (Safetensors file = Safetensors.open(GOLDEN);
                Frame frame = Frame.root(device, "test")) {
            Case golden = Case.of(name, file, frame);
            Tensor param = golden.tensor("start");
            long blocks = Math.ceilDiv(param.elements(), 256);
            Tensor m = frame.zeros(DType.U8, param.elements());
            Tensor v = frame.zeros(DType.U8, param.elements());
            Tensor mAbsmax = frame.zeros(DType.F32, blocks);
            Tensor vAbsmax = frame.zeros(DType.F32, blocks);
            Tensor mMap = frame.of(DynamicMap.signed(), 256);
            Tensor vMap = frame.of(DynamicMap.unsigned(), 256);
            Tensor grads = golden.tensor("grads");
            for (int t = 1; t <= grads.rows(); t++) {
                Adamw8bitTensor tensor =
                        new Adamw8bitTensor(param, Tensor.NONE, m, mAbsmax, v, vAbsmax, grads.slice(t - 1, t));
                frame.kernels().adamw8bit(List.of(tensor), mMap, vMap, golden.step(t));
                golden.assertEqualBits("m", t, m);
                golden.assertEqualBits("v", t, v);
                golden.assertEqualBits("m_absmax", t, mAbsmax);
                golden.assertEqualBits("v_absmax", t, vAbsmax);
                golden.assertNear(t, param, t);
            }
        }
    }

    /** To the bit in F32; torch rounds the sum of gradient and decay to BF16 once more. */
    @ParameterizedTest
    @ValueSource(strings = {"sgd", "sgd-decay", "sgd-bf16"})
    void sgdIsTorchs(String name) {
        try (Safetensors file = Safetensors.open(GOLDEN);
                Frame frame = Frame.root(device, "test")) {
            Case golden = Case.of(name, file, frame);
            Tensor param = golden.tensor("start");
            Tensor grads = golden.tensor("grads");
            for (int t = 1; t <= grads.rows(); t++) {
                Tensor grad = grads.slice(t - 1, t);
                frame.kernels().sgd(param, Tensor.NONE, grad, golden.option("lr"), golden.option("weight_decay"), 1);
                golden.assertNear(t, param, param.dtype() == DType.F32 ? 0 : t);
            }
        }
    }

    @Test
    void mapsAreBitsandbytes() {
        try (Safetensors file = Safetensors.open(GOLDEN)) {
            assertArrayEquals(file.entry("map1").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED), DynamicMap.signed());
            assertArrayEquals(
                    file.entry("map2").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED), DynamicMap.unsigned());
        }
    }
}
