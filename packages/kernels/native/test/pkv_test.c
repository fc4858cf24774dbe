/* The C interface as a C99 program sees it: life cycles, refusals, tapes. Needs no Node. */
#include <string.h>

#include "check.h"
#include "pkv.h"

int checks_made = 0;
int checks_failed = 0;

static pkv_context* open_context(uint32_t threads) {
  const pkv_context_options options = {PKV_CPU, threads, NULL};
  pkv_context* context = NULL;
  CHECK(pkv_context_create(&options, &context) == PKV_OK);
  return context;
}

static pkv_buffer* allocate(pkv_context* context, uint64_t bytes) {
  pkv_buffer* buffer = NULL;
  CHECK(pkv_buffer_create(context, bytes, PKV_MEMORY_DEVICE, &buffer) == PKV_OK);
  return buffer;
}

static pkv_status last_status(void) {
  pkv_error error;
  pkv_last_error(&error);
  return error.status;
}

static void test_versions_and_devices(void) {
  pkv_device_status status;
  pkv_context_options options = {PKV_CPU, 0, NULL};
  CHECK(pkv_abi_version() == PKV_ABI_VERSION);
  CHECK(pkv_spec_fingerprint() == PKV_SPEC_FINGERPRINT);
  CHECK(pkv_probe_device(&options, &status) == PKV_OK);
  CHECK(status.available == 1);
  CHECK(strstr(status.detail, "thread") != NULL);
  options.isa = "sse9";
  CHECK(pkv_probe_device(&options, &status) == PKV_OK);
  CHECK(status.available == 0);
  CHECK(strstr(status.detail, "sse9") != NULL);
}

static void test_available_bytes(void) {
  pkv_context* context = open_context(1);
  uint64_t bytes = 0;
  CHECK(pkv_available_bytes(context, PKV_MEMORY_MAPPED, &bytes) == PKV_OK);
  CHECK(bytes > 1 << 20);
  CHECK(pkv_available_bytes(context, 3, &bytes) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_available_bytes(context, PKV_MEMORY_DEVICE, NULL) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_available_bytes(NULL, PKV_MEMORY_DEVICE, &bytes) == PKV_INVALID_ARGUMENT);
  pkv_context_destroy(context);
}

static void test_context_refusals(void) {
  pkv_context* context = NULL;
  pkv_context_options options = {PKV_CPU, 0, "sse9"};
  pkv_error error;
  CHECK(pkv_context_create(&options, &context) == PKV_UNAVAILABLE);
  CHECK(context == NULL);
  pkv_last_error(&error);
  CHECK(error.status == PKV_UNAVAILABLE);
  CHECK(strcmp(error.argument, "cpu") == 0);
  CHECK(strncmp(error.message, "Expected the cpu backend to be available but received ", 54) == 0);
  options.isa = NULL;
  options.threads = 1000000;
  CHECK(pkv_context_create(&options, &context) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_context_create(NULL, &context) == PKV_INVALID_ARGUMENT);
  options.threads = 1;
  CHECK(pkv_context_create(&options, NULL) == PKV_INVALID_ARGUMENT);
  pkv_context_destroy(NULL);
}

