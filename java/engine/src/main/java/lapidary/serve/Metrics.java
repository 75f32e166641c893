package lapidary.serve;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.LongAdder;
import lapidary.infer.Usage;

/** What has been served, in the text form that Prometheus reads. */
final class Metrics {
    private final Map<Integer, Long> responses = new TreeMap<>(); // chats by status; guarded by this
    private final LongAdder gone = new LongAdder();
    private final LongAdder promptTokens = new LongAdder();
    private final LongAdder cachedTokens = new LongAdder();
    private final LongAdder completionTokens = new LongAdder();
    private final LongAdder answers = new LongAdder();
    private final LongAdder answerNanos = new LongAdder();
    private final LongAdder firstWords = new LongAdder();
    private final LongAdder firstWordNanos = new LongAdder();

    synchronized void responded(int status) {
        responses.merge(status, 1L, Long::sum);
    }

    void clientGone() {
        gone.increment();
    }

    void firstWord(long nanos) {
        firstWords.increment();
        firstWordNanos.add(nanos);
    }

    void answered(Usage usage, long nanos) {
        promptTokens.add(usage.promptTokens());
        cachedTokens.add(usage.cachedTokens());
        completionTokens.add(usage.completionTokens());
        answers.increment();
        answerNanos.add(nanos);
    }

    /** How long an answer takes by experience, in whole seconds from 1 to 60. */
    int secondsOfAnAnswer() {
        long seconds = Math.ceilDiv(answerNanos.sum() / Math.max(1, answers.sum()), 1_000_000_000L);
        return (int) Math.clamp(seconds, 1L, 60L);
    }

    String text(int atWork) {
        StringBuilder out = new StringBuilder();
        head(out, "lapidary_chat_responses_total", "counter", "Chats by HTTP status.");
        synchronized (this) {
            responses.forEach((status, count) -> out.append("lapidary_chat_responses_total{status=\"")
                    .append(status)
                    .append("\"} ")
                    .append(count)
                    .append('\n'));
        }
        one(out, "lapidary_clients_gone_total", "counter", "Chats whose client left first.", gone.sum());
        one(out, "lapidary_prompt_tokens_total", "counter", "Tokens read.", promptTokens.sum());
        one(out, "lapidary_cached_tokens_total", "counter", "Of them, from the cache.", cachedTokens.sum());
        one(out, "lapidary_completion_tokens_total", "counter", "Tokens of answers.", completionTokens.sum());
        one(out, "lapidary_chats", "gauge", "Chats at work or waiting.", atWork);
        summary(out, "lapidary_chat_seconds", "Time of an answer.", answerNanos, answers);
        summary(out, "lapidary_first_word_seconds", "Time to the first words.", firstWordNanos, firstWords);
        return out.toString();
    }

    private static void head(StringBuilder out, String name, String type, String help) {
        out.append("# HELP ").append(name).append(' ').append(help).append('\n');
        out.append("# TYPE ").append(name).append(' ').append(type).append('\n');
    }

    private static void one(StringBuilder out, String name, String type, String help, long value) {
        head(out, name, type, help);
        out.append(name).append(' ').append(value).append('\n');
    }

    private static void summary(StringBuilder out, String name, String help, LongAdder nanos, LongAdder count) {
        head(out, name, "summary", help);
        out.append(name).append("_sum ").append(nanos.sum() / 1e9).append('\n');
        out.append(name).append("_count ").append(count.sum()).append('\n');
    }
}
