package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

final class EngineTest {
    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();

    private int engine(String... args) {
        CommandLine engine = Engine.commandLine();
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        return engine.execute(args);
    }

    private void assertOneLine(String... parts) {
        String text = err.toString();
        for (String part : parts) {
            assertTrue(text.contains(part), text);
        }
        assertFalse(text.contains("\tat "), text);
        assertEquals(1, text.lines().count(), text);
    }

    @Test
    void anUnknownOptionIsRefusedWithTheNearestName() {
        assertEquals(2, engine("train", "--per_device_batch_size", "3"));
        assertOneLine(
                "--per_device_batch_size",
                "did you mean --per_device_eval_batch_size or --per_device_train_batch_size?");
    }

    @Test
    void hyphensForUnderscoresAreNamed() {
        assertEquals(2, engine("train", "--learning-rate", "1"));
        assertOneLine("did you mean --learning_rate?");
    }

    /** Of options that begin with the words that were typed, the one that a command has first. */
    @ParameterizedTest
    @CsvSource({
        "generate, --model, --model_name_or_path",
        "train, --model, --model_name_or_path",
        "train, --dataset, --dataset_name",
        "evaluate, --adapter, --adapter_name_or_path",
        "train, --lora=3, --lora_r"
    })
    void theFirstWordsOfAnOptionMeanTheFirstSuch(String command, String typed, String meant) {
        assertEquals(2, engine(command, typed, "x"));
        assertOneLine("did you mean " + meant + "?");
    }

    @Test
    void anUnknownCommandIsRefusedWithTheNearestName() {
        assertEquals(2, engine("trian"));
        assertOneLine("did you mean train?");
    }

    @Test
    void noCommandIsAUsageError() {
        assertEquals(2, engine());
        assertOneLine("engine --help");
    }

    @Test
    void theDemoRefusesWhatItWouldNotHeed() {
        assertEquals(2, engine("train", "--demo", "--max_steps", "3"));
        assertOneLine("--demo", "--max_steps");
    }

    @Test
    void anEmptyOutputFolderIsRefused() {
        assertEquals(2, engine("train", "--model_name_or_path", "x", "--dataset_name", "y", "--output_dir", ""));
        assertOneLine("--output_dir is empty");
    }

    @Test
    void whatIsMissingIsNamed() {
        assertEquals(2, engine("train", "--model_name_or_path", "x"));
        assertOneLine("--dataset_name");
    }

