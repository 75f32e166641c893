package lapidary.cli;

import java.io.PrintWriter;
import java.util.concurrent.Callable;
import lapidary.hub.Hub;
import lapidary.hub.RepoId;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engine download}: fetches ahead what {@code engine train} would fetch, and says where it is. */
@Command(
        name = "download",
        header = "Fetches a model or a data set of the Hugging Face Hub into the cache.",
        description = {"", "Only what training needs. With HF_HUB_OFFLINE=1 it tells whether that is there."},
        mixinStandardHelpOptions = true)
final class Download implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "NAME", description = "Name on the Hub: namespace/name.")
    private String name;

    @Option(names = "--revision", paramLabel = "REV", description = "Branch, tag or commit (default: main).")
    private String revision = Hub.MAIN;

    @Option(names = "--dataset", description = "It is a data set, not a model.")
    private boolean isDataset;

    @Option(names = "--config", paramLabel = "NAME", description = "Of a data set: its config.")
    private String config = "";

    @Option(names = "--split", paramLabel = "NAME", description = "Of a data set: its split (default: train).")
    private String split = "train";

    @Override
    public Integer call() {
        if (!RepoId.isValid(name)) {
            throw new ParameterException(spec.commandLine(), name + " cannot be a name on the Hub: namespace/name");
        }
        PrintWriter out = spec.commandLine().getOut();
        try (Hub hub = HubOptions.hub(spec.commandLine())) {
            out.println(
                    isDataset
                            ? hub.dataset(RepoId.dataset(name), config, split, revision)
                            : hub.model(RepoId.model(name), revision).toString());
        }
        out.flush();
        return 0;
    }
}
