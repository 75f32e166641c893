package lapidary.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Golden files by bench/reference/make_data_golden.py: what pyarrow wrote, and the same rows as JSON. */
class ParquetRowsTest {
    private static final Path GOLDEN = Path.of("src/test/resources/lapidary/data");

    @ParameterizedTest
    @ValueSource(
            strings = {
                "deep",
                "deep-pages",
                "types-plain1",
                "types-plain2",
                "types-dict1",
                "types-dict2",
                "types-delta1",
                "types-delta2",
                "types-split1",
                "types-split2"
            })
    void rowsOfAnyNestingAndTypeAreWhatTheirWriterPutIn(String name) throws IOException {
        ObjectMapper json = new ObjectMapper();
        List<String> expected = Files.readAllLines(GOLDEN.resolve(name.split("-")[0] + ".jsonl"));
        ParquetFile file = ParquetFile.open(GOLDEN.resolve(name + ".parquet"), Set.of(RowForm.MESSAGES));
        assertEquals(expected.size(), file.rows());
        try (ParquetRows rows = file.read(file.groups().get(0), (in, length) -> in.readBytes(length))) {
            for (int row = 0; row < file.rows(); row++) {
                Map<String, Object> found = file.next(rows, row);
                assertEquals(
                        json.readTree(expected.get(row)), json.readTree(json.writeValueAsString(found)), "row " + row);
            }
            assertFalse(rows.hasNext());
        }
    }
}
