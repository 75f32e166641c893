package lapidary.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Function;
import lapidary.format.Checkpoint;
import lapidary.format.Json;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;
import lapidary.format.TensorEntry;
import lapidary.gemma3.PeftAdapter;

/** Small checkpoints and adapters that Transformers and PEFT wrote, and changed copies of them. */
final class Fixtures {
    static final Path GOLDEN = Path.of("src/test/resources/golden");

    private Fixtures() {}

    static Item item(String name, TensorEntry entry) {
        return Item.of(name, entry.dtype(), entry.shape(), entry.data());
    }

    /** A copy of an adapter with tensors replaced, left out (empty list) or added by {@code change}. */
    static Path adapter(
            Path original, Path folder, Function<TensorEntry, List<Item>> change, Consumer<ObjectNode> config)
            throws IOException {
        Files.createDirectories(folder);
        try (Safetensors file = Safetensors.open(original.resolve(PeftAdapter.MODEL_FILE))) {
            List<Item> items = new ArrayList<>();
            file.entries().values().forEach(entry -> items.addAll(change.apply(entry)));
            SafetensorsWriter.write(folder.resolve(PeftAdapter.MODEL_FILE), Map.of("format", "pt"), items);
        }
        ObjectNode node = (ObjectNode)
                Json.read(original.resolve(PeftAdapter.CONFIG_FILE)).node();
        config.accept(node);
        Files.writeString(folder.resolve(PeftAdapter.CONFIG_FILE), node.toString());
        return folder;
    }

    /** An adapter that trained just these tables whole. */
    static Path saving(Path original, Path folder, List<String> modules) throws IOException {
        return adapter(
                original,
                folder,
                entry -> entry.name().contains(".lora_")
                                || modules.stream().anyMatch(m -> entry.name().endsWith(m + ".weight"))
                        ? List.of(item(entry.name(), entry))
                        : List.of(),
                config -> {
                    config.putNull("modules_to_save");
                    if (!modules.isEmpty()) {
                        var list = config.putArray("modules_to_save");
                        modules.forEach(list::add);
                    }
                });
    }

    /** A copy of a checkpoint with other tensors and another config. */
    static Path model(Path original, Path folder, Function<TensorEntry, List<Item>> change, Consumer<ObjectNode> config)
            throws IOException {
        Files.createDirectories(folder);
        try (Checkpoint checkpoint = Checkpoint.open(original)) {
            List<Item> items = new ArrayList<>();
            checkpoint.names().forEach(name -> items.addAll(change.apply(checkpoint.entry(name))));
            SafetensorsWriter.write(folder.resolve("model.safetensors"), Map.of("format", "pt"), items);
        }
        ObjectNode node =
                (ObjectNode) Json.read(original.resolve("config.json")).node();
        config.accept(node);
        Files.writeString(folder.resolve("config.json"), node.toString());
        return folder;
    }

    static List<Item> same(TensorEntry entry) {
        return List.of(item(entry.name(), entry));
    }

    static float[] floats(TensorEntry entry) {
        float[] values = new float[(int) entry.elements()];
        for (int i = 0; i < values.length; i++) {
            values[i] = entry.dtype().equals("F32")
                    ? entry.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i)
                    : Float.intBitsToFloat(entry.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
        }
        return values;
    }

    /** The same tensor with one value changed. */
    static Item with(TensorEntry entry, int index, float value) {
        float[] values = floats(entry);
        values[index] = value;
        return Item.of(entry.name(), entry.shape(), values);
    }

    /** The nearest BF16, ties to even. */
    static short bf16(double x) {
        int bits = Float.floatToRawIntBits((float) x);
        return (short) ((bits + 0x7fff + (bits >>> 16 & 1)) >>> 16);
    }

    static MemorySegment bytes(short[] values) {
        return MemorySegment.ofArray(values);
    }
}
