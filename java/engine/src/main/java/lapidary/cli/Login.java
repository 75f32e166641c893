package lapidary.cli;

import java.io.Console;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Callable;
import lapidary.hub.Hub;
import lapidary.hub.HubException;
import lapidary.hub.HubSettings;
import lapidary.hub.Token;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engine login}: the token is typed unseen or piped in; as an argument every process could read it. */
@Command(
        name = "login",
        header = "Stores a token of the Hugging Face Hub, where huggingface_hub stores it too.",
        description = {
            "",
            "Asks for the token, or reads it from standard input:",
            "",
            "  engine login < token.txt",
            "",
            "A token is made at https://huggingface.co/settings/tokens; read access is enough for downloads."
        },
        mixinStandardHelpOptions = true)
final class Login implements Callable<Integer> {
    private static final int LONGEST = 1 << 16; // bytes read from standard input

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        PrintWriter out = spec.commandLine().getOut();
        HubSettings settings = settings();
        Hub.Account account = lapidary.hub.Login.login(settings, token(out), new ConsoleTransfer(out));
        out.println("Logged in as " + account.name() + "; the token is in " + settings.tokenFile());
        if (settings.token().isPresent()
                && !settings.token().source().equals(settings.tokenFile().toString())) {
            out.println("But " + settings.token().source() + " is set and goes before it; unset it to use this one.");
        }
        out.flush();
        return 0;
    }

    private HubSettings settings() {
        try {
            return HubSettings.ofEnvironment();
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage(), e);
        }
    }

    private Token token(PrintWriter out) {
        Console console = System.console();
        boolean asks = console != null && console.isTerminal();
        try {
            char[] typed = asks ? console.readPassword("Token (not shown): ") : null; // null for Ctrl-D, too
            String text =
                    typed != null ? new String(typed) : asks ? "" : new String(standardInput(), StandardCharsets.UTF_8);
            Token token = Token.of(text, asks ? "the keyboard" : "standard input");
            if (!token.isPresent()) {
                throw new ParameterException(
                        spec.commandLine(), "no token was given; type it, or pipe it in: engine login < token.txt");
            }
            return token;
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage(), e);
        }
    }

    private static byte[] standardInput() {
        try (InputStream in = StandardInput.open()) {
            return in.readNBytes(LONGEST);
        } catch (IOException e) {
            throw new HubException("cannot read the token from standard input: " + e.getMessage(), e);
        }
    }
}
