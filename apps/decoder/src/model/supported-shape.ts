import { UnsupportedError } from "@pariskv/quantizer";
import type { ModelConfig } from "../model-files/config.js";

const HEAD_DIMS = [64, 128, 256];
const MAX_QUERY_GROUP = 8;
const MAX_LAYERS = 1_024;
const MAX_KV_HEADS = 1_024;

/**
 * Refuses the shapes of attention that no backend computes, from the config alone; `path` is for the message.
 *
 * @throws UnsupportedError for a head dimension other than 64, 128 or 256, for more than 8 query heads a KV head, and for
 * more than 1,024 layers or KV heads.
 */
export function requireSupportedShape(config: ModelConfig, path: string): void {
  const { headDim, queryHeads, kvHeads, layers } = config;
  const refuse = (applies: boolean, feature: string) => {
    if (applies) throw new UnsupportedError({ feature: `${feature} (${path})` });
  };
  refuse(!HEAD_DIMS.includes(headDim), `a head dimension of ${headDim}, which is not 64, 128 or 256`);
  const queryGroup = queryHeads / kvHeads;
  refuse(queryGroup > MAX_QUERY_GROUP, `${queryGroup} query heads a KV head, which are more than ${MAX_QUERY_GROUP}`);
  refuse(layers > MAX_LAYERS, `${layers} layers, which are more than ${MAX_LAYERS}`);
  refuse(kvHeads > MAX_KV_HEADS, `${kvHeads} KV heads, which are more than ${MAX_KV_HEADS}`);
}
