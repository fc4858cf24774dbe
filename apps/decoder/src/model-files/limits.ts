/** The largest safetensors header that is read, in bytes; the format's own limit. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The most tensors one safetensors file may hold. */
export const MAX_TENSORS_PER_FILE = 65_536;
/** The most tensors all shards of a model may hold together. */
export const MAX_TENSORS = 262_144;
/** The most shards a model may be split into. */
export const MAX_SHARDS = 512;
/** The most dimensions a tensor may have. */
export const MAX_TENSOR_RANK = 8;
/** The longest tensor name, in UTF-16 units. */
export const MAX_TENSOR_NAME_LENGTH = 1_024;
/** The largest `config.json`, `generation_config.json` or `tokenizer_config.json`, in bytes. */
export const MAX_CONFIG_BYTES = 1_048_576;
/** The largest shard index, in bytes. */
export const MAX_SHARD_INDEX_BYTES = 67_108_864;
/** The largest `tokenizer.json`, in bytes. */
export const MAX_TOKENIZER_BYTES = 67_108_864;
/** The most entries a vocabulary may hold, added tokens included. */
export const MAX_VOCABULARY_ENTRIES = 1_048_576;
/** The largest chat template, in bytes. */
export const MAX_CHAT_TEMPLATE_BYTES = 262_144;
