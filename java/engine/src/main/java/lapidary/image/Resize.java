package lapidary.image;

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
        byte[] result = new byte[3 * width * height];
        rows(image, width, height, precision, (y, codes) -> {
            for (int x = 0, to = 3 * width * y; x < width; x++, to += 3) {
                result[to] = (byte) codes[x];
                result[to + 1] = (byte) codes[x + width];
                result[to + 2] = (byte) codes[x + 2 * width];
            }
        });
        return new Rgb(width, height, result);
    }

    /** Takes the rows of a result, from top to bottom. */
    interface Rows {
        /** @param codes [3, width], 0 to 255: of red, green, blue; to be used before this returns */
        void row(int y, int[] codes);
    }

    /** The same row by row, the colours apart: what follows of them is then done many pixels at a time. */
    static void rows(Rgb image, int width, int height, Precision precision, Rows result) {
        Weights across = Weights.of(image.width(), width, precision);
        Weights down = Weights.of(image.height(), height, precision);
        int[][] rows = new int[down.taps][3 * width]; // source row y, resized along x, is in rows[y % taps]
        int[] codes = new int[3 * width];
        int done = 0;
        for (int y = 0; y < height; y++) {
            for (int end = down.first[y] + down.taps; done < end; done++) {
                row(image.pixels(), 3 * image.width() * done, across, rows[done % down.taps]);
            }
            int first = down.first[y];
            int w = y * down.taps;
            begin(codes, rows[first % down.taps], down.value[w], down.half());
            for (int t = 1; t < down.taps; t++) {
                add(codes, rows[(first + t) % down.taps], down.value[w + t]);
            }
            end(codes, down.places);
            result.row(y, codes);
        }
    }

    // Loops over ints alone: what the JIT compiler turns into SIMD, unlike sums straight from bytes.
    private static void begin(int[] sum, int[] row, int weight, int half) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] = row[i] * weight + half;
        }
    }

    private static void add(int[] sum, int[] row, int weight) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] += row[i] * weight;
        }
    }

    private static void end(int[] sum, int places) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] = Math.min(sum[i] >> places, 255);
        }
    }

    /** One row along x. The common numbers of weights are written out: a loop of two or three costs more than its sums. */
    private static void row(byte[] source, int from, Weights weights, int[] result) {
        switch (weights.taps) {
            case 1:
                rowOfOne(source, from, weights, result);
                break;
            case 2:
                rowOfTwo(source, from, weights, result);
                break;
            case 3:
                rowOfThree(source, from, weights, result);
                break;
            default:
                rowOfMany(source, from, weights, result);
        }
    }

    /** An axis that keeps its length, or a side of one pixel: its only weight is 1. */
    private static void rowOfOne(byte[] source, int from, Weights weights, int[] result) {
        int width = weights.first.length;
        for (int x = 0; x < width; x++) {
            int at = from + 3 * weights.first[x];
            result[x] = source[at] & 0xff;
            result[x + width] = source[at + 1] & 0xff;
            result[x + 2 * width] = source[at + 2] & 0xff;
        }
    }

    private static void rowOfTwo(byte[] source, int from, Weights weights, int[] result) {
        int places = weights.places;
        int half = weights.half();
        int[] value = weights.value;
        int[] first = weights.first;
        int width = first.length;
        for (int x = 0; x < width; x++) {
            int at = from + 3 * first[x];
            int w0 = value[2 * x];
            int w1 = value[2 * x + 1];
            int red = half + (source[at] & 0xff) * w0 + (source[at + 3] & 0xff) * w1;
            int green = half + (source[at + 1] & 0xff) * w0 + (source[at + 4] & 0xff) * w1;
            int blue = half + (source[at + 2] & 0xff) * w0 + (source[at + 5] & 0xff) * w1;
            result[x] = Math.min(red >> places, 255);
            result[x + width] = Math.min(green >> places, 255);
            result[x + 2 * width] = Math.min(blue >> places, 255);
        }
    }

    private static void rowOfThree(byte[] source, int from, Weights weights, int[] result) {
        int places = weights.places;
        int half = weights.half();
        int[] value = weights.value;
        int width = weights.first.length;
        for (int x = 0, w = 0; x < width; x++, w += 3) {
            int at = from + 3 * weights.first[x];
            int w0 = value[w];
            int w1 = value[w + 1];
            int w2 = value[w + 2];
            int red = half + (source[at] & 0xff) * w0 + (source[at + 3] & 0xff) * w1 + (source[at + 6] & 0xff) * w2;
            int green =
                    half + (source[at + 1] & 0xff) * w0 + (source[at + 4] & 0xff) * w1 + (source[at + 7] & 0xff) * w2;
            int blue =
                    half + (source[at + 2] & 0xff) * w0 + (source[at + 5] & 0xff) * w1 + (source[at + 8] & 0xff) * w2;
            result[x] = Math.min(red >> places, 255);
            result[x + width] = Math.min(green >> places, 255);
            result[x + 2 * width] = Math.min(blue >> places, 255);
        }
    }

    private static void rowOfMany(byte[] source, int from, Weights weights, int[] result) {
        int places = weights.places;
        int[] value = weights.value;
        int width = weights.first.length;
        for (int x = 0, w = 0; x < width; x++) {
            int red = weights.half();
            int green = red;
            int blue = red;
            int at = from + 3 * weights.first[x];
            for (int end = w + weights.taps; w < end; w++, at += 3) {
                red += (source[at] & 0xff) * value[w];
                green += (source[at + 1] & 0xff) * value[w];
                blue += (source[at + 2] & 0xff) * value[w];
            }
            result[x] = Math.min(red >> places, 255);
            result[x + width] = Math.min(green >> places, 255);
            result[x + 2 * width] = Math.min(blue >> places, 255);
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
