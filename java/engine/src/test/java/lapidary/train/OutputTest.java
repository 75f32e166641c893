package lapidary.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import lapidary.device.CpuDevice;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.format.Safetensors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What becomes of a run's results where its folder does not take them. */
class OutputTest {
    private static final Path FULL = Path.of("/dev/full"); // writing there fails as on a disk that is full

    @TempDir
    Path dir;

    private final List<String> notices = new ArrayList<>();

    private void train(Path output, IntConsumer onStep) throws IOException {
        Path rows = Files.writeString(
                dir.resolve("rows.jsonl"),
                "{\"messages\":[{\"role\":\"user\",\"content\":\"what shape\"},{\"role\":\"assistant\",\"content\":\"square\"}]}\n"
                        .repeat(4));
        SftConfig config = SftConfig.builder(Path.of("src/main/resources/lapidary/demo/base"), rows.toString(), output)
                .perDeviceTrainBatchSize(1)
                .gradientAccumulationSteps(1)
                .maxSteps(3)
                .loggingSteps(1)
                .loraTargetModules(List.of("q_proj"))
                .build();
        TrainingListener listener = new TrainingListener() {
            @Override
            public void onNotice(String line) {
                notices.add(line);
            }

            @Override
            public void onStep(int step, int maxSteps, double loss) {
                onStep.accept(step);
            }
        };
        try (Device device = CpuDevice.open()) {
            new Sft(config, device, listener).run();
        }
    }

    @Test
    void aFullDiskStopsTheMetricsButNotTheTraining() throws IOException {
        assumeTrue(Files.exists(FULL));
        Path output = Files.createDirectories(dir.resolve("out"));
        Path metrics = Files.createSymbolicLink(output.resolve("metrics.jsonl"), FULL);
        List<Integer> steps = new ArrayList<>();
        String message = assertThrows(FormatException.class, () -> train(output, steps::add))
                .getMessage();
        String why = "cannot write " + metrics + ": No space left on device; free some space";
        assertTrue(message.startsWith(why), message);
        assertTrue(message.endsWith("; the adapter is saved"), message);
        assertEquals(List.of(1, 2, 3), steps);
        assertEquals(1, notices.stream().filter(each -> each.startsWith(why)).count(), notices.toString());
        assertReadable(output);
    }

    @Test
    void anAdapterThatCannotBeSavedIsSavedElsewhere() throws IOException {
        Path output = dir.resolve("out");
        String message = assertThrows(FormatException.class, () -> train(output, step -> block(output, step)))
                .getMessage();
        assertTrue(message.startsWith("cannot write " + output), message);
        Matcher second = Pattern.compile("; the trained adapter was saved to (\\S+) instead")
                .matcher(message);
        assertTrue(second.find(), message);
        Path elsewhere = Path.of(second.group(1));
        try {
            assertReadable(elsewhere);
            assertTrue(Files.exists(elsewhere.resolve("trainer_state.json")));
        } finally {
            try (Stream<Path> files = Files.list(elsewhere)) {
                for (Path file : files.toList()) {
                    Files.delete(file);
                }
            }
            Files.delete(elsewhere);
        }
    }

    /** What a run may find in its way when it is done. */
    private static void block(Path output, int step) {
        try {
            if (step == 2) {
                Files.createDirectory(output.resolve("adapter_model.safetensors"));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void assertReadable(Path adapter) {
        try (Safetensors file = Safetensors.open(adapter.resolve("adapter_model.safetensors"))) {
            assertFalse(file.names().isEmpty());
        }
        assertTrue(Files.exists(adapter.resolve("adapter_config.json")));
    }

    /** Not even the superuser makes a folder there. */
    @Test
    void aReadOnlyPlaceIsToldBeforeTraining() {
        Path nowhere = Path.of("/proc/self/lapidary");
        assumeTrue(Files.isDirectory(nowhere.getParent()));
        String message =
                assertThrows(FormatException.class, () -> Output.open(nowhere)).getMessage();
        assertTrue(message.startsWith("--output_dir " + nowhere + " cannot be written to: "), message);
        assertTrue(message.endsWith("; choose another --output_dir"), message);
    }

    @Test
    void aLinkToNowhereIsToldAsOne() throws IOException {
        Path link = Files.createSymbolicLink(dir.resolve("link"), dir.resolve("gone"));
        String message =
                assertThrows(FormatException.class, () -> Output.open(link)).getMessage();
        assertTrue(message.contains(": it is a link to what is not there; make that folder, or "), message);
    }

    @Test
    void aRunThatWroteNothingLeavesNoFolders() throws IOException {
        Path kept = Files.createDirectories(dir.resolve("kept"));
        Output.open(kept.resolve("a/b/c")).close();
        assertTrue(Files.exists(kept));
        assertFalse(Files.exists(kept.resolve("a")));
        Output output = Output.open(kept.resolve("a/b/c"));
        Files.createFile(kept.resolve("a/mine"));
        output.close();
        assertFalse(Files.exists(kept.resolve("a/b")));
        assertTrue(Files.exists(kept.resolve("a/mine")));
    }
}
