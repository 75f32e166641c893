package lapidary.image;

import java.util.Arrays;

/**
 * Prediction of a block from its neighbours above and to the left, which are not filtered yet.
 *
 * @see <a href="https://www.rfc-editor.org/rfc/rfc6386#section-12">RFC 6386, section 12</a>
 */
final class Vp8Prediction {
    /** Modes, numbered as in the tables of {@link Vp8Tables}; whole blocks use the first four. */
    static final int DC = 0;

    static final int TRUE_MOTION = 1;
    static final int VERTICAL = 2;
    static final int HORIZONTAL = 3;
    private static final int RIGHT_DOWN = 4;
    private static final int VERTICAL_RIGHT = 5;
    private static final int LEFT_DOWN = 6;
    private static final int VERTICAL_LEFT = 7;
    private static final int HORIZONTAL_DOWN = 8;

    /** Of a 4 x 4 block: left column from below, corner, row above and to the right; e[4] is the corner. */
    private final int[] e = new int[13];

    private final byte[] p;
    private final int stride;

    Vp8Prediction(Vp8Plane plane) {
        this.p = plane.samples;
        this.stride = plane.stride;
    }

    /** Predicts a square of 16 or 8 samples at {@code at}. */
    void whole(int mode, int at, int size, boolean hasAbove, boolean hasLeft) {
        switch (mode) {
            case DC:
                fill(at, size, average(at, size, hasAbove, hasLeft));
                break;
            case TRUE_MOTION:
                trueMotion(at, size);
                break;
            case VERTICAL:
                for (int y = 0; y < size; y++) {
                    System.arraycopy(p, at - stride, p, at + y * stride, size);
                }
                break;
            default:
                for (int y = 0; y < size; y++) {
                    Arrays.fill(p, at + y * stride, at + y * stride + size, p[at + y * stride - 1]);
                }
        }
    }

    private int average(int at, int size, boolean hasAbove, boolean hasLeft) {
        if (!hasAbove && !hasLeft) {
            return 128;
        }
        int sum = 0;
        for (int i = 0; i < size; i++) {
            sum += (hasAbove ? p[at - stride + i] & 0xff : 0) + (hasLeft ? p[at + i * stride - 1] & 0xff : 0);
        }
        int count = hasAbove && hasLeft ? 2 * size : size;
        return (sum + count / 2) / count;
    }

    private void fill(int at, int size, int value) {
        for (int y = 0; y < size; y++, at += stride) {
            Arrays.fill(p, at, at + size, (byte) value);
        }
    }

    private void trueMotion(int at, int size) {
        int corner = p[at - stride - 1] & 0xff;
        for (int y = 0; y < size; y++) {
            int row = at + y * stride;
            int difference = (p[row - 1] & 0xff) - corner;
            for (int x = 0; x < size; x++) {
                p[row + x] = clamp((p[at - stride + x] & 0xff) + difference);
            }
        }
    }

    /**
     * Predicts a square of 4 samples at {@code at}; the four samples above and to the right of it start at
     * {@code aboveRight}.
     */
    void quarter(int mode, int at, int aboveRight) {
        if (mode == TRUE_MOTION) {
            trueMotion(at, 4);
            return;
        }
        for (int i = 0; i < 4; i++) {
            e[i] = p[at + (3 - i) * stride - 1] & 0xff;
            e[5 + i] = p[at - stride + i] & 0xff;
            e[9 + i] = p[aboveRight + i] & 0xff;
        }
        e[4] = p[at - stride - 1] & 0xff;
        switch (mode) {
            case DC:
                fill(at, 4, e[0] + e[1] + e[2] + e[3] + e[5] + e[6] + e[7] + e[8] + 4 >> 3);
                break;
            case VERTICAL:
                for (int x = 0; x < 4; x++) {
                    line(at + x, stride, three(5 + x));
                }
                break;
            case HORIZONTAL:
                for (int y = 0; y < 3; y++) {
                    line(at + y * stride, 1, three(3 - y));
                }
                line(at + 3 * stride, 1, e[1] + 3 * e[0] + 2 >> 2);
                break;
            case RIGHT_DOWN:
                for (int y = 0; y < 4; y++) {
                    for (int x = 0; x < 4; x++) {
                        set(at, x, y, three(4 + x - y));
                    }
                }
                break;
            case LEFT_DOWN:
                for (int y = 0; y < 4; y++) {
                    for (int x = 0; x < 4; x++) {
                        set(at, x, y, x + y == 6 ? e[11] + 3 * e[12] + 2 >> 2 : three(6 + x + y));
                    }
                }
                break;
            case VERTICAL_RIGHT:
                verticalRight(at);
                break;
            case VERTICAL_LEFT:
                verticalLeft(at);
                break;
            case HORIZONTAL_DOWN:
                horizontalDown(at);
                break;
            default:
                horizontalUp(at);
        }
    }

    private void verticalRight(int at) {
        for (int x = 0; x < 4; x++) {
            set(at, x, 0, two(4 + x));
            set(at, x, 1, three(4 + x));
        }
        for (int y = 2; y < 4; y++) {
            set(at, 0, y, three(5 - y));
            for (int x = 1; x < 4; x++) {
                copy(at, x, y, x - 1, y - 2);
            }
        }
    }

    private void verticalLeft(int at) {
        for (int x = 0; x < 4; x++) {
            set(at, x, 0, two(5 + x));
            set(at, x, 1, three(6 + x));
        }
        for (int y = 2; y < 4; y++) {
            for (int x = 0; x < 3; x++) {
                copy(at, x, y, x + 1, y - 2);
            }
        }
        set(at, 3, 2, three(10));
        set(at, 3, 3, three(11));
    }

    private void horizontalDown(int at) {
        for (int y = 0; y < 4; y++) {
            set(at, 0, y, two(3 - y));
            set(at, 1, y, three(4 - y));
        }
        set(at, 2, 0, three(5));
        set(at, 3, 0, three(6));
        for (int y = 1; y < 4; y++) {
            copy(at, 2, y, 0, y - 1);
            copy(at, 3, y, 1, y - 1);
        }
    }

    private void horizontalUp(int at) {
        int[] steps = {two(2), three(2), two(1), three(1), two(0), e[1] + 3 * e[0] + 2 >> 2, e[0], e[0], e[0], e[0]};
        for (int y = 0; y < 4; y++) {
            for (int x = 0; x < 4; x++) {
                set(at, x, y, steps[2 * y + x]);
            }
        }
    }

    /** The mean of e[i] and its successor. */
    private int two(int i) {
        return e[i] + e[i + 1] + 1 >> 1;
    }

    /** e[i] smoothed with its neighbours. */
    private int three(int i) {
        return e[i - 1] + 2 * e[i] + e[i + 1] + 2 >> 2;
    }

    private void set(int at, int x, int y, int value) {
        p[at + y * stride + x] = (byte) value;
    }

    private void copy(int at, int x, int y, int fromX, int fromY) {
        p[at + y * stride + x] = p[at + fromY * stride + fromX];
    }

    private void line(int at, int step, int value) {
        for (int i = 0; i < 4; i++) {
            p[at + i * step] = (byte) value;
        }
    }

    private static byte clamp(int value) {
        return (byte) Math.max(0, Math.min(255, value));
    }
}
