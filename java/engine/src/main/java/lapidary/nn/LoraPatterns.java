package lapidary.nn;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * Where ranks and scales of an adapter's layers differ from the one r and alpha, as PEFT's {@code rank_pattern} and
 * {@code alpha_pattern} say it: the first expression that a module's name matches, whole or from after a dot, counts.
 *
 * @param rslora whether adapters are scaled by alpha / sqrt(r) instead of alpha / r
 * @param ranks expression to rank, in order
 * @param alphas expression to alpha, in order
 * @see <a href="https://arxiv.org/abs/2312.03732">rank-stabilised LoRA</a>
 */
public record LoraPatterns(boolean rslora, Map<String, Integer> ranks, Map<String, Double> alphas) {
    public static final LoraPatterns NONE = new LoraPatterns(false, Map.of(), Map.of());

    /** Characters that matching one name may look at; expressions come from outside, and some never end. */
    private static final int MOST_LOOKS = 1 << 20;

    /** @throws IllegalArgumentException where an expression is none, a rank is below 1 or an alpha not positive */
    public LoraPatterns {
        ranks = Collections.unmodifiableMap(new LinkedHashMap<>(ranks)); // Map.copyOf has another order
        alphas = Collections.unmodifiableMap(new LinkedHashMap<>(alphas));
        ranks.forEach((key, rank) -> {
            compile("rank_pattern", key, key);
            if (rank < 1) {
                throw new IllegalArgumentException("rank_pattern gives " + key + " the rank " + rank);
            }
        });
        alphas.forEach((key, alpha) -> {
            compile("alpha_pattern", key, key);
            if (!(alpha > 0) || Double.isInfinite(alpha)) {
                throw new IllegalArgumentException("alpha_pattern gives " + key + " the alpha " + alpha);
            }
        });
    }

    /**
     * What the expressions say of modules that have other names now, by those names; or these expressions themselves, where they
     * say the same of the new names.
     *
     * @param names old to new, of all modules that have an adapter
     */
    public LoraPatterns renamed(Map<String, String> names) {
        Map<String, Integer> newRanks = new LinkedHashMap<>();
        Map<String, Double> newAlphas = new LinkedHashMap<>();
        boolean same = true;
        for (Map.Entry<String, String> name : names.entrySet()) {
            same &= rename("rank_pattern", ranks, name, newRanks) & rename("alpha_pattern", alphas, name, newAlphas);
        }
        return same ? this : new LoraPatterns(rslora, newRanks, newAlphas);
    }

    /** Whether the old name has the new one's value; the old one's is put down. */
    private static <T> boolean rename(
            String where, Map<String, T> patterns, Map.Entry<String, String> name, Map<String, T> renamed) {
        Optional<T> value = first(where, patterns, name.getKey());
        value.ifPresent(one -> renamed.put(name.getValue(), one));
        return value.equals(first(where, patterns, name.getValue()));
    }

    /** The value of the first expression that matches. */
    static <T> Optional<T> first(String where, Map<String, T> patterns, String module) {
        for (Map.Entry<String, T> pattern : patterns.entrySet()) {
            String key = pattern.getKey();
            if (matches(where, key, compile(where, key, "(.*\\.)?(" + key + ")"), module)) {
                return Optional.of(pattern.getValue());
            }
        }
        return Optional.empty();
    }

    /**
     * Whether an expression matches the whole name of a module.
     *
     * @throws IllegalArgumentException where it is none, or takes too long
     */
    static boolean matches(String where, String expression, String module) {
        return matches(where, expression, compile(where, expression, expression), module);
    }

    private static boolean matches(String where, String key, Pattern pattern, String module) {
        return pattern.matcher(new Bounded(module, where, key, new int[] {MOST_LOOKS}))
                .matches();
    }

    /** @param key what the user wrote */
    private static Pattern compile(String where, String key, String expression) {
        try {
            return Pattern.compile(expression);
        } catch (PatternSyntaxException e) {
            throw new IllegalArgumentException(
                    where + " has " + key + ", which is no regular expression: " + e.getDescription(), e);
        }
    }

    /** A name that lets itself be looked at so many times only. */
    private record Bounded(String text, String where, String pattern, int[] looks) implements CharSequence {
        @Override
        public char charAt(int index) {
            if (--looks[0] < 0) {
                throw new IllegalArgumentException(
                        where + " has " + pattern + ", which takes too long to match; write it simpler");
            }
            return text.charAt(index);
        }

        @Override
        public int length() {
            return text.length();
        }

        @Override
        public CharSequence subSequence(int start, int end) {
            return text.subSequence(start, end);
        }

        @Override
        public String toString() {
            return text;
        }
    }
}
