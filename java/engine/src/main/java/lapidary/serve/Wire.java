package lapidary.serve;

import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The way of one answer to its client. While there is nothing to say, something harmless is sent every so often, since
 * writing is how one learns that a client is gone; then {@code onGone} is called, once or more, from any thread.
 *
 * <p>A client that stays but takes nothing is gone too: a write that lasts too long is interrupted, which closes the
 * connection, as interruptible channels do.
 */
final class Wire implements AutoCloseable {
    private final HttpExchange http;
    private final String harmless;
    private final Duration heartbeat;
    private final Duration stall;
    private final Runnable onGone;
    private final ReentrantLock lock =
            new ReentrantLock(true); // of what is below; fair, so that each thread gets its turn
    private final Thread owner = Thread.currentThread();
    private final Thread beats;
    private volatile OutputStream body; // null until the response has begun; written under the lock
    private long lastWrite = System.nanoTime();

    /** @param harmless what a client of this kind of answer skips */
    Wire(HttpExchange http, String harmless, Duration heartbeat, Duration stall, Runnable onGone) {
        this.http = http;
        this.harmless = harmless;
        this.heartbeat = heartbeat;
        this.stall = stall;
        this.onGone = onGone;
        this.beats = Thread.ofVirtual().start(this::beat);
    }

    /** Sends text now, as part of a response whose length is not known. @throws ClientGone where nobody is there */
    void send(String text) {
        locked(beats, () -> write(text));
    }

    /**
     * Sends the end of the response: all of it, with its length, where nothing has been sent.
     *
     * @throws ClientGone where nobody is there
     */
    void end(String text) {
        locked(beats, () -> {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            if (body == null) {
                http.sendResponseHeaders(200, bytes.length);
                body = http.getResponseBody();
            }
            body.write(bytes);
            body.close();
        });
    }

    /** Whether the client has been told that all is well, so that an error cannot have a status of its own. */
    boolean hasBegun() {
        return body != null;
    }

    @Override
    public void close() {
        boolean quiet = false; // an interrupted write closes the connection, which only one that is stuck deserves
        try {
            quiet = lock.tryLock(stall.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            owner.interrupt();
        }
        beats.interrupt();
        if (quiet) {
            lock.unlock();
        }
    }

    private interface Write {
        void run() throws IOException;
    }

    /** Writes once the other thread does not; where that takes too long, it is stuck. */
    private void locked(Thread other, Write write) {
        try {
            if (!lock.tryLock(stall.toNanos(), TimeUnit.NANOSECONDS)) {
                other.interrupt();
                throw new IOException("the client takes no bytes");
            }
            try {
                write.run();
                lastWrite = System.nanoTime();
            } finally {
                lock.unlock();
            }
        } catch (IOException e) {
            onGone.run();
            throw new ClientGone(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ClientGone(e);
        }
    }

    private void write(String text) throws IOException {
        if (body == null) {
            http.sendResponseHeaders(200, 0);
            body = http.getResponseBody();
        }
        body.write(text.getBytes(StandardCharsets.UTF_8));
        body.flush();
    }

    private void beat() {
        try {
            while (true) {
                Thread.sleep(heartbeat);
                locked(owner, () -> {
                    if (System.nanoTime() - lastWrite >= heartbeat.toNanos()) {
                        write(harmless);
                    }
                });
            }
        } catch (InterruptedException | ClientGone e) {
            // the answer is complete, or there is nobody to beat for
        }
    }
}
