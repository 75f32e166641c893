package lapidary.device;

/**
 * The scalars of one AdamW step; formula in {@code kernels.h}.
 *
 * @param correction1 {@code 1 - beta1^t}
 * @param correction2 {@code 1 - beta2^t}
 * @param gradScale factor on every gradient, from norm clipping
 */
public record AdamwStep(
        float lr,
        float beta1,
        float beta2,
        float eps,
        float weightDecay,
        float correction1,
        float correction2,
        float gradScale) {}
