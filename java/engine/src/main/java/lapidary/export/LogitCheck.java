package lapidary.export;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import lapidary.autograd.Tape;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.format.FormatException;
import lapidary.gemma3.Content;
import lapidary.gemma3.Gemma3;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.Message;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.PackedBatch;
import lapidary.gemma3.PeftAdapter;
import lapidary.gemma3.Precision;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;
import lapidary.image.Pixels;
import lapidary.image.Rgb;
import lapidary.tensor.Frame;
import lapidary.tensor.Tensor;

/** Runs models on the same prompts and says how far apart their logits are. */
final class LogitCheck {
    private static final List<String> PROMPTS = List.of(
            "What is the capital of France?",
            "Write two sentences about the sea.",
            "def fibonacci(n):",
            "Übersetze ins Englische: Der Hund schläft. 17 + 25 = ?");

    /** Positions of a prompt whose logits are compared: the last ones. */
    private static final int POSITIONS = 16;

    /** Weights in BF16 that are still computed with in F32, bytes: 1b and smaller. */
    private static final long SMALL = 2_500_000_000L;

    /** The likeliest tokens whose log-probabilities are compared. */
    static final int TOP = 50;

    private final Device device;
    private final DType dtype;
    private final List<PackedBatch.Row> prompts;

    private LogitCheck(Device device, DType dtype, List<PackedBatch.Row> prompts) {
        this.device = device;
        this.dtype = dtype;
        this.prompts = prompts;
    }

    /** What is asked instead of the built-in prompts; an image is a prompt of its own. */
    record Questions(List<String> texts, List<Path> images) {}

    /**
     * How far apart two models are.
     *
     * @param rms root mean square of the differences of logits
     * @param max largest of them
     * @param maxLogprob largest difference of log-probabilities among the first model's {@value #TOP} likeliest tokens
     * @param sameTop positions whose likeliest token is the same
     */
    record Distance(double rms, double max, double maxLogprob, int sameTop, int positions) {
        Map<String, Object> json() {
            Map<String, Object> json = new LinkedHashMap<>();
            json.put("rms_logit", rms);
            json.put("max_logit", max);
            json.put("max_logprob_top" + TOP, maxLogprob);
            json.put("same_likeliest_token", sameTop);
            json.put("positions", positions);
            return json;
        }
    }

    /**
     * Prepares prompts for a model folder; without tokenizer.json there, random ids.
     *
     * @param elements of the model, which decide whether F32 is affordable
     */
    static LogitCheck of(Path folder, Gemma3Config config, long elements, Device device, Questions questions) {
        DType dtype = elements * 2 <= SMALL ? DType.F32 : DType.BF16;
        return new LogitCheck(device, dtype, prompts(folder, config, questions));
    }

    DType dtype() {
        return dtype;
    }

    int prompts() {
        return prompts.size();
    }

    /** Logits at the last positions of each prompt: [positions][vocab]. */
    List<float[]> run(Path folder, PeftAdapter adapter, Nf4Options nf4) {
        Precision precision = new Precision(dtype, nf4, false);
        List<float[]> logits = new ArrayList<>();
        try (Gemma3 model = Gemma3.load(folder, device, precision, adapter == null ? null : adapter.spec(), 0)) {
            if (adapter != null) {
                adapter.copyTo(model.parameters(), model.frame());
            }
            model.dropout().setTraining(false);
            for (PackedBatch.Row prompt : prompts) {
                logits.addAll(logits(model, prompt));
            }
        }
        return logits;
    }

    private List<float[]> logits(Gemma3 model, PackedBatch.Row prompt) {
        List<float[]> rows = new ArrayList<>();
        try (Frame frame = model.frame().child("prompt")) {
            Tensor hidden = model.forward(Tape.notRecording(frame), PackedBatch.of(List.of(prompt)), false);
            int tokens = prompt.ids().length;
            for (int t = Math.max(0, tokens - POSITIONS); t < tokens; t++) {
                try (Frame row = frame.child("row")) {
                    Tensor logits = row.empty(DType.F32, 1, model.lmHead().rows());
                    row.gemm().linear(logits, hidden.slice(t, t + 1), model.lmHead(), Tensor.NONE);
                    rows.add(logits.toFloats());
                }
            }
        }
        return rows;
    }

    /** @throws FormatException where a logit is not finite */
    static void requireFinite(String what, List<float[]> logits) {
        for (float[] row : logits) {
            for (float x : row) {
                if (!Float.isFinite(x)) {
                    throw new FormatException(what + " computes logits that are not finite; nothing was written");
                }
            }
        }
    }

    static Distance distance(List<float[]> expected, List<float[]> found) {
        double squares = 0;
        double max = 0;
        double maxLogprob = 0;
        long count = 0;
        int same = 0;
        for (int row = 0; row < expected.size(); row++) {
            float[] x = expected.get(row);
            float[] y = found.get(row);
            for (int i = 0; i < x.length; i++) {
                double d = (double) x[i] - y[i];
                squares += d * d;
                max = Math.max(max, Math.abs(d));
            }
            count += x.length;
            same += argmax(x) == argmax(y) ? 1 : 0;
            double zx = logSumExp(x);
            double zy = logSumExp(y);
            float least = leastOfTop(x);
            for (int i = 0; i < x.length; i++) {
                if (x[i] >= least) {
                    maxLogprob = Math.max(maxLogprob, Math.abs((x[i] - zx) - (y[i] - zy)));
                }
            }
        }
        return new Distance(Math.sqrt(squares / Math.max(1, count)), max, maxLogprob, same, expected.size());
    }

