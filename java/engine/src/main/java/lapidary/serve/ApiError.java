package lapidary.serve;

import java.util.LinkedHashMap;
import java.util.Map;
import lapidary.format.JsonWriter;

/** An answer that says why there is none, in OpenAI's form. */
final class ApiError extends RuntimeException {
    private static final long serialVersionUID = 1;
    private static final String INVALID = "invalid_request_error";

    private final int status;
    private final String type;
    private final String param; // null for none, as is code
    private final String code;

    ApiError(int status, String type, String param, String code, String message) {
        super(message, null, false, false); // for a client: nobody reads its stack
        this.status = status;
        this.type = type;
        this.param = param;
        this.code = code;
    }

    /** Something of the request cannot be done. */
    static ApiError badRequest(String param, String message) {
        return new ApiError(400, INVALID, param, null, message);
    }

    static ApiError badImage(String param, String message) {
        return new ApiError(400, INVALID, param, "invalid_image", message);
    }

    static ApiError tooLarge(String message) {
        return new ApiError(413, INVALID, null, "request_too_large", message);
    }

    static ApiError invalid(int status, String code, String message) {
        return new ApiError(status, INVALID, null, code, message);
    }

    static ApiError busy(String message) {
        return new ApiError(429, "rate_limit_error", null, "rate_limit_exceeded", message);
    }

    static ApiError unavailable(String message) {
        return new ApiError(503, "server_error", null, null, message);
    }

    static ApiError internal(String message) {
        return new ApiError(500, "server_error", null, null, message);
    }

    int status() {
        return status;
    }

    String json() {
        Map<String, Object> error = new LinkedHashMap<>();
        error.put("message", getMessage());
        error.put("type", type);
        error.put("param", param);
        error.put("code", code);
        return JsonWriter.compact(Map.of("error", error));
    }
}
