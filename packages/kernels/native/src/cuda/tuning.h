// Launch numbers, in one place. None of them changes a result. Chosen for NVIDIA H100 and H200 (132 multiprocessors).
#pragma once
#include <cstddef>
#include <cstdint>

namespace pkv::cuda::tuning {

// probe: one thread a centroid.
constexpr uint32_t probe_threads = 256;
constexpr uint32_t probe_blocks_a_multiprocessor = 8;  // so that eight rows of eight KV heads are one wave

// collide: one block fills a multiprocessor, so its tables may take most of the shared memory; the smaller size is for GPUs
// with 99 KiB.
constexpr uint32_t collide_threads = 1024;
constexpr uint32_t collide_table_bytes = 128 << 10;
constexpr uint32_t collide_small_table_bytes = 64 << 10;

// collide to rerank: the tokens or candidates of a row and KV head are cut into spans, a block each, in one wave: what a
// block prepares, and what it waits for, costs more than rows of different lengths leave idle.
constexpr uint32_t span_blocks = 132;
constexpr uint32_t span_candidates = 64;  // a span of candidates is a multiple of them

// rerank, the estimates: random rows of 80 bytes want many loads in flight.
constexpr uint32_t estimate_one_ahead = 2;       // candidates of a lane that are under way, for one rotated query
constexpr uint32_t estimate_threads = 512;       // for several
constexpr uint32_t estimate_keys = 2;            // candidates of a lane at a time
constexpr uint32_t estimate_blocks_a_span = 2;
// rerank, the choice.
constexpr uint32_t choose_at_once_keys = 256;      // up to this K the blocks that make the priorities choose
constexpr uint32_t least_list_slots = 256;         // of a span, for them
constexpr uint32_t choose_block_candidates = 2048; // beyond: so many are faster in one block than in several
constexpr uint32_t long_list_slots = 8192;         // and of a row and KV head
// rerank, the mass: a cluster a row and KV head. Eight blocks is what every GPU with clusters grants.
constexpr uint32_t most_cluster_blocks = 8;
constexpr uint32_t mass_block_candidates = 1024;

// time_read.
constexpr uint32_t read_threads = 256;
constexpr uint32_t read_blocks_per_multiprocessor = 8;

// copy, append, encode, offload, commit.
constexpr uint32_t copy_threads = 256;
constexpr uint32_t copy_blocks_per_multiprocessor = 8;
constexpr uint32_t encode_threads = 256;
constexpr uint32_t encode_block_keys = 128;
constexpr uint32_t offload_threads = 256;
constexpr uint32_t offload_pieces_per_head = 4;  // of the 512 records of a page and KV head
constexpr uint32_t offload_blocks_beside = 4;    // fill a bus of 52 GB/s
constexpr uint32_t commit_threads = 256;

// Dense operators.
constexpr uint32_t embed_threads = 256;
constexpr uint32_t rmsnorm_threads = 256;   // at most, for one group
constexpr uint32_t rope_threads = 128;
constexpr uint32_t swiglu_threads = 256;
constexpr uint32_t argmax_threads = 1024;
constexpr uint32_t linear_few_threads = 256;
constexpr uint32_t linear_few_rows = 32;    // up to here every warp makes whole outputs; above, tiles of 64 by 64

// attend: pieces of a row, about `attend_pieces` for all its KV heads together.
// That is as many blocks as run at the same time. Rows of a batch come after each other, in `attend_waves` waves at most;
// beyond that a block takes several pieces.
constexpr uint32_t attend_blocks_a_multiprocessor = 2;
constexpr uint32_t attend_waves = 4;
constexpr uint32_t attend_pieces = 264, attend_least_pieces = 16, attend_most_pieces = 128;
// attend, the places in the hot set: threads for one row and KV head, at most.
constexpr uint32_t hot_set_threads = 1024;

}  // namespace pkv::cuda::tuning
