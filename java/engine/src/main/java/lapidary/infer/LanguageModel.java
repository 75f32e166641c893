package lapidary.infer;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import lapidary.device.AutoDevice;
import lapidary.device.Device;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Message;
import lapidary.gemma3.PeftAdapter;
import lapidary.image.ImageSource;
import lapidary.image.PanAndScan;
import lapidary.image.PanAndScanSettings;

/**
 * A Gemma 3 checkpoint that answers: load it once, ask it from any thread.
 *
 * <pre>{@code
 * try (LanguageModel model = LanguageModel.load(Path.of("gemma-3-4b-it"))) {
 *     model.attach("cats", Path.of("out"));
 *     model.use("cats");
 *     Chat chat = model.chat();
 *     chat.send("What is it?", Path.of("cat.jpg")).stream(System.out::print);
 * }
 * }</pre>
 *
 * <p><b>Threads.</b> Every method may be called from any thread. Texts are tokenised and pictures decoded in the caller's;
 * everything else runs in one thread of the model's own, which drives the device. It decodes up to
 * {@link LoadOptions#batchSize} requests together, a token each in turn, and takes new ones in between; further requests
 * wait, in the order they came, and none is refused. {@link #attach} runs between two tokens of the others.
 *
 * <p>What a request has read stays in the model's cache for requests that begin alike, such as the next turn of a chat: of
 * the last {@link LoadOptions#batchSize} at most, and no more than {@link LoadOptions#keptBytes}. Prompts are read in pieces of 512 tokens, between the others' tokens.
 *
 * <p><b>Adapters</b> share the base's weights. A request is bound to its adapter when it is made: attaching another one under
 * that name, detaching it or {@link #use} change nothing for requests that wait or run.
 */
public final class LanguageModel implements AutoCloseable {
    /** The name of the base without any adapter. */
    public static final String BASE = "";

    private final Gemma3 base;
    private final Device owned; // null where the caller closes it
    private final Prompts prompts;
    private final LoadOptions options;
    private final PanAndScanSettings panAndScan; // what the model's own files say
    private final GenerationConfig config;
    private final int contextLength;
    private final Decoder decoder;
    private final Worker worker;
    private final Random seeds = new Random();
    private final Map<String, Adapter> adapters = new LinkedHashMap<>(); // guarded by this, as the next
    private String inUse = BASE;
    private boolean isDeviceClosed;

    private LanguageModel(
            Gemma3 base,
            Device owned,
            Prompts prompts,
            PanAndScanSettings panAndScan,
            GenerationConfig config,
            LoadOptions options,
            long keptBytes) {
        this.base = base;
        this.owned = owned;
        this.prompts = prompts;
        this.panAndScan = panAndScan;
        this.options = options;
        this.config = config;
        int limit = base.config().text().maxPositionEmbeddings();
        this.contextLength = options.contextLength() == 0 ? limit : options.contextLength();
        if (contextLength > limit) {
            throw new IllegalArgumentException("a context of " + contextLength + " tokens (--max_model_len,"
                    + " LoadOptions.withContextLength) is longer than max_position_embeddings in config.json, "
                    + limit);
        }
        this.decoder = new Decoder(base, options.batchSize(), keptBytes, Decoder.CHUNK);
        this.worker = new Worker(decoder, options.batchSize());
        adapters.put(BASE, new Adapter(BASE, base, options.panAndScan(panAndScan)));
    }

    /** Loads a model folder as {@link LoadOptions#DEFAULT} says. */
    public static LanguageModel load(Path folder) {
        return load(folder, LoadOptions.DEFAULT);
    }

    /**
     * Loads a model folder on this machine's device: a GPU where there is one. Where its driver is there but cannot be used,
     * the log of {@code lapidary.infer} has a warning and the CPU is taken.
     *
     * @throws lapidary.format.FormatException naming the file and what is wrong in it
     * @throws lapidary.device.DeviceException where the native libraries do not load, or memory is exhausted
     */
    public static LanguageModel load(Path folder, LoadOptions options) {
        Device device = AutoDevice.open(why -> System.getLogger(LanguageModel.class.getPackageName())
                .log(
                        System.Logger.Level.WARNING,
                        "This machine has a GPU's driver, but the model goes on the CPU: " + why));
        try {
            return load(folder, options, device, device);
        } catch (RuntimeException | Error e) {
            device.close();
            throw e;
        }
    }

    /**
     * Loads a model folder on a device that the caller closes, after the model; nobody else may drive it in between.
     *
     * @throws lapidary.format.FormatException naming the file and what is wrong in it
     */
    public static LanguageModel load(Path folder, LoadOptions options, Device device) {
        return load(folder, options, device, null);
    }

