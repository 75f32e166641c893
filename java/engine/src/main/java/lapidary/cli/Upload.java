package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.SortedMap;
import java.util.concurrent.Callable;
import lapidary.hub.Hub;
import lapidary.hub.Push;
import lapidary.hub.RepoId;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engine upload}: what {@code --push_to_hub} does when training is over, for a folder that is there. */
@Command(
        name = "upload",
        header = "Publishes an output folder on the Hugging Face Hub.",
        description = {"", "Sends what changed, in one commit; checkpoints and hidden files stay here."},
        mixinStandardHelpOptions = true)
final class Upload implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Parameters(
            index = "0",
            paramLabel = "NAME",
            description = "Repository: namespace/name, or a name in your account.")
    private String name;

    @Parameters(index = "1", paramLabel = "DIR", description = "Folder to publish.")
    private Path folder;

    @Option(names = "--private", description = "The repository is private; one that exists must be.")
    private boolean isPrivate;

    @Option(names = "--commit_message", paramLabel = "TEXT", description = "What the commit is called.")
    private String message = "Upload with lapidary";

    @Override
    public Integer call() {
        if (!RepoId.isValid(name)) {
            throw new ParameterException(spec.commandLine(), name + " cannot be a repository's name: namespace/name");
        }
        if (!Files.isDirectory(folder)) {
            throw new ParameterException(spec.commandLine(), "no such folder: " + folder);
        }
        SortedMap<String, Path> files = Push.files(folder);
        if (files.isEmpty()) {
            throw new ParameterException(spec.commandLine(), folder + " has nothing to publish");
        }
        PrintWriter out = spec.commandLine().getOut();
        try (Hub hub = HubOptions.hub(spec.commandLine())) {
            out.println("Published as " + hub.upload(hub.create(name, isPrivate), files, message));
        }
        out.flush();
        return 0;
    }
}
