package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import java.net.URI;
import lapidary.format.FormatException;
import lapidary.format.Json;

/** Turns answers that are refusals into sentences with a cure. */
final class HubErrors {
    private final HubSettings settings;

    HubErrors(HubSettings settings) {
        this.settings = settings;
    }

    /** What {@code reply} means for someone who wanted {@code what} of {@code repo} at {@code revision}. */
    HubException of(Http.Reply reply, RepoId repo, String revision, String what) {
        String code = reply.header("x-error-code");
        int status = reply.status();
        if (code.equals("GatedRepo")) {
            return gated(repo, reply);
        }
        if (status == 401 && isTokenRefused(reply)) {
            return tokenRefused();
        }
        if (code.equals("RevisionNotFound")) {
            return error(repo.word() + " " + repo + " has no revision \"" + Text.oneLine(revision) + "\"; see "
                    + page(repo) + "/tree/main for its branches and tags");
        }
        if (code.equals("EntryNotFound")) {
            return error(repo.word() + " " + repo + " has no " + what + " at revision " + revision);
        }
        if (code.equals("RepoNotFound") || status == 404 || status == 401) {
            return error("there is no " + repo.word() + " " + repo + " on " + Text.shown(settings.endpoint())
                    + ", or it is private and "
                    + (settings.token().isPresent()
                            ? "the token from " + settings.token().source()
                                    + " may not see it; check the name and whose token it is"
                            : "no token is set; check the name, or log in first: engine login"));
        }
        if (status == 403) {
            return error("the Hub refuses " + what + " of " + repo + " (403" + words(reply) + "); "
                    + (settings.token().isPresent()
                            ? "give the token from " + settings.token().source() + " that permission at "
                                    + settings.endpoint() + "/settings/tokens"
                            : "log in first: engine login"));
        }
        return other(reply, what + " of " + repo);
    }

    /** An answer that is none of the refusals with a name. */
    HubException other(Http.Reply reply, String what) {
        int status = reply.status();
        if (status == 401) {
            return settings.token().isPresent()
                    ? tokenRefused()
                    : error("the Hub asks for a token for " + what + "; log in first: engine login");
        }
        if (status == 429) {
            return error("the Hub limits how often it may be asked (429" + words(reply)
                    + "); wait some minutes, or log in for a higher limit: engine login");
        }
        if (status >= 500) {
            return error(Text.shown(reply.uri()) + " keeps answering " + status + words(reply)
                    + "; the Hub has trouble: try again later (what was downloaded is kept)");
        }
        return error(Text.shown(reply.uri()) + " answers " + status + " to " + what + words(reply));
    }

    private HubException gated(RepoId repo, Http.Reply reply) {
        String accept = repo + " is gated: accept its licence at " + page(repo);
        if (!settings.token().isPresent()) {
            return error(accept + " and log in: engine login (or set HF_TOKEN)");
        }
        if (reply.status() == 401 && isTokenRefused(reply)) {
            return tokenRefused();
        }
        return error(accept + " with the account whose token is in "
                + settings.token().source()
                + ", and wait for the grant; a fine-grained token also needs read access to gated repositories");
    }

    private HubException tokenRefused() {
        return error("the Hub refuses the token from " + settings.token().source()
                + ": it is invalid or has expired; make a new one at " + settings.endpoint()
                + "/settings/tokens and log in: engine login");
    }

    /** A missing or private repository is a 401 too, with other words; huggingface_hub tells them apart like this. */
    private boolean isTokenRefused(Http.Reply reply) {
        return settings.token().isPresent()
                && (reply.header("x-error-message") + message(reply))
                        .contains("Invalid credentials in Authorization header");
    }

    private HubException error(String message) {
        return new HubException(settings.token().redact(message));
    }

    private String page(RepoId repo) {
        return settings.endpoint() + "/" + repo.page();
    }

    /** The server's own words, where it has any. */
    private String words(Http.Reply reply) {
        String text = reply.header("x-error-message");
        if (text.isBlank()) {
            text = message(reply);
        }
        return text.isBlank() ? "" : ": " + settings.token().redact(Text.oneLine(text));
    }

    private static String message(Http.Reply reply) {
        String text = reply.text().strip();
        if (text.startsWith("{")) {
            try {
                JsonNode error = Json.parse("answer", text).node().path("error");
                return error.isTextual() ? error.textValue() : "";
            } catch (FormatException e) {
                return "";
            }
        }
        return text.startsWith("<") ? "" : text;
    }

    /**
     * The JSON of an answer.
     *
     * @throws HubException it is none: some networks put a page of their own in the Hub's place
     */
    static Json json(URI uri, Http.Reply reply) {
        try {
            return Json.parse(Text.shown(uri), reply.content());
        } catch (FormatException e) {
            throw new HubException(
                    e.getMessage() + "; it was not the Hub that answered: check HF_ENDPOINT, HTTPS_PROXY, and whether"
                            + " this network wants a login",
                    e);
        }
    }
}
