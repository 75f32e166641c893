package lapidary;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.support.descriptor.ClassSource;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.Launcher;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs test classes where there is no Maven, as on a machine that is lent for its GPU: {@code java ... lapidary.RunTests
 * CLASS...}. {@code -Dtest.methods=REGEX} leaves out methods of other names; {@code -Dtest.stop=true} ends at the first
 * failure. Prints a line for each class and each failure; the exit code says whether all passed.
 */
public final class RunTests {
    private RunTests() {}

    /** One class at a time, so that its line comes when it is done. */
    public static void main(String[] names) throws ClassNotFoundException {
        PrintStream out = System.out;
        Pattern methods = Pattern.compile(System.getProperty("test.methods", ".*"));
        long failed = 0;
        for (String name : names) {
            LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
                    .selectors(selectClass(Class.forName(name)))
                    .filters((PostDiscoveryFilter) test -> FilterResult.includedIf(test.getSource()
                            .filter(MethodSource.class::isInstance)
                            .map(source -> methods.matcher(((MethodSource) source).getMethodName())
                                    .matches())
                            .orElse(true)))
                    .build();
            Count count = new Count(out);
            long start = System.nanoTime();
            Launcher launcher = LauncherFactory.create();
            launcher.execute(request, count);
            out.printf(
                    "%-44s %4d passed %3d failed %3d skipped %8.1f s%n",
                    name, count.passed, count.failures.size(), count.skipped, (System.nanoTime() - start) / 1e9);
            failed += count.failures.size();
            if (count.passed == 0) {
                out.println(name + ": nothing passed");
                failed++;
            }
        }
        out.flush();
        System.exit(failed == 0 ? 0 : 1);
    }

    private static final class Count implements TestExecutionListener {
        private final PrintStream out;
        private final List<String> failures = new ArrayList<>();
        private long passed;
        private long skipped;

        Count(PrintStream out) {
            this.out = out;
        }

        @Override
        public void executionSkipped(TestIdentifier test, String reason) {
            skipped++;
        }

        @Override
        public void executionFinished(TestIdentifier test, TestExecutionResult result) {
            switch (result.getStatus()) {
                case SUCCESSFUL -> passed += test.isTest() ? 1 : 0;
                case ABORTED -> skipped++;
                case FAILED -> {
                    String where = test.getSource()
                            .filter(ClassSource.class::isInstance)
                            .map(source -> "")
                            .orElse(test.getUniqueId());
                    String why = result.getThrowable().map(Throwable::toString).orElse("no reason");
                    failures.add(test.getDisplayName());
                    out.println("FAILED " + test.getDisplayName() + " " + where + "\n       " + why);
                    if (Boolean.getBoolean("trace")) {
                        result.getThrowable().ifPresent(e -> e.printStackTrace(out));
                    }
                    if (Boolean.getBoolean("test.stop")) {
                        out.flush();
                        Runtime.getRuntime().halt(1);
                    }
                }
            }
        }
    }
}
