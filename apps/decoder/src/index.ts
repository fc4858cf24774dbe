export { type Comparison, compareAttention } from "./model/compare-attention.js";
export { DecoderModel, type DecoderModelOptions } from "./model/decoder-model.js";
export { type ChooseToken, generate, prefill, type StopReason } from "./model/generate.js";
export { bundledModelPath } from "./model-files/bundled-model.js";
export type { ModelConfig } from "./model-files/config.js";
export { type ModelFolder, openModelFolder, resolveModelPath } from "./model-files/model-folder.js";
export { type ChatMessage, type ChatTemplate, readChatTemplate } from "./text/chat-template.js";
export { Sampler, type SamplingOptions } from "./text/sampler.js";
export { TextTokenizer } from "./text/tokenizer.js";
