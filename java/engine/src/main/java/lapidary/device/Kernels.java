package lapidary.device;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.function.Function;
import java.util.function.IntSupplier;
import lapidary.ffi.kernels.KernelTable;
import lapidary.ffi.kernels.kt_table;

/**
 * The kernel table of one backend, one checked method per kernel. What each computes, with shapes, dtypes and aliasing,
 * is stated in {@code native/include/kernels.h}; here sizes are derived from the operands, and dtypes and lengths are
 * checked before anything native runs, as is that nothing is left out ({@code NULL}) that the kernel needs.
 *
 * <p>Caller mistakes are {@link IllegalArgumentException}; a kernel's own failure is a {@link DeviceException}, and an
 * {@link OutOfMemoryException} where the kernel needed memory of its own.
 */
public final class Kernels implements MemoryPool.Source, AutoCloseable {
    private final String device;
    private final MemorySegment kt;
    private final MemorySegment ctx;
    private MemoryPool pool = new MemoryPool(this);

    /**
     * @param table the backend's {@code kt_table}
     * @throws DeviceException where the library's table is of another version or lacks a kernel, by name
     */
    Kernels(String device, MemorySegment table) {
        this.device = device;
        if (kt_table.abi(table) != KernelTable.KT_ABI() || kt_table.bytes(table) != kt_table.sizeof()) {
            throw new DeviceException("the " + device + " library has kernel table " + kt_table.abi(table) + " of "
                    + kt_table.bytes(table) + " bytes, this build expects " + KernelTable.KT_ABI() + " of "
                    + kt_table.sizeof() + " bytes");
        }
        this.kt = table;
        requireAllMembers();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
            int status = kt_table.context_create.invoke(kt_table.context_create(kt), out, 0);
            if (status != KernelTable.KT_OK()) {
                throw new DeviceException("the " + device + " library could not create a context: status " + status);
            }
            this.ctx = out.get(ValueLayout.ADDRESS, 0);
        }
    }

    /** Where the operands' memory comes from, which makes room for what kernels need themselves. */
    void operandsAreOf(MemoryPool pool) {
        this.pool = pool;
    }

    /** Kernels of a CUDA library run on that stream from now on. */
    void useStream(CudaKernelLibrary library, MemorySegment stream) {
        check("use_stream", library.useStream(ctx, stream));
    }

    /**
     * Throws what kernels of a CUDA library that are done have found wrong with their operands.
     *
     * @throws IllegalArgumentException where an index was outside
     */
    void checkFinished(CudaKernelLibrary library) {
        check("finished kernels", library.check(ctx));
    }

    /** What the backend chose for this machine. */
    public String describe() {
        return text(kt_table.describe.invoke(kt_table.describe(kt), ctx));
    }

    @Override
    public void close() {
        check("context_destroy", kt_table.context_destroy.invoke(kt_table.context_destroy(kt), ctx));
    }

    // ---- memory --------------------------------------------------------------------------------------------------

    @Override
    public MemorySegment allocate(long bytes) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
            check("memory_allocate", kt_table.memory_allocate.invoke(kt_table.memory_allocate(kt), ctx, out, bytes));
            return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes);
        }
    }

    @Override
    public void free(MemorySegment memory) {
        check("memory_free", kt_table.memory_free.invoke(kt_table.memory_free(kt), ctx, memory, memory.byteSize()));
    }

    @Override
    public boolean isFreshZero() {
        return true;
    }

    @Override
    public void clear(MemorySegment memory) {
        check("memory_zero", kt_table.memory_zero.invoke(kt_table.memory_zero(kt), ctx, memory, memory.byteSize()));
    }

    /** Writes zeros. */
    public void zero(Operand x) {
        present("memory_zero", x);
        check(
                "memory_zero",
                kt_table.memory_zero.invoke(
                        kt_table.memory_zero(kt),
                        ctx,
                        x.segment(),
                        x.elements() * x.dtype().bytes()));
    }

    // ---- elementwise ---------------------------------------------------------------------------------------------

    /** y = x * factor, converted to y's dtype. */
    public void convert(Operand y, Operand x, float factor) {
        sameLength("convert", y, x);
        check(
                "convert",
                kt_table.convert.invoke(
                        kt_table.convert(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        x.elements(),
                        factor,
                        y.dtype().code(),
                        x.dtype().code()));
    }

    /** y = a + b. */
    public void add(Operand y, Operand a, Operand b) {
        same("add", y, a, b);
        check(
                "add",
                kt_table.add.invoke(
                        kt_table.add(kt),
                        ctx,
                        y.segment(),
                        a.segment(),
                        b.segment(),
                        y.elements(),
                        y.dtype().code()));
    }

    /** y += x, rounded to y's dtype. */
    public void accumulate(Operand y, Operand x) {
        sameLength("accumulate", y, x);
        check(
                "accumulate",
                kt_table.accumulate.invoke(
                        kt_table.accumulate(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        y.elements(),
                        y.dtype().code(),
                        x.dtype().code()));
    }

    /** Inverted dropout with a mask that (seed, stream) determines: its own backward. */
    public void dropout(Operand y, Operand x, float p, long seed, long stream) {
        same("dropout", y, x);
        check(
                "dropout",
                kt_table.dropout.invoke(
                        kt_table.dropout(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        y.elements(),
                        p,
                        seed,
                        stream,
                        y.dtype().code()));
    }

    /** y = gelu(x), tanh form. */
    public void geluForward(Operand y, Operand x) {
        same("gelu_forward", y, x);
        check(
                "gelu_forward",
                kt_table.gelu_forward.invoke(
                        kt_table.gelu_forward(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        y.elements(),
                        y.dtype().code()));
    }

    /** dx of {@link #geluForward}. */
    public void geluBackward(Operand dx, Operand dy, Operand x) {
        same("gelu_backward", dx, dy, x);
        check(
                "gelu_backward",
                kt_table.gelu_backward.invoke(
                        kt_table.gelu_backward(kt),
                        ctx,
                        dx.segment(),
                        dy.segment(),
                        x.segment(),
                        dx.elements(),
                        dx.dtype().code()));
    }

    /** y = gelu(gate) * up. */
    public void gegluForward(Operand y, Operand gate, Operand up) {
        same("geglu_forward", y, gate, up);
        check(
                "geglu_forward",
                kt_table.geglu_forward.invoke(
                        kt_table.geglu_forward(kt),
                        ctx,
                        y.segment(),
                        gate.segment(),
                        up.segment(),
                        y.elements(),
                        y.dtype().code()));
    }

    /** dgate and dup of {@link #gegluForward}. */
    public void gegluBackward(Operand dgate, Operand dup, Operand dy, Operand gate, Operand up) {
        same("geglu_backward", dgate, dup, dy, gate, up);
        check(
                "geglu_backward",
                kt_table.geglu_backward.invoke(
                        kt_table.geglu_backward(kt),
                        ctx,
                        dgate.segment(),
                        dup.segment(),
                        dy.segment(),
                        gate.segment(),
                        up.segment(),
                        dy.elements(),
                        dy.dtype().code()));
    }

    // ---- norms ---------------------------------------------------------------------------------------------------

    /** y = x rstd (1 + w) over the last axis, rstd F32 [rows]; either may be left out. */
    public void rmsNormForward(Operand y, Operand rstd, Operand x, Operand w, float eps) {
        sameOrNone("rms_norm_forward y", y, x);
        vector("rms_norm_forward weight", w, x.dtype(), x.last());
        optional("rms_norm_forward rstd", rstd, DType.F32, x.rows());
        check(
                "rms_norm_forward",
                kt_table.rms_norm_forward.invoke(
                        kt_table.rms_norm_forward(kt),
                        ctx,
                        y.segment(),
                        rstd.segment(),
                        x.segment(),
                        w.segment(),
                        x.rows(),
                        x.last(),
                        eps,
                        x.dtype().code()));
    }

    /** y = residual + what {@link #rmsNormForward} makes of x; rstd may be left out. */
    public void rmsNormAddForward(Operand y, Operand rstd, Operand x, Operand w, Operand residual, float eps) {
        same("rms_norm_add_forward", y, x, residual);
        vector("rms_norm_add_forward weight", w, x.dtype(), x.last());
        optional("rms_norm_add_forward rstd", rstd, DType.F32, x.rows());
        check(
                "rms_norm_add_forward",
                kt_table.rms_norm_add_forward.invoke(
                        kt_table.rms_norm_add_forward(kt),
                        ctx,
                        y.segment(),
                        rstd.segment(),
                        x.segment(),
                        w.segment(),
                        residual.segment(),
                        x.rows(),
                        x.last(),
                        eps,
                        x.dtype().code()));
    }

    /**
     * dx and dw (F32) of {@link #rmsNormForward}; either may be left out.
     *
     * @param accumulate whether dx is added to what it holds
     */
    public void rmsNormBackward(
            Operand dx, Operand dw, Operand dy, Operand x, Operand w, Operand rstd, boolean accumulate) {
        same("rms_norm_backward", dy, x);
        sameOrNone("rms_norm_backward dx", dx, x);
        optional("rms_norm_backward dw", dw, DType.F32, x.last());
        vector("rms_norm_backward weight", w, x.dtype(), x.last());
        vector("rms_norm_backward rstd", rstd, DType.F32, x.rows());
        checkWithRoom(
                "rms_norm_backward",
                () -> kt_table.rms_norm_backward.invoke(
                        kt_table.rms_norm_backward(kt),
                        ctx,
                        dx.segment(),
                        dw.segment(),
                        dy.segment(),
                        x.segment(),
                        w.segment(),
                        rstd.segment(),
                        x.rows(),
                        x.last(),
                        accumulate ? 1 : 0,
                        x.dtype().code()));
    }

    /** y = (x - mean) rstd w + b over the last axis; mean and rstd F32 [rows]. */
    public void layerNormForward(Operand y, Operand mean, Operand rstd, Operand x, Operand w, Operand b, float eps) {
        same("layer_norm_forward", y, x);
        vector("layer_norm_forward weight", w, x.dtype(), x.last());
        vector("layer_norm_forward bias", b, x.dtype(), x.last());
        vector("layer_norm_forward mean", mean, DType.F32, x.rows());
        vector("layer_norm_forward rstd", rstd, DType.F32, x.rows());
        check(
                "layer_norm_forward",
                kt_table.layer_norm_forward.invoke(
                        kt_table.layer_norm_forward(kt),
                        ctx,
                        y.segment(),
                        mean.segment(),
                        rstd.segment(),
                        x.segment(),
                        w.segment(),
                        b.segment(),
                        x.rows(),
                        x.last(),
                        eps,
                        x.dtype().code()));
    }

    /** dx, dw and db (F32) of {@link #layerNormForward}; any may be left out. */
    public void layerNormBackward(
            Operand dx, Operand dw, Operand db, Operand dy, Operand x, Operand w, Operand mean, Operand rstd) {
        same("layer_norm_backward", dy, x);
        sameOrNone("layer_norm_backward dx", dx, x);
        optional("layer_norm_backward dw", dw, DType.F32, x.last());
        optional("layer_norm_backward db", db, DType.F32, x.last());
        vector("layer_norm_backward weight", w, x.dtype(), x.last());
        vector("layer_norm_backward mean", mean, DType.F32, x.rows());
        vector("layer_norm_backward rstd", rstd, DType.F32, x.rows());
        checkWithRoom(
                "layer_norm_backward",
                () -> kt_table.layer_norm_backward.invoke(
                        kt_table.layer_norm_backward(kt),
                        ctx,
                        dx.segment(),
                        dw.segment(),
                        db.segment(),
                        dy.segment(),
                        x.segment(),
                        w.segment(),
                        mean.segment(),
                        rstd.segment(),
                        x.rows(),
                        x.last(),
                        x.dtype().code()));
    }

    // ---- rows ----------------------------------------------------------------------------------------------------

    /** y[t] = table[ids[t]] * scale. */
    public void embeddingForward(Operand y, Operand table, Operand ids, float scale) {
        sameType("embedding_forward", y, table);
        vector("embedding_forward ids", ids, DType.I32, y.rows());
        lastAxis("embedding_forward", y, table);
        check(
                "embedding_forward",
                kt_table.embedding_forward.invoke(
                        kt_table.embedding_forward(kt),
                        ctx,
                        y.segment(),
                        table.segment(),
                        ids.segment(),
                        y.rows(),
                        table.rows(),
                        table.last(),
                        scale,
                        y.dtype().code()));
    }

    /** drows[slot[t]] += dy[t] * scale; drows F32, slot I32 [tokens], negative slots are skipped. */
    public void embeddingBackward(Operand drows, Operand dy, Operand slot, float scale) {
        type("embedding_backward drows", drows, DType.F32);
        vector("embedding_backward slot", slot, DType.I32, dy.rows());
        lastAxis("embedding_backward", drows, dy);
        check(
                "embedding_backward",
                kt_table.embedding_backward.invoke(
                        kt_table.embedding_backward(kt),
                        ctx,
                        drows.segment(),
                        dy.segment(),
                        slot.segment(),
                        dy.rows(),
                        drows.rows(),
                        dy.last(),
                        scale,
                        dy.dtype().code()));
    }

    /** y[i] = x[index[i]]. */
    public void gatherRows(Operand y, Operand x, Operand index) {
        sameType("gather_rows", y, x);
        vector("gather_rows index", index, DType.I32, y.rows());
        lastAxis("gather_rows", y, x);
        check(
                "gather_rows",
                kt_table.gather_rows.invoke(
                        kt_table.gather_rows(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        index.segment(),
                        y.rows(),
                        x.rows(),
                        x.last(),
                        y.dtype().code()));
    }

    /** y[index[i]] = x[i]; zeros where x is left out; the other rows of y stay. */
    public void scatterRows(Operand y, Operand x, Operand index) {
        type("scatter_rows index", index, DType.I32);
        scatterOperands(y, x, index);
        check(
                "scatter_rows",
                kt_table.scatter_rows.invoke(
                        kt_table.scatter_rows(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        index.segment(),
                        index.elements(),
                        y.rows(),
                        y.last(),
                        y.dtype().code()));
    }

    /** y[r] = x[r] + table[r mod table rows]. */
    public void addRows(Operand y, Operand x, Operand table) {
        same("add_rows", y, x);
        sameType("add_rows", y, table);
        lastAxis("add_rows", y, table);
        check(
                "add_rows",
                kt_table.add_rows.invoke(
                        kt_table.add_rows(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        table.segment(),
                        y.rows(),
                        table.rows(),
                        y.last(),
                        y.dtype().code()));
    }

    /** dtable[t] = sum of dy[r] over r mod table rows == t; F32. */
    public void sumRows(Operand dtable, Operand dy) {
        type("sum_rows dtable", dtable, DType.F32);
        lastAxis("sum_rows", dtable, dy);
        checkWithRoom(
                "sum_rows",
                () -> kt_table.sum_rows.invoke(
                        kt_table.sum_rows(kt),
                        ctx,
                        dtable.segment(),
                        dy.segment(),
                        dy.rows(),
                        dtable.rows(),
                        dy.last(),
                        dy.dtype().code()));
    }

    // ---- attention -----------------------------------------------------------------------------------------------

    /**
     * RMS norm of every head of x [tokens, heads * headDim], then the rotation of its halves by cos and sin F32 [positions,
     * headDim / 2], rows pos I32 [tokens]; rstd F32 [tokens * heads] may be left out.
     */
    public void rmsNormRopeForward(
            Operand y, Operand rstd, Operand x, Operand w, Operand cos, Operand sin, Operand pos, float eps) {
        same("rms_norm_rope_forward", y, x);
        long heads = normalisedHeads("rms_norm_rope_forward", x, w, cos, sin, pos);
        optional("rms_norm_rope_forward rstd", rstd, DType.F32, pos.elements() * heads);
        check(
                "rms_norm_rope_forward",
                kt_table.rms_norm_rope_forward.invoke(
                        kt_table.rms_norm_rope_forward(kt),
                        ctx,
                        y.segment(),
                        rstd.segment(),
                        x.segment(),
                        w.segment(),
                        cos.segment(),
                        sin.segment(),
                        pos.segment(),
                        pos.elements(),
                        heads,
                        w.elements(),
                        cos.rows(),
                        eps,
                        x.dtype().code()));
    }

    /** dx and dw (F32) of {@link #rmsNormRopeForward}; either may be left out. */
    public void rmsNormRopeBackward(
            Operand dx,
            Operand dw,
            Operand dy,
            Operand x,
            Operand w,
            Operand cos,
            Operand sin,
            Operand pos,
            Operand rstd) {
        same("rms_norm_rope_backward", dy, x);
        sameOrNone("rms_norm_rope_backward dx", dx, x);
        long heads = normalisedHeads("rms_norm_rope_backward", x, w, cos, sin, pos);
        optional("rms_norm_rope_backward dw", dw, DType.F32, w.elements());
        vector("rms_norm_rope_backward rstd", rstd, DType.F32, pos.elements() * heads);
        checkWithRoom(
                "rms_norm_rope_backward",
                () -> kt_table.rms_norm_rope_backward.invoke(
                        kt_table.rms_norm_rope_backward(kt),
                        ctx,
                        dx.segment(),
                        dw.segment(),
                        dy.segment(),
                        x.segment(),
                        w.segment(),
                        cos.segment(),
                        sin.segment(),
                        pos.segment(),
                        rstd.segment(),
                        pos.elements(),
                        heads,
                        w.elements(),
                        cos.rows(),
                        x.dtype().code()));
    }

    /**
     * Attention over a packed batch; lse F32 [tokens, heads] may be left out, spans I32 [tokens] may be left out.
     *
     * @param starts I32 [rows + 1]
     */
    public void attentionForward(
            Operand y,
            Operand lse,
            Operand q,
            Operand k,
            Operand v,
            Operand starts,
            Operand spans,
            AttentionShape shape) {
        same("attention_forward", y, q);
        attention("attention_forward", q, k, v, lse, starts, spans, shape);
        checkWithRoom(
                "attention_forward",
                () -> kt_table.attention_forward.invoke(
                        kt_table.attention_forward(kt),
                        ctx,
                        y.segment(),
                        lse.segment(),
                        q.segment(),
                        k.segment(),
                        v.segment(),
                        starts.segment(),
                        spans.segment(),
                        tokens(q, shape),
                        starts.elements() - 1,
                        shape.heads(),
                        shape.kvHeads(),
                        shape.headDim(),
                        shape.scale(),
                        shape.causal() ? 1 : 0,
                        shape.window(),
                        q.dtype().code()));
    }

    /** dq, dk and dv of {@link #attentionForward}, from its output y and its lse. */
    public void attentionBackward(
            Operand dq,
            Operand dk,
            Operand dv,
            Operand dy,
            Operand q,
            Operand k,
            Operand v,
            Operand y,
            Operand lse,
            Operand starts,
            Operand spans,
            AttentionShape shape) {
        same("attention_backward", dq, q, dy, y);
        same("attention_backward", dk, k, dv, v);
        present("attention_backward lse", lse);
        attention("attention_backward", q, k, v, lse, starts, spans, shape);
        checkWithRoom(
                "attention_backward",
                () -> kt_table.attention_backward.invoke(
                        kt_table.attention_backward(kt),
                        ctx,
                        dq.segment(),
                        dk.segment(),
                        dv.segment(),
                        dy.segment(),
                        q.segment(),
                        k.segment(),
                        v.segment(),
                        y.segment(),
                        lse.segment(),
                        starts.segment(),
                        spans.segment(),
                        tokens(q, shape),
                        starts.elements() - 1,
                        shape.heads(),
                        shape.kvHeads(),
                        shape.headDim(),
                        shape.scale(),
                        shape.causal() ? 1 : 0,
                        shape.window(),
                        q.dtype().code()));
    }

    /**
     * Causal attention of the last tokens of one row over all its tokens: q and y [qTokens, heads * headDim], k and v [tokens,
     * kvHeads * headDim], spans I32 [tokens] or left out.
     */
    public void attentionExtend(Operand y, Operand q, Operand k, Operand v, Operand spans, AttentionShape shape) {
        same("attention_extend", y, q);
        same("attention_extend", k, v);
        sameType("attention_extend", q, k);
        lastAxis("attention_extend q", q, (long) shape.heads() * shape.headDim());
        lastAxis("attention_extend k", k, (long) shape.kvHeads() * shape.headDim());
        optional("attention_extend spans", spans, DType.I32, k.rows());
        checkWithRoom(
                "attention_extend",
                () -> kt_table.attention_extend.invoke(
                        kt_table.attention_extend(kt),
                        ctx,
                        y.segment(),
                        q.segment(),
                        k.segment(),
                        v.segment(),
                        spans.segment(),
                        q.rows(),
                        k.rows(),
                        shape.heads(),
                        shape.kvHeads(),
                        shape.headDim(),
                        shape.scale(),
                        shape.window(),
                        q.dtype().code()));
    }

    /**
     * Attention of one new token of each of several sequences, row r of q and y [rows, heads * headDim] and of k and v [rows,
     * kvHeads * headDim], over what each has cached; k and v are stored there first.
     *
     * @param kCaches per row, [capacity, kvHeads * headDim]: position p lies at p % capacity; vCaches the same
     * @param positions per row, that of the new token
     */
    public void attentionDecode(
            Operand y,
            List<? extends Operand> kCaches,
            List<? extends Operand> vCaches,
            long[] positions,
            Operand q,
            Operand k,
            Operand v,
            AttentionShape shape) {
        same("attention_decode", y, q);
        same("attention_decode", k, v);
        sameType("attention_decode", q, k);
        long width = (long) shape.kvHeads() * shape.headDim();
        lastAxis("attention_decode q", q, (long) shape.heads() * shape.headDim());
        lastAxis("attention_decode k", k, width);
        int rows = positions.length;
        if (q.rows() != rows || k.rows() != rows || kCaches.size() != rows || vCaches.size() != rows) {
            throw new IllegalArgumentException("[attention_decode] q is " + q.describe() + ", k is " + k.describe()
                    + ", " + kCaches.size() + " and " + vCaches.size() + " caches, expected " + rows + " rows of each");
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment capacities = arena.allocate(ValueLayout.JAVA_LONG, rows);
            for (int r = 0; r < rows; r++) {
                Operand kCache = kCaches.get(r);
                same("attention_decode cache", kCache, vCaches.get(r));
                sameType("attention_decode cache", kCache, k);
                lastAxis("attention_decode cache", kCache, width);
                capacities.setAtIndex(ValueLayout.JAVA_LONG, r, kCache.rows());
            }
            checkWithRoom(
                    "attention_decode",
                    () -> kt_table.attention_decode.invoke(
                            kt_table.attention_decode(kt),
                            ctx,
                            y.segment(),
                            addresses(arena, kCaches, cache -> cache),
                            addresses(arena, vCaches, cache -> cache),
                            capacities,
                            arena.allocateFrom(ValueLayout.JAVA_LONG, positions),
                            q.segment(),
                            k.segment(),
                            v.segment(),
                            rows,
                            shape.heads(),
                            shape.kvHeads(),
                            shape.headDim(),
                            shape.scale(),
                            shape.window(),
                            q.dtype().code()));
        }
    }

    // ---- products of few rows ------------------------------------------------------------------------------------

    /**
     * {@code y = x wᵀ + bias}, or added to what y holds: for few rows, whose results do not depend on each other.
     *
     * @param y [rows, out], dtype of x or F32
     * @param x [rows, in] BF16 or F32
     * @param w [out, in], dtype of x
     * @param bias [out], dtype of x, or left out
     */
    public void linearFew(Operand y, Operand x, Operand w, Operand bias, boolean accumulate) {
        sameType("linear_few", x, w);
        present("linear_few y", y);
        lastAxis("linear_few x", x, w.last());
        lastAxis("linear_few y", y, w.rows());
        optional("linear_few bias", bias, x.dtype(), w.rows());
        if (y.rows() != x.rows()) {
            throw new IllegalArgumentException(
                    "[linear_few] y is " + y.describe() + " for x " + x.describe() + ": the rows differ");
        }
        checkWithRoom(
                "linear_few",
                () -> kt_table.linear_few.invoke(
                        kt_table.linear_few(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        w.segment(),
                        bias.segment(),
                        x.rows(),
                        w.rows(),
                        w.last(),
                        accumulate ? 1 : 0,
                        y.dtype().code(),
                        x.dtype().code()));
    }

    // ---- LoRA ----------------------------------------------------------------------------------------------------

    /**
     * {@code down = dropout(x) aᵀ}, the dropped x never written out; the mask is that of {@link #dropout}.
     *
     * @param down [rows, rank], dtype of x
     * @param x [rows, in] BF16 or F32
     * @param a [rank, in], dtype of x
     */
    public void loraDownForward(Operand down, Operand x, Operand a, float p, long seed, long stream) {
        sameType("lora_down_forward", x, a);
        loraDown("lora_down_forward", down, x, a);
        check(
                "lora_down_forward",
                kt_table.lora_down_forward.invoke(
                        kt_table.lora_down_forward(kt),
                        ctx,
                        down.segment(),
                        x.segment(),
                        a.segment(),
                        x.rows(),
                        x.last(),
                        a.rows(),
                        p,
                        seed,
                        stream,
                        x.dtype().code()));
    }

    /**
     * {@code da = ddownᵀ dropout(x)}.
     *
     * @param da [rank, in] F32
     * @param ddown [rows, rank], dtype of x
     * @param x [rows, in] BF16 or F32
     * @param accumulate whether that is added to what da holds
     */
    public void loraDownBackwardWeight(
            Operand da, Operand ddown, Operand x, float p, long seed, long stream, boolean accumulate) {
        type("lora_down_backward_weight da", da, DType.F32);
        loraDown("lora_down_backward_weight", ddown, x, da);
        checkWithRoom(
                "lora_down_backward_weight",
                () -> kt_table.lora_down_backward_weight.invoke(
                        kt_table.lora_down_backward_weight(kt),
                        ctx,
                        da.segment(),
                        ddown.segment(),
                        x.segment(),
                        x.rows(),
                        x.last(),
                        da.rows(),
                        p,
                        seed,
                        stream,
                        accumulate ? 1 : 0,
                        x.dtype().code()));
    }

    /**
     * {@code dx = dropout(ddown a)}.
     *
     * @param dx [rows, in], dtype of ddown
     * @param ddown [rows, rank] BF16 or F32
     * @param a [rank, in], dtype of ddown
     */
    public void loraDownBackwardInput(Operand dx, Operand ddown, Operand a, float p, long seed, long stream) {
        sameType("lora_down_backward_input", dx, a);
        loraDown("lora_down_backward_input", ddown, dx, a);
        check(
                "lora_down_backward_input",
                kt_table.lora_down_backward_input.invoke(
                        kt_table.lora_down_backward_input(kt),
                        ctx,
                        dx.segment(),
                        ddown.segment(),
                        a.segment(),
                        dx.rows(),
                        dx.last(),
                        a.rows(),
                        p,
                        seed,
                        stream,
                        dx.dtype().code()));
    }

    // ---- vision --------------------------------------------------------------------------------------------------

    /** Rows of patches of pixels F32 [images, channels, size, size]. */
    public void patchUnfold(Operand y, Operand pixels, long images, long channels, long size, long patch) {
        positive("patch_unfold patch", patch);
        type("patch_unfold pixels", pixels, DType.F32);
        length("patch_unfold pixels", pixels, images * channels * size * size);
        length("patch_unfold y", y, images * channels * (size / patch) * (size / patch) * patch * patch);
        check(
                "patch_unfold",
                kt_table.patch_unfold.invoke(
                        kt_table.patch_unfold(kt),
                        ctx,
                        y.segment(),
                        pixels.segment(),
                        images,
                        channels,
                        size,
                        patch,
                        y.dtype().code()));
    }

    /** Means of kernel x kernel cells of x [images * side * side, cols]. */
    public void averagePoolForward(Operand y, Operand x, long images, long side, long kernel) {
        positive("average_pool_forward kernel", kernel);
        sameType("average_pool_forward", y, x);
        length("average_pool_forward x", x, images * side * side * x.last());
        length("average_pool_forward y", y, images * (side / kernel) * (side / kernel) * x.last());
        check(
                "average_pool_forward",
                kt_table.average_pool_forward.invoke(
                        kt_table.average_pool_forward(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        images,
                        side,
                        kernel,
                        x.last(),
                        x.dtype().code()));
    }

    /** dx of {@link #averagePoolForward}. */
    public void averagePoolBackward(Operand dx, Operand dy, long images, long side, long kernel) {
        positive("average_pool_backward kernel", kernel);
        sameType("average_pool_backward", dx, dy);
        length("average_pool_backward dx", dx, images * side * side * dx.last());
        length("average_pool_backward dy", dy, images * (side / kernel) * (side / kernel) * dx.last());
        check(
                "average_pool_backward",
                kt_table.average_pool_backward.invoke(
                        kt_table.average_pool_backward(kt),
                        ctx,
                        dx.segment(),
                        dy.segment(),
                        images,
                        side,
                        kernel,
                        dx.last(),
                        dx.dtype().code()));
    }

    // ---- loss ----------------------------------------------------------------------------------------------------

    /** Loss, entropy (F32 [rows]) and correct (I32 [rows]) of logits [rows, vocab]; logits become their gradient on request. */
    public void crossEntropy(
            Operand loss,
            Operand entropy,
            Operand correct,
            Operand logits,
            Operand targets,
            float gradScale,
            float softcap,
            boolean writeGradient) {
        vector("cross_entropy loss", loss, DType.F32, logits.rows());
        vector("cross_entropy entropy", entropy, DType.F32, logits.rows());
        vector("cross_entropy correct", correct, DType.I32, logits.rows());
        vector("cross_entropy targets", targets, DType.I32, logits.rows());
        check(
                "cross_entropy",
                kt_table.cross_entropy.invoke(
                        kt_table.cross_entropy(kt),
                        ctx,
                        loss.segment(),
                        entropy.segment(),
                        correct.segment(),
                        logits.segment(),
                        targets.segment(),
                        logits.rows(),
                        logits.last(),
                        gradScale,
                        softcap,
                        writeGradient ? 1 : 0,
                        logits.dtype().code()));
    }

    /** Whether {@link #linearCrossEntropy} computes with these operands on this machine. */
    public boolean hasLinearCrossEntropy(Operand hidden) {
        present("linear_cross_entropy_supported hidden", hidden);
        return hasLinearCrossEntropy(hidden.last(), hidden.dtype());
    }

    boolean hasLinearCrossEntropy(long cols, DType dtype) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment supported = arena.allocate(ValueLayout.JAVA_INT);
            check(
                    "linear_cross_entropy_supported",
                    kt_table.linear_cross_entropy_supported.invoke(
                            kt_table.linear_cross_entropy_supported(kt), ctx, supported, cols, dtype.code()));
            return supported.get(ValueLayout.JAVA_INT, 0) != 0;
        }
    }

    /**
     * Loss, entropy (F32 [rows]) and correct (I32 [rows]) of hidden [rows, cols] under head [vocab, cols], without their
     * logits; dHidden and what dHead (F32) grows by on request.
     */
    public void linearCrossEntropy(
            Operand loss,
            Operand entropy,
            Operand correct,
            Operand dHidden,
            Operand dHead,
            Operand hidden,
            Operand head,
            Operand targets,
            float gradScale) {
        sameType("linear_cross_entropy", hidden, head);
        lastAxis("linear_cross_entropy", hidden, head);
        sameOrNone("linear_cross_entropy dHidden", dHidden, hidden);
        optional("linear_cross_entropy dHead", dHead, DType.F32, head.elements());
        vector("linear_cross_entropy loss", loss, DType.F32, hidden.rows());
        vector("linear_cross_entropy entropy", entropy, DType.F32, hidden.rows());
        vector("linear_cross_entropy correct", correct, DType.I32, hidden.rows());
        vector("linear_cross_entropy targets", targets, DType.I32, hidden.rows());
        checkWithRoom(
                "linear_cross_entropy",
                () -> kt_table.linear_cross_entropy.invoke(
                        kt_table.linear_cross_entropy(kt),
                        ctx,
                        loss.segment(),
                        entropy.segment(),
                        correct.segment(),
                        dHidden.segment(),
                        dHead.segment(),
                        hidden.segment(),
                        head.segment(),
                        targets.segment(),
                        hidden.rows(),
                        head.rows(),
                        hidden.last(),
                        gradScale,
                        hidden.dtype().code()));
    }

    // ---- NF4 -----------------------------------------------------------------------------------------------------

    /**
     * Packed codes and block maxima of x (F32, BF16 or F16), rounded to the weight's dtype first: a whole matrix, or a piece
     * of one that starts at a whole block.
     *
     * @throws IllegalArgumentException where a value is not finite
     */
    public void nf4Quantize(Operand packed, Operand absmax, Operand x, DType weightDtype) {
        present("nf4_quantize x", x);
        vector("nf4_quantize packed", packed, DType.U8, Nf4Operand.packedBytes(x.elements()));
        vector("nf4_quantize absmax", absmax, DType.F32, Nf4Operand.blocks(x.elements()));
        check(
                "nf4_quantize",
                kt_table.nf4_quantize.invoke(
                        kt_table.nf4_quantize(kt),
                        ctx,
                        packed.segment(),
                        absmax.segment(),
                        x.segment(),
                        x.elements(),
                        weightDtype.code(),
                        x.dtype().code()));
    }

    /** Codes (U8), second-level scales (F32) and offset (F32 [1]) of block maxima. */
    public void nf4QuantizeAbsmax(
            Operand absmaxCodes, Operand nestedAbsmax, Operand nestedOffset, Operand absmax, Operand nestedMap) {
        type("nf4_quantize_absmax absmax", absmax, DType.F32);
        vector("nf4_quantize_absmax codes", absmaxCodes, DType.U8, absmax.elements());
        vector(
                "nf4_quantize_absmax nested absmax",
                nestedAbsmax,
                DType.F32,
                Math.ceilDiv(absmax.elements(), Nf4Operand.NESTED_BLOCK));
        vector("nf4_quantize_absmax offset", nestedOffset, DType.F32, 1);
        vector("nf4_quantize_absmax map", nestedMap, DType.F32, Nf4Operand.NESTED_BLOCK);
        check(
                "nf4_quantize_absmax",
                kt_table.nf4_quantize_absmax.invoke(
                        kt_table.nf4_quantize_absmax(kt),
                        ctx,
                        absmaxCodes.segment(),
                        nestedAbsmax.segment(),
                        nestedOffset.segment(),
                        absmax.segment(),
                        nestedMap.segment(),
                        absmax.elements()));
    }

    /** Values of w from {@code first} on, counted row by row, as many as y holds, in y's dtype. */
    public void nf4Dequantize(Operand y, Nf4Operand w, long first) {
        present("nf4_dequantize y", y);
        within("nf4_dequantize", first, y.elements(), w.out() * w.in());
        check(
                "nf4_dequantize",
                kt_table.nf4_dequantize.invoke(
                        kt_table.nf4_dequantize(kt),
                        ctx,
                        y.segment(),
                        w.packed().segment(),
                        w.absmax().segment(),
                        w.absmaxCodes().segment(),
                        w.nestedAbsmax().segment(),
                        w.nestedMap().segment(),
                        w.nestedOffset(),
                        first,
                        y.elements(),
                        y.dtype().code()));
    }

    /** Scales (F32) of w's blocks from {@code first} on, as many as the operand holds. */
    public void nf4Scales(Operand scales, Nf4Operand w, long first) {
        type("nf4_scales", scales, DType.F32);
        within("nf4_scales", first, scales.elements(), Nf4Operand.blocks(w.out() * w.in()));
        check(
                "nf4_scales",
                kt_table.nf4_scales.invoke(
                        kt_table.nf4_scales(kt),
                        ctx,
                        scales.segment(),
                        w.absmax().segment(),
                        w.absmaxCodes().segment(),
                        w.nestedAbsmax().segment(),
                        w.nestedMap().segment(),
                        w.nestedOffset(),
                        first,
                        scales.elements()));
    }

    /**
     * y = x Wᵀ + bias; y [rows, out], x [rows, in], bias [out] or left out, all of one dtype.
     *
     * @throws IllegalArgumentException where a shape or dtype does not fit
     */
    public void nf4LinearForward(Operand y, Operand x, Nf4Operand w, Operand bias) {
        long rows = rowsOf("nf4_linear_forward x", x, w.in());
        sameType("nf4_linear_forward", y, x);
        length("nf4_linear_forward y", y, rows * w.out());
        if (!bias.isNone()) {
            sameType("nf4_linear_forward", bias, x);
            length("nf4_linear_forward bias", bias, w.out());
        }
        checkWithRoom(
                "nf4_linear_forward",
                () -> kt_table.nf4_linear_forward.invoke(
                        kt_table.nf4_linear_forward(kt),
                        ctx,
                        y.segment(),
                        x.segment(),
                        w.packed().segment(),
                        w.absmax().segment(),
                        w.absmaxCodes().segment(),
                        w.nestedAbsmax().segment(),
                        w.nestedMap().segment(),
                        w.nestedOffset(),
                        bias.segment(),
                        rows,
                        w.out(),
                        w.in(),
                        x.dtype().code()));
    }

    /**
     * dx = dy W, added to what dx holds where {@code accumulate}; dx [rows, in], dy [rows, out], of one dtype.
     *
     * @throws IllegalArgumentException where a shape or dtype does not fit
     */
    public void nf4LinearBackward(Operand dx, Operand dy, Nf4Operand w, boolean accumulate) {
        long rows = rowsOf("nf4_linear_backward dy", dy, w.out());
        sameType("nf4_linear_backward", dx, dy);
        length("nf4_linear_backward dx", dx, rows * w.in());
        checkWithRoom(
                "nf4_linear_backward",
                () -> kt_table.nf4_linear_backward.invoke(
                        kt_table.nf4_linear_backward(kt),
                        ctx,
                        dx.segment(),
                        dy.segment(),
                        w.packed().segment(),
                        w.absmax().segment(),
                        w.absmaxCodes().segment(),
                        w.nestedAbsmax().segment(),
                        w.nestedMap().segment(),
                        w.nestedOffset(),
                        rows,
                        w.out(),
                        w.in(),
                        accumulate ? 1 : 0,
                        dy.dtype().code()));
    }

    // ---- optimiser -----------------------------------------------------------------------------------------------

    /** out[t] = the sum of the squares of xs[t], F32 each; the xs of one dtype. */
    public void sumSquares(Operand out, List<? extends Operand> xs) {
        vector("sum_squares out", out, DType.F32, xs.size());
        requireSome("sum_squares", xs);
        for (Operand x : xs) {
            sameType("sum_squares", x, xs.get(0));
        }
        try (Arena arena = Arena.ofConfined()) {
            checkWithRoom(
                    "sum_squares",
                    () -> kt_table.sum_squares.invoke(
                            kt_table.sum_squares(kt),
                            ctx,
                            out.segment(),
                            addresses(arena, xs, x -> x),
                            lengths(arena, xs, x -> x),
                            xs.size(),
                            xs.get(0).dtype().code()));
        }
    }

    /** One AdamW step of parameters whose dtypes are those of the first. */
    public void adamw(List<AdamwTensor> tensors, AdamwStep step) {
        requireSome("adamw", tensors);
        AdamwTensor first = tensors.get(0);
        for (AdamwTensor each : tensors) {
            sameLength("adamw", each.param(), each.grad());
            same("adamw moments", each.m(), each.v());
            sameLength("adamw", each.param(), each.m());
            low("adamw", each.low(), each.param());
            sameType("adamw", each.param(), first.param());
            sameType("adamw moments", each.m(), first.m());
            sameType("adamw gradients", each.grad(), first.grad());
            bothOrNeither("adamw low", each.low(), first.low());
        }
        try (Arena arena = Arena.ofConfined()) {
            check(
                    "adamw",
                    kt_table.adamw.invoke(
                            kt_table.adamw(kt),
                            ctx,
                            addresses(arena, tensors, AdamwTensor::param),
                            first.low().isNone() ? MemorySegment.NULL : addresses(arena, tensors, AdamwTensor::low),
                            addresses(arena, tensors, AdamwTensor::m),
                            addresses(arena, tensors, AdamwTensor::v),
                            addresses(arena, tensors, AdamwTensor::grad),
                            lengths(arena, tensors, AdamwTensor::param),
                            tensors.size(),
                            step.lr(),
                            step.beta1(),
                            step.beta2(),
                            step.eps(),
                            step.weightDecay(),
                            step.correction1(),
                            step.correction2(),
                            step.gradScale(),
                            first.param().dtype().code(),
                            first.m().dtype().code(),
                            first.grad().dtype().code()));
        }
    }

    /** One AdamW step of a table with a row-sparse gradient grad F32 [slots, cols]; slot I32 [vocab], see kernels.h. */
    public void adamwRows(
            Operand param, Operand low, Operand m, Operand v, Operand grad, Operand slot, AdamwStep step) {
        same("adamw_rows moments", m, v);
        low("adamw_rows", low, param);
        sameLength("adamw_rows", param, m);
        lastAxis("adamw_rows", param, grad);
        type("adamw_rows grad", grad, DType.F32);
        vector("adamw_rows slot", slot, DType.I32, param.rows());
        check(
                "adamw_rows",
                kt_table.adamw_rows.invoke(
                        kt_table.adamw_rows(kt),
                        ctx,
                        param.segment(),
                        low.segment(),
                        m.segment(),
                        v.segment(),
                        grad.segment(),
                        slot.segment(),
                        param.rows(),
                        param.last(),
                        step.lr(),
                        step.beta1(),
                        step.beta2(),
                        step.eps(),
                        step.weightDecay(),
                        step.correction1(),
                        step.correction2(),
                        step.gradScale(),
                        param.dtype().code(),
                        m.dtype().code()));
    }

    /**
     * One AdamW step, with moments in 8 bits, of parameters whose dtypes are those of the first.
     *
     * @param mMap F32 [256], rising, the numbers of m's codes
     * @param vMap the same of v's
     */
    public void adamw8bit(List<Adamw8bitTensor> tensors, Operand mMap, Operand vMap, AdamwStep step) {
        requireSome("adamw_8bit", tensors);
        vector("adamw_8bit m_map", mMap, DType.F32, 256);
        vector("adamw_8bit v_map", vMap, DType.F32, 256);
        Adamw8bitTensor first = tensors.get(0);
        for (Adamw8bitTensor each : tensors) {
            sameLength("adamw_8bit", each.param(), each.grad());
            long blocks = Math.ceilDiv(each.param().elements(), 256);
            vector("adamw_8bit m", each.m(), DType.U8, each.param().elements());
            vector("adamw_8bit v", each.v(), DType.U8, each.param().elements());
            vector("adamw_8bit m_absmax", each.mAbsmax(), DType.F32, blocks);
            vector("adamw_8bit v_absmax", each.vAbsmax(), DType.F32, blocks);
            low("adamw_8bit", each.low(), each.param());
            sameType("adamw_8bit", each.param(), first.param());
            sameType("adamw_8bit gradients", each.grad(), first.grad());
            bothOrNeither("adamw_8bit low", each.low(), first.low());
        }
        try (Arena arena = Arena.ofConfined()) {
            check(
                    "adamw_8bit",
                    kt_table.adamw_8bit.invoke(
                            kt_table.adamw_8bit(kt),
                            ctx,
                            addresses(arena, tensors, Adamw8bitTensor::param),
                            first.low().isNone() ? MemorySegment.NULL : addresses(arena, tensors, Adamw8bitTensor::low),
                            addresses(arena, tensors, Adamw8bitTensor::m),
                            addresses(arena, tensors, Adamw8bitTensor::mAbsmax),
                            addresses(arena, tensors, Adamw8bitTensor::v),
                            addresses(arena, tensors, Adamw8bitTensor::vAbsmax),
                            addresses(arena, tensors, Adamw8bitTensor::grad),
                            mMap.segment(),
                            vMap.segment(),
                            lengths(arena, tensors, Adamw8bitTensor::param),
                            tensors.size(),
                            step.lr(),
                            step.beta1(),
                            step.beta2(),
                            step.eps(),
                            step.weightDecay(),
                            step.correction1(),
                            step.correction2(),
                            step.gradScale(),
                            first.param().dtype().code(),
                            first.grad().dtype().code()));
        }
    }

    /** One step of gradient descent; low (I16) is left out unless the parameter is a split F32 master. */
    public void sgd(Operand param, Operand low, Operand grad, double lr, double weightDecay, float gradScale) {
        sameLength("sgd", param, grad);
        low("sgd", low, param);
        check(
                "sgd",
                kt_table.sgd.invoke(
                        kt_table.sgd(kt),
                        ctx,
                        param.segment(),
                        low.segment(),
                        grad.segment(),
                        param.elements(),
                        lr,
                        weightDecay,
                        gradScale,
                        param.dtype().code(),
                        grad.dtype().code()));
    }

    /** The same for a table with a row-sparse gradient grad F32 [slots, cols]; slot I32 [vocab], see kernels.h. */
    public void sgdRows(
            Operand param, Operand low, Operand grad, Operand slot, double lr, double weightDecay, float gradScale) {
        lastAxis("sgd_rows", param, grad);
        type("sgd_rows grad", grad, DType.F32);
        vector("sgd_rows slot", slot, DType.I32, param.rows());
        low("sgd_rows", low, param);
        check(
                "sgd_rows",
                kt_table.sgd_rows.invoke(
                        kt_table.sgd_rows(kt),
                        ctx,
                        param.segment(),
                        low.segment(),
                        grad.segment(),
                        slot.segment(),
                        param.rows(),
                        param.last(),
                        lr,
                        weightDecay,
                        gradScale,
                        param.dtype().code()));
    }

    // ---- checks --------------------------------------------------------------------------------------------------

    private void requireAllMembers() {
        // Members of the struct follow the two sizes as plain pointers.
        String[] names = kt_table.layout().memberLayouts().stream()
                .filter(member -> member.byteSize() == ValueLayout.ADDRESS.byteSize())
                .map(member -> member.name().orElse("?"))
                .toArray(String[]::new);
        long first = kt_table.sizeof() - names.length * ValueLayout.ADDRESS.byteSize();
        for (int i = 0; i < names.length; i++) {
            MemorySegment member = kt.get(ValueLayout.ADDRESS, first + i * ValueLayout.ADDRESS.byteSize());
            if (member.address() == 0) {
                throw new DeviceException("the " + device + " library has no kernel " + names[i]);
            }
        }
    }

    /**
     * Of a kernel that may need memory of its own, and asks for it before it adds anything to an operand: where there is
     * none, the pool gives back what is free and the kernel is called again.
     */
    private void checkWithRoom(String op, IntSupplier kernel) {
        pool.withRoom(0, () -> {
            check(op, kernel.getAsInt());
            return null;
        });
    }

    private void check(String op, int status) {
        if (status == KernelTable.KT_OK()) {
            return;
        }
        String text = text(kt_table.last_error.invoke(kt_table.last_error(kt), ctx));
        if (status == KernelTable.KT_BAD_ARGUMENT()) {
            throw new IllegalArgumentException("[" + op + "] " + text);
        }
        String failure = "[" + op + "] on " + device + ": " + text;
        if (status == KernelTable.KT_OUT_OF_MEMORY()) {
            throw new OutOfMemoryException(failure, 0, pool.inUse(), null);
        }
        throw new DeviceException(failure);
    }

    private static String text(MemorySegment address) {
        return address.reinterpret(Long.MAX_VALUE).getString(0);
    }

    /** Operands that the kernel cannot do without: every check below but the optional ones begins with this. */
    private static void present(String what, Operand... operands) {
        for (Operand x : operands) {
            if (x.isNone()) {
                throw new IllegalArgumentException("[" + what + "] is left out, expected a tensor");
            }
        }
    }

    private static void positive(String what, long... sizes) {
        for (long size : sizes) {
            if (size <= 0) {
                throw new IllegalArgumentException("[" + what + "] is " + size + ", expected at least 1");
            }
        }
    }

    /** All of one dtype and length. */
    private static void same(String op, Operand first, Operand... others) {
        for (Operand other : others) {
            sameType(op, first, other);
            sameLength(op, first, other);
        }
    }

    private static void sameOrNone(String what, Operand optional, Operand like) {
        if (!optional.isNone()) {
            same(what, optional, like);
        }
    }

    private static void sameType(String op, Operand a, Operand b) {
        present(op, a, b);
        if (a.dtype() != b.dtype()) {
            throw mismatch(op, a, b, "dtypes differ");
        }
    }

    private static void sameLength(String op, Operand a, Operand b) {
        present(op, a, b);
        if (a.elements() != b.elements()) {
            throw mismatch(op, a, b, "lengths differ");
        }
    }

    private static void lastAxis(String op, Operand a, Operand b) {
        present(op, a, b);
        if (a.last() != b.last()) {
            throw mismatch(op, a, b, "last axes differ");
        }
    }

    private static void lastAxis(String what, Operand x, long expected) {
        present(what, x);
        if (x.last() != expected) {
            throw new IllegalArgumentException(
                    "[" + what + "] is " + x.describe() + ", expected a last axis of " + expected);
        }
    }

    private static void type(String what, Operand x, DType dtype) {
        present(what, x);
        if (x.dtype() != dtype) {
            throw new IllegalArgumentException("[" + what + "] is " + x.describe() + ", expected " + dtype);
        }
    }

    private static void length(String what, Operand x, long elements) {
        present(what, x);
        if (x.elements() != elements) {
            throw new IllegalArgumentException(
                    "[" + what + "] is " + x.describe() + ", expected " + elements + " elements");
        }
    }

    /** How many rows of that length x holds. */
    private static long rowsOf(String what, Operand x, long length) {
        present(what, x);
        if (x.last() != length) {
            throw new IllegalArgumentException("[" + what + "] is " + x.describe() + ", expected rows of " + length);
        }
        return length == 0 ? 0 : x.elements() / length;
    }

    /** A vector of that dtype and length. */
    private static void vector(String what, Operand x, DType dtype, long length) {
        present(what, x);
        if (x.dtype() != dtype || x.elements() != length) {
            throw new IllegalArgumentException(
                    "[" + what + "] is " + x.describe() + ", expected " + dtype + " [" + length + "]");
        }
    }

    /** A vector of that dtype and length, or an operand that is left out. */
    private static void optional(String what, Operand x, DType dtype, long length) {
        if (!x.isNone()) {
            vector(what, x, dtype, length);
        }
    }

    /** The low halves of a split master, or an operand that is left out. */
    private static void low(String op, Operand low, Operand param) {
        optional(op + " low", low, DType.I16, param.elements());
        if (!low.isNone()) {
            type(op + " param beside low halves", param, DType.BF16);
        }
    }

    private static void bothOrNeither(String what, Operand a, Operand b) {
        if (a.isNone() != b.isNone()) {
            throw new IllegalArgumentException(
                    "[" + what + "] is left out for some of the tensors, expected all or none");
        }
    }

    private static void requireSome(String op, List<?> tensors) {
        if (tensors.isEmpty()) {
            throw new IllegalArgumentException("[" + op + "] has no tensors, expected at least one");
        }
    }

    /** An operand of each, as an array of pointers. */
    private static <T> MemorySegment addresses(Arena arena, List<? extends T> of, Function<T, Operand> operand) {
        MemorySegment addresses = arena.allocate(ValueLayout.ADDRESS, of.size());
        for (int i = 0; i < of.size(); i++) {
            addresses.setAtIndex(
                    ValueLayout.ADDRESS, i, operand.apply(of.get(i)).segment());
        }
        return addresses;
    }

    /** How many elements an operand of each has, as an array of longs. */
    private static <T> MemorySegment lengths(Arena arena, List<? extends T> of, Function<T, Operand> operand) {
        MemorySegment lengths = arena.allocate(ValueLayout.JAVA_LONG, of.size());
        for (int i = 0; i < of.size(); i++) {
            lengths.setAtIndex(
                    ValueLayout.JAVA_LONG, i, operand.apply(of.get(i)).elements());
        }
        return lengths;
    }

    private static void within(String what, long first, long count, long size) {
        if (first < 0 || count > size - first) {
            throw new IllegalArgumentException(
                    "[" + what + "] " + count + " from " + first + " on, expected a part of " + size);
        }
    }

    private static void scatterOperands(Operand y, Operand x, Operand index) {
        present("scatter_rows y", y);
        if (!x.isNone()) {
            sameType("scatter_rows", y, x);
            lastAxis("scatter_rows", y, x);
            length("scatter_rows x", x, index.elements() * y.last());
        }
    }

    /** An adapter's inner side [rows, rank], its wide side [rows, in] and its matrix [rank, in]. */
    private static void loraDown(String op, Operand inner, Operand wide, Operand matrix) {
        sameType(op, inner, wide);
        lastAxis(op, wide, matrix);
        lastAxis(op + " [rows, rank]", inner, matrix.rows());
        if (inner.rows() != wide.rows()) {
            throw mismatch(op, inner, wide, "rows differ");
        }
    }

    /** How many heads of the weight's length a token has in x [tokens, heads * headDim]. */
    private static long normalisedHeads(String op, Operand x, Operand w, Operand cos, Operand sin, Operand pos) {
        type(op + " cos", cos, DType.F32);
        same(op + " sin", cos, sin);
        type(op + " pos", pos, DType.I32);
        present(op + " x", x);
        vector(op + " weight", w, x.dtype(), cos.last() * 2);
        positive(op + " length of weight", w.elements());
        long heads = x.last() / w.elements();
        positive(op + " heads", heads);
        length(op + " x", x, pos.elements() * heads * w.elements());
        return heads;
    }

    private static long tokens(Operand q, AttentionShape shape) {
        return q.elements() / (shape.heads() * shape.headDim());
    }

    private static void attention(
            String op,
            Operand q,
            Operand k,
            Operand v,
            Operand lse,
            Operand starts,
            Operand spans,
            AttentionShape shape) {
        long tokens = tokens(q, shape);
        length(op + " q", q, tokens * shape.heads() * shape.headDim());
        length(op + " k", k, tokens * shape.kvHeads() * shape.headDim());
        same(op, k, v);
        sameType(op, q, k);
        optional(op + " lse", lse, DType.F32, tokens * shape.heads());
        type(op + " starts", starts, DType.I32);
        positive(op + " length of starts", starts.elements());
        optional(op + " spans", spans, DType.I32, tokens);
    }

    private static IllegalArgumentException mismatch(String op, Operand a, Operand b, String what) {
        return new IllegalArgumentException("[" + op + "] " + what + ": " + a.describe() + " and " + b.describe());
    }
}
