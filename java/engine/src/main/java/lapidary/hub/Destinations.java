package lapidary.hub;

import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.util.Locale;

/**
 * Where a server may send us. An address that comes in an answer (a redirect, an upload link, a next page) is checked
 * before any connection to it: it must be public, unless it is the endpoint that the user chose or of that one's own
 * kind (a Hub in a private network may name its neighbours, a test on this machine this machine). Link-local addresses, where
 * clouds keep credentials, are never allowed, nor is a step from https to http.
 */
final class Destinations {
    private enum Reach {
        PUBLIC,
        PRIVATE,
        LOOPBACK,
        FORBIDDEN
    }

    private final URI endpoint;

    Destinations(URI endpoint) {
        this.endpoint = endpoint;
    }

    /** Whether {@code uri} is the endpoint's own server: only there the token goes. */
    boolean isHome(URI uri) {
        return endpoint.getScheme().equalsIgnoreCase(uri.getScheme())
                && endpoint.getHost().equalsIgnoreCase(uri.getHost())
                && port(endpoint) == port(uri);
    }

    /**
     * The address that {@code reference}, found in an answer of {@code from}, stands for.
     *
     * @throws HubException it is malformed or not to be visited
     */
    URI follow(URI from, String reference) {
        URI target;
        try {
            target = from.resolve(reference.strip());
        } catch (IllegalArgumentException e) {
            throw new HubException(
                    Text.shown(from) + " names the address \""
                            + Text.oneLine(reference.split("[?#]", 2)[0]) + "\", which is malformed",
                    e);
        }
        check(from, target);
        return target;
    }

    private void check(URI from, URI target) {
        String scheme = String.valueOf(target.getScheme()).toLowerCase(Locale.ROOT);
        if (!(scheme.equals("http") || scheme.equals("https")) || target.getHost() == null) {
            throw refusal(from, target.getScheme() + ": address", "only http and https addresses are followed");
        }
        if (target.getPort() == 0 || target.getPort() > 65535) {
            throw refusal(from, Text.shown(target), "there is no such port");
        }
        if (target.getRawUserInfo() != null) {
            throw refusal(from, Text.shown(target), "it carries a user name");
        }
        if (isHome(target)) {
            return;
        }
        if (scheme.equals("http") && "https".equalsIgnoreCase(from.getScheme())) {
            throw refusal(from, Text.shown(target), "it steps from https down to http");
        }
        for (InetAddress address : resolve(target.getHost())) {
            Reach reach = reach(address);
            if (reach != Reach.PUBLIC && (reach == Reach.FORBIDDEN || !endpointIs(reach))) {
                throw refusal(
                        from, Text.shown(target), "its address " + address.getHostAddress() + " is not a public one");
            }
        }
    }

    private static HubException refusal(URI from, String target, String why) {
        return new HubException(Text.shown(from) + " sends on to " + target + ", which is refused: " + why
                + "; nothing was sent there");
    }

    private boolean endpointIs(Reach reach) {
        for (InetAddress address : resolve(endpoint.getHost())) {
            if (reach(address) != reach) {
                return false;
            }
        }
        return true;
    }

    /** What the name stands for; nothing where it is unknown, as then no connection can come about either. */
    private static InetAddress[] resolve(String host) {
        try {
            // The JDK keeps the answer for 30 seconds, so the connection that follows goes where this check looked.
            return InetAddress.getAllByName(host.replaceAll("^\\[|]$", ""));
        } catch (UnknownHostException e) {
            return new InetAddress[0];
        }
    }

    private static Reach reach(InetAddress address) {
        if (address.isLoopbackAddress()) {
            return Reach.LOOPBACK;
        }
        if (address.isAnyLocalAddress() || address.isLinkLocalAddress() || address.isMulticastAddress()) {
            return Reach.FORBIDDEN;
        }
        byte[] b = address.getAddress();
        return address instanceof Inet4Address ? reachOf4(b) : reachOf6(b, address);
    }

    /** IANA's special-purpose registry of IPv4. */
    private static Reach reachOf4(byte[] b) {
        int first = b[0] & 0xFF;
        int second = b[1] & 0xFF;
        if (first == 0 || first >= 240) {
            return Reach.FORBIDDEN;
        }
        if (first == 127) {
            return Reach.LOOPBACK;
        }
        if (first == 169 && second == 254) {
            return Reach.FORBIDDEN;
        }
        boolean isPrivate = first == 10
                || (first == 172 && (second & 0xF0) == 16)
                || (first == 192 && second == 168)
                || (first == 100 && (second & 0xC0) == 64)
                || (first == 192 && second == 0 && (b[2] & 0xFF) == 0)
                || (first == 198 && (second & 0xFE) == 18);
        return isPrivate ? Reach.PRIVATE : Reach.PUBLIC;
    }

    private static Reach reachOf6(byte[] b, InetAddress address) {
        if (address.isSiteLocalAddress() || (b[0] & 0xFE) == 0xFC) {
            return Reach.PRIVATE;
        }
        // Addresses that carry one of IPv4: 64:ff9b::/96, 2002::/16, ::a.b.c.d
        boolean nat64 = b[0] == 0 && b[1] == 0x64 && b[2] == (byte) 0xFF && b[3] == (byte) 0x9B;
        boolean sixToFour = b[0] == 0x20 && b[1] == 0x02;
        boolean compatible = true;
        for (int i = 0; i < 12; i++) {
            compatible &= b[i] == 0;
        }
        if (nat64 || compatible) {
            return embedded(b, 12);
        }
        return sixToFour ? embedded(b, 2) : Reach.PUBLIC;
    }

    private static Reach embedded(byte[] b, int at) {
        byte[] four = {b[at], b[at + 1], b[at + 2], b[at + 3]};
        boolean loopback = (four[0] & 0xFF) == 127;
        return loopback ? Reach.FORBIDDEN : reachOf4(four);
    }

    private static int port(URI uri) {
        return uri.getPort() >= 0 ? uri.getPort() : "https".equalsIgnoreCase(uri.getScheme()) ? 443 : 80;
    }
}
