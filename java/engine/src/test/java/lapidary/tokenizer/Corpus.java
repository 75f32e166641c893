package lapidary.tokenizer;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Texts that tokenizers get wrong. */
final class Corpus {
    private Corpus() {}

    /** Texts that UTF-8 can hold, so that the oracle can be asked. */
    static List<String> texts() {
        List<String> texts = new ArrayList<>(List.of(
                "",
                " ",
                "a",
                "Hello, world!",
                "The quick brown fox jumps over the lazy dog. It wasn't 1,234.56 km away; it's 7:30pm, isn't it?",
                // scripts
                "日本語の文章をトークンに分けます。カタカナ、ひらがな、漢字。",
                "我们需要把这段没有空格的中文文本切分成若干个词元，然后再比较结果。繁體中文也一樣。",
                "한국어 문장은 음절 단위로 나뉩니다. 자모: ㄱㄴㄷ 가각",
                "Съешь ещё этих мягких французских булок, да выпей же чаю.",
                "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
                "العربية: هذا نصٌّ مُشَكَّل مع تشكيل، وأرقام ١٢٣٤",
                "עברית עם נִיקוּד ו־מקף",
                "हिन्दी में यह एक वाक्य है। क्षत्रिय ज्ञान श्री",
                "বাংলা ভাষা தமிழ் மொழி తెలుగు ಕನ್ನಡ മലയാളം සිංහල ગુજરાતી ਪੰਜਾਬੀ",
                "ภาษาไทยไม่มีช่องว่างระหว่างคำ กำลังทดสอบ",
                "ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ བོད་སྐད་",
                "ქართული հայերեն አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᠮᠣᠩᠭᠣᠯ",
                "Đây là tiếng Việt có nhiều dấu: ắ ằ ẳ ẵ ặ",
                "ß ẞ ﬁ ﬀ Ǆ ĳ İ ı ſ Å Å é é",
                "𐍈𐌰𐌿 𒀀𒁀𒂀 𓀀𓁀 𝔘𝔫𝔦 𝟘𝟙𝟚 𠀀𠀁 𪜀",
                "\uD800\uDC00\uDBFF\uDFFF\uDBFF\uDFFE",
                "\uE000\uF8FF\uFFFE\uFFFF\uFFFD\uFDD0",
                // emoji
                "🙂😂🤣 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ☃ ⌚️ 1️⃣ 🧑🏿‍🚀🫠🫨🪿",
                "text🙂text 🙂 text",
                // code
                "def f(x):\n    if x:\n\treturn {'a': [1, 2]}\n\n\n# done\n",
                "for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; }   // trailing   \r\n",
                "<div class=\"x\"><b>bold</b><table><tr><td>1</td></tr></table></div><br/>",
                "SELECT * FROM t WHERE a >= 1 AND b != '\\n' -- x\n\n\n\n",
                "\\begin{equation} \\frac{\\partial f}{\\partial x} = \\int_0^\\infty e^{-x^2}\\,dx \\end{equation}",
                "https://example.org/a/b?c=d&e=%20f#g user@example.com /usr/lib/x86_64-linux-gnu C:\\Users\\me",
                "0 1 22 333 4444 55555 666666 1e-5 0xFF 3.14159 1,000,000 ²³¹ ½ Ⅷ ①",
                // spaces and newlines
                "  two",
                "   three",
                "trailing  ",
                "a  b   c    d",
                " ".repeat(31) + "x" + " ".repeat(32) + "y" + " ".repeat(100),
                "\n",
                "\n\n",
                "a\n\n\nb",
                "\n".repeat(31),
                "\n".repeat(32),
                "\n".repeat(33),
                "\n".repeat(95) + "x",
                "\t",
                "\t\t\ta",
                "\t".repeat(40),
                " \t \t\n \n\t",
                "\r",
                "\r\n\r\n",
                "\n \n  \n",
                "\u00A0 \u2003\u3000\u200B\u2028\u2029\uFEFF\u0085",
                "a \n b",
                "\n a",
                "a \n",
                ">\n",
                "> a ></",
                "> </b> > </",
                "<b> </b>",
                ">  </p>",
                // controls
                "\0",
                "a\0b\0\0c",
                "\u0001\u0002\u0007\b\u000B\f\u001B[0m\u001F\u007F\u0080\u009F",
                // the mark that spaces become, and byte pieces, as text
                "\u2581",
                "\u2581\u2581",
                " \u2581 \u2581\u2581\u2581 a\u2581b",
                "\u2581".repeat(40),
                "▁the▁cat the cat",
                "<0x41>",
                "<0x0A><0xFF>",
                "<0x4",
                "x<0xE2><0x82><0xAC>",
                // control tokens in text
                "<bos>",
                "<bos><bos>x<eos><pad><unk><mask>",
                "a<bos>b",
                "<start_of_turn>user\nHi<end_of_turn>\n",
                "<start_of_image><image_soft_token><end_of_image>",
                "user\n\n\n<start_of_image>",
                "[multimodal]",
                "<unused0><unused5><unused98><unused99><unused6241><unused6242>",
                "<unused",
                "<<bos>>",
                "<bos",
                "< bos>",
                "<start_of_turn",
                "<start_of_turn>>",
                "<end_of_turn><end_of_turn>\n\n<end_of_turn>",
                "<strong>a</strong>",
                "<h1>x</h1><ul><li>y</li></ul><code>z</code>",
                "<start_of_imag<start_of_image>e>",
                "<table\n><table>",
                "<start_of_turn>user\nHello  world! \n\n\t日本語 🙂 <start_of_image><end_of_turn>"));
        texts.add("a".repeat(5000));
        texts.add("ab".repeat(3000));
        texts.add("pneumonoultramicroscopicsilicovolcanoconiosis".repeat(50));
        texts.add("ACGTTGCA".repeat(1000));
        texts.add("漢字".repeat(2000));
        texts.add("🙂".repeat(2000));
        texts.add("\uE123".repeat(500));
        texts.add("=".repeat(3000) + "-".repeat(777) + "#".repeat(333));
        return texts;
    }

