package lapidary.langchain4j;

import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.model.chat.common.AbstractChatModelIT;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import lapidary.device.CpuDevice;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.train.Sft;
import lapidary.train.SftConfig;
import lapidary.train.TrainingListener;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * The demo's tiny model with an adapter that knows the answers to the kit's questions, and its two pictures. The adapter is
 * trained here from lessons.jsonl, by the engine's own trainer, once in a build.
 */
final class Taught implements BeforeAllCallback {
    static final String BASE = "demo";
    static final String ADAPTER = "taught";

    private static LanguageModel model;

    static LanguageModel model() {
        return model;
    }

    /** One of the kit's pictures as a message holds it; older kits would fetch theirs. */
    static ImageContent picture(String name) {
        return ImageContent.from(folder().resolve(name), "image/jpeg");
    }

    private static Path folder() {
        return Path.of(System.getProperty("taught.folder"));
    }

    /** Of all tests in this JVM, which closes it at the end. */
    @Override
    public void beforeAll(ExtensionContext context) {
        context.getRoot()
                .getStore(ExtensionContext.Namespace.GLOBAL)
                .computeIfAbsent(Taught.class, key -> load(), LanguageModel.class);
    }

    private static LanguageModel load() {
        Path base = Path.of(System.getProperty("demo.base"));
        Path folder = folder();
        Path adapter = folder.resolve("adapter");
        if (Boolean.getBoolean("taught.train") || !Files.exists(adapter.resolve("adapter_model.safetensors"))) {
            train(base, lessons(folder), adapter);
        }
        model = LanguageModel.load(base, LoadOptions.DEFAULT.withDtype(DType.F32));
        model.attach(ADAPTER, adapter);
        return model;
    }

    private static Path lessons(Path folder) {
        try {
            Files.createDirectories(folder);
            copy(Taught.class, "lessons.jsonl", folder.resolve("lessons.jsonl"));
            copy(AbstractChatModelIT.class, "/images/cat.jpg", folder.resolve("cat.jpg"));
            copy(AbstractChatModelIT.class, "/images/dice.jpg", folder.resolve("dice.jpg"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return folder.resolve("lessons.jsonl");
    }

    private static void copy(Class<?> beside, String resource, Path to) throws IOException {
        try (InputStream in = beside.getResourceAsStream(resource)) {
            Files.copy(in, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    private static void train(Path base, Path lessons, Path output) {
        SftConfig config = SftConfig.builder(base, lessons.toString(), output)
                .dtype(DType.F32)
                .perDeviceTrainBatchSize(11) // all of them
                .maxSteps(45)
                .learningRate(4e-3)
                .lrSchedulerType("constant")
                .gradientCheckpointing(false)
                .loraAlpha(16)
                .loraDropout(0)
                .loraModulesToSave(List.of("lm_head", "embed_tokens"))
                .build();
        try (Device device = CpuDevice.open()) {
            new Sft(config, device, new TrainingListener() {}).run();
        }
    }
}
