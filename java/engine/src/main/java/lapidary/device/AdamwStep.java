package lapidary.device;

/**
 * The scalars of one AdamW step; formula in {@code kernels.h}.
 *
 * @param correction1 {@code 1 - beta1^t}
 * @param correction2 {@code 1 - beta2^t}
 * @param gradScale factor on every gradient, from norm clipping
 */
public record AdamwStep(
        double lr,
        double beta1,
        double beta2,
        double eps,
        double weightDecay,
        double correction1,
        double correction2,
        float gradScale) {}
