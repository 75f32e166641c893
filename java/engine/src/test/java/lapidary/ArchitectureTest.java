package lapidary;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.core.domain.properties.HasName.Predicates.name;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.core.importer.Location;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Who may import whom: a room imports only rooms above it. */
final class ArchitectureTest {
    /** Top to bottom. */
    private static final List<String> ROOMS = List.of(
            "ffi",
            "device",
            "tensor",
            "autograd",
            "format",
            "quant",
            "op",
            "nn",
            "tokenizer",
            "image",
            "gemma3",
            "infer",
            "serve",
            "export",
            "data",
            "optim",
            "train",
            "hub",
            "cli");

    private final JavaClasses engine = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            .withImportOption((Location location) -> !location.contains("/Launcher"))
            .importPackages("lapidary");

    @Test
    void aRoomImportsOnlyRoomsAboveIt() {
        for (int i = 0; i < ROOMS.size(); i++) {
            List<String> below = new ArrayList<>();
            for (String room : ROOMS.subList(i + 1, ROOMS.size())) {
                below.add("lapidary." + room + "..");
            }
            if (!below.isEmpty()) {
                noClasses()
                        .that()
                        .resideInAPackage("lapidary." + ROOMS.get(i) + "..")
                        .should()
                        .dependOnClassesThat()
                        .resideInAnyPackage(below.toArray(String[]::new))
                        .allowEmptyShould(true)
                        .check(engine);
            }
        }
    }

    @Test
    void everyClassIsInARoom() {
        classes()
                .should()
                .resideInAnyPackage(
                        ROOMS.stream().map(room -> "lapidary." + room + "..").toArray(String[]::new))
                .check(engine);
    }

    /** The device room all but the image table's, the image room that alone. */
    @Test
    void onlyTheDeviceAndImageRoomsCallTheirBindings() {
        noClasses()
                .that()
                .resideOutsideOfPackages("lapidary.device..", "lapidary.image..", "lapidary.ffi..")
                .should()
                .dependOnClassesThat()
                .resideInAPackage("lapidary.ffi..")
                .check(engine);
        noClasses()
                .that()
                .resideInAPackage("lapidary.device..")
                .should()
                .dependOnClassesThat()
                .resideInAPackage("lapidary.ffi.image..")
                .check(engine);
    }

    @Test
    void tokenizerImportsOnlyFormat() {
        importsOnly("tokenizer", resideInAnyPackage("lapidary.format..", "lapidary.tokenizer.."));
    }

    /** Beside format, its own bindings and what loads the library that they call. */
    @Test
    void imageImportsOnlyFormatItsBindingsAndTheirLoader() {
        importsOnly(
                "image",
                resideInAnyPackage("lapidary.format..", "lapidary.image..", "lapidary.ffi.image..")
                        .or(name("lapidary.device.NativeLibraries")));
    }

    private void importsOnly(String room, DescribedPredicate<JavaClass> allowed) {
        noClasses()
                .that()
                .resideInAPackage("lapidary." + room + "..")
                .should()
                .dependOnClassesThat(resideInAPackage("lapidary..").and(not(allowed)))
                .check(engine);
    }

    @Test
    void onlyTheCommandLinePrintsOrExits() {
        noClasses()
                .that()
                .resideOutsideOfPackages("lapidary.cli..", "lapidary.ffi..")
                .should()
                .accessField(System.class, "out")
                .orShould()
                .accessField(System.class, "err")
                .orShould()
                .callMethod(System.class, "exit", int.class)
                .check(engine);
    }
}
