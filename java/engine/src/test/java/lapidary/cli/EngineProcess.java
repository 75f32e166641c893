package lapidary.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** The engine in a JVM of its own, as a user starts it: what it printed, and how it ended. */
record EngineProcess(int code, String out, String err) {
    private static final int SECONDS = Integer.getInteger("test.process.seconds", 120); // until a run counts as hanging

    /** Runs the engine to its end; {@code folder} takes what it prints. */
    static EngineProcess run(Path folder, List<String> arguments) throws IOException, InterruptedException {
        return run(folder, Map.of(), "", arguments);
    }

    /** The same with variables of its environment and folders, each with a colon behind it, before the class path. */
    static EngineProcess run(Path folder, Map<String, String> environment, String classes, List<String> arguments)
            throws IOException, InterruptedException {
        Path out = folder.resolve("stdout.txt");
        Path err = folder.resolve("stderr.txt");
        Process process = start(out, err, environment, classes, arguments);
        try {
            if (!process.waitFor(SECONDS, TimeUnit.SECONDS)) {
                throw new AssertionError("engine " + arguments + " still runs after " + SECONDS + " s");
            }
        } finally {
            process.destroyForcibly();
        }
        return new EngineProcess(process.exitValue(), Files.readString(out), Files.readString(err));
    }

    /** Starts the engine; the caller ends it. */
    static Process start(Path out, Path err, List<String> arguments) throws IOException {
        return start(out, err, Map.of(), "", arguments);
    }

    private static Process start(
            Path out, Path err, Map<String, String> environment, String classes, List<String> arguments)
            throws IOException {
        ProcessBuilder builder = new ProcessBuilder(command(classes, arguments))
                .redirectOutput(out.toFile())
                .redirectError(err.toFile());
        builder.environment().keySet().removeAll(List.of("LAPIDARY_DEBUG", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"));
        builder.environment()
                .put("OMP_NUM_THREADS", "1"); // tests share their cores: two threads would wait for each other
        builder.environment().putAll(environment);
        return builder.start();
    }

    /** What starts the engine. */
    static List<String> command(String classes, List<String> arguments) {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx512m",
                "-XX:TieredStopAtLevel=1", // a run lasts a second
                "-XX:+UseSerialGC",
                "-cp",
                classes + System.getProperty("java.class.path"),
                Engine.class.getName()));
        command.addAll(arguments);
        return command;
    }

    /** The tiny model that comes with the engine, for a test to break: its files are copied to {@code folder}. */
    static Path model(Path folder) throws IOException {
        Files.createDirectories(folder);
        try (Stream<Path> files = Files.list(Path.of("src/main/resources/lapidary/demo/base"))) {
            for (Path file : files.toList()) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        return folder;
    }

    /** Names of what is in {@code folder}, hidden files too, sorted; none where it does not exist. */
    static List<String> list(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        } catch (NoSuchFileException e) { // it went meanwhile
            return List.of();
        }
    }
}