    @Test
    void badValuesNameTheOption() {
        assertEquals(2, engine("train", "--max_steps", "many"));
        assertOneLine("--max_steps", "many");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--learning_rate fast | --learning_rate fast: expected a number, as in --learning_rate 2e-5",
                "--learning_rate=1e-5x | --learning_rate 1e-5x: expected a number, as in --learning_rate 2e-5",
                "--max_steps ten | --max_steps ten: expected a whole number, as in --max_steps 100",
                "--lora_r 1.5 | --lora_r 1.5: expected a whole number, as in --lora_r 16",
                "--seed 1e3 | --seed 1e3: expected a whole number, as in --seed 42",
                "--max_steps | --max_steps needs a value: a whole number, as in --max_steps 100",
                "--output_dir | --output_dir needs a value: DIR",
                "--packing maybe | --packing maybe: expected true or false (yes and no, on and off, 1 and 0 are the same), or no value for true",
                "--packing=maybe --seed 3 | --packing maybe: expected true or false (yes and no, on and off, 1 and 0 are the same), or no value for true",
                "--dtype half | --dtype half: 'half' is not one of float32, bfloat16",
                "--lora_rank 3 | unknown option --lora_rank; did you mean --lora_r?",
                "--lora_rank=3 | unknown option --lora_rank; did you mean --lora_r?",
                "--lerning_rate 3 --xyzzy | unknown options --lerning_rate, --xyzzy; did you mean --learning_rate?",
                "--seed 3 4 | no option before it takes this: 4",
            })
    void whatAnOptionTakesIsSaidWithAnExample(String options, String line) {
        assertEquals(2, trainWith(options.split(" ")));
        assertEquals("engine: " + line + System.lineSeparator(), err.toString());
    }

    /** Its options may be right: they are another command's. */
    @Test
    void aMisspeltCommandIsSaidToBeOne() {
        assertEquals(2, engine("trian", "--demo", "--seed", "3"));
        assertOneLine("there is no command trian; did you mean train?");
    }

    /** All words for true and false that YAML and Hugging Face's parser have; the last option is the one complained of. */
    @ParameterizedTest
    @CsvSource({"yes, no", "on, off", "True, False", "1, 0", "t, f", "y, n"})
    void allWordsForTrueAndFalseAreTaken(String yes, String no) {
        assertEquals(2, trainWith("--load_in_4bit", no, "--use_bnb_nested_quant", yes));
        assertOneLine("--use_bnb_nested_quant has no effect without --load_in_4bit");
        err.getBuffer().setLength(0);
        assertEquals(2, trainWith("--fp16", no, "--load_in_4bit", yes, "--bnb_4bit_quant_type", "fp4"));
        assertOneLine("fp4 is not supported");
    }

    @Test
    void valuesOutOfRangeNameTheOption() {
        assertEquals(2, engine("train", "--model_name_or_path", "x", "--dataset_name", "y", "--lora_r", "0"));
        assertOneLine("--lora_r is 0");
    }

    @ParameterizedTest
    @CsvSource({
        "'', --model_name_or_path",
        "--model_name_or_path x, --output_dir",
        "--model_name_or_path x --output_dir y --bnb_4bit_quant_type fp4, fp4 is not supported",
        "--model_name_or_path x --output_dir y --load_in_8bit, --load_in_8bit is not supported",
        "--model_name_or_path x --output_dir y --max_shard_size 5, --max_shard_size 5",
        "--model_name_or_path x --output_dir y --max_shard_size 0GB, --max_shard_size 0GB",
        "--model_name_or_path x --output_dir y --max_shard_size -1GB, -1GB",
        "--model_name_or_path x --output_dir y --output_dir z, given twice",
    })
    void quantizeNamesWhatIsWrong(String options, String why) {
        List<String> args = new ArrayList<>(List.of("quantize"));
        args.addAll(options.isEmpty() ? List.of() : List.of(options.split(" ")));
        assertEquals(2, engine(args.toArray(String[]::new)));
        assertOneLine(why);
    }

    @Test
    void quantizeWritesACheckpoint(@TempDir Path folder) throws IOException {
        Path golden = Path.of("src/test/resources/golden");
        Path output = folder.resolve("nf4");
        String[] args = {
            "quantize",
            "--model_name_or_path",
            golden.resolve("multimodal").toString(),
            "--output_dir",
            output.toString(),
            "--use_bnb_nested_quant",
            "--bnb_4bit_quant_storage",
            "bfloat16"
        };
        assertEquals(0, engine(args));
        assertTrue(out.toString().contains("53 linear layers in NF4"), out.toString());
        assertEquals(
                -1,
                Files.mismatch(
                        golden.resolve("multimodal_nf4/model.safetensors"), output.resolve("model.safetensors")));
        assertEquals(1, engine(args));
        assertOneLine("not empty");
    }

    private int trainWith(String... options) {
        List<String> args = new ArrayList<>(List.of("train", "--model_name_or_path", "x", "--dataset_name", "y"));
        args.addAll(List.of(options));
        return engine(args.toArray(String[]::new));
    }

    @ParameterizedTest
    @CsvSource({
        "--load_in_8bit, --load_in_8bit is not supported",
        "--load_in_8bit --load_in_4bit, one precision",
        "--load_in_4bit --bnb_4bit_quant_type fp4, fp4 is not supported",
        "--bnb_4bit_quant_type fp4, fp4 is not supported",
        "--load_in_4bit --bnb_4bit_quant_type int4, int4 is not supported",
        "--load_in_4bit --bnb_4bit_compute_dtype float32, differs from --dtype bfloat16",
        "--load_in_4bit --dtype float32 --bnb_4bit_compute_dtype bfloat16, differs from --dtype float32",
        "--load_in_4bit --bnb_4bit_compute_dtype float16, float16 is not supported",
        "--load_in_4bit --bnb_4bit_quant_storage int4, \"int4\" is not a storage dtype",
        "--use_bnb_nested_quant, --use_bnb_nested_quant has no effect without --load_in_4bit",
        "--use_bnb_nested_quant true --load_in_4bit false, no effect without",
        "--llm_int8_skip_modules fc1, no effect without",
        "--bnb_4bit_quant_storage bfloat16, no effect without",
        "--bnb_4bit_compute_dtype bfloat16, no effect without",
        "--load_in_4bit maybe, maybe",
    })
    void quantisationThatIsNotDoneIsRefusedByName(String options, String why) {
        assertEquals(2, trainWith(options.split(" ")));
        assertOneLine(why);
    }

    @ParameterizedTest
    @CsvSource({
        "multimodal, fc3, '--llm_int8_skip_modules fc3 matches no linear layer'",
        "multimodal_nf4, fc1, which this checkpoint stores in NF4",
    })
    void modulesThatCannotBeSkippedAreNamed(String model, String skip, String why, @TempDir Path folder)
            throws IOException {
        Path golden = Path.of("src/test/resources/golden").resolve(model);
        Path copy = Files.createDirectory(folder.resolve("model"));
        Path processor = Path.of("src/test/resources/lapidary/gemma3/tiny");
        for (Path from : List.of(processor, golden)) {
            try (Stream<Path> files = Files.list(from)) {
                for (Path file : files.filter(Files::isRegularFile).toList()) {
                    Files.copy(file, copy.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
                }
            }
        }
        Path data = Files.writeString(
                folder.resolve("data.jsonl"),
                "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}");
        assertEquals(
                1,
                engine(
                        "train",
                        "--model_name_or_path",
                        copy.toString(),
                        "--dataset_name",
                        data.toString(),
                        "--output_dir",
                        folder.resolve("out").toString(),
                        "--load_in_4bit",
                        "--llm_int8_skip_modules",
                        skip));
        assertOneLine(why);
    }

    @Test
    void aMissingModelIsOneLine(@TempDir Path folder) {
        assertEquals(
                1,
                engine(
                        "train",
                        "--model_name_or_path",
                        folder.resolve("nothing").toString(),
                        "--dataset_name",
                        folder.resolve("no.jsonl").toString(),
                        "--output_dir",
                        folder.resolve("out").toString()));
        assertOneLine("no.jsonl");
    }

    @Test
    void helpTeaches() {
        assertEquals(0, engine("train", "--help"));
        assertTrue(out.toString().contains("--lora_target_modules"), out.toString());
        assertTrue(out.toString().contains("engine train --demo"), out.toString());
    }

    @Test
    void helpIsACommandToo() {
        assertEquals(0, engine("help", "train"));
        assertTrue(out.toString().contains("--lora_target_modules"), out.toString());
    }

    @Test
    void infoNamesTheLibraries(@TempDir Path folder) throws IOException, InterruptedException {
        EngineProcess info = EngineProcess.run(folder, List.of("info"));
        assertEquals(0, info.code(), info.err());
        assertTrue(info.out().contains("liblapidary_cpu.so"), info.out());
    }

    @Test
    void anOptionGivenTwiceIsNamed() {
        assertEquals(2, engine("train", "--output_dir", "a", "--model_name_or_path", "x", "--output_dir", "b"));
        assertOneLine("--output_dir is given twice");
    }

    @Test
    void aFailedRunKeepsTheMetricsOfTheOneBefore(@TempDir Path folder) throws IOException {
        Path metrics = Files.writeString(folder.resolve("metrics.jsonl"), "{\"step\": 1}\n");
        Path data = Files.writeString(
                folder.resolve("data.jsonl"),
                "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}");
        assertEquals(
                1,
                engine(
                        "train",
                        "--model_name_or_path",
                        folder.resolve("nothing").toString(),
                        "--dataset_name",
                        data.toString(),
                        "--output_dir",
                        folder.toString()));
        assertOneLine("no such folder");
        assertEquals("{\"step\": 1}\n", Files.readString(metrics));
    }

    @Test
    void anOptionThatContradictsTheInitialAdapterIsRefused(@TempDir Path folder) {
        Path golden = Path.of("src/test/resources/golden/text");
        assertEquals(
                2,
                engine(
                        "train",
                        "--model_name_or_path",
                        golden.toString(),
                        "--dataset_name",
                        folder.resolve("no.jsonl").toString(),
                        "--init_adapter",
                        golden.resolve("init").toString(),
                        "--lora_alpha",
                        "32",
                        "--output_dir",
                        folder.resolve("out").toString()));
        assertOneLine("--lora_alpha is 32", "has 8");
        assertFalse(Files.exists(folder.resolve("out")));
    }

    @Test
    void badSchedulesAndOptimisersNameTheOption() {
        String[] run = {"train", "--model_name_or_path", "x", "--dataset_name", "y"};
        String[][] cases = {
            {"--lr_scheduler_type is cosin, expected one of", "--lr_scheduler_type", "cosin"},
            {"--lr_scheduler_kwargs", "--lr_scheduler_type", "cosine", "--lr_scheduler_kwargs", "{num_cycles: 1"},
            {
                "--lr_scheduler_kwargs has cycles",
                "--lr_scheduler_type",
                "cosine",
                "--lr_scheduler_kwargs",
                "{\"cycles\": 1}"
            },
            {"not a JSON object", "--lr_scheduler_kwargs", "[1]"},
            {"give one of them", "--warmup_steps", "3", "--warmup_ratio", "0.1"},
            {"--warmup_ratio is 1.0", "--warmup_ratio", "1"},
            {"--optim is adam, expected one of", "--optim", "adam"},
            {"--adam_beta2 is 1.0", "--adam_beta2", "1"}
        };
        for (String[] c : cases) {
            err.getBuffer().setLength(0);
            List<String> arguments = new ArrayList<>(List.of(run));
            arguments.addAll(List.of(c).subList(1, c.length));
            assertEquals(2, engine(arguments.toArray(String[]::new)), c[0]);
            assertOneLine(c[0]);
        }
    }

    @Test
    void optionsForTheHubThatDoNotFitAreNamed() {
        String[] train = {"train", "--model_name_or_path", "a/b", "--dataset_name", "c/d"};
        assertEquals(2, engine(with(train, "--push_to_hub", "--hub_strategy", "sometimes")));
        assertOneLine("expected end, every_save, checkpoint or all_checkpoints");
        err.getBuffer().setLength(0);
        assertEquals(2, engine(with(train, "--hub_model_id", "a/b")));
        assertOneLine("--hub_model_id goes with --push_to_hub");
        err.getBuffer().setLength(0);
        assertEquals(2, engine(with(train, "--push_to_hub", "--hub_model_id", "a//b")));
        assertOneLine("--hub_model_id is a//b");
        err.getBuffer().setLength(0);
        assertEquals(2, engine(with(train, "--lora_r", "0"))); // before anything is asked of the Hub
        assertOneLine("--lora_r is 0");
    }

    private static String[] with(String[] arguments, String... more) {
        List<String> all = new ArrayList<>(List.of(arguments));
        all.addAll(List.of(more));
        return all.toArray(String[]::new);
    }

    /** picocli hands over exceptions alone, and what a heap that is too small throws is none. */
    @Test
    void aHeapThatIsTooSmallIsOneLine(@TempDir Path folder) throws Exception {
        Path rows = Files.writeString(
                folder.resolve("rows.jsonl"),
                "{\"prompt\": \"" + "what ".repeat(2_000_000) + "\", \"completion\": \"square\"}\n");
        Path err = folder.resolve("err.txt");
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED",
                        "-Xmx16m",
                        "-XX:+UseSerialGC",
                        "-XX:TieredStopAtLevel=1",
                        "-cp",
                        System.getProperty("java.class.path"),
                        Engine.class.getName(),
                        "check",
                        "--model_name_or_path=src/main/resources/lapidary/demo/base",
                        "--dataset_name=" + rows)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(err.toFile())
                .start();
        assertTrue(process.waitFor(2, TimeUnit.MINUTES));
        String said = Files.readString(err);
        assertTrue(said.startsWith("engine: the Java heap is too small ("), said);
        assertEquals(1, said.lines().count(), said);
        assertEquals(1, process.exitValue());
    }

    /** Names and words of a data set reach messages: they must not reach the terminal as commands. */
    @Test
    void whatAMessageQuotesCannotSteerATerminal(@TempDir Path folder) throws IOException {
        Path rows = Files.writeString(folder.resolve("rows.jsonl"), "{\"\\u001b[2Jmessages\": 1}\n");
        String[] train = {
            "train",
            "--model_name_or_path=src/main/resources/lapidary/demo/base",
            "--dataset_name=" + rows,
            "--output_dir=" + folder.resolve("out")
        };
        assertEquals(1, engine(train));
        assertTrue(err.toString().contains("only [\\u001b[2Jmessages]"), err.toString());
        assertFalse(err.toString().contains("\u001b"), err.toString());
    }
}