    private static int argmax(float[] x) {
        int best = 0;
        for (int i = 1; i < x.length; i++) {
            best = x[i] > x[best] ? i : best;
        }
        return best;
    }

    private static double logSumExp(float[] x) {
        double max = x[argmax(x)];
        double sum = 0;
        for (float v : x) {
            sum += Math.exp(v - max);
        }
        return max + Math.log(sum);
    }

    private static float leastOfTop(float[] x) {
        float[] sorted = x.clone();
        Arrays.sort(sorted);
        return sorted[Math.max(0, sorted.length - TOP)];
    }

    // ---- prompts -------------------------------------------------------------------------------------------------

    private static List<PackedBatch.Row> prompts(Path folder, Gemma3Config config, Questions questions) {
        if (!Files.exists(folder.resolve("tokenizer.json"))) {
            if (!questions.texts().isEmpty() || !questions.images().isEmpty()) {
                throw new FormatException(folder + " has no tokenizer.json, so no prompt can be asked; copy it from the"
                        + " checkpoint that the model came from");
            }
            return List.of(random(config));
        }
        Gemma3Processor processor = Gemma3Processor.load(folder);
        List<String> texts = questions.texts().isEmpty() && questions.images().isEmpty() ? PROMPTS : questions.texts();
        List<PackedBatch.Row> rows = new ArrayList<>();
        for (String text : texts) {
            rows.add(row(processor, List.of(new Content.Text(text)), List.of()));
        }
        if (!questions.images().isEmpty() && !processor.multimodal()) {
            throw new IllegalArgumentException("--image " + questions.images().get(0) + ": the model in " + folder
                    + " is text-only and takes no images");
        }
        if (processor.multimodal()) {
            ImagePreprocessor preprocessor = ImagePreprocessor.read(folder);
            List<Rgb> pictures = new ArrayList<>();
            questions.images().forEach(image -> pictures.add(ImageDecoder.decode(ImageSource.of(image))));
            if (pictures.isEmpty()) {
                pictures.add(drawn(preprocessor.width(), preprocessor.height()));
            }
            for (Rgb picture : pictures) {
                List<Content> content = List.of(
                        new Content.Image(ImageSource.of("a picture", new byte[0])),
                        new Content.Text("What is in this picture?"));
                rows.add(row(processor, content, List.of(preprocessor.pixelValues(picture))));
            }
        }
        return rows;
    }

    private static PackedBatch.Row row(
            Gemma3Processor processor, List<Content> content, List<? extends Pixels> pixels) {
        Gemma3Processor.Encoded encoded = processor.encode(
                processor.template().render(List.of(new Message("user", content)), true), pixels.size(), false, false);
        return new PackedBatch.Row(encoded.ids(), encoded.tokenTypeIds(), pixels);
    }

    private static PackedBatch.Row random(Gemma3Config config) {
        RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(1);
        int vocab = config.text().vocabSize();
        int[] ids = new int[24];
        for (int i = 0; i < ids.length; i++) {
            ids[i] = random.nextInt(vocab);
            ids[i] = ids[i] == config.imageTokenId() ? 0 : ids[i];
        }
        if (config.isTextOnly()) {
            return new PackedBatch.Row(ids, new int[ids.length], List.of());
        }
        // An image, so that the vision tower counts too.
        Gemma3Config.Vision vision = config.vision();
        int[] all = Arrays.copyOf(ids, ids.length + config.mmTokensPerImage() + ids.length);
        int[] types = new int[all.length];
        Arrays.fill(all, ids.length, ids.length + config.mmTokensPerImage(), config.imageTokenId());
        Arrays.fill(types, ids.length, ids.length + config.mmTokensPerImage(), 1);
        System.arraycopy(ids, 0, all, ids.length + config.mmTokensPerImage(), ids.length);
        int side = vision.imageSize();
        byte[] pixels = new byte[3 * side * side];
        random.nextBytes(pixels);
        Pixels picture = ImagePreprocessor.gemma3(side).pixelValues(new Rgb(side, side, pixels));
        return new PackedBatch.Row(all, types, List.of(picture));
    }

    /** Colours that run, and a disc. */
    private static Rgb drawn(int width, int height) {
        byte[] pixels = new byte[3 * width * height];
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                boolean disc = Math.hypot(x - 0.4 * width, y - 0.6 * height) < 0.25 * Math.min(width, height);
                int at = 3 * (y * width + x);
                pixels[at] = (byte) (disc ? 220 : 255 * x / width);
                pixels[at + 1] = (byte) (disc ? 40 : 255 * y / height);
                pixels[at + 2] = (byte) (disc ? 30 : 128);
            }
        }
        return new Rgb(width, height, pixels);
    }
}
