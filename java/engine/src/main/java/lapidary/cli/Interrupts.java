package lapidary.cli;

import java.lang.reflect.Proxy;

/**
 * Ctrl-C without the end of the program. Only {@code sun.misc.Signal} of the module jdk.unsupported hears of it, and javac
 * warns of every use of that by name in a way that nothing suppresses; so it is looked up, once, here.
 */
final class Interrupts {
    private Interrupts() {}

    /** Runs {@code action} at each Ctrl-C from now on. Where this Java lacks signals, Ctrl-C ends the program as ever. */
    static void handle(Runnable action) {
        try {
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            Object run = Proxy.newProxyInstance(
                    handler.getClassLoader(), new Class<?>[] {handler}, (proxy, method, args) -> {
                        action.run();
                        return null;
                    });
            Object interrupt = signal.getConstructor(String.class).newInstance("INT");
            signal.getMethod("handle", signal, handler).invoke(null, interrupt, run);
        } catch (ReflectiveOperationException e) {
            System.getLogger(Interrupts.class.getName())
                    .log(System.Logger.Level.DEBUG, "no signals in this Java: Ctrl-C ends the program", e);
        }
    }
}
