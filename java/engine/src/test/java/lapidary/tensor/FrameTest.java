package lapidary.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.DeviceException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

@ParameterizedClass(autoCloseArguments = false)
@MethodSource("lapidary.Devices#kernels")
record FrameTest(Device device) {
    @Test
    void closingReturnsEverything() {
        long before = device.pool().inUse();
        try (Frame frame = Frame.root(device, "a")) {
            frame.empty(DType.F32, 100);
            frame.zeros(DType.BF16, 10, 10);
            assertTrue(device.pool().inUse() > before);
        }
        assertEquals(before, device.pool().inUse());
    }

    @Test
    void useAfterCloseNamesTheFrame() {
        Frame root = Frame.root(device, "root");
        Frame step = root.child("step 3");
        Tensor x = step.empty(DType.F32, 4);
        step.close();
        var error = assertThrows(IllegalStateException.class, x::segment);
        assertTrue(error.getMessage().contains("root/step 3"), error.getMessage());
        root.close();
    }

    @Test
    void framesCloseInReverseOrder() {
        Frame root = Frame.root(device, "root");
        Frame child = root.child("child");
        assertThrows(IllegalStateException.class, root::close);
        child.close();
        root.close();
    }

    @Test
    void anEscapedTensorOutlivesItsFrameWithItsViews() {
        try (Frame root = Frame.root(device, "root")) {
            Tensor view;
            try (Frame child = root.child("child")) {
                Tensor x = child.of(new float[] {1, 2, 3, 4}, 4);
                view = x.reshape(2, 2);
                child.escape(x);
            }
            assertArrayEquals(new float[] {1, 2, 3, 4}, view.toFloats());
        }
    }

    @Test
    void slicesAreRowsOfTheFirstAxis() {
        try (Frame root = Frame.root(device, "root")) {
            Tensor x = root.of(new float[] {1, 2, 3, 4, 5, 6}, 3, 2);
            assertArrayEquals(new float[] {3, 4, 5, 6}, x.slice(1, 3).toFloats());
            assertFalse(x.slice(1, 3).isWhole());
            assertTrue(x.slice(0, 3).isWhole());
            assertThrows(IllegalArgumentException.class, () -> x.slice(2, 4));
        }
    }

    @Test
    void aSealedFrameTakesNoTensorsButHasChildren() {
        try (Frame model = Frame.root(device, "model")) {
            model.seal();
            assertThrows(IllegalStateException.class, () -> model.empty(DType.F32, 1));
            try (Frame step = model.child("step")) {
                step.empty(DType.F32, 1);
            }
        }
    }

    @Test
    void outOfMemoryNamesRequestAndFrame() {
        try (Frame model = Frame.root(device, "model");
                Frame step = model.child("step 1")) {
            var error = assertThrows(DeviceException.class, () -> step.empty(DType.F32, 1L << 44));
            assertTrue(error.getMessage().contains("model/step 1"), error.getMessage());
            assertTrue(error.getMessage().contains(String.valueOf(1L << 46)), error.getMessage());
        }
    }

    @Test
    void aShapeThatOverflowsIsRefused() {
        try (Frame model = Frame.root(device, "model")) {
            assertThrows(ArithmeticException.class, () -> model.empty(DType.F32, 1L << 40, 1L << 40));
            assertThrows(IllegalArgumentException.class, () -> model.empty(DType.F32, -1));
        }
    }
}
