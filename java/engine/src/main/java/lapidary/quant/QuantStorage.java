package lapidary.quant;

import java.util.Arrays;
import java.util.List;

/** Dtypes that packed bytes may be stored under; their bytes are the same. The names are torch's. */
public enum QuantStorage {
    UINT8("U8", 1),
    INT8("I8", 1),
    BFLOAT16("BF16", 2),
    FLOAT16("F16", 2),
    FLOAT32("F32", 4),
    FLOAT64("F64", 8);

    private final String safetensorsName;
    private final int bytes;

    QuantStorage(String safetensorsName, int bytes) {
        this.safetensorsName = safetensorsName;
        this.bytes = bytes;
    }

    /** As in options and config.json, e.g. {@code uint8}. */
    public String torchName() {
        return name().toLowerCase(java.util.Locale.ROOT);
    }

    /** @throws IllegalArgumentException naming those there are */
    public static QuantStorage of(String torchName) {
        return Arrays.stream(values())
                .filter(storage -> storage.torchName().equals(torchName))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException(
                        "\"" + torchName + "\" is not a storage dtype: " + String.join(", ", names()) + " are"));
    }

    /** Names of all, as torch writes them. */
    public static List<String> names() {
        return Arrays.stream(values()).map(QuantStorage::torchName).toList();
    }

    static boolean isKnown(String safetensorsName) {
        return Arrays.stream(values()).anyMatch(storage -> storage.safetensorsName.equals(safetensorsName));
    }

    String safetensorsName() {
        return safetensorsName;
    }

    /** How many elements hold that many bytes. */
    long elements(String weight, long packedBytes) {
        if (packedBytes % bytes != 0) {
            throw new IllegalArgumentException("bnb_4bit_quant_storage " + torchName() + " does not divide the "
                    + packedBytes + " packed bytes of " + weight + "; use uint8");
        }
        return packedBytes / bytes;
    }
}
