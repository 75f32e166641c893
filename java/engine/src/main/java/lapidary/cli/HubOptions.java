package lapidary.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import lapidary.data.Datasets;
import lapidary.hub.Hub;
import lapidary.hub.HubException;
import lapidary.hub.HubSettings;
import lapidary.hub.RepoId;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** The options of {@code engine train} that have to do with the Hub, and what they mean for names. */
final class HubOptions {
    @Option(
            names = "--model_revision",
            paramLabel = "REV",
            description = "Branch, tag or commit of a model on the Hub (default: main).")
    private String modelRevision = Hub.MAIN;

    @Option(
            names = "--dataset_config",
            paramLabel = "NAME",
            description = "Config of a data set on the Hub (default: the one that its README calls default).")
    private String datasetConfig = "";

    @Option(
            names = "--push_to_hub",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "Publish the adapter with a model card when training is over (default: false).")
    private boolean push;

    @Option(
            names = "--hub_model_id",
            paramLabel = "NAME",
            description = "Repository to publish in (default: named after the output folder, in your own account).")
    private String repository = "";

    @Option(
            names = "--hub_strategy",
            paramLabel = "WHEN",
            description =
                    "With each checkpoint, while training goes on: every_save: its adapter; checkpoint: the rest of it too, in"
                            + " last-checkpoint; all_checkpoints: in its own folder. end: only when training is over"
                            + " (default: every_save).")
    private String strategy = "every_save";

    @Option(
            names = "--hub_private_repo",
            paramLabel = "BOOL",
            arity = "0..1",
            fallbackValue = "true",
            converter = BooleanConverter.class,
            description = "The repository is private; one that exists must be (default: false).")
    private boolean privateRepository;

    /** @throws ParameterException the options for publishing do not fit each other */
    void check(CommandLine command) {
        try {
            HubPush.Strategy.of(strategy);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage(), e);
        }
        if (!push && (!repository.isEmpty() || privateRepository)) {
            throw new ParameterException(
                    command,
                    (repository.isEmpty() ? "--hub_private_repo" : "--hub_model_id")
                            + " goes with --push_to_hub, which is not given");
        }
        if (!repository.isEmpty() && !RepoId.isValid(repository)) {
            throw new ParameterException(
                    command, "--hub_model_id is " + repository + ", expected a name on the Hub: namespace/name");
        }
    }

    /** For a command that publishes nothing. */
    void refusePush(CommandLine command) {
        if (push || privateRepository || !repository.isEmpty()) {
            throw new ParameterException(
                    command,
                    (push ? "--push_to_hub" : privateRepository ? "--hub_private_repo" : "--hub_model_id")
                            + " has no place here: only train and upload publish");
        }
    }

    boolean isPush() {
        return push;
    }

    /** Makes the repository before training, so that what stands in the way is told before the work. */
    HubPush begin(Path output, CommandLine command) {
        Path name = output.toAbsolutePath().normalize().getFileName();
        String id = !repository.isEmpty() ? repository : String.valueOf(name);
        if (!RepoId.isValid(id)) {
            throw new ParameterException(
                    command,
                    "the output folder's name " + id + " cannot be a repository's; choose one with --hub_model_id");
        }
        try (Hub hub = hub(command)) {
            return new HubPush(hub.create(id, privateRepository), HubPush.Strategy.of(strategy), command);
        }
    }

    /** The folder of the model: {@code given} where there is such a folder, else what the Hub has under that name. */
    Path model(Path given, CommandLine command) {
        return model(given, modelRevision, command);
    }

    static Path model(Path given, String revision, CommandLine command) {
        if (isLocal(given.toString())) {
            if (!revision.equals(Hub.MAIN)) {
                throw new ParameterException(
                        command,
                        "--model_revision " + revision + " goes with a model of the Hub, but " + given + " is a path");
            }
            return given;
        }
        try (Hub hub = hub(command)) {
            return hub.model(RepoId.model(given.toString()), revision);
        } catch (HubException e) {
            throw explained(given.toString(), e);
        }
    }

    /** The data set as the reader takes it: {@code given} where that exists, else what the Hub has under that name. */
    String dataset(String given, String split, CommandLine command) {
        return dataset(given, datasetConfig, split, command);
    }

    static String dataset(String given, String datasetConfig, String split, CommandLine command) {
        if (isLocal(given)) {
            if (!datasetConfig.isEmpty()) {
                throw new ParameterException(
                        command,
                        "--dataset_config " + datasetConfig + " goes with a data set of the Hub, but " + given
                                + " is a path");
            }
            return given;
        }
        try (Hub hub = hub(command)) {
            return hub.dataset(RepoId.dataset(given), datasetConfig, split, Hub.MAIN);
        } catch (HubException e) {
            throw explained(given, e);
        }
    }

    /** Whether it is a path: it exists, or it does not look like {@code namespace/name}. */
    static boolean isLocal(String given) {
        return !given.contains("/")
                || !RepoId.isValid(given)
                || Datasets.isDataFile(Path.of(given))
                || Files.exists(Path.of(given));
    }

    static Hub hub(CommandLine command) {
        try {
            return new Hub(HubSettings.ofEnvironment(), new ConsoleTransfer(command.getOut()));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage(), e);
        }
    }

    private static HubException explained(String given, HubException e) {
        return new HubException("there is no " + given + " on this machine, and on the Hub: " + e.getMessage(), e);
    }
}
