package lapidary;

import static org.junit.jupiter.api.Assertions.assertEquals;

import lapidary.device.Device;
import lapidary.tensor.Frame;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/** What tests on a device share: a frame each, and the pool that is afterwards as empty as before. */
public abstract class DeviceTest {
    protected final Device device;
    protected Frame frame;
    private long inUseBefore;

    protected DeviceTest(Device device) {
        this.device = device;
    }

    @BeforeEach
    final void openFrame() {
        inUseBefore = device.pool().inUse();
        frame = Frame.root(device, "test");
    }

    @AfterEach
    final void poolIsEmpty() {
        frame.close();
        assertEquals(inUseBefore, device.pool().inUse(), "bytes left in the pool");
    }
}
