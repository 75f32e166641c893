package lapidary.bench;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import lapidary.data.Prefetch;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.ImageSource;

/**
 * Pictures a second from their files to the values that the vision tower reads, several threads as in training, each of
 * which writes them into memory of its own as a step writes them into its tensor:
 * {@code ImageSpeed FOLDER THREADS SECONDS}. Prints one number.
 */
public final class ImageSpeed {
    private static final int SIZE = 896;

    private ImageSpeed() {}

    public static void main(String[] args) throws IOException {
        List<ImageSource> pictures;
        try (Stream<Path> files = Files.list(Path.of(args[0]))) {
            pictures = files.sorted().map(ImageSource::of).toList();
        }
        int threads = Integer.parseInt(args[1]);
        double seconds = Double.parseDouble(args[2]);
        run(pictures, threads, seconds / 2); // until Java has compiled it
        System.out.printf(Locale.ROOT, "%.2f%n", run(pictures, threads, seconds));
    }

    private static double run(List<ImageSource> pictures, int threads, double seconds) {
        ImagePreprocessor preprocessor = ImagePreprocessor.gemma3(SIZE);
        Iterator<ImageSource> again = IntStream.iterate(0, i -> (i + 1) % pictures.size())
                .mapToObj(pictures::get)
                .iterator();
        long begun = System.nanoTime();
        int done = 0;
        ThreadLocal<MemorySegment> values =
                ThreadLocal.withInitial(() -> Arena.ofAuto().allocate(ValueLayout.JAVA_FLOAT, 3 * SIZE * SIZE));
        try (Prefetch<ImageSource, Float> ahead = new Prefetch<>(
                again,
                picture -> {
                    preprocessor.pixelValues(ImageDecoder.decode(picture)).values(0, values.get());
                    return values.get().getAtIndex(ValueLayout.JAVA_FLOAT, 0);
                },
                threads,
                2 * threads)) {
            while (System.nanoTime() - begun < seconds * 1e9) {
                ahead.next();
                done++;
            }
        }
        return done / ((System.nanoTime() - begun) / 1e9);
    }
}
