// A second stream, for offload: what is queued after it does not wait for the bus.
//
// Order. Work on the side begins after all that the main stream was given before it (`begun_`), and its pieces follow one
// another. The main stream goes on at once; `join` lets it wait, on the device, for the end of the last piece (`ended_`) and
// so for all. The device joins before whatever may meet what an offload reads or writes: operators outside a tape, tapes
// that move pages, every read, and writes to host memory or into windows that are being read. Only tapes of steps run
// beside an offload. They write workspaces and ring rows of new tokens, and read committed pages; the rows of a page are
// free for new tokens once its commit is queued, and commit joins.
#pragma once
#include <algorithm>

#include "cuda/resources.h"

namespace pkv::cuda {

class SideStream {
 public:
  operator cudaStream_t() const { return stream_; }

  // Calls `queue()`, which queues work on this stream that reads [from, from + bytes) of device memory.
  template <class Queue>
  void run(cudaStream_t main, const uint8_t* from, size_t bytes, Queue&& queue) {
    check(cudaEventRecord(begun_, main), "cudaEventRecord");
    check(cudaStreamWaitEvent(stream_, begun_, 0), "cudaStreamWaitEvent");
    queue();
    check(cudaEventRecord(ended_, stream_), "cudaEventRecord");
    from_ = running_ ? std::min(from_, from) : from;
    end_ = running_ ? std::max(end_, from + bytes) : from + bytes;
    running_ = true;
  }
  void join(cudaStream_t main) {
    if (!running_) return;
    check(cudaStreamWaitEvent(main, ended_, 0), "cudaStreamWaitEvent");
    running_ = false;
  }
  // Whether there is work that was not joined yet.
  bool running() const { return running_; }
  // Whether such work may read of [at, at + bytes).
  bool may_read(const uint8_t* at, size_t bytes) const { return running_ && at < end_ && from_ < at + bytes; }

 private:
  Stream stream_;
  Event begun_{cudaEventDisableTiming}, ended_{cudaEventDisableTiming};
  bool running_ = false;
  const uint8_t *from_ = nullptr, *end_ = nullptr;  // what running work reads, and perhaps what lies between
};

}  // namespace pkv::cuda
