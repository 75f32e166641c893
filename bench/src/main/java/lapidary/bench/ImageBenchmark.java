package lapidary.bench;

import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.TimeUnit;
import javax.imageio.ImageIO;
import lapidary.image.ImageDecoder;
import lapidary.image.ImagePreprocessor;
import lapidary.image.Resize;
import lapidary.image.Rgb;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * A picture of 1200 x 900 from its file to the 896 x 896 that the vision tower reads, on one thread; the JDK's ImageIO,
 * which is native for JPEG, beside our decoders.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
@Fork(1)
public class ImageBenchmark {
    private static final int WIDTH = 1200;
    private static final int HEIGHT = 900;
    private static final int SIZE = 896;

    private byte[] jpeg;
    private byte[] png;
    private Rgb image;
    private ImagePreprocessor preprocessor;
    private MemorySegment values; // [3, SIZE, SIZE] F32

    @Setup
    public void draw() throws IOException {
        BufferedImage drawing = new BufferedImage(WIDTH, HEIGHT, BufferedImage.TYPE_INT_RGB);
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) {
                int red = (int) (127 + 100 * Math.sin(x / 37.0 + y / 51.0));
                int green = (int) (127 + 100 * Math.cos(x / 25.0 - y / 87.0));
                int grain = (x * 7919 + y * 104729) % 23;
                drawing.setRGB(x, y, red + grain << 16 | green + grain << 8 | (x * 255 / WIDTH + grain) % 256);
            }
        }
        jpeg = encode(drawing, "jpeg");
        png = encode(drawing, "png");
        image = ImageDecoder.decode(png, "png", true);
        preprocessor = ImagePreprocessor.gemma3(SIZE);
        values = Arena.ofAuto().allocate(ValueLayout.JAVA_FLOAT, 3 * SIZE * SIZE);
    }

    private static byte[] encode(BufferedImage drawing, String format) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ImageIO.write(drawing, format, out);
        return out.toByteArray();
    }

    @Benchmark
    public Rgb decodeJpeg() {
        return ImageDecoder.decode(jpeg, "jpeg", true);
    }

    @Benchmark
    public Rgb decodePng() {
        return ImageDecoder.decode(png, "png", true);
    }

    @Benchmark
    public BufferedImage imageIoJpeg() throws IOException {
        return ImageIO.read(new ByteArrayInputStream(jpeg));
    }

    @Benchmark
    public BufferedImage imageIoPng() throws IOException {
        return ImageIO.read(new ByteArrayInputStream(png));
    }

    @Benchmark
    public Rgb resizeAsTorchvision() {
        return Resize.bilinear(image, SIZE, SIZE, Resize.Precision.TORCHVISION);
    }

    @Benchmark
    public Rgb resizeAsPillow() {
        return Resize.bilinear(image, SIZE, SIZE, Resize.Precision.PILLOW);
    }

    @Benchmark
    public MemorySegment pixelValues() {
        preprocessor.pixelValues(image).values(0, values);
        return values;
    }
}
