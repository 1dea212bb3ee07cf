// Attention of many queries of one sequence: window, listed or all visible entries, and the sink, in one softmax.
//
// All numbers are FP32, rows lie one behind the other. The bound is arithmetic for the window and for all entries,
// whose rows serve every query and head of a tile; memory for listed entries far apart. Threads call with queries of
// their own. Built as a plain shared library, once for each set of instructions; Python calls it through ctypes, which
// lets other threads run.

#include "listed.h"
#include "tile.h"

using namespace octavo;

extern "C" {

// Queries start .. stop - 1 of q [queries, H, K], into theirs of out. A query's bits do not depend on start and stop.
void octavo_many_attend(const Attention* call, int start, int stop, const float* q, float* out) {
  Tile tile(*call);
  Listed listed(*call);
  for (int64_t first = start; first < stop; first += tile.most()) {
    const int count = int(std::min<int64_t>(tile.most(), stop - first));
    tile.begin(q, first, count);
    if (call->listed)
      listed.add(q, first, count, tile);
    else if (call->ratio)
      tile.entries(first);
    tile.finish(out + first * call->heads * call->width);
  }
}

}
