package lapidary.examples;

import org.springframework.ai.chat.client.ChatClient;
import org.springframework.ai.chat.prompt.ChatOptions;
import org.springframework.ai.content.Media;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.core.io.FileSystemResource;
import org.springframework.util.MimeTypeUtils;

/**
 * {@code SpringAi PICTURE QUESTION --spring.ai.lapidary.model=MODEL --spring.ai.lapidary.adapters.mine=ADAPTER}: asks the base
 * model, then the adapter, whose answer streams.
 */
@EnableAutoConfiguration
public class SpringAi {
    public static void main(String[] args) {
        SpringApplication.run(SpringAi.class, args).close();
    }

    @Bean
    CommandLineRunner ask(ChatClient.Builder builder) {
        return args -> {
            ChatClient client = builder.build();
            Media picture = new Media(MimeTypeUtils.IMAGE_PNG, new FileSystemResource(args[0]));
            System.out.println(client.prompt()
                    .user(user -> user.text(args[1]).media(picture))
                    .call()
                    .content());
            client
                    .prompt()
                    .options(ChatOptions.builder().model("mine").maxTokens(40))
                    .user(user -> user.text(args[1]).media(picture))
                    .stream()
                    .content()
                    .doOnNext(System.out::print)
                    .blockLast();
            System.out.println();
        };
    }
}
