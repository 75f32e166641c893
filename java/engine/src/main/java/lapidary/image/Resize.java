package lapidary.image;

import java.util.Arrays;

/**
 * Bilinear resize with antialiasing of 8-bit RGB, in the integer arithmetic of the two libraries that Hugging Face's
 * image processors use, so that every byte is theirs.
 *
 * <p>Each axis on its own, rows first, rounded to 8 bits in between; an axis that keeps its length is not touched. An
 * output pixel's weights are a triangle over the source pixels, twice the scale wide when shrinking, made in double and
 * rounded to integers of {@code precision} binary places. The paths differ in that precision only.
 *
 * @see <a href="https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c">Pillow's resampling</a>;
 *     torch's is {@code aten/src/ATen/native/cpu/UpSampleKernelAVXAntialias.h}
 */
public final class Resize {

    /** Whose rounding of the weights. */
    public enum Precision {
        /** torchvision on a CPU with AVX2, AVX-512 or NEON: the most places with which an axis's weights fit int16. */
        TORCHVISION,
        /** Pillow: always 22 places. */
        PILLOW
    }

    /** Both libraries' upper limit: 8 bits of pixel and 2 of headroom remain of an int32. */
    private static final int MAX_PLACES = 22;

    private Resize() {}

    /**
     * @throws IllegalArgumentException if a side of the result is below 1 or above 65,535
     */
    public static Rgb bilinear(Rgb image, int width, int height, Precision precision) {
        if (width < 1
                || height < 1
                || width > Limits.MAX_SIDE
                || height > Limits.MAX_SIDE
                || (long) width * height > Limits.MAX_PIXELS) {
            throw new IllegalArgumentException(
                    "[resize] asked for " + width + " x " + height + " pixels, expected sides of 1 to "
                            + Limits.MAX_SIDE + " and at most " + Limits.MAX_PIXELS + " pixels");
        }
        if (image.width() == width && image.height() == height) {
            return image;
        }
        Weights across = Weights.of(image.width(), width, precision);
        Weights down = Weights.of(image.height(), height, precision);
        byte[] result = new byte[3 * width * height];
        int[][] rows = new int[down.taps][3 * width]; // source row y, resized along x, is in rows[y % taps]
        int[] sum = new int[3 * width];
        Row source = new Row(image);
        int done = 0;
        for (int y = 0; y < height; y++) {
            for (int end = down.first[y] + down.taps; done < end; done++) {
                source.load(done);
                source.resize(across, rows[done % down.taps]);
            }
            Arrays.fill(sum, down.half());
            for (int t = 0; t < down.taps; t++) {
                add(sum, rows[(down.first[y] + t) % down.taps], down.value[y * down.taps + t]);
            }
            store(sum, down.places, result, y * sum.length);
        }
        return new Rgb(width, height, result);
    }