static void test_buffers(void) {
  pkv_context* context = open_context(1);
  pkv_buffer* buffer = allocate(context, 4096);
  pkv_buffer* absurd = NULL;
  pkv_error error;
  uint64_t address = 0;
  unsigned char bytes[16];
  memset(bytes, 7, sizeof bytes);
  CHECK(pkv_buffer_address(buffer, &address) == PKV_OK);
  CHECK(address % 64 == 0);
  CHECK(pkv_buffer_read(buffer, 4080, bytes, 16) == PKV_OK);
  CHECK(bytes[0] == 0 && bytes[15] == 0);
  memset(bytes, 9, sizeof bytes);
  CHECK(pkv_buffer_write(buffer, 4080, bytes, 16) == PKV_OK);
  memset(bytes, 0, sizeof bytes);
  CHECK(pkv_buffer_read(buffer, 4080, bytes, 16) == PKV_OK);
  CHECK(bytes[0] == 9 && bytes[15] == 9);
  CHECK(pkv_buffer_write(buffer, 4081, bytes, 16) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_read(buffer, UINT64_MAX, bytes, 1) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_read(buffer, 1, bytes, UINT64_MAX) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_read(buffer, 0, NULL, 1) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_create(context, 0, PKV_MEMORY_DEVICE, &absurd) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_create(context, 1, 99, &absurd) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_buffer_create(context, UINT64_MAX / 2, PKV_MEMORY_PINNED, &absurd) == PKV_OUT_OF_MEMORY);
  CHECK(absurd == NULL);
  pkv_last_error(&error);
  CHECK(strcmp(error.argument, "pinned") == 0);
  CHECK(error.requested_bytes == UINT64_MAX / 2);
  CHECK(error.available_bytes > 0 && error.available_bytes < error.requested_bytes);
  /* Above 2 MiB memory comes in huge pages, and is zero all the same. */
  pkv_buffer_destroy(buffer);
  buffer = allocate(context, (5u << 20) + 3);
  CHECK(pkv_buffer_address(buffer, &address) == PKV_OK);
  CHECK(address % (2u << 20) == 0);
  CHECK(pkv_buffer_read(buffer, (5u << 20) - 13, bytes, 16) == PKV_OK);
  CHECK(bytes[0] == 0 && bytes[15] == 0);
  pkv_buffer_destroy(buffer);
  pkv_buffer_destroy(NULL);
  pkv_context_destroy(context);
}

static void test_handles_that_outlive_their_context(void) {
  pkv_context* context = open_context(2);
  pkv_buffer* buffer = allocate(context, 64);
  pkv_tape* tape = NULL;
  pkv_run* run = NULL;
  unsigned char byte = 1;
  CHECK(pkv_record_begin(context) == PKV_OK);
  CHECK(pkv_record_end(context, &tape) == PKV_OK);
  pkv_context_destroy(context);
  CHECK(pkv_buffer_write(buffer, 0, &byte, 1) == PKV_DISPOSED);
  CHECK(pkv_tape_run(tape) == PKV_DISPOSED);
  CHECK(last_status() == PKV_DISPOSED);
  CHECK(pkv_tape_submit(tape, &run) == PKV_DISPOSED);
  pkv_tape_destroy(tape);
  pkv_buffer_destroy(buffer);
}

static void test_two_contexts(void) {
  pkv_context* first = open_context(2);
  pkv_context* second = open_context(2);
  pkv_buffer* mine = allocate(first, 64);
  pkv_buffer* other = allocate(second, 64);
  const pkv_copy_params params = {{mine, 0}, {other, 0}, 64};
  CHECK(pkv_copy(first, &params) == PKV_INVALID_ARGUMENT);
  pkv_context_destroy(first);
  CHECK(pkv_buffer_write(other, 0, "x", 1) == PKV_OK);
  pkv_buffer_destroy(mine);
  pkv_buffer_destroy(other);
  pkv_context_destroy(second);
}

static void test_tapes(void) {
  pkv_context* context = open_context(2);
  pkv_buffer* from = allocate(context, 64);
  pkv_buffer* to = allocate(context, 64);
  const pkv_copy_params params = {{from, 0}, {to, 0}, 64};
  pkv_verb_time times[64];
  pkv_tape* tape = NULL;
  pkv_tape* none = NULL;
  pkv_run* run = NULL;
  unsigned char byte = 5;
  CHECK(pkv_record_end(context, &none) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_record_begin(context) == PKV_OK);
  CHECK(pkv_record_begin(context) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_copy(context, &params) == PKV_OK);
  CHECK(pkv_record_end(context, &tape) == PKV_OK);
  CHECK(pkv_buffer_write(from, 0, &byte, 1) == PKV_OK);
  CHECK(pkv_buffer_read(to, 0, &byte, 1) == PKV_OK);
  CHECK(byte == 0); /* recording ran nothing */
  CHECK(pkv_verb_count() <= 64);
  CHECK(pkv_take_times(context, times) == PKV_OK);
  CHECK(pkv_tape_run(tape) == PKV_OK);
  CHECK(pkv_buffer_read(to, 0, &byte, 1) == PKV_OK);
  CHECK(byte == 5);
  CHECK(pkv_take_times(context, times) == PKV_OK);
  CHECK(strcmp(times[0].verb, "copy") == 0 && times[0].calls == 1);
  /* A tape keeps the buffers that it uses. */
  pkv_buffer_destroy(from);
  CHECK(pkv_tape_run(tape) == PKV_OK);
  CHECK(pkv_tape_submit(tape, &run) == PKV_OK);
  pkv_tape_destroy(tape);
  CHECK(pkv_run_finish(run) == PKV_OK);
  CHECK(pkv_run_finish(run) == PKV_INVALID_ARGUMENT);
  pkv_run_destroy(run);
  CHECK(pkv_record_begin(context) == PKV_OK);
  pkv_record_cancel(context);
  pkv_record_cancel(context);
  CHECK(pkv_context_synchronize(context) == PKV_OK);
  pkv_buffer_destroy(to);
  pkv_context_destroy(context);
}

