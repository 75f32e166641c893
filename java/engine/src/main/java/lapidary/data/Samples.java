package lapidary.data;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import lapidary.format.FormatException;
import lapidary.gemma3.Gemma3Config;
import lapidary.gemma3.Gemma3Processor;
import lapidary.image.CodedPixels;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;
import lapidary.image.PanAndScan;
import lapidary.image.Rgb;

/**
 * The rows of a data set as a model is trained on them: template, ids, labels, lengths, pictures. The one way from a row to
 * numbers, for training and for every look ahead. Safe for many threads.
 */
public final class Samples {
    private final Dataset dataset;
    private final List<Path> folders; // of its files
    private final Gemma3Processor processor;
    private final Collator collator;
    private final LengthLimit limit;
    private final ImagePreprocessor preprocessor; // of a model with images
    private final boolean panAndScan;
    private final boolean turnsFiles;

    /**
     * A row.
     *
     * @param sample its tokens
     * @param tokens before it was cut to the limit
     * @param isDropped whether it is too long and left out; then there are no pictures
     * @param endsWithAnswer whether the last to speak is the model
     * @param pictures sizes of its pictures as decoded, before they are resized
     * @param pixels a picture's views, or nothing where they were not asked for: each [3, height, width]
     */
    public record Loaded(
            Sample sample,
            int tokens,
            boolean isDropped,
            boolean endsWithAnswer,
            List<Size> pictures,
            List<CodedPixels> pixels) {}

    /** Pixels. */
    public record Size(int width, int height) {
        @Override
        public String toString() {
            return width + "x" + height;
        }
    }

    private Samples(
            Dataset dataset,
            Gemma3Processor processor,
            Collator collator,
            LengthLimit limit,
            ImagePreprocessor preprocessor,
            boolean panAndScan,
            boolean turnsFiles) {
        this.dataset = dataset;
        this.folders =
                dataset.files().stream().map(PictureFiles::folderOf).distinct().toList();
        this.processor = processor;
        this.collator = collator;
        this.limit = limit;
        this.preprocessor = preprocessor;
        this.panAndScan = panAndScan;
        this.turnsFiles = turnsFiles;
    }

    /**
     * Reads the tokenizer's and processor's files.
     *
     * @param config of the model in {@code modelFolder}
     * @throws FormatException one of them is missing or damaged, or they do not fit each other
     * @throws IllegalArgumentException an option does not fit the model
     */
    public static Samples of(
            Gemma3Config config, Path modelFolder, Dataset dataset, Profile profile, DataOptions options) {
        Gemma3Processor processor = Gemma3Processor.load(modelFolder);
        requireSameImages(config, processor, modelFolder);
        return new Samples(
                dataset,
                processor,
                new Collator(processor, profile, options.lossOn()),
                new LengthLimit(
                        options.maxLength(), options.overlong(), config.text().maxPositionEmbeddings()),
                config.isTextOnly() ? null : ImagePreprocessor.read(modelFolder),
                options.panAndScan(),
                profile == Profile.DEFAULT);
    }

    /** The processor's files and config.json must mean the same image tokens, or features land in the wrong places. */
    private static void requireSameImages(Gemma3Config config, Gemma3Processor processor, Path modelFolder) {
        if (config.isTextOnly() || !processor.multimodal()) {
            return;
        }
        if (processor.imageId() != config.imageTokenId()) {
            throw new FormatException(modelFolder + ": config.json has image_token_index " + config.imageTokenId()
                    + ", the tokenizer's image token is " + processor.imageId());
        }
        if (processor.imageSeqLength() != config.mmTokensPerImage()) {
            throw new FormatException(modelFolder + ": config.json has mm_tokens_per_image " + config.mmTokensPerImage()
                    + ", the processor's image_seq_length is " + processor.imageSeqLength());
        }
    }

    /** Rows of the data set. */
    public int size() {
        return dataset.size();
    }

    public Dataset dataset() {
        return dataset;
    }

    public Gemma3Processor processor() {
        return processor;
    }

    /** Height and width of what the model sees of a picture, pixels; empty for a model without images. */
    public Optional<Size> view() {
        return preprocessor == null
                ? Optional.empty()
                : Optional.of(new Size(preprocessor.width(), preprocessor.height()));
    }

    /**
     * A row with its pictures decoded.
     *
     * @param withPixels whether the views that the model sees are made, too
     * @throws FormatException the row or a picture of it is no good; it names the record
     */
    public Loaded load(int row, boolean withPixels) {
        Conversation conversation = dataset.get(row);
        if (!panAndScan) { // what words can tell is told before pictures are decoded
            LengthLimit.Fitted fitted = limit.fit(collator.collate(conversation));
            List<ImageSource> images =
                    fitted.isDropped() ? List.of() : fitted.sample().images();
            return loaded(conversation, fitted, decode(conversation, images), withPixels);
        }
        List<Rgb> pictures = decode(conversation, conversation.images());
        int[] crops = new int[pictures.size()];
        for (int i = 0; i < crops.length; i++) {
            Rgb picture = pictures.get(i);
            crops[i] =
                    PanAndScan.DEFAULT.crops(picture.width(), picture.height()).size();
        }
        return loaded(conversation, limit.fit(collator.collate(conversation, crops)), pictures, withPixels);
    }

    /** The file that a picture lies in, unless that is the data's own. */
    public Optional<Path> fileOf(ImageSource image) {
        return PictureFiles.fileOf(image);
    }

    /** Folders in which a file may appear that would be taken instead of this picture; not all need exist. */
    public Set<Path> watchedFor(ImageSource image) {
        Set<Path> watched = new LinkedHashSet<>();
        folders.forEach(folder -> watched.addAll(PictureFiles.watchedFor(image, folder)));
        return watched;
    }

    /**
     * A row's tokens alone; its pictures are not decoded where that is not needed to know them.
     *
     * @throws FormatException the row is no good; it names the record
     */
    public Sample sample(int row) {
        return panAndScan
                ? load(row, false).sample()
                : limit.fit(collator.collate(dataset.get(row))).sample();
    }

    private Loaded loaded(
            Conversation conversation, LengthLimit.Fitted fitted, List<Rgb> pictures, boolean withPixels) {
        List<Size> sizes = new ArrayList<>();
        List<CodedPixels> pixels = new ArrayList<>();
        for (Rgb picture : pictures) {
            sizes.add(new Size(picture.width(), picture.height()));
            if (withPixels && panAndScan) {
                pixels.addAll(preprocessor.pixelValues(picture, PanAndScan.DEFAULT));
            } else if (withPixels) {
                pixels.add(preprocessor.pixelValues(picture));
            }
        }
        boolean answered = !conversation.messages().getLast().role().equals("user");
        return new Loaded(fitted.sample(), fitted.tokens(), fitted.isDropped(), answered, sizes, pixels);
    }

    private List<Rgb> decode(Conversation conversation, List<ImageSource> images) {
        String row = conversation.id();
        boolean applyExif = turnsFiles || !conversation.isOfFiles();
        List<Rgb> pictures = new ArrayList<>();
        for (ImageSource image : images) {
            requireContent(row, image);
            try {
                pictures.add(ImageDecoder.decode(image, applyExif));
            } catch (FormatException e) {
                throw new FormatException(named(row, e.getMessage()), e);
            }
        }
        return pictures;
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
}
