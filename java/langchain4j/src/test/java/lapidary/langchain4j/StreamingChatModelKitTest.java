package lapidary.langchain4j;

import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.common.AbstractStreamingChatModelIT;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import java.util.List;
import org.junit.jupiter.api.extension.ExtendWith;

/** LangChain4j's conformance kit for streaming chat models, with handlers. */
@ExtendWith(Taught.class)
class StreamingChatModelKitTest extends AbstractStreamingChatModelIT {
    @Override
    protected List<StreamingChatModel> models() {
        return List.of(createModelWith(LapidaryChatRequestParameters.builder().build()));
    }

    @Override
    protected StreamingChatModel createModelWith(ChatRequestParameters parameters) {
        return new LapidaryStreamingChatModel(
                Taught.model(), Taught.BASE, Kit.defaults().overrideWith(parameters), List.of());
    }

    @Override
    public StreamingChatModel createModelWith(ChatModelListener listener) {
        return new LapidaryStreamingChatModel(Taught.model(), Taught.BASE, Kit.defaults(), List.of(listener));
    }

    @Override
    protected String customModelName() {
        return Taught.BASE;
    }

    @Override
    protected ChatRequestParameters createIntegrationSpecificParameters(int maxOutputTokens) {
        return LapidaryChatRequestParameters.builder()
                .maxOutputTokens(maxOutputTokens)
                .seed(7L)
                .build();
    }

    @Override
    protected boolean supportsTools() {
        return Kit.TOOLS;
    }

    @Override
    protected boolean supportsToolChoiceRequired() {
        return Kit.TOOLS;
    }

    @Override
    protected boolean supportsJsonResponseFormat() {
        return Kit.JSON;
    }

    @Override
    protected boolean supportsJsonResponseFormatWithSchema() {
        return Kit.JSON;
    }

    @Override
    protected boolean supportsJsonResponseFormatWithRawSchema() {
        return Kit.JSON;
    }

    @Override
    protected boolean supportsSingleImageInputAsPublicURL() {
        return Kit.PUBLIC_URLS;
    }

    @Override
    protected ImageContent catImageContentBase64() {
        return Taught.picture("cat.jpg");
    }

    @Override
    protected ImageContent diceImageContentBase64() {
        return Taught.picture("dice.jpg");
    }
}
