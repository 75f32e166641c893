import dev.langchain4j.data.image.Image;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.service.UserMessage;
import io.quarkiverse.langchain4j.ImageUrl;
import io.quarkiverse.langchain4j.RegisterAiService;
import io.quarkus.runtime.QuarkusApplication;
import io.quarkus.runtime.annotations.QuarkusMain;
import jakarta.enterprise.context.control.ActivateRequestContext;
import jakarta.inject.Inject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.function.Supplier;
import lapidary.infer.LanguageModel;
import lapidary.langchain4j.LapidaryChatModel;

/** {@code MODEL=gemma-3-4b-it java -jar target/quarkus-app/quarkus-run.jar PICTURE QUESTION}: asks about a PNG picture. */
@QuarkusMain
public class Describe implements QuarkusApplication {
    @Inject
    Describer describer;

    /** The service lives as long as a request, which a command has to begin itself. */
    @Override
    @ActivateRequestContext
    public int run(String... args) throws IOException {
        String base64 = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(args[0])));
        Image picture = Image.builder().base64Data(base64).mimeType("image/png").build();
        System.out.println(describer.describe(args[1], picture));
        return 0;
    }

    @RegisterAiService(chatLanguageModelSupplier = Gemma.class)
    interface Describer {
        String describe(@UserMessage String question, @ImageUrl Image picture);
    }

    public static class Gemma implements Supplier<ChatModel> {
        private static final LanguageModel MODEL = LanguageModel.load(Path.of(System.getenv("MODEL")));

        @Override
        public ChatModel get() {
            return new LapidaryChatModel(MODEL, "gemma");
        }
    }
}
