package lapidary.device;

/** Element types that kernels know. The codes are those of {@code native/include/kernels.h}. */
public enum DType {
    F32(0, 4),
    BF16(1, 2),
    I32(2, 4),
    I16(3, 2),
    U8(4, 1),
    /** IEEE half precision: read from checkpoints, never computed with. */
    F16(5, 2);

    private final int code;
    private final int bytes;

    DType(int code, int bytes) {
        this.code = code;
        this.bytes = bytes;
    }

    /** The code of this type in the kernel table. */
    public int code() {
        return code;
    }

    /** Bytes of one element. */
    public int bytes() {
        return bytes;
    }
}
