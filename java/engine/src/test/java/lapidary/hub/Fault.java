package lapidary.hub;

import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;

/**
 * What goes wrong with requests whose method and path match, the first {@code times} of them.
 *
 * @param status answered instead; 0: none, the rest of this record says what happens to the right answer
 * @param headers of that answer
 * @param body of that answer
 * @param cutAfter the connection closes after so many bytes of the content; -1: never
 * @param pauseMs between pieces of the content
 * @param damage a byte of the content is another one
 * @param wholeFile asked for a range, the server sends all
 * @param acts the request takes effect before the fault shows
 */
public record Fault(
        Pattern request,
        AtomicInteger times,
        int status,
        Map<String, String> headers,
        String body,
        int cutAfter,
        int pauseMs,
        boolean damage,
        boolean wholeFile,
        boolean acts) {

    /** @param request regular expression over {@code "GET /path"} */
    public static Fault status(String request, int times, int status, Map<String, String> headers, String body) {
        return new Fault(
                Pattern.compile(request), new AtomicInteger(times), status, headers, body, -1, 0, false, false, false);
    }

    public static Fault cut(String request, int times, int after) {
        return new Fault(
                Pattern.compile(request), new AtomicInteger(times), 0, Map.of(), "", after, 0, false, false, false);
    }

    public static Fault slow(String request, int times, int pauseMs) {
        return new Fault(
                Pattern.compile(request), new AtomicInteger(times), 0, Map.of(), "", -1, pauseMs, false, false, false);
    }

    public static Fault damage(String request, int times) {
        return new Fault(
                Pattern.compile(request), new AtomicInteger(times), 0, Map.of(), "", -1, 0, true, false, false);
    }

    public static Fault wholeFile(String request, int times) {
        return new Fault(
                Pattern.compile(request), new AtomicInteger(times), 0, Map.of(), "", -1, 0, false, true, false);
    }

    /** The request is carried out, but its answer is lost. */
    public static Fault lost(String request, int times) {
        return new Fault(Pattern.compile(request), new AtomicInteger(times), 0, Map.of(), "", 0, 0, false, false, true);
    }

    boolean strikes(String what) {
        return request.matcher(what).find() && times.getAndUpdate(n -> Math.max(0, n - 1)) > 0;
    }
}
