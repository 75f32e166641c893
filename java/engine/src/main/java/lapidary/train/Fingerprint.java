package lapidary.train;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import lapidary.data.Sample;
import lapidary.format.FormatException;
import lapidary.image.ImageSource;

/** Tells whether what a run reads is still what it was; SHA-256 over numbers and bytes, each with its length. */
final class Fingerprint {
    private final MessageDigest digest;

    Fingerprint() {
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every JDK has SHA-256", e);
        }
    }

    void add(int[] values) {
        ByteBuffer bytes = ByteBuffer.allocate(8 + 4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(values.length);
        bytes.asIntBuffer().put(values);
        digest.update(bytes.array());
    }

    void add(long value) {
        digest.update(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(0, value));
    }

    void add(byte[] bytes) {
        add(bytes.length);
        digest.update(bytes);
    }

    /** A row as it is trained on: ids, labels, lengths of pictures. */
    void add(Sample sample) {
        add(sample.inputIds());
        add(sample.labels());
        for (ImageSource image : sample.images()) {
            try {
                add(image.length());
            } catch (IOException e) {
                throw new FormatException(sample.id() + ": cannot read " + image.name() + ": " + e.getMessage(), e);
            }
        }
    }

    /** Ends it. */
    String text() {
        return HexFormat.of().formatHex(digest.digest());
    }
}
