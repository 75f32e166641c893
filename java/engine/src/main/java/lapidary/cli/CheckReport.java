package lapidary.cli;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;
import lapidary.data.Conversation;
import lapidary.data.Preflight;
import lapidary.data.Preflight.Findings;
import lapidary.data.SampleText;
import lapidary.data.Samples;
import lapidary.format.AtomicFile;
import lapidary.format.FormatException;
import lapidary.image.ImageDecoder;
import lapidary.image.ImageSource;
import lapidary.image.PngWriter;
import lapidary.image.Resize;
import lapidary.image.Rgb;

/** What {@code engine check} found, as one page for the browser that needs nothing but itself. */
final class CheckReport {
    private static final int SAMPLES = 12; // shown with their pictures, spread over the data set
    private static final int BAD = 50; // bad rows shown
    private static final int THUMBNAILS = 200; // pictures of bad rows shown, in all
    private static final int VIEW = 336; // pixels of a side of what the model sees, as shown
    private static final int THUMBNAIL = 128; // pixels of a bad row's picture, the longer side
    private static final int BINS = 24;
    private static final int CHART_WIDTH = 480;
    private static final int CHART_HEIGHT = 160;
    private static final int LONGEST = 20_000; // characters of a run of text

    private static final String STYLE =
            """
            :root { color-scheme: light dark; --page: #fbfbfa; --ink: #1c1d1f; --soft: #5f6368; --card: #fff; --edge: #e2e3e5;
              --bar: #2f6fb0; --good: #11663a; --goodback: #e2f3e8; --bad: #a3201d; --badback: #fdecea; }
            @media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e6e7e9; --soft: #a2a7ad; --card: #1e2125;
              --edge: #363b41; --bar: #6aa9e4; --good: #8fdcae; --goodback: #17372a; --bad: #ff9d94; --badback: #43201e; } }
            * { box-sizing: border-box; }
            body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; background: var(--page); color: var(--ink);
              font: 15px/1.5 system-ui, sans-serif; }
            h1 { font-size: 22px; margin: 0; } h2 { font-size: 17px; margin: 36px 0 12px; }
            .soft { color: var(--soft); overflow-wrap: anywhere; }
            .facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 12px; margin-top: 20px; }
            .fact, .card { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 12px 14px; }
            .fact b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
            .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }
            .charts h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; }
            svg { width: 100%; height: auto; display: block; } svg rect { fill: var(--bar); }
            svg text { fill: var(--soft); font: 16px system-ui, sans-serif; } svg line { stroke: var(--edge); }
            .card { margin-bottom: 12px; } .card h3 { font-size: 14px; margin: 0 0 8px; }
            .words { white-space: pre-wrap; overflow-wrap: anywhere; }
            .trained { color: var(--good); background: var(--goodback); font-weight: 600; border-radius: 3px; }
            .masked { color: var(--soft); }
            .bad h3 { color: var(--bad); } .bad { background: var(--badback); }
            .pictures { display: flex; flex-wrap: wrap; gap: 10px; margin: 0 0 10px; }
            figure { margin: 0; } figcaption { font-size: 12px; color: var(--soft); max-width: 200px; }
            img { display: block; border: 1px solid var(--edge); border-radius: 4px; max-width: 200px; height: auto; }
            .none { width: 96px; height: 72px; border: 1px dashed var(--bad); border-radius: 4px; color: var(--bad);
              display: grid; place-items: center; font-size: 12px; }
            """;

    private final StringBuilder out = new StringBuilder();
    private final Samples samples;
    private final Findings findings;

    private CheckReport(Samples samples, Findings findings) {
        this.samples = samples;
        this.findings = findings;
    }

    /** Writes the page. */
    static void write(
            Path file, String data, Samples samples, Findings findings, int batchSize, List<String> estimates) {
        CheckReport report = new CheckReport(samples, findings);
        report.page(data, batchSize, estimates);
        byte[] bytes = report.out.toString().getBytes(StandardCharsets.UTF_8);
        AtomicFile.write(file, channel -> AtomicFile.writeFully(channel, java.nio.ByteBuffer.wrap(bytes)));
    }

