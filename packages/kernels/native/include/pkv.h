/*
 * The C interface of the ParisKV kernels: contexts, memory, caches, plans, tapes and one function an operator.
 *
 * Rules that hold for every function:
 * - A handle belongs to the context that made it. A function that can fail returns a status; its out-parameters come last
 *   and are written only on PKV_OK. `pkv_last_error` tells what the calling thread's last failure was.
 * - Destroying a handle gives up the caller's share: what a tape or queued work still uses lives until that is gone.
 *   Destroying NULL does nothing. `pkv_context_destroy` waits for the work that runs and frees all memory of the context;
 *   handles that outlive it answer PKV_DISPOSED and still want to be destroyed.
 * - Operators run in the order in which they were called. Between `pkv_record_begin` and `pkv_record_end` they become a tape
 *   instead. Work may be asked for from several threads; recording belongs to one.
 * - Every reference is checked against the size of its buffer. What buffers hold (slots, page ids, addresses in the page
 *   address table) is the caller's word.
 *
 * Shapes, element types and their meaning stand at the members, outer to inner; `src/context.ts` says the same in TypeScript.
 */
#ifndef PKV_H
#define PKV_H

#include <stddef.h>
#include <stdint.h>

#include "pkv_spec.h"

#if defined(_WIN32)
#define PKV_API
#else
#define PKV_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pkv_status {
  PKV_OK = 0,
  PKV_INVALID_ARGUMENT = 1,
  PKV_UNSUPPORTED = 2,
  PKV_UNAVAILABLE = 3,   /* the device or the instruction set cannot be had here */
  PKV_OUT_OF_MEMORY = 4,
  PKV_DEVICE_FAILED = 5, /* the device failed during its work */
  PKV_DISPOSED = 6       /* the context, or the memory behind a handle, is gone */
} pkv_status;

/* The last failure of a thread. Texts are cut to their arrays and end in a zero byte. */
typedef struct pkv_error {
  pkv_status status;
  char argument[96];  /* the argument; the kind of memory; the device; the noun of what is gone */
  char expected[160]; /* PKV_INVALID_ARGUMENT */
  char received[256]; /* PKV_INVALID_ARGUMENT; otherwise the reason */
  uint64_t requested_bytes, available_bytes; /* PKV_OUT_OF_MEMORY */
  char message[512];  /* "Expected <argument> to be <what> but received <value>." */
} pkv_error;

typedef enum pkv_device { PKV_CPU = 0, PKV_CUDA = 1 } pkv_device;

typedef struct pkv_context pkv_context;
typedef struct pkv_buffer pkv_buffer;
typedef struct pkv_cache pkv_cache;
typedef struct pkv_plan pkv_plan;
typedef struct pkv_tape pkv_tape;
typedef struct pkv_run pkv_run;

/* Version of this interface, and the fingerprint of the constants that it was built with. */
PKV_API uint32_t pkv_abi_version(void);
PKV_API uint32_t pkv_spec_fingerprint(void);

/* Copies the last failure of the calling thread; status PKV_OK if there was none. */
PKV_API void pkv_last_error(pkv_error* out);

/* ---- contexts ------------------------------------------------------------------------------------------------ */

typedef struct pkv_context_options {
  pkv_device device;
  uint32_t threads; /* CPU threads; 0: the cores this process may use */
  const char* isa;  /* "portable", "avx2" or "avx512"; NULL: the environment's PARISKV_CPU_ISA, else the best present */
} pkv_context_options;

typedef struct pkv_device_status {
  uint32_t available;
  char detail[256]; /* what a context would use, or why there can be none */
} pkv_device_status;

PKV_API pkv_status pkv_probe_device(const pkv_context_options* options, pkv_device_status* out);
PKV_API pkv_status pkv_context_create(const pkv_context_options* options, pkv_context** out);
PKV_API void pkv_context_destroy(pkv_context* context);
/* What was chosen: "avx512, 2 threads". The text lives as long as the context. */
PKV_API pkv_status pkv_context_detail(pkv_context* context, const char** out);
/* Waits for all queued work. */
PKV_API pkv_status pkv_context_synchronize(pkv_context* context);

