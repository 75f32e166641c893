package lapidary.langchain4j;

import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.common.AbstractStreamingChatModelListenerIT;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import java.util.List;
import org.junit.jupiter.api.extension.ExtendWith;

/** LangChain4j's conformance kit for listeners of streaming chat models. */
@ExtendWith(Taught.class)
class StreamingChatModelListenerKitTest extends AbstractStreamingChatModelListenerIT {
    @Override
    protected StreamingChatModel createModel(ChatModelListener listener) {
        return create(listener, modelName());
    }

    @Override
    protected StreamingChatModel createFailingModel(ChatModelListener listener) {
        return create(listener, "never attached");
    }

    private StreamingChatModel create(ChatModelListener listener, String modelName) {
        LapidaryChatRequestParameters defaults = LapidaryChatRequestParameters.builder()
                .modelName(modelName)
                .temperature(temperature())
                .topP(topP())
                .maxOutputTokens(maxTokens())
                .build();
        return new LapidaryStreamingChatModel(Taught.model(), Taught.BASE, defaults, List.of(listener));
    }

    @Override
    protected String modelName() {
        return Taught.ADAPTER;
    }

    @Override
    protected Class<? extends Exception> expectedExceptionClass() {
        return ModelNotFoundException.class;
    }

    @Override
    protected boolean supportsTools() {
        return Kit.TOOLS;
    }
}
