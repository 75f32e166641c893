package lapidary;

/**
 * Main class of engine.jar, compiled for Java 8: on a JDK that is too old it says so in one line, elsewhere it hands
 * over to the command line.
 */
public final class Launcher {
    private static final int NEEDED = 22;

    private Launcher() {}

    public static void main(String[] args) throws Exception {
        int found = feature(System.getProperty("java.specification.version"));
        if (found < NEEDED) {
            System.err.println("Lapidary needs JDK " + NEEDED + " or newer, this is JDK " + found + " ("
                    + System.getProperty("java.home") + "): start it with the java of a newer JDK.");
            System.exit(2);
        }
        // By name, because this class must not refer to classes that an old JDK cannot load.
        Class.forName("lapidary.cli.Engine").getMethod("main", String[].class).invoke(null, (Object) args);
    }

    private static int feature(String version) {
        return Integer.parseInt(version.startsWith("1.") ? version.substring(2) : version);
    }
}
