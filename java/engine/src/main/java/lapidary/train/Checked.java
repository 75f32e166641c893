package lapidary.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.function.IntConsumer;
import lapidary.data.Preflight;
import lapidary.data.Preflight.Findings;
import lapidary.data.Samples;
import lapidary.format.FormatException;
import lapidary.image.ImageSource;

/**
 * What a look at all rows came to, as far as training needs it.
 *
 * @param rows all that were looked at
 * @param accepted rows that are trained on, ascending
 * @param tokens of each accepted row
 * @param views of each accepted row: what the model sees of its pictures
 * @param vocabulary different tokens of the accepted rows
 * @param bad rows that are left out as they are no good
 * @param tooLong rows that are left out as they are too long
 * @param fingerprint of the accepted rows as they are trained on: ids, labels, lengths of pictures
 * @param isRemembered whether an earlier run looked at them
 */
record Checked(
        int rows,
        int[] accepted,
        int[] tokens,
        int[] views,
        int vocabulary,
        List<Integer> bad,
        List<Integer> tooLong,
        String fingerprint,
        boolean isRemembered) {

    /**
     * Looks at every row and decodes its pictures, so that a mistake in the last one is told before the first step; or
     * takes what an earlier run has found where nothing has changed since.
     *
     * @param dropBad whether bad rows are left out, instead of ending this
     * @param threads how many rows are worked on at a time
     * @param wanted asked at each row; false ends the work
     * @param progress hears how many rows are done
     * @throws FormatException about the first row that is no good
     * @throws java.util.concurrent.CancellationException it was not wanted any more
     */
    static Checked look(
            Samples samples,
            boolean dropBad,
            int threads,
            BooleanSupplier wanted,
            IntConsumer progress,
            CheckCache.Place place) {
        Checked before = place.find();
        if (before != null) {
            return before;
        }
        Fingerprint all = new Fingerprint();
        Set<Path> files = new TreeSet<>();
        Set<Path> folders = new TreeSet<>();
        Findings findings = Preflight.run(samples, false, threads, wanted, new Preflight.Listener() {
            @Override
            public void onSample(int row, Samples.Loaded sample) {
                all.add(sample.sample());
                for (ImageSource image : sample.sample().images()) {
                    samples.fileOf(image).ifPresent(files::add);
                    folders.addAll(samples.watchedFor(image));
                }
            }

            @Override
            public void onBad(Preflight.Bad bad) {
                if (!dropBad) {
                    throw new FormatException(bad.reason());
                }
            }

            @Override
            public void onProgress(int done, int rows) {
                progress.accept(done);
            }
        });
        Checked found = new Checked(
                findings.rows(),
                findings.accepted(),
                findings.tokens(),
                findings.views(),
                findings.vocabulary(),
                findings.bad().stream().map(Preflight.Bad::row).toList(),
                findings.overlong().stream()
                        .filter(each -> each.kept() == 0)
                        .map(Preflight.Overlong::row)
                        .toList(),
                all.text(),
                false);
        folders.stream().filter(Files::isDirectory).forEach(files::add);
        place.keep(found, files);
        return found;
    }
}