/* Time per operator since the last call. */
typedef struct pkv_verb_time {
  const char* verb;
  uint64_t calls, nanoseconds;
} pkv_verb_time;
PKV_API uint32_t pkv_verb_count(void);
/* out: [pkv_verb_count()] */
PKV_API pkv_status pkv_take_times(pkv_context* context, pkv_verb_time* out);

/* ---- memory -------------------------------------------------------------------------------------------------- */

/* kind: PKV_MEMORY_*. Bytes of that kind that can still be allocated; UINT64_MAX where the system does not tell. */
PKV_API pkv_status pkv_available_bytes(pkv_context* context, uint32_t kind, uint64_t* out);
/* The memory is zeroed. */
PKV_API pkv_status pkv_buffer_create(pkv_context* context, uint64_t bytes, uint32_t kind, pkv_buffer** out);
PKV_API void pkv_buffer_destroy(pkv_buffer* buffer);
/* The address that operators use, for page address tables. */
PKV_API pkv_status pkv_buffer_address(pkv_buffer* buffer, uint64_t* out);
/* Both copy, in the order of the work around them. */
PKV_API pkv_status pkv_buffer_write(pkv_buffer* buffer, uint64_t offset_bytes, const void* source, uint64_t bytes);
/* Reads all bytes once with everything the device has and tells how long it took: the bandwidth that operators can hope for. */
PKV_API pkv_status pkv_buffer_time_read(pkv_buffer* buffer, double* out_seconds);
PKV_API pkv_status pkv_buffer_read(pkv_buffer* buffer, uint64_t offset_bytes, void* target, uint64_t bytes);

/* A place in a buffer. */
typedef struct pkv_ref {
  pkv_buffer* buffer;
  uint64_t offset_bytes;
} pkv_ref;

/* f32 rows: row r begins at offset_bytes + 4 * r * row_stride. */
typedef struct pkv_rows {
  pkv_buffer* buffer;
  uint64_t offset_bytes;
  uint64_t row_stride; /* elements */
} pkv_rows;

/* The rows of a step: table is [row_count, PKV_ROW_FIELDS] i32; a slot of -1 is skipped. */
typedef struct pkv_step {
  pkv_ref table;
  uint32_t row_count;
} pkv_step;

/* ---- caches and plans ---------------------------------------------------------------------------------------- */

typedef struct pkv_cache_params {
  uint32_t layers, kv_heads;
  uint32_t query_group;               /* query heads that share a KV head, 1..8 */
  uint32_t head_dim;                  /* 64, 128 or 256 */
  uint32_t kv_dtype;                  /* PKV_DTYPE_* */
  uint32_t slots, sink_tokens, ring_tokens, max_pages, page_capacity;
  pkv_ref zone_tokens;                /* [slots] i32 */
  pkv_ref page_table;                 /* [slots, max_pages] u32 */
  /*
   * [page_capacity, PKV_PAGE_ADDRESS_FIELDS] u64. A page's summaries, [layers, kv_heads] times the page layout, lie side by
   * side; its records lie side by side for one layer, [kv_heads, 512, 2, head_dim] kv_dtype, and from one layer to the next
   * it is PKV_PAGE_ADDRESS_RECORD_LAYER_BYTES bytes, a multiple of 16.
   */
  pkv_ref page_address;
  pkv_ref window;                     /* [slots, layers, kv_heads, sink_tokens + ring_tokens, 2, head_dim] kv_dtype */
  pkv_ref id_counts;                  /* [slots, layers, kv_heads, head_dim / 8, 256] u32; buffer NULL: no tiered votes */
  pkv_ref invalid_keys;               /* [slots, layers, kv_heads] u32 */
  pkv_ref budget;                     /* [slots, layers, PKV_BUDGET_FIELDS] i32 */
  pkv_ref calibration;                /* [layers, kv_heads, 2, head_dim] f32: mu, then D */
  /*
   * The hot set: copies of records that attention fetched, kept on the device. For caches whose records lie in host memory;
   * a device that is its host ignores it. hot_lines: lines of a slot, layer and KV head, 0 or a power of two in
   * 4..PKV_MOST_HOT_LINES; with 0 both references are ignored. Whoever gives a slot to another sequence clears its tags.
   */
  uint32_t hot_lines;
  pkv_ref hot_tags;                   /* [slots, layers, kv_heads, hot_lines] u32: zone token + 1, or 0 for an empty line */
  pkv_ref hot_records;                /* [slots, layers, kv_heads, hot_lines, 2, head_dim] kv_dtype */
  const float* signs;                 /* [head_dim], each +1 or -1; copied */
  const float* centres;               /* [8] ascending; copied */
  const float* thresholds;            /* [7] ascending; copied */
} pkv_cache_params;

