package lapidary.langchain4j;

import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.common.StreamingMode;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import java.util.List;

/** LangChain4j's conformance kit for streaming chat models, with publishers, which core has since 1.20. */
class PublisherKitTest extends StreamingChatModelKitTest {
    @Override
    protected List<StreamingChatModel> models() {
        return createModelsWith(LapidaryChatRequestParameters.builder().build());
    }

    @Override
    protected List<StreamingChatModel> createModelsWith(ChatRequestParameters parameters) {
        return List.of(new StreamingModeAwareModel(createModelWith(parameters), StreamingMode.PUBLISHER));
    }

    @Override
    protected List<StreamingMode> streamingModes() {
        return List.of(StreamingMode.PUBLISHER);
    }

    @Override
    protected List<StreamingChatModel> modelsSupportingTools() {
        return models();
    }

    @Override
    protected List<StreamingChatModel> modelsSupportingStructuredOutputs() {
        return models();
    }

    @Override
    protected List<StreamingChatModel> modelsSupportingImageInputs() {
        return models();
    }
}
