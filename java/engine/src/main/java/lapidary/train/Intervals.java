package lapidary.train;

/** Numbers of steps that may be given as a share of all steps, as transformers has them. */
final class Intervals {
    private Intervals() {}

    /** @throws IllegalArgumentException where it is neither a share nor a whole number of steps */
    static void check(String option, double steps) {
        if (!(steps > 0 && steps < 1e9) || (steps > 1 && steps != Math.rint(steps))) {
            throw new IllegalArgumentException("--" + option + " is " + steps
                    + ", expected a whole number of steps, or a share of all steps below 1");
        }
    }

    /** As a user writes it: without a point where it is whole. */
    static Number plain(double steps) {
        if (steps == Math.rint(steps)) {
            return (long) steps;
        }
        return steps;
    }

    static int of(double steps, int maxSteps) {
        return Math.max(1, (int) (steps < 1 ? Math.ceil(maxSteps * steps) : steps));
    }
}
