import { type Context, type ContextOptions, createContext } from "@pariskv/kernels";
import { InvalidArgumentError } from "@pariskv/quantizer";
import { Retriever } from "./retriever.js";
import type { RetrieverSettings } from "./retriever-settings.js";

/** Options of {@link createRetriever}: a context to share, or how to make one that the retriever owns. */
export type RetrieverOptions = RetrieverSettings & ({ readonly context: Context } | ContextOptions);

/**
 * Makes a retriever: the KV memory and the decode step of one model on one device.
 *
 * @throws InvalidArgumentError, BackendUnavailableError when the device is not there, and OutOfMemoryError; nothing is
 * leaked.
 */
export function createRetriever(options: RetrieverOptions): Retriever {
  const { context, device, threads, isa } = options as Partial<{ context: Context } & ContextOptions>;
  if (context !== undefined) {
    for (const [argument, received] of Object.entries({ device, threads, isa })) {
      if (received !== undefined) {
        throw new InvalidArgumentError({ argument, expected: "left out where a context is given", received });
      }
    }
    return new Retriever(context, false, options);
  }
  const own = createContext({
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(isa !== undefined && { isa }),
  });
  try {
    return new Retriever(own, true, options);
  } catch (error) {
    own.dispose();
    throw error;
  }
}
