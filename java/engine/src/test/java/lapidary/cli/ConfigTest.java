package lapidary.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import lapidary.format.FormatException;
import lapidary.format.Json;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine;

/** {@code engine train --config}: TRL's YAML, and TRL's flags that are no options here. */
final class ConfigTest {
    private static final Path MODEL = Path.of("src/main/resources/lapidary/demo/base");

    @TempDir
    Path dir;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();
    private Path yaml;
    private Path data;

    @BeforeEach
    void files() throws IOException {
        yaml = dir.resolve("run.yaml");
        data = dir.resolve("train.jsonl");
        Files.writeString(
                data,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"what shape\"}, {\"role\": \"assistant\", \"content\": \"square\"}]}\n"
                        .repeat(4));
    }

    private int train(String... args) {
        CommandLine engine = Engine.commandLine();
        out.getBuffer().setLength(0);
        err.getBuffer().setLength(0);
        engine.setOut(new PrintWriter(out, true));
        engine.setErr(new PrintWriter(err, true));
        List<String> all = new ArrayList<>(List.of("train"));
        all.addAll(List.of(args));
        return engine.execute(all.toArray(String[]::new));
    }

    /** Runs with a file that must be refused, in one line with these words. */
    private void refused(String text, String... words) throws IOException {
        Files.writeString(yaml, text);
        assertEquals(2, train("--config", yaml.toString()), err::toString);
        assertOneLine(words);
    }

    private void assertOneLine(String... words) {
        for (String word : words) {
            assertTrue(err.toString().contains(word), () -> "\"" + word + "\" is not in: " + err);
        }
        assertEquals(1, err.toString().lines().count(), err.toString());
        assertFalse(err.toString().contains("Exception"), err.toString());
    }

    /** What the output folder says of the run. */
    private String effective(Path output, String key) {
        return String.join(
                ",",
                ConfigFile.read(output.resolve("train_config.yaml"))
                        .entries()
                        .get(key)
                        .values());
    }

    private String inputs(Path output) {
        return "model_name_or_path: " + MODEL + "\ndataset_name: " + data + "\noutput_dir: " + output + "\n";
    }

