package lapidary.langchain4j;

import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.common.AbstractChatModelListenerIT;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import java.util.List;
import org.junit.jupiter.api.extension.ExtendWith;

/** LangChain4j's conformance kit for listeners of chat models. */
@ExtendWith(Taught.class)
class ChatModelListenerKitTest extends AbstractChatModelListenerIT {
    @Override
    protected ChatModel createModel(ChatModelListener listener) {
        return create(listener, modelName());
    }

    @Override
    protected ChatModel createFailingModel(ChatModelListener listener) {
        return create(listener, "never attached");
    }

    private ChatModel create(ChatModelListener listener, String modelName) {
        LapidaryChatRequestParameters defaults = LapidaryChatRequestParameters.builder()
                .modelName(modelName)
                .temperature(temperature())
                .topP(topP())
                .maxOutputTokens(maxTokens())
                .build();
        return new LapidaryChatModel(Taught.model(), Taught.BASE, defaults, List.of(listener));
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
