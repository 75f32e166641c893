package lapidary.quant;

/**
 * The constants of NF4; those of its double quantisation are {@link DynamicMap#signed}.
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">QLoRA</a>
 */
public final class Nf4 {
    private Nf4() {}

    /** The 16 numbers that codes stand for, rising. */
    public static float[] codes() {
        return new float[] {
            -1f,
            -0.6961928009986877f,
            -0.5250730514526367f,
            -0.39491748809814453f,
            -0.28444138169288635f,
            -0.18477343022823334f,
            -0.09105003625154495f,
            0f,
            0.07958029955625534f,
            0.16093020141124725f,
            0.24611230194568634f,
            0.33791524171829224f,
            0.44070982933044434f,
            0.5626170039176941f,
            0.7229568362236023f,
            1f
        };
    }
}