PKV_API pkv_status pkv_cache_create(pkv_context* context, const pkv_cache_params* params, pkv_cache** out);
PKV_API void pkv_cache_destroy(pkv_cache* cache);

typedef struct pkv_plan_params {
  pkv_cache* cache;
  uint32_t max_rows, max_zone_tokens, max_candidates, max_top_k;
  uint32_t votes; /* PKV_VOTES_* */
  uint32_t group; /* PKV_GROUP_* */
  uint32_t estimate_mass; /* 1: rerank estimates the mass that attention leaves out; 0: those statistics are NaN */
} pkv_plan_params;

PKV_API pkv_status pkv_plan_create(pkv_context* context, const pkv_plan_params* params, pkv_plan** out);
PKV_API void pkv_plan_destroy(pkv_plan* plan);
/* The buffer that holds all workspaces (a new handle) and its size. */
PKV_API pkv_status pkv_plan_buffer(pkv_plan* plan, pkv_buffer** out, uint64_t* out_bytes);
/* Where the workspace PKV_PLAN_FIELD_* begins in that buffer. */
PKV_API pkv_status pkv_plan_field(pkv_plan* plan, uint32_t field, uint64_t* out_offset_bytes);

/* ---- tapes --------------------------------------------------------------------------------------------------- */

PKV_API pkv_status pkv_record_begin(pkv_context* context);
PKV_API pkv_status pkv_record_end(pkv_context* context, pkv_tape** out);
/* Forgets what was recorded; does nothing outside a recording. */
PKV_API void pkv_record_cancel(pkv_context* context);

/* Runs all operators in order and waits. */
PKV_API pkv_status pkv_tape_run(pkv_tape* tape);
PKV_API void pkv_tape_destroy(pkv_tape* tape);
/*
 * Takes the tape's place in the order of work; `pkv_run_finish`, which any thread may call once, waits for that place, runs
 * and returns when all is done. Later work of the context waits for it, so a run has to be finished or destroyed.
 */
PKV_API pkv_status pkv_tape_submit(pkv_tape* tape, pkv_run** out);
PKV_API pkv_status pkv_run_finish(pkv_run* run);
PKV_API void pkv_run_destroy(pkv_run* run);

/* ---- operators ----------------------------------------------------------------------------------------------- */

typedef struct pkv_copy_params {
  pkv_ref from, to;
  uint64_t bytes;
} pkv_copy_params;
PKV_API pkv_status pkv_copy(pkv_context* context, const pkv_copy_params* params);

/* Writes K and V of each row to the window. k, v: [rows, kv_heads, head_dim]. */
typedef struct pkv_append_params {
  pkv_cache* cache;
  uint32_t layer;
  pkv_step step;
  pkv_rows k, v;
} pkv_append_params;
PKV_API pkv_status pkv_append(pkv_context* context, const pkv_append_params* params);

/* Rotates queries and makes vote tables. q: [rows, query_heads, head_dim]. */
typedef struct pkv_probe_params {
  pkv_plan* plan;
  uint32_t layer;
  pkv_step step;
  pkv_rows q;
} pkv_probe_params;
PKV_API pkv_status pkv_probe(pkv_context* context, const pkv_probe_params* params);

