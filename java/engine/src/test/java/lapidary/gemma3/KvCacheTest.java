package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import lapidary.DeviceTest;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.image.FloatPixels;
import lapidary.image.Pixels;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * With a cache and without, the same logits. The multimodal model's window (6) is shorter than its images (16); its sequences
 * here are long enough for the rings (262) to come round.
 */
@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#all")
final class KvCacheTest extends DeviceTest {
    private static final int SOFT = 171;
    private static final int IMAGE = 16; // tokens
    private static final int TEXT_IDS = 160;

    KvCacheTest(Device device) {
        super(device);
    }

    private Gemma3 model(String name, DType dtype) {
        return Gemma3.load(Path.of("src/test/resources/golden").resolve(name), device, dtype, null, 0);
    }

    /** A random sequence; {@code images} says where images begin. */
    private static PackedBatch.Row row(int seed, int tokens, int... images) {
        Random random = new Random(seed);
        int[] ids = random.ints(tokens, 14, TEXT_IDS).toArray();
        int[] types = new int[tokens];
        List<Pixels> pixels = new ArrayList<>();
        for (int at : images) {
            Arrays.fill(ids, at, at + IMAGE, SOFT);
            Arrays.fill(types, at, at + IMAGE, 1);
            float[] image = new float[3 * 56 * 56];
            for (int i = 0; i < image.length; i++) {
                image[i] = (float) random.nextGaussian();
            }
            pixels.add(new FloatPixels(image));
        }
        return new PackedBatch.Row(ids, types, pixels);
    }

    /** Logits of every token, the whole sequence in one pass. */
    private float[][] without(Gemma3 model, PackedBatch.Row row) {
        try (Frame pass = model.frame().child("without")) {
            Tape tape = Tape.notRecording(pass);
            Tensor features = row.pixels().isEmpty() ? Tensor.NONE : model.imageFeatures(tape, row.pixels());
            Tensor hidden = model.forward(
                    tape,
                    PackedBatch.of(List.of(new PackedBatch.Row(row.ids(), row.tokenTypes(), List.of()))),
                    features);
            float[][] logits = new float[row.ids().length][];
            for (int t = 0; t < logits.length; t++) {
                logits[t] = logits(pass, model, hidden.slice(t, t + 1));
            }
            return logits;
        }
    }

    private static float[] logits(Frame pass, Gemma3 model, Tensor hidden) {
        Tensor logits = pass.empty(DType.F32, hidden.rows(), model.lmHead().rows());
        pass.gemm().linear(logits, hidden, model.lmHead(), Tensor.NONE);
        return logits.toFloats();
    }

    /** Logits of the last token of what is read; images are whole in it. */
    private static float[] read(Gemma3 model, KvCache cache, PackedBatch.Row row, int to) {
        int from = cache.length();
        int[] types = Arrays.copyOfRange(row.tokenTypes(), from, to);
        int before = images(row, from);
        List<? extends Pixels> pixels = row.pixels().subList(before, images(row, to));
        try (Frame pass = model.frame().child("read")) {
            Tensor features = pixels.isEmpty() ? Tensor.NONE : model.imageFeatures(Tape.notRecording(pass), pixels);
            Tensor hidden = model.read(pass, cache, Arrays.copyOfRange(row.ids(), from, to), types, features);
            return logits(pass, model, hidden);
        }
    }

    private static int images(PackedBatch.Row row, int end) {
        return Arrays.stream(row.tokenTypes(), 0, end).sum() / IMAGE;
    }

    private static float[][] decode(Gemma3 model, List<KvCache> caches, int... ids) {
        try (Frame pass = model.frame().child("decode")) {
            float[] logits = logits(pass, model, model.decode(pass, caches, ids));
            float[][] rows = new float[ids.length][];
            int vocab = logits.length / ids.length;
            for (int r = 0; r < rows.length; r++) {
                rows[r] = Arrays.copyOfRange(logits, r * vocab, (r + 1) * vocab);
            }
            return rows;
        }
    }

