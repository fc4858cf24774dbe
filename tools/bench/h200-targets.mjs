// What the design asks of docs/benchmarks/h200.md.

/**
 * What the design asks for, in microseconds, at K = 100 with the paper's budgets, and the fastest dense attention that it
 * compares with. Its authors measured on an H200; a figure that they left out is null.
 */
export const TARGETS = {
  "32768x1": { mapped: [48, 28], device: [36, 22], dense: 37 },
  "131072x1": { mapped: [60, 38], device: [45, 28], dense: 127 },
  "524288x1": { mapped: [100, 65], device: [85, 52], dense: 470 },
  "1048576x1": { mapped: [150, 95], device: [130, 80], dense: 929 },
  "131072x8": { mapped: [240, 160], device: [160, 110], dense: 927 },
};
/** At K = 2048, records on the host, 128K tokens. */
export const MUST_2048_US = 130;
