// How attend cuts a row: everything once, whole pages, the largest pieces first.
#include "cpu/attend_pieces.h"

#include "check.h"

using pkv::cpu::AttendPieces;

namespace {

size_t divide_up(size_t count, size_t by) { return (count + by - 1) / by; }

void check_pieces(size_t sink_tokens, size_t tokens) {
  const AttendPieces pieces(sink_tokens, tokens);
  const size_t after_sink = tokens > sink_tokens ? tokens - sink_tokens : 0;
  const size_t pages = divide_up(after_sink, PKV_PAGE_TOKENS);
  bool in_order = true, whole = true, falling = true;
  size_t at = 0, most_pages = divide_up(pages, 8);
  for (size_t piece = 0; piece < pieces.count(); ++piece) {
    const size_t begin = pieces.begin(piece), end = pieces.end(piece);
    in_order = in_order && begin == at && end > begin;
    whole = whole && (end == tokens || (end - sink_tokens) % PKV_PAGE_TOKENS == 0);
    const size_t own_pages = divide_up(piece == 0 && end >= sink_tokens ? end - sink_tokens : end - begin, PKV_PAGE_TOKENS);
    falling = falling && (pages == 0 || own_pages <= most_pages);
    most_pages = own_pages;
    at = end;
  }
  CHECK(in_order && at == tokens);
  CHECK(whole && falling);
  CHECK(pieces.count() <= AttendPieces::most);
  CHECK(tokens == 0 ? pieces.count() == 0 : pieces.count() >= 1 && pieces.count() <= (pages == 0 ? 1 : pages));
}

}  // namespace

void test_attend_pieces(void) {
  for (const size_t sink_tokens : {0, 64, 512}) {
    for (size_t tokens = 0; tokens < 3000; ++tokens) check_pieces(sink_tokens, tokens);
    for (size_t pages = 1; pages < 4000; ++pages) {
      check_pieces(sink_tokens, sink_tokens + pages * PKV_PAGE_TOKENS);
      check_pieces(sink_tokens, sink_tokens + pages * PKV_PAGE_TOKENS + 1);
    }
  }
}
