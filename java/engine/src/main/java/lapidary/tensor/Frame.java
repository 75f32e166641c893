package lapidary.tensor;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.Set;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.device.Gemm;
import lapidary.device.Kernels;
import lapidary.device.OutOfMemoryException;

/**
 * Owner of tensors' memory. Frames nest and close in reverse order; closing one returns what it owns to the device's
 * pool. {@link #escape} moves a tensor one frame up. One frame a training step, a checkpointed layer, a generated token;
 * weights and optimiser state live in the model frame, sealed after loading.
 */
public final class Frame implements AutoCloseable {
    private final Device device;
    private final Frame parent; // null for a root
    private final String name;
    private final boolean isLasting;
    // In the order they came, so that what the pool gives next is the same in every run.
    private final Set<Storage> owned = new LinkedHashSet<>();
    private int openChildren;
    private boolean sealed;
    private boolean closed;

    private Frame(Device device, Frame parent, String name, boolean isLasting) {
        this.device = device;
        this.parent = parent;
        this.name = name;
        this.isLasting = isLasting;
    }

    /** The outermost frame of a device's work, for what lasts: weights, optimiser state. */
    public static Frame root(Device device, String name) {
        return new Frame(device, null, name, true);
    }

    /** A frame inside this one, to be closed before this one. */
    public Frame child(String childName) {
        return child(childName, false);
    }

    /** As {@link #child}, for what stays longer than a step or a token: its tensors hold no more memory than they need. */
    public Frame lastingChild(String childName) {
        return child(childName, true);
    }

    private Frame child(String childName, boolean lasting) {
        requireNotClosed();
        openChildren++;
        return new Frame(device, this, childName, lasting);
    }

    public Device device() {
        return device;
    }

    public Kernels kernels() {
        return device.kernels();
    }

    public Gemm gemm() {
        return device.gemm();
    }

    /** Names from the root to this frame, e.g. {@code model/step 3/layer 7}. */
    public String path() {
        return parent == null ? name : parent.path() + "/" + name;
    }

    /** A tensor of unspecified content. */
    public Tensor empty(DType dtype, long... axes) {
        return empty(dtype, Shape.of(axes));
    }

    /** A tensor of unspecified content. */
    public Tensor empty(DType dtype, Shape shape) {
        return own(allocate(dtype, shape, false), dtype, shape, true);
    }

    /** Unspecified content, dtype and shape of x. */
    public Tensor emptyLike(Tensor x) {
        return empty(x.dtype(), x.shape());
    }

    /** A tensor of zeros; what is never written costs no memory where the system gives fresh pages. */
    public Tensor zeros(DType dtype, long... axes) {
        Shape shape = Shape.of(axes);
        return own(allocate(dtype, shape, true), dtype, shape, true);
    }

    /** A copy of host values as F32. */
    public Tensor of(float[] values, long... axes) {
        return upload(MemorySegment.ofArray(values), DType.F32, Shape.of(axes));
    }

    /** A copy of host values as I32. */
    public Tensor of(int[] values, long... axes) {
        return upload(MemorySegment.ofArray(values), DType.I32, Shape.of(axes));
    }

    /** A copy of host bytes. */
    public Tensor upload(MemorySegment host, DType dtype, Shape shape) {
        Tensor tensor = empty(dtype, shape);
        device.copyIn(tensor.segment(), host);
        return tensor;
    }

    /**
     * Host bytes as they lie, read-only, where the device reads the host's memory, else a copy. The caller keeps the host
     * memory alive for as long as this frame.
     */
    public Tensor borrow(MemorySegment host, DType dtype, Shape shape) {
        if (!device.borrows(host)) {
            return upload(host, dtype, shape);
        }
        if (host.byteSize() != shape.elements() * dtype.bytes()) {
            throw new IllegalArgumentException("[borrow] " + host.byteSize() + " bytes for " + dtype + " " + shape);
        }
        return own(host, dtype, shape, false);
    }

    /** Moves a tensor of this frame, with its views, to the frame around this one; any other tensor is left alone. */
    public Tensor escape(Tensor tensor) {
        if (parent == null) {
            throw new IllegalStateException("a root frame has nothing around it to escape to: " + name);
        }
        if (!tensor.isNone() && tensor.storage().owner() == this) {
            parent.adopt(tensor);
        }
        return tensor;
    }

    /** Takes over a tensor from the frame that owns it; for autograd, whose gradients outlive the frames they arise in. */
    public void adopt(Tensor tensor) {
        requireOpen();
        Storage storage = tensor.storage();
        storage.memory();
        storage.owner().owned.remove(storage);
        storage.moveTo(this);
        owned.add(storage);
    }

    /** Whether this frame owns the tensor's memory. */
    public boolean owns(Tensor tensor) {
        return !tensor.isNone() && tensor.storage().owner() == this;
    }

    /** Gives one tensor back before the frame closes. */
    public void release(Tensor tensor) {
        if (!owned.remove(tensor.storage())) {
            throw new IllegalArgumentException("[release] frame " + path() + " does not own " + tensor.describe());
        }
        giveBack(tensor.storage());
    }

    /** No tensors may be added from now on. */
    public void seal() {
        sealed = true;
    }

    /** @throws IllegalStateException where a frame inside this one is still open */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        if (openChildren > 0) {
            throw new IllegalStateException("frame " + path() + " closes before " + openChildren + " frames inside it");
        }
        closed = true;
        for (Storage storage : new ArrayList<>(owned)) {
            giveBack(storage);
        }
        owned.clear();
        if (parent != null) {
            parent.openChildren--;
        }
    }

    private MemorySegment allocate(DType dtype, Shape shape, boolean zeroed) {
        requireOpen();
        long bytes = Math.multiplyExact(shape.elements(), (long) dtype.bytes());
        try {
            if (zeroed) {
                return device.pool().allocateZeroed(bytes);
            }
            return isLasting ? device.pool().allocate(bytes) : device.pool().allocateForAWhile(bytes);
        } catch (OutOfMemoryException e) {
            throw new OutOfMemoryException(
                    e.getMessage() + ", for " + dtype + " " + shape + " in frame " + path(),
                    e.requested(),
                    e.inUse(),
                    e);
        }
    }

    private Tensor own(MemorySegment memory, DType dtype, Shape shape, boolean pooled) {
        requireOpen();
        Storage storage = new Storage(memory, pooled, this);
        owned.add(storage);
        return new Tensor(storage, dtype, shape, 0, true);
    }

    private void giveBack(Storage storage) {
        MemorySegment memory = storage.memory();
        storage.close(this);
        if (storage.isPooled()) {
            device.pool().release(memory);
        }
    }

    private void requireOpen() {
        requireNotClosed();
        if (sealed) {
            throw new IllegalStateException("frame " + path() + " is sealed");
        }
    }

    private void requireNotClosed() {
        if (closed) {
            throw new IllegalStateException("frame " + path() + " is closed");
        }
    }
}
