package lapidary.infer;

/**
 * How unlikely a model finds an answer.
 *
 * @param sum of the tokens' negative logarithms of probability, nats
 * @param tokens how many there are
 */
public record TokenLoss(double sum, long tokens) {}