    /** What random texts are put together from. */
    private static final String[] BITS = {
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\u2581",
        "a",
        "e",
        "th",
        "ing",
        "the ",
        " of",
        "Z",
        "0",
        "12",
        ".",
        ",",
        "'s",
        "<",
        ">",
        "</",
        "<b>",
        "<bos>",
        "<end_of_turn>",
        "<start_of_image>",
        "<unused7>",
        "<0x41>",
        "é",
        "ß",
        "я",
        "ие",
        "ال",
        "है",
        "日",
        "本",
        "中文",
        "한",
        "🙂",
        "\uD83C\uDFFD",
        "\u200D",
        "\0",
        "\u0007",
        "\uE000",
        "\uFFFD",
        "\uD800\uDC00",
        "\u0301"
    };

    /** A text of about so many bits: sometimes of any code points, mostly of the likely ones. */
    static String random(Random random, int bits) {
        StringBuilder text = new StringBuilder();
        int style = random.nextInt(4);
        for (int i = 0; i < bits; i++) {
            if (style == 0) {
                text.appendCodePoint(codePoint(random));
            } else if (style == 1) {
                text.append((char) ('a' + random.nextInt(26)));
            } else {
                text.append(BITS[random.nextInt(style == 2 ? BITS.length : 14)]);
            }
        }
        return text.toString();
    }

    private static int codePoint(Random random) {
        while (true) {
            int limit = new int[] {0x80, 0x800, 0x3000, 0x10000, 0x110000}[random.nextInt(5)];
            int codePoint = random.nextInt(limit);
            if (codePoint < 0xD800 || codePoint > 0xDFFF) {
                return codePoint;
            }
        }
    }
}