    // Two loops over ints and one that narrows: what the JIT compiler turns into SIMD, unlike sums straight from bytes.
    private static void add(int[] sum, int[] row, int weight) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] += row[i] * weight;
        }
    }

    private static void store(int[] sum, int places, byte[] result, int to) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] = Math.min(sum[i] >> places, 255);
        }
        for (int i = 0; i < sum.length; i++) {
            result[to + i] = (byte) sum[i];
        }
    }

    /**
     * A source row. Red and blue share one long, so that one multiplication serves both: a sum stays below 2^31, since
     * the weights of a pixel sum to 2^22 at most, but for their rounding.
     */
    private static final class Row {
        private final Rgb image;
        private final long[] redBlue;
        private final int[] green;

        Row(Rgb image) {
            this.image = image;
            this.redBlue = new long[image.width()];
            this.green = new int[image.width()];
        }

        void load(int y) {
            byte[] pixels = image.pixels();
            int at = 3 * image.width() * y;
            for (int x = 0; x < green.length; x++, at += 3) {
                redBlue[x] = (pixels[at] & 0xff) | (pixels[at + 2] & 0xffL) << 32;
                green[x] = pixels[at + 1] & 0xff;
            }
        }

        void resize(Weights weights, int[] result) {
            int places = weights.places;
            long halves = weights.half() * 0x1_0000_0001L;
            int taps = weights.taps;
            int[] value = weights.value;
            for (int x = 0, w = 0, to = 0; x < weights.first.length; x++, to += 3) {
                long rb = halves;
                int g = (int) halves;
                int at = weights.first[x];
                for (int t = 0; t < taps; t++, w++) {
                    rb += redBlue[at + t] * value[w];
                    g += green[at + t] * value[w];
                }
                result[to] = Math.min((int) rb >> places, 255);
                result[to + 1] = Math.min(g >> places, 255);
                result[to + 2] = Math.min((int) (rb >>> 32) >> places, 255);
            }
        }
    }

    /**
     * One axis: output i is the sum over t below {@code taps} of source[first[i] + t] * value[i * taps + t], with
     * {@code places} binary places. Weights are never negative; rows with fewer weights than the longest are filled with
     * zeros, since a constant trip count is worth more than the skipped products.
     */
    private record Weights(int[] first, int taps, int[] value, int places) {

        static Weights of(int in, int out, Precision precision) {
            if (in == out) {
                return untouched(in);
            }
            double scale = (double) in / out;
            double support = Math.max(scale, 1.0);
            int[] first = new int[out];
            int taps = 0;
            for (int i = 0; i < out; i++) {
                first[i] = first(i, scale, support);
                taps = Math.max(taps, end(i, scale, support, in) - first[i]);
            }
            double[] exact = new double[Math.toIntExact((long) out * taps)];
            double largest = 0;
            for (int i = 0; i < out; i++) {
                int begin = first[i];
                int end = end(i, scale, support, in);
                first[i] = Math.min(begin, in - taps);
                largest =
                        Math.max(largest, triangle(exact, i * taps + begin - first[i], begin, end, i, scale, support));
            }
            int places = precision == Precision.PILLOW ? MAX_PLACES : placesForInt16(largest);
            int[] value = new int[exact.length];
            for (int i = 0; i < value.length; i++) {
                value[i] = (int) (0.5 + exact[i] * (1 << places));
            }
            return new Weights(first, taps, value, places);
        }

        /** An axis that keeps its length: weight 1 with no binary places. */
        private static Weights untouched(int length) {
            int[] first = new int[length];
            int[] ones = new int[length];
            for (int i = 0; i < length; i++) {
                first[i] = i;
                ones[i] = 1;
            }
            return new Weights(first, 1, ones, 0);
        }

        /** What rounds a sum when it is shifted down; 0 where {@link #of} found nothing to resize. */
        int half() {
            return places == 0 ? 0 : 1 << (places - 1);
        }

        private static int first(int i, double scale, double support) {
            return Math.max((int) ((i + 0.5) * scale - support + 0.5), 0);
        }

        private static int end(int i, double scale, double support, int in) {
            return Math.min((int) ((i + 0.5) * scale + support + 0.5), in);
        }

        /** Writes the weights of source pixels begin to end for output i, which sum to 1, and returns the largest. */
        private static double triangle(
                double[] weights, int at, int begin, int end, int i, double scale, double support) {
            double centre = (i + 0.5) * scale;
            double inverse = 1.0 / support;
            double sum = 0;
            for (int j = begin; j < end; j++) {
                double weight = Math.max(0, 1 - Math.abs((j - centre + 0.5) * inverse));
                weights[at + j - begin] = weight;
                sum += weight;
            }
            double largest = 0;
            for (int t = at; t < at + end - begin && sum != 0; t++) {
                weights[t] /= sum;
                largest = Math.max(largest, weights[t]);
            }
            return largest;
        }

        private static int placesForInt16(double largest) {
            int places = 0;
            while (places < MAX_PLACES && (int) (0.5 + largest * (1 << (places + 1))) < 1 << 15) {
                places++;
            }
            return places;
        }
    }
}
