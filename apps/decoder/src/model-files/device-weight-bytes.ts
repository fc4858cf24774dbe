import type { Dtype } from "@pariskv/kernels";
import { dtypeBytes } from "@pariskv/memory";
import type { ModelConfig } from "./config.js";
import { expectedTensors } from "./expected-tensors.js";

/** Bytes of a model's weights on a device: matrices stay as `dtypeOf` says they are stored, norms and biases become f32. */
export function deviceWeightBytes(config: ModelConfig, dtypeOf: (name: string) => Dtype): number {
  let bytes = 0;
  for (const { name, shape } of expectedTensors(config)) {
    const elements = shape.reduce((product, size) => product * size, 1);
    bytes += elements * (shape.length === 1 ? 4 : dtypeBytes(dtypeOf(name)));
  }
  return bytes;
}
