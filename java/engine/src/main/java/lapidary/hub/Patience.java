package lapidary.hub;

import java.time.Duration;

/**
 * How long to wait, and how often to try.
 *
 * @param retries further attempts after one that failed; attempts that brought new bytes do not count
 * @param firstWait before the second attempt; doubles from one to the next
 * @param longestWait bound of that doubling
 * @param longestAsked a server that asks for a longer wait (Retry-After) is not waited for
 * @param connect to open a connection
 * @param stall without a byte in either direction before an attempt is given up
 */
public record Patience(
        int retries,
        Duration firstWait,
        Duration longestWait,
        Duration longestAsked,
        Duration connect,
        Duration stall) {
    /** huggingface_hub waits 1, 2, 4, 8, 8 seconds and gives up a connection after 10; here a little longer. */
    public static final Patience DEFAULT = new Patience(
            6,
            Duration.ofSeconds(1),
            Duration.ofSeconds(16),
            Duration.ofMinutes(10),
            Duration.ofSeconds(20),
            Duration.ofSeconds(60));

    Patience withStall(Duration other) {
        return new Patience(retries, firstWait, longestWait, longestAsked, connect, other);
    }

    /** The wait before attempt {@code failures + 1}, at least what the server asked for. */
    Duration before(int failures, Duration asked) {
        Duration wait = firstWait;
        for (int i = 1; i < failures && wait.compareTo(longestWait) < 0; i++) {
            wait = wait.multipliedBy(2);
        }
        wait = wait.compareTo(longestWait) < 0 ? wait : longestWait;
        return wait.compareTo(asked) < 0 ? asked : wait;
    }
}
