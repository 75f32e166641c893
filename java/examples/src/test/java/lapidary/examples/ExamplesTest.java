package lapidary.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import lapidary.infer.LanguageModel;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Each example as it is printed, on the demo's tiny model. */
class ExamplesTest {
    private static final Path ADAPTER = Path.of(System.getProperty("engine.tests"), "adapter");
    private static final Path PICTURE = Path.of(System.getProperty("engine.tests"), "pictures", "0.png");
    private static final Path ASK = Path.of(System.getProperty("ask"), "src", "main", "java", "Ask.java");
    private static final String QUESTION = "What color is the square?";

    @TempDir
    private Path folder;

    private Path base;

    /** The demo's model, but greedy, so that equal questions have equal answers. */
    @BeforeEach
    void copyModel() throws IOException {
        base = Files.createDirectory(folder.resolve("base"));
        try (Stream<Path> files = Files.list(Path.of(System.getProperty("demo.base")))) {
            for (Path file : files.toList()) {
                Files.copy(file, base.resolve(file.getFileName()));
            }
        }
        Path config = base.resolve("generation_config.json");
        String sampling = Files.readString(config);
        assertTrue(sampling.contains("\"do_sample\": true"), sampling);
        Files.writeString(config, sampling.replace("\"do_sample\": true", "\"do_sample\": false"));
    }

    private static Stream<Path> sources() throws IOException {
        try (Stream<Path> files = Files.list(Path.of(System.getProperty("examples")))) {
            return files.toList().stream();
        }
    }

    @ParameterizedTest
    @MethodSource("sources")
    void anExampleIsShort(Path source) throws IOException {
        long lines = Files.readAllLines(source).size();
        assertTrue(lines < 60, lines + " lines");
    }

    @Test
    void theProgramThatDependsOnTheEngineAloneHasTwentyLines() throws IOException {
        assertTrue(Files.readAllLines(ASK).size() <= 20);
        String pom = Files.readString(Path.of(System.getProperty("ask"), "pom.xml"));
        assertTrue(
                pom.contains("<artifactId>engine</artifactId>\n      <version>" + System.getProperty("version") + "<"),
                pom);
        assertEquals(1, pom.split("<dependency>", -1).length - 1, pom);
    }

    private static List<String> linesOf(Runnable main) {
        PrintStream out = System.out;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try {
            main.run();
        } finally {
            System.setOut(out);
        }
        return printed.toString(StandardCharsets.UTF_8).lines().toList();
    }

    private String answer(String adapter) {
        try (LanguageModel model = LanguageModel.load(base)) {
            model.attach("mine", ADAPTER);
            return model.generate(
                            QUESTION, model.defaults().withMaxNewTokens(40).withAdapter(adapter), PICTURE)
                    .answer()
                    .text();
        }
    }

    /** What was not known before is known after, in one program. */
    @Test
    void trainsThenTalks() throws IOException {
        Path data = Files.writeString(
                folder.resolve("data.jsonl"),
                """
                {"messages": [{"role": "user", "content": "Who cuts stones?"}, {"role": "assistant", "content": "A lapidary."}]}
                {"messages": [{"role": "user", "content": "Who bakes bread?"}, {"role": "assistant", "content": "A baker."}]}
                """);
        List<String> lines = linesOf(() -> TrainThenTalk.main(new String[] {
            base.toString(), data.toString(), folder.resolve("adapter").toString(), "Who cuts stones?"
        }));
        assertTrue(lines.get(0).startsWith("before: "), lines.get(0));
        assertFalse(lines.get(0).contains("lapidary"), lines.get(0));
        assertEquals("after: A lapidary.", lines.get(lines.size() - 1));
        assertTrue(lines.get(1).startsWith("step 10, loss "), lines.get(1));
    }

    @Test
    void langChain4jAnswersAndStreams() {
        List<String> lines = linesOf(() ->
                LangChain4j.main(new String[] {base.toString(), ADAPTER.toString(), PICTURE.toString(), QUESTION}));
        assertEquals(answer(LanguageModel.BASE), lines.get(0));
        assertTrue(lines.get(1).startsWith(answer("mine") + " ("), lines.get(1));
    }

    @Test
    void springAiAnswersAndStreams() {
        List<String> lines = linesOf(() -> SpringAi.main(new String[] {
            PICTURE.toString(),
            QUESTION,
            "--spring.ai.lapidary.model=" + base,
            "--spring.ai.lapidary.adapters.mine=" + ADAPTER,
            "--spring.main.banner-mode=off",
            "--logging.level.root=off"
        }));
        assertEquals(List.of(answer(LanguageModel.BASE), answer("mine")), lines);
    }

    /** Nothing but the jar on the class path of a plain {@code java}. */
    @Test
    void theJarIsAllThatAProgramNeeds() throws IOException, InterruptedException {
        Path jar = Path.of(System.getProperty("engine.jar"));
        assumeTrue(Files.exists(jar), "the jar is made in the phase package: mvn verify");
        Process java = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED",
                        "-cp",
                        jar.toString(),
                        ASK.toString(),
                        base.toString(),
                        PICTURE.toString(),
                        QUESTION,
                        "And the circle?")
                .redirectErrorStream(true)
                .start();
        String printed = new String(java.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(java.waitFor(1, TimeUnit.MINUTES));
        assertEquals(0, java.exitValue(), printed);
        assertEquals(answer(LanguageModel.BASE), printed.lines().findFirst().orElseThrow());
    }
}
