package lapidary.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Nf4Options;
import lapidary.hub.Hub;
import lapidary.infer.LanguageModel;
import lapidary.infer.LoadOptions;
import lapidary.serve.ApiKey;
import lapidary.serve.ChatServer;
import lapidary.serve.ServerOptions;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine serve}: a model and its adapters behind OpenAI's HTTP interface, until it is told to end. */
@Command(
        name = "serve",
        header = "Answers chats, text and images, over OpenAI's HTTP interface.",
        description = {
            "",
            "  engine serve --model_name_or_path gemma-3-4b-it --adapter cats=out",
            "",
            "Clients take http://127.0.0.1:8000/v1 as their base URL. The base and each adapter are models of it. Ctrl-C or"
                    + " SIGTERM lets chats at work end for five seconds, closes, and ends with 0."
        },
        sortOptions = false,
        usageHelpWidth = 120,
        usageHelpAutoWidth = true,
        mixinStandardHelpOptions = true)
final class Serve implements Callable<Integer> {
    private static final String KEY_VARIABLE = "LAPIDARY_API_KEY";

    @Spec
    private CommandSpec spec;

    @ArgGroup(validate = false, heading = "%nModel:%n", order = 1)
    private final Inputs inputs = new Inputs();

    @ArgGroup(validate = false, heading = "%nServer:%n", order = 2)
    private final Door door = new Door();

    @ArgGroup(validate = false, heading = "%nQuantisation:%n", order = 3)
    private final QuantOptions quant = new QuantOptions();

    private static final class Inputs {
        @Option(
                names = "--model_name_or_path",
                paramLabel = "DIR|NAME",
                description = "Gemma 3 checkpoint: a folder as the Hugging Face Hub lays it out, or a name on the Hub.")
        private Path model;

        @Option(
                names = "--model_revision",
                paramLabel = "REV",
                description = "Branch, tag or commit of a model on the Hub (default: main).")
        private String revision = Hub.MAIN;

        @Option(
                names = "--adapter",
                paramLabel = "NAME=DIR",
                description = "A PEFT adapter of the model, and the name that clients ask for it by. May be repeated.")
        private List<String> adapters = List.of();

        @Option(
                names = "--served_model_name",
                paramLabel = "NAME",
                description = "What clients call the model itself (default: the last part of its name or path).")
        private String name;

        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = DTypeConverter.class,
                description = "Of weights that are not quantised, and of activations: bfloat16 or float32"
                        + " (default: bfloat16).")
        private DType dtype = DType.BF16;

        @Option(
                names = "--context_length",
                paramLabel = "N",
                description = "Tokens of a prompt and its answer together (default: the model's limit).")
        private int contextLength;

        @Option(
                names = "--batch_size",
                paramLabel = "N",
                description = "Chats that are decoded together; more wait (default: 8).")
        private int batchSize = LoadOptions.DEFAULT.batchSize();

        @Option(
                names = "--do_pan_and_scan",
                paramLabel = "BOOL",
                arity = "0..1",
                fallbackValue = "true",
                converter = BooleanConverter.class,
                description =
                        "Show long pictures in parts, too (default: to each adapter as it was trained, to the model as"
                                + " its image processor says).")
        private Boolean panAndScan;

        @Option(
                names = "--kept_cache_size",
                paramLabel = "SIZE",
                description = "Memory that is kept of what finished chats have read, for their next turns; 0B for none"
                        + " (default: an eighth of the device's).")
        private String keptCacheSize;

