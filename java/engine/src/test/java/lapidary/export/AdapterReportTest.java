package lapidary.export;

import static lapidary.export.Fixtures.GOLDEN;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import lapidary.device.Device;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.gemma3.PeftAdapter;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class AdapterReportTest {
    private static final Path INIT = GOLDEN.resolve("multimodal/init");

    private final Device device;

    @TempDir
    private Path folder;

    AdapterReportTest(Device device) {
        this.device = device;
    }

    @AfterEach
    void thePoolIsEmpty() {
        assertEquals(0, device.pool().inUse());
    }

    private static Item zeros(TensorEntry entry) {
        return Item.of(entry.name(), entry.shape(), new float[(int) entry.elements()]);
    }

    private AdapterReport altered(String part, java.util.function.Function<TensorEntry, Item> change)
            throws IOException {
        return AdapterReport.of(
                Fixtures.adapter(
                        INIT,
                        folder.resolve("a"),
                        entry -> entry.name().contains(part) ? List.of(change.apply(entry)) : Fixtures.same(entry),
                        config -> {}),
                device);
    }

    @Test
    void namesEveryKindOfLayerAndWhoLoadsIt() {
        AdapterReport report = AdapterReport.of(INIT, device);
        String text = String.join("\n", report.lines());
        assertTrue(text.contains("LoRA on 53 layers, r 4, alpha 8, "), text);
        for (String kind :
                List.of("vision tower fc1: 3 layers", "decoder q_proj: 5 layers", "decoder down_proj: 5 layers")) {
            assertTrue(text.contains(kind), text);
        }
        assertTrue(text.contains("lm_head: trained whole, F32 [176, 56]"), text);
        assertTrue(text.contains("PEFT: loads it as it is"), text);
        assertTrue(text.contains("vLLM: does not load it: it trained lm_head and embed_tokens whole"), text);
        assertEquals(List.of(), report.problems());
    }

    /** Against the product itself, in double. */
    @ParameterizedTest
    @ValueSource(strings = {"init", "rslora", "patterns"})
    void theNormIsThatOfTheChange(String name) {
        Path adapter = GOLDEN.resolve("text").resolve(name);
        double squares = 0;
        int layers = 0;
        try (PeftAdapter opened = PeftAdapter.open(adapter);
                Safetensors file = Safetensors.open(adapter.resolve(PeftAdapter.MODEL_FILE))) {
            for (PeftAdapter.Pair pair : opened.pairs()) {
                if (!pair.module().endsWith(".o_proj")) {
                    continue;
                }
                layers++;
                float[] a = Fixtures.floats(file.entry("base_model.model." + pair.module() + ".lora_A.weight"));
                float[] b = Fixtures.floats(file.entry("base_model.model." + pair.module() + ".lora_B.weight"));
                int r = (int) pair.a().shape()[0];
                int in = (int) pair.a().shape()[1];
                double scaling = name.equals("rslora") ? 3 / Math.sqrt(4) : name.equals("init") ? 2 : 0;
                if (name.equals("patterns")) { // the first that matches, in the order of the file
                    scaling = (pair.module().startsWith("model.layers.0.") ? 3 : 5.5) / 4;
                }
                for (int i = 0; i < b.length / r; i++) {
                    for (int j = 0; j < in; j++) {
                        double sum = 0;
                        for (int k = 0; k < r; k++) {
                            sum += (double) b[i * r + k] * a[k * in + j];
                        }
                        squares += scaling * scaling * sum * sum;
                    }
                }
            }
        }
        String expected = String.format(Locale.ROOT, "norm %.4g (mean square)", Math.sqrt(squares / layers));
        List<String> lines = AdapterReport.of(adapter, device).lines();
        assertTrue(
                lines.stream().anyMatch(line -> line.startsWith("decoder o_proj") && line.contains(expected)),
                expected + " in " + lines);
    }

    @Test
    void whatIsAllZeroIsNamed() throws IOException {
        String one = String.join(
                "\n",
                altered("layers.1.self_attn.q_proj.lora_B", AdapterReportTest::zeros)
                        .lines());
        assertTrue(one.contains("zero: "), one);
        assertTrue(one.contains("got no gradient"), one);
        String all =
                String.join("\n", altered("lora_B", AdapterReportTest::zeros).lines());
        assertTrue(all.contains("every adapter is all zero"), all);
        AdapterReport head = altered("lm_head", AdapterReportTest::zeros);
        assertEquals(List.of("lm_head is all zero: a model with it has no lm_head"), head.problems());
    }

    @ParameterizedTest
    @ValueSource(strings = {"layers.1.self_attn.q_proj.lora_A", "layers.1.self_attn.q_proj.lora_B", "embed_tokens"})
    void whatIsNotFiniteIsAProblem(String part) throws IOException {
        AdapterReport report = altered(part, entry -> Fixtures.with(entry, 3, Float.NaN));
        assertTrue(
                report.problems().get(0).contains("not finite"),
                report.problems().toString());
    }
}
