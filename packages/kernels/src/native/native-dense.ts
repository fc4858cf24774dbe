import type { Context, DenseOperators, DeviceBuffer, Ref, Rows, Step } from "../context.js";
import { DTYPE } from "../layout.js";
import { refuse } from "../validate.js";
import * as check from "../validate-operators.js";
import type { Addon, Handle } from "./addon.js";
import { guarded } from "./native-error.js";
import { NativeBuffer } from "./native-objects.js";

/** Numbers of the element types. */
export const DTYPE_NUMBERS = { f32: DTYPE.F32, bf16: DTYPE.BF16, f16: DTYPE.F16 } as const;

/** What every operator of a native context needs, and the dense ones that know no cache: check, resolve, call. */
export abstract class NativeDense implements Omit<DenseOperators, "attendCausal"> {
  abstract readonly addon: Addon;
  abstract readonly device: Context["device"];
  /** The context's own handle. Throws DisposedError after dispose. */
  abstract get handle(): Handle;

  embed(args: check.OperatorArgs<"embed">): void {
    const { handle } = this;
    check.checkEmbed(args);
    const { tokens, weight, dtype, vocab, width, rowCount, out } = args;
    const tokensAt = this.ref("tokens", tokens);
    const weightAt = this.ref("weight", weight);
    const to = this.rows("out", out);
    this.call((addon) =>
      addon.embed(handle, ...tokensAt, ...weightAt, DTYPE_NUMBERS[dtype], vocab, width, rowCount, ...to),
    );
  }

  rmsnorm(args: check.OperatorArgs<"rmsnorm">): void {
    const { handle } = this;
    check.checkRmsnorm(args);
    const { x, weight, eps, width, groups = 1, rowCount, out } = args;
    const from = this.rows("x", x);
    const weightAt = this.ref("weight", weight);
    const to = this.rows("out", out);
    this.call((addon) => addon.rmsnorm(handle, ...from, ...weightAt, eps, width, groups, rowCount, ...to));
  }

  linear(args: check.OperatorArgs<"linear">): void {
    const { handle } = this;
    check.checkLinear(args);
    const { x, weight, dtype, bias, inWidth, outWidth, rowCount, accumulate = false, out } = args;
    const from = this.rows("x", x);
    const weightAt = this.ref("weight", weight);
    const biasAt = this.optionalRef("bias", bias);
    const to = this.rows("out", out);
    const number = DTYPE_NUMBERS[dtype];
    this.call((addon) =>
      addon.linear(handle, ...from, ...weightAt, number, ...biasAt, inWidth, outWidth, rowCount, accumulate, ...to),
    );
  }

  rope(args: check.OperatorArgs<"rope">): void {
    const { handle } = this;
    check.checkRope(args);
    const { heads, headDim } = args;
    const x = this.rows("x", args.x);
    const frequencies = this.ref("frequencies", args.frequencies);
    const step = this.step(args.step);
    this.call((addon) => addon.rope(handle, ...x, heads, headDim, ...frequencies, ...step));
  }

  swiglu(args: check.OperatorArgs<"swiglu">): void {
    const { handle } = this;
    check.checkSwiglu(args);
    const x = this.rows("x", args.x);
    const out = this.rows("out", args.out);
    this.call((addon) => addon.swiglu(handle, ...x, args.width, args.rowCount, ...out));
  }

  argmax(args: check.OperatorArgs<"argmax">): void {
    const { handle } = this;
    check.checkArgmax(args);
    const x = this.rows("x", args.x);
    const out = this.ref("out", args.out);
    this.call((addon) => addon.argmax(handle, ...x, args.width, args.rowCount, ...out));
  }

  protected call<T>(body: (addon: Addon) => T): T {
    return guarded(this.device, () => body(this.addon));
  }

  protected ref(argument: string, { buffer, offsetBytes = 0 }: Ref): [buffer: Handle, offsetBytes: number] {
    return [this.#bufferHandle(argument, buffer), offsetBytes];
  }

  protected optionalRef(argument: string, ref: Ref | undefined): [buffer: Handle | null, offsetBytes: number] {
    return ref === undefined ? [null, 0] : this.ref(argument, ref);
  }

  protected rows(argument: string, rows: Rows): [buffer: Handle, offsetBytes: number, rowStride: number] {
    return [...this.ref(argument, rows), rows.rowStride];
  }

  protected step(step: Step): [buffer: Handle, offsetBytes: number, rowCount: number] {
    return [...this.ref("step.table", step.table), step.rowCount];
  }

  #bufferHandle(argument: string, buffer: DeviceBuffer): Handle {
    if (!(buffer instanceof NativeBuffer) || buffer.owner !== this) {
      refuse(`${argument}.buffer`, "a buffer of this context", buffer);
    }
    return buffer.handle;
  }
}