    private static LanguageModel load(Path folder, LoadOptions options, Device device, Device owned) {
        Gemma3 base = Gemma3.load(folder, device, options.precision(), null, 0);
        try {
            Prompts prompts = new Prompts(folder, base.config().isTextOnly());
            PanAndScanSettings panAndScan = base.config().isTextOnly()
                    ? PanAndScanSettings.OFF
                    : PanAndScanSettings.find(folder).orElse(PanAndScanSettings.OFF);
            GenerationConfig config =
                    GenerationConfig.read(folder, base.config().eosTokenIds());
            LanguageModel model =
                    new LanguageModel(base, owned, prompts, panAndScan, config, options, options.keptBytes(device));
            model.worker.start();
            return model;
        } catch (RuntimeException | Error e) {
            base.close();
            throw e;
        }
    }

    /** How the model's generation_config.json makes answers; greedy where there is none. */
    public GenerationOptions defaults() {
        return config.defaults();
    }

    /** Tokens that a prompt and its answer may have together. */
    public int contextLength() {
        return contextLength;
    }

    /** Whether messages may have pictures. */
    public boolean takesImages() {
        return !base.config().isTextOnly();
    }

    // ---- adapters ------------------------------------------------------------------------------------------------

    /**
     * Loads an adapter from a folder of PEFT's files, under a name; one that was attached under it is swapped for it. The base
     * is not loaded again. Where the folder holds an image processor's file, {@code do_pan_and_scan} in it says how pictures are
     * shown to this adapter, unless {@link LoadOptions#panAndScan} does.
     *
     * @throws lapidary.format.FormatException where the files are not an adapter of this base, saying why; what was attached
     *     stays
     */
    public void attach(String name, Path folder) {
        if (name.equals(BASE)) {
            throw new IllegalArgumentException("the empty name is the base's; give the adapter another");
        }
        PanAndScan shown = options.panAndScan(
                base.config().isTextOnly()
                        ? PanAndScanSettings.OFF
                        : PanAndScanSettings.find(folder).orElse(panAndScan));
        Adapter loaded = worker.call(() -> {
            try (PeftAdapter files = PeftAdapter.open(folder)) {
                Adapter adapter = new Adapter(name, base.withAdapter(files), shown);
                decoder.add(adapter);
                return adapter;
            }
        });
        synchronized (this) {
            Adapter before = adapters.put(name, loaded);
            if (before != null) {
                before.detach();
            }
        }
        worker.tidy();
    }

    /**
     * Takes an adapter off; its memory is free once no request uses it. Where it was in {@link #use}, the base is.
     *
     * @throws IllegalArgumentException where none of that name is attached
     */
    public synchronized void detach(String name) {
        requireAttached(name);
        if (name.equals(BASE)) {
            throw new IllegalArgumentException("the base cannot be detached");
        }
        adapters.remove(name).detach();
        if (inUse.equals(name)) {
            inUse = BASE;
        }
        worker.tidy();
    }

    /** Names of the attached adapters, without the base's. */
    public synchronized List<String> adapters() {
        return adapters.keySet().stream().filter(name -> !name.equals(BASE)).toList();
    }

    /**
     * Chooses the adapter of requests from now on that name none; {@link #BASE} for none.
     *
     * @throws IllegalArgumentException where none of that name is attached
     */
    public synchronized void use(String name) {
        requireAttached(name);
        inUse = name;
    }

