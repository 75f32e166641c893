package lapidary.infer;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import lapidary.format.Safetensors;
import lapidary.format.SafetensorsWriter;
import lapidary.format.TensorEntry;

/** The demo's adapter, spoilt. */
final class BrokenAdapters {
    private BrokenAdapters() {}

    /** @param how {@code rank}: its config says another rank; {@code partial}: one B is left out */
    static void write(String how, Path folder) throws IOException {
        String config = Files.readString(DemoModel.ADAPTER.resolve("adapter_config.json"));
        Files.writeString(
                folder.resolve("adapter_config.json"),
                how.equals("rank") ? config.replace("\"r\": 16", "\"r\": 8") : config);
        try (Safetensors file = Safetensors.open(DemoModel.ADAPTER.resolve("adapter_model.safetensors"))) {
            List<SafetensorsWriter.Item> items = new ArrayList<>();
            for (String name : file.names()) {
                TensorEntry entry = file.entry(name);
                if (!how.equals("partial") || !name.contains("layers.3.mlp.up_proj.lora_B")) {
                    items.add(SafetensorsWriter.Item.of(name, entry.dtype(), entry.shape(), entry.data()));
                }
            }
            SafetensorsWriter.write(folder.resolve("adapter_model.safetensors"), Map.of("format", "pt"), items);
        }
    }
}
