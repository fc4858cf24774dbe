import { formatTable } from "@pariskv/evaluation";
import { fitMemory, kvBytesPerToken, longestContext, summaryBytesPerToken } from "@pariskv/memory";
import type { CommandIo } from "../cli/command-io.js";
import { EXIT } from "../cli/exit-code.js";
import type { PlanOptions } from "../cli/options.js";
import { openModelFolder, resolveModelPath } from "../model-files/model-folder.js";
import { decoderMemoryRequest, planDecoderMemory } from "./decoder-memory.js";
import { memoryLimits, policyOf } from "./session.js";

/** Says whether a context fits, from config and headers alone. Exit code 3 when it does not. */
export async function runPlan(options: PlanOptions, io: CommandIo): Promise<number> {
  using folder = openModelFolder(resolveModelPath(options.model, io.environment));
  const { maxPositions } = folder.config;
  const contextTokens = options.ctxSize === 0 ? maxPositions : options.ctxSize;
  const request = decoderMemoryRequest(folder, {
    sequences: options.parallel,
    kvDtype: options.kvDtype as "auto",
    policy: policyOf(options),
  });
  const plan = planDecoderMemory(folder, request, contextTokens);
  const limits = memoryLimits();
  const fit = fitMemory(plan, limits);
  const longest = longestContext({ ...request, contextTokens }, limits, maxPositions);
  const perToken = {
    kvBytes: kvBytesPerToken(request.geometry),
    summaryBytes: summaryBytesPerToken(request.geometry),
  };
  if (options.json) {
    const { bytes, lines, pages } = plan;
    const report = {
      contextTokens,
      sequences: options.parallel,
      perToken,
      lines,
      bytes,
      pages,
      limits,
      longest,
      ...fit,
    };
    io.writeOutput(`${JSON.stringify(report)}\n`);
  } else {
    const right = { align: "right" } as const;
    const table = formatTable(
      [{ title: "what" }, { title: "where" }, { title: "MiB", ...right }],
      plan.lines.map((line) => [line.purpose, line.kind, mebibytes(line.bytes)]),
    );
    const kv = `${perToken.kvBytes} bytes of K and V and ${perToken.summaryBytes} bytes of summaries a token`;
    const total = plan.bytes.device + plan.bytes.pinned + plan.bytes.mapped;
    const free = "sharedBytes" in limits ? limits.sharedBytes : limits.deviceBytes + limits.hostBytes;
    io.writeOutput(`${options.parallel} × ${contextTokens} tokens: ${kv}\n\n${table}\n\n`);
    io.writeOutput(
      fit.fits
        ? `fits: ${mebibytes(total)} MiB of ${mebibytes(free)} MiB free\n`
        : `does not fit: ${mebibytes(total)} MiB of ${mebibytes(free)} MiB free; ${remedy(longest, options.parallel)}\n`,
    );
    if (contextTokens > maxPositions) io.writeNotice(`the model was made for ${maxPositions} tokens\n`);
  }
  return fit.fits ? EXIT.ok : EXIT.doesNotFit;
}

function remedy(longest: number, parallel: number): string {
  if (longest > 0) return `--ctx-size ${longest} would fit`;
  return parallel > 1 ? "fewer sequences (--parallel) may fit" : "a smaller model is needed";
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
