package lapidary.serve;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.TensorEntry;

/** The tiny model that the jar carries, adapters of it, and its pictures. */
final class Demo {
    static final Path BASE = Path.of("src/main/resources/lapidary/demo/base");
    static final Path ADAPTER = Path.of("src/test/resources/lapidary/infer/adapter");
    private static final String ENDS = "\"eos_token_id\": [\n    1,\n    11\n  ]";

    private Demo() {}

    static String picture(int i) throws IOException {
        byte[] bytes = Files.readAllBytes(Path.of("src/test/resources/lapidary/infer/pictures/" + i + ".png"));
        return "data:image/png;base64," + Base64.getEncoder().encodeToString(bytes);
    }

    /** A copy of the model in which no token ends an answer. */
    static Path endless(Path folder) throws IOException {
        Files.createDirectories(folder);
        try (Stream<Path> files = Files.list(BASE)) {
            for (Path file : files.toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        for (String name : List.of("config.json", "generation_config.json")) {
            String text = Files.readString(folder.resolve(name));
            if (!text.contains(ENDS)) {
                throw new IllegalStateException(name + " has no " + ENDS);
            }
            Files.writeString(folder.resolve(name), text.replace(ENDS, "\"eos_token_id\": []"));
        }
        return folder;
    }

    /** The adapter with what it adds turned into its opposite: one that answers otherwise. */
    static Path opposite(Path folder) throws IOException {
        Files.createDirectories(folder);
        Files.copy(ADAPTER.resolve("adapter_config.json"), folder.resolve("adapter_config.json"));
        try (Safetensors file = Safetensors.open(ADAPTER.resolve("adapter_model.safetensors"))) {
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (String name : file.names()) {
                TensorEntry entry = file.entry(name);
                ByteBuffer bytes = ByteBuffer.allocateDirect(
                                Math.toIntExact(entry.data().byteSize()))
                        .order(ByteOrder.LITTLE_ENDIAN);
                bytes.put(entry.data().asByteBuffer()).flip();
                for (int at = 0; name.contains("lora_B") && at < bytes.limit(); at += Float.BYTES) {
                    bytes.putFloat(at, -bytes.getFloat(at));
                }
                items.add(SafetensorsWriter.Item.of(name, entry.dtype(), entry.shape(), MemorySegment.ofBuffer(bytes)));
            }
            SafetensorsWriter.write(folder.resolve("adapter_model.safetensors"), Map.of("format", "pt"), items);
        }
        return folder;
    }
}
