import type { Dtype } from "@pariskv/kernels";
import { PAGE_TOKENS, requireInteger, requireOneOf, summaryLayout } from "@pariskv/quantizer";

/** The part of a model's shape that decides how large its KV cache is. */
export interface KvGeometry {
  readonly layers: number;
  readonly kvHeads: number;
  /** Query heads that share one KV head, 1 to 8. */
  readonly queryGroup: number;
  /** 64, 128 or 256. */
  readonly headDim: number;
  /** Element type of K and V. */
  readonly kvDtype: Dtype;
}

/** Refuses geometries that no backend supports. Throws InvalidArgumentError. */
export function checkGeometry(geometry: KvGeometry): void {
  requireInteger("layers", geometry.layers, 1, 1024);
  requireInteger("kvHeads", geometry.kvHeads, 1, 1024);
  requireInteger("queryGroup", geometry.queryGroup, 1, 8);
  requireOneOf("headDim", geometry.headDim, [64, 128, 256]);
  requireOneOf<Dtype>("kvDtype", geometry.kvDtype, ["f32", "bf16", "f16"]);
}

/** Bytes of one element. */
export function dtypeBytes(dtype: Dtype): number {
  return dtype === "f32" ? 4 : 2;
}

/** Bytes of one record: K and V of one token, layer and KV head, side by side. */
export function recordBytes(geometry: KvGeometry): number {
  return 2 * geometry.headDim * dtypeBytes(geometry.kvDtype);
}

/** Bytes of K and V that one token costs over all layers and KV heads. */
export function kvBytesPerToken(geometry: KvGeometry): number {
  return geometry.layers * geometry.kvHeads * recordBytes(geometry);
}

/** Bytes of key summaries that one token of the retrieval zone costs over all layers and KV heads. */
export function summaryBytesPerToken(geometry: KvGeometry): number {
  return geometry.layers * geometry.kvHeads * summaryLayout(geometry.headDim).bytesPerKey;
}

/** Bytes of the summaries of one page, all layers and KV heads. */
export function pageSummaryBytes(geometry: KvGeometry): number {
  return PAGE_TOKENS * summaryBytesPerToken(geometry);
}

/** Bytes of the records of one page, all layers and KV heads. */
export function pageRecordBytes(geometry: KvGeometry): number {
  return PAGE_TOKENS * kvBytesPerToken(geometry);
}
