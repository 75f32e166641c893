package lapidary.gemma3;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class Nf4OptionsTest {
    @ParameterizedTest
    @CsvSource({
        "fc1,model.vision_tower.encoder.layers.0.mlp.fc1,true",
        "fc1,model.vision_tower.encoder.layers.0.mlp.fc10,false",
        "model.layers.1,model.layers.1.mlp.up_proj,true",
        "model.layers.1,model.layers.10.mlp.up_proj,false",
        "model.layers.1.mlp.up_proj,model.layers.1.mlp.up_proj,true",
        "model.layers.1.mlp.up,model.layers.1.mlp.up_proj,false",
        "mlp,model.layers.1.mlp.up_proj,false",
    })
    void aNameIsAWholeOneABeginningUpToADotOrAnEnd(String skip, String module, boolean expected) {
        assertEquals(expected, Nf4Options.matches(skip, module));
    }
}
