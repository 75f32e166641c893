package lapidary.optim;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.IntToDoubleFunction;

/**
 * The learning rate of each optimiser step: the schedules of transformers' {@code get_scheduler}, by its names, its
 * formulas (transformers 5.18, {@code optimization.py}) and its keyword arguments. All but {@code constant} rise from 0 to
 * the peak over the warm-up first.
 */
public final class Schedule {
    /** Names of the schedules, with the keyword arguments that each takes. */
    private static final Map<String, List<String>> TYPES = new TreeMap<>(Map.of(
            "linear", List.of(),
            "cosine", List.of("num_cycles"),
            "cosine_with_restarts", List.of("num_cycles"),
            "cosine_with_min_lr", List.of("num_cycles", "min_lr", "min_lr_rate"),
            "cosine_warmup_with_min_lr", List.of("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
            "polynomial", List.of("lr_end", "power"),
            "constant", List.of(),
            "constant_with_warmup", List.of(),
            "inverse_sqrt", List.of("timescale"),
            "warmup_stable_decay",
                    List.of(
                            "num_decay_steps",
                            "num_stable_steps",
                            "warmup_type",
                            "decay_type",
                            "min_lr_ratio",
                            "num_cycles")));

    private final double peak;
    private final IntToDoubleFunction factor;

    private Schedule(double peak, IntToDoubleFunction factor) {
        this.peak = peak;
        this.factor = factor;
    }

    /**
     * @param type name of the schedule
     * @param peak learning rate at the end of the warm-up
     * @param warmupSteps steps, or below 1 a share of all steps, rounded up
     * @param totalSteps optimiser steps of the run
     * @param arguments the schedule's keyword arguments: numbers and strings
     * @throws IllegalArgumentException where there is no such schedule, or an argument is missing, unknown or impossible
     */
    public static Schedule of(
            String type, double peak, double warmupSteps, int totalSteps, Map<String, Object> arguments) {
        if (!TYPES.containsKey(type)) {
            throw new IllegalArgumentException("--lr_scheduler_type is " + type + ", expected one of "
                    + String.join(", ", TYPES.keySet())
                    + (type.equals("reduce_lr_on_plateau") || type.equals("greedy")
                            ? " (evaluation does not steer the learning rate here)"
                            : ""));
        }
        Arguments given = new Arguments(type, arguments);
        int warmup = (int) (warmupSteps < 1 ? Math.ceil(totalSteps * warmupSteps) : warmupSteps);
        return new Schedule(peak, factor(type, peak, warmup, totalSteps, given));
    }

    /** Learning rate of a step, counted from 0. */
    public double at(int step) {
        return peak * factor.applyAsDouble(step);
    }

    private static IntToDoubleFunction factor(String type, double peak, int warmup, int total, Arguments given) {
        double rest = Math.max(1, total - warmup);
        return switch (type) {
            case "constant" -> step -> 1;
            case "constant_with_warmup" -> afterWarmup(warmup, step -> 1);
            case "linear" -> afterWarmup(warmup, step -> Math.max(0, (total - step) / rest));
            case "cosine" -> {
                double cycles = given.number("num_cycles", 0.5);
                yield afterWarmup(warmup, step -> Math.max(0, wave(cycles, (step - warmup) / rest)));
            }
            case "cosine_with_restarts" -> {
                double cycles = given.number("num_cycles", 1);
                yield afterWarmup(warmup, step -> {
                    double progress = (step - warmup) / rest;
                    return progress >= 1 ? 0 : Math.max(0, wave(0.5, cycles * progress % 1));
                });
            }
            case "cosine_with_min_lr" -> {
                double cycles = given.number("num_cycles", 0.5);
                double floor = given.floor(peak);
                yield afterWarmup(warmup, step -> Math.max(0, lift(wave(cycles, (step - warmup) / rest), floor)));
            }
            case "cosine_warmup_with_min_lr" -> cosineWarmupWithMinLr(peak, warmup, rest, given);
            case "polynomial" -> polynomial(peak, warmup, total, given);
            case "inverse_sqrt" -> {
                double timescale = given.number("timescale", warmup > 0 ? warmup : 10_000);
                given.require(timescale > 0, "timescale", "more than 0");
                yield afterWarmup(warmup, step -> 1 / Math.sqrt((step + (timescale - warmup)) / timescale));
            }
            case "warmup_stable_decay" -> warmupStableDecay(warmup, total, given);
            default -> throw new IllegalStateException(type + " has no formula");
        };
    }

    private static IntToDoubleFunction afterWarmup(int warmup, IntToDoubleFunction then) {
        return step -> step < warmup ? (double) step / Math.max(1, warmup) : then.applyAsDouble(step);
    }

    /** Its steps count from 1: neither its first nor its last is at an end of the curve. */
    private static IntToDoubleFunction cosineWarmupWithMinLr(double peak, int warmup, double rest, Arguments given) {
        double cycles = given.number("num_cycles", 0.5);
        double floor = given.floor(peak);
        double start = given.number("warmup_lr_rate", Double.NaN);
        return step -> {
            if (step < warmup) {
                return Double.isNaN(start)
                        ? (step + 1.0) / Math.max(1, warmup)
                        : start + (1 - start) * step / Math.max(1, warmup - 1);
            }
            return Math.max(0, lift(wave(cycles, (step - warmup + 1) / rest), floor));
        };
    }

    private static IntToDoubleFunction polynomial(double peak, int warmup, int total, Arguments given) {
        double end = given.number("lr_end", 1e-7);
        double power = given.number("power", 1);
        if (!(peak > end) || !Double.isFinite(end / peak)) {
            throw new IllegalArgumentException("--learning_rate is " + peak
                    + ", expected more than lr_end of --lr_scheduler_kwargs, which is " + end
                    + ", and more than 0 in polynomial");
        }
        return afterWarmup(warmup, step -> {
            if (step > total || total == warmup) {
                return end / peak;
            }
            double remaining = 1 - (double) (step - warmup) / (total - warmup);
            return ((peak - end) * Math.pow(remaining, power) + end) / peak;
        });
    }

    private static IntToDoubleFunction warmupStableDecay(int warmup, int total, Arguments given) {
        int decay = given.steps("num_decay_steps", -1);
        if (decay < 0) {
            throw new IllegalArgumentException(
                    "--lr_scheduler_type warmup_stable_decay needs --lr_scheduler_kwargs {\"num_decay_steps\": N}");
        }
        int stable = given.steps("num_stable_steps", total - warmup - decay);
        String warmupType = given.choice("warmup_type", "linear");
        String decayType = given.choice("decay_type", "cosine");
        double floor = given.number("min_lr_ratio", 0);
        double cycles = given.number("num_cycles", 0.5);
        return step -> {
            if (step < warmup) {
                double progress = (double) step / Math.max(1, warmup);
                double rise =
                        switch (warmupType) {
                            case "linear" -> progress;
                            case "cosine" -> 0.5 * (1 - Math.cos(Math.PI * progress));
                            default -> 1 - Math.sqrt(1 - progress);
                        };
                return Math.max(0, lift(rise, floor));
            }
            if (step < warmup + stable) {
                return 1;
            }
            if (step >= warmup + stable + decay) {
                return floor;
            }
            double progress = (double) (step - warmup - stable) / Math.max(1, decay);
            double fall =
                    switch (decayType) {
                        case "linear" -> 1 - progress;
                        case "cosine" -> wave(cycles, progress);
                        default -> 1 - Math.sqrt(progress);
                    };
            return Math.max(0, lift(fall, floor));
        };
    }

    /** 1 at the start, 0 after half a cycle. */
    private static double wave(double cycles, double progress) {
        return 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress));
    }

    /** What goes from 1 to 0, as going from 1 to the floor. */
    private static double lift(double factor, double floor) {
        return factor * (1 - floor) + floor;
    }

    /** The keyword arguments of one schedule; complaints name the option. */
    private record Arguments(String type, Map<String, Object> given) {
        private Arguments {
            for (String name : given.keySet()) {
                if (!TYPES.get(type).contains(name)) {
                    throw new IllegalArgumentException("--lr_scheduler_kwargs has " + name + ", but " + type + " takes "
                            + (TYPES.get(type).isEmpty() ? "none" : String.join(", ", TYPES.get(type))));
                }
            }
        }

        private double number(String name, double otherwise) {
            if (given.get(name) == null) {
                return otherwise;
            }
            boolean fits = given.get(name) instanceof Number n && Double.isFinite(n.doubleValue());
            require(fits, name, "a number");
            return ((Number) given.get(name)).doubleValue();
        }

        private int steps(String name, int otherwise) {
            double steps = number(name, otherwise);
            require(
                    given.get(name) == null || (steps >= 0 && steps < 1e9 && steps == Math.rint(steps)),
                    name,
                    "a number of steps");
            return (int) steps;
        }

        private String choice(String name, String otherwise) {
            if (given.get(name) == null) {
                return otherwise;
            }
            require(List.of("linear", "cosine", "1-sqrt").contains(given.get(name)), name, "linear, cosine or 1-sqrt");
            return (String) given.get(name);
        }

        /** The least learning rate as a share of the peak. */
        private double floor(double peak) {
            if ((given.get("min_lr") == null) == (given.get("min_lr_rate") == null)) {
                throw new IllegalArgumentException("--lr_scheduler_type " + type
                        + " needs one of min_lr and min_lr_rate in --lr_scheduler_kwargs, got " + given.keySet());
            }
            if (given.get("min_lr") == null) {
                return number("min_lr_rate", 0);
            }
            double floor = number("min_lr", 0) / peak;
            if (!Double.isFinite(floor)) {
                throw new IllegalArgumentException("--learning_rate is " + peak + ", but min_lr " + given.get("min_lr")
                        + " of --lr_scheduler_kwargs is a share of it in " + type
                        + ": expected a --learning_rate above 0, or min_lr_rate in its place");
            }
            return floor;
        }

        private void require(boolean fits, String name, String expected) {
            if (!fits) {
                throw new IllegalArgumentException("--lr_scheduler_kwargs has " + name + " " + given.get(name)
                        + ", expected " + expected + " in " + type);
            }
        }
    }
}
