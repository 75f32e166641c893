package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.function.ToIntFunction;
import lapidary.ffi.dnnl.Dnnl;
import lapidary.ffi.dnnl.dnnl_exec_arg_t;

/** One oneDNN matmul primitive with the memory objects that it runs on. */
final class DnnlMatmul {
    /** Stands for a number of rows that each call names itself: one primitive then serves every length. */
    static final long ANY_ROWS = Dnnl.DNNL_RUNTIME_DIM_VAL();

    /**
     * What a primitive is made for.
     *
     * @param m rows of c, or {@link #ANY_ROWS}, then with a not transposed
     * @param in dtype of a, b and bias
     * @param out dtype of c
     */
    record Spec(
            long m,
            long n,
            long k,
            boolean transposeA,
            boolean transposeB,
            DType in,
            DType out,
            boolean hasBias,
            float factor,
            boolean accumulate) {}

    private static final int MAX_DIMS = 12; // dnnl_dims_t

    private final Spec spec;
    private final MemorySegment engine;
    private final Handles lasting = new Handles(); // the primitive, and the memory objects
    private final MemorySegment primitive;
    private final long scratchBytes;
    private final MemorySegment a; // NULL where the rows differ from call to call, as c
    private final MemorySegment b;
    private final MemorySegment bias; // NULL where there is none
    private final MemorySegment c;
    private final MemorySegment scratch;

    /** What oneDNN has made, to be freed. */
    private static final class Handles implements AutoCloseable {
        private final List<Runnable> frees = new ArrayList<>();

        /** @param free gives the status of the call that frees it */
        MemorySegment add(MemorySegment handle, ToIntFunction<MemorySegment> free) {
            frees.add(() -> check("free", free.applyAsInt(handle)));
            return handle;
        }

        @Override
        public void close() {
            Closing closing = new Closing();
            frees.reversed().forEach(closing::then);
            frees.clear();
            closing.end();
        }
    }

