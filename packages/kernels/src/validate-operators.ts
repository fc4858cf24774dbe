import { PAGE_TOKENS } from "@pariskv/quantizer";
import type { Cache, Context, DenseOperators, Plan, Stages, Step } from "./context.js";
import { checkInteger, checkRef, checkRows, checkStep, dtypeBytes, refuse } from "./validate.js";

/** The arguments of the operator `Verb`. */
export type OperatorArgs<Verb extends keyof Stages | keyof DenseOperators | "copy"> = Parameters<Context[Verb]>[0];

function queryWidth(cache: Cache): number {
  const { kvHeads, queryGroup, headDim } = cache.params;
  return kvHeads * queryGroup * headDim;
}

function checkLayer(cache: Cache, layer: number): void {
  checkInteger("layer", layer, 0, cache.params.layers - 1);
}

/** Checks the arguments of `copy`. */
export function checkCopy({ from, to, bytes }: OperatorArgs<"copy">): void {
  checkInteger("bytes", bytes, 1, Number.MAX_SAFE_INTEGER);
  checkRef("from", from, bytes, 1);
  checkRef("to", to, bytes, 1);
}

/** Checks the arguments of `append`. */
export function checkAppend({ cache, layer, step, k, v }: OperatorArgs<"append">): void {
  checkLayer(cache, layer);
  checkStep(step);
  const width = cache.params.kvHeads * cache.params.headDim;
  checkRows("k", k, step.rowCount, width);
  checkRows("v", v, step.rowCount, width);
}

/** Checks the arguments of `collide`, `select` and `rerank`. */
export function checkStage({ plan, layer, step }: { plan: Plan; layer: number; step: Step }): void {
  checkLayer(plan.params.cache, layer);
  checkStep(step, plan.params.maxRows);
}

/** Checks the arguments of `probe`. */
export function checkProbe(args: OperatorArgs<"probe">): void {
  checkStage(args);
  checkRows("q", args.q, args.step.rowCount, queryWidth(args.plan.params.cache));
}

/** Checks the arguments of `attend`. */
export function checkAttend(args: OperatorArgs<"attend">): void {
  checkProbe(args);
  checkRows("out", args.out, args.step.rowCount, queryWidth(args.plan.params.cache));
}

/** Checks the arguments of `encode`, `offload` and `commit`. */
export function checkPage({ cache, slot, pageIndex, pageId }: OperatorArgs<"encode">): void {
  const { slots, maxPages, pageCapacity, ringTokens } = cache.params;
  checkInteger("slot", slot, 0, slots - 1);
  checkInteger("pageIndex", pageIndex, 0, maxPages - 1);
  checkInteger("pageId", pageId, 0, pageCapacity - 1);
  if (ringTokens < PAGE_TOKENS) refuse("ringTokens", `at least one page of ${PAGE_TOKENS} tokens`, ringTokens);
}

/** Checks the arguments of `embed`. */
export function checkEmbed({ tokens, weight, dtype, vocab, width, rowCount, out }: OperatorArgs<"embed">): void {
  checkInteger("vocab", vocab, 1);
  checkInteger("width", width, 1);
  checkInteger("rowCount", rowCount, 1);
  const elementBytes = dtypeBytes("dtype", dtype);
  checkRef("tokens", tokens, 4 * rowCount);
  checkRef("weight", weight, elementBytes * vocab * width, elementBytes);
  checkRows("out", out, rowCount, width);
}

/** Checks the arguments of `rmsnorm`. */
export function checkRmsnorm({ x, weight, eps, width, groups = 1, rowCount, out }: OperatorArgs<"rmsnorm">): void {
  checkInteger("width", width, 1);
  checkInteger("groups", groups, 1);
  checkInteger("rowCount", rowCount, 1);
  if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) refuse("eps", "a finite number >= 0", eps);
  checkRef("weight", weight, 4 * width);
  checkRows("x", x, rowCount, groups * width);
  checkRows("out", out, rowCount, groups * width);
}

/** Checks the arguments of `linear`. */
export function checkLinear(args: OperatorArgs<"linear">): void {
  const { x, weight, dtype, bias, inWidth, outWidth, rowCount, out } = args;
  checkInteger("inWidth", inWidth, 1);
  checkInteger("outWidth", outWidth, 1);
  checkInteger("rowCount", rowCount, 1);
  const elementBytes = dtypeBytes("dtype", dtype);
  checkRef("weight", weight, elementBytes * inWidth * outWidth, elementBytes);
  if (bias !== undefined) checkRef("bias", bias, 4 * outWidth);
  checkRows("x", x, rowCount, inWidth);
  checkRows("out", out, rowCount, outWidth);
}

/** Checks the arguments of `rope`. */
export function checkRope({ x, heads, headDim, frequencies, step }: OperatorArgs<"rope">): void {
  checkInteger("heads", heads, 1);
  checkInteger("headDim", headDim, 2);
  if (headDim % 2 !== 0) refuse("headDim", "even", headDim);
  checkRef("frequencies", frequencies, 2 * headDim);
  checkStep(step);
  checkRows("x", x, step.rowCount, heads * headDim);
}

/** Checks the arguments of `swiglu`. */
export function checkSwiglu({ x, width, rowCount, out }: OperatorArgs<"swiglu">): void {
  checkInteger("width", width, 1);
  checkInteger("rowCount", rowCount, 1);
  checkRows("x", x, rowCount, 2 * width);
  checkRows("out", out, rowCount, width);
}

/** Checks the arguments of `argmax`. */
export function checkArgmax({ x, width, rowCount, out }: OperatorArgs<"argmax">): void {
  checkInteger("width", width, 1);
  checkInteger("rowCount", rowCount, 1);
  checkRows("x", x, rowCount, width);
  checkRef("out", out, 4 * rowCount);
}

/** Checks the arguments of `attendCausal`; q and out are indexed by the row of the step. */
export function checkAttendCausal(args: OperatorArgs<"attendCausal">): void {
  const { cache, layer, step, firstRow, rowCount, q, out } = args;
  checkLayer(cache, layer);
  checkStep(step);
  checkInteger("firstRow", firstRow, 0, step.rowCount - 1);
  checkInteger("rowCount", rowCount, 1, step.rowCount - firstRow);
  checkRows("q", q, firstRow + rowCount, queryWidth(cache));
  checkRows("out", out, firstRow + rowCount, queryWidth(cache));
}