    @Test
    void flagsCountBeforeTheFileAndTheFileBeforeDefaults() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(
                yaml,
                inputs(output)
                        + """
                        max_steps: 2
                        lora_r: 8
                        learning_rate: 2e-4   # a string to PyYAML
                        lora_modules_to_save:
                          - lm_head
                          - embed_tokens
                        lr_scheduler_type: cosine_with_min_lr
                        lr_scheduler_kwargs:
                          min_lr_rate: 0.1
                        gradient_checkpointing: False
                        save_total_limit: ~
                        report_to: []
                        dataloader_pin_memory: false
                        """);
        assertEquals(0, train("--lora_r", "4", "--config", yaml.toString(), "--save_strategy=no"), err::toString);
        assertEquals("4", effective(output, "lora_r"));
        assertEquals("2", effective(output, "max_steps"));
        assertEquals("2.0E-4", effective(output, "learning_rate"));
        assertEquals("lm_head,embed_tokens", effective(output, "lora_modules_to_save"));
        assertEquals("{\"min_lr_rate\":0.1}", effective(output, "lr_scheduler_kwargs"));
        assertEquals("false", effective(output, "gradient_checkpointing"));
        assertEquals("no", effective(output, "save_strategy"));
        assertEquals("32.0", effective(output, "lora_alpha"));
        assertEquals("8", effective(output, "per_device_train_batch_size"));
        assertEquals("bfloat16", effective(output, "dtype"));
        assertEquals(
                1,
                out.toString()
                        .lines()
                        .filter(line -> line.contains("dataloader_pin_memory"))
                        .count(),
                out.toString());
    }

    /** transformers' get_steps: below 1 it is a share of all steps. */
    @Test
    void loggingStepsMayBeAShare() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(yaml, inputs(output) + "max_steps: 4\nlora_r: 2\nlogging_steps: 0.5\nsave_strategy: no\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        List<Integer> logged = Files.readAllLines(output.resolve("metrics.jsonl")).stream()
                .map(line -> (int) Json.parse("metrics.jsonl", line).integer("step"))
                .toList();
        assertEquals(List.of(2, 4), logged);
        assertEquals(2, Json.read(output.resolve("trainer_state.json")).integer("logging_steps"));
        assertEquals("0.5", effective(output, "logging_steps"));
    }

    @Test
    void optimisersOfTransformersAreRefusedWithTheOneToTake() throws IOException {
        String inputs = inputs(dir.resolve("out"));
        refused(inputs + "optim: paged_adamw_8bit\n", "--optim is paged_adamw_8bit", "not paged", "line 4");
        refused(inputs + "optim: paged_adamw_32bit\n", "not paged", "adamw_torch");
    }

    @Test
    void allThatIsWrongIsToldAtOnce() throws IOException {
        refused(
                inputs(dir.resolve("out")) + "fp16: true\nlora_q: 4\nneftune_noise_alpha: 5\n",
                yaml + ", line 4: ",
                "; and line 5: unknown option lora_q",
                "; and line 6: ");
    }

    @Test
    void whatTransformersCallsByAnotherNameIsTaken() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(
                yaml, inputs(output) + "optim: adamw_bnb_8bit\nmax_steps: 1\nlora_r: 2\nsave_strategy: 'no'\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
    }

    /** First losses, which depend on the row alone, as B is zero. */
    @Test
    void dataSeedDrawsTheOrderAndTheFirstStepIsLogged() throws IOException {
        StringBuilder rows = new StringBuilder();
        for (String word : List.of("square", "circle", "a red triangle", "two circles", "a blue square", "cross")) {
            rows.append("{\"messages\": [{\"role\": \"user\", \"content\": \"what shape\"}, {\"role\": \"assistant\","
                    + " \"content\": \"" + word + "\"}]}\n");
        }
        Files.writeString(data, rows);
        List<Double> first = new ArrayList<>();
        for (String seeds : List.of("seed: 42\n", "seed: 1\ndata_seed: 42\n", "seed: 1\n", "seed: 1\ndata_seed: 3\n")) {
            Path output = dir.resolve("out" + first.size());
            Files.writeString(
                    yaml,
                    inputs(output)
                            + "max_steps: 3\nlora_r: 2\nper_device_train_batch_size: 1\nlogging_steps: 2\n"
                            + "save_steps: 1\nlogging_first_step: true\ndtype: float32\n" + seeds);
            assertEquals(0, train("--config=" + yaml), err::toString);
            List<Json> logged = Files.readAllLines(output.resolve("metrics.jsonl")).stream()
                    .map(line -> Json.parse("metrics.jsonl", line))
                    .toList();
            assertEquals(
                    List.of(1L, 2L),
                    logged.stream().map(line -> line.integer("step")).toList());
            first.add(logged.get(0).number("loss"));
        }
        assertEquals(first.get(0), first.get(1));
        assertTrue(first.stream().distinct().count() > 1, first.toString());
        Files.delete(dir.resolve("out3/adapter_config.json")); // as if interrupted
        assertEquals(1, train("--config=" + yaml, "--data_seed=4", "--resume_from_checkpoint"), err::toString);
        assertOneLine("--data_seed was 3 and is 4");
    }

    /** PyYAML and Python's int and float take underscores between digits. */
    @Test
    void numbersMayHaveUnderscores() throws IOException {
        Path output = dir.resolve("out_1_000");
        Files.writeString(yaml, inputs(output) + "max_steps: 1\nlora_r: 2\nsave_steps: 1_000\nseed: 1_0\n");
        assertEquals(0, train("--config=" + yaml, "--max_length", "1_024"), err::toString);
        assertEquals("1000.0", effective(output, "save_steps"));
        assertEquals("10", effective(output, "seed"));
        assertEquals("1024", effective(output, "max_length"));
        refused(inputs(output) + "max_steps: 1__0\n", "--max_steps 1__0", "expected a whole number", "line 4");
    }

    @Test
    void theEffectiveConfigurationMakesTheSameRun() throws IOException {
        Path first = dir.resolve("first");
        Path second = dir.resolve("second");
        Files.writeString(yaml, inputs(first) + "max_steps: 2\nlora_r: 4\nlearning_rate: 0.01\nseed: 7\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        String config = first.resolve("train_config.yaml").toString();
        assertEquals(0, train("--config", config, "--output_dir", second.toString()), err::toString);
        assertArrayEquals(
                Files.readAllBytes(first.resolve("adapter_model.safetensors")),
                Files.readAllBytes(second.resolve("adapter_model.safetensors")));
        assertEquals(
                Files.readString(first.resolve("train_config.yaml")).replace(first.toString(), second.toString()),
                Files.readString(second.resolve("train_config.yaml")));
    }

    @Test
    void everyCheckpointSaysWhatTheRunWasTold() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(yaml, inputs(output) + "max_steps: 2\nsave_steps: 1\nlora_r: 2\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        for (String checkpoint : List.of("checkpoint-1", "checkpoint-2")) {
            assertEquals(
                    Files.readString(output.resolve("train_config.yaml")),
                    Files.readString(output.resolve(checkpoint).resolve("train_config.yaml")));
        }
    }

    @Test
    void anAdapterIsNotReplacedByAccident() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(yaml, inputs(output) + "max_steps: 2\nlora_r: 2\nlogging_steps: 1\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        byte[] adapter = Files.readAllBytes(output.resolve("adapter_model.safetensors"));
        assertEquals(2, train("--config=" + yaml, "--seed=1"));
        assertOneLine("--output_dir " + output + " holds the adapter of a run that is over", "--overwrite_output_dir");
        assertEquals(0, train("--config=" + yaml, "--resume_from_checkpoint"), err::toString);
        assertTrue(out.toString().contains("This run is finished: all 2 steps are done"), out.toString());
        assertFalse(out.toString().contains("Going on"), out.toString());
        assertArrayEquals(adapter, Files.readAllBytes(output.resolve("adapter_model.safetensors")));
        assertEquals(0, train("--config=" + yaml, "--seed=1", "--overwrite_output_dir"), err::toString);
        assertFalse(Arrays.equals(adapter, Files.readAllBytes(output.resolve("adapter_model.safetensors"))));
        assertFalse(Files.readString(output.resolve("train_config.yaml")).contains("overwrite"));
        Path elsewhere = dir.resolve("none saved");
        Files.writeString(yaml, inputs(elsewhere) + "max_steps: 1\nlora_r: 2\nsave_strategy: 'no'\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        err.getBuffer().setLength(0);
        assertEquals(2, train("--config=" + yaml, "--resume_from_checkpoint"), "there is nothing to go on with");
        assertOneLine("--output_dir " + elsewhere + " holds the adapter of a run that is over");
        Files.writeString(yaml, inputs(output) + "max_steps: 2\nlora_r: 2\nlogging_steps: 1\n");
        Files.delete(output.resolve("adapter_config.json"));
    }

    /** Checkpoints of two runs in one folder would be gone on from in turns. */
    @Test
    void anInterruptedRunsFolderTakesNoOtherRun() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(
                yaml,
                inputs(output) + "max_steps: 2\nlora_r: 2\nlogging_steps: 1\nsave_steps: 1\nreport_to: tensorboard\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        Files.delete(output.resolve("adapter_config.json")); // as if interrupted
        Path other = dir.resolve("other");
        assertEquals(
                0,
                train("--config=" + yaml, "--output_dir=" + other, "--init_adapter=" + output.resolve("checkpoint-1")),
                err::toString);
        for (List<String> more : List.of(
                List.of("--seed=1"),
                List.<String>of(),
                List.of("--resume_from_checkpoint=" + other.resolve("checkpoint-1")))) {
            List<String> all = new ArrayList<>(List.of("--config=" + yaml));
            all.addAll(more);
            assertEquals(2, train(all.toArray(String[]::new)), out::toString);
            assertOneLine(
                    "--output_dir " + output + " holds checkpoint-2 of an earlier run",
                    "--resume_from_checkpoint true",
                    "--overwrite_output_dir",
                    "choose another folder");
        }
        assertEquals(2, train("--config=" + yaml, "--resume_from_checkpoint=" + output.resolve("checkpoint-9")));
        assertOneLine("--resume_from_checkpoint " + output.resolve("checkpoint-9") + " is no folder");
        assertEquals(0, train("--config=" + yaml, "--resume_from_checkpoint"), err::toString);
        Files.delete(output.resolve("adapter_config.json"));
        assertEquals(
                0,
                train("--config=" + yaml, "--resume_from_checkpoint=" + output.resolve("checkpoint-1")),
                err::toString);
        assertEquals(
                2,
                train(
                        "--config=" + yaml,
                        "--overwrite_output_dir",
                        "--init_adapter=" + output.resolve("checkpoint-1")));
        assertOneLine("--overwrite_output_dir would remove --init_adapter");
        assertEquals(
                0, train("--config=" + yaml, "--seed=1", "--max_steps=1", "--overwrite_output_dir"), err::toString);
        assertFalse(Files.exists(output.resolve("checkpoint-2")));
        assertEquals(1, EngineProcess.list(output.resolve("runs")).size());
    }

    /** Each line once, with what overnight runs are watched for. */
    @Test
    void theConsoleTellsHowTheRunGoesAndWhatItTook() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(
                yaml,
                inputs(output) + "max_steps: 2\nlora_r: 2\nlogging_steps: 1\nreport_to: tensorboard\n"
                        + "eval_strategy: epoch\ndataset_test_split: train\nsave_steps: 1\n");
        assertEquals(0, train("--config=" + yaml), err::toString);
        String number = "\\d[\\d.e+-]*";
        for (String line : List.of(
                "step 1/2  loss N  grad_norm N  learning_rate N  accuracy N  N tokens/s  N samples/s  data wait N%"
                        + "  memory N GiB  ETA \\d+:\\d\\d",
                "Took \\d+:\\d\\d: load \\d+:\\d\\d, samples \\d+:\\d\\d, train \\d+:\\d\\d, (evaluate \\d+:\\d\\d, )?save \\d+:\\d\\d",
                "N tokens/s, N samples/s, data wait N%; peak memory N GiB",
                "Checkpoints there: checkpoint-1, checkpoint-2",
                "TensorBoard: tensorboard --logdir " + output + "/runs/\\S+",
                "The adapter is in " + output)) {
            String regex = line.replace("N ", number + " ").replace("N%", number + "%");
            assertEquals(
                    1,
                    out.toString().lines().filter(each -> each.matches(regex)).count(),
                    regex + "\n" + out);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"guide-single-image", "guide-multi-image"})
    void theGuidesConfigurationsTrain(String name) throws IOException {
        Path example = Path.of("../examples/train", name + ".yaml");
        Path output = dir.resolve("out");
        int code = train(
                "--config",
                example.toString(),
                "--model_name_or_path",
                MODEL.toString(),
                "--dataset_name",
                data.toString(),
                "--dataset_train_split=train",
                "--output_dir",
                output.toString(),
                "--push_to_hub=false");
        assertEquals(0, code, err::toString);
        assertEquals("16.0", effective(output, "lora_alpha"));
        assertEquals("1.0", effective(output, "num_train_epochs"));
        assertEquals("epoch", effective(output, "save_strategy"));
        assertEquals("true", effective(output, "load_in_4bit"));
        assertEquals(
                name.contains("single") ? "8 4" : "1 1",
                effective(output, "per_device_train_batch_size") + " "
                        + effective(output, "gradient_accumulation_steps"));
        assertTrue(out.toString().contains("bf16"), out.toString());
        try (Stream<Path> events = Files.walk(output.resolve("runs"))) {
            assertEquals(
                    1,
                    events.filter(file -> file.getFileName().toString().startsWith("events.out.tfevents."))
                            .count());
        }
        try (InputStream carried =
                ConfigTest.class.getClassLoader().getResourceAsStream("lapidary/examples/" + name + ".yaml")) {
            assertArrayEquals(Files.readAllBytes(example), carried.readAllBytes());
        }
        assertTrue(Files.readString(Path.of("../../README.md")).contains("java/examples/train/" + name + ".yaml"));
    }

    @Test
    void aConfigurationOfTheJarIsTakenByItsName() {
        Path example = Path.of("../examples/train/guide-multi-image.yaml");
        Path name = example.getFileName();
        assertEquals(ConfigFile.read(example).entries(), ConfigFile.read(name).entries());
        assertThrows(FormatException.class, () -> ConfigFile.read(Path.of("no-such.yaml")));
        assertThrows(
                FormatException.class, () -> ConfigFile.read(Path.of("no-such").resolve(name)));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "learning_rat: 1 | learning_rat; did you mean learning_rate?",
                "dataloader_pin_memry: 1 | did you mean dataloader_pin_memory?",
                "config: a.yaml | config goes on the command line",
                "neftune_noise_alpha: 5 | neftune_noise_alpha 5 is not supported",
                "use_dora: true | use_dora true is not supported",
                "loss_type: dft | loss_type dft is not supported",
                "report_to: [tensorboard, wandb] | report_to wandb is not supported",
                "deepspeed: zero3.json | deepspeed zero3.json is not supported: a run has one device",
                "gradient_checkpointing_kwargs: {preserve_rng_state: false} | use_reentrant alone",
                "dataset_kwargs: {add_special_tokens: false} | skip_prepare_dataset alone",
                "max_seq_length: 512 | it is called max_length here",
                "bnb_4bit_use_double_quant: true | it is called use_bnb_nested_quant here",
                "llm_int8_threshold: 5.0 | NF4 is the one quantisation",
                "rank_pattern: {q_proj: 4} | rank_pattern",
                "use_cpu: maybe | use_cpu is maybe",
                "max_steps: many | --max_steps",
                "max_steps: 1.5 | --max_steps",
                "max_steps: [1, 2] | max_steps is a list, expected one value",
                "lora_r: {a: 1} | lora_r is a mapping, expected one value",
                "datasets: [{path: a}] | is not supported: one data set is trained on, --dataset_name",
                "accelerate_config: zero2 | accelerate_config zero2 is not supported: a run has one device",
                "num_processes: 2 | num_processes 2 is not supported: a run has one device",
                "packing: perhaps | expected true or false",
                "lora_target_modules: ['a,b'] | comma",
                "lora_target_modules: [[a]] | in its list",
            })
    void whatIsWrongWithAKeyIsToldWithItsLine(String line, String why) throws IOException {
        refused("# a run\nmodel_name_or_path: x\ndataset_name: y\n" + line + "\n", why, yaml + ", line 4");
    }

    @Test
    void aValueOutOfRangeIsToldWithItsLine() throws IOException {
        refused("model_name_or_path: x\ndataset_name: y\nlora_r: 0\n", "--lora_r is 0", yaml + ", line 3");
    }

    @Test
    void aKeyCannotMoveTheCursor() throws IOException {
        refused("\"lora\\e[2J\": 1\n", "lora\\u001b[2J", yaml + ", line 1");
        assertFalse(err.toString().contains("\u001b"), err.toString());
    }

    @Test
    void aMistakeOfTheCommandLineIsNotTheFiles() throws IOException {
        Files.writeString(yaml, "model_name_or_path: x\ndataset_name: y\nlora_r: 2\n");
        assertEquals(2, train("--config", yaml.toString(), "--lora_r=many"));
        assertOneLine("--lora_r", "many");
        assertFalse(err.toString().contains("line 3"), err.toString());
        assertEquals(2, train("--config", yaml.toString(), "--lora_r=3", "--lora_r=4"));
        assertOneLine("--lora_r is given twice");
    }

    @Test
    void useCpuOfTheCommandLineCountsBeforeTheFilesDevice() throws IOException {
        Path output = dir.resolve("out");
        Files.writeString(yaml, inputs(output) + "max_steps: 1\ndevice: auto\n");
        assertEquals(0, train("--config", yaml.toString(), "--use_cpu"), err::toString);
        assertEquals("cpu", effective(output, "device"));
        Files.writeString(yaml, inputs(output) + "max_steps: 1\nuse_cpu: true\n");
        assertEquals(0, train("--config", yaml.toString(), "--overwrite_output_dir"), err::toString);
        assertEquals("cpu", effective(output, "device"));
    }

    @Test
    void aTokenIsNotShown() throws IOException {
        refused("hub_token: hf_secret\n", "hub_token is not supported", "HF_TOKEN");
        assertFalse(err.toString().contains("hf_secret"), err.toString());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "lora_r: 1\\nlora_r: 2 | line 2: lora_r is given again, line 1 has it too",
                "lora_r: 1\\n\\tseed: 2 | line 2: not valid YAML",
                "lora_r: [1 | not valid YAML",
                "lora_r: 'a | not valid YAML",
                "- lora_r | line 1: expected option names",
                "just words | line 1: expected option names",
                "a: &a [x, x]\\nb: [*a, *a] | line 2: aliases are not taken",
                "a: &a [*a] | line 1: aliases are not taken",
                "lora_r: 1\\n---\\nlora_r: 2 | a second document",
                "? [a]\\n: 1 | line 1: a list or mapping stands",
                "a: [[[[[[[[[[]]]]]]]]]] | line 1: lists and mappings are more than 8 deep",
                "'' | is empty",
                "lora_r: \\u0007 | not valid YAML",
            })
    void badYamlIsToldInOneLine(String text, String why) throws IOException {
        refused(text.replace("\\n", "\n").replace("\\t", "\t").replace("\\u0007", "\u0007"), why, yaml.toString());
    }

    @Test
    void deepNestingIsRefused() throws IOException {
        refused("a: " + "[".repeat(200_000), "more than 8 deep");
    }

    @Test
    void otherFilesAreRefused() throws IOException {
        Files.write(yaml, "lora_r: 1\n".getBytes(StandardCharsets.UTF_16));
        assertEquals(2, train("--config", yaml.toString()));
        assertOneLine("byte 0 is not UTF-8", yaml.toString());
        assertEquals(2, train("--config", dir.resolve("none.yaml").toString()));
        assertOneLine("no such file");
        assertEquals(2, train("--config", dir.toString()));
        assertOneLine("is a folder");
        assertEquals(2, train("--config"));
        assertOneLine("--config");
        Files.writeString(yaml, "#".repeat((1 << 20) + 1));
        assertEquals(2, train("--config", yaml.toString()));
        assertOneLine("1048576");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--report_to wandb | --report_to wandb is not supported: use tensorboard",
                "--fp16 | --fp16 true is not supported: Gemma 3 overflows",
                "--use_rslora true | --use_rslora true is not supported",
                "--bf16 --dtype float32 | --bf16 true does not go with --dtype float32",
                "--bf16 false | --bf16 false does not go with --dtype bfloat16",
                "--label_smoothing_factor=0.1 | --label_smoothing_factor 0.1 is not supported",
                "--hub_token hf_secret | --hub_token is not supported: a token belongs in HF_TOKEN",
                "--torch_dtype bfloat16 | it is called dtype here",
            })
    void flagsOfTrlThatAreNotSupportedSayWhy(String flags, String why) {
        List<String> args = new ArrayList<>(List.of("--model_name_or_path", "x", "--dataset_name", "y"));
        args.addAll(List.of(flags.split(" ")));
        assertEquals(2, train(args.toArray(String[]::new)));
        assertOneLine(why);
        assertFalse(err.toString().contains("hf_secret"), err.toString());
    }

    @Test
    void flagsWithoutAMeaningAreTakenAndToldOnce() {
        Path output = dir.resolve("out");
        int code = train(
                "--model_name_or_path=" + MODEL,
                "--bf16",
                "--run_name",
                "first",
                "--dataset_name",
                data.toString(),
                "--use_cpu",
                "--dataloader_num_workers",
                "4",
                "--ddp_timeout",
                "-1",
                "--max_steps=1",
                "--output_dir",
                output.toString(),
                "--use_peft");
        assertEquals(0, code, err::toString);
        List<String> told = out.toString()
                .lines()
                .filter(line -> line.contains("without a meaning here"))
                .toList();
        assertEquals(1, told.size(), out.toString());
        for (String name : List.of("bf16", "run_name", "dataloader_num_workers", "ddp_timeout")) {
            assertTrue(told.get(0).contains(name), told.get(0));
        }
        assertEquals("cpu", effective(output, "device"));
    }

    /** Fields of TRL 1.13's SFTConfig, ModelConfig and ScriptArguments, and of PEFT's LoraConfig that make sense in a file. */
    @Test
    void everyKeyOfTrlIsKnown() throws IOException {
        CommandLine train = Engine.commandLine().getSubcommands().get("train");
        List<String> unknown = Files.readAllLines(Path.of("src/test/resources/lapidary/cli/trl-keys.txt")).stream()
                .filter(name -> !TrlKey.ALL.containsKey(name) && !name.equals("use_cpu"))
                .filter(name -> !train.getCommandSpec().optionsMap().containsKey("--" + name))
                .toList();
        assertEquals(List.of(), unknown);
    }

    @Test
    void noKnownKeyIsAnOptionAsWell() {
        CommandLine train = Engine.commandLine().getSubcommands().get("train");
        for (String name : TrlKey.ALL.keySet()) {
            assertFalse(train.getCommandSpec().optionsMap().containsKey("--" + name), name);
        }
    }
}