    /**
     * @throws OutOfMemoryException where oneDNN finds no memory; nothing is left of what it had made by then
     * @throws DeviceException where oneDNN has no such product on this machine
     */
    DnnlMatmul(Spec spec, MemorySegment engine) {
        this.spec = spec;
        this.engine = engine;
        try (Arena arena = Arena.ofConfined();
                Handles passing = new Handles()) {
            MemorySegment descA = descA(arena, passing, spec.m());
            MemorySegment descB = matrix(arena, passing, spec.k(), spec.n(), spec.transposeB(), spec.in());
            MemorySegment descBias =
                    spec.hasBias() ? matrix(arena, passing, 1, spec.n(), false, spec.in()) : MemorySegment.NULL;
            MemorySegment descC = descC(arena, passing, spec.m());
            MemorySegment attributes = attributes(arena, passing);
            MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
            int status = Dnnl.dnnl_matmul_primitive_desc_create(out, engine, descA, descB, descBias, descC, attributes);
            check("no ", spec, status);
            MemorySegment description = passing.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_primitive_desc_destroy);
            check("create ", spec, Dnnl.dnnl_primitive_create(out, description));
            primitive = lasting.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_primitive_destroy);
            MemorySegment descScratch =
                    Dnnl.dnnl_primitive_desc_query_md(description, Dnnl.dnnl_query_scratchpad_md(), 0);
            scratchBytes = Dnnl.dnnl_memory_desc_get_size(descScratch);
            boolean fixed = spec.m() != ANY_ROWS;
            a = fixed ? memory(out, lasting, descA) : MemorySegment.NULL;
            b = memory(out, lasting, descB);
            bias = spec.hasBias() ? memory(out, lasting, descBias) : MemorySegment.NULL;
            c = fixed ? memory(out, lasting, descC) : MemorySegment.NULL;
            scratch = memory(out, lasting, descScratch);
        } catch (RuntimeException e) {
            try (lasting) {
                throw e;
            }
        }
    }

    /** Bytes that {@link #execute} needs beside its operands. */
    long scratchBytes() {
        return scratchBytes;
    }

    /**
     * Computes the product of dense matrices that are as long as the spec says.
     *
     * @param args room for five {@code dnnl_exec_arg_t}
     * @param rows rows of c; the spec's where it fixes them
     */
    void execute(
            MemorySegment stream,
            MemorySegment args,
            MemorySegment scratchMemory,
            long rows,
            MemorySegment cData,
            MemorySegment aData,
            MemorySegment bData,
            MemorySegment biasData) {
        if (spec.m() != ANY_ROWS) {
            run(stream, args, scratchMemory, c, a, cData, aData, bData, biasData);
            return;
        }
        try (Arena arena = Arena.ofConfined();
                Handles passing = new Handles()) {
            MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
            MemorySegment rowsA = memory(out, passing, descA(arena, passing, rows));
            MemorySegment rowsC = memory(out, passing, descC(arena, passing, rows));
            run(stream, args, scratchMemory, rowsC, rowsA, cData, aData, bData, biasData);
        }
    }

    private void run(
            MemorySegment stream,
            MemorySegment args,
            MemorySegment scratchMemory,
            MemorySegment memoryC,
            MemorySegment memoryA,
            MemorySegment cData,
            MemorySegment aData,
            MemorySegment bData,
            MemorySegment biasData) {
        int count = 0;
        count = argument(args, count, Dnnl.DNNL_ARG_SRC(), memoryA, aData);
        count = argument(args, count, Dnnl.DNNL_ARG_WEIGHTS(), b, bData);
        count = argument(args, count, Dnnl.DNNL_ARG_DST(), memoryC, cData);
        count = argument(args, count, Dnnl.DNNL_ARG_SCRATCHPAD(), scratch, scratchMemory);
        if (spec.hasBias()) {
            count = argument(args, count, Dnnl.DNNL_ARG_BIAS(), bias, biasData);
        }
        check("run ", spec, Dnnl.dnnl_primitive_execute(primitive, stream, count, args));
        check("run ", spec, Dnnl.dnnl_stream_wait(stream));
    }

    /** Frees the primitive and its memory objects. */
    void close() {
        lasting.close();
    }

    private static int argument(MemorySegment args, int index, int name, MemorySegment memory, MemorySegment data) {
        check("set an operand", Dnnl.dnnl_memory_set_data_handle(memory, data));
        MemorySegment argument = dnnl_exec_arg_t.asSlice(args, index);
        dnnl_exec_arg_t.arg(argument, name);
        dnnl_exec_arg_t.memory(argument, memory);
        return index + 1;
    }

    private MemorySegment descA(Arena arena, Handles handles, long rows) {
        return matrix(arena, handles, rows, spec.k(), spec.transposeA(), spec.in());
    }

    private MemorySegment descC(Arena arena, Handles handles, long rows) {
        return matrix(arena, handles, rows, spec.n(), false, spec.out());
    }

    /** A dense matrix of rows x cols; transposed: one that lies as cols x rows. */
    private static MemorySegment matrix(
            Arena arena, Handles handles, long rows, long cols, boolean transposed, DType dtype) {
        MemorySegment dims = arena.allocate(ValueLayout.JAVA_LONG, MAX_DIMS);
        dims.setAtIndex(ValueLayout.JAVA_LONG, 0, rows);
        dims.setAtIndex(ValueLayout.JAVA_LONG, 1, cols);
        MemorySegment strides = arena.allocate(ValueLayout.JAVA_LONG, MAX_DIMS);
        strides.setAtIndex(ValueLayout.JAVA_LONG, 0, transposed ? 1 : cols);
        strides.setAtIndex(ValueLayout.JAVA_LONG, 1, transposed ? rows : 1);
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        int type = dtype == DType.BF16 ? Dnnl.dnnl_bf16() : Dnnl.dnnl_f32();
        check("describe a matrix", Dnnl.dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides));
        return handles.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_memory_desc_destroy);
    }

    private MemorySegment memory(MemorySegment out, Handles handles, MemorySegment description) {
        check("create memory", Dnnl.dnnl_memory_create(out, description, engine, MemorySegment.NULL));
        return handles.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_memory_destroy);
    }

    private MemorySegment attributes(Arena arena, Handles handles) {
        MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
        check("create attributes", Dnnl.dnnl_primitive_attr_create(out));
        MemorySegment attributes = handles.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_primitive_attr_destroy);
        // One buffer of ours serves every primitive; oneDNN's own would be one per thread that outlives the device.
        check(
                "set attributes",
                Dnnl.dnnl_primitive_attr_set_scratchpad_mode(attributes, Dnnl.dnnl_scratchpad_mode_user()));
        // Whatever ONEDNN_DEFAULT_FPMATH_MODE says: F32 stays F32, and sums have one order.
        check("set attributes", Dnnl.dnnl_primitive_attr_set_fpmath_mode(attributes, Dnnl.dnnl_fpmath_mode_strict()));
        check("set attributes", Dnnl.dnnl_primitive_attr_set_deterministic(attributes, 1));
        check("create attributes", Dnnl.dnnl_post_ops_create(out));
        MemorySegment postOps = handles.add(out.get(ValueLayout.ADDRESS, 0), Dnnl::dnnl_post_ops_destroy);
        if (spec.factor() != 1) {
            int linear = Dnnl.dnnl_eltwise_linear();
            check("set attributes", Dnnl.dnnl_post_ops_append_eltwise(postOps, linear, spec.factor(), 0));
        }
        if (spec.accumulate()) {
            int type = spec.out() == DType.BF16 ? Dnnl.dnnl_bf16() : Dnnl.dnnl_f32();
            check("set attributes", Dnnl.dnnl_post_ops_append_sum(postOps, 1, 0, type));
        }
        check("set attributes", Dnnl.dnnl_primitive_attr_set_post_ops(attributes, postOps));
        return attributes;
    }

    /** As the other, for calls that would not build their message each time. */
    private static void check(String what, Spec spec, int status) {
        if (status != Dnnl.dnnl_success()) {
            check(what + spec, status);
        }
    }

    /**
     * @throws OutOfMemoryException where oneDNN finds no memory
     * @throws DeviceException where the status is another than success
     */
    static void check(String what, int status) {
        if (status == Dnnl.dnnl_success()) {
            return;
        }
        String failure = "[gemm] on cpu: oneDNN: " + what + ": ";
        if (status == Dnnl.dnnl_out_of_memory()) {
            throw new OutOfMemoryException(failure + "out of memory", 0, 0, null);
        }
        throw new DeviceException(failure
                + (status == Dnnl.dnnl_unimplemented() ? "not implemented on this processor" : "status " + status));
    }
}
