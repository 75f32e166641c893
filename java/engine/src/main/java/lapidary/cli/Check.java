package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
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
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
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
            names = "--per_device_train_batch_size",
            paramLabel = "N",
            description = "For the estimate of steps and padding (default: 8).")
    private int batchSize = 8;

    @Option(
            names = "--gradient_accumulation_steps",
            paramLabel = "N",
            description = "For the estimate of steps (default: 1).")
    private int accumulation = 1;

    @Option(names = "--num_train_epochs", paramLabel = "N", description = "For the estimate of steps (default: 3).")
    private double epochs = 3;

    @ArgGroup(validate = false, heading = "%nHugging Face Hub:%n", order = 2)
    private final HubOptions hub = new HubOptions();

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        require(model, "--model_name_or_path");
        require(dataset, "--dataset_name");
        requirePositive(batchSize, "--per_device_train_batch_size");
        requirePositive(accumulation, "--gradient_accumulation_steps");
        if (!(epochs > 0)) {
            throw usage("--num_train_epochs is " + epochs + ", expected more than 0");
        }
        DataOptions options = sampleOptions.options(spec.commandLine());
        Profile profile = Profiles.of(compat, spec.commandLine());
        Split wanted = Splits.parse(split, spec.commandLine());
        Path folder = hub.model(model, spec.commandLine());
        String found = hub.dataset(dataset, wanted.name(), spec.commandLine());
        Gemma3Config config = Gemma3.readConfig(folder);
        try (Dataset rows =
                Datasets.open(found, Splits.of(wanted, dataset, found).toString(), options.forms())) {
            return check(rows, Samples.of(config, folder, rows, profile, options), options);
        }
    }

    private int check(Dataset rows, Samples samples, DataOptions options) {
        PrintWriter out = spec.commandLine().getOut();
        out.println("Data        " + rows.description());
        out.flush();
        CheckProgress progress = new CheckProgress(out, spec.commandLine().getErr(), show, samples);
        int threads = Runtime.getRuntime().availableProcessors();
        Findings findings = Preflight.run(samples, false, threads, () -> true, progress);
        progress.finish();
        print(findings, progress, out);
        if (dump != null) {
            SampleDump.write(dump, samples, findings, progress.views());
            out.println("Dump        " + dump + ": " + count(findings.accepted().length, "sample"));
        }
        if (report != null) {
            CheckReport.write(report, rows.description(), samples, findings, batchSize, estimate(findings));
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

    private void print(Findings f, CheckProgress progress, PrintWriter out) {
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
                    100 * f.paddingWaste(batchSize),
                    batchSize);
            line(out, "Training", "%s", estimate(f));
        }
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

    private String estimate(Findings f) {
        int perEpoch = Math.ceilDiv(Math.ceilDiv(f.accepted().length, batchSize), accumulation);
        double steps = Math.ceil(epochs * perEpoch);
        return String.format(
                Locale.ROOT,
                "%,.0f steps of %d rows for %s epochs, %,.0f tokens a step",
                steps,
                batchSize * accumulation,
                epochs == Math.rint(epochs) ? String.valueOf((long) epochs) : String.valueOf(epochs),
                (double) f.allTokens() / perEpoch);
    }

    private static void line(PrintWriter out, String name, String format, Object... values) {
        out.println(String.format(Locale.ROOT, "%-12s", name) + String.format(Locale.ROOT, format, values));
    }

    private static String count(int n, String what) {
        return String.format(Locale.ROOT, "%,d %s%s", n, what, n == 1 ? "" : "s");
    }

    private void requirePositive(int value, String option) {
        if (value < 1) {
            throw usage(option + " is " + value + ", expected at least 1");
        }
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
