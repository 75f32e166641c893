package lapidary.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import lapidary.device.AdamwStep;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.TensorEntry;
import lapidary.tensor.Frame;
import lapidary.tensor.Shape;
import lapidary.tensor.Tensor;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Steps of torch's fused AdamW, from {@code bench/reference/adamw_golden.py}: equal to the bit on a CPU. */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
record AdamwGoldenTest(Device device) {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/optim/adamw.safetensors");

    private static Tensor tensor(Frame frame, TensorEntry entry) {
        return frame.upload(
                entry.data(), entry.dtype().equals("F32") ? DType.F32 : DType.BF16, Shape.of(entry.shape()));
    }

    @ParameterizedTest
    @ValueSource(strings = {"f32", "f32-decay", "f32-betas", "bf16", "bf16-decay"})
    void everyStepIsTorchs(String name) {
        try (Safetensors file = Safetensors.open(GOLDEN);
                Frame frame = Frame.root(device, "test")) {
            JsonNode options = Json.parse(name, file.metadata().get(name)).node();
            double beta1 = options.path("betas").path(0).doubleValue();
            double beta2 = options.path("betas").path(1).doubleValue();
            Tensor param = tensor(frame, file.entry(name + ".start"));
            Tensor m = frame.zeros(param.dtype(), param.elements());
            Tensor v = frame.zeros(param.dtype(), param.elements());
            Tensor grads = tensor(frame, file.entry(name + ".grads"));
            Tensor params = tensor(frame, file.entry(name + ".param"));
            Tensor expAvg = tensor(frame, file.entry(name + ".exp_avg"));
            Tensor expAvgSq = tensor(frame, file.entry(name + ".exp_avg_sq"));
            for (int t = 1; t <= grads.rows(); t++) {
                AdamwStep step = new AdamwStep(
                        options.path("lr").doubleValue(),
                        beta1,
                        beta2,
                        options.path("eps").doubleValue(),
                        options.path("weight_decay").doubleValue(),
                        1 - Math.pow(beta1, t),
                        1 - Math.pow(beta2, t),
                        1);
                frame.kernels().adamw(param, Tensor.NONE, m, v, grads.slice(t - 1, t), step);
                String when = name + ", step " + t + ", ";
                assertArrayEquals(expAvg.slice(t - 1, t).toFloats(), m.toFloats(), when + "exp_avg");
                assertArrayEquals(expAvgSq.slice(t - 1, t).toFloats(), v.toFloats(), when + "exp_avg_sq");
                assertArrayEquals(params.slice(t - 1, t).toFloats(), param.toFloats(), when + "parameter");
            }
        }
    }
}
