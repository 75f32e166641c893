package lapidary.serve;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import lapidary.format.Json;
import lapidary.gemma3.Content;
import lapidary.gemma3.Message;
import lapidary.image.ImageSource;
import lapidary.infer.GenerationOptions;

/**
 * What a client asks of {@code /v1/chat/completions}. Keys that change nothing here are ignored, as clients send many; those
 * that ask for something that this engine does not do are refused.
 *
 * @param messages ready for the model
 * @param images how many pictures are in them
 * @param options the model's own defaults where the request says nothing; without an adapter
 * @param usage whether a stream ends with what it took
 */
record ChatRequest(
        String model, List<Message> messages, int images, GenerationOptions options, boolean stream, boolean usage) {
    private static final int MAX_STOPS = 16; // OpenAI's limit is 4

    /** Keys that ask for more than an answer in words, unless their value is one of these. */
    private static final List<Refused> REFUSED = List.of(
            new Refused("n", "this engine gives one choice", "1"),
            new Refused("best_of", "this engine gives one choice", "1"),
            new Refused("tools", "this engine does not call tools", "[]"),
            new Refused("functions", "this engine does not call tools", "[]"),
            new Refused("tool_choice", "this engine does not call tools", "\"none\"", "\"auto\""),
            new Refused("function_call", "this engine does not call tools", "\"none\"", "\"auto\""),
            new Refused("response_format", "answers are plain text", "{\"type\":\"text\"}"),
            new Refused("modalities", "answers are plain text", "[\"text\"]"),
            new Refused("audio", "answers are plain text"),
            new Refused("prediction", "it is not supported"),
            new Refused("web_search_options", "nothing is looked up"),
            new Refused("logprobs", "probabilities are not given", "false", "0"),
            new Refused("top_logprobs", "probabilities are not given", "0"),
            new Refused("logit_bias", "tokens are drawn as the model weighs them", "{}"),
            new Refused("frequency_penalty", "tokens are drawn as the model weighs them", "0", "0.0"),
            new Refused("presence_penalty", "tokens are drawn as the model weighs them", "0", "0.0"),
            new Refused("repetition_penalty", "tokens are drawn as the model weighs them", "1", "1.0"));

    private record Refused(String key, String why, Set<String> harmless) {
        Refused(String key, String why, String... harmless) {
            this(key, why, Set.of(harmless));
        }
    }

    ChatRequest {
        messages = List.copyOf(messages);
    }

    /**
     * @param body the request's JSON
     * @param maxImages of one request
     * @throws ApiError naming the key that asks for too much
     * @throws lapidary.format.FormatException naming the key whose value is of another kind
     */
    static ChatRequest of(Json body, GenerationOptions defaults, int maxImages) {
        if (!body.isObject()) {
            throw body.error("expected an object {...}");
        }
        for (Refused refused : REFUSED) {
            JsonNode value = body.node().get(refused.key());
            if (value != null && !value.isNull() && !refused.harmless().contains(value.toString())) {
                throw ApiError.badRequest(
                        refused.key(), refused.key() + " is not supported: " + refused.why() + "; leave it out");
            }
        }
        boolean stream = body.bool("stream", false);
        if (!stream && body.has("stream_options")) {
            throw ApiError.badRequest("stream_options", "stream_options goes with \"stream\": true");
        }
        Messages messages = new Messages(maxImages);
        for (Json message : body.get("messages").elements()) {
            messages.add(message);
        }
        return new ChatRequest(
                body.string("model"),
                messages.all,
                messages.images,
                options(body, defaults),
                stream,
                body.has("stream_options") && body.get("stream_options").bool("include_usage", false));
    }

    private static GenerationOptions options(Json body, GenerationOptions defaults) {
        GenerationOptions options = defaults;
        for (String key : List.of("max_tokens", "max_completion_tokens")) { // the newer name wins
            if (body.has(key)) {
                options = options.withMaxNewTokens(body.get(key).intBetween(1, Integer.MAX_VALUE));
            }
        }
        if (body.has("temperature")) {
            options = options.withTemperature(between(body.get("temperature"), 0, 2));
        }
        if (body.has("top_p")) {
            options = options.withTopP(between(body.get("top_p"), Double.MIN_VALUE, 1));
        }
        if (body.has("min_p")) {
            options = options.withMinP(between(body.get("min_p"), 0, 1));
        }
        if (body.has("top_k")) {
            options = options.withTopK(Math.max(0, body.get("top_k").intBetween(-1, Integer.MAX_VALUE))); // -1: all
        }
        if (body.has("seed")) {
            options = options.withSeed(body.integer("seed"));
        }
        if (body.has("stop")) {
            options = options.withStop(stops(body.get("stop")));
        }
        return options;
    }

    private static double between(Json value, double least, double most) {
        double number = value.number();
        if (!(number >= least && number <= most)) {
            throw value.error("is " + number + ", expected " + (least == Double.MIN_VALUE ? "more than 0" : least)
                    + " to " + most);
        }
        return number;
    }

    private static List<String> stops(Json stop) {
        List<Json> given = stop.isArray() ? stop.elements() : List.of(stop);
        if (given.size() > MAX_STOPS) {
            throw stop.error("has " + given.size() + " strings, expected at most " + MAX_STOPS);
        }
        for (Json string : given) {
            if (string.string().isEmpty()) {
                throw string.error("is empty, which would end every answer before it begins");
            }
        }
        return given.stream().map(Json::string).toList();
    }

    /** Messages as they are read, and the pictures in them counted. */
    private static final class Messages {
        private final int maxImages;
        private final List<Message> all = new ArrayList<>();
        private int images;

        Messages(int maxImages) {
            this.maxImages = maxImages;
        }

        void add(Json message) {
            String role = message.string("role");
            if (!Set.of("system", "developer", "user", "assistant").contains(role)) {
                throw message.get("role")
                        .error("is not one of system, developer, user and assistant"
                                + (role.equals("tool") || role.equals("function")
                                        ? "; this engine does not call tools"
                                        : ""));
            }
            Json content = message.get("content");
            List<Content> parts = content.isArray()
                    ? content.elements().stream().map(this::part).toList()
                    : List.of(new Content.Text(content.string()));
            all.add(new Message(role.equals("developer") ? "system" : role, parts));
        }

        private Content part(Json part) {
            String type = part.string("type");
            if (type.equals("text")) {
                return new Content.Text(part.string("text"));
            }
            if (!type.equals("image_url")) {
                throw part.get("type").error("is not one of text and image_url");
            }
            if (++images > maxImages) {
                throw ApiError.badRequest(
                        "messages",
                        "the request has more than " + maxImages + (maxImages == 1 ? " picture" : " pictures")
                                + ", which is this server's limit");
            }
            Json image = part.get("image_url");
            Json url = image.isString() ? image : image.get("url");
            return new Content.Image(ImageSource.of(url.path(), DataUrl.picture(url.string(), url.path())));
        }
    }
}