    /** Sums of some hundred terms in another order: F32 keeps 5 digits of logits up to 10, BF16 two. */
    private static void assertClose(float[] expected, float[] actual, DType dtype, String what) {
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], dtype == DType.F32 ? 2e-4 : 0.35, what + " logit " + i);
        }
    }

    @ParameterizedTest
    @CsvSource({
        "multimodal, F32, 1",
        "multimodal, F32, 7",
        "multimodal, F32, 64",
        "multimodal, F32, 1000",
        "multimodal, BF16, 64",
        "text, F32, 1",
        "text, F32, 33",
        "text, F32, 1000",
        "text, BF16, 33"
    })
    void logitsAreThoseWithoutACache(String name, DType dtype, int chunk) {
        int tokens = 640;
        PackedBatch.Row row = name.equals("text") ? row(1, tokens) : row(1, tokens, 5, 30, 47, 300, 420);
        try (Gemma3 model = model(name, dtype);
                KvCache cache = model.newCache()) {
            float[][] expected = without(model, row);
            while (cache.length() < 500) {
                int to = Math.min(500, cache.length() + chunk);
                while (row.tokenTypes()[to] == 1 && row.tokenTypes()[to - 1] == 1) {
                    to++;
                }
                assertClose(expected[to - 1], read(model, cache, row, to), dtype, "read up to " + to);
            }
            for (int t = 500; t < tokens; t++) {
                assertClose(expected[t], decode(model, List.of(cache), row.ids()[t])[0], dtype, "decode " + t);
            }
            assertEquals(tokens, cache.length());
        }
    }

    /** A token that sees itself alone on sliding layers, and one that sees one more. */
    @ParameterizedTest
    @CsvSource({"multimodal, 1", "multimodal, 2", "text, 1"})
    void theSmallestWindows(String name, int window, @TempDir Path folder) throws IOException {
        try (Stream<Path> files = Files.list(Path.of("src/test/resources/golden", name))) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        Path config = folder.resolve("config.json");
        String text = Files.readString(config);
        String changed = text.replaceAll("\"sliding_window\": \\d+", "\"sliding_window\": " + window);
        assertNotEquals(text, changed);
        Files.writeString(config, changed);
        PackedBatch.Row row = name.equals("text") ? row(1, 320) : row(1, 320, 5, 47);
        try (Gemma3 model = Gemma3.load(folder, device, DType.F32, null, 0);
                KvCache cache = model.newCache()) {
            float[][] expected = without(model, row);
            for (int to : new int[] {30, 100}) {
                assertClose(expected[to - 1], read(model, cache, row, to), DType.F32, "read up to " + to);
            }
            for (int t = 100; t < row.ids().length; t++) {
                assertClose(expected[t], decode(model, List.of(cache), row.ids()[t])[0], DType.F32, "decode " + t);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"multimodal, F32", "text, BF16"})
    void decodingTogetherGivesTheBitsOfDecodingAlone(String name, DType dtype) {
        int[] lengths = {3, 280, 40, 1, 90};
        try (Gemma3 model = model(name, dtype)) {
            List<KvCache> together = new ArrayList<>();
            List<KvCache> alone = new ArrayList<>();
            for (int i = 0; i < lengths.length; i++) {
                for (List<KvCache> caches : List.of(together, alone)) {
                    caches.add(model.newCache());
                    read(model, caches.get(i), row(i, 300), lengths[i]);
                }
            }
            Random random = new Random(7);
            for (int step = 0; step < 20; step++) {
                int[] ids = random.ints(lengths.length, 14, TEXT_IDS).toArray();
                float[][] all = decode(model, together, ids);
                for (int i = 0; i < ids.length; i++) {
                    assertArrayEquals(decode(model, List.of(alone.get(i)), ids[i])[0], all[i], "sequence " + i);
                }
            }
            together.forEach(KvCache::close);
            alone.forEach(KvCache::close);
        }
    }

    @Test
    void whatIsTakenBackIsForgotten() {
        PackedBatch.Row row = row(2, 700, 20);
        try (Gemma3 model = model("multimodal", DType.F32);
                KvCache cache = model.newCache()) {
            float[][] expected = without(model, row);
            read(model, cache, row, 200);
            assertTrue(cache.truncate(100), "nothing is overwritten yet");
            assertClose(expected[149], read(model, cache, row, 150), DType.F32, "after 100");
            read(model, cache, row, 600);
            assertFalse(cache.truncate(100), "the ring has come round");
            assertEquals(600, cache.length());
            assertTrue(cache.truncate(400), "256 tokens are kept beyond the window");
            assertClose(expected[400], decode(model, List.of(cache), row.ids()[400])[0], DType.F32, "after 400");
            assertClose(expected[649], read(model, cache, row, 650), DType.F32, "after 401");
            assertFalse(cache.truncate(650 - 300));
        }
    }

    @Test
    void whatIsOverwrittenStaysLostWhenMoreIsTakenBack() {
        PackedBatch.Row row = row(3, 300);
        try (Gemma3 model = model("multimodal", DType.F32);
                KvCache cache = model.newCache()) {
            read(model, cache, row, 300); // the ring of 262 has lost the first 38
            assertTrue(cache.truncate(50), "the token after 50 sees 5 of them, which are held");
            assertFalse(cache.truncate(20), "the token after 20 sees some of the first 38");
        }
    }

    /** Before the rings have come round and after; neither the copy nor the first knows what the other reads. */
    @ParameterizedTest
    @CsvSource({"200, 150", "200, 200", "600, 450", "300, 50"})
    void aCopyGoesOnByItself(int tokens, int copied) {
        PackedBatch.Row row = row(4, 700, 20);
        PackedBatch.Row other = row(5, 700, 20);
        System.arraycopy(row.ids(), 0, other.ids(), 0, copied);
        other = new PackedBatch.Row(other.ids(), other.tokenTypes(), row.pixels());
        try (Gemma3 model = model("multimodal", DType.F32);
                KvCache cache = model.newCache()) {
            float[][] expected = without(model, row);
            float[][] others = without(model, other);
            read(model, cache, row, tokens);
            try (KvCache copy = cache.copy(copied)) {
                assertEquals(copied, copy.length());
                assertClose(others[copied], decode(model, List.of(copy), other.ids()[copied])[0], DType.F32, "copy");
                assertClose(others[649], read(model, copy, other, 650), DType.F32, "copy, further");
                assertClose(expected[tokens], decode(model, List.of(cache), row.ids()[tokens])[0], DType.F32, "first");
                assertClose(expected[649], read(model, cache, row, 650), DType.F32, "first, further");
                assertFalse(copy.truncate(20), "as lost as in the first");
            }
            assertNull(cache.copy(20), "overwritten");
        }
    }

    /** However they came, so many tokens take so much memory. */
    @Test
    void memoryDependsOnTokensAlone() {
        PackedBatch.Row row = row(6, 300);
        try (Gemma3 model = model("text", DType.F32)) {
            long empty = device.pool().inUse();
            long once = 0;
            for (int chunk : new int[] {270, 30, 70}) {
                device.pool().trim(); // or it might hand out what it has, up to an eighth larger
                try (KvCache cache = model.newCache()) {
                    while (cache.length() < 270) {
                        read(model, cache, row, Math.min(270, cache.length() + chunk));
                        device.pool().trim();
                    }
                    long held = device.pool().inUse() - empty;
                    once = once == 0 ? held : once;
                    assertEquals(once, held, "in pieces of " + chunk);
                }
            }
        }
    }
}