    private void page(String data, int batchSize, List<String> estimates) {
        out.append("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
                .append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
                .append("<title>Data check</title><style>")
                .append(STYLE)
                .append("</style></head><body>\n<h1>Data check</h1><div class=\"soft\">")
                .append(escaped(data))
                .append("</div>\n");
        facts(batchSize, estimates);
        if (findings.accepted().length > 0) {
            charts();
        }
        bad();
        samples();
        others();
        out.append("</body></html>\n");
    }

    private void facts(int batchSize, List<String> estimates) {
        out.append("<div class=\"facts\">");
        fact(findings.rows(), "rows");
        fact(findings.accepted().length, "good");
        fact(findings.bad().size(), "bad");
        fact(findings.overlong().size(), "too long");
        fact(findings.duplicates().size(), "duplicates");
        fact(findings.allTokens(), "tokens");
        fact(findings.allTargets(), "trained on");
        fact(findings.allPictures(), "pictures");
        fact(findings.length(50), "tokens of a row, half up to");
        fact(findings.length(99), "tokens of a row, 99 % up to");
        fact(findings.length(100), "tokens of the longest row");
        fact(percent(findings.paddingWaste(batchSize)), "of batches of " + batchSize + " were padding, if padded");
        out.append("</div>\n<h2>Steps and memory</h2><ul class=\"soft\">");
        estimates.forEach(each -> out.append("<li>").append(escaped(each)).append("</li>"));
        out.append("</ul>\n");
    }

    private void fact(long number, String what) {
        fact(String.format(Locale.ROOT, "%,d", number), what);
    }

    private void fact(String number, String what) {
        out.append("<div class=\"fact\"><b>")
                .append(number)
                .append("</b><span class=\"soft\">")
                .append(what)
                .append("</span></div>");
    }

    private static String percent(double share) {
        return String.format(Locale.ROOT, "%.1f %%", 100 * share);
    }

    private void charts() {
        int[] tokens = findings.tokens();
        out.append("<h2>Figures</h2><div class=\"charts\">");
        histogram("Tokens of a row", tokens.length, i -> tokens[i], "%,.0f");
        histogram(
                "Share of a row that is trained on, %",
                tokens.length, i -> 100.0 * findings.targets()[i] / tokens[i], "%.0f");
        histogram("Pictures of a row", tokens.length, i -> findings.pictures()[i], "%,.0f");
        if (!findings.sizes().isEmpty()) {
            sizes();
        }
        out.append("</div>\n");
    }

    private void histogram(String title, int n, IntToDoubleFunction value, String format) {
        double low = IntStream.range(0, n).mapToDouble(value).min().orElse(0);
        double high = IntStream.range(0, n).mapToDouble(value).max().orElse(0);
        int[] bins = new int[BINS];
        for (int i = 0; i < n; i++) {
            double place = high > low ? (value.applyAsDouble(i) - low) / (high - low) : 0.5;
            bins[Math.min(BINS - 1, (int) (place * BINS))]++;
        }
        int most = Arrays.stream(bins).max().orElse(1);
        out.append("<div class=\"card\"><h3>").append(title).append("</h3>");
        out.append(String.format(
                Locale.ROOT,
                "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">",
                CHART_WIDTH,
                CHART_HEIGHT + 28,
                title));
        double step = (double) CHART_WIDTH / BINS;
        for (int b = 0; b < BINS; b++) {
            double height = bins[b] == 0 ? 0 : Math.max(2, (double) (CHART_HEIGHT - 22) * bins[b] / most);
            out.append(String.format(
                    Locale.ROOT,
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"><title>%,d rows</title></rect>",
                    b * step + 1,
                    CHART_HEIGHT - height,
                    step - 2,
                    height,
                    bins[b]));
        }
        out.append(String.format(
                Locale.ROOT,
                "<line x1=\"0\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/><text x=\"0\" y=\"%d\">%s</text>"
                        + "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text><text x=\"0\" y=\"14\">%,d rows</text></svg></div>",
                CHART_WIDTH,
                CHART_HEIGHT,
                CHART_HEIGHT,
                CHART_HEIGHT + 20,
                String.format(Locale.ROOT, format, low),
                CHART_WIDTH,
                CHART_HEIGHT + 20,
                String.format(Locale.ROOT, format, high),
                most));
    }

    private void sizes() {
        List<Map.Entry<Samples.Size, Integer>> shown =
                findings.sizes().entrySet().stream().limit(6).toList();
        int most = shown.get(0).getValue();
        int step = (CHART_HEIGHT + 24) / 6;
        out.append("<div class=\"card\"><h3>Sizes of pictures</h3>");
        out.append(String.format(Locale.ROOT, "<svg viewBox=\"0 0 %d %d\">", CHART_WIDTH, CHART_HEIGHT + 24));
        for (int i = 0; i < shown.size(); i++) {
            out.append(String.format(
                    Locale.ROOT,
                    "<text x=\"0\" y=\"%d\">%s</text><rect x=\"110\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>"
                            + "<text x=\"%.1f\" y=\"%d\">%,d</text>",
                    i * step + 19,
                    shown.get(i).getKey(),
                    i * step + 6,
                    270.0 * shown.get(i).getValue() / most,
                    step - 12,
                    118 + 270.0 * shown.get(i).getValue() / most,
                    i * step + 19,
                    shown.get(i).getValue()));
        }
        int others = findings.sizes().size() - shown.size();
        out.append("</svg>");
        if (others > 0) {
            out.append("<div class=\"soft\">and ").append(others).append(" more sizes</div>");
        }
        out.append("</div>");
    }

    private void bad() {
        List<Preflight.Bad> all = findings.bad();
        if (all.isEmpty()) {
            return;
        }
        out.append("<h2>Bad rows (").append(all.size()).append(")</h2>\n");
        int thumbnails = 0;
        for (Preflight.Bad bad : all.subList(0, Math.min(BAD, all.size()))) {
            out.append("<div class=\"card bad\"><h3>row ").append(bad.row()).append("</h3>");
            List<ImageSource> images = images(bad.row());
            out.append("<div class=\"pictures\">");
            for (int i = 0; i < images.size() && thumbnails < THUMBNAILS; i++, thumbnails++) {
                thumbnail(i, images.get(i));
            }
            out.append("</div><div class=\"words\">")
                    .append(escaped(bad.reason()))
                    .append("</div></div>\n");
        }
        if (all.size() > BAD) {
            out.append("<p class=\"soft\">and ").append(all.size() - BAD).append(" more</p>\n");
        }
    }

    private List<ImageSource> images(int row) {
        try {
            Conversation conversation = samples.dataset().get(row);
            return conversation.images();
        } catch (FormatException e) {
            return List.of(); // the row itself cannot be read, which its reason says
        }
    }

    private void thumbnail(int i, ImageSource source) {
        out.append("<figure>");
        try {
            Rgb picture = ImageDecoder.decode(source);
            double scale = Math.min(1, (double) THUMBNAIL / Math.max(picture.width(), picture.height()));
            int width = Math.max(1, (int) (picture.width() * scale));
            int height = Math.max(1, (int) (picture.height() * scale));
            image(Resize.bilinear(picture, width, height, Resize.Precision.PILLOW), "picture " + i);
            out.append("<figcaption>picture ")
                    .append(i)
                    .append(", ")
                    .append(picture.width())
                    .append("x");
            out.append(picture.height()).append("</figcaption>");
        } catch (FormatException e) {
            out.append("<div class=\"none\">no picture</div><figcaption>picture ")
                    .append(i)
                    .append("</figcaption>");
        }
        out.append("</figure>");
    }

    private void image(Rgb picture, String name) {
        out.append("<img alt=\"").append(escaped(name)).append("\" width=\"").append(picture.width());
        out.append("\" height=\"").append(picture.height()).append("\" src=\"data:image/png;base64,");
        out.append(Base64.getEncoder().encodeToString(PngWriter.encode(picture)))
                .append("\">");
    }

    private void samples() {
        int n = Math.min(SAMPLES, findings.accepted().length);
        if (n == 0) {
            return;
        }
        out.append("<h2>Samples as the model gets them</h2><p><span class=\"trained\">trained text</span> "
                + "<span class=\"masked\">masked text</span></p>\n");
        for (int k = 0; k < n; k++) {
            int i = (int) ((long) k * findings.accepted().length / n);
            sample(findings.accepted()[i]);
        }
    }

    private void sample(int row) {
        Samples.Loaded loaded = samples.load(row, true);
        out.append("<div class=\"card\"><h3>row ").append(row).append(" <span class=\"soft\">");
        out.append(loaded.sample().inputIds().length).append(" tokens, ");
        out.append(loaded.sample().targets())
                .append(" trained on; ")
                .append(escaped(loaded.sample().id()));
        out.append("</span></h3><div class=\"pictures\">");
        boolean one = loaded.pixels().size() == loaded.pictures().size(); // a view for each picture
        for (int v = 0; v < loaded.pixels().size(); v++) {
            Rgb view = loaded.pixels().get(v).picture();
            int side = Math.min(VIEW, view.width());
            out.append("<figure>");
            image(
                    Resize.bilinear(
                            view, side, Math.max(1, side * view.height() / view.width()), Resize.Precision.PILLOW),
                    "view " + v);
            out.append("<figcaption>").append(one ? loaded.pictures().get(v) + " seen as " : "view " + v + ", ");
            out.append(view.width()).append("x").append(view.height()).append("</figcaption></figure>");
        }
        out.append("</div><div class=\"words\">");
        for (SampleText.Run run :
                SampleText.of(loaded.sample(), samples.processor().tokenizer()).runs()) {
            switch (run.kind()) {
                case PICTURE -> out.append("<span class=\"soft\">[picture, ")
                        .append(run.tokens())
                        .append(" tokens]</span>");
                case TRAINED -> words("trained", run.text());
                case MASKED -> words("masked", run.text());
            }
        }
        out.append("</div></div>\n");
    }

    private void words(String style, String text) {
        String shown = text.length() <= LONGEST ? text : text.substring(0, LONGEST) + "...";
        out.append("<span class=\"")
                .append(style)
                .append("\">")
                .append(escaped(shown))
                .append("</span>");
    }

    private void others() {
        list(
                "Too long",
                findings.overlong().stream()
                        .map(each -> "row " + each.row() + ": " + each.tokens() + " tokens, "
                                + (each.kept() == 0 ? "dropped" : "cut to " + each.kept()))
                        .toList());
        list(
                "Duplicates",
                findings.duplicates().stream()
                        .map(each -> "row " + each.row() + " has words and pictures of row " + each.of())
                        .toList());
    }

    private void list(String title, List<String> all) {
        if (all.isEmpty()) {
            return;
        }
        out.append("<h2>").append(title).append(" (").append(all.size()).append(")</h2><div class=\"card\">");
        all.stream().limit(BAD).forEach(line -> out.append("<div>").append(line).append("</div>"));
        if (all.size() > BAD) {
            out.append("<div class=\"soft\">and ").append(all.size() - BAD).append(" more</div>");
        }
        out.append("</div>\n");
    }

    private static String escaped(String text) {
        return Printable.of(text)
                .replace("&", "&amp;")
                .replace("<", "&lt;")
                .replace(">", "&gt;")
                .replace("\"", "&quot;");
    }
}
