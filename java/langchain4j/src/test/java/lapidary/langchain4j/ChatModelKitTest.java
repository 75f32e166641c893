package lapidary.langchain4j;

import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.common.AbstractChatModelIT;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import java.util.List;
import org.junit.jupiter.api.extension.ExtendWith;

/** LangChain4j's conformance kit for chat models. */
@ExtendWith(Taught.class)
class ChatModelKitTest extends AbstractChatModelIT {
    @Override
    protected List<ChatModel> models() {
        return List.of(createModelWith(LapidaryChatRequestParameters.builder().build()));
    }

    @Override
    protected ChatModel createModelWith(ChatRequestParameters parameters) {
        return new LapidaryChatModel(Taught.model(), Taught.BASE, Kit.defaults().overrideWith(parameters), List.of());
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
    protected boolean supportsChatAsync() {
        return true;
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
