package lapidary.serve;

import java.util.concurrent.Semaphore;

/**
 * Heap that requests may take together: their text while it is read, and their pictures until they are answered. Taken before
 * it is used, so that a crowd of large requests is sent away instead of running the process out of memory.
 */
final class Memory {
    /** A body, its text, the same as values, and a picture's bytes out of base64. */
    private static final int COPIES_OF_BODY = 4;

    /** A picture as the model takes it: F32 [3, 896, 896], the size of every Gemma 3 on the Hub. */
    private static final long PICTURE_BYTES = 4L * 3 * 896 * 896;

    private static final int UNIT = 1024; // bytes of a permit

    private final int units;
    private final Semaphore free;

    Memory(long bytes) {
        units = (int) Math.min(Integer.MAX_VALUE, bytes / UNIT);
        free = new Semaphore(units);
    }

    static long ofBody(long bytes) {
        return COPIES_OF_BODY * bytes;
    }

    static long ofPictures(int pictures) {
        return PICTURE_BYTES * pictures;
    }

    /** What one request took; to be given back once. */
    record Share(Memory memory, int units) {
        void giveBack() {
            memory.free.release(units);
        }
    }

    /**
     * @param what for people
     * @throws ApiError where others hold too much of it now, or there never is so much
     */
    Share take(long bytes, String what) {
        long wanted = Math.ceilDiv(bytes, UNIT);
        if (wanted > units) {
            throw ApiError.tooLarge(what + " may take " + (bytes >> 20) + " MiB of memory, but this server has "
                    + (units >> 10) + " MiB for requests; send less, or give it a larger heap");
        }
        if (!free.tryAcquire((int) wanted)) {
            throw ApiError.busy("the server's memory for requests is taken by others; try again");
        }
        return new Share(this, (int) wanted);
    }

    boolean isFree() {
        return free.availablePermits() == units;
    }
}