typedef struct pkv_stage_params {
  pkv_plan* plan;
  uint32_t layer;
  pkv_step step;
} pkv_stage_params;
PKV_API pkv_status pkv_collide(pkv_context* context, const pkv_stage_params* params);
PKV_API pkv_status pkv_select(pkv_context* context, const pkv_stage_params* params);
PKV_API pkv_status pkv_rerank(pkv_context* context, const pkv_stage_params* params);

/* Softmax attention over sink, ring and selected keys. q, out: [rows, query_heads, head_dim]. */
typedef struct pkv_attend_params {
  pkv_plan* plan;
  uint32_t layer;
  pkv_step step;
  pkv_rows q, out;
} pkv_attend_params;
PKV_API pkv_status pkv_attend(pkv_context* context, const pkv_attend_params* params);

/*
 * Page number page_index of a slot, 512 tokens that are in its ring, as page page_id: its summaries, its records, and the end
 * of the zone moved behind it. An offload outside a tape may go on beside the tapes that are run after it, until the page's
 * commit: such a tape must leave the page's ring rows as they are and must not read the page.
 */
typedef struct pkv_page_params {
  pkv_cache* cache;
  uint32_t slot, page_index, page_id;
} pkv_page_params;
PKV_API pkv_status pkv_encode(pkv_context* context, const pkv_page_params* params);
PKV_API pkv_status pkv_offload(pkv_context* context, const pkv_page_params* params);
PKV_API pkv_status pkv_commit(pkv_context* context, const pkv_page_params* params);

typedef struct pkv_embed_params {
  pkv_ref tokens; /* [row_count] i32 */
  pkv_ref weight; /* [vocab, width] dtype */
  uint32_t dtype, vocab, width, row_count;
  pkv_rows out;   /* [row_count, width] */
} pkv_embed_params;
PKV_API pkv_status pkv_embed(pkv_context* context, const pkv_embed_params* params);

typedef struct pkv_rmsnorm_params {
  pkv_rows x;     /* [row_count, groups, width] */
  pkv_ref weight; /* [width] f32 */
  float eps;
  uint32_t width, groups, row_count;
  pkv_rows out;
} pkv_rmsnorm_params;
PKV_API pkv_status pkv_rmsnorm(pkv_context* context, const pkv_rmsnorm_params* params);

typedef struct pkv_linear_params {
  pkv_rows x;     /* [row_count, in_width] */
  pkv_ref weight; /* [out_width, in_width] dtype */
  uint32_t dtype;
  pkv_ref bias;   /* [out_width] f32; buffer NULL: none */
  uint32_t in_width, out_width, row_count, accumulate;
  pkv_rows out;   /* [row_count, out_width] */
} pkv_linear_params;
PKV_API pkv_status pkv_linear(pkv_context* context, const pkv_linear_params* params);

typedef struct pkv_rope_params {
  pkv_rows x; /* [rows, heads, head_dim], changed in place */
  uint32_t heads, head_dim;
  pkv_ref frequencies; /* [head_dim / 2] f32 */
  pkv_step step;
} pkv_rope_params;
PKV_API pkv_status pkv_rope(pkv_context* context, const pkv_rope_params* params);

typedef struct pkv_swiglu_params {
  pkv_rows x; /* [row_count, 2, width] */
  uint32_t width, row_count;
  pkv_rows out; /* [row_count, width] */
} pkv_swiglu_params;
PKV_API pkv_status pkv_swiglu(pkv_context* context, const pkv_swiglu_params* params);

typedef struct pkv_argmax_params {
  pkv_rows x; /* [row_count, width] */
  uint32_t width, row_count;
  pkv_ref out; /* [row_count] i32 */
} pkv_argmax_params;
PKV_API pkv_status pkv_argmax(pkv_context* context, const pkv_argmax_params* params);

/* Causal attention of rows first_row .. first_row + row_count of the step. q, out: [rows, query_heads, head_dim]. */
typedef struct pkv_attend_causal_params {
  pkv_cache* cache;
  uint32_t layer;
  pkv_step step;
  uint32_t first_row, row_count;
  pkv_rows q, out;
} pkv_attend_causal_params;
PKV_API pkv_status pkv_attend_causal(pkv_context* context, const pkv_attend_causal_params* params);

#ifdef __cplusplus
}
#endif

#endif
