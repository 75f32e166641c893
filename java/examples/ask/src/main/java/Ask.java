import java.nio.file.Path;
import lapidary.infer.Chat;
import lapidary.infer.LanguageModel;

/** {@code java -jar ask.jar MODEL PICTURE QUESTION...}: asks one picture several questions. */
public final class Ask {
    public static void main(String[] args) {
        try (LanguageModel model = LanguageModel.load(Path.of(args[0]))) {
            Chat chat = model.chat(model.defaults().withMaxNewTokens(60));
            chat.send(args[2], Path.of(args[1])).stream(System.out::print);
            System.out.println();
            for (int i = 3; i < args.length; i++) {
                chat.send(args[i]).stream(System.out::print);
                System.out.println();
            }
        }
    }
}
