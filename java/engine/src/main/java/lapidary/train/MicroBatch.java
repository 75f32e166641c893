package lapidary.train;

import java.util.List;
import lapidary.gemma3.PackedBatch;

/**
 * Rows that go through the model together, decoded and packed.
 *
 * @param tokens of the rows, without what pads the batch
 * @param targets per token, the id that its position must predict, or -100 for none
 * @param trained number of targets that are not -100
 * @param rows names of the data set's rows, for messages
 */
record MicroBatch(PackedBatch packed, int tokens, int[] targets, int trained, List<String> rows) {}