        @Option(names = "--device", paramLabel = "NAME", description = "auto, cpu or cuda (default: auto).")
        private String device = "auto";
    }

    private static final class Door {
        @Option(
                names = "--host",
                paramLabel = "HOST",
                description = "Address to listen on; 0.0.0.0 for every one (default: 127.0.0.1, this machine alone).")
        private String host = ServerOptions.DEFAULT.host();

        @Option(names = "--port", paramLabel = "N", description = "0 for any that is free (default: 8000).")
        private int port = ServerOptions.DEFAULT.port();

        @Option(
                names = "--api_key",
                paramLabel = "KEY",
                description = "What clients must present; better in the environment variable " + KEY_VARIABLE
                        + ", as others can see the arguments of a process (default: none).")
        private String apiKey;

        @Option(
                names = "--allow_origin",
                paramLabel = "URL",
                description = "Web pages that may ask from a browser, like http://localhost:3000, or * for all. May be"
                        + " repeated (default: none).")
        private List<String> origins = List.of();

        @Option(
                names = "--max_requests",
                paramLabel = "N",
                description = "Chats at work and waiting; further ones get 429 (default: 64).")
        private int maxRequests = ServerOptions.DEFAULT.maxRequests();

        @Option(
                names = "--max_body_size",
                paramLabel = "SIZE",
                description = "Of one request, pictures included, at most 1GB (default: 32MB).")
        private String maxBodySize = "32MB";

        @Option(names = "--max_images", paramLabel = "N", description = "Pictures in one request (default: 16).")
        private int maxImages = ServerOptions.DEFAULT.maxImages();
    }

    @Override
    public Integer call() throws InterruptedException {
        Repeats.refuse(spec, Set.of("--adapter", "--allow_origin"));
        if (inputs.model == null) {
            throw new ParameterException(
                    spec.commandLine(), "serve needs --model_name_or_path; see engine serve --help");
        }
        quant.refuseOthers(spec.commandLine(), inputs.dtype);
        quant.refuseWithoutLoadIn4bit(spec.commandLine());
        Map<String, Path> adapters = adapters();
        ServerOptions options = serverOptions();
        if (adapters.containsKey(options.modelName())) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--adapter " + options.modelName() + " has the model's own name; choose another, or"
                            + " --served_model_name");
        }
        LoadOptions load = loadOptions();
        limitConnections();
        Path folder = HubOptions.model(inputs.model, inputs.revision, spec.commandLine());
        Device device = Devices.open(inputs.device, spec.commandLine());
        LanguageModel model = null;
        ChatServer server;
        try {
            model = LanguageModel.load(folder, load, device);
            for (Map.Entry<String, Path> adapter : adapters.entrySet()) {
                model.attach(adapter.getKey(), adapter.getValue());
            }
            server = ChatServer.start(model, options, this::print);
        } catch (RuntimeException | Error e) {
            close(model, device);
            throw e;
        }
        LanguageModel served = model;
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            print("closing");
            server.close();
            close(served, device);
            Runtime.getRuntime().halt(0); // the JVM's own code for a signal would tell of a failure
        }));
        welcome(server, options, adapters);
        new CountDownLatch(1).await(); // the hook ends the process
        return 0;
    }

    private static void close(LanguageModel model, Device device) {
        if (model != null) {
            model.close();
        }
        device.close();
    }

    private void welcome(ChatServer server, ServerOptions options, Map<String, Path> adapters) {
        List<String> names = new ArrayList<>(List.of(options.modelName()));
        names.addAll(adapters.keySet());
        print("serving " + String.join(", ", names) + " at " + server.uri());
        if (!server.isLocal() && options.apiKey().equals(ApiKey.NONE)) {
            print("anybody who reaches this address may ask: there is no API key (" + KEY_VARIABLE + ")");
        }
    }

    private synchronized void print(String line) {
        PrintWriter out = spec.commandLine().getOut();
        out.println(Printable.line(line));
        out.flush();
    }

    private ServerOptions serverOptions() {
        long bodyBytes = Sizes.bytes("--max_body_size", door.maxBodySize, spec.commandLine());
        try {
            return ServerOptions.DEFAULT
                    .withAddress(door.host, door.port)
                    .withModelName(inputs.name == null ? lastPart(inputs.model) : inputs.name)
                    .withApiKey(apiKey())
                    .withOrigins(Set.copyOf(door.origins))
                    .withLimits(door.maxRequests, bodyBytes, door.maxImages);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), "serve: " + e.getMessage(), e);
        }
    }

    private LoadOptions loadOptions() {
        try {
            LoadOptions load = LoadOptions.DEFAULT
                    .withDtype(inputs.dtype)
                    .withContextLength(inputs.contextLength)
                    .withBatchSize(inputs.batchSize)
                    .withKeptBytes(keptBytes());
            if (inputs.panAndScan != null) {
                load = load.withPanAndScan(inputs.panAndScan);
            }
            return quant.loadIn4bit() ? load.withNf4(new Nf4Options(quant.nested(), quant.skip())) : load;
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), "serve: " + e.getMessage(), e);
        }
    }

    private long keptBytes() {
        String size = inputs.keptCacheSize;
        return size == null ? LoadOptions.EIGHTH : Sizes.bytesOrNone("--kept_cache_size", size, spec.commandLine());
    }

    private ApiKey apiKey() {
        String key = door.apiKey == null ? System.getenv(KEY_VARIABLE) : door.apiKey;
        return key == null ? ApiKey.NONE : ApiKey.of(key);
    }

    private static String lastPart(Path model) {
        return String.valueOf(model.toAbsolutePath().normalize().getFileName());
    }

    private Map<String, Path> adapters() {
        Map<String, Path> adapters = new LinkedHashMap<>();
        for (String given : inputs.adapters) {
            int equals = given.indexOf('=');
            if (equals < 1 || equals == given.length() - 1) {
                throw new ParameterException(
                        spec.commandLine(), "--adapter is " + given + ", expected NAME=DIR, as cats=out");
            }
            if (adapters.put(given.substring(0, equals), Path.of(given.substring(equals + 1))) != null) {
                throw new ParameterException(
                        spec.commandLine(),
                        "--adapter " + given.substring(0, equals) + " is given twice; which one counts?");
            }
        }
        return adapters;
    }

    /** The JDK's HTTP server takes these as system properties only, once, when it is first used. */
    private static void limitConnections() {
        setUnlessGiven("sun.net.httpserver.nodelay", "true"); // pieces of a stream are small, and not to wait
        setUnlessGiven("sun.net.httpserver.maxReqTime", "120"); // seconds that a request may take to arrive
        setUnlessGiven("jdk.httpserver.maxConnections", "4096");
    }

    private static void setUnlessGiven(String property, String value) {
        if (System.getProperty(property) == null) {
            System.setProperty(property, value);
        }
    }
}
