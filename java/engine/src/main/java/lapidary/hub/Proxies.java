package lapidary.hub;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.SocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The proxies of {@code HTTPS_PROXY}, {@code HTTP_PROXY}, {@code ALL_PROXY} and {@code NO_PROXY}, in small or capital letters, as curl and Python
 * read them; without any, Java's own settings. This machine is always reached directly.
 */
final class Proxies extends ProxySelector {
    private final Map<String, Proxy> byScheme;
    private final List<String> direct;
    private final ProxySelector others;

    private Proxies(Map<String, Proxy> byScheme, List<String> direct, ProxySelector others) {
        this.byScheme = Map.copyOf(byScheme);
        this.direct = List.copyOf(direct);
        this.others = others;
    }

    /** @throws IllegalArgumentException a variable holds no address of a proxy; the message names it */
    static Proxies of(Map<String, String> environment) {
        Map<String, Proxy> byScheme = new java.util.HashMap<>();
        for (String scheme : List.of("http", "https")) {
            for (String name : List.of(scheme + "_proxy", "all_proxy")) {
                String value = either(environment, name);
                if (!value.isEmpty()) {
                    byScheme.putIfAbsent(scheme, proxy(name.toUpperCase(Locale.ROOT), value));
                }
            }
        }
        List<String> direct = new ArrayList<>();
        for (String host : either(environment, "no_proxy").split(",")) {
            if (!host.isBlank()) {
                direct.add(host.strip().toLowerCase(Locale.ROOT).replaceFirst("^\\*?\\.", ""));
            }
        }
        return new Proxies(byScheme, direct, ProxySelector.getDefault());
    }

    private static String either(Map<String, String> environment, String name) {
        String small = environment.getOrDefault(name, "").strip();
        return small.isEmpty()
                ? environment.getOrDefault(name.toUpperCase(Locale.ROOT), "").strip()
                : small;
    }

    private static Proxy proxy(String name, String value) {
        URI uri;
        try {
            uri = URI.create(value.contains("://") ? value : "http://" + value);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(name + " is not the address of a proxy, expected http://host:port", e);
        }
        if (!"http".equalsIgnoreCase(uri.getScheme()) || uri.getHost() == null) {
            throw new IllegalArgumentException(
                    name + " is not the address of an HTTP proxy, expected http://host:port");
        }
        if (uri.getRawUserInfo() != null) {
            throw new IllegalArgumentException(name
                    + " holds a user name; proxies that ask for one are not supported, use a local one in between");
        }
        return new Proxy(
                Proxy.Type.HTTP,
                InetSocketAddress.createUnresolved(uri.getHost(), uri.getPort() < 0 ? 80 : uri.getPort()));
    }

    @Override
    public List<Proxy> select(URI uri) {
        String host = String.valueOf(uri.getHost()).toLowerCase(Locale.ROOT);
        if (host.equals("localhost") || host.startsWith("127.") || host.equals("[::1]") || isDirect(host)) {
            return List.of(Proxy.NO_PROXY);
        }
        Proxy proxy = byScheme.get(String.valueOf(uri.getScheme()).toLowerCase(Locale.ROOT));
        if (proxy != null) {
            return List.of(proxy);
        }
        return others == null ? List.of(Proxy.NO_PROXY) : others.select(uri);
    }

    private boolean isDirect(String host) {
        return direct.stream().anyMatch(name -> name.equals("*") || host.equals(name) || host.endsWith("." + name));
    }

    @Override
    public void connectFailed(URI uri, SocketAddress address, IOException e) {
        // the request itself fails and tells
    }
}