    private void requireAttached(String name) {
        if (!adapters.containsKey(name)) {
            throw new IllegalArgumentException("no adapter is attached under the name \"" + name + "\"; attached are "
                    + adapters.keySet().stream().filter(n -> !n.equals(BASE)).toList());
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------------

    /** A new conversation that answers as {@link #defaults} say. */
    public Chat chat() {
        return chat(defaults());
    }

    /** A new conversation. */
    public Chat chat(GenerationOptions options) {
        return new Chat(this, options);
    }

    /** Begins the answer to one question, pictures before the words. */
    public Generation generate(String question, GenerationOptions options, Path... images) {
        List<Content> parts = new ArrayList<>();
        for (Path image : images) {
            parts.add(new Content.Image(ImageSource.of(image)));
        }
        parts.add(new Content.Text(question));
        return generate(List.of(new Message("user", parts)), options);
    }

    /**
     * Begins the answer to a conversation, whose last message is the user's. Returns once pictures are decoded; the answer is
     * made in the model's thread.
     *
     * @throws IllegalArgumentException where the messages are not a conversation to answer, the prompt leaves no room in the
     *     context, or no such adapter is attached
     * @throws lapidary.format.FormatException where a picture cannot be decoded, naming it
     * @throws IllegalStateException where the model is closed
     */
    public Generation generate(List<Message> messages, GenerationOptions options) {
        return generate(messages, Prompts.images(messages), options);
    }

    /**
     * The same with pictures apart from the messages, as rows of data have them.
     *
     * @param images all of the conversation's, in the order of their places: image parts, and each
     *     {@code <start_of_image>} among the words
     */
    public Generation generate(List<Message> messages, List<ImageSource> images, GenerationOptions options) {
        Adapter adapter = adapter(options.adapter());
        try {
            Sequence sequence = sequence(prompts.of(messages, images, adapter.panAndScan()), adapter, options);
            worker.submit(sequence);
            return sequence.generation();
        } catch (RuntimeException | Error e) {
            adapter.release();
            worker.tidy(); // it may have been detached meanwhile
            throw e;
        }
    }

    private Sequence sequence(Prompt prompt, Adapter adapter, GenerationOptions options) {
        if (prompt.tokens() >= contextLength) {
            throw new IllegalArgumentException("the prompt has " + prompt.tokens()
                    + " tokens, which leaves no room for an answer in a context of " + contextLength
                    + "; shorten it, or "
                    + (contextLength < base.config().text().maxPositionEmbeddings()
                            ? "allow more (--max_model_len, LoadOptions.withContextLength)"
                            : "give a model with a longer context"));
        }
        int answerTokens = config.answerTokens(options, prompt.tokens());
        Sampler sampler = new Sampler(
                options,
                (float) base.config().text().finalLogitSoftcapping(),
                options.seed() == null ? nextSeed() : options.seed());
        return new Sequence(
                prompt,
                Math.min(answerTokens, contextLength - prompt.tokens()),
                adapter,
                config.eosTokenIds(),
                sampler,
                options.stop(),
                prompts.processor().tokenizer());
    }

    /** Tokens of the prompt that a conversation makes for the adapter that {@link #use} chose, those of its images included. */
    public int countTokens(List<Message> messages) {
        PanAndScan shown;
        synchronized (this) {
            shown = adapters.get(inUse).panAndScan();
        }
        return prompts.of(messages, Prompts.images(messages), shown).tokens();
    }

    /**
     * The loss of a conversation's last message, which is the model's, given what comes before it; with the end of its turn.
     * Runs between two tokens of the requests at work, on the adapter that {@link #use} chose, and waits for the result.
     *
     * @throws IllegalArgumentException where the messages do not end with the model's, or are longer than the context
     */
    public TokenLoss loss(List<Message> messages) {
        List<ImageSource> images = Prompts.images(messages);
        List<Message> asked = messages.subList(0, Math.max(0, messages.size() - 1));
        return loss(messages, images, Prompts.images(asked).size());
    }

    /**
     * The same with pictures apart from the messages, as rows of data have them.
     *
     * @param images all of the conversation's, in the order of their places: image parts, and each
     *     {@code <start_of_image>} among the words
     * @param asked how many of them come before the last message
     */
    public TokenLoss loss(List<Message> messages, List<ImageSource> images, int asked) {
        int last = messages.size() - 1;
        if (last < 1) {
            throw new IllegalArgumentException("the conversation has no answer");
        }
        Adapter adapter = adapter(null);
        try {
            PanAndScan shown = adapter.panAndScan();
            int prompt = prompts.of(messages.subList(0, last), images.subList(0, asked), shown)
                    .tokens();
            Prompt whole = prompts.whole(messages, images, shown);
            if (whole.tokens() > contextLength) {
                throw new IllegalArgumentException(
                        "the conversation has " + whole.tokens() + " tokens, the context " + contextLength);
            }
            return worker.call(() -> decoder.loss(adapter.model(), whole, prompt));
        } finally {
            adapter.release();
            worker.tidy(); // it may have been detached meanwhile
        }
    }

    /** Ends all generations, which fail with {@link InferenceException}, and frees model and adapters. Again, it does nothing. */
    @Override
    public void close() {
        worker.close();
        closeDevice();
    }

    /** Once, whoever comes first: freeing it again would end the JVM. */
    private synchronized void closeDevice() {
        if (owned != null && !isDeviceClosed) {
            isDeviceClosed = true;
            owned.close();
        }
    }

    private synchronized long nextSeed() {
        return seeds.nextLong();
    }

    private synchronized Adapter adapter(String name) {
        String wanted = name == null ? inUse : name;
        requireAttached(wanted);
        Adapter adapter = adapters.get(wanted);
        adapter.use();
        return adapter;
    }
}
