package lapidary.langchain4j;

/** What of the kit does not apply, and why. */
final class Kit {
    /** Gemma 3 was not trained on a form of tool calls, nor does its template render any. */
    static final boolean TOOLS = false;

    /** The engine does not constrain what it decodes, so that no form can be promised. */
    static final boolean JSON = false;

    /** The engine fetches nothing that a message names. */
    static final boolean PUBLIC_URLS = false;

    private Kit() {}

    static LapidaryChatRequestParameters defaults() {
        return LapidaryChatRequestParameters.builder()
                .modelName(Taught.ADAPTER)
                .temperature(0.0)
                .build();
    }
}
