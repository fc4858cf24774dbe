import type { DenseOperators, Dtype, Ref } from "../context.js";
import { argmax, type Elements, embed, linear, rmsnorm, rope, swiglu } from "../dense/index.js";
import * as check from "../validate-operators.js";
import type { ReferenceMemory } from "./reference-memory.js";
import type { ReferenceQueue } from "./reference-queue.js";
import { viewRows, viewStep } from "./views.js";

/** The dense operators of a reference context that need no cache: each checks, resolves its buffers and queues. */
export abstract class ReferenceDense implements Omit<DenseOperators, "attendCausal"> {
  protected abstract readonly memory: ReferenceMemory;
  protected abstract readonly queue: ReferenceQueue;

  embed(args: check.OperatorArgs<"embed">): void {
    check.checkEmbed(args);
    const { vocab, width, rowCount } = args;
    const tokens = this.#ints("tokens", args.tokens, rowCount);
    const weight = this.#elements("weight", args.weight, args.dtype);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("embed", () => embed({ tokens, weight, vocab, width, rowCount, out }));
  }

  rmsnorm(args: check.OperatorArgs<"rmsnorm">): void {
    check.checkRmsnorm(args);
    const { eps, width, groups = 1, rowCount } = args;
    const x = viewRows(this.memory, "x", args.x);
    const weight = this.#floats("weight", args.weight, width);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("rmsnorm", () => rmsnorm({ x, weight, eps, width, groups, rowCount, out }));
  }

  linear(args: check.OperatorArgs<"linear">): void {
    check.checkLinear(args);
    const { inWidth, outWidth, rowCount, accumulate } = args;
    const x = viewRows(this.memory, "x", args.x);
    const weight = this.#elements("weight", args.weight, args.dtype);
    const bias = args.bias && this.#floats("bias", args.bias, outWidth);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("linear", () => linear({ x, weight, bias, inWidth, outWidth, rowCount, accumulate, out }));
  }

  rope(args: check.OperatorArgs<"rope">): void {
    check.checkRope(args);
    const { heads, headDim } = args;
    const x = viewRows(this.memory, "x", args.x);
    const frequencies = this.#floats("frequencies", args.frequencies, headDim / 2);
    const { table, rowCount } = viewStep(this.memory, args.step);
    this.queue.submit("rope", () => rope({ x, heads, headDim, frequencies, table, rowCount }));
  }

  swiglu(args: check.OperatorArgs<"swiglu">): void {
    check.checkSwiglu(args);
    const { width, rowCount } = args;
    const x = viewRows(this.memory, "x", args.x);
    const out = viewRows(this.memory, "out", args.out);
    this.queue.submit("swiglu", () => swiglu({ x, width, rowCount, out }));
  }

  argmax(args: check.OperatorArgs<"argmax">): void {
    check.checkArgmax(args);
    const { width, rowCount } = args;
    const x = viewRows(this.memory, "x", args.x);
    const out = this.#ints("out", args.out, rowCount);
    this.queue.submit("argmax", () => argmax({ x, width, rowCount, out }));
  }

  #floats(argument: string, ref: Ref, length: number): Float32Array {
    const { storage, offsetBytes } = this.memory.resolve(argument, ref);
    return storage.f32.subarray(offsetBytes / 4, offsetBytes / 4 + length);
  }

  #ints(argument: string, ref: Ref, length: number): Int32Array {
    const { storage, offsetBytes } = this.memory.resolve(argument, ref);
    return storage.i32.subarray(offsetBytes / 4, offsetBytes / 4 + length);
  }

  #elements(argument: string, ref: Ref, dtype: Dtype): Elements {
    const { storage, offsetBytes } = this.memory.resolve(argument, ref);
    const data = dtype === "f32" ? storage.f32 : storage.u16;
    return { data, dtype, offset: offsetBytes / data.BYTES_PER_ELEMENT };
  }
}
