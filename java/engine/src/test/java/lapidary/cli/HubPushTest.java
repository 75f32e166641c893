package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import lapidary.format.AtomicFile;
import lapidary.hub.FakeHub;
import lapidary.hub.FakeRepo;
import lapidary.hub.Fault;
import lapidary.hub.Hub;
import lapidary.hub.HubListener;
import lapidary.hub.HubSettings;
import lapidary.hub.RepoId;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/** Checkpoints on their way to a Hub on this machine, while a run goes on or is to end. */
@Timeout(60)
final class HubPushTest {
    private static final String TOKEN = "hf_secretSECRETsecret";

    @TempDir
    private Path folder;

    private final FakeHub server = new FakeHub();
    private final CommandLine command = new CommandLine(CommandLine.Model.CommandSpec.create());
    private final StringWriter out = new StringWriter();
    private final List<String> told = Collections.synchronizedList(new ArrayList<>());
    private RepoId repo;

    @BeforeEach
    void create() {
        server.user(TOKEN, "someone");
        command.setOut(new PrintWriter(out));
        try (Hub hub = hub()) {
            repo = hub.create("someone/run", false);
        }
    }

    @AfterEach
    void stop() {
        server.close();
    }

    private Hub hub() {
        Map<String, String> environment = Map.of(
                "HF_ENDPOINT",
                server.endpoint().toString(),
                "HF_TOKEN",
                TOKEN,
                "HF_HOME",
                folder.resolve("hf").toString());
        return new Hub(HubSettings.of(environment, folder), HubListener.SILENT);
    }

    private HubPush push(HubPush.Strategy strategy, Duration grace) {
        return new HubPush(repo, strategy, command, this::hub, grace);
    }

    private Path checkpoint(int step) throws IOException {
        Path checkpoint = Files.createDirectories(folder.resolve("out/checkpoint-" + step));
        Files.writeString(checkpoint.resolve("adapter_model.safetensors"), "adapter " + step);
        Files.writeString(checkpoint.resolve("run_state.json"), "state " + step);
        return checkpoint;
    }

    private List<String> hidden() throws IOException {
        return EngineProcess.list(folder.resolve("out")).stream()
                .filter(name -> name.startsWith("."))
                .toList();
    }

    /** Attempts on a Hub that answers 503 would go on for most of a minute. */
    @Test
    void aRunThatIsStoppedWaitsForAHubOnlyForAWhile() throws IOException {
        server.faults.add(Fault.status("POST .*/commit", 99, 503, Map.of(), "busy"));
        FakeRepo.State before = server.repo("models/someone/run").head();
        HubPush push = push(HubPush.Strategy.ALL_CHECKPOINTS, Duration.ofMillis(300));
        push.saved(3, checkpoint(3), told::add);
        push.saved(6, checkpoint(6), told::add);
        push.stop();
        push.close();
        assertEquals(List.of(), told);
        List<String> lines = out.toString().lines().toList();
        assertEquals(2, lines.size(), out.toString());
        assertTrue(lines.get(0).startsWith("Waiting for the checkpoint that is being published, "), lines.get(0));
        assertTrue(
                lines.get(1).contains("step 3, 6") && lines.get(1).contains("safe in " + folder.resolve("out") + ","),
                lines.get(1));
        assertEquals(before, server.repo("models/someone/run").head());
        assertEquals(List.of(), hidden());
    }

    @Test
    void whatIsPublishedInTimeIsToldAndNoMore() throws IOException {
        HubPush push = push(HubPush.Strategy.EVERY_SAVE, Duration.ofSeconds(50));
        push.saved(3, checkpoint(3), told::add);
        push.stop();
        push.close();
        assertEquals(1, told.size(), told.toString());
        assertTrue(told.get(0).startsWith("step 3  published as "), told.get(0));
        assertFalse(out.toString().contains("Stopped before"), out.toString());
        assertEquals(List.of(), hidden());
    }

    /** The first is held up, so that both are removed before the second's turn comes. */
    @Test
    void aCheckpointThatIsRemovedMeanwhileIsPublishedStill() throws IOException {
        server.faults.add(Fault.status("POST .*/commit", 1, 503, Map.of(), "busy"));
        HubPush push = push(HubPush.Strategy.ALL_CHECKPOINTS, Duration.ofSeconds(50));
        for (int step : new int[] {1, 2}) {
            push.saved(step, checkpoint(step), told::add);
        }
        AtomicFile.deleteTree(folder.resolve("out/checkpoint-1"));
        AtomicFile.deleteTree(folder.resolve("out/checkpoint-2"));
        push.close();
        assertEquals(
                2, told.stream().filter(line -> line.contains("published as")).count(), told.toString());
        Map<String, byte[]> files = server.repo("models/someone/run").head().files();
        assertArrayEquals("state 1".getBytes(), files.get("checkpoint-1/run_state.json"));
        assertArrayEquals("state 2".getBytes(), files.get("checkpoint-2/run_state.json"));
        assertArrayEquals("adapter 2".getBytes(), files.get("adapter_model.safetensors"));
        assertEquals(List.of(), hidden());
    }

    /** As transformers publishes them: whatever logging_dir there is in the output folder. */
    @Test
    void tensorBoardsFilesGoAlongAsTheyWere() throws IOException {
        server.faults.add(Fault.status("POST .*/preupload", 1, 503, Map.of(), "busy"));
        Path events = folder.resolve("out/runs/today/events.out.tfevents.1.host.1.0");
        Files.createDirectories(events.getParent());
        Files.writeString(events, "so far");
        HubPush push = push(HubPush.Strategy.CHECKPOINT, Duration.ofSeconds(50));
        push.saved(1, checkpoint(1), told::add);
        Files.writeString(events, ", and more", StandardOpenOption.APPEND);
        push.close();
        Map<String, byte[]> files = server.repo("models/someone/run").head().files();
        assertArrayEquals("so far".getBytes(), files.get("runs/today/events.out.tfevents.1.host.1.0"));
        Set<String> expected = Set.of(
                ".gitattributes",
                "adapter_model.safetensors",
                "last-checkpoint/adapter_model.safetensors",
                "last-checkpoint/run_state.json",
                "runs/today/events.out.tfevents.1.host.1.0");
        assertTrue(expected.containsAll(files.keySet()), files.keySet().toString());
    }
}
