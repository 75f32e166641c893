package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code engine train --demo} as a newcomer ends it. */
final class DemoProcessTest {
    @TempDir
    Path folder;

    @Test
    void anInterruptedDemoSavesAndSaysHowToGoOn() throws Exception {
        Path out = folder.resolve("stdout.txt");
        Path demo = folder.resolve("demo");
        Process run = EngineProcess.start(
                out, folder.resolve("stderr.txt"), List.of("train", "--demo", "--output_dir=" + demo));
        while (run.isAlive() && !Files.readString(out).contains("Training ")) {
            LockSupport.parkNanos(1_000_000);
        }
        run.destroy(); // SIGTERM
        assertTrue(run.waitFor(120, TimeUnit.SECONDS));
        String said = Files.readString(out);
        assertEquals(0, run.exitValue(), said + Files.readString(folder.resolve("stderr.txt")));
        assertTrue(said.contains("% of them right"), said);
        List<String> left = EngineProcess.list(demo.resolve("adapter"));
        assertTrue(left.size() == 1 && left.get(0).startsWith("checkpoint-"), said + left);
        assertTrue(
                said.contains("the checkpoint is in " + demo.resolve("adapter").resolve(left.get(0))), said);
        assertTrue(
                said.trim()
                        .endsWith("Go on with: engine train --demo --output_dir=" + demo
                                + " --resume_from_checkpoint true"),
                said);
    }
}
