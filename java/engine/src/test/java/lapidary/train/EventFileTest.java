package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.format.Json;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What TensorBoard is given to read; bench/tensorboard has its own reader look at it. */
final class EventFileTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    private Path folder;

    /** A message: values of each field, numbers as bits. */
    private static Map<Integer, List<Object>> fields(byte[] message) {
        Map<Integer, List<Object>> fields = new TreeMap<>();
        ByteBuffer in = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN);
        while (in.hasRemaining()) {
            long key = varint(in);
            Object value =
                    switch ((int) key & 7) {
                        case 0 -> varint(in);
                        case 1 -> in.getDouble();
                        case 2 -> {
                            byte[] bytes = new byte[(int) varint(in)];
                            in.get(bytes);
                            yield bytes;
                        }
                        case 5 -> in.getFloat();
                        default -> throw new AssertionError("wire type " + (key & 7));
                    };
            fields.computeIfAbsent((int) (key >> 3), k -> new ArrayList<>()).add(value);
        }
        return fields;
    }

    private static long varint(ByteBuffer in) {
        long value = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = in.get();
            value |= (long) (next & 0x7F) << shift;
            if (next >= 0) {
                return value;
            }
        }
    }

    private static byte[] bytes(Map<Integer, List<Object>> message, int field) {
        return (byte[]) message.get(field).get(0);
    }

    private static String text(Map<Integer, List<Object>> message, int field) {
        return new String(bytes(message, field), StandardCharsets.UTF_8);
    }

    /** CRC-32C from its polynomial, bit by bit. */
    private static int crc(byte[] data) {
        int crc = -1;
        for (byte each : data) {
            crc ^= each & 0xFF;
            for (int bit = 0; bit < 8; bit++) {
                crc = (crc >>> 1) ^ (0x82F63B78 & -(crc & 1));
            }
        }
        return ~crc;
    }

    private static List<Map<Integer, List<Object>>> events(Path file) throws IOException {
        List<Map<Integer, List<Object>>> events = new ArrayList<>();
        ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        while (in.hasRemaining()) {
            byte[] length = new byte[8];
            in.get(length);
            assertEquals(masked(crc(length)), in.getInt());
            byte[] data = new byte
                    [Math.toIntExact(ByteBuffer.wrap(length)
                            .order(ByteOrder.LITTLE_ENDIAN)
                            .getLong())];
            in.get(data);
            assertEquals(masked(crc(data)), in.getInt());
            events.add(fields(data));
        }
        return events;
    }

    private static int masked(int crc) {
        return ((crc >>> 15) | (crc << 17)) + 0xa282ead8;
    }

    /** By tag, values by step, as TensorBoard shows them: what comes after a start drops what was there of its steps. */
    private static Map<String, Map<Long, Float>> scalars(Path runs) throws IOException {
        Map<String, Map<Long, Float>> scalars = new TreeMap<>();
        for (Path file : files(runs)) {
            for (Map<Integer, List<Object>> event : events(file)) {
                long step = event.containsKey(2) ? (long) event.get(2).get(0) : 0;
                if (event.containsKey(7)) {
                    assertEquals(1L, fields(bytes(event, 7)).get(1).get(0));
                    scalars.values().forEach(values -> values.keySet().removeIf(at -> at >= step));
                }
                if (event.containsKey(5)) {
                    for (Object value : fields(bytes(event, 5)).get(1)) {
                        Map<Integer, List<Object>> scalar = fields((byte[]) value);
                        if (scalar.containsKey(2)) {
                            Float before = scalars.computeIfAbsent(text(scalar, 1), tag -> new TreeMap<>())
                                    .put(step, (Float) scalar.get(2).get(0));
                            assertTrue(before == null || text(scalar, 1).equals("train/epoch"), text(scalar, 1));
                        }
                    }
                }
            }
        }
        return scalars;
    }

    /** In the order in which TensorBoard reads them. */
    private static List<Path> files(Path runs) throws IOException {
        try (Stream<Path> files = Files.walk(runs)) {
            return files.filter(Files::isRegularFile).sorted().toList();
        }
    }

    /** RFC 3720, B.4, and the twelve bytes that every event file of TensorFlow begins with. */
    @Test
    void checksumsAreThoseOfKnownBytes() {
        byte[] ascending = new byte[32];
        for (int i = 0; i < 32; i++) {
            ascending[i] = (byte) i;
        }
        byte[] ones = new byte[32];
        Arrays.fill(ones, (byte) -1);
        Map<byte[], Integer> known = new LinkedHashMap<>();
        known.put(new byte[32], 0x8a9136aa);
        known.put(ones, 0x62a8ab43);
        known.put(ascending, 0x46dd794e);
        known.put("123456789".getBytes(StandardCharsets.US_ASCII), 0xe3069283);
        known.forEach((bytes, crc) -> {
            assertEquals(crc, crc(bytes));
            assertEquals(masked(crc), EventFile.maskedCrc(bytes, bytes.length));
        });
        byte[] record = EventFile.record(new byte[24]);
        assertEquals("1800000000000000a37f4b22", HexFormat.of().formatHex(record, 0, 12));
        assertEquals(24 + 16, record.length);
    }

    @Test
    void namesFollowOneAnotherWhateverTheClockSays() throws IOException {
        Path later = Files.createFile(folder.resolve("events.out.tfevents.4000000000.host.1.0"));
        EventFile.open(folder, 1).close();
        EventFile.open(folder, 1).close();
        List<Path> files = files(folder);
        assertEquals(3, files.size());
        assertEquals(later, files.get(0));
        assertTrue(files.get(1).getFileName().toString().startsWith("events.out.tfevents.4000000001."));
        assertTrue(files.get(2).getFileName().toString().startsWith("events.out.tfevents.4000000002."));
    }

    private SftConfig.Builder config(String output) throws IOException {
        Path rows = Files.writeString(
                folder.resolve("rows.jsonl"),
                "{\"messages\":[{\"role\":\"user\",\"content\":\"what shape\"},{\"role\":\"assistant\",\"content\":\"square\"}]}\n"
                        .repeat(4));
        return SftConfig.builder(MODEL, rows.toString(), folder.resolve(output))
                .perDeviceTrainBatchSize(1)
                .maxSteps(4)
                .loggingSteps(1)
                .learningRate(1e-3)
                .loraR(2)
                .loraTargetModules(List.of("q_proj"))
                .evaluation(new EvalOptions(
                        EvalOptions.Strategy.STEPS, rows.toString(), "train", 2, 2, false, "", null, 0, 0))
                .reporting(ReportOptions.TENSORBOARD);
    }

    private TrainingReport run(SftConfig config, int stopAfter) {
        try (Device device = CpuDevice.open()) {
            Sft[] sft = new Sft[1];
            sft[0] = new Sft(config, device, new TrainingListener() {
                @Override
                public void onStep(int step, int maxSteps, double loss) {
                    if (step == stopAfter) {
                        sft[0].stop();
                    }
                }
            });
            return sft[0].run();
        }
    }

    @Test
    void aRunHasTransformersTagsAndTexts() throws IOException {
        run(config("out").build(), -1);
        List<Path> files = files(folder.resolve("out/runs"));
        assertEquals(1, files.size());
        assertTrue(
                files.get(0)
                        .getParent()
                        .getFileName()
                        .toString()
                        .matches("[A-Z][a-z]{2}\\d\\d_\\d\\d-\\d\\d-\\d\\d_.+"),
                files.toString());
        List<Map<Integer, List<Object>>> events = events(files.get(0));
        assertEquals("brain.Event:2", text(events.get(0), 3));
        double now = System.currentTimeMillis() / 1e3;
        for (Map<Integer, List<Object>> event : events) {
            assertEquals(now, (double) event.get(1).get(0), 600);
        }
        Map<String, String> texts = new TreeMap<>();
        for (Map<Integer, List<Object>> event : events.subList(2, 4)) {
            Map<Integer, List<Object>> value = fields(bytes(fields(bytes(event, 5)), 1));
            Map<Integer, List<Object>> tensor = fields(bytes(value, 8));
            assertEquals(7L, tensor.get(1).get(0)); // DT_STRING
            texts.put(text(value, 1), text(tensor, 8));
            assertEquals("text", text(fields(bytes(fields(bytes(value, 9)), 1)), 1));
        }
        assertEquals(Set.of("args/text_summary", "model_config/text_summary"), texts.keySet());
        assertEquals(
                1e-3,
                Json.parse("args", texts.get("args/text_summary"))
                        .get("learning_rate")
                        .number());
        assertEquals(Files.readString(MODEL.resolve("config.json")), texts.get("model_config/text_summary"));

        Map<String, Map<Long, Float>> scalars = scalars(folder.resolve("out/runs"));
        JsonNode history = Json.read(folder.resolve("out/trainer_state.json"))
                .get("log_history")
                .node();
        int checked = 0;
        for (JsonNode entry : history) {
            for (Map.Entry<String, JsonNode> field : entry.properties()) {
                String name = field.getKey();
                if (!name.equals("step")) {
                    String tag = name.startsWith("eval_") ? "eval/" + name.substring(5) : "train/" + name;
                    assertTrue(scalars.containsKey(tag), tag);
                    assertEquals(
                            field.getValue().floatValue(),
                            scalars.get(tag).get(entry.get("step").longValue()),
                            tag);
                    checked++;
                }
            }
        }
        assertTrue(checked > 40, "checked " + checked);
        assertEquals(Set.of(2L, 4L), scalars.get("eval/loss").keySet());
        assertEquals(Set.of(4L), scalars.get("train/train_runtime").keySet());
    }

    @Test
    void aRunThatIsGoneOnWithReadsAsOne() throws IOException {
        run(config("whole").build(), -1);
        SaveOptions saving = new SaveOptions(SaveOptions.Strategy.STEPS, 2, 0, "true");
        assertTrue(run(config("parts").saving(saving).build(), 3).stopped());
        Path lost = folder.resolve("parts/checkpoint-3"); // as if killed at once after step 3, which the file tells of
        Files.move(lost, folder.resolve("lost"));
        run(config("parts").saving(saving).build(), -1);
        assertEquals(2, files(folder.resolve("parts/runs")).size());
        try (Stream<Path> runs = Files.list(folder.resolve("parts/runs"))) {
            assertEquals(1, runs.count());
        }
        Map<String, Map<Long, Float>> whole = scalars(folder.resolve("whole/runs"));
        Map<String, Map<Long, Float>> parts = scalars(folder.resolve("parts/runs"));
        assertEquals(whole.keySet(), parts.keySet());
        for (String tag : List.of("train/loss", "train/grad_norm", "train/learning_rate", "eval/loss", "train/epoch")) {
            assertEquals(whole.get(tag), parts.get(tag), tag);
        }
    }

    /** Curves of two runs would lie over each other, and checkpoints of two runs would be gone on from in turns. */
    @Test
    void whatIsOverwrittenIsWhatThisProgramWrote() throws IOException {
        run(
                config("out")
                        .saving(new SaveOptions(SaveOptions.Strategy.STEPS, 2, 0, ""))
                        .build(),
                -1);
        Path out = folder.resolve("out");
        Path earlier =
                out.resolve("runs/earlier"); // the next run could begin within the same second, and so have its names
        Files.move(files(out.resolve("runs")).get(0).getParent(), earlier);
        Path old = earlier.resolve("events.out.tfevents.1600000000.host.1.0");
        Files.move(files(earlier).get(0), old);
        Files.writeString(old.resolveSibling("notes.txt"), "mine");
        Path mine = out.resolve("runs/mine/events.out.tfevents.1700000000.host.1.0");
        Files.createDirectories(mine.getParent());
        byte[] version = {0x1a, 13, 'b', 'r', 'a', 'i', 'n', '.', 'E', 'v', 'e', 'n', 't', ':', '2'};
        Files.write(mine, EventFile.record(version));
        Path cut = Files.write(mine.resolveSibling("events.out.tfevents.1700000001.host.1.0"), new byte[7]);
        Path deeper = out.resolve("sub/runs/then").resolve(old.getFileName()); // another run's
        Files.createDirectories(deeper.getParent());
        Files.copy(old, deeper);
        Files.createDirectories(out.resolve("checkpoint-99"));
        SftConfig again = config("out")
                .saving(new SaveOptions(SaveOptions.Strategy.STEPS, 3, 0, ""))
                .build();
        SftConfig bad = SftConfig.builder(MODEL, folder.resolve("nowhere.jsonl").toString(), out)
                .build();
        try (Device device = CpuDevice.open()) {
            assertThrows(FormatException.class, () -> new Sft(bad, device, TrainingListener.SILENT)
                    .overwriting()
                    .run());
            assertTrue(Files.exists(old) && Files.exists(out.resolve("checkpoint-2")), "it has not begun");
            new Sft(again, device, TrainingListener.SILENT).overwriting().run();
        }
        assertFalse(Files.exists(old));
        for (Path kept : List.of(old.resolveSibling("notes.txt"), mine, cut, deeper, out.resolve("checkpoint-99"))) {
            assertTrue(Files.exists(kept), kept.toString());
        }
        assertFalse(Files.exists(out.resolve("checkpoint-2")));
        assertTrue(Files.exists(out.resolve("checkpoint-3")));
        try (Stream<Path> runs = Files.list(out.resolve("runs"))) {
            assertEquals(3, runs.count(), "the notes', mine and the new one's");
        }
    }

    @Test
    void theFolderMayBeGiven() throws IOException {
        Path events = folder.resolve("a/b");
        run(config("out").reporting(new ReportOptions(true, events)).build(), -1);
        assertEquals(1, files(events).size());
        assertFalse(Files.exists(folder.resolve("out/runs")));
        run(config("none").reporting(ReportOptions.NONE).build(), -1);
        assertFalse(Files.exists(folder.resolve("none/runs")));
    }

    @Test
    void aFileThatTakesNothingIsToldBeforeTraining() {
        Path full = Path.of("/dev/full");
        assumeTrue(Files.exists(full));
        FormatException e = assertThrows(FormatException.class, () -> EventFile.begin(full, 1));
        assertEquals(
                "cannot write " + full + ": No space left on device; free some space or write to another disk",
                e.getMessage());
    }

    /** The log of a full disk waits, as metrics.jsonl does. */
    @Test
    void aPieceThatFindsNoRoomWaits() throws IOException {
        Path full = Path.of("/dev/full");
        assumeTrue(Files.exists(full));
        Path link = Files.createSymbolicLink(folder.resolve("log"), full);
        try (GrowingFile file = new GrowingFile(link)) {
            String why = file.append(new byte[] {1}).orElseThrow();
            assertEquals(
                    "cannot write " + link + ": No space left on device; free some space or write to another disk",
                    why);
            assertTrue(file.append(new byte[] {2}).isEmpty()); // told once
            FormatException e = assertThrows(FormatException.class, file::finish);
            assertTrue(e.getMessage().endsWith("; the adapter is saved"), e.getMessage());
        }
        Path log = folder.resolve("other");
        try (GrowingFile file = new GrowingFile(log)) {
            assertTrue(file.append(new byte[] {1}).isEmpty());
            assertTrue(file.append(new byte[] {2, 3}).isEmpty());
            file.finish();
        }
        assertArrayEquals(new byte[] {1, 2, 3}, Files.readAllBytes(log));
    }
}
