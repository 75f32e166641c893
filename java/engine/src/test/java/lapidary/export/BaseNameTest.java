package lapidary.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class BaseNameTest {
    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({
        "'',                          gemma-3-4b-it,                                             false",
        "google/gemma-3-4b-it,        gemma-3-4b-it,                                             false",
        "/a/b/gemma-3-4b-it/,         models/Gemma-3-4b-it,                                      false",
        "google/gemma-3-4b-it,        hub/models--google--gemma-3-4b-it/snapshots/0123abc,       false",
        "/c/models--google--gemma-3-4b-it/snapshots/4567def, gemma-3-4b-it,                      false",
        "google/gemma-3-4b-pt,        gemma-3-4b-it,                                             true",
        "google/gemma-3-4b-pt,        hub/models--google--gemma-3-4b-it/snapshots/0123abc,       true",
        "google/gemma-3-4b-it,        gemma-3-4b-it-nf4,                                         true",
    })
    void theLastPartOfTheNameTells(String named, String given, boolean other) throws IOException {
        Path base = Files.createDirectories(folder.resolve(given));
        assertEquals(other, BaseName.note(named, base).isPresent(), () -> BaseName.note(named, base)
                .toString());
    }

    @Test
    void aFolderIsItselfUnderAnyName() throws IOException {
        Path base = Files.createDirectories(folder.resolve("gemma-3-4b-it"));
        Path link = Files.createSymbolicLink(folder.resolve("model"), base);
        assertFalse(BaseName.note(link.toString(), base).isPresent());
        assertFalse(BaseName.note("google/gemma-3-4b-it", link).isPresent());
    }

    @Test
    void theNoteIsOneLine() throws IOException {
        String note = BaseName.note("a\nb\u001b" + "x".repeat(9999), folder).orElseThrow();
        assertEquals(1, note.lines().count());
        assertFalse(note.contains("\u001b") || note.length() > 600, note);
    }
}
