package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import lapidary.device.Device;
import lapidary.export.AdapterReport;
import lapidary.format.FormatException;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engine adapter}: what is in an adapter, and who loads it. */
@Command(
        name = "adapter",
        header = "Says what an adapter trains, how large that is, what is all zero, and which programs load it.",
        description = {"", "  engine adapter out"},
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Adapter implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Parameters(arity = "0..1", paramLabel = "DIR", description = "PEFT adapter, a folder.")
    private Path folder;

    @Option(
            names = "--adapter_name_or_path",
            paramLabel = "DIR",
            description = "The same, under the name that other commands have for it.")
    private Path named;

    @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
    private String device = "auto";

    @Override
    public Integer call() {
        Repeats.refuse(spec);
        if ((folder == null) == (named == null)) {
            throw new ParameterException(spec.commandLine(), "adapter needs one folder; see engine adapter --help");
        }
        AdapterReport report;
        try (Device opened = Devices.open(device, spec.commandLine())) {
            report = AdapterReport.of(folder == null ? named : folder, opened);
        }
        PrintWriter out = spec.commandLine().getOut();
        report.lines().forEach(out::println);
        out.flush();
        if (!report.problems().isEmpty()) {
            int more = report.problems().size() - 1;
            throw new FormatException((folder == null ? named : folder) + " is of no use: "
                    + report.problems().get(0) + (more == 0 ? "" : ", and " + more + " more"));
        }
        return 0;
    }
}
