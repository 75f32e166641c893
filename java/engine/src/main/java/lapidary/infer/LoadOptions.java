package lapidary.infer;

import java.util.List;
import lapidary.device.DType;
import lapidary.device.Device;
import lapidary.gemma3.Nf4Options;
import lapidary.gemma3.Precision;
import lapidary.image.PanAndScan;
import lapidary.image.PanAndScanSettings;

/**
 * How a model is held and how much it does at once.
 *
 * @param dtype of weights that are not quantised, and of activations: BF16 or F32
 * @param nf4 how linear layers are quantised while they are loaded, or null to take them as the checkpoint holds them. A
 *     checkpoint that is stored in NF4 stays what it is either way
 * @param contextLength tokens that a prompt and its answer may have together; 0 for the model's own limit
 * @param batchSize requests that are decoded together; more wait
 * @param keptBytes of the device's memory that is kept of what finished requests have read, for requests that begin alike;
 *     {@link #EIGHTH} for an eighth of all that the device has. A token of gemma-3-4b takes 20 KiB in bfloat16, and the
 *     windows of its sliding layers up to 145 MiB a request
 * @param panAndScan whether long pictures are shown in parts, too; null for what the adapter in use was trained with, which
 *     the image processor's file in its folder says, and where it has none, or without an adapter, the model's
 */
public record LoadOptions(
        DType dtype, Nf4Options nf4, int contextLength, int batchSize, long keptBytes, Boolean panAndScan) {
    /** For {@link #keptBytes}: an eighth of the device's memory. */
    public static final long EIGHTH = -1;

    /** BF16 as the checkpoint holds it, the model's own context, eight requests at once. */
    public static final LoadOptions DEFAULT = new LoadOptions(DType.BF16, null, 0, 8, EIGHTH, null);

    public LoadOptions {
        if (dtype != DType.BF16 && dtype != DType.F32) {
            throw new IllegalArgumentException("dtype is " + dtype + ", expected BF16 or F32");
        }
        if (contextLength < 0) {
            throw new IllegalArgumentException("contextLength is " + contextLength + ", expected 0 or more");
        }
        if (batchSize < 1) {
            throw new IllegalArgumentException("batchSize is " + batchSize + ", expected at least 1");
        }
        if (keptBytes < EIGHTH) {
            throw new IllegalArgumentException("keptBytes is " + keptBytes + ", expected 0 or more, or EIGHTH");
        }
    }

    public LoadOptions withDtype(DType other) {
        return new LoadOptions(other, nf4, contextLength, batchSize, keptBytes, panAndScan);
    }

    /** Quantises every linear layer but the output head to NF4, with double quantisation: 0.516 bytes a weight. */
    public LoadOptions withNf4() {
        return withNf4(new Nf4Options(true, List.of()));
    }

    public LoadOptions withNf4(Nf4Options options) {
        return new LoadOptions(dtype, options, contextLength, batchSize, keptBytes, panAndScan);
    }

    public LoadOptions withContextLength(int tokens) {
        return new LoadOptions(dtype, nf4, tokens, batchSize, keptBytes, panAndScan);
    }

    public LoadOptions withBatchSize(int requests) {
        return new LoadOptions(dtype, nf4, contextLength, requests, keptBytes, panAndScan);
    }

    public LoadOptions withKeptBytes(long bytes) {
        return new LoadOptions(dtype, nf4, contextLength, batchSize, bytes, panAndScan);
    }

    /** Shows long pictures in parts, too, or never, whatever files say. */
    public LoadOptions withPanAndScan(boolean on) {
        return new LoadOptions(dtype, nf4, contextLength, batchSize, keptBytes, on);
    }

    /** How pictures are shown where files say this. */
    PanAndScan panAndScan(PanAndScanSettings said) {
        return (panAndScan == null ? said : said.with(panAndScan)).inUse();
    }

    /** Bytes on a device. */
    long keptBytes(Device device) {
        return keptBytes == EIGHTH ? device.memory() / 8 : keptBytes;
    }

    Precision precision() {
        return new Precision(dtype, nf4, false);
    }
}
