package lapidary.train;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.function.BooleanSupplier;
import lapidary.data.Collator;
import lapidary.data.Dataset;
import lapidary.data.Profile;
import lapidary.data.Sample;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.Gemma3Processor;
import lapidary.gemma3.PackedBatch;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;

/** Makes micro-batches of data set rows: template, ids, labels, decoded pixels. Called from several threads. */
final class MicroBatches {
    private final Gemma3Config config;
    private final Dataset dataset;
    private final Collator collator;
    private final ImagePreprocessor preprocessor; // null for a text-only model

    private MicroBatches(Gemma3Config config, Dataset dataset, Collator collator, ImagePreprocessor preprocessor) {
        this.config = config;
        this.dataset = dataset;
        this.collator = collator;
        this.preprocessor = preprocessor;
    }

    static MicroBatches of(Gemma3Config config, Path modelDirectory, Dataset dataset, Profile profile) {
        Gemma3Processor processor = Gemma3Processor.load(modelDirectory);
        requireSameImages(config, processor, modelDirectory);
        ImagePreprocessor preprocessor = config.isTextOnly() ? null : ImagePreprocessor.read(modelDirectory);
        return new MicroBatches(config, dataset, new Collator(processor, profile), preprocessor);
    }

    /** The processor's files and config.json must mean the same image tokens, or features land in the wrong places. */
    private static void requireSameImages(Gemma3Config config, Gemma3Processor processor, Path modelDirectory) {
        if (config.isTextOnly() || !processor.multimodal()) {
            return;
        }
        if (processor.imageId() != config.imageTokenId()) {
            throw new FormatException(modelDirectory + ": config.json has image_token_index " + config.imageTokenId()
                    + ", the tokenizer's image token is " + processor.imageId());
        }
        if (processor.imageSeqLength() != config.mmTokensPerImage()) {
            throw new FormatException(
                    modelDirectory + ": config.json has mm_tokens_per_image " + config.mmTokensPerImage()
                            + ", the processor's image_seq_length is " + processor.imageSeqLength());
        }
    }

    /**
     * Reads every row as far as its token ids, pictures counted but not decoded, so that a mistake in the last one is told
     * before the first step.
     *
     * @param wanted asked at each row; false ends the work
     * @throws CancellationException it was not wanted any more
     */
    void check(BooleanSupplier wanted) {
        dataset.forEach(conversation -> {
            if (!wanted.getAsBoolean()) {
                throw new CancellationException("the rows were not wanted any more");
            }
            collator.collate(conversation).images().forEach(image -> requireContent(conversation.id(), image));
        });
    }

    private static void requireContent(String row, ImageSource image) {
        try {
            if (image.length() == 0) {
                throw new FormatException(named(row, image.name() + " is empty (0 bytes), expected a picture"));
            }
        } catch (IOException e) {
            throw new FormatException(named(row, "cannot read " + image.name() + ": " + e.getMessage()), e);
        }
    }

    /** A picture that lies in the data set is named by its row already. */
    private static String named(String row, String message) {
        return message.startsWith(row) ? message : row + ": " + message;
    }

    MicroBatch load(int[] rows) {
        List<PackedBatch.Row> packed = new ArrayList<>();
        List<String> names = new ArrayList<>();
        List<int[]> targets = new ArrayList<>();
        for (int row : rows) {
            Sample sample = collator.collate(dataset.get(row));
            List<float[]> pixels = new ArrayList<>();
            for (ImageSource image : sample.images()) {
                pixels.add(pixels(sample.id(), image));
            }
            packed.add(new PackedBatch.Row(sample.inputIds(), sample.tokenTypeIds(), pixels));
            names.add(sample.id());
            targets.add(shifted(sample.labels()));
        }
        PackedBatch batch = PackedBatch.padded(packed, config.text().padTokenId());
        int[] all = new int[batch.tokens()];
        Arrays.fill(all, Sample.MASKED);
        int tokens = 0;
        for (int[] row : targets) {
            System.arraycopy(row, 0, all, tokens, row.length);
            tokens += row.length;
        }
        int trained = (int)
                Arrays.stream(all).filter(target -> target != Sample.MASKED).count();
        return new MicroBatch(batch, tokens, all, trained, names);
    }

    private float[] pixels(String row, ImageSource image) {
        try {
            return preprocessor.pixelValues(ImageDecoder.decode(image));
        } catch (FormatException e) {
            throw new FormatException(named(row, e.getMessage()), e);
        }
    }

    /** What each position must predict: the label after it; the last position has none. */
    private static int[] shifted(int[] labels) {
        int[] targets = new int[labels.length];
        System.arraycopy(labels, 1, targets, 0, labels.length - 1);
        targets[labels.length - 1] = Sample.MASKED;
        return targets;
    }
}