static void test_runs_that_nobody_finishes(void) {
  pkv_context* context = open_context(1);
  pkv_tape* tape = NULL;
  pkv_run* run = NULL;
  CHECK(pkv_record_begin(context) == PKV_OK);
  CHECK(pkv_record_end(context, &tape) == PKV_OK);
  CHECK(pkv_tape_submit(tape, &run) == PKV_OK);
  pkv_run_destroy(run); /* gives its place up, or the next line would wait for ever */
  CHECK(pkv_context_synchronize(context) == PKV_OK);
  pkv_tape_destroy(tape);
  pkv_context_destroy(context);
}

/* Sizes whose product overflows 64 bits must be refused, not wrapped. */
static void test_overflowing_sizes(void) {
  pkv_context* context = open_context(1);
  pkv_buffer* buffer = allocate(context, 4096);
  pkv_swiglu_params swiglu = {{buffer, 0, 128}, 64, 4, {buffer, 0, 64}};
  pkv_embed_params embed = {{buffer, 0}, {buffer, 0}, PKV_DTYPE_F32, INT32_MAX, INT32_MAX, 1, {buffer, 0, INT32_MAX}};
  CHECK(pkv_swiglu(context, &swiglu) == PKV_OK);
  swiglu.x.row_stride = UINT64_MAX / 8;
  CHECK(pkv_swiglu(context, &swiglu) == PKV_INVALID_ARGUMENT);
  swiglu.x.row_stride = 127; /* rows of 128 would overlap */
  CHECK(pkv_swiglu(context, &swiglu) == PKV_INVALID_ARGUMENT);
  swiglu.x.row_stride = 128;
  swiglu.x.offset_bytes = UINT64_MAX - 3;
  CHECK(pkv_swiglu(context, &swiglu) == PKV_INVALID_ARGUMENT);
  swiglu.x.offset_bytes = 2; /* not a multiple of an f32 */
  CHECK(pkv_swiglu(context, &swiglu) == PKV_INVALID_ARGUMENT);
  swiglu.x.offset_bytes = 0;
  swiglu.row_count = UINT32_MAX;
  CHECK(pkv_swiglu(context, &swiglu) == PKV_INVALID_ARGUMENT);
  CHECK(pkv_embed(context, &embed) == PKV_INVALID_ARGUMENT);
  pkv_buffer_destroy(buffer);
  pkv_context_destroy(context);
}


/* One layer, one KV head, two slots, everything in one buffer. */
static pkv_cache_params small_params(pkv_buffer* buffer, const float* codec) {
  pkv_cache_params params;
  memset(&params, 0, sizeof params);
  params.layers = params.kv_heads = params.query_group = 1;
  params.head_dim = 64;
  params.kv_dtype = PKV_DTYPE_BF16;
  params.slots = 2;
  params.sink_tokens = 4;
  params.ring_tokens = 512;
  params.max_pages = 2;
  params.page_capacity = 2;
  params.zone_tokens.buffer = params.page_table.buffer = params.page_address.buffer = params.window.buffer = buffer;
  params.invalid_keys.buffer = params.budget.buffer = params.calibration.buffer = buffer;
  params.page_table.offset_bytes = 64;
  params.page_address.offset_bytes = 128;
  params.invalid_keys.offset_bytes = 192;
  params.budget.offset_bytes = 256;
  params.calibration.offset_bytes = 512;
  params.window.offset_bytes = 1024;
  params.signs = codec;
  params.centres = codec + 64;
  params.thresholds = codec + 72;
  return params;
}

