// Printed by tools/spec-header.mjs. Change the constants, never this file.

/** FNV-1a of the constants that TypeScript and native code share; the addon must report the same number. */
export const SPEC_FINGERPRINT = 0xebfee220;
