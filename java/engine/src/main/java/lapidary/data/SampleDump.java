package lapidary.data;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import lapidary.format.SafetensorsWriter;
import lapidary.format.SafetensorsWriter.Item;

/**
 * Samples in a safetensors file, as training gets them. Of each row i that is trained on: {@code sample.<i>.input_ids},
 * {@code .token_type_ids} and {@code .labels}, I64 [tokens], and of a model with images {@code .pixel_values}, F32
 * [views, 3, height, width]. Rows are made again while the file is written, so that one is in memory at a time.
 */
public final class SampleDump {
    private final Samples samples;
    private final Preflight.Findings findings;
    private int cachedRow = -1;
    private Sample cached;

    private SampleDump(Samples samples, Preflight.Findings findings) {
        this.samples = samples;
        this.findings = findings;
    }

    /**
     * Writes the accepted rows.
     *
     * @throws lapidary.format.FormatException the file cannot be written, or a row has changed meanwhile
     */
    public static void write(Path file, Samples samples, Preflight.Findings findings) {
        SampleDump dump = new SampleDump(samples, findings);
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < findings.accepted().length; i++) {
            dump.addTo(items, i, findings.views()[i]);
        }
        SafetensorsWriter.write(file, Map.of(), items);
    }

    private void addTo(List<Item> items, int i, int views) {
        int row = findings.accepted()[i];
        String name = "sample." + row + ".";
        items.add(numbers(name + "input_ids", row, findings.tokens()[i], Sample::inputIds));
        items.add(numbers(name + "token_type_ids", row, findings.tokens()[i], Sample::tokenTypeIds));
        items.add(numbers(name + "labels", row, findings.tokens()[i], Sample::labels));
        samples.view().ifPresent(view -> {
            long[] shape = {views, 3, view.height(), view.width()};
            items.add(new Item(name + "pixel_values", "F32", shape, out -> {
                if (views > 0) {
                    samples.load(row, true).pixels().forEach(each -> out.accept(MemorySegment.ofArray(each.values())));
                }
            }));
        });
    }

    private Item numbers(String name, int row, int tokens, Function<Sample, int[]> which) {
        return new Item(name, "I64", new long[] {tokens}, out -> {
            if (cachedRow != row) {
                cached = samples.sample(row);
                cachedRow = row;
            }
            int[] values = which.apply(cached);
            long[] wide = new long[values.length];
            for (int t = 0; t < wide.length; t++) {
                wide[t] = values[t];
            }
            out.accept(MemorySegment.ofArray(wide));
        });
    }
}
