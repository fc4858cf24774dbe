import type { Context, DeviceBuffer, Ref, Rows } from "@pariskv/kernels";
import type { ModelConfig } from "../model-files/config.js";

/** Working memory of one step, allocated once: f32 rows for a whole chunk, logits for the rows that ask for them. */
export interface Activations {
  /** `[maxRows] i32`. */
  readonly tokens: Ref;
  /** Residual stream `[maxRows, hiddenSize]`. */
  readonly hidden: Rows;
  /** `[maxRows, hiddenSize]`. */
  readonly normed: Rows;
  /** `[maxRows, queryHeads + 2 kvHeads, headDim]`. */
  readonly qkv: Rows;
  /** The three parts of `qkv`. */
  readonly q: Rows;
  readonly k: Rows;
  readonly v: Rows;
  /** `[maxRows, queryHeads, headDim]`. */
  readonly attention: Rows;
  /** `[maxRows, 2 intermediateSize]`. */
  readonly gateUp: Rows;
  /** `[maxRows, intermediateSize]`. */
  readonly mlp: Rows;
  /** `[logitRows, vocabSize]`. */
  readonly logits: Rows;
  /** `[logitRows] i32`: index of the largest logit. */
  readonly best: Ref;
  dispose(): void;
}

/** Bytes of {@link Activations}. */
export function activationBytes(config: ModelConfig, maxRows: number, logitRows: number): number {
  const widths = activationWidths(config);
  const perRow = widths.hidden + widths.normed + widths.qkv + widths.attention + widths.gateUp + widths.mlp + 1;
  return 4 * (maxRows * perRow + logitRows * (config.vocabSize + 1));
}

/** Allocates the working memory of steps of up to `maxRows` rows. Throws OutOfMemoryError with nothing leaked. */
export function createActivations(
  context: Context,
  config: ModelConfig,
  maxRows: number,
  logitRows: number,
): Activations {
  const buffers: DeviceBuffer[] = [];
  const dispose = () => {
    for (const buffer of buffers) buffer.dispose();
  };
  const take = (elements: number): DeviceBuffer => {
    const buffer = context.allocate(elements * 4, "device");
    buffers.push(buffer);
    return buffer;
  };
  const rows = (width: number, count = maxRows): Rows => ({ buffer: take(count * width), rowStride: width });
  try {
    const widths = activationWidths(config);
    const qkv = rows(widths.qkv);
    const queryBytes = config.queryHeads * config.headDim * 4;
    const kvBytes = config.kvHeads * config.headDim * 4;
    return {
      tokens: { buffer: take(maxRows) },
      hidden: rows(widths.hidden),
      normed: rows(widths.normed),
      qkv,
      q: qkv,
      k: { ...qkv, offsetBytes: queryBytes },
      v: { ...qkv, offsetBytes: queryBytes + kvBytes },
      attention: rows(widths.attention),
      gateUp: rows(widths.gateUp),
      mlp: rows(widths.mlp),
      logits: rows(config.vocabSize, logitRows),
      best: { buffer: take(logitRows) },
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

function activationWidths(config: ModelConfig) {
  return {
    hidden: config.hiddenSize,
    normed: config.hiddenSize,
    qkv: (config.queryHeads + 2 * config.kvHeads) * config.headDim,
    attention: config.queryHeads * config.headDim,
    gateUp: 2 * config.intermediateSize,
    mlp: config.intermediateSize,
  };
}
