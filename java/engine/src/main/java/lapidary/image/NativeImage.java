package lapidary.image;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import lapidary.device.NativeLibraries;
import lapidary.ffi.image.ImageTable;
import lapidary.ffi.image.im_frame;
import lapidary.ffi.image.im_scan;
import lapidary.ffi.image.im_table;

/**
 * The native part of one picture's way, with its memory, which lives until this is closed. For one thread. What each member
 * does, with shapes and errors, is stated in {@code native/include/image.h}.
 *
 * <p>A member that refuses its arguments throws {@link IllegalArgumentException}, one that gets no memory {@link
 * OutOfMemoryError}.
 */
final class NativeImage implements AutoCloseable {

    /** Holder idiom: class initialisation runs once and is safe across threads. */
    private static final class Library {
        static final MemorySegment TABLE = open();

        private static MemorySegment open() {
            NativeLibraries.loadKernels();
            MemorySegment table = ImageTable.lapidary_images();
            if (im_table.abi(table) != ImageTable.IM_ABI() || im_table.bytes(table) != im_table.sizeof()) {
                throw new IllegalStateException("the image library has table " + im_table.abi(table) + " of "
                        + im_table.bytes(table) + " bytes, this build expects " + ImageTable.IM_ABI() + " of "
                        + im_table.sizeof() + " bytes");
            }
            return table;
        }
    }

    private final MemorySegment table = Library.TABLE;
    private final Arena arena = Arena.ofConfined(); // of the arguments that are structures
    private final MemorySegment ctx;

    NativeImage() {
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        int status = im_table.context_create.invoke(im_table.context_create(table), out);
        if (status != ImageTable.IM_OK()) {
            arena.close();
            throw new OutOfMemoryError("the system has no memory to decode a picture");
        }
        ctx = out.get(ValueLayout.ADDRESS, 0);
    }

    /** Native memory of unspecified content; using it after this is closed throws. */
    MemorySegment allocate(long bytes) {
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        check(im_table.allocate.invoke(im_table.allocate(table), ctx, out, bytes));
        return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes, arena, null);
    }

    MemorySegment copyOf(byte[] bytes) {
        MemorySegment copy = allocate(bytes.length);
        MemorySegment.copy(bytes, 0, copy, ValueLayout.JAVA_BYTE, 0, bytes.length);
        return copy;
    }

    // ---- JPEG ----------------------------------------------------------------------------------------------------

    void jpegFile(byte[] file) {
        check(im_table.jpeg_file.invoke(im_table.jpeg_file(table), ctx, copyOf(file), file.length));
    }

    /** @param position of the table's counts in the file */
    void jpegCodes(boolean ac, int number, int position) {
        check(im_table.jpeg_codes.invoke(im_table.jpeg_codes(table), ctx, ac ? 1 : 0, number, position));
    }

    void jpegFrame(JpegComponent[] components, int width, int height, boolean progressive) {
        MemorySegment frame = arena.allocate(im_frame.layout());
        im_frame.width(frame, width);
        im_frame.height(frame, height);
        im_frame.components(frame, components.length);
        im_frame.progressive(frame, progressive ? 1 : 0);
        // the generated setters of an array's elements leave out its offset
        for (int i = 0; i < components.length; i++) {
            im_frame.across(frame).setAtIndex(ValueLayout.JAVA_INT, i, components[i].across);
            im_frame.down(frame).setAtIndex(ValueLayout.JAVA_INT, i, components[i].down);
        }
        check(im_table.jpeg_frame.invoke(im_table.jpeg_frame(table), ctx, frame));
    }

    /** @param position of the 64 quantisers in the file */
    void jpegQuantisers(int component, int position, boolean wide) {
        check(im_table.jpeg_quantisers.invoke(im_table.jpeg_quantisers(table), ctx, component, position, wide ? 1 : 0));
    }

    /** An empty {@code im_scan}. */
    MemorySegment newScan() {
        return arena.allocate(im_scan.layout());
    }

    /** Whether the scan holds what it should; if not, its fault says what is wrong. */
    boolean jpegScan(MemorySegment scan) {
        int status = im_table.jpeg_scan.invoke(im_table.jpeg_scan(table), ctx, scan);
        if (status != ImageTable.IM_DAMAGED()) {
            check(status);
        }
        return status == ImageTable.IM_OK();
    }

    /** @param space IM_GREY to IM_YCCK */
    Rgb jpegPixels(int width, int height, int space) {
        MemorySegment rgb = allocate(3L * width * height);
        check(im_table.jpeg_pixels.invoke(im_table.jpeg_pixels(table), ctx, rgb, rgb.byteSize(), space));
        return new Rgb(width, height, rgb.toArray(ValueLayout.JAVA_BYTE));
    }

    // ---- from pixels to values -----------------------------------------------------------------------------------

    /** Codes of 0 to 255: [3, height, width]. */
    MemorySegment resize(Rgb image, int width, int height, Resize.Precision precision) {
        MemorySegment codes = allocate(3L * width * height);
        check(im_table.resize.invoke(
                im_table.resize(table),
                ctx,
                codes,
                copyOf(image.pixels()),
                width,
                height,
                image.width(),
                image.height(),
                precision == Resize.Precision.PILLOW ? ImageTable.IM_PILLOW() : ImageTable.IM_TORCHVISION()));
        return codes;
    }

    /** values[i] = ((float) (codes[i] * factor) - mean) / std, of as many as there are codes. */
    void normalise(MemorySegment values, MemorySegment codes, double factor, float mean, float std) {
        check(im_table.normalise.invoke(
                im_table.normalise(table), ctx, values, codes, codes.byteSize(), factor, mean, std));
    }

    private void check(int status) {
        if (status == ImageTable.IM_OK()) {
            return;
        }
        String text = im_table.last_error
                .invoke(im_table.last_error(table), ctx)
                .reinterpret(Long.MAX_VALUE)
                .getString(0);
        if (status == ImageTable.IM_OUT_OF_MEMORY()) {
            throw new OutOfMemoryError(text);
        }
        throw new IllegalArgumentException(text);
    }

    @Override
    public void close() {
        arena.close(); // throws in another thread, before anything is freed
        im_table.context_destroy.invoke(im_table.context_destroy(table), ctx);
    }
}