static void test_caches_and_plans(void) {
  pkv_context* context = open_context(2);
  const uint64_t window_bytes = 2 * 516 * 256;
  pkv_buffer* buffer = allocate(context, 1024 + window_bytes);
  float codec[79];
  pkv_cache_params params = small_params(buffer, codec);
  pkv_cache* cache = NULL;
  pkv_plan* plan = NULL;
  pkv_buffer* workspace = NULL;
  uint64_t bytes = 0, offset_bytes = 0;
  pkv_plan_params plan_params = {NULL, 1, 1024, 64, 16, PKV_VOTES_GRADED, PKV_GROUP_MAX, 0};
  pkv_page_params page = {NULL, 0, 0, 0};
  int i;
  for (i = 0; i < 79; ++i) codec[i] = 1.0f + (float)i;

  params.head_dim = 96;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params.head_dim = 128; /* the window is too small for it */
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params = small_params(buffer, codec);
  params.slots = INT32_MAX;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params = small_params(buffer, codec);
  params.signs = NULL;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params = small_params(buffer, codec);
  params.budget.buffer = NULL;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params = small_params(buffer, codec);
  params.hot_lines = 4; /* without memory for them */
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params.hot_tags.buffer = params.hot_records.buffer = buffer;
  params.hot_lines = 6;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params.hot_lines = 2 * PKV_MOST_HOT_LINES;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  params.hot_lines = 4;
  params.hot_tags.offset_bytes = 8; /* in the middle of a vector */
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_INVALID_ARGUMENT);
  CHECK(cache == NULL);
  params = small_params(buffer, codec);
  params.hot_lines = 4;
  params.hot_tags.buffer = params.hot_records.buffer = buffer;
  params.hot_records.offset_bytes = 1024;
  CHECK(pkv_cache_create(context, &params, &cache) == PKV_OK);

  CHECK(pkv_plan_create(context, &plan_params, &plan) == PKV_INVALID_ARGUMENT); /* no cache */
  plan_params.cache = cache;
  plan_params.votes = PKV_VOTES_TIERED; /* without id counts */
  CHECK(pkv_plan_create(context, &plan_params, &plan) == PKV_INVALID_ARGUMENT);
  plan_params.votes = PKV_VOTES_GRADED;
  plan_params.max_rows = INT32_MAX;
  plan_params.max_zone_tokens = INT32_MAX;
  CHECK(pkv_plan_create(context, &plan_params, &plan) == PKV_OUT_OF_MEMORY);
  plan_params.max_rows = 1;
  plan_params.max_zone_tokens = 1024;
  CHECK(pkv_plan_create(context, &plan_params, &plan) == PKV_OK);
  CHECK(pkv_plan_buffer(plan, &workspace, &bytes) == PKV_OK);
  CHECK(pkv_plan_field(plan, PKV_PLAN_FIELD_SCORES, &offset_bytes) == PKV_OK);
  CHECK(offset_bytes == 64 * 4 + 8 * 256);
  CHECK(bytes > offset_bytes + 2048);
  CHECK(pkv_plan_field(plan, PKV_PLAN_FIELD_HOT_HITS + 1, &offset_bytes) == PKV_INVALID_ARGUMENT);

  page.cache = cache;
  page.slot = 2;
  CHECK(pkv_encode(context, &page) == PKV_INVALID_ARGUMENT);
  page.slot = 0;
  page.page_id = 2;
  CHECK(pkv_commit(context, &page) == PKV_INVALID_ARGUMENT);
  page.page_id = 0;
  page.page_index = 2;
  CHECK(pkv_offload(context, &page) == PKV_INVALID_ARGUMENT);

  /* A cache and a plan keep what they are made of. */
  pkv_buffer_destroy(buffer);
  pkv_cache_destroy(cache);
  pkv_buffer_destroy(workspace);
  pkv_plan_destroy(plan);
  pkv_context_destroy(context);
}

int main(void) {
  test_versions_and_devices();
  test_available_bytes();
  test_context_refusals();
  test_buffers();
  test_handles_that_outlive_their_context();
  test_two_contexts();
  test_tapes();
  test_runs_that_nobody_finishes();
  test_overflowing_sizes();
  test_caches_and_plans();
  test_pool();
  test_host_limits();
  test_host_memory();
  test_select();
  test_attend_pieces();
  test_choose_top();
  printf("%d checks, %d failed\n", checks_made, checks_failed);
  return checks_failed == 0 ? 0 : 1;
}
