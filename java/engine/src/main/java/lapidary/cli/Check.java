package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import lapidary.data.DataOptions;
import lapidary.data.Dataset;
import lapidary.data.Datasets;
import lapidary.data.Preflight;
import lapidary.data.Preflight.Findings;
import lapidary.data.Profile;
import lapidary.data.SampleDump;
import lapidary.data.Samples;
import lapidary.data.Split;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import lapidary.train.MemoryEstimate;
import lapidary.train.SftConfig;
import lapidary.train.TrainingSteps;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine check}: every sample of a data set as training would get it, before anything is trained. */
@Command(
        name = "check",
        header = "Reads every sample of a data set as training would, and says what is in it and what is wrong.",
        description = {
            "",
            "  engine check --model_name_or_path gemma-3-4b-it --dataset_name data.parquet --show 2",
            "",
            "Each bad sample gets a line that begins \"row N\", counted from 0. Exit code 1 if there is any, unless",
            "--on_bad_sample drop."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Check implements Callable<Integer> {
    private static final int SIZES_SHOWN = 4;
    private static final int ROWS_SHOWN = 8;

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--model_name_or_path",
            paramLabel = "DIR|NAME",
            description = "Gemma 3 checkpoint, of which only the processor's files and config.json are read.")
    private Path model;

    @Option(names = "--dataset_name", paramLabel = "PATH|NAME", description = "As train takes it.")
    private String dataset;

    @Option(
            names = "--dataset_train_split",
            paramLabel = "NAME",
            description = "Split to look at, or a slice: train[:1000], train[10%%:] (default: train).")
    private String split = "train";

    @ArgGroup(validate = false, heading = "%nSamples:%n", order = 1)
    private final SampleOptions sampleOptions = new SampleOptions();

    @Option(
            names = "--compat",
            paramLabel = "WHAT",
            description = "default or trl, as train takes it (default: default).")
    private String compat = "default";

    @Option(
            names = "--show",
            paramLabel = "N",
            description = "Print the first N samples, trained and masked text told apart (default: 0).")
    private int show;

    @Option(
            names = "--dump",
            paramLabel = "FILE",
            description = "Write what training gets of each sample to a safetensors file.")
    private Path dump;

    @Option(
            names = "--report",
            paramLabel = "FILE",
            description = "Write a page for the browser: the figures drawn, samples with their pictures.")
    private Path report;

    @Option(
            names = "--dtype",
            paramLabel = "TYPE",
            converter = DTypeConverter.class,
            description = "As train takes it, for the memory: bfloat16 or float32 (default: bfloat16).")
    private DType dtype = DType.BF16;

    @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
    private String device = "auto";

    @Option(
            names = "--row_tokens",
            paramLabel = "N",
            description = "Without --dataset_name: tell the memory of training on rows of N tokens, pictures' included."
                    + " The model folder needs no more than its config.json.")
    private int rowTokens;

    @Option(names = "--row_pictures", paramLabel = "N", description = "Pictures of such a row (default: 0).")
    private int rowPictures;

    @ArgGroup(validate = false, heading = "%nTraining, for steps and memory:%n", order = 2)
    private final RecipeOptions recipe = new RecipeOptions();

    @ArgGroup(validate = false, heading = "%nAdapters, for the memory:%n", order = 3)
    private final LoraOptions lora = new LoraOptions();

    @ArgGroup(validate = false, heading = "%nQuantisation, for the memory:%n", order = 4)
    private final QuantOptions quant = new QuantOptions();

    @ArgGroup(validate = false, heading = "%nHugging Face Hub:%n", order = 5)
    private final HubOptions hub = new HubOptions();

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        require(model, "--model_name_or_path");
        hub.refusePush(spec.commandLine());
        if (rowTokens != 0 || rowPictures != 0) {
            if (dataset != null) {
                throw usage("--row_tokens and --row_pictures are for rows that are not there yet, and go without"
                        + " --dataset_name");
            }
            return memoryAlone();
        }
        require(dataset, "--dataset_name");
        Profile profile = Profiles.of(compat, spec.commandLine());
        DataOptions options = sampleOptions.options(profile, spec.commandLine());
        config(model, dataset, options); // mistakes are told before anything is fetched
        Split wanted = Splits.parse(split, spec.commandLine());
        Path folder = hub.model(model, spec.commandLine());
        String found = hub.dataset(dataset, wanted.name(), spec.commandLine());
        Gemma3Config shape = Gemma3.readConfig(folder);
        try (Dataset rows = Datasets.open(
                found, Splits.of(wanted, dataset, found).toString(), "--dataset_train_split", options.forms())) {
            SftConfig config = config(folder, found, options);
            Samples samples = Samples.of(shape, folder, rows, profile, options);
            try (Device where = Devices.open(device, spec.commandLine());
                    MemoryText memory = new MemoryText(config, where)) { // what does not fit is told before the look
                return check(rows, samples, options, config, memory);
            }
        }
    }

    private SftConfig config(Path folder, String data, DataOptions options) {
        quant.refuseOthers(spec.commandLine(), dtype);
        quant.refuseWithoutLoadIn4bit(spec.commandLine());
        try {
            SftConfig.Builder builder = SftConfig.builder(folder, data, Path.of("trainer_output"));
            recipe.applyTo(builder, spec.commandLine());
            lora.applyTo(builder);
            quant.applyTo(builder);
            return builder.dtype(dtype)
                    .data(options)
                    .profile(Profiles.of(compat, spec.commandLine()))
                    .build();
        } catch (IllegalArgumentException e) {
            throw usage(e.getMessage());
        }
    }

    /** Of rows that are only told of. */
    private int memoryAlone() {
        SftConfig config = config(
                model, "rows", sampleOptions.options(Profiles.of(compat, spec.commandLine()), spec.commandLine()));
        Path folder = hub.model(model, spec.commandLine());
        Gemma3Config shape = Gemma3.readConfig(folder);
        if (rowPictures < 0 || rowPictures > 0 && shape.isTextOnly()) {
            throw usage("--row_pictures is " + rowPictures
                    + (shape.isTextOnly() ? ", but the model takes none" : ", expected 0 or more"));
        }
        long soft = (long) rowPictures * shape.mmTokensPerImage();
        if (rowTokens < Math.max(1, soft)) {
            throw usage("--row_tokens is " + rowTokens
                    + (soft == 0 ? ", expected at least 1" : ", expected at least the pictures' own " + soft));
        }
        PrintWriter out = spec.commandLine().getOut();
        MemoryEstimate.Row row = new MemoryEstimate.Row(rowTokens, rowPictures);
        List<MemoryEstimate.Row> batch = Collections.nCopies(config.perDeviceTrainBatchSize(), row);
        try (Device where = Devices.open(device, spec.commandLine());
                MemoryText memory = new MemoryText(config(folder, "rows", config.data()), where)) {
            print(memory.of(batch, shape.text().vocabSize()), out);
        }
        out.flush();
        return 0;
    }

    private static void print(List<String> memory, PrintWriter out) {
        line(out, "Memory", "%s", memory.get(0));
        memory.subList(1, memory.size()).forEach(each -> line(out, "", "%s", each));
    }

    private int check(Dataset rows, Samples samples, DataOptions options, SftConfig config, MemoryText memory) {
        PrintWriter out = spec.commandLine().getOut();
        out.println("Data        " + rows.description());
        out.flush();
        CheckProgress progress = new CheckProgress(out, spec.commandLine().getErr(), show, samples);
        int threads = Runtime.getRuntime().availableProcessors();
        Findings findings = Preflight.run(samples, false, threads, () -> true, progress);
        progress.finish();
        List<String> estimates = new ArrayList<>();
        print(findings, out);
        if (findings.accepted().length > 0) {
            estimates.add(estimate(findings, config));
            line(out, "Training", "%s", estimates.get(0));
            List<String> needed = memory.of(MemoryEstimate.longest(findings, config), findings.vocabulary());
            print(needed, out);
            estimates.addAll(needed);
        }
        if (dump != null) {
            SampleDump.write(dump, samples, findings);
            out.println("Dump        " + dump + ": " + count(findings.accepted().length, "sample"));
        }
        if (report != null) {
            CheckReport.write(report, rows.description(), samples, findings, recipe.batchSize, estimates);
            out.println("Report      " + report);
        }
        out.flush();
        int bad = findings.bad().size();
        PrintWriter err = spec.commandLine().getErr();
        if (findings.accepted().length == 0) {
            err.println("engine: no row is left to train on");
            return 1;
        }
        if (bad > 0 && !options.dropBad()) {
            err.println("engine: " + bad + " of " + count(findings.rows(), "row") + (bad == 1 ? " is" : " are")
                    + " bad; mend them, or leave them out with --on_bad_sample drop");
            return 1;
        }
        return 0;
    }

    private void print(Findings f, PrintWriter out) {
        int good = f.accepted().length;
        long cut = f.overlong().size() - f.dropped();
        line(
                out,
                "Rows",
                "%,d: %,d good, %,d bad%s%s",
                f.rows(),
                good,
                f.bad().size(),
                f.dropped() == 0 ? "" : String.format(Locale.ROOT, ", %,d too long and dropped", f.dropped()),
                cut == 0 ? "" : String.format(Locale.ROOT, ", %,d too long and cut", cut));
        if (good > 0) {
            line(
                    out,
                    "Tokens",
                    "%,d; of a row: shortest %,d, half up to %,d, 90 %% up to %,d, 99 %% up to %,d, longest %,d",
                    f.allTokens(),
                    f.length(0),
                    f.length(50),
                    f.length(90),
                    f.length(99),
                    f.length(100));
            line(out, "Trained on", "%,d of them (%.1f %%)", f.allTargets(), 100.0 * f.allTargets() / f.allTokens());
            pictures(f, out);
            line(
                    out,
                    "Padding",
                    "%.1f %% of batches of %d would be padding; rows are packed, so that none is",
                    100 * f.paddingWaste(recipe.batchSize),
                    recipe.batchSize);
        }
        rows(
                out,
                "No answer",
                f.unanswered().size(),
                "%,d rows end without what the model is to say: %s",
                f.unanswered().stream().map(String::valueOf).toList());
        rows(
                out,
                "Duplicates",
                f.duplicates().size(),
                "%,d rows have words and pictures of an earlier one: %s",
                f.duplicates().stream()
                        .map(each -> each.row() + " of " + each.of())
                        .toList());
        rows(
                out,
                "Too long",
                f.overlong().size(),
                "%,d rows: %s",
                f.overlong().stream()
                        .map(each -> "row " + each.row() + " (" + each.tokens() + " tokens, "
                                + (each.kept() == 0 ? "dropped" : "cut to " + each.kept()) + ")")
                        .toList());
        out.flush();
    }

    private static void pictures(Findings f, PrintWriter out) {
        long pictures = f.allPictures();
        int with = 0;
        int most = 0;
        for (int n : f.pictures()) {
            with += n > 0 ? 1 : 0;
            most = Math.max(most, n);
        }
        if (pictures == 0) {
            line(out, "Pictures", "none");
            return;
        }
        String sizes = f.sizes().entrySet().stream()
                .limit(SIZES_SHOWN)
                .map(each -> String.format(Locale.ROOT, "%s (%,d)", each.getKey(), each.getValue()))
                .collect(Collectors.joining(", "));
        int others = f.sizes().size() - SIZES_SHOWN;
        line(
                out,
                "Pictures",
                "%,d in %,d rows, at most %d in one; sizes %s%s",
                pictures,
                with,
                most,
                sizes,
                others > 0 ? " and " + others + " more" : "");
    }

    private static void rows(PrintWriter out, String name, int n, String format, List<String> all) {
        if (n > 0) {
            String shown = String.join(", ", all.subList(0, Math.min(n, ROWS_SHOWN)));
            line(out, name, format, n, shown + (n > ROWS_SHOWN ? ", ..." : ""));
        }
    }

    private static String estimate(Findings f, SftConfig config) {
        TrainingSteps steps = TrainingSteps.of(f, config);
        return String.format(
                Locale.ROOT,
                "%,d steps of %d %s%s, %,.0f tokens a step",
                steps.steps(),
                config.perDeviceTrainBatchSize() * config.gradientAccumulationSteps(),
                config.packing() ? String.format(Locale.ROOT, "packed rows (of %,d)", steps.units()) : "rows",
                config.maxSteps() > 0
                        ? ""
                        : " for "
                                + (config.numTrainEpochs() == Math.rint(config.numTrainEpochs())
                                        ? String.valueOf((long) config.numTrainEpochs())
                                        : String.valueOf(config.numTrainEpochs()))
                                + " epochs",
                (double) f.allTokens() / steps.stepsPerEpoch());
    }

    private static void line(PrintWriter out, String name, String format, Object... values) {
        out.println(String.format(Locale.ROOT, "%-12s", name) + String.format(Locale.ROOT, format, values));
    }

    private static String count(int n, String what) {
        return String.format(Locale.ROOT, "%,d %s%s", n, what, n == 1 ? "" : "s");
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw usage("check needs " + option + "; see engine check --help");
        }
    }

    private ParameterException usage(String message) {
        return new ParameterException(spec.commandLine(), message);
    }
}
