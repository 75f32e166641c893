package lapidary.examples;

import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import lapidary.infer.LanguageModel;
import lapidary.langchain4j.LapidaryChatModel;
import lapidary.langchain4j.LapidaryStreamingChatModel;

/** {@code LangChain4j MODEL ADAPTER PICTURE QUESTION}: asks the base model, then the adapter, whose answer streams. */
public final class LangChain4j {
    private LangChain4j() {}

    public static void main(String[] args) {
        UserMessage question =
                UserMessage.from(ImageContent.from(Path.of(args[2]), "image/png"), TextContent.from(args[3]));
        try (LanguageModel model = LanguageModel.load(Path.of(args[0]))) {
            System.out.println(new LapidaryChatModel(model, "gemma")
                    .chat(question)
                    .aiMessage()
                    .text());

            model.attach("mine", Path.of(args[1]));
            ChatRequest request = ChatRequest.builder()
                    .messages(question)
                    .parameters(ChatRequestParameters.builder()
                            .modelName("mine")
                            .maxOutputTokens(40)
                            .build())
                    .build();
            CompletableFuture<ChatResponse> whole = new CompletableFuture<>();
            new LapidaryStreamingChatModel(model, "gemma").chat(request, new StreamingChatResponseHandler() {
                @Override
                public void onPartialResponse(String piece) {
                    System.out.print(piece);
                }

                @Override
                public void onCompleteResponse(ChatResponse response) {
                    whole.complete(response);
                }

                @Override
                public void onError(Throwable error) {
                    whole.completeExceptionally(error);
                }
            });
            System.out.println(" (" + whole.join().tokenUsage().totalTokenCount() + " tokens)");
        }
    }
}
