package lapidary.serve;

import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import lapidary.format.JsonWriter;
import lapidary.infer.Answer;
import lapidary.infer.FinishReason;
import lapidary.infer.Usage;

/** One chat's answer in OpenAI's words: whole, or as the events of a stream. */
final class Wording {
    private final String id = "chatcmpl-" + UUID.randomUUID().toString().replace("-", "");
    private final long created = Instant.now().getEpochSecond();
    private final String model;
    private final boolean usage;

    /** @param usage whether a stream tells what it took */
    Wording(String model, boolean usage) {
        this.model = model;
        this.usage = usage;
    }

    String whole(Answer answer) {
        Map<String, Object> message = new LinkedHashMap<>();
        message.put("role", "assistant");
        message.put("content", answer.text());
        message.put("refusal", null);
        Map<String, Object> body = head("chat.completion");
        body.put("choices", List.of(choice("message", message, finishReason(answer))));
        body.put("usage", usage(answer.usage()));
        return JsonWriter.compact(body);
    }

    String first() {
        return event(chunk(Map.of("role", "assistant", "content", ""), null));
    }

    String piece(String text) {
        return event(chunk(Map.of("content", text), null));
    }

    String last(Answer answer) {
        String events = event(chunk(Map.of(), finishReason(answer)));
        if (usage) {
            Map<String, Object> body = head("chat.completion.chunk");
            body.put("choices", List.of());
            body.put("usage", usage(answer.usage()));
            events += event(JsonWriter.compact(body));
        }
        return events + event("[DONE]");
    }

    static String event(String data) {
        return "data: " + data + "\n\n";
    }

    private String chunk(Map<String, Object> delta, String finishReason) {
        Map<String, Object> body = head("chat.completion.chunk");
        body.put("choices", List.of(choice("delta", delta, finishReason)));
        if (usage) {
            body.put("usage", null); // OpenAI: in all chunks but the last
        }
        return JsonWriter.compact(body);
    }

    private Map<String, Object> head(String object) {
        Map<String, Object> body = new LinkedHashMap<>();
        body.put("id", id);
        body.put("object", object);
        body.put("created", created);
        body.put("model", model);
        return body;
    }

    private static Map<String, Object> choice(String kind, Map<String, Object> what, String finishReason) {
        Map<String, Object> choice = new LinkedHashMap<>();
        choice.put("index", 0);
        choice.put(kind, what);
        choice.put("logprobs", null);
        choice.put("finish_reason", finishReason);
        return choice;
    }

    private static String finishReason(Answer answer) {
        return answer.finishReason() == FinishReason.LENGTH ? "length" : "stop";
    }

    private static Map<String, Object> usage(Usage usage) {
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("prompt_tokens", usage.promptTokens());
        out.put("completion_tokens", usage.completionTokens());
        out.put("total_tokens", usage.totalTokens());
        out.put("prompt_tokens_details", Map.of("cached_tokens", usage.cachedTokens()));
        return out;
    }
}
