package lapidary.gemma3;

import lapidary.device.DType;
import lapidary.op.RopeTable;
import lapidary.tensor.Frame;

/**
 * Both rotary tables of a decoder that reads with a cache, and the frame that owns them.
 *
 * @param global of layers that see everything before them
 * @param local of layers with a window
 */
record Rotary(Frame frame, RopeTable global, RopeTable local) implements AutoCloseable {
    private static final int FIRST_POSITIONS = 256;

    /** Tables that have a row for that position, and for as many again before others are needed. */
    static Rotary upTo(int position, Gemma3Config.Text config, DType dtype, Frame around) {
        int positions = Math.max(FIRST_POSITIONS, Integer.highestOneBit(Math.max(1, position)) * 2);
        Frame frame = around.child("rotary tables");
        try {
            return new Rotary(
                    frame,
                    table(frame, dtype, positions, config, config.globalRope()),
                    table(frame, dtype, positions, config, config.localRope()));
        } catch (RuntimeException e) {
            frame.close();
            throw e;
        }
    }

    int positions() {
        return global.positions();
    }

    @Override
    public void close() {
        frame.close();
    }

    private static RopeTable table(
            Frame frame, DType dtype, int positions, Gemma3Config.Text config, Gemma3Config.Rope rope) {
        return RopeTable.of(frame, dtype, positions, config.headDim(), rope.theta(), rope.factor());
    }
}
